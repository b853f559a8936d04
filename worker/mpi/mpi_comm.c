#include "worker/mpi/mpi_comm.h"

#include "worker/mpi/mpi_error.h"
#include "worker/mpi/mpi_share.h"

#include <assert.h>
#include <limits.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

enum {
    PIECE_FLOATS = 1 << 20, /* of a sum: what stays in the caches on its way */
    SEND_FLOATS = 1 << 26   /* of one message: well below MPI's counts of 31 bits */
};

typedef struct mpi_comm {
    pr_comm base;
    MPI_Comm group; /* rank = stage * tp_size + tp_rank */
    MPI_Comm tensor; /* the ranks of this stage */
    pr_shm_region *region; /* NULL: shared with nobody */
    pr_comm *shm;          /* over it */
    bool sums_in_shm;      /* all ranks of this stage share memory */
    bool *links_in_shm;    /* [n_stages]: with the same tensor rank of that stage */
    float *scratch;        /* [PIECE_FLOATS + tp_size]: one slice from every rank */
    int *counts, *offsets; /* [tp_size] each: slices of a piece, in floats */
    int *in_counts, *in_offsets; /* [tp_size] each: this rank's slice from every rank */
} mpi_comm;

static mpi_comm *of(pr_comm *c)
{
    return (mpi_comm *)(void *)c;
}

/* ---- sums ----
 *
 * A piece is cut into a slice for each rank, its owner. All send their part of each slice to its
 * owner, who adds them in rank order; then the sums go to everybody, or to the root:
 *
 *     rank 0   a0 b0 c0        a0 a1 a2 → A           A B C
 *     rank 1   a1 b1 c1   ──►  b0 b1 b2 → B    ──►    A B C
 *     rank 2   a2 b2 c2        c0 c1 c2 → C           A B C
 *
 * MPI_Allreduce adds in an order that depends on the size of the message (measured on 3 ranks), and
 * a result would then depend on what else is in its batch. */

static void slices_cut(mpi_comm *m, int n)
{
    int tp = m->base.tp_size;
    for (int r = 0; r < tp; r++) {
        m->offsets[r] = (int)((int64_t)n * r / tp);
        m->counts[r] = (int)((int64_t)n * (r + 1) / tp) - m->offsets[r];
    }
    int own = m->counts[m->base.tp_rank];
    for (int r = 0; r < tp; r++) {
        m->in_counts[r] = own;
        m->in_offsets[r] = r * own;
    }
}

/* sum [n] = parts [0][n] + parts [1][n] + …, in this order for each element. */
static void parts_add(const float *restrict parts, int n_parts, int n, float *restrict sum)
{
    memcpy(sum, parts, (size_t)n * sizeof *sum);
    for (int r = 1; r < n_parts; r++) {
        const float *restrict part = parts + (size_t)r * (size_t)n;
        for (int i = 0; i < n; i++) sum[i] += part[i];
    }
}

/* The owner's slice of x [n] becomes the sum. */
static pr_status piece_reduce(mpi_comm *m, float *x, int n, pr_error *err)
{
    slices_cut(m, n);
    int rc = MPI_Alltoallv(x, m->counts, m->offsets, MPI_FLOAT, m->scratch, m->in_counts,
                           m->in_offsets, MPI_FLOAT, m->tensor);
    if (rc != MPI_SUCCESS) return pr_mpi_status(rc, "MPI_Alltoallv", err);
    int own = m->base.tp_rank;
    parts_add(m->scratch, m->base.tp_size, m->counts[own], x + m->offsets[own]);
    return PR_OK;
}

static pr_status mpi_all_reduce(mpi_comm *m, float *x, int64_t n, pr_error *err)
{
    for (int64_t begin = 0; begin < n; begin += PIECE_FLOATS) {
        int n_piece = n - begin < PIECE_FLOATS ? (int)(n - begin) : PIECE_FLOATS;
        pr_status st = piece_reduce(m, x + begin, n_piece, err);
        if (st != PR_OK) return st;
        int rc = MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, x + begin, m->counts,
                                m->offsets, MPI_FLOAT, m->tensor);
        if (rc != MPI_SUCCESS) return pr_mpi_status(rc, "MPI_Allgatherv", err);
    }
    return PR_OK;
}

