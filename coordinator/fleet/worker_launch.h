/* coordinator/fleet/worker_launch.h: how the ranks of this run come to be, decided from its
 * settings.
 *
 * Pure; called once, before anything is started. */
#ifndef POOLRANK_COORDINATOR_FLEET_WORKER_LAUNCH_H
#define POOLRANK_COORDINATOR_FLEET_WORKER_LAUNCH_H

#include "coordinator/options/config.h"
#include "runtime/model/model_spec.h"

/* *out: not AUTO. Fails PR_E_ARGUMENT: inproc with more than one rank, options that do not go with
 * the launch mode, sizes that the model cannot be cut into (as pr_shard_plan says). */
pr_status pr_worker_launch_resolve(const pr_config *config, const pr_model_spec *spec,
                                   pr_worker_launch *out, pr_error *err);

const char *pr_worker_launch_name(pr_worker_launch launch); /* "mpirun" */

#endif
