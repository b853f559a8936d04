/* test_blas.cpp: the simulated cuBLASLt against a plain loop in f64, and what it refuses. */
#include "tests/simcuda/check.h"

#include <cublasLt.h>

static const pr_sim_config forward = {90, PR_SIM_FORWARD, PR_SIM_DEFERRED, 1};

enum { WORKSPACE_BYTES = 1 << 20 };

/* D [m, n] = op(A) op(B), everything column-major. */
typedef struct product {
    int64_t m, n, k;
    pr_dtype in, out;
    bool trans_a, trans_b;
    cublasLtEpilogue_t epilogue;
    float alpha, beta;
    int64_t gap; /* between columns: what the leading dimensions are larger by */
    bool is_tf32;
} product;

/* A product on the device, its inputs on both sides. */
typedef struct setting {
    product p;
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t call;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulPreference_t preference;
    int64_t lda, ldb, ldd;
    void *host[4], *device[4]; /* A, B, D (C too), bias */
    void *workspace;
} setting;

static cudaDataType_t cuda_type(pr_dtype t)
{
    return t == PR_DTYPE_F32 ? CUDA_R_32F : t == PR_DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_16F;
}

template <class T>
static void desc_set(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t name, T value)
{
    assert_int_equal(cublasLtMatmulDescSetAttribute(d, name, &value, sizeof value),
                     CUBLAS_STATUS_SUCCESS);
}

template <class T>
static void pref_set(cublasLtMatmulPreference_t p, cublasLtMatmulPreferenceAttributes_t name,
                     T value)
{
    assert_int_equal(cublasLtMatmulPreferenceSetAttribute(p, name, &value, sizeof value),
                     CUBLAS_STATUS_SUCCESS);
}

template <class T>
static void layout_set(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t name, T value)
{
    assert_int_equal(cublasLtMatrixLayoutSetAttribute(l, name, &value, sizeof value),
                     CUBLAS_STATUS_SUCCESS);
}

