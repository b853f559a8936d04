/* test_rows.cpp: every kernel but attention against plain C in f64, over odd shapes and dtypes. */
#include "tests/simcuda/check.h"

static const pr_sim_config forward = {90, PR_SIM_FORWARD, PR_SIM_DEFERRED, 1};

typedef struct dtypes {
    pr_dtype x, y;
} dtypes;

static const dtypes pairs[] = {
    {PR_DTYPE_F32, PR_DTYPE_F32},  {PR_DTYPE_F32, PR_DTYPE_BF16}, {PR_DTYPE_F32, PR_DTYPE_F16},
    {PR_DTYPE_BF16, PR_DTYPE_F32}, {PR_DTYPE_F16, PR_DTYPE_F32},  {PR_DTYPE_BF16, PR_DTYPE_BF16},
    {PR_DTYPE_F16, PR_DTYPE_F16},
};
enum { N_PAIRS = sizeof pairs / sizeof *pairs };

/* rows x columns; a column count that is a multiple of 4 goes 4 at a time */
typedef struct size2 {
    int rows, columns;
} size2;
static const size2 sizes[] = {{1, 64}, {1, 1}, {3, 129},
                             {2, 1536}, {5, 36}, {CHECK_IS_QUICK ? 9 : 1000, 8}};

/* The result of a launch, back on the host. */
static void *fetch(check *c, const void *device, pr_dtype t, int64_t n)
{
    check_sync(c);
    unsigned char *p = check_host<unsigned char>(c, n * (int64_t)check_bytes(t));
    cudaMemcpy(p, device, (size_t)n * check_bytes(t), cudaMemcpyDeviceToHost);
    return p;
}

static void *make_out(check *c, pr_dtype t, int64_t n)
{
    return check_device<unsigned char>(c, NULL, n * (int64_t)check_bytes(t));
}

/* dtypes: of the token, position and type table */
static void embed_case(const pr_sim_config *config, size2 n, const pr_dtype t[3], bool has_tables)
{
    enum { N_TABLE = 11, BEGIN = 4 };
    check c;
    check_begin(&c, config, 11);
    pr_cuda_embed a = {};
    void *token, *position, *type;
    const void *h_token = check_fill(&c, t[0], N_TABLE * n.columns, &token);
    const void *h_position = check_fill(&c, t[1], N_TABLE * n.columns, &position);
    const void *h_type = check_fill(&c, t[2], 2 * n.columns, &type);
    int32_t *tokens = check_host<int32_t>(&c, n.rows), *places = check_host<int32_t>(&c, n.rows);
    uint8_t *types = check_host<uint8_t>(&c, n.rows);
    for (int i = 0; i < n.rows; i++) {
        tokens[i] = (int32_t)(check_random(&c) % (N_TABLE + 8)); /* some outside the table */
        places[i] = (int32_t)(check_random(&c) % N_TABLE);
        types[i] = (uint8_t)(check_random(&c) % 2);
    }
    a.token = token;
    a.token_dtype = t[0];
    a.tokens = check_device(&c, tokens, n.rows);
    if (has_tables) {
        a.position = position;
        a.position_dtype = t[1];
        a.type = type;
        a.type_dtype = t[2];
        a.positions = check_device(&c, places, n.rows);
        a.types = check_device(&c, types, n.rows);
    }
    a.token_begin = BEGIN;
    a.n_token_rows = N_TABLE;
    a.n_rows = n.rows;
    a.dim = n.columns;
    a.ldy = n.columns + 4;
    a.y = check_device<float>(&c, NULL, n.rows * a.ldy);
    assert_int_equal(pr_cuda_embed_launch(&a, c.stream), cudaSuccess);
    const float *y = (const float *)fetch(&c, a.y, PR_DTYPE_F32, n.rows * a.ldy);
    for (int i = 0; i < n.rows; i++) {
        const int at = tokens[i] - BEGIN;
        for (int j = 0; j < n.columns; j++) {
            float sum = 0.0f;
            if (at >= 0 && at < N_TABLE) sum = check_get(h_token, t[0], at * n.columns + j);
            if (has_tables) sum += check_get(h_type, t[2], types[i] * n.columns + j);
            if (has_tables) sum += check_get(h_position, t[1], places[i] * n.columns + j);
            assert_true(y[i * a.ldy + j] == sum); /* additions in order: the same bits */
        }
        assert_true(isnan(y[i * a.ldy + n.columns])); /* nothing beyond the row */
    }
    check_end(&c);
}

