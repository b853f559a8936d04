/* Products of bf16 tiles: the twin in plain C against the definition of the instruction, AMX
 * against its twin byte for byte, terms against the values that they stand for, and what is not
 * finite. */
#include "kernels/cpu/bf16_terms.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/gemm_pack.h"
#include "kernels/cpu/memory.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state = 1;

static uint32_t random_bits(void)
{
    state = state * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)(state >> 32);
}

static float float_of(uint32_t bits)
{
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* What fills x and W. */
typedef enum content {
    MODERATE,   /* -1 … 1 */
    WIDE,       /* exponents -60 … 60: sums lose whole terms */
    EXTREME,    /* all exponents: products overflow, become denormal, vanish */
    DENORMAL,   /* half of them denormal */
    NOT_FINITE, /* one in 64 infinite or NaN */
    CONTENT_COUNT
} content;

static float random_float(content what)
{
    uint32_t sign_and_fraction = random_bits() & 0x807FFFFF;
    uint32_t r = random_bits();
    switch (what) {
    case MODERATE:
        return (float)(int32_t)r * 0x1p-31F;
    case WIDE:
        return float_of(sign_and_fraction | (67 + r % 121) << 23);
    case EXTREME:
        return float_of(sign_and_fraction | (1 + r % 254) << 23);
    case DENORMAL:
        return float_of(sign_and_fraction | (r % 2 ? 0 : 100 + r % 60) << 23);
    default:
        return r % 64 ? (float)(int32_t)r * 0x1p-31F
                      : float_of(0x7F800000 | (sign_and_fraction & 0x80400000));
    }
}

static void fill(float *p, int64_t n, content what)
{
    for (int64_t i = 0; i < n; i++) p[i] = random_float(what);
}

static const pr_cpu_gemm_set *const twin = &pr_cpu_gemm_amx_c;
static const pr_dtype dtypes[] = {PR_DTYPE_F32, PR_DTYPE_F16, PR_DTYPE_BF16};
enum { N_ROWS_OF_TABLE = 3 * (PR_MATMUL_COUNT - 1) };

static const pr_cpu_gemm_kernels *row_at(const pr_cpu_gemm_set *set, int i)
{
    return pr_cpu_gemm_find(set, (pr_matmul_precision)(1 + i / 3), dtypes[i % 3]);
}

/* y [m, n] of x [m, k] and W [n, k]. */
static void product(const pr_cpu_gemm_kernels *row, pr_cpu_isa isa, const float *x, const float *w,
                    int64_t m, int64_t n, int64_t k, float *y)
{
    pr_cpu_pool *pool = NULL;
    pr_matrix *matrix = NULL;
    assert_int_equal(pr_cpu_pool_create(1, &pool, NULL), PR_OK);
    pr_cpu_gemm_scratch *scratch = pr_cpu_memory_alloc(sizeof *scratch);
    assert_non_null(scratch);
    memset(scratch, 0xFF, sizeof *scratch);
    assert_int_equal(pr_cpu_matrix_create(row, PR_MATRIX_PLAIN, n, k, &matrix, NULL), PR_OK);
    pr_cpu_matrix_write(matrix, pool, 0, n, w, PR_DTYPE_F32);
    pr_gemm a = {.w = matrix, .x = x, .ldx = k, .n_rows = m, .y = y, .ldy = n};
    pr_cpu_gemm_run(pr_cpu_kernels_find(isa)->rowwise, pool, scratch, &a);
    pr_cpu_matrix_free(matrix);
    free(scratch);
    pr_cpu_pool_free(pool);
}

static float flushed(float v)
{
    return fpclassify(v) == FP_SUBNORMAL ? copysignf(0, v) : v;
}

/* The instruction, as its manual has it, on one output. */
static float instruction(const uint16_t *a, const uint16_t *b, float c)
{
    float even = 0, odd = 0;
    for (int k = 0; k < PR_BF16_STEP; k += 2) {
        even = flushed(fmaf(flushed(pr_bf16_to_f32(a[k])), flushed(pr_bf16_to_f32(b[k])), even));
        odd = flushed(
            fmaf(flushed(pr_bf16_to_f32(a[k + 1])), flushed(pr_bf16_to_f32(b[k + 1])), odd));
    }
    return flushed(c + flushed(even + odd));
}

/* One output by the definition of bf16_terms.h, from f32 values. */
static float defined(const pr_cpu_gemm_kernels *row, const float *x, const float *w, int64_t k)
{
    int n_terms = row->n_x_terms > row->n_w_terms ? row->n_x_terms : row->n_w_terms;
    int64_t n_steps = (k + PR_BF16_STEP - 1) / PR_BF16_STEP;
    int64_t n_blocks = (n_steps * PR_BF16_STEP + row->k_block - 1) / row->k_block;
    float y = 0, c = 0;
    for (int64_t s = 0, block = 0; s < n_steps; s++) {
        uint16_t a[PR_BF16_TERMS_MAX][PR_BF16_STEP] = {0}, b[PR_BF16_TERMS_MAX][PR_BF16_STEP] = {0};
        for (int i = 0; i < PR_BF16_STEP && s * PR_BF16_STEP + i < k; i++) {
            uint16_t terms[PR_BF16_TERMS_MAX];
            pr_bf16_terms_of(x[s * PR_BF16_STEP + i], row->n_x_terms, terms);
            for (int t = 0; t < row->n_x_terms; t++) a[t][i] = terms[t];
            pr_bf16_terms_of(w[s * PR_BF16_STEP + i], row->n_w_terms, terms);
            for (int t = 0; t < row->n_w_terms; t++) b[t][i] = terms[t];
        }
        for (int j = row->n_w_terms - 1; j >= 0; j--) {
            for (int i = row->n_x_terms - 1; i >= 0; i--) {
                if (i + j < n_terms) c = instruction(a[i], b[j], c);
            }
        }
        if (row->n_x_terms < PR_BF16_TERMS_MAX || s + 1 < n_steps * (block + 1) / n_blocks)
            continue;
        y = block == 0 ? c : y + c;
        c = 0;
        block++;
    }
    return row->n_x_terms < PR_BF16_TERMS_MAX ? c : y;
}

/* Equal bits, or both NaN: which NaN is nobody's promise. */
static bool is_same(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

static void the_twin_computes_what_the_manual_says(void **unused)
{
    (void)unused;
    enum { M = 3, N = 37, K = 600 };
    static float x[M * K], w[N * K], y[M * N];
    for (int what = 0; what < CONTENT_COUNT; what++) {
        fill(x, M * K, (content)what);
        fill(w, N * K, what == NOT_FINITE ? MODERATE : (content)what);
        for (int i = 0; i < N_ROWS_OF_TABLE; i++) {
            const pr_cpu_gemm_kernels *row = row_at(twin, i);
            product(row, PR_CPU_ISA_C, x, w, M, N, K, y);
            for (int at = 0; at < M * N; at++) {
                float expected = defined(row, x + at / N * K, w + at % N * K, K);
                if (is_same(y[at], expected)) continue;
                fail_msg("%s, content %d: y[%d] is %a, expected %a", row->label, what, at,
                         (double)y[at], (double)expected);
            }
        }
    }
}

#if POOLRANK_X86
static void expect_twin(int i, content what, int64_t m, int64_t n, int64_t k)
{
    float *x = malloc((size_t)(m * k) * sizeof *x), *w = malloc((size_t)(n * k) * sizeof *w);
    float *ours = malloc((size_t)(m * n) * sizeof *x),
          *theirs = malloc((size_t)(m * n) * sizeof *x);
    assert_true(x && w && ours && theirs);
    fill(x, m * k, what);
    fill(w, n * k, what == NOT_FINITE ? MODERATE : what);
    product(row_at(twin, i), PR_CPU_ISA_C, x, w, m, n, k, ours);
    product(row_at(&pr_cpu_gemm_amx, i), PR_CPU_ISA_AMX, x, w, m, n, k, theirs);
    for (int64_t at = 0; at < m * n; at++) {
        if (is_same(ours[at], theirs[at])) continue;
        fail_msg("%s, content %d, M %d N %d K %d: y[%d] is %a with AMX, %a in its twin",
                 row_at(twin, i)->label, what, (int)m, (int)n, (int)k, (int)at, (double)theirs[at],
                 (double)ours[at]);
    }
    free(x);
    free(w);
    free(ours);
    free(theirs);
}
#endif

static void amx_has_the_bits_of_its_twin(void **unused)
{
    (void)unused;
#if POOLRANK_X86
    if (pr_cpu_isa_available(PR_CPU_ISA_AMX)) {
        static const int64_t sizes[][3] = {{1, 1, 1},     {2, 17, 31},    {15, 32, 33},
                                           {16, 33, 64},  {17, 40, 100},  {31, 65, 257},
                                           {33, 96, 600}, {130, 64, 1100}};
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            for (int i = 0; i < N_ROWS_OF_TABLE * CONTENT_COUNT; i++) {
                bool is_large = sizes[s][0] * sizes[s][1] * sizes[s][2] > 1000000;
                if (is_large && i % CONTENT_COUNT != MODERATE) continue; /* the twin is slow */
                expect_twin(i / CONTENT_COUNT, (content)(i % CONTENT_COUNT), sizes[s][0],
                            sizes[s][1], sizes[s][2]);
            }
        }
        return;
    }
#endif
    print_message("not tested on this processor: amx\n");
    skip();
}

static void three_terms_are_exact_and_two_hold_an_f16(void **unused)
{
    (void)unused;
    for (int i = 0; i < 200000; i++) {
        uint16_t t[3];
        float v = float_of((random_bits() & 0x807FFFFF) | (40 + random_bits() % 200) << 23);
        pr_bf16_terms_of(v, 3, t);
        assert_true((double)v == (double)pr_bf16_to_f32(t[0]) + pr_bf16_to_f32(t[1]) +
                                     (double)pr_bf16_to_f32(t[2]));
        pr_bf16_terms_of(v, 2, t);
        double rest = (double)v - pr_bf16_to_f32(t[0]) - pr_bf16_to_f32(t[1]);
        assert_true(fabs(rest) <= fabs((double)v) * 0x1p-17);
    }
    for (int h = 0; h < 0x7C00; h++) {
        uint16_t t[2];
        float v = pr_f16_to_f32((uint16_t)h);
        pr_bf16_terms_of(v, 2, t);
        assert_true(pr_bf16_to_f32(t[0]) + pr_bf16_to_f32(t[1]) == v);
    }
}

static void the_largest_floats_stay_finite_and_infinities_do_not(void **unused)
{
    (void)unused;
    static const uint32_t finite[] = {0x7F7FFFFF, 0xFF7FFFFF, 0x7F7F8000, 0x7F7F7FFF, 0};
    for (size_t i = 0; i < sizeof finite / sizeof *finite; i++) {
        uint16_t t[3];
        float v = float_of(finite[i]);
        pr_bf16_terms_of(v, 3, t);
        assert_true((double)v == (double)pr_bf16_to_f32(t[0]) + pr_bf16_to_f32(t[1]) +
                                     (double)pr_bf16_to_f32(t[2]));
    }
    static const uint32_t other[] = {0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001};
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        uint16_t t[3];
        pr_bf16_terms_of(float_of(other[i]), 3, t);
        assert_true(isinf(float_of(other[i])) ? isinf(pr_bf16_to_f32(t[0]))
                                              : isnan(pr_bf16_to_f32(t[0])));
        assert_int_equal(t[1], 0);
        assert_int_equal(t[2], 0);
    }
}

