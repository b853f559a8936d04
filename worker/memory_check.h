/* worker/memory_check.h: whether a rank's shard and one forward pass fit a GPU, before anything is
 * allocated there.
 *
 * Pure. Called by worker/rank_device.h. */
#ifndef POOLRANK_WORKER_MEMORY_CHECK_H
#define POOLRANK_WORKER_MEMORY_CHECK_H

#include "runtime/plan/memory_plan.h"
#include "worker/cuda/plugin.h"

/* What a rank is about to put on its device. */
typedef struct pr_memory_demand {
    const pr_model_spec *spec;
    pr_parallel parallel;
    uint32_t n_rows_max;      /* of pr_worker_config: the token budget, or the longest text */
    uint32_t n_positions_max; /* the longest text */
    pr_dtype dtype;           /* compute dtype */
} pr_memory_demand;

/* utilization: part of the device's memory that may be taken; what others have taken of it is not
 * there either, where free_bytes is known (not 0).
 * Fails PR_E_NOMEM with what is needed and what there is, and the largest token budget that would
 * fit; if that is 0, the next tensor-parallel sizes at which the wanted one would. PR_E_ARGUMENT as
 * pr_shard_plan. */
pr_status pr_memory_check(const pr_memory_demand *demand, const pr_cuda_device *device,
                          double utilization, pr_error *err);

#endif
