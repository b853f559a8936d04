/* blas.cpp: the part of cuBLASLt that poolrank uses, on the simulated device.
 *
 * It refuses what the library's documents (cuBLAS 13, "Using the cublasLt API") do not allow, and
 * is stricter where they leave room: an algorithm serves only the types, transpositions, epilogue,
 * rows and k that it was found for, at addresses and leading dimensions as aligned as its
 * preference and descriptors said. What the heuristic names first depends on n, and its algorithms
 * add in different orders: whoever takes the first for each n is not batch invariant, and shows
 * it. */
#include "tests/simcuda/blas_state.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct cublasLtContext {
    int i_device;
};

/* The library's own handles are these, behind its opaque types. */
typedef struct description {
    int32_t compute, scale, pointer_mode, trans_a, trans_b, trans_c;
    uint32_t epilogue;
    int32_t bias_type; /* -1: that of D */
    const void *bias;
} description;

typedef struct layout {
    uint32_t type;
    int32_t order, batch_count;
    uint64_t rows, columns;
    int64_t ld, batch_stride;
} layout;

typedef struct preference {
    uint64_t workspace_bytes;
    uint32_t search_mode, reduction_mask;
    uint32_t alignment[4]; /* of A, B, C, D */
} preference;

/* In the 64 bytes of a cublasLtMatmulAlgo_t. */
typedef struct algorithm {
    uint32_t magic;
    int32_t id, n_splits;
    uint32_t tile, scheme, stages, swizzle;
    uint16_t alignment[5]; /* of A, B, C, D and the bias */
    uint16_t k_block;
    uint64_t problem; /* what it was found for */
} algorithm;
static_assert(sizeof(algorithm) <= sizeof(cublasLtMatmulAlgo_t), "it fits");

static const uint32_t algorithm_magic = 0x616c676f;
enum { ALIGNMENT_MOST = 256, WORKSPACE_ALIGNMENT = 256, WORKSPACE_SMALL = 4096 };

