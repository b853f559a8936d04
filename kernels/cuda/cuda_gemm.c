#include "kernels/cuda/cuda_gemm.h"

#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/cuda_weights.h"
#include "kernels/cuda/kernels.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { VECTOR_BYTES = 16, N_CANDIDATES = 32, PLANS_GROWTH = 32 };

/* What an algorithm is chosen for. */
typedef struct plan_key {
    pr_dtype dtype; /* of W, x and y */
    cublasLtEpilogue_t epilogue;
    int64_t n_out;
    int64_t n_in;
    int64_t ldw;
    bool is_aligned; /* x, y, bias and their rows begin at multiples of 16 bytes */
} plan_key;

/* One call, prepared but for pointers, n_rows and leading dimensions of x and y. */
typedef struct plan {
    plan_key key;
    cublasLtMatmulDesc_t call;
    cublasLtMatrixLayout_t w, x, y;
    cublasLtMatmulAlgo_t algorithm;
    bool is_usable; /* an algorithm was found */
} plan;

struct pr_cuda_gemm {
    pr_cuda_memory *memory;
    cublasLtHandle_t handle;
    bool allow_tf32;
    void *workspace;
    plan *plans; /* [n_plans], in order of creation: a model has few shapes */
    size_t n_plans, n_plans_max;
    size_t gated_row_bytes; /* of the widest gated product */
    void *gated;            /* [gated_rows, gated_row_bytes] */
    size_t gated_bytes;
};

/* ---- life ---- */

pr_status pr_cuda_gemm_create(pr_cuda_memory *memory, bool allow_tf32, pr_cuda_gemm **out,
                              pr_error *err)
{
    pr_cuda_gemm *g = calloc(1, sizeof *g);
    if (!g) return pr_error_nomem(err, "gemm", sizeof *g);
    g->memory = memory;
    g->allow_tf32 = allow_tf32;
    pr_status st = pr_cublas_status(cublasLtCreate(&g->handle), err, "cuBLASLt");
    if (st == PR_OK)
        st = pr_cuda_memory_device_alloc(PR_CUDA_GEMM_WORKSPACE_BYTES, &g->workspace, err);
    if (st != PR_OK) {
        pr_cuda_gemm_free(g);
        return st;
    }
    *out = g;
    return PR_OK;
}

static void plan_deinit(plan *p)
{
    if (p->call) (void)cublasLtMatmulDescDestroy(p->call);
    cublasLtMatrixLayout_t layouts[] = {p->w, p->x, p->y};
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if (layouts[i]) (void)cublasLtMatrixLayoutDestroy(layouts[i]);
}

void pr_cuda_gemm_free(pr_cuda_gemm *g)
{
    if (!g) return;
    for (size_t i = 0; i < g->n_plans; i++) plan_deinit(&g->plans[i]);
    free(g->plans);
    pr_cuda_memory_device_free(g->memory, g->gated);
    pr_cuda_memory_device_free(g->memory, g->workspace);
    if (g->handle) (void)cublasLtDestroy(g->handle);
    free(g);
}

void *pr_cuda_gemm_workspace(const pr_cuda_gemm *g)
{
    return g->workspace;
}

/* ---- plans ---- */

static cudaDataType_t cuda_dtype(pr_dtype dtype)
{
    return dtype == PR_DTYPE_F32 ? CUDA_R_32F : dtype == PR_DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_16F;
}

static bool epilogue_has_bias(cublasLtEpilogue_t e)
{
    return e == CUBLASLT_EPILOGUE_BIAS || e == CUBLASLT_EPILOGUE_GELU_BIAS;
}

/* A bias's address says its alignment to the heuristic, which does not read there. */
static const void *placeholder(const plan_key *key)
{
    return (const void *)(uintptr_t)(key->is_aligned ? VECTOR_BYTES : pr_dtype_bytes(key->dtype));
}

