/* kernels/cpu/vmath_avx512.h: a vector of floats, 16 lanes wide, under the names that the kernels
 * written once for every instruction set use (vmath.h, rowwise_impl.h, attention_impl.h).
 *
 * Included only by *_avx512.c. Stateless inline functions; any thread.
 * Where an operand is NaN, min and max return their second operand, as the instruction does. */
#ifndef POOLRANK_KERNELS_CPU_VMATH_AVX512_H
#define POOLRANK_KERNELS_CPU_VMATH_AVX512_H

#include <immintrin.h>
#include <stdint.h>

enum { VF_LANES = 16 };
typedef __m512 vf;
typedef __mmask16 vm; /* one truth value per lane */

static inline vm vm_first(int64_t n) /* lanes 0 .. n-1, 0 <= n <= 16 */
{
    return (vm)((1u << n) - 1u);
}

static inline vf vf_set1(float x)
{
    return _mm512_set1_ps(x);
}

static inline vf vf_zero(void)
{
    return _mm512_setzero_ps();
}

static inline vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

static inline void vf_store(float *p, vf v)
{
    _mm512_storeu_ps(p, v);
}

/* The first n lanes, 0 < n < 16; the other lanes are 0 and their memory is not touched. */
static inline vf vf_load_n(const float *p, int64_t n)
{
    return _mm512_maskz_loadu_ps(vm_first(n), p);
}

static inline void vf_store_n(float *p, int64_t n, vf v)
{
    _mm512_mask_storeu_ps(p, vm_first(n), v);
}

static inline vf vf_load_bf16(const uint16_t *p)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

static inline vf vf_load_bf16_n(const uint16_t *p, int64_t n)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(vm_first(n), p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

static inline vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

static inline vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}

static inline vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}

static inline vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}

static inline vf vf_fma(vf a, vf b, vf c) /* a b + c */
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline vf vf_fnma(vf a, vf b, vf c) /* c - a b */
{
    return _mm512_fnmadd_ps(a, b, c);
}

static inline vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

static inline vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}

static inline vf vf_abs(vf a)
{
    return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), a);
}

static inline vf vf_copysign(vf magnitude, vf sign) /* magnitude >= 0 */
{
    return _mm512_or_ps(magnitude, _mm512_and_ps(sign, _mm512_set1_ps(-0.0f)));
}

static inline vm vf_lt(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}

static inline vf vf_select(vm m, vf yes, vf no)
{
    return _mm512_mask_blend_ps(m, no, yes);
}

static inline vm vm_andnot(vm a, vm b) /* lanes of b that are not in a */
{
    return (vm)(b & (vm)~a);
}

static inline vf vf_round(vf a) /* to nearest, ties to even */
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline vf vf_scale2(vf a, vf n) /* a 2^n for an integral n, rounded once */
{
    return _mm512_scalef_ps(a, n);
}

static inline vf vf_scale2_normal(vf a, vf n) /* the same where a 2^n is a normal number */
{
    return _mm512_scalef_ps(a, n);
}

/* Lane i with i + 8, then i + 4, i + 2, i + 1: always this tree. */
static inline float vf_sum(vf a)
{
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

static inline float vf_max_lane(vf a)
{
    __m256 h = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}

#endif
