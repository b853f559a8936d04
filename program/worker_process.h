/* program/worker_process.h: this process as one rank of a replica group: of `poolrank worker`,
 * and of a job's processes.
 *
 * Connects and starts the control thread first, so that a coordinator that goes away is noticed
 * from then on, also inside MPI_Init; then, as LOAD says: the model's files, MPI where the group
 * has more than one rank, the weights. Called once, on the main thread, which becomes the compute
 * thread. */
#ifndef POOLRANK_PROGRAM_WORKER_PROCESS_H
#define POOLRANK_PROGRAM_WORKER_PROCESS_H

#include "coordinator/options/config.h"
#include "program/worker_environment.h"
#include "worker/mpi/plugin.h"

/* All borrowed for the call. */
typedef struct pr_worker_process {
    const pr_config *config;  /* connect, cluster_key_file, group, model, threads, start_timeout */
    const pr_worker_environment *environment;
    uint32_t rank, n_ranks;   /* within the group */
    const pr_mpi_plugin *mpi; /* initialised by the caller, who also ends it; NULL: done here, for a
                                 group that is the whole MPI job */
    int first_rank;           /* world rank of the group's rank 0 */
    const pr_log *log;
    bool *must_end; /* set when the process must leave at once, without taking anything down */
} pr_worker_process;

/* Until the coordinator says SHUTDOWN. Returns an exit status of program/command.h; unless it
 * is 0 *err says why. */
int pr_worker_process_run(const pr_worker_process *process, pr_error *err);

#endif
