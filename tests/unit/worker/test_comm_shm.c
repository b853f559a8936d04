/* What ranks over shared memory promise each other: sums in rank order whatever the size, bits that
 * arrive as they were sent, between threads and between processes; and that a region which is not
 * theirs is refused. */
#define _GNU_SOURCE
#include "tests/unit/worker/rank_threads.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Around the vector width, the piece that a sum goes through, the slot of a message. */
static const int64_t sizes[] = {1, 2, 3, 63, 64, 65, 1000, 32767, 32768, 32769, 65537, 200003};
enum { N_SIZES = sizeof sizes / sizeof *sizes, SIZE_MAX_ = 200003, ROUNDS = 3 };

/* A number whose rounding shows the order of a sum: 2^-12 … 2^11 times a 24-bit mantissa. */
static float value_of(int rank, int64_t i, int64_t n)
{
    uint64_t x = (uint64_t)(i + 1) * 0x9E3779B97F4A7C15u + (uint64_t)rank * 0xD1B54A32D192ED03u +
                 (uint64_t)n;
    x ^= x >> 29;
    x *= 0xBF58476D1CE4E5B9u;
    x ^= x >> 32;
    float unit = (float)(int32_t)(x & 0xFFFFFF) / 8388608.0f - 1.0f;
    return unit * (float)(1 << (x >> 24 & 15)) / 64.0f;
}

static float sum_in_rank_order(int n_ranks, int64_t i, int64_t n)
{
    float sum = value_of(0, i, n);
    for (int r = 1; r < n_ranks; r++) sum += value_of(r, i, n);
    return sum;
}

static float *floats_of(int rank, int64_t n)
{
    float *x = malloc((size_t)(n + 1) * sizeof *x);
    if (!x) abort();
    for (int64_t i = 0; i < n; i++) x[i] = value_of(rank, i, n);
    x[n] = 12345.0f; /* stays */
    return x;
}

/* Bodies run on other threads and in other processes: they count instead of asserting. */
static bool is_sum(const float *x, int n_ranks, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float want = sum_in_rank_order(n_ranks, i, n);
        if (memcmp(&want, &x[i], sizeof want) != 0) return false;
    }
    return x[n] == 12345.0f;
}

typedef struct tally {
    int n_wrong[16]; /* by rank */
} tally;

static int tally_sum(const tally *t)
{
    int n = 0;
    for (int i = 0; i < 16; i++) n += t->n_wrong[i];
    return n;
}

static int sums_run(int rank, pr_comm *c)
{
    int n_wrong = 0;
    for (int k = 0; k < ROUNDS * N_SIZES; k++) {
        int64_t n = sizes[k % N_SIZES];
        float *x = floats_of(rank, n);
        pr_status st = pr_comm_all_reduce(c, x, n, PR_DTYPE_F32, NULL);
        if (st != PR_OK || !is_sum(x, c->tp_size, n)) n_wrong++;
        free(x);
        int root = k % c->tp_size;
        x = floats_of(rank, n);
        if (pr_comm_reduce_to(c, x, n, PR_DTYPE_F32, root, NULL) != PR_OK) n_wrong++;
        if (rank == root && !is_sum(x, c->tp_size, n)) n_wrong++;
        free(x);
    }
    return n_wrong;
}

static void sums_body(void *context, int rank, pr_comm *comm)
{
    tally *t = context;
    t->n_wrong[rank] = sums_run(rank, comm);
    comm->ops->close(comm);
}

static void sums_are_added_in_rank_order_whatever_the_size(void **state)
{
    (void)state;
    for (int tp_size = 1; tp_size <= 8; tp_size += tp_size < 4 ? 1 : 4) {
        tally t = {{0}};
        rank_threads_run(tp_size, 1, sums_body, &t);
        assert_int_equal(tally_sum(&t), 0);
    }
}

/* 1e8 + 1 is 1e8 in f32, so the order decides whether 1, 0 or -1 is left. */
static void order_body(void *context, int rank, pr_comm *comm)
{
    static const float of_rank[] = {1e8f, 1.0f, -1e8f, 1.0f};
    tally *t = context;
    float x[100];
    for (int i = 0; i < 100; i++) x[i] = of_rank[rank] * (i % 2 ? 1.0f : -1.0f);
    if (pr_comm_all_reduce(comm, x, 100, PR_DTYPE_F32, NULL) != PR_OK) t->n_wrong[rank]++;
    for (int i = 0; i < 100; i++) {
        if (x[i] != (i % 2 ? 1.0f : -1.0f)) t->n_wrong[rank]++;
    }
    comm->ops->close(comm);
}

static void sums_whose_order_matters_come_out_in_rank_order(void **state)
{
    (void)state;
    tally t = {{0}};
    rank_threads_run(4, 1, order_body, &t);
    assert_int_equal(tally_sum(&t), 0);
}

