/* worker/mpi/mpi_error.h: MPI's return codes as pr_status, in one place.
 *
 * Pure. Communicators return their errors (MPI_ERRORS_RETURN) rather than end the job. */
#ifndef POOLRANK_WORKER_MPI_ERROR_H
#define POOLRANK_WORKER_MPI_ERROR_H

#include "runtime/base/status.h"

/* PR_OK for MPI_SUCCESS, else "what: MPI's own words": PR_E_NOMEM (MPI_ERR_NO_MEM), PR_E_INTERNAL
 * for all others. */
pr_status pr_mpi_status(int rc, const char *what, pr_error *err);

#endif
