/* The CUDA backend on the simulated device, call by call, against the CPU backend. */
#include "tests/simcuda/backend_rig.h"

#include <math.h>

static const pr_dtype dtypes[] = {PR_DTYPE_F32, PR_DTYPE_BF16, PR_DTYPE_F16};
enum { N_DTYPES = sizeof dtypes / sizeof *dtypes };

/* What the backend rounds in one call beyond its result, of numbers about 1: the product before an
 * activation, a bias. */
static double rounded_inside(pr_dtype dtype)
{
    return dtype == PR_DTYPE_F32 ? 2e-5 : dtype == PR_DTYPE_BF16 ? 0x1p-7 : 0x1p-10;
}

/* ---- gemm ---- */

typedef struct gemm_case {
    pr_matrix_kind kind;
    int64_t n_out, n_in, n_rows;
    bool has_bias;
    pr_activation activation;
    int64_t gap; /* between rows of x and y, in elements */
} gemm_case;

static const gemm_case gemm_cases[] = {
    {PR_MATRIX_PLAIN, 32, 64, 1, false, PR_ACTIVATION_NONE, 0},
    {PR_MATRIX_PLAIN, 24, 40, 130, true, PR_ACTIVATION_NONE, 8},
    {PR_MATRIX_PLAIN, 16, 24, 5, true, PR_ACTIVATION_GELU_TANH, 0},
    {PR_MATRIX_PLAIN, 16, 24, 5, false, PR_ACTIVATION_GELU_TANH, 0},
    {PR_MATRIX_PLAIN, 16, 24, 7, true, PR_ACTIVATION_GELU, 0},
    {PR_MATRIX_PLAIN, 16, 24, 7, false, PR_ACTIVATION_TANH, 8},
    {PR_MATRIX_PLAIN, 1, 48, 3, true, PR_ACTIVATION_SIGMOID, 0},
    {PR_MATRIX_PLAIN, 7, 13, 9, true, PR_ACTIVATION_NONE, 0},
    {PR_MATRIX_PLAIN, 7, 13, 9, true, PR_ACTIVATION_RELU, 3},
    {PR_MATRIX_GATED, 48, 32, 3, false, PR_ACTIVATION_SILU, 0},
    {PR_MATRIX_GATED, 48, 32, 200, true, PR_ACTIVATION_SILU, 8},
    {PR_MATRIX_GATED, 22, 10, 2, true, PR_ACTIVATION_GELU, 1},
    {PR_MATRIX_GATED, 32, 16, 300, false, PR_ACTIVATION_SILU, 0}, /* more than are reserved: cut */
};

static void gemm_check(const gemm_case *c, pr_dtype backend, pr_dtype matrix)
{
    rig r;
    rig_begin(&r, backend, PR_SIM_FORWARD, 1);
    bool is_gated = c->kind == PR_MATRIX_GATED;
    int64_t width = is_gated ? c->n_out / 2 : c->n_out, ldx = c->n_in + c->gap;
    int64_t ldy = width + c->gap, n = pr_backend_rows(r.cuda, c->n_rows);
    const float *x = rig_numbers(&r, n * ldx, matrix, 1.0f);
    const float *bias = rig_numbers(&r, c->n_out, PR_DTYPE_F32, 1.0f);
    rig_matrix w = rig_matrix_make(&r, c->kind, c->n_out, c->n_in, matrix);
    rig_reserve(&r, 256, 2, 1, 32);
    pr_gemm a = {.w = w.cuda, .x = rig_device(&r, x, n * ldx, matrix), .ldx = ldx,
                 .n_rows = c->n_rows, .activation = c->activation,
                 .y = rig_device(&r, NULL, n * ldy, matrix), .ldy = ldy};
    if (c->has_bias) a.bias = rig_device(&r, bias, c->n_out, PR_DTYPE_F32);
    pr_gemm e = a;
    e.w = w.cpu;
    e.x = rig_judge(&r, x, n * ldx);
    e.y = rig_judge(&r, NULL, n * ldy);
    if (c->has_bias) e.bias = rig_judge(&r, bias, c->n_out);
    rig_ok(r.cuda->ops->gemm(r.cuda, &a, err));
    rig_ok(r.cpu->ops->gemm(r.cpu, &e, err));
    /* a rounded gate and a rounded factor, each as large as sqrt(n_in) or so */
    double more = rounded_inside(matrix) * (is_gated ? 4.0 * sqrt((double)c->n_in) : 3.0);
    rig_near("gemm", rig_fetch(&r, a.y, n * ldy, matrix), ldy, e.y, ldy, c->n_rows, width, matrix,
             more);
    rig_matrix_free(&r, &w);
    rig_end(&r);
}

