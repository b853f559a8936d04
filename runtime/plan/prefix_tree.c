#include "runtime/plan/prefix_tree.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { NO_NODE = -1 };

pr_status pr_prefix_tree_init(pr_prefix_tree *t, const pr_queued *queue, size_t n_max,
                              pr_error *err)
{
    /* A request adds one node for its end, one for what is cached of it, and where it leaves a run
     * half way one for the half. */
    size_t n_nodes_max = 3 * n_max;
    *t = (pr_prefix_tree){.queue = queue, .n_slots = 16};
    while (t->n_slots < 2 * n_nodes_max) t->n_slots *= 2;
    t->nodes = malloc(n_nodes_max * sizeof *t->nodes);
    t->slots = calloc(t->n_slots, sizeof *t->slots);
    if (t->nodes && t->slots) return PR_OK;
    return pr_error_nomem(err, "prefix tree", n_nodes_max * sizeof *t->nodes);
}

void pr_prefix_tree_deinit(pr_prefix_tree *t)
{
    free(t->nodes);
    free(t->slots);
    *t = (pr_prefix_tree){0};
}

/* FNV-1a over the parent and the first tokens of a run: finds candidates, equality is checked. */
static size_t run_hash(const pr_prefix_tree *t, int32_t parent, const pr_queued *q, uint32_t begin)
{
    uint64_t h = (0xCBF29CE484222325u ^ (uint32_t)parent) * 0x100000001B3u;
    for (uint32_t i = begin; i < begin + PR_PREFIX_SHARE_MIN; i++) {
        h = (h ^ (uint32_t)q->tokens[i]) * 0x100000001B3u;
    }
    return (size_t)(h ^ (h >> 29)) & (t->n_slots - 1);
}

static bool is_same_at(const pr_queued *a, const pr_queued *b, uint32_t position)
{
    return a->tokens[position] == b->tokens[position] &&
           (a->type_ids ? a->type_ids[position] : 0) == (b->type_ids ? b->type_ids[position] : 0);
}

/* How many tokens of the node's run the request goes along with. */
static uint32_t run_common(const pr_prefix_tree *t, const pr_prefix_node *node, const pr_queued *q)
{
    const pr_queued *other = &t->queue[node->i_request];
    uint32_t end = node->end < q->n_tokens ? node->end : q->n_tokens, at = node->begin;
    while (at < end && is_same_at(other, q, at)) at++;
    return at - node->begin;
}

/* How many of the common tokens can be shared: all; of a cached run no more than the request may
 * reuse; and where the request goes on by itself inside the run of a node with children, so many
 * that what is left of the run stays long enough to be found. 0 if that is too little. */
static uint32_t run_usable(const pr_prefix_node *node, uint32_t n_common, const pr_queued *q)
{
    uint32_t n = node->end - node->begin, most = n_common;
    if (node->is_cached) {
        if (q->needs_hidden && !node->has_hidden) return 0;
        uint32_t n_left = q->n_reusable > node->begin ? q->n_reusable - node->begin : 0;
        if (most > n_left) most = n_left;
    }
    bool is_split = most < n && node->begin + most < q->n_tokens;
    if (is_split && node->has_children && n - most < PR_PREFIX_SHARE_MIN) {
        most = n > PR_PREFIX_SHARE_MIN ? n - PR_PREFIX_SHARE_MIN : 0;
    }
    return most < PR_PREFIX_SHARE_MIN ? 0 : most;
}

/* The child of `parent` whose run the request can share most of from position `begin` on;
 * *n_usable: how much. NO_NODE: none. */
