/* coordinator/engine/describe_ranks.h: which rank holds what, and where it runs, as JSON.
 *
 * Pure but for memory and the name of this host; any thread. */
#ifndef POOLRANK_COORDINATOR_ENGINE_DESCRIBE_RANKS_H
#define POOLRANK_COORDINATOR_ENGINE_DESCRIBE_RANKS_H

#include "coordinator/fleet/fleet.h"
#include "runtime/plan/memory_plan.h"

#include <jansson.h>

/* What that rank of a group needs that needs most. Fails as pr_shard_plan, PR_E_NOMEM. */
pr_status pr_describe_memory(const pr_model *model, const pr_config *config, pr_memory_plan *out,
                             pr_error *err);

/* One object for each rank: group, rank, tensor_rank, stage, layers, heads, weights_bytes, host,
 * device. ranks [n]: those that run, their bytes as measured; NULL: what is planned, host and
 * device null where a launcher will choose them. *out: owned (json_decref). Fails PR_E_NOMEM, as
 * pr_shard_plan. */
pr_status pr_describe_ranks(const pr_model *model, const pr_config *config,
                            pr_worker_launch launch, const pr_fleet_rank *ranks, size_t n,
                            json_t **out, pr_error *err);

#endif