/* What a norm is asked for, and where it goes. */
enum {
    RESIDUAL = 1,
    BIAS = 2,
    SUM_IN_RESIDUAL = 4,
    SUM_APART = 8,
    WIDE_IN_RESIDUAL = 16,
    WIDE_APART = 32,
    Y_IN_X = 64,
    Y_IN_RESIDUAL = 128,
    NO_Y = 256,
    UNALIGNED = 512
};

typedef struct norm_case {
    size2 n;
    dtypes t;
    pr_norm kind;
    int what; /* of the above */
} norm_case;

static pr_cuda_norm norm_call(check *c, const norm_case *k, void *x, float *residual, float *weight,
                              float *bias)
{
    const int64_t ld = k->n.columns + (k->what & UNALIGNED ? 3 : 4), count = k->n.rows * ld;
    pr_cuda_norm a = {};
    a.kind = k->kind;
    a.x = x;
    a.ldx = a.ld_residual = a.ld_sum = a.ld_wide = a.ldy = ld;
    if (k->what & RESIDUAL) a.residual = residual;
    if (k->what & BIAS) a.bias = bias;
    if (k->what & SUM_IN_RESIDUAL) a.sum = residual;
    if (k->what & SUM_APART) a.sum = check_device<float>(c, NULL, count);
    if (k->what & WIDE_IN_RESIDUAL) a.wide = residual;
    if (k->what & WIDE_APART) a.wide = check_device<float>(c, NULL, count);
    a.weight = k->what & NO_Y ? NULL : weight;
    a.eps = 1e-5f;
    a.n_rows = k->n.rows;
    a.dim = k->n.columns;
    if (!(k->what & NO_Y))
        a.y = k->what & Y_IN_X          ? x
              : k->what & Y_IN_RESIDUAL ? residual
                                        : make_out(c, k->t.y, count);
    a.x_dtype = k->t.x;
    a.y_dtype = k->t.y;
    return a;
}

static void norm_run(const pr_sim_config *config, const norm_case *k)
{
    check c;
    check_begin(&c, config, 12);
    const size2 n = k->n;
    const int64_t ld = n.columns + (k->what & UNALIGNED ? 3 : 4), count = n.rows * ld;
    const pr_dtype f32 = PR_DTYPE_F32;
    void *x, *residual, *weight, *bias;
    const void *hx = check_fill(&c, k->t.x, count, &x);
    const float *hr = (const float *)check_fill(&c, f32, count, &residual);
    const float *hw = (const float *)check_fill(&c, f32, n.columns, &weight);
    const float *hb = (const float *)check_fill(&c, f32, n.columns, &bias);
    const pr_cuda_norm a =
        norm_call(&c, k, x, (float *)residual, (float *)weight, (float *)bias);
    assert_int_equal(pr_cuda_norm_launch(&a, c.stream), cudaSuccess);
    const void *y = a.y ? fetch(&c, a.y, k->t.y, count) : NULL;
    const void *kept = a.sum ? fetch(&c, a.sum, f32, count) : NULL;
    const void *wide = a.wide ? fetch(&c, a.wide, f32, count) : NULL;
    const double more = n.columns == 1 ? 1e-4 : 3e-6;
    for (int i = 0; i < n.rows; i++) {
        double mean = 0, squares = 0;
        const auto s = [&](int j) {
            return (double)check_get(hx, k->t.x, i * ld + j) +
                   (a.residual ? hr[i * ld + j] : 0.0f);
        };
        for (int j = 0; j < n.columns; j++) mean += s(j) / n.columns;
        if (k->kind == PR_NORM_RMS) mean = 0;
        for (int j = 0; j < n.columns; j++) squares += (s(j) - mean) * (s(j) - mean);
        const double inverse = 1 / sqrt(squares / n.columns + (double)a.eps);
        for (int j = 0; j < n.columns; j++) {
            const double expected = (s(j) - mean) * inverse * hw[j] + (a.bias ? hb[j] : 0.0f);
            const int64_t at = i * ld + j;
            if (y) check_near(y, k->t.y, at, expected, more, "norm");
            if (wide) check_near(wide, f32, at, expected, more, "norm in f32");
            if (kept) check_near(kept, f32, at, s(j), 1e-7, "norm's sum");
        }
    }
    check_end(&c);
}

/* x: q heads, k heads, v heads, of which rope touches the first two. */
typedef struct rope_case {
    int n_rows, n_heads, n_kv_heads, head_dim;
    pr_dtype dtype;
    bool has_norm, has_rotation;
} rope_case;