static void gemm_is_the_judges(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof gemm_cases / sizeof *gemm_cases; i++)
        for (int d = 0; d < N_DTYPES; d++) gemm_check(&gemm_cases[i], dtypes[d], dtypes[d]);
}

static void a_heads_matrix_is_f32_on_a_backend_of_16_bits(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof gemm_cases / sizeof *gemm_cases; i += 3)
        gemm_check(&gemm_cases[i], PR_DTYPE_BF16, PR_DTYPE_F32);
}

static void gemm_of_no_rows_is_nothing(void **state)
{
    (void)state;
    rig r;
    rig_begin(&r, PR_DTYPE_BF16, PR_SIM_FORWARD, 1);
    rig_matrix w = rig_matrix_make(&r, PR_MATRIX_GATED, 16, 16, PR_DTYPE_BF16);
    const pr_gemm a = {.w = w.cuda, .ldx = 16, .ldy = 8};
    rig_ok(r.cuda->ops->gemm(r.cuda, &a, err));
    rig_matrix_free(&r, &w);
    rig_end(&r);
}

/* Every product has full tiles of rows, whatever the batch: this is what one algorithm for all
 * batches rests on. */
static void rows_of_a_product_are_padded(void **state)
{
    (void)state;
    rig r;
    rig_begin(&r, PR_DTYPE_BF16, PR_SIM_FORWARD, 1);
    rig_matrix w = rig_matrix_make(&r, PR_MATRIX_PLAIN, 16, 16, PR_DTYPE_BF16);
    const float *zeros = rig_host(&r, 128 * 16);
    const pr_gemm a = {.w = w.cuda, .x = rig_device(&r, zeros, 128 * 16, PR_DTYPE_BF16), .ldx = 16,
                       .n_rows = 1, .y = rig_device(&r, NULL, 128 * 16, PR_DTYPE_BF16), .ldy = 16};
    rig_ok(r.cuda->ops->gemm(r.cuda, &a, err));
    rig_near("padding", rig_fetch(&r, a.y, 128 * 16, PR_DTYPE_BF16), 16, zeros, 16, 128, 16,
             PR_DTYPE_BF16, 0);
    rig_matrix_free(&r, &w);
    rig_end(&r);
}

static void a_bias_that_was_written_anew_is_used(void **state)
{
    (void)state;
    rig r;
    rig_begin(&r, PR_DTYPE_BF16, PR_SIM_FORWARD, 1);
    rig_matrix w = rig_matrix_make(&r, PR_MATRIX_PLAIN, 16, 16, PR_DTYPE_BF16);
    const float *x = rig_host(&r, 128 * 16); /* zeros: y is the bias */
    const float first[16] = {1.0f, 2.0f}, second[16] = {3.0f, 4.0f};
    void *bias = rig_device(&r, first, 16, PR_DTYPE_F32);
    const pr_gemm a = {.w = w.cuda, .x = rig_device(&r, x, 128 * 16, PR_DTYPE_BF16), .ldx = 16,
                       .n_rows = 1, .bias = bias, .ldy = 16,
                       .y = rig_device(&r, NULL, 128 * 16, PR_DTYPE_BF16)};
    rig_ok(r.cuda->ops->gemm(r.cuda, &a, err));
    rig_near("first", rig_fetch(&r, a.y, 16, PR_DTYPE_BF16), 16, first, 16, 1, 16, PR_DTYPE_F32, 0);
    rig_ok(r.cuda->ops->upload(r.cuda, bias, second, sizeof second, err));
    rig_ok(r.cuda->ops->gemm(r.cuda, &a, err));
    rig_near("second", rig_fetch(&r, a.y, 16, PR_DTYPE_BF16), 16, second, 16, 1, 16, PR_DTYPE_F32,
             0);
    rig_matrix_free(&r, &w);
    rig_end(&r);
}

/* ---- weights ---- */

