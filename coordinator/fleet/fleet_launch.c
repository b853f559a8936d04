#define _GNU_SOURCE /* sched_setaffinity */
#include "coordinator/fleet/fleet_launch.h"

#include "coordinator/fleet/fleet_groups.h"

#include <assert.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

bool pr_fleet_is_launching(const pr_fleet *f)
{
    return f->c.launch == PR_WORKER_LAUNCH_MPIRUN || f->c.launch == PR_WORKER_LAUNCH_SRUN;
}

/* What ranks say goes into the log as they meant it; what the launcher says is for debugging. A
 * rank's error comes through its connection too, as the reason why its group ends. Ranks begin with
 * which one they are, not with their group's name. */
static void on_line(void *context, pr_process *p, const char *text)
{
    const pr_launched *l = context;
    const pr_log *log = l->fleet->c.log;
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
    pr_log_field fields[2] = {
        pr_log_said(pr_log_text("group", l->replica ? l->replica->group->name : NULL))};
    unsigned rank;
    size_t n = 1;
    if (sscanf(text, "rank %u", &rank) == 1 || sscanf(text, "error: rank %u", &rank) == 1) {
        fields[n++] = pr_log_said(pr_log_integer("rank", rank));
    }
    pr_log_event(log, level, fields, n, "%s", text);
}

static void launched_free(pr_launched *l)
{
    if (!l) return;
    if (l->folder) pr_tree_remove(l->folder);
    free(l->folder);
    free(l);
}

static void on_launcher_ended(void *context, pr_process *p, const char *how)
{
    pr_launched *l = context;
    pr_fleet *f = l->fleet;
    pr_replica *r = l->replica;
    assert(l->process == p);
    for (pr_launched **at = &f->launched; *at; at = &(*at)->next) {
        if (*at != l) continue;
        *at = l->next;
        break;
    }
    pr_process_kill(p); /* of its session, who outlived it */
    if (r) r->launched = NULL;
    launched_free(l);
    uv_async_send(&f->news); /* it may have been the last that a stop waits for */
    if (!r || f->phase != PR_FLEET_RUNNING) return;
    char reason[PR_ERROR_BYTES];
    snprintf(reason, sizeof reason, "%s %s",
             f->c.launch == PR_WORKER_LAUNCH_SRUN ? "srun" : "mpirun", how);
    pr_fleet_group_end(r, PR_E_UNAVAILABLE, reason);
}

static int32_t cpus_per_rank(const pr_fleet *f)
{
    const char *cpus = pr_environment_get(environ, "SLURM_CPUS_PER_TASK");
    if (f->c.config->has_n_threads) return f->c.config->n_threads;
    return cpus ? (int32_t)strtol(cpus, NULL, 10) : 0;
}

static pr_status command_build(pr_fleet *f, const pr_group *g, const char *folder,
                               pr_launch_command *out, pr_error *err)
{
    static const char *const levels[] = {"error", "warning", "info", "debug"};
    bool is_mpirun = f->c.launch == PR_WORKER_LAUNCH_MPIRUN;
    const pr_launch launch = {
        .mode = f->c.launch,
        .launcher = f->launcher,
        .guard = f->guard,
        .program = f->program,
        .n_ranks = g->n_ranks,
        .connect = pr_listener_connect(f->listener),
        .group = g->name,
        .key_file = f->key_file,
        .log_level = levels[f->c.log->level],
        .work_folder = folder,
        .hostfile = f->c.config->hostfile,
        .args = is_mpirun ? f->c.config->mpirun_args : f->c.config->srun_args,
        .cpus_per_rank = cpus_per_rank(f),
        .n_groups = f->c.config->data_parallel_size,
        .environment = environ,
    };
    return pr_launch_build(&launch, out, err);
}

/* Groups of one host have processors of their own: each counts only its own ranks, so that all
 * would take the same ones. This thread takes the group's slice of the processors on, which what it
 * starts inherits. False: there are too few, or they may be on other hosts; nothing was changed. */
