#include "coordinator/engine/describe_ranks.h"

#include <stdio.h>
#include <unistd.h>

static pr_parallel parallel_of(const pr_config *c, int rank)
{
    return (pr_parallel){.tp_rank = rank % c->tensor_parallel_size,
                         .tp_size = c->tensor_parallel_size,
                         .stage = rank / c->tensor_parallel_size,
                         .n_stages = c->pipeline_parallel_size};
}

/* All of a rank's shard, and one forward pass of the token budget, or of the longest text where
 * that is more. */
static pr_status rank_plan(const pr_model *m, const pr_config *c, int rank, pr_shard *shard,
                           pr_memory_plan *out, pr_error *err)
{
    const pr_parallel parallel = parallel_of(c, rank);
    int n_ranks = c->tensor_parallel_size * c->pipeline_parallel_size;
    uint32_t budget = (uint32_t)c->max_num_batched_tokens;
    const pr_memory_limits limits = {
        .n_tokens = budget > m->n_tokens_max ? budget : m->n_tokens_max,
        .n_threads = c->n_threads > n_ranks ? (uint32_t)(c->n_threads / n_ranks) : 1,
        .dtype = pr_config_dtype(c, m->spec.checkpoint_dtype),
        .place = c->device == PR_DEVICE_CHOICE_CUDA ? PR_PLAN_PLACE_GPU : PR_PLAN_PLACE_CPU,
    };
    pr_status st = pr_shard_plan(&m->spec, &parallel, shard, err);
    return st == PR_OK ? pr_memory_plan_build(&m->spec, &parallel, shard, &limits, out, err) : st;
}

pr_status pr_describe_memory(const pr_model *m, const pr_config *c, pr_memory_plan *out,
                             pr_error *err)
{
    pr_memory_plan most = {0};
    int n_ranks = c->tensor_parallel_size * c->pipeline_parallel_size;
    for (int rank = 0; rank < n_ranks; rank++) {
        pr_shard shard;
        pr_memory_plan plan = {0};
        pr_status st = rank_plan(m, c, rank, &shard, &plan, err);
        if (st != PR_OK) return st;
        if (rank == 0 || plan.total_bytes > most.total_bytes) most = plan;
    }
    *out = most;
    return PR_OK;
}

/* "0-11" */
static json_t *range(int32_t begin, int32_t end)
{
    char text[32];
    snprintf(text, sizeof text, "%d-%d", (int)begin, (int)end - 1);
    return json_string(text);
}

static pr_status rank_describe(const pr_model *m, const pr_config *c, int group, int rank,
                               json_t **out, pr_error *err)
{
    pr_shard shard;
    pr_memory_plan plan = {0};
    pr_status st = rank_plan(m, c, rank, &shard, &plan, err);
    if (st != PR_OK) return st;
    const pr_parallel p = parallel_of(c, rank);
    *out = json_pack("{s:i, s:i, s:i, s:i, s:o, s:o, s:I, s:n, s:n}", "group", group, "rank", rank,
                     "tensor_rank", p.tp_rank, "stage", p.stage, "layers",
                     range(shard.layer_begin, shard.layer_end), "heads",
                     range(shard.head_begin, shard.head_begin + shard.n_heads), "weights_bytes",
                     (json_int_t)plan.weights_bytes, "host", "device");
    return *out ? PR_OK : pr_error_nomem(err, "description", 0);
}

/* Where ranks will be when this process starts them on its own host. */
static void place_plan(json_t *rank, const pr_config *c, pr_worker_launch launch)
{
    char host[256];
    bool is_here = launch == PR_WORKER_LAUNCH_INPROC ||
                   (launch == PR_WORKER_LAUNCH_MPIRUN && !c->hostfile && !c->is_in_allocation);
    if (is_here && gethostname(host, sizeof host) == 0) {
        host[sizeof host - 1] = '\0';
        json_object_set_new(rank, "host", json_string(host));
    }
    json_object_set_new(rank, "device", json_string(pr_device_choice_name(c->device)));
}

pr_status pr_describe_ranks(const pr_model *m, const pr_config *c, pr_worker_launch launch,
                            const pr_fleet_rank *ranks, size_t n, json_t **out, pr_error *err)
{
    int n_group = c->tensor_parallel_size * c->pipeline_parallel_size;
    size_t n_planned = (size_t)n_group * (size_t)c->data_parallel_size;
    json_t *all = json_array();
    pr_status st = all ? PR_OK : pr_error_nomem(err, "description", 0);
    for (size_t i = 0; st == PR_OK && i < (ranks ? n : n_planned); i++) {
        json_t *one = NULL;
        int group = ranks ? (int)ranks[i].group : (int)(i / (size_t)n_group);
        int rank = ranks ? (int)ranks[i].rank : (int)(i % (size_t)n_group);
        st = rank_describe(m, c, group, rank, &one, err);
        if (st != PR_OK) break;
        if (ranks) {
            json_object_set_new(one, "weights_bytes",
                                json_integer((json_int_t)ranks[i].weights_bytes));
            json_object_set_new(one, "host", json_string(ranks[i].host));
            json_object_set_new(one, "device", json_string(ranks[i].device));
        } else {
            place_plan(one, c, launch);
        }
        json_array_append_new(all, one);
    }
    if (st == PR_OK) {
        *out = all;
        return PR_OK;
    }
    json_decref(all);
    return st;
}
