#define _GNU_SOURCE
#include "worker/comm_shm.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The region, all of it zero bytes at first (pages that are not touched cost nothing):
 *
 *     header | per stage: barrier, parts [SETS][tp_size][PART_FLOATS] | mailboxes
 *
 * A mailbox carries floats one way between two ranks of neighbour stages; there is one for each
 * rank and direction, named by the rank that fills it.
 *
 * A sum goes through the parts in pieces of PART_FLOATS. In step s every rank copies its piece s
 * into its part of set s, sums its own slice of piece s - 1 over all ranks, in rank order, into the
 * first rank's part, and copies the summed piece s - 2 out; a barrier ends the step. Three sets are
 * then enough: what is copied into set s % 3 in step s was copied out of it in step s - 1, before a
 * barrier. Pieces are counted on from call to call, so that the next call's first piece is no
 * exception, and a call needs no barrier at its end. */
enum {
    VERSION = 1,
    SETS = 3,
    PART_FLOATS = 32 * 1024,
    MAIL_SLOTS = 8,
    SLOT_FLOATS = 64 * 1024,
    CPU_WORDS = 16,   /* 64 each: processors that are told apart */
    SPINS_MAX = 2000, /* pauses: longer than a rank that computes beside us is late by */
    SPINS_MIN = 32,   /* to notice that spinning pays again */
    RANKS_MAX = 4096,
    LINE = 64,
    SUM_FLOATS = 64 /* added at once: stay in registers */
};

static const char magic[8] = "prshm01";

static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2,
              "processes can only share atomics that need no lock");

/* A word that ranks wait for, and how many of them sleep. */
typedef struct shared_word {
    _Alignas(LINE) atomic_uint value;
    atomic_uint n_sleeping;
} shared_word;

typedef struct barrier {
    shared_word generation;
    _Alignas(LINE) atomic_uint n_arrived;
} barrier;

typedef struct mailbox {
    shared_word n_sent, n_received; /* slots, modulo 2^32 */
    _Alignas(LINE) float slots[MAIL_SLOTS][SLOT_FLOATS];
} mailbox;

typedef struct region_header {
    char magic[sizeof magic];
    uint32_t version;
    uint32_t tp_size, n_stages;
    uint64_t n_bytes;
    atomic_ullong cpus[CPU_WORDS]; /* where the ranks that have opened may run */
} region_header;

struct pr_shm_region {
    int fd;
    int tp_size, n_stages;
    size_t n_bytes;
    char *base; /* mapped */
};

typedef struct shm_comm {
    pr_comm base;
    pr_shm_region *region; /* borrowed */
    barrier *barrier;      /* of this stage */
    float *parts;          /* [SETS][tp_size][PART_FLOATS], of this stage */
    uint64_t i_piece;      /* of all calls so far */
    int n_spins;     /* what the next wait spins before it sleeps */
    int n_spins_max; /* 0: never */
} shm_comm;

/* ---- the layout ---- */

static size_t line_up(size_t n)
{
    return (n + LINE - 1) / LINE * LINE;
}

static size_t stage_bytes(int tp_size)
{
    return line_up(sizeof(barrier)) + (size_t)SETS * (size_t)tp_size * PART_FLOATS * sizeof(float);
}

static size_t region_bytes(int tp_size, int n_stages)
{
    size_t n_ranks = (size_t)tp_size * (size_t)n_stages;
    return line_up(sizeof(region_header)) + (size_t)n_stages * stage_bytes(tp_size) +
           2 * n_ranks * sizeof(mailbox);
}

static region_header *header_of(const pr_shm_region *r)
{
    return (region_header *)(void *)r->base;
}

static barrier *barrier_of(const pr_shm_region *r, int stage)
{
    char *p = r->base + line_up(sizeof(region_header)) + (size_t)stage * stage_bytes(r->tp_size);
    return (barrier *)(void *)p;
}

