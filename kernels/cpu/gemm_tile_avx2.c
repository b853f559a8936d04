/* 6 x 16 tiles: 12 accumulators, 2 vectors of W and one of x in the 16 registers of AVX2. Per k 12
 * multiply-adds stand against 8 loads. */
#include <immintrin.h>

typedef __m256 vec;
#define VEC_WIDTH           8
#define PANEL_VECS          2
#define vec_zero()          _mm256_setzero_ps()
#define vec_load(p)         _mm256_load_ps(p)
#define vec_store(p, v)     _mm256_store_ps(p, v)
#define vec_storeu(p, v)    _mm256_storeu_ps(p, v)
#define vec_add(a, b)       _mm256_add_ps(a, b)
#define vec_spread(p)       _mm256_broadcast_ss(p)
#define vec_muladd(a, b, c) _mm256_fmadd_ps(a, b, c)
#define vec_load_bf16(p)                                                                           \
    _mm256_castsi256_ps(                                                                           \
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_load_si128((const __m128i *)(p))), 16))
#include "runtime/base/dtype.h"

#include "kernels/cpu/gemm_tile_body.h"

PR_TILE(1)
PR_TILE(2)
PR_TILE(3)
PR_TILE(4)
PR_TILE(5)
PR_TILE(6)

static void widen_bf16(const uint16_t *src, int64_t n, float *dst)
{
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256i half = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(src + i)));
        _mm256_storeu_ps(dst + i, _mm256_castsi256_ps(_mm256_slli_epi32(half, 16)));
    }
    for (; i < n; i++) dst[i] = pr_bf16_to_f32(src[i]);
}

static void widen_f16(const uint16_t *src, int64_t n, float *dst)
{
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128i half = _mm_loadu_si128((const __m128i *)(src + i));
        _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(half));
    }
    for (; i < n; i++) dst[i] = pr_f16_to_f32(src[i]);
}

static void tile(const void *x, const void *w, const void *next, int n_rows, int64_t n_k, float *c,
                 bool continues)
{
    (void)next; /* a tile fetches ahead within its panel */
    static float_tile *const tiles[] = {NULL, tile_1, tile_2, tile_3, tile_4, tile_5, tile_6};
    tiles[n_rows](x, w, n_k, c, continues);
}

static void tile_bf16(const void *x, const void *w, const void *next, int n_rows, int64_t n_k,
                      float *c, bool continues)
{
    (void)next;
    static float_tile *const tiles[] = {NULL, bf16_1, bf16_2, bf16_3, bf16_4, bf16_5, bf16_6};
    tiles[n_rows](x, w, n_k, c, continues);
}

static const pr_cpu_gemm_kernels f32 = {
    PR_FLOAT_KERNELS(6),
    .dtype = PR_DTYPE_F32,
    .weight_bytes = sizeof(float),
    .pack_w = pr_cpu_gemm_pack_f32,
    .tile = tile,
    .widen_bf16 = widen_bf16,
    .widen_f16 = widen_f16,
};
static const pr_cpu_gemm_kernels bf16 = {
    PR_FLOAT_KERNELS(6),
    .dtype = PR_DTYPE_BF16,
    .weight_bytes = sizeof(uint16_t),
    .pack_w = pr_cpu_gemm_pack_bf16,
    .tile = tile_bf16,
    .widen_bf16 = widen_bf16,
    .widen_f16 = widen_f16,
};

const pr_cpu_gemm_set pr_cpu_gemm_avx2 = {
    .f32 = {NULL, &f32, &f32, &f32},
    .f16 = {NULL, &f32, &f32, &f32},
    .bf16 = {NULL, &bf16, &bf16, &bf16},
};
