#define _GNU_SOURCE
#include "worker/rank.h"

#include "worker/rank_io.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    BATCHES_MAX = 64,  /* waiting; a coordinator sends n_stages + n_slots ahead */
    LEAVE_SECONDS = 10 /* to close and finalize after SHUTDOWN, when nobody watches */
};

/* A message, and the frame that it points into. */
typedef struct item {
    struct item *next;
    pr_control_message message;
    char payload[];
} item;

struct pr_rank {
    int fd;
    pr_frame_reader reader; /* control thread */
    uint32_t rank, n_ranks;
    const pr_rank_ops *ops;
    void *context;
    const pr_log *log;

    pthread_mutex_t send_lock; /* one frame at a time goes out */
    pthread_mutex_t lock;      /* guards all below */
    pthread_cond_t news;
    item *first, *last;        /* LOAD, then BATCHes */
    size_t n_items;
    bool is_shut_down;         /* SHUTDOWN came */
    bool is_stopping;
    pr_control_comm_id comm_id; /* n_bytes 0: none came */

    /* control thread */
    bool has_load;
    uint64_t seq_received;

    /* what PONG says */
    atomic_uint_fast64_t epoch, batch_seq, n_steps;
    atomic_bool is_computing;

    pthread_t control;
    bool has_control;
};

/* ---- sending ---- */

static pr_status message_send(pr_rank *r, const pr_control_message *message, pr_error *err)
{
    pr_buffer frame;
    pr_buffer_init(&frame);
    pr_status st = pr_control_pack(message, &frame, err);
    if (st == PR_OK) {
        pthread_mutex_lock(&r->send_lock);
        st = pr_rank_write(r->fd, frame.data, frame.n, err);
        pthread_mutex_unlock(&r->send_lock);
    }
    pr_buffer_deinit(&frame);
    return st;
}

/* Tells the coordinator why this rank ends its group, if it still listens. */
static void failure_send(pr_rank *r, uint64_t batch_seq, pr_status st, const char *text)
{
    pr_control_message m = {.kind = PR_CONTROL_FAILED,
                            .reason = {.epoch = atomic_load(&r->epoch), .batch_seq = batch_seq,
                                       .status = st}};
    snprintf(m.reason.message, sizeof m.reason.message, "%s", text);
    message_send(r, &m, NULL);
}

/* ---- control thread ---- */

/* The compute thread may be inside a collective that never ends: nothing is cleaned up. */
__attribute__((noreturn)) static void leave_now(pr_rank *r, const char *why)
{
    const pr_log_field field = pr_log_said(pr_log_integer("rank", r->rank));
    pr_log_event(r->log, PR_LOG_ERROR, &field, 1, "rank %" PRIu32 ": %s", r->rank, why);
    _exit(1);
}

__attribute__((noreturn)) static void refuse_now(pr_rank *r, pr_status st, const char *why)
{
    failure_send(r, atomic_load(&r->batch_seq), st, why);
    leave_now(r, why);
}

/* Hands a message over: *message consumed. */
static void item_push(pr_rank *r, item *it)
{
    pthread_mutex_lock(&r->lock);
    bool has_room = r->n_items < BATCHES_MAX;
    if (has_room) {
        if (r->last) r->last->next = it;
        if (!r->first) r->first = it;
        r->last = it;
        r->n_items++;
        pthread_cond_broadcast(&r->news);
    }
    pthread_mutex_unlock(&r->lock);
    if (!has_room) refuse_now(r, PR_E_OVERLOADED, "more than 64 batches wait here");
}

static void pong_send(pr_rank *r, uint64_t id)
{
    const pr_control_message pong = {
        .kind = PR_CONTROL_PONG,
        .ping = {.id = id, .epoch = atomic_load(&r->epoch), .batch_seq = atomic_load(&r->batch_seq),
                 .is_computing = atomic_load(&r->is_computing),
                 .n_steps = atomic_load(&r->n_steps)}};
    pr_error err;
    if (message_send(r, &pong, &err) != PR_OK) leave_now(r, err.message);
}

static void load_take(pr_rank *r, const pr_control_load *load)
{
    pr_error err;
    if (r->has_load) refuse_now(r, PR_E_INTERNAL, "a second LOAD");
    atomic_store(&r->epoch, load->epoch);
    pr_status st = pr_rank_load_check(load, r->n_ranks, &err);
    if (st != PR_OK) refuse_now(r, st, err.message);
    r->has_load = true;
}

