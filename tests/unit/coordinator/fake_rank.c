#include "fake_rank.h"

#include "include/poolrank/engine.h"
#include "runtime/wire/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { CONNECT_TRIES = 1000, READ_SECONDS = 30 };

typedef struct life {
    fake_rank *r;
    int fd, i_life, n_batches;
    pr_frame_reader reader;
    uint64_t epoch, batch_seq, model_fingerprint;
    bool is_mute;
} life;

static int socket_connect(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    const struct timeval patience = {.tv_sec = READ_SECONDS};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    for (int i = 0; i < CONNECT_TRIES; i++) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0) {
            setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
            return fd;
        }
        if (fd >= 0) close(fd);
        nanosleep(&pause, NULL);
    }
    return -1;
}

static bool message_send(life *l, const pr_control_message *m)
{
    pr_buffer b;
    pr_buffer_init(&b);
    bool ok = pr_control_pack(m, &b, NULL) == PR_OK;
    for (size_t at = 0; ok && at < b.n;) {
        ssize_t n = send(l->fd, b.data + at, b.n - at, MSG_NOSIGNAL);
        ok = n > 0;
        if (ok) at += (size_t)n;
    }
    pr_buffer_deinit(&b);
    return ok;
}

/* The next message; false: the connection has ended. */
static bool message_recv(life *l, pr_control_message *m)
{
    char bytes[4096];
    for (;;) {
        const char *payload = NULL;
        size_t n = 0;
        if (pr_frame_reader_next(&l->reader, &payload, &n, NULL) != PR_OK) return false;
        if (payload) return pr_control_unpack(payload, n, m, NULL) == PR_OK;
        ssize_t got = recv(l->fd, bytes, sizeof bytes, 0);
        if (got <= 0) return false;
        if (pr_frame_reader_feed(&l->reader, bytes, (size_t)got, NULL) != PR_OK) return false;
    }
}

static void words_keep(life *l, const pr_control_message *m)
{
    snprintf(l->r->last_words, sizeof l->r->last_words, "%s", m->reason.message);
}

static bool hello(life *l)
{
    const fake_rank *r = l->r;
    pr_key key;
    pr_control_message m = {.kind = PR_CONTROL_HELLO}, answer;
    char identity[PR_CONTROL_IDENTITY_BYTES];
    m.hello = (pr_control_hello){.protocol = PR_CONTROL_PROTOCOL, .rank = r->rank,
                                 .n_ranks = r->n_ranks, .pid = getpid(), .host = "here"};
    snprintf(m.hello.version, sizeof m.hello.version, "%s",
             r->version ? r->version : pr_version());
    snprintf(m.hello.group, sizeof m.hello.group, "%s%d", r->group, l->i_life);
    if (pr_key_read(r->key_path, &key, NULL) != PR_OK) return false;
    if (pr_nonce_make(m.hello.nonce, NULL) != PR_OK) return false;
    if (!message_send(l, &m) || !message_recv(l, &answer)) return false;
    size_t n = pr_control_identity(&m.hello, identity);
    bool is_challenge = answer.kind == PR_CONTROL_CHALLENGE;
    pr_control_message proof = {.kind = PR_CONTROL_PROOF};
    if (is_challenge) {
        pr_auth_prove(&key, PR_AUTH_INITIATOR, m.hello.nonce, answer.challenge.nonce, identity, n,
                      proof.proof);
    } else if (answer.kind == PR_CONTROL_REFUSE) {
        words_keep(l, &answer);
    }
    pr_control_message_deinit(&answer);
    return is_challenge && message_send(l, &proof);
}

static bool ready_send(life *l)
{
    pr_control_message m = {.kind = PR_CONTROL_READY,
                            .ready = {.epoch = l->epoch, .width = FAKE_WIDTH, .n_slots = 1,
                                      .device = "fake", .backend = "fake", .weights_bytes = 1,
                                      .model_fingerprint = l->model_fingerprint +
                                                           l->r->has_other_model}};
    return message_send(l, &m);
}

static bool load_answer(life *l, const pr_control_load *load)
{
    const fake_rank *r = l->r;
    l->epoch = load->epoch;
    l->model_fingerprint = load->model_fingerprint;
    pr_control_message m = {.kind = PR_CONTROL_COMM_ID, .comm_id = {.epoch = l->epoch}};
    if (r->comm_id) {
        m.comm_id.n_bytes = (uint32_t)strlen(r->comm_id) + 1;
        memcpy(m.comm_id.bytes, r->comm_id, m.comm_id.n_bytes);
    }
    if (r->comm_id && !message_send(l, &m)) return false;
    if (r->dies_at_load) return false;
    return r->awaits_comm_id || ready_send(l);
}

static bool comm_id_take(life *l, const pr_control_comm_id *id)
{
    assert_int_equal(id->epoch, l->epoch);
    assert_string_equal(l->r->comm_id_found, ""); /* once */
    assert_true(id->n_bytes <= sizeof l->r->comm_id_found);
    memcpy(l->r->comm_id_found, id->bytes, id->n_bytes);
    return ready_send(l);
}

