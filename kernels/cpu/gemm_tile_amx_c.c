/* What AMX's TDPBF16PS computes, in plain C, bit for bit: the reference of gemm_tile_amx.c, and its
 * stand-in on processors that have no tiles.
 *
 *   c[r][j] over one step of 32 k, for one term of x and one of W:
 *     e = o = 0;  for p = 0 … 15:  e = fma(x[r][2p], w[2p][j], e),  o = fma(x[r][2p+1], w[2p+1][j],
 * o) c[r][j] = c[r][j] + (e + o)
 *
 * in f32, rounded to nearest even; denormal inputs count as 0, denormal results become 0. Steps
 * follow each other in order of k; within a step the terms of W, smallest first, and for each the
 * terms of x, smallest first, that belong to the sum (bf16_terms.h). Source: Intel 64 and IA-32
 * Architectures Software Developer's Manual, volume 2, TDPBF16PS; compared with the instruction.
 *
 * A product of two bf16 values is exact in f32 unless it leaves f32's range, so a product and a sum
 * give what the fused operation gives; where one leaves it, those columns are done once more with
 * fmaf. */
#include "kernels/cpu/bf16_terms.h"

#include "kernels/cpu/gemm_pack_rows.h"

#include <math.h>
#include <string.h>

typedef float vec __attribute__((vector_size(16)));
typedef float vec_unaligned __attribute__((vector_size(16), aligned(4)));
typedef uint32_t bits __attribute__((vector_size(16)));
#define VEC_WIDTH        4
#define PANEL_VECS       8
#define vec_zero()       ((vec){0})
#define vec_load(p)      (*(const vec *)(p))
#define vec_store(p, v)  (*(vec *)(p) = (v))
#define vec_storeu(p, v) (*(vec_unaligned *)(p) = (v))
#define vec_add(a, b)    ((a) + (b))
#include "kernels/cpu/gemm_tail_body.h"

static const uint32_t sign = 0x80000000, magnitude = 0x7FFFFFFF, normal_min = 0x00800000,
                      infinity_bits = 0x7F800000;

static bits splat(uint32_t v)
{
    return (bits){v, v, v, v};
}

static bits select(bits mask, bits a, bits b)
{
    return (mask & a) | (~mask & b);
}

/* Denormals to 0, the sign kept. */
static bits flush(bits v)
{
    return select((bits)((v & splat(magnitude)) < splat(normal_min)), v & splat(sign), v);
}

static float flush_one(float v)
{
    return fpclassify(v) == FP_SUBNORMAL ? copysignf(0, v) : v;
}

/* One step of one output, by the definition. */
static float step_exact(const uint16_t *x, const uint16_t *w, float c)
{
    float sum[2] = {0, 0};
    for (int k = 0; k < PR_BF16_STEP; k++) {
        float a = flush_one(pr_bf16_to_f32(x[k]));
        float b = flush_one(pr_bf16_to_f32(w[k / 2 * 32 + k % 2]));
        sum[k % 2] = flush_one(fmaf(a, b, sum[k % 2]));
    }
    return flush_one(c + flush_one(sum[0] + sum[1]));
}

/* sum = fma(a, b, sum); *odd: lanes whose product is not exact in f32. */
static void multiply_add(uint32_t a, bits b, vec *sum, bits *odd)
{
    bits av = flush(splat(a));
    bits bv = flush(b);
    bits p = (bits)((vec)av * (vec)bv);
    bits size = p & splat(magnitude);
    bits is_factor =
        (bits)((av & splat(magnitude)) != splat(0)) & (bits)((bv & splat(magnitude)) != splat(0));
    *odd |= (bits)(size >= splat(infinity_bits)) | ((bits)(size < splat(normal_min)) & is_factor);
    *sum = (vec)flush((bits)(*sum + (vec)p));
}

/* One step of 4 outputs side by side: w at their first column. Where every factor is 0 or between
 * 2^-50 and 2^50 nothing leaves f32's range: products are multiples of 2^-116 up to 2^101. */
static void step(const uint16_t *x, const uint16_t *w, bool is_moderate, float *c)
{
    vec even = vec_zero(), odd_k = vec_zero();
    bits odd = splat(0);
    for (int p = 0; p < PR_BF16_STEP / 2; p++) {
        bits pair;
        memcpy(&pair, w + p * 32, sizeof pair); /* low half: k = 2 p */
        uint32_t a = (uint32_t)x[2 * p] << 16, b = (uint32_t)x[2 * p + 1] << 16;
        if (is_moderate) {
            even += (vec)splat(a) * (vec)(pair << 16);
            odd_k += (vec)splat(b) * (vec)(pair & splat(0xFFFF0000));
        } else {
            multiply_add(a, pair << 16, &even, &odd);
            multiply_add(b, pair & splat(0xFFFF0000), &odd_k, &odd);
        }
    }
    if (odd[0] | odd[1] | odd[2] | odd[3]) {
        for (int j = 0; j < VEC_WIDTH; j++) c[j] = step_exact(x, w + j * 2, c[j]);
        return;
    }
    vec t = (vec)flush((bits)(even + odd_k));
    vec_store(c, (vec)flush((bits)(vec_load(c) + t)));
}

