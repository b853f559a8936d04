/* Matrix multiplication of the CPU backend, for every instruction set that this processor has:
 * against a reference in f64, and bit for bit against itself when the call is cut otherwise. */
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/gemm_pack.h"
#include "kernels/cpu/memory.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_THREADS_MAX = 3 };
static const float untouched = -12345.0F;

/* A table, a pool and its scratch. */
typedef struct machine {
    const pr_cpu_kernels *kernels;
    pr_cpu_pool *pool;
    pr_cpu_gemm_scratch *scratch;
} machine;

static machine machine_of(pr_cpu_isa isa, int n_threads)
{
    machine m = {.kernels = pr_cpu_kernels_find(isa)};
    assert_non_null(m.kernels);
    assert_int_equal(pr_cpu_pool_create(n_threads, &m.pool, NULL), PR_OK);
    m.scratch = pr_cpu_memory_alloc((size_t)n_threads * sizeof *m.scratch);
    assert_non_null(m.scratch);
    /* What a call leaves there must not matter. */
    memset(m.scratch, 0xFF, (size_t)n_threads * sizeof *m.scratch);
    return m;
}

static void machine_free(machine *m)
{
    free(m->scratch);
    pr_cpu_pool_free(m->pool);
}

/* Calls body for each instruction set that can run here, and says which cannot. */
static void for_each_isa(void (*body)(pr_cpu_isa))
{
    for (int i = PR_CPU_ISA_C; i < PR_CPU_ISA_COUNT; i++) {
        if (pr_cpu_isa_available((pr_cpu_isa)i)) {
            body((pr_cpu_isa)i);
        } else {
            print_message("not tested on this processor: %s\n", pr_cpu_isa_name((pr_cpu_isa)i));
        }
    }
}

static float *random_floats(int64_t n, uint32_t seed, float scale)
{
    float *p = malloc((size_t)(n > 0 ? n : 1) * sizeof *p);
    assert_non_null(p);
    uint32_t state = seed * 2654435761U + 1;
    for (int64_t i = 0; i < n; i++) {
        state = state * 1664525U + 1013904223U;
        p[i] = (float)(int32_t)state * 0x1p-31F * scale;
    }
    return p;
}

static double activation_f64(pr_activation activation, double v)
{
    switch (activation) {
    case PR_ACTIVATION_NONE:
        return v;
    case PR_ACTIVATION_GELU:
        return 0.5 * v * (1 + erf(v / sqrt(2.0)));
    case PR_ACTIVATION_GELU_TANH:
        return 0.5 * v * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (v + 0.044715 * v * v * v)));
    case PR_ACTIVATION_RELU:
        return v > 0 ? v : 0;
    case PR_ACTIVATION_SILU:
        return v / (1 + exp(-v));
    case PR_ACTIVATION_TANH:
        return tanh(v);
    case PR_ACTIVATION_SIGMOID:
        return 1 / (1 + exp(-v));
    }
    fail();
    return 0;
}

typedef struct gemm_case {
    pr_matrix_kind kind;
    int64_t m;
    int64_t n; /* n_out */
    int64_t k;
    pr_dtype stored;
    pr_dtype source;
    bool has_bias;
    pr_activation activation;
} gemm_case;

/* One case's operands; the rows are further apart than they are long. */
typedef struct operands {
    float *x;
    int64_t ldx;
    float *w_source; /* f32 values that `source` and `stored` hold exactly */
    void *w_bytes;   /* the same in `source` */
    float *bias;
    float *y;
    int64_t ldy;
    int64_t n_columns; /* of y */
} operands;

static operands operands_of(const gemm_case *c)
{
    operands o = {.ldx = c->k + 3};
    o.n_columns = c->kind == PR_MATRIX_GATED ? c->n / 2 : c->n;
    o.ldy = o.n_columns + 5;
    o.x = random_floats(c->m * o.ldx, 1, 1);
    o.w_source = random_floats(c->n * c->k, 2, 3 / sqrtf((float)c->k));
    o.bias = random_floats(c->n, 3, 1);
    o.y = malloc((size_t)(c->m * o.ldy) * sizeof *o.y);
    o.w_bytes = malloc((size_t)(c->n * c->k) * sizeof(float));
    assert_non_null(o.y);
    assert_non_null(o.w_bytes);
    for (int64_t i = 0; i < c->m * o.ldy; i++) o.y[i] = untouched;
    size_t n = (size_t)(c->n * c->k);
    pr_dtype_from_f32(o.w_source, c->source, n, o.w_bytes);
    pr_dtype_to_f32(o.w_bytes, c->source, n, o.w_source);
    if (c->stored == PR_DTYPE_BF16) {
        for (size_t i = 0; i < n; i++) {
            o.w_source[i] = pr_bf16_to_f32(pr_f32_to_bf16(o.w_source[i]));
        }
    }
    return o;
}

