/* coordinator/options/config_build.h: the settings of one run, from the options that were given.
 *
 * Called once a run, when all sources were read. */
#ifndef POOLRANK_COORDINATOR_OPTIONS_CONFIG_BUILD_H
#define POOLRANK_COORDINATOR_OPTIONS_CONFIG_BUILD_H

#include "coordinator/options/config.h"
#include "coordinator/options/options.h"

/* Resolves all values. *out: owned (pr_config_deinit).
 * Fails PR_E_ARGUMENT (values that do not go together), PR_E_NOMEM. */
pr_status pr_config_build(const pr_options *options, pr_config *out, pr_error *err);

#endif
