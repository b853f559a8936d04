/* worker/comm_shm.h: ranks that share memory: threads of one process, or processes of one node.
 *
 * A region is one memfd mapping that all ranks of a group have; nothing of it is left when they are
 * gone, however they went. Each rank opens its own pr_comm over it. Waiting spins briefly, then
 * sleeps in a futex, so that ranks that share a core do not hold each other up.
 *
 * A rank that dies leaves the others waiting: whoever supervises them must end them. */
#ifndef POOLRANK_WORKER_COMM_SHM_H
#define POOLRANK_WORKER_COMM_SHM_H

#include "worker/comm.h"

typedef struct pr_shm_region pr_shm_region;

/* A new region for tp_size * n_stages ranks. Fails PR_E_NOMEM, PR_E_IO. */
pr_status pr_shm_region_create(int tp_size, int n_stages, pr_shm_region **out, pr_error *err);
/* The region of another process of this node: fd of its memfd (borrowed: duplicated by the map).
 * Fails PR_E_IO; PR_E_INTERNAL when it is no region of this version and these sizes. */
pr_status pr_shm_region_attach(int fd, int tp_size, int n_stages, pr_shm_region **out,
                               pr_error *err);
int pr_shm_region_fd(const pr_shm_region *region);
void pr_shm_region_close(pr_shm_region *region); /* after the comms over it; NULL is fine */

/* rank = stage * tp_size + tp_rank. region borrowed until close. Fails PR_E_NOMEM. */
pr_status pr_comm_shm_create(pr_shm_region *region, int rank, pr_comm **out, pr_error *err);

#endif
