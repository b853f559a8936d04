/* worker/mpi/mpi_comm.h: a pr_comm over MPI, and over shared memory wherever the ranks of an
 * operation have it.
 *
 * Owns its MPI communicators, its scratch memory and the shared region. Compute thread only. */
#ifndef POOLRANK_WORKER_MPI_COMM_H
#define POOLRANK_WORKER_MPI_COMM_H

#include "worker/comm.h"

/* Which way data goes; for tests and measurements. */
typedef enum pr_mpi_path {
    PR_MPI_PATH_AUTO, /* shared memory where there is some */
    PR_MPI_PATH_SHM,  /* shared memory everywhere, or it is an error */
    PR_MPI_PATH_MPI   /* no shared memory */
} pr_mpi_path;

/* As comm_create of plugin.h. Fails PR_E_ARGUMENT (more ranks than the job has), PR_E_NOMEM,
 * PR_E_UNSUPPORTED (PATH_SHM and a rank that does not share), PR_E_INTERNAL. */
pr_status pr_comm_mpi_create(int first_rank, int tp_size, int n_stages, pr_mpi_path path,
                             pr_comm **out, pr_error *err);

#endif
