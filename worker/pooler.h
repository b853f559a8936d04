/* worker/pooler.h: from the hidden states of the pooling rank to each sequence's result: select or
 * average rows, apply the head, cut, activate or normalize.
 *
 * Owns its buffers. Borrows weights and backend, which outlive it. Called by the pooling rank's
 * compute thread. */
#ifndef POOLRANK_WORKER_POOLER_H
#define POOLRANK_WORKER_POOLER_H

#include "runtime/plan/pool_plan.h"
#include "worker/weights.h"

typedef struct pr_pooler pr_pooler;

/* One sequence's rows in pr_pooled.data. */
typedef struct pr_pooled_rows {
    size_t offset; /* in floats */
    uint32_t n_rows;
    uint32_t n_columns;
} pr_pooled_rows;

typedef struct pr_pooled {
    float *data;          /* owned */
    pr_pooled_rows *rows; /* [n_sequences], owned */
    uint32_t n_sequences;
} pr_pooled;

void pr_pooled_deinit(pr_pooled *pooled);

/* n_rows_max: rows of the largest batch. Fails PR_E_NOMEM. */
pr_status pr_pooler_create(const pr_model_spec *spec, const pr_weights *weights,
                           pr_backend *backend, uint32_t n_rows_max, pr_pooler **out,
                           pr_error *err);
void pr_pooler_free(pr_pooler *p);

/* Rows through the head, or queued for it, between the backend's batch_begin(slot) and batch_end.
 * hidden    [plan->n_rows, hidden_size] f32 device memory
 * Fails PR_E_NOMEM, or as the backend does. */
pr_status pr_pooler_begin(pr_pooler *p, int slot, const float *hidden, const pr_pool_plan *plan,
                          pr_error *err);

/* What is left to do on the host when the backend is done with the batch of that slot.
 * poolings  [plan->n_sequences], those that the plan was made with.
 * out       owned by the caller (pr_pooled_deinit). Fails PR_E_NOMEM. */
pr_status pr_pooler_finish(pr_pooler *p, int slot, const pr_pool_plan *plan,
                           const pr_pooling *const *poolings, pr_pooled *out, pr_error *err);

#endif