/* ---- the library ---- */
extern "C" cublasStatus_t cublasLtCreate(cublasLtHandle_t *out)
{
    const sim_locked held;
    if (!out) return CUBLAS_STATUS_INVALID_VALUE;
    if (sim.has_fault || sim_device_now() >= sim.n_devices) return CUBLAS_STATUS_NOT_INITIALIZED;
    *out = (cublasLtHandle_t)calloc(1, sizeof **out);
    if (!*out) return CUBLAS_STATUS_ALLOC_FAILED;
    (*out)->i_device = sim_device_now();
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    free(handle);
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" size_t cublasLtGetVersion(void)
{
    return CUBLAS_VERSION;
}

typedef struct status_text {
    cublasStatus_t status;
    const char *name;
} status_text;

extern "C" const char *cublasLtGetStatusName(cublasStatus_t status)
{
    static const status_text texts[] = {
        {CUBLAS_STATUS_SUCCESS, "CUBLAS_STATUS_SUCCESS"},
        {CUBLAS_STATUS_NOT_INITIALIZED, "CUBLAS_STATUS_NOT_INITIALIZED"},
        {CUBLAS_STATUS_ALLOC_FAILED, "CUBLAS_STATUS_ALLOC_FAILED"},
        {CUBLAS_STATUS_INVALID_VALUE, "CUBLAS_STATUS_INVALID_VALUE"},
        {CUBLAS_STATUS_ARCH_MISMATCH, "CUBLAS_STATUS_ARCH_MISMATCH"},
        {CUBLAS_STATUS_EXECUTION_FAILED, "CUBLAS_STATUS_EXECUTION_FAILED"},
        {CUBLAS_STATUS_INTERNAL_ERROR, "CUBLAS_STATUS_INTERNAL_ERROR"},
        {CUBLAS_STATUS_NOT_SUPPORTED, "CUBLAS_STATUS_NOT_SUPPORTED"},
    };
    for (const status_text &t : texts)
        if (t.status == status) return t.name;
    return "CUBLAS_STATUS_UNKNOWN";
}

extern "C" const char *cublasLtGetStatusString(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_SUCCESS ? "success" : cublasLtGetStatusName(status);
}

/* ---- attributes ---- */
typedef struct attribute {
    int name;
    size_t offset, n_bytes;
} attribute;

static const attribute description_attributes[] = {
    {CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, offsetof(description, compute), 4},
    {CUBLASLT_MATMUL_DESC_SCALE_TYPE, offsetof(description, scale), 4},
    {CUBLASLT_MATMUL_DESC_POINTER_MODE, offsetof(description, pointer_mode), 4},
    {CUBLASLT_MATMUL_DESC_TRANSA, offsetof(description, trans_a), 4},
    {CUBLASLT_MATMUL_DESC_TRANSB, offsetof(description, trans_b), 4},
    {CUBLASLT_MATMUL_DESC_TRANSC, offsetof(description, trans_c), 4},
    {CUBLASLT_MATMUL_DESC_EPILOGUE, offsetof(description, epilogue), 4},
    {CUBLASLT_MATMUL_DESC_BIAS_POINTER, offsetof(description, bias), sizeof(void *)},
    {CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, offsetof(description, bias_type), 4},
};

static const attribute layout_attributes[] = {
    {CUBLASLT_MATRIX_LAYOUT_TYPE, offsetof(layout, type), 4},
    {CUBLASLT_MATRIX_LAYOUT_ORDER, offsetof(layout, order), 4},
    {CUBLASLT_MATRIX_LAYOUT_ROWS, offsetof(layout, rows), 8},
    {CUBLASLT_MATRIX_LAYOUT_COLS, offsetof(layout, columns), 8},
    {CUBLASLT_MATRIX_LAYOUT_LD, offsetof(layout, ld), 8},
    {CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, offsetof(layout, batch_count), 4},
    {CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, offsetof(layout, batch_stride), 8},
};

static const attribute preference_attributes[] = {
    {CUBLASLT_MATMUL_PREF_SEARCH_MODE, offsetof(preference, search_mode), 4},
    {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, offsetof(preference, workspace_bytes), 8},
    {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, offsetof(preference, reduction_mask), 4},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, offsetof(preference, alignment[0]), 4},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, offsetof(preference, alignment[1]), 4},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, offsetof(preference, alignment[2]), 4},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, offsetof(preference, alignment[3]), 4},
};

static const attribute algorithm_attributes[] = {
    {CUBLASLT_ALGO_CONFIG_ID, offsetof(algorithm, id), 4},
    {CUBLASLT_ALGO_CONFIG_TILE_ID, offsetof(algorithm, tile), 4},
    {CUBLASLT_ALGO_CONFIG_SPLITK_NUM, offsetof(algorithm, n_splits), 4},
    {CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, offsetof(algorithm, scheme), 4},
    {CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING, offsetof(algorithm, swizzle), 4},
    {CUBLASLT_ALGO_CONFIG_STAGES_ID, offsetof(algorithm, stages), 4},
};

template <size_t N>
static const attribute *attribute_find(const attribute (&all)[N], int name)
{
    for (const attribute &a : all)
        if (a.name == name) return &a;
    return NULL;
}

template <size_t N>
static cublasStatus_t attribute_set(const attribute (&all)[N], void *handle, int name,
                                    const void *value, size_t n_bytes)
{
    const attribute *a = attribute_find(all, name);
    if (!handle || !a || !value || n_bytes != a->n_bytes) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy((char *)handle + a->offset, value, n_bytes);
    return CUBLAS_STATUS_SUCCESS;
}

template <size_t N>
static cublasStatus_t attribute_get(const attribute (&all)[N], const void *handle, int name,
                                    void *value, size_t n_bytes, size_t *n_written)
{
    const attribute *a = attribute_find(all, name);
    if (!handle || !a || (n_bytes == 0 && !n_written)) return CUBLAS_STATUS_INVALID_VALUE;
    if (n_written) *n_written = a->n_bytes;
    if (n_bytes == 0) return CUBLAS_STATUS_SUCCESS;
    if (!value || n_bytes < a->n_bytes) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(value, (const char *)handle + a->offset, a->n_bytes);
    return CUBLAS_STATUS_SUCCESS;
}