/* One head by the formula, in place. */
static void rope_head(const rope_case *k, const float *norm, const float *cosines,
                      const float *sines, double *head)
{
    const int n_pairs = k->head_dim / 2;
    double squares = 0;
    for (int j = 0; j < k->head_dim; j++) squares += head[j] * head[j];
    for (int j = 0; j < k->head_dim && k->has_norm; j++)
        head[j] *= norm[j] / sqrt(squares / k->head_dim + 1e-6);
    for (int j = 0; j < n_pairs && k->has_rotation; j++) {
        const double low = head[j], high = head[n_pairs + j];
        head[j] = low * cosines[j] - high * sines[j];
        head[n_pairs + j] = high * cosines[j] + low * sines[j];
    }
}

static void rope_run(const pr_sim_config *config, const rope_case *k)
{
    enum { N_POSITIONS = 9, N_V = 2 };
    check c;
    check_begin(&c, config, 13);
    const int n_turned = k->n_heads + k->n_kv_heads, dim = k->head_dim, n_pairs = dim / 2;
    const int64_t ldx = (int64_t)(n_turned + N_V) * dim + 3;
    const pr_dtype f32 = PR_DTYPE_F32;
    void *x, *norms[2], *cosines, *sines;
    const void *hx = check_fill(&c, k->dtype, k->n_rows * ldx, &x);
    const float *hq = (const float *)check_fill(&c, f32, dim, &norms[0]);
    const float *hk = (const float *)check_fill(&c, f32, dim, &norms[1]);
    const float *hc = (const float *)check_fill(&c, f32, N_POSITIONS * n_pairs, &cosines);
    const float *hs = (const float *)check_fill(&c, f32, N_POSITIONS * n_pairs, &sines);
    int32_t *positions = check_host<int32_t>(&c, k->n_rows);
    for (int i = 0; i < k->n_rows; i++) positions[i] = (int32_t)(check_random(&c) % N_POSITIONS);
    pr_cuda_rope a = {};
    a.x = x;
    a.ldx = ldx;
    if (k->has_norm) {
        a.q_norm = (const float *)norms[0];
        a.k_norm = (const float *)norms[1];
    }
    if (k->has_rotation) {
        a.cos = (const float *)cosines;
        a.sin = (const float *)sines;
        a.positions = check_device(&c, positions, k->n_rows);
    }
    a.norm_eps = 1e-6f;
    a.n_rows = k->n_rows;
    a.n_heads = k->n_heads;
    a.n_kv_heads = k->n_kv_heads;
    a.head_dim = dim;
    a.dtype = k->dtype;
    assert_int_equal(pr_cuda_rope_launch(&a, c.stream), cudaSuccess);
    const void *y = fetch(&c, x, k->dtype, k->n_rows * ldx);
    for (int i = 0; i < k->n_rows; i++) {
        for (int h = 0; h < n_turned; h++) {
            double head[256];
            const int64_t at = i * ldx + h * dim;
            for (int j = 0; j < dim; j++) head[j] = check_get(hx, k->dtype, at + j);
            rope_head(k, h < k->n_heads ? hq : hk, hc + positions[i] * n_pairs,
                      hs + positions[i] * n_pairs, head);
            for (int j = 0; j < dim; j++) check_near(y, k->dtype, at + j, head[j], 4e-6, "rope");
        }
        for (int64_t j = i * ldx + n_turned * dim; j < (i + 1) * ldx; j++) /* v stays */
            assert_true(check_get(y, k->dtype, j) == check_get(hx, k->dtype, j));
    }
    check_end(&c);
}

static double activation_of(pr_activation f, double x)
{
    switch (f) {
    case PR_ACTIVATION_GELU: return 0.5 * x * erfc(-x * sqrt(0.5));
    case PR_ACTIVATION_GELU_TANH:
        return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    case PR_ACTIVATION_RELU: return x < 0 ? 0 : x;
    case PR_ACTIVATION_SILU: return x / (1 + exp(-x));
    case PR_ACTIVATION_TANH: return tanh(x);
    case PR_ACTIVATION_SIGMOID: return 1 / (1 + exp(-x));
    default: return x;
    }
}

