#include "runtime/plan/pool_plan.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { UNUSED = UINT32_MAX };

void pr_sequence_rows(const pr_batch_plan *batch, const pr_sequence *sequence, uint32_t *out)
{
    uint32_t end = sequence->n_tokens;
    for (int32_t i = (int32_t)sequence->leaf_segment; i >= 0; i = batch->segments[i].parent) {
        const pr_segment *s = &batch->segments[i];
        for (uint32_t p = s->position_begin; p < end; p++) {
            out[p] = s->token_begin + (p - s->position_begin);
        }
        end = s->position_begin;
    }
}

/* The row of one position of a sequence. */
static uint32_t row_at(const pr_batch_plan *batch, const pr_sequence *q, uint32_t position)
{
    const pr_segment *s = &batch->segments[q->leaf_segment];
    while (position < s->position_begin) s = &batch->segments[s->parent];
    return s->token_begin + (position - s->position_begin);
}

static uint32_t last_row(const pr_batch_plan *batch, const pr_sequence *q, const pr_pooling *p)
{
    uint32_t last = q->n_tokens - 1;
    if (!p->skips_pad) return row_at(batch, q, last);
    for (uint32_t i = last; i > 0; i--) {
        uint32_t row = row_at(batch, q, i);
        if (batch->tokens[row] != p->pad_token_id) return row;
    }
    return row_at(batch, q, 0);
}

/* The rows that one sequence reads, in position order, appended at out (room for n_tokens). */
static uint32_t rows_read(const pr_batch_plan *batch, const pr_sequence *q, const pr_pooling *p,
                          uint32_t *out)
{
    switch (p->type) {
    case PR_POOL_LAST: out[0] = last_row(batch, q, p); return 1;
    case PR_POOL_CLS: out[0] = row_at(batch, q, 0); return 1;
    case PR_POOL_MEAN:
    case PR_POOL_ALL: pr_sequence_rows(batch, q, out); return q->n_tokens;
    case PR_POOL_STEP: {
        pr_sequence_rows(batch, q, out);
        uint32_t n = 0;
        for (uint32_t i = 0; i < q->n_tokens; i++) {
            if (batch->tokens[out[i]] == p->step_tag_id) out[n++] = out[i];
        }
        return n;
    }
    case PR_POOL_COUNT: break;
    }
    assert(!"pooling type");
    return 0;
}

/* The rows of every sequence, one after the other, before duplicates are merged. */
typedef struct reading {
    uint32_t *rows;
    uint32_t *offsets; /* [n_sequences + 1] */
} reading;

static void reading_fill(const pr_batch_plan *batch, const pr_pooling *const *poolings, reading *r)
{
    r->offsets[0] = 0;
    for (uint32_t i = 0; i < batch->n_sequences; i++) {
        uint32_t n = rows_read(batch, &batch->sequences[i], poolings[i], r->rows + r->offsets[i]);
        r->offsets[i + 1] = r->offsets[i] + n;
    }
}

/* Numbers the rows that are marked in `place` (anything but UNUSED), ascending. */
static uint32_t number_marked(uint32_t *place, uint32_t n, uint32_t *list)
{
    uint32_t n_list = 0;
    for (uint32_t row = 0; row < n; row++) {
        if (place[row] == UNUSED) continue;
        list[n_list] = row;
        place[row] = n_list++;
    }
    return n_list;
}

static void rows_number(pr_pool_plan *plan, const pr_batch_plan *batch, const reading *r,
                        uint32_t *place)
{
    uint32_t n_all = batch->n_tokens + batch->n_cached;
    for (uint32_t i = 0; i < n_all; i++) place[i] = UNUSED;
    uint32_t n = r->offsets[batch->n_sequences];
    for (uint32_t i = 0; i < n; i++) place[r->rows[i]] = 0;
    plan->n_rows = number_marked(place, n_all, plan->rows);
    plan->n_computed = plan->n_rows;
    while (plan->n_computed > 0 && plan->rows[plan->n_computed - 1] >= batch->n_tokens) {
        plan->n_computed--;
    }
}

/* The rows that are read as they are; `slot` [n_rows] gets each one's slot. */
static void picked_number(pr_pool_plan *plan, const pr_pooling *const *poolings, const reading *r,
                          const uint32_t *place, uint32_t *slot)
{
    for (uint32_t i = 0; i < plan->n_rows; i++) slot[i] = UNUSED;
    for (uint32_t i = 0; i < plan->n_sequences; i++) {
        if (poolings[i]->type == PR_POOL_MEAN) continue;
        for (uint32_t j = r->offsets[i]; j < r->offsets[i + 1]; j++) slot[place[r->rows[j]]] = 0;
    }
    plan->n_picked = number_marked(slot, plan->n_rows, plan->picked);
}