/* An identity in x shows the matrix itself. */
static void a_matrix_is_written_in_any_order_and_dtype(void **state)
{
    (void)state;
    enum { N_OUT = 20, N_IN = 13 };
    for (int d = 0; d < N_DTYPES; d++) {
        rig r;
        rig_begin(&r, PR_DTYPE_F32, PR_SIM_FORWARD, 1);
        const float *numbers = rig_numbers(&r, N_OUT * N_IN, PR_DTYPE_BF16, 1.0f);
        float *expected = rig_host(&r, N_IN * N_OUT), *one = rig_host(&r, 128 * N_IN);
        for (int i = 0; i < N_IN; i++) {
            one[i * N_IN + i] = 1.0f;
            for (int j = 0; j < N_OUT; j++) expected[i * N_OUT + j] = numbers[j * N_IN + i];
        }
        char packed[N_OUT * N_IN * sizeof(float) + 1]; /* + 1: read from an odd address */
        for (int part = 0; part < 2; part++) {
            pr_dtype src = dtypes[part ? d : 0];
            pr_matrix *w = NULL;
            rig_ok(r.cuda->ops->matrix_create(r.cuda, PR_MATRIX_PLAIN, N_OUT, N_IN, PR_DTYPE_F32,
                                              &w, err));
            static const int begins[] = {12, 0, 3}, ends[] = {20, 3, 12};
            float narrow[N_OUT * N_IN];
            for (int k = 0; k < 3; k++) {
                size_t n = (size_t)(ends[k] - begins[k]) * N_IN;
                pr_dtype_from_f32(numbers + begins[k] * N_IN, src, n, narrow);
                memcpy(packed + 1, narrow, n * pr_dtype_bytes(src));
                rig_ok(r.cuda->ops->matrix_write(r.cuda, w, begins[k], ends[k] - begins[k],
                                                 packed + 1, src, err));
            }
            const pr_gemm a = {.w = w, .x = rig_device(&r, one, 128 * N_IN, PR_DTYPE_F32),
                               .ldx = N_IN, .n_rows = N_IN, .ldy = N_OUT,
                               .y = rig_device(&r, NULL, 128 * N_OUT, PR_DTYPE_F32)};
            rig_ok(r.cuda->ops->gemm(r.cuda, &a, err));
            rig_near("matrix", rig_fetch(&r, a.y, N_IN * N_OUT, PR_DTYPE_F32), N_OUT, expected,
                     N_OUT, N_IN, N_OUT, PR_DTYPE_F32, 0);
            assert_true(r.cuda->ops->matrix_bytes(w) >= N_OUT * N_IN * sizeof(float));
            r.cuda->ops->matrix_free(r.cuda, w);
        }
        rig_end(&r);
    }
}

/* Rows of more than two staging buffers, in one write: the third waits for the first. */
static void more_than_the_staging_buffers_hold_is_written(void **state)
{
    (void)state;
    enum { N_ROWS = 90, DIM = 65536 }; /* 22.5 MiB of f32 */
    rig r;
    rig_begin(&r, PR_DTYPE_F32, PR_SIM_FORWARD, 1);
    float *numbers = malloc((size_t)N_ROWS * DIM * sizeof *numbers);
    assert_non_null(numbers);
    for (size_t i = 0; i < (size_t)N_ROWS * DIM; i++) numbers[i] = (float)(i / 7);
    pr_table *t = NULL;
    rig_ok(r.cuda->ops->table_create(r.cuda, N_ROWS, DIM, PR_DTYPE_F32, &t, err));
    rig_ok(r.cuda->ops->table_write(r.cuda, t, 0, N_ROWS, numbers, PR_DTYPE_F32, err));
    const int32_t tokens[] = {0, 31, 32, 64, 89};
    const pr_embed a = {.token = t, .tokens = rig_device_bytes(&r, tokens, sizeof tokens),
                        .n_rows = 5, .y = rig_device(&r, NULL, 5 * DIM, PR_DTYPE_F32), .ldy = DIM};
    rig_ok(r.cuda->ops->embed(r.cuda, &a, err));
    const float *found = rig_fetch(&r, a.y, 5 * DIM, PR_DTYPE_F32);
    for (int i = 0; i < 5; i++) {
        assert_memory_equal(found + i * DIM, numbers + (size_t)tokens[i] * DIM,
                            DIM * sizeof(float));
    }
    assert_int_equal(r.cuda->ops->table_bytes(t), (size_t)N_ROWS * DIM * sizeof(float));
    r.cuda->ops->table_free(r.cuda, t);
    free(numbers);
    rig_end(&r);
}

