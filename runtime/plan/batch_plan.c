#include "runtime/plan/batch_plan.h"

#include "runtime/plan/cache_stores.h"
#include "runtime/plan/prefix_tree.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* FNV-1a over the ids: only finds candidates, equality (types too) is checked. */
static uint64_t queued_hash(const pr_queued *q)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (uint32_t i = 0; i < q->n_tokens; i++) {
        h = (h ^ (uint32_t)q->tokens[i]) * 0x100000001B3u;
    }
    return h ^ (h >> 29);
}

static bool types_equal(const uint8_t *a, const uint8_t *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if ((a ? a[i] : 0) != (b ? b[i] : 0)) return false;
    }
    return true;
}

static bool queued_equal(const pr_queued *a, const pr_queued *b)
{
    return a->n_tokens == b->n_tokens &&
           memcmp(a->tokens, b->tokens, a->n_tokens * sizeof *a->tokens) == 0 &&
           types_equal(a->type_ids, b->type_ids, a->n_tokens);
}

/* Requests already placed, by content: open addressing over indices of the queue. */
typedef struct seen {
    uint32_t *slots; /* request + 1; 0: empty */
    size_t n_slots;  /* power of two, at least twice the requests */
} seen;

/* The slot of the earlier request that equals queue[i], or the empty one where i goes. */
static uint32_t *seen_slot(const seen *s, const pr_queued *queue, size_t i)
{
    size_t at = queued_hash(&queue[i]) & (s->n_slots - 1);
    while (s->slots[at] && !queued_equal(&queue[s->slots[at] - 1], &queue[i])) {
        at = (at + 1) & (s->n_slots - 1);
    }
    return &s->slots[at];
}

/* What a walk over the queue decided. */
typedef struct choice {
    const pr_queued *queue;
    pr_batch_limits limits;
    pr_prefix_cache *cache; /* NULL: none */
    seen seen;
    pr_prefix_tree tree;
    pr_sequence *taken;    /* [n_taken]; leaf_segment is a node of the tree until it is laid out */
    uint32_t n_taken;
    uint32_t *node_of;     /* [n_queue] of the requests that were taken */
    uint32_t **chain_of;   /* [n_queue] owned: cached blocks of those that brought a cached run */
    uint32_t *chain;       /* [n_chain_max] of the request that is looked at */
    uint32_t n_chain_max;
    uint32_t n_tokens;     /* computed rows of the batch so far */
    uint32_t n_cached;     /* rows that come from the cache */
    bool has_types;
} choice;

static pr_status choice_init(choice *c, const pr_queued *queue, size_t n_queue,
                             const pr_batch_limits *limits, pr_prefix_cache *cache, pr_error *err)
{
    *c = (choice){.queue = queue, .limits = *limits, .cache = cache, .seen.n_slots = 16};
    while (c->seen.n_slots < 2 * n_queue) c->seen.n_slots *= 2;
    c->seen.slots = calloc(c->seen.n_slots, sizeof *c->seen.slots);
    c->taken = malloc(n_queue * sizeof *c->taken);
    c->node_of = malloc(n_queue * sizeof *c->node_of);
    c->chain_of = calloc(n_queue, sizeof *c->chain_of);
    c->n_chain_max = limits->n_cached_max / PR_CACHE_BLOCK_TOKENS;
    c->chain = malloc((c->n_chain_max + 1) * sizeof *c->chain);
    if (!c->seen.slots || !c->taken || !c->node_of || !c->chain_of || !c->chain) {
        return pr_error_nomem(err, "batch plan", c->seen.n_slots * sizeof *c->seen.slots);
    }
    return pr_prefix_tree_init(&c->tree, queue, n_queue, err);
}

static void choice_deinit(choice *c, size_t n_queue)
{
    for (size_t i = 0; c->chain_of && i < n_queue; i++) free(c->chain_of[i]);
    free(c->seen.slots);
    free(c->taken);
    free(c->node_of);
    free(c->chain_of);
    free(c->chain);
    pr_prefix_tree_deinit(&c->tree);
}

/* ---- what the cache has of a request ---- */

typedef struct cached_run {
    uint32_t n_blocks; /* of c->chain */
    uint32_t end;      /* tokens; 0: none that is of use */
    bool has_hidden;
} cached_run;

/* Beyond what the batch has already, m: at least what is worth a segment, and within the bound on
 * cached rows. */
