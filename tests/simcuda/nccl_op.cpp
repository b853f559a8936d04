/* nccl_op.cpp: the simulated NCCL: what stands in a stream, and how data gets from rank to rank.
 *
 * A collective goes chunk by chunk. Each rank posts its part of the chunk, waits until all have,
 * and takes from all what it needs; nobody posts the next chunk before all have taken the last. A
 * send is over when its receiver has taken everything, as a large one of NCCL's is.
 *
 * Sums are added in f32 in rank order and rounded once; with POOLRANK_SIM_NCCL_RING=1 as a ring of
 * NCCL's does it: the buffer is cut in as many parts as there are ranks, part p is added from rank
 * p + 1 on, and each hop rounds to the type. Integers are added as they are.
 *
 * A step never waits: it says BLOCKED, and the runtime asks again. When a peer is gone the
 * operation ends, with NaN where its result should be. */
#include "tests/simcuda/nccl_state.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

typedef struct nccl_part {
    struct nccl_part *next;
    nccl_shape shape;
    const unsigned char *from;
    unsigned char *to;
    uint64_t n_done; /* elements */
    uint64_t n_chunk; /* elements on their way */
    uint64_t turn;    /* COLLECTIVE: the chunk's number, 0: not posted */
    bool is_over;
} nccl_part;

typedef struct nccl_op {
    ncclComm_t comm;
    nccl_part *parts;
    nccl_patience patience;
} nccl_op;

static const char *const kind_names[] = {"all-reduce", "reduce", "broadcast",
                                         "all-gather", "send",   "receive"};

size_t nccl_type_bytes(int type)
{
    switch (type) {
    case ncclInt8:
    case ncclUint8: return 1;
    case ncclFloat16:
    case ncclBfloat16: return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32: return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64: return 8;
    default: return 0;
    }
}

/* ---- sums ---- */
static float number_get(const unsigned char *p, int type, uint64_t i)
{
    if (type == ncclFloat32) return ((const float *)p)[i];
    if (type == ncclBfloat16) return __bfloat162float(((const __nv_bfloat16 *)p)[i]);
    return __half2float(((const __half *)p)[i]);
}

static void number_set(unsigned char *p, int type, uint64_t i, float x)
{
    if (type == ncclFloat32) ((float *)p)[i] = x;
    if (type == ncclBfloat16) ((__nv_bfloat16 *)p)[i] = __float2bfloat16_rn(x);
    if (type == ncclFloat16) ((__half *)p)[i] = __float2half_rn(x);
}

static float number_round(int type, float x)
{
    alignas(4) unsigned char place[4];
    number_set(place, type, 0, x);
    return number_get(place, type, 0);
}

static float fold(int reduction, float a, float b)
{
    if (reduction == ncclMax) return a > b ? a : b;
    if (reduction == ncclMin) return a < b ? a : b;
    return a + b;
}

static bool is_ring_asked(void)
{
    const char *text = getenv("POOLRANK_SIM_NCCL_RING");
    return text && strcmp(text, "1") == 0;
}

static void sum_numbers(const ncclComm_t c, const nccl_part *part)
{
    const int type = part->shape.type, n_ranks = c->n_ranks;
    const bool is_ring = is_ring_asked();
    for (uint64_t i = 0; i < part->n_chunk; i++) {
        const uint64_t at = part->n_done + i;
        const int first = is_ring ? (int)(at * (uint64_t)n_ranks / part->shape.count + 1) : 0;
        float sum = number_get(c->shared->posted[first % n_ranks], type, i);
        for (int r = 1; r < n_ranks; r++) {
            const float x = number_get(c->shared->posted[(first + r) % n_ranks], type, i);
            sum = fold(part->shape.reduction, sum, x);
            if (is_ring) sum = number_round(type, sum);
        }
        number_set(part->to, type, at, sum);
    }
}

/* Of the sizes that are used: words of 8 bytes. */
static void sum_words(const ncclComm_t c, const nccl_part *part)
{
    for (uint64_t i = 0; i < part->n_chunk; i++) {
        uint64_t sum = 0;
        for (int r = 0; r < c->n_ranks; r++) sum += ((const uint64_t *)c->shared->posted[r])[i];
        ((uint64_t *)part->to)[part->n_done + i] = sum;
    }
}

