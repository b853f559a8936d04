/* The communicator over the simulated NCCL: ranks are processes, forked for each test, each with a
 * simulated device of its own. A rank that finds something wrong says so and exits with 1. */
#define _GNU_SOURCE
#include "kernels/cuda/cuda_backend.h"
#include "runtime/base/clock.h"
#include "worker/cuda/nccl_comm.h"

#include <math.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    RANKS_MAX = 8,
    START_MS = 20000,
    LATE_MS = 200, /* of ranks that wait for one that does not come */
    SOON_MS = 5000 /* until a death must be known */
};

/* ---- processes ---- */

typedef struct job job;

/* One rank of a group, in its own process. */
typedef struct member {
    const job *job;
    int rank;
    pr_backend *backend;
    pr_comm *comm;
    pr_error err;
} member;

struct job {
    int tp_size, n_stages, timeout_ms;
    void (*body)(member *m); /* with a communicator */
    int gate[2];             /* a pipe, where the body wants one */
    uint8_t id[PR_CUDA_COMM_ID_BYTES];
};

#define CHECK(what) \
    do { \
        if (!(what)) member_fail(m, #what, __LINE__); \
    } while (0)

__attribute__((noreturn)) static void member_fail(const member *m, const char *what, int line)
{
    fprintf(stderr, "rank %d, line %d: not so: %s (last error: %s)\n", m->rank, line, what,
            m->err.message);
    _exit(1);
}

static pr_status comm_open(member *m)
{
    const job *j = m->job;
    const pr_cuda_group g = {.id = j->id, .tp_rank = m->rank % j->tp_size, .tp_size = j->tp_size,
                             .stage = m->rank / j->tp_size, .n_stages = j->n_stages,
                             .timeout_ms = j->timeout_ms};
    return pr_nccl_comm_create(m->backend, &g, &m->comm, &m->err);
}

static void member_run(const job *j, int rank)
{
    member one = {.job = j, .rank = rank}, *m = &one;
    const pr_cuda_backend_options options = {.device = rank, .dtype = PR_DTYPE_BF16};
    alarm(60); /* whatever happens, nothing stays */
    CHECK(pr_cuda_backend_create(&options, &m->backend, &m->err) == PR_OK);
    if (j->timeout_ms == START_MS) {
        CHECK(comm_open(m) == PR_OK);
        CHECK(m->comm->stage == rank / j->tp_size);
    }
    j->body(m);
    if (m->comm) m->comm->ops->close(m->comm);
    m->backend->ops->close(m->backend);
    _exit(0);
}

/* Runs the ranks below n_started, all of which must leave with 0, but `killed`, which may be -1. */
static void job_run(job *j, int n_started, int killed)
{
    pid_t pids[RANKS_MAX];
    pr_error err;
    if (pr_nccl_comm_id(j->id, &err) != PR_OK) fail_msg("%s", err.message);
    for (int r = 0; r < n_started; r++) {
        pids[r] = fork();
        assert_true(pids[r] >= 0);
        if (pids[r] == 0) member_run(j, r);
    }
    int n_wrong = 0;
    for (int r = 0; r < n_started; r++) {
        int status = 0;
        assert_int_equal(waitpid(pids[r], &status, 0), pids[r]);
        bool is_right = r == killed ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL
                                    : WIFEXITED(status) && WEXITSTATUS(status) == 0;
        n_wrong += !is_right;
    }
    if (n_wrong > 0) {
        fail_msg("%d of %d ranks of %d x %d failed", n_wrong, n_started, j->tp_size, j->n_stages);
    }
}

static void sizes_run(const int sizes[][2], size_t n, void (*body)(member *m))
{
    for (size_t i = 0; i < n; i++) {
        job j = {.tp_size = sizes[i][0], .n_stages = sizes[i][1], .timeout_ms = START_MS,
                 .body = body};
        job_run(&j, j.tp_size * j.n_stages, -1);
    }
}

/* ---- numbers ---- */

static const pr_dtype dtypes[] = {PR_DTYPE_F32, PR_DTYPE_BF16, PR_DTYPE_F16};

/* In [-1, 1), as the dtype has it, and the same wherever it is asked for. */
static float number_of(int rank, int64_t i, pr_dtype dtype)
{
    uint64_t x = ((uint64_t)rank << 40 ^ (uint64_t)i) * 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 29) * 0xBF58476D1CE4E5B9u;
    float f = (float)((int64_t)(x >> 40) - (1 << 23)) / (1 << 23);
    if (dtype == PR_DTYPE_BF16) return pr_bf16_to_f32(pr_f32_to_bf16(f));
    if (dtype == PR_DTYPE_F16) return pr_f16_to_f32(pr_f32_to_f16(f));
    return f;
}

