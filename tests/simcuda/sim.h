/* sim.h: between the two halves of the simulated device: blocks of threads (block.cpp) and the
 * runtime's subset (runtime.cpp). */
#ifndef SIMCUDA_SIM_H
#define SIMCUDA_SIM_H

#include "tests/simcuda/simcuda.h"

#include <cuda_runtime.h>

#include <stddef.h>

typedef struct sim_launch {
    const char *name;
    dim3 grid;
    dim3 block;
    size_t shared_bytes;
    size_t shared_max; /* static and dynamic together */
    void (*run)(const void *args);
    const void *args;
} sim_launch;

/* Runs a whole grid; what it finds goes to sim_fault_set. */
void sim_grid_run(const sim_launch *launch, const pr_sim_config *config, uint64_t *random);

/* Keeps the first message and prints it. */
void sim_fault_set(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* xorshift64*: Vigna 2016, "An experimental exploration of Marsaglia's xorshift generators". */
static inline uint64_t sim_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545F4914F6CDD1Dull;
}

/* order[0 .. n-1]: the numbers below n in the order that the mode says. */
static inline void sim_order_fill(unsigned *order, unsigned n, pr_sim_order mode, uint64_t *random)
{
    for (unsigned i = 0; i < n; i++) order[i] = mode == PR_SIM_REVERSE ? n - 1 - i : i;
    if (mode != PR_SIM_RANDOM) return;
    for (unsigned i = n; i > 1; i--) {
        const unsigned j = (unsigned)(sim_random(random) % i), kept = order[i - 1];
        order[i - 1] = order[j];
        order[j] = kept;
    }
}

/* Fills with 0x7fff words: NaN as f32 (0x7fff7fff), bf16 and f16. */
static inline void sim_poison(void *p, size_t n_bytes)
{
    unsigned char *byte = (unsigned char *)p;
    for (size_t i = 0; i < n_bytes; i++) byte[i] = i % 2 ? 0x7f : 0xff;
}

#endif