static void operands_free(operands *o)
{
    free(o->x);
    free(o->w_source);
    free(o->w_bytes);
    free(o->bias);
    free(o->y);
}

static double dot_f64(const gemm_case *c, const operands *o, int64_t i, int64_t row)
{
    double sum = c->has_bias ? o->bias[row] : 0;
    for (int64_t k = 0; k < c->k; k++) {
        sum += (double)o->x[i * o->ldx + k] * o->w_source[row * c->k + k];
    }
    return sum;
}

static double *reference_f64(const gemm_case *c, const operands *o)
{
    double *y = malloc((size_t)(c->m * o->n_columns) * sizeof *y);
    assert_non_null(y);
    for (int64_t i = 0; i < c->m; i++) {
        for (int64_t j = 0; j < o->n_columns; j++) {
            double v = activation_f64(c->activation, dot_f64(c, o, i, j));
            if (c->kind == PR_MATRIX_GATED) v *= dot_f64(c, o, i, o->n_columns + j);
            y[i * o->n_columns + j] = v;
        }
    }
    return y;
}

static const pr_cpu_gemm_kernels *kernels_of(const machine *m, const gemm_case *c)
{
    return pr_cpu_gemm_find(m->kernels->gemm, PR_MATMUL_HIGHEST, c->stored);
}

static pr_matrix *matrix_of(const gemm_case *c, const operands *o, const machine *m)
{
    pr_matrix *w = NULL;
    assert_int_equal(pr_cpu_matrix_create(kernels_of(m, c), c->kind, c->n, c->k, &w, NULL), PR_OK);
    pr_cpu_matrix_write(w, m->pool, 0, c->n, o->w_bytes, c->source);
    return w;
}

static void run_case(const gemm_case *c, operands *o, const machine *m)
{
    pr_matrix *w = matrix_of(c, o, m);
    for (int64_t i = 0; i < c->m * o->ldy; i++) o->y[i] = untouched;
    pr_gemm a = {.w = w,
                 .x = o->x,
                 .ldx = o->ldx,
                 .n_rows = c->m,
                 .bias = c->has_bias ? o->bias : NULL,
                 .activation = c->activation,
                 .y = o->y,
                 .ldy = o->ldy};
    pr_cpu_gemm_run(m->kernels->rowwise, m->pool, m->scratch, &a);
    pr_cpu_matrix_free(w);
}

static void expect_reference(const gemm_case *c, const operands *o, const double *reference,
                             const machine *m)
{
    for (int64_t i = 0; i < c->m; i++) {
        for (int64_t j = 0; j < o->ldy; j++) {
            float found = o->y[i * o->ldy + j];
            bool is_padding = j >= o->n_columns;
            double expected = is_padding ? untouched : reference[i * o->n_columns + j];
            double bound = is_padding ? 0 : 1e-5 * (1 + fabs(expected));
            if (fabs(found - expected) <= bound) continue;
            fail_msg("%s, %s, M %d N %d K %d, stored as %s, activation %d: y[%d][%d] is "
                     "%.9g, expected %.9g",
                     pr_cpu_isa_name(m->kernels->isa), c->kind ? "gated" : "plain", (int)c->m,
                     (int)c->n, (int)c->k, pr_dtype_name(c->stored), c->activation, (int)i, (int)j,
                     (double)found, expected);
        }
    }
}

/* The options of case i: each value of each option meets many shapes. */
static void choose_options(gemm_case *c, int i)
{
    static const pr_dtype sources[] = {PR_DTYPE_F32, PR_DTYPE_BF16, PR_DTYPE_F16};
    c->source = sources[i % 3];
    c->stored = i % 5 < 3 ? PR_DTYPE_F32 : PR_DTYPE_BF16;
    c->has_bias = i % 2 == 0;
    c->activation = (pr_activation)(i % 7);
}

static const int64_t sizes[] = {1, 2, 3, 5, 7, 13, 16, 17, 31, 32, 33, 64, 100, 384};
enum { N_SIZES = sizeof sizes / sizeof *sizes };

