/* block.cpp: runs the blocks of a grid, one after the other, each thread on a fiber.
 *
 * The scheduler runs warp after warp in the order asked for, each thread until it waits: at a
 * barrier, in a warp operation, or for ever. When nobody can run, the block has met at a barrier or
 * is divergent. Never compiled with a sanitizer: what the kernel itself does must stand out from
 * what the simulator does. No libstdc++ here, whose code would be instrumented.
 *
 * Happens-before, told to the thread sanitizer: launch -> thread; all of a block's threads -> all
 * of them at __syncthreads, all lanes -> all lanes at __syncwarp; nothing at shuffles, ldmatrix or
 * mma, which order no memory on the hardware; nothing between blocks; grid -> launcher.
 * Two variables a barrier, used by turns: with one, a thread that runs ahead to the next barrier
 * would be ordered before one that has not left this one, and its races would be hidden. */
#include "tests/simcuda/sim.h"
#include "tests/simcuda/fiber.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include "tests/simcuda/simcuda/device.h" /* its macros: after the CUDA headers */

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim

enum { LANES = 32, THREADS_MAX = 1024, ARRAYS_MAX = 16, COPIES_MAX = 512, GROUPS_MAX = 8 };
enum { CANARY_BYTES = 64, STATIC_MAX = 48 * 1024 };
#ifdef SIM_TSAN
enum { STACK_BYTES = 96 * 1024 };
#else
enum { STACK_BYTES = 256 * 1024 };
#endif

typedef enum wait_kind {
    WAIT_NONE,
    WAIT_THREADS,
    WAIT_SYNCWARP,
    WAIT_SHUFFLE,
    WAIT_BALLOT,
    WAIT_LDMATRIX,
    WAIT_MMA_BF16,
    WAIT_MMA_F16,
    WAIT_DONE
} wait_kind;

static const char *const wait_names[] = {
    "running", "__syncthreads", "__syncwarp", "a shuffle", "a ballot", "ldmatrix", "mma",
    "mma", "its end",
};

/* What a lane brings to a warp operation, and what it takes away. */
typedef struct exchange {
    uint32_t bits;
    int lane;
    const unsigned char *address;
    const unsigned char *rows[4];
    uint32_t a[4], b[2];
    float d[4];
} exchange;

typedef struct group_end {
    unsigned n_copies; /* of the queue, up to and with this group */
} group_end;

typedef struct thread {
    fiber strand;
    pr_sim_index index;
    wait_kind wait;
    const char *file; /* of the wait */
    int line;
    unsigned i_barrier, i_warp_barrier;
    exchange swap;
    pr_sim_copy copies[COPIES_MAX]; /* promised, oldest first */
    unsigned n_copies, n_done;
    group_end groups[GROUPS_MAX];
    unsigned n_groups;
} thread;

typedef struct shared_array {
    const char *file;
    int line;
    unsigned char *data;
    size_t n_bytes;
} shared_array;

typedef struct block_state {
    const sim_launch *launch;
    const pr_sim_config *config;
    uint64_t *random;
    fiber_host host;
    thread *threads; /* of this block: one of the pool's two sets */
    unsigned n_threads;
    thread *now;
    shared_array arrays[ARRAYS_MAX]; /* [0] is the dynamic one */
    unsigned n_arrays;
    size_t shared_bytes;
    bool is_broken;
    char barriers[2], start, end;      /* addresses for happens-before */
    char warps[THREADS_MAX / LANES][2];
    unsigned order[THREADS_MAX];
} block_state;

/* Threads, their stacks, and the sanitizer's idea of them live on from block to block: to make them
 * anew takes TSan a millisecond each. A stack always goes with the same TSan fiber, so that its
 * memory never changes hands. Two sets, for even and odd blocks: neighbours in time are different
 * TSan threads, and races between blocks stand out (but for the same thread of blocks 2 apart). */
typedef struct thread_pool {
    thread *threads[2]; /* [THREADS_MAX] */
    unsigned char *stacks[2];
} thread_pool;
static thread_pool pool;

/* The one piece of state that has no handle: device code cannot be passed one. */
static block_state *state;

/* ---- waiting ---- */
static void wait_for(wait_kind kind, const char *file, int line)
{
    thread *t = state->now;
    t->wait = kind;
    t->file = file;
    t->line = line;
}

static void yield(void)
{
    thread *t = state->now;
    fiber_yield(&state->host, &t->strand, false);
}

static const char *short_name(const char *file)
{
    const char *name = file;
    for (const char *c = file; *c; c++)
        if (*c == '/') name = c + 1;
    return name;
}

