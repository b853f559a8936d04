/* runtime/plan/memory_plan.h: how much memory a rank needs, before anything is loaded.
 *
 * Pure. Called by `inspect` and `plan`, and by tests against what a rank really uses. */
#ifndef POOLRANK_RUNTIME_PLAN_MEMORY_PLAN_H
#define POOLRANK_RUNTIME_PLAN_MEMORY_PLAN_H

#include "runtime/plan/shard_plan.h"

enum {
    /* Rows of the feed-forward block in flight at once; worker/forward.c cuts a batch so. */
    PR_PLAN_MLP_ROWS = 2048,
    /* On a GPU: what rows of buffers are rounded up to, and batches that have arrays of their own:
     * pr_backend's row_multiple and n_slots there. */
    PR_PLAN_GPU_ROWS = 128,
    PR_PLAN_GPU_SLOTS = 2,
    /* A GPU's matrix multiplications: NVIDIA recommends 32 MiB for Hopper and newer (cuBLAS
     * documentation, cublasSetWorkspace). */
    PR_PLAN_GEMM_BYTES = 32 << 20,
    /* An allowance for what is not poolrank's on a GPU: CUDA's context, the code of kernels, NCCL's
     * buffers; and for small things that are (attention's list of tiles, biases in 16 bits, columns
     * that fill up a row). Chosen, not measured. */
    PR_PLAN_RESERVED_BYTES = 1 << 30,
    /* The largest token budget that is looked for; that of --max-num-batched-tokens. */
    PR_PLAN_TOKENS_MAX = 1 << 24
};

/* Where a rank computes, and so what it keeps in which dtype. */
typedef enum pr_plan_place {
    PR_PLAN_PLACE_CPU, /* matrices in the compute dtype, tables too unless the checkpoint's are
                          bf16; vectors, heads and activations in f32 */
    PR_PLAN_PLACE_GPU  /* matrices, tables and activations in the compute dtype; vectors, heads, the
                          residual stream and pooled rows in f32 */
} pr_plan_place;

typedef struct pr_memory_plan {
    int64_t n_parameters;       /* of the whole model, optional tensors not counted */
    int64_t n_parameters_rank;  /* of this rank's shard */
    uint64_t weights_bytes;     /* this rank's shard, as its place keeps it; on a GPU all of it in
                                   the compute dtype */
    uint64_t activations_bytes; /* rows of one forward pass of n_tokens */
    uint64_t workspace_bytes;   /* buffers of the kernels, RoPE's table, on the pooling rank the f32
                                   rows that go through the head; on a GPU also what vectors and
                                   heads take more for being f32 */
    uint64_t widened_bytes;     /* GPU, in workspace_bytes: f32 where weights_bytes has less */
    uint64_t reserved_bytes;    /* GPU: PR_PLAN_RESERVED_BYTES; else 0 */
    uint64_t total_bytes;
} pr_memory_plan;

typedef struct pr_memory_limits {
    uint32_t n_tokens;  /* token budget of one forward pass */
    uint32_t n_positions; /* of RoPE's table: the longest text; 0: the model's */
    uint32_t n_threads; /* CPU: of this rank, at least 1 */
    pr_dtype dtype;     /* compute dtype: F32, BF16, and on a GPU F16 */
    pr_plan_place place;
} pr_memory_limits;

/* What worker/forward.c and worker/pooler.c allocate: three rows of hidden states (two of them f32
 * everywhere), QKV, the attention's output, and for at most PR_PLAN_MLP_ROWS rows the feed-forward
 * block; and what the kernels need beside it. On a GPU rows are rounded up and a batch's arrays are
 * there twice. Of the pooling rank's head every row is assumed to be read (ALL pooling).
 * Fails PR_E_NOMEM. */
pr_status pr_memory_plan_build(const pr_model_spec *spec, const pr_parallel *parallel,
                               const pr_shard *shard, const pr_memory_limits *limits,
                               pr_memory_plan *out, pr_error *err);

/* The largest token budget (at most PR_PLAN_TOKENS_MAX) whose total is at most memory_bytes, 0 when
 * not even one token fits; limits->n_tokens is not read. `plan` is one of the same rank and place,
 * for any budget. */
uint32_t pr_memory_plan_tokens_max(const pr_model_spec *spec, const pr_shard *shard,
                                   const pr_memory_limits *limits, const pr_memory_plan *plan,
                                   uint64_t memory_bytes);

/* Elements of the weight's rectangle in the shard; the loader's own. */
int64_t pr_shard_elements(const pr_model_spec *spec, const pr_parallel *parallel,
                          const pr_shard *shard, const pr_weight *weight);

#endif