/* In every row of the table: a row of x with an infinity or a NaN gives nothing finite, and the
 * rows beside it what they gave without. */
static void what_is_not_finite_shows_in_its_row_and_in_no_other(void **unused)
{
    (void)unused;
    enum { M = 20, N = 40, K = 100, BAD = 7 };
    static float x[M * K], w[N * K], clean[M * N], y[M * N];
    static const uint32_t bad[] = {0x7F800000, 0xFF800000, 0x7FC00000};
    for (int isa = PR_CPU_ISA_C; isa < PR_CPU_ISA_COUNT; isa++) {
        if (!pr_cpu_isa_available((pr_cpu_isa)isa)) continue;
        const pr_cpu_gemm_set *set = pr_cpu_kernels_find((pr_cpu_isa)isa)->gemm;
        for (int i = 0; i < N_ROWS_OF_TABLE * 3; i++) {
            fill(x, M * K, MODERATE);
            fill(w, N * K, MODERATE);
            product(row_at(set, i / 3), (pr_cpu_isa)isa, x, w, M, N, K, clean);
            x[BAD * K + (i * 13) % K] = float_of(bad[i % 3]);
            product(row_at(set, i / 3), (pr_cpu_isa)isa, x, w, M, N, K, y);
            for (int at = 0; at < M * N; at++) {
                if (at / N == BAD) {
                    assert_false(isfinite(y[at]));
                } else {
                    assert_true(is_same(y[at], clean[at]));
                }
            }
        }
    }
}

