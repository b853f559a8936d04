/* worker/worker.h: one rank: its shard of a model, ready to run batches.
 *
 * Owns the backend, the communicator, the weights, the forward pass and the pooler. Created, used
 * and closed by the rank's compute thread; ranks decide nothing, they run the plans they get. */
#ifndef POOLRANK_WORKER_WORKER_H
#define POOLRANK_WORKER_WORKER_H

#include "kernels/cpu/cpu_backend.h"
#include "worker/comm.h"
#include "worker/pooler.h"

typedef struct pr_worker pr_worker;

typedef struct pr_worker_config {
    const char *folder;         /* of the model; for Dense modules. Borrowed for the call */
    const char *weights_folder; /* holds the checkpoint; usually the same. Borrowed for the call */
    const pr_model_spec *spec;  /* borrowed until close */
    const pr_st_files *st;      /* borrowed for the call */
    pr_backend *backend; /* consumed, also when opening fails. NULL: one on the CPU is made by: */
    pr_cpu_options cpu;
    pr_dtype dtype;             /* F32, BF16, or F16 on a GPU: how the layers' matrices are kept */
    uint32_t n_rows_max;
    uint32_t n_positions_max;
    uint32_t n_cache_blocks; /* of PR_CACHE_BLOCK_TOKENS rows that are kept between batches */
    bool cache_keeps_hidden; /* with them hidden states, for poolers that read all rows */
    bool is_streamed; /* weights are read again for each batch, a layer at a time, and not kept */
    const atomic_bool *is_cancelled; /* set by another thread: opening ends soon; NULL: never.
                                        Borrowed until close */
    pr_comm *comm; /* to the other ranks of the group, and which one this is. Consumed, also when
                      opening fails. One of a GPU works on the backend's streams and is closed
                      before it. NULL: a group of one */
    atomic_uint_fast64_t *n_steps; /* grows by one for each tensor read and each layer begun, for
                                      whoever watches. NULL: not counted. Borrowed until close */
} pr_worker_config;

/* Which batch it is: of every rank of a group the same, or nobody runs it. */
typedef struct pr_batch_id {
    uint64_t seq;  /* in the order of the group's batches */
    uint64_t hash; /* of the plan; not both are UINT64_MAX */
} pr_batch_id;

typedef struct pr_worker_info {
    const char *backend; /* description; borrowed until close */
    const char *device;  /* "cuda 3"; empty: the caller knows; likewise */
    int n_slots; /* batches that may be begun and not finished: 2 where they overlap, else 1 */
    uint64_t weights_bytes;
    int32_t width;    /* values of a pooled row before `dimensions`; 0: not the pooling rank */
    uint64_t comm_ns; /* of all runs, spent in calls of the communicator, waiting included */
} pr_worker_info;

/* Loads the shard. Fails PR_E_CANCELLED, and as pr_weights_load, pr_checkpoint_open,
 * pr_cpu_backend_create. */
pr_status pr_worker_open(const pr_worker_config *config, pr_worker **out, pr_error *err);
void pr_worker_close(pr_worker *w);

pr_worker_info pr_worker_describe(const pr_worker *w);

/* Begins one batch, entered by every rank of the group in the same order: queued where n_slots is
 * 2, computed on return else. poolings [batch->n_sequences], borrowed until the batch is finished,
 * as the batch is. At most n_slots batches are begun and not finished.
 * id: compared with the other ranks'; NULL (on every rank): not compared.
 * Fails PR_E_INPUT on every rank of the group when a token or type id is outside the model's
 * tables; PR_E_INTERNAL on every rank of a stage where two ids differ and of the stages behind it,
 * with both, here or in finish; PR_E_NOMEM; or as the backend and the communicator do, when the
 * group must be given up: the other ranks may wait for this one. */
pr_status pr_worker_begin(pr_worker *w, const pr_batch_plan *batch,
                          const pr_pooling *const *poolings, const pr_batch_id *id, pr_error *err);

/* Waits for the oldest batch that was begun. *out owned by the caller (pr_pooled_deinit);
 * n_sequences is 0 on ranks that are not the pooling rank. Fails as begin; PR_E_UNAVAILABLE when
 * another rank has died. */
pr_status pr_worker_finish(pr_worker *w, pr_pooled *out, pr_error *err);

/* Both. */
pr_status pr_worker_run(pr_worker *w, const pr_batch_plan *batch,
                        const pr_pooling *const *poolings, const pr_batch_id *id, pr_pooled *out,
                        pr_error *err);

#endif