/* From pinned memory rows are copied where they lie; the memory may be filled anew at once. */
static void rows_in_pinned_memory_are_written_and_it_is_free_again(void **state)
{
    (void)state;
    enum { N_ROWS = 40, DIM = 24, PART = 10 };
    for (int d = 0; d < N_DTYPES; d++) { /* also of another dtype, which is converted */
        rig r;
        rig_begin(&r, PR_DTYPE_BF16, PR_SIM_FORWARD, 1);
        const float *numbers = rig_numbers(&r, N_ROWS * DIM, dtypes[d], 1.0f);
        void *pinned = rig_pinned(&r, PART * DIM * sizeof(float));
        int32_t tokens[N_ROWS];
        pr_table *t = NULL;
        rig_ok(r.cuda->ops->table_create(r.cuda, N_ROWS, DIM, PR_DTYPE_BF16, &t, err));
        for (int i = 0; i < N_ROWS; i++) tokens[i] = i;
        for (int i = 0; i < N_ROWS; i += PART) {
            pr_dtype_from_f32(numbers + i * DIM, dtypes[d], PART * DIM, pinned);
            rig_ok(r.cuda->ops->table_write(r.cuda, t, i, PART, pinned, dtypes[d], err));
        }
        const pr_embed a = {.token = t, .tokens = rig_device_bytes(&r, tokens, sizeof tokens),
                            .n_rows = N_ROWS, .ldy = DIM,
                            .y = rig_device(&r, NULL, N_ROWS * DIM, PR_DTYPE_F32)};
        rig_ok(r.cuda->ops->embed(r.cuda, &a, err));
        rig_near("rows", rig_fetch(&r, a.y, N_ROWS * DIM, PR_DTYPE_F32), DIM, numbers, DIM, N_ROWS,
                 DIM, PR_DTYPE_BF16, 0);
        r.cuda->ops->table_free(r.cuda, t);
        rig_end(&r);
    }
}

/* ---- layers of rows ---- */

static pr_table *table_make(rig *r, pr_backend *b, const float *numbers, int64_t n_rows,
                            int64_t dim, pr_dtype dtype)
{
    (void)r;
    pr_table *t = NULL;
    rig_ok(b->ops->table_create(b, n_rows, dim, dtype, &t, err));
    rig_ok(b->ops->table_write(b, t, 0, n_rows, numbers, PR_DTYPE_F32, err));
    return t;
}

static void embed_check(pr_dtype backend, pr_dtype token_dtype, pr_dtype other_dtype)
{
    enum { N = 7, DIM = 24, N_TOKENS = 11 };
    rig r;
    rig_begin(&r, backend, PR_SIM_FORWARD, 2);
    pr_table *tables[2][3];
    for (int i = 0; i < 3; i++) {
        pr_dtype dtype = i == 0 ? token_dtype : other_dtype;
        const float *numbers = rig_numbers(&r, N_TOKENS * DIM, dtype, 1.0f);
        tables[0][i] = table_make(&r, r.cuda, numbers, N_TOKENS, DIM, dtype);
        tables[1][i] = table_make(&r, r.cpu, numbers, N_TOKENS, DIM, PR_DTYPE_F32);
    }
    const int32_t tokens[N] = {100, 99, 110, 111, 105, 5, 104};
    const int32_t positions[N] = {0, 1, 2, 10, 4, 5, 6};
    const uint8_t types[N] = {0, 1, 0, 1, 2, 3, 0};
    pr_embed a = {.token = tables[0][0], .token_begin = 100, .position = tables[0][1],
                  .type = tables[0][2], .tokens = rig_device_bytes(&r, tokens, sizeof tokens),
                  .positions = rig_device_bytes(&r, positions, sizeof positions),
                  .types = rig_device_bytes(&r, types, sizeof types), .n_rows = N,
                  .y = rig_device(&r, NULL, N * DIM, PR_DTYPE_F32), .ldy = DIM};
    pr_embed e = {.token = tables[1][0], .token_begin = 100, .position = tables[1][1],
                  .type = tables[1][2], .tokens = tokens, .positions = positions, .types = types,
                  .n_rows = N, .y = rig_judge(&r, NULL, N * DIM), .ldy = DIM};
    for (int part = 0; part < 2; part++) { /* then tokens alone */
        rig_ok(r.cuda->ops->embed(r.cuda, &a, err));
        rig_ok(r.cpu->ops->embed(r.cpu, &e, err));
        rig_near("embed", rig_fetch(&r, a.y, N * DIM, PR_DTYPE_F32), DIM, e.y, DIM, N, DIM,
                 PR_DTYPE_F32, 1e-6);
        a.position = a.type = e.position = e.type = NULL;
        a.positions = e.positions = NULL;
        a.types = e.types = NULL;
    }
    for (int i = 0; i < 3; i++) {
        r.cuda->ops->table_free(r.cuda, tables[0][i]);
        r.cpu->ops->table_free(r.cpu, tables[1][i]);
    }
    rig_end(&r);
}