/* A few columns of x are a thousand times the rest, as in Qwen2: what the error is relative to. */
static void outlier_channels_cost_no_precision(void **unused)
{
    (void)unused;
    enum { M = 4, N = 64, K = 896 };
    static float x[M * K], w[N * K], y[M * N];
    static const double bounds[PR_MATMUL_COUNT] = {0, 1e-6, 4e-5, 8e-3}; /* of |x||w| */
    fill(x, M * K, MODERATE);
    fill(w, N * K, MODERATE);
    for (int r = 0; r < M; r++) {
        for (int k = 5; k < K; k += 300) x[r * K + k] *= 1000;
    }
    for (int i = 0; i < N_ROWS_OF_TABLE; i++) {
        if (i % 3 != 0) continue; /* weights of f32 */
        product(row_at(twin, i), PR_CPU_ISA_C, x, w, M, N, K, y);
        for (int at = 0; at < M * N; at++) {
            double exact = 0, size = 0;
            for (int k = 0; k < K; k++) {
                double p = (double)x[at / N * K + k] * w[at % N * K + k];
                exact += p;
                size += fabs(p);
            }
            assert_true(fabs(y[at] - exact) <= bounds[1 + i / 3] * size);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_terms_are_exact_and_two_hold_an_f16),
        cmocka_unit_test(the_largest_floats_stay_finite_and_infinities_do_not),
        cmocka_unit_test(the_twin_computes_what_the_manual_says),
        cmocka_unit_test(amx_has_the_bits_of_its_twin),
        cmocka_unit_test(what_is_not_finite_shows_in_its_row_and_in_no_other),
        cmocka_unit_test(outlier_channels_cost_no_precision),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