static void run_shapes(pr_matrix_kind kind)
{
    machine machines[PR_CPU_ISA_COUNT] = {0};
    for (int i = PR_CPU_ISA_C; i < PR_CPU_ISA_COUNT; i++) {
        if (pr_cpu_isa_available((pr_cpu_isa)i)) machines[i] = machine_of((pr_cpu_isa)i, 1 + i % 3);
    }
    int i_case = 0;
    for (int i = 0; i < N_SIZES * N_SIZES * N_SIZES; i++) {
        gemm_case c = {.kind = kind,
                       .m = sizes[i % N_SIZES],
                       .n = sizes[i / N_SIZES % N_SIZES],
                       .k = sizes[i / N_SIZES / N_SIZES]};
        if (c.m * c.n * c.k > 4000000) continue; /* a few of the largest cost most of the time */
        if (kind == PR_MATRIX_GATED) c.n *= 2;
        choose_options(&c, i_case++);
        operands o = operands_of(&c);
        double *reference = reference_f64(&c, &o);
        for (int isa = PR_CPU_ISA_C; isa < PR_CPU_ISA_COUNT; isa++) {
            if (!machines[isa].kernels) continue;
            if (isa == PR_CPU_ISA_AMX_C && c.m * c.n * c.k > 300000) continue; /* it is slow */
            run_case(&c, &o, &machines[isa]);
            expect_reference(&c, &o, reference, &machines[isa]);
        }
        free(reference);
        operands_free(&o);
    }
    for (int i = 0; i < PR_CPU_ISA_COUNT; i++) machine_free(&machines[i]);
}

static void gemm_matches_f64_over_odd_shapes(void **state)
{
    (void)state;
    run_shapes(PR_MATRIX_PLAIN);
}

static void gated_gemm_matches_f64_over_odd_shapes(void **state)
{
    (void)state;
    run_shapes(PR_MATRIX_GATED);
}

/* More than one block of K, of rows and of columns. */
static void check_large(pr_cpu_isa isa)
{
    static const gemm_case cases[] = {
        {.m = 201, .n = 130, .k = 1000, .has_bias = true},
        {.m = 99, .n = 2100, .k = 390, .activation = PR_ACTIVATION_GELU, .stored = PR_DTYPE_BF16},
        {.kind = PR_MATRIX_GATED, .m = 98, .n = 600, .k = 800, .activation = PR_ACTIVATION_SILU},
    };
    machine m = machine_of(isa, 2);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        operands o = operands_of(&cases[i]);
        double *reference = reference_f64(&cases[i], &o);
        run_case(&cases[i], &o, &m);
        expect_reference(&cases[i], &o, reference, &m);
        free(reference);
        operands_free(&o);
    }
    machine_free(&m);
}

static void gemm_matches_f64_over_several_blocks(void **state)
{
    (void)state;
    for_each_isa(check_large);
}

static void gemm_of_no_rows_does_nothing(void **state)
{
    (void)state;
    machine m = machine_of(PR_CPU_ISA_C, 2);
    gemm_case c = {.m = 1, .n = 8, .k = 8};
    operands o = operands_of(&c);
    pr_matrix *w = matrix_of(&c, &o, &m);
    pr_gemm a = {.w = w, .x = o.x, .ldx = o.ldx, .n_rows = 0, .y = o.y, .ldy = o.ldy};
    pr_cpu_gemm_run(m.kernels->rowwise, m.pool, m.scratch, &a);
    for (int i = 0; i < 8; i++) assert_true(o.y[i] == untouched);
    pr_cpu_matrix_free(w);
    operands_free(&o);
    machine_free(&m);
}

/* Batch invariance: rows 0 .. m-1 computed at once by one thread, then any run of them, at its own
 * place in the call, by 1, 2 and 3 threads. */
static void expect_same_bits(const gemm_case *c, pr_cpu_isa isa)
{
    operands o = operands_of(c);
    machine one = machine_of(isa, 1);
    run_case(c, &o, &one);
    for (int n_threads = 1; n_threads <= N_THREADS_MAX; n_threads++) {
        machine m = machine_of(isa, n_threads);
        pr_matrix *w = matrix_of(c, &o, &m);
        static const int64_t counts[] = {1, 2, 3, 5, 6, 7, 11, 12, 13, 16, 29, 64, 95, 97, 200};
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            for (int64_t begin = 0; begin + counts[i] <= c->m; begin += 37) {
                float *y = random_floats(counts[i] * o.n_columns, 9, 1);
                pr_gemm a = {.w = w,
                             .x = o.x + begin * o.ldx,
                             .ldx = o.ldx,
                             .n_rows = counts[i],
                             .bias = c->has_bias ? o.bias : NULL,
                             .activation = c->activation,
                             .y = y,
                             .ldy = o.n_columns};
                pr_cpu_gemm_run(m.kernels->rowwise, m.pool, m.scratch, &a);
                for (int64_t r = 0; r < counts[i]; r++) {
                    assert_memory_equal(y + r * o.n_columns, o.y + (begin + r) * o.ldy,
                                        (size_t)o.n_columns * sizeof *y);
                }
                free(y);
            }
        }
        pr_cpu_matrix_free(w);
        machine_free(&m);
    }
    machine_free(&one);
    operands_free(&o);
}

