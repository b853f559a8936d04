/* worker/prefix_store.h: the keys, values and hidden states of earlier batches that a rank keeps,
 * by row; which row is what the coordinator knows (runtime/plan/prefix_cache.h).
 *
 * Owns its device memory: for each layer of the rank [n_rows, 2 kv_width] in the activation dtype,
 * keys as attention reads them (RoPE applied) beside values; and on the pooling rank [n_rows,
 * hidden_size] f32. Borrows the backend. Called by the forward pass, on the rank's compute thread;
 * what is copied is ordered like the batches. */
#ifndef POOLRANK_WORKER_PREFIX_STORE_H
#define POOLRANK_WORKER_PREFIX_STORE_H

#include "kernels/backend.h"
#include "runtime/plan/batch_plan.h"

typedef struct pr_prefix_store_config {
    pr_backend *backend;
    uint32_t n_blocks;
    int32_t n_layers;     /* of this rank */
    int64_t kv_width;     /* of this rank */
    int64_t hidden_size;
    bool keeps_hidden;    /* the pooling rank of a model whose pooler may read all rows */
} pr_prefix_store_config;

typedef struct pr_prefix_store pr_prefix_store;

/* Fails PR_E_NOMEM. On a CPU memory is taken when it is first written. */
pr_status pr_prefix_store_create(const pr_prefix_store_config *config, pr_prefix_store **out,
                                 pr_error *err);
void pr_prefix_store_free(pr_prefix_store *s); /* NULL is fine */

/* Whether the blocks and rows that a plan names are here. Fails PR_E_ARGUMENT. */
pr_status pr_prefix_store_check(const pr_prefix_store *s, const pr_batch_plan *plan, pr_error *err);

/* Keys and values of a layer (of this rank, from 0) to kv [n, 2 kv_width], leading dimension ld.
 * rows [n] in device memory: rows of the store. Fails as the backend does. */
pr_status pr_prefix_store_load(pr_prefix_store *s, int32_t i_layer, const uint32_t *rows, int64_t n,
                               void *kv, int64_t ld, pr_error *err);
/* Hidden states likewise, to x [n, hidden_size]. */
pr_status pr_prefix_store_load_hidden(pr_prefix_store *s, const uint32_t *rows, int64_t n, float *x,
                                      pr_error *err);

/* Keeps rows of kv, leading dimension ld, as the plan's stores say. rows [n_stores *
 * PR_CACHE_BLOCK_TOKENS] in device memory: their rows, one store after the other. */
pr_status pr_prefix_store_keep(pr_prefix_store *s, int32_t i_layer, const pr_batch_plan *plan,
                               const uint32_t *rows, const void *kv, int64_t ld, pr_error *err);
/* Hidden states of the stores that have them: rows [… * PR_CACHE_BLOCK_TOKENS] in device memory:
 * rows of x [, hidden_size], of these stores one after the other. */
pr_status pr_prefix_store_keep_hidden(pr_prefix_store *s, const pr_batch_plan *plan,
                                      const uint32_t *rows, const float *x, pr_error *err);

#endif