/* A float's bits that arithmetic would not keep: signalling NaNs among them. */
static uint32_t bits_of(int rank, int64_t i)
{
    return (uint32_t)i * 2654435761u + (uint32_t)rank * 40503u;
}

static uint32_t bits_at(const float *x, int64_t i)
{
    uint32_t bits;
    memcpy(&bits, x + i, sizeof bits);
    return bits;
}

static void gather_body(void *context, int rank, pr_comm *comm)
{
    tally *t = context;
    for (int k = 0; k < N_SIZES; k++) {
        int64_t n = sizes[k];
        float *src = malloc((size_t)n * sizeof *src);
        float *dst = malloc((size_t)(n * comm->tp_size) * sizeof *dst);
        if (!src || !dst) abort();
        for (int64_t i = 0; i < n; i++) {
            uint32_t bits = bits_of(rank, i);
            memcpy(src + i, &bits, sizeof bits);
        }
        if (pr_comm_all_gather(comm, src, n, dst, NULL) != PR_OK) t->n_wrong[rank]++;
        for (int64_t i = 0; i < n * comm->tp_size; i++) {
            if (bits_at(dst, i) != bits_of((int)(i / n), i % n)) t->n_wrong[rank]++;
        }
        free(src);
        free(dst);
        /* sums and gathers share the same memory: one after the other */
        float *x = floats_of(rank, n);
        if (pr_comm_all_reduce(comm, x, n, PR_DTYPE_F32, NULL) != PR_OK) t->n_wrong[rank]++;
        if (!is_sum(x, comm->tp_size, n)) t->n_wrong[rank]++;
        free(x);
    }
    comm->ops->close(comm);
}

static void gathers_bring_every_ranks_bits(void **state)
{
    (void)state;
    for (int tp_size = 1; tp_size <= 5; tp_size++) {
        tally t = {{0}};
        rank_threads_run(tp_size, 1, gather_body, &t);
        assert_int_equal(tally_sum(&t), 0);
    }
}

enum { MAILS = 40, MAIL_FLOATS = 300001 };

/* Down and up again, several messages at once on the way. */
static void mail_body(void *context, int rank, pr_comm *comm)
{
    tally *t = context;
    float *x = malloc(MAIL_FLOATS * sizeof *x);
    if (!x) abort();
    for (int k = 0; k < MAILS; k++) {
        int64_t n = k % 4 == 3 ? MAIL_FLOATS : 1 + 977 * k;
        if (comm->stage > 0) {
            pr_status st = pr_comm_recv(comm, x, n, PR_DTYPE_F32, comm->stage - 1, NULL);
            if (st != PR_OK) t->n_wrong[rank]++;
        } else {
            for (int64_t i = 0; i < n; i++) x[i] = value_of(comm->tp_rank, i, k);
        }
        for (int64_t i = 0; i < n; i++) {
            if (x[i] != value_of(comm->tp_rank, i, k)) t->n_wrong[rank]++;
        }
        if (comm->stage + 1 < comm->n_stages) {
            pr_status st = pr_comm_send(comm, x, n, PR_DTYPE_F32, comm->stage + 1, NULL);
            if (st != PR_OK) t->n_wrong[rank]++;
        }
    }
    float back = 0;
    if (comm->stage + 1 < comm->n_stages) {
        pr_comm_recv(comm, &back, 1, PR_DTYPE_F32, comm->stage + 1, NULL);
    }
    back += 1;
    if (comm->stage > 0) pr_comm_send(comm, &back, 1, PR_DTYPE_F32, comm->stage - 1, NULL);
    if (back != (float)(comm->n_stages - comm->stage)) t->n_wrong[rank]++;
    free(x);
    comm->ops->close(comm);
}

static void stages_send_messages_longer_than_a_slot(void **state)
{
    (void)state;
    tally t = {{0}};
    rank_threads_run(1, 2, mail_body, &t);
    rank_threads_run(2, 3, mail_body, &t);
    assert_int_equal(tally_sum(&t), 0);
}

static void a_stage_that_is_no_neighbour_is_refused(void **state)
{
    (void)state;
    pr_shm_region *region = NULL;
    pr_comm *c = NULL;
    pr_error err;
    float x = 0;
    assert_int_equal(pr_shm_region_create(1, 3, &region, &err), PR_OK);
    assert_int_equal(pr_comm_shm_create(region, 0, &c, &err), PR_OK);
    assert_int_equal(pr_comm_send(c, &x, 1, PR_DTYPE_F32, 2, &err), PR_E_INTERNAL);
    assert_int_equal(pr_comm_recv(c, &x, 1, PR_DTYPE_F32, -1, &err), PR_E_INTERNAL);
    assert_non_null(strstr(err.message, "stage -1"));
    c->ops->close(c);
    pr_shm_region_close(region);
}

