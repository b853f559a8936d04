#include "coordinator/fleet/worker_launch.h"

#include "runtime/plan/shard_plan.h"

#include <assert.h>

static const char *const names[] = {
    [PR_WORKER_LAUNCH_AUTO] = "auto",         [PR_WORKER_LAUNCH_INPROC] = "inproc",
    [PR_WORKER_LAUNCH_MPIRUN] = "mpirun",     [PR_WORKER_LAUNCH_SRUN] = "srun",
    [PR_WORKER_LAUNCH_EXTERNAL] = "external", [PR_WORKER_LAUNCH_JOB] = "job",
};
static_assert(sizeof names / sizeof *names == PR_WORKER_LAUNCH_COUNT, "one name per launch mode");

const char *pr_worker_launch_name(pr_worker_launch launch)
{
    return names[launch];
}

static pr_worker_launch automatic(const pr_config *c, int64_t n_ranks)
{
    if (n_ranks == 1) return PR_WORKER_LAUNCH_INPROC;
    return c->is_in_allocation ? PR_WORKER_LAUNCH_SRUN : PR_WORKER_LAUNCH_MPIRUN;
}

/* An option of one launch mode that another would silently ignore. */
static pr_status options_check(const pr_config *c, pr_worker_launch launch, pr_error *err)
{
    const struct {
        const char *name, *value;
        bool is_taken;
    } options[] = {
        {"hostfile", c->hostfile, launch == PR_WORKER_LAUNCH_MPIRUN},
        {"mpirun-args", c->mpirun_args, launch == PR_WORKER_LAUNCH_MPIRUN},
        {"srun-args", c->srun_args, launch == PR_WORKER_LAUNCH_SRUN},
        {"ctrl-interface", c->ctrl_interface, launch != PR_WORKER_LAUNCH_INPROC},
        {"cluster-key-file", c->cluster_key_file, launch != PR_WORKER_LAUNCH_INPROC},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        if (!options[i].value || options[i].is_taken) continue;
        return pr_error_set(err, PR_E_ARGUMENT, "%s: it has no meaning with worker-launch %s%s",
                            options[i].name, names[launch],
                            c->worker_launch == PR_WORKER_LAUNCH_AUTO ? " (which auto means here)"
                                                                      : "");
    }
    return PR_OK;
}

pr_status pr_worker_launch_resolve(const pr_config *c, const pr_model_spec *spec,
                                   pr_worker_launch *out, pr_error *err)
{
    int64_t n_ranks = (int64_t)c->tensor_parallel_size * c->pipeline_parallel_size *
                      c->data_parallel_size;
    pr_worker_launch launch = c->worker_launch;
    if (launch == PR_WORKER_LAUNCH_AUTO) launch = automatic(c, n_ranks);
    if (launch == PR_WORKER_LAUNCH_INPROC && n_ranks != 1) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "worker-launch: found inproc, which is for one rank, expected another "
                            "one for %lld ranks (tensor-parallel-size %d, pipeline-parallel-size "
                            "%d, data-parallel-size %d)",
                            (long long)n_ranks, c->tensor_parallel_size,
                            c->pipeline_parallel_size, c->data_parallel_size);
    }
    const pr_parallel parallel = {.tp_size = c->tensor_parallel_size,
                                  .n_stages = c->pipeline_parallel_size};
    pr_shard shard;
    pr_status st = pr_shard_plan(spec, &parallel, &shard, err);
    if (st == PR_OK) st = options_check(c, launch, err);
    if (st == PR_OK) *out = launch;
    return st;
}
