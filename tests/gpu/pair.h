/* tests/gpu/pair.h: two ranks of a group as two processes, each with a device of its own and NCCL
 * between them.
 *
 * Owns the processes. CUDA does not survive a fork: the plug-in is loaded in each of them. */
#ifndef POOLRANK_TESTS_GPU_PAIR_H
#define POOLRANK_TESTS_GPU_PAIR_H

#include "tests/gpu/gpu.h"

enum { PAIR_RANKS = 2 };

typedef struct pair_rank {
    gpu *g;
    int rank;
    pr_backend *b;
    pr_comm *comm; /* closed by the body, or the end of the process */
} pair_rank;

/* Runs body on both ranks, rank r on the r-th device, and waits for both. Rank 0 reports. g: from
 * gpu_open_line. The exit status: rank 0's; 3 where there are fewer than two devices. */
int pair_run(gpu *g, int (*body)(pair_rank *r));

#endif
