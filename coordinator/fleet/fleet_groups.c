#include "coordinator/fleet/fleet_groups.h"

#include "coordinator/fleet/fleet_batches.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    IDLE_MS = 5 * 1000, /* between two questions to ranks that have nothing to do */
    WORDS_MS = 200      /* for the last words of ranks that left while they started */
};

/* ---- start ---- */

pr_status pr_fleet_groups_create(pr_fleet_state *s, uint64_t now_ms, pr_error *err)
{
    pr_status st = PR_OK;
    bool is_job = s->rules.launch == PR_WORKER_LAUNCH_JOB;
    if (s->rules.launch == PR_WORKER_LAUNCH_EXTERNAL) return PR_OK;
    for (uint32_t i = 0; st == PR_OK && i < s->rules.n_groups; i++) {
        pr_replica *r = NULL;
        char name[32];
        if ((st = pr_fleet_replica_add(s, &r, err)) != PR_OK) break;
        snprintf(name, sizeof name, "job/%" PRIu32, i);
        if (is_job) pr_fleet_replica_start(s, r, name, now_ms);
    }
    return st;
}

/* A start has a name of its own: ranks of an earlier one are refused. A launcher may live longer
 * than its group: the next start of a group does not wait for the last one's end. */
static void group_launch(pr_fleet_state *s, pr_replica *r, uint64_t now_ms, pr_fleet_actions *out)
{
    char name[64];
    snprintf(name, sizeof name, "%" PRIu32 ".%" PRIu32, r->group->index, ++r->n_starts);
    pr_fleet_replica_start(s, r, name, now_ms);
    r->has_launcher = true;
    s->n_launchers++;
    pr_fleet_want(out, PR_FLEET_LAUNCH)->group = r->group;
    pr_fleet_changed(s, now_ms, out);
}

/* ---- end ---- */

void pr_fleet_rank_fail(pr_fleet_state *s, pr_replica *r, uint32_t rank, pr_status st,
                        const char *reason, uint64_t now_ms, pr_fleet_actions *out)
{
    char who[PR_ERROR_BYTES];
    const pr_group_rank *from = &r->group->ranks[rank];
    snprintf(who, sizeof who, "rank %" PRIu32 " (pid %" PRId64 " on %s): %s", rank, from->pid,
             from->host, reason);
    pr_fleet_group_end(s, r, st, who, now_ms, out);
}

/* A rank that is stopped does not read why, nor that its connection is closed. Ranks of a launcher
 * need not be told: they are killed with it. */
static void links_dismiss(pr_fleet_state *s, pr_replica *r, pr_status st, const char *reason,
                          pr_fleet_actions *out)
{
    size_t n = 0;
    for (uint32_t i = 0; i < r->group->n_ranks; i++) {
        if (r->group->ranks[i].link) s->dismissed[n++] = r->group->ranks[i].link;
    }
    if (n == 0) return;
    pr_fleet_action *a = pr_fleet_want(out, PR_FLEET_DISMISS);
    a->links = s->dismissed;
    a->n_links = n;
    a->epoch = r->group->epoch;
    a->is_forced = r->has_launcher || st == PR_E_TIMEOUT;
    if (!r->has_launcher) snprintf(a->text, sizeof a->text, "%s", reason);
}

/* srun ends its step on every node when it is told to, not when it is killed, and mpirun then
 * clears away what its daemons keep on other hosts; ranks that are left leave because their
 * connection is closed. */
static void launcher_stop(pr_fleet_state *s, pr_replica *r, pr_fleet_actions *out)
{
    if (!r->has_launcher) return;
    r->has_launcher = false;
    pr_fleet_action *a = pr_fleet_want(out, PR_FLEET_STOP_LAUNCHER);
    a->epoch = r->group->epoch;
    a->is_forced = s->rules.launch != PR_WORKER_LAUNCH_SRUN && !s->rules.leaves_host;
}