static int32_t child_find(const pr_prefix_tree *t, int32_t parent, const pr_queued *q,
                          uint32_t begin, uint32_t *n_usable)
{
    int32_t best = NO_NODE;
    *n_usable = 0;
    if (q->n_tokens - begin < PR_PREFIX_SHARE_MIN) return best;
    size_t at = run_hash(t, parent, q, begin);
    for (; t->slots[at]; at = (at + 1) & (t->n_slots - 1)) {
        const pr_prefix_node *node = &t->nodes[t->slots[at] - 1];
        if (node->parent != parent) continue;
        uint32_t n = run_usable(node, run_common(t, node, q), q);
        if (n <= *n_usable) continue;
        *n_usable = n;
        best = (int32_t)t->slots[at] - 1;
    }
    return best;
}

pr_prefix_match pr_prefix_tree_match(const pr_prefix_tree *t, size_t i_request)
{
    const pr_queued *q = &t->queue[i_request];
    pr_prefix_match m = {.node = NO_NODE};
    bool is_whole = true; /* the run of m.node */
    while (is_whole) {
        uint32_t n_usable;
        int32_t child = child_find(t, m.node, q, m.n_shared, &n_usable);
        if (child == NO_NODE) break;
        m.node = child;
        m.n_shared += n_usable;
        is_whole = m.n_shared == t->nodes[child].end;
    }
    return m;
}

/* The slot that holds a node, or the empty one where it goes. */
static uint32_t *slot_of(pr_prefix_tree *t, uint32_t i_node)
{
    const pr_prefix_node *node = &t->nodes[i_node];
    size_t at = run_hash(t, node->parent, &t->queue[node->i_request], node->begin);
    while (t->slots[at] && t->slots[at] != i_node + 1) at = (at + 1) & (t->n_slots - 1);
    return &t->slots[at];
}

/* A run that is too short to be shared is not found again. */
static void node_enter(pr_prefix_tree *t, uint32_t i_node)
{
    const pr_prefix_node *node = &t->nodes[i_node];
    if (node->end - node->begin >= PR_PREFIX_SHARE_MIN) *slot_of(t, i_node) = i_node + 1;
}

/* Cuts the run of a node at a position inside it: the beginning becomes a new node, its parent. */
static uint32_t node_split(pr_prefix_tree *t, uint32_t i_node, uint32_t position)
{
    pr_prefix_node *node = &t->nodes[i_node];
    assert(position - node->begin >= PR_PREFIX_SHARE_MIN && position < node->end);
    uint32_t i_upper = t->n_nodes++;
    *slot_of(t, i_node) = i_upper + 1; /* it begins with the same tokens */
    t->nodes[i_upper] = *node;
    t->nodes[i_upper].end = position;
    t->nodes[i_upper].has_children = true;
    node->begin = position;
    node->parent = (int32_t)i_upper;
    node_enter(t, i_node);
    return i_upper;
}

/* A node for positions [match.n_shared, end) of the request. */
static uint32_t run_add(pr_prefix_tree *t, size_t i_request, pr_prefix_match m, uint32_t end)
{
    if (m.node != NO_NODE && m.n_shared < t->nodes[m.node].end) {
        m.node = (int32_t)node_split(t, (uint32_t)m.node, m.n_shared);
    }
    if (m.node != NO_NODE) t->nodes[m.node].has_children = true;
    uint32_t i = t->n_nodes++;
    t->nodes[i] = (pr_prefix_node){
        .i_request = (uint32_t)i_request, .begin = m.n_shared, .end = end, .parent = m.node};
    node_enter(t, i);
    return i;
}

pr_prefix_match pr_prefix_tree_add_cached(pr_prefix_tree *t, size_t i_request, pr_prefix_match m,
                                          uint32_t end, bool has_hidden)
{
    uint32_t i = run_add(t, i_request, m, end);
    t->nodes[i].is_cached = true;
    t->nodes[i].has_hidden = has_hidden;
    return (pr_prefix_match){(int32_t)i, end};
}

uint32_t pr_prefix_tree_add(pr_prefix_tree *t, size_t i_request, pr_prefix_match m)
{
    uint32_t n = t->queue[i_request].n_tokens;
    if (m.n_shared == n) return (uint32_t)m.node; /* it begins another request */
    return run_add(t, i_request, m, n);
}
