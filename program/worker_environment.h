/* program/worker_environment.h: what a launcher's environment says of a rank, before MPI is
 * initialised: which one it is, of how many, on its host and in all; and which processors are then
 * its own.
 *
 * Pure: plain data in and out. Called by `poolrank worker`. */
#ifndef POOLRANK_PROGRAM_WORKER_ENVIRONMENT_H
#define POOLRANK_PROGRAM_WORKER_ENVIRONMENT_H

#include "runtime/base/status.h"

#include <stdint.h>

enum { PR_WORKER_GROUP_BYTES = 128, PR_WORKER_CPUS_MAX = 1024 };

typedef struct pr_worker_environment {
    uint32_t rank, n_ranks;
    uint32_t local_rank, n_local; /* among the ranks on this host */
    bool is_bound;                /* the launcher gave each rank processors of its own */
    const char *launcher;         /* "mpirun", "srun"; NULL: started by itself, rank 0 of 1 */
    char group[PR_WORKER_GROUP_BYTES]; /* the same on all ranks of the job; "": nothing says it */
    bool sees_one_device; /* CUDA_VISIBLE_DEVICES names one GPU: where other ranks are beside this
                             one, each has been given one of its own */
} pr_worker_environment;

/* env: "NAME=value" strings, NULL at the end. Of mpirun inside of srun mpirun counts. Fails
 * PR_E_ARGUMENT: half of what is needed is there, or numbers that do not go together. */
pr_status pr_worker_environment_read(char *const *env, pr_worker_environment *out, pr_error *err);

/* "1/4": the second of four groups that share this host's GPUs. Fails PR_E_ARGUMENT. */
pr_status pr_worker_slice_parse(const char *text, uint32_t *slice, uint32_t *n_slices,
                                pr_error *err);

/* How many threads a rank computes with when nobody says: n_cpus, what the process may use
 * (pr_cpu_count), is shared by the ranks of the host unless each was given its own. At least 1. */
int32_t pr_worker_threads(const pr_worker_environment *environment, int32_t n_cpus);

/* The processors to pin a rank to: its slice of cpus [n_cpus], the process's own in rising order,
 * when n_threads for every rank of the host fit into them and the ranks share them. Writes to out
 * [n_threads] and returns n_threads; 0: leave it as it is. */
int32_t pr_worker_cpus(const pr_worker_environment *environment, const int *cpus, int32_t n_cpus,
                       int32_t n_threads, int *out);

/* "0-1,4" of rising numbers; cut with "…" where it does not fit. */
void pr_worker_cpus_print(const int *cpus, int32_t n_cpus, char *out, size_t out_bytes);

#endif