/* Failures that the next start would meet too. */
static bool is_lasting(pr_status st)
{
    return st == PR_E_MODEL || st == PR_E_ARGUMENT || st == PR_E_UNSUPPORTED ||
           st == PR_E_NOT_FOUND || st == PR_E_NOMEM;
}

static void end_log(pr_fleet_state *s, const pr_replica *r, uint64_t wait_ms, size_t n_batches,
                    pr_fleet_actions *out)
{
    char batches[64] = "", next[64] = "";
    if (n_batches > 0) snprintf(batches, sizeof batches, "; %zu batches run again", n_batches);
    if (pr_fleet_is_launching(s)) {
        snprintf(next, sizeof next, "; it is started again in %.1f s", (double)wait_ms / 1e3);
    }
    pr_fleet_action *a = pr_fleet_want(out, PR_FLEET_LOG);
    a->level = PR_LOG_WARNING;
    a->group_name = r->group->name;
    a->reason = s->last_reason;
    snprintf(a->text, sizeof a->text, "group %s ended: %s%s%s", r->group->name, s->last_reason,
             batches, next);
}

/* After the end of a group: what becomes of it, and of the fleet. */
static void group_again(pr_fleet_state *s, pr_replica *r, pr_status st, size_t n_batches,
                        uint64_t now_ms, pr_fleet_actions *out)
{
    bool is_first = !s->was_up;
    if (s->rules.launch == PR_WORKER_LAUNCH_JOB) {
        pr_fleet_fail(s, is_first && is_lasting(st) ? st : PR_E_UNAVAILABLE, s->last_reason, out);
        return;
    }
    if (is_first && pr_fleet_is_launching(s) &&
        (is_lasting(st) || r->n_failures >= PR_RETRY_STARTS_MAX)) {
        pr_fleet_fail(s, is_lasting(st) ? st : PR_E_UNAVAILABLE, s->last_reason, out);
        return;
    }
    uint64_t wait_ms = pr_retry_backoff_ms(r->n_failures);
    r->retry_ms = now_ms + wait_ms;
    end_log(s, r, wait_ms, n_batches, out);
}

void pr_fleet_group_end(pr_fleet_state *s, pr_replica *r, pr_status st, const char *reason,
                        uint64_t now_ms, pr_fleet_actions *out)
{
    pr_group *g = r->group;
    if (g->state == PR_GROUP_IDLE) return;
    char why[sizeof s->last_reason]; /* reason may be the last one */
    snprintf(why, sizeof why, "%s", reason);
    memcpy(s->last_reason, why, sizeof why);
    uint64_t ready_ms = g->state == PR_GROUP_READY ? now_ms - r->since_ms : 0;
    links_dismiss(s, r, st, why, out);
    launcher_stop(s, r, out);
    r->n_failures = pr_retry_failures(r->n_failures, ready_ms, g->has_answered);
    r->doomed_ms = 0;
    r->is_asked_words = false;
    r->since_ms = now_ms;
    size_t n = pr_fleet_take_back(s, pr_group_end(g), why, out);
    pr_fleet_changed(s, now_ms, out);
    if (s->phase == PR_FLEET_RUNNING && !s->is_over) group_again(s, r, st, n, now_ms, out);
    pr_fleet_tick_within(s, now_ms, 0);
}

/* ---- last words ---- */

/* While ranks start, what the launcher's output says of their leaving is better than that they
 * left: it may still be on its way. */
static bool wait_for_words(pr_fleet_state *s, pr_replica *r, uint32_t rank, const char *reason,
                           uint64_t now_ms)
{
    if (s->was_up || !r->has_launcher || r->doomed_ms) return r->doomed_ms != 0;
    r->doomed_ms = now_ms + WORDS_MS;
    pr_error_set(&r->doom, PR_E_UNAVAILABLE, "rank %" PRIu32 ": %s", rank, reason);
    pr_fleet_tick_within(s, now_ms, WORDS_MS);
    return true;
}

