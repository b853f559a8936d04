#include "runtime/plan/memory_plan.h"

#include <assert.h>

/* A thread's buffers: one tile of attention scores and one widened weight panel. */
enum { SCORE_TILE_ROWS = 64, PANEL_COLUMNS = 64, F32_BYTES = 4 };

/* What a batch says of each token: id, position, position in the table, position of a query, row
 * that is pooled, row of a key (32 bits each), and the token type. */
enum { TOKEN_BYTES = 6 * 4 + 1 };

static int64_t weight_elements(const pr_weight *w)
{
    return w->n_dims > 1 ? w->shape[0] * w->shape[1] : w->shape[0];
}

int64_t pr_shard_elements(const pr_model_spec *spec, const pr_parallel *parallel,
                          const pr_shard *shard, const pr_weight *weight)
{
    pr_rectangle r = pr_shard_rectangle(spec, parallel, shard, weight);
    return (r.row_end - r.row_begin) * (r.column_end - r.column_begin);
}

static bool is_table(const pr_weight *w)
{
    return w->role == PR_ROLE_TOKEN_TABLE || w->role == PR_ROLE_POSITION_TABLE ||
           w->role == PR_ROLE_TYPE_TABLE;
}

/* On a CPU vectors and heads stay f32: they are small, and the numbers they touch are the answer.
 * Rows of tables are only copied, so that bf16 ones stay as the checkpoint has them. */
static uint64_t element_bytes(const pr_model_spec *spec, const pr_weight *w,
                              const pr_memory_limits *limits)
{
    if (limits->place == PR_PLAN_PLACE_GPU) return pr_dtype_bytes(limits->dtype);
    if (w->n_dims < 2 || w->partition == PR_PARTITION_POOLING) return F32_BYTES;
    bool stays_bf16 = is_table(w) && spec->checkpoint_dtype == PR_DTYPE_BF16;
    return pr_dtype_bytes(stays_bf16 ? PR_DTYPE_BF16 : limits->dtype);
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t inner_of(const pr_shard *shard)
{
    return (uint64_t)(shard->intermediate_end - shard->intermediate_begin);
}

static uint64_t activations_of(const pr_model_spec *spec, const pr_shard *shard,
                               const pr_memory_limits *limits, uint64_t n)
{
    uint64_t d = (uint64_t)spec->head_dim;
    uint64_t q = (uint64_t)shard->n_heads * d;
    uint64_t kv = (uint64_t)shard->n_kv_heads * d;
    uint64_t row = 3 * (uint64_t)spec->hidden_size + (q + 2 * kv) + q;
    uint64_t values = row * n + inner_of(shard) * min_u64(n, PR_PLAN_MLP_ROWS);
    bool is_gpu = limits->place == PR_PLAN_PLACE_GPU;
    return values * (is_gpu ? pr_dtype_bytes(limits->dtype) : F32_BYTES) + TOKEN_BYTES * n;
}

static uint64_t thread_values(const pr_model_spec *spec, uint64_t n)
{
    uint64_t widest = (uint64_t)spec->hidden_size > (uint64_t)spec->intermediate_size
                          ? (uint64_t)spec->hidden_size
                          : (uint64_t)spec->intermediate_size;
    return SCORE_TILE_ROWS * min_u64(n, (uint64_t)spec->n_positions) + PANEL_COLUMNS * widest;
}

/* Kernels on a GPU: the multiplications' own, and gate and up before they become one. */
static uint64_t gpu_kernel_bytes(const pr_model_spec *spec, const pr_shard *shard,
                                 const pr_memory_limits *limits, uint64_t n)
{
    uint64_t gate_up = spec->gated ? 2 * inner_of(shard) * min_u64(n, PR_PLAN_MLP_ROWS) : 0;
    return PR_PLAN_GEMM_BYTES + gate_up * pr_dtype_bytes(limits->dtype);
}

/* f32 values of a row on its way through the head: itself, the dense layer's, the labels. */
static uint64_t pooled_values(const pr_model_spec *spec)
{
    bool has_dense = spec->head != PR_HEAD_NONE && spec->head != PR_HEAD_SCORE;
    return (uint64_t)spec->hidden_size * (has_dense ? 2 : 1) + (uint64_t)spec->n_labels;
}

static uint64_t workspace_of(const pr_model_spec *spec, const pr_shard *shard,
                             const pr_memory_limits *limits, uint64_t n)
{
    uint64_t bytes = limits->place == PR_PLAN_PLACE_GPU
                         ? gpu_kernel_bytes(spec, shard, limits, n)
                         : thread_values(spec, n) * limits->n_threads * F32_BYTES;
    if (spec->position == PR_POSITION_ROPE) { /* cosines and sines */
        bytes += (uint64_t)spec->n_positions * (uint64_t)spec->head_dim * F32_BYTES;
    }
    if (shard->is_pooling_rank) bytes += pooled_values(spec) * n * F32_BYTES;
    return bytes;
}

pr_status pr_memory_plan_build(const pr_model_spec *spec, const pr_parallel *parallel,
                               const pr_shard *shard, const pr_memory_limits *limits,
                               pr_memory_plan *out, pr_error *err)
{
    bool is_gpu = limits->place == PR_PLAN_PLACE_GPU;
    assert(is_gpu || limits->n_threads >= 1);
    assert(limits->dtype == PR_DTYPE_F32 || limits->dtype == PR_DTYPE_BF16 ||
           (is_gpu && limits->dtype == PR_DTYPE_F16));
    pr_weight_list *list = NULL;
    pr_status st = pr_weight_list_build(spec, &list, err);
    if (st != PR_OK) return st;
    pr_memory_plan plan = {0};
    for (size_t i = 0; i < pr_weight_list_count(list); i++) {
        const pr_weight *w = pr_weight_list_at(list, i);
        if (w->optional) continue;
        int64_t n = pr_shard_elements(spec, parallel, shard, w);
        plan.n_parameters += weight_elements(w);
        plan.n_parameters_rank += n;
        plan.weights_bytes += (uint64_t)n * element_bytes(spec, w, limits);
    }
    pr_weight_list_free(list);
    plan.activations_bytes = activations_of(spec, shard, limits, limits->n_tokens);
    plan.workspace_bytes = workspace_of(spec, shard, limits, limits->n_tokens);
    plan.reserved_bytes = is_gpu ? PR_PLAN_RESERVED_BYTES : 0;
    plan.total_bytes =
        plan.weights_bytes + plan.activations_bytes + plan.workspace_bytes + plan.reserved_bytes;
    *out = plan;
    return PR_OK;
}

uint32_t pr_memory_plan_tokens_max(const pr_model_spec *spec, const pr_shard *shard,
                                   const pr_memory_limits *limits, const pr_memory_plan *plan,
                                   uint64_t memory_bytes)
{
    uint64_t fixed = plan->weights_bytes + plan->reserved_bytes;
    if (fixed > memory_bytes) return 0;
    uint32_t fits = 0, too_many = PR_PLAN_TOKENS_MAX + 1;
    while (too_many - fits > 1) { /* the total grows with the budget */
        uint32_t n = fits + (too_many - fits) / 2;
        uint64_t bytes =
            activations_of(spec, shard, limits, n) + workspace_of(spec, shard, limits, n);
        if (bytes <= memory_bytes - fixed) {
            fits = n;
        } else {
            too_many = n;
        }
    }
    return fits;
}
