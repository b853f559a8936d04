/* runtime/plan/shard_plan.h: which part of each tensor a rank holds.
 *
 * Pure. Called by the loader of every rank, by `plan`, and by tests with 1 to 8 ranks. */
#ifndef POOLRANK_RUNTIME_PLAN_SHARD_PLAN_H
#define POOLRANK_RUNTIME_PLAN_SHARD_PLAN_H

#include "runtime/model/weight_names.h"

typedef struct pr_parallel {
    int tp_rank, tp_size; /* tensor parallel */
    int stage, n_stages;  /* pipeline parallel */
} pr_parallel;

/* What one rank holds of the model. */
typedef struct pr_shard {
    int32_t layer_begin, layer_end; /* of this stage */
    int32_t n_heads;                /* query heads of this rank, and the first */
    int32_t head_begin;
    int32_t n_kv_heads;
    int32_t kv_head_begin;
    int32_t intermediate_begin, intermediate_end;
    int32_t vocab_begin, vocab_end;
    bool is_first_stage;
    bool is_pooling_rank; /* last stage, tensor rank 0 */
} pr_shard;

/* Fails PR_E_ARGUMENT when query heads do not divide by tp_size, KV heads neither divide nor are
 * replicated evenly, or there are more stages than layers; the message has the sizes that work. */
pr_status pr_shard_plan(const pr_model_spec *spec, const pr_parallel *parallel, pr_shard *out,
                        pr_error *err);

/* The rectangle of a weight that the shard holds; all zero when it holds none.
 * A 1-D weight of n is [n rows, 1 column]. */
typedef struct pr_rectangle {
    int64_t row_begin, row_end;
    int64_t column_begin, column_end;
} pr_rectangle;

pr_rectangle pr_shard_rectangle(const pr_model_spec *spec, const pr_parallel *parallel,
                                const pr_shard *shard, const pr_weight *weight);

#endif