static int32_t last_token(const pr_batch_plan *plan, uint32_t i)
{
    const pr_sequence *s = &plan->sequences[i];
    const pr_segment *leaf = &plan->segments[s->leaf_segment];
    return plan->tokens[leaf->token_begin + s->n_tokens - 1 - leaf->position_begin];
}

static void result_send(life *l, const pr_control_batch *b, bool is_wrong)
{
    uint32_t n = b->plan->n_sequences;
    float *data = malloc((size_t)n * FAKE_WIDTH * sizeof *data);
    uint32_t *shapes = malloc((size_t)n * 2 * sizeof *shapes);
    bool ok = data && shapes;
    for (uint32_t i = 0; ok && i < n; i++) {
        for (int k = 0; k < FAKE_WIDTH; k++) {
            data[i * FAKE_WIDTH + k] = (float)last_token(b->plan, i);
        }
        shapes[2 * i] = 1;
        shapes[2 * i + 1] = FAKE_WIDTH + is_wrong;
    }
    const pr_control_message result = {
        .kind = PR_CONTROL_RESULT,
        .result = {.epoch = b->epoch, .batch_seq = b->batch_seq, .bytes = (const char *)data,
                   .n_bytes = (uint32_t)(n * FAKE_WIDTH * sizeof *data)}};
    const pr_control_message done = {.kind = PR_CONTROL_DONE,
                                     .done = {.epoch = b->epoch, .batch_seq = b->batch_seq,
                                              .n_sequences = n, .shapes = shapes}};
    if (ok && message_send(l, &result)) message_send(l, &done);
    free(data);
    free(shapes);
}

/* false: the rank dies. */
static bool batch_run(life *l, const pr_control_batch *b)
{
    fake_rank *r = l->r;
    bool is_first = l->i_life == 0;
    assert_int_equal(b->epoch, l->epoch);
    assert_int_equal(b->batch_seq, l->batch_seq + 1);
    assert_int_equal(b->plan_hash, pr_control_plan_hash(b->plan, b->poolings));
    l->batch_seq = b->batch_seq;
    l->n_batches++;
    atomic_fetch_add(&r->n_batches, 1);
    if (is_first && l->n_batches == r->dies_at_batch) return false;
    for (uint32_t i = 0; r->poison != FAKE_NEVER && i < b->plan->n_sequences; i++) {
        if (last_token(b->plan, i) == r->poison) return false;
    }
    if (is_first && r->is_mute) l->is_mute = true;
    if (!l->is_mute) result_send(l, b, is_first && r->has_wrong_shapes);
    return true; /* what was not sent is no loss: the coordinator's last word is still to come */
}

/* false: this life has ended. */
static bool message_answer(life *l, const pr_control_message *m)
{
    pr_control_message pong = {.kind = PR_CONTROL_PONG, .ping = m->ping};
    switch (m->kind) {
    case PR_CONTROL_LOAD:
        return load_answer(l, &m->load);
    case PR_CONTROL_COMM_ID:
        return comm_id_take(l, &m->comm_id);
    case PR_CONTROL_BATCH:
        return batch_run(l, &m->batch);
    case PR_CONTROL_PING:
        pong.ping = (pr_control_ping){.id = m->ping.id, .epoch = l->epoch,
                                      .batch_seq = l->batch_seq, .n_steps = l->batch_seq};
        return l->is_mute || message_send(l, &pong);
    case PR_CONTROL_SHUTDOWN:
        atomic_fetch_add(&l->r->n_shutdowns, 1);
        return false;
    case PR_CONTROL_REFUSE:
    case PR_CONTROL_ABORT:
        words_keep(l, m);
        return false;
    default:
        return false;
    }
}

static void *fake_main(void *context)
{
    fake_rank *r = context;
    for (int i = 0; i < r->n_lives && r->n_shutdowns == 0; i++) {
        life l = {.r = r, .i_life = i, .fd = socket_connect(r->socket_path)};
        pr_frame_reader_init(&l.reader, PR_FRAME_BYTES_MAX);
        bool is_alive = l.fd >= 0 && hello(&l);
        if (is_alive) atomic_fetch_add(&r->n_connected, 1);
        while (is_alive) {
            pr_control_message m;
            is_alive = message_recv(&l, &m);
            if (!is_alive) break;
            is_alive = message_answer(&l, &m);
            pr_control_message_deinit(&m);
        }
        pr_frame_reader_deinit(&l.reader);
        if (l.fd >= 0) close(l.fd);
    }
    return NULL;
}

void fake_rank_start(fake_rank *r)
{
    assert_int_equal(pthread_create(&r->thread, NULL, fake_main, r), 0);
}

void fake_rank_join(fake_rank *r)
{
    pthread_join(r->thread, NULL);
}