static cached_run cached_find(choice *c, const pr_queued *q, pr_prefix_match m)
{
    cached_run run = {.has_hidden = true};
    if (!c->cache || !c->limits.shares_prefixes) return run;
    pr_cache_walk walk = pr_prefix_cache_root(q->salt);
    uint32_t room = c->limits.n_cached_max - c->n_cached + m.n_shared;
    while (run.n_blocks < c->n_chain_max) {
        uint32_t end = (run.n_blocks + 1) * PR_CACHE_BLOCK_TOKENS;
        if (end > q->n_reusable || end > room) break;
        int32_t i = pr_prefix_cache_find(c->cache, &walk, q->tokens + end - PR_CACHE_BLOCK_TOKENS,
                                         q->needs_hidden);
        if (i < 0) break;
        c->chain[run.n_blocks++] = (uint32_t)i;
        run.has_hidden = run.has_hidden && pr_prefix_cache_has_hidden(c->cache, (uint32_t)i);
        run.end = end;
    }
    if (run.end < m.n_shared + PR_PREFIX_SHARE_MIN) run.end = 0;
    return run;
}

/* False: no memory to remember it; the tokens are computed then. */
static bool cached_add(choice *c, size_t i, const cached_run *run, pr_prefix_match *m)
{
    c->chain_of[i] = malloc(run->n_blocks * sizeof *c->chain);
    if (!c->chain_of[i]) return false;
    memcpy(c->chain_of[i], c->chain, run->n_blocks * sizeof *c->chain);
    c->n_cached += run->end - m->n_shared;
    *m = pr_prefix_tree_add_cached(&c->tree, i, *m, run->end, run->has_hidden);
    return true;
}

/* ---- which requests ---- */

/* A request that nobody equals; false: it does not fit. */
static bool choose_new(choice *c, size_t i, bool is_rider)
{
    const pr_queued *q = &c->queue[i];
    pr_prefix_match m = {.node = -1};
    if (c->limits.shares_prefixes) m = pr_prefix_tree_match(&c->tree, i);
    cached_run run = cached_find(c, q, m);
    uint32_t n_known = run.end > m.n_shared ? run.end : m.n_shared;
    uint32_t n_room = c->limits.n_tokens_max - c->n_tokens;
    if (is_rider && n_known < q->n_tokens - n_known) return false;
    if (q->n_tokens - n_known > n_room) return false;
    if (run.end > 0 && !cached_add(c, i, &run, &m) && q->n_tokens - m.n_shared > n_room) {
        return false;
    }
    c->node_of[i] = pr_prefix_tree_add(&c->tree, i, m);
    c->n_tokens += q->n_tokens - m.n_shared;
    c->has_types = c->has_types || q->type_ids;
    return true;
}

/* Whether request i is in the batch now. is_rider: others before it did not fit. */
static bool choose(choice *c, size_t i, bool is_rider)
{
    assert(c->queue[i].n_tokens > 0);
    uint32_t *slot = seen_slot(&c->seen, c->queue, i);
    if (*slot) {
        c->node_of[i] = c->node_of[*slot - 1];
    } else if (choose_new(c, i, is_rider)) {
        *slot = (uint32_t)i + 1;
    } else {
        return false;
    }
    c->taken[c->n_taken++] = (pr_sequence){.leaf_segment = c->node_of[i],
                                           .n_tokens = c->queue[i].n_tokens,
                                           .i_request = (uint32_t)i};
    return true;
}

static void choose_all(choice *c, size_t n_queue)
{
    bool is_rider = false;
    for (size_t i = 0; i < n_queue && c->n_taken < c->limits.n_sequences_max; i++) {
        if (!choose(c, i, is_rider)) is_rider = true;
    }
}

/* ---- the plan of those that were chosen ---- */

static uint32_t cached_row(const uint32_t *chain, uint32_t position)
{
    return chain[position / PR_CACHE_BLOCK_TOKENS] * PR_CACHE_BLOCK_TOKENS +
           position % PR_CACHE_BLOCK_TOKENS;
}

/* Where a run's tokens go: the next computed rows, or the next cached ones. */
static uint32_t rows_append(pr_batch_plan *plan, const choice *c, const pr_prefix_node *node)
{
    const pr_queued *q = &c->queue[node->i_request];
    uint32_t n = node->end - node->begin, row = plan->n_tokens;
    if (node->is_cached) {
        row = c->n_tokens + plan->n_cached;
        for (uint32_t i = node->begin; i < node->end; i++) {
            plan->cached_rows[plan->n_cached++] = cached_row(c->chain_of[node->i_request], i);
        }
    } else {
        if (q->type_ids) memcpy(plan->type_ids + row, q->type_ids + node->begin, n);
        plan->n_tokens += n;
    }
    memcpy(plan->tokens + row, q->tokens + node->begin, n * sizeof *q->tokens);
    return row;
}

