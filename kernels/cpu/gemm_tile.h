/* kernels/cpu/gemm_tile.h: the innermost loops of matrix multiplication, one table per instruction
 * set.
 *
 * Constant tables of pure functions on memory of the caller; called by gemm.c and gemm_pack.c, on
 * any thread of the pool.
 *
 *   weights W [n_out, n_in], packed          x block, copied          tile
 *   panel p: [n_in][nr]                      [n_rows][x_ld]           c [n_rows][nr], contiguous
 *   element (k, j) = W[p * nr + j][k]        x[r][k]                  c[r][j]
 *
 * Each c[r][j] is the sum of its blocks of k, added in order; a block is one chain of multiply-adds
 * over its k in f32, started at 0. The blocks follow from K alone, so tiles of any size change no
 * bit, and a row's result depends on that row and on W alone. (Fused multiply-adds in AVX2 and
 * AVX-512, a rounded product in plain C: bits differ between instruction sets, not within one.) */
#ifndef POOLRANK_KERNELS_CPU_GEMM_TILE_H
#define POOLRANK_KERNELS_CPU_GEMM_TILE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    PR_CPU_GEMM_MR_MAX = 14, /* over all instruction sets */
    PR_CPU_GEMM_NR_MAX = 32,
    PR_CPU_GEMM_K_BLOCK = 384,                  /* k in one call of a tile */
    PR_CPU_GEMM_X_LD = PR_CPU_GEMM_K_BLOCK + 16 /* row stride of an x block: no multiple of 4 KiB,
                                                   so rows do not fall into one cache set */
};

/* x: [n_rows, PR_CPU_GEMM_X_LD], n_rows being the tile's. w: [n_k, nr] f32 or bf16, aligned to a
 * row. c: [n_rows, nr], aligned to 64 bytes or a row, read only when `continues`: the
 * block's sum is then added to it. */
typedef void (*pr_cpu_gemm_tile)(const float *x, const void *w, int64_t n_k, float *c,
                                 bool continues);

typedef struct pr_cpu_gemm_kernels {
    int mr; /* most rows of a tile */
    int nr; /* columns of a panel, a multiple of 8 */
    pr_cpu_gemm_tile tile[PR_CPU_GEMM_MR_MAX + 1];      /* by n_rows, 1 .. mr; w f32 */
    pr_cpu_gemm_tile tile_bf16[PR_CPU_GEMM_MR_MAX + 1]; /* w bf16, widened in registers: the bits
                                                           of `tile` on the widened w */

    /* What follows a tile. c: [n_rows, nr], aligned to 64 bytes. */
    /* c[r][j] += bias[j]; bias: [nr], aligned to 64 bytes */
    void (*add_bias)(float *c, int n_rows, const float *bias);
    /* gate[r * nr/2 + j] = c[r][j], up[…] = c[r][nr/2 + j]: [n_rows, nr / 2], contiguous */
    void (*split)(const float *c, int n_rows, float *gate, float *up);
    /* y[r][j] = c[r][j] for j < n_columns; the rows of c are ldc apart */
    void (*store)(const float *c, int64_t ldc, int n_rows, int64_t n_columns, float *y,
                  int64_t ldy);

    /* n elements, any alignment; exact */
    void (*widen_bf16)(const uint16_t *src, int64_t n, float *dst);
    void (*widen_f16)(const uint16_t *src, int64_t n, float *dst);
} pr_cpu_gemm_kernels;

extern const pr_cpu_gemm_kernels pr_cpu_gemm_kernels_c;
extern const pr_cpu_gemm_kernels pr_cpu_gemm_kernels_avx2;   /* x86-64 only */
extern const pr_cpu_gemm_kernels pr_cpu_gemm_kernels_avx512; /* x86-64 only */

#endif
