#define _GNU_SOURCE
#include "coordinator/fleet/fleet_groups.h"

#include "coordinator/fleet/fleet_batches.h"
#include "coordinator/fleet/fleet_launch.h"
#include "coordinator/fleet/launcher.h"
#include "coordinator/fleet/placement.h"
#include "coordinator/fleet/rank_options.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

enum {
    IDLE_MS = 5 * 1000, /* between two questions to ranks that have nothing to do */
    WORDS_MS = 200      /* for the last words of ranks that left while they started */
};

/* ---- tables ---- */

static pr_status replica_add(pr_fleet *f, pr_replica **out, pr_error *err)
{
    pr_replica *r = calloc(1, sizeof *r), **last = &f->replicas;
    if (!r) return pr_error_nomem(err, "group", sizeof *r);
    r->fleet = f;
    pr_status st = pr_group_create(f->n_replicas, f->tp_size, f->n_stages, &r->group, err);
    if (st != PR_OK) {
        free(r);
        return st;
    }
    f->n_replicas++;
    while (*last) last = &(*last)->next;
    *last = r;
    *out = r;
    return PR_OK;
}

pr_status pr_fleet_groups_create(pr_fleet *f, pr_error *err)
{
    pr_status st = PR_OK;
    bool is_job = f->c.launch == PR_WORKER_LAUNCH_JOB;
    if (f->c.launch == PR_WORKER_LAUNCH_EXTERNAL) return PR_OK;
    for (int32_t i = 0; st == PR_OK && i < f->c.config->data_parallel_size; i++) {
        pr_replica *r = NULL;
        char name[32];
        if ((st = replica_add(f, &r, err)) != PR_OK) break;
        snprintf(name, sizeof name, "job/%" PRId32, i);
        if (!is_job) continue;
        pr_group_start(r->group, name, ++f->n_epochs);
        r->since_ms = uv_now(&f->loop);
    }
    return st;
}

static void replica_free(pr_replica *r)
{
    pr_group_free(r->group);
    free(r);
}

void pr_fleet_groups_free(pr_fleet *f)
{
    while (f->replicas) {
        pr_replica *r = f->replicas;
        f->replicas = r->next;
        replica_free(r);
    }
}

/* Groups that joined by themselves and ended do not come back under the same name. */
static void replicas_sweep(pr_fleet *f)
{
    if (f->c.launch != PR_WORKER_LAUNCH_EXTERNAL) return;
    for (pr_replica **at = &f->replicas; *at;) {
        pr_replica *r = *at;
        if (r->group->state != PR_GROUP_IDLE) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        replica_free(r);
    }
}

static pr_replica *replica_find(const pr_fleet *f, const char *name)
{
    for (pr_replica *r = f->replicas; r; r = r->next) {
        if (r->group->state != PR_GROUP_IDLE && strcmp(r->group->name, name) == 0) return r;
    }
    return NULL;
}

void pr_fleet_groups_publish(pr_fleet *f)
{
    pr_fleet_groups_now now = {0};
    for (const pr_replica *r = f->replicas; r; r = r->next) {
        const pr_group *g = r->group;
        if (g->state == PR_GROUP_READY) now.n_ready++;
        now.n_starts += r->n_starts;
        if (r->n_starts > 1) now.n_restarts += r->n_starts - 1;
        if (now.n < PR_FLEET_GROUPS_SHOWN_MAX) {
            now.groups[now.n].index = g->index;
            now.groups[now.n].state = pr_group_state_name(g->state);
            now.groups[now.n].n_starts = r->n_starts;
        }
        now.n++;
    }
    pthread_mutex_lock(&f->lock);
    f->groups = now;
    pthread_mutex_unlock(&f->lock);
}