/* What a rank fills for the stage behind (is_down) or before it. */
static mailbox *mailbox_of(const pr_shm_region *r, int stage, int tp_rank, bool is_down)
{
    size_t i = 2 * ((size_t)stage * (size_t)r->tp_size + (size_t)tp_rank) + (is_down ? 1 : 0);
    char *p = r->base + line_up(sizeof(region_header)) +
              (size_t)r->n_stages * stage_bytes(r->tp_size) + i * sizeof(mailbox);
    return (mailbox *)(void *)p;
}

/* ---- the region ---- */

static pr_status system_error(pr_error *err, const char *what, size_t n_bytes)
{
    pr_status st = errno == ENOMEM ? PR_E_NOMEM : PR_E_IO;
    return pr_error_set(err, st, "shared memory of %zu bytes: %s: %s", n_bytes, what,
                        strerror(errno));
}

static pr_status region_map(int fd, int tp_size, int n_stages, pr_shm_region **out, pr_error *err)
{
    size_t n_bytes = region_bytes(tp_size, n_stages);
    pr_shm_region *r = calloc(1, sizeof *r);
    if (!r) {
        close(fd);
        return pr_error_nomem(err, "shared memory region", sizeof *r);
    }
    *r = (pr_shm_region){.fd = fd, .tp_size = tp_size, .n_stages = n_stages, .n_bytes = n_bytes};
    void *p = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        pr_status st = system_error(err, "mmap", n_bytes);
        pr_shm_region_close(r);
        return st;
    }
    r->base = p;
    *out = r;
    return PR_OK;
}

pr_status pr_shm_region_create(int tp_size, int n_stages, pr_shm_region **out, pr_error *err)
{
    assert(tp_size >= 1 && n_stages >= 1);
    assert(tp_size <= RANKS_MAX && n_stages <= RANKS_MAX);
    size_t n_bytes = region_bytes(tp_size, n_stages);
    int fd = memfd_create("poolrank", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return system_error(err, "memfd_create", n_bytes);
    /* Sealed: a shorter file would kill every rank that touches its end. */
    if (ftruncate(fd, (off_t)n_bytes) != 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        pr_status st = system_error(err, "ftruncate", n_bytes);
        close(fd);
        return st;
    }
    pr_shm_region *r = NULL;
    pr_status st = region_map(fd, tp_size, n_stages, &r, err);
    if (st != PR_OK) return st;
    region_header *h = header_of(r);
    h->version = VERSION;
    h->tp_size = (uint32_t)tp_size;
    h->n_stages = (uint32_t)n_stages;
    h->n_bytes = n_bytes;
    memcpy(h->magic, magic, sizeof magic);
    *out = r;
    return PR_OK;
}

static pr_status header_check(const pr_shm_region *r, pr_error *err)
{
    const region_header *h = header_of(r);
    if (memcmp(h->magic, magic, sizeof magic) != 0) {
        return pr_error_set(err, PR_E_INTERNAL, "shared memory: not a region of ranks");
    }
    if (h->version == VERSION && h->tp_size == (uint32_t)r->tp_size &&
        h->n_stages == (uint32_t)r->n_stages && h->n_bytes == r->n_bytes) {
        return PR_OK;
    }
    return pr_error_set(err, PR_E_INTERNAL,
                        "shared memory: found version %u for %u x %u ranks in %llu bytes, expected "
                        "version %d for %d x %d ranks in %zu bytes",
                        h->version, h->tp_size, h->n_stages, (unsigned long long)h->n_bytes,
                        VERSION, r->tp_size, r->n_stages, r->n_bytes);
}

pr_status pr_shm_region_attach(int fd, int tp_size, int n_stages, pr_shm_region **out,
                               pr_error *err)
{
    assert(tp_size >= 1 && n_stages >= 1);
    assert(tp_size <= RANKS_MAX && n_stages <= RANKS_MAX);
    size_t n_bytes = region_bytes(tp_size, n_stages);
    struct stat file;
    if (fstat(fd, &file) != 0) return system_error(err, "fstat", n_bytes);
    if (file.st_size != (off_t)n_bytes) {
        return pr_error_set(err, PR_E_INTERNAL, "shared memory: found %lld bytes, expected %zu",
                            (long long)file.st_size, n_bytes);
    }
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0) return system_error(err, "dup", n_bytes);
    pr_shm_region *r = NULL;
    pr_status st = region_map(own, tp_size, n_stages, &r, err);
    if (st == PR_OK) st = header_check(r, err);
    if (st != PR_OK) {
        pr_shm_region_close(r);
        return st;
    }
    *out = r;
    return PR_OK;
}