static double roundoff_of(pr_dtype dtype)
{
    return dtype == PR_DTYPE_F32 ? 0x1p-24 : dtype == PR_DTYPE_BF16 ? 0x1p-8 : 0x1p-11;
}

/* An array of this rank in device memory, and pinned memory for what becomes of it. */
typedef struct array {
    void *device, *pinned;
    float *f32;
    int64_t n;
    pr_dtype dtype;
    size_t n_bytes;
} array;

static array array_make(member *m, int64_t n, pr_dtype dtype)
{
    pr_backend *b = m->backend;
    array a = {.n = n, .dtype = dtype, .n_bytes = (size_t)n * (dtype == PR_DTYPE_F32 ? 4 : 2)};
    CHECK(b->ops->alloc(b, a.n_bytes, &a.device, &m->err) == PR_OK);
    CHECK(b->ops->host_alloc(b, a.n_bytes, &a.pinned, &m->err) == PR_OK);
    a.f32 = malloc((size_t)n * sizeof *a.f32);
    CHECK(a.f32);
    return a;
}

static void array_free(member *m, array *a)
{
    m->backend->ops->free(m->backend, a->device);
    m->backend->ops->host_free(m->backend, a->pinned);
    free(a->f32);
}

/* The numbers of `rank`; CUDA is behind it when it returns. */
static void array_fill(member *m, array *a, int rank)
{
    pr_backend *b = m->backend;
    void *packed = malloc(a->n_bytes);
    CHECK(packed);
    for (int64_t i = 0; i < a->n; i++) a->f32[i] = number_of(rank, i, a->dtype);
    pr_dtype_from_f32(a->f32, a->dtype, (size_t)a->n, packed);
    CHECK(b->ops->upload(b, a->device, packed, a->n_bytes, &m->err) == PR_OK);
    CHECK(b->ops->sync(b, &m->err) == PR_OK);
    free(packed);
}

static void array_read(member *m, array *a)
{
    pr_backend *b = m->backend;
    CHECK(b->ops->download(b, a->pinned, a->device, a->n_bytes, &m->err) == PR_OK);
    CHECK(b->ops->sync(b, &m->err) == PR_OK);
    CHECK(m->comm->ops->check(m->comm, &m->err) == PR_OK);
    pr_dtype_to_f32(a->pinned, a->dtype, (size_t)a->n, a->f32);
}

/* The sum over the ranks of this one's stage, within the bound that nccl_comm.h states. */
static void sum_check(member *m, const array *a)
{
    int p = m->job->tp_size, first = m->comm->stage * p;
    for (int64_t i = 0; i < a->n; i++) {
        double sum = 0, sum_abs = 0;
        for (int r = first; r < first + p; r++) {
            sum += (double)number_of(r, i, a->dtype);
            sum_abs += fabs((double)number_of(r, i, a->dtype));
        }
        CHECK(fabs((double)a->f32[i] - sum) <= p * roundoff_of(a->dtype) * sum_abs);
    }
}

/* ---- sums ---- */

static const int64_t lengths[] = {1, 1000, 150001}; /* the last goes in pieces, on the twin too */

static void all_ranks_sum(member *m)
{
    for (size_t k = 0; k < sizeof dtypes / sizeof *dtypes; k++) {
        for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
            array a = array_make(m, lengths[l], dtypes[k]);
            array_fill(m, &a, m->rank);
            CHECK(pr_comm_all_reduce(m->comm, a.device, a.n, a.dtype, &m->err) == PR_OK);
            array_read(m, &a);
            sum_check(m, &a);
            array_free(m, &a);
        }
    }
}

static void every_rank_receives_the_sum_over_its_stage(void **state)
{
    (void)state;
    static const int sizes[][2] = {{1, 2}, {2, 1}, {2, 2}, {4, 1}, {4, 2}};
    sizes_run(sizes, sizeof sizes / sizeof *sizes, all_ranks_sum);
}

