/* coordinator/fleet/fleet_launch.h: starts and kills the launchers of replica groups, mpirun and
 * srun.
 *
 * Loop thread only. A launcher belongs to the fleet until it was reaped, longer than to its group:
 * the next start of a group does not wait for the last one's end. */
#ifndef POOLRANK_COORDINATOR_FLEET_FLEET_LAUNCH_H
#define POOLRANK_COORDINATOR_FLEET_FLEET_LAUNCH_H

#include "coordinator/fleet/fleet_state.h"

bool pr_fleet_is_launching(const pr_fleet *f); /* the mode is one that launches */

/* IDLE → STARTING, with a launcher; a start that fails ends the group. */
void pr_fleet_launch(pr_replica *r);

/* The group gives up its launcher, which is ended with all that it runs. */
void pr_fleet_launcher_kill(pr_replica *r);

#endif
