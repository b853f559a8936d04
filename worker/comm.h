/* worker/comm.h: the one interface between the forward pass and the other ranks of its group.
 *
 * A pr_comm owns whatever connects the ranks. Collectives are entered by every rank of the group or
 * by none, from the rank's compute thread only, in the same order everywhere. Buffers are the
 * backend's device memory. On CPU they are f32, and sums are added in rank order for each element,
 * whatever the message's size, so that results do not depend on it; NCCL adds in an order of its
 * own (docs/gpu.md). A communicator of a GPU queues its work behind the backend's, and what fails
 * there is found by `check`. */
#ifndef POOLRANK_WORKER_COMM_H
#define POOLRANK_WORKER_COMM_H

#include "runtime/base/dtype.h"
#include "runtime/base/status.h"

typedef struct pr_comm pr_comm;

/* What the ranks of a stage show each other before a batch: their own words, and those of the same
 * tensor rank of the stage before (unset in the first stage). */
typedef struct pr_comm_words {
    uint64_t own[2], before[2];
} pr_comm_words;

typedef struct pr_comm_ops {
    void (*close)(pr_comm *c);
    /* x [n] of dtype becomes the sum over the tensor-parallel ranks, on each of them. */
    pr_status (*all_reduce)(pr_comm *c, void *x, int64_t n, pr_dtype dtype, pr_error *err);
    /* The same, but only rank `root` receives the sum; x is undefined on the others. */
    pr_status (*reduce_to)(pr_comm *c, void *x, int64_t n, pr_dtype dtype, int root,
                           pr_error *err);
    /* Overlap of a batch's sums with another batch's kernels (two micro-batches in flight, for
     * which a backend has n_slots) would come here: all_reduce with a slot, queued on a stream of
     * the communicator's behind an event of the slot's kernels, and a call that queues the wait
     * for it before the next layer. Left out until a GPU can judge it: NCCL's kernels take
     * processors from the layers that they would hide behind. */
    /* Between pipeline stages: to and from the same tensor rank of a neighbour stage. */
    pr_status (*send)(pr_comm *c, const void *x, int64_t n, pr_dtype dtype, int stage,
                      pr_error *err);
    pr_status (*recv)(pr_comm *c, void *x, int64_t n, pr_dtype dtype, int stage, pr_error *err);

    /* dst [tp_size, n]: every rank's src [n], in rank order; not overlapping. NULL on a GPU, which
     * has show in its place. Bits are kept: n floats may be n words of anything. So with send and
     * recv. */
    pr_status (*all_gather)(pr_comm *c, const float *src, int64_t n, float *dst, pr_error *err);

    /* GPU: queues the exchange of own[2] for the batch of `slot`; all [tp_size], in rank order, may
     * be read when that batch is done (pr_backend_ops.batch_poll), until the slot's next show. */
    pr_status (*show)(pr_comm *c, int slot, const uint64_t own[2], const pr_comm_words **all,
                      pr_error *err);
    /* GPU: whether a peer has died or a queued call has failed. Never waits. Fails PR_E_UNAVAILABLE
     * with what is known; the communicator is then aborted. NULL: calls report it themselves. */
    pr_status (*check)(pr_comm *c, pr_error *err);
} pr_comm_ops;

struct pr_comm {
    const pr_comm_ops *ops;
    const char *name; /* "local", "shm", "mpi", "nccl" */
    int tp_rank, tp_size;
    int stage, n_stages;
    uint64_t busy_ns; /* spent in the calls below; 0 when created */
};

/* What the forward pass calls: the slots of the same names, their time counted. Where a sum is over
 * one rank, or of no element, nothing is called. */
pr_status pr_comm_all_reduce(pr_comm *c, void *x, int64_t n, pr_dtype dtype, pr_error *err);
pr_status pr_comm_reduce_to(pr_comm *c, void *x, int64_t n, pr_dtype dtype, int root,
                            pr_error *err);
pr_status pr_comm_send(pr_comm *c, const void *x, int64_t n, pr_dtype dtype, int stage,
                       pr_error *err);
pr_status pr_comm_recv(pr_comm *c, void *x, int64_t n, pr_dtype dtype, int stage, pr_error *err);
pr_status pr_comm_all_gather(pr_comm *c, const float *src, int64_t n, float *dst, pr_error *err);

/* A group of one rank: sums are what they are, nothing is sent. */
pr_status pr_comm_local_create(pr_comm **out, pr_error *err);

#endif
