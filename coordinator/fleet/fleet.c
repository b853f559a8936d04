#define _GNU_SOURCE
#include "coordinator/fleet/fleet.h"

#include "coordinator/model/fingerprint.h"
#include "coordinator/fleet/fleet_batches.h"
#include "coordinator/fleet/fleet_groups.h"
#include "runtime/base/file.h"

#include <assert.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PING_MS_MAX = 1000,
    LEAVE_MS = 5000, /* for ranks to leave when they are told to */
    BACKLOG = 512
};

extern char **environ;

void pr_fleet_fail(pr_fleet *f, pr_status st, const char *message)
{
    if (f->is_over) return;
    f->is_over = true;
    pthread_mutex_lock(&f->lock);
    f->has_failed = true;
    pr_error_set(&f->error, st, "%s", message);
    bool is_news = f->is_up; /* else await returns it */
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    if (is_news) pr_log_line(f->c.log, PR_LOG_ERROR, "%s", message);
    uv_async_send(&f->news);
}

/* ---- the loop ---- */

static void on_tick(uv_timer_t *timer);

void pr_fleet_tick_within(pr_fleet *f, uint64_t ms)
{
    if (f->phase == PR_FLEET_CLOSED) return;
    if (uv_is_active((uv_handle_t *)&f->tick) && uv_timer_get_due_in(&f->tick) <= ms) return;
    uv_timer_start(&f->tick, on_tick, ms, 0);
}

/* With the last of them the loop has nothing to run for. */
static void loop_end(pr_fleet *f)
{
    f->phase = PR_FLEET_CLOSED;
    pr_batch_queue_set_wake(f->c.queue, NULL, NULL);
    uv_close(&f->server.handle, NULL);
    uv_close((uv_handle_t *)&f->tick, NULL);
    pthread_mutex_lock(&f->lock); /* nobody calls uv_async_send with the lock from now on */
    uv_close((uv_handle_t *)&f->news, NULL);
    pthread_mutex_unlock(&f->lock);
}

static void leave_check(pr_fleet *f)
{
    pthread_mutex_lock(&f->lock);
    bool is_stopping = f->is_stopping, is_cancelled = f->is_cancelled;
    pthread_mutex_unlock(&f->lock);
    if (is_cancelled && !f->was_up) pr_fleet_fail(f, PR_E_CANCELLED, "cancelled");
    if (f->phase == PR_FLEET_RUNNING && is_stopping && pr_fleet_is_idle(f) &&
        pr_fleet_groups_may_leave(f)) {
        f->phase = PR_FLEET_LEAVING;
        f->leave_ms = uv_now(&f->loop);
        pr_fleet_groups_leave(f);
    }
    if (f->phase != PR_FLEET_LEAVING) return;
    if (uv_now(&f->loop) - f->leave_ms >= LEAVE_MS) pr_fleet_groups_kill(f);
    if (pr_fleet_groups_are_gone(f)) loop_end(f);
}

static void loop_turn(pr_fleet *f)
{
    if (f->phase == PR_FLEET_CLOSED) return;
    uv_update_time(&f->loop);
    uint64_t next_ms = f->phase == PR_FLEET_RUNNING ? pr_fleet_groups_tick(f) : PING_MS_MAX;
    pr_fleet_dispatch(f);
    pr_fleet_groups_publish(f);
    leave_check(f);
    pr_fleet_tick_within(f, next_ms);
}

static void on_tick(uv_timer_t *timer)
{
    loop_turn(timer->data);
}

/* Parts were pushed, the queue was closed, the fleet is to stop. */
static void on_news(uv_async_t *news)
{
    pr_fleet *f = news->data;
    if (f->phase == PR_FLEET_CLOSED) return;
    pr_fleet_dispatch(f);
    leave_check(f);
}

static void wake(void *context)
{
    uv_async_send(&((pr_fleet *)context)->news);
}

/* A write to a rank that left must not end the process: SIGPIPE stays with this thread. Other
 * signals are for the threads of the program; libuv waits for children with SIGCHLD. */
static void *fleet_main(void *context)
{
    pr_fleet *f = context;
    sigset_t blocked;
    sigfillset(&blocked);
    sigdelset(&blocked, SIGCHLD);
    pthread_sigmask(SIG_SETMASK, &blocked, NULL);
    loop_turn(f);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    return NULL;
}

/* ---- start ---- */

