#include "worker/cuda/nccl_comm.h"

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_status.h"
#include "runtime/base/clock.h"

#include <nccl.h>

#include <assert.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    SLOTS_MAX = 2,
    WORDS = 2,       /* that a rank shows */
    CLOSE_MS = 5000, /* for what is still queued, and for the peers to close too */
    POLLS_AWAKE = 1000,
    POLL_NS = 50 * 1000
};

static_assert(NCCL_VERSION_CODE >= NCCL_VERSION(2, 18, 0), "ncclCommSplit is not older");
static_assert(sizeof(ncclUniqueId) == PR_CUDA_COMM_ID_BYTES, "an id is NCCL's");
static_assert(sizeof(pr_comm_words) == 2 * WORDS * sizeof(uint64_t), "words stand side by side");

/* The exchange of one batch. */
typedef struct show_slot {
    uint64_t *host_own;      /* [WORDS] pinned: copied when the stream gets there */
    pr_comm_words *own;      /* [1] in device memory: own, and what the stage before sent */
    pr_comm_words *all;      /* [tp_size] in device memory */
    pr_comm_words *host_all; /* [tp_size] pinned */
} show_slot;

typedef struct nccl_comm {
    pr_comm base;
    pr_backend *backend; /* borrowed */
    cudaStream_t stream; /* the backend's */
    ncclComm_t world;    /* NULL: closed */
    ncclComm_t stage;    /* may be world; written by a thread of NCCL's while it is split off */
    int timeout_ms;
    show_slot slots[SLOTS_MAX];
    const uint64_t *unsent; /* words of the batch in hand that the next stage has not got */
    bool has_failed;
    pr_error failure; /* what every call says from then on */
} nccl_comm;

static nccl_comm *of(pr_comm *c)
{
    return (nccl_comm *)(void *)c;
}

/* ---- errors ---- */

static pr_status status_of(ncclResult_t rc)
{
    bool is_ours = rc == ncclInvalidArgument || rc == ncclInvalidUsage;
    return is_ours ? PR_E_INTERNAL : PR_E_UNAVAILABLE;
}

/* Nothing can follow a failure: what is queued is given up, on this rank at once. */
static void comms_abort(nccl_comm *n)
{
    if (n->stage && n->stage != n->world) ncclCommAbort(n->stage);
    if (n->world) ncclCommAbort(n->world);
    n->stage = n->world = NULL;
}

static pr_status failure_repeat(const nccl_comm *n, pr_error *err)
{
    return pr_error_set(err, n->failure.status, "%s", n->failure.message);
}

/* comm: where it happened; NULL: in none. */
static pr_status fail(nccl_comm *n, ncclResult_t rc, ncclComm_t comm, const char *what,
                      pr_error *err)
{
    const char *more = ncclGetLastError(comm); /* points into the communicator */
    pr_error_set(&n->failure, status_of(rc), "NCCL, rank %d of %d: %s: %s%s%s",
                 n->base.stage * n->base.tp_size + n->base.tp_rank,
                 n->base.tp_size * n->base.n_stages, what, ncclGetErrorString(rc),
                 more && more[0] ? ": " : "", more ? more : "");
    n->has_failed = true;
    comms_abort(n);
    return failure_repeat(n, err);
}

static pr_status fail_late(nccl_comm *n, const char *what, int ms, pr_error *err)
{
    pr_error_set(&n->failure, PR_E_TIMEOUT, "NCCL, rank %d of %d: %s within %d ms",
                 n->base.stage * n->base.tp_size + n->base.tp_rank,
                 n->base.tp_size * n->base.n_stages, what, ms);
    n->has_failed = true;
    comms_abort(n);
    return failure_repeat(n, err);
}

/* ---- waiting for NCCL itself ---- */

typedef struct patience {
    uint64_t until_ns;
    int n_polls;
} patience;

static patience patience_of(int ms)
{
    return (patience){.until_ns = pr_clock_ns() + (uint64_t)ms * 1000000u};
}

/* False: it is over. */
static bool pause_for(patience *p)
{
    if (p->n_polls++ < POLLS_AWAKE) {
        sched_yield();
        return true;
    }
    nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
    return pr_clock_ns() < p->until_ns;
}

/* The state of a communicator: ncclInProgress while it does what it was asked to. */
static ncclResult_t state_of(ncclComm_t comm)
{
    ncclResult_t state = ncclSuccess;
    ncclResult_t rc = ncclCommGetAsyncError(comm, &state);
    return rc == ncclSuccess ? state : rc;
}

