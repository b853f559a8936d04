/* nccl.cpp: the part of NCCL that poolrank uses, between processes and threads of one machine.
 *
 * A communicator that is not blocking does what NCCL says it may: every call is in progress until
 * ncclCommGetAsyncError says otherwise, and its work is not in the stream before that. A peer that
 * is killed, aborts, or does not come within POOLRANK_SIM_NCCL_TIMEOUT_MS makes the operation end,
 * and ncclCommGetAsyncError gives ncclRemoteError. Ranks that call different collectives are a
 * fault of the device. Buffers must be memory of the communicator's device.
 *
 * Ranks in one process: each needs a device and, for calls that block, a thread of its own. */
#include "tests/simcuda/nccl_state.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t comm_magic = 0x6e63636c2d636f6dull;
enum { GROUP_MAX = 64, POLLS_IN_PROGRESS = 2 };

/* What a thread's group has gathered. */
typedef struct group_entry {
    sim_op *op;
    cudaStream_t stream;
    ncclComm_t comm;
    bool is_pairwise;
} group_entry;

typedef struct group_state {
    int depth;
    int n_entries;
    group_entry entries[GROUP_MAX];
} group_state;

static thread_local group_state group;
static char last_message[NCCL_MESSAGE_BYTES]; /* of calls without a communicator */

static ncclResult_t refuse(ncclResult_t e, const char *message)
{
    snprintf(last_message, sizeof last_message, "%s", message);
    return e;
}

/* ---- about the library ---- */
extern "C" ncclResult_t ncclGetVersion(int *out)
{
    *out = NCCL_VERSION_CODE;
    return ncclSuccess;
}

extern "C" const char *ncclGetErrorString(ncclResult_t e)
{
    switch (e) {
    case ncclSuccess: return "no error";
    case ncclUnhandledCudaError: return "unhandled cuda error";
    case ncclSystemError: return "unhandled system error";
    case ncclInternalError: return "internal error";
    case ncclInvalidArgument: return "invalid argument";
    case ncclInvalidUsage: return "invalid usage";
    case ncclRemoteError: return "remote process exited or there was a network error";
    case ncclInProgress: return "NCCL operation in progress";
    default: return "unknown result code";
    }
}

extern "C" const char *ncclGetLastError(ncclComm_t c)
{
    const sim_locked held;
    return c && c->magic == comm_magic && c->message[0] ? c->message : last_message;
}

extern "C" ncclResult_t ncclGetUniqueId(ncclUniqueId *out)
{
    const sim_locked held;
    nccl_place place;
    memset(out, 0, sizeof *out);
    const ncclResult_t e = nccl_file_make(&place);
    if (e == ncclSuccess) memcpy(out, &place, sizeof place);
    return e;
}

/* ---- communicators ---- */
static bool is_comm(ncclComm_t c)
{
    return c && c->magic == comm_magic && !c->is_released;
}

static ncclComm_t comm_make(bool is_blocking)
{
    ncclComm_t c = (ncclComm_t)calloc(1, sizeof *c);
    assert(c);
    c->magic = comm_magic;
    c->own_fd = -1;
    c->n_refs = 1;
    c->is_blocking = is_blocking;
    c->i_device = sim_device_now();
    return c;
}

static ncclResult_t config_check(const ncclConfig_t *config, bool *is_blocking)
{
    *is_blocking = true;
    if (!config) return ncclSuccess;
    if (config->magic != 0xcafebeef || config->size != sizeof *config)
        return refuse(ncclInvalidArgument, "a config that NCCL_CONFIG_INITIALIZER did not make");
    if (config->blocking == 0) *is_blocking = false;
    else if (config->blocking != 1 && config->blocking != NCCL_CONFIG_UNDEF_INT)
        return refuse(ncclInvalidArgument, "config.blocking is neither 0 nor 1");
    return ncclSuccess;
}

/* Gives a communicator that has not come to life back. */
static void comm_give_up(ncclComm_t c)
{
    nccl_leave(c, NCCL_ABORTED);
    c->is_released = true;
    nccl_unref(c);
}

static ncclResult_t wait_together(ncclComm_t c)
{
    ncclResult_t e;
    while ((e = nccl_come_together(c)) == ncclInProgress) sim_pause();
    return e;
}

