/* libFuzzer: any bytes as a config.json, its weights, shards and pooler. The key "pooler" of the
 * object, when there is one, is the override of the pooler configuration. */
#include "runtime/base/json.h"
#include "runtime/model/pooling_spec.h"
#include "runtime/plan/memory_plan.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Whatever config.json was accepted, the plans that follow from it must hold together. */
static void plans_check(const pr_model_spec *spec)
{
    for (int tp_size = 1; tp_size <= 4; tp_size *= 2) {
        pr_parallel parallel = {tp_size - 1, tp_size, 0, 1};
        pr_shard shard;
        pr_memory_plan plan;
        pr_memory_limits limits = {.n_tokens = 4096, .n_threads = 1, .dtype = PR_DTYPE_BF16};
        if (pr_shard_plan(spec, &parallel, &shard, NULL) != PR_OK) continue;
        if (pr_memory_plan_build(spec, &parallel, &shard, &limits, &plan, NULL) != PR_OK) continue;
        if (plan.n_parameters <= 0 || plan.n_parameters_rank > plan.n_parameters) abort();
    }
}

static void frequencies_check(const pr_model_spec *spec)
{
    if (spec->position != PR_POSITION_ROPE) return;
    float *frequencies = malloc((size_t)(spec->head_dim / 2) * sizeof *frequencies);
    if (!frequencies) return;
    pr_model_spec_rope_frequencies(spec, frequencies);
    free(frequencies);
}

static void poolers_check(const pr_model_spec *spec, const json_t *override)
{
    pr_pooling pooling;
    pr_error err;
    if (pr_task_check(spec, NULL, pr_task_resolve(spec, NULL), &err) != PR_OK) abort();
    for (int task = PR_TASK_EMBED; task < PR_TASK_COUNT; task++) {
        (void)pr_pooling_resolve(spec, NULL, (pr_task)task, override, &pooling, &err);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    json_t *config = NULL;
    pr_model_spec spec;
    pr_error err;
    if (pr_json_parse((const char *)data, n, "config.json", &config, &err) != PR_OK) return 0;
    if (pr_model_spec_parse(config, "config.json", &spec, &err) == PR_OK) {
        plans_check(&spec);
        frequencies_check(&spec);
        poolers_check(&spec, json_is_object(config) ? json_object_get(config, "pooler") : NULL);
        pr_model_spec_deinit(&spec);
    }
    json_decref(config);
    return 0;
}
