#include "worker/worker.h"

#include "worker/forward.h"

#include <assert.h>
#include <stdlib.h>

struct pr_worker {
    pr_backend *backend;
    pr_comm *comm;
    pr_parallel parallel;
    pr_shard shard;
    pr_checkpoint *checkpoint; /* open only while weights are streamed */
    pr_weights *weights;
    pr_forward *forward;
    pr_pooler *pooler;
    int32_t width;
};

static pr_status weights_open(pr_worker *w, const pr_worker_config *config, pr_error *err)
{
    w->parallel = (pr_parallel){.tp_rank = w->comm->tp_rank, .tp_size = w->comm->tp_size,
                                .stage = w->comm->stage, .n_stages = w->comm->n_stages};
    pr_status st = pr_shard_plan(config->spec, &w->parallel, &w->shard, err);
    if (st == PR_OK) st = pr_checkpoint_open(config->weights_folder, &w->checkpoint, err);
    if (st != PR_OK) return st;
    const pr_weights_source source = {
        .folder = config->folder, .checkpoint = w->checkpoint, .spec = config->spec,
        .st = config->st, .parallel = &w->parallel, .shard = &w->shard, .dtype = config->dtype,
        .is_cancelled = config->is_cancelled, .is_streamed = config->is_streamed,
        .n_rows_max = config->n_rows_max,
    };
    st = pr_weights_load(&source, w->backend, &w->weights, err);
    if (!config->is_streamed) {
        pr_checkpoint_close(w->checkpoint);
        w->checkpoint = NULL;
    }
    return st;
}

pr_status pr_worker_open(const pr_worker_config *config, pr_worker **out, pr_error *err)
{
    pr_worker *w = calloc(1, sizeof *w);
    if (!w) return pr_error_nomem(err, "worker", sizeof *w);
    pr_status st = pr_comm_local_create(&w->comm, err);
    if (st == PR_OK) st = pr_cpu_backend_create(&config->cpu, &w->backend, err);
    if (st == PR_OK) st = weights_open(w, config, err);
    if (st == PR_OK) {
        const pr_forward_config forward = {
            .spec = config->spec, .shard = &w->shard, .weights = w->weights,
            .backend = w->backend, .comm = w->comm, .n_rows_max = config->n_rows_max,
            .n_positions_max = config->n_positions_max,
        };
        st = pr_forward_create(&forward, &w->forward, err);
    }
    if (st == PR_OK) st = pr_pooler_create(config->spec, w->weights, w->backend, &w->pooler, err);
    if (st != PR_OK) {
        pr_worker_close(w);
        return st;
    }
    w->width = pr_weights_width(w->weights, config->spec);
    *out = w;
    return PR_OK;
}

void pr_worker_close(pr_worker *w)
{
    if (!w) return;
    pr_pooler_free(w->pooler);
    pr_forward_free(w->forward);
    pr_weights_free(w->weights);
    pr_checkpoint_close(w->checkpoint);
    if (w->backend) w->backend->ops->close(w->backend);
    if (w->comm) w->comm->ops->close(w->comm);
    free(w);
}

pr_worker_info pr_worker_describe(const pr_worker *w)
{
    return (pr_worker_info){.backend = w->backend->description,
                            .weights_bytes = w->weights->n_bytes,
                            .width = w->width};
}

pr_status pr_worker_run(pr_worker *w, const pr_batch_plan *batch,
                        const pr_pooling *const *poolings, pr_pooled *out, pr_error *err)
{
    pr_pool_plan *plan = NULL;
    const float *hidden = NULL;
    pr_status st = pr_pool_plan_build(batch, poolings, &plan, err);
    if (st == PR_OK) st = pr_forward_run(w->forward, batch, plan, &hidden, err);
    if (st == PR_OK) st = pr_pooler_run(w->pooler, hidden, plan, poolings, out, err);
    pr_pool_plan_free(plan);
    return st;
}
