#define _GNU_SOURCE
#include "coordinator/fleet/fleet.h"

#include "coordinator/model/fingerprint.h"
#include "coordinator/fleet/fleet_launch.h"
#include "coordinator/fleet/fleet_link.h"
#include "coordinator/fleet/fleet_place.h"
#include "coordinator/fleet/fleet_send.h"
#include "coordinator/fleet/fleet_step.h"
#include "coordinator/fleet/placement.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PING_MS_MAX = 1000,
    BACKLOG = 512,
    ACCEPT_AGAIN_MS = 100 /* a connection that there was no memory for */
};

/* An event that came of carrying an action out. */
typedef struct came_back {
    pr_fleet_event event; /* its text is the one below */
    char text[PR_ERROR_BYTES];
} came_back;

/* Everything belongs to the loop thread, but what stands below `lock`. */
struct pr_fleet {
    pr_fleet_config c;
    pr_fleet_rules rules;
    pr_fleet_load load;
    pr_fleet_place place;
    pr_fleet_state *state;
    pr_fleet_actions actions;
    came_back back[PR_FLEET_ACTIONS_MAX + 1]; /* [n_back], oldest first */
    size_t n_back;
    pr_launchers launchers;

    uv_loop_t loop;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_pipe_t pipe;
        uv_tcp_t tcp;
    } server;
    uv_async_t news;
    uv_timer_t tick;
    uint64_t tick_ms; /* when it fires; UINT64_MAX: it does not */
    bool has_unaccepted; /* a connection that there was no memory for waits at the server */
    pr_link_config link_config;
    bool is_closed, is_cancel_told, is_stop_told, is_drained_told;

    pthread_t thread;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    bool is_up, has_failed, is_cancelled, is_stopping;
    pr_error error;
    pr_worker_info info;
    char backend[PR_CONTROL_NAME_BYTES]; /* of info */
    pr_fleet_groups_now groups;
    pr_fleet_rank *ranks; /* [n_ranks] of the groups that are ready */
    size_t n_ranks;
};

extern char **environ;

/* ---- actions: what other threads see ---- */

static void publish(pr_fleet *f)
{
    pr_fleet_groups_now groups;
    pr_fleet_rank *ranks = NULL;
    pr_fleet_view_groups(f->state, &groups);
    size_t n_ranks = pr_fleet_view_ranks(f->state, &ranks);
    pthread_mutex_lock(&f->lock);
    f->groups = groups;
    free(f->ranks);
    f->ranks = ranks;
    f->n_ranks = n_ranks;
    pthread_mutex_unlock(&f->lock);
}

