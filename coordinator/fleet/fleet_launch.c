#define _GNU_SOURCE /* sched_setaffinity */
#include "coordinator/fleet/fleet_launch.h"

#include <assert.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A launcher that was started, until it was reaped. */
struct pr_launched {
    pr_launchers *owner;
    pr_process *process;
    uint64_t epoch;
    char name[PR_CONTROL_NAME_BYTES]; /* of the group's start */
    char *folder; /* of what it leaves behind; NULL: none. Owned */
    pr_launched *next;
};

static pr_launched *launched_find(pr_launchers *ls, uint64_t epoch)
{
    pr_launched *l = ls->first;
    while (l && l->epoch != epoch) l = l->next;
    return l;
}

static void launched_free(pr_launched *l)
{
    if (l->folder) pr_tree_remove(l->folder);
    free(l->folder);
    free(l);
}

/* ---- what they say ---- */

/* What ranks say goes into the log as they meant it; what the launcher says is for debugging. A
 * rank's error comes through its connection too, as the reason why its group ends. Ranks begin with
 * which one they are, not with their group's name. */
static void on_line(void *context, pr_process *p, const char *text)
{
    const pr_launched *l = context;
    const pr_log *log = l->owner->c.log;
    static const char own[] = "poolrank: ", warning[] = "poolrank: warning: ";
    pr_log_level level = PR_LOG_INFO;
    if (strncmp(text, warning, sizeof warning - 1) == 0) {
        level = PR_LOG_WARNING;
        text += sizeof warning - 1;
    } else if (strncmp(text, own, sizeof own - 1) == 0) {
        text += sizeof own - 1;
    } else {
        pr_log_line(log, PR_LOG_DEBUG, "launcher %d: %s", pr_process_pid(p), text);
        return;
    }
    pr_log_field fields[2] = {pr_log_said(pr_log_text("group", l->name))};
    unsigned rank;
    size_t n = 1;
    if (sscanf(text, "rank %u", &rank) == 1 || sscanf(text, "error: rank %u", &rank) == 1) {
        fields[n++] = pr_log_said(pr_log_integer("rank", rank));
    }
    pr_log_event(log, level, fields, n, "%s", text);
}

const char *pr_launchers_last_words(pr_launchers *ls, uint64_t epoch)
{
    const pr_launched *l = launched_find(ls, epoch);
    return l ? pr_process_last_words(l->process) : "";
}

static void on_launcher_ended(void *context, pr_process *p, const char *how)
{
    pr_launched *l = context;
    pr_launchers *ls = l->owner;
    uint64_t epoch = l->epoch;
    assert(l->process == p);
    for (pr_launched **at = &ls->first; *at; at = &(*at)->next) {
        if (*at != l) continue;
        *at = l->next;
        break;
    }
    pr_process_kill(p); /* of its session, who outlived it */
    launched_free(l);
    char reason[PR_ERROR_BYTES];
    snprintf(reason, sizeof reason, "%s %s",
             ls->c.launch == PR_WORKER_LAUNCH_SRUN ? "srun" : "mpirun", how);
    ls->c.ended(ls->c.context, epoch, reason);
}

/* ---- start ---- */

static int32_t cpus_per_rank(const pr_launchers *ls)
{
    const char *cpus = pr_environment_get(ls->c.place->environment.words, "SLURM_CPUS_PER_TASK");
    if (ls->c.config->has_n_threads) return ls->c.config->n_threads;
    return cpus ? (int32_t)strtol(cpus, NULL, 10) : 0;
}

static pr_status command_build(const pr_launchers *ls, const pr_group *g, const char *folder,
                               pr_launch_command *out, pr_error *err)
{
    static const char *const levels[] = {"error", "warning", "info", "debug"};
    const pr_fleet_place *place = ls->c.place;
    const pr_config *c = ls->c.config;
    const pr_launch launch = {
        .mode = ls->c.launch,
        .launcher = place->launcher,
        .guard = place->guard,
        .program = place->program,
        .n_ranks = g->n_ranks,
        .connect = pr_listener_connect(place->listener),
        .group = g->name,
        .key_file = place->key_file,
        .log_level = levels[ls->c.log->level],
        .work_folder = folder,
        .hostfile = c->hostfile,
        .args = ls->c.launch == PR_WORKER_LAUNCH_MPIRUN ? c->mpirun_args : c->srun_args,
        .cpus_per_rank = cpus_per_rank(ls),
        .n_groups = c->data_parallel_size,
        .environment = place->environment.words,
    };
    return pr_launch_build(&launch, out, err);
}

