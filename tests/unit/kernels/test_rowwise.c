/* Row-wise kernels of the CPU backend: every version against the formulas in double over odd sizes
 * and strides; and that a row's bits depend on the row alone. */
#include "tests/unit/kernels/kernel_tables.h"

static const int64_t dims[] = {1,  2,  7,  8,  9,   15,  16,  17,   31,
                               33, 63, 64, 65, 100, 128, 384, 1000, 4099};
static const int64_t n_rows = 5;

#define COUNT(x) (sizeof(x) / sizeof *(x))

/* Every test body runs with each table that the processor can run. */
typedef void table_test(const kernel_table *t, int64_t dim);

static void for_tables_and_dims(table_test *test)
{
    kernel_table tables[N_TABLES];
    kernel_tables(tables);
    for (int t = 0; t < N_TABLES; t++) {
        if (!tables[t].available) continue;
        for (size_t i = 0; i < COUNT(dims); i++) test(&tables[t], dims[i]);
    }
}

/* |got - expected| <= bound, or a message that names the place. */
static void assert_near(const kernel_table *t, const char *what, int64_t dim, float got,
                        double expected, double bound)
{
    if (fabs(got - expected) <= bound) return;
    fail_msg("%s: %s: dim %d: found %.9g, expected %.9g within %g", t->name, what, (int)dim, got,
             expected, bound);
}

static void assert_untouched(const float *row, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++) assert_true(row[i] == -77.0f);
}

static float *floats_marked(size_t n)
{
    float *p = floats_make(n);
    for (size_t i = 0; i < n; i++) p[i] = -77.0f;
    return p;
}

static void check_norm(const kernel_table *t, int64_t dim, pr_norm kind, bool has_bias,
                       float offset)
{
    rng r = {(uint64_t)dim};
    const int64_t ldx = dim + 3, ldy = dim + 5;
    float *x = floats_random(&r, (size_t)(n_rows * ldx), 2.0f);
    float *weight = floats_random(&r, (size_t)dim, 1.5f),
          *bias = floats_random(&r, (size_t)dim, 1.0f);
    float *y = floats_marked((size_t)(n_rows * ldy));
    for (int64_t i = 0; i < n_rows * ldx; i++) x[i] += offset;
    const pr_norm_args a = {.kind = kind,
                            .x = x,
                            .ldx = ldx,
                            .weight = weight,
                            .bias = has_bias ? bias : NULL,
                            .eps = 1e-5f,
                            .n_rows = n_rows,
                            .dim = dim,
                            .y = y,
                            .ldy = ldy};
    t->rowwise->norm(&a, 1, n_rows);
    assert_untouched(y, 0, ldy); /* row 0 is not in the range */
    for (int64_t i = 1; i < n_rows; i++) {
        const float *row = x + i * ldx;
        double mean = 0.0, squares = 0.0;
        for (int64_t c = 0; c < dim; c++) mean += row[c];
        mean = kind == PR_NORM_LAYER ? mean / (double)dim : 0.0;
        for (int64_t c = 0; c < dim; c++) squares += (row[c] - mean) * (row[c] - mean);
        const double inverse = 1.0 / sqrt(squares / (double)dim + 1e-5f);
        /* what rounding of the mean leaves, seen through the division by the deviation */
        const double bound = 1e-6 + 2e-7 * fabs(offset) * inverse;
        for (int64_t c = 0; c < dim; c++) {
            const double e = (row[c] - mean) * inverse * weight[c] + (has_bias ? bias[c] : 0.0);
            assert_near(t, "norm", dim, y[i * ldy + c], e, bound * fmax(1.0, fabs(e)));
        }
        assert_untouched(y + i * ldy, dim, ldy);
    }
    free(x);
    free(weight);
    free(bias);
    free(y);
}