static void group_log(const pr_fleet *f, const pr_group *g, uint64_t ms)
{
    const pr_log_field field = pr_log_said(pr_log_text("group", g->name));
    pr_log_event(f->c.log, PR_LOG_INFO, &field, 1, "group %s is ready after %.3f s", g->name,
                 (double)ms / 1e3);
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

static void up_tell(pr_fleet *f, const pr_fleet_action *a)
{
    const pr_group *g = a->group;
    const pr_control_ready *pooling = &g->ranks[pr_group_pooling_rank(g)].ready;
    group_log(f, g, a->ms);
    publish(f); /* await is followed by a look at the ranks */
    pthread_mutex_lock(&f->lock);
    if (!f->is_up) {
        memcpy(f->backend, pooling->backend, sizeof f->backend);
        f->info = (pr_worker_info){.backend = f->backend, .width = pooling->width};
        for (uint32_t i = 0; i < g->n_ranks; i++) {
            f->info.weights_bytes += g->ranks[i].ready.weights_bytes;
        }
    }
    f->is_up = true;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static void failure_tell(pr_fleet *f, const pr_fleet_action *a)
{
    pthread_mutex_lock(&f->lock);
    f->has_failed = true;
    pr_error_set(&f->error, a->status, "%s", a->text);
    bool is_news = f->is_up; /* else await returns it */
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    if (is_news) pr_log_line(f->c.log, PR_LOG_ERROR, "%s", a->text);
}

static void log_write(const pr_fleet *f, const pr_fleet_action *a)
{
    pr_log_field fields[3];
    size_t n = 0;
    if (a->group_name) fields[n++] = pr_log_said(pr_log_text("group", a->group_name));
    if (a->rank != PR_FLEET_NO_RANK) fields[n++] = pr_log_said(pr_log_integer("rank", a->rank));
    if (a->reason) fields[n++] = pr_log_said(pr_log_text("reason", a->reason));
    pr_log_event(f->c.log, a->level, fields, n, "%s", a->text);
}

/* ---- actions: carried out ---- */

static void come_back(pr_fleet *f, pr_fleet_event event, const char *text)
{
    assert(f->n_back < sizeof f->back / sizeof *f->back);
    came_back *b = &f->back[f->n_back++];
    b->event = event;
    snprintf(b->text, sizeof b->text, "%s", text);
}

static void admit(pr_fleet *f, const pr_fleet_action *a)
{
    pr_error err;
    pr_link_seat_set(a->link, a->group->epoch, a->rank);
    pr_status st = pr_fleet_send_load(&f->load, a->group, a->link, &err);
    if (st == PR_OK) return;
    come_back(f, (pr_fleet_event){.kind = PR_FLEET_UNSENT, .epoch = a->group->epoch,
                                  .rank = a->rank, .status = st}, err.message);
}

static void send_out(pr_fleet *f, const pr_fleet_action *a)
{
    pr_error err;
    uint32_t rank;
    pr_status st = pr_fleet_send(a, &rank, &err);
    if (st == PR_OK) return;
    bool is_made = rank != PR_FLEET_NO_RANK;
    come_back(f, (pr_fleet_event){.kind = is_made ? PR_FLEET_UNSENT : PR_FLEET_UNPACKED,
                                  .epoch = a->group->epoch, .rank = rank, .batch = a->batch,
                                  .status = st}, err.message);
}

static void launch(pr_fleet *f, const pr_fleet_action *a)
{
    pr_error err;
    pr_status st = pr_launchers_start(&f->launchers, a->group, &err);
    if (st == PR_OK) return;
    come_back(f, (pr_fleet_event){.kind = PR_FLEET_LAUNCH_FAILED, .epoch = a->group->epoch,
                                  .status = st}, err.message);
}

static void complete(pr_fleet *f, pr_fleet_action *a)
{
    for (pr_batch *b = a->batch, *next; b; b = next) {
        next = b->next;
        pr_batch_queue_complete(f->c.queue, b, a->status == PR_OK ? &a->pooled : NULL, a->status,
                                a->text);
    }
    pr_pooled_deinit(&a->pooled);
}

static void cut(pr_fleet *f, const pr_fleet_action *a)
{
    pr_batch *singles = pr_batch_queue_split(f->c.queue, a->batch);
    pr_fleet_event e = {.kind = PR_FLEET_CUT_UP, .batch = singles ? singles : a->batch,
                        .status = singles ? PR_OK : PR_E_NOMEM};
    come_back(f, e, "no memory to run it again");
}

/* With the last of them the loop has nothing to run for. */
static void loop_end(pr_fleet *f)
{
    f->is_closed = true;
    pr_batch_queue_set_wake(f->c.queue, NULL, NULL);
    uv_close(&f->server.handle, NULL);
    uv_close((uv_handle_t *)&f->tick, NULL);
    pthread_mutex_lock(&f->lock); /* nobody calls uv_async_send with the lock from now on */
    uv_close((uv_handle_t *)&f->news, NULL);
    pthread_mutex_unlock(&f->lock);
}

static void words_ask(pr_fleet *f, const pr_fleet_action *a)
{
    come_back(f, (pr_fleet_event){.kind = PR_FLEET_WORDS, .epoch = a->epoch},
              pr_launchers_last_words(&f->launchers, a->epoch));
}

static void act(pr_fleet *f, pr_fleet_action *a)
{
    switch (a->kind) {
    case PR_FLEET_ADMIT:
        admit(f, a);
        break;
    case PR_FLEET_REFUSE:
        pr_fleet_send_refusal(a);
        break;
    case PR_FLEET_SEND:
        send_out(f, a);
        break;
    case PR_FLEET_DISMISS:
        pr_fleet_send_away(a);
        break;
    case PR_FLEET_LAUNCH:
        launch(f, a);
        break;
    case PR_FLEET_STOP_LAUNCHER:
        pr_launchers_stop(&f->launchers, a->epoch, a->is_forced);
        break;
    case PR_FLEET_KILL_ALL:
        pr_launchers_kill_all(&f->launchers);
        break;
    case PR_FLEET_ASK_WORDS:
        words_ask(f, a);
        break;
    case PR_FLEET_COMPLETE:
        complete(f, a);
        break;
    case PR_FLEET_CUT:
        cut(f, a);
        break;
    case PR_FLEET_UP:
        up_tell(f, a);
        break;
    case PR_FLEET_CHANGED:
        publish(f);
        break;
    case PR_FLEET_FAIL:
        failure_tell(f, a);
        break;
    case PR_FLEET_LOG:
        log_write(f, a);
        break;
    case PR_FLEET_CLOSE:
        loop_end(f);
        break;
    case PR_FLEET_ACTION_COUNT:
        assert(!"an action");
    }
}

/* ---- events ---- */

/* Until nothing comes of it any more. What came back is told before what was left to do. */
static void feed(pr_fleet *f, const pr_fleet_event *first)
{
    pr_fleet_event e = *first;
    came_back now;
    for (;;) {
        bool has_more = pr_fleet_step(f->state, &e, uv_now(&f->loop), &f->actions);
        for (size_t i = 0; i < f->actions.n; i++) act(f, &f->actions.list[i]);
        if (f->n_back > 0) {
            now = f->back[0];
            memmove(f->back, f->back + 1, --f->n_back * sizeof *f->back);
            e = now.event;
            e.text = now.text;
        } else if (has_more) {
            e = (pr_fleet_event){.kind = PR_FLEET_NEXT};
        } else {
            return;
        }
    }
}

static void on_tick(uv_timer_t *timer);
static void on_connection(uv_stream_t *server, int status);

/* What the queue has for the groups, then sleep until the next tick. */
static void turn_end(pr_fleet *f)
{
    pr_batch *b = NULL;
    while (!f->is_closed && pr_fleet_wants_batch(f->state, uv_now(&f->loop)) &&
           (b = pr_batch_queue_take(f->c.queue, false, NULL)) != NULL) {
        feed(f, &(pr_fleet_event){.kind = PR_FLEET_BATCH, .batch = b});
    }
    if (f->is_stop_told && !f->is_drained_told && pr_batch_queue_is_drained(f->c.queue)) {
        f->is_drained_told = true;
        feed(f, &(pr_fleet_event){.kind = PR_FLEET_DRAINED});
    }
    uint64_t due_ms = pr_fleet_due_ms(f->state), now_ms = uv_now(&f->loop);
    if (f->has_unaccepted && due_ms > now_ms + ACCEPT_AGAIN_MS) due_ms = now_ms + ACCEPT_AGAIN_MS;
    if (f->is_closed || due_ms == f->tick_ms) return;
    f->tick_ms = due_ms;
    uv_timer_start(&f->tick, on_tick, due_ms > now_ms ? due_ms - now_ms : 0, 0);
}

static void happen(pr_fleet *f, pr_fleet_event event)
{
    if (f->is_closed) return;
    feed(f, &event);
    turn_end(f);
}

static void on_tick(uv_timer_t *timer)
{
    pr_fleet *f = timer->data;
    f->tick_ms = UINT64_MAX;
    uv_update_time(&f->loop);
    if (f->has_unaccepted && !f->is_closed) on_connection(&f->server.stream, 0);
    happen(f, (pr_fleet_event){.kind = PR_FLEET_TICK});
}

/* Parts were pushed, the queue was closed, the fleet is to stop. */
static void on_news(uv_async_t *news)
{
    pr_fleet *f = news->data;
    pthread_mutex_lock(&f->lock);
    bool is_stopping = f->is_stopping, is_cancelled = f->is_cancelled;
    pthread_mutex_unlock(&f->lock);
    if (is_cancelled && !f->is_cancel_told) {
        f->is_cancel_told = true;
        happen(f, (pr_fleet_event){.kind = PR_FLEET_CANCEL});
    }
    if (is_stopping && !f->is_stop_told) {
        f->is_stop_told = true;
        happen(f, (pr_fleet_event){.kind = PR_FLEET_STOP});
    }
    if (!f->is_closed) turn_end(f);
}

static void on_connection(uv_stream_t *server, int status)
{
    pr_fleet *f = server->data;
    pr_link *link = NULL;
    pr_error err;
    pr_status st = status == 0 ? PR_OK
                               : pr_error_set(&err, PR_E_IO, "accept: %s", uv_strerror(status));
    if (st == PR_OK) st = pr_link_accept(server, &f->link_config, &link, &err);
    /* It waits, and with it those behind it, until it is tried again: libuv listens no further. */
    f->has_unaccepted = st == PR_E_NOMEM;
    if (st == PR_OK) {
        happen(f, (pr_fleet_event){.kind = PR_FLEET_CONNECTED, .link = link});
    } else {
        pr_log_line(f->c.log, PR_LOG_WARNING, "a connection was refused: %s", err.message);
        turn_end(f);
    }
}

static void on_joined(void *context, pr_link *link, const pr_control_hello *hello)
{
    happen(context, (pr_fleet_event){.kind = PR_FLEET_JOINED, .link = link, .hello = hello});
}

static void on_message(void *context, pr_link *link, pr_control_message *m)
{
    pr_fleet_event e = {.kind = PR_FLEET_MESSAGE, .message = m};
    e.epoch = pr_link_seat(link, &e.rank);
    happen(context, e);
}

static void on_link_ended(void *context, pr_link *link, const char *reason)
{
    pr_fleet_event e = {.link = link, .text = reason};
    e.epoch = pr_link_seat(link, &e.rank);
    e.kind = e.epoch ? PR_FLEET_LINK_ENDED : PR_FLEET_STRANGER_ENDED;
    happen(context, e);
}

static void on_launcher_ended(void *context, uint64_t epoch, const char *how)
{
    happen(context,
           (pr_fleet_event){.kind = PR_FLEET_LAUNCHER_ENDED, .epoch = epoch, .text = how});
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
    on_tick(&f->tick);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    return NULL;
}

/* ---- start ---- */

static pr_status loop_open(pr_fleet *f, pr_error *err)
{
    bool is_unix = pr_listener_is_unix(f->place.listener);
    int fd = pr_listener_fd_take(f->place.listener);
    uv_async_init(&f->loop, &f->news, on_news);
    uv_timer_init(&f->loop, &f->tick);
    int rc = is_unix ? uv_pipe_init(&f->loop, &f->server.pipe, 0)
                     : uv_tcp_init(&f->loop, &f->server.tcp);
    f->news.data = f->tick.data = f->server.handle.data = f;
    f->link_config = (pr_link_config){
        .loop = &f->loop, .key = &f->place.key, .version = POOLRANK_VERSION, .is_unix = is_unix,
        .joined = on_joined, .message = on_message, .ended = on_link_ended, .context = f,
    };
    assert(rc == 0);
    rc = is_unix ? uv_pipe_open(&f->server.pipe, fd) : uv_tcp_open(&f->server.tcp, fd);
    if (rc != 0) close(fd);
    if (rc == 0) rc = uv_listen(&f->server.stream, BACKLOG, on_connection);
    if (rc == 0) return PR_OK;
    return pr_error_set(err, PR_E_IO, "listen at %s: %s", pr_listener_connect(f->place.listener),
                        uv_strerror(rc));
}

static void start_log(const pr_fleet *f)
{
    const char *at = pr_listener_connect(f->place.listener);
    if (f->c.launch == PR_WORKER_LAUNCH_EXTERNAL) {
        pr_log_line(f->c.log, PR_LOG_WARNING,
                    "waiting for replica groups; each is started with: mpirun -n %" PRIu32
                    " --bind-to none poolrank worker --connect %s --cluster-key-file %s",
                    f->rules.tp_size * f->rules.n_stages, at, f->place.key_file);
    } else if (f->c.launch == PR_WORKER_LAUNCH_JOB) {
        pr_log_line(f->c.log, PR_LOG_WARNING,
                    "worker-launch job: a rank that dies ends the whole job, and requests with it");
    }
    pr_log_line(f->c.log, PR_LOG_INFO, "ranks connect to %s", at);
}

static void rules_make(pr_fleet *f)
{
    const pr_config *c = f->c.config;
    const pr_model *model = f->c.model;
    uint64_t hang_ms = (uint64_t)c->hang_timeout * 1000;
    uint64_t n_width = (uint64_t)model->n_width;
    uint64_t n_hidden = (uint64_t)model->spec.hidden_size;
    f->rules = (pr_fleet_rules){
        .launch = f->c.launch,
        .leaves_host = f->place.leaves_host,
        .tp_size = (uint32_t)c->tensor_parallel_size,
        .n_stages = (uint32_t)c->pipeline_parallel_size,
        .n_groups = (uint32_t)c->data_parallel_size,
        .hang_timeout_s = c->hang_timeout,
        .start_timeout_s = c->start_timeout,
        .hang_ms = hang_ms,
        .start_ms = (uint64_t)c->start_timeout * 1000,
        .ping_ms = hang_ms / 4 < PING_MS_MAX ? hang_ms / 4 : PING_MS_MAX,
        .model_fingerprint = f->load.model_fingerprint,
        .n_columns_max = n_width < n_hidden ? n_hidden : n_width,
    };
}

/* How many groups share the GPUs of a host, each with a slice of them. */
static uint32_t slices_count(const pr_fleet *f)
{
    const char *n_nodes = pr_environment_get(f->place.environment.words, "SLURM_JOB_NUM_NODES");
    if (f->c.config->device != PR_DEVICE_CHOICE_CUDA) return 1;
    return (uint32_t)pr_placement_slices(f->c.config, f->c.launch,
                                         n_nodes ? (int32_t)strtol(n_nodes, NULL, 10) : 0);
}

static pr_status fleet_open(pr_fleet *f, pr_error *err)
{
    f->load = (pr_fleet_load){.n_rows_max = f->c.n_rows_max,
                              .n_positions_max = f->c.n_positions_max,
                              .options = f->c.options,
                              .n_options = f->c.n_options};
    pr_status st = pr_fleet_place_open(f->c.config, f->c.launch, environ, &f->place, err);
    if (st == PR_OK) st = pr_model_fingerprint(f->c.model, &f->load.model_fingerprint, err);
    if (st != PR_OK) return st;
    f->load.n_slices = slices_count(f);
    f->launchers.c = (pr_launchers_config){
        .loop = &f->loop, .place = &f->place, .config = f->c.config, .launch = f->c.launch,
        .log = f->c.log, .ended = on_launcher_ended, .context = f,
    };
    rules_make(f);
    return pr_fleet_state_create(&f->rules, uv_now(&f->loop), &f->state, err);
}

/* The loop has ended, or was never run. */
static void fleet_free(pr_fleet *f)
{
    int rc = uv_loop_close(&f->loop);
    assert(rc == 0);
    (void)rc;
    pr_fleet_state_free(f->state);
    pr_fleet_place_close(&f->place);
    free(f->ranks);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    free(f);
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
    f->c = *config;
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
    return pr_listener_connect(f->place.listener);
}

const char *pr_fleet_key_file(const pr_fleet *f)
{
    return f->place.key_file;
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