template <class T, class Handle>
static cublasStatus_t handle_make(Handle *out, const T &value)
{
    if (!out) return CUBLAS_STATUS_INVALID_VALUE;
    T *p = (T *)malloc(sizeof value);
    if (!p) return CUBLAS_STATUS_ALLOC_FAILED;
    *p = value;
    *out = (Handle)(void *)p;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out,
                                                   cublasComputeType_t compute,
                                                   cudaDataType_t scale)
{
    description d = {};
    d.compute = compute;
    d.scale = scale;
    d.trans_a = d.trans_b = d.trans_c = CUBLAS_OP_N;
    d.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    d.bias_type = -1;
    return handle_make(out, d);
}

extern "C" cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    free(d);
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d,
                                                         cublasLtMatmulDescAttributes_t name,
                                                         const void *value, size_t n_bytes)
{
    return attribute_set(description_attributes, d, name, value, n_bytes);
}

extern "C" cublasStatus_t cublasLtMatmulDescGetAttribute(cublasLtMatmulDesc_t d,
                                                         cublasLtMatmulDescAttributes_t name,
                                                         void *value, size_t n_bytes,
                                                         size_t *n_written)
{
    return attribute_get(description_attributes, d, name, value, n_bytes, n_written);
}

extern "C" cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out,
                                                     cudaDataType type, uint64_t rows,
                                                     uint64_t columns, int64_t ld)
{
    layout l = {};
    l.type = (uint32_t)type;
    l.order = CUBLASLT_ORDER_COL;
    l.batch_count = 1;
    l.rows = rows;
    l.columns = columns;
    l.ld = ld;
    return handle_make(out, l);
}

extern "C" cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    free(l);
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l,
                                                           cublasLtMatrixLayoutAttribute_t name,
                                                           const void *value, size_t n_bytes)
{
    return attribute_set(layout_attributes, l, name, value, n_bytes);
}

extern "C" cublasStatus_t cublasLtMatrixLayoutGetAttribute(cublasLtMatrixLayout_t l,
                                                           cublasLtMatrixLayoutAttribute_t name,
                                                           void *value, size_t n_bytes,
                                                           size_t *n_written)
{
    return attribute_get(layout_attributes, l, name, value, n_bytes, n_written);
}

extern "C" cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    preference p = {};
    p.search_mode = CUBLASLT_SEARCH_BEST_FIT;
    p.reduction_mask = CUBLASLT_REDUCTION_SCHEME_MASK;
    for (uint32_t &bytes : p.alignment) bytes = ALIGNMENT_MOST;
    return handle_make(out, p);
}

extern "C" cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    free(p);
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t
cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                     cublasLtMatmulPreferenceAttributes_t name, const void *value,
                                     size_t n_bytes)
{
    return attribute_set(preference_attributes, p, name, value, n_bytes);
}

extern "C" cublasStatus_t
cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *a,
                                     cublasLtMatmulAlgoConfigAttributes_t name, void *value,
                                     size_t n_bytes, size_t *n_written)
{
    return attribute_get(algorithm_attributes, a, name, value, n_bytes, n_written);
}

extern "C" cublasStatus_t
cublasLtMatmulAlgoConfigSetAttribute(cublasLtMatmulAlgo_t *a,
                                     cublasLtMatmulAlgoConfigAttributes_t name, const void *value,
                                     size_t n_bytes)
{
    if (name == CUBLASLT_ALGO_CONFIG_ID) return CUBLAS_STATUS_INVALID_VALUE;
    return attribute_set(algorithm_attributes, a, name, value, n_bytes);
}

/* ---- what a problem is, and whether it is one ---- */
typedef struct problem {
    const description *call;
    const layout *a, *b, *c, *d;
    uint64_t m, n, k;
} problem;