/* Groups of one host have processors of their own: each counts only its own ranks, so that all
 * would take the same ones. This thread takes the group's slice of the processors on, which what it
 * starts inherits. False: there are too few, or they may be on other hosts; nothing was changed. */
static bool processors_take(const pr_launchers *ls, const pr_group *g, cpu_set_t *before)
{
    const pr_config *c = ls->c.config;
    int n_groups = c->data_parallel_size, n = 0, n_seen = 0;
    bool is_ours = ls->c.launch == PR_WORKER_LAUNCH_MPIRUN && !ls->c.place->leaves_host &&
                   n_groups > 1;
    if (!is_ours || sched_getaffinity(0, sizeof *before, before) != 0) return false;
    int n_cpus = CPU_COUNT(before), n_slice = n_cpus / n_groups;
    int64_t n_wanted = c->has_n_threads ? (int64_t)c->n_threads * g->n_ranks : 1;
    if (n_slice < 1 || n_wanted > n_slice) return false;
    cpu_set_t slice;
    CPU_ZERO(&slice);
    int begin = (int)(g->index % (uint32_t)n_groups) * n_slice;
    for (int cpu = 0; cpu < CPU_SETSIZE && n < n_slice; cpu++) {
        if (!CPU_ISSET(cpu, before) || n_seen++ < begin) continue;
        CPU_SET(cpu, &slice);
        n++;
    }
    return sched_setaffinity(0, sizeof slice, &slice) == 0;
}

static pr_status process_start(pr_launchers *ls, const pr_group *g, pr_launched *l, pr_error *err)
{
    const pr_fleet_place *place = ls->c.place;
    pr_launch_command command = {0};
    pr_status st = PR_OK;
    if (!place->leaves_host) st = pr_run_folder_make(place->folder, g->name, &l->folder, err);
    if (st == PR_OK) st = command_build(ls, g, l->folder, &command, err);
    if (st == PR_OK) {
        const pr_process_config config = {.loop = ls->c.loop, .command = &command, .line = on_line,
                                          .ended = on_launcher_ended, .context = l};
        cpu_set_t before;
        bool is_narrowed = processors_take(ls, g, &before);
        st = pr_process_start(&config, &l->process, err);
        if (is_narrowed) sched_setaffinity(0, sizeof before, &before);
    }
    pr_launch_command_deinit(&command);
    return st;
}

pr_status pr_launchers_start(pr_launchers *ls, const pr_group *g, pr_error *err)
{
    pr_launched *l = calloc(1, sizeof *l);
    if (!l) return pr_error_nomem(err, "launcher", sizeof *l);
    l->owner = ls;
    l->epoch = g->epoch;
    memcpy(l->name, g->name, sizeof l->name);
    pr_status st = process_start(ls, g, l, err);
    if (st != PR_OK) {
        launched_free(l);
        return st;
    }
    l->next = ls->first;
    ls->first = l;
    const pr_log_field field = pr_log_said(pr_log_text("group", g->name));
    pr_log_event(ls->c.log, PR_LOG_DEBUG, &field, 1, "group %s: launcher %d started", g->name,
                 pr_process_pid(l->process));
    return PR_OK;
}

/* ---- stop ---- */

void pr_launchers_stop(pr_launchers *ls, uint64_t epoch, bool is_forced)
{
    pr_launched *l = launched_find(ls, epoch);
    if (!l) return;
    if (is_forced) {
        pr_process_kill(l->process);
    } else {
        pr_process_terminate(l->process);
    }
}

void pr_launchers_kill_all(pr_launchers *ls)
{
    for (pr_launched *l = ls->first; l; l = l->next) pr_process_kill(l->process);
}
