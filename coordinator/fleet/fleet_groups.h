/* coordinator/fleet/fleet_groups.h: replica groups start, are watched, and end.
 *
 * Part of pr_fleet_step: pure. */
#ifndef POOLRANK_COORDINATOR_FLEET_FLEET_GROUPS_H
#define POOLRANK_COORDINATOR_FLEET_FLEET_GROUPS_H

#include "coordinator/fleet/fleet_state.h"

/* The groups that the launch mode has from the start. Fails PR_E_NOMEM. */
pr_status pr_fleet_groups_create(pr_fleet_state *s, uint64_t now_ms, pr_error *err);

/* Ends a group because of a rank, or as a whole: its ranks are dismissed and its launcher stopped,
 * its batches go back, and it is started again where the mode says so. An IDLE one: nothing. */
void pr_fleet_rank_fail(pr_fleet_state *s, pr_replica *r, uint32_t rank, pr_status st,
                        const char *reason, uint64_t now_ms, pr_fleet_actions *out);
void pr_fleet_group_end(pr_fleet_state *s, pr_replica *r, pr_status st, const char *reason,
                        uint64_t now_ms, pr_fleet_actions *out);

/* Its connection is gone: now, or with its launcher's words a little later. */
void pr_fleet_rank_gone(pr_fleet_state *s, pr_replica *r, uint32_t rank, const char *reason,
                        uint64_t now_ms, pr_fleet_actions *out);
/* The words of a group that ends because of such a rank. */
void pr_fleet_words_take(pr_fleet_state *s, pr_replica *r, const char *words, uint64_t now_ms,
                         pr_fleet_actions *out);

/* What a tick does before it goes from group to group: is anybody there? */
void pr_fleet_outage_check(pr_fleet_state *s, uint64_t now_ms, pr_fleet_actions *out);
/* Does to the group whose turn it is what the round does, and goes to the next one. */
void pr_fleet_round_step(pr_fleet_state *s, uint64_t now_ms, pr_fleet_actions *out);

/* A group of the user's own job that is sent away while it loads fails, and the job with it: there
 * the work may be done before all groups are up. */
bool pr_fleet_groups_may_leave(const pr_fleet_state *s);
bool pr_fleet_groups_are_gone(const pr_fleet_state *s); /* and their launchers */

#endif
