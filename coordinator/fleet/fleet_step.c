#include "coordinator/fleet/fleet_step.h"

#include "coordinator/fleet/fleet_batches.h"
#include "coordinator/fleet/fleet_groups.h"
#include "coordinator/fleet/fleet_ranks.h"
#include "coordinator/fleet/fleet_state.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    LEAVE_MS = 5000, /* for ranks to leave when they are told to */
    LEAVE_TICK_MS = 1000
};

pr_status pr_fleet_state_create(const pr_fleet_rules *rules, uint64_t now_ms, pr_fleet_state **out,
                                pr_error *err)
{
    pr_fleet_state *s = calloc(1, sizeof *s);
    if (!s) return pr_error_nomem(err, "fleet", sizeof *s);
    s->rules = *rules;
    s->due_ms = s->down_ms = now_ms;
    size_t n_ranks = (size_t)rules->tp_size * rules->n_stages;
    s->dismissed = calloc(n_ranks, sizeof *s->dismissed);
    pr_status st = s->dismissed ? pr_fleet_groups_create(s, now_ms, err)
                                : pr_error_nomem(err, "links", n_ranks * sizeof *s->dismissed);
    if (st != PR_OK) {
        pr_fleet_state_free(s);
        return st;
    }
    *out = s;
    return PR_OK;
}

void pr_fleet_state_free(pr_fleet_state *s)
{
    if (!s) return;
    assert(!s->pending);
    assert(s->n_cut == 0);
    pr_fleet_replicas_free(s);
    free(s->dismissed);
    free(s);
}

uint64_t pr_fleet_due_ms(const pr_fleet_state *s)
{
    return s->due_ms;
}

bool pr_fleet_wants_batch(const pr_fleet_state *s, uint64_t now_ms)
{
    return pr_fleet_has_room(s, now_ms);
}

/* ---- what is left to do ---- */

/* True: there is more to do. */
static bool leave_check(pr_fleet_state *s, uint64_t now_ms, pr_fleet_actions *out)
{
    if (s->phase == PR_FLEET_RUNNING) {
        if (!s->is_stopping || !pr_fleet_is_idle(s) || !pr_fleet_groups_may_leave(s)) return false;
        s->phase = PR_FLEET_LEAVING;
        s->leave_ms = now_ms;
        pr_fleet_tick_within(s, now_ms, LEAVE_TICK_MS);
        pr_fleet_strangers_dismiss(s, out);
        pr_fleet_round_begin(s, PR_FLEET_SEND_AWAY);
        return true;
    }
    if (!pr_fleet_groups_are_gone(s)) return false;
    s->phase = PR_FLEET_CLOSED;
    pr_fleet_want(out, PR_FLEET_CLOSE);
    return false;
}

static bool next_step(pr_fleet_state *s, uint64_t now_ms, pr_fleet_actions *out)
{
    if (s->turn) {
        pr_fleet_round_step(s, now_ms, out);
        return true;
    }
    return pr_fleet_dispatch(s, now_ms, out) || leave_check(s, now_ms, out);
}

/* ---- what happens ---- */

static void tick(pr_fleet_state *s, uint64_t now_ms, pr_fleet_actions *out)
{
    s->due_ms = UINT64_MAX;
    if (s->phase == PR_FLEET_RUNNING) {
        pr_fleet_outage_check(s, now_ms, out);
        pr_fleet_replicas_sweep(s);
        pr_fleet_round_begin(s, PR_FLEET_WATCH);
        return;
    }
    s->due_ms = now_ms + LEAVE_TICK_MS;
    if (now_ms - s->leave_ms < LEAVE_MS) return;
    pr_fleet_round_begin(s, PR_FLEET_END);
    pr_fleet_want(out, PR_FLEET_KILL_ALL);
}

static void launcher_ended(pr_fleet_state *s, pr_replica *r, const pr_fleet_event *e,
                           uint64_t now_ms, pr_fleet_actions *out)
{
    assert(s->n_launchers > 0);
    s->n_launchers--;
    if (!r || !r->has_launcher) return;
    r->has_launcher = false;
    if (s->phase != PR_FLEET_RUNNING) return;
    bool is_start = e->kind == PR_FLEET_LAUNCH_FAILED;
    pr_fleet_group_end(s, r, is_start ? e->status : PR_E_UNAVAILABLE, e->text, now_ms, out);
}

static void unpacked(pr_fleet_state *s, pr_replica *r, const pr_fleet_event *e, uint64_t now_ms,
                     pr_fleet_actions *out)
{
    if (e->batch) {
        pr_fleet_take_unsent(r, e, out);
    } else {
        pr_fleet_group_end(s, r, e->status, e->text, now_ms, out);
    }
}

/* r: the group of the event's epoch, NULL if that start is over. */
static void happen_to(pr_fleet_state *s, pr_replica *r, const pr_fleet_event *e, uint64_t now_ms,
                      pr_fleet_actions *out)
{
    switch (e->kind) {
    case PR_FLEET_MESSAGE:
        pr_fleet_message_take(s, r, e->rank, e->message, now_ms, out);
        break;
    case PR_FLEET_LINK_ENDED:
        pr_fleet_rank_gone(s, r, e->rank, e->text, now_ms, out);
        break;
    case PR_FLEET_UNSENT:
        pr_fleet_rank_fail(s, r, e->rank, e->status, e->text, now_ms, out);
        break;
    case PR_FLEET_UNPACKED:
        unpacked(s, r, e, now_ms, out);
        break;
    case PR_FLEET_WORDS:
        if (r->is_asked_words) pr_fleet_words_take(s, r, e->text, now_ms, out);
        break;
    default:
        assert(!"an event of a group");
    }
}

static void happen(pr_fleet_state *s, const pr_fleet_event *e, uint64_t now_ms,
                   pr_fleet_actions *out)
{
    pr_replica *r = e->epoch ? pr_fleet_replica_of(s, e->epoch) : NULL;
    switch (e->kind) {
    case PR_FLEET_TICK:
        tick(s, now_ms, out);
        break;
    case PR_FLEET_CONNECTED:
        pr_fleet_stranger_comes(s, e->link, out);
        break;
    case PR_FLEET_JOINED:
        pr_fleet_stranger_joins(s, e, now_ms, out);
        break;
    case PR_FLEET_STRANGER_ENDED:
        pr_fleet_stranger_ended(s, e, out);
        break;
    case PR_FLEET_LAUNCH_FAILED:
    case PR_FLEET_LAUNCHER_ENDED:
        launcher_ended(s, r, e, now_ms, out);
        break;
    case PR_FLEET_BATCH:
        pr_fleet_take_in(s, e->batch);
        break;
    case PR_FLEET_CUT_UP:
        pr_fleet_take_pieces(s, e, out);
        break;
    case PR_FLEET_DRAINED:
        s->is_drained = true;
        break;
    case PR_FLEET_CANCEL:
        if (!s->was_up) pr_fleet_fail(s, PR_E_CANCELLED, "cancelled", out);
        break;
    case PR_FLEET_STOP:
        s->is_stopping = true;
        break;
    default:
        if (r) happen_to(s, r, e, now_ms, out);
    }
}

bool pr_fleet_step(pr_fleet_state *s, const pr_fleet_event *e, uint64_t now_ms,
                   pr_fleet_actions *out)
{
    out->n = 0;
    if (s->phase == PR_FLEET_CLOSED) return false;
    if (e->kind == PR_FLEET_NEXT) return next_step(s, now_ms, out);
    happen(s, e, now_ms, out);
    return true;
}
