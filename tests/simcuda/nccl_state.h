/* nccl_state.h: inside the simulated NCCL: what the ranks of a communicator share, and what each
 * has.
 *
 * The ranks may be processes of one machine or threads of one process. They share a memory file
 * without a name (memfd), which lives in the process that made the id and is opened by the others
 * through /proc: whoever is killed whenever, nothing is left behind. Whoever made the id has to
 * live until all have come, as NCCL's bootstrap needs it too.
 *
 * nccl.cpp is the interface, nccl_shared.cpp the memory file and how the ranks come together,
 * nccl_op.cpp what is queued in streams. The runtime's lock is held in all of it. */
#ifndef SIMCUDA_NCCL_STATE_H
#define SIMCUDA_NCCL_STATE_H

#include "tests/simcuda/runtime.h"

#include <nccl.h>

enum {
    NCCL_RANKS_MAX = 16,
    NCCL_CHUNK_BYTES = 256 * 1024,      /* of a collective, from each rank, at a time */
    NCCL_PAIR_CHUNK_BYTES = 64 * 1024,  /* of a send */
    NCCL_MESSAGE_BYTES = 256
};

typedef enum nccl_presence {
    NCCL_AWAY,
    NCCL_HERE,
    NCCL_LEFT, /* destroyed its communicator */
    NCCL_ABORTED
} nccl_presence;

/* What a collective is; the same on every rank, but for the buffers. */
typedef struct nccl_shape {
    int32_t kind, type, root;
    int32_t reduction;
    uint64_t count;
} nccl_shape;

/* Where a memory file is. */
typedef struct nccl_place {
    int32_t pid, fd;
    uint64_t nonce; /* the file says the same: the number may be another file's by now */
} nccl_place;

/* What a rank shows. Counters are atomic: the rest was written before them. */
typedef struct nccl_shared_rank {
    int32_t presence, pid;
    uint64_t device;  /* which, on this machine */
    uint64_t n_posted, n_taken; /* chunks of collectives */
    nccl_shape shape; /* of the chunk posted */
    uint64_t n_splits, n_split_children, n_splits_done;
    int32_t color, key;
    nccl_place child; /* made by the first rank of a color */
} nccl_shared_rank;

typedef struct nccl_pair {
    uint64_t n_sent, n_taken; /* chunks, over all time */
    nccl_shape shape;
} nccl_pair;

typedef struct nccl_shared {
    uint64_t nonce;
    int32_t n_ranks; /* 0: nobody has come */
    int32_t n_here;
    nccl_shared_rank ranks[NCCL_RANKS_MAX];
    nccl_pair pairs[NCCL_RANKS_MAX][NCCL_RANKS_MAX]; /* [from][to] */
    alignas(64) unsigned char posted[NCCL_RANKS_MAX][NCCL_CHUNK_BYTES];
    unsigned char sent[NCCL_RANKS_MAX][NCCL_RANKS_MAX][NCCL_PAIR_CHUNK_BYTES];
} nccl_shared;

/* How far a communicator is in coming to life. */
typedef enum nccl_stage {
    NCCL_SPLIT_POST,
    NCCL_SPLIT_GATHER,
    NCCL_SPLIT_OPEN,
    NCCL_GATHER,
    NCCL_READY
} nccl_stage;

/* Since when something waits, and when its peers were last looked at. */
typedef struct nccl_patience {
    uint64_t since_ns, looked_ns;
} nccl_patience;

struct ncclComm {
    uint64_t magic;
    nccl_shared *shared; /* NULL: not there yet */
    int own_fd;          /* of the file, in the process that made it; -1 */
    int rank, n_ranks, i_device;
    bool is_blocking;
    nccl_stage stage;
    nccl_patience patience;
    uint64_t n_chunks;   /* of collectives so far */
    uint64_t n_splits;
    ncclResult_t error;  /* what failed, for ever */
    bool is_released;    /* by destroy or abort */
    unsigned n_refs;     /* the caller's and the operations' */
    unsigned n_ops;      /* in streams */
    /* one that is not blocking: the call in progress */
    sim_op *pending;
    cudaStream_t pending_stream;
    unsigned n_polls;
    ncclComm_t child;    /* being split off */
    ncclComm_t *child_out;
    ncclComm_t parent;   /* while it is split off */
    int color, key;
    char message[NCCL_MESSAGE_BYTES];
};

/* ---- nccl_shared.cpp ---- */
/* A new memory file, and the descriptor that keeps it. */
ncclResult_t nccl_file_make(nccl_place *out);
/* Whether the descriptor is this process's own: it is closed when all have come. */
void nccl_file_forget(ncclComm_t c);
ncclResult_t nccl_attach(ncclComm_t c, const nccl_place *place);
/* Takes the communicator as far as it gets: ncclInProgress until it is ready. */
ncclResult_t nccl_come_together(ncclComm_t c);
void nccl_leave(ncclComm_t c, nccl_presence how);
void nccl_unref(ncclComm_t c);
ncclResult_t nccl_fail(ncclComm_t c, ncclResult_t e, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* While the caller waits for a rank: ncclInProgress, or how it is known that it will not come. */
ncclResult_t nccl_wait_check(ncclComm_t c, nccl_patience *p, int rank, const char *what);

/* ---- nccl_op.cpp ---- */
typedef enum nccl_kind {
    NCCL_ALL_REDUCE,
    NCCL_REDUCE,
    NCCL_BROADCAST,
    NCCL_ALL_GATHER,
    NCCL_SEND,
    NCCL_RECV
} nccl_kind;

size_t nccl_type_bytes(int type);
/* An operation for a stream: a collective, or sends and receives that run at the same time. */
sim_op *nccl_op_make(ncclComm_t c);
void nccl_op_add(sim_op *o, const nccl_shape *shape, const void *from, void *to);
/* For an operation that never got into a stream. */
void nccl_op_drop(sim_op *o);

#endif
