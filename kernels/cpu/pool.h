/* kernels/cpu/pool.h: the CPU backend's threads.
 *
 * A pool owns n_threads - 1 threads; the caller of pr_cpu_pool_run is the last one. Between runs a
 * thread spins for a moment (a forward pass is many short runs), then sleeps, so an idle pool burns
 * no CPU. One run at a time: all calls come from one thread, the rank's compute thread; a run
 * inside a task of the same pool is allowed and is done by the thread that asks, alone. */
#ifndef POOLRANK_KERNELS_CPU_POOL_H
#define POOLRANK_KERNELS_CPU_POOL_H

#include "runtime/base/status.h"

enum { PR_CPU_THREADS_MAX = 1024 };

typedef struct pr_cpu_pool pr_cpu_pool;

/* i_task: 0 .. n_tasks - 1, each exactly once. i_thread: 0 .. n_threads - 1, of the thread that
 * does it (0: the caller), for scratch memory; no two tasks run at once with the same i_thread. */
typedef void (*pr_cpu_task)(void *ctx, int i_task, int i_thread);

/* n_threads: 1 .. PR_CPU_THREADS_MAX, the caller included. out: owned, release with
 * pr_cpu_pool_free. Fails PR_E_NOMEM; PR_E_INTERNAL when a thread cannot be started. */
pr_status pr_cpu_pool_create(int n_threads, pr_cpu_pool **out, pr_error *err);
void pr_cpu_pool_free(pr_cpu_pool *pool);
int pr_cpu_pool_n_threads(const pr_cpu_pool *pool);

/* Does n_tasks tasks, handed out in rising order to whichever thread is free, and returns when all
 * are done; what the tasks wrote is then visible to the caller. ctx: borrowed for the call. */
void pr_cpu_pool_run(pr_cpu_pool *pool, pr_cpu_task task, void *ctx, int n_tasks);

#endif