/* After a call that returned rc: until its work is on the stream. Kernels may only be queued behind
 * it then. */
static pr_status queued(nccl_comm *n, ncclResult_t rc, ncclComm_t comm, const char *what,
                        pr_error *err)
{
    if (rc == ncclSuccess) return PR_OK;
    patience p = patience_of(n->timeout_ms);
    while (rc == ncclInProgress) {
        rc = state_of(comm);
        if (rc == ncclInProgress && !pause_for(&p)) {
            return fail_late(n, "its peers did not connect", n->timeout_ms, err);
        }
    }
    return rc == ncclSuccess ? PR_OK : fail(n, rc, comm, what, err);
}

/* ---- sums ---- */

static ncclDataType_t type_of(pr_dtype dtype)
{
    if (dtype == PR_DTYPE_F32) return ncclFloat32;
    if (dtype == PR_DTYPE_BF16) return ncclBfloat16;
    assert(dtype == PR_DTYPE_F16);
    return ncclFloat16;
}

static pr_status nccl_all_reduce(pr_comm *c, void *x, int64_t n, pr_dtype dtype, pr_error *err)
{
    nccl_comm *m = of(c);
    if (m->has_failed) return failure_repeat(m, err);
    ncclResult_t rc = ncclAllReduce(x, x, (size_t)n, type_of(dtype), ncclSum, m->stage, m->stream);
    return queued(m, rc, m->stage, "ncclAllReduce", err);
}

static pr_status nccl_reduce_to(pr_comm *c, void *x, int64_t n, pr_dtype dtype, int root,
                                pr_error *err)
{
    nccl_comm *m = of(c);
    assert(root >= 0 && root < c->tp_size);
    if (m->has_failed) return failure_repeat(m, err);
    ncclResult_t rc = ncclReduce(x, x, (size_t)n, type_of(dtype), ncclSum, root, m->stage,
                                 m->stream);
    return queued(m, rc, m->stage, "ncclReduce", err);
}

/* ---- between stages ---- */

static int peer_of(const pr_comm *c, int stage)
{
    assert(stage >= 0 && stage < c->n_stages);
    assert(stage == c->stage + 1 || stage == c->stage - 1);
    return stage * c->tp_size + c->tp_rank;
}

static pr_status words_send(nccl_comm *m, pr_error *err)
{
    const uint64_t *words = m->unsent;
    m->unsent = NULL;
    ncclResult_t rc = ncclSend(words, WORDS, ncclUint64, peer_of(&m->base, m->base.stage + 1),
                               m->world, m->stream);
    return queued(m, rc, m->world, "ncclSend", err);
}

static pr_status nccl_send(pr_comm *c, const void *x, int64_t n, pr_dtype dtype, int stage,
                           pr_error *err)
{
    nccl_comm *m = of(c);
    if (m->has_failed) return failure_repeat(m, err);
    pr_status st = m->unsent && stage > c->stage ? words_send(m, err) : PR_OK;
    if (st != PR_OK) return st;
    ncclResult_t rc = ncclSend(x, (size_t)n, type_of(dtype), peer_of(c, stage), m->world,
                               m->stream);
    return queued(m, rc, m->world, "ncclSend", err);
}

static pr_status nccl_recv(pr_comm *c, void *x, int64_t n, pr_dtype dtype, int stage,
                           pr_error *err)
{
    nccl_comm *m = of(c);
    if (m->has_failed) return failure_repeat(m, err);
    ncclResult_t rc = ncclRecv(x, (size_t)n, type_of(dtype), peer_of(c, stage), m->world,
                               m->stream);
    return queued(m, rc, m->world, "ncclRecv", err);
}

/* ---- what ranks show each other ----
 *
 *     stage before ──recv──► before │ own ──all-gather──► all ──download──► host_all
 *                                   └────send──► next stage, with the batch's hidden states
 *
 * The words go on only when the batch does: a send may wait for its receiver, which is still at the
 * batch before, and this stage's layers would wait behind it. */

static pr_status words_fill(nccl_comm *m, show_slot *s, const uint64_t own[WORDS], pr_error *err)
{
    memcpy(s->host_own, own, WORDS * sizeof *own);
    cudaError_t e = cudaMemcpyAsync(s->own->own, s->host_own, WORDS * sizeof *own,
                                    cudaMemcpyHostToDevice, m->stream);
    pr_status st = pr_cuda_status(e, err, "upload of a batch's id");
    if (st != PR_OK || m->base.stage == 0) return st;
    ncclResult_t rc = ncclRecv(s->own->before, WORDS, ncclUint64,
                               peer_of(&m->base, m->base.stage - 1), m->world, m->stream);
    return queued(m, rc, m->world, "ncclRecv", err);
}