static void batch_take(pr_rank *r, const pr_control_batch *batch)
{
    pr_error err;
    if (!r->has_load) refuse_now(r, PR_E_INTERNAL, "a BATCH before LOAD");
    pr_status st = pr_rank_batch_check(batch, atomic_load(&r->epoch), r->seq_received, &err);
    if (st != PR_OK) refuse_now(r, st, err.message);
    r->seq_received = batch->batch_seq;
}

static void comm_id_take(pr_rank *r, const pr_control_comm_id *id)
{
    if (!r->has_load || id->epoch != atomic_load(&r->epoch)) {
        refuse_now(r, PR_E_INTERNAL, "a COMM_ID before LOAD or of another epoch");
    }
    pthread_mutex_lock(&r->lock);
    bool is_second = r->comm_id.n_bytes > 0;
    r->comm_id = *id;
    pthread_cond_broadcast(&r->news);
    pthread_mutex_unlock(&r->lock);
    if (is_second) refuse_now(r, PR_E_INTERNAL, "a second COMM_ID");
}

/* Whether the compute thread gets the message. */
static bool message_take(pr_rank *r, pr_control_message *m)
{
    char text[PR_ERROR_BYTES + 64];
    switch (m->kind) {
    case PR_CONTROL_PING:
        pong_send(r, m->ping.id);
        return false;
    case PR_CONTROL_LOAD:
        load_take(r, &m->load);
        return true;
    case PR_CONTROL_BATCH:
        batch_take(r, &m->batch);
        return true;
    case PR_CONTROL_COMM_ID:
        comm_id_take(r, &m->comm_id);
        return false;
    case PR_CONTROL_SHUTDOWN:
        pthread_mutex_lock(&r->lock);
        r->is_shut_down = true;
        pthread_cond_broadcast(&r->news);
        pthread_mutex_unlock(&r->lock);
        return false;
    case PR_CONTROL_ABORT:
        snprintf(text, sizeof text, "the coordinator ends this group: %s", m->reason.message);
        leave_now(r, text);
    case PR_CONTROL_REFUSE:
        if (r->has_load) break;
        return true;
    default:
        break;
    }
    snprintf(text, sizeof text, "a message of kind %d, which is not for a rank", (int)m->kind);
    refuse_now(r, PR_E_INTERNAL, text);
}

static void frame_take(pr_rank *r, const char *payload, size_t n)
{
    pr_error err;
    item *it = malloc(sizeof *it + n);
    if (!it) refuse_now(r, PR_E_NOMEM, "no memory for a message");
    it->next = NULL;
    memcpy(it->payload, payload, n);
    pr_status st = pr_control_unpack(it->payload, n, &it->message, &err);
    if (st != PR_OK) refuse_now(r, st, err.message);
    if (message_take(r, &it->message)) {
        item_push(r, it);
        return;
    }
    pr_control_message_deinit(&it->message);
    free(it);
}

/* Whatever of the stream is whole. */
static void frames_take(pr_rank *r)
{
    for (;;) {
        const char *payload = NULL;
        size_t n = 0;
        pr_error err;
        pr_status st = pr_frame_reader_next(&r->reader, &payload, &n, &err);
        if (st != PR_OK) refuse_now(r, st, err.message);
        if (!payload) return;
        frame_take(r, payload, n);
    }
}

/* The coordinator has hung up. After SHUTDOWN a rank that has run everything may finish leaving,
 * but not for ever. */
static void hung_up(pr_rank *r, const char *why)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += LEAVE_SECONDS;
    pthread_mutex_lock(&r->lock);
    bool may_leave = r->is_stopping || (r->is_shut_down && r->n_items == 0 &&
                                        !atomic_load(&r->is_computing));
    int rc = 0;
    while (may_leave && !r->is_stopping && rc == 0) {
        rc = pthread_cond_timedwait(&r->news, &r->lock, &until);
    }
    bool is_stopping = r->is_stopping;
    pthread_mutex_unlock(&r->lock);
    if (!is_stopping) leave_now(r, may_leave ? "still here long after SHUTDOWN" : why);
}

