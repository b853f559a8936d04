/* tests/unit/worker/rank_threads.h: the ranks of one group as threads of a test, each with a
 * communicator of its own over one shared region. */
#ifndef POOLRANK_TESTS_UNIT_WORKER_RANK_THREADS_H
#define POOLRANK_TESTS_UNIT_WORKER_RANK_THREADS_H

#include "worker/comm_shm.h"

/* Runs body(context, rank, comm) on a thread for each rank and waits for all. comm: owned by the
 * body. Aborts the test when a thread or the region cannot be made. */
void rank_threads_run(int tp_size, int n_stages,
                      void (*body)(void *context, int rank, pr_comm *comm), void *context);

#endif
