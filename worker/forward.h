/* worker/forward.h: the layers of one rank, from token ids to the hidden states that the pooler
 * reads. Written once against pr_backend and pr_comm; what differs between families is data.
 *
 * Owns its activation buffers. Borrows spec, weights, backend and communicator, which outlive it.
 * Called by the rank's compute thread only. */
#ifndef POOLRANK_WORKER_FORWARD_H
#define POOLRANK_WORKER_FORWARD_H

#include "runtime/plan/pool_plan.h"
#include "worker/comm.h"
#include "worker/weights.h"

typedef struct pr_forward pr_forward;

typedef struct pr_forward_config {
    const pr_model_spec *spec;
    const pr_shard *shard;
    pr_weights *weights;
    pr_backend *backend;
    pr_comm *comm;
    uint32_t n_rows_max;      /* token budget: rows of the largest batch */
    uint32_t n_positions_max; /* longest sequence */
    uint32_t n_cache_blocks;  /* of PR_CACHE_BLOCK_TOKENS rows, kept between batches; 0: none */
    bool keeps_hidden;        /* with them hidden states, on the pooling rank */
    atomic_uint_fast64_t *n_steps; /* grows by one for each layer begun; NULL: not counted */
} pr_forward_config;

/* Fails PR_E_NOMEM. */
pr_status pr_forward_create(const pr_forward_config *config, pr_forward **out, pr_error *err);
void pr_forward_free(pr_forward *f);

/* Runs the batch, or queues it, between the backend's batch_begin(slot) and batch_end; entered by
 * every rank of the group with the same batch and plan: a stage receives the hidden states of the
 * one before it and sends its own on. Encoders take plans without parents only (asserted).
 * What the batch's plan says of the cache is done on the way. *hidden: [pool->n_rows, hidden_size]
 * f32 device memory, the final hidden states (final norm of decoders included) of the rows in
 * pool->rows, valid until the next run; on ranks other than the pooling rank undefined. Fails
 * PR_E_ARGUMENT (rows of the cache that there are not), as the backend and the communicator do. */
pr_status pr_forward_run(pr_forward *f, int slot, const pr_batch_plan *batch,
                         const pr_pool_plan *pool, const float **hidden, pr_error *err);

#endif
