#include "runtime/plan/memory_plan.h"

#include <assert.h>

/* A thread's buffers: one tile of attention scores and one widened weight panel. */
enum { SCORE_TILE_ROWS = 64, PANEL_COLUMNS = 64, F32_BYTES = 4 };

static int64_t weight_elements(const pr_weight *w)
{
    return w->n_dims > 1 ? w->shape[0] * w->shape[1] : w->shape[0];
}

static int64_t rectangle_elements(pr_rectangle r)
{
    return (r.row_end - r.row_begin) * (r.column_end - r.column_begin);
}

/* Vectors and heads stay f32: they are small, and the numbers they touch are the answer. */
static uint64_t element_bytes(const pr_weight *w, pr_dtype dtype)
{
    if (w->n_dims < 2 || w->partition == PR_PARTITION_POOLING) return F32_BYTES;
    return pr_dtype_bytes(dtype);
}

/* f32 values that one row of a batch occupies at the widest place of a layer. */
static uint64_t row_values(const pr_model_spec *spec, const pr_shard *shard)
{
    uint64_t d = (uint64_t)spec->head_dim;
    uint64_t q = (uint64_t)shard->n_heads * d;
    uint64_t kv = (uint64_t)shard->n_kv_heads * d;
    uint64_t inner = (uint64_t)(shard->intermediate_end - shard->intermediate_begin);
    return 2 * (uint64_t)spec->hidden_size + q + 2 * kv + q + (spec->gated ? 2 : 1) * inner;
}

static uint64_t thread_values(const pr_model_spec *spec, uint32_t n_tokens)
{
    uint64_t n_keys =
        n_tokens < (uint64_t)spec->n_positions ? n_tokens : (uint64_t)spec->n_positions;
    uint64_t widest = (uint64_t)spec->hidden_size > (uint64_t)spec->intermediate_size
                          ? (uint64_t)spec->hidden_size
                          : (uint64_t)spec->intermediate_size;
    return SCORE_TILE_ROWS * n_keys + PANEL_COLUMNS * widest;
}

pr_status pr_memory_plan_build(const pr_model_spec *spec, const pr_parallel *parallel,
                               const pr_shard *shard, const pr_memory_limits *limits,
                               pr_memory_plan *out, pr_error *err)
{
    assert(limits->n_threads >= 1);
    assert(limits->dtype == PR_DTYPE_F32 || limits->dtype == PR_DTYPE_BF16);
    pr_weight_list *list = NULL;
    pr_status st = pr_weight_list_build(spec, &list, err);
    if (st != PR_OK) return st;
    pr_memory_plan plan = {0};
    for (size_t i = 0; i < pr_weight_list_count(list); i++) {
        const pr_weight *w = pr_weight_list_at(list, i);
        if (w->optional) continue;
        int64_t n = rectangle_elements(pr_shard_rectangle(spec, parallel, shard, w));
        plan.n_parameters += weight_elements(w);
        plan.n_parameters_rank += n;
        plan.weights_bytes += (uint64_t)n * element_bytes(w, limits->dtype);
    }
    pr_weight_list_free(list);
    plan.activations_bytes = row_values(spec, shard) * limits->n_tokens * F32_BYTES;
    plan.workspace_bytes = thread_values(spec, limits->n_tokens) * limits->n_threads * F32_BYTES;
    plan.total_bytes = plan.weights_bytes + plan.activations_bytes + plan.workspace_bytes;
    *out = plan;
    return PR_OK;
}
