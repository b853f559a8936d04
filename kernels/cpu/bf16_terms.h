/* kernels/cpu/bf16_terms.h: f32 values as sums of bf16 terms, in the order that bf16 tiles read.
 *
 *   v = t0 + t1 + t2,   t0 = bf16(v),  t1 = bf16(v - t0),  t2 = bf16(v - t0 - t1)
 *
 * Each difference is exact, and each rest is at most 2^-9 of what was rounded: three terms hold
 * every f32 whose last bit is not below bf16's range, two hold every f16 and 16 bits of an f32.
 * Products of two terms are exact in f32. An infinity or NaN is its first term, with zeros behind
 * it; a finite v that would round to infinity is cut off instead, so that its rest is finite too.
 * Denormal terms are 0, as the tile instruction takes them.
 *
 *   y = sum of x_i w_j over i + j < max(n_x_terms, n_w_terms)
 *
 *   x and w terms   products                      error against exact, times |x||w|, about
 *   3 x 3           6: all of 2^-18 and above     3 * 2^-27
 *   3 x 2           5: w an f16                   2^-27
 *   3 x 1           3: w a bf16                   2^-27
 *   2 x 2           3                             3 * 2^-18
 *   2 x 1           2: w a bf16                   2^-18
 *   1 x 1           1                             2^-8
 *
 * One chain of sums over all of K would round each of 3 or 6 products a step against the whole sum:
 * up to 2e-6 for sums over K = 14336 that do not cancel. So with 3 terms a block of K (k_block) has
 * a chain of its own, and blocks are added up in order; with fewer terms, whose own error is
 * larger, the chain goes on from block to block.
 *
 * Layouts, for blocks of 32 k (a step; the last one is filled up with zeros):
 *
 *   panel of W:   [step][term j][half][16 pairs of k][16 columns][2]: a tile is 1 KiB, half h has
 *                 columns 16 h …, pair p has k = 2 p and 2 p + 1 of the step
 *   row tile of x: [step][term i][n_rows][32 k]
 *
 * Source: Henry, Tang, Heinecke 2019, arXiv:1904.06376. */
#ifndef POOLRANK_KERNELS_CPU_BF16_TERMS_H
#define POOLRANK_KERNELS_CPU_BF16_TERMS_H

#include "kernels/cpu/gemm_tile.h"

enum {
    PR_BF16_TERMS_MAX = 3,
    PR_BF16_STEP = 32,                     /* k of a tile instruction */
    PR_BF16_TILE = 16 * PR_BF16_STEP,      /* elements of a tile of W */
    PR_BF16_COLUMNS = 2 * PR_BF16_STEP / 2 /* of a panel: two tiles side by side */
};

/* terms[0 .. n_terms - 1] of v. */
void pr_bf16_terms_of(float v, int n_terms, uint16_t *terms);

/* As pack_w and pack_x of gemm_tile.h. */
void pr_bf16_terms_pack_w(const pr_cpu_gemm_kernels *self, const float *const *rows, int64_t n_rows,
                          int64_t k0, int64_t n_k, int64_t column, void *panel);
void pr_bf16_terms_pack_x(const pr_cpu_gemm_kernels *self, const float *x, int64_t ldx, int n_rows,
                          int64_t n_k, void *dst);

/* What the rows of the table for bf16 tiles have in common. k_block: x of a row tile is to stay in
 * L1 beside a tile's W and sums; columns: their W over k_block and their sums in L2. */
#define PR_BF16_KERNELS(n_x, n_w, columns)                                                         \
    .n_x_terms = (n_x), .n_w_terms = (n_w), .mr = 32, .nr = PR_BF16_COLUMNS,                       \
    .k_unit = PR_BF16_STEP, .k_block = PR_BF16_K_BLOCK(n_x), .rows_max = 128, .rows_min = 32,      \
    .columns_max = (columns), .is_x_kept = true, .weight_bytes = 2 * (n_w), .x_bytes = 2 * (n_x),  \
    .costs = {.rows = 32, .panel = 24, .x = 128, .task = 512}, .add_bias = add_bias,               \
    .split = split, .store = store
#define PR_BF16_K_BLOCK(n_x) ((n_x) == 1 ? 384 : 512)

/* The set of an instruction set: rows by REST(n_x, n_w), which gives the rest of a row. */
#define PR_BF16_ROWS(REST)                                                                         \
    static const pr_cpu_gemm_kernels                                                               \
        products_6 = {PR_BF16_KERNELS(3, 3, 512), REST(3, 3), .dtype = PR_DTYPE_F32,               \
                      .label = "bf16 tiles, 6 products"},                                          \
        products_5 = {PR_BF16_KERNELS(3, 2, 512), REST(3, 2), .dtype = PR_DTYPE_F16,               \
                      .label = "bf16 tiles, 5 products"},                                          \
        products_3 = {PR_BF16_KERNELS(3, 1, 512), REST(3, 1), .dtype = PR_DTYPE_BF16,              \
                      .label = "bf16 tiles, 3 products"},                                          \
        products_2x2 = {PR_BF16_KERNELS(2, 2, 512), REST(2, 2), .dtype = PR_DTYPE_F32,             \
                        .label = "bf16 tiles, 2 x 2 terms"},                                       \
        products_2 = {PR_BF16_KERNELS(2, 1, 512), REST(2, 1), .dtype = PR_DTYPE_BF16,              \
                      .label = "bf16 tiles, 2 products"},                                          \
        products_1 = {PR_BF16_KERNELS(1, 1, 1024), REST(1, 1), .dtype = PR_DTYPE_BF16,             \
                      .label = "bf16 tiles, 1 product"}

#endif
