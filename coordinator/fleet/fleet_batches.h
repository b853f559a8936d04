/* coordinator/fleet/fleet_batches.h: batches on their way from the queue to a group, and back.
 *
 * Part of pr_fleet_step: pure. Each batch that was taken is completed exactly once. */
#ifndef POOLRANK_COORDINATOR_FLEET_FLEET_BATCHES_H
#define POOLRANK_COORDINATOR_FLEET_FLEET_BATCHES_H

#include "coordinator/fleet/fleet_state.h"

/* Sends one batch that waits, has it cut up, or answers all with the failure that there is. False:
 * there is nothing of that to do now. */
bool pr_fleet_dispatch(pr_fleet_state *s, uint64_t now_ms, pr_fleet_actions *out);

/* Whether a batch of the queue would be sent, or answered with a failure, at once. */
bool pr_fleet_has_room(const pr_fleet_state *s, uint64_t now_ms);

/* Behind what waits already; one batch. */
void pr_fleet_take_in(pr_fleet_state *s, pr_batch *batch);

/* What a dead group had in hand [linked by next]: back to the front, or answered. Returns how many
 * batches wait again. */
size_t pr_fleet_take_back(pr_fleet_state *s, pr_batch *batches, const char *reason,
                          pr_fleet_actions *out);
/* What CUT asked for came back: to the front. */
void pr_fleet_take_pieces(pr_fleet_state *s, const pr_fleet_event *e, pr_fleet_actions *out);
/* The batch that was sent last could not be made a message of: it is answered, nobody has it. */
void pr_fleet_take_unsent(pr_replica *r, const pr_fleet_event *e, pr_fleet_actions *out);

/* A rank has answered. Fails as pr_group_done: the group must be ended. */
pr_status pr_fleet_done(pr_replica *r, uint32_t rank, const pr_control_done *done, uint64_t now_ms,
                        pr_fleet_actions *out, pr_error *err);

/* Nothing waits, nothing is in a group's hands, nothing will come. */
bool pr_fleet_is_idle(const pr_fleet_state *s);

#endif