static size_t type_bytes(uint32_t type)
{
    return type == CUDA_R_32F ? 4 : type == CUDA_R_16BF || type == CUDA_R_16F ? 2 : 0;
}

static bool has_bias(uint32_t epilogue)
{
    return epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_RELU_BIAS ||
           epilogue == CUBLASLT_EPILOGUE_GELU_BIAS;
}

static bool is_layout(const layout *l)
{
    return l && l->rows > 0 && l->columns > 0 && l->ld >= (int64_t)l->rows;
}

static cublasStatus_t shapes_check(problem *p)
{
    if (!p->call || !is_layout(p->a) || !is_layout(p->b) || !is_layout(p->c) || !is_layout(p->d))
        return CUBLAS_STATUS_INVALID_VALUE;
    const bool ta = p->call->trans_a == CUBLAS_OP_T, tb = p->call->trans_b == CUBLAS_OP_T;
    p->m = ta ? p->a->columns : p->a->rows;
    p->k = ta ? p->a->rows : p->a->columns;
    p->n = tb ? p->b->rows : p->b->columns;
    const uint64_t k = tb ? p->b->columns : p->b->rows;
    if (k != p->k || p->c->rows != p->m || p->d->rows != p->m || p->c->columns != p->n ||
        p->d->columns != p->n)
        return CUBLAS_STATUS_INVALID_VALUE;
    for (const layout *l : {p->a, p->b, p->c, p->d})
        if (l->order != CUBLASLT_ORDER_COL || l->batch_count != 1)
            return CUBLAS_STATUS_NOT_SUPPORTED;
    return CUBLAS_STATUS_SUCCESS;
}

/* The rows of the table of cublasLtMatmul's data types that are simulated: A and B alike, C and D
 * alike and as A or f32, computed and scaled in f32. A bias is of D's type. */