static void fault_at(const thread *t, const char *what)
{
    sim_fault_set("%s: kernel %s, block %u,%u, thread %u, %s:%d", what, state->launch->name,
                  t->index.block.x, t->index.block.y, t->index.thread.x,
                  short_name(t->file ? t->file : "?"), t->line);
    state->is_broken = true;
}

static void divergence_report(void)
{
    const thread *a = NULL, *b = NULL;
    for (unsigned i = 0; i < state->n_threads && !b; i++) {
        const thread *t = &state->threads[i];
        if (!a)
            a = t;
        else if (t->wait != a->wait || t->line != a->line || t->file != a->file)
            b = t;
    }
    if (!b) b = a;
    sim_fault_set("divergent barrier: kernel %s, block %u,%u: thread %u waits for %s at %s:%d, "
                  "thread %u for %s at %s:%d",
                  state->launch->name, a->index.block.x, a->index.block.y, a->index.thread.x,
                  wait_names[a->wait], short_name(a->file ? a->file : "?"), a->line,
                  b->index.thread.x, wait_names[b->wait], short_name(b->file ? b->file : "?"),
                  b->line);
    state->is_broken = true;
}

extern "C" const pr_sim_index *pr_sim_here(void)
{
    return &state->now->index;
}

extern "C" void pr_sim_sync_threads(const char *file, int line)
{
    thread *t = state->now;
    char *edge = &state->barriers[t->i_barrier++ % 2];
    fiber_release(edge);
    wait_for(WAIT_THREADS, file, line);
    yield();
    fiber_acquire(edge);
}

/* ---- warp operations ---- */
static thread *warp_of(const thread *t)
{
    return &state->threads[t->index.thread.x / LANES * LANES];
}

static float widen(uint32_t number, bool is_bf16)
{
    if (is_bf16) {
        const uint32_t bits = number << 16;
        float f;
        __builtin_memcpy(&f, &bits, sizeof f);
        return f;
    }
    __half_raw raw;
    raw.x = (unsigned short)number;
    return __half2float(__half(raw));
}

static float half_at(const uint32_t *registers, int i, bool is_bf16)
{
    return widen(registers[i / 2] >> (i % 2 * 16) & 0xffffu, is_bf16);
}

/* D = A B + D of 16 x 8 x 16. Element i of lane l, with g = l / 4 and m = l % 4, is
 *     A: row g (+ 8 if i is 2, 3, 6, 7), column 2 m + i % 2 (+ 8 if i >= 4)
 *     B: row 2 m + i % 2 (+ 8 if i >= 2), column g
 *     D: row g (+ 8 if i >= 2), column 2 m + i % 2
 * PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type".
 * The products are exact, their sum over k is in f64, and D is rounded once. The hardware adds in
 * f32 with an order and a rounding that are not documented. */
static void mma_do(thread *warp, bool is_bf16)
{
    float a[16][16], b[8][16], d[16][8];
    for (int l = 0; l < LANES; l++) {
        const exchange *x = &warp[l].swap;
        const int g = l / 4, m = l % 4;
        for (int i = 0; i < 8; i++)
            a[g + (i & 2 ? 8 : 0)][2 * m + i % 2 + (i >= 4 ? 8 : 0)] = half_at(x->a, i, is_bf16);
        for (int i = 0; i < 4; i++)
            b[g][2 * m + i % 2 + (i >= 2 ? 8 : 0)] = half_at(x->b, i, is_bf16);
        for (int i = 0; i < 4; i++) d[g + (i >= 2 ? 8 : 0)][2 * m + i % 2] = x->d[i];
    }
    for (int r = 0; r < 16; r++) {
        for (int c = 0; c < 8; c++) {
            double sum = 0;
            for (int k = 0; k < 16; k++) sum += (double)a[r][k] * b[c][k];
            d[r][c] = (float)(d[r][c] + sum);
        }
    }
    for (int l = 0; l < LANES; l++) {
        const int g = l / 4, m = l % 4;
        for (int i = 0; i < 4; i++)
            warp[l].swap.d[i] = d[g + (i >= 2 ? 8 : 0)][2 * m + i % 2];
    }
}