/* What other threads may read of the groups that are ready. */
static void snapshot_make(pr_fleet *f)
{
    size_t n = 0, i = 0;
    for (pr_replica *r = f->replicas; r; r = r->next) {
        if (r->group->state == PR_GROUP_READY) n += r->group->n_ranks;
    }
    pr_fleet_rank *ranks = n ? calloc(n, sizeof *ranks) : NULL;
    for (pr_replica *r = ranks ? f->replicas : NULL; r; r = r->next) {
        const pr_group *g = r->group;
        for (uint32_t k = 0; g->state == PR_GROUP_READY && k < g->n_ranks; k++) {
            const pr_group_rank *from = &g->ranks[k];
            pr_fleet_rank *to = &ranks[i++];
            *to = (pr_fleet_rank){.group = g->index, .rank = k, .tp_rank = k % g->tp_size,
                                  .stage = k / g->tp_size, .pid = from->pid,
                                  .weights_bytes = from->ready.weights_bytes};
            memcpy(to->host, from->host, sizeof to->host);
            memcpy(to->device, from->ready.device, sizeof to->device);
            memcpy(to->backend, from->ready.backend, sizeof to->backend);
        }
    }
    pthread_mutex_lock(&f->lock);
    free(f->ranks);
    f->ranks = ranks;
    f->n_ranks = ranks ? n : 0;
    pthread_mutex_unlock(&f->lock);
    pr_fleet_groups_publish(f);
    if (n > 0) {
        f->down_ms = 0;
    } else if (f->down_ms == 0) {
        f->down_ms = uv_now(&f->loop);
    }
}

/* ---- ranks come ---- */

static void stranger_remove(pr_fleet *f, const pr_link *link)
{
    for (uint32_t i = 0; i < f->n_strangers; i++) {
        if (f->strangers[i] == link) f->strangers[i] = f->strangers[--f->n_strangers];
    }
}

void pr_fleet_on_connection(uv_stream_t *server, int status)
{
    pr_fleet *f = server->data;
    pr_link *link = NULL;
    pr_error err;
    pr_status st = status == 0 ? PR_OK
                               : pr_error_set(&err, PR_E_IO, "accept: %s", uv_strerror(status));
    if (st == PR_OK) st = pr_link_accept(server, &f->link_config, &link, &err);
    if (st == PR_OK && (f->n_strangers == PR_FLEET_STRANGERS_MAX || f->phase != PR_FLEET_RUNNING)) {
        pr_link_finish(link, NULL);
        st = pr_error_set(&err, PR_E_OVERLOADED, "%" PRIu32 " connections have not proved the "
                          "cluster key", f->n_strangers);
    }
    if (st != PR_OK) {
        pr_log_line(f->c.log, PR_LOG_WARNING, "a connection was refused: %s", err.message);
        return;
    }
    f->strangers[f->n_strangers++] = link;
}

/* The group that a rank says it belongs to. */
static pr_status replica_of(pr_fleet *f, const pr_control_hello *hello, pr_replica **out,
                            pr_error *err)
{
    pr_replica *r = replica_find(f, hello->group);
    pr_status st = PR_OK;
    if (!r && f->c.launch != PR_WORKER_LAUNCH_EXTERNAL) {
        return pr_error_set(err, PR_E_UNAVAILABLE, "group %s is none that is starting",
                            hello->group);
    }
    if (!r) {
        uint32_t n = 0;
        st = pr_group_size_check(hello, f->tp_size, f->n_stages, err);
        if (st != PR_OK) return st;
        for (const pr_replica *k = f->replicas; k; k = k->next) n++;
        if (n >= PR_FLEET_GROUPS_MAX) {
            return pr_error_set(err, PR_E_OVERLOADED, "%" PRIu32 " groups are here, expected at "
                                "most %d", n, PR_FLEET_GROUPS_MAX);
        }
        st = replica_add(f, &r, err);
        if (st == PR_OK) pr_group_start(r->group, hello->group, ++f->n_epochs);
        if (st == PR_OK) r->since_ms = uv_now(&f->loop);
    }
    *out = r;
    return st;
}

/* Which of a host's GPUs are this group's. "": all. */
static void slice_print(const pr_replica *r, char *out, size_t out_bytes)
{
    const pr_fleet *f = r->fleet;
    const char *n_nodes = pr_environment_get(environ, "SLURM_JOB_NUM_NODES");
    uint32_t n = (uint32_t)pr_placement_slices(f->c.config, f->c.launch,
                                               n_nodes ? (int32_t)strtol(n_nodes, NULL, 10) : 0);
    bool has_slice = f->c.config->device == PR_DEVICE_CHOICE_CUDA && n > 1;
    out[0] = '\0';
    if (has_slice) snprintf(out, out_bytes, "%" PRIu32 "/%" PRIu32, r->group->index % n, n);
}

