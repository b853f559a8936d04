#include "coordinator/fleet/fleet_batches.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

/* ---- out ---- */

/* A batch that must run alone waits for a group without work; those behind it wait too, so that
 * there will be one. */
static uint32_t deaths_of_next(const pr_fleet_state *s)
{
    bool is_alone = s->pending && pr_retry_is_alone(s->pending->n_deaths);
    return is_alone ? s->pending->n_deaths : 0;
}

/* The ready group with the fewest batches that has room for one with n_deaths. */
static pr_replica *replica_choose(const pr_fleet_state *s, uint32_t n_deaths)
{
    pr_replica *best = NULL;
    for (pr_replica *r = s->replicas; r; r = r->next) {
        if (!pr_group_has_room(r->group, n_deaths)) continue;
        if (!best || r->group->n_flights < best->group->n_flights) best = r;
    }
    return best;
}

/* The largest result that a batch can have. */
static size_t result_bytes_max(const pr_fleet_state *s, const pr_batch *b)
{
    uint64_t n_rows = 0;
    for (uint32_t i = 0; i < b->plan->n_sequences; i++) n_rows += b->plan->sequences[i].n_tokens;
    uint64_t bytes_max = (uint64_t)1 << 40, n_columns = s->rules.n_columns_max;
    return n_rows < bytes_max / 4 / n_columns ? (size_t)(n_rows * n_columns * 4) : bytes_max;
}

static pr_fleet_action *complete(pr_fleet_actions *out, pr_batch *b, pr_status st)
{
    pr_fleet_action *a = pr_fleet_want(out, PR_FLEET_COMPLETE);
    a->batch = b;
    a->status = st;
    return a;
}

static void complete_failed(pr_fleet_actions *out, pr_batch *b, pr_status st, const char *message)
{
    pr_fleet_action *a = complete(out, b, st);
    snprintf(a->text, sizeof a->text, "%s", message);
}

/* A send that fails ends the group, which takes the batch back: some ranks have it, some do not. */
static void batch_send(pr_fleet_state *s, pr_replica *r, pr_batch *b, uint64_t now_ms,
                       pr_fleet_actions *out)
{
    pr_group *g = r->group;
    pr_error err;
    pr_status st = pr_group_flight_add(g, b, result_bytes_max(s, b), now_ms, &err);
    if (st != PR_OK) {
        complete_failed(out, b, st, err.message);
        return;
    }
    pr_fleet_action *a = pr_fleet_want(out, PR_FLEET_SEND);
    a->group = g;
    a->message = PR_CONTROL_BATCH;
    a->batch = b;
    if (g->n_flights == 1) pr_fleet_tick_within(s, now_ms, s->rules.ping_ms);
}

/* Groups have run, and nobody has been there for too long. */
static bool is_out(const pr_fleet_state *s, uint64_t now_ms)
{
    return s->was_up && s->down_ms != 0 && now_ms - s->down_ms >= s->rules.start_ms;
}

static pr_batch *pending_pop(pr_fleet_state *s)
{
    pr_batch *b = s->pending;
    s->pending = b->next;
    b->next = NULL;
    return b;
}

static void pending_fail(pr_fleet_state *s, pr_fleet_actions *out)
{
    pr_fleet_action *a = complete(out, s->pending, s->is_over ? s->error.status : PR_E_UNAVAILABLE);
    s->pending = NULL;
    if (s->is_over) {
        snprintf(a->text, sizeof a->text, "%s", s->error.message);
    } else {
        snprintf(a->text, sizeof a->text,
                 "no replica group has been ready for %" PRId32 " s (--start-timeout)%s%s",
                 s->rules.start_timeout_s, s->last_reason[0] ? "; the last ended: " : "",
                 s->last_reason);
    }
}

static bool is_to_be_cut(const pr_batch *b)
{
    return b->n_deaths > 0 && pr_retry_decide(b->n_deaths, b->n_parts) == PR_RETRY_SPLIT;
}

