/* 12 x 32 tiles: 24 accumulators, 2 vectors of W and one of x in the 32 registers of AVX-512. Per k
 * 24 multiply-adds stand against 14 loads. */
#include <immintrin.h>

typedef __m512 vec;
#define VEC_WIDTH           16
#define PANEL_VECS          2
#define vec_zero()          _mm512_setzero_ps()
#define vec_load(p)         _mm512_load_ps(p)
#define vec_store(p, v)     _mm512_store_ps(p, v)
#define vec_storeu(p, v)    _mm512_storeu_ps(p, v)
#define vec_add(a, b)       _mm512_add_ps(a, b)
#define vec_spread(p)       _mm512_set1_ps(*(p))
#define vec_muladd(a, b, c) _mm512_fmadd_ps(a, b, c)
#define vec_load_bf16(p)                                                                           \
    _mm512_castsi512_ps(                                                                           \
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *)(p))), 16))
#include "runtime/base/dtype.h"

#include "kernels/cpu/gemm_tile_body.h"
#include "kernels/cpu/gemm_widen_avx512.h"

PR_TILE(1)
PR_TILE(2)
PR_TILE(3)
PR_TILE(4)
PR_TILE(5)
PR_TILE(6)
PR_TILE(7)
PR_TILE(8)
PR_TILE(9)
PR_TILE(10)
PR_TILE(11)
PR_TILE(12)

static void tile(const void *x, const void *w, const void *next, int n_rows, int64_t n_k, float *c,
                 bool continues)
{
    (void)next; /* a tile fetches ahead within its panel */
    static float_tile *const tiles[] = {NULL,   tile_1, tile_2, tile_3,  tile_4,  tile_5, tile_6,
                                        tile_7, tile_8, tile_9, tile_10, tile_11, tile_12};
    tiles[n_rows](x, w, n_k, c, continues);
}

static void tile_bf16(const void *x, const void *w, const void *next, int n_rows, int64_t n_k,
                      float *c, bool continues)
{
    (void)next;
    static float_tile *const tiles[] = {NULL,   bf16_1, bf16_2, bf16_3,  bf16_4,  bf16_5, bf16_6,
                                        bf16_7, bf16_8, bf16_9, bf16_10, bf16_11, bf16_12};
    tiles[n_rows](x, w, n_k, c, continues);
}

static const pr_cpu_gemm_kernels f32 = {
    PR_FLOAT_KERNELS(12),
    .dtype = PR_DTYPE_F32,
    .weight_bytes = sizeof(float),
    .pack_w = pr_cpu_gemm_pack_f32,
    .tile = tile,
    .widen_bf16 = widen_bf16,
    .widen_f16 = widen_f16,
};
static const pr_cpu_gemm_kernels bf16 = {
    PR_FLOAT_KERNELS(12),
    .dtype = PR_DTYPE_BF16,
    .weight_bytes = sizeof(uint16_t),
    .pack_w = pr_cpu_gemm_pack_bf16,
    .tile = tile_bf16,
    .widen_bf16 = widen_bf16,
    .widen_f16 = widen_f16,
};

const pr_cpu_gemm_set pr_cpu_gemm_avx512 = {
    .f32 = {NULL, &f32, &f32, &f32},
    .f16 = {NULL, &f32, &f32, &f32},
    .bf16 = {NULL, &bf16, &bf16, &bf16},
};