/* As a ring of NCCL's rounds it: the bound must hold that too. */
static void the_sum_of_a_ring_is_within_the_bound(void **state)
{
    (void)state;
    setenv("POOLRANK_SIM_NCCL_RING", "1", 1);
    job j = {.tp_size = 4, .n_stages = 1, .timeout_ms = START_MS, .body = all_ranks_sum};
    job_run(&j, 4, -1);
    unsetenv("POOLRANK_SIM_NCCL_RING");
}

static void each_root_sums(member *m)
{
    for (int root = 0; root < m->job->tp_size; root++) {
        for (size_t k = 0; k < sizeof dtypes / sizeof *dtypes; k++) {
            array a = array_make(m, 1000, dtypes[k]);
            array_fill(m, &a, m->rank);
            CHECK(pr_comm_reduce_to(m->comm, a.device, a.n, a.dtype, root, &m->err) == PR_OK);
            array_read(m, &a);
            if (m->comm->tp_rank == root) sum_check(m, &a);
            array_free(m, &a);
        }
    }
}

static void only_the_root_receives_a_sum(void **state)
{
    (void)state;
    static const int sizes[][2] = {{2, 1}, {4, 2}};
    sizes_run(sizes, sizeof sizes / sizeof *sizes, each_root_sums);
}

/* ---- between stages ---- */

static void stages_pass_on(member *m)
{
    pr_comm *c = m->comm;
    for (size_t k = 0; k < sizeof dtypes / sizeof *dtypes; k++) {
        array a = array_make(m, 70000, dtypes[k]);
        if (c->stage == 0) {
            array_fill(m, &a, m->rank);
        } else {
            CHECK(pr_comm_recv(c, a.device, a.n, a.dtype, c->stage - 1, &m->err) == PR_OK);
        }
        if (c->stage + 1 < c->n_stages) {
            CHECK(pr_comm_send(c, a.device, a.n, a.dtype, c->stage + 1, &m->err) == PR_OK);
        }
        array_read(m, &a);
        for (int64_t i = 0; i < a.n; i++) CHECK(a.f32[i] == number_of(c->tp_rank, i, a.dtype));
        array_free(m, &a);
    }
}

static void a_stage_receives_what_the_same_tensor_rank_before_it_sent(void **state)
{
    (void)state;
    static const int sizes[][2] = {{1, 2}, {2, 3}};
    sizes_run(sizes, sizeof sizes / sizeof *sizes, stages_pass_on);
}

/* ---- what ranks show each other ---- */

static uint64_t word_of(int rank, int batch, int i)
{
    return (uint64_t)(batch + 1) << 48 | (uint64_t)rank << 8 | (uint64_t)i;
}

/* A batch as the forward pass queues it: shown, received, summed, sent. */
static void batch_begin(member *m, array *a, int batch, const pr_comm_words **shown)
{
    pr_comm *c = m->comm;
    pr_backend *b = m->backend;
    const uint64_t own[2] = {word_of(m->rank, batch, 0), word_of(m->rank, batch, 1)};
    CHECK(b->ops->batch_begin(b, batch % b->n_slots, &m->err) == PR_OK);
    CHECK(c->ops->show(c, batch % b->n_slots, own, shown, &m->err) == PR_OK);
    if (c->stage > 0) {
        CHECK(pr_comm_recv(c, a->device, a->n, a->dtype, c->stage - 1, &m->err) == PR_OK);
    }
    CHECK(pr_comm_all_reduce(c, a->device, a->n, a->dtype, &m->err) == PR_OK);
    if (c->stage + 1 < c->n_stages) {
        CHECK(pr_comm_send(c, a->device, a->n, a->dtype, c->stage + 1, &m->err) == PR_OK);
    }
    CHECK(b->ops->batch_end(b, batch % b->n_slots, &m->err) == PR_OK);
}

static void batch_finish(member *m, int batch, const pr_comm_words *shown)
{
    pr_comm *c = m->comm;
    pr_backend *b = m->backend;
    bool is_done = false;
    while (!is_done) {
        CHECK(b->ops->batch_poll(b, batch % b->n_slots, &is_done, &m->err) == PR_OK);
        CHECK(c->ops->check(c, &m->err) == PR_OK);
    }
    for (int t = 0; t < c->tp_size; t++) {
        int rank = c->stage * c->tp_size + t;
        for (int i = 0; i < 2; i++) {
            CHECK(shown[t].own[i] == word_of(rank, batch, i));
            if (c->stage > 0) CHECK(shown[t].before[i] == word_of(rank - c->tp_size, batch, i));
        }
    }
}

