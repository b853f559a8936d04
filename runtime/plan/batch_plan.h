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
 * A segment's tokens stand in one run; its positions go on where its parent's end. Rows from
 * n_tokens on are not computed: the ranks hold them from earlier batches. */
#ifndef POOLRANK_RUNTIME_PLAN_BATCH_PLAN_H
#define POOLRANK_RUNTIME_PLAN_BATCH_PLAN_H

#include "runtime/plan/prefix_cache.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct pr_segment {
    uint32_t token_begin;    /* first row of the batch; n_tokens or more: cached */
    uint32_t token_count;
    uint32_t position_begin; /* position of the first token: RoPE angle or position-table row */
    int32_t parent;          /* index of the segment it extends, -1: none; parent < own index */
} pr_segment;

typedef struct pr_sequence {
    uint32_t leaf_segment;
    uint32_t n_tokens;  /* positions 0 .. n_tokens-1 along the path to the leaf; ends in the leaf */
    uint32_t i_request; /* which request of the queue */
} pr_sequence;

/* One block of the ranks' cache that the batch fills when its rows are there. */
typedef struct pr_cache_store {
    uint32_t block;
    bool has_hidden; /* the pooler reads all of its rows: their hidden states are kept too */
    uint32_t rows[PR_CACHE_BLOCK_TOKENS]; /* of the batch */
} pr_cache_store;

typedef struct pr_batch_plan {
    int32_t *tokens;    /* [n_tokens + n_cached] */
    uint8_t *type_ids;  /* [n_tokens]; NULL: all 0 */
    uint32_t n_tokens;  /* rows that are computed */
    pr_segment *segments;
    uint32_t n_segments;
    pr_sequence *sequences;
    uint32_t n_sequences;
    uint32_t *cached_rows; /* [n_cached] row of the ranks' cache that row n_tokens + i is */
    uint32_t n_cached;
    pr_cache_store *stores;
    uint32_t n_stores;
} pr_batch_plan;

/* One request waiting. Borrowed. */
typedef struct pr_queued {
    const int32_t *tokens;
    const uint8_t *type_ids; /* NULL: all 0 */
    uint32_t n_tokens;       /* at least 1 */
    /* for a cache: */
    uint64_t salt;           /* requests of different salts share no cached rows */
    uint32_t n_reusable;     /* so many tokens may come from it: less than n_tokens, 0 with types */
    bool needs_hidden;       /* the pooler reads the hidden states of those too */
    bool is_kept;            /* what is computed of it may be kept for later ones */
    bool reads_all;          /* the pooler reads all of its rows: they can be kept as well */
} pr_queued;

typedef struct pr_batch_limits {
    uint32_t n_tokens_max;    /* token budget: rows of one forward pass, each counted once */
    uint32_t n_sequences_max;
    bool shares_prefixes;     /* a causal model: what requests begin with is computed once */
    uint32_t n_cached_max;    /* rows that a batch may take from the cache */
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
 * cache  of the ranks that will run the batch: what they hold already is not computed, and the
 *        plan says what they keep of this batch. The next batch may count on it: when this one
 *        does not succeed, the cache must be cleared. NULL: none.
 * out    owned by the caller, release with pr_batch_plan_free(); written only on PR_OK. Its
 *        sequences are the requests taken, in the queue's order, the first one always among them.
 * Fails  PR_E_TOO_LONG when queue[0] alone exceeds limits->n_tokens_max; PR_E_NOMEM. */
pr_status pr_batch_plan_build(const pr_queued *queue, size_t n_queue,
                              const pr_batch_limits *limits, pr_prefix_cache *cache,
                              pr_batch_plan **out, pr_error *err);
void pr_batch_plan_free(pr_batch_plan *plan);

/* Checks what the header states: runs in order without gaps (computed and cached ones each),
 * parents before children, positions that continue, leaves that contain the ends and are computed,
 * stored rows that exist. For plans that come from outside this module. Fails
 * PR_E_ARGUMENT with the segment's or sequence's index. */
pr_status pr_batch_plan_check(const pr_batch_plan *plan, pr_error *err);

#endif
