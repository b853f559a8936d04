#include "coordinator/fleet/fleet_ranks.h"

#include "coordinator/fleet/fleet_batches.h"
#include "coordinator/fleet/fleet_groups.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

/* ---- strangers ---- */

static void stranger_remove(pr_fleet_state *s, const void *link)
{
    for (uint32_t i = 0; i < s->n_strangers; i++) {
        if (s->strangers[i] == link) s->strangers[i] = s->strangers[--s->n_strangers];
    }
}

void pr_fleet_stranger_comes(pr_fleet_state *s, void *link, pr_fleet_actions *out)
{
    if (s->n_strangers < PR_FLEET_STRANGERS_MAX && s->phase == PR_FLEET_RUNNING) {
        s->strangers[s->n_strangers++] = link;
        return;
    }
    s->refused = link;
    pr_fleet_action *a = pr_fleet_want(out, PR_FLEET_DISMISS);
    a->links = &s->refused;
    a->n_links = 1;
    pr_fleet_want_log(out, PR_LOG_WARNING,
                      "a connection was refused: %" PRIu32 " connections have not proved the "
                      "cluster key", s->n_strangers);
}

void pr_fleet_stranger_ended(pr_fleet_state *s, const pr_fleet_event *e, pr_fleet_actions *out)
{
    stranger_remove(s, e->link);
    pr_fleet_want_log(out, PR_LOG_WARNING, "a connection that did not become a rank's: %s",
                      e->text);
}

void pr_fleet_strangers_dismiss(pr_fleet_state *s, pr_fleet_actions *out)
{
    if (s->n_strangers == 0) return;
    pr_fleet_action *a = pr_fleet_want(out, PR_FLEET_DISMISS);
    a->links = s->strangers; /* nobody is added any more */
    a->n_links = s->n_strangers;
    s->n_strangers = 0;
}

/* ---- ranks come ---- */

/* A group that joins by itself begins with the first of its ranks. */
static pr_status replica_make(pr_fleet_state *s, const pr_control_hello *hello, uint64_t now_ms,
                              pr_replica **out, pr_error *err)
{
    uint32_t n = 0;
    pr_status st = pr_group_size_check(hello, s->rules.tp_size, s->rules.n_stages, err);
    if (st != PR_OK) return st;
    for (const pr_replica *k = s->replicas; k; k = k->next) n++;
    if (n >= PR_FLEET_GROUPS_MAX) {
        return pr_error_set(err, PR_E_OVERLOADED, "%" PRIu32 " groups are here, expected at "
                            "most %d", n, PR_FLEET_GROUPS_MAX);
    }
    st = pr_fleet_replica_add(s, out, err);
    if (st == PR_OK) pr_fleet_replica_start(s, *out, hello->group, now_ms);
    return st;
}

/* The group that a rank says it belongs to. */
static pr_status replica_find(pr_fleet_state *s, const pr_control_hello *hello, uint64_t now_ms,
                              pr_replica **out, pr_error *err)
{
    if (s->is_over || s->phase != PR_FLEET_RUNNING) {
        return pr_error_set(err, PR_E_UNAVAILABLE, "the coordinator is leaving");
    }
    *out = pr_fleet_replica_named(s, hello->group);
    if (*out) return PR_OK;
    if (s->rules.launch == PR_WORKER_LAUNCH_EXTERNAL) {
        return replica_make(s, hello, now_ms, out, err);
    }
    return pr_error_set(err, PR_E_UNAVAILABLE, "group %s is none that is starting", hello->group);
}

static void refuse(const pr_fleet_event *e, pr_status st, const char *why, pr_fleet_actions *out)
{
    pr_fleet_action *a = pr_fleet_want(out, PR_FLEET_REFUSE);
    a->link = e->link;
    a->status = st;
    snprintf(a->text, sizeof a->text, "%s", why);
    a = pr_fleet_want(out, PR_FLEET_LOG);
    a->level = PR_LOG_WARNING;
    a->group_name = e->hello->group;
    a->rank = e->hello->rank;
    snprintf(a->text, sizeof a->text, "rank %" PRIu32 " (pid %" PRId64 " on %s) was refused: %s",
             e->hello->rank, e->hello->pid, e->hello->host, why);
}

/* To every rank, the maker included: it may go on now too. */
static void comm_id_pass_on(pr_replica *r, pr_fleet_actions *out)
{
    if (!pr_group_comm_id_is_due(r->group)) return;
    pr_fleet_action *a = pr_fleet_want(out, PR_FLEET_SEND);
    a->group = r->group;
    a->message = PR_CONTROL_COMM_ID;
}

void pr_fleet_stranger_joins(pr_fleet_state *s, const pr_fleet_event *e, uint64_t now_ms,
                             pr_fleet_actions *out)
{
    pr_replica *r = NULL;
    pr_error err;
    stranger_remove(s, e->link);
    pr_status st = replica_find(s, e->hello, now_ms, &r, &err);
    if (st == PR_OK) st = pr_group_join(r->group, e->hello, e->link, now_ms, &err);
    if (st != PR_OK) {
        refuse(e, st, err.message, out);
        return;
    }
    pr_fleet_action *a = pr_fleet_want(out, PR_FLEET_ADMIT);
    a->link = e->link;
    a->group = r->group;
    a->rank = e->hello->rank;
    pr_fleet_changed(s, now_ms, out);
    pr_fleet_tick_within(s, now_ms, s->rules.ping_ms);
    comm_id_pass_on(r, out);
}

/* ---- ranks say something ---- */

static void ready_take(pr_fleet_state *s, pr_replica *r, uint32_t rank,
                       const pr_control_ready *ready, uint64_t now_ms, pr_fleet_actions *out)
{
    bool is_ready = false;
    pr_error err;
    pr_status st = pr_group_rank_ready(r->group, rank, ready, s->rules.model_fingerprint, &is_ready,
                                       &err);
    if (st != PR_OK) {
        pr_fleet_rank_fail(s, r, rank, st, err.message, now_ms, out);
    } else if (is_ready) {
        pr_fleet_action *a = pr_fleet_want(out, PR_FLEET_UP);
        a->group = r->group;
        a->ms = now_ms - r->since_ms;
        r->since_ms = now_ms;
        s->was_up = true;
        pr_fleet_changed(s, now_ms, out);
    }
}

void pr_fleet_message_take(pr_fleet_state *s, pr_replica *r, uint32_t rank,
                           const pr_control_message *m, uint64_t now_ms, pr_fleet_actions *out)
{
    pr_error err;
    pr_status st = PR_OK;
    switch (m->kind) {
    case PR_CONTROL_COMM_ID:
        st = pr_group_comm_id_keep(r->group, rank, &m->comm_id, &err);
        if (st == PR_OK) comm_id_pass_on(r, out);
        break;
    case PR_CONTROL_READY:
        ready_take(s, r, rank, &m->ready, now_ms, out);
        break;
    case PR_CONTROL_RESULT:
        st = pr_group_result(r->group, rank, &m->result, &err);
        break;
    case PR_CONTROL_DONE:
        st = pr_fleet_done(r, rank, &m->done, now_ms, out, &err);
        break;
    case PR_CONTROL_PONG:
        pr_group_pong(r->group, rank, &m->ping, now_ms);
        break;
    case PR_CONTROL_FAILED:
        pr_fleet_rank_fail(s, r, rank, m->reason.status, m->reason.message, now_ms, out);
        break;
    default:
        st = pr_error_set(&err, PR_E_INTERNAL, "it sent what only the coordinator sends");
    }
    if (st != PR_OK) pr_fleet_rank_fail(s, r, rank, st, err.message, now_ms, out);
}