/* ---- processes ---- */

/* In the child: a region of its own mapping, by the inherited descriptor. */
static int process_main(int fd, int tp_size, int n_stages, int rank)
{
    pr_shm_region *region = NULL;
    pr_comm *c = NULL;
    if (pr_shm_region_attach(fd, tp_size, n_stages, &region, NULL) != PR_OK) return 100;
    if (pr_comm_shm_create(region, rank, &c, NULL) != PR_OK) return 101;
    int n_wrong = c->stage == 0 ? sums_run(c->tp_rank, c) : 0;
    float *x = floats_of(c->tp_rank, SIZE_MAX_);
    if (c->stage > 0) {
        memset(x, 0, SIZE_MAX_ * sizeof *x);
        if (pr_comm_recv(c, x, SIZE_MAX_, PR_DTYPE_F32, c->stage - 1, NULL) != PR_OK) n_wrong++;
        for (int64_t i = 0; i < SIZE_MAX_; i++) {
            if (x[i] != value_of(c->tp_rank, i, SIZE_MAX_)) n_wrong++;
        }
    } else if (n_stages > 1) {
        if (pr_comm_send(c, x, SIZE_MAX_, PR_DTYPE_F32, 1, NULL) != PR_OK) n_wrong++;
    }
    free(x);
    c->ops->close(c);
    pr_shm_region_close(region);
    return n_wrong > 99 ? 99 : n_wrong;
}

static void processes_share_a_region_by_its_descriptor(void **state)
{
    (void)state;
    static const int groups[][2] = {{2, 1}, {3, 1}, {4, 1}, {2, 2}};
    for (size_t g = 0; g < sizeof groups / sizeof *groups; g++) {
        int tp_size = groups[g][0], n_stages = groups[g][1], n = tp_size * n_stages;
        pr_shm_region *region = NULL;
        pid_t pids[8];
        assert_int_equal(pr_shm_region_create(tp_size, n_stages, &region, NULL), PR_OK);
        for (int i = 0; i < n; i++) {
            pids[i] = fork();
            if (pids[i] == 0) {
                alarm(120);
                _exit(process_main(pr_shm_region_fd(region), tp_size, n_stages, i));
            }
            assert_true(pids[i] > 0);
        }
        pr_shm_region_close(region); /* theirs stay */
        for (int i = 0; i < n; i++) {
            int status = -1;
            assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
            assert_true(WIFEXITED(status));
            assert_int_equal(WEXITSTATUS(status), 0);
        }
    }
}

static void a_region_that_is_not_theirs_is_refused(void **state)
{
    (void)state;
    pr_shm_region *region = NULL, *other = NULL;
    pr_error err;
    assert_int_equal(pr_shm_region_create(2, 1, &region, &err), PR_OK);
    int fd = pr_shm_region_fd(region);
    assert_int_equal(pr_shm_region_attach(fd, 3, 1, &other, &err), PR_E_INTERNAL);
    assert_non_null(strstr(err.message, "expected"));
    assert_null(other);
    assert_int_equal(pr_shm_region_attach(fd, 2, 1, &other, &err), PR_OK);
    pr_shm_region_close(other);
    other = NULL;
    /* the right size, but another content */
    char zero = 0;
    assert_int_equal(pwrite(fd, &zero, 1, 0), 1);
    assert_int_equal(pr_shm_region_attach(fd, 2, 1, &other, &err), PR_E_INTERNAL);
    assert_non_null(strstr(err.message, "not a region"));
    assert_int_equal(pwrite(fd, "p", 1, 0), 1);
    char version = 99;
    assert_int_equal(pwrite(fd, &version, 1, 8), 1);
    assert_int_equal(pr_shm_region_attach(fd, 2, 1, &other, &err), PR_E_INTERNAL);
    assert_non_null(strstr(err.message, "version 99"));
    /* it cannot be made shorter under the ranks */
    assert_int_not_equal(ftruncate(fd, 4096), 0);
    pr_shm_region_close(region);
    assert_int_equal(pr_shm_region_attach(-1, 2, 1, &other, &err), PR_E_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_added_in_rank_order_whatever_the_size),
        cmocka_unit_test(sums_whose_order_matters_come_out_in_rank_order),
        cmocka_unit_test(gathers_bring_every_ranks_bits),
        cmocka_unit_test(stages_send_messages_longer_than_a_slot),
        cmocka_unit_test(a_stage_that_is_no_neighbour_is_refused),
        cmocka_unit_test(processes_share_a_region_by_its_descriptor),
        cmocka_unit_test(a_region_that_is_not_theirs_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
