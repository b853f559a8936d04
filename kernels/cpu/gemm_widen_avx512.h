/* kernels/cpu/gemm_widen_avx512.h: widen_bf16 and widen_f16 of gemm_tile.h with AVX-512, included
 * once by each gemm_tile_*.c that is compiled for it. */
#ifndef POOLRANK_KERNELS_CPU_GEMM_WIDEN_AVX512_H
#define POOLRANK_KERNELS_CPU_GEMM_WIDEN_AVX512_H

#include "runtime/base/dtype.h"

#include <immintrin.h>

static void widen_bf16(const uint16_t *src, int64_t n, float *dst)
{
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m512i half = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(src + i)));
        _mm512_storeu_ps(dst + i, _mm512_castsi512_ps(_mm512_slli_epi32(half, 16)));
    }
    for (; i < n; i++) dst[i] = pr_bf16_to_f32(src[i]);
}

static void widen_f16(const uint16_t *src, int64_t n, float *dst)
{
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256i half = _mm256_loadu_si256((const __m256i *)(src + i));
        _mm512_storeu_ps(dst + i, _mm512_cvtph_ps(half));
    }
    for (; i < n; i++) dst[i] = pr_f16_to_f32(src[i]);
}

#endif