static void check_invariance(pr_cpu_isa isa)
{
    static const gemm_case cases[] = {
        {.m = 200, .n = 100, .k = 900, .has_bias = true, .activation = PR_ACTIVATION_GELU},
        {.m = 200, .n = 96, .k = 384, .has_bias = true},
        {.m = 200, .n = 1100, .k = 40, .stored = PR_DTYPE_BF16},
        {.kind = PR_MATRIX_GATED, .m = 200, .n = 150, .k = 400, .activation = PR_ACTIVATION_SILU},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) expect_same_bits(&cases[i], isa);
}

static void gemm_bits_do_not_depend_on_the_other_rows_nor_on_threads(void **state)
{
    (void)state;
    for_each_isa(check_invariance);
}

/* bf16 weights are widened exactly: as good as f32 weights of the same values. */
static void check_bf16_storage(pr_cpu_isa isa)
{
    gemm_case c = {.m = 50, .n = 77, .k = 500, .source = PR_DTYPE_BF16, .stored = PR_DTYPE_BF16};
    operands narrow = operands_of(&c);
    machine m = machine_of(isa, 2);
    run_case(&c, &narrow, &m);
    c.stored = PR_DTYPE_F32;
    operands wide = operands_of(&c);
    run_case(&c, &wide, &m);
    assert_memory_equal(narrow.y, wide.y, (size_t)(c.m * wide.ldy) * sizeof *wide.y);
    operands_free(&wide);
    operands_free(&narrow);
    machine_free(&m);
}

static void bf16_weights_give_the_bits_of_f32_weights(void **state)
{
    (void)state;
    for_each_isa(check_bf16_storage);
}

static void check_write_order(pr_cpu_isa isa)
{
    machine m = machine_of(isa, 2);
    for (int kind = PR_MATRIX_PLAIN; kind <= PR_MATRIX_GATED; kind++) {
        for (int i = 0; i < 6; i++) {
            gemm_case c = {.kind = (pr_matrix_kind)kind, .m = 1, .n = 202, .k = 133};
            choose_options(&c, i);
            operands o = operands_of(&c);
            pr_matrix *whole = matrix_of(&c, &o, &m);
            pr_matrix *parts = NULL;
            assert_int_equal(
                pr_cpu_matrix_create(kernels_of(&m, &c), c.kind, c.n, c.k, &parts, NULL), PR_OK);
            static const int64_t cuts[] = {202, 181, 180, 110, 99,
                                           64,  32,  7,   6,   0}; /* from the end */
            for (size_t p = 0; p + 1 < sizeof cuts / sizeof *cuts; p++) {
                const char *src = o.w_bytes;
                src += (size_t)(cuts[p + 1] * c.k) * pr_dtype_bytes(c.source);
                pr_cpu_matrix_write(parts, m.pool, cuts[p + 1], cuts[p] - cuts[p + 1], src,
                                    c.source);
            }
            assert_memory_equal(whole->panels, parts->panels, whole->n_bytes);
            pr_cpu_matrix_free(parts);
            pr_cpu_matrix_free(whole);
            operands_free(&o);
        }
    }
    machine_free(&m);
}

static void matrix_can_be_written_in_any_order(void **state)
{
    (void)state;
    for_each_isa(check_write_order);
}

/* Sources lie at any byte of a mapped file. */
static void check_unaligned_source(pr_cpu_isa isa)
{
    machine m = machine_of(isa, 1);
    for (int i = 0; i < 6; i++) {
        gemm_case c = {.m = 1, .n = 50, .k = 70};
        choose_options(&c, i);
        operands o = operands_of(&c);
        pr_matrix *aligned = matrix_of(&c, &o, &m);
        size_t n_bytes = (size_t)(c.n * c.k) * pr_dtype_bytes(c.source);
        char *shifted = malloc(n_bytes + 1);
        assert_non_null(shifted);
        memcpy(shifted + 1, o.w_bytes, n_bytes);
        free(o.w_bytes);
        o.w_bytes = shifted + 1;
        pr_matrix *w = matrix_of(&c, &o, &m);
        assert_memory_equal(w->panels, aligned->panels, w->n_bytes);
        pr_cpu_matrix_free(w);
        pr_cpu_matrix_free(aligned);
        o.w_bytes = shifted;
        operands_free(&o);
    }
    machine_free(&m);
}