static pr_status mpi_reduce_to(mpi_comm *m, float *x, int64_t n, int root, pr_error *err)
{
    for (int64_t begin = 0; begin < n; begin += PIECE_FLOATS) {
        int n_piece = n - begin < PIECE_FLOATS ? (int)(n - begin) : PIECE_FLOATS;
        pr_status st = piece_reduce(m, x + begin, n_piece, err);
        if (st != PR_OK) return st;
        int own = m->base.tp_rank;
        bool is_root = own == root;
        const void *from = is_root ? MPI_IN_PLACE : (const void *)(x + begin + m->offsets[own]);
        int rc = MPI_Gatherv(from, m->counts[own], MPI_FLOAT, is_root ? x + begin : NULL,
                             m->counts, m->offsets, MPI_FLOAT, root, m->tensor);
        if (rc != MPI_SUCCESS) return pr_mpi_status(rc, "MPI_Gatherv", err);
    }
    return PR_OK;
}

/* ---- what moves bits ---- */

/* Rank by rank where all of it is more than MPI's counts hold. */
static pr_status mpi_all_gather(mpi_comm *m, const float *src, int64_t n, float *dst,
                                pr_error *err)
{
    if (n * m->base.tp_size <= INT_MAX) {
        int rc = MPI_Allgather(src, (int)n, MPI_UINT32_T, dst, (int)n, MPI_UINT32_T, m->tensor);
        return pr_mpi_status(rc, "MPI_Allgather", err);
    }
    memcpy(dst + m->base.tp_rank * n, src, (size_t)n * sizeof *dst);
    for (int r = 0; r < m->base.tp_size; r++) {
        for (int64_t i = 0; i < n; i += SEND_FLOATS) {
            int n_now = n - i < SEND_FLOATS ? (int)(n - i) : SEND_FLOATS;
            int rc = MPI_Bcast(dst + r * n + i, n_now, MPI_UINT32_T, r, m->tensor);
            if (rc != MPI_SUCCESS) return pr_mpi_status(rc, "MPI_Bcast", err);
        }
    }
    return PR_OK;
}

static int peer_of(const mpi_comm *m, int stage)
{
    assert(stage >= 0 && stage < m->base.n_stages && stage != m->base.stage);
    return stage * m->base.tp_size + m->base.tp_rank;
}

static pr_status mpi_send(mpi_comm *m, const float *x, int64_t n, int stage, pr_error *err)
{
    for (int64_t i = 0; i < n; i += SEND_FLOATS) {
        int n_now = n - i < SEND_FLOATS ? (int)(n - i) : SEND_FLOATS;
        int rc = MPI_Send(x + i, n_now, MPI_UINT32_T, peer_of(m, stage), 0, m->group);
        if (rc != MPI_SUCCESS) return pr_mpi_status(rc, "MPI_Send", err);
    }
    return PR_OK;
}

static pr_status mpi_recv(mpi_comm *m, float *x, int64_t n, int stage, pr_error *err)
{
    for (int64_t i = 0; i < n; i += SEND_FLOATS) {
        int n_now = n - i < SEND_FLOATS ? (int)(n - i) : SEND_FLOATS;
        int rc = MPI_Recv(x + i, n_now, MPI_UINT32_T, peer_of(m, stage), 0, m->group,
                          MPI_STATUS_IGNORE);
        if (rc != MPI_SUCCESS) return pr_mpi_status(rc, "MPI_Recv", err);
    }
    return PR_OK;
}

/* ---- the slots: each operation goes the way that its ranks have ---- */

static pr_status slot_all_reduce(pr_comm *c, void *x, int64_t n, pr_dtype dtype, pr_error *err)
{
    assert(dtype == PR_DTYPE_F32);
    mpi_comm *m = of(c);
    if (m->sums_in_shm) return m->shm->ops->all_reduce(m->shm, x, n, dtype, err);
    return mpi_all_reduce(m, x, n, err);
}