/* Two batches in flight; the first one's words stay until its slot is begun again. */
static void batches_show(member *m)
{
    enum { N_BATCHES = 6 };
    const pr_comm_words *shown[N_BATCHES];
    array a = array_make(m, 512, PR_DTYPE_F32);
    int n_slots = m->backend->n_slots;
    array_fill(m, &a, m->rank);
    for (int i = 0; i < N_BATCHES + n_slots - 1; i++) {
        if (i < N_BATCHES) batch_begin(m, &a, i, &shown[i]);
        if (i + 1 >= n_slots) batch_finish(m, i + 1 - n_slots, shown[i + 1 - n_slots]);
    }
    array_free(m, &a);
}

static void ranks_see_the_words_of_their_stage_and_of_the_one_before(void **state)
{
    (void)state;
    static const int sizes[][2] = {{1, 2}, {4, 1}, {2, 3}};
    sizes_run(sizes, sizeof sizes / sizeof *sizes, batches_show);
}

/* The layers behind `show` must not wait for the next stage to begin the batch. */
static void first_stage_goes_ahead(member *m)
{
    pr_backend *b = m->backend;
    pr_comm *c = m->comm;
    const pr_comm_words *shown;
    array a = array_make(m, 512, PR_DTYPE_F32);
    array_fill(m, &a, 0);
    char byte = 0;
    struct pollfd gate = {.fd = m->job->gate[0], .events = POLLIN};
    const uint64_t own[2] = {word_of(m->rank, 0, 0), word_of(m->rank, 0, 1)};
    if (c->stage == 1) CHECK(poll(&gate, 1, SOON_MS) == 1);
    CHECK(b->ops->batch_begin(b, 0, &m->err) == PR_OK);
    CHECK(c->ops->show(c, 0, own, &shown, &m->err) == PR_OK);
    if (c->stage == 0) {
        CHECK(b->ops->sync(b, &m->err) == PR_OK);
        CHECK(shown[0].own[1] == own[1]);
        CHECK(write(m->job->gate[1], &byte, 1) == 1);
        CHECK(pr_comm_send(c, a.device, a.n, a.dtype, 1, &m->err) == PR_OK);
    } else {
        CHECK(pr_comm_recv(c, a.device, a.n, a.dtype, 0, &m->err) == PR_OK);
    }
    CHECK(b->ops->batch_end(b, 0, &m->err) == PR_OK);
    batch_finish(m, 0, shown);
    array_free(m, &a);
}

static void a_stage_computes_before_the_next_one_takes_its_words(void **state)
{
    (void)state;
    job j = {.tp_size = 1, .n_stages = 2, .timeout_ms = START_MS, .body = first_stage_goes_ahead};
    assert_int_equal(pipe(j.gate), 0);
    job_run(&j, 2, -1);
    close(j.gate[0]);
    close(j.gate[1]);
}

/* ---- failures ---- */

static void waits_in_vain(member *m)
{
    uint64_t begin_ns = pr_clock_ns();
    char expected[128];
    CHECK(comm_open(m) == PR_E_TIMEOUT);
    uint64_t ms = (pr_clock_ns() - begin_ns) / 1000000;
    CHECK(ms >= LATE_MS && ms < LATE_MS + SOON_MS);
    snprintf(expected, sizeof expected,
             "NCCL, rank %d of 4: the ranks of the group did not all come together within %d ms",
             m->rank, LATE_MS);
    CHECK(strcmp(m->err.message, expected) == 0);
    CHECK(!m->comm);
}

static void a_rank_that_does_not_come_is_waited_for_so_long_and_no_longer(void **state)
{
    (void)state;
    job j = {.tp_size = 2, .n_stages = 2, .timeout_ms = LATE_MS, .body = waits_in_vain};
    job_run(&j, 3, -1);
}

