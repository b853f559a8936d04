/* coordinator/fleet/fleet_launch.h: the launchers of a fleet, mpirun and srun: what starts, stops
 * and reads them.
 *
 * A pr_launchers owns each launcher from its start until it was reaped, and its folder. Part of the
 * fleet's edge: loop thread only, no policy. */
#ifndef POOLRANK_COORDINATOR_FLEET_FLEET_LAUNCH_H
#define POOLRANK_COORDINATOR_FLEET_FLEET_LAUNCH_H

#include "coordinator/fleet/fleet_place.h"
#include "coordinator/fleet/fleet_process.h"
#include "coordinator/fleet/group.h"
#include "runtime/base/log.h"

/* All borrowed while launchers live. */
typedef struct pr_launchers_config {
    uv_loop_t *loop;
    const pr_fleet_place *place;
    const pr_config *config;
    pr_worker_launch launch;
    const pr_log *log;
    /* A launcher has ended, `how` with its last words; once for each that was started, from the
     * loop. */
    void (*ended)(void *context, uint64_t epoch, const char *how);
    void *context;
} pr_launchers_config;

typedef struct pr_launched pr_launched;

typedef struct pr_launchers {
    pr_launchers_config c;
    pr_launched *first;
} pr_launchers;

/* Starts the ranks of a group's start. Fails as pr_process_start and pr_launch_build. */
pr_status pr_launchers_start(pr_launchers *ls, const pr_group *group, pr_error *err);
/* One that is gone: nothing. is_forced: SIGKILL to all of it, else SIGTERM. */
void pr_launchers_stop(pr_launchers *ls, uint64_t epoch, bool is_forced);
void pr_launchers_kill_all(pr_launchers *ls);
/* pr_process_last_words; "" of one that is gone. */
const char *pr_launchers_last_words(pr_launchers *ls, uint64_t epoch);

#endif