extern "C" ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int n_ranks, ncclUniqueId id,
                                               int rank, ncclConfig_t *config)
{
    const sim_locked held;
    bool is_blocking;
    *out = NULL;
    if (sim.has_fault) return refuse(ncclUnhandledCudaError, "the device has failed");
    if (sim_device_now() >= sim.n_devices) return refuse(ncclUnhandledCudaError, "no device");
    if (n_ranks < 1 || n_ranks > NCCL_RANKS_MAX || rank < 0 || rank >= n_ranks)
        return refuse(ncclInvalidArgument, "rank or number of ranks");
    const ncclResult_t bad = config_check(config, &is_blocking);
    if (bad != ncclSuccess) return bad;
    nccl_place place;
    memcpy(&place, &id, sizeof place);
    ncclComm_t c = comm_make(is_blocking);
    c->rank = rank;
    c->n_ranks = n_ranks;
    c->stage = NCCL_GATHER;
    ncclResult_t e = nccl_attach(c, &place);
    if (e == ncclSuccess && is_blocking) e = wait_together(c);
    if (e == ncclSuccess && !is_blocking) e = ncclInProgress;
    if (e != ncclSuccess && e != ncclInProgress) {
        refuse(e, c->message);
        comm_give_up(c);
        return e;
    }
    *out = c;
    return e;
}

extern "C" ncclResult_t ncclCommInitRank(ncclComm_t *out, int n_ranks, ncclUniqueId id, int rank)
{
    return ncclCommInitRankConfig(out, n_ranks, id, rank, NULL);
}

/* A call on a communicator that is still at the one before is refused, as NCCL does. */
static ncclResult_t ready_check(ncclComm_t c)
{
    if (!is_comm(c)) return refuse(ncclInvalidArgument, "not a communicator");
    if (c->error != ncclSuccess) return c->error;
    if (c->stage != NCCL_READY || c->pending || c->child)
        return refuse(ncclInvalidArgument, "the communicator's last call is still in progress");
    return ncclSuccess;
}

/* Takes the child that is being split off as far as it gets. */
static ncclResult_t split_progress(ncclComm_t c)
{
    ncclComm_t child = c->child;
    const ncclResult_t e = nccl_come_together(child);
    if (e == ncclInProgress) return e;
    c->child = NULL;
    child->parent = NULL;
    const bool is_member = child->color != NCCL_SPLIT_NOCOLOR;
    if (e == ncclSuccess && is_member) {
        *c->child_out = child;
    } else {
        if (e != ncclSuccess && c->error == ncclSuccess) nccl_fail(c, e, "%s", child->message);
        comm_give_up(child);
    }
    return e;
}

extern "C" ncclResult_t ncclCommSplit(ncclComm_t c, int color, int key, ncclComm_t *out,
                                      ncclConfig_t *config)
{
    const sim_locked held;
    const ncclResult_t bad = ready_check(c);
    if (bad != ncclSuccess) return bad;
    if (color < 0 && color != NCCL_SPLIT_NOCOLOR)
        return refuse(ncclInvalidArgument, "a color below 0");
    bool is_blocking = c->is_blocking;
    if (config) {
        const ncclResult_t e = config_check(config, &is_blocking);
        if (e != ncclSuccess) return e;
    }
    *out = NULL;
    ncclComm_t child = comm_make(is_blocking);
    child->i_device = c->i_device;
    child->parent = c;
    child->color = color;
    child->key = key;
    child->stage = NCCL_SPLIT_POST;
    c->child = child;
    c->child_out = out;
    c->n_splits++;
    if (!c->is_blocking) return ncclInProgress;
    ncclResult_t e;
    while ((e = split_progress(c)) == ncclInProgress) sim_pause();
    return e;
}

static void pending_queue(ncclComm_t c)
{
    sim_op *o = c->pending;
    c->pending = NULL;
    if (sim_queue(c->pending_stream, o) != cudaSuccess)
        nccl_fail(c, ncclUnhandledCudaError, "the stream is not one");
}

extern "C" ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *out)
{
    const sim_locked held;
    if (!is_comm(c)) return refuse(ncclInvalidArgument, "not a communicator");
    *out = c->error;
    if (c->error != ncclSuccess) return ncclSuccess;
    if (c->stage != NCCL_READY) *out = nccl_come_together(c);
    else if (c->child) *out = split_progress(c);
    else if (c->pending && ++c->n_polls < POLLS_IN_PROGRESS) *out = ncclInProgress;
    else if (c->pending) pending_queue(c);
    if (*out == ncclSuccess && sim.has_fault) *out = ncclUnhandledCudaError;
    return ncclSuccess;
}

extern "C" ncclResult_t ncclCommCount(const ncclComm_t c, int *out)
{
    if (!is_comm(c)) return ncclInvalidArgument;
    *out = c->n_ranks;
    return ncclSuccess;
}

