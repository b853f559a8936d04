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

static void embed_case(const pr_sim_config *config, size2 n, dtypes t, bool has_tables)
{
    enum { N_TABLE = 11, BEGIN = 4 };
    check c;
    check_begin(&c, config, 11);
    pr_cuda_embed a = {};
    void *token, *position, *type;
    const void *h_token = check_fill(&c, t.x, N_TABLE * n.columns, &token);
    const void *h_position = check_fill(&c, t.x, N_TABLE * n.columns, &position);
    const void *h_type = check_fill(&c, t.x, 2 * n.columns, &type);
    int32_t *tokens = check_host<int32_t>(&c, n.rows), *places = check_host<int32_t>(&c, n.rows);
    uint8_t *types = check_host<uint8_t>(&c, n.rows);
    for (int i = 0; i < n.rows; i++) {
        tokens[i] = (int32_t)(check_random(&c) % (N_TABLE + 8)); /* some outside the table */
        places[i] = (int32_t)(check_random(&c) % N_TABLE);
        types[i] = (uint8_t)(check_random(&c) % 2);
    }
    const int64_t ldy = n.columns + 4;
    a.token = token;
    a.tokens = check_device(&c, tokens, n.rows);
    if (has_tables) {
        a.position = position;
        a.type = type;
        a.positions = check_device(&c, places, n.rows);
        a.types = check_device(&c, types, n.rows);
    }
    a.token_begin = BEGIN;
    a.n_token_rows = N_TABLE;
    a.n_rows = n.rows;
    a.dim = n.columns;
    a.y = make_out(&c, t.y, n.rows * ldy);
    a.ldy = ldy;
    a.x_dtype = t.x;
    a.y_dtype = t.y;
    assert_int_equal(pr_cuda_embed_launch(&a, c.stream), cudaSuccess);
    const void *y = fetch(&c, a.y, t.y, n.rows * ldy);
    for (int i = 0; i < n.rows; i++) {
        const int at = tokens[i] - BEGIN;
        for (int j = 0; j < n.columns; j++) {
            double sum = 0;
            if (at >= 0 && at < N_TABLE) sum += check_get(h_token, t.x, at * n.columns + j);
            if (has_tables)
                sum += (double)check_get(h_position, t.x, places[i] * n.columns + j) +
                       check_get(h_type, t.x, types[i] * n.columns + j);
            check_near(y, t.y, i * ldy + j, sum, 1e-6, "embed");
        }
        assert_true(isnan(check_get(y, t.y, i * ldy + n.columns))); /* nothing beyond the row */
    }
    check_end(&c);
}

static void norm_case(const pr_sim_config *config, size2 n, dtypes t, pr_norm kind, bool has_more)
{
    check c;
    check_begin(&c, config, 12);
    const int64_t ld = n.columns + 4, count = n.rows * ld;
    void *x, *residual, *weight, *bias;
    const void *hx = check_fill(&c, t.x, count, &x), *hr = check_fill(&c, t.x, count, &residual);
    const float *hw = (const float *)check_fill(&c, PR_DTYPE_F32, n.columns, &weight);
    const float *hb = (const float *)check_fill(&c, PR_DTYPE_F32, n.columns, &bias);
    pr_cuda_norm a = {};
    a.kind = kind;
    a.x = x;
    a.ldx = a.ld_residual = a.ld_sum = a.ldy = ld;
    if (has_more) {
        a.residual = residual;
        a.sum = residual; /* in place, as the model does it */
        a.bias = (const float *)bias;
    }
    a.weight = (const float *)weight;
    a.eps = 1e-5f;
    a.n_rows = n.rows;
    a.dim = n.columns;
    a.y = make_out(&c, t.y, count);
    a.x_dtype = t.x;
    a.y_dtype = t.y;
    assert_int_equal(pr_cuda_norm_launch(&a, c.stream), cudaSuccess);
    const void *y = fetch(&c, a.y, t.y, count), *kept = fetch(&c, residual, t.x, count);
    for (int i = 0; i < n.rows; i++) {
        double mean = 0, squares = 0;
        const auto s = [&](int j) {
            return (double)check_get(hx, t.x, i * ld + j) +
                   (has_more ? check_get(hr, t.x, i * ld + j) : 0.0f);
        };
        for (int j = 0; j < n.columns; j++) mean += s(j) / n.columns;
        if (kind == PR_NORM_RMS) mean = 0;
        for (int j = 0; j < n.columns; j++) squares += (s(j) - mean) * (s(j) - mean);
        const double inverse = 1 / sqrt(squares / n.columns + (double)a.eps);
        for (int j = 0; j < n.columns; j++) {
            const double expected = (s(j) - mean) * inverse * hw[j] + (has_more ? hb[j] : 0.0f);
            check_near(y, t.y, i * ld + j, expected, n.columns == 1 ? 1e-4 : 3e-6, "norm");
            if (has_more) check_near(kept, t.x, i * ld + j, s(j), 1e-6, "norm's sum");
        }
    }
    check_end(&c);
}