/* All 32 lanes are here: what each of them takes away. */
static void warp_complete(thread *warp, wait_kind kind)
{
    uint32_t values[LANES], ballot = 0;
    const unsigned char *addresses[LANES];
    for (int l = 0; l < LANES; l++) {
        values[l] = warp[l].swap.bits;
        addresses[l] = warp[l].swap.address;
        ballot |= (warp[l].swap.bits & 1u) << l;
    }
    if (kind == WAIT_MMA_BF16 || kind == WAIT_MMA_F16) mma_do(warp, kind == WAIT_MMA_BF16);
    for (int l = 0; l < LANES; l++) {
        exchange *x = &warp[l].swap;
        if (kind == WAIT_SHUFFLE) x->bits = values[x->lane % LANES];
        if (kind == WAIT_BALLOT) x->bits = ballot;
        for (int m = 0; kind == WAIT_LDMATRIX && m < 4; m++) {
            const int row = x->lane == 0 ? l / 4 : 2 * (l % 4) + x->lane - 1;
            x->rows[m] = addresses[8 * m + row];
        }
        warp[l].wait = WAIT_NONE;
    }
}

/* The caller has filled t->swap. */
static void warp_meet(wait_kind kind, const char *file, int line)
{
    thread *t = state->now, *warp = warp_of(t);
    wait_for(kind, file, line);
    for (int l = 0; l < LANES; l++) {
        const thread *other = &warp[l];
        if (other->wait != kind || other->line != line || other->file != file) {
            yield();
            return;
        }
    }
    warp_complete(warp, kind);
}

extern "C" void pr_sim_sync_warp(const char *file, int line)
{
    thread *t = state->now;
    char *edge = &state->warps[t->index.thread.x / LANES][t->i_warp_barrier++ % 2];
    fiber_release(edge);
    warp_meet(WAIT_SYNCWARP, file, line);
    fiber_acquire(edge);
}

extern "C" uint32_t pr_sim_shuffle(uint32_t value, int from_lane, const char *file, int line)
{
    thread *t = state->now;
    t->swap.bits = value;
    t->swap.lane = from_lane;
    warp_meet(WAIT_SHUFFLE, file, line);
    return t->swap.bits;
}

extern "C" uint32_t pr_sim_ballot(int predicate, const char *file, int line)
{
    thread *t = state->now;
    t->swap.bits = predicate ? 1 : 0;
    warp_meet(WAIT_BALLOT, file, line);
    return t->swap.bits;
}

extern "C" void pr_sim_ldmatrix_rows(const void *address, const unsigned char *rows[4],
                                     int transposed, const char *file, int line)
{
    thread *t = state->now;
    t->swap.address = (const unsigned char *)address;
    t->swap.lane = transposed;
    warp_meet(WAIT_LDMATRIX, file, line);
    for (int m = 0; m < 4; m++) rows[m] = t->swap.rows[m];
    if ((uintptr_t)address % 16) fault_at(t, "ldmatrix: a row that is not aligned to 16 bytes");
}

extern "C" void pr_sim_mma(float d[4], const uint32_t a[4], const uint32_t b[2], int is_bf16,
                           const char *file, int line)
{
    thread *t = state->now;
    for (int i = 0; i < 4; i++) {
        t->swap.a[i] = a[i];
        t->swap.d[i] = d[i];
    }
    for (int i = 0; i < 2; i++) t->swap.b[i] = b[i];
    warp_meet(is_bf16 ? WAIT_MMA_BF16 : WAIT_MMA_F16, file, line);
    for (int i = 0; i < 4; i++) d[i] = t->swap.d[i];
}

/* ---- shared memory: on the heap, so that the address sanitizer puts red zones around it ---- */
static unsigned char *array_make(size_t n_bytes, const char *file, int line)
{
    assert(state->n_arrays < ARRAYS_MAX);
    shared_array *a = &state->arrays[state->n_arrays++];
    *a = shared_array{file, line, NULL, n_bytes};
    size_t n_more = 0;
#ifndef SIM_ASAN
    n_more = CANARY_BYTES;
#endif
    fiber_ignore_begin();
    void *data = NULL;
    /* not 0 bytes: one array has one address */
    const int failed = posix_memalign(&data, 128, n_bytes + n_more > 0 ? n_bytes + n_more : 1);
    fiber_ignore_end();
    assert(!failed);
    a->data = (unsigned char *)data;
    sim_poison(a->data, n_bytes + n_more);
    return a->data;
}

static bool canary_is_intact(const shared_array *a)
{
#ifdef SIM_ASAN
    (void)a;
#else
    for (size_t i = 0; i < CANARY_BYTES; i++)
        if (a->data[a->n_bytes + i] != ((a->n_bytes + i) % 2 ? 0x7f : 0xff)) return false;
#endif
    return true;
}

static void arrays_free(void)
{
    for (unsigned i = 0; i < state->n_arrays; i++) {
        if (!canary_is_intact(&state->arrays[i])) {
            sim_fault_set("shared memory written beyond its end: kernel %s, array of %zu bytes",
                          state->launch->name, state->arrays[i].n_bytes);
        }
        fiber_ignore_begin();
        free(state->arrays[i].data);
        fiber_ignore_end();
    }
    state->n_arrays = 0;
}