extern "C" ncclResult_t ncclCommUserRank(const ncclComm_t c, int *out)
{
    if (!is_comm(c)) return ncclInvalidArgument;
    *out = c->rank;
    return ncclSuccess;
}

extern "C" ncclResult_t ncclCommCuDevice(const ncclComm_t c, int *out)
{
    if (!is_comm(c)) return ncclInvalidArgument;
    *out = c->i_device;
    return ncclSuccess;
}

/* ---- the end of a communicator ---- */
static void ops_finish(ncclComm_t c)
{
    if (c->pending) pending_queue(c);
    while (c->n_ops > 0 && !sim.has_fault) {
        sim_streams_progress(c->i_device);
        if (c->n_ops > 0) sim_pause();
    }
}

static void comm_release(ncclComm_t c, nccl_presence how)
{
    nccl_leave(c, how);
    c->is_released = true;
    if (c->pending) nccl_op_drop(c->pending);
    c->pending = NULL;
    if (c->child) comm_give_up(c->child);
    c->child = NULL;
    nccl_unref(c);
}

/* Waits for what is queued; not for the other ranks. */
extern "C" ncclResult_t ncclCommFinalize(ncclComm_t c)
{
    const sim_locked held;
    const ncclResult_t bad = ready_check(c);
    if (bad != ncclSuccess) return bad;
    ops_finish(c);
    return c->is_blocking ? c->error : ncclInProgress;
}

extern "C" ncclResult_t ncclCommDestroy(ncclComm_t c)
{
    const sim_locked held;
    if (!is_comm(c)) return refuse(ncclInvalidArgument, "not a communicator");
    ops_finish(c);
    comm_release(c, NCCL_LEFT);
    return ncclSuccess;
}

/* What is queued ends at once, in this process and, as they wait for it, on the other ranks. */
extern "C" ncclResult_t ncclCommAbort(ncclComm_t c)
{
    const sim_locked held;
    if (!is_comm(c)) return refuse(ncclInvalidArgument, "not a communicator");
    comm_release(c, NCCL_ABORTED);
    return ncclSuccess;
}

/* ---- groups ---- */
extern "C" ncclResult_t ncclGroupStart(void)
{
    group.depth++;
    return ncclSuccess;
}

/* Puts an operation into its stream, at once or, on a communicator that is not blocking, later. */
static ncclResult_t op_issue(ncclComm_t c, sim_op *o, cudaStream_t s)
{
    if (!sim_is_stream(s)) {
        nccl_op_drop(o);
        return refuse(ncclInvalidArgument, "not a stream");
    }
    if (c->is_blocking)
        return sim_queue(s, o) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
    if (c->pending) pending_queue(c); /* of the same group */
    c->pending = o;
    c->pending_stream = s;
    c->n_polls = 0;
    return ncclInProgress;
}

