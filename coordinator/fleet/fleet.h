/* coordinator/fleet/fleet.h: the replica groups: starts them, takes them in when they connect,
 * gives them batches, watches them, restarts them, and runs again what a dead group had in hand.
 *
 * Owns one thread with a libuv loop, the control listener, the run folder, and the launched
 * processes. It decides nothing: each callback becomes an event of coordinator/fleet/fleet_step.h,
 * and the actions that come of it are carried out. Command lines of launchers:
 * coordinator/fleet/launcher.h. */
#ifndef POOLRANK_COORDINATOR_FLEET_FLEET_H
#define POOLRANK_COORDINATOR_FLEET_FLEET_H

#include "coordinator/fleet/fleet_view.h"
#include "coordinator/queue/batch_queue.h"
#include "coordinator/options/config.h"
#include "coordinator/model/model.h"
#include "worker/control.h"
#include "worker/worker.h"

typedef struct pr_fleet pr_fleet;

/* All borrowed until stop. */
typedef struct pr_fleet_config {
    const pr_config *config;
    pr_worker_launch launch; /* resolved: not AUTO, not INPROC */
    const pr_model *model;
    const pr_log *log;
    pr_batch_queue *queue;
    uint32_t n_rows_max, n_positions_max;
    const pr_control_option *options; /* [n_options] what a rank needs to open the same model */
    uint32_t n_options;
} pr_fleet_config;

/* Begins: listens, launches the groups (launch modes that launch), returns at once. Fails
 * PR_E_ARGUMENT (an option that does not fit), PR_E_NOT_FOUND (mpirun, srun, the program, with what
 * to install), PR_E_IO. */
pr_status pr_fleet_start(const pr_fleet_config *config, pr_fleet **out, pr_error *err);

/* Where ranks connect, "unix:PATH" or "tcp:HOST:PORT", and the file of the key that they prove:
 * what `poolrank worker` is told. Borrowed until stop. */
const char *pr_fleet_address(const pr_fleet *f);
const char *pr_fleet_key_file(const pr_fleet *f);

/* Waits until one group is ready. Fails with the ranks' reason when the model cannot be loaded
 * (PR_E_MODEL, PR_E_NOMEM, … as pr_worker_open), PR_E_UNAVAILABLE when the groups do not start
 * (with the launcher's last words), PR_E_CANCELLED after pr_fleet_cancel. */
pr_status pr_fleet_await(pr_fleet *f, pr_worker_info *info, pr_error *err);
void pr_fleet_cancel(pr_fleet *f); /* await ends soon; any thread */

/* A copy of the table of ranks of all ready groups; *out [returned] owned (free). */
size_t pr_fleet_ranks(pr_fleet *f, pr_fleet_rank **out);

/* Any thread. */
void pr_fleet_groups_get(pr_fleet *f, pr_fleet_groups_now *out);

/* Call when the queue is closed: runs what is left, sends SHUTDOWN, waits for the groups to leave
 * (ends them by force after a while), removes the run folder, joins the thread. NULL is fine. */
void pr_fleet_stop(pr_fleet *f);

#endif