static cublasStatus_t call_create(const pr_cuda_gemm *g, plan *p)
{
    const plan_key *key = &p->key;
    bool is_tf32 = key->dtype == PR_DTYPE_F32 && g->allow_tf32;
    cublasComputeType_t compute = is_tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    cublasOperation_t transposed = CUBLAS_OP_T;
    cudaDataType_t dtype = cuda_dtype(key->dtype);
    const void *bias = placeholder(key);
    cublasStatus_t e = cublasLtMatmulDescCreate(&p->call, compute, CUDA_R_32F);
    struct {
        cublasLtMatmulDescAttributes_t name;
        const void *value;
        size_t n_bytes;
    } attributes[] = {
        {CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed},
        {CUBLASLT_MATMUL_DESC_EPILOGUE, &key->epilogue, sizeof key->epilogue},
        {CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &dtype, sizeof dtype}, /* these two: with a bias */
        {CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias},
    };
    size_t n = epilogue_has_bias(key->epilogue) ? 4 : 2;
    for (size_t i = 0; e == CUBLAS_STATUS_SUCCESS && i < n; i++) {
        e = cublasLtMatmulDescSetAttribute(p->call, attributes[i].name, attributes[i].value,
                                           attributes[i].n_bytes);
    }
    return e;
}

/* The shortest row of n elements that is as aligned as the key says, and no more. */
static int64_t ld_of(const plan_key *key, int64_t n)
{
    int64_t step = VECTOR_BYTES / (int64_t)pr_dtype_bytes(key->dtype);
    int64_t ld = (n + step - 1) / step * step;
    return key->is_aligned ? ld : ld + 1;
}

static cublasStatus_t layouts_create(plan *p)
{
    const plan_key *key = &p->key;
    cudaDataType_t dtype = cuda_dtype(key->dtype);
    cublasStatus_t e = cublasLtMatrixLayoutCreate(&p->w, dtype, (uint64_t)key->n_in,
                                                  (uint64_t)key->n_out, key->ldw);
    if (e == CUBLAS_STATUS_SUCCESS) {
        e = cublasLtMatrixLayoutCreate(&p->x, dtype, (uint64_t)key->n_in, PR_CUDA_GEMM_ROWS,
                                       ld_of(key, key->n_in));
    }
    if (e == CUBLAS_STATUS_SUCCESS) {
        e = cublasLtMatrixLayoutCreate(&p->y, dtype, (uint64_t)key->n_out, PR_CUDA_GEMM_ROWS,
                                       ld_of(key, key->n_out));
    }
    return e;
}

static cublasStatus_t preference_create(const plan_key *key, cublasLtMatmulPreference_t *out)
{
    uint64_t workspace = PR_CUDA_GEMM_WORKSPACE_BYTES;
    uint32_t no_reduction = CUBLASLT_REDUCTION_SCHEME_NONE, vector = VECTOR_BYTES;
    uint32_t element = key->is_aligned ? vector : (uint32_t)pr_dtype_bytes(key->dtype);
    struct {
        cublasLtMatmulPreferenceAttributes_t name;
        const void *value;
        size_t n_bytes;
    } attributes[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &no_reduction, sizeof no_reduction},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &vector, sizeof vector},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &element, sizeof element},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &element, sizeof element},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &element, sizeof element},
    };
    cublasStatus_t e = cublasLtMatmulPreferenceCreate(out);
    for (size_t i = 0; e == CUBLAS_STATUS_SUCCESS && i < sizeof attributes / sizeof *attributes;
         i++) {
        e = cublasLtMatmulPreferenceSetAttribute(*out, attributes[i].name, attributes[i].value,
                                                 attributes[i].n_bytes);
    }
    return e;
}

