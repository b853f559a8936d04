/* The CPU backend's thread pool: every task exactly once, whatever the numbers. */
#include "kernels/cpu/pool.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum { TASKS_MAX = 1000 };

typedef struct counts {
    pr_cpu_pool *pool;
    atomic_int of_task[TASKS_MAX];
    atomic_int is_thread_busy[8]; /* 1 while a task runs there */
    atomic_int n_shared;          /* tasks that met another one on their i_thread */
    int plain[TASKS_MAX];         /* written without atomics: visible after the run */
} counts;

static void count_task(void *ctx, int i_task, int i_thread)
{
    counts *c = ctx;
    if (atomic_exchange(&c->is_thread_busy[i_thread], 1) != 0) atomic_fetch_add(&c->n_shared, 1);
    atomic_fetch_add(&c->of_task[i_task], 1);
    c->plain[i_task] = i_task + 1;
    atomic_store(&c->is_thread_busy[i_thread], 0);
}

static pr_cpu_pool *pool_of(int n_threads)
{
    pr_cpu_pool *pool = NULL;
    assert_int_equal(pr_cpu_pool_create(n_threads, &pool, NULL), PR_OK);
    return pool;
}

static void pool_runs_each_task_once(void **state)
{
    (void)state;
    static const int n_threads[] = {1, 2, 3, 8};
    static const int n_tasks[] = {0, 1, 2, 3, 7, 8, 9, 100, TASKS_MAX};
    for (size_t i = 0; i < sizeof n_threads / sizeof *n_threads; i++) {
        pr_cpu_pool *pool = pool_of(n_threads[i]);
        assert_int_equal(pr_cpu_pool_n_threads(pool), n_threads[i]);
        for (size_t j = 0; j < sizeof n_tasks / sizeof *n_tasks; j++) {
            static counts c;
            memset(&c, 0, sizeof c);
            pr_cpu_pool_run(pool, count_task, &c, n_tasks[j]);
            for (int t = 0; t < TASKS_MAX; t++) {
                assert_int_equal(c.of_task[t], t < n_tasks[j]);
                assert_int_equal(c.plain[t], t < n_tasks[j] ? t + 1 : 0);
            }
            assert_int_equal(c.n_shared, 0);
        }
        pr_cpu_pool_free(pool);
    }
}

static void add_task(void *ctx, int i_task, int i_thread)
{
    (void)i_thread;
    long *sums = ctx;
    sums[i_task] += i_task;
}

static void pool_survives_many_short_runs(void **state)
{
    (void)state;
    enum { N_RUNS = 20000 };
    pr_cpu_pool *pool = pool_of(3);
    long sums[5] = {0}; /* plain: a run sees what the one before it wrote */
    for (int i = 0; i < N_RUNS; i++) pr_cpu_pool_run(pool, add_task, sums, 1 + i % 5);
    for (int t = 0; t < 5; t++) assert_int_equal(sums[t], (long)t * (N_RUNS / 5) * (5 - t));
    pr_cpu_pool_free(pool);
}

static void pool_wakes_threads_that_sleep(void **state)
{
    (void)state;
    pr_cpu_pool *pool = pool_of(4);
    for (int i = 0; i < 20; i++) {
        long sums[64] = {0};
        struct timespec longer_than_the_spin = {.tv_nsec = 500 * 1000};
        nanosleep(&longer_than_the_spin, NULL);
        pr_cpu_pool_run(pool, add_task, sums, 64);
        for (int t = 0; t < 64; t++) assert_int_equal(sums[t], t);
    }
    pr_cpu_pool_free(pool);
}

typedef struct nested {
    pr_cpu_pool *pool;
    atomic_int n_inner;
    atomic_int n_on_another_thread;
    atomic_int n_begun; /* outer tasks */
} nested;

typedef struct inner {
    nested *outer;
    int i_thread;
} inner;

static void inner_task(void *ctx, int i_task, int i_thread)
{
    (void)i_task;
    inner *in = ctx;
    atomic_fetch_add(&in->outer->n_inner, 1);
    if (i_thread != in->i_thread) atomic_fetch_add(&in->outer->n_on_another_thread, 1);
}

static void wait_for(atomic_int *n, int n_expected)
{
    while (atomic_load(n) < n_expected) {
        struct timespec a_moment = {.tv_nsec = 10 * 1000};
        nanosleep(&a_moment, NULL);
    }
}

static void outer_task(void *ctx, int i_task, int i_thread)
{
    (void)i_task;
    inner in = {ctx, i_thread};
    atomic_fetch_add(&in.outer->n_begun, 1);
    wait_for(&in.outer->n_begun, 3); /* so each of the three threads has one */
    pr_cpu_pool_run(in.outer->pool, inner_task, &in, 10);
}

static void pool_run_inside_a_task_stays_on_its_thread(void **state)
{
    (void)state;
    nested n = {.pool = pool_of(3)};
    for (int i = 0; i < 20; i++) {
        atomic_store(&n.n_begun, 0);
        pr_cpu_pool_run(n.pool, outer_task, &n, 3);
    }
    assert_int_equal(n.n_inner, 20 * 3 * 10);
    assert_int_equal(n.n_on_another_thread, 0);
    pr_cpu_pool_free(n.pool);
}

typedef struct meeting {
    atomic_int n_arrived;
} meeting;

static void meet_task(void *ctx, int i_task, int i_thread)
{
    (void)i_task;
    (void)i_thread;
    meeting *m = ctx;
    atomic_fetch_add(&m->n_arrived, 1);
    wait_for(&m->n_arrived, 2);
}

static void pool_runs_tasks_at_the_same_time(void **state)
{
    (void)state;
    pr_cpu_pool *pool = pool_of(2);
    meeting m = {0};
    pr_cpu_pool_run(pool, meet_task, &m, 2); /* a task ends only when both have begun */
    assert_int_equal(m.n_arrived, 2);
    pr_cpu_pool_free(pool);
}

static void pool_can_be_freed_unused(void **state)
{
    (void)state;
    pr_cpu_pool_free(pool_of(5));
    pr_cpu_pool_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pool_runs_each_task_once),
        cmocka_unit_test(pool_survives_many_short_runs),
        cmocka_unit_test(pool_wakes_threads_that_sleep),
        cmocka_unit_test(pool_run_inside_a_task_stays_on_its_thread),
        cmocka_unit_test(pool_runs_tasks_at_the_same_time),
        cmocka_unit_test(pool_can_be_freed_unused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