static pr_status nccl_show(pr_comm *c, int slot, const uint64_t own[WORDS],
                           const pr_comm_words **all, pr_error *err)
{
    nccl_comm *m = of(c);
    assert(slot >= 0 && slot < m->backend->n_slots);
    show_slot *s = &m->slots[slot];
    if (m->has_failed) return failure_repeat(m, err);
    pr_status st = m->unsent ? words_send(m, err) : PR_OK; /* of a batch that sent nothing */
    if (st == PR_OK) st = words_fill(m, s, own, err);
    if (st != PR_OK) return st;
    ncclResult_t rc = ncclAllGather(s->own, s->all, 2 * WORDS, ncclUint64, m->stage, m->stream);
    if ((st = queued(m, rc, m->stage, "ncclAllGather", err)) != PR_OK) return st;
    st = m->backend->ops->download(m->backend, s->host_all, s->all,
                                   (size_t)c->tp_size * sizeof *s->all, err);
    if (st != PR_OK) return st;
    if (c->stage + 1 < c->n_stages) m->unsent = s->own->own;
    *all = s->host_all;
    return PR_OK;
}

/* ---- failures of peers ---- */

static pr_status nccl_check(pr_comm *c, pr_error *err)
{
    nccl_comm *m = of(c);
    if (m->has_failed) return failure_repeat(m, err);
    const ncclComm_t comms[] = {m->world, m->stage};
    for (int i = 0; i < 2; i++) {
        ncclResult_t state = state_of(comms[i]);
        if (state == ncclSuccess || state == ncclInProgress) continue;
        return fail(m, state, comms[i], "a peer is gone, or what was queued failed", err);
    }
    return PR_OK;
}

/* ---- close ---- */

static void slots_free(nccl_comm *m)
{
    const pr_backend_ops *ops = m->backend->ops;
    for (int i = 0; i < SLOTS_MAX; i++) {
        ops->host_free(m->backend, m->slots[i].host_own);
        ops->host_free(m->backend, m->slots[i].host_all);
        ops->free(m->backend, m->slots[i].own);
        ops->free(m->backend, m->slots[i].all);
    }
}

/* Whether all that was queued came to its end. */
static bool stream_ends(nccl_comm *m, patience *p)
{
    cudaError_t e;
    while ((e = cudaStreamQuery(m->stream)) == cudaErrorNotReady) {
        if (nccl_check(&m->base, NULL) != PR_OK || !pause_for(p)) return false;
    }
    return e == cudaSuccess;
}

/* Every rank closes, or this one's peers are gone: NCCL is not waited for for ever. */
static void comm_end(ncclComm_t comm, patience *p)
{
    ncclResult_t rc = ncclCommFinalize(comm);
    if (rc == ncclSuccess) rc = state_of(comm);
    while (rc == ncclInProgress && pause_for(p)) rc = state_of(comm);
    if (rc == ncclSuccess) {
        ncclCommDestroy(comm);
    } else {
        ncclCommAbort(comm);
    }
}

static void comms_close(nccl_comm *m)
{
    patience p = patience_of(CLOSE_MS);
    if (!m->world || !m->stage || !stream_ends(m, &p)) {
        comms_abort(m);
        return;
    }
    if (m->stage != m->world) comm_end(m->stage, &p);
    comm_end(m->world, &p);
}

static void nccl_close(pr_comm *c)
{
    nccl_comm *m = of(c);
    comms_close(m);
    slots_free(m);
    free(m);
}

static const pr_comm_ops ops = {
    .close = nccl_close,
    .all_reduce = nccl_all_reduce,
    .reduce_to = nccl_reduce_to,
    .send = nccl_send,
    .recv = nccl_recv,
    .show = nccl_show,
    .check = nccl_check,
};

/* ---- create ---- */

pr_status pr_nccl_comm_id(uint8_t out[PR_CUDA_COMM_ID_BYTES], pr_error *err)
{
    ncclUniqueId id;
    ncclResult_t rc = ncclGetUniqueId(&id);
    if (rc != ncclSuccess) {
        return pr_error_set(err, status_of(rc), "NCCL: ncclGetUniqueId: %s: %s",
                            ncclGetErrorString(rc), ncclGetLastError(NULL));
    }
    memcpy(out, &id, sizeof id);
    return PR_OK;
}