static pr_status load_send(pr_replica *r, pr_link *link, pr_error *err)
{
    const pr_fleet *f = r->fleet;
    char slice[32], slice_name[] = PR_RANK_OPTION_SLICE;
    pr_control_option options[PR_RANK_OPTIONS_MAX + 1]; /* only read */
    uint32_t n_options = f->c.n_options;
    assert(n_options <= PR_RANK_OPTIONS_MAX);
    if (n_options > 0) memcpy(options, f->c.options, n_options * sizeof *options);
    slice_print(r, slice, sizeof slice);
    if (slice[0]) options[n_options++] = (pr_control_option){slice_name, slice};
    const pr_control_message m = {
        .kind = PR_CONTROL_LOAD,
        .load = {.epoch = r->group->epoch,
                 .tp_size = f->tp_size,
                 .n_stages = f->n_stages,
                 .n_rows_max = f->c.n_rows_max,
                 .n_positions_max = f->c.n_positions_max,
                 .model_fingerprint = f->model_fingerprint,
                 .options = options,
                 .n_options = n_options},
    };
    return pr_link_send(link, &m, err);
}

/* To every rank, the maker included: it may go on now too. */
static void comm_id_pass_on(pr_replica *r)
{
    const pr_group *g = r->group;
    if (!pr_group_comm_id_is_due(r->group)) return;
    const pr_control_message m = {.kind = PR_CONTROL_COMM_ID, .comm_id = g->comm_id};
    pr_link_frame *frame = NULL;
    pr_error err;
    uint32_t i = 0;
    pr_status st = pr_link_frame_create(&m, &frame, &err);
    for (; st == PR_OK && i < g->n_ranks; i++) {
        if (g->ranks[i].link) st = pr_link_send_frame(g->ranks[i].link, frame, &err);
        if (st != PR_OK) break;
    }
    pr_link_frame_release(frame);
    if (st != PR_OK) pr_fleet_rank_fail(r, i, st, err.message);
}

static void on_joined(void *context, pr_link *link, const pr_control_hello *hello)
{
    pr_fleet *f = context;
    pr_replica *r = NULL;
    pr_error err;
    stranger_remove(f, link);
    pr_status st = f->is_over || f->phase != PR_FLEET_RUNNING
                       ? pr_error_set(&err, PR_E_UNAVAILABLE, "the coordinator is leaving")
                       : replica_of(f, hello, &r, &err);
    if (st == PR_OK) st = pr_group_join(r->group, hello, link, uv_now(&f->loop), &err);
    if (st != PR_OK) {
        pr_control_message m = {.kind = PR_CONTROL_REFUSE, .reason = {.status = st}};
        memcpy(m.reason.message, err.message, sizeof m.reason.message);
        pr_link_finish(link, &m);
        const pr_log_field fields[] = {pr_log_said(pr_log_text("group", hello->group)),
                                       pr_log_said(pr_log_integer("rank", hello->rank))};
        pr_log_event(f->c.log, PR_LOG_WARNING, fields, 2,
                     "rank %" PRIu32 " (pid %" PRId64 " on %s) was refused: %s", hello->rank,
                     hello->pid, hello->host, err.message);
        return;
    }
    pr_link_owner_set(link, r, hello->rank);
    pr_fleet_tick_within(f, f->ping_ms);
    if ((st = load_send(r, link, &err)) != PR_OK) {
        pr_fleet_rank_fail(r, hello->rank, st, err.message);
        return;
    }
    comm_id_pass_on(r);
}

static void comm_id_take(pr_replica *r, uint32_t rank, const pr_control_comm_id *id)
{
    pr_error err;
    pr_status st = pr_group_comm_id_keep(r->group, rank, id, &err);
    if (st != PR_OK) {
        pr_fleet_rank_fail(r, rank, st, err.message);
    } else {
        comm_id_pass_on(r);
    }
}

/* ---- ranks are ready ---- */

