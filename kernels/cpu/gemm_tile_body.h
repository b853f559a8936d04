/* kernels/cpu/gemm_tile_body.h: the text of a tile, included once by each gemm_tile_*.c.
 *
 * The includer defines: vec (a vector of floats), VEC_WIDTH, PANEL_VECS (vectors in a panel's row),
 * vec_zero(), vec_load(p), vec_store(p, v), vec_storeu(p, v) (any alignment), vec_spread(p) (one
 * float to all lanes), vec_add(a, b), vec_muladd(a, b, c) = a * b + c and vec_load_bf16(p)
 * (VEC_WIDTH bf16 values, widened).
 *
 *   c[r][j] = sum over k of x[r][k] * w[k][j]
 *
 * One call is one chain over its block of k; with `continues` the block's sum is added to c. Blocks
 * that carry one chain on from c to c would save the addition, but the error of a chain grows with
 * its length: for sums over K = 14336 that do not cancel 3.8e-6 in place of 1.9e-7 (relative).
 *
 * The accumulators, n_rows * PANEL_VECS of them, stay in registers over the whole loop: n_rows is a
 * constant in each instance, so the compiler unrolls the loops over rows and vectors completely.
 * Weights in bf16 are widened as they are loaded. Widening a block of a panel into scratch first
 * was 0 to 4 % faster for 128 rows of cached weights with AVX-512, slower with AVX2, and took twice
 * the time for one row. */
#ifndef POOLRANK_KERNELS_CPU_GEMM_TILE_BODY_H
#define POOLRANK_KERNELS_CPU_GEMM_TILE_BODY_H

#include "kernels/cpu/gemm_pack_rows.h"
#include "kernels/cpu/gemm_tail_body.h"
#include "kernels/cpu/gemm_tile.h"

#ifdef __clang__
#define PR_UNROLL _Pragma("unroll")
#else
#define PR_UNROLL _Pragma("GCC unroll 16")
#endif

enum {
    FLOAT_MR_MAX = 14,
    LINE_FLOATS = 16, /* in a cache line */
    PREFETCH_K = 16   /* how far ahead in k a panel is fetched: on an EPYC (Zen 4), 2 to 4 % faster
                         than without for 300 rows and more; 8 and 32 were no better */
};

static inline __attribute__((always_inline)) void tile_rows(const int n_rows, const bool is_bf16,
                                                            const float *x, const void *w,
                                                            int64_t n_k, float *c, bool continues)
{
    const float *w_f32 = w;
    const uint16_t *w_bf16 = w;
    vec sum[FLOAT_MR_MAX][PANEL_VECS];
    PR_UNROLL
    for (int r = 0; r < n_rows; r++) {
        PR_UNROLL
        for (int v = 0; v < PANEL_VECS; v++) {
            sum[r][v] = vec_zero();
        }
    }
    for (int64_t k = 0; k < n_k; k++) {
        vec panel[PANEL_VECS];
        PR_UNROLL
        for (int v = 0; v < PANEL_VECS; v++) {
            panel[v] =
                is_bf16 ? vec_load_bf16(w_bf16 + v * VEC_WIDTH) : vec_load(w_f32 + v * VEC_WIDTH);
        }
        if (is_bf16) {
            __builtin_prefetch(w_bf16 + PREFETCH_K * PANEL);
        } else {
            PR_UNROLL
            for (int line = 0; line < PANEL; line += LINE_FLOATS) {
                __builtin_prefetch(w_f32 + PREFETCH_K * PANEL + line);
            }
        }
        PR_UNROLL
        for (int r = 0; r < n_rows; r++) {
            vec spread = vec_spread(x + r * PR_CPU_GEMM_X_LD);
            PR_UNROLL
            for (int v = 0; v < PANEL_VECS; v++) {
                sum[r][v] = vec_muladd(spread, panel[v], sum[r][v]);
            }
        }
        x++;
        w_f32 += PANEL;
        w_bf16 += PANEL;
    }
    PR_UNROLL
    for (int r = 0; r < n_rows; r++) {
        PR_UNROLL
        for (int v = 0; v < PANEL_VECS; v++) {
            float *p = c + r * PANEL + v * VEC_WIDTH;
            vec_store(p, continues ? vec_add(vec_load(p), sum[r][v]) : sum[r][v]);
        }
    }
}

#define PR_TILE(rows)                                                                              \
    static void tile_##rows(const float *x, const void *w, int64_t n_k, float *c, bool continues)  \
    {                                                                                              \
        tile_rows(rows, false, x, w, n_k, c, continues);                                           \
    }                                                                                              \
    static void bf16_##rows(const float *x, const void *w, int64_t n_k, float *c, bool continues)  \
    {                                                                                              \
        tile_rows(rows, true, x, w, n_k, c, continues);                                            \
    }

typedef void float_tile(const float *x, const void *w, int64_t n_k, float *c, bool continues);

/* The two rows of an instruction set: weights as f32, and as bf16 that are widened in registers,
 * with the bits of f32 on the widened weights. */
#define PR_FLOAT_KERNELS(mr_)                                                                      \
    .label = "f32", .mr = (mr_), .nr = PANEL, .k_unit = 1, .k_block = PR_CPU_GEMM_K_BLOCK,         \
    .rows_max = 96, .rows_min = 12, .columns_max = 1024, /* 256 was some 3 % slower */             \
        .x_row_bytes = PR_CPU_GEMM_X_LD * (int)sizeof(float),                                      \
    .costs = {.rows = 1, .panel = 4, .x = 4, .task = 64}, .pack_x = pr_cpu_gemm_copy_x,            \
    .add_bias = add_bias, .split = split, .store = store

#endif
