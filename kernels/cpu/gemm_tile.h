/* kernels/cpu/gemm_tile.h: one way of multiplying matrices, as one row of constants and functions.
 *
 * Constant tables of pure functions on memory of the caller; called by gemm.c and gemm_pack.c, on
 * any thread of the pool. A row says how weights are kept, how x is prepared, which blocks the
 * driver may cut, and owns the innermost loop; the driver knows none of it.
 *
 *   weights W [n_out, n_in], packed            x block, prepared           tile
 *   panels of nr columns, each a run of        row tiles of up to mr rows  c [n_rows][nr] f32,
 *   blocks of K, in the row's own layout       x_row_bytes apart by row    contiguous
 *
 *   floats (gemm_tile_body.h): panel p is [n_in][nr], element (k, j) = W[p * nr + j][k]
 *   bf16 tiles: bf16_terms.h
 *
 * Each c[r][j] is a sum over k in an order that follows from K and from the row of this table
 * alone, so tiles of any size change no bit, and a row's result depends on that row and on W alone.
 * (Bits differ between rows of this table, not within one; the twins of AMX are the exception that
 * they exist for.) */
#ifndef POOLRANK_KERNELS_CPU_GEMM_TILE_H
#define POOLRANK_KERNELS_CPU_GEMM_TILE_H

#include "kernels/cpu/precision.h"
#include "runtime/base/dtype.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    /* over all rows of the table */
    PR_CPU_GEMM_MR_MAX = 32,
    PR_CPU_GEMM_NR_MAX = 32,
    PR_CPU_GEMM_ROWS_MAX = 128,
    PR_CPU_GEMM_COLUMNS_MAX = 1024,
    PR_CPU_GEMM_X_BYTES = 768 * 1024, /* a task's x, for a block of K at the least */

    PR_CPU_GEMM_QUAD = 4, /* rows of W packed together; every half panel is a multiple of it */

    /* floats */
    PR_CPU_GEMM_K_BLOCK = 384,                  /* k in one call of a tile */
    PR_CPU_GEMM_X_LD = PR_CPU_GEMM_K_BLOCK + 16 /* row stride of an x block: no multiple of 4 KiB,
                                                   so rows do not fall into one cache set */
};

/* What the choice of a cut weighs, per k, in units of one row by one column (gemm.c). */
typedef struct pr_cpu_gemm_costs {
    int rows;  /* a tile of fewer costs as much */
    int panel; /* reading a column of W, in rows */
    int x;     /* preparing a row of x, in columns */
    int task;  /* the hand-over, spread over K */
} pr_cpu_gemm_costs;

typedef struct pr_cpu_gemm_kernels pr_cpu_gemm_kernels;
struct pr_cpu_gemm_kernels {
    const char *label; /* "f32", "bf16 tiles, 3 products": for descriptions */
    pr_dtype dtype;    /* what a weight's value is rounded to: F32, F16 or BF16 */
    int n_x_terms;     /* bf16 tiles: terms of an activation and of a weight; 0: floats */
    int n_w_terms;
    int mr;           /* most rows of a tile */
    int nr;           /* columns of a panel, a multiple of 8 */
    int k_unit;       /* blocks of K begin at multiples of it; panels are filled up to it with 0 */
    int k_block;      /* most k in one call of a tile; a multiple of k_unit */
    int rows_max;     /* of a task: with a block of K in L2 */
    int rows_min;     /* fewer only where the call has fewer */
    int columns_max;  /* columns of W that are worked on for a block of K, with their sums in L2 */
    bool is_x_kept;   /* a row tile's x stays in L1 while panels pass; else a panel's block does
                         while row tiles pass */
    int weight_bytes; /* of one weight in a panel */
    int x_row_bytes;  /* from one row of a prepared x block to the next, unless is_x_kept */
    int x_bytes;      /* of one prepared value where is_x_kept: rows of a row tile lie mingled */
    pr_cpu_gemm_costs costs;

    /* rows[r][0 .. n_k - 1], r < n_rows <= PR_CPU_GEMM_QUAD: W's values at k0 …, in f32, to the
     * columns column … of a panel. k0 is a multiple of 64. */
    void (*pack_w)(const pr_cpu_gemm_kernels *self, const float *const *rows, int64_t n_rows,
                   int64_t k0, int64_t n_k, int64_t column, void *panel);
    /* x: [n_rows, n_k], rows ldx apart, one row tile (n_rows <= mr), to dst (aligned to 64). */
    void (*pack_x)(const pr_cpu_gemm_kernels *self, const float *x, int64_t ldx, int n_rows,
                   int64_t n_k, void *dst);
    /* Before calls of `tile` with that many rows on this thread, and after the last; NULL: nothing
     * is needed. */
    void (*begin)(int n_rows);
    void (*end)(void);
    /* x: one row tile as pack_x left it. w: a panel at the block's k; next: as large, what will be
     * read next, to be fetched meanwhile; NULL: nothing. c: [n_rows, nr], aligned to
     * 64 bytes or a row, read only when `continues`: the block is then added to it. */
    void (*tile)(const void *x, const void *w, const void *next, int n_rows, int64_t n_k, float *c,
                 bool continues);

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
};

/* The rows of one instruction set. */
typedef struct pr_cpu_gemm_set {
    /* by precision (none for AUTO) and by what a weight's value is rounded to; F16 as F32 where
       it gains nothing */
    const pr_cpu_gemm_kernels *f32[PR_MATMUL_COUNT];
    const pr_cpu_gemm_kernels *f16[PR_MATMUL_COUNT];
    const pr_cpu_gemm_kernels *bf16[PR_MATMUL_COUNT];
} pr_cpu_gemm_set;

/* precision: not AUTO; dtype: F32, F16 or BF16. */
const pr_cpu_gemm_kernels *pr_cpu_gemm_find(const pr_cpu_gemm_set *set,
                                            pr_matmul_precision precision, pr_dtype dtype);

extern const pr_cpu_gemm_set pr_cpu_gemm_c;
extern const pr_cpu_gemm_set pr_cpu_gemm_avx2;   /* x86-64 only */
extern const pr_cpu_gemm_set pr_cpu_gemm_avx512; /* x86-64 only */
extern const pr_cpu_gemm_set pr_cpu_gemm_amx;    /* x86-64 only */
extern const pr_cpu_gemm_set pr_cpu_gemm_amx_c;  /* the bits of pr_cpu_gemm_amx, in plain C */

#endif
