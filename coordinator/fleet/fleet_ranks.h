/* coordinator/fleet/fleet_ranks.h: ranks connect, join their group, are ready, and answer.
 *
 * Part of pr_fleet_step: pure. */
#ifndef POOLRANK_COORDINATOR_FLEET_FLEET_RANKS_H
#define POOLRANK_COORDINATOR_FLEET_FLEET_RANKS_H

#include "coordinator/fleet/fleet_state.h"

/* The three of a connection that is nobody's yet. */
void pr_fleet_stranger_comes(pr_fleet_state *s, void *link, pr_fleet_actions *out);
void pr_fleet_stranger_joins(pr_fleet_state *s, const pr_fleet_event *e, uint64_t now_ms,
                             pr_fleet_actions *out);
void pr_fleet_stranger_ended(pr_fleet_state *s, const pr_fleet_event *e, pr_fleet_actions *out);
void pr_fleet_strangers_dismiss(pr_fleet_state *s, pr_fleet_actions *out);

/* A message of a rank of a group that is not IDLE. */
void pr_fleet_message_take(pr_fleet_state *s, pr_replica *r, uint32_t rank,
                           const pr_control_message *m, uint64_t now_ms, pr_fleet_actions *out);

#endif