/* Appends the run of a node, whose parent has its segment. */
static void segment_append(pr_batch_plan *plan, const choice *c, uint32_t i_node,
                           uint32_t *segment_of)
{
    const pr_prefix_node *node = &c->tree.nodes[i_node];
    segment_of[i_node] = plan->n_segments;
    plan->segments[plan->n_segments++] = (pr_segment){
        .token_begin = rows_append(plan, c, node), .token_count = node->end - node->begin,
        .position_begin = node->begin,
        .parent = node->parent < 0 ? -1 : (int32_t)segment_of[node->parent]};
}

/* Segments in the order of the nodes, each behind its ancestors. path, segment_of: [n_nodes]. */
static void segments_lay_out(pr_batch_plan *plan, const choice *c, uint32_t *path,
                             uint32_t *segment_of)
{
    for (uint32_t i = 0; i < c->tree.n_nodes; i++) segment_of[i] = UINT32_MAX;
    for (uint32_t i = 0; i < c->tree.n_nodes; i++) {
        uint32_t n_path = 0;
        for (int32_t at = (int32_t)i; at >= 0 && segment_of[at] == UINT32_MAX;
             at = c->tree.nodes[at].parent) {
            path[n_path++] = (uint32_t)at;
        }
        while (n_path > 0) segment_append(plan, c, path[--n_path], segment_of);
    }
}

static void sequences_lay_out(pr_batch_plan *plan, const choice *c, const uint32_t *segment_of)
{
    for (uint32_t i = 0; i < c->n_taken; i++) {
        pr_sequence q = c->taken[i];
        q.leaf_segment = segment_of[q.leaf_segment];
        /* Where a later request split the run that this one ends in. */
        while (q.n_tokens <= plan->segments[q.leaf_segment].position_begin) {
            q.leaf_segment = (uint32_t)plan->segments[q.leaf_segment].parent;
        }
        plan->sequences[plan->n_sequences++] = q;
    }
}

static pr_status lay_out(const choice *c, pr_batch_plan **out, pr_error *err)
{
    uint32_t n_nodes = c->tree.n_nodes, n_rows = c->n_tokens + c->n_cached;
    uint32_t *path = malloc(n_nodes * sizeof *path);
    uint32_t *segment_of = malloc(n_nodes * sizeof *segment_of);
    pr_batch_plan *plan = calloc(1, sizeof *plan);
    pr_status st = PR_OK;
    if (plan) {
        plan->tokens = malloc(n_rows * sizeof *plan->tokens);
        plan->type_ids = c->has_types ? calloc(c->n_tokens, 1) : NULL;
        plan->segments = malloc(n_nodes * sizeof *plan->segments);
        plan->sequences = malloc(c->n_taken * sizeof *plan->sequences);
        plan->cached_rows = malloc((c->n_cached + 1) * sizeof *plan->cached_rows);
    }
    if (!path || !segment_of || !plan || !plan->tokens || !plan->segments || !plan->sequences ||
        !plan->cached_rows || (c->has_types && !plan->type_ids)) {
        st = pr_error_nomem(err, "batch plan", n_rows * sizeof *plan->tokens);
        goto cleanup;
    }
    segments_lay_out(plan, c, path, segment_of);
    sequences_lay_out(plan, c, segment_of);
    *out = plan;
    plan = NULL;
cleanup:
    free(path);
    free(segment_of);
    pr_batch_plan_free(plan);
    return st;
}

pr_status pr_batch_plan_build(const pr_queued *queue, size_t n_queue,
                              const pr_batch_limits *limits, pr_prefix_cache *cache,
                              pr_batch_plan **out, pr_error *err)
{
    assert(queue && n_queue > 0);
    assert(limits->n_tokens_max > 0 && limits->n_sequences_max > 0);
    if (queue[0].n_tokens > limits->n_tokens_max) {
        return pr_error_set(err, PR_E_TOO_LONG,
                            "%u tokens, more than the token budget of a batch, %u "
                            "(--max-num-batched-tokens)",
                            queue[0].n_tokens, limits->n_tokens_max);
    }
    choice c;
    pr_batch_plan *plan = NULL;
    pr_status st = choice_init(&c, queue, n_queue, limits, cache, err);
    if (st == PR_OK) {
        if (cache) pr_prefix_cache_begin(cache);
        choose_all(&c, n_queue);
        st = lay_out(&c, &plan, err);
    }
    if (st == PR_OK && cache && limits->shares_prefixes) {
        uint32_t n_max = (limits->n_tokens_max + limits->n_cached_max) / PR_CACHE_BLOCK_TOKENS;
        st = pr_cache_stores_plan(plan, queue, n_max, cache, err);
    }
    choice_deinit(&c, n_queue);
    if (st != PR_OK) {
        pr_batch_plan_free(plan);
        return st;
    }
    *out = plan;
    return PR_OK;
}