static void *control_main(void *context)
{
    pr_rank *r = context;
    frames_take(r);
    for (;;) {
        pr_error err;
        size_t n = 0;
        pr_status st = pr_rank_read(r->fd, -1, &r->reader, &n, &err);
        if (st != PR_OK || n == 0) {
            hung_up(r, st != PR_OK ? err.message : "the coordinator is gone");
            return NULL;
        }
        frames_take(r);
    }
}

/* ---- compute thread ---- */

/* The next message in order; NULL when there is none: after SHUTDOWN, or just now if nobody
 * waits. */
static item *item_pop(pr_rank *r, bool waits)
{
    pthread_mutex_lock(&r->lock);
    while (waits && !r->first && !r->is_shut_down) pthread_cond_wait(&r->news, &r->lock);
    item *it = r->first;
    if (it) {
        r->first = it->next;
        if (!r->first) r->last = NULL;
        r->n_items--;
        atomic_store(&r->is_computing, true);
    }
    pthread_mutex_unlock(&r->lock);
    return it;
}

static void item_free(item *it)
{
    if (!it) return;
    pr_control_message_deinit(&it->message);
    free(it);
}

static pr_status rows_send(pr_rank *r, const pr_control_batch *batch, const pr_pooled *pooled,
                           uint64_t n_bytes, pr_error *err)
{
    for (uint64_t offset = 0; offset < n_bytes; offset += PR_CONTROL_CHUNK_BYTES) {
        uint64_t n = n_bytes - offset;
        if (n > PR_CONTROL_CHUNK_BYTES) n = PR_CONTROL_CHUNK_BYTES;
        const pr_control_message m = {
            .kind = PR_CONTROL_RESULT,
            .result = {.epoch = batch->epoch, .batch_seq = batch->batch_seq, .offset = offset,
                       .bytes = (const char *)pooled->data + offset, .n_bytes = (uint32_t)n}};
        pr_status st = message_send(r, &m, err);
        if (st != PR_OK) return st;
    }
    return PR_OK;
}

/* The pooling rank's answer: the rows, one sequence's after the other's, then their shapes. */
static pr_status result_send(pr_rank *r, const pr_control_batch *batch, const pr_pooled *pooled,
                             pr_error *err)
{
    uint32_t n = pooled->n_sequences;
    uint32_t *shapes = malloc((n ? n : 1) * 2 * sizeof *shapes);
    if (!shapes) return pr_error_nomem(err, "shapes", n * 2 * sizeof *shapes);
    uint64_t n_floats = 0;
    for (uint32_t i = 0; i < n; i++) {
        assert(pooled->rows[i].offset == n_floats);
        shapes[2 * i] = pooled->rows[i].n_rows;
        shapes[2 * i + 1] = pooled->rows[i].n_columns;
        n_floats += (uint64_t)shapes[2 * i] * shapes[2 * i + 1];
    }
    pr_status st = rows_send(r, batch, pooled, n_floats * sizeof(float), err);
    const pr_control_message done = {
        .kind = PR_CONTROL_DONE,
        .done = {.epoch = batch->epoch, .batch_seq = batch->batch_seq, .n_sequences = n,
                 .shapes = shapes}};
    if (st == PR_OK) st = message_send(r, &done, err);
    free(shapes);
    return st;
}

static pr_status batch_failed(pr_rank *r, const pr_control_batch *batch, pr_status st,
                              pr_error *err)
{
    failure_send(r, batch->batch_seq, st, err->message);
    return pr_error_context(err, st, "batch %" PRIu64, batch->batch_seq);
}

static pr_status batch_begin(pr_rank *r, const pr_control_batch *batch, pr_error *err)
{
    atomic_store(&r->batch_seq, batch->batch_seq);
    atomic_fetch_add(&r->n_steps, 1);
    pr_status st = r->ops->begin(r->context, batch, err);
    return st == PR_OK ? st : batch_failed(r, batch, st, err);
}

/* is_last: no other batch was begun. */
static pr_status batch_finish(pr_rank *r, const pr_control_batch *batch, bool is_pooling,
                              bool is_last, pr_error *err)
{
    pr_pooled pooled = {0};
    pr_status st = r->ops->finish(r->context, &pooled, err);
    atomic_fetch_add(&r->n_steps, 1);
    if (st == PR_OK && is_last) atomic_store(&r->is_computing, false);
    if (st == PR_OK && is_pooling) st = result_send(r, batch, &pooled, err);
    pr_pooled_deinit(&pooled);
    return st == PR_OK ? st : batch_failed(r, batch, st, err);
}