static void embed_is_the_judges(void **state)
{
    (void)state;
    for (int d = 0; d < N_DTYPES; d++) embed_check(dtypes[d], dtypes[d], dtypes[d]);
    embed_check(PR_DTYPE_BF16, PR_DTYPE_BF16, PR_DTYPE_F32);
    embed_check(PR_DTYPE_F16, PR_DTYPE_BF16, PR_DTYPE_F16);
}

typedef struct norm_case {
    pr_norm kind;
    int64_t n_rows, dim;
    bool x_is_wide; /* f32, the residual stream; else the backend's */
    bool y_is_wide;
    bool has_residual, has_sum, has_wide, has_bias;
} norm_case;

static void norm_check(const norm_case *c, pr_dtype dtype)
{
    rig r;
    rig_begin(&r, dtype, PR_SIM_FORWARD, 3);
    int64_t n = c->n_rows * c->dim;
    pr_dtype x_dtype = c->x_is_wide ? PR_DTYPE_F32 : dtype;
    pr_dtype y_dtype = c->y_is_wide ? PR_DTYPE_F32 : dtype;
    const float *x = rig_numbers(&r, n, x_dtype, 2.0f);
    const float *residual = rig_numbers(&r, n, PR_DTYPE_F32, 2.0f);
    const float *weight = rig_numbers(&r, c->dim, PR_DTYPE_F32, 1.0f);
    const float *bias = rig_numbers(&r, c->dim, PR_DTYPE_F32, 1.0f);
    pr_norm_args a = {.kind = c->kind, .x = rig_device(&r, x, n, x_dtype), .x_dtype = x_dtype,
                      .ldx = c->dim, .ld_residual = c->dim, .ld_sum = c->dim, .ld_wide = c->dim,
                      .weight = rig_device(&r, weight, c->dim, PR_DTYPE_F32), .eps = 1e-5f,
                      .n_rows = c->n_rows, .dim = c->dim, .y = rig_device(&r, NULL, n, y_dtype),
                      .y_dtype = y_dtype, .ldy = c->dim};
    pr_norm_args e = a;
    e.x_dtype = e.y_dtype = PR_DTYPE_F32;
    e.x = rig_judge(&r, x, n);
    e.weight = weight;
    e.y = rig_judge(&r, NULL, n);
    if (c->has_bias) a.bias = rig_device(&r, bias, c->dim, PR_DTYPE_F32), e.bias = bias;
    if (c->has_residual) {
        a.residual = rig_device(&r, residual, n, PR_DTYPE_F32);
        e.residual = rig_judge(&r, residual, n);
    }
    if (c->has_sum) a.sum = (float *)(uintptr_t)a.residual, e.sum = rig_judge(&r, NULL, n);
    if (c->has_wide) {
        a.wide = rig_device(&r, NULL, n, PR_DTYPE_F32);
        e.wide = rig_judge(&r, NULL, n);
    }
    rig_ok(r.cuda->ops->norm(r.cuda, &a, err));
    rig_ok(r.cpu->ops->norm(r.cpu, &e, err));
    rig_near("y", rig_fetch(&r, a.y, n, y_dtype), c->dim, e.y, c->dim, c->n_rows, c->dim, y_dtype,
             1e-5);
    if (c->has_sum)
        rig_near("sum", rig_fetch(&r, a.sum, n, PR_DTYPE_F32), c->dim, e.sum, c->dim, c->n_rows,
                 c->dim, PR_DTYPE_F32, 0);
    if (c->has_wide)
        rig_near("wide", rig_fetch(&r, a.wide, n, PR_DTYPE_F32), c->dim, e.y, c->dim, c->n_rows,
                 c->dim, PR_DTYPE_F32, 1e-5);
    rig_end(&r);
}