static void norms(const kernel_table *t, int64_t dim)
{
    check_norm(t, dim, PR_NORM_LAYER, true, 0.0f);
    check_norm(t, dim, PR_NORM_LAYER, false, 0.0f);
    check_norm(t, dim, PR_NORM_LAYER, true, 30.0f);
    check_norm(t, dim, PR_NORM_RMS, false, 0.0f);
    check_norm(t, dim, PR_NORM_RMS, false, 3.0f);
}

static void norm_is_the_formula(void **state)
{
    (void)state;
    for_tables_and_dims(norms);
}

/* Given a row of equal numbers, when it is LayerNormed, then the bias is left: nothing divides by
 * 0. */
static void constant_row(const kernel_table *t, int64_t dim)
{
    float *x = floats_make((size_t)dim), *ones = floats_make((size_t)dim);
    for (int64_t c = 0; c < dim; c++) {
        x[c] = 0.25f;
        ones[c] = 1.0f;
    }
    const pr_norm_args a = {.kind = PR_NORM_LAYER, .x = x, .ldx = dim, .weight = ones,
                            .bias = ones, .eps = 1e-12f, .n_rows = 1, .dim = dim, .y = x,
                            .ldy = dim};
    t->rowwise->norm(&a, 0, 1);
    for (int64_t c = 0; c < dim; c++) assert_true(x[c] == 1.0f);
    free(x);
    free(ones);
}

/* Given x and a residual, when both are normed, then sum and y are those of the two steps apart, to
 * the bit, in place too. */
