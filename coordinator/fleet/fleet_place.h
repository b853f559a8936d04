/* coordinator/fleet/fleet_place.h: what a fleet needs before its loop runs: where ranks connect and
 * with which key, and what starts them.
 *
 * Owns the run folder, the listener, the key, and a copy of the environment, which nobody reads
 * again while other threads may change it. Opened by the thread that starts the fleet, then read by
 * the loop's. */
#ifndef POOLRANK_COORDINATOR_FLEET_FLEET_PLACE_H
#define POOLRANK_COORDINATOR_FLEET_FLEET_PLACE_H

#include "coordinator/fleet/launcher.h"
#include "coordinator/fleet/listener.h"
#include "coordinator/fleet/run_folder.h"
#include "runtime/wire/auth.h"

typedef struct pr_fleet_place {
    pr_words environment;
    pr_run_folder *folder;
    pr_listener *listener;
    char *key_file;
    pr_key key;
    char *launcher, *program; /* paths; NULL: nothing is launched */
    char *guard;              /* pr_launch.guard; may be NULL */
    bool leaves_host;         /* ranks may be on other hosts */
} pr_fleet_place;

/* launch: resolved; environment: "NAME=value" strings, NULL at the end. *out zeroed by the caller;
 * to be closed on failure too. Fails PR_E_ARGUMENT, PR_E_NOT_FOUND, PR_E_IO, PR_E_NOMEM, with what
 * to do. */
pr_status pr_fleet_place_open(const pr_config *config, pr_worker_launch launch,
                              char *const *environment, pr_fleet_place *out, pr_error *err);
void pr_fleet_place_close(pr_fleet_place *p); /* safe on a zeroed struct */

#endif
