/* worker/worker.h: one rank: its shard of a model, ready to run batches.
 *
 * Owns the backend, the communicator, the weights, the forward pass and the pooler. Created, used
 * and closed by the rank's compute thread; ranks decide nothing, they run the plans they get. */
#ifndef POOLRANK_WORKER_WORKER_H
#define POOLRANK_WORKER_WORKER_H

#include "kernels/cpu/cpu_backend.h"
#include "worker/pooler.h"

typedef struct pr_worker pr_worker;

typedef struct pr_worker_config {
    const char *folder;         /* of the model; for Dense modules. Borrowed for the call */
    const char *weights_folder; /* holds the checkpoint; usually the same. Borrowed for the call */
    const pr_model_spec *spec;  /* borrowed until close */
    const pr_st_files *st;      /* borrowed for the call */
    pr_cpu_options cpu;
    pr_dtype dtype;             /* F32 or BF16: how the layers' matrices are kept */
    uint32_t n_rows_max;
    uint32_t n_positions_max;
    bool is_streamed; /* weights are read again for each batch, a layer at a time, and not kept */
    const atomic_bool *is_cancelled; /* set by another thread: opening ends soon; NULL: never.
                                        Borrowed until close */
} pr_worker_config;

typedef struct pr_worker_info {
    const char *backend; /* description; borrowed until close */
    uint64_t weights_bytes;
    int32_t width; /* values of a pooled row before `dimensions` */
} pr_worker_info;

/* Loads the shard. Fails PR_E_CANCELLED, and as pr_weights_load, pr_checkpoint_open,
 * pr_cpu_backend_create. */
pr_status pr_worker_open(const pr_worker_config *config, pr_worker **out, pr_error *err);
void pr_worker_close(pr_worker *w);

pr_worker_info pr_worker_describe(const pr_worker *w);

/* Runs one batch; poolings [batch->n_sequences], borrowed for the call. *out owned by the caller
 * (pr_pooled_deinit). Fails PR_E_NOMEM, or as the backend and the communicator do. */
pr_status pr_worker_run(pr_worker *w, const pr_batch_plan *batch,
                        const pr_pooling *const *poolings, pr_pooled *out, pr_error *err);

#endif