static void norm_is_the_judges(void **state)
{
    (void)state;
    static const norm_case cases[] = {
        {PR_NORM_RMS, 3, 48, true, false, false, false, false, false},
        {PR_NORM_RMS, 5, 33, false, false, true, true, false, false},
        {PR_NORM_LAYER, 4, 40, false, true, true, false, false, true},
        {PR_NORM_LAYER, 2, 64, false, false, true, true, true, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int d = 0; d < N_DTYPES; d++) norm_check(&cases[i], dtypes[d]);
}

/* A norm without y adds, one without weight converts. */
static void norm_adds_alone_and_converts_alone(void **state)
{
    (void)state;
    enum { N = 3, DIM = 40 };
    rig r;
    rig_begin(&r, PR_DTYPE_BF16, PR_SIM_FORWARD, 4);
    const float *x = rig_numbers(&r, N * DIM, PR_DTYPE_BF16, 1.0f);
    const float *residual = rig_numbers(&r, N * DIM, PR_DTYPE_F32, 1.0f);
    float *expected = rig_host(&r, N * DIM);
    for (int i = 0; i < N * DIM; i++) expected[i] = x[i] + residual[i];
    float *sum = rig_device(&r, residual, N * DIM, PR_DTYPE_F32);
    const pr_norm_args add = {.x = rig_device(&r, x, N * DIM, PR_DTYPE_BF16),
                              .x_dtype = PR_DTYPE_BF16, .ldx = DIM, .residual = sum,
                              .ld_residual = DIM, .sum = sum, .ld_sum = DIM, .n_rows = N,
                              .dim = DIM, .y_dtype = PR_DTYPE_BF16};
    rig_ok(r.cuda->ops->norm(r.cuda, &add, err));
    rig_near("sum", rig_fetch(&r, sum, N * DIM, PR_DTYPE_F32), DIM, expected, DIM, N, DIM,
             PR_DTYPE_F32, 0);
    const pr_norm_args convert = {.x = sum, .x_dtype = PR_DTYPE_F32, .ldx = DIM, .n_rows = N,
                                  .dim = DIM, .y = rig_device(&r, NULL, N * DIM, PR_DTYPE_BF16),
                                  .y_dtype = PR_DTYPE_BF16, .ldy = DIM};
    rig_ok(r.cuda->ops->norm(r.cuda, &convert, err));
    rig_near("converted", rig_fetch(&r, convert.y, N * DIM, PR_DTYPE_BF16), DIM, expected, DIM, N,
             DIM, PR_DTYPE_BF16, 0);
    rig_end(&r);
}

static void rope_check(int32_t n_heads, int32_t n_kv_heads, bool has_norm, pr_dtype dtype)
{
    enum { N = 5, HEAD = 32, N_POSITIONS = 9 };
    rig r;
    rig_begin(&r, dtype, PR_SIM_FORWARD, 5);
    int64_t width = (n_heads + n_kv_heads) * HEAD, ld = width + 16; /* v stands behind */
    const float *x = rig_numbers(&r, N * ld, dtype, 1.0f);
    const float *angles = rig_numbers(&r, 2 * N_POSITIONS * HEAD / 2, PR_DTYPE_F32, 1.0f);
    const float *norms = rig_numbers(&r, 2 * HEAD, PR_DTYPE_F32, 1.0f);
    const int32_t positions[N] = {0, 8, 3, 4, 1};
    pr_rope a = {.x = rig_device(&r, x, N * ld, dtype), .ldx = ld, .n_rows = N, .n_heads = n_heads,
                 .n_kv_heads = n_kv_heads, .head_dim = HEAD,
                 .positions = rig_device_bytes(&r, positions, sizeof positions),
                 .cos = rig_device(&r, angles, 2 * N_POSITIONS * HEAD / 2, PR_DTYPE_F32),
                 .norm_eps = 1e-6f};
    a.sin = a.cos + N_POSITIONS * HEAD / 2;
    pr_rope e = a;
    e.x = rig_judge(&r, x, N * ld);
    e.positions = positions;
    e.cos = angles;
    e.sin = angles + N_POSITIONS * HEAD / 2;
    if (has_norm) {
        a.q_norm = rig_device(&r, norms, 2 * HEAD, PR_DTYPE_F32);
        a.k_norm = a.q_norm + HEAD;
        e.q_norm = norms;
        e.k_norm = norms + HEAD;
    }
    rig_ok(r.cuda->ops->rope(r.cuda, &a, err));
    rig_ok(r.cpu->ops->rope(r.cpu, &e, err));
    rig_near("rope", rig_fetch(&r, a.x, N * ld, dtype), ld, e.x, ld, N, ld, dtype, 1e-5);
    rig_end(&r);
}

static void rope_is_the_judges(void **state)
{
    (void)state;
    for (int d = 0; d < N_DTYPES; d++) {
        rope_check(4, 2, false, dtypes[d]);
        rope_check(4, 2, true, dtypes[d]);
        rope_check(3, 0, true, dtypes[d]);
        rope_check(0, 3, false, dtypes[d]);
    }
}

/* ---- attention ---- */

static void attention_check(pr_dtype dtype, int32_t n_heads, int32_t n_kv_heads, int32_t head,
                            bool is_causal, int32_t window)
{
    enum { N = 90 };
    rig r;
    rig_begin(&r, dtype, PR_SIM_FORWARD, 6);
    rig_reserve(&r, N, n_heads, n_kv_heads, head);
    int64_t ld = (n_heads + 2 * n_kv_heads) * head, ldout = n_heads * head;
    const float *x = rig_numbers(&r, N * ld, dtype, 1.0f);
    /* 70 rows; 15 that see the first 5 of those before their own; 5 rows */
    int32_t positions[N];
    uint32_t keys[70 + 20 + 5];
    for (int i = 0; i < 70; i++) positions[i] = i, keys[i] = (uint32_t)i;
    for (int i = 0; i < 5; i++) keys[70 + i] = (uint32_t)i;
    for (int i = 0; i < 15; i++) positions[70 + i] = 5 + i, keys[75 + i] = 70u + (uint32_t)i;
    for (int i = 0; i < 5; i++) positions[85 + i] = i, keys[90 + i] = 85u + (uint32_t)i;
    const pr_span spans[] = {{0, 70, 0, 70}, {70, 15, 70, 20}, {85, 5, 90, 5}};
    size_t element = pr_dtype_bytes(dtype);
    pr_attention a = {.q = rig_device(&r, x, N * ld, dtype), .ldq = ld, .ldk = ld, .ldv = ld,
                      .query_positions = rig_device_bytes(&r, positions, sizeof positions),
                      .key_rows = rig_device_bytes(&r, keys, sizeof keys), .spans = spans,
                      .n_spans = 3, .n_heads = n_heads, .n_kv_heads = n_kv_heads, .head_dim = head,
                      .scale = 0.3f, .causal = is_causal, .window = window,
                      .out = rig_device(&r, NULL, N * ldout, dtype), .ldout = ldout};
    a.k = (const char *)a.q + (size_t)(n_heads * head) * element;
    a.v = (const char *)a.k + (size_t)(n_kv_heads * head) * element;
    pr_attention e = a;
    const float *q = rig_judge(&r, x, N * ld);
    e.q = q;
    e.k = q + n_heads * head;
    e.v = q + (n_heads + n_kv_heads) * head;
    e.query_positions = positions;
    e.key_rows = keys;
    e.out = rig_judge(&r, NULL, N * ldout);
    rig_ok(r.cuda->ops->attention(r.cuda, &a, err));
    rig_ok(r.cpu->ops->attention(r.cpu, &e, err));
    double more = dtype == PR_DTYPE_F32 ? 1e-5 : dtype == PR_DTYPE_BF16 ? 0x1p-8 : 0x1p-10;
    rig_near("attention", rig_fetch(&r, a.out, N * ldout, dtype), ldout, e.out, ldout, N, ldout,
             dtype, more);
    rig_end(&r);
}

static void attention_is_the_judges(void **state)
{
    (void)state;
    for (int d = 0; d < N_DTYPES; d++) {
        attention_check(dtypes[d], 4, 2, 32, true, 0);
        attention_check(dtypes[d], 2, 2, 64, false, 0);
        attention_check(dtypes[d], 4, 1, 40, true, 7);
    }
}

/* ---- pooling ---- */

static void gather_and_mean_are_the_judges(void **state)
{
    (void)state;
    enum { N = 9, DIM = 24, N_OUT = 4 };
    rig r;
    rig_begin(&r, PR_DTYPE_BF16, PR_SIM_FORWARD, 7);
    rig_reserve(&r, N, 2, 1, 32);
    const float *x = rig_numbers(&r, N * DIM, PR_DTYPE_BF16, 1.0f);
    const uint32_t rows[] = {8, 0, 3, 3, 5, 1, 2};
    const uint32_t offsets[] = {0, 3, 3, 7};
    const pr_dtype kinds[] = {PR_DTYPE_F32, PR_DTYPE_BF16};
    const uint32_t *on_device = rig_device_bytes(&r, rows, sizeof rows);
    for (int k = 0; k < 2; k++) {
        const pr_gather a = {.x = rig_device(&r, x, N * DIM, kinds[k]), .ldx = DIM,
                             .rows = on_device, .n_rows = N_OUT, .dim = DIM, .dtype = kinds[k],
                             .y = rig_device(&r, NULL, N_OUT * DIM, kinds[k]), .ldy = DIM};
        rig_ok(r.cuda->ops->gather(r.cuda, &a, err));
        const float *found = rig_fetch(&r, a.y, N_OUT * DIM, kinds[k]);
        for (int i = 0; i < N_OUT; i++)
            assert_memory_equal(found + i * DIM, x + rows[i] * DIM, DIM * sizeof(float));
    }
    float *mean = rig_device(&r, NULL, 3 * DIM, PR_DTYPE_F32);
    float *expected = rig_judge(&r, NULL, 3 * DIM);
    rig_ok(r.cuda->ops->mean_rows(r.cuda, rig_device(&r, x, N * DIM, PR_DTYPE_F32), DIM, on_device,
                                  offsets, 3, DIM, mean, DIM, err));
    rig_ok(r.cpu->ops->mean_rows(r.cpu, x, DIM, rows, offsets, 3, DIM, expected, DIM, err));
    /* the judge has nothing to say about no rows */
    rig_near("mean", rig_fetch(&r, mean, 3 * DIM, PR_DTYPE_F32), 2 * DIM, expected, 2 * DIM, 2, DIM,
             PR_DTYPE_F32, 1e-6);
    rig_end(&r);
}

/* ---- what it says of itself ---- */

static void the_description_names_device_architecture_and_dtype(void **state)
{
    (void)state;
    rig r;
    rig_begin(&r, PR_DTYPE_BF16, PR_SIM_FORWARD, 1);
    assert_non_null(strstr(r.cuda->description, ", sm_90, bfloat16"));
    assert_string_equal(r.cuda->device, "cuda 0");
    assert_string_equal(r.cuda->name, "cuda");
    assert_int_equal(r.cuda->activation_dtype, PR_DTYPE_BF16);
    assert_int_equal(r.cuda->n_slots, 2);
    assert_int_equal(pr_backend_rows(r.cuda, 1), 128);
    assert_false(r.cuda->is_batch_invariant);
    rig_end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gemm_is_the_judges),
        cmocka_unit_test(a_heads_matrix_is_f32_on_a_backend_of_16_bits),
        cmocka_unit_test(gemm_of_no_rows_is_nothing),
        cmocka_unit_test(rows_of_a_product_are_padded),
        cmocka_unit_test(a_bias_that_was_written_anew_is_used),
        cmocka_unit_test(a_matrix_is_written_in_any_order_and_dtype),
        cmocka_unit_test(more_than_the_staging_buffers_hold_is_written),
        cmocka_unit_test(rows_in_pinned_memory_are_written_and_it_is_free_again),
        cmocka_unit_test(embed_is_the_judges),
        cmocka_unit_test(norm_is_the_judges),
        cmocka_unit_test(norm_adds_alone_and_converts_alone),
        cmocka_unit_test(rope_is_the_judges),
        cmocka_unit_test(attention_is_the_judges),
        cmocka_unit_test(gather_and_mean_are_the_judges),
        cmocka_unit_test(the_description_names_device_architecture_and_dtype),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