static pr_status slot_reduce_to(pr_comm *c, void *x, int64_t n, pr_dtype dtype, int root,
                                pr_error *err)
{
    assert(dtype == PR_DTYPE_F32);
    mpi_comm *m = of(c);
    if (m->sums_in_shm) return m->shm->ops->reduce_to(m->shm, x, n, dtype, root, err);
    return mpi_reduce_to(m, x, n, root, err);
}

static pr_status slot_all_gather(pr_comm *c, const float *src, int64_t n, float *dst,
                                 pr_error *err)
{
    mpi_comm *m = of(c);
    if (m->sums_in_shm) return m->shm->ops->all_gather(m->shm, src, n, dst, err);
    return mpi_all_gather(m, src, n, dst, err);
}

static pr_status slot_send(pr_comm *c, const void *x, int64_t n, pr_dtype dtype, int stage,
                           pr_error *err)
{
    assert(dtype == PR_DTYPE_F32);
    mpi_comm *m = of(c);
    if (m->links_in_shm[stage]) return m->shm->ops->send(m->shm, x, n, dtype, stage, err);
    return mpi_send(m, x, n, stage, err);
}

static pr_status slot_recv(pr_comm *c, void *x, int64_t n, pr_dtype dtype, int stage,
                           pr_error *err)
{
    assert(dtype == PR_DTYPE_F32);
    mpi_comm *m = of(c);
    if (m->links_in_shm[stage]) return m->shm->ops->recv(m->shm, x, n, dtype, stage, err);
    return mpi_recv(m, x, n, stage, err);
}

static void slot_close(pr_comm *c)
{
    mpi_comm *m = of(c);
    if (m->shm) m->shm->ops->close(m->shm);
    pr_shm_region_close(m->region);
    if (m->tensor != MPI_COMM_NULL) MPI_Comm_free(&m->tensor);
    if (m->group != MPI_COMM_NULL) MPI_Comm_free(&m->group);
    free(m->links_in_shm);
    free(m->scratch);
    free(m->counts);
    free(m);
}

static const pr_comm_ops ops = {
    .close = slot_close,
    .all_reduce = slot_all_reduce,
    .reduce_to = slot_reduce_to,
    .all_gather = slot_all_gather,
    .send = slot_send,
    .recv = slot_recv,
};

/* ---- create ---- */

static pr_status comm_alloc(int tp_size, int n_stages, mpi_comm **out, pr_error *err)
{
    mpi_comm *m = calloc(1, sizeof *m);
    if (!m) return pr_error_nomem(err, "communicator", sizeof *m);
    m->base = (pr_comm){.ops = &ops, .tp_size = tp_size, .n_stages = n_stages};
    m->group = MPI_COMM_NULL;
    m->tensor = MPI_COMM_NULL;
    size_t n = (size_t)tp_size;
    m->links_in_shm = calloc((size_t)n_stages, sizeof *m->links_in_shm);
    m->scratch = malloc((PIECE_FLOATS + n) * sizeof *m->scratch);
    m->counts = malloc(4 * n * sizeof *m->counts);
    if (!m->links_in_shm || !m->scratch || !m->counts) {
        slot_close(&m->base);
        return pr_error_nomem(err, "communicator", (PIECE_FLOATS + n) * sizeof *m->scratch);
    }
    m->offsets = m->counts + n;
    m->in_counts = m->counts + 2 * n;
    m->in_offsets = m->counts + 3 * n;
    *out = m;
    return PR_OK;
}

