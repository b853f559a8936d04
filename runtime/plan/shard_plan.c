#include "runtime/plan/shard_plan.h"

#include "runtime/base/buffer.h"

#include <assert.h>

/* Where part i of n_parts begins when `size` is split as evenly as whole numbers allow. */
static int32_t split_begin(int32_t size, int i, int n_parts)
{
    return (int32_t)((int64_t)size * i / n_parts);
}

/* KV heads divide among the ranks, or the ranks divide among KV heads. */
static bool heads_fit(const pr_model_spec *spec, int tp_size)
{
    if (spec->n_heads % tp_size != 0) return false;
    return spec->n_kv_heads % tp_size == 0 || tp_size % spec->n_kv_heads == 0;
}

static bool tp_size_fits(const pr_model_spec *spec, int tp_size)
{
    return heads_fit(spec, tp_size) && tp_size <= spec->intermediate_size &&
           tp_size <= spec->vocab_size;
}

static pr_status tp_refuse(const pr_model_spec *spec, int tp_size, pr_error *err)
{
    pr_buffer sizes;
    pr_buffer_init(&sizes);
    for (int size = 1; size <= spec->n_heads; size++) {
        if (tp_size_fits(spec, size)) pr_buffer_printf(&sizes, "%s%d", size > 1 ? ", " : "", size);
    }
    const char *list = pr_buffer_str(&sizes);
    pr_status st = pr_error_set(err, PR_E_ARGUMENT,
                                "tensor_parallel_size: found %d, expected one of %s "
                                "(num_attention_heads %d, num_key_value_heads %d)",
                                tp_size, list ? list : "1", spec->n_heads, spec->n_kv_heads);
    pr_buffer_deinit(&sizes);
    return st;
}

static void heads_assign(const pr_model_spec *spec, const pr_parallel *p, pr_shard *out)
{
    out->n_heads = spec->n_heads / p->tp_size;
    out->head_begin = out->n_heads * p->tp_rank;
    if (spec->n_kv_heads >= p->tp_size) {
        out->n_kv_heads = spec->n_kv_heads / p->tp_size;
        out->kv_head_begin = out->n_kv_heads * p->tp_rank;
    } else {
        int n_ranks_of_head = p->tp_size / spec->n_kv_heads;
        out->n_kv_heads = 1;
        out->kv_head_begin = p->tp_rank / n_ranks_of_head;
    }
}

pr_status pr_shard_plan(const pr_model_spec *spec, const pr_parallel *parallel, pr_shard *out,
                        pr_error *err)
{
    assert(spec);
    assert(out);
    const pr_parallel *p = parallel;
    assert(p->tp_size >= 1 && p->tp_rank >= 0 && p->tp_rank < p->tp_size);
    assert(p->n_stages >= 1 && p->stage >= 0 && p->stage < p->n_stages);
    if (!tp_size_fits(spec, p->tp_size)) return tp_refuse(spec, p->tp_size, err);
    if (p->n_stages > spec->n_layers) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "pipeline_parallel_size: found %d, expected 1 to %d "
                            "(num_hidden_layers)",
                            p->n_stages, spec->n_layers);
    }
    pr_shard shard = {
        .layer_begin = split_begin(spec->n_layers, p->stage, p->n_stages),
        .layer_end = split_begin(spec->n_layers, p->stage + 1, p->n_stages),
        .intermediate_begin = split_begin(spec->intermediate_size, p->tp_rank, p->tp_size),
        .intermediate_end = split_begin(spec->intermediate_size, p->tp_rank + 1, p->tp_size),
        .vocab_begin = split_begin(spec->vocab_size, p->tp_rank, p->tp_size),
        .vocab_end = split_begin(spec->vocab_size, p->tp_rank + 1, p->tp_size),
        .is_first_stage = p->stage == 0,
        .is_pooling_rank = p->stage == p->n_stages - 1 && p->tp_rank == 0,
    };
    heads_assign(spec, p, &shard);
    *out = shard;
    return PR_OK;
}

/* Whether the rank's stage has the weight at all. */
static bool stage_has(const pr_shard *shard, const pr_weight *weight)
{
    if (weight->i_layer >= 0) {
        return weight->i_layer >= shard->layer_begin && weight->i_layer < shard->layer_end;
    }
    if (weight->partition == PR_PARTITION_POOLING) return shard->is_pooling_rank;
    return shard->is_first_stage; /* the tables and their norm */
}

pr_rectangle pr_shard_rectangle(const pr_model_spec *spec, const pr_parallel *parallel,
                                const pr_shard *shard, const pr_weight *weight)
{
    if (!stage_has(shard, weight)) return (pr_rectangle){0};
    int64_t d = spec->head_dim;
    pr_rectangle r = {.row_end = weight->shape[0],
                      .column_end = weight->n_dims > 1 ? weight->shape[1] : 1};
    switch (weight->partition) {
    case PR_PARTITION_REPLICATED:
    case PR_PARTITION_POOLING:
        break;
    case PR_PARTITION_FIRST:
        if (parallel->tp_rank != 0) return (pr_rectangle){0};
        break;
    case PR_PARTITION_HEADS:
        r.row_begin = shard->head_begin * d;
        r.row_end = (shard->head_begin + shard->n_heads) * d;
        break;
    case PR_PARTITION_KV_HEADS:
        r.row_begin = shard->kv_head_begin * d;
        r.row_end = (shard->kv_head_begin + shard->n_kv_heads) * d;
        break;
    case PR_PARTITION_COLUMN:
        r.row_begin = shard->intermediate_begin;
        r.row_end = shard->intermediate_end;
        break;
    case PR_PARTITION_ROW_HEADS:
        r.column_begin = shard->head_begin * d;
        r.column_end = (shard->head_begin + shard->n_heads) * d;
        break;
    case PR_PARTITION_ROW:
        r.column_begin = shard->intermediate_begin;
        r.column_end = shard->intermediate_end;
        break;
    case PR_PARTITION_VOCAB:
        r.row_begin = shard->vocab_begin;
        r.row_end = shard->vocab_end;
        break;
    }
    return r;
}