static void take(const ncclComm_t c, const nccl_part *part)
{
    const size_t size = nccl_type_bytes(part->shape.type);
    const uint64_t n_bytes = part->n_chunk * size;
    const int kind = part->shape.kind, root = part->shape.root;
    if (kind == NCCL_BROADCAST)
        memcpy(part->to + part->n_done * size, c->shared->posted[root], n_bytes);
    for (int r = 0; kind == NCCL_ALL_GATHER && r < c->n_ranks; r++)
        memcpy(part->to + ((uint64_t)r * part->shape.count + part->n_done) * size,
               c->shared->posted[r], n_bytes);
    if (kind == NCCL_ALL_REDUCE || (kind == NCCL_REDUCE && root == c->rank)) {
        if (part->shape.type == ncclUint64 || part->shape.type == ncclInt64)
            sum_words(c, part);
        else
            sum_numbers(c, part);
    }
    /* what it holds is not said; that it holds the rank's own part must not be relied on */
    if (kind == NCCL_REDUCE && root != c->rank && part->to && part->to == part->from)
        sim_memory_poison(part->to + part->n_done * size, n_bytes);
}

/* ---- steps: ncclSuccess when the part is over, ncclInProgress ---- */
static ncclResult_t shapes_differ(ncclComm_t c, const nccl_shape *own, int rank,
                                  const nccl_shape *other)
{
    sim_fault_set("NCCL: rank %d: %s of %llu elements of type %d (root %d), but rank %d: %s of "
                  "%llu of type %d (root %d)",
                  c->rank, kind_names[own->kind], (unsigned long long)own->count, (int)own->type,
                  (int)own->root, rank, kind_names[other->kind],
                  (unsigned long long)other->count, (int)other->type, (int)other->root);
    return nccl_fail(c, ncclInvalidUsage, "ranks called different collectives");
}

static ncclResult_t chunk_post(ncclComm_t c, nccl_op *op, nccl_part *part)
{
    nccl_shared *s = c->shared;
    for (int r = 0; r < c->n_ranks; r++)
        if (__atomic_load_n(&s->ranks[r].n_taken, __ATOMIC_ACQUIRE) < c->n_chunks)
            return nccl_wait_check(c, &op->patience, r, kind_names[part->shape.kind]);
    const size_t size = nccl_type_bytes(part->shape.type);
    const uint64_t n_left = part->shape.count - part->n_done, n_most = NCCL_CHUNK_BYTES / size;
    part->n_chunk = n_left < n_most ? n_left : n_most;
    if (part->from)
        memcpy(s->posted[c->rank], part->from + part->n_done * size, part->n_chunk * size);
    s->ranks[c->rank].shape = part->shape;
    part->turn = ++c->n_chunks;
    __atomic_store_n(&s->ranks[c->rank].n_posted, part->turn, __ATOMIC_RELEASE);
    return ncclSuccess;
}

static ncclResult_t chunk_take(ncclComm_t c, nccl_op *op, nccl_part *part)
{
    nccl_shared *s = c->shared;
    for (int r = 0; r < c->n_ranks; r++) {
        if (__atomic_load_n(&s->ranks[r].n_posted, __ATOMIC_ACQUIRE) < part->turn)
            return nccl_wait_check(c, &op->patience, r, kind_names[part->shape.kind]);
        if (memcmp(&s->ranks[r].shape, &part->shape, sizeof part->shape) != 0)
            return shapes_differ(c, &part->shape, r, &s->ranks[r].shape);
    }
    take(c, part);
    part->n_done += part->n_chunk;
    part->turn = 0;
    op->patience = nccl_patience{};
    __atomic_store_n(&s->ranks[c->rank].n_taken, c->n_chunks, __ATOMIC_RELEASE);
    return ncclSuccess;
}

static ncclResult_t collective_step(ncclComm_t c, nccl_op *op, nccl_part *part)
{
    ncclResult_t e = ncclSuccess;
    while (e == ncclSuccess && part->n_done < part->shape.count) {
        if (part->turn == 0) e = chunk_post(c, op, part);
        if (e == ncclSuccess) e = chunk_take(c, op, part);
    }
    return e;
}

