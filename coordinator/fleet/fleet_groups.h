/* coordinator/fleet/fleet_groups.h: replica groups come, are watched, and go.
 *
 * Loop thread only. */
#ifndef POOLRANK_COORDINATOR_FLEET_FLEET_GROUPS_H
#define POOLRANK_COORDINATOR_FLEET_FLEET_GROUPS_H

#include "coordinator/fleet/fleet_state.h"

/* The groups that the launch mode has from the start. Fails PR_E_NOMEM. */
pr_status pr_fleet_groups_create(pr_fleet *f, pr_error *err);
void pr_fleet_groups_free(pr_fleet *f);

/* Takes in connections. Used as uv_connection_cb; server->data: the fleet. */
void pr_fleet_on_connection(uv_stream_t *server, int status);
/* What links are told to call. */
pr_link_config pr_fleet_link_config(pr_fleet *f);

/* Ends a group because of a rank, or as a whole: its ranks are dismissed and its launcher killed,
 * its batches go back, and it is started again where the mode says so. */
void pr_fleet_rank_fail(pr_replica *r, uint32_t rank, pr_status st, const char *reason);
void pr_fleet_group_end(pr_replica *r, pr_status st, const char *reason);

/* Other threads see the groups as they are now (pr_fleet_groups_get). */
void pr_fleet_groups_publish(pr_fleet *f);

/* Starts what is due, asks for signs of life, ends what hangs. Returns the ms until it should be
 * called again. */
uint64_t pr_fleet_groups_tick(pr_fleet *f);

/* Ready groups are told to leave, the others are ended. */
void pr_fleet_groups_leave(pr_fleet *f);
/* Everything that is left is killed. */
void pr_fleet_groups_kill(pr_fleet *f);
bool pr_fleet_groups_are_gone(const pr_fleet *f);
/* A group of the user's own job that is sent away while it loads fails, and the job with it: there
 * the work may be done before all groups are up. */
bool pr_fleet_groups_may_leave(const pr_fleet *f);

#endif