/* Begins as many batches as may overlap before it waits for the oldest. */
static pr_status batches_run(pr_rank *r, bool is_pooling, pr_error *err)
{
    item *first = NULL, *last = NULL; /* begun, linked by next */
    int n_begun = 0, n_slots = r->ops->n_slots(r->context);
    pr_status st = PR_OK;
    for (;;) {
        item *it = n_begun < n_slots ? item_pop(r, n_begun == 0) : NULL;
        if (it) {
            it->next = NULL;
            *(last ? &last->next : &first) = it;
            last = it;
            n_begun++;
            if ((st = batch_begin(r, &it->message.batch, err)) != PR_OK) break;
            if (n_begun < n_slots) continue;
        }
        if (n_begun == 0) return PR_OK;
        st = batch_finish(r, &first->message.batch, is_pooling, n_begun == 1, err);
        if (st != PR_OK) break;
        it = first;
        first = it->next;
        if (!first) last = NULL;
        n_begun--;
        item_free(it);
    }
    while (first) {
        item *it = first;
        first = it->next;
        item_free(it);
    }
    return st;
}

static pr_status load_run(pr_rank *r, const pr_control_load *load, pr_error *err)
{
    pr_control_message m = {.kind = PR_CONTROL_READY, .ready = {.epoch = load->epoch}};
    pr_status st = r->ops->open(r->context, load, &r->n_steps, &m.ready, err);
    if (st == PR_OK) {
        m.ready.n_slots = (uint32_t)r->ops->n_slots(r->context);
        atomic_store(&r->is_computing, false); /* before the coordinator can know and hang up */
        return message_send(r, &m, err);
    }
    failure_send(r, 0, st, err->message);
    return st;
}

static pr_status load_await(pr_rank *r, bool *is_pooling, bool *is_over, pr_error *err)
{
    item *it = item_pop(r, true);
    *is_over = !it;
    if (!it) return PR_OK;
    pr_status st;
    if (it->message.kind == PR_CONTROL_REFUSE) {
        st = pr_error_set(err, PR_E_UNAVAILABLE, "the coordinator refused this rank: %s",
                          it->message.reason.message);
    } else {
        const pr_control_load *load = &it->message.load;
        *is_pooling = r->rank == (load->n_stages - 1) * load->tp_size;
        st = load_run(r, load, err);
    }
    atomic_store(&r->is_computing, false);
    item_free(it);
    return st;
}

pr_status pr_rank_run(pr_rank *r, pr_error *err)
{
    bool is_pooling = false;
    bool is_over = false;
    pr_error own;
    if (!err) err = &own;
    pr_status st = load_await(r, &is_pooling, &is_over, err);
    return st == PR_OK && !is_over ? batches_run(r, is_pooling, err) : st;
}

/* ---- the communicator's id ---- */

pr_status pr_rank_comm_id_share(pr_rank *r, const uint8_t *id, size_t n, pr_error *err)
{
    assert(r->rank == 0 && n >= 1 && n <= PR_CONTROL_COMM_ID_BYTES);
    pr_control_message m = {.kind = PR_CONTROL_COMM_ID,
                            .comm_id = {.epoch = atomic_load(&r->epoch), .n_bytes = (uint32_t)n}};
    memcpy(m.comm_id.bytes, id, n);
    return message_send(r, &m, err);
}

/* While it waits for ranks that have not come, a rank is not at work: --start-timeout bounds that,
 * not --hang-timeout. */
void pr_rank_wait_begin(pr_rank *r)
{
    atomic_store(&r->is_computing, false);
}

void pr_rank_wait_end(pr_rank *r)
{
    atomic_store(&r->is_computing, true);
}

