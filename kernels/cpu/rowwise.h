/* kernels/cpu/rowwise.h: everything of a layer that works on one row at a time: norms, RoPE,
 * embedding, activations, gather, mean.
 *
 * Owns nothing: tables of functions, one for each instruction set, on caller-owned memory. Called
 * by cpu_backend.c, from any of its threads, each with a range of rows of its own. Pure: a row's
 * result depends on that row's inputs and on `dim` alone, to the bit, whatever the range.
 *
 * The plain C table is the reference: written for the formula, with f64 accumulation and libm. */
#ifndef POOLRANK_KERNELS_CPU_ROWWISE_H
#define POOLRANK_KERNELS_CPU_ROWWISE_H

#include "kernels/backend.h"

/* Rows of an embedding table; data NULL: no such table. */
typedef struct pr_cpu_rows {
    const void *data; /* [n_rows, dim], any alignment that the dtype allows */
    pr_dtype dtype;   /* F32 or BF16 */
    int64_t ld;       /* elements from row to row, >= dim */
} pr_cpu_rows;

/* y[i] = (token[tokens[i] - token_begin] + type[types[i]]) + position[positions[i]], in this order,
 * as transformers adds them; a row that is not in 0 .. n_token_rows - 1 is zeros. */
typedef struct pr_cpu_embed {
    pr_cpu_rows token;
    int64_t token_begin;
    int64_t n_token_rows;
    pr_cpu_rows position; /* data NULL: none */
    pr_cpu_rows type;     /* data NULL: none */
    const int32_t *tokens;
    const int32_t *positions; /* NULL without position table */
    const uint8_t *types;     /* NULL: all 0 */
    int64_t dim;
    float *y; /* [n_rows, dim] */
    int64_t ldy;
} pr_cpu_embed;

/* Rows row_begin .. row_end - 1 of the operation; an empty range does nothing. */
typedef struct pr_cpu_rowwise {
    const char *name; /* "c", "avx2", "avx512" */

    void (*norm)(const pr_norm_args *a, int64_t row_begin, int64_t row_end);
    void (*rope)(const pr_rope *a, int64_t row_begin, int64_t row_end);
    void (*embed)(const pr_cpu_embed *a, int64_t row_begin, int64_t row_end);

    /* x [n], in place, contiguous; NONE leaves it as it is */
    void (*activate)(pr_activation activation, float *x, int64_t n);
    /* y[i] = activation(gate[i]) * up[i], i < n; y may be gate or up */
    void (*gated)(pr_activation activation, const float *gate, const float *up, float *y,
                  int64_t n);

    /* y[i] = x[rows[i]]; y does not overlap x */
    void (*gather)(const float *x, int64_t ldx, const uint32_t *rows, int64_t row_begin,
                   int64_t row_end, int64_t dim, float *y, int64_t ldy);
    /* One sequence: y[c] = (x[rows[0], c] + x[rows[1], c] + ...) / n_rows for the columns
     * column_begin .. column_end - 1, added in that order in f32, what each addition rounds away
     * carried on (Kahan 1965: a feature that hardly varies over 8,192 tokens was 6.5e-5 off without
     * it, at most 1 ulp with it); y [dim] is indexed by c too. n_rows 0 gives zeros. */
    void (*mean)(const float *x, int64_t ldx, const uint32_t *rows, int64_t n_rows,
                 int64_t column_begin, int64_t column_end, float *y);
} pr_cpu_rowwise;

extern const pr_cpu_rowwise pr_cpu_rowwise_c;
extern const pr_cpu_rowwise pr_cpu_rowwise_avx2;   /* needs AVX2 and FMA */
extern const pr_cpu_rowwise pr_cpu_rowwise_avx512; /* needs AVX-512 F, BW, DQ, VL */

#endif
