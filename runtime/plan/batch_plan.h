/* runtime/plan/batch_plan.h: decides which queued requests share one forward pass, and lays their
 * tokens out without padding.
 *
 * Owns the arrays of a pr_batch_plan, tokens included (copied from the requests). Called by the
 * scheduler's thread and by tests that build plans by hand. Pure: no clock, no I/O; the same queue
 * and limits always give the same plan.
 *
 *     tokens   | what is two | plus two ? | times three ? | other text |
 *     segments | 0: parent -1| 1: parent 0| 2: parent 0   | 3: -1      |
 *     sequences  (leaf 1) (leaf 2) (leaf 3); and one that ends inside segment 0, or two in one leaf
 *
 * A segment's tokens stand in one run; its positions go on where its parent's end. */
#ifndef POOLRANK_RUNTIME_PLAN_BATCH_PLAN_H
#define POOLRANK_RUNTIME_PLAN_BATCH_PLAN_H

#include "runtime/base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct pr_segment {
    uint32_t token_begin;    /* first row in the batch's flat token list */
    uint32_t token_count;
    uint32_t position_begin; /* position of the first token: RoPE angle or position-table row */
    int32_t parent;          /* index of the segment it extends, -1: none; parent < own index */
} pr_segment;

typedef struct pr_sequence {
    uint32_t leaf_segment;
    uint32_t n_tokens;  /* positions 0 .. n_tokens-1 along the path to the leaf; ends in the leaf */
    uint32_t i_request; /* which request of the queue */
} pr_sequence;

typedef struct pr_batch_plan {
    int32_t *tokens;    /* [n_tokens] */
    uint8_t *type_ids;  /* [n_tokens]; NULL: all 0 */
    uint32_t n_tokens;
    pr_segment *segments;
    uint32_t n_segments;
    pr_sequence *sequences;
    uint32_t n_sequences;
} pr_batch_plan;

/* One request waiting. Borrowed. */
typedef struct pr_queued {
    const int32_t *tokens;
    const uint8_t *type_ids; /* NULL: all 0 */
    uint32_t n_tokens;       /* at least 1 */
} pr_queued;

typedef struct pr_batch_limits {
    uint32_t n_tokens_max;    /* token budget: rows of one forward pass, each counted once */
    uint32_t n_sequences_max;
    bool shares_prefixes;     /* a causal model: what requests begin with is computed once */
} pr_batch_limits;

/* Takes requests from the front of the queue until one does not fit; what is left of the budget
 * goes to requests behind it that have at least half of their tokens in the batch already. So a
 * request that did not fit stands at the front of the next batch, and the batch before it is not
 * larger than it might have been. Never splits a request.
 *
 * Requests with the same tokens and types share one segment; with shares_prefixes also those that
 * begin with the same tokens (runtime/plan/prefix_tree.h).
 *
 * queue  [n_queue], borrowed for the call.
 * out    owned by the caller, release with pr_batch_plan_free(); written only on PR_OK. Its
 *        sequences are the requests taken, in the queue's order, the first one always among them.
 * Fails  PR_E_TOO_LONG when queue[0] alone exceeds limits->n_tokens_max; PR_E_NOMEM. */
pr_status pr_batch_plan_build(const pr_queued *queue, size_t n_queue,
                              const pr_batch_limits *limits, pr_batch_plan **out, pr_error *err);
void pr_batch_plan_free(pr_batch_plan *plan);

/* Checks what the header states: runs in order without gaps, parents before children, positions
 * that continue, leaves that contain the ends. For plans that come from outside this module. Fails
 * PR_E_ARGUMENT with the segment's or sequence's index. */
pr_status pr_batch_plan_check(const pr_batch_plan *plan, pr_error *err);

#endif