/* group: the ranks first_rank … of the world, in order; tensor: those of this one's stage. */
static pr_status groups_create(mpi_comm *m, int first_rank, pr_error *err)
{
    int n = m->base.tp_size * m->base.n_stages;
    int range[1][3] = {{first_rank, first_rank + n - 1, 1}};
    MPI_Group world = MPI_GROUP_NULL, members = MPI_GROUP_NULL;
    pr_status st = pr_mpi_status(MPI_Comm_group(MPI_COMM_WORLD, &world), "MPI_Comm_group", err);
    if (st == PR_OK) {
        st = pr_mpi_status(MPI_Group_range_incl(world, 1, range, &members), "MPI_Group_range_incl",
                           err);
    }
    if (st == PR_OK) {
        st = pr_mpi_status(MPI_Comm_create_group(MPI_COMM_WORLD, members, first_rank, &m->group),
                           "MPI_Comm_create_group", err);
    }
    if (members != MPI_GROUP_NULL) MPI_Group_free(&members);
    if (world != MPI_GROUP_NULL) MPI_Group_free(&world);
    if (st != PR_OK) return st;
    int rank = 0;
    MPI_Comm_set_errhandler(m->group, MPI_ERRORS_RETURN);
    MPI_Comm_rank(m->group, &rank);
    m->base.tp_rank = rank % m->base.tp_size;
    m->base.stage = rank / m->base.tp_size;
    st = pr_mpi_status(MPI_Comm_split(m->group, m->base.stage, m->base.tp_rank, &m->tensor),
                       "MPI_Comm_split", err);
    if (st == PR_OK) MPI_Comm_set_errhandler(m->tensor, MPI_ERRORS_RETURN);
    return st;
}

/* nodes: of pr_mpi_share. Decides the way of each operation, alike on all of its ranks. */
static void ways_choose(mpi_comm *m, const int *nodes)
{
    const pr_comm *c = &m->base;
    int own = nodes[c->stage * c->tp_size + c->tp_rank];
    bool uses_shm = false, uses_mpi = false;
    m->sums_in_shm = own >= 0;
    for (int r = 0; r < c->tp_size; r++) {
        m->sums_in_shm = m->sums_in_shm && nodes[c->stage * c->tp_size + r] == own;
    }
    if (c->tp_size > 1) *(m->sums_in_shm ? &uses_shm : &uses_mpi) = true;
    for (int s = c->stage - 1; s <= c->stage + 1; s += 2) {
        if (s < 0 || s >= c->n_stages) continue;
        m->links_in_shm[s] = own >= 0 && nodes[s * c->tp_size + c->tp_rank] == own;
        *(m->links_in_shm[s] ? &uses_shm : &uses_mpi) = true;
    }
    m->base.name = uses_shm && uses_mpi ? "shm+mpi" : uses_shm ? "shm" : "mpi";
}

static pr_status ways_open(mpi_comm *m, pr_mpi_path path, pr_error *err)
{
    int n = m->base.tp_size * m->base.n_stages;
    int *nodes = malloc((size_t)n * sizeof *nodes);
    if (!nodes) return pr_error_nomem(err, "ranks", (size_t)n * sizeof *nodes);
    pr_status st = pr_mpi_share(m->group, m->base.tp_size, m->base.n_stages,
                                path != PR_MPI_PATH_MPI, nodes, &m->region, err);
    if (st == PR_OK) ways_choose(m, nodes);
    free(nodes);
    if (st == PR_OK && m->region) {
        int rank = m->base.stage * m->base.tp_size + m->base.tp_rank;
        st = pr_comm_shm_create(m->region, rank, &m->shm, err);
    }
    if (st != PR_OK || path != PR_MPI_PATH_SHM || strcmp(m->base.name, "shm") == 0) return st;
    return pr_error_set(err, PR_E_UNSUPPORTED,
                        "POOLRANK_COMM=shm: this rank does not share memory with all others");
}

pr_status pr_comm_mpi_create(int first_rank, int tp_size, int n_stages, pr_mpi_path path,
                             pr_comm **out, pr_error *err)
{
    int n_world = 0;
    MPI_Comm_size(MPI_COMM_WORLD, &n_world);
    if (first_rank < 0 || (int64_t)first_rank + (int64_t)tp_size * n_stages > n_world) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "a group of %d x %d ranks from rank %d on, but MPI has %d ranks",
                            tp_size, n_stages, first_rank, n_world);
    }
    mpi_comm *m = NULL;
    pr_status st = comm_alloc(tp_size, n_stages, &m, err);
    if (st != PR_OK) return st;
    st = groups_create(m, first_rank, err);
    if (st == PR_OK) st = ways_open(m, path, err);
    if (st != PR_OK) {
        slot_close(&m->base);
        return st;
    }
    *out = &m->base;
    return PR_OK;
}
