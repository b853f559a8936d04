/* kernels/cpu/attention.c: cuts attention into tasks; the same for every instruction set. */
#include "kernels/cpu/attention.h"

#include <assert.h>

enum {
    ROWS_MIN = 24,       /* a block smaller than this spends its time on packing keys */
    TASKS_PER_THREAD = 4 /* enough for the last tasks to even out */
};

/* Queries of a block of about `rows` rows: at least one, whatever the group. */
static uint32_t queries_per_block(const pr_attention *a, uint32_t rows)
{
    const uint32_t group = (uint32_t)(a->n_heads / a->n_kv_heads);
    return rows > group ? rows / group : 1;
}

static int64_t span_n_blocks(const pr_span *span, uint32_t queries)
{
    return ((int64_t)span->query_count + queries - 1) / queries;
}

static int64_t count_blocks(const pr_attention *a, uint32_t rows)
{
    const uint32_t queries = queries_per_block(a, rows);
    int64_t n = 0;
    for (int64_t i = 0; i < a->n_spans; i++) n += span_n_blocks(&a->spans[i], queries);
    return n;
}

int64_t pr_cpu_attention_n_blocks_max(const pr_attention *a)
{
    assert(a->n_kv_heads > 0 && a->n_heads % a->n_kv_heads == 0);
    return count_blocks(a, ROWS_MIN);
}

/* Blocks of one span, as even as possible, the last queries (the longest rows) first. */
static int64_t cut_span(const pr_span *span, int64_t i_span, uint32_t queries,
                        pr_cpu_attention_block *blocks)
{
    const int64_t n = span_n_blocks(span, queries);
    for (int64_t i = 0; i < n; i++) {
        const int64_t part = n - 1 - i;
        const uint32_t begin = (uint32_t)(span->query_count * part / n);
        const uint32_t end = (uint32_t)(span->query_count * (part + 1) / n);
        blocks[i] = (pr_cpu_attention_block){
            .i_span = i_span, .query_begin = span->query_begin + begin, .query_count = end - begin};
    }
    return n;
}

int64_t pr_cpu_attention_plan(const pr_attention *a, int n_threads, pr_cpu_attention_block *blocks)
{
    assert(n_threads >= 1);
    assert(a->n_kv_heads > 0 && a->n_heads % a->n_kv_heads == 0);
    const int64_t tasks_wanted = n_threads == 1 ? 1 : (int64_t)n_threads * TASKS_PER_THREAD;
    uint32_t rows = PR_CPU_ATTENTION_ROWS_MAX;
    while (rows / 2 >= ROWS_MIN && count_blocks(a, rows) * a->n_kv_heads < tasks_wanted) rows /= 2;

    const uint32_t queries = queries_per_block(a, rows);
    int64_t n = 0;
    for (int64_t i = 0; i < a->n_spans; i++) n += cut_span(&a->spans[i], i, queries, blocks + n);
    return n;
}