void pr_fleet_rank_gone(pr_fleet_state *s, pr_replica *r, uint32_t rank, const char *reason,
                        uint64_t now_ms, pr_fleet_actions *out)
{
    r->group->ranks[rank].link = NULL;
    r->group->lives[rank].is_here = false;
    if (s->phase != PR_FLEET_RUNNING) return; /* it was told to leave */
    if (wait_for_words(s, r, rank, reason, now_ms)) return;
    pr_fleet_rank_fail(s, r, rank, PR_E_UNAVAILABLE, reason, now_ms, out);
}

static void doom_check(pr_replica *r, uint64_t now_ms, pr_fleet_actions *out)
{
    if (!r->doomed_ms || now_ms < r->doomed_ms || r->is_asked_words) return;
    r->is_asked_words = true;
    pr_fleet_want(out, PR_FLEET_ASK_WORDS)->epoch = r->group->epoch;
}

void pr_fleet_words_take(pr_fleet_state *s, pr_replica *r, const char *words, uint64_t now_ms,
                         pr_fleet_actions *out)
{
    char reason[PR_ERROR_BYTES];
    snprintf(reason, sizeof reason, "%s%s%s", r->doom.message, words[0] ? ": " : "", words);
    pr_fleet_group_end(s, r, r->doom.status, reason, now_ms, out);
}

/* ---- watching ---- */

static void ping(pr_replica *r, uint64_t now_ms, pr_fleet_actions *out)
{
    r->asked_ms = now_ms;
    pr_group_asked(r->group, now_ms);
    pr_fleet_action *a = pr_fleet_want(out, PR_FLEET_SEND);
    a->group = r->group;
    a->message = PR_CONTROL_PING;
}

static void hang_check(pr_fleet_state *s, pr_replica *r, uint64_t now_ms, pr_fleet_actions *out)
{
    const pr_group *g = r->group;
    size_t i = 0;
    char reason[160];
    pr_hang hang = pr_retry_hang(g->lives, g->n_ranks, now_ms, s->rules.hang_ms, s->rules.ping_ms,
                                 &i);
    if (hang == PR_HANG_NONE) return;
    snprintf(reason, sizeof reason,
             hang == PR_HANG_SILENT
                 ? "it hangs: no answer to the question of %.1f s ago (--hang-timeout %d)"
                 : "it hangs: no progress for %.1f s (--hang-timeout %d)",
             (double)(now_ms - (hang == PR_HANG_SILENT ? g->lives[i].asked_ms
                                                       : g->lives[i].progress_ms)) / 1e3,
             s->rules.hang_timeout_s);
    pr_fleet_rank_fail(s, r, (uint32_t)i, PR_E_TIMEOUT, reason, now_ms, out);
}

static void start_check(pr_fleet_state *s, pr_replica *r, uint64_t now_ms, pr_fleet_actions *out)
{
    const pr_group *g = r->group;
    char reason[160];
    if (g->state != PR_GROUP_STARTING || now_ms - r->since_ms < s->rules.start_ms) return;
    if (s->rules.launch == PR_WORKER_LAUNCH_EXTERNAL && g->n_joined == 0) return;
    snprintf(reason, sizeof reason,
             "%" PRIu32 " of %" PRIu32 " ranks connected within %" PRId32 " s (--start-timeout)",
             g->n_joined, g->n_ranks, s->rules.start_timeout_s);
    pr_fleet_group_end(s, r, PR_E_UNAVAILABLE, reason, now_ms, out);
}

/* Starts it when that is due. Returns the ms until it needs attention. */
static uint64_t idle_watch(pr_fleet_state *s, pr_replica *r, uint64_t now_ms, pr_fleet_actions *out)
{
    if (!pr_fleet_is_launching(s) || s->is_over || s->phase != PR_FLEET_RUNNING) return IDLE_MS;
    if (now_ms < r->retry_ms) return r->retry_ms - now_ms;
    group_launch(s, r, now_ms, out);
    return s->rules.ping_ms;
}

