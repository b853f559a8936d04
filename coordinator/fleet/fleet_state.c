#include "coordinator/fleet/fleet_state.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- actions ---- */

pr_fleet_action *pr_fleet_want(pr_fleet_actions *out, pr_fleet_action_kind kind)
{
    assert(out->n < PR_FLEET_ACTIONS_MAX);
    pr_fleet_action *a = &out->list[out->n++];
    *a = (pr_fleet_action){.kind = kind, .rank = PR_FLEET_NO_RANK};
    return a;
}

void pr_fleet_want_log(pr_fleet_actions *out, pr_log_level level, const char *fmt, ...)
{
    pr_fleet_action *a = pr_fleet_want(out, PR_FLEET_LOG);
    va_list ap;
    a->level = level;
    va_start(ap, fmt);
    vsnprintf(a->text, sizeof a->text, fmt, ap);
    va_end(ap);
}

/* ---- groups ---- */

pr_status pr_fleet_replica_add(pr_fleet_state *s, pr_replica **out, pr_error *err)
{
    pr_replica *r = calloc(1, sizeof *r), **last = &s->replicas;
    if (!r) return pr_error_nomem(err, "group", sizeof *r);
    pr_status st = pr_group_create(s->n_replicas, s->rules.tp_size, s->rules.n_stages, &r->group,
                                   err);
    if (st != PR_OK) {
        free(r);
        return st;
    }
    s->n_replicas++;
    while (*last) last = &(*last)->next;
    *last = r;
    *out = r;
    return PR_OK;
}

static void replica_free(pr_replica *r)
{
    pr_group_free(r->group);
    free(r);
}

/* Groups that joined by themselves and ended do not come back under the same name. */
void pr_fleet_replicas_sweep(pr_fleet_state *s)
{
    assert(!s->turn);
    if (s->rules.launch != PR_WORKER_LAUNCH_EXTERNAL) return;
    for (pr_replica **at = &s->replicas; *at;) {
        pr_replica *r = *at;
        if (r->group->state != PR_GROUP_IDLE) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        replica_free(r);
    }
}

void pr_fleet_replicas_free(pr_fleet_state *s)
{
    while (s->replicas) {
        pr_replica *r = s->replicas;
        s->replicas = r->next;
        replica_free(r);
    }
}

pr_replica *pr_fleet_replica_of(const pr_fleet_state *s, uint64_t epoch)
{
    for (pr_replica *r = s->replicas; r; r = r->next) {
        if (r->group->state != PR_GROUP_IDLE && r->group->epoch == epoch) return r;
    }
    return NULL;
}

pr_replica *pr_fleet_replica_named(const pr_fleet_state *s, const char *name)
{
    for (pr_replica *r = s->replicas; r; r = r->next) {
        if (r->group->state != PR_GROUP_IDLE && strcmp(r->group->name, name) == 0) return r;
    }
    return NULL;
}

void pr_fleet_replica_start(pr_fleet_state *s, pr_replica *r, const char *name, uint64_t now_ms)
{
    pr_group_start(r->group, name, ++s->n_epochs);
    r->since_ms = now_ms;
}

/* ---- the fleet ---- */

void pr_fleet_round_begin(pr_fleet_state *s, pr_fleet_round round)
{
    s->round = round;
    s->turn = s->replicas;
}

void pr_fleet_tick_within(pr_fleet_state *s, uint64_t now_ms, uint64_t ms)
{
    if (now_ms + ms < s->due_ms) s->due_ms = now_ms + ms;
}

void pr_fleet_changed(pr_fleet_state *s, uint64_t now_ms, pr_fleet_actions *out)
{
    bool is_up = false;
    for (const pr_replica *r = s->replicas; r; r = r->next) {
        is_up |= r->group->state == PR_GROUP_READY;
    }
    if (is_up) {
        s->down_ms = 0;
    } else if (s->down_ms == 0) {
        s->down_ms = now_ms;
    }
    pr_fleet_want(out, PR_FLEET_CHANGED);
}

bool pr_fleet_is_launching(const pr_fleet_state *s)
{
    return s->rules.launch == PR_WORKER_LAUNCH_MPIRUN || s->rules.launch == PR_WORKER_LAUNCH_SRUN;
}

void pr_fleet_fail(pr_fleet_state *s, pr_status st, const char *message, pr_fleet_actions *out)
{
    if (s->is_over) return;
    s->is_over = true;
    pr_error_set(&s->error, st, "%s", message);
    pr_fleet_action *a = pr_fleet_want(out, PR_FLEET_FAIL);
    a->status = st;
    snprintf(a->text, sizeof a->text, "%s", s->error.message);
}
