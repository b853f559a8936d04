/* kernels/cpu/gemm_pack_rows.h: how rows of W and of x come into the layouts of gemm_tile.h, for
 * the rows of that table that work on floats.
 *
 * Pure functions on memory of the caller; called through the table, on any thread of the pool. */
#ifndef POOLRANK_KERNELS_CPU_GEMM_PACK_ROWS_H
#define POOLRANK_KERNELS_CPU_GEMM_PACK_ROWS_H

#include "kernels/cpu/gemm_tile.h"

/* As pack_w: to panels [n_in][nr] of f32, and of bf16, rounded to nearest even. */
void pr_cpu_gemm_pack_f32(const pr_cpu_gemm_kernels *self, const float *const *rows, int64_t n_rows,
                          int64_t k0, int64_t n_k, int64_t column, void *panel);
void pr_cpu_gemm_pack_bf16(const pr_cpu_gemm_kernels *self, const float *const *rows,
                           int64_t n_rows, int64_t k0, int64_t n_k, int64_t column, void *panel);

/* As pack_x: rows self->x_row_bytes apart. */
void pr_cpu_gemm_copy_x(const pr_cpu_gemm_kernels *self, const float *x, int64_t ldx, int n_rows,
                        int64_t n_k, void *dst);

/* As widen_bf16 and widen_f16, on any processor. */
void pr_cpu_gemm_widen_bf16(const uint16_t *src, int64_t n, float *dst);
void pr_cpu_gemm_widen_f16(const uint16_t *src, int64_t n, float *dst);

#endif
