#include "worker/mpi/mpi_error.h"

#include <mpi.h>
#include <stdio.h>

pr_status pr_mpi_status(int rc, const char *what, pr_error *err)
{
    if (rc == MPI_SUCCESS) return PR_OK;
    char text[MPI_MAX_ERROR_STRING];
    int n = 0, class = MPI_ERR_OTHER;
    if (MPI_Error_string(rc, text, &n) != MPI_SUCCESS) snprintf(text, sizeof text, "code %d", rc);
    MPI_Error_class(rc, &class);
    pr_status st = class == MPI_ERR_NO_MEM ? PR_E_NOMEM : PR_E_INTERNAL;
    return pr_error_set(err, st, "%s: %s", what, text);
}
