/* runtime/plan/pool_plan.h: which rows of a batch the pooler reads, each once, and which of them
 * make up each sequence's result.
 *
 * Owns its arrays. Pure; called by every rank (the last layer is computed for these rows only) and
 * by the pooling rank. The same batch and poolings always give the same plan.
 *
 *     rows     2  5  9 10 11         rows of the batch, ascending, each once
 *     index    0 | 2 3 4 | 2 3 4 | 1 per sequence: places in `rows`, in position order
 *     means    the sequences whose rows are averaged, each distinct one once
 *     slots    what the head sees: first all `rows` that are read as they are, then the means */
#ifndef POOLRANK_RUNTIME_PLAN_POOL_PLAN_H
#define POOLRANK_RUNTIME_PLAN_POOL_PLAN_H

#include "runtime/model/pooling_spec.h"
#include "runtime/plan/batch_plan.h"

/* Where a sequence's pooled rows are among the slots. */
typedef struct pr_pooled_range {
    uint32_t begin; /* in `slots_of`: n_slots entries */
    uint32_t count; /* 1 for LAST, CLS, MEAN; 0 is possible for STEP */
} pr_pooled_range;

typedef struct pr_pool_plan {
    uint32_t *rows; /* [n_rows] rows of the batch that the pooler reads, ascending */
    uint32_t n_rows;
    uint32_t n_computed; /* so many of them are computed; the others come from the ranks' cache */

    uint32_t *mean_rows;    /* indices into `rows`, in position order, of all means */
    uint32_t *mean_offsets; /* [n_means + 1] */
    uint32_t n_means;

    uint32_t *picked; /* [n_picked] indices into `rows` that are read as they are, each once */
    uint32_t n_picked;

    uint32_t *slots_of; /* per sequence: its slots; slot s < n_picked is picked[s], else mean */
    pr_pooled_range *ranges; /* [n_sequences] */
    uint32_t n_sequences;
} pr_pool_plan;

/* poolings [batch->n_sequences], borrowed for the call: type, step_tag_id, skips_pad and
 * pad_token_id are read.
 * *out owned (pr_pool_plan_free). Fails PR_E_NOMEM. */
pr_status pr_pool_plan_build(const pr_batch_plan *batch, const pr_pooling *const *poolings,
                             pr_pool_plan **out, pr_error *err);
void pr_pool_plan_free(pr_pool_plan *plan);

/* Rows of a sequence in position order: out [sequence->n_tokens] rows of the batch. */
void pr_sequence_rows(const pr_batch_plan *batch, const pr_sequence *sequence, uint32_t *out);

#endif