static void group_log(const pr_fleet *f, const pr_group *g)
{
    for (uint32_t i = 0; i < g->n_ranks; i++) {
        const pr_group_rank *r = &g->ranks[i];
        const pr_log_field fields[] = {pr_log_said(pr_log_text("group", g->name)),
                                       pr_log_said(pr_log_integer("rank", i))};
        pr_log_event(f->c.log, PR_LOG_INFO, fields, 2,
                     "group %s: rank %" PRIu32 " (tensor %" PRIu32 ", stage %" PRIu32 ") on %s, "
                     "pid %" PRId64 ": %s, %s, %.1f MiB of weights",
                     g->name, i, i % g->tp_size, i / g->tp_size, r->host, r->pid, r->ready.device,
                     r->ready.backend, (double)r->ready.weights_bytes / (1 << 20));
    }
}

static void group_up(pr_replica *r)
{
    pr_fleet *f = r->fleet;
    const pr_group *g = r->group;
    const pr_control_ready *pooling = &g->ranks[pr_group_pooling_rank(g)].ready;
    uint64_t now_ms = uv_now(&f->loop);
    const pr_log_field field = pr_log_said(pr_log_text("group", g->name));
    pr_log_event(f->c.log, PR_LOG_INFO, &field, 1, "group %s is ready after %.3f s", g->name,
                 (double)(now_ms - r->since_ms) / 1e3);
    group_log(f, g);
    r->since_ms = now_ms;
    f->was_up = true;
    pthread_mutex_lock(&f->lock);
    if (!f->is_up) {
        memcpy(f->backend, pooling->backend, sizeof f->backend);
        f->info = (pr_worker_info){.backend = f->backend, .width = pooling->width};
        for (uint32_t i = 0; i < g->n_ranks; i++) {
            f->info.weights_bytes += g->ranks[i].ready.weights_bytes;
        }
    }
    f->is_up = true;
    pthread_mutex_unlock(&f->lock);
    snapshot_make(f);
    pthread_mutex_lock(&f->lock);
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    pr_fleet_dispatch(f);
}

static void ready_take(pr_replica *r, uint32_t rank, const pr_control_ready *ready)
{
    bool is_ready = false;
    pr_error err;
    pr_status st = pr_group_rank_ready(r->group, rank, ready, r->fleet->model_fingerprint,
                                       &is_ready, &err);
    if (st != PR_OK) {
        pr_fleet_rank_fail(r, rank, st, err.message);
    } else if (is_ready) {
        group_up(r);
    }
}

static void answer_take(pr_replica *r, uint32_t rank, const pr_control_message *m)
{
    pr_fleet *f = r->fleet;
    pr_error err;
    bool is_done = m->kind == PR_CONTROL_DONE;
    pr_status st = is_done ? pr_fleet_done(r, rank, &m->done, &err)
                           : pr_fleet_result(r, rank, &m->result, &err);
    if (st != PR_OK) {
        pr_fleet_rank_fail(r, rank, st, err.message);
    } else if (is_done) {
        pr_fleet_dispatch(f);
        uv_async_send(&f->news); /* it may have been the last one */
    }
}

static void on_message(void *context, pr_link *link, pr_control_message *m)
{
    (void)context;
    uint32_t rank;
    pr_replica *r = pr_link_owner(link, &rank);
    switch (m->kind) {
    case PR_CONTROL_COMM_ID:
        comm_id_take(r, rank, &m->comm_id);
        break;
    case PR_CONTROL_READY:
        ready_take(r, rank, &m->ready);
        break;
    case PR_CONTROL_RESULT:
    case PR_CONTROL_DONE:
        answer_take(r, rank, m);
        break;
    case PR_CONTROL_PONG:
        pr_group_pong(r->group, rank, &m->ping, uv_now(&r->fleet->loop));
        break;
    case PR_CONTROL_FAILED:
        pr_fleet_rank_fail(r, rank, m->reason.status, m->reason.message);
        break;
    default:
        pr_fleet_rank_fail(r, rank, PR_E_INTERNAL, "it sent what only the coordinator sends");
    }
}

/* ---- ranks go ---- */

/* While ranks start, what the launcher's output says of their leaving is better than that they
 * left: it may still be on its way. */
static bool wait_for_words(pr_replica *r, uint32_t rank, const char *reason)
{
    if (r->fleet->was_up || !r->launched || r->doomed_ms) return r->doomed_ms != 0;
    r->doomed_ms = uv_now(&r->fleet->loop) + WORDS_MS;
    pr_error_set(&r->doom, PR_E_UNAVAILABLE, "rank %" PRIu32 ": %s", rank, reason);
    pr_fleet_tick_within(r->fleet, WORDS_MS);
    return true;
}

