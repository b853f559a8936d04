/* coordinator/fleet/rank_options.h: the settings that a rank opens the coordinator's model with, as
 * options of the table.
 *
 * Owns its strings. Built once, on the opening thread; read by the fleet. */
#ifndef POOLRANK_COORDINATOR_FLEET_RANK_OPTIONS_H
#define POOLRANK_COORDINATOR_FLEET_RANK_OPTIONS_H

#include "coordinator/options/config.h"
#include "coordinator/model/model.h"
#include "worker/control.h"

enum { PR_RANK_OPTIONS_MAX = 32 };

/* The one that is not an option of the table, and another one for each group: "1/4", which of how
 * many groups that share the GPUs of a host. */
#define PR_RANK_OPTION_SLICE "device-slice"

typedef struct pr_rank_options {
    pr_control_option options[PR_RANK_OPTIONS_MAX]; /* names and values owned */
    uint32_t n_options;
} pr_rank_options;

/* The model goes as the absolute path of its folder: a rank on another host finds it there, or is
 * told where it has it by an option of its own. Fails PR_E_NOMEM, PR_E_IO. */
pr_status pr_rank_options_build(const pr_config *config, const pr_model *model,
                                pr_rank_options *out, pr_error *err);
void pr_rank_options_deinit(pr_rank_options *options); /* safe on a zeroed struct */

#endif