static void activation_case(const pr_sim_config *config, size2 n, dtypes t, pr_activation f,
                            bool is_gated)
{
    check c;
    check_begin(&c, config, 14);
    const int64_t width = n.columns * (is_gated ? 2 : 1);
    void *x, *bias;
    void *hx = check_fill(&c, t.x, n.rows * width, &x);
    for (int64_t i = 0; i < n.rows * width; i++) check_set(hx, t.x, i, 9 * check_get(hx, t.x, i));
    cudaMemcpy(x, hx, (size_t)(n.rows * width) * check_bytes(t.x), cudaMemcpyHostToDevice);
    const float *hb = (const float *)check_fill(&c, PR_DTYPE_F32, width, &bias);
    pr_cuda_activation a = {};
    a.activation = f;
    a.is_gated = is_gated;
    a.x = x;
    a.ldx = width;
    a.bias = (const float *)bias;
    a.n_rows = n.rows;
    a.dim = n.columns;
    a.ldy = n.columns;
    a.y = make_out(&c, t.y, n.rows * a.ldy);
    a.x_dtype = t.x;
    a.y_dtype = t.y;
    assert_int_equal(pr_cuda_activation_launch(&a, c.stream), cudaSuccess);
    const void *y = fetch(&c, a.y, t.y, n.rows * a.ldy);
    for (int i = 0; i < n.rows; i++) {
        for (int j = 0; j < n.columns; j++) {
            double e = activation_of(f, (double)check_get(hx, t.x, i * width + j) + hb[j]);
            if (is_gated)
                e *= (double)check_get(hx, t.x, i * width + n.columns + j) + hb[n.columns + j];
            check_near(y, t.y, i * a.ldy + j, e, 3e-6, "activation");
        }
    }
    check_end(&c);
}

static void gather_case(const pr_sim_config *config, int dim, int slack, pr_dtype t)
{
    enum { N_ROWS = 40, N_OUT = 50 };
    check c;
    check_begin(&c, config, 15);
    const int64_t ld = dim + slack;
    void *x;
    const void *hx = check_fill(&c, t, N_ROWS * ld, &x);
    uint32_t rows[N_OUT];
    for (uint32_t &row : rows) row = check_random(&c) % N_ROWS;
    const pr_cuda_gather a = {x, ld, check_device(&c, rows, N_OUT), N_OUT, dim,
                              make_out(&c, t, N_OUT * ld), ld, t};
    assert_int_equal(pr_cuda_gather_launch(&a, c.stream), cudaSuccess);
    const unsigned char *y = (const unsigned char *)fetch(&c, a.y, t, N_OUT * ld);
    const size_t size = check_bytes(t);
    for (int i = 0; i < N_OUT; i++) {
        assert_memory_equal(y + (size_t)(i * ld) * size,
                            (const unsigned char *)hx + (size_t)(rows[i] * ld) * size,
                            (size_t)dim * size);
        if (slack) assert_true(isnan(check_get(y, t, i * ld + dim)));
    }
    check_end(&c);
}

/* The sum as kernels/cpu makes it: the same bits. */
static void mean_case(const pr_sim_config *config, int dim)
{
    enum { N_ROWS = 40, N_OUT = 5 };
    static const uint32_t offsets[N_OUT + 1] = {0, 1, 1, 8, 30, 37}; /* the second has no row */
    check c;
    check_begin(&c, config, 15);
    void *x;
    const float *hx = (const float *)check_fill(&c, PR_DTYPE_F32, N_ROWS * dim, &x);
    uint32_t rows[N_ROWS];
    for (uint32_t &row : rows) row = check_random(&c) % N_ROWS;
    const pr_cuda_mean a = {(const float *)x, dim, check_device(&c, rows, N_ROWS),
                            check_device(&c, offsets, N_OUT + 1), N_OUT, dim,
                            check_device<float>(&c, NULL, N_OUT * dim), dim};
    assert_int_equal(pr_cuda_mean_launch(&a, c.stream), cudaSuccess);
    const float *y = (const float *)fetch(&c, a.y, PR_DTYPE_F32, N_OUT * dim);
    for (int s = 0; s < N_OUT; s++) {
        for (int j = 0; j < dim; j++) {
            volatile float sum = 0, lost = 0, part, next;
            double exact = 0;
            for (uint32_t i = offsets[s]; i < offsets[s + 1]; i++) {
                part = hx[rows[i] * (uint32_t)dim + (uint32_t)j] - lost;
                next = sum + part;
                lost = next - sum;
                lost = lost - part;
                sum = next;
                exact += hx[rows[i] * (uint32_t)dim + (uint32_t)j];
            }
            const uint32_t n = offsets[s + 1] - offsets[s];
            assert_true(y[s * dim + j] == (n ? sum / (float)n : 0.0f));
            if (n) check_near(y, PR_DTYPE_F32, s * dim + j, exact / n, 1e-7, "mean");
        }
    }
    check_end(&c);
}

