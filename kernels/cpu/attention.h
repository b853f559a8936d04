/* kernels/cpu/attention.h: segmented attention (pr_attention of kernels/backend.h) as independent
 * tasks of one thread each.
 *
 * Owns nothing: a pure plan, and tables of functions, one for each instruction set, on caller-owned
 * memory. Called by cpu_backend.c: it plans once, then its threads run the tasks in any order, each
 * with a scratch buffer of its own:
 *
 *     n_blocks = pr_cpu_attention_plan(a, n_threads, blocks);
 *     for i in 0 .. n_blocks * a->n_kv_heads - 1, on any thread:
 *         kernels->run(a, &blocks[i / a->n_kv_heads], i % a->n_kv_heads, scratch_of_this_thread);
 *
 * Batch invariance: an output row depends, to the bit, only on its own q, its own position and the
 * keys and values that it may see, in position order. Not on the other queries of its block or
 * span, not on where key_rows points, not on the plan. What makes it so:
 *   - key tiles of PR_CPU_ATTENTION_TILE keys start at multiples of it, counted from position 0;
 *   - a score is one chain of fused multiply-adds over head_dim, an output element one chain over
 *     the keys of a tile in order;
 *   - maximum and sum are taken over fixed lanes; the rescale of the online softmax happens for
 *     each tile that the row sees, and for no other;
 *   - keys that a row may not see are never multiplied into it: not even a NaN among them shows. */
#ifndef POOLRANK_KERNELS_CPU_ATTENTION_H
#define POOLRANK_KERNELS_CPU_ATTENTION_H

#include "kernels/backend.h"

enum {
    PR_CPU_ATTENTION_TILE = 64,      /* keys in a tile */
    PR_CPU_ATTENTION_ROWS_MAX = 128, /* query rows x heads of a block, unless one query has more */
    PR_CPU_ATTENTION_HEAD_DIM_MAX = 256
};

/* A run of queries of one span: with a KV head, one task. */
typedef struct pr_cpu_attention_block {
    int64_t i_span;
    uint32_t query_begin; /* row of q and out */
    uint32_t query_count;
} pr_cpu_attention_block;

/* How many entries `blocks` must have room for in pr_cpu_attention_plan: an upper bound for every
 * number of threads. */
int64_t pr_cpu_attention_n_blocks_max(const pr_attention *a);

/* Cuts the spans into blocks, smaller ones when few tasks would leave threads idle, the costly end
 * of a causal span first. Returns how many were written. Pure. */
int64_t pr_cpu_attention_plan(const pr_attention *a, int n_threads, pr_cpu_attention_block *blocks);

typedef struct pr_cpu_attention {
    const char *name; /* "c", "avx2", "avx512" */

    /* Bytes of one thread's scratch, aligned to 64, for any call with these sizes.
     * head_dim 1 .. PR_CPU_ATTENTION_HEAD_DIM_MAX. */
    size_t (*scratch_bytes)(int32_t head_dim, int32_t n_heads, int32_t n_kv_heads);

    /* One block and one KV head: writes the rows of `block`, the columns of the query heads that
     * read `kv_head`. A row that sees no key (a span without keys) becomes zeros. */
    void (*run)(const pr_attention *a, const pr_cpu_attention_block *block, int32_t kv_head,
                void *scratch);
} pr_cpu_attention;

extern const pr_cpu_attention pr_cpu_attention_c;
extern const pr_cpu_attention pr_cpu_attention_avx2;   /* needs AVX2 and FMA */
extern const pr_cpu_attention pr_cpu_attention_avx512; /* needs AVX-512 F, BW, DQ, VL */

#endif