/* Returns the ms until this group needs attention. */
static uint64_t group_watch(pr_fleet_state *s, pr_replica *r, uint64_t now_ms,
                            pr_fleet_actions *out)
{
    doom_check(r, now_ms, out);
    start_check(s, r, now_ms, out);
    if (r->group->state != PR_GROUP_IDLE) hang_check(s, r, now_ms, out);
    if (r->group->state == PR_GROUP_IDLE) return idle_watch(s, r, now_ms, out);
    bool is_busy = pr_group_is_busy(r->group);
    uint64_t every_ms = is_busy ? s->rules.ping_ms : IDLE_MS;
    if (r->group->n_joined > 0 && now_ms - r->asked_ms >= every_ms) ping(r, now_ms, out);
    if (r->doomed_ms > now_ms) return r->doomed_ms - now_ms;
    for (uint32_t i = 0; i < r->group->n_ranks; i++) {
        if (r->group->lives[i].asked_ms) return s->rules.ping_ms; /* an answer is awaited */
    }
    return is_busy || r->group->state != PR_GROUP_READY ? s->rules.ping_ms : IDLE_MS;
}

/* Nobody has been there for too long. When groups have run, what waits is answered, by
 * pr_fleet_dispatch. */
void pr_fleet_outage_check(pr_fleet_state *s, uint64_t now_ms, pr_fleet_actions *out)
{
    char reason[PR_ERROR_BYTES];
    if (s->is_over || s->down_ms == 0) {
        pr_fleet_tick_within(s, now_ms, IDLE_MS);
        return;
    }
    uint64_t down_ms = now_ms - s->down_ms;
    bool is_out = down_ms >= s->rules.start_ms;
    pr_fleet_tick_within(s, now_ms, is_out ? s->rules.ping_ms : s->rules.start_ms - down_ms);
    if (!is_out || s->was_up || pr_fleet_is_launching(s)) return;
    snprintf(reason, sizeof reason,
             "no replica group has been ready for %" PRId32 " s (--start-timeout)%s%s",
             s->rules.start_timeout_s, s->last_reason[0] ? "; the last ended: " : "",
             s->last_reason);
    pr_fleet_fail(s, PR_E_UNAVAILABLE, reason, out);
}

/* ---- rounds ---- */

static void send_away(pr_fleet_state *s, pr_replica *r, uint64_t now_ms, pr_fleet_actions *out)
{
    if (r->group->state != PR_GROUP_READY) {
        pr_fleet_group_end(s, r, PR_E_UNAVAILABLE, "the coordinator is leaving", now_ms, out);
        return;
    }
    pr_fleet_action *a = pr_fleet_want(out, PR_FLEET_SEND);
    a->group = r->group;
    a->message = PR_CONTROL_SHUTDOWN;
}

void pr_fleet_round_step(pr_fleet_state *s, uint64_t now_ms, pr_fleet_actions *out)
{
    pr_replica *r = s->turn;
    s->turn = r->next;
    switch (s->round) {
    case PR_FLEET_WATCH:
        pr_fleet_tick_within(s, now_ms, group_watch(s, r, now_ms, out));
        break;
    case PR_FLEET_SEND_AWAY:
        send_away(s, r, now_ms, out);
        break;
    case PR_FLEET_END:
        pr_fleet_group_end(s, r, PR_E_UNAVAILABLE, "the coordinator is leaving", now_ms, out);
        break;
    }
}

/* ---- leaving ---- */

bool pr_fleet_groups_may_leave(const pr_fleet_state *s)
{
    if (s->rules.launch != PR_WORKER_LAUNCH_JOB || s->is_over || !s->was_up) return true;
    for (const pr_replica *r = s->replicas; r; r = r->next) {
        if (r->group->state != PR_GROUP_READY) return false;
    }
    return true;
}

bool pr_fleet_groups_are_gone(const pr_fleet_state *s)
{
    if (s->n_launchers > 0) return false;
    for (const pr_replica *r = s->replicas; r; r = r->next) {
        for (uint32_t i = 0; i < r->group->n_ranks; i++) {
            if (r->group->ranks[i].link) return false;
        }
    }
    return true;
}
