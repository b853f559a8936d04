/* kernels/cpu/gemm_tail_body.h: what follows a tile, included once by each gemm_tile_*.c.
 *
 * The includer defines vec, VEC_WIDTH, PANEL_VECS, vec_load, vec_store, vec_storeu and vec_add
 * as in gemm_tile_body.h. The functions are add_bias, split and store of gemm_tile.h. */
#ifndef POOLRANK_KERNELS_CPU_GEMM_TAIL_BODY_H
#define POOLRANK_KERNELS_CPU_GEMM_TAIL_BODY_H

#include <stdint.h>

enum { PANEL = VEC_WIDTH * PANEL_VECS };

static void add_bias(float *c, int n_rows, const float *bias)
{
    for (int v = 0; v < PANEL_VECS; v++) {
        vec b = vec_load(bias + v * VEC_WIDTH);
        float *p = c + v * VEC_WIDTH;
        for (int r = 0; r < n_rows; r++, p += PANEL) vec_store(p, vec_add(vec_load(p), b));
    }
}

static void split(const float *c, int n_rows, float *gate, float *up)
{
    for (int r = 0; r < n_rows; r++) {
        for (int v = 0; v < PANEL_VECS / 2; v++) {
            vec_store(gate, vec_load(c + v * VEC_WIDTH));
            vec_store(up, vec_load(c + PANEL / 2 + v * VEC_WIDTH));
            gate += VEC_WIDTH;
            up += VEC_WIDTH;
        }
        c += PANEL;
    }
}

static void store(const float *c, int64_t ldc, int n_rows, int64_t n_columns, float *y, int64_t ldy)
{
    for (int r = 0; r < n_rows; r++) {
        int64_t j = 0;
        for (; j + VEC_WIDTH <= n_columns; j += VEC_WIDTH) vec_storeu(y + j, vec_load(c + j));
        for (; j < n_columns; j++) y[j] = c[j];
        c += ldc;
        y += ldy;
    }
}

#endif