static cublasStatus_t types_check(const problem *p)
{
    const description *d = p->call;
    const bool is_tf32 = d->compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    const bool is_f32 =
        d->compute == CUBLAS_COMPUTE_32F || d->compute == CUBLAS_COMPUTE_32F_PEDANTIC;
    const bool is_known = type_bytes(p->a->type) > 0 && p->b->type == p->a->type &&
                          p->c->type == p->d->type &&
                          (p->d->type == p->a->type || p->d->type == CUDA_R_32F);
    if (!is_known || d->scale != CUDA_R_32F || d->trans_c != CUBLAS_OP_N ||
        d->pointer_mode != CUBLASLT_POINTER_MODE_HOST)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!is_f32 && !(is_tf32 && p->a->type == CUDA_R_32F)) return CUBLAS_STATUS_NOT_SUPPORTED;
    switch (d->epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT:
    case CUBLASLT_EPILOGUE_RELU:
    case CUBLASLT_EPILOGUE_GELU: return CUBLAS_STATUS_SUCCESS;
    case CUBLASLT_EPILOGUE_BIAS:
    case CUBLASLT_EPILOGUE_RELU_BIAS:
    case CUBLASLT_EPILOGUE_GELU_BIAS: break;
    default: return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    if (!d->bias) return CUBLAS_STATUS_INVALID_VALUE;
    const bool is_bias_known = d->bias_type == -1 || (uint32_t)d->bias_type == p->d->type;
    return is_bias_known ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

static cublasStatus_t problem_check(problem *p)
{
    const cublasStatus_t e = shapes_check(p);
    return e == CUBLAS_STATUS_SUCCESS ? types_check(p) : e;
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x100000001b3ull;
    return hash ^ hash >> 29;
}

/* Everything but n and the leading dimensions. */
static uint64_t problem_hash(const problem *p)
{
    uint64_t hash = 0xcbf29ce484222325ull;
    const description *d = p->call;
    for (uint64_t v : {(uint64_t)d->compute, (uint64_t)d->trans_a, (uint64_t)d->trans_b,
                       (uint64_t)d->epilogue, (uint64_t)p->a->type, (uint64_t)p->d->type, p->m,
                       p->k})
        hash = mix(hash, v);
    return hash;
}

/* The largest power of two up to `most` that divides it. */
static uint32_t alignment_of(uint64_t value, uint32_t most)
{
    while (most > 1 && value % most != 0) most /= 2;
    return most;
}

static uint32_t ld_alignment(const layout *l)
{
    return alignment_of((uint64_t)l->ld * type_bytes(l->type), 16);
}

/* ---- algorithms ---- */
typedef struct candidate {
    uint32_t tile;
    uint16_t k_block;
    int32_t n_splits;
    uint64_t n_min; /* where it is named first */
} candidate;

/* Large tiles for many columns; for few and a long k, its parts side by side. */
static const candidate candidates[] = {
    {CUBLASLT_MATMUL_TILE_128x256, 64, 1, 1024},
    {CUBLASLT_MATMUL_TILE_128x128, 32, 1, 128},
    {CUBLASLT_MATMUL_TILE_64x64, 128, 4, 0},
    {CUBLASLT_MATMUL_TILE_64x64, 128, 1, 0},
    {CUBLASLT_MATMUL_TILE_64x32, 16, 1, 0},
};
enum { N_CANDIDATES = sizeof candidates / sizeof *candidates };

static size_t workspace_needed(const problem *p, const algorithm *a)
{
    if (a->n_splits == 1) return WORKSPACE_SMALL;
    return (size_t)(p->m * p->n) * 4u * (size_t)a->n_splits;
}

static algorithm algorithm_make(const problem *p, const preference *pref, const candidate *c)
{
    algorithm a = {};
    a.magic = algorithm_magic;
    a.id = 1 + (int32_t)(c - candidates);
    a.tile = c->tile;
    a.k_block = c->k_block;
    a.n_splits = c->n_splits;
    a.scheme = c->n_splits > 1 ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE
                               : CUBLASLT_REDUCTION_SCHEME_NONE;
    const layout *layouts[] = {p->a, p->b, p->c, p->d};
    for (int i = 0; i < 4; i++) {
        const uint32_t ld = ld_alignment(layouts[i]), asked = pref->alignment[i];
        a.alignment[i] = (uint16_t)(ld < 16 && ld < asked ? ld : asked);
    }
    a.alignment[4] = 1;
    if (has_bias(p->call->epilogue))
        a.alignment[4] = (uint16_t)alignment_of((uintptr_t)p->call->bias, 16);
    a.problem = problem_hash(p);
    return a;
}

static bool is_wanted(const problem *p, const preference *pref, const candidate *c)
{
    if (c->n_splits == 1) return true;
    const size_t needed = (size_t)(p->m * p->n) * 4u * (size_t)c->n_splits;
    return (pref->reduction_mask & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) && p->k >= 128 &&
           needed <= pref->workspace_bytes;
}

/* Those for at least n columns first, as the table has them, then the rest. */
static int algorithms_find(const problem *p, const preference *pref, int n_most, algorithm *out)
{
    int n = 0;
    for (int pass = 0; pass < 2; pass++)
        for (const candidate &c : candidates)
            if (n < n_most && (p->n >= c.n_min) == (pass == 0) && is_wanted(p, pref, &c))
                out[n++] = algorithm_make(p, pref, &c);
    return n;
}

static problem problem_of(cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t la,
                          cublasLtMatrixLayout_t lb, cublasLtMatrixLayout_t lc,
                          cublasLtMatrixLayout_t ld)
{
    problem p = {};
    p.call = (const description *)(const void *)d;
    p.a = (const layout *)(const void *)la;
    p.b = (const layout *)(const void *)lb;
    p.c = (const layout *)(const void *)lc;
    p.d = (const layout *)(const void *)ld;
    return p;
}

static void result_set(const problem *p, const algorithm *a, cublasLtMatmulHeuristicResult_t *out)
{
    memset(out, 0, sizeof *out);
    memcpy(&out->algo, a, sizeof *a);
    out->workspaceSize = workspace_needed(p, a);
    out->state = CUBLAS_STATUS_SUCCESS;
    out->wavesCount = 1.0f;
}

extern "C" cublasStatus_t
cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t d,
                               cublasLtMatrixLayout_t la, cublasLtMatrixLayout_t lb,
                               cublasLtMatrixLayout_t lc, cublasLtMatrixLayout_t ld,
                               cublasLtMatmulPreference_t pref, int n_asked,
                               cublasLtMatmulHeuristicResult_t *out, int *n_out)
{
    const sim_locked held;
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!pref || n_asked < 1 || !out || !n_out) return CUBLAS_STATUS_INVALID_VALUE;
    *n_out = 0;
    problem p = problem_of(d, la, lb, lc, ld);
    const cublasStatus_t e = problem_check(&p);
    if (e != CUBLAS_STATUS_SUCCESS) return e;
    algorithm found[N_CANDIDATES];
    const int n_most = n_asked < N_CANDIDATES ? n_asked : N_CANDIDATES;
    *n_out = algorithms_find(&p, (const preference *)(const void *)pref, n_most, found);
    for (int i = 0; i < *n_out; i++) result_set(&p, &found[i], &out[i]);
    return *n_out > 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