static pr_status slots_alloc(nccl_comm *m, pr_error *err)
{
    pr_backend *b = m->backend;
    size_t all_bytes = (size_t)m->base.tp_size * sizeof(pr_comm_words);
    pr_status st = PR_OK;
    for (int i = 0; i < b->n_slots && st == PR_OK; i++) {
        void *own = NULL, *all = NULL, *host_own = NULL, *host_all = NULL;
        st = b->ops->alloc(b, sizeof(pr_comm_words), &own, err);
        if (st == PR_OK) st = b->ops->alloc(b, all_bytes, &all, err);
        if (st == PR_OK) st = b->ops->host_alloc(b, WORDS * sizeof(uint64_t), &host_own, err);
        if (st == PR_OK) st = b->ops->host_alloc(b, all_bytes, &host_all, err);
        m->slots[i] = (show_slot){host_own, own, all, host_all};
        if (st != PR_OK) break;
        /* The first stage sends no stage's words on: what it shows there is 0. */
        cudaError_t e = cudaMemsetAsync(own, 0, sizeof(pr_comm_words), m->stream);
        st = pr_cuda_status(e, err, "memory for a batch's id");
    }
    return st;
}

static pr_status world_create(nccl_comm *m, const pr_cuda_group *g, patience *p, pr_error *err)
{
    static const char late[] = "the ranks of the group did not all come together";
    ncclUniqueId id;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    memcpy(&id, g->id, sizeof id);
    ncclResult_t rc = ncclCommInitRankConfig(&m->world, g->tp_size * g->n_stages, id,
                                             g->stage * g->tp_size + g->tp_rank, &config);
    if (rc == ncclSuccess) rc = state_of(m->world);
    while (rc == ncclInProgress) {
        if (!pause_for(p)) return fail_late(m, late, g->timeout_ms, err);
        rc = state_of(m->world);
    }
    return rc == ncclSuccess ? PR_OK : fail(m, rc, m->world, "ncclCommInitRankConfig", err);
}

/* The ranks of this stage, in the order of their tensor ranks. The world says how far the split is;
 * the new communicator appears when NCCL's thread has made it, and may then still be at work. */
static pr_status stage_create(nccl_comm *m, const pr_cuda_group *g, patience *p, pr_error *err)
{
    static const char late[] = "the ranks of its stage did not all come together";
    if (g->n_stages == 1) {
        m->stage = m->world;
        return PR_OK;
    }
    ncclResult_t rc = ncclCommSplit(m->world, g->stage, g->tp_rank, &m->stage, NULL);
    if (rc != ncclSuccess && rc != ncclInProgress) {
        return fail(m, rc, m->world, "ncclCommSplit", err);
    }
    for (;;) {
        ncclComm_t stage = __atomic_load_n(&m->stage, __ATOMIC_ACQUIRE);
        if ((rc = state_of(m->world)) != ncclSuccess && rc != ncclInProgress) {
            return fail(m, rc, m->world, "ncclCommSplit", err);
        }
        if (rc == ncclSuccess && stage) rc = state_of(stage);
        if (rc == ncclSuccess && stage) return PR_OK;
        if (rc != ncclSuccess && rc != ncclInProgress) {
            return fail(m, rc, stage, "ncclCommSplit", err);
        }
        if (!pause_for(p)) return fail_late(m, late, g->timeout_ms, err);
    }
}

pr_status pr_nccl_comm_create(pr_backend *backend, const pr_cuda_group *group, pr_comm **out,
                              pr_error *err)
{
    const pr_cuda_group *g = group;
    assert(backend->n_slots <= SLOTS_MAX);
    nccl_comm *m = calloc(1, sizeof *m);
    if (!m) return pr_error_nomem(err, "communicator", sizeof *m);
    m->base = (pr_comm){.ops = &ops, .name = "nccl", .tp_rank = g->tp_rank, .tp_size = g->tp_size,
                        .stage = g->stage, .n_stages = g->n_stages};
    m->backend = backend;
    m->stream = pr_cuda_backend_stream(backend);
    m->timeout_ms = g->timeout_ms;
    patience p = patience_of(g->timeout_ms);
    pr_status st = slots_alloc(m, err); /* what can fail alone comes before what needs all */
    if (st == PR_OK) st = world_create(m, g, &p, err);
    if (st == PR_OK) st = stage_create(m, g, &p, err);
    if (st != PR_OK) {
        comms_abort(m);
        slots_free(m);
        free(m);
        return st;
    }
    *out = &m->base;
    return PR_OK;
}
