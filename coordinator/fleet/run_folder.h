/* coordinator/fleet/run_folder.h: the folder of one coordinator's run: its control socket, its
 * key, what the launchers of its groups leave behind.
 *
 * A pr_run_folder owns the folder (mode 0700, poolrank-UID-XXXXXX, below $XDG_RUNTIME_DIR or /tmp)
 * and a lock on a file in it. A coordinator that was killed leaves its folder without the lock: the
 * next one removes it. Called by the thread that starts the fleet, then by the fleet's. */
#ifndef POOLRANK_COORDINATOR_FLEET_RUN_FOLDER_H
#define POOLRANK_COORDINATOR_FLEET_RUN_FOLDER_H

#include "runtime/base/status.h"

#include <stdint.h>

typedef struct pr_run_folder pr_run_folder;

/* Sweeps, then makes a folder. runtime_folder: $XDG_RUNTIME_DIR; NULL, not there, not the user's
 * own, or too long for a socket's path: /tmp. Fails PR_E_IO, PR_E_NOMEM. */
pr_status pr_run_folder_open(const char *runtime_folder, pr_run_folder **out, pr_error *err);
/* Removes the folder and all in it. NULL is fine. */
void pr_run_folder_close(pr_run_folder *f);

const char *pr_run_folder_path(const pr_run_folder *f); /* borrowed until close */

/* Makes a folder `name` in it, mode 0700. *out: its path, owned (free). Fails PR_E_IO,
 * PR_E_NOMEM. */
pr_status pr_run_folder_make(const pr_run_folder *f, const char *name, char **out, pr_error *err);

/* Removes whatever is at `path`, folders with all in them; links are removed, not followed. What
 * cannot be removed stays. */
void pr_tree_remove(const char *path);

/* Removes the folders of this user's coordinators that are gone; returns how many. */
uint32_t pr_run_folder_sweep(const char *base);

#endif
