/* A rank as a child process on one end of a socket; the test is the coordinator on the other. */
#define _GNU_SOURCE
#include "tests/unit/worker/control_cases.h"
#include "tests/unit/worker/rank_peer.h"
#include "worker/rank.h"
#include "worker/rank_io.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { EPOCH = 7, ROWS_PER_TOKEN = 5 };

/* ---- the rank's side ---- */

typedef struct fake {
    int gate; /* a run waits for a byte here; -1: it does not */
    uint32_t number;
    pr_status open_status, run_status;
    bool gates_open; /* open waits for a byte too */
    int n_slots;
    uint32_t begun[2]; /* tokens of the batches that were begun */
    int n_begun;
    int id_timeout_ms; /* 0: open needs no id of a communicator */
    pr_rank *rank;
} fake;

enum { ID_BYTES = 128 };

/* Rank 0's id is its own making; the width says what came. */
static pr_status fake_id(const fake *f, uint32_t rank, pr_control_ready *ready, pr_error *err)
{
    uint8_t id[ID_BYTES] = {0, 1, 2};
    pr_status st = PR_OK;
    if (rank == 0) st = pr_rank_comm_id_share(f->rank, id, sizeof id, err);
    if (st == PR_OK) {
        st = pr_rank_comm_id_await(f->rank, id, sizeof id, f->id_timeout_ms, err);
    }
    ready->width = id[0];
    return st;
}

static pr_status fake_open(void *context, const pr_control_load *load,
                           atomic_uint_fast64_t *n_steps, pr_control_ready *ready, pr_error *err)
{
    const fake *f = context;
    char byte;
    atomic_fetch_add(n_steps, 10);
    if (f->gates_open && read(f->gate, &byte, 1) != 1) return PR_E_INTERNAL;
    if (f->open_status != PR_OK) return pr_error_set(err, f->open_status, "no such weights");
    ready->model_fingerprint = load->model_fingerprint;
    ready->width = 3;
    if (f->id_timeout_ms > 0) return fake_id(f, f->number, ready, err);
    return PR_OK;
}

/* One sequence; a value for each token, and as many rows again as it takes. */
static int fake_n_slots(void *context)
{
    const fake *f = context;
    return f->n_slots ? f->n_slots : 1;
}

static pr_status fake_begin(void *context, const pr_control_batch *batch, pr_error *err)
{
    (void)err;
    fake *f = context;
    if (f->n_begun == fake_n_slots(f)) abort();
    f->begun[f->n_begun++] = batch->plan->n_tokens;
    return PR_OK;
}

static pr_status fake_finish(void *context, pr_pooled *out, pr_error *err)
{
    fake *f = context;
    char byte;
    if (f->gate >= 0 && read(f->gate, &byte, 1) != 1) return PR_E_INTERNAL;
    if (f->run_status != PR_OK) return pr_error_set(err, f->run_status, "the sum went wrong");
    uint32_t n = f->begun[0];
    f->begun[0] = f->begun[1];
    f->n_begun--;
    out->n_sequences = 1;
    out->rows = calloc(1, sizeof *out->rows);
    out->data = malloc((size_t)n * ROWS_PER_TOKEN * sizeof *out->data);
    if (!out->rows || !out->data) abort();
    out->rows[0] = (pr_pooled_rows){.n_rows = n, .n_columns = ROWS_PER_TOKEN};
    for (uint32_t i = 0; i < n * ROWS_PER_TOKEN; i++) out->data[i] = (float)i;
    return PR_OK;
}

static void rank_process(int fd, fake *f, uint32_t rank, uint32_t n_ranks)
{
    static const pr_rank_ops ops = {.open = fake_open, .n_slots = fake_n_slots,
                                    .begin = fake_begin, .finish = fake_finish};
    const pr_log log = {.fd = -1};
    pr_frame_reader reader;
    pr_frame_reader_init(&reader, PR_FRAME_BYTES_MAX);
    const pr_rank_config config = {.fd = fd, .reader = &reader, .rank = rank, .n_ranks = n_ranks,
                                   .ops = &ops, .context = f, .log = &log};
    pr_rank *r = NULL;
    pr_error err;
    alarm(60); /* whatever happens, nothing stays */
    if (pr_rank_start(&config, &r, &err) != PR_OK) _exit(9);
    f->number = rank;
    f->rank = r;
    if (pr_rank_run(r, &err) != PR_OK) _exit(3);
    pr_rank_stop(r);
    _exit(0);
}

/* ---- the coordinator's side ---- */

