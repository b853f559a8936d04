/* worker/batch_arrays.h: a batch's plan as the backend reads it: ids, positions, rows of keys in
 * device memory, spans on the host.
 *
 * Owns a set of device arrays for each batch that the backend can have in hand, and the host arrays
 * they are filled from. Borrows spec and backend. Called by the forward pass, on the rank's compute
 * thread. */
#ifndef POOLRANK_WORKER_BATCH_ARRAYS_H
#define POOLRANK_WORKER_BATCH_ARRAYS_H

#include "kernels/backend.h"
#include "runtime/plan/pool_plan.h"

enum { PR_BATCH_SLOTS_MAX = 2 };

/* In device memory; n = rows of the batch, m = rows that the pooler reads. */
typedef struct pr_batch_slot {
    int32_t *tokens;          /* [n] */
    int32_t *positions;       /* [n] */
    int32_t *table_positions; /* [n] rows of the position table */
    int32_t *query_positions; /* [m] */
    uint8_t *types;           /* [n] */
    uint32_t *rows;           /* [m] pool->rows, the computed ones */
    uint32_t *cached_rows;    /* [c] rows of the cache that the batch reads */
    uint32_t *cached_pooled;  /* [at most c] those whose hidden states the pooler reads */
    uint32_t *stored_rows;    /* [s] rows of the batch that the cache keeps, block by block */
    uint32_t *stored_pooled;  /* [at most s] of the kept hidden states: places in pool->rows */
    uint32_t *key_rows;       /* of all spans */
    size_t n_key_rows_max;
} pr_batch_slot;

typedef struct pr_batch_arrays {
    const pr_model_spec *spec;
    pr_backend *backend;
    pr_batch_slot slots[PR_BATCH_SLOTS_MAX];
    pr_span *spans;      /* one a segment: all rows ask */
    pr_span *last_spans; /* the last layer: only the rows that the pooler reads ask */
    int64_t n_spans, n_last_spans;

    /* to fill from */
    int32_t *host_positions;
    uint32_t *host_rows, *host_places; /* [all rows of the largest batch] */
    uint32_t *host_key_rows;
    size_t n_host_key_rows_max;
    size_t n_spans_max;
} pr_batch_arrays;

/* For batches of at most n_rows_max computed rows and n_cached_max cached ones. Whatever happens,
 * deinit. Fails PR_E_NOMEM. */
pr_status pr_batch_arrays_init(pr_batch_arrays *a, const pr_model_spec *spec, pr_backend *backend,
                               uint32_t n_rows_max, uint32_t n_cached_max, pr_error *err);
void pr_batch_arrays_deinit(pr_batch_arrays *a); /* safe on a zeroed struct */

/* Fills spans, and uploads the rest to a slot. Only a batch whose sequences share more keys than it
 * has rows makes arrays grow. Fails PR_E_TOO_LARGE, PR_E_NOMEM, or as the backend. */
pr_status pr_batch_arrays_upload(pr_batch_arrays *a, int slot, const pr_batch_plan *batch,
                                 const pr_pool_plan *pool, pr_error *err);

/* Row i of the batch becomes token i: for a token table that holds the batch's own rows in order.
 */
pr_status pr_batch_arrays_tokens_count(pr_batch_arrays *a, int slot, uint32_t n, pr_error *err);

#endif