static bool processors_take(const pr_replica *r, cpu_set_t *before)
{
    const pr_fleet *f = r->fleet;
    const pr_config *c = f->c.config;
    int n_groups = c->data_parallel_size, n = 0, n_seen = 0;
    bool is_ours = f->c.launch == PR_WORKER_LAUNCH_MPIRUN && !f->leaves_host && n_groups > 1;
    if (!is_ours || sched_getaffinity(0, sizeof *before, before) != 0) return false;
    int n_cpus = CPU_COUNT(before), n_slice = n_cpus / n_groups;
    int64_t n_wanted = c->has_n_threads ? (int64_t)c->n_threads * r->group->n_ranks : 1;
    if (n_slice < 1 || n_wanted > n_slice) return false;
    cpu_set_t slice;
    CPU_ZERO(&slice);
    int begin = (int)(r->group->index % (uint32_t)n_groups) * n_slice;
    for (int cpu = 0; cpu < CPU_SETSIZE && n < n_slice; cpu++) {
        if (!CPU_ISSET(cpu, before) || n_seen++ < begin) continue;
        CPU_SET(cpu, &slice);
        n++;
    }
    return sched_setaffinity(0, sizeof slice, &slice) == 0;
}

static pr_status process_start(pr_replica *r, pr_launched *l, pr_error *err)
{
    pr_fleet *f = r->fleet;
    pr_launch_command command = {0};
    pr_status st = PR_OK;
    if (!f->leaves_host) st = pr_run_folder_make(f->folder, r->group->name, &l->folder, err);
    if (st == PR_OK) st = command_build(f, r->group, l->folder, &command, err);
    if (st == PR_OK) {
        const pr_process_config config = {.loop = &f->loop, .command = &command, .line = on_line,
                                          .ended = on_launcher_ended, .context = l};
        cpu_set_t before;
        bool is_narrowed = processors_take(r, &before);
        st = pr_process_start(&config, &l->process, err);
        if (is_narrowed) sched_setaffinity(0, sizeof before, &before);
    }
    pr_launch_command_deinit(&command);
    return st;
}

/* A start has a name of its own: ranks of an earlier one are refused. */
void pr_fleet_launch(pr_replica *r)
{
    pr_fleet *f = r->fleet;
    pr_error err;
    char name[64];
    pr_launched *l = calloc(1, sizeof *l);
    pr_status st = l ? PR_OK : pr_error_nomem(&err, "launcher", sizeof *l);
    snprintf(name, sizeof name, "%" PRIu32 ".%" PRIu32, r->group->index, ++r->n_starts);
    pr_group_start(r->group, name, ++f->n_epochs);
    r->since_ms = uv_now(&f->loop);
    if (st == PR_OK) {
        *l = (pr_launched){.fleet = f, .replica = r};
        st = process_start(r, l, &err);
    }
    if (st != PR_OK) {
        launched_free(l);
        pr_fleet_group_end(r, st, err.message);
        return;
    }
    l->next = f->launched;
    f->launched = l;
    r->launched = l;
    const pr_log_field field = pr_log_said(pr_log_text("group", name));
    pr_log_event(f->c.log, PR_LOG_DEBUG, &field, 1, "group %s: launcher %d started", name,
                 pr_process_pid(l->process));
}

/* srun ends its step on every node when it is told to, not when it is killed, and mpirun then
 * clears away what its daemons keep on other hosts; ranks that are left leave because their
 * connection is closed. Nobody waits for it: the next start does not. */
void pr_fleet_launcher_kill(pr_replica *r)
{
    pr_launched *l = r->launched;
    if (!l) return;
    r->launched = NULL;
    l->replica = NULL;
    if (r->fleet->c.launch == PR_WORKER_LAUNCH_SRUN || r->fleet->leaves_host) {
        pr_process_terminate(l->process);
    } else {
        pr_process_kill(l->process);
    }
}