static cublasStatus_t rows_set(plan *p, int64_t n_rows, int64_t ldx, int64_t ldy)
{
    uint64_t columns = (uint64_t)n_rows;
    struct {
        cublasLtMatrixLayout_t layout;
        cublasLtMatrixLayoutAttribute_t name;
        const void *value;
        size_t n_bytes;
    } attributes[] = {
        {p->x, CUBLASLT_MATRIX_LAYOUT_COLS, &columns, sizeof columns},
        {p->x, CUBLASLT_MATRIX_LAYOUT_LD, &ldx, sizeof ldx},
        {p->y, CUBLASLT_MATRIX_LAYOUT_COLS, &columns, sizeof columns},
        {p->y, CUBLASLT_MATRIX_LAYOUT_LD, &ldy, sizeof ldy},
    };
    cublasStatus_t e = CUBLAS_STATUS_SUCCESS;
    for (size_t i = 0; e == CUBLAS_STATUS_SUCCESS && i < sizeof attributes / sizeof *attributes;
         i++) {
        e = cublasLtMatrixLayoutSetAttribute(attributes[i].layout, attributes[i].name,
                                             attributes[i].value, attributes[i].n_bytes);
    }
    return e;
}

/* Whether a candidate adds over n_in in one sequence. */
static bool adds_in_sequence(const cublasLtMatmulAlgo_t *algorithm)
{
    int32_t n_splits = 0;
    uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_MASK;
    size_t n_written = 0;
    if (cublasLtMatmulAlgoConfigGetAttribute(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &n_splits,
                                             sizeof n_splits,
                                             &n_written) != CUBLAS_STATUS_SUCCESS ||
        cublasLtMatmulAlgoConfigGetAttribute(algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME,
                                             &scheme, sizeof scheme,
                                             &n_written) != CUBLAS_STATUS_SUCCESS)
        return false;
    return n_splits >= 0 && n_splits <= 1 && scheme == CUBLASLT_REDUCTION_SCHEME_NONE;
}

/* Whether it serves other numbers of rows than it was found for: the fewest, odd multiples of
 * those, many. They stand for all. */
static bool takes_rows(const pr_cuda_gemm *g, plan *p, const cublasLtMatmulAlgo_t *algorithm)
{
    static const int64_t tried[] = {PR_CUDA_ROW_MULTIPLE, 5 * PR_CUDA_ROW_MULTIPLE,
                                    17 * PR_CUDA_ROW_MULTIPLE, 512 * PR_CUDA_ROW_MULTIPLE};
    int64_t ldx = ld_of(&p->key, p->key.n_in), ldy = ld_of(&p->key, p->key.n_out);
    bool is_taken = true;
    for (size_t i = 0; is_taken && i < sizeof tried / sizeof *tried; i++) {
        cublasLtMatmulHeuristicResult_t checked;
        is_taken = rows_set(p, tried[i], ldx, ldy) == CUBLAS_STATUS_SUCCESS &&
                   cublasLtMatmulAlgoCheck(g->handle, p->call, p->w, p->x, p->y, p->y, algorithm,
                                           &checked) == CUBLAS_STATUS_SUCCESS &&
                   checked.workspaceSize <= PR_CUDA_GEMM_WORKSPACE_BYTES;
    }
    return rows_set(p, PR_CUDA_GEMM_ROWS, ldx, ldy) == CUBLAS_STATUS_SUCCESS && is_taken;
}

/* The fastest, by cuBLASLt's estimate, of those that will do; is_usable stays false without. */
static cublasStatus_t algorithm_choose(const pr_cuda_gemm *g, plan *p)
{
    cublasLtMatmulHeuristicResult_t found[N_CANDIDATES];
    cublasLtMatmulPreference_t preference = NULL;
    int n_found = 0;
    cublasStatus_t e = preference_create(&p->key, &preference);
    if (e == CUBLAS_STATUS_SUCCESS) {
        e = cublasLtMatmulAlgoGetHeuristic(g->handle, p->call, p->w, p->x, p->y, p->y, preference,
                                           N_CANDIDATES, found, &n_found);
        if (e == CUBLAS_STATUS_NOT_SUPPORTED) {
            e = CUBLAS_STATUS_SUCCESS;
            n_found = 0;
        }
    }
    for (int i = 0; e == CUBLAS_STATUS_SUCCESS && !p->is_usable && i < n_found; i++) {
        const cublasLtMatmulHeuristicResult_t *f = &found[i];
        if (f->state != CUBLAS_STATUS_SUCCESS || !adds_in_sequence(&f->algo) ||
            !takes_rows(g, p, &f->algo))
            continue;
        p->algorithm = f->algo;
        p->is_usable = true;
    }
    if (preference) (void)cublasLtMatmulPreferenceDestroy(preference);
    return e;
}