/* Whether n bf16 values, a multiple of 8, are all 0 or between 2^-50 and 2^50 in size. */
static bool are_moderate(const uint16_t *v, int n)
{
    typedef uint16_t halves __attribute__((vector_size(16)));
    halves outside = {0};
    for (int i = 0; i < n; i += 8) {
        halves size;
        memcpy(&size, v + i, sizeof size);
        size &= 0x7FFF;
        halves is_outside = (halves)(size - 77 * 128 > 100 * 128); /* wraps around below 2^-50 */
        outside |= is_outside & (halves)(size != 0);
    }
    uint64_t any[2];
    memcpy(any, &outside, sizeof any);
    return (any[0] | any[1]) == 0;
}

/* One product of terms in one step: x [n_rows][32], w two tiles. */
static void multiply(const uint16_t *x, const uint16_t *w, int n_rows, float *c)
{
    bool is_w_moderate = are_moderate(w, 2 * PR_BF16_TILE);
    for (int r = 0; r < n_rows; r++, x += PR_BF16_STEP, c += PR_BF16_COLUMNS) {
        bool is_moderate = is_w_moderate && are_moderate(x, PR_BF16_STEP);
        for (int j = 0; j < PR_BF16_COLUMNS; j += VEC_WIDTH) {
            step(x, w + j / 16 * PR_BF16_TILE + j % 16 * 2, is_moderate, c + j);
        }
    }
}

/* The chain over a block of K goes on from c. */
static void chain(int n_x, int n_w, const uint16_t *x, const uint16_t *w, int n_rows, int64_t n_k,
                  float *c)
{
    int n_terms = n_x > n_w ? n_x : n_w;
    for (int64_t k = 0; k < n_k; k += PR_BF16_STEP) {
        for (int j = n_w - 1; j >= 0; j--) {
            for (int i = n_x - 1; i >= 0; i--) {
                if (i + j >= n_terms) continue;
                multiply(x + i * n_rows * PR_BF16_STEP, w + j * 2 * PR_BF16_TILE, n_rows, c);
            }
        }
        x += n_x * n_rows * PR_BF16_STEP;
        w += n_w * 2 * PR_BF16_TILE;
    }
}

static void tile(int n_x, int n_w, const uint16_t *x, const uint16_t *w, int n_rows, int64_t n_k,
                 float *c, bool continues)
{
    int n = n_rows * PR_BF16_COLUMNS;
    if (!continues) memset(c, 0, (size_t)n * sizeof *c);
    if (!continues || n_x < PR_BF16_TERMS_MAX) {
        chain(n_x, n_w, x, w, n_rows, n_k, c);
        return;
    }
    _Alignas(64) float sums[PR_CPU_GEMM_MR_MAX * PR_BF16_COLUMNS] = {0};
    chain(n_x, n_w, x, w, n_rows, n_k, sums);
    for (int i = 0; i < n; i++) c[i] += sums[i];
}

#define TILE(n_x, n_w)                                                                             \
    static void tile_##n_x##n_w(const void *x, const void *w, const void *next, int n_rows,        \
                                int64_t n_k, float *c, bool continues)                             \
    {                                                                                              \
        (void)next;                                                                                \
        tile(n_x, n_w, x, w, n_rows, n_k, c, continues);                                           \
    }
TILE(1, 1)
TILE(2, 1)
TILE(2, 2)
TILE(3, 1)
TILE(3, 2)
TILE(3, 3)

#define REST(n_x, n_w)                                                                             \
    .pack_w = pr_bf16_terms_pack_w, .pack_x = pr_bf16_terms_pack_x, .tile = tile_##n_x##n_w,       \
    .widen_bf16 = pr_cpu_gemm_widen_bf16, .widen_f16 = pr_cpu_gemm_widen_f16
PR_BF16_ROWS(REST);
const pr_cpu_gemm_set pr_cpu_gemm_amx_c = {
    .f32 = {NULL, &products_6, &products_2x2, &products_1},
    .f16 = {NULL, &products_5, &products_2x2, &products_1},
    .bf16 = {NULL, &products_3, &products_2, &products_1},
};