static void rope_case(const pr_sim_config *config, int n_rows, int head_dim, dtypes t, bool is_plain)
{
    enum { Q = 3, KV = 2, ALL = Q + 2 * KV, N_POSITIONS = 9 };
    check c;
    check_begin(&c, config, 13);
    const int64_t width = ALL * head_dim, ldx = width + 8, pairs_n = head_dim / 2;
    void *x, *bias, *q_norm, *k_norm, *cosines, *sines;
    const void *hx = check_fill(&c, t.x, n_rows * ldx, &x);
    const float *hb = (const float *)check_fill(&c, PR_DTYPE_F32, width, &bias);
    const float *hq = (const float *)check_fill(&c, PR_DTYPE_F32, head_dim, &q_norm);
    const float *hk = (const float *)check_fill(&c, PR_DTYPE_F32, head_dim, &k_norm);
    const float *hc = (const float *)check_fill(&c, PR_DTYPE_F32, N_POSITIONS * pairs_n, &cosines);
    const float *hs = (const float *)check_fill(&c, PR_DTYPE_F32, N_POSITIONS * pairs_n, &sines);
    int32_t *positions = check_host<int32_t>(&c, n_rows);
    for (int i = 0; i < n_rows; i++) positions[i] = (int32_t)(check_random(&c) % N_POSITIONS);
    pr_cuda_rope a = {};
    a.x = x;
    a.ldx = ldx;
    if (!is_plain) {
        a.bias = (const float *)bias;
        a.q_norm = (const float *)q_norm;
        a.k_norm = (const float *)k_norm;
        a.cos = (const float *)cosines;
        a.sin = (const float *)sines;
        a.positions = check_device(&c, positions, n_rows);
    }
    a.norm_eps = 1e-6f;
    a.n_rows = n_rows;
    a.n_heads = Q;
    a.n_kv_heads = KV;
    a.head_dim = head_dim;
    a.ldq = Q * head_dim;
    a.ldk = a.ldv = KV * head_dim;
    a.q = make_out(&c, t.y, n_rows * a.ldq);
    a.k = make_out(&c, t.y, n_rows * a.ldk);
    a.v = make_out(&c, t.y, n_rows * a.ldv);
    a.x_dtype = t.x;
    a.y_dtype = t.y;
    assert_int_equal(pr_cuda_rope_launch(&a, c.stream), cudaSuccess);
    const void *out[3] = {fetch(&c, a.q, t.y, n_rows * a.ldq), fetch(&c, a.k, t.y, n_rows * a.ldk),
                          fetch(&c, a.v, t.y, n_rows * a.ldv)};
    for (int i = 0; i < n_rows; i++) {
        for (int h = 0; h < ALL; h++) {
            const int part = h < Q ? 0 : h < Q + KV ? 1 : 2;
            const int local = h - (part == 0 ? 0 : part == 1 ? Q : Q + KV);
            double head[256], squares = 0;
            for (int j = 0; j < head_dim; j++) {
                head[j] = (double)check_get(hx, t.x, i * ldx + h * head_dim + j) +
                          (is_plain ? 0.0f : hb[h * head_dim + j]);
                squares += head[j] * head[j];
            }
            for (int j = 0; j < head_dim && !is_plain && part < 2; j++)
                head[j] *= (part == 0 ? hq : hk)[j] / sqrt(squares / head_dim + 1e-6);
            for (int64_t j = 0; j < pairs_n && !is_plain && part < 2; j++) {
                const double low = head[j], high = head[pairs_n + j];
                const double co = hc[positions[i] * pairs_n + j], si = hs[positions[i] * pairs_n + j];
                head[j] = low * co - high * si;
                head[pairs_n + j] = high * co + low * si;
            }
            for (int j = 0; j < head_dim; j++) {
                const int64_t at = i * (part == 0 ? a.ldq : a.ldk) + local * head_dim + j;
                check_near(out[part], t.y, at, head[j], 4e-6, "rope");
            }
        }
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

static void pool_case(const pr_sim_config *config, int dim, dtypes t, pr_cuda_pool_kind kind)
{
    enum { N_ROWS = 40, N_OUT = 5 };
    static const uint32_t offsets[N_OUT + 1] = {0, 1, 1, 8, 30, 37}; /* the second has no row */
    check c;
    check_begin(&c, config, 15);
    void *x;
    const void *hx = check_fill(&c, t.x, N_ROWS * dim, &x);
    uint32_t rows[N_ROWS];
    for (uint32_t &row : rows) row = check_random(&c) % N_ROWS;
    pr_cuda_pool a = {};
    a.kind = kind;
    a.x = x;
    a.ldx = dim;
    a.rows = check_device(&c, rows, N_ROWS);
    a.offsets = kind == PR_CUDA_POOL_ROWS ? NULL : check_device(&c, offsets, N_OUT + 1);
    a.n_out = kind == PR_CUDA_POOL_ROWS ? N_ROWS : (int)N_OUT;
    a.dim = dim;
    a.ldy = dim;
    a.y = make_out(&c, t.y, a.n_out * dim);
    a.x_dtype = t.x;
    a.y_dtype = t.y;
    assert_int_equal(pr_cuda_pool_launch(&a, c.stream), cudaSuccess);
    const void *y = fetch(&c, a.y, t.y, a.n_out * dim);
    for (int s = 0; s < a.n_out; s++) {
        const uint32_t begin = a.offsets ? offsets[s] : (uint32_t)s;
        const uint32_t end = a.offsets ? offsets[s + 1] : (uint32_t)s + 1;
        for (int j = 0; j < dim; j++) {
            double e = 0;
            for (uint32_t i = begin; i < end; i++) {
                const double one = check_get(hx, t.x, rows[i] * dim + j);
                if (kind == PR_CUDA_POOL_MEAN)
                    e += one / (end - begin);
                else if (kind != PR_CUDA_POOL_CLS || i == begin)
                    e = one; /* LAST, ROWS: the last one stays */
            }
            check_near(y, t.y, s * dim + j, e, 1e-6, "pool");
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
    for (int p = 0; p < N_PAIRS; p++) embed_case(&forward, sizes[2], pairs[p], p % 2 == 0);
    for (const size2 &n : sizes) embed_case(&forward, n, pairs[5], true);
}

static void norms_agree_with_the_formula(void **)
{
    for (int p = 0; p < N_PAIRS; p++) {
        norm_case(&forward, sizes[p % 2 ? 2 : 4], pairs[p], p % 3 ? PR_NORM_RMS : PR_NORM_LAYER, true);
        norm_case(&forward, sizes[p % 2 ? 4 : 2], pairs[p], p % 3 ? PR_NORM_LAYER : PR_NORM_RMS,
                  false);
    }
    for (const size2 &n : sizes) norm_case(&forward, n, pairs[1], PR_NORM_RMS, true);
    if (!CHECK_IS_QUICK) norm_case(&forward, {1, PR_CUDA_NORM_DIM_MAX}, pairs[1], PR_NORM_RMS, true);
}

static void rope_agrees_with_the_formula(void **)
{
    static const int dims[] = {2, 32, 64, 80, 96, 128, 256};
    for (int i = 0; i < 7; i++) rope_case(&forward, 3, dims[i], pairs[i], false);
    rope_case(&forward, 1, 64, pairs[1], true);
    rope_case(&forward, CHECK_IS_QUICK ? 5 : 1000, 6, pairs[0], false);
}

static void activations_agree_with_the_formula(void **)
{
    for (int f = PR_ACTIVATION_NONE; f <= PR_ACTIVATION_SIGMOID; f++) {
        activation_case(&forward, {3, 129}, pairs[f], (pr_activation)f, true);
        activation_case(&forward, {2, 1100}, pairs[(f + 3) % N_PAIRS], (pr_activation)f, false);
    }
    activation_case(&forward, {CHECK_IS_QUICK ? 10 : 1000, 5}, pairs[0], PR_ACTIVATION_SILU, true);
}

static void pooling_takes_the_rows_it_should(void **)
{
    for (int p = 0; p < N_PAIRS; p++)
        for (int kind = 0; kind < 4; kind++)
            pool_case(&forward, p % 2 ? 1 : 130, pairs[p], (pr_cuda_pool_kind)kind);
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
        embed_case(&modes[m], {3, 129}, pairs[5], true);
        norm_case(&modes[m], {3, 516}, pairs[1], PR_NORM_LAYER, true);
        rope_case(&modes[m], 2, 80, pairs[6], false);
        activation_case(&modes[m], {2, 1100}, pairs[5], PR_ACTIVATION_SILU, true);
        pool_case(&modes[m], 130, pairs[3], PR_CUDA_POOL_MEAN);
        for (int kind = 0; kind < 3; kind++)
            finish_case(&modes[m], {2, 129}, (pr_cuda_finish_kind)kind, 3);
    }
}

static void what_no_kernel_takes_is_refused(void **)
{
    check c;
    check_begin(&c, &forward, 17);
    pr_cuda_norm norm = {};
    assert_int_equal(pr_cuda_norm_launch(&norm, c.stream), cudaSuccess); /* no row */
    norm.n_rows = 1;
    norm.dim = PR_CUDA_NORM_DIM_MAX + 1;
    assert_int_equal(pr_cuda_norm_launch(&norm, c.stream), cudaErrorInvalidValue);
    norm.dim = 4;
    norm.x_dtype = PR_DTYPE_BF16;
    norm.y_dtype = PR_DTYPE_F16;
    assert_int_equal(pr_cuda_norm_launch(&norm, c.stream), cudaErrorInvalidValue);
    pr_cuda_rope rope = {};
    rope.n_rows = 1;
    rope.head_dim = 258;
    assert_int_equal(pr_cuda_rope_launch(&rope, c.stream), cudaErrorInvalidValue);
    pr_cuda_pool pool = {};
    pool.n_out = 1;
    assert_int_equal(pr_cuda_pool_launch(&pool, c.stream), cudaErrorInvalidValue);
    check_end(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embedding_adds_its_tables),
        cmocka_unit_test(norms_agree_with_the_formula),
        cmocka_unit_test(rope_agrees_with_the_formula),
        cmocka_unit_test(activations_agree_with_the_formula),
        cmocka_unit_test(pooling_takes_the_rows_it_should),
        cmocka_unit_test(finishing_agrees_with_the_formula),
        cmocka_unit_test(every_order_gives_the_same),
        cmocka_unit_test(what_no_kernel_takes_is_refused),
    };
    return cmocka_run_group_tests_name("rows", tests, NULL, NULL);
}
