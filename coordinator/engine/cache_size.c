#include "coordinator/engine/cache_size.h"

#include "runtime/plan/prefix_cache.h"
#include "runtime/plan/shard_plan.h"

#include <uv.h>

enum { BLOCKS_MIN = 4, BLOCKS_MAX = 1 << 20 };

static const uint64_t default_bytes_max = 2ull << 30;

uint64_t pr_cache_bytes_default(void)
{
    uint64_t memory = uv_get_total_memory(), allowed = uv_get_constrained_memory();
    if (allowed > 0 && allowed < memory) memory = allowed;
    return memory / 16 < default_bytes_max ? memory / 16 : default_bytes_max;
}

/* Whether a pooler may read other rows than the last one. */
static bool reads_more_than_the_last(const pr_model *model)
{
    for (int t = 0; t < PR_TASK_COUNT; t++) {
        if (model->is_served[t] && model->poolings[t].type != PR_POOL_LAST) return true;
    }
    return false;
}

/* Bytes of one token over all ranks of a group. */
static pr_status token_bytes(const pr_model_spec *spec, const pr_config *config, pr_dtype dtype,
                             bool keeps_hidden, uint64_t *out, pr_error *err)
{
    pr_parallel p = {0, config->tensor_parallel_size, 0, config->pipeline_parallel_size};
    *out = keeps_hidden ? (uint64_t)spec->hidden_size * sizeof(float) : 0;
    for (p.stage = 0; p.stage < p.n_stages; p.stage++) {
        for (p.tp_rank = 0; p.tp_rank < p.tp_size; p.tp_rank++) {
            pr_shard shard;
            pr_status st = pr_shard_plan(spec, &p, &shard, err);
            if (st != PR_OK) return st;
            uint64_t kv_width = (uint64_t)shard.n_kv_heads * (uint64_t)spec->head_dim;
            uint64_t n_layers = (uint64_t)(shard.layer_end - shard.layer_begin);
            *out += n_layers * 2 * kv_width * pr_dtype_bytes(dtype);
        }
    }
    return PR_OK;
}

pr_status pr_cache_size_plan(const pr_model *model, const pr_config *config, uint64_t n_bytes,
                             pr_dtype dtype, pr_cache_size *out, pr_error *err)
{
    pr_cache_size size = {.keeps_hidden = reads_more_than_the_last(model)};
    uint64_t of_token;
    if (!config->enable_prefix_caching || !model->spec.causal) {
        *out = size;
        return PR_OK;
    }
    pr_status st = token_bytes(&model->spec, config, dtype, size.keeps_hidden, &of_token, err);
    if (st != PR_OK) return st;
    uint64_t of_block = of_token * PR_CACHE_BLOCK_TOKENS;
    uint64_t n = n_bytes / (uint64_t)config->data_parallel_size / of_block;
    size.n_blocks = n < BLOCKS_MIN ? 0 : n > BLOCKS_MAX ? BLOCKS_MAX : (uint32_t)n;
    size.n_bytes = size.n_blocks * of_block * (uint64_t)config->data_parallel_size;
    *out = size;
    return PR_OK;
}
