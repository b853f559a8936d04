/* runtime/plan/memory_plan.h: how much memory a rank needs, before anything is loaded.
 *
 * Pure. Called by `inspect` and `plan`, and by tests against what a rank really uses. */
#ifndef POOLRANK_RUNTIME_PLAN_MEMORY_PLAN_H
#define POOLRANK_RUNTIME_PLAN_MEMORY_PLAN_H

#include "runtime/plan/shard_plan.h"

typedef struct pr_memory_plan {
    int64_t n_parameters;       /* of the whole model, optional tensors not counted */
    int64_t n_parameters_rank;  /* of this rank's shard */
    uint64_t weights_bytes;     /* this rank's shard: matrices and tables in the compute dtype,
                                   vectors and heads in f32 */
    uint64_t activations_bytes; /* f32 rows of one forward pass of n_tokens */
    uint64_t workspace_bytes;   /* per-thread buffers of the kernels */
    uint64_t total_bytes;
} pr_memory_plan;

typedef struct pr_memory_limits {
    uint32_t n_tokens;  /* token budget of one forward pass */
    uint32_t n_threads; /* of this rank, at least 1 */
    pr_dtype dtype;     /* compute dtype: F32 or BF16 */
} pr_memory_limits;

/* The parts of a forward pass that are alive together: two rows of hidden states (residual and
 * normed), QKV, the attention's output, and the MLP's gate and up.
 * Fails PR_E_NOMEM. */
pr_status pr_memory_plan_build(const pr_model_spec *spec, const pr_parallel *parallel,
                               const pr_shard *shard, const pr_memory_limits *limits,
                               pr_memory_plan *out, pr_error *err);

#endif