static pr_status program_find(pr_fleet *f, pr_error *err)
{
    const pr_config *c = f->c.config;
    bool is_mpirun = f->c.launch == PR_WORKER_LAUNCH_MPIRUN;
    pr_status st = pr_launch_leaves_host(f->c.launch, c->hostfile,
                                         is_mpirun ? c->mpirun_args : NULL, environ,
                                         &f->leaves_host, err);
    if (f->c.launch == PR_WORKER_LAUNCH_EXTERNAL) f->leaves_host = true;
    if (f->c.launch == PR_WORKER_LAUNCH_JOB) f->leaves_host = c->job_leaves_host;
    if (st != PR_OK || f->c.launch == PR_WORKER_LAUNCH_EXTERNAL) return st;
    if (f->leaves_host && !c->cluster_key_file) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "cluster-key-file: ranks on other hosts need one that they can read "
                            "too; make it with: (umask 077; openssl rand -hex 32 > FILE)");
    }
    if (f->c.launch == PR_WORKER_LAUNCH_JOB) return PR_OK;
    st = pr_launcher_find(f->c.launch, pr_environment_get(environ, "PATH"), &f->launcher, err);
    /* On several hosts mpirun is left to clear away what it has on the others. */
    bool is_guarded = st == PR_OK && is_mpirun && !f->leaves_host;
    if (is_guarded) f->guard = pr_launcher_guard_find(pr_environment_get(environ, "PATH"));
    const char *named = pr_environment_get(environ, "POOLRANK_PROGRAM");
    if (st == PR_OK) st = pr_launcher_program_find(named, &f->program, err);
    return st;
}

static pr_status key_make(pr_fleet *f, pr_error *err)
{
    const char *given = f->c.config->cluster_key_file;
    pr_status st = PR_OK;
    f->key_file = given ? realpath(given, NULL)
                        : pr_path_join(pr_run_folder_path(f->folder), "key");
    if (!f->key_file && given) f->key_file = strdup(given);
    if (!f->key_file) return pr_error_nomem(err, "path", 0);
    if (!given) st = pr_key_create(f->key_file, err);
    if (st == PR_OK) st = pr_key_read(f->key_file, &f->key, err);
    return given && st != PR_OK ? pr_error_context(err, st, "cluster-key-file") : st;
}

static pr_status listener_open(pr_fleet *f, pr_error *err)
{
    pr_listen_at at = {0};
    const char *given = f->c.config->ctrl_interface;
    if (given) {
        pr_status st = pr_listen_parse(given, &at, err);
        if (st != PR_OK) return st;
    } else if (!f->leaves_host) {
        at.is_unix = true;
        snprintf(at.name, sizeof at.name, "%s/ctrl", pr_run_folder_path(f->folder));
    }
    return pr_listener_open(&at, &f->listener, err);
}

static pr_status loop_open(pr_fleet *f, pr_error *err)
{
    bool is_unix = pr_listener_is_unix(f->listener);
    int fd = pr_listener_fd_take(f->listener);
    uv_async_init(&f->loop, &f->news, on_news);
    uv_timer_init(&f->loop, &f->tick);
    int rc = is_unix ? uv_pipe_init(&f->loop, &f->server.pipe, 0)
                     : uv_tcp_init(&f->loop, &f->server.tcp);
    f->news.data = f->tick.data = f->server.handle.data = f;
    f->link_config = pr_fleet_link_config(f);
    assert(rc == 0);
    rc = is_unix ? uv_pipe_open(&f->server.pipe, fd) : uv_tcp_open(&f->server.tcp, fd);
    if (rc != 0) close(fd);
    if (rc == 0) rc = uv_listen(&f->server.stream, BACKLOG, pr_fleet_on_connection);
    if (rc == 0) return PR_OK;
    return pr_error_set(err, PR_E_IO, "listen at %s: %s", pr_listener_connect(f->listener),
                        uv_strerror(rc));
}

static void start_log(const pr_fleet *f)
{
    const char *at = pr_listener_connect(f->listener);
    if (f->c.launch == PR_WORKER_LAUNCH_EXTERNAL) {
        pr_log_line(f->c.log, PR_LOG_WARNING,
                    "waiting for replica groups; each is started with: mpirun -n %" PRIu32
                    " --bind-to none poolrank worker --connect %s --cluster-key-file %s",
                    f->tp_size * f->n_stages, at, f->key_file);
    } else if (f->c.launch == PR_WORKER_LAUNCH_JOB) {
        pr_log_line(f->c.log, PR_LOG_WARNING,
                    "worker-launch job: a rank that dies ends the whole job, and requests with it");
    }
    pr_log_line(f->c.log, PR_LOG_INFO, "ranks connect to %s", at);
}

