/* worker/mpi/plugin.h: what poolrank asks of MPI, behind one table, so that a program that never
 * starts ranks neither links nor loads it.
 *
 * libpoolrank-mpi.so exports pr_mpi_plugin_get and nothing else; `poolrank worker` loads it. All
 * calls come from the rank's compute thread (MPI_THREAD_FUNNELED), once each but broadcast. */
#ifndef POOLRANK_WORKER_MPI_PLUGIN_H
#define POOLRANK_WORKER_MPI_PLUGIN_H

#include "worker/comm.h"

#include <stdint.h>

enum { PR_MPI_PLUGIN_ABI = 1 };

typedef struct pr_mpi_plugin {
    uint32_t abi; /* PR_MPI_PLUGIN_ABI; another one is not used */
    /* MPI_Init_thread. rank, size: of MPI_COMM_WORLD. Fails PR_E_INTERNAL with MPI's own words. */
    pr_status (*init)(int *rank, int *size, pr_error *err);
    /* data [n] of world rank `root` to all. */
    pr_status (*broadcast)(void *data, size_t n, int root, pr_error *err);
    /* The communicator of one replica group: world ranks first_rank .. first_rank + tp_size *
     * n_stages - 1, tp_rank = (rank - first_rank) % tp_size. Entered by all of them. Ranks of one
     * node share memory (worker/comm_shm.h), others use MPI. *out owned (ops->close), before
     * finalize. */
    pr_status (*comm_create)(int first_rank, int tp_size, int n_stages, pr_comm **out,
                             pr_error *err);
    void (*finalize)(void);
} pr_mpi_plugin;

const pr_mpi_plugin *pr_mpi_plugin_get(void);

#endif