int pr_shm_region_fd(const pr_shm_region *region)
{
    return region->fd;
}

void pr_shm_region_close(pr_shm_region *region)
{
    if (!region) return;
    if (region->base) munmap(region->base, region->n_bytes);
    close(region->fd);
    free(region);
}

/* ---- waiting ---- */

static void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void futex(atomic_uint *word, int operation, unsigned value)
{
    /* Shared between processes, so not the private kind. A wait that ends early is asked again. */
    syscall(SYS_futex, (void *)word, operation, value, NULL, NULL, 0);
}

/* Waits until the word is no longer `old`; what was written before it changed can be read then.
 *
 * Spinning is worth it only while the other ranks run: with somebody else on their processor they
 * come after the spin, each time (two ranks beside a build: 105 us for a sum of 4 KiB). So a wait
 * that had to sleep halves the next spin, one that had not doubles it.
 *
 * A sleeper counts itself, then looks at the word again (in the kernel too); who changes the word
 * looks at the count afterwards. All four are in one order (seq_cst), so one sees the other. */
static void word_await(shm_comm *c, shared_word *w, unsigned old)
{
    int i = 0;
    while (atomic_load_explicit(&w->value, memory_order_acquire) == old && i < c->n_spins) {
        pause_briefly();
        i++;
    }
    if (atomic_load_explicit(&w->value, memory_order_acquire) != old) {
        c->n_spins = 2 * c->n_spins < c->n_spins_max ? 2 * c->n_spins : c->n_spins_max;
        return;
    }
    int fewer = c->n_spins / 2 > SPINS_MIN ? c->n_spins / 2 : SPINS_MIN;
    c->n_spins = fewer < c->n_spins_max ? fewer : c->n_spins_max;
    atomic_fetch_add(&w->n_sleeping, 1);
    while (atomic_load(&w->value) == old) futex(&w->value, FUTEX_WAIT, old);
    atomic_fetch_sub(&w->n_sleeping, 1);
}

static void word_set(shared_word *w, unsigned value)
{
    atomic_store(&w->value, value);
    if (atomic_load(&w->n_sleeping) > 0) futex(&w->value, FUTEX_WAKE, INT32_MAX);
}

/* With fewer processors than ranks, spinning only keeps the rank from running that is waited for.
 * Chosen again for each sum: who may run where is not known before every rank has opened. */
static void spins_choose(shm_comm *c)
{
    region_header *h = header_of(c->region);
    int n_cpus = 0;
    for (int i = 0; i < CPU_WORDS; i++) n_cpus += __builtin_popcountll(atomic_load(&h->cpus[i]));
    c->n_spins_max = n_cpus >= c->base.tp_size * c->base.n_stages ? SPINS_MAX : 0;
    if (c->n_spins > c->n_spins_max) c->n_spins = c->n_spins_max;
}

static void barrier_wait(shm_comm *c)
{
    barrier *b = c->barrier;
    unsigned generation = atomic_load_explicit(&b->generation.value, memory_order_relaxed);
    unsigned n = atomic_fetch_add_explicit(&b->n_arrived, 1, memory_order_acq_rel) + 1;
    if (n == (unsigned)c->base.tp_size) {
        /* Nobody arrives again before the generation moves. */
        atomic_store_explicit(&b->n_arrived, 0, memory_order_relaxed);
        word_set(&b->generation, generation + 1);
    } else {
        word_await(c, &b->generation, generation);
    }
}

/* ---- sums ---- */

static shm_comm *shm_of(pr_comm *c)
{
    return (shm_comm *)(void *)c;
}

static float *part_of(const shm_comm *c, uint64_t i_piece, int rank)
{
    size_t i = (size_t)(i_piece % SETS) * (size_t)c->base.tp_size + (size_t)rank;
    return c->parts + i * PART_FLOATS;
}