static void on_link_ended(void *context, pr_link *link, const char *reason)
{
    pr_fleet *f = context;
    uint32_t rank;
    pr_replica *r = pr_link_owner(link, &rank);
    if (!r) {
        stranger_remove(f, link);
        pr_log_line(f->c.log, PR_LOG_WARNING, "a connection that did not become a rank's: %s",
                    reason);
        return;
    }
    if (f->phase != PR_FLEET_RUNNING) {
        r->group->ranks[rank].link = NULL;
        uv_async_send(&f->news);
        return;
    }
    r->group->lives[rank].is_here = false;
    r->group->ranks[rank].link = NULL;
    if (!wait_for_words(r, rank, reason)) pr_fleet_rank_fail(r, rank, PR_E_UNAVAILABLE, reason);
}

pr_link_config pr_fleet_link_config(pr_fleet *f)
{
    return (pr_link_config){
        .loop = &f->loop, .key = &f->key, .version = POOLRANK_VERSION,
        .is_unix = pr_listener_is_unix(f->listener), .joined = on_joined, .message = on_message,
        .ended = on_link_ended, .context = f,
    };
}

void pr_fleet_rank_fail(pr_replica *r, uint32_t rank, pr_status st, const char *reason)
{
    char who[PR_ERROR_BYTES];
    const pr_group_rank *from = &r->group->ranks[rank];
    snprintf(who, sizeof who, "rank %" PRIu32 " (pid %" PRId64 " on %s): %s", rank, from->pid,
             from->host, reason);
    pr_fleet_group_end(r, st, who);
}

/* A rank that is stopped does not read why, nor that its connection is closed. */
static void links_dismiss(pr_replica *r, pr_status st, const char *reason)
{
    pr_control_message m = {.kind = PR_CONTROL_ABORT,
                            .reason = {.epoch = r->group->epoch, .status = PR_E_UNAVAILABLE}};
    snprintf(m.reason.message, sizeof m.reason.message, "%s", reason);
    for (uint32_t i = 0; i < r->group->n_ranks; i++) {
        pr_link *link = r->group->ranks[i].link;
        if (!link) continue;
        r->group->ranks[i].link = NULL;
        pr_link_owner_set(link, NULL, 0);
        if (r->launched || st == PR_E_TIMEOUT) pr_link_kill(link);
        pr_link_finish(link, r->launched ? NULL : &m);
    }
}

/* Failures that the next start would meet too. */
static bool is_lasting(pr_status st)
{
    return st == PR_E_MODEL || st == PR_E_ARGUMENT || st == PR_E_UNSUPPORTED ||
           st == PR_E_NOT_FOUND || st == PR_E_NOMEM;
}

/* After the end of a group: what becomes of it, and of the fleet. */
static void group_again(pr_replica *r, pr_status st, const char *reason, size_t n_batches)
{
    pr_fleet *f = r->fleet;
    bool is_first = !f->was_up;
    if (f->c.launch == PR_WORKER_LAUNCH_JOB) {
        pr_fleet_fail(f, is_first && is_lasting(st) ? st : PR_E_UNAVAILABLE, reason);
        return;
    }
    if (is_first && pr_fleet_is_launching(f) &&
        (is_lasting(st) || r->n_failures >= PR_RETRY_STARTS_MAX)) {
        pr_fleet_fail(f, is_lasting(st) ? st : PR_E_UNAVAILABLE, reason);
        return;
    }
    uint64_t wait_ms = pr_retry_backoff_ms(r->n_failures);
    r->retry_ms = uv_now(&f->loop) + wait_ms;
    char batches[64] = "", next[64] = "";
    if (n_batches > 0) snprintf(batches, sizeof batches, "; %zu batches run again", n_batches);
    if (pr_fleet_is_launching(f)) {
        snprintf(next, sizeof next, "; it is started again in %.1f s", (double)wait_ms / 1e3);
    }
    const pr_log_field fields[] = {pr_log_said(pr_log_text("group", r->group->name)),
                                   pr_log_said(pr_log_text("reason", reason))};
    pr_log_event(f->c.log, PR_LOG_WARNING, fields, 2, "group %s ended: %s%s%s", r->group->name,
                 reason, batches, next);
}