static void matrix_source_may_be_unaligned(void **state)
{
    (void)state;
    for_each_isa(check_unaligned_source);
}

static void matrix_too_large_for_any_memory_is_refused(void **state)
{
    (void)state;
    pr_error err = {0};
    pr_matrix *w = NULL;
    assert_int_equal(pr_cpu_matrix_create(pr_cpu_gemm_c.f32[PR_MATMUL_HIGHEST], PR_MATRIX_PLAIN,
                                          INT64_MAX / 2, INT64_MAX / 2, &w, &err),
                     PR_E_NOMEM);
    assert_null(w);
}

static void check_cuts(const pr_cpu_gemm_kernels *kernels, int64_t n_in)
{
    static const int64_t rows[] = {1, 5, 12, 13, 64, 96, 97, 128, 300, 2048, 100000};
    static const int64_t panels[] = {1, 2, 12, 36, 48, 304, 5000};
    static const int threads[] = {1, 2, 3, 8, 64, 1024};
    for (int i = 0; i < 11 * 7 * 6; i++) {
        int64_t n_rows = rows[i % 11];
        int64_t n_panels = panels[i / 11 % 7];
        int n_threads = threads[i / 77];
        pr_cpu_gemm_cut cut = pr_cpu_gemm_cut_choose(kernels, n_rows, n_panels, n_in, n_threads);
        assert_in_range(cut.n_row_blocks, 1, n_rows);
        assert_in_range(cut.n_panel_blocks, 1, n_panels);
        assert_true((n_rows + cut.n_row_blocks - 1) / cut.n_row_blocks <= kernels->rows_max);
        int64_t columns = (n_panels + cut.n_panel_blocks - 1) / cut.n_panel_blocks * kernels->nr;
        bool fits =
            pr_cpu_gemm_x_fits(kernels, (n_rows + cut.n_row_blocks - 1) / cut.n_row_blocks, n_in);
        assert_true(fits || columns <= kernels->columns_max);
        int64_t n_tasks = cut.n_row_blocks * cut.n_panel_blocks;
        int64_t n_useful = n_rows * n_panels / kernels->rows_min;
        if (n_useful >= 2 * n_threads) assert_true(n_tasks * 2 >= n_threads);
    }
}

/* Every row of the table, whether this processor runs it or not. */
static void gemm_is_cut_within_its_bounds_and_for_all_threads(void **state)
{
    (void)state;
    for (int isa = PR_CPU_ISA_C; isa < PR_CPU_ISA_COUNT; isa++) {
        const pr_cpu_kernels *kernels = pr_cpu_kernels_find((pr_cpu_isa)isa);
        if (!kernels) continue;
        for (int i = 0; i < 3 * (PR_MATMUL_COUNT - 1); i++) {
            static const pr_dtype dtypes[] = {PR_DTYPE_F32, PR_DTYPE_F16, PR_DTYPE_BF16};
            const pr_cpu_gemm_kernels *row =
                pr_cpu_gemm_find(kernels->gemm, (pr_matmul_precision)(1 + i / 3), dtypes[i % 3]);
            assert_true(row->mr <= PR_CPU_GEMM_MR_MAX);
            assert_true(row->nr <= PR_CPU_GEMM_NR_MAX);
            assert_int_equal(row->k_block % row->k_unit, 0);
            assert_true(row->rows_max <= PR_CPU_GEMM_ROWS_MAX);
            assert_true(row->columns_max <= PR_CPU_GEMM_COLUMNS_MAX);
            int row_bytes = row->is_x_kept ? row->x_bytes * row->k_block : row->x_row_bytes;
            assert_true(row->rows_max * row_bytes <= PR_CPU_GEMM_X_BYTES);
            check_cuts(row, 384);
            check_cuts(row, 29568);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gemm_matches_f64_over_odd_shapes),
        cmocka_unit_test(gated_gemm_matches_f64_over_odd_shapes),
        cmocka_unit_test(gemm_matches_f64_over_several_blocks),
        cmocka_unit_test(gemm_of_no_rows_does_nothing),
        cmocka_unit_test(gemm_bits_do_not_depend_on_the_other_rows_nor_on_threads),
        cmocka_unit_test(bf16_weights_give_the_bits_of_f32_weights),
        cmocka_unit_test(matrix_can_be_written_in_any_order),
        cmocka_unit_test(matrix_source_may_be_unaligned),
        cmocka_unit_test(matrix_too_large_for_any_memory_is_refused),
        cmocka_unit_test(gemm_is_cut_within_its_bounds_and_for_all_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
