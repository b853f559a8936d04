/* worker/comm.h: the one interface between the forward pass and the other ranks of its group.
 *
 * A pr_comm owns whatever connects the ranks. Collectives are entered by every rank of the group or
 * by none, from the rank's compute thread only, in the same order everywhere. Sums are added in
 * rank order for each element, whatever the message's size, so that results do not depend on it.
 * Buffers are the backend's device memory. */
#ifndef POOLRANK_WORKER_COMM_H
#define POOLRANK_WORKER_COMM_H

#include "runtime/base/status.h"

typedef struct pr_comm pr_comm;

typedef struct pr_comm_ops {
    void (*close)(pr_comm *c);
    /* x [n] becomes the sum over the tensor-parallel ranks, on each of them. */
    pr_status (*all_reduce)(pr_comm *c, float *x, int64_t n, pr_error *err);
    /* The same, but only rank `root` receives the sum; x is undefined on the others. */
    pr_status (*reduce_to)(pr_comm *c, float *x, int64_t n, int root, pr_error *err);
    /* dst [tp_size, n]: every rank's src [n], in rank order; not overlapping. Bits are kept: n
     * floats may be n words of anything. So with send and recv. */
    pr_status (*all_gather)(pr_comm *c, const float *src, int64_t n, float *dst, pr_error *err);
    /* Between pipeline stages: to and from the same tensor rank of a neighbour stage. */
    pr_status (*send)(pr_comm *c, const float *x, int64_t n, int stage, pr_error *err);
    pr_status (*recv)(pr_comm *c, float *x, int64_t n, int stage, pr_error *err);
} pr_comm_ops;

struct pr_comm {
    const pr_comm_ops *ops;
    const char *name; /* "local", "shm", "mpi" */
    int tp_rank, tp_size;
    int stage, n_stages;
    uint64_t busy_ns; /* spent in the calls below; 0 when created */
};

/* What the forward pass calls: the slots of the same names, their time counted. Where a sum is over
 * one rank, or of no element, nothing is called. */
pr_status pr_comm_all_reduce(pr_comm *c, float *x, int64_t n, pr_error *err);
pr_status pr_comm_reduce_to(pr_comm *c, float *x, int64_t n, int root, pr_error *err);
pr_status pr_comm_all_gather(pr_comm *c, const float *src, int64_t n, float *dst, pr_error *err);
pr_status pr_comm_send(pr_comm *c, const float *x, int64_t n, int stage, pr_error *err);
pr_status pr_comm_recv(pr_comm *c, float *x, int64_t n, int stage, pr_error *err);

/* A group of one rank: sums are what they are, nothing is sent. */
pr_status pr_comm_local_create(pr_comm **out, pr_error *err);

#endif
