#include "runtime/plan/roofline.h"

#include "runtime/plan/memory_plan.h"

#include <assert.h>

enum { SUMS_A_LAYER = 2 };

/* ---- traffic ---- */

/* Of a message that is summed over n ranks each sends this share, ring or owners alike. */
static double sent_share(int n_ranks)
{
    return 2.0 * (n_ranks - 1) / n_ranks;
}

pr_traffic pr_traffic_of(const pr_model_spec *spec, int tp_size, int n_stages, pr_dtype dtype)
{
    assert(tp_size >= 1 && n_stages >= 1);
    pr_traffic t = {.vector_bytes = (uint64_t)spec->hidden_size * pr_dtype_bytes(dtype)};
    const uint64_t residual_bytes = (uint64_t)spec->hidden_size * sizeof(float);
    if (n_stages > 1) t.stage_bytes = residual_bytes;
    if (tp_size == 1) return t;
    t.vocabulary_bytes = residual_bytes;
    t.layer_bytes = SUMS_A_LAYER * t.vector_bytes;
    t.token_bytes = t.layer_bytes * (uint64_t)spec->n_layers + t.vocabulary_bytes;
    t.ring_layer_bytes = t.ordered_layer_bytes = sent_share(tp_size) * (double)t.layer_bytes;
    t.ring_token_bytes = t.ordered_token_bytes = sent_share(tp_size) * (double)t.token_bytes;
    t.ring_steps = 2 * (tp_size - 1);
    t.ordered_steps = 2;
    return t;
}

/* ---- work ---- */

/* Keys that a query sees, on average over the queries of one text. */
static double keys_seen(const pr_model_spec *spec, int32_t i_layer, uint32_t n_text)
{
    double n = n_text;
    if (!spec->causal) return n;
    double w = spec->window[i_layer];
    if (w <= 0 || w >= n) return (n + 1) / 2;
    return (w * (w + 1) / 2 + (n - w) * w) / n; /* the first w see fewer */
}

/* Bytes that the kernels of one layer read and write for one token. Each of two norms reads a
 * branch's output and the residual stream, and writes the stream and the next branch's input; the
 * branches' matrices read and write these once more; the stream is f32. QKV is written and read,
 * RoPE reads and writes q and k. */
static double activation_bytes(const pr_model_spec *spec, const pr_shard *shard, pr_dtype dtype)
{
    double d = spec->head_dim, width = (double)pr_dtype_bytes(dtype);
    double q = shard->n_heads * d, kv = shard->n_kv_heads * d;
    double inner = shard->intermediate_end - shard->intermediate_begin;
    double rope = spec->position == PR_POSITION_ROPE ? 2 * (q + kv) : 0;
    double stream = 4 * sizeof(float) * (double)spec->hidden_size;
    double branches = 8.0 * spec->hidden_size + 2 * (q + 2 * kv) + rope + 2 * q +
                      (spec->gated ? 6 : 2) * inner;
    return stream + width * branches;
}

static bool is_of_mlp(pr_role role)
{
    return role == PR_ROLE_GATE || role == PR_ROLE_UP || role == PR_ROLE_DOWN;
}

static void weight_count(const pr_weight *w, double n_elements, const pr_workload *load,
                         pr_load *out)
{
    double n = load->n_tokens;
    bool is_matrix = w->n_dims > 1;
    double n_reads = 1;
    if (w->i_layer < 0 && w->partition != PR_PARTITION_POOLING) return; /* tables: rows copied */
    if (is_matrix && w->i_layer >= 0) out->matrix_flops += 2 * n * n_elements;
    if (is_matrix && w->i_layer < 0) out->head_flops += 2 * n * n_elements;
    if (is_of_mlp(w->role)) {
        n_reads = (double)((load->n_tokens + PR_PLAN_MLP_ROWS - 1) / PR_PLAN_MLP_ROWS);
    }
    out->memory_bytes += n_reads * n_elements * (double)pr_dtype_bytes(load->dtype);
}

pr_status pr_load_build(const pr_model_spec *spec, const pr_parallel *parallel,
                        const pr_shard *shard, const pr_workload *workload, pr_load *out,
                        pr_error *err)
{
    assert(workload->n_tokens >= 1 && workload->n_text_tokens >= 1);
    pr_weight_list *list = NULL;
    pr_status st = pr_weight_list_build(spec, &list, err);
    if (st != PR_OK) return st;
    pr_load load = {0};
    for (size_t i = 0; i < pr_weight_list_count(list); i++) {
        const pr_weight *w = pr_weight_list_at(list, i);
        if (w->optional) continue;
        weight_count(w, (double)pr_shard_elements(spec, parallel, shard, w), workload, &load);
    }
    pr_weight_list_free(list);
    double n = workload->n_tokens, n_layers = shard->layer_end - shard->layer_begin;
    for (int32_t i = shard->layer_begin; i < shard->layer_end; i++) {
        load.attention_flops +=
            4.0 * n * shard->n_heads * spec->head_dim * keys_seen(spec, i, workload->n_text_tokens);
    }
    load.memory_bytes += n * n_layers * activation_bytes(spec, shard, workload->dtype);
    const pr_traffic t =
        pr_traffic_of(spec, parallel->tp_size, parallel->n_stages, workload->dtype);
    load.link_bytes = n * n_layers * t.ring_layer_bytes;
    if (shard->is_first_stage) {
        load.link_bytes += n * sent_share(parallel->tp_size) * (double)t.vocabulary_bytes;
    }
    if (parallel->stage + 1 < parallel->n_stages) load.link_bytes += n * (double)t.stage_bytes;
    *out = load;
    return PR_OK;
}

/* ---- time ---- */

pr_roofline pr_roofline_of(const pr_load *load, const pr_device *device, pr_dtype dtype)
{
    double flops = dtype == PR_DTYPE_F32 ? device->flops_f32 : device->dense_flops_16_bit;
    pr_roofline r = {
        .compute_s = (load->matrix_flops + load->attention_flops) / flops,
        .memory_s = load->memory_bytes / device->memory_bytes_per_s,
        .link_s = load->link_bytes / (device->link_bytes_per_s / 2), /* one direction */
        .head_s = load->head_flops / device->flops_f32,
    };
    const double parts[PR_BOUND_COUNT] = {
        [PR_BOUND_COMPUTE] = r.compute_s,
        [PR_BOUND_MEMORY] = r.memory_s,
        [PR_BOUND_LINK] = r.link_s,
        [PR_BOUND_HEAD] = r.head_s,
    };
    for (int i = 1; i < PR_BOUND_COUNT; i++) {
        if (parts[i] > parts[r.bound]) r.bound = (pr_bound)i;
    }
    r.total_s = (r.compute_s > r.memory_s ? r.compute_s : r.memory_s) + r.link_s + r.head_s;
    return r;
}

const char *pr_bound_name(pr_bound bound)
{
    static const char *const names[] = {
        [PR_BOUND_COMPUTE] = "compute",
        [PR_BOUND_MEMORY] = "memory",
        [PR_BOUND_LINK] = "link",
        [PR_BOUND_HEAD] = "head",
    };
    static_assert(sizeof names / sizeof *names == PR_BOUND_COUNT, "one name per bound");
    return names[bound];
}