extern "C" void *pr_sim_shared(size_t n_bytes, const char *file, int line)
{
    for (unsigned i = 1; i < state->n_arrays; i++)
        if (state->arrays[i].line == line && state->arrays[i].file == file)
            return state->arrays[i].data;
    state->shared_bytes += n_bytes;
    if (state->shared_bytes > state->launch->shared_max ||
        state->shared_bytes - state->arrays[0].n_bytes > STATIC_MAX) {
        sim_fault_set("shared memory: kernel %s: %zu bytes, the limit is %zu (static: %d)",
                      state->launch->name, state->shared_bytes, state->launch->shared_max,
                      (int)STATIC_MAX);
        state->is_broken = true;
    }
    return array_make(n_bytes, file, line);
}

extern "C" void *pr_sim_shared_dynamic(void)
{
    return state->arrays[0].data;
}

/* ---- cp.async ---- */
extern "C" bool pr_sim_copy_issue(pr_sim_copy copy)
{
    thread *t = state->now;
    if ((uintptr_t)copy.to % 16 || (uintptr_t)copy.from % 16)
        fault_at(t, "cp.async: an address that is not aligned to 16 bytes");
    const pr_sim_copies mode = state->config->copies;
    if (mode == PR_SIM_EAGER || (mode == PR_SIM_MIXED && sim_random(state->random) >> 63))
        return true;
    assert(t->n_copies < COPIES_MAX);
    t->copies[t->n_copies++] = copy;
    return false;
}

extern "C" void pr_sim_copy_commit(void)
{
    thread *t = state->now;
    assert(t->n_groups < GROUPS_MAX);
    t->groups[t->n_groups++].n_copies = t->n_copies;
}

extern "C" bool pr_sim_copy_due(int n_groups, pr_sim_copy *out)
{
    thread *t = state->now;
    const unsigned keep = (unsigned)n_groups;
    const unsigned n_due = t->n_groups > keep ? t->groups[t->n_groups - keep - 1].n_copies : 0;
    if (t->n_done < n_due) {
        *out = t->copies[t->n_done++];
        return true;
    }
    /* all that is due is done: move the rest to the front */
    const unsigned n_dropped = t->n_groups > keep ? t->n_groups - keep : 0;
    for (unsigned i = n_due; i < t->n_copies; i++) t->copies[i - n_due] = t->copies[i];
    for (unsigned i = n_dropped; i < t->n_groups; i++)
        t->groups[i - n_dropped].n_copies = t->groups[i].n_copies - n_due;
    t->n_groups -= n_dropped;
    t->n_copies -= n_due;
    t->n_done = 0;
    return false;
}

/* ---- a block ---- */
static void thread_main(void)
{
    thread *t = state->now;
    fiber_entered(&state->host, &t->strand);
    fiber_acquire(&state->start);
    state->launch->run(state->launch->args);
    t = state->now;
    fiber_release(&state->end);
    if (t->n_copies > 0) fault_at(t, "cp.async: copies that nobody waited for");
    t->wait = WAIT_DONE;
    fiber_yield(&state->host, &t->strand, true);
    assert(!"a finished thread was resumed");
}

static void threads_make(uint3 block_index, unsigned i_set)
{
    fiber_ignore_begin();
    state->threads = pool.threads[i_set];
    for (unsigned i = 0; i < state->n_threads; i++) {
        thread *t = &state->threads[i];
        t->wait = WAIT_NONE;
        t->file = NULL;
        t->line = 0;
        t->i_barrier = t->i_warp_barrier = t->n_copies = t->n_done = t->n_groups = 0;
        t->swap = exchange{};
        t->index.thread = uint3{i, 0, 0};
        t->index.block = block_index;
        t->index.block_dim = state->launch->block;
        t->index.grid_dim = state->launch->grid;
        fiber_init(&t->strand, pool.stacks[i_set] + (size_t)i * STACK_BYTES, STACK_BYTES,
                   thread_main);
    }
    fiber_ignore_end();
}

static void pool_make(void)
{
    for (int i = 0; i < 2 && !pool.threads[i]; i++) {
        pool.threads[i] = (thread *)calloc(THREADS_MAX, sizeof(thread));
        pool.stacks[i] = (unsigned char *)malloc((size_t)THREADS_MAX * STACK_BYTES);
        assert(pool.threads[i]);
        assert(pool.stacks[i]);
    }
}