static void finish_case(const pr_sim_config *config, size2 n, pr_cuda_finish_kind kind, float scale)
{
    check c;
    check_begin(&c, config, 16);
    void *x;
    float *hx = (float *)check_fill(&c, PR_DTYPE_F32, n.rows * n.columns, &x);
    for (int i = 0; i < n.rows * n.columns; i++) hx[i] *= scale;
    cudaMemcpy(x, hx, (size_t)(n.rows * n.columns) * 4, cudaMemcpyHostToDevice);
    const pr_cuda_finish a = {kind, (float *)x, n.columns, n.rows, n.columns};
    assert_int_equal(pr_cuda_finish_launch(&a, c.stream), cudaSuccess);
    const void *y = fetch(&c, x, PR_DTYPE_F32, n.rows * n.columns);
    for (int i = 0; i < n.rows; i++) {
        const float *row = hx + i * n.columns;
        double squares = 0, top = row[0], sum = 0;
        for (int j = 0; j < n.columns; j++) squares += (double)row[j] * row[j];
        for (int j = 0; j < n.columns; j++) top = fmax(top, row[j]);
        for (int j = 0; j < n.columns; j++) sum += exp(row[j] - top);
        for (int j = 0; j < n.columns; j++) {
            const double e = kind == PR_CUDA_FINISH_L2        ? row[j] / fmax(sqrt(squares), 1e-12)
                             : kind == PR_CUDA_FINISH_SOFTMAX ? exp(row[j] - top) / sum
                                                              : 1 / (1 + exp(-(double)row[j]));
            check_near(y, PR_DTYPE_F32, i * n.columns + j, e, 2e-6, "finish");
        }
    }
    check_end(&c);
}

static void embedding_adds_its_tables(void **)
{
    static const pr_dtype all[] = {PR_DTYPE_F32, PR_DTYPE_BF16, PR_DTYPE_F16};
    for (int i = 0; i < 9; i++) { /* every pair of token and position dtype */
        const pr_dtype t[3] = {all[i % 3], all[i / 3], all[(i + i / 3) % 3]};
        embed_case(&forward, sizes[i % 2 ? 2 : 4], t, true);
    }
    for (const size2 &n : sizes) {
        const pr_dtype t[3] = {PR_DTYPE_BF16, PR_DTYPE_BF16, PR_DTYPE_BF16};
        embed_case(&forward, n, t, n.columns % 8 == 0);
    }
}

static void norms_agree_with_the_formula(void **)
{
    static const int what[] = {
        0, BIAS | RESIDUAL | SUM_IN_RESIDUAL, RESIDUAL | WIDE_IN_RESIDUAL,
        RESIDUAL | SUM_APART | WIDE_APART | BIAS, WIDE_APART, SUM_APART,
        RESIDUAL | SUM_IN_RESIDUAL | WIDE_APART | UNALIGNED};
    for (int p = 0; p < N_PAIRS; p++) {
        for (int w = 0; w < 7; w++) {
            const norm_case k = {sizes[(p + w) % 2 ? 2 : 4], pairs[p],
                                 (p + w) % 3 ? PR_NORM_RMS : PR_NORM_LAYER, what[w]};
            norm_run(&forward, &k);
        }
    }
    for (const size2 &n : sizes) {
        const norm_case k = {n, pairs[3], PR_NORM_RMS, RESIDUAL | SUM_IN_RESIDUAL};
        norm_run(&forward, &k);
    }
    if (CHECK_IS_QUICK) return;
    const norm_case k = {{1, PR_CUDA_NORM_DIM_MAX}, pairs[1], PR_NORM_RMS, RESIDUAL};
    norm_run(&forward, &k);
}

static void a_norm_goes_where_its_operands_were(void **)
{
    const int columns[] = {129, 516};
    for (int n : columns) {
        for (int w = 0; w < 4; w++) {
            static const int what[] = {RESIDUAL | Y_IN_X, RESIDUAL | Y_IN_RESIDUAL,
                                       RESIDUAL | Y_IN_X | WIDE_IN_RESIDUAL,
                                       RESIDUAL | Y_IN_X | SUM_IN_RESIDUAL};
            norm_case k = {{3, n}, pairs[0], w % 2 ? PR_NORM_RMS : PR_NORM_LAYER, what[w]};
            norm_run(&forward, &k);
            k.t = pairs[5 + w % 2]; /* 16 bits: y may be x, not residual */
            if (what[w] & Y_IN_X) norm_run(&forward, &k);
        }
    }
}

