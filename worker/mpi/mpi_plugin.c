/* What libpoolrank-mpi.so exports; worker/mpi/plugin.h. */
#include "worker/mpi/plugin.h"

#include "worker/mpi/mpi_comm.h"
#include "worker/mpi/mpi_error.h"

#include <mpi.h>
#include <stdlib.h>
#include <string.h>

enum { BROADCAST_BYTES = 1 << 28 };

static pr_status plugin_init(int *rank, int *size, pr_error *err)
{
    int provided = 0;
    pr_status st = pr_mpi_status(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided),
                                 "MPI_Init_thread", err);
    if (st != PR_OK) return st;
    if (provided < MPI_THREAD_FUNNELED) {
        return pr_error_set(err, PR_E_INTERNAL,
                            "MPI_Init_thread: found thread level %d, expected %d "
                            "(MPI_THREAD_FUNNELED) or more",
                            provided, MPI_THREAD_FUNNELED);
    }
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, rank);
    MPI_Comm_size(MPI_COMM_WORLD, size);
    return PR_OK;
}

static pr_status plugin_broadcast(void *data, size_t n, int root, pr_error *err)
{
    char *p = data;
    for (size_t i = 0; i < n; i += BROADCAST_BYTES) {
        int n_now = n - i < BROADCAST_BYTES ? (int)(n - i) : BROADCAST_BYTES;
        int rc = MPI_Bcast(p + i, n_now, MPI_BYTE, root, MPI_COMM_WORLD);
        if (rc != MPI_SUCCESS) return pr_mpi_status(rc, "MPI_Bcast", err);
    }
    return PR_OK;
}

/* POOLRANK_COMM is for tests and measurements, and read where it means something. */
static pr_status plugin_comm_create(int first_rank, int tp_size, int n_stages, pr_comm **out,
                                    pr_error *err)
{
    const char *named = getenv("POOLRANK_COMM");
    pr_mpi_path path = PR_MPI_PATH_AUTO;
    if (named && strcmp(named, "shm") == 0) {
        path = PR_MPI_PATH_SHM;
    } else if (named && strcmp(named, "mpi") == 0) {
        path = PR_MPI_PATH_MPI;
    } else if (named && *named && strcmp(named, "auto") != 0) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "POOLRANK_COMM: found %.40s, expected auto, shm or mpi", named);
    }
    return pr_comm_mpi_create(first_rank, tp_size, n_stages, path, out, err);
}

static void plugin_finalize(void)
{
    MPI_Finalize();
}

static const pr_mpi_plugin plugin = {
    .abi = PR_MPI_PLUGIN_ABI,
    .init = plugin_init,
    .broadcast = plugin_broadcast,
    .comm_create = plugin_comm_create,
    .finalize = plugin_finalize,
};

__attribute__((visibility("default"))) const pr_mpi_plugin *pr_mpi_plugin_get(void)
{
    return &plugin;
}
