/* coordinator/engine/run_local.h: the runner of one process: a thread that owns the worker, takes
 * batches from the queue, runs them and delivers their results.
 *
 * A worker that fails in a way that ends a process ends this one: there is no isolation here, which
 * the fleet (coordinator/fleet/fleet.h) has. */
#ifndef POOLRANK_COORDINATOR_ENGINE_RUN_LOCAL_H
#define POOLRANK_COORDINATOR_ENGINE_RUN_LOCAL_H

#include "coordinator/queue/batch_queue.h"
#include "worker/rank_device.h"
#include "worker/worker.h"

typedef struct pr_run_local pr_run_local;

/* Starts the thread, which opens the device and begins to load. worker (its backend is not read),
 * device, queue: borrowed until stop. What the worker keeps between batches (n_cache_blocks) is
 * accounted for here. Fails PR_E_NOMEM, PR_E_INTERNAL. */
pr_status pr_run_local_start(const pr_worker_config *worker, const pr_rank_device *device,
                             pr_batch_queue *queue, pr_run_local **out, pr_error *err);

/* Waits until the model is loaded. Fails as pr_rank_device_open and pr_worker_open. */
pr_status pr_run_local_await(pr_run_local *r, pr_worker_info *info, pr_error *err);

/* Whether the device failed for good: CUDA answers nothing more in a process that has seen such an
 * error, and every batch fails with it from then on. Any thread. */
bool pr_run_local_is_lost(pr_run_local *r);

/* Once the queue is closed: runs what is left and joins the thread. NULL is fine. */
void pr_run_local_stop(pr_run_local *r);

#endif