static void a_sum_alone_needs_no_weight(void **)
{
    for (int p = 0; p < N_PAIRS; p++) {
        const norm_case k = {sizes[p % 2 ? 2 : 4], pairs[p], PR_NORM_RMS,
                             RESIDUAL | NO_Y | (p % 2 ? SUM_IN_RESIDUAL : SUM_APART)};
        norm_run(&forward, &k);
    }
}

static void rope_agrees_with_the_formula(void **)
{
    static const int dims[] = {2, 10, 16, 32, 64, 80, 96, 128, 256};
    static const pr_dtype all[] = {PR_DTYPE_F32, PR_DTYPE_BF16, PR_DTYPE_F16};
    for (int i = 0; i < 9; i++) {
        rope_case k = {3, 3, 2, dims[i], all[i % 3], true, true};
        rope_run(&forward, &k);
        k = {2, i % 2 ? 0 : 3, i % 2 ? 2 : 0, dims[i], all[(i + 1) % 3], i % 3 == 0, i % 3 != 0};
        rope_run(&forward, &k); /* q or k alone, norm or rotation alone */
    }
    const rope_case none = {2, 0, 0, 8, PR_DTYPE_F32, true, true};
    rope_run(&forward, &none);
    const rope_case many = {CHECK_IS_QUICK ? 5 : 1000, 2, 1, 6, PR_DTYPE_F32, true, true};
    rope_run(&forward, &many);
}

static void activations_agree_with_the_formula(void **)
{
    for (int f = PR_ACTIVATION_NONE; f <= PR_ACTIVATION_SIGMOID; f++) {
        activation_case(&forward, {3, 129}, pairs[f], (pr_activation)f, true);
        activation_case(&forward, {2, 1100}, pairs[(f + 3) % N_PAIRS], (pr_activation)f, false);
    }
    activation_case(&forward, {CHECK_IS_QUICK ? 10 : 1000, 5}, pairs[0], PR_ACTIVATION_SILU, true);
}

static void gathering_copies_rows_of_any_width(void **)
{
    static const pr_dtype all[] = {PR_DTYPE_F32, PR_DTYPE_BF16, PR_DTYPE_F16};
    for (pr_dtype t : all) {
        gather_case(&forward, 1, 0, t);
        gather_case(&forward, 129, 2, t);
        gather_case(&forward, 1030, 0, t);
        gather_case(&forward, 1032, 8, t);
    }
}

static void a_mean_adds_as_the_processor_does(void **)
{
    mean_case(&forward, 1);
    mean_case(&forward, 130);
    mean_case(&forward, 256);
}

static void finishing_agrees_with_the_formula(void **)
{
    for (int kind = 0; kind < 3; kind++) {
        for (const size2 &n : sizes)
            finish_case(&forward, n, (pr_cuda_finish_kind)kind, 30);
        finish_case(&forward, {2, 7}, (pr_cuda_finish_kind)kind, 0.0f);
    }
}

static void every_order_gives_the_same(void **)
{
    pr_sim_config modes[9];
    const int n_modes = check_modes(modes, CHECK_IS_QUICK);
    for (int m = 0; m < n_modes; m++) {
        const pr_dtype t[3] = {PR_DTYPE_BF16, PR_DTYPE_F32, PR_DTYPE_F16};
        embed_case(&modes[m], {3, 129}, t, true);
        norm_case norm = {{3, 516}, pairs[5], PR_NORM_LAYER, RESIDUAL | SUM_IN_RESIDUAL | Y_IN_X};
        norm_run(&modes[m], &norm);
        norm = {{3, 129}, pairs[0], PR_NORM_RMS, RESIDUAL | WIDE_IN_RESIDUAL | Y_IN_X};
        norm_run(&modes[m], &norm);
        const rope_case rope = {2, 3, 2, 80, PR_DTYPE_F16, true, true};
        rope_run(&modes[m], &rope);
        activation_case(&modes[m], {2, 1100}, pairs[5], PR_ACTIVATION_SILU, true);
        gather_case(&modes[m], 130, 0, PR_DTYPE_BF16);
        mean_case(&modes[m], 130);
        for (int kind = 0; kind < 3; kind++)
            finish_case(&modes[m], {2, 129}, (pr_cuda_finish_kind)kind, 3);
    }
}