bool pr_fleet_dispatch(pr_fleet_state *s, uint64_t now_ms, pr_fleet_actions *out)
{
    if (!s->pending) return false;
    if (s->is_over || is_out(s, now_ms)) {
        pending_fail(s, out);
        return true;
    }
    if (s->n_cut > 0) return false; /* its pieces are older than what waits */
    if (is_to_be_cut(s->pending)) {
        s->n_cut++;
        pr_fleet_want(out, PR_FLEET_CUT)->batch = pending_pop(s);
        return true;
    }
    pr_replica *r = replica_choose(s, deaths_of_next(s));
    if (!r) return false;
    batch_send(s, r, pending_pop(s), now_ms, out);
    return true;
}

bool pr_fleet_has_room(const pr_fleet_state *s, uint64_t now_ms)
{
    if (s->phase != PR_FLEET_RUNNING) return false;
    if (s->is_over || is_out(s, now_ms)) return true;
    return !s->pending && s->n_cut == 0 && replica_choose(s, 0) != NULL;
}

/* ---- back ---- */

void pr_fleet_take_in(pr_fleet_state *s, pr_batch *batch)
{
    pr_batch **last = &s->pending;
    while (*last) last = &(*last)->next;
    batch->next = NULL;
    *last = batch;
}

/* In front of what waits: they are older. */
static void pending_push(pr_fleet_state *s, pr_batch *first)
{
    pr_batch **last = &first;
    while (*last) last = &(*last)->next;
    *last = s->pending;
    s->pending = first;
}

/* A request that ended every group that it was given to: not "unavailable", which would have it
 * sent again. */
static void batch_give_up(pr_batch *b, const char *reason, pr_fleet_actions *out)
{
    pr_fleet_action *a = complete(out, b, PR_E_INTERNAL);
    snprintf(a->text, sizeof a->text,
             "%" PRIu32 " replica groups ended while they ran this request, the last while it ran "
             "alone: %s", b->n_deaths, reason);
}

size_t pr_fleet_take_back(pr_fleet_state *s, pr_batch *batches, const char *reason,
                          pr_fleet_actions *out)
{
    pr_batch *first = NULL, **last = &first;
    size_t n = 0;
    while (batches) {
        pr_batch *b = batches;
        batches = b->next;
        b->next = NULL;
        pr_retry verdict = pr_retry_decide(b->n_deaths, b->n_parts);
        if (verdict == PR_RETRY_FAIL) { /* one at most: it was alone */
            batch_give_up(b, reason, out);
            continue;
        }
        n += verdict == PR_RETRY_SPLIT ? b->n_parts : 1;
        *last = b;
        last = &b->next;
    }
    pending_push(s, first);
    return n;
}

void pr_fleet_take_pieces(pr_fleet_state *s, const pr_fleet_event *e, pr_fleet_actions *out)
{
    assert(s->n_cut > 0);
    s->n_cut--;
    if (e->status == PR_OK) {
        pending_push(s, e->batch);
    } else {
        complete_failed(out, e->batch, e->status, e->text);
    }
}

void pr_fleet_take_unsent(pr_replica *r, const pr_fleet_event *e, pr_fleet_actions *out)
{
    pr_batch *b = pr_group_flight_cancel(r->group);
    assert(b == e->batch);
    complete_failed(out, b, e->status, e->text);
}

pr_status pr_fleet_done(pr_replica *r, uint32_t rank, const pr_control_done *done, uint64_t now_ms,
                        pr_fleet_actions *out, pr_error *err)
{
    pr_batch *batch = NULL;
    pr_pooled pooled = {0};
    pr_status st = pr_group_done(r->group, rank, done, now_ms, &batch, &pooled, err);
    if (batch) complete(out, batch, PR_OK)->pooled = pooled;
    return st;
}

bool pr_fleet_is_idle(const pr_fleet_state *s)
{
    for (const pr_replica *r = s->replicas; r; r = r->next) {
        if (r->group->n_flights > 0) return false;
    }
    return !s->pending && s->n_cut == 0 && s->is_drained;
}