static bool key_equals(const plan_key *a, const plan_key *b)
{
    return a->dtype == b->dtype && a->epilogue == b->epilogue && a->n_out == b->n_out &&
           a->n_in == b->n_in && a->ldw == b->ldw && a->is_aligned == b->is_aligned;
}

/* The plan of a key, made now if it is the first time; valid until the next call. */
static pr_status plan_get(pr_cuda_gemm *g, const plan_key *key, plan **out, pr_error *err)
{
    for (size_t i = 0; i < g->n_plans; i++) {
        if (!key_equals(&g->plans[i].key, key)) continue;
        *out = &g->plans[i];
        return PR_OK;
    }
    if (g->n_plans == g->n_plans_max) {
        size_t n = g->n_plans_max + PLANS_GROWTH;
        plan *grown = realloc(g->plans, n * sizeof *grown);
        if (!grown) return pr_error_nomem(err, "gemm plans", n * sizeof *grown);
        g->plans = grown;
        g->n_plans_max = n;
    }
    plan made = {.key = *key};
    cublasStatus_t e = call_create(g, &made);
    if (e == CUBLAS_STATUS_SUCCESS) e = layouts_create(&made);
    if (e == CUBLAS_STATUS_SUCCESS) e = algorithm_choose(g, &made);
    if (e != CUBLAS_STATUS_SUCCESS) {
        plan_deinit(&made);
        return pr_cublas_status(e, err, "cuBLASLt: choice of an algorithm");
    }
    *out = &g->plans[g->n_plans++];
    **out = made;
    return PR_OK;
}

static plan_key key_of(const pr_matrix *w, cublasLtEpilogue_t epilogue, bool is_aligned)
{
    return (plan_key){w->rows.dtype, epilogue, w->rows.n_rows, w->rows.n_columns, w->rows.ld,
                      is_aligned};
}

pr_status pr_cuda_gemm_prepare(pr_cuda_gemm *g, const pr_matrix *w, pr_error *err)
{
    static const cublasLtEpilogue_t epilogues[] = {
        CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_GELU,
        CUBLASLT_EPILOGUE_GELU_BIAS};
    size_t n = w->kind == PR_MATRIX_GATED ? 1 : sizeof epilogues / sizeof *epilogues;
    plan_key key = key_of(w, CUBLASLT_EPILOGUE_DEFAULT, true);
    /* rows without gaps, as callers have them, are as aligned as they are long */
    key.is_aligned = ld_of(&key, key.n_in) == key.n_in && ld_of(&key, key.n_out) == key.n_out;
    for (size_t i = 0; i < n; i++) {
        key.epilogue = epilogues[i];
        plan *p = NULL;
        pr_status st = plan_get(g, &key, &p, err);
        if (st != PR_OK) return st;
        if (i > 0 || p->is_usable) continue;
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "cuBLASLt has no algorithm for %s [%lld, %lld] without split-K",
                            pr_dtype_name(key.dtype), (long long)key.n_out, (long long)key.n_in);
    }
    size_t row_bytes = (size_t)w->rows.n_rows * pr_dtype_bytes(w->rows.dtype);
    if (w->kind == PR_MATRIX_GATED && row_bytes > g->gated_row_bytes)
        g->gated_row_bytes = row_bytes;
    return PR_OK;
}

/* ---- products ---- */

static int64_t rows_padded(int64_t n_rows)
{
    return (n_rows + PR_CUDA_ROW_MULTIPLE - 1) / PR_CUDA_ROW_MULTIPLE * PR_CUDA_ROW_MULTIPLE;
}

