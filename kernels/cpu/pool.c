#include "kernels/cpu/pool.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

/* How long a thread that has nothing to do keeps looking before it sleeps. The gaps inside a
 * forward pass are a few microseconds; waking a sleeper costs some 50. */
enum { SPIN_NS = 50 * 1000, SPINS_PER_LOOK_AT_THE_CLOCK = 32 };

typedef struct pool_thread {
    struct pr_cpu_pool *pool;
    int i_thread;
    pthread_t handle;
} pool_thread;

/* The ticket holds the number of the run (upper half) and how many of its tasks are still to be
 * taken (lower half). Taking one is a compare-and-swap, so a thread that wakes up late, when its
 * run is over, can take nothing from it, and nobody has to wait for such a thread. task, ctx and
 * n_tasks are written before the ticket is published and read only by a thread that has taken a
 * task: until it has done it, the run is not over and they stand still. */
struct pr_cpu_pool {
    int n_threads;
    int n_started;
    pool_thread *threads; /* [n_threads]; 0 is the caller */

    _Alignas(64) _Atomic uint64_t ticket;
    _Alignas(64) atomic_int n_unfinished; /* tasks of the run that are not done */
    _Alignas(64) atomic_int n_asleep;
    atomic_bool is_running;
    atomic_bool is_caller_asleep;
    atomic_bool is_stopping;
    pr_cpu_task task;
    void *ctx;
    int n_tasks;

    pthread_mutex_t mutex; /* only for sleeping and waking */
    pthread_cond_t work;
    pthread_cond_t done;
};

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool has_work(pr_cpu_pool *pool)
{
    return (uint32_t)atomic_load(&pool->ticket) != 0 || atomic_load(&pool->is_stopping);
}

static bool is_done(pr_cpu_pool *pool)
{
    return atomic_load(&pool->n_unfinished) == 0;
}

/* Looks for a while; false when it did not come true. */
static bool spin_until(pr_cpu_pool *pool, bool (*is_true)(pr_cpu_pool *))
{
    int64_t end_ns = 0;
    for (;;) {
        for (int i = 0; i < SPINS_PER_LOOK_AT_THE_CLOCK; i++) {
            if (is_true(pool)) return true;
            relax();
        }
        int64_t t = now_ns();
        if (end_ns == 0) end_ns = t + SPIN_NS;
        if (t >= end_ns) return false;
    }
}

static bool take_task(pr_cpu_pool *pool, int *i_task)
{
    uint64_t ticket = atomic_load(&pool->ticket);
    while ((uint32_t)ticket != 0) {
        if (atomic_compare_exchange_weak(&pool->ticket, &ticket, ticket - 1)) {
            *i_task = pool->n_tasks - (int)(uint32_t)ticket;
            return true;
        }
    }
    return false;
}

static void work(pr_cpu_pool *pool, int i_thread)
{
    int i_task;
    while (take_task(pool, &i_task)) {
        pool->task(pool->ctx, i_task, i_thread);
        if (atomic_fetch_sub(&pool->n_unfinished, 1) != 1) continue;
        if (!atomic_load(&pool->is_caller_asleep)) continue;
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_signal(&pool->done);
        pthread_mutex_unlock(&pool->mutex);
    }
}

static void *thread_main(void *arg)
{
    pool_thread *self = arg;
    pr_cpu_pool *pool = self->pool;
    while (!atomic_load(&pool->is_stopping)) {
        work(pool, self->i_thread);
        if (spin_until(pool, has_work)) continue;
        pthread_mutex_lock(&pool->mutex);
        atomic_fetch_add(&pool->n_asleep, 1); /* before looking again: see wake_threads */
        while (!has_work(pool)) pthread_cond_wait(&pool->work, &pool->mutex);
        atomic_fetch_sub(&pool->n_asleep, 1);
        pthread_mutex_unlock(&pool->mutex);
    }
    return NULL;
}

/* The ticket is published, then n_asleep is read; a sleeper counts itself, then reads the ticket.
 * One of the two sees the other. */