void pr_fleet_group_end(pr_replica *r, pr_status st, const char *reason)
{
    pr_fleet *f = r->fleet;
    pr_group *g = r->group;
    if (g->state == PR_GROUP_IDLE) return;
    char why[PR_ERROR_BYTES]; /* reason may be a link's, or the doom's */
    snprintf(why, sizeof why, "%s", reason);
    snprintf(f->last_reason, sizeof f->last_reason, "%s", why);
    uint64_t now_ms = uv_now(&f->loop);
    uint64_t ready_ms = g->state == PR_GROUP_READY ? now_ms - r->since_ms : 0;
    links_dismiss(r, st, why);
    pr_fleet_launcher_kill(r);
    r->n_failures = pr_retry_failures(r->n_failures, ready_ms, g->has_answered);
    r->doomed_ms = 0;
    r->since_ms = now_ms;
    size_t n = pr_fleet_take_back(f, pr_group_end(g), why);
    snapshot_make(f);
    if (f->phase == PR_FLEET_RUNNING && !f->is_over) group_again(r, st, why, n);
    pr_fleet_tick_within(f, 0);
}

/* ---- watching ---- */

static void ping_send(pr_replica *r, uint64_t now_ms)
{
    pr_group *g = r->group;
    pr_error err;
    r->asked_ms = now_ms;
    pr_group_asked(g, now_ms);
    const pr_control_message m = {.kind = PR_CONTROL_PING, .ping = {.id = g->ping_id}};
    for (uint32_t i = 0; i < g->n_ranks; i++) {
        if (!g->ranks[i].link) continue;
        pr_status st = pr_link_send(g->ranks[i].link, &m, &err);
        if (st == PR_OK) continue;
        pr_fleet_rank_fail(r, i, st, err.message);
        return;
    }
}

static void hang_check(pr_replica *r, uint64_t now_ms)
{
    pr_fleet *f = r->fleet;
    const pr_group *g = r->group;
    size_t i = 0;
    char reason[160];
    pr_hang hang = pr_retry_hang(g->lives, g->n_ranks, now_ms, f->hang_ms, f->ping_ms, &i);
    if (hang == PR_HANG_NONE) return;
    snprintf(reason, sizeof reason,
             hang == PR_HANG_SILENT
                 ? "it hangs: no answer to the question of %.1f s ago (--hang-timeout %d)"
                 : "it hangs: no progress for %.1f s (--hang-timeout %d)",
             (double)(now_ms - (hang == PR_HANG_SILENT ? g->lives[i].asked_ms
                                                       : g->lives[i].progress_ms)) / 1e3,
             f->c.config->hang_timeout);
    pr_fleet_rank_fail(r, (uint32_t)i, PR_E_TIMEOUT, reason);
}

static void doom_check(pr_replica *r, uint64_t now_ms)
{
    if (!r->doomed_ms || now_ms < r->doomed_ms) return;
    const char *words = r->launched ? pr_process_last_words(r->launched->process) : "";
    char reason[PR_ERROR_BYTES];
    snprintf(reason, sizeof reason, "%s%s%s", r->doom.message, words[0] ? ": " : "", words);
    pr_fleet_group_end(r, r->doom.status, reason);
}

static void start_check(pr_replica *r, uint64_t now_ms)
{
    pr_fleet *f = r->fleet;
    const pr_group *g = r->group;
    char reason[160];
    if (g->state != PR_GROUP_STARTING || now_ms - r->since_ms < f->start_ms) return;
    if (f->c.launch == PR_WORKER_LAUNCH_EXTERNAL && g->n_joined == 0) return;
    snprintf(reason, sizeof reason,
             "%" PRIu32 " of %" PRIu32 " ranks connected within %d s (--start-timeout)",
             g->n_joined, g->n_ranks, f->c.config->start_timeout);
    pr_fleet_group_end(r, PR_E_UNAVAILABLE, reason);
}