static void config_take(pr_fleet *f, const pr_fleet_config *config)
{
    const pr_config *c = config->config;
    f->c = *config;
    f->tp_size = (uint32_t)c->tensor_parallel_size;
    f->n_stages = (uint32_t)c->pipeline_parallel_size;
    f->hang_ms = (uint64_t)c->hang_timeout * 1000;
    f->start_ms = (uint64_t)c->start_timeout * 1000;
    f->ping_ms = f->hang_ms / 4 < PING_MS_MAX ? f->hang_ms / 4 : PING_MS_MAX;
    f->down_ms = uv_now(&f->loop);
}

static void fleet_free(pr_fleet *f);

static pr_status fleet_open(pr_fleet *f, pr_error *err)
{
    const char *runtime_folder = pr_environment_get(environ, "XDG_RUNTIME_DIR");
    pr_status st = program_find(f, err);
    if (st == PR_OK) st = pr_run_folder_open(runtime_folder, &f->folder, err);
    if (st == PR_OK) st = key_make(f, err);
    if (st == PR_OK) st = listener_open(f, err);
    if (st == PR_OK) st = pr_model_fingerprint(f->c.model, &f->model_fingerprint, err);
    if (st == PR_OK) st = pr_fleet_groups_create(f, err);
    return st;
}

pr_status pr_fleet_start(const pr_fleet_config *config, pr_fleet **out, pr_error *err)
{
    pr_fleet *f = calloc(1, sizeof *f);
    if (!f) return pr_error_nomem(err, "fleet", sizeof *f);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    if (uv_loop_init(&f->loop) != 0) {
        free(f);
        return pr_error_set(err, PR_E_IO, "event loop: no file descriptor is left");
    }
    config_take(f, config);
    pr_status st = fleet_open(f, err);
    bool has_loop = st == PR_OK;
    if (st == PR_OK) st = loop_open(f, err);
    if (st == PR_OK) {
        start_log(f);
        pr_batch_queue_set_wake(f->c.queue, wake, f);
        if (pthread_create(&f->thread, NULL, fleet_main, f) != 0) {
            st = pr_error_set(err, PR_E_INTERNAL, "cannot start a thread");
        }
    }
    if (st != PR_OK) {
        if (has_loop) loop_end(f);
        uv_run(&f->loop, UV_RUN_DEFAULT);
        fleet_free(f);
        return st;
    }
    *out = f;
    return PR_OK;
}

/* ---- from other threads ---- */

const char *pr_fleet_address(const pr_fleet *f)
{
    return pr_listener_connect(f->listener);
}

const char *pr_fleet_key_file(const pr_fleet *f)
{
    return f->key_file;
}

pr_status pr_fleet_await(pr_fleet *f, pr_worker_info *info, pr_error *err)
{
    pr_status st = PR_OK;
    pthread_mutex_lock(&f->lock);
    while (!f->is_up && !f->has_failed) pthread_cond_wait(&f->changed, &f->lock);
    if (f->has_failed) {
        st = pr_error_set(err, f->error.status, "%s", f->error.message);
    } else {
        *info = f->info;
    }
    pthread_mutex_unlock(&f->lock);
    return st;
}

void pr_fleet_cancel(pr_fleet *f)
{
    pthread_mutex_lock(&f->lock);
    f->is_cancelled = true;
    uv_async_send(&f->news);
    pthread_mutex_unlock(&f->lock);
}

void pr_fleet_groups_get(pr_fleet *f, pr_fleet_groups_now *out)
{
    pthread_mutex_lock(&f->lock);
    *out = f->groups;
    pthread_mutex_unlock(&f->lock);
}

size_t pr_fleet_ranks(pr_fleet *f, pr_fleet_rank **out)
{
    pthread_mutex_lock(&f->lock);
    size_t n = f->n_ranks;
    pr_fleet_rank *copy = n ? malloc(n * sizeof *copy) : NULL;
    if (copy) memcpy(copy, f->ranks, n * sizeof *copy);
    pthread_mutex_unlock(&f->lock);
    *out = copy;
    return copy ? n : 0;
}

/* The loop has ended, or was never run. */
static void fleet_free(pr_fleet *f)
{
    int rc = uv_loop_close(&f->loop);
    assert(rc == 0);
    (void)rc;
    pr_fleet_groups_free(f);
    pr_listener_close(f->listener);
    pr_run_folder_close(f->folder);
    memset(&f->key, 0, sizeof f->key);
    free(f->key_file);
    free(f->launcher);
    free(f->guard);
    free(f->program);
    free(f->ranks);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

void pr_fleet_stop(pr_fleet *f)
{
    if (!f) return;
    pthread_mutex_lock(&f->lock);
    f->is_stopping = true;
    uv_async_send(&f->news);
    pthread_mutex_unlock(&f->lock);
    pthread_join(f->thread, NULL);
    fleet_free(f);
}