/* ---- rows more than 2^31 elements apart: the same bits as rows side by side ---- */

enum { FAR_DIM = 12, FAR_SIZE = FAR_DIM * 4 };
static const int64_t far_ld = ((int64_t)1 << 31) + 16;

/* Two rows, far apart and side by side; false: there is not as much memory. */
typedef struct far_rows {
    unsigned char *apart;
    float *beside;
} far_rows;

static const size_t far_bytes = (size_t)(far_ld + FAR_DIM) * 4;

static bool far_make(check *c, far_rows *r)
{
    float numbers[2 * FAR_DIM];
    for (float &x : numbers) x = check_number(c);
    r->apart = (unsigned char *)device_sparse(far_bytes);
    if (!r->apart) return false;
    r->beside = check_device(c, numbers, 2 * FAR_DIM);
    device_sparse_put(r->apart, numbers, FAR_SIZE);
    device_sparse_put(r->apart + far_ld * 4, numbers + FAR_DIM, FAR_SIZE);
    return true;
}

/* The second rows are the same; releases the far ones. */
static void far_compare(check *c, const far_rows *r, const char *what)
{
    float one[FAR_DIM], other[FAR_DIM];
    check_sync(c);
    device_sparse_get(one, r->apart + far_ld * 4, FAR_SIZE);
    cudaMemcpy(other, r->beside + FAR_DIM, FAR_SIZE, cudaMemcpyDeviceToHost);
    device_sparse_free(r->apart, far_bytes);
    if (memcmp(one, other, FAR_SIZE)) fail_msg("%s: far rows differ", what);
}

static void far_rowwise(check *c, const float *weight)
{
    far_rows r;
    if (!far_make(c, &r)) return;
    for (int is_far = 0; is_far < 2; is_far++) {
        float *const x = is_far ? (float *)r.apart : r.beside;
        const int64_t ld = is_far ? far_ld : (int64_t)FAR_DIM;
        pr_cuda_norm norm = {};
        norm.kind = PR_NORM_RMS;
        norm.x = norm.residual = x;
        norm.sum = norm.wide = x;
        norm.y = x;
        norm.ldx = norm.ld_residual = norm.ld_sum = norm.ld_wide = norm.ldy = ld;
        norm.weight = weight;
        norm.n_rows = 2;
        norm.dim = FAR_DIM;
        assert_int_equal(pr_cuda_norm_launch(&norm, c->stream), cudaSuccess);
        pr_cuda_activation act = {};
        act.activation = PR_ACTIVATION_SILU;
        act.x = act.y = x;
        act.ldx = act.ldy = ld;
        act.n_rows = 2;
        act.dim = FAR_DIM;
        assert_int_equal(pr_cuda_activation_launch(&act, c->stream), cudaSuccess);
        pr_cuda_rope rope = {};
        rope.x = x;
        rope.ldx = ld;
        rope.q_norm = rope.k_norm = weight;
        rope.n_rows = 2;
        rope.n_heads = rope.n_kv_heads = 1;
        rope.head_dim = FAR_DIM / 2;
        assert_int_equal(pr_cuda_rope_launch(&rope, c->stream), cudaSuccess);
        const pr_cuda_finish finish = {PR_CUDA_FINISH_SOFTMAX, x, ld, 2, FAR_DIM};
        assert_int_equal(pr_cuda_finish_launch(&finish, c->stream), cudaSuccess);
    }
    far_compare(c, &r, "norm, activation, rope, finish");
}