void pr_batch_plan_free(pr_batch_plan *plan)
{
    if (!plan) return;
    free(plan->tokens);
    free(plan->type_ids);
    free(plan->segments);
    free(plan->sequences);
    free(plan->cached_rows);
    free(plan->stores);
    free(plan);
}

static pr_status segments_check(const pr_batch_plan *plan, pr_error *err)
{
    uint32_t n_rows = plan->n_tokens + plan->n_cached;
    uint32_t next[] = {0, plan->n_tokens}, end[] = {plan->n_tokens, n_rows}; /* computed, cached */
    for (uint32_t i = 0; i < plan->n_segments; i++) {
        const pr_segment *s = &plan->segments[i];
        int kind = s->token_begin >= plan->n_tokens;
        if (s->token_count == 0) return pr_error_set(err, PR_E_ARGUMENT, "segment %u: is empty", i);
        if (s->token_begin != next[kind] || s->token_count > end[kind] - next[kind]) {
            return pr_error_set(err, PR_E_ARGUMENT,
                                "segment %u: rows from %u, found %u, expected %u", i,
                                s->token_count, s->token_begin, next[kind]);
        }
        next[kind] += s->token_count;
        if (s->parent < -1 || s->parent >= (int32_t)i) {
            return pr_error_set(err, PR_E_ARGUMENT,
                                "segment %u: parent %d, expected an earlier segment or -1", i,
                                s->parent);
        }
        const pr_segment *p = s->parent < 0 ? NULL : &plan->segments[s->parent];
        uint32_t position = p ? p->position_begin + p->token_count : 0;
        if (s->position_begin != position) {
            return pr_error_set(err, PR_E_ARGUMENT, "segment %u: position %u, expected %u", i,
                                s->position_begin, position);
        }
    }
    if (next[0] == end[0] && next[1] == end[1]) return PR_OK;
    return pr_error_set(err, PR_E_ARGUMENT, "segments cover %u of %u tokens",
                        next[0] + next[1] - plan->n_tokens, n_rows);
}

static pr_status stores_check(const pr_batch_plan *plan, pr_error *err)
{
    uint32_t n_rows = plan->n_tokens + plan->n_cached;
    for (uint32_t i = 0; i < plan->n_stores; i++) {
        for (uint32_t j = 0; j < PR_CACHE_BLOCK_TOKENS; j++) {
            if (plan->stores[i].rows[j] < n_rows) continue;
            return pr_error_set(err, PR_E_ARGUMENT, "stored block %u: row %u of %u", i,
                                plan->stores[i].rows[j], n_rows);
        }
    }
    return PR_OK;
}

pr_status pr_batch_plan_check(const pr_batch_plan *plan, pr_error *err)
{
    if (plan->n_cached > UINT32_MAX - plan->n_tokens) {
        return pr_error_set(err, PR_E_ARGUMENT, "%u cached rows", plan->n_cached);
    }
    pr_status st = segments_check(plan, err);
    if (st == PR_OK) st = stores_check(plan, err);
    if (st != PR_OK) return st;
    for (uint32_t i = 0; i < plan->n_sequences; i++) {
        const pr_sequence *q = &plan->sequences[i];
        if (q->leaf_segment >= plan->n_segments) {
            return pr_error_set(err, PR_E_ARGUMENT, "sequence %u: leaf %u of %u segments", i,
                                q->leaf_segment, plan->n_segments);
        }
        const pr_segment *s = &plan->segments[q->leaf_segment];
        if (q->n_tokens <= s->position_begin ||
            q->n_tokens > s->position_begin + s->token_count) {
            return pr_error_set(err, PR_E_ARGUMENT,
                                "sequence %u: ends at position %u, outside its leaf", i,
                                q->n_tokens);
        }
        if (s->token_begin >= plan->n_tokens) {
            return pr_error_set(err, PR_E_ARGUMENT, "sequence %u: its end is not computed", i);
        }
    }
    return PR_OK;
}
