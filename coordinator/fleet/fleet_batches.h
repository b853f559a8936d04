/* coordinator/fleet/fleet_batches.h: batches on their way from the queue to a group, and back.
 *
 * Loop thread only. Each batch that was taken is completed exactly once. */
#ifndef POOLRANK_COORDINATOR_FLEET_FLEET_BATCHES_H
#define POOLRANK_COORDINATOR_FLEET_FLEET_BATCHES_H

#include "coordinator/fleet/fleet_state.h"

/* Gives batches to groups until none has room or nothing waits. */
void pr_fleet_dispatch(pr_fleet *f);

/* What a dead group had in hand [linked by next]: back to the front, cut up, or answered. Returns
 * how many batches wait again. */
size_t pr_fleet_take_back(pr_fleet *f, pr_batch *batches, const char *reason);

/* Answers of a rank. Fails as pr_group_result and pr_group_done: the group must be ended. */
pr_status pr_fleet_result(pr_replica *r, uint32_t rank, const pr_control_result *result,
                          pr_error *err);
pr_status pr_fleet_done(pr_replica *r, uint32_t rank, const pr_control_done *done, pr_error *err);

/* Answers everything that waits with a failure. */
void pr_fleet_fail_waiting(pr_fleet *f, pr_status st, const char *message);

/* Nothing waits, nothing is in a group's hands. */
bool pr_fleet_is_idle(const pr_fleet *f);

#endif