/* Returns the ms until this group needs attention. */
static uint64_t replica_tick(pr_replica *r, uint64_t now_ms)
{
    pr_fleet *f = r->fleet;
    doom_check(r, now_ms);
    start_check(r, now_ms);
    if (r->group->state != PR_GROUP_IDLE) hang_check(r, now_ms);
    if (r->group->state == PR_GROUP_IDLE) {
        if (!pr_fleet_is_launching(f) || f->is_over || f->phase != PR_FLEET_RUNNING) return IDLE_MS;
        if (now_ms < r->retry_ms) return r->retry_ms - now_ms;
        pr_fleet_launch(r);
        return f->ping_ms;
    }
    bool is_busy = pr_group_is_busy(r->group);
    uint64_t every_ms = is_busy ? f->ping_ms : IDLE_MS;
    uint64_t since_ms = now_ms - r->asked_ms;
    if (r->group->n_joined > 0 && since_ms >= every_ms) ping_send(r, now_ms);
    if (r->doomed_ms > now_ms) return r->doomed_ms - now_ms;
    for (uint32_t i = 0; i < r->group->n_ranks; i++) {
        if (r->group->lives[i].asked_ms) return f->ping_ms; /* an answer is awaited */
    }
    return is_busy || r->group->state != PR_GROUP_READY ? f->ping_ms : IDLE_MS;
}

/* Nobody has been there for too long. Returns the ms until that will be so. */
static uint64_t outage_check(pr_fleet *f, uint64_t now_ms)
{
    char reason[PR_ERROR_BYTES];
    if (f->is_over || f->down_ms == 0) return IDLE_MS;
    if (now_ms - f->down_ms < f->start_ms) return f->start_ms - (now_ms - f->down_ms);
    snprintf(reason, sizeof reason,
             "no replica group has been ready for %d s (--start-timeout)%s%s",
             f->c.config->start_timeout, f->last_reason[0] ? "; the last ended: " : "",
             f->last_reason);
    if (f->was_up) {
        pr_fleet_fail_waiting(f, PR_E_UNAVAILABLE, reason);
    } else if (!pr_fleet_is_launching(f)) {
        pr_fleet_fail(f, PR_E_UNAVAILABLE, reason);
    }
    return f->ping_ms;
}

uint64_t pr_fleet_groups_tick(pr_fleet *f)
{
    replicas_sweep(f);
    uint64_t now_ms = uv_now(&f->loop), next_ms = outage_check(f, now_ms);
    for (pr_replica *r = f->replicas; r; r = r->next) {
        uint64_t ms = replica_tick(r, now_ms);
        if (ms < next_ms) next_ms = ms;
    }
    return next_ms;
}

/* ---- leaving ---- */

void pr_fleet_groups_leave(pr_fleet *f)
{
    const pr_control_message m = {.kind = PR_CONTROL_SHUTDOWN};
    for (pr_replica *r = f->replicas; r; r = r->next) {
        if (r->group->state != PR_GROUP_READY) {
            pr_fleet_group_end(r, PR_E_UNAVAILABLE, "the coordinator is leaving");
            continue;
        }
        for (uint32_t i = 0; i < r->group->n_ranks; i++) {
            if (r->group->ranks[i].link) pr_link_send(r->group->ranks[i].link, &m, NULL);
        }
    }
    while (f->n_strangers > 0) {
        pr_link *link = f->strangers[f->n_strangers - 1];
        stranger_remove(f, link);
        pr_link_finish(link, NULL);
    }
}

void pr_fleet_groups_kill(pr_fleet *f)
{
    for (pr_replica *r = f->replicas; r; r = r->next) {
        pr_fleet_group_end(r, PR_E_UNAVAILABLE, "the coordinator is leaving");
    }
    for (pr_launched *l = f->launched; l; l = l->next) pr_process_kill(l->process);
}

bool pr_fleet_groups_may_leave(const pr_fleet *f)
{
    if (f->c.launch != PR_WORKER_LAUNCH_JOB || f->is_over || !f->was_up) return true;
    for (const pr_replica *r = f->replicas; r; r = r->next) {
        if (r->group->state != PR_GROUP_READY) return false;
    }
    return true;
}

bool pr_fleet_groups_are_gone(const pr_fleet *f)
{
    if (f->launched) return false;
    for (const pr_replica *r = f->replicas; r; r = r->next) {
        for (uint32_t i = 0; i < r->group->n_ranks; i++) {
            if (r->group->ranks[i].link) return false;
        }
    }
    return true;
}