pr_status pr_cuda_gemm_reserve(pr_cuda_gemm *g, int64_t n_rows_max, pr_error *err)
{
    int64_t n_rows = rows_padded(n_rows_max);
    if (n_rows > PR_CUDA_GEMM_ROWS) n_rows = PR_CUDA_GEMM_ROWS;
    size_t n_bytes = (size_t)n_rows * g->gated_row_bytes;
    if (n_bytes <= g->gated_bytes) return PR_OK;
    pr_cuda_memory_device_free(g->memory, g->gated);
    g->gated = NULL;
    g->gated_bytes = 0;
    pr_status st = pr_cuda_memory_device_alloc(n_bytes, &g->gated, err);
    if (st == PR_OK) g->gated_bytes = n_bytes;
    return st;
}

static bool is_aligned(const void *p, int64_t ld, pr_dtype dtype)
{
    return (uintptr_t)p % VECTOR_BYTES == 0 &&
           (size_t)ld * pr_dtype_bytes(dtype) % VECTOR_BYTES == 0;
}

/* y = epilogue(x W^T + bias), n_rows padded. bias: in the matrix's dtype. */
static pr_status product(pr_cuda_gemm *g, plan *p, const pr_gemm *a, const void *bias,
                         cudaStream_t stream, pr_error *err)
{
    static const float one = 1.0f, zero = 0.0f;
    cublasStatus_t e = rows_set(p, rows_padded(a->n_rows), a->ldx, a->ldy);
    if (e == CUBLAS_STATUS_SUCCESS && epilogue_has_bias(p->key.epilogue)) {
        e = cublasLtMatmulDescSetAttribute(p->call, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                           sizeof bias);
    }
    if (e == CUBLAS_STATUS_SUCCESS) {
        e = cublasLtMatmul(g->handle, p->call, &one, a->w->rows.data, p->w, a->x, p->x, &zero, a->y,
                           p->y, a->y, p->y, &p->algorithm, g->workspace,
                           PR_CUDA_GEMM_WORKSPACE_BYTES, stream);
    }
    if (e == CUBLAS_STATUS_SUCCESS) return PR_OK;
    pr_status st = pr_cublas_status(e, err, "cublasLtMatmul");
    return pr_error_context(err, st, "gemm of %lld rows, %s [%lld, %lld]", (long long)a->n_rows,
                            pr_dtype_name(p->key.dtype), (long long)p->key.n_out,
                            (long long)p->key.n_in);
}

/* The bias as the matrix's products take it: itself, or its copy in 16 bits. */
static pr_status bias_of(pr_cuda_gemm *g, const pr_gemm *a, cudaStream_t stream, const void **out,
                         pr_error *err)
{
    pr_cuda_bias *copy = a->w->bias;
    uint64_t epoch = pr_cuda_memory_epoch(g->memory);
    *out = copy->data ? copy->data : (const void *)a->bias;
    if (!copy->data || !a->bias || (copy->source == a->bias && copy->epoch == epoch)) return PR_OK;
    int32_t n_out = (int32_t)a->w->rows.n_rows;
    const pr_cuda_activation convert = {.activation = PR_ACTIVATION_NONE, .x = a->bias,
                                        .ldx = n_out, .n_rows = 1, .dim = n_out, .y = copy->data,
                                        .ldy = n_out, .x_dtype = PR_DTYPE_F32,
                                        .y_dtype = a->w->rows.dtype};
    pr_status st = pr_cuda_status(pr_cuda_activation_launch(&convert, stream), err, "bias");
    if (st != PR_OK) return st;
    copy->source = a->bias;
    copy->epoch = epoch;
    return PR_OK;
}

/* The plan for an epilogue and the call's addresses; *out NULL: cuBLASLt has no algorithm. */
static pr_status plan_for(pr_cuda_gemm *g, const pr_gemm *a, cublasLtEpilogue_t epilogue,
                          const void *bias, plan **out, pr_error *err)
{
    pr_dtype dtype = a->w->rows.dtype;
    bool has_vectors = is_aligned(a->x, a->ldx, dtype) && is_aligned(a->y, a->ldy, dtype) &&
                       (uintptr_t)bias % VECTOR_BYTES == 0;
    plan_key key = key_of(a->w, epilogue, has_vectors);
    pr_status st = plan_get(g, &key, out, err);
    if (st == PR_OK && !(*out)->is_usable) *out = NULL;
    return st;
}