static size_t piece_floats(int64_t n, int64_t i)
{
    int64_t left = n - i * PART_FLOATS;
    return (size_t)(left < PART_FLOATS ? left : PART_FLOATS);
}

/* first[i] = ((x0[i] + x1[i]) + x2[i]) + …, this rank's slice of the piece's n elements. */
static void slice_sum(const shm_comm *c, uint64_t i_piece, size_t n)
{
    size_t n_ranks = (size_t)c->base.tp_size, rank = (size_t)c->base.tp_rank;
    size_t n_lines = (n + SUM_FLOATS - 1) / SUM_FLOATS;
    size_t begin = n_lines * rank / n_ranks * SUM_FLOATS;
    size_t end = n_lines * (rank + 1) / n_ranks * SUM_FLOATS;
    float *first = part_of(c, i_piece, 0);
    /* A part is whole lines long: past n old values are added, and nobody reads them. */
    for (size_t i = begin; i < end; i += SUM_FLOATS) {
        float sum[SUM_FLOATS];
        memcpy(sum, first + i, sizeof sum);
        for (size_t r = 1; r < n_ranks; r++) {
            const float *x = first + r * PART_FLOATS + i;
            for (size_t k = 0; k < SUM_FLOATS; k++) sum[k] += x[k];
        }
        memcpy(first + i, sum, sizeof sum);
    }
}

static pr_status reduce(shm_comm *c, float *x, int64_t n, bool receives)
{
    int64_t n_pieces = (n + PART_FLOATS - 1) / PART_FLOATS;
    spins_choose(c);
    for (int64_t i = 0; i < n_pieces + 2; i++) {
        uint64_t i_piece = c->i_piece + (uint64_t)i;
        if (i < n_pieces) {
            memcpy(part_of(c, i_piece, c->base.tp_rank), x + i * PART_FLOATS,
                   piece_floats(n, i) * sizeof *x);
        }
        if (i >= 1 && i - 1 < n_pieces) slice_sum(c, i_piece - 1, piece_floats(n, i - 1));
        if (i >= 2 && receives) {
            memcpy(x + (i - 2) * PART_FLOATS, part_of(c, i_piece - 2, 0),
                   piece_floats(n, i - 2) * sizeof *x);
        }
        if (i < n_pieces + 1) barrier_wait(c);
    }
    c->i_piece += (uint64_t)n_pieces;
    return PR_OK;
}

static pr_status shm_all_reduce(pr_comm *base, void *x, int64_t n, pr_dtype dtype, pr_error *err)
{
    (void)err;
    assert(dtype == PR_DTYPE_F32);
    (void)dtype;
    return base->tp_size == 1 ? PR_OK : reduce(shm_of(base), x, n, true);
}

static pr_status shm_reduce_to(pr_comm *base, void *x, int64_t n, pr_dtype dtype, int root,
                               pr_error *err)
{
    (void)err;
    assert(dtype == PR_DTYPE_F32);
    (void)dtype;
    assert(root >= 0 && root < base->tp_size);
    return base->tp_size == 1 ? PR_OK : reduce(shm_of(base), x, n, base->tp_rank == root);
}

static pr_status shm_all_gather(pr_comm *base, const float *src, int64_t n, float *dst,
                                pr_error *err)
{
    (void)err;
    shm_comm *c = shm_of(base);
    int64_t n_pieces = (n + PART_FLOATS - 1) / PART_FLOATS;
    spins_choose(c);
    for (int64_t i = 0; i < n_pieces; i++, c->i_piece++) {
        size_t n_bytes = piece_floats(n, i) * sizeof *dst;
        memcpy(part_of(c, c->i_piece, base->tp_rank), src + i * PART_FLOATS, n_bytes);
        barrier_wait(c);
        for (int r = 0; r < base->tp_size; r++) {
            memcpy(dst + r * n + i * PART_FLOATS, part_of(c, c->i_piece, r), n_bytes);
        }
    }
    return PR_OK;
}

/* ---- between stages ---- */

