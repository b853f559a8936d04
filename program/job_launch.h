/* program/job_launch.h: --worker-launch job: the user's own mpirun or srun started this program
 * once for each rank.
 *
 *     world rank 0                               world ranks 1 … N-1
 *       │ fork, before MPI_Init ──► coordinator      │
 *       │ ◄── address, key file (pipe)               │
 *       ├── MPI_Init ────────────────────────────────┤
 *       ├── broadcast of address and key file ───────┤
 *       └── rank of group "job/0"                    └── rank of group "job/0", "job/1", …
 *
 * The coordinator is in a session of its own and is no MPI process. Rank 0 ends with its exit
 * status, the others with 0. A rank's death ends the whole job: that is the launcher's way. */
#ifndef POOLRANK_PROGRAM_JOB_LAUNCH_H
#define POOLRANK_PROGRAM_JOB_LAUNCH_H

#include "program/command.h"

/* Runs the context's command over the ranks of the job; called by main before any thread exists, in
 * every process of the job. Returns the process's exit status; unless that is 0 or 3 it fills *err,
 * with an empty message where another process has said it. */
int pr_job_launch_run(const pr_command_context *context, pr_error *err);

#endif
