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

static bool is_gpu(const pr_memory_limits *limits)
{
    return limits->place == PR_PLAN_PLACE_GPU;
}

/* Vectors and heads stay f32: they are small, and the numbers they touch are the answer. */
static bool stays_f32(const pr_weight *w)
{
    return w->n_dims < 2 || w->partition == PR_PARTITION_POOLING;
}

/* Rows of tables are only copied, so that bf16 ones stay as the checkpoint has them. On a GPU one
 * number counts all weights, and those that are f32 are workspace for the rest of their bytes. */
static uint64_t element_bytes(const pr_model_spec *spec, const pr_weight *w,
                              const pr_memory_limits *limits)
{
    if (is_gpu(limits)) return pr_dtype_bytes(limits->dtype);
    if (stays_f32(w)) return F32_BYTES;
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

/* Rows that a buffer has for n. */
static uint64_t rows_of(const pr_memory_limits *limits, uint64_t n)
{
    uint64_t multiple = is_gpu(limits) ? PR_PLAN_GPU_ROWS : 1;
    return (n + multiple - 1) / multiple * multiple;
}

static uint64_t activations_of(const pr_model_spec *spec, const pr_shard *shard,
                               const pr_memory_limits *limits, uint64_t n)
{
    uint64_t d = (uint64_t)spec->head_dim, hidden = (uint64_t)spec->hidden_size;
    uint64_t q = (uint64_t)shard->n_heads * d;
    uint64_t kv = (uint64_t)shard->n_kv_heads * d;
    uint64_t rows = rows_of(limits, n), n_slots = is_gpu(limits) ? PR_PLAN_GPU_SLOTS : 1;
    uint64_t element = is_gpu(limits) ? pr_dtype_bytes(limits->dtype) : F32_BYTES;
    /* a post-norm model exchanges the block's row with the spare one, which is f32 */
    uint64_t block = hidden * (spec->post_norm ? F32_BYTES : element);
    uint64_t row = 2 * hidden * F32_BYTES + block + (q + 2 * kv + q) * element;
    return row * rows + inner_of(shard) * min_u64(rows, PR_PLAN_MLP_ROWS) * element +
           TOKEN_BYTES * n * n_slots;
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
    uint64_t rows = min_u64(rows_of(limits, n), PR_PLAN_MLP_ROWS);
    uint64_t gate_up = spec->gated ? 2 * inner_of(shard) * rows : 0;
    return PR_PLAN_GEMM_BYTES + gate_up * pr_dtype_bytes(limits->dtype);
}

/* f32 rows on their way through the head: themselves, the dense layer's, the labels. What batches
 * on a GPU leave to be downloaded is there for each of two, and which rows those are. */
static uint64_t pooled_bytes(const pr_model_spec *spec, const pr_memory_limits *limits, uint64_t n)
{
    uint64_t hidden = (uint64_t)spec->hidden_size, labels = (uint64_t)spec->n_labels;
    bool has_head = spec->head != PR_HEAD_NONE;
    uint64_t between = has_head ? hidden * (spec->head != PR_HEAD_SCORE ? 2 : 1) : 0;
    uint64_t out = has_head ? labels : hidden;
    if (!is_gpu(limits)) return (between + out) * n * F32_BYTES;
    uint64_t lists = 2 * sizeof(uint32_t) * n;
    return between * rows_of(limits, n) * F32_BYTES +
           PR_PLAN_GPU_SLOTS * (out * rows_of(limits, n) * F32_BYTES + lists);
}

static uint64_t workspace_of(const pr_model_spec *spec, const pr_shard *shard,
                             const pr_memory_limits *limits, uint64_t n)
{
    uint64_t n_positions = limits->n_positions ? limits->n_positions : (uint64_t)spec->n_positions;
    uint64_t bytes = is_gpu(limits) ? gpu_kernel_bytes(spec, shard, limits, n)
                                    : thread_values(spec, n) * limits->n_threads * F32_BYTES;
    if (spec->position == PR_POSITION_ROPE) { /* cosines and sines */
        bytes += n_positions * (uint64_t)spec->head_dim * F32_BYTES;
    }
    if (shard->is_pooling_rank) bytes += pooled_bytes(spec, limits, n);
    return bytes;
}

pr_status pr_memory_plan_build(const pr_model_spec *spec, const pr_parallel *parallel,
                               const pr_shard *shard, const pr_memory_limits *limits,
                               pr_memory_plan *out, pr_error *err)
{
    assert(is_gpu(limits) || limits->n_threads >= 1);
    assert(limits->dtype == PR_DTYPE_F32 || limits->dtype == PR_DTYPE_BF16 ||
           (is_gpu(limits) && limits->dtype == PR_DTYPE_F16));
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
        if (!is_gpu(limits) || !stays_f32(w)) continue;
        plan.widened_bytes += (uint64_t)n * (F32_BYTES - pr_dtype_bytes(limits->dtype));
    }
    pr_weight_list_free(list);
    plan.activations_bytes = activations_of(spec, shard, limits, limits->n_tokens);
    plan.workspace_bytes =
        workspace_of(spec, shard, limits, limits->n_tokens) + plan.widened_bytes;
    plan.reserved_bytes = is_gpu(limits) ? PR_PLAN_RESERVED_BYTES : 0;
    plan.total_bytes =
        plan.weights_bytes + plan.activations_bytes + plan.workspace_bytes + plan.reserved_bytes;
    *out = plan;
    return PR_OK;
}

uint32_t pr_memory_plan_tokens_max(const pr_model_spec *spec, const pr_shard *shard,
                                   const pr_memory_limits *limits, const pr_memory_plan *plan,
                                   uint64_t memory_bytes)
{
    uint64_t fixed = plan->weights_bytes + plan->widened_bytes + plan->reserved_bytes;
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