/* x W^T alone, as every matrix has it. */
static pr_status product_plain(pr_cuda_gemm *g, const pr_gemm *a, cudaStream_t stream,
                               pr_error *err)
{
    plan *p = NULL;
    pr_status st = plan_for(g, a, CUBLASLT_EPILOGUE_DEFAULT, NULL, &p, err);
    if (st != PR_OK) return st;
    if (!p) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "cuBLASLt has no algorithm for %s [%lld, %lld] and rows that are not "
                            "aligned to 16 bytes",
                            pr_dtype_name(a->w->rows.dtype), (long long)a->w->rows.n_rows,
                            (long long)a->w->rows.n_columns);
    }
    return product(g, p, a, NULL, stream, err);
}

static pr_status activation(const pr_gemm *a, const void *x, int64_t ldx, bool is_gated, void *y,
                            cudaStream_t stream, pr_error *err)
{
    pr_dtype dtype = a->w->rows.dtype;
    int64_t dim = is_gated ? a->w->rows.n_rows / 2 : a->w->rows.n_rows;
    const pr_cuda_activation k = {.activation = a->activation, .is_gated = is_gated, .x = x,
                                  .ldx = ldx, .bias = a->bias, .n_rows = a->n_rows,
                                  .dim = (int32_t)dim, .y = y, .ldy = a->ldy, .x_dtype = dtype,
                                  .y_dtype = dtype};
    return pr_cuda_status(pr_cuda_activation_launch(&k, stream), err, "activation");
}

/* In runs of rows: what stands between product and activation is twice as wide as y. */
static pr_status run_gated(pr_cuda_gemm *g, const pr_gemm *a, cudaStream_t stream, pr_error *err)
{
    size_t element = pr_dtype_bytes(a->w->rows.dtype);
    int64_t width = a->w->rows.n_rows;
    int64_t n_max = (int64_t)(g->gated_bytes / ((size_t)width * element));
    n_max = n_max / PR_CUDA_ROW_MULTIPLE * PR_CUDA_ROW_MULTIPLE;
    assert(n_max > 0); /* reserve was called */
    pr_status st = PR_OK;
    for (int64_t row = 0; st == PR_OK && row < a->n_rows; row += n_max) {
        pr_gemm part = *a;
        part.n_rows = a->n_rows - row < n_max ? a->n_rows - row : n_max;
        part.x = (const char *)a->x + (size_t)(row * a->ldx) * element;
        part.y = g->gated;
        part.ldy = width;
        st = product_plain(g, &part, stream, err);
        part.ldy = a->ldy;
        void *y = (char *)a->y + (size_t)(row * a->ldy) * element;
        if (st == PR_OK) st = activation(&part, g->gated, width, true, y, stream, err);
    }
    return st;
}

pr_status pr_cuda_gemm_run(pr_cuda_gemm *g, const pr_gemm *a, cudaStream_t stream, pr_error *err)
{
    if (a->n_rows == 0) return PR_OK;
    if (a->w->kind == PR_MATRIX_GATED) return run_gated(g, a, stream, err);
    bool is_gelu = a->activation == PR_ACTIVATION_GELU_TANH;
    bool is_plain = a->activation == PR_ACTIVATION_NONE;
    plan *p = NULL;
    if (is_gelu || (is_plain && a->bias)) {
        cublasLtEpilogue_t epilogue = !is_gelu  ? CUBLASLT_EPILOGUE_BIAS
                                      : a->bias ? CUBLASLT_EPILOGUE_GELU_BIAS
                                                : CUBLASLT_EPILOGUE_GELU;
        const void *bias = NULL;
        pr_status st = bias_of(g, a, stream, &bias, err);
        if (st == PR_OK) st = plan_for(g, a, epilogue, bias, &p, err);
        if (st != PR_OK) return st;
        if (p) return product(g, p, a, bias, stream, err);
    }
    pr_status st = product_plain(g, a, stream, err);
    if (st != PR_OK || (is_plain && !a->bias)) return st;
    return activation(a, a->y, a->ldy, false, a->y, stream, err);
}
