/* runtime/plan/prefix_tree.h: which runs of tokens the requests of a batch have in common, as a
 * radix tree.
 *
 * A node is a run of positions of one request; the requests that go through it have the same tokens
 * and types there. Only runs of at least PR_PREFIX_SHARE_MIN tokens are shared: a shorter one saves
 * less than a segment of its own costs in attention. Equal requests are the caller's matter.
 *
 * Owns its arrays; borrows the requests' tokens. Pure; used by the batch planner. Matching costs
 * one look-up for each node on a request's path and one comparison of each shared token. */
#ifndef POOLRANK_RUNTIME_PLAN_PREFIX_TREE_H
#define POOLRANK_RUNTIME_PLAN_PREFIX_TREE_H

#include "runtime/plan/batch_plan.h"

#include <stdbool.h>
#include <stddef.h>

enum { PR_PREFIX_SHARE_MIN = 16 }; /* tokens */

typedef struct pr_prefix_node {
    uint32_t i_request;  /* whose tokens stand for the run */
    uint32_t begin, end; /* positions: [begin, end), begin is the parent's end */
    int32_t parent;      /* index of the node that it goes on from, -1: none; in no order */
    bool has_children;
    bool is_cached;      /* nobody computes it; the request's cached blocks say where it is */
    bool has_hidden;     /* of a cached one: hidden states are there too */
} pr_prefix_node;

typedef struct pr_prefix_tree {
    const pr_queued *queue; /* borrowed */
    pr_prefix_node *nodes;  /* [n_nodes] */
    uint32_t n_nodes;
    uint32_t *slots; /* open addressing by parent and first tokens: node + 1; 0: empty */
    size_t n_slots;  /* a power of two */
} pr_prefix_tree;

/* Where a request leaves the tree. */
typedef struct pr_prefix_match {
    int32_t node;      /* the last node on its path, -1: none */
    uint32_t n_shared; /* tokens on the path; the rest would be computed for it alone */
} pr_prefix_match;

/* queue: borrowed until deinit. n_max: most requests that will be added. Fails PR_E_NOMEM, after
 * which deinit is due as well. */
pr_status pr_prefix_tree_init(pr_prefix_tree *t, const pr_queued *queue, size_t n_max,
                              pr_error *err);
void pr_prefix_tree_deinit(pr_prefix_tree *t); /* safe on a zeroed struct */

pr_prefix_match pr_prefix_tree_match(const pr_prefix_tree *t, size_t i_request);

/* Adds a run of a request that is cached, from where it was just matched to position `end`. Returns
 * where the request leaves the tree now. */
pr_prefix_match pr_prefix_tree_add_cached(pr_prefix_tree *t, size_t i_request,
                                          pr_prefix_match match, uint32_t end, bool has_hidden);

/* Adds a request where it was just matched, nothing added in between. Returns a node whose path
 * begins with the request's: a later split may leave the request's end in an ancestor of it. */
uint32_t pr_prefix_tree_add(pr_prefix_tree *t, size_t i_request, pr_prefix_match match);

#endif