extern "C" ncclResult_t ncclGroupEnd(void)
{
    const sim_locked held;
    if (group.depth == 0) return refuse(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
    if (--group.depth > 0) return ncclSuccess;
    ncclResult_t e = ncclSuccess;
    for (int i = 0; i < group.n_entries; i++) {
        const group_entry *g = &group.entries[i];
        const ncclResult_t one = op_issue(g->comm, g->op, g->stream);
        if (one != ncclSuccess && (e == ncclSuccess || e == ncclInProgress)) e = one;
    }
    group.n_entries = 0;
    return e;
}

/* The op of the open group that sends and receives of this communicator and stream share. */
static sim_op *group_pairwise(ncclComm_t c, cudaStream_t s)
{
    for (int i = 0; i < group.n_entries; i++) {
        const group_entry *g = &group.entries[i];
        if (g->is_pairwise && g->comm == c && g->stream == s) return g->op;
    }
    return NULL;
}

/* ---- operations ---- */
static bool is_memory(ncclComm_t c, const void *p, uint64_t n_bytes)
{
    return n_bytes == 0 || sim_is_on_device(p, n_bytes, c->i_device);
}

static ncclResult_t op_check(ncclComm_t c, const nccl_shape *shape, const void *from, void *to)
{
    const ncclResult_t bad = ready_check(c);
    if (bad != ncclSuccess) return bad;
    if (sim.has_fault) return refuse(ncclUnhandledCudaError, "the device has failed");
    const uint64_t size = nccl_type_bytes(shape->type), n_bytes = shape->count * size;
    const uint64_t n_ranks = shape->kind == NCCL_ALL_GATHER ? (uint64_t)c->n_ranks : 1;
    if (size == 0) return refuse(ncclInvalidArgument, "a type that is not simulated");
    if (shape->root < 0 || shape->root >= c->n_ranks)
        return refuse(ncclInvalidArgument, "a rank that does not exist");
    const bool is_sum = shape->kind == NCCL_ALL_REDUCE || shape->kind == NCCL_REDUCE;
    const bool is_float = shape->type == ncclFloat16 || shape->type == ncclBfloat16 ||
                          shape->type == ncclFloat32;
    const bool is_word = shape->type == ncclInt64 || shape->type == ncclUint64;
    const bool is_known = shape->reduction == ncclSum || shape->reduction == ncclMax ||
                          shape->reduction == ncclMin;
    if (is_sum && !(is_float && is_known) && !(is_word && shape->reduction == ncclSum))
        return refuse(ncclInvalidArgument, "a reduction that is not simulated");
    if ((from && !is_memory(c, from, n_bytes)) || (to && !is_memory(c, to, n_bytes * n_ranks)))
        return refuse(ncclInvalidArgument, "a buffer that is not memory of the device");
    return ncclSuccess;
}

static ncclResult_t op_start(ncclComm_t c, nccl_kind kind, const void *from, void *to,
                             size_t count, ncclDataType_t type, ncclRedOp_t reduction, int root,
                             cudaStream_t s)
{
    const sim_locked held;
    const nccl_shape shape = {kind, type, root, reduction, count};
    const bool is_pairwise = kind == NCCL_SEND || kind == NCCL_RECV;
    const ncclResult_t bad = op_check(c, &shape, from, to);
    if (bad != ncclSuccess) return bad;
    if (count == 0) return ncclSuccess;
    sim_op *o = is_pairwise && group.depth > 0 ? group_pairwise(c, s) : NULL;
    const bool is_new = !o;
    if (is_new && group.depth > 0 && group.n_entries == GROUP_MAX)
        return refuse(ncclInternalError, "too many operations in a group");
    if (is_new) o = nccl_op_make(c);
    nccl_op_add(o, &shape, from, to);
    if (group.depth == 0) return op_issue(c, o, s);
    if (is_new) group.entries[group.n_entries++] = group_entry{o, s, c, is_pairwise};
    return ncclSuccess;
}

extern "C" ncclResult_t ncclAllReduce(const void *from, void *to, size_t count,
                                      ncclDataType_t type, ncclRedOp_t reduction, ncclComm_t c,
                                      cudaStream_t s)
{
    if (!from || !to) return refuse(ncclInvalidArgument, "a buffer is NULL");
    return op_start(c, NCCL_ALL_REDUCE, from, to, count, type, reduction, 0, s);
}

extern "C" ncclResult_t ncclReduce(const void *from, void *to, size_t count, ncclDataType_t type,
                                   ncclRedOp_t reduction, int root, ncclComm_t c, cudaStream_t s)
{
    if (!from || (is_comm(c) && c->rank == root && !to))
        return refuse(ncclInvalidArgument, "a buffer is NULL");
    return op_start(c, NCCL_REDUCE, from, to, count, type, reduction, root, s);
}

extern "C" ncclResult_t ncclBroadcast(const void *from, void *to, size_t count,
                                      ncclDataType_t type, int root, ncclComm_t c, cudaStream_t s)
{
    const bool is_root = is_comm(c) && c->rank == root;
    if (!to || (is_root && !from)) return refuse(ncclInvalidArgument, "a buffer is NULL");
    return op_start(c, NCCL_BROADCAST, is_root ? from : NULL, to, count, type, ncclSum, root, s);
}

extern "C" ncclResult_t ncclAllGather(const void *from, void *to, size_t count,
                                      ncclDataType_t type, ncclComm_t c, cudaStream_t s)
{
    if (!from || !to) return refuse(ncclInvalidArgument, "a buffer is NULL");
    return op_start(c, NCCL_ALL_GATHER, from, to, count, type, ncclSum, 0, s);
}

extern "C" ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t type, int peer,
                                 ncclComm_t c, cudaStream_t s)
{
    if (!from) return refuse(ncclInvalidArgument, "a buffer is NULL");
    return op_start(c, NCCL_SEND, from, NULL, count, type, ncclSum, peer, s);
}

extern "C" ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t type, int peer,
                                 ncclComm_t c, cudaStream_t s)
{
    if (!to) return refuse(ncclInvalidArgument, "a buffer is NULL");
    return op_start(c, NCCL_RECV, NULL, to, count, type, ncclSum, peer, s);
}
