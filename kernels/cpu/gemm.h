/* kernels/cpu/gemm.h: matrix multiplication over the threads of a pool.
 *
 * Owns nothing: weights, pool and scratch are the backend's. Called on the compute thread.
 *
 * The output is cut into tasks of some rows by some panels. A task prepares its rows of x, one
 * block of K at a time, and runs tiles over it; partial sums wait in scratch between blocks of K:
 *
 *              panels of W ->                  for each block of K:
 *           +-------+-------+-------+            prepare x [rows, K block]
 *   rows of | task  |       |       |            for each panel:
 *      x    +-------+-------+-------+              for each tile of rows: sums += x W
 *      |    |       |       |       |              after the last block: bias, activation, residual
 *      v    +-------+-------+-------+
 *
 * No bit of the result depends on the cut: see gemm_tile.h. */
#ifndef POOLRANK_KERNELS_CPU_GEMM_H
#define POOLRANK_KERNELS_CPU_GEMM_H

#include "kernels/backend.h"
#include "kernels/cpu/gemm_tile.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/pool.h"

/* What one thread works in; contents mean nothing between calls. */
typedef struct pr_cpu_gemm_scratch {
    _Alignas(64) char x[PR_CPU_GEMM_X_BYTES];
    _Alignas(64) float sums[PR_CPU_GEMM_ROWS_MAX * PR_CPU_GEMM_COLUMNS_MAX];
    _Alignas(64) float gate[PR_CPU_GEMM_MR_MAX * PR_CPU_GEMM_NR_MAX / 2];
    _Alignas(64) float up[PR_CPU_GEMM_MR_MAX * PR_CPU_GEMM_NR_MAX / 2];
} pr_cpu_gemm_scratch;

/* How the output is cut. Pure. */
typedef struct pr_cpu_gemm_cut {
    int64_t n_row_blocks;
    int64_t n_panel_blocks; /* tasks: n_row_blocks * n_panel_blocks */
} pr_cpu_gemm_cut;

/* n_rows, n_panels >= 1. */
pr_cpu_gemm_cut pr_cpu_gemm_cut_choose(const pr_cpu_gemm_kernels *kernels, int64_t n_rows,
                                       int64_t n_panels, int64_t n_in, int n_threads);

/* Whether a task prepares all of its x at once; then it may have any number of columns. */
bool pr_cpu_gemm_x_fits(const pr_cpu_gemm_kernels *kernels, int64_t n_rows, int64_t n_in);

/* Multiplies as a->w->kernels does it. rowwise: for activations. scratch: [n_threads], one for each
 * thread of the pool. */
void pr_cpu_gemm_run(const pr_cpu_rowwise *rowwise, pr_cpu_pool *pool, pr_cpu_gemm_scratch *scratch,
                     const pr_gemm *a);

#endif