/* Whether the algorithm serves the problem. */
static cublasStatus_t algorithm_check(const problem *p, const algorithm *a)
{
    if (a->magic != algorithm_magic || a->n_splits < 1) return CUBLAS_STATUS_INVALID_VALUE;
    if (a->problem != problem_hash(p)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if ((a->n_splits > 1) != (a->scheme != CUBLASLT_REDUCTION_SCHEME_NONE))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    const layout *layouts[] = {p->a, p->b, p->c, p->d};
    for (int i = 0; i < 4; i++) {
        const uint32_t most = a->alignment[i] < 16 ? a->alignment[i] : 16;
        if (ld_alignment(layouts[i]) < most) return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t
cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t d,
                        cublasLtMatrixLayout_t la, cublasLtMatrixLayout_t lb,
                        cublasLtMatrixLayout_t lc, cublasLtMatrixLayout_t ld,
                        const cublasLtMatmulAlgo_t *algo, cublasLtMatmulHeuristicResult_t *out)
{
    const sim_locked held;
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!algo || !out) return CUBLAS_STATUS_INVALID_VALUE;
    problem p = problem_of(d, la, lb, lc, ld);
    algorithm a;
    memcpy(&a, algo, sizeof a);
    cublasStatus_t e = problem_check(&p);
    if (e == CUBLAS_STATUS_SUCCESS) e = algorithm_check(&p, &a);
    if (e == CUBLAS_STATUS_SUCCESS) result_set(&p, &a, out);
    return e;
}

/* ---- the call ---- */
static bool is_in_memory(const void *p, const layout *l, int i_device, const char *name)
{
    const size_t n = ((size_t)(l->columns - 1) * (size_t)l->ld + l->rows) * type_bytes(l->type);
    if (sim_is_on_device(p, n, i_device)) return true;
    sim_fault_set_as(cudaErrorIllegalAddress,
                     "cublasLtMatmul: %s of %llu columns reaches beyond its memory", name,
                     (unsigned long long)l->columns);
    return false;
}

static bool are_aligned(const blas_call *x, const algorithm *a)
{
    const void *const addresses[] = {x->a, x->b, x->c, x->d, x->bias};
    for (int i = 0; i < 5; i++)
        if ((uintptr_t)addresses[i] % a->alignment[i] != 0) return false;
    return (uintptr_t)x->workspace % WORKSPACE_ALIGNMENT == 0;
}

static bool is_all_in_memory(const problem *p, const blas_call *x, int i_device)
{
    const layout bias = {p->d->type, 0, 1, p->m, 1, (int64_t)p->m, 0};
    return is_in_memory(x->a, p->a, i_device, "A") && is_in_memory(x->b, p->b, i_device, "B") &&
           (x->beta == 0.0f || is_in_memory(x->c, p->c, i_device, "C")) &&
           is_in_memory(x->d, p->d, i_device, "D") &&
           (!has_bias(p->call->epilogue) || is_in_memory(x->bias, &bias, i_device, "the bias")) &&
           (!x->workspace || sim_is_on_device(x->workspace, x->workspace_bytes, i_device));
}

static blas_call call_of(const problem *p, const algorithm *a)
{
    blas_call x = {};
    x.m = (int64_t)p->m;
    x.n = (int64_t)p->n;
    x.k = (int64_t)p->k;
    x.lda = p->a->ld;
    x.ldb = p->b->ld;
    x.ldc = p->c->ld;
    x.ldd = p->d->ld;
    x.is_a_transposed = p->call->trans_a == CUBLAS_OP_T;
    x.is_b_transposed = p->call->trans_b == CUBLAS_OP_T;
    x.is_tf32 = p->call->compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    x.ab_type = (cudaDataType_t)p->a->type;
    x.cd_type = (cudaDataType_t)p->d->type;
    x.epilogue = (cublasLtEpilogue_t)p->call->epilogue;
    x.bias = has_bias(p->call->epilogue) ? p->call->bias : NULL;
    x.n_splits = a->n_splits;
    x.k_block = a->k_block;
    return x;
}

/* The algorithm given, or with NULL the first of the heuristic's under default preferences. */
static cublasStatus_t algorithm_take(const problem *p, const cublasLtMatmulAlgo_t *given,
                                     size_t workspace_bytes, algorithm *out)
{
    if (given) {
        memcpy(out, given, sizeof *out);
        return algorithm_check(p, out);
    }
    preference pref = {workspace_bytes, CUBLASLT_SEARCH_BEST_FIT, CUBLASLT_REDUCTION_SCHEME_MASK,
                       {16, 16, 16, 16}};
    return algorithms_find(p, &pref, 1, out) == 1 ? CUBLAS_STATUS_SUCCESS
                                                  : CUBLAS_STATUS_NOT_SUPPORTED;
}

extern "C" cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t d,
                                         const void *alpha, const void *a,
                                         cublasLtMatrixLayout_t la, const void *b,
                                         cublasLtMatrixLayout_t lb, const void *beta,
                                         const void *c, cublasLtMatrixLayout_t lc, void *out,
                                         cublasLtMatrixLayout_t ld,
                                         const cublasLtMatmulAlgo_t *given, void *workspace,
                                         size_t workspace_bytes, cudaStream_t stream)
{
    const sim_locked held;
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (sim.has_fault) return CUBLAS_STATUS_EXECUTION_FAILED;
    if (!alpha || !beta || !a || !b || !c || !out) return CUBLAS_STATUS_INVALID_VALUE;
    problem p = problem_of(d, la, lb, lc, ld);
    cublasStatus_t e = problem_check(&p);
    algorithm algo = {};
    if (e == CUBLAS_STATUS_SUCCESS) e = algorithm_take(&p, given, workspace_bytes, &algo);
    if (e != CUBLAS_STATUS_SUCCESS) return e;
    blas_call x = call_of(&p, &algo);
    x.a = a;
    x.b = b;
    x.c = c;
    x.d = out;
    memcpy(&x.alpha, alpha, sizeof x.alpha);
    memcpy(&x.beta, beta, sizeof x.beta);
    x.workspace = workspace;
    x.workspace_bytes = workspace_needed(&p, &algo);
    if (x.workspace_bytes > (workspace ? workspace_bytes : 0)) return CUBLAS_STATUS_INVALID_VALUE;
    if (c == out && (p.c->ld != p.d->ld || p.c->type != p.d->type))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!are_aligned(&x, &algo)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!is_all_in_memory(&p, &x, handle->i_device)) return CUBLAS_STATUS_EXECUTION_FAILED;
    return sim_call(stream, blas_product_run, &x, sizeof x) == cudaSuccess
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_EXECUTION_FAILED;
}