static void descriptors_make(setting *s)
{
    const product *p = &s->p;
    const int64_t a_rows = p->trans_a ? p->k : p->m, b_rows = p->trans_b ? p->n : p->k;
    s->lda = a_rows + p->gap;
    s->ldb = b_rows + p->gap;
    s->ldd = p->m + p->gap;
    assert_int_equal(cublasLtCreate(&s->handle), CUBLAS_STATUS_SUCCESS);
    cublasLtMatmulDescCreate(
        &s->call, p->is_tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F);
    desc_set(s->call, CUBLASLT_MATMUL_DESC_TRANSA, p->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    desc_set(s->call, CUBLASLT_MATMUL_DESC_TRANSB, p->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    desc_set(s->call, CUBLASLT_MATMUL_DESC_EPILOGUE, p->epilogue);
    cublasLtMatrixLayoutCreate(&s->a, cuda_type(p->in), (uint64_t)a_rows,
                               (uint64_t)(p->trans_a ? p->m : p->k), s->lda);
    cublasLtMatrixLayoutCreate(&s->b, cuda_type(p->in), (uint64_t)b_rows,
                               (uint64_t)(p->trans_b ? p->k : p->n), s->ldb);
    cublasLtMatrixLayoutCreate(&s->d, cuda_type(p->out), (uint64_t)p->m, (uint64_t)p->n, s->ldd);
    cublasLtMatmulPreferenceCreate(&s->preference);
    pref_set(s->preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, (uint64_t)WORKSPACE_BYTES);
}

static void setting_make(check *c, setting *s, const product *p)
{
    *s = setting{};
    s->p = *p;
    descriptors_make(s);
    s->host[0] = check_fill(c, p->in, s->lda * (p->trans_a ? p->m : p->k), &s->device[0]);
    s->host[1] = check_fill(c, p->in, s->ldb * (p->trans_b ? p->k : p->n), &s->device[1]);
    s->host[2] = check_fill(c, p->out, s->ldd * p->n, &s->device[2]);
    s->host[3] = check_fill(c, p->out, p->m, &s->device[3]);
    s->workspace = check_device<unsigned char>(c, NULL, WORKSPACE_BYTES);
    desc_set(s->call, CUBLASLT_MATMUL_DESC_BIAS_POINTER, (const void *)s->device[3]);
    desc_set(s->call, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, cuda_type(p->out));
}

static void setting_free(setting *s)
{
    cublasLtMatmulPreferenceDestroy(s->preference);
    cublasLtMatrixLayoutDestroy(s->a);
    cublasLtMatrixLayoutDestroy(s->b);
    cublasLtMatrixLayoutDestroy(s->d);
    cublasLtMatmulDescDestroy(s->call);
    cublasLtDestroy(s->handle);
}

static cublasStatus_t algorithms_get(const setting *s, int n, cublasLtMatmulHeuristicResult_t *out,
                                     int *n_out)
{
    return cublasLtMatmulAlgoGetHeuristic(s->handle, s->call, s->a, s->b, s->d, s->d, s->preference,
                                          n, out, n_out);
}

static cublasStatus_t run(const setting *s, const cublasLtMatmulAlgo_t *algorithm,
                          cudaStream_t stream)
{
    return cublasLtMatmul(s->handle, s->call, &s->p.alpha, s->device[0], s->a, s->device[1], s->b,
                          &s->p.beta, s->device[2], s->d, s->device[2], s->d, algorithm,
                          s->workspace, WORKSPACE_BYTES, stream);
}

/* ---- values ---- */

static double expected_at(const setting *s, int64_t i, int64_t j)
{
    const product *p = &s->p;
    double sum = 0;
    for (int64_t k = 0; k < p->k; k++)
        sum += (double)check_get(s->host[0], p->in, p->trans_a ? k + i * s->lda : i + k * s->lda) *
               check_get(s->host[1], p->in, p->trans_b ? j + k * s->ldb : k + j * s->ldb);
    double y = p->alpha * sum;
    if (p->beta != 0) y += p->beta * check_get(s->host[2], p->out, i + j * s->ldd);
    const cublasLtEpilogue_t e = p->epilogue;
    if (e == CUBLASLT_EPILOGUE_BIAS || e == CUBLASLT_EPILOGUE_GELU_BIAS ||
        e == CUBLASLT_EPILOGUE_RELU_BIAS)
        y += check_get(s->host[3], p->out, i);
    if ((e == CUBLASLT_EPILOGUE_RELU || e == CUBLASLT_EPILOGUE_RELU_BIAS) && y < 0) y = 0;
    if (e == CUBLASLT_EPILOGUE_GELU || e == CUBLASLT_EPILOGUE_GELU_BIAS)
        y = 0.5 * y * (1 + tanh(sqrt(2 / M_PI) * (y + 0.044715 * y * y * y)));
    return y;
}

static void product_check(const product *p)
{
    check c;
    setting s;
    check_begin(&c, &forward, 11);
    setting_make(&c, &s, p);
    cublasLtMatmulHeuristicResult_t found[8];
    int n_found = 0;
    pref_set(s.preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, 16u);
    assert_int_equal(algorithms_get(&s, 8, found, &n_found), CUBLAS_STATUS_SUCCESS);
    assert_true(n_found >= 3);
    const int64_t n_numbers = s.ldd * p->n;
    const size_t n_bytes = (size_t)n_numbers * check_bytes(p->out);
    void *y = check_host<unsigned char>(&c, (int64_t)n_bytes);
    for (int a = 0; a < n_found; a++) {
        cudaMemcpy(s.device[2], s.host[2], n_bytes, cudaMemcpyHostToDevice);
        assert_int_equal(run(&s, &found[a].algo, c.stream), CUBLAS_STATUS_SUCCESS);
        cudaMemcpy(y, s.device[2], n_bytes, cudaMemcpyDeviceToHost);
        assert_memory_equal(y, s.host[2], n_bytes); /* nobody has waited */
        check_sync(&c);
        cudaMemcpy(y, s.device[2], n_bytes, cudaMemcpyDeviceToHost);
        for (int64_t j = 0; j < p->n; j++) {
            for (int64_t i = 0; i < p->m; i++)
                check_near(y, p->out, i + j * s.ldd, expected_at(&s, i, j),
                           p->is_tf32 ? 2e-2 : 3e-5, "D");
            for (int64_t i = p->m; i < s.ldd; i++) /* between the columns */
                assert_true(check_get(y, p->out, i + j * s.ldd) ==
                            check_get(s.host[2], p->out, i + j * s.ldd));
        }
    }
    setting_free(&s);
    check_end(&c);
}

static void products_are_those_of_a_plain_loop(void **)
{
    const pr_dtype f32 = PR_DTYPE_F32, bf16 = PR_DTYPE_BF16, f16 = PR_DTYPE_F16;
    const cublasLtEpilogue_t none = CUBLASLT_EPILOGUE_DEFAULT, bias = CUBLASLT_EPILOGUE_BIAS;
    const product cases[] = {
        {1, 1, 1, f32, f32, true, false, none, 1, 0, 0, false},
        {33, 5, 150, f32, f32, true, false, bias, 1, 0, 0, false},
        {64, 64, 200, bf16, bf16, true, false, CUBLASLT_EPILOGUE_GELU_BIAS, 1, 0, 0, false},
        {40, 130, 96, f16, f16, true, false, CUBLASLT_EPILOGUE_GELU, 1, 0, 3, false},
        {31, 9, 257, bf16, f32, true, false, CUBLASLT_EPILOGUE_RELU_BIAS, 1, 0, 1, false},
        {70, 6, 64, f16, f32, false, true, CUBLASLT_EPILOGUE_RELU, 0.5f, 2, 0, false},
        {20, 20, 20, f32, f32, false, false, none, -1, 1, 5, false},
        {24, 30, 300, f32, f32, true, false, none, 1, 0, 0, true},
    };
    for (const product &p : cases) product_check(&p);
}

/* Column 0 of the product of n columns under the heuristic's first algorithm, or `fixed`. */
static void first_column(int64_t n, const cublasLtMatmulAlgo_t *fixed, cublasLtMatmulAlgo_t *used,
                         float out[40])
{
    check c;
    setting s;
    const product p = {40, n, 512, PR_DTYPE_BF16, PR_DTYPE_F32, true, false,
                       CUBLASLT_EPILOGUE_DEFAULT, 1, 0, 0, false};
    check_begin(&c, &forward, 11); /* the same numbers for every n: A first, then B by columns */
    setting_make(&c, &s, &p);
    cublasLtMatmulHeuristicResult_t found;
    int n_found = 0;
    assert_int_equal(algorithms_get(&s, 1, &found, &n_found), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(run(&s, fixed ? fixed : &found.algo, c.stream), CUBLAS_STATUS_SUCCESS);
    check_sync(&c);
    cudaMemcpy(out, s.device[2], 40 * sizeof *out, cudaMemcpyDeviceToHost);
    if (used) *used = found.algo;
    setting_free(&s);
    check_end(&c);
}

static void bits_depend_on_the_algorithm_alone(void **)
{
    cublasLtMatmulAlgo_t algorithm;
    float one[40], many[40];
    first_column(1, NULL, &algorithm, one);
    for (int64_t n : {2, 17, 130, 1100}) {
        first_column(n, NULL, NULL, many);
        /* the heuristic's first is another one from 128 columns on */
        assert_int_equal(memcmp(one, many, sizeof one) != 0, n >= 128);
    }
    first_column(128, NULL, &algorithm, many); /* without split-K, whose workspace grows with n */
    for (int64_t n : {1, 17, 1100}) {
        first_column(n, &algorithm, NULL, one);
        assert_memory_equal(one, many, sizeof one);
    }
}

static void split_k_is_off_when_no_reduction_is_allowed(void **)
{
    check c;
    setting s;
    const product p = {40, 1, 512, PR_DTYPE_BF16, PR_DTYPE_BF16, true, false,
                       CUBLASLT_EPILOGUE_DEFAULT, 1, 0, 0, false};
    check_begin(&c, &forward, 11);
    setting_make(&c, &s, &p);
    for (int is_off = 0; is_off < 2; is_off++) {
        cublasLtMatmulHeuristicResult_t found[8];
        int n_found = 0, n_split = 0;
        if (is_off)
            pref_set(s.preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                     (uint32_t)CUBLASLT_REDUCTION_SCHEME_NONE);
        assert_int_equal(algorithms_get(&s, 8, found, &n_found), CUBLAS_STATUS_SUCCESS);
        for (int i = 0; i < n_found; i++) {
            int32_t n = 0;
            size_t n_written;
            assert_int_equal(cublasLtMatmulAlgoConfigGetAttribute(&found[i].algo,
                                                                  CUBLASLT_ALGO_CONFIG_SPLITK_NUM,
                                                                  &n, sizeof n, &n_written),
                             CUBLAS_STATUS_SUCCESS);
            n_split += n > 1;
        }
        assert_int_equal(n_split > 0, !is_off);
    }
    setting_free(&s);
    check_end(&c);
}

/* ---- refusals ---- */

static const product usual = {32, 16, 64, PR_DTYPE_BF16, PR_DTYPE_BF16, true, false,
                              CUBLASLT_EPILOGUE_BIAS, 1, 0, 0, false};

static void wrong_k(setting *s) { layout_set(s->b, CUBLASLT_MATRIX_LAYOUT_ROWS, (uint64_t)63); }
static void short_ld(setting *s) { layout_set(s->a, CUBLASLT_MATRIX_LAYOUT_LD, (int64_t)63); }
static void row_order(setting *s)
{
    layout_set(s->d, CUBLASLT_MATRIX_LAYOUT_ORDER, (int32_t)CUBLASLT_ORDER_ROW);
}
static void mixed_types(setting *s)
{
    layout_set(s->b, CUBLASLT_MATRIX_LAYOUT_TYPE, (uint32_t)CUDA_R_16F);
}
static void half_out(setting *s)
{
    layout_set(s->d, CUBLASLT_MATRIX_LAYOUT_TYPE, (uint32_t)CUDA_R_16F);
}
static void f32_bias(setting *s)
{
    desc_set(s->call, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUDA_R_32F);
}
static void no_bias(setting *s)
{
    desc_set(s->call, CUBLASLT_MATMUL_DESC_BIAS_POINTER, (const void *)NULL);
}
static void tf32_of_bf16(setting *s)
{
    desc_set(s->call, CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, CUBLAS_COMPUTE_32F_FAST_TF32);
}
static void aux_epilogue(setting *s)
{
    desc_set(s->call, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_GELU_AUX);
}

static void what_is_no_product_is_refused(void **)
{
    static const struct {
        void (*spoil)(setting *);
        cublasStatus_t status;
    } cases[] = {
        {wrong_k, CUBLAS_STATUS_INVALID_VALUE},      {short_ld, CUBLAS_STATUS_INVALID_VALUE},
        {row_order, CUBLAS_STATUS_NOT_SUPPORTED},    {mixed_types, CUBLAS_STATUS_NOT_SUPPORTED},
        {half_out, CUBLAS_STATUS_NOT_SUPPORTED},     {f32_bias, CUBLAS_STATUS_NOT_SUPPORTED},
        {no_bias, CUBLAS_STATUS_INVALID_VALUE},      {tf32_of_bf16, CUBLAS_STATUS_NOT_SUPPORTED},
        {aux_epilogue, CUBLAS_STATUS_NOT_SUPPORTED},
    };
    for (const auto &one : cases) {
        check c;
        setting s;
        check_begin(&c, &forward, 3);
        setting_make(&c, &s, &usual);
        cublasLtMatmulHeuristicResult_t found, checked;
        int n_found = 0;
        assert_int_equal(algorithms_get(&s, 1, &found, &n_found), CUBLAS_STATUS_SUCCESS);
        one.spoil(&s);
        assert_int_equal(algorithms_get(&s, 1, &checked, &n_found), one.status);
        assert_int_equal(n_found, 0);
        assert_int_equal(run(&s, &found.algo, c.stream), one.status);
        assert_int_equal(cublasLtMatmulAlgoCheck(s.handle, s.call, s.a, s.b, s.d, s.d, &found.algo,
                                                 &checked),
                         one.status);
        setting_free(&s);
        check_end(&c);
    }
}

static void an_algorithm_serves_what_it_was_found_for(void **)
{
    check c;
    setting s;
    check_begin(&c, &forward, 3);
    product p = usual;
    p.gap = 8;
    setting_make(&c, &s, &p);
    cublasLtMatmulHeuristicResult_t found, checked;
    int n_found = 0;
    assert_int_equal(algorithms_get(&s, 1, &found, &n_found), CUBLAS_STATUS_SUCCESS);
    layout_set(s.b, CUBLASLT_MATRIX_LAYOUT_COLS, (uint64_t)8); /* n may change */
    layout_set(s.d, CUBLASLT_MATRIX_LAYOUT_COLS, (uint64_t)8);
    const auto status = [&] {
        return cublasLtMatmulAlgoCheck(s.handle, s.call, s.a, s.b, s.d, s.d, &found.algo, &checked);
    };
    assert_int_equal(status(), CUBLAS_STATUS_SUCCESS);
    layout_set(s.b, CUBLASLT_MATRIX_LAYOUT_LD, (int64_t)65); /* alignment may not */
    assert_int_equal(status(), CUBLAS_STATUS_NOT_SUPPORTED);
    layout_set(s.b, CUBLASLT_MATRIX_LAYOUT_LD, s.ldb);
    desc_set(s.call, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DEFAULT);
    assert_int_equal(status(), CUBLAS_STATUS_NOT_SUPPORTED);
    desc_set(s.call, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    layout_set(s.a, CUBLASLT_MATRIX_LAYOUT_ROWS, (uint64_t)48); /* nor k */
    layout_set(s.b, CUBLASLT_MATRIX_LAYOUT_ROWS, (uint64_t)48);
    assert_int_equal(status(), CUBLAS_STATUS_NOT_SUPPORTED);
    memset(&found.algo, 0, sizeof found.algo);
    assert_int_equal(status(), CUBLAS_STATUS_INVALID_VALUE);
    setting_free(&s);
    check_end(&c);
}

static void addresses_are_as_aligned_as_was_said(void **)
{
    check c;
    setting s;
    check_begin(&c, &forward, 3);
    setting_make(&c, &s, &usual);
    cublasLtMatmulHeuristicResult_t found;
    int n_found = 0;
    assert_int_equal(algorithms_get(&s, 1, &found, &n_found), CUBLAS_STATUS_SUCCESS);
    s.p.n = 8; /* room to move in */
    layout_set(s.b, CUBLASLT_MATRIX_LAYOUT_COLS, (uint64_t)8);
    layout_set(s.d, CUBLASLT_MATRIX_LAYOUT_COLS, (uint64_t)8);
    s.device[1] = (char *)s.device[1] + 16; /* the preference's default says 256 */
    assert_int_equal(run(&s, &found.algo, c.stream), CUBLAS_STATUS_NOT_SUPPORTED);
    pref_set(s.preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, 16u);
    assert_int_equal(algorithms_get(&s, 1, &found, &n_found), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(run(&s, &found.algo, c.stream), CUBLAS_STATUS_SUCCESS);
    s.device[1] = (char *)s.device[1] + 2;
    assert_int_equal(run(&s, &found.algo, c.stream), CUBLAS_STATUS_NOT_SUPPORTED);
    s.device[1] = (char *)s.device[1] - 2;
    s.workspace = (char *)s.workspace + 16;
    assert_int_equal(run(&s, &found.algo, c.stream), CUBLAS_STATUS_NOT_SUPPORTED);
    s.workspace = NULL;
    assert_int_equal(run(&s, &found.algo, c.stream), CUBLAS_STATUS_INVALID_VALUE);
    check_sync(&c);
    setting_free(&s);
    check_end(&c);
}

static void a_product_beyond_its_memory_is_a_fault(void **)
{
    check c;
    setting s;
    check_begin(&c, &forward, 3);
    setting_make(&c, &s, &usual);
    cublasLtMatmulHeuristicResult_t found;
    int n_found = 0;
    assert_int_equal(algorithms_get(&s, 1, &found, &n_found), CUBLAS_STATUS_SUCCESS);
    layout_set(s.b, CUBLASLT_MATRIX_LAYOUT_COLS, (uint64_t)17);
    layout_set(s.d, CUBLASLT_MATRIX_LAYOUT_COLS, (uint64_t)17);
    assert_int_equal(run(&s, &found.algo, c.stream), CUBLAS_STATUS_EXECUTION_FAILED);
    assert_non_null(strstr(pr_sim_fault(), "beyond its memory"));
    pr_sim_reset(&forward);
    setting_free(&s);
    check_end(&c);
}

static void the_workspace_is_written(void **)
{
    check c;
    setting s;
    check_begin(&c, &forward, 3);
    setting_make(&c, &s, &usual);
    cudaMemset(s.workspace, 0, WORKSPACE_BYTES);
    /* NULL: the library chooses */
    assert_int_equal(run(&s, NULL, c.stream), CUBLAS_STATUS_SUCCESS);
    check_sync(&c);
    float first = 0;
    cudaMemcpy(&first, s.workspace, sizeof first, cudaMemcpyDeviceToHost);
    assert_true(isnan(first));
    setting_free(&s);
    check_end(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_those_of_a_plain_loop),
        cmocka_unit_test(bits_depend_on_the_algorithm_alone),
        cmocka_unit_test(split_k_is_off_when_no_reduction_is_allowed),
        cmocka_unit_test(what_is_no_product_is_refused),
        cmocka_unit_test(an_algorithm_serves_what_it_was_found_for),
        cmocka_unit_test(addresses_are_as_aligned_as_was_said),
        cmocka_unit_test(a_product_beyond_its_memory_is_a_fault),
        cmocka_unit_test(the_workspace_is_written),
    };
    return cmocka_run_group_tests_name("blas", tests, NULL, NULL);
}
