/* worker/mpi/mpi_share.h: which ranks of a group really share memory, and the region that they have
 * in common.
 *
 * MPI says which ranks are on one node; whether they can open each other's memory is tried, since
 * containers on one node may not be able to. Collective over the group, once, when its communicator
 * is made. */
#ifndef POOLRANK_WORKER_MPI_SHARE_H
#define POOLRANK_WORKER_MPI_SHARE_H

#include "worker/comm_shm.h"

#include <mpi.h>

/* group: of tp_size * n_stages ranks. is_wanted: false on any rank of a node: none there shares.
 * nodes [tp_size * n_stages]: for each rank of the group a number that ranks have in common exactly
 * when they share memory; -1: shares with nobody. The same on every rank.
 * *region owned (pr_shm_region_close); NULL where this rank shares with nobody.
 * Fails PR_E_NOMEM, PR_E_INTERNAL; not because memory cannot be shared. */
pr_status pr_mpi_share(MPI_Comm group, int tp_size, int n_stages, bool is_wanted, int *nodes,
                       pr_shm_region **region, pr_error *err);

#endif