static ncclResult_t send_step(ncclComm_t c, nccl_op *op, nccl_part *part)
{
    const int to = part->shape.root;
    nccl_pair *pair = &c->shared->pairs[c->rank][to];
    const size_t size = nccl_type_bytes(part->shape.type);
    for (;;) {
        if (__atomic_load_n(&pair->n_taken, __ATOMIC_ACQUIRE) < pair->n_sent)
            return nccl_wait_check(c, &op->patience, to, "send");
        op->patience = nccl_patience{};
        if (part->n_done == part->shape.count) return ncclSuccess;
        const uint64_t n_left = part->shape.count - part->n_done;
        const uint64_t n_most = NCCL_PAIR_CHUNK_BYTES / size;
        const uint64_t n = n_left < n_most ? n_left : n_most;
        memcpy(c->shared->sent[c->rank][to], part->from + part->n_done * size, n * size);
        pair->shape = part->shape;
        part->n_done += n;
        __atomic_store_n(&pair->n_sent, pair->n_sent + 1, __ATOMIC_RELEASE);
    }
}

static ncclResult_t recv_step(ncclComm_t c, nccl_op *op, nccl_part *part)
{
    const int from = part->shape.root;
    nccl_pair *pair = &c->shared->pairs[from][c->rank];
    const size_t size = nccl_type_bytes(part->shape.type);
    while (part->n_done < part->shape.count) {
        if (__atomic_load_n(&pair->n_sent, __ATOMIC_ACQUIRE) == pair->n_taken)
            return nccl_wait_check(c, &op->patience, from, "receive");
        if (pair->shape.count != part->shape.count || pair->shape.type != part->shape.type)
            return shapes_differ(c, &part->shape, from, &pair->shape);
        const uint64_t n_left = part->shape.count - part->n_done;
        const uint64_t n_most = NCCL_PAIR_CHUNK_BYTES / size;
        const uint64_t n = n_left < n_most ? n_left : n_most;
        memcpy(part->to + part->n_done * size, c->shared->sent[from][c->rank], n * size);
        part->n_done += n;
        op->patience = nccl_patience{};
        __atomic_store_n(&pair->n_taken, pair->n_taken + 1, __ATOMIC_RELEASE);
    }
    return ncclSuccess;
}

/* What a result would have been. */
static void part_poison(const ncclComm_t c, const nccl_part *part)
{
    const uint64_t n_ranks = part->shape.kind == NCCL_ALL_GATHER ? (uint64_t)c->n_ranks : 1;
    if (part->to)
        sim_memory_poison(part->to,
                          part->shape.count * n_ranks * nccl_type_bytes(part->shape.type));
}

static sim_step op_step(void *state, sim_effort *)
{
    nccl_op *op = (nccl_op *)state;
    ncclComm_t c = op->comm;
    bool is_over = true;
    for (nccl_part *part = op->parts; part; part = part->next) {
        if (part->is_over) continue;
        ncclResult_t e = c->error;
        if (e == ncclSuccess && c->is_released) e = ncclInvalidUsage; /* aborted */
        if (e == ncclSuccess && part->shape.kind == NCCL_SEND) e = send_step(c, op, part);
        else if (e == ncclSuccess && part->shape.kind == NCCL_RECV) e = recv_step(c, op, part);
        else if (e == ncclSuccess) e = collective_step(c, op, part);
        part->is_over = e != ncclInProgress;
        if (!part->is_over) is_over = false;
        if (part->is_over && e != ncclSuccess) part_poison(c, part);
    }
    return is_over ? SIM_STEP_DONE : SIM_STEP_BLOCKED;
}

/* ---- making them ---- */
static void op_drop(void *state)
{
    nccl_op *op = (nccl_op *)state;
    while (op->parts) {
        nccl_part *next = op->parts->next;
        free(op->parts);
        op->parts = next;
    }
    op->comm->n_ops--;
    nccl_unref(op->comm);
}

sim_op *nccl_op_make(ncclComm_t c)
{
    void *state;
    sim_op *o = sim_op_make(sizeof(nccl_op), &state);
    ((nccl_op *)state)->comm = c;
    o->step = op_step;
    o->drop = op_drop;
    o->is_kernel = true;
    c->n_refs++;
    c->n_ops++;
    return o;
}

void nccl_op_add(sim_op *o, const nccl_shape *shape, const void *from, void *to)
{
    nccl_op *op = (nccl_op *)(void *)(o + 1);
    nccl_part **end = &op->parts;
    while (*end) end = &(*end)->next;
    nccl_part *part = (nccl_part *)calloc(1, sizeof *part);
    assert(part);
    part->shape = *shape;
    part->from = (const unsigned char *)from;
    part->to = (unsigned char *)to;
    *end = part;
}

void nccl_op_drop(sim_op *o)
{
    op_drop(o + 1);
    free(o);
}