/* From far rows into far rows, by way of their numbers. */
static void far_chosen(check *c)
{
    static const uint32_t rows[] = {1, 1}, offsets[] = {0, 1, 2};
    static const int32_t tokens[] = {0, 1};
    far_rows x, y;
    if (!far_make(c, &x)) return;
    if (far_make(c, &y)) {
        for (int is_far = 0; is_far < 2; is_far++) {
            const int64_t ld = is_far ? far_ld : (int64_t)FAR_DIM;
            float *const from = is_far ? (float *)x.apart : x.beside;
            float *const to = is_far ? (float *)y.apart : y.beside;
            const uint32_t *const d_rows = check_device(c, rows, 2);
            const pr_cuda_gather gather = {from, ld, d_rows, 2, FAR_DIM, to, ld, PR_DTYPE_F32};
            assert_int_equal(pr_cuda_gather_launch(&gather, c->stream), cudaSuccess);
            const uint32_t *const d_offsets = check_device(c, offsets, 3);
            const pr_cuda_mean mean = {to, ld, d_rows, d_offsets, 2, FAR_DIM, from, ld};
            assert_int_equal(pr_cuda_mean_launch(&mean, c->stream), cudaSuccess);
            pr_cuda_embed embed = {};
            embed.token = x.beside;
            embed.tokens = check_device(c, tokens, 2);
            embed.n_token_rows = 2;
            embed.n_rows = 2;
            embed.dim = FAR_DIM;
            embed.y = to;
            embed.ldy = ld;
            assert_int_equal(pr_cuda_embed_launch(&embed, c->stream), cudaSuccess);
        }
        far_compare(c, &y, "embed");
    }
    far_compare(c, &x, "gather, mean");
}

static void rows_far_apart_are_right(void **)
{
    check c;
    check_begin(&c, &forward, 18);
    void *weight;
    check_fill(&c, PR_DTYPE_F32, FAR_DIM, &weight);
    far_rowwise(&c, (const float *)weight);
    far_chosen(&c);
    check_end(&c);
}

static void what_no_kernel_takes_is_refused(void **)
{
    const cudaError_t bad = cudaErrorInvalidValue;
    const int64_t too_many = (int64_t)1 << 31;
    check c;
    check_begin(&c, &forward, 17);
    pr_cuda_norm norm = {};
    assert_int_equal(pr_cuda_norm_launch(&norm, c.stream), cudaSuccess); /* no row */
    norm.n_rows = 1;
    norm.dim = PR_CUDA_NORM_DIM_MAX + 1;
    assert_int_equal(pr_cuda_norm_launch(&norm, c.stream), bad);
    norm.dim = 4;
    float one = 1;
    norm.wide = &one;
    assert_int_equal(pr_cuda_norm_launch(&norm, c.stream), bad); /* wide without y */
    norm.y = &one;
    assert_int_equal(pr_cuda_norm_launch(&norm, c.stream), bad); /* y without weight */
    norm.weight = &one;
    norm.x_dtype = PR_DTYPE_BF16;
    norm.y_dtype = PR_DTYPE_F16;
    assert_int_equal(pr_cuda_norm_launch(&norm, c.stream), bad);
    norm.y_dtype = PR_DTYPE_BF16;
    norm.n_rows = too_many;
    assert_int_equal(pr_cuda_norm_launch(&norm, c.stream), bad);
    pr_cuda_rope rope = {};
    assert_int_equal(pr_cuda_rope_launch(&rope, c.stream), cudaSuccess); /* no row */
    rope.n_rows = rope.n_heads = 1;
    rope.head_dim = 258;
    assert_int_equal(pr_cuda_rope_launch(&rope, c.stream), bad);
    rope.head_dim = 7;
    assert_int_equal(pr_cuda_rope_launch(&rope, c.stream), bad);
    pr_cuda_gather gather = {};
    assert_int_equal(pr_cuda_gather_launch(&gather, c.stream), cudaSuccess); /* no row */
    gather.n_rows = too_many;
    gather.dim = 1;
    assert_int_equal(pr_cuda_gather_launch(&gather, c.stream), bad);
    pr_cuda_embed embed = {};
    assert_int_equal(pr_cuda_embed_launch(&embed, c.stream), cudaSuccess); /* no row */
    embed.n_rows = 1;
    embed.token_dtype = PR_DTYPE_I64;
    assert_int_equal(pr_cuda_embed_launch(&embed, c.stream), bad);
    check_end(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embedding_adds_its_tables),
        cmocka_unit_test(norms_agree_with_the_formula),
        cmocka_unit_test(a_norm_goes_where_its_operands_were),
        cmocka_unit_test(a_sum_alone_needs_no_weight),
        cmocka_unit_test(rope_agrees_with_the_formula),
        cmocka_unit_test(activations_agree_with_the_formula),
        cmocka_unit_test(gathering_copies_rows_of_any_width),
        cmocka_unit_test(a_mean_adds_as_the_processor_does),
        cmocka_unit_test(finishing_agrees_with_the_formula),
        cmocka_unit_test(every_order_gives_the_same),
        cmocka_unit_test(rows_far_apart_are_right),
        cmocka_unit_test(what_no_kernel_takes_is_refused),
    };
    return cmocka_run_group_tests_name("rows", tests, NULL, NULL);
}