static void wake_threads(pr_cpu_pool *pool, int n_wanted)
{
    int n_asleep = atomic_load(&pool->n_asleep);
    if (n_asleep == 0) return;
    pthread_mutex_lock(&pool->mutex);
    if (n_wanted >= n_asleep) {
        pthread_cond_broadcast(&pool->work);
    } else {
        for (int i = 0; i < n_wanted; i++) pthread_cond_signal(&pool->work);
    }
    pthread_mutex_unlock(&pool->mutex);
}

static void wait_until_done(pr_cpu_pool *pool)
{
    if (spin_until(pool, is_done)) return;
    pthread_mutex_lock(&pool->mutex);
    atomic_store(&pool->is_caller_asleep, true);
    while (!is_done(pool)) pthread_cond_wait(&pool->done, &pool->mutex);
    atomic_store(&pool->is_caller_asleep, false);
    pthread_mutex_unlock(&pool->mutex);
}

static void run_alone(pr_cpu_pool *pool, pr_cpu_task task, void *ctx, int n_tasks)
{
    int i_thread = 0;
    for (int i = 1; i < pool->n_threads; i++) {
        if (pthread_equal(pool->threads[i].handle, pthread_self())) i_thread = i;
    }
    for (int i = 0; i < n_tasks; i++) task(ctx, i, i_thread);
}

void pr_cpu_pool_run(pr_cpu_pool *pool, pr_cpu_task task, void *ctx, int n_tasks)
{
    assert(pool);
    assert(task);
    assert(n_tasks >= 0);
    if (n_tasks == 0) return;
    if (pool->n_threads == 1 || n_tasks == 1 || atomic_load(&pool->is_running)) {
        run_alone(pool, task, ctx, n_tasks);
        return;
    }
    atomic_store(&pool->is_running, true);
    pool->task = task;
    pool->ctx = ctx;
    pool->n_tasks = n_tasks;
    atomic_store(&pool->n_unfinished, n_tasks);
    uint64_t i_run = (atomic_load(&pool->ticket) >> 32) + 1;
    atomic_store(&pool->ticket, i_run << 32 | (uint32_t)n_tasks);
    wake_threads(pool, n_tasks - 1);
    work(pool, 0);
    wait_until_done(pool);
    atomic_store(&pool->is_running, false);
}

int pr_cpu_pool_n_threads(const pr_cpu_pool *pool)
{
    assert(pool);
    return pool->n_threads;
}

void pr_cpu_pool_free(pr_cpu_pool *pool)
{
    if (!pool) return;
    pthread_mutex_lock(&pool->mutex);
    atomic_store(&pool->is_stopping, true);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 1; i <= pool->n_started; i++) pthread_join(pool->threads[i].handle, NULL);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->mutex);
    free(pool->threads);
    free(pool);
}

static pr_status pool_start(pr_cpu_pool *pool, pr_error *err)
{
    for (int i = 1; i < pool->n_threads; i++) {
        pool->threads[i] = (pool_thread){.pool = pool, .i_thread = i};
        int e = pthread_create(&pool->threads[i].handle, NULL, thread_main, &pool->threads[i]);
        if (e != 0) {
            return pr_error_set(err, PR_E_INTERNAL, "thread %d of %d: error %d at its start", i + 1,
                                pool->n_threads, e);
        }
        pool->n_started = i;
    }
    return PR_OK;
}

pr_status pr_cpu_pool_create(int n_threads, pr_cpu_pool **out, pr_error *err)
{
    assert(out);
    assert(n_threads >= 1);
    assert(n_threads <= PR_CPU_THREADS_MAX);
    void *memory = NULL;
    if (posix_memalign(&memory, 64, sizeof(pr_cpu_pool)) != 0) {
        return pr_error_nomem(err, "thread pool", sizeof(pr_cpu_pool));
    }
    pr_cpu_pool *pool = memory;
    *pool = (pr_cpu_pool){.n_threads = n_threads};
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);
    pr_status st;
    pool->threads = calloc((size_t)n_threads, sizeof *pool->threads);
    if (!pool->threads) {
        st = pr_error_nomem(err, "thread pool", (size_t)n_threads * sizeof *pool->threads);
    } else {
        st = pool_start(pool, err);
    }
    if (st != PR_OK) {
        pr_cpu_pool_free(pool);
        return st;
    }
    *out = pool;
    return PR_OK;
}