/* After a grid that was given up: its threads stand in the middle of something. */
static void pool_free(void)
{
    for (int i = 0; i < 2; i++) {
        for (unsigned j = 0; j < THREADS_MAX; j++) fiber_deinit(&pool.threads[i][j].strand);
        free(pool.threads[i]);
        free(pool.stacks[i]);
    }
    pool = thread_pool{};
}

static bool all_wait_alike(void)
{
    const thread *first = &state->threads[0];
    for (unsigned i = 0; i < state->n_threads; i++) {
        const thread *t = &state->threads[i];
        if (t->wait != WAIT_THREADS || t->line != first->line || t->file != first->file)
            return false;
    }
    return true;
}

static bool thread_run(unsigned i)
{
    thread *t = &state->threads[i];
    if (t->wait != WAIT_NONE || state->is_broken) return false;
    state->now = t;
    fiber_resume(&state->host, &t->strand);
    return true;
}

/* Every thread once, in the order of state->order; how many ran. */
static unsigned threads_pass(void)
{
    unsigned n_ran = 0;
    for (unsigned i = 0; i < state->n_threads; i++) n_ran += thread_run(state->order[i]);
    return n_ran;
}

/* Warp after warp, each as far as it gets before the next begins: the most that one warp can be
 * ahead of another, which is what shows that a barrier is missing. */
static unsigned warps_pass(void)
{
    unsigned n_ran = 0;
    for (unsigned i = 0; i < state->n_threads; i += LANES) {
        const unsigned first = state->order[i] / LANES * LANES;
        for (bool is_moving = true; is_moving;) {
            is_moving = false;
            for (unsigned l = 0; l < LANES; l++) {
                const bool has_run = thread_run(first + state->order[l] % LANES);
                is_moving |= has_run;
                n_ran += has_run;
            }
        }
    }
    return n_ran;
}

/* In random order by turns a warp ahead of others, and lanes of all warps mixed. */
static unsigned some_pass(void)
{
    if (state->config->order != PR_SIM_RANDOM) return warps_pass();
    sim_order_fill(state->order, state->n_threads, PR_SIM_RANDOM, state->random);
    if (sim_random(state->random) >> 63) return threads_pass();
    const unsigned first = state->order[0] / LANES * LANES;
    unsigned n_ran = 0;
    for (bool is_moving = true; is_moving;) {
        is_moving = false;
        for (unsigned l = 0; l < LANES; l++) {
            const bool has_run = thread_run(first + l);
            is_moving |= has_run;
            n_ran += has_run;
        }
    }
    return n_ran + threads_pass();
}

static void block_run(uint3 block_index, unsigned i_set)
{
    state->shared_bytes = state->launch->shared_bytes;
    array_make(state->launch->shared_bytes, NULL, 0);
    threads_make(block_index, i_set);
    sim_order_fill(state->order, state->n_threads, state->config->order, state->random);
    for (bool is_over = false; !is_over && !state->is_broken;) {
        if (some_pass() > 0) continue;
        if (all_wait_alike()) {
            for (unsigned i = 0; i < state->n_threads; i++) state->threads[i].wait = WAIT_NONE;
            continue;
        }
        is_over = true;
        for (unsigned i = 0; i < state->n_threads; i++)
            if (state->threads[i].wait != WAIT_DONE) is_over = false;
        if (!is_over && !state->is_broken) divergence_report();
    }
    arrays_free();
}

static block_state *state_make(const sim_launch *launch, const pr_sim_config *config,
                               uint64_t *random)
{
    block_state *s = (block_state *)calloc(1, sizeof *s);
    assert(s);
    s->launch = launch;
    s->config = config;
    s->random = random;
    s->n_threads = launch->block.x;
    return s;
}

void sim_grid_run(const sim_launch *launch, const pr_sim_config *config, uint64_t *random)
{
    assert(!state);
    assert(launch->block.x % LANES == 0 && launch->block.x <= THREADS_MAX);
    fiber_ignore_begin();
    pool_make();
    state = state_make(launch, config, random);
    const unsigned n_blocks = launch->grid.x * launch->grid.y;
    unsigned *order = (unsigned *)malloc(n_blocks * sizeof *order);
    fiber_ignore_end();
    assert(order);
    sim_order_fill(order, n_blocks, config->order, random);
    fiber_release(&state->start);
    for (unsigned i = 0; i < n_blocks && !state->is_broken; i++)
        block_run(uint3{order[i] % launch->grid.x, order[i] / launch->grid.x, 0}, i % 2);
    fiber_acquire(&state->end);
    fiber_ignore_begin();
    if (state->is_broken) pool_free();
    free(order);
    free(state);
    fiber_ignore_end();
    state = NULL;
}
