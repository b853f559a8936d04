#include "runtime/plan/batch_plan.h"

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

/* The earlier request that equals queue[i], or i itself, which is then remembered. */
static size_t seen_find_or_add(seen *s, const pr_queued *queue, size_t i)
{
    size_t at = queued_hash(&queue[i]) & (s->n_slots - 1);
    for (; s->slots[at]; at = (at + 1) & (s->n_slots - 1)) {
        size_t other = s->slots[at] - 1;
        if (queued_equal(&queue[other], &queue[i])) return other;
    }
    s->slots[at] = (uint32_t)i + 1;
    return i;
}

/* What a walk over the front of the queue decided. */
typedef struct choice {
    uint32_t *segment_of; /* [n_taken]: segment that request i ends */
    size_t n_taken;
    uint32_t n_segments;
    uint32_t n_tokens;
    bool has_types;
} choice;

static pr_status choose(const pr_queued *queue, size_t n_queue, const pr_batch_limits *limits,
                        choice *c, pr_error *err)
{
    size_t n_max = n_queue < limits->n_sequences_max ? n_queue : limits->n_sequences_max;
    seen s = {.n_slots = 16};
    while (s.n_slots < 2 * n_max) s.n_slots *= 2;
    s.slots = calloc(s.n_slots, sizeof *s.slots);
    c->segment_of = malloc(n_max * sizeof *c->segment_of);
    if (!s.slots || !c->segment_of) {
        free(s.slots);
        return pr_error_nomem(err, "batch plan", s.n_slots * sizeof *s.slots);
    }
    for (size_t i = 0; i < n_max; i++) {
        assert(queue[i].n_tokens > 0);
        size_t same = seen_find_or_add(&s, queue, i);
        if (same != i) {
            c->segment_of[i] = c->segment_of[same];
        } else {
            if (queue[i].n_tokens > limits->n_tokens_max - c->n_tokens) break;
            c->segment_of[i] = c->n_segments++;
            c->n_tokens += queue[i].n_tokens;
            c->has_types = c->has_types || queue[i].type_ids;
        }
        c->n_taken = i + 1;
    }
    free(s.slots);
    return PR_OK;
}

static void lay_out(pr_batch_plan *plan, const pr_queued *queue, const choice *c)
{
    for (size_t i = 0; i < c->n_taken; i++) {
        uint32_t segment = c->segment_of[i];
        const pr_queued *q = &queue[i];
        plan->sequences[i] = (pr_sequence){
            .leaf_segment = segment, .n_tokens = q->n_tokens, .i_request = (uint32_t)i};
        if (segment < plan->n_segments) continue; /* an equal request laid it out */
        plan->segments[plan->n_segments++] = (pr_segment){
            .token_begin = plan->n_tokens, .token_count = q->n_tokens, .parent = -1};
        memcpy(plan->tokens + plan->n_tokens, q->tokens, q->n_tokens * sizeof *q->tokens);
        if (q->type_ids) memcpy(plan->type_ids + plan->n_tokens, q->type_ids, q->n_tokens);
        plan->n_tokens += q->n_tokens;
    }
    plan->n_sequences = (uint32_t)c->n_taken;
}

pr_status pr_batch_plan_build(const pr_queued *queue, size_t n_queue,
                              const pr_batch_limits *limits, size_t *n_taken,
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
    choice c = {0};
    pr_batch_plan *plan = NULL;
    pr_status st = choose(queue, n_queue, limits, &c, err);
    if (st != PR_OK) goto cleanup;
    plan = calloc(1, sizeof *plan);
    if (plan) {
        plan->tokens = malloc(c.n_tokens * sizeof *plan->tokens);
        plan->type_ids = c.has_types ? calloc(c.n_tokens, 1) : NULL;
        plan->segments = malloc(c.n_segments * sizeof *plan->segments);
        plan->sequences = malloc(c.n_taken * sizeof *plan->sequences);
    }
    if (!plan || !plan->tokens || !plan->segments || !plan->sequences ||
        (c.has_types && !plan->type_ids)) {
        st = pr_error_nomem(err, "batch plan", c.n_tokens * sizeof *plan->tokens);
        goto cleanup;
    }
    lay_out(plan, queue, &c);
    *n_taken = c.n_taken;
    *out = plan;
    plan = NULL;
cleanup:
    free(c.segment_of);
    pr_batch_plan_free(plan);
    return st;
}

void pr_batch_plan_free(pr_batch_plan *plan)
{
    if (!plan) return;
    free(plan->tokens);
    free(plan->type_ids);
    free(plan->segments);
    free(plan->sequences);
    free(plan);
}

static pr_status segments_check(const pr_batch_plan *plan, pr_error *err)
{
    uint32_t row = 0;
    for (uint32_t i = 0; i < plan->n_segments; i++) {
        const pr_segment *s = &plan->segments[i];
        if (s->token_count == 0) return pr_error_set(err, PR_E_ARGUMENT, "segment %u: is empty", i);
        if (s->token_begin != row || s->token_count > plan->n_tokens - row) {
            return pr_error_set(err, PR_E_ARGUMENT,
                                "segment %u: rows from %u, found %u, expected %u", i,
                                s->token_count, s->token_begin, row);
        }
        row += s->token_count;
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
    if (row != plan->n_tokens) {
        return pr_error_set(err, PR_E_ARGUMENT, "segments cover %u of %u tokens", row,
                            plan->n_tokens);
    }
    return PR_OK;
}

pr_status pr_batch_plan_check(const pr_batch_plan *plan, pr_error *err)
{
    pr_status st = segments_check(plan, err);
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
    }
    return PR_OK;
}
