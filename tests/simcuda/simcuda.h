/* simcuda.h: how a test steers the simulated CUDA devices, and asks what they found.
 *
 * All devices of a process are steered together. Called by tests only, on one thread; a program
 * that loads the simulated plug-in is steered by the environment, which is read at the first call
 * of the CUDA runtime and which pr_sim_reset overrides:
 *
 *   POOLRANK_SIM_DEVICES=N         how many devices there are (1, at most 64); a list of numbers in
 *                                  CUDA_VISIBLE_DEVICES chooses from them as on hardware
 *   POOLRANK_SIM_MEMORY=BYTES      memory of each (8 GiB). Other processes do not count.
 *   POOLRANK_SIM_ARCH=90           80, 90, 100 or 120
 *   POOLRANK_SIM_ORDER=forward     or reverse, random: see pr_sim_order
 *   POOLRANK_SIM_COPIES=deferred   or eager, mixed: see pr_sim_copies
 *   POOLRANK_SIM_SEED=1            of random and mixed
 *   POOLRANK_SIM_PINNED=1          an asynchronous copy to or from pageable memory is a fault
 *   POOLRANK_SIM_FAIL_ALLOC=N      the N-th allocation fails
 *   POOLRANK_SIM_FAIL_COPY=N       the N-th copy in a stream fails, and with it the device
 *   POOLRANK_SIM_NCCL_TIMEOUT_MS=30000  after which a peer that does not come counts as dead
 *   POOLRANK_SIM_NCCL_RING=1       sums are added in a ring's order, see nccl.cpp
 *
 * What is found is printed to standard error, once, and every later call fails. */
#ifndef SIMCUDA_H
#define SIMCUDA_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of the blocks of a grid, and the threads of a block. And when a stream's work is done: forward,
 * nothing before somebody waits for it, or asks (cudaEventQuery, cudaStreamQuery) a second time;
 * reverse, copies, memsets and waits as soon as all before them is done, kernels late; random,
 * anything early by draw. */
typedef enum pr_sim_order { PR_SIM_FORWARD, PR_SIM_REVERSE, PR_SIM_RANDOM } pr_sim_order;

/* When a cp.async writes: as late as it may (at the wait), as early as it may, or drawn for
 * each. */
typedef enum pr_sim_copies { PR_SIM_DEFERRED, PR_SIM_EAGER, PR_SIM_MIXED } pr_sim_copies;

typedef struct pr_sim_config {
    int arch;             /* 80, 90, 100 or 120: capability and limits of shared memory */
    pr_sim_order order;
    pr_sim_copies copies;
    uint64_t seed;        /* of RANDOM and MIXED */
} pr_sim_config;

/* Drops what is queued and what was found, and starts anew with one device of 8 GiB; memory
 * stays. */
void pr_sim_reset(const pr_sim_config *config);

/* After pr_sim_reset. n: at most 64; memory_bytes: of each. */
void pr_sim_devices_set(int n, uint64_t memory_bytes);
/* Whether an asynchronous copy to or from pageable memory is a fault. */
void pr_sim_require_pinned(bool is_required);
/* The n-th allocation from now on, of device or pinned memory, fails; 0: none. */
void pr_sim_fail_alloc(uint64_t n);
/* The n-th copy or memset that a stream does from now on fails as a memory error of the hardware
 * does: nothing on the device is of use afterwards. 0: none. */
void pr_sim_fail_copy(uint64_t n);

/* What the device found first ("simcuda: divergent barrier: ..."), or NULL. Valid until reset. */
const char *pr_sim_fault(void);

/* Bytes of device memory, and of pinned memory, not yet freed: 0 at the end of a test without a
 * leak. */
uint64_t pr_sim_bytes_in_use(void);
uint64_t pr_sim_pinned_in_use(void);

#ifdef __cplusplus
}
#endif
#endif
