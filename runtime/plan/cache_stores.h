/* runtime/plan/cache_stores.h: what the ranks keep of a batch: the whole blocks of its sequences
 * that their cache does not have.
 *
 * Pure but for the cache's bookkeeping, which is changed; called by the batch planner, last. */
#ifndef POOLRANK_RUNTIME_PLAN_CACHE_STORES_H
#define POOLRANK_RUNTIME_PLAN_CACHE_STORES_H

#include "runtime/plan/batch_plan.h"

/* Fills plan->stores, at most n_max of them, from its sequences, whose requests are
 * queue[i_request]. A full cache keeps what it can: the blocks that this batch uses are not given
 * up. Fails PR_E_NOMEM, before the cache is changed. */
pr_status pr_cache_stores_plan(pr_batch_plan *plan, const pr_queued *queue, uint32_t n_max,
                               pr_prefix_cache *cache, pr_error *err);

#endif