static pr_status neighbour_check(const pr_comm *c, int stage, const char *what, pr_error *err)
{
    bool is_neighbour = stage == c->stage + 1 || stage == c->stage - 1;
    if (is_neighbour && stage >= 0 && stage < c->n_stages) return PR_OK;
    return pr_error_set(err, PR_E_INTERNAL, "%s stage %d: not a neighbour of stage %d of %d", what,
                        stage, c->stage, c->n_stages);
}

static size_t slot_floats(int64_t n, int64_t i)
{
    int64_t left = n - i;
    return (size_t)(left < SLOT_FLOATS ? left : SLOT_FLOATS);
}

/* Only the sender moves n_sent, only the receiver n_received: each reads its own as it likes. */
static pr_status shm_send(pr_comm *base, const void *src, int64_t n, pr_dtype dtype, int stage,
                          pr_error *err)
{
    shm_comm *c = shm_of(base);
    const float *x = src;
    assert(dtype == PR_DTYPE_F32);
    (void)dtype;
    pr_status st = neighbour_check(base, stage, "send to", err);
    if (st != PR_OK) return st;
    mailbox *m = mailbox_of(c->region, base->stage, base->tp_rank, stage > base->stage);
    unsigned n_sent = atomic_load_explicit(&m->n_sent.value, memory_order_relaxed);
    for (int64_t i = 0; i < n; i += SLOT_FLOATS, n_sent++) {
        word_await(c, &m->n_received, n_sent - MAIL_SLOTS); /* full as long as it stands there */
        memcpy(m->slots[n_sent % MAIL_SLOTS], x + i, slot_floats(n, i) * sizeof *x);
        word_set(&m->n_sent, n_sent + 1);
    }
    return PR_OK;
}

static pr_status shm_recv(pr_comm *base, void *dst, int64_t n, pr_dtype dtype, int stage,
                          pr_error *err)
{
    shm_comm *c = shm_of(base);
    float *x = dst;
    assert(dtype == PR_DTYPE_F32);
    (void)dtype;
    pr_status st = neighbour_check(base, stage, "receive from", err);
    if (st != PR_OK) return st;
    mailbox *m = mailbox_of(c->region, stage, base->tp_rank, base->stage > stage);
    unsigned n_received = atomic_load_explicit(&m->n_received.value, memory_order_relaxed);
    for (int64_t i = 0; i < n; i += SLOT_FLOATS, n_received++) {
        word_await(c, &m->n_sent, n_received);
        memcpy(x + i, m->slots[n_received % MAIL_SLOTS], slot_floats(n, i) * sizeof *x);
        word_set(&m->n_received, n_received + 1);
    }
    return PR_OK;
}

/* ---- open and close ---- */

static void shm_close(pr_comm *c)
{
    free(c);
}

static const pr_comm_ops ops = {
    .close = shm_close,
    .all_reduce = shm_all_reduce,
    .reduce_to = shm_reduce_to,
    .all_gather = shm_all_gather,
    .send = shm_send,
    .recv = shm_recv,
};

static void cpus_tell(region_header *h)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return;
    for (int i = 0; i < CPU_WORDS * 64 && i < CPU_SETSIZE; i++) {
        if (CPU_ISSET(i, &set)) atomic_fetch_or(&h->cpus[i / 64], 1ull << (i % 64));
    }
}

pr_status pr_comm_shm_create(pr_shm_region *region, int rank, pr_comm **out, pr_error *err)
{
    assert(rank >= 0 && rank < region->tp_size * region->n_stages);
    shm_comm *c = calloc(1, sizeof *c);
    if (!c) return pr_error_nomem(err, "communicator", sizeof *c);
    int stage = rank / region->tp_size;
    c->base = (pr_comm){.ops = &ops, .name = "shm", .tp_rank = rank % region->tp_size,
                        .tp_size = region->tp_size, .stage = stage,
                        .n_stages = region->n_stages};
    c->region = region;
    c->n_spins = SPINS_MAX;
    c->barrier = barrier_of(region, stage);
    c->parts = (float *)(void *)((char *)c->barrier + line_up(sizeof(barrier)));
    cpus_tell(header_of(region));
    *out = &c->base;
    return PR_OK;
}