/* Ranks of 2 x 2, of which rank 2 pools. */
static void peer_start(peer *p, fake f, uint32_t rank)
{
    int fds[2], gate[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(pipe(gate), 0);
    p->pid = fork();
    assert_true(p->pid >= 0);
    if (p->pid == 0) {
        close(fds[0]);
        close(gate[1]);
        if (f.gate >= 0) f.gate = gate[0];
        rank_process(fds[1], &f, rank, 4);
    }
    close(fds[1]);
    close(gate[0]);
    p->fd = fds[0];
    p->gate = gate[1];
    pr_frame_reader_init(&p->reader, PR_FRAME_BYTES_MAX);
}

static int peer_status(peer *p)
{
    int status = 0;
    assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
    close(p->gate);
    if (p->fd >= 0) close(p->fd);
    pr_frame_reader_deinit(&p->reader);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static pr_control_message load_message(void)
{
    return (pr_control_message){
        .kind = PR_CONTROL_LOAD,
        .load = {.epoch = EPOCH, .tp_size = 2, .n_stages = 2, .n_rows_max = 100,
                 .n_positions_max = 100, .model_fingerprint = 5}};
}

static void load(peer *p)
{
    const pr_control_message m = load_message();
    pr_control_message ready;
    give(p, &m);
    take_kind(p, PR_CONTROL_READY, &ready);
    assert_int_equal(ready.ready.epoch, EPOCH);
    assert_int_equal(ready.ready.model_fingerprint, 5);
    pr_control_message_deinit(&ready);
}

static void give_batch(peer *p, uint64_t epoch, uint64_t seq, uint32_t n_tokens, uint64_t hash_xor)
{
    control_case c;
    control_case_make(&c, PR_CONTROL_BATCH, 99, n_tokens, 1);
    pr_control_batch *b = &c.message.batch;
    b->epoch = epoch;
    b->batch_seq = seq;
    b->plan_hash = pr_control_plan_hash(b->plan, b->poolings) ^ hash_xor;
    give(p, &c.message);
    control_case_free(&c);
}

/* All chunks and DONE of one batch. */
static void take_result(peer *p, uint64_t seq, uint32_t n_tokens)
{
    uint64_t n_bytes = 0;
    pr_control_message m;
    for (;;) {
        assert_true(take(p, &m));
        if (m.kind != PR_CONTROL_RESULT) break;
        assert_int_equal(m.result.batch_seq, seq);
        assert_int_equal(m.result.offset, n_bytes);
        assert_true(m.result.n_bytes <= PR_CONTROL_CHUNK_BYTES);
        float first;
        memcpy(&first, m.result.bytes, sizeof first);
        assert_true(first == (float)(n_bytes / sizeof first));
        n_bytes += m.result.n_bytes;
        pr_control_message_deinit(&m);
    }
    assert_int_equal(m.kind, PR_CONTROL_DONE);
    assert_int_equal(m.done.epoch, EPOCH);
    assert_int_equal(m.done.batch_seq, seq);
    assert_int_equal(m.done.n_sequences, 1);
    assert_int_equal(m.done.shapes[0], n_tokens);
    assert_int_equal(m.done.shapes[1], ROWS_PER_TOKEN);
    assert_int_equal(n_bytes, (uint64_t)n_tokens * ROWS_PER_TOKEN * sizeof(float));
    pr_control_message_deinit(&m);
}

static void take_failed(peer *p, pr_status status, const char *part)
{
    pr_control_message m;
    take_kind(p, PR_CONTROL_FAILED, &m);
    assert_int_equal(m.reason.status, status);
    if (!strstr(m.reason.message, part)) fail_msg("found \"%s\"", m.reason.message);
    pr_control_message_deinit(&m);
}

static void take_pong(peer *p, uint64_t id, pr_control_ping *out)
{
    pr_control_message m = {.kind = PR_CONTROL_PING, .ping = {.id = id}};
    give(p, &m);
    take_kind(p, PR_CONTROL_PONG, &m);
    assert_int_equal(m.ping.id, id);
    *out = m.ping;
    pr_control_message_deinit(&m);
}

static const fake quick = {.gate = -1};
static const fake gated = {.gate = 0};

/* ---- tests ---- */

static void batches_are_answered_in_order_and_shutdown_finishes_them(void **state)
{
    (void)state;
    peer p;
    peer_start(&p, quick, 2);
    load(&p);
    for (uint64_t seq = 1; seq <= 3; seq++) give_batch(&p, EPOCH, seq, 10 + (uint32_t)seq, 0);
    give_kind(&p, PR_CONTROL_SHUTDOWN);
    for (uint64_t seq = 1; seq <= 3; seq++) take_result(&p, seq, 10 + (uint32_t)seq);
    pr_control_message m;
    assert_false(take(&p, &m));
    assert_int_equal(peer_status(&p), 0);
}

/* Given a backend that has two batches in hand, when two have come, then the second is begun before
 * the first is finished. */
static void batches_overlap_where_the_backend_lets_them(void **state)
{
    (void)state;
    peer p;
    pr_control_ping pong;
    pr_control_message m = load_message();
    peer_start(&p, (fake){.gate = 0, .gates_open = true, .n_slots = 2}, 2);
    give(&p, &m);
    for (uint64_t seq = 1; seq <= 3; seq++) give_batch(&p, EPOCH, seq, 10 + (uint32_t)seq, 0);
    take_pong(&p, 1, &pong); /* all of it has been read */
    assert_int_equal(write(p.gate, "o", 1), 1);
    take_kind(&p, PR_CONTROL_READY, &m);
    assert_int_equal(m.ready.n_slots, 2);
    pr_control_message_deinit(&m);
    do {
        take_pong(&p, 2, &pong);
    } while (pong.batch_seq < 2);
    assert_true(pong.is_computing);
    for (uint64_t seq = 1; seq <= 3; seq++) {
        assert_int_equal(write(p.gate, "x", 1), 1);
        take_result(&p, seq, 10 + (uint32_t)seq);
    }
    give_kind(&p, PR_CONTROL_SHUTDOWN);
    assert_int_equal(peer_status(&p), 0);
}

static void large_results_come_in_chunks(void **state)
{
    (void)state;
    peer p;
    peer_start(&p, quick, 2);
    load(&p);
    give_batch(&p, EPOCH, 1, 200000, 0);
    take_result(&p, 1, 200000);
    give_kind(&p, PR_CONTROL_SHUTDOWN);
    assert_int_equal(peer_status(&p), 0);
}

static void only_the_pooling_rank_answers_a_batch(void **state)
{
    (void)state;
    for (uint32_t rank = 0; rank < 4; rank++) {
        peer p;
        peer_start(&p, quick, rank);
        load(&p);
        give_batch(&p, EPOCH, 1, 10, 0);
        give_kind(&p, PR_CONTROL_SHUTDOWN);
        if (rank == 2) take_result(&p, 1, 10);
        pr_control_message m;
        assert_false(take(&p, &m));
        assert_int_equal(peer_status(&p), 0);
    }
}

static void a_ping_is_answered_while_a_batch_is_computed(void **state)
{
    (void)state;
    peer p;
    pr_control_ping pong;
    peer_start(&p, gated, 2);
    take_pong(&p, 41, &pong); /* before LOAD too */
    assert_int_equal(pong.epoch, 0);
    load(&p);
    take_pong(&p, 42, &pong);
    assert_int_equal(pong.epoch, EPOCH);
    assert_int_equal(pong.batch_seq, 0);
    uint64_t n_steps = pong.n_steps;
    assert_int_equal(n_steps, 10); /* of loading */
    give_batch(&p, EPOCH, 1, 10, 0);
    do {
        take_pong(&p, 43, &pong);
    } while (pong.batch_seq == 0);
    assert_true(pong.is_computing);
    assert_true(pong.n_steps > n_steps);
    assert_int_equal(write(p.gate, "x", 1), 1);
    take_result(&p, 1, 10);
    give_kind(&p, PR_CONTROL_SHUTDOWN);
    assert_int_equal(peer_status(&p), 0);
}

/* What ends a rank whose compute thread is stuck. */
static void ends_while_computing(void (*end)(peer *p))
{
    peer p;
    pr_control_ping pong;
    peer_start(&p, gated, 2);
    load(&p);
    give_batch(&p, EPOCH, 1, 10, 0);
    do {
        take_pong(&p, 1, &pong);
    } while (pong.batch_seq == 0);
    end(&p);
    assert_int_equal(peer_status(&p), 1);
}

static void hang_up(peer *p)
{
    close(p->fd);
    p->fd = -1;
}

static void hang_up_after_shutdown(peer *p)
{
    give_kind(p, PR_CONTROL_SHUTDOWN);
    hang_up(p);
}

static void say_abort(peer *p)
{
    const pr_control_message m = {.kind = PR_CONTROL_ABORT, .reason = {.status = PR_E_UNAVAILABLE,
                                                                       .message = "enough"}};
    give(p, &m);
}

static void say_nonsense(peer *p)
{
    static const char bytes[] = {3, 0, 0, 0, 'a', 'b', 'c'};
    assert_int_equal(pr_rank_write(p->fd, bytes, sizeof bytes, NULL), PR_OK);
}

static void say_hello(peer *p)
{
    control_case c;
    control_case_make(&c, PR_CONTROL_HELLO, 5, 0, 0);
    give(p, &c.message);
    control_case_free(&c);
}

static void a_stuck_rank_ends_when_the_coordinator_goes_or_errs(void **state)
{
    (void)state;
    ends_while_computing(hang_up);
    ends_while_computing(hang_up_after_shutdown);
    ends_while_computing(say_abort);
    ends_while_computing(say_nonsense);
    ends_while_computing(say_hello);
}

static void a_rank_ends_when_the_coordinator_goes_before_load(void **state)
{
    (void)state;
    peer p;
    peer_start(&p, quick, 0);
    hang_up(&p);
    assert_int_equal(peer_status(&p), 1);
}

/* A rank that has left all to do may finish leaving when the coordinator does not wait for it. */
static void a_coordinator_that_does_not_wait_after_shutdown_is_no_error(void **state)
{
    (void)state;
    peer p;
    peer_start(&p, quick, 0);
    load(&p);
    hang_up_after_shutdown(&p);
    assert_int_equal(peer_status(&p), 0);
}

static void a_batch_out_of_order_ends_the_group(void **state)
{
    (void)state;
    static const struct {
        uint64_t epoch, seq, hash_xor;
        const char *message;
    } rows[] = {
        {EPOCH, 3, 0, "batch_seq 3, expected 2"},
        {EPOCH, 1, 0, "batch_seq 1, expected 2"},
        {EPOCH + 1, 2, 0, "batch of epoch 8, expected 7"},
        {EPOCH, 2, 1, "its plan has hash"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        peer p;
        peer_start(&p, quick, 2);
        load(&p);
        give_batch(&p, EPOCH, 1, 10, 0);
        take_result(&p, 1, 10);
        give_batch(&p, rows[i].epoch, rows[i].seq, 10, rows[i].hash_xor);
        take_failed(&p, PR_E_INTERNAL, rows[i].message);
        assert_int_equal(peer_status(&p), 1);
    }
}

static void more_batches_than_can_wait_end_the_group(void **state)
{
    (void)state;
    peer p;
    peer_start(&p, gated, 2);
    load(&p);
    for (uint64_t seq = 1; seq <= 66; seq++) give_batch(&p, EPOCH, seq, 1, 0);
    take_failed(&p, PR_E_OVERLOADED, "more than 64 batches");
    assert_int_equal(peer_status(&p), 1);
}

static void a_batch_before_load_ends_the_rank(void **state)
{
    (void)state;
    peer p;
    peer_start(&p, quick, 2);
    give_batch(&p, 0, 1, 10, 0);
    take_failed(&p, PR_E_INTERNAL, "before LOAD");
    assert_int_equal(peer_status(&p), 1);
}

static void a_failure_is_told_before_the_rank_leaves(void **state)
{
    (void)state;
    peer p;
    const pr_control_message m = load_message();
    peer_start(&p, (fake){.gate = -1, .open_status = PR_E_NOT_FOUND}, 1);
    give(&p, &m);
    take_failed(&p, PR_E_NOT_FOUND, "no such weights");
    assert_int_equal(peer_status(&p), 3);
    peer_start(&p, (fake){.gate = -1, .run_status = PR_E_NOMEM}, 1);
    load(&p);
    give_batch(&p, EPOCH, 1, 10, 0);
    take_failed(&p, PR_E_NOMEM, "the sum went wrong");
    assert_int_equal(peer_status(&p), 3);
}

static void a_group_of_another_size_is_not_loaded(void **state)
{
    (void)state;
    peer p;
    pr_control_message m = load_message();
    m.load.tp_size = 4;
    peer_start(&p, quick, 1);
    give(&p, &m);
    take_failed(&p, PR_E_ARGUMENT,
                "the group has 4 ranks, expected tensor-parallel-size 4 x "
                "pipeline-parallel-size 2 = 8");
    assert_int_equal(peer_status(&p), 1);
}

static void a_refusal_in_place_of_load_is_the_ranks_error(void **state)
{
    (void)state;
    peer p;
    const pr_control_message m = {.kind = PR_CONTROL_REFUSE,
                                  .reason = {.status = PR_E_ARGUMENT, .message = "not wanted"}};
    peer_start(&p, quick, 1);
    give(&p, &m);
    assert_int_equal(peer_status(&p), 3);
}

/* ---- the communicator's id ---- */

static void give_id(peer *p, uint64_t epoch, uint32_t n_bytes)
{
    const pr_control_message m = {
        .kind = PR_CONTROL_COMM_ID,
        .comm_id = {.epoch = epoch, .n_bytes = n_bytes, .bytes = {11, 12, 13}}};
    give(p, &m);
}

static void a_rank_loads_with_the_id_that_comes_back(void **state)
{
    (void)state;
    for (uint32_t rank = 0; rank < 3; rank += 2) {
        peer p;
        pr_control_ping pong;
        pr_control_message m = load_message();
        peer_start(&p, (fake){.gate = -1, .id_timeout_ms = WAIT_MS}, rank);
        give(&p, &m);
        if (rank == 0) {
            take_kind(&p, PR_CONTROL_COMM_ID, &m);
            assert_int_equal(m.comm_id.epoch, EPOCH);
            assert_int_equal(m.comm_id.n_bytes, ID_BYTES);
            assert_int_equal(m.comm_id.bytes[2], 2);
            pr_control_message_deinit(&m);
        }
        do {
            take_pong(&p, 1, &pong); /* waiting for others is no work that could hang */
        } while (pong.n_steps == 0 || pong.is_computing);
        give_id(&p, EPOCH, ID_BYTES);
        take_kind(&p, PR_CONTROL_READY, &m);
        assert_int_equal(m.ready.width, 11);
        pr_control_message_deinit(&m);
        give_kind(&p, PR_CONTROL_SHUTDOWN);
        assert_int_equal(peer_status(&p), 0);
    }
}

static void an_id_that_does_not_come_ends_the_rank(void **state)
{
    (void)state;
    peer p;
    const pr_control_message m = load_message();
    peer_start(&p, (fake){.gate = -1, .id_timeout_ms = 50}, 1);
    give(&p, &m);
    take_failed(&p, PR_E_TIMEOUT, "rank 1: the id of the group's communicator did not come within "
                                  "50 ms");
    assert_int_equal(peer_status(&p), 3);
}

static void an_id_that_is_not_expected_ends_the_rank(void **state)
{
    (void)state;
    static const struct {
        bool is_loaded;
        uint64_t epoch;
        uint32_t n_bytes;
        const char *message;
        int exit_status;
    } rows[] = {
        {false, 0, ID_BYTES, "a COMM_ID before LOAD", 1},
        {true, EPOCH + 1, ID_BYTES, "or of another epoch", 1},
        {true, EPOCH, ID_BYTES - 1, "found 127 bytes, expected 128", 3},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        peer p;
        const pr_control_message m = load_message();
        peer_start(&p, (fake){.gate = -1, .id_timeout_ms = WAIT_MS}, 1);
        if (rows[i].is_loaded) give(&p, &m);
        give_id(&p, rows[i].epoch, rows[i].n_bytes);
        take_failed(&p, PR_E_INTERNAL, rows[i].message);
        assert_int_equal(peer_status(&p), rows[i].exit_status);
    }
    peer p;
    peer_start(&p, quick, 1);
    load(&p);
    give_id(&p, EPOCH, ID_BYTES);
    give_id(&p, EPOCH, ID_BYTES);
    take_failed(&p, PR_E_INTERNAL, "a second COMM_ID");
    assert_int_equal(peer_status(&p), 1);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_are_answered_in_order_and_shutdown_finishes_them),
        cmocka_unit_test(batches_overlap_where_the_backend_lets_them),
        cmocka_unit_test(large_results_come_in_chunks),
        cmocka_unit_test(only_the_pooling_rank_answers_a_batch),
        cmocka_unit_test(a_ping_is_answered_while_a_batch_is_computed),
        cmocka_unit_test(a_stuck_rank_ends_when_the_coordinator_goes_or_errs),
        cmocka_unit_test(a_rank_ends_when_the_coordinator_goes_before_load),
        cmocka_unit_test(a_coordinator_that_does_not_wait_after_shutdown_is_no_error),
        cmocka_unit_test(a_batch_out_of_order_ends_the_group),
        cmocka_unit_test(more_batches_than_can_wait_end_the_group),
        cmocka_unit_test(a_batch_before_load_ends_the_rank),
        cmocka_unit_test(a_failure_is_told_before_the_rank_leaves),
        cmocka_unit_test(a_group_of_another_size_is_not_loaded),
        cmocka_unit_test(a_refusal_in_place_of_load_is_the_ranks_error),
        cmocka_unit_test(a_rank_loads_with_the_id_that_comes_back),
        cmocka_unit_test(an_id_that_does_not_come_ends_the_rank),
        cmocka_unit_test(an_id_that_is_not_expected_ends_the_rank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