static void norm_of_a_sum(const kernel_table *t, int64_t dim)
{
    rng r = {(uint64_t)dim + 5};
    const size_t n = (size_t)dim, n_bytes = n * sizeof(float);
    float *x = floats_random(&r, n, 2.0f), *residual = floats_random(&r, n, 2.0f);
    float *weight = floats_random(&r, n, 1.0f), *sum = floats_make(n), *y = floats_make(n);
    float *wide = floats_make(n), *added = floats_make(n), *normed = floats_make(n);
    for (size_t i = 0; i < n; i++) added[i] = x[i] + residual[i];
    for (int kind = 0; kind < 2; kind++) {
        pr_norm_args a = {.kind = kind ? PR_NORM_LAYER : PR_NORM_RMS, .x = added,
                          .weight = weight, .eps = 1e-6f, .n_rows = 1, .dim = dim, .y = normed};
        t->rowwise->norm(&a, 0, 1);
        a.x = x;
        a.residual = residual;
        a.sum = sum;
        a.y = y;
        a.wide = wide;
        t->rowwise->norm(&a, 0, 1);
        assert_memory_equal(sum, added, n_bytes);
        assert_memory_equal(y, normed, n_bytes);
        assert_memory_equal(wide, normed, n_bytes);
        memcpy(y, residual, n_bytes);
        a.residual = a.y = y;
        a.sum = a.wide = NULL;
        t->rowwise->norm(&a, 0, 1);
        assert_memory_equal(y, normed, n_bytes);
    }
    const pr_norm_args only_sum = {.x = x, .residual = residual, .sum = residual, .n_rows = 1,
                                   .dim = dim};
    t->rowwise->norm(&only_sum, 0, 1);
    assert_memory_equal(residual, added, n_bytes);
    float *all[] = {x, residual, weight, sum, y, wide, added, normed};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static void a_residual_is_added_before_the_norm(void **state)
{
    (void)state;
    for_tables_and_dims(norm_of_a_sum);
}

static void layer_norm_of_a_constant_row_is_the_bias(void **state)
{
    (void)state;
    for_tables_and_dims(constant_row);
}

static void check_rope(const kernel_table *t, int32_t head_dim, bool has_norm, bool rotates)
{
    rng r = {(uint64_t)head_dim};
    enum { N_HEADS = 3, N_POSITIONS = 50 };
    const int64_t half = head_dim / 2, ldx = (int64_t)N_HEADS * head_dim + 7;
    float *x = floats_random(&r, (size_t)(n_rows * ldx), 2.0f),
          *before = floats_make((size_t)(n_rows * ldx));
    float *weight = floats_random(&r, (size_t)head_dim, 1.5f);
    float *k_weight = floats_random(&r, (size_t)head_dim, 1.5f);
    float *cos_table = floats_make((size_t)(N_POSITIONS * half)),
          *sin_table = floats_make((size_t)(N_POSITIONS * half));
    const int32_t positions[] = {0, 49, 3, 3, 17};
    for (int64_t i = 0; i < N_POSITIONS * half; i++) {
        const double angle = (double)(i / half) * pow(10000.0, -(double)(i % half) / (double)half);
        cos_table[i] = (float)cos(angle);
        sin_table[i] = (float)sin(angle);
    }
    memcpy(before, x, (size_t)(n_rows * ldx) * sizeof *x);
    const pr_rope a = {.x = x,
                       .ldx = ldx,
                       .n_rows = n_rows,
                       .n_heads = N_HEADS - 1,
                       .n_kv_heads = 1,
                       .head_dim = head_dim,
                       .positions = positions,
                       .cos = rotates ? cos_table : NULL,
                       .sin = rotates ? sin_table : NULL,
                       .q_norm = has_norm ? weight : NULL,
                       .k_norm = has_norm ? k_weight : NULL,
                       .norm_eps = 1e-6f};
    t->rowwise->rope(&a, 1, n_rows);
    assert_memory_equal(x, before, (size_t)ldx * sizeof *x);
    for (int64_t i = 1; i < n_rows; i++) {
        for (int64_t h = 0; h < N_HEADS; h++) {
            const float *in = before + i * ldx + h * head_dim, *out = x + i * ldx + h * head_dim;
            double v[256], squares = 0.0;
            for (int32_t d = 0; d < head_dim; d++) squares += (double)in[d] * in[d];
            const double inverse = 1.0 / sqrt(squares / head_dim + 1e-6f);
            for (int32_t d = 0; d < head_dim; d++) {
                const float *w = h < N_HEADS - 1 ? weight : k_weight;
                v[d] = has_norm ? in[d] * inverse * w[d] : in[d];
            }
            for (int64_t d = 0; d < head_dim && !rotates; d++) {
                assert_near(t, "head norm", head_dim, out[d], v[d], 2e-6);
            }
            for (int64_t d = 0; d < half && rotates; d++) {
                const double c = cos_table[positions[i] * half + d];
                const double s = sin_table[positions[i] * half + d];
                assert_near(t, "rope", head_dim, out[d], v[d] * c - v[half + d] * s, 2e-6);
                assert_near(t, "rope", head_dim, out[half + d], v[half + d] * c + v[d] * s, 2e-6);
            }
        }
        assert_memory_equal(x + i * ldx + N_HEADS * head_dim, before + i * ldx + N_HEADS * head_dim,
                            7 * sizeof *x);
    }
    free(x);
    free(before);
    free(k_weight);
    free(weight);
    free(cos_table);
    free(sin_table);
}

static void rope_turns_pairs_of_the_two_halves(void **state)
{
    (void)state;
    kernel_table tables[N_TABLES];
    kernel_tables(tables);
    static const int32_t head_dims[] = {2, 8, 16, 32, 40, 64, 80, 96, 128, 256};
    for (int t = 0; t < N_TABLES; t++) {
        for (size_t i = 0; i < COUNT(head_dims) && tables[t].available; i++) {
            check_rope(&tables[t], head_dims[i], false, true);
            check_rope(&tables[t], head_dims[i], true, true);
            check_rope(&tables[t], head_dims[i], true, false);
        }
    }
}

/* is_shard: the token table has rows 1 to 8 of ten. */
static void check_embed(const kernel_table *t, int64_t dim, pr_dtype dtype, bool has_position,
                        bool has_type, bool has_types, bool is_shard)
{
    rng r = {(uint64_t)dim + 9};
    const int64_t ld = dim + 1, ldy = dim + 2;
    const size_t n = (size_t)(10 * ld), width = pr_dtype_bytes(dtype);
    float *source = floats_random(&r, 3 * n, 1.0f), *exact = floats_make(3 * n);
    unsigned char *tables = calloc(3 * n, width);
    pr_dtype_from_f32(source, dtype, 3 * n, tables);
    pr_dtype_to_f32(tables, dtype, 3 * n, exact);
    float *y = floats_marked((size_t)(n_rows * ldy));
    static const int32_t tokens[] = {0, 9, 4, 4, 1}, positions[] = {2, 3, 9, 0, 1};
    static const uint8_t types[] = {0, 1, 1, 0, 2};
    const size_t first_bytes = is_shard ? (size_t)ld * width : 0;
    const pr_cpu_embed a = {.token = {tables + first_bytes, dtype, ld},
                            .token_begin = is_shard ? 1 : 0,
                            .n_token_rows = is_shard ? 8 : 10,
                            .position = {has_position ? tables + n * width : NULL, dtype, ld},
                            .type = {has_type ? tables + 2 * n * width : NULL, dtype, ld},
                            .tokens = tokens,
                            .positions = has_position ? positions : NULL,
                            .types = has_types ? types : NULL,
                            .dim = dim,
                            .y = y,
                            .ldy = ldy};
    t->rowwise->embed(&a, 1, n_rows);
    assert_untouched(y, 0, ldy);
    for (int64_t i = 1; i < n_rows; i++) {
        const int64_t type = has_types ? types[i] : 0;
        for (int64_t c = 0; c < dim; c++) {
            const bool has_token = !is_shard || (tokens[i] >= 1 && tokens[i] <= 8);
            float e = has_token ? exact[tokens[i] * ld + c] : 0.0f;
            if (has_type) e += exact[2 * n + (size_t)(type * ld + c)];
            if (has_position) e += exact[n + (size_t)(positions[i] * ld + c)];
            assert_near(t, "embed", dim, y[i * ldy + c], e, 0.0);
        }
        assert_untouched(y + i * ldy, dim, ldy);
    }
    free(source);
    free(exact);
    free(tables);
    free(y);
}

static void embeds(const kernel_table *t, int64_t dim)
{
    check_embed(t, dim, PR_DTYPE_F32, true, true, true, false);
    check_embed(t, dim, PR_DTYPE_F32, true, true, false, false);
    check_embed(t, dim, PR_DTYPE_F32, false, false, false, false);
    check_embed(t, dim, PR_DTYPE_F32, true, true, true, true);
    check_embed(t, dim, PR_DTYPE_BF16, true, true, true, false);
    check_embed(t, dim, PR_DTYPE_BF16, false, false, false, false);
    check_embed(t, dim, PR_DTYPE_BF16, false, false, false, true);
}

static void embed_adds_token_type_and_position(void **state)
{
    (void)state;
    for_tables_and_dims(embeds);
}

static double activation_exact(pr_activation activation, double x)
{
    const double u = 2.0 * 0.79788456080286536 * (x + 0.044715 * x * x * x);
    switch (activation) {
    case PR_ACTIVATION_GELU:
        return 0.5 * x * erfc(-x * 0.70710678118654752);
    case PR_ACTIVATION_GELU_TANH:
        return x / (1.0 + exp(-u));
    case PR_ACTIVATION_RELU:
        return fmax(0.0, x);
    case PR_ACTIVATION_SILU:
        return x / (1.0 + exp(-x));
    case PR_ACTIVATION_TANH:
        return tanh(x);
    case PR_ACTIVATION_SIGMOID:
        return 1.0 / (1.0 + exp(-x));
    case PR_ACTIVATION_NONE:
        break;
    }
    return x;
}

static void activations(const kernel_table *t, int64_t dim)
{
    rng r = {(uint64_t)dim + 5};
    const size_t n = (size_t)dim, n_marked = n + 4;
    for (int k = PR_ACTIVATION_NONE; k < PR_ACTIVATION_COUNT; k++) {
        const pr_activation activation = (pr_activation)k;
        float *x = floats_random(&r, n, 9.0f), *up = floats_random(&r, n, 2.0f);
        float *y = floats_marked(n_marked), *g = floats_marked(n_marked);
        memcpy(y, x, n * sizeof *x);
        t->rowwise->activate(activation, y, dim);
        for (int64_t c = 0; c < dim; c++) {
            assert_near(t, "activation", dim, y[c], activation_exact(activation, x[c]),
                        3e-7 * fmax(1.0, fabs(x[c])));
        }
        assert_untouched(y, dim, dim + 4);
        /* the same bits, times up */
        t->rowwise->gated(activation, x, up, g, dim);
        for (int64_t c = 0; c < dim; c++) assert_true(g[c] == y[c] * up[c]);
        assert_untouched(g, dim, dim + 4);
        t->rowwise->gated(activation, x, up, x, dim); /* y may be gate */
        assert_memory_equal(g, x, n * sizeof *g);
        free(x);
        free(up);
        free(y);
        free(g);
    }
}

static void activation_is_the_formula_and_gated_multiplies_it(void **state)
{
    (void)state;
    for_tables_and_dims(activations);
}

/* Given the same value at every place of a row, then every place has the same bits. */
static void activation_places(const kernel_table *t, int64_t dim)
{
    float *x = floats_make((size_t)dim);
    for (int k = PR_ACTIVATION_NONE; k < PR_ACTIVATION_COUNT; k++) {
        for (int64_t c = 0; c < dim; c++) x[c] = -1.2345678f;
        t->rowwise->activate((pr_activation)k, x, dim);
        for (int64_t c = 1; c < dim; c++) assert_memory_equal(x, x + c, sizeof *x);
    }
    free(x);
}

static void activation_does_not_depend_on_the_place(void **state)
{
    (void)state;
    for_tables_and_dims(activation_places);
}

/* Given any values, then AVX2 and AVX-512 activate them to the same bits. */
static void activation_is_the_same_for_both_vector_widths(void **state)
{
    (void)state;
    kernel_table tables[N_TABLES];
    kernel_tables(tables);
    if (!tables[1].available || !tables[2].available) skip();
    enum { N = 100003 };
    rng r = {31};
    float *x = floats_make(N), *a = floats_make(N), *b = floats_make(N);
    for (int i = 0; i < N; i++) x[i] = ldexpf(rng_unit(&r), (int)(rng_u32(&r) % 40) - 30);
    for (int k = PR_ACTIVATION_NONE; k < PR_ACTIVATION_COUNT; k++) {
        memcpy(a, x, N * sizeof *x);
        memcpy(b, x, N * sizeof *x);
        tables[1].rowwise->activate((pr_activation)k, a, N);
        tables[2].rowwise->activate((pr_activation)k, b, N);
        assert_memory_equal(a, b, N * sizeof *x);
    }
    free(x);
    free(a);
    free(b);
}

static void gathers_and_means(const kernel_table *t, int64_t dim)
{
    rng r = {(uint64_t)dim + 13};
    const int64_t ldx = dim + 2, ldy = dim + 3, n = 40;
    float *x = floats_random(&r, (size_t)(n * ldx), 5.0f),
          *y = floats_marked((size_t)(n_rows * ldy));
    static const uint32_t rows[] = {7, 39, 0, 7, 21};
    t->rowwise->gather(x, ldx, rows, 1, n_rows, dim, y, ldy);
    assert_untouched(y, 0, ldy);
    for (int64_t i = 1; i < n_rows; i++) {
        assert_memory_equal(y + i * ldy, x + rows[i] * ldx, (size_t)dim * sizeof *x);
        assert_untouched(y + i * ldy, dim, ldy);
    }
    for (int64_t count = 0; count <= n_rows; count++) {
        float *m = floats_marked((size_t)dim + 1);
        const int64_t begin = dim / 3;
        t->rowwise->mean(x, ldx, rows, count, begin, dim, m);
        assert_untouched(m, 0, begin);
        assert_untouched(m, dim, dim + 1);
        for (int64_t c = begin; c < dim; c++) {
            float sum = 0.0f, lost = 0.0f;
            for (int64_t i = 0; i < count; i++) {
                const float part = x[rows[i] * ldx + c] - lost, next = sum + part;
                lost = (next - sum) - part;
                sum = next;
            }
            assert_near(t, "mean", dim, m[c], count ? sum / (float)count : 0.0f, 0.0);
        }
        free(m);
    }
    free(x);
    free(y);
}

static void gather_copies_rows_and_mean_adds_them_in_order(void **state)
{
    (void)state;
    for_tables_and_dims(gathers_and_means);
}

/* Plain addition rounds each of such rows the same way: 6.5e-5 off. */
static void means_equal_rows(const kernel_table *t, int64_t dim)
{
    enum { N = 8192 };
    float *x = malloc((size_t)dim * sizeof *x), *m = malloc((size_t)dim * sizeof *m);
    uint32_t *rows = calloc(N, sizeof *rows);
    assert_true(x && m && rows);
    for (int64_t c = 0; c < dim; c++) x[c] = (float)(c + 1) * 0.1234567f;
    t->rowwise->mean(x, dim, rows, N, 0, dim, m);
    for (int64_t c = 0; c < dim; c++) {
        assert_near(t, "mean of equal rows", dim, m[c], x[c], (double)x[c] * 1.2e-7);
    }
    free(x);
    free(m);
    free(rows);
}

static void mean_of_many_equal_rows_is_that_row(void **state)
{
    (void)state;
    for_tables_and_dims(means_equal_rows);
}

/* Given a row, when it is computed as another row of a larger call and at another alignment, then
 * it has the same bits. */
static void rows_alone_and_together(const kernel_table *t, int64_t dim)
{
    rng r = {(uint64_t)dim + 23};
    enum { N = 9 };
    const int64_t ld = dim + 1; /* every row at another alignment */
    float *x = floats_random(&r, (size_t)(N * ld), 4.0f),
          *weight = floats_random(&r, (size_t)dim, 1.0f);
    float *all = floats_make((size_t)(N * ld)), *one = floats_make((size_t)dim);
    for (int op = 0; op < 2; op++) {
        memcpy(all, x, (size_t)(N * ld) * sizeof *x);
        pr_norm_args a = {.kind = PR_NORM_LAYER, .x = all, .ldx = ld, .weight = weight,
                          .bias = weight, .eps = 1e-5f, .n_rows = N, .dim = dim, .y = all,
                          .ldy = ld};
        if (op == 1) a.kind = PR_NORM_RMS;
        t->rowwise->norm(&a, 0, N);
        for (int64_t i = 0; i < N; i++) {
            memcpy(one, x + i * ld, (size_t)dim * sizeof *x);
            a.x = a.y = one;
            t->rowwise->norm(&a, 0, 1);
            assert_memory_equal(one, all + i * ld, (size_t)dim * sizeof *x);
        }
    }
    free(x);
    free(weight);
    free(all);
    free(one);
}

static void rows_do_not_depend_on_their_company(void **state)
{
    (void)state;
    for_tables_and_dims(rows_alone_and_together);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norm_is_the_formula),
        cmocka_unit_test(layer_norm_of_a_constant_row_is_the_bias),
        cmocka_unit_test(a_residual_is_added_before_the_norm),
        cmocka_unit_test(rope_turns_pairs_of_the_two_halves),
        cmocka_unit_test(embed_adds_token_type_and_position),
        cmocka_unit_test(activation_is_the_formula_and_gated_multiplies_it),
        cmocka_unit_test(activation_does_not_depend_on_the_place),
        cmocka_unit_test(activation_is_the_same_for_both_vector_widths),
        cmocka_unit_test(gather_copies_rows_and_mean_adds_them_in_order),
        cmocka_unit_test(mean_of_many_equal_rows_is_that_row),
        cmocka_unit_test(rows_do_not_depend_on_their_company),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
