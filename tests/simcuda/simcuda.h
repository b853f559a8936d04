/* simcuda.h: how a test steers the simulated CUDA device, and asks what it found.
 *
 * There is one device in a process, used from one thread. Owns: everything the CUDA runtime's
 * subset in runtime.cpp hands out. Called by tests only. */
#ifndef SIMCUDA_H
#define SIMCUDA_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum pr_sim_order { PR_SIM_FORWARD, PR_SIM_REVERSE, PR_SIM_RANDOM } pr_sim_order;

/* When a cp.async writes: as late as it may (at the wait), as early as it may, or drawn for
 * each. */
typedef enum pr_sim_copies { PR_SIM_DEFERRED, PR_SIM_EAGER, PR_SIM_MIXED } pr_sim_copies;

typedef struct pr_sim_config {
    int arch;             /* 80, 90, 100 or 120: capability and limits of shared memory */
    pr_sim_order order;   /* of the blocks of a grid, the threads of a block, and the streams */
    pr_sim_copies copies;
    uint64_t seed;        /* of RANDOM and MIXED */
} pr_sim_config;

/* Drops what is queued and what was found, and starts anew; memory stays. */
void pr_sim_reset(const pr_sim_config *config);

/* What the device found first ("simcuda: divergent barrier: ..."), or NULL. Valid until reset. */
const char *pr_sim_fault(void);

/* Bytes of device memory not yet freed: 0 at the end of a test without a leak. */
uint64_t pr_sim_bytes_in_use(void);

#ifdef __cplusplus
}
#endif
#endif
