/* kernels/cpu/vmath_avx2.h: a vector of floats, 8 lanes wide, under the names that the kernels
 * written once for every instruction set use (vmath.h, rowwise_impl.h, attention_impl.h).
 *
 * Included only by *_avx2.c. Stateless inline functions; any thread.
 * Where an operand is NaN, min and max return their second operand, as the instruction does. */
#ifndef POOLRANK_KERNELS_CPU_VMATH_AVX2_H
#define POOLRANK_KERNELS_CPU_VMATH_AVX2_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

enum { VF_LANES = 8 };
typedef __m256 vf;
typedef __m256 vm; /* one truth value per lane: all bits or none */

static inline vm vm_first(int64_t n) /* lanes 0 .. n-1, 0 <= n <= 8 */
{
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lanes));
}

static inline vf vf_set1(float x)
{
    return _mm256_set1_ps(x);
}

static inline vf vf_zero(void)
{
    return _mm256_setzero_ps();
}

static inline vf vf_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

static inline void vf_store(float *p, vf v)
{
    _mm256_storeu_ps(p, v);
}

/* The first n lanes, 0 < n < 8; the other lanes are 0 and their memory is not touched. */
static inline vf vf_load_n(const float *p, int64_t n)
{
    return _mm256_maskload_ps(p, _mm256_castps_si256(vm_first(n)));
}

static inline void vf_store_n(float *p, int64_t n, vf v)
{
    _mm256_maskstore_ps(p, _mm256_castps_si256(vm_first(n)), v);
}

static inline vf vf_load_bf16(const uint16_t *p)
{
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

static inline vf vf_load_bf16_n(const uint16_t *p, int64_t n)
{
    uint16_t lanes[8] = {0};
    memcpy(lanes, p, (size_t)n * sizeof *p);
    return vf_load_bf16(lanes);
}

static inline vf vf_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}

static inline vf vf_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}

static inline vf vf_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}

static inline vf vf_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}

static inline vf vf_fma(vf a, vf b, vf c) /* a b + c */
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline vf vf_fnma(vf a, vf b, vf c) /* c - a b */
{
    return _mm256_fnmadd_ps(a, b, c);
}

static inline vf vf_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}

static inline vf vf_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}

static inline vf vf_abs(vf a)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}

static inline vf vf_copysign(vf magnitude, vf sign) /* magnitude >= 0 */
{
    return _mm256_or_ps(magnitude, _mm256_and_ps(sign, _mm256_set1_ps(-0.0f)));
}

static inline vm vf_lt(vf a, vf b)
{
    return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}

static inline vf vf_select(vm m, vf yes, vf no)
{
    return _mm256_blendv_ps(no, yes, m);
}

static inline vm vm_andnot(vm a, vm b) /* lanes of b that are not in a */
{
    return _mm256_andnot_ps(a, b);
}

static inline vf vf_round(vf a) /* to nearest, ties to even */
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* a 2^n for an integral n in -252 .. 254, a near 1: rounded once. In two factors, since 2^n alone
 * may be outside the normal range; the first product is exact. */
static inline vf vf_scale2(vf a, vf n)
{
    __m256i e = _mm256_cvtps_epi32(n);
    __m256i half = _mm256_srai_epi32(e, 1);
    __m256i rest = _mm256_sub_epi32(e, half);
    const __m256i bias = _mm256_set1_epi32(127);
    vf f = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    vf g = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
    return vf_mul(vf_mul(a, f), g);
}

static inline vf vf_scale2_normal(vf a, vf n) /* the same for n in -126 .. 127 */
{
    __m256i e = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return vf_mul(a, _mm256_castsi256_ps(_mm256_slli_epi32(e, 23)));
}

/* Lane i with i + 4, then i + 2, i + 1: always this tree. */
static inline float vf_sum(vf a)
{
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

static inline float vf_max_lane(vf a)
{
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}

#endif
