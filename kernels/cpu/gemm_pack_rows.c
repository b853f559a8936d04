#include "kernels/cpu/gemm_pack_rows.h"

#include <string.h>

enum { QUAD = PR_CPU_GEMM_QUAD };

typedef float quad __attribute__((vector_size(16)));
typedef float quad_unaligned __attribute__((vector_size(16), aligned(4)));

/* dst[k * nr + r] = rows[r][k] for n_rows <= QUAD rows. */
static void transpose_f32(const float *const *rows, int64_t n_rows, int64_t n_k, int64_t nr,
                          float *dst)
{
    int64_t k = 0;
    for (; n_rows == QUAD && k + 4 <= n_k; k += 4) {
        quad a = *(const quad_unaligned *)(rows[0] + k);
        quad b = *(const quad_unaligned *)(rows[1] + k);
        quad c = *(const quad_unaligned *)(rows[2] + k);
        quad d = *(const quad_unaligned *)(rows[3] + k);
        quad ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
        quad ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
        quad cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
        quad cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
        float *p = dst + k * nr;
        *(quad_unaligned *)p = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
        *(quad_unaligned *)(p + nr) = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
        *(quad_unaligned *)(p + 2 * nr) = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
        *(quad_unaligned *)(p + 3 * nr) = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
    }
    for (; k < n_k; k++) {
        for (int64_t r = 0; r < n_rows; r++) dst[k * nr + r] = rows[r][k];
    }
}

static void transpose_bf16(const float *const *rows, int64_t n_rows, int64_t n_k, int64_t nr,
                           uint16_t *dst)
{
    for (int64_t k = 0; k < n_k; k++) {
        for (int64_t r = 0; r < n_rows; r++) dst[k * nr + r] = pr_f32_to_bf16(rows[r][k]);
    }
}

void pr_cpu_gemm_pack_f32(const pr_cpu_gemm_kernels *self, const float *const *rows, int64_t n_rows,
                          int64_t k0, int64_t n_k, int64_t column, void *panel)
{
    transpose_f32(rows, n_rows, n_k, self->nr, (float *)panel + k0 * self->nr + column);
}

void pr_cpu_gemm_pack_bf16(const pr_cpu_gemm_kernels *self, const float *const *rows,
                           int64_t n_rows, int64_t k0, int64_t n_k, int64_t column, void *panel)
{
    transpose_bf16(rows, n_rows, n_k, self->nr, (uint16_t *)panel + k0 * self->nr + column);
}

void pr_cpu_gemm_copy_x(const pr_cpu_gemm_kernels *self, const float *x, int64_t ldx, int n_rows,
                        int64_t n_k, void *dst)
{
    char *to = dst;
    for (int r = 0; r < n_rows; r++) {
        memcpy(to, x, (size_t)n_k * sizeof *x);
        x += ldx;
        to += self->x_row_bytes;
    }
}

void pr_cpu_gemm_widen_bf16(const uint16_t *src, int64_t n, float *dst)
{
    for (int64_t i = 0; i < n; i++) dst[i] = pr_bf16_to_f32(src[i]);
}

void pr_cpu_gemm_widen_f16(const uint16_t *src, int64_t n, float *dst)
{
    for (int64_t i = 0; i < n; i++) dst[i] = pr_f16_to_f32(src[i]);
}