pr_status pr_rank_comm_id_await(pr_rank *r, uint8_t *id, size_t n, int timeout_ms, pr_error *err)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += timeout_ms % 1000 * 1000000L;
    if (until.tv_nsec >= 1000000000L) until.tv_sec++, until.tv_nsec -= 1000000000L;
    pr_rank_wait_begin(r);
    pthread_mutex_lock(&r->lock);
    int rc = 0;
    while (r->comm_id.n_bytes == 0 && rc == 0) {
        rc = pthread_cond_timedwait(&r->news, &r->lock, &until);
    }
    size_t n_found = r->comm_id.n_bytes;
    if (n_found == n) memcpy(id, r->comm_id.bytes, n);
    pthread_mutex_unlock(&r->lock);
    pr_rank_wait_end(r);
    if (n_found == n) return PR_OK;
    if (n_found == 0) {
        return pr_error_set(err, PR_E_TIMEOUT,
                            "rank %" PRIu32 ": the id of the group's communicator did not come "
                            "within %d ms", r->rank, timeout_ms);
    }
    return pr_error_set(err, PR_E_INTERNAL,
                        "the id of the group's communicator: found %zu bytes, expected %zu",
                        n_found, n);
}

/* ---- start and stop ---- */

/* Waits with a bound are by a clock that nobody sets. */
static void news_init(pr_rank *r)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    int rc = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    assert(rc == 0);
    pthread_cond_init(&r->news, &attributes);
    pthread_condattr_destroy(&attributes);
}

pr_status pr_rank_start(const pr_rank_config *config, pr_rank **out, pr_error *err)
{
    pr_rank *r = calloc(1, sizeof *r);
    if (!r) {
        close(config->fd);
        pr_frame_reader_deinit(config->reader);
        return pr_error_nomem(err, "rank", sizeof *r);
    }
    r->fd = config->fd;
    r->reader = *config->reader;
    r->rank = config->rank;
    r->n_ranks = config->n_ranks;
    r->ops = config->ops;
    r->context = config->context;
    r->log = config->log;
    pthread_mutex_init(&r->send_lock, NULL);
    pthread_mutex_init(&r->lock, NULL);
    news_init(r);
    if (pthread_create(&r->control, NULL, control_main, r) != 0) {
        pr_rank_stop(r);
        return pr_error_set(err, PR_E_INTERNAL, "cannot start a thread");
    }
    r->has_control = true;
    *out = r;
    return PR_OK;
}

void pr_rank_stop(pr_rank *r)
{
    if (!r) return;
    pthread_mutex_lock(&r->lock);
    r->is_stopping = true;
    pthread_cond_broadcast(&r->news);
    pthread_mutex_unlock(&r->lock);
    shutdown(r->fd, SHUT_RDWR); /* wakes the control thread */
    if (r->has_control) pthread_join(r->control, NULL);
    while (r->first) {
        item *it = r->first;
        r->first = it->next;
        item_free(it);
    }
    close(r->fd);
    pr_frame_reader_deinit(&r->reader);
    pthread_mutex_destroy(&r->send_lock);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->news);
    free(r);
}

/* ---- pure parts ---- */

pr_status pr_rank_batch_check(const pr_control_batch *batch, uint64_t epoch, uint64_t seq_before,
                              pr_error *err)
{
    if (batch->epoch != epoch) {
        return pr_error_set(err, PR_E_INTERNAL, "batch of epoch %" PRIu64 ", expected %" PRIu64,
                            batch->epoch, epoch);
    }
    if (batch->batch_seq != seq_before + 1) {
        return pr_error_set(err, PR_E_INTERNAL, "batch_seq %" PRIu64 ", expected %" PRIu64,
                            batch->batch_seq, seq_before + 1);
    }
    uint64_t hash = pr_control_plan_hash(batch->plan, batch->poolings);
    if (batch->plan_hash == hash) return PR_OK;
    return pr_error_set(err, PR_E_INTERNAL,
                        "batch %" PRIu64 ": its plan has hash %016" PRIx64 ", expected %016" PRIx64,
                        batch->batch_seq, hash, batch->plan_hash);
}

pr_status pr_rank_load_check(const pr_control_load *load, uint32_t n_ranks, pr_error *err)
{
    uint64_t n = (uint64_t)load->tp_size * load->n_stages;
    if (n == n_ranks) return PR_OK;
    return pr_error_set(err, PR_E_ARGUMENT,
                        "the group has %" PRIu32 " ranks, expected tensor-parallel-size %" PRIu32
                        " x pipeline-parallel-size %" PRIu32 " = %" PRIu64,
                        n_ranks, load->tp_size, load->n_stages, n);
}