/* Whoever polls a batch checks in between, as pr_worker_finish does. */
static pr_status death_await(member *m)
{
    uint64_t begin_ns = pr_clock_ns();
    pr_backend *b = m->backend;
    bool is_done = false;
    pr_status st = b->ops->batch_end(b, 0, &m->err);
    while (st == PR_OK && !is_done) {
        CHECK(b->ops->batch_poll(b, 0, &is_done, &m->err) == PR_OK);
        st = m->comm->ops->check(m->comm, &m->err);
        CHECK(pr_clock_ns() - begin_ns < SOON_MS * (uint64_t)1000000);
        if (st == PR_OK) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return st;
}

static void one_dies(member *m)
{
    array a = array_make(m, 1000, PR_DTYPE_F32);
    const pr_comm_words *all;
    const uint64_t own[2] = {1, 2};
    pr_comm *c = m->comm;
    if (m->rank == m->job->tp_size * m->job->n_stages - 1) kill(getpid(), SIGKILL);
    CHECK(m->backend->ops->batch_begin(m->backend, 0, &m->err) == PR_OK);
    bool waits = c->stage == c->n_stages - 1; /* for the dead one, in its sum */
    if (waits) {
        CHECK(c->ops->all_reduce(c, a.device, a.n, a.dtype, &m->err) == PR_OK);
    } else if (c->tp_rank == c->tp_size - 1) {
        CHECK(c->ops->send(c, a.device, a.n, a.dtype, c->stage + 1, &m->err) == PR_OK);
        waits = true;
    }
    if (waits) {
        CHECK(death_await(m) == PR_E_UNAVAILABLE);
        CHECK(strstr(m->err.message, "remote process exited"));
        CHECK(strstr(m->err.message, "has ended"));
        char first[PR_ERROR_BYTES];
        strcpy(first, m->err.message);
        CHECK(c->ops->check(c, &m->err) == PR_E_UNAVAILABLE);
        CHECK(c->ops->all_reduce(c, a.device, 1, a.dtype, &m->err) == PR_E_UNAVAILABLE);
        CHECK(c->ops->reduce_to(c, a.device, 1, a.dtype, 0, &m->err) == PR_E_UNAVAILABLE);
        CHECK(c->ops->show(c, 0, own, &all, &m->err) == PR_E_UNAVAILABLE);
        CHECK(strcmp(first, m->err.message) == 0);
    }
    array_free(m, &a);
}

static void a_peer_that_was_killed_is_found_out_and_every_call_says_so(void **state)
{
    (void)state;
    static const int sizes[][2] = {{2, 1}, {2, 2}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int n = sizes[i][0] * sizes[i][1];
        job j = {.tp_size = sizes[i][0], .n_stages = sizes[i][1], .timeout_ms = START_MS,
                 .body = one_dies};
        job_run(&j, n, n - 1);
    }
}

/* Closes with a sum in the queue that cannot end, and with none. */
static void closes_late(member *m)
{
    array a = array_make(m, 1000, PR_DTYPE_F32);
    if (m->rank == 3) kill(getpid(), SIGKILL);
    if (m->rank == 2) {
        CHECK(m->comm->ops->all_reduce(m->comm, a.device, a.n, a.dtype, &m->err) == PR_OK);
    }
    uint64_t begin_ns = pr_clock_ns();
    m->comm->ops->close(m->comm);
    m->comm = NULL;
    CHECK(pr_clock_ns() - begin_ns < SOON_MS * (uint64_t)1000000);
    array_free(m, &a);
}

static void close_does_not_wait_for_a_peer_that_is_dead(void **state)
{
    (void)state;
    job j = {.tp_size = 2, .n_stages = 2, .timeout_ms = START_MS, .body = closes_late};
    job_run(&j, 4, 3);
}

int main(void)
{
    setenv("POOLRANK_SIM_DEVICES", "8", 1);
    setenv("POOLRANK_SIM_PINNED", "1", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rank_receives_the_sum_over_its_stage),
        cmocka_unit_test(the_sum_of_a_ring_is_within_the_bound),
        cmocka_unit_test(only_the_root_receives_a_sum),
        cmocka_unit_test(a_stage_receives_what_the_same_tensor_rank_before_it_sent),
        cmocka_unit_test(ranks_see_the_words_of_their_stage_and_of_the_one_before),
        cmocka_unit_test(a_stage_computes_before_the_next_one_takes_its_words),
        cmocka_unit_test(a_rank_that_does_not_come_is_waited_for_so_long_and_no_longer),
        cmocka_unit_test(a_peer_that_was_killed_is_found_out_and_every_call_says_so),
        cmocka_unit_test(close_does_not_wait_for_a_peer_that_is_dead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
