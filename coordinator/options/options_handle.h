/* coordinator/options/options_handle.h: inside of a pr_options, for the files that make it up:
 * options.c (values), options_sources.c (environment and files), config_build.c (what comes of
 * them). */
#ifndef POOLRANK_COORDINATOR_OPTIONS_OPTIONS_HANDLE_H
#define POOLRANK_COORDINATOR_OPTIONS_OPTIONS_HANDLE_H

#include "coordinator/options/option_row.h"
#include "include/poolrank/engine.h"
#include "runtime/base/status.h"

typedef struct pr_option_given {
    char *values[PR_OPTION_SOURCE_COUNT]; /* NULL: this source does not give it */
} pr_option_given;

struct pr_options {
    unsigned command;       /* bit of the command whose options apply */
    pr_option_given *given; /* [pr_option_count()] */
    char **warnings;
    size_t n_warnings;
    /* of the environment, each owned or NULL */
    char *hf_hub_cache;
    char *hf_home;
    char *xdg_cache_home;
    char *home;
    int32_t slurm_cpus_per_task; /* 0: not set */
    bool is_in_allocation;       /* SLURM_JOB_ID is set */
    int32_t launcher_size;       /* OMPI_COMM_WORLD_SIZE: mpirun started so many; 0: not set */
};

/* Adds a line to the warnings, once. Fails PR_E_NOMEM. */
pr_status pr_options_warn(pr_options *options, const char *line, pr_error *err);

/* The value of the source that wins; NULL: nobody gave one. Borrowed. */
const char *pr_options_value(const pr_options *options, size_t i_row);

#endif