/* The mean of sequence i: an earlier equal one's, or a new one. `last` [n_segments] remembers the
 * latest mean that ends in each segment, `length` [n_sequences] its tokens. */
static uint32_t mean_number(pr_pool_plan *plan, const pr_sequence *q, const reading *r, uint32_t i,
                            const uint32_t *place, uint32_t *last, uint32_t *length)
{
    uint32_t mean = last[q->leaf_segment];
    if (mean != UNUSED && length[mean] == q->n_tokens) return mean;
    mean = plan->n_means++;
    uint32_t at = plan->mean_offsets[mean];
    for (uint32_t j = r->offsets[i]; j < r->offsets[i + 1]; j++) {
        plan->mean_rows[at++] = place[r->rows[j]];
    }
    plan->mean_offsets[mean + 1] = at;
    last[q->leaf_segment] = mean;
    length[mean] = q->n_tokens;
    return mean;
}

static void slots_number(pr_pool_plan *plan, const pr_batch_plan *batch,
                         const pr_pooling *const *poolings, const reading *r,
                         const uint32_t *place, const uint32_t *slot, uint32_t *last,
                         uint32_t *length)
{
    uint32_t n = 0;
    plan->mean_offsets[0] = 0;
    for (uint32_t i = 0; i < batch->n_segments; i++) last[i] = UNUSED;
    for (uint32_t i = 0; i < batch->n_sequences; i++) {
        plan->ranges[i].begin = n;
        if (poolings[i]->type == PR_POOL_MEAN) {
            uint32_t mean = mean_number(plan, &batch->sequences[i], r, i, place, last, length);
            plan->slots_of[n++] = plan->n_picked + mean;
        } else {
            for (uint32_t j = r->offsets[i]; j < r->offsets[i + 1]; j++) {
                plan->slots_of[n++] = slot[place[r->rows[j]]];
            }
        }
        plan->ranges[i].count = n - plan->ranges[i].begin;
    }
}

pr_status pr_pool_plan_build(const pr_batch_plan *batch, const pr_pooling *const *poolings,
                             pr_pool_plan **out, pr_error *err)
{
    size_t n_seq = batch->n_sequences, n_read = 0;
    for (size_t i = 0; i < n_seq; i++) n_read += batch->sequences[i].n_tokens;
    size_t n_all = n_read + batch->n_tokens + batch->n_cached + batch->n_segments + n_seq + 1;
    pr_status st = PR_OK;
    reading r = {malloc(n_all * sizeof(uint32_t)), malloc((n_seq + 1) * sizeof(uint32_t))};
    uint32_t *place = malloc(n_all * sizeof *place);
    uint32_t *slot = malloc(n_all * sizeof *slot);
    uint32_t *last = malloc(n_all * sizeof *last);
    uint32_t *length = malloc(n_all * sizeof *length);
    pr_pool_plan *plan = calloc(1, sizeof *plan);
    if (plan) {
        plan->rows = malloc(n_all * sizeof *plan->rows);
        plan->mean_rows = malloc(n_all * sizeof *plan->mean_rows);
        plan->mean_offsets = malloc((n_seq + 1) * sizeof *plan->mean_offsets);
        plan->picked = malloc(n_all * sizeof *plan->picked);
        plan->slots_of = malloc(n_all * sizeof *plan->slots_of);
        plan->ranges = malloc((n_seq + 1) * sizeof *plan->ranges);
        plan->n_sequences = batch->n_sequences;
    }
    if (!r.rows || !r.offsets || !place || !slot || !last || !length || !plan || !plan->rows ||
        !plan->mean_rows || !plan->mean_offsets || !plan->picked || !plan->slots_of ||
        !plan->ranges) {
        st = pr_error_nomem(err, "pool plan", n_all * sizeof(uint32_t));
        goto cleanup;
    }
    reading_fill(batch, poolings, &r);
    rows_number(plan, batch, &r, place);
    picked_number(plan, poolings, &r, place, slot);
    slots_number(plan, batch, poolings, &r, place, slot, last, length);
    *out = plan;
    plan = NULL;
cleanup:
    free(r.rows);
    free(r.offsets);
    free(place);
    free(slot);
    free(last);
    free(length);
    pr_pool_plan_free(plan);
    return st;
}

void pr_pool_plan_free(pr_pool_plan *plan)
{
    if (!plan) return;
    free(plan->rows);
    free(plan->mean_rows);
    free(plan->mean_offsets);
    free(plan->picked);
    free(plan->slots_of);
    free(plan->ranges);
    free(plan);
}
