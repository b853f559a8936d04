/* blas_product.cpp: the simulated cuBLASLt's product.
 *
 *     D[i, j] = round(epilogue(alpha sum_k A[i, k] B[k, j] + beta C[i, j] + bias[i]))
 *
 * in f32, k in ascending order: within blocks of k_block, which are then added up, splits of k one
 * after the other. So an element's bits depend on the algorithm, its row of A and its column of B,
 * and on nothing else. The GPU's order is another one; that it does not depend on n for one
 * algorithm is what the backend relies on and launch/gpu-check looks at.
 *
 * 32 rows of A are widened and laid side by side, so that the inner loop is one of whole vectors;
 * three builds of it for what the processor has, without fused multiply-add: the same bits. */
#include "tests/simcuda/blas_state.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 16, VECTORS = 2, ROWS = LANES * VECTORS, COLUMNS = 4 };
typedef float vector __attribute__((vector_size(LANES * sizeof(float))));

static float number_get(const void *p, cudaDataType_t type, int64_t i)
{
    if (type == CUDA_R_32F) return ((const float *)p)[i];
    if (type == CUDA_R_16BF) return __bfloat162float(((const __nv_bfloat16 *)p)[i]);
    return __half2float(((const __half *)p)[i]);
}

static void number_set(void *p, cudaDataType_t type, int64_t i, float x)
{
    if (type == CUDA_R_32F) ((float *)p)[i] = x;
    if (type == CUDA_R_16BF) ((__nv_bfloat16 *)p)[i] = __float2bfloat16_rn(x);
    if (type == CUDA_R_16F) ((__half *)p)[i] = __float2half_rn(x);
}

/* To 10 bits of mantissa, to nearest even. */
static float tf32_round(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7f800000u) != 0x7f800000u) bits = (bits + 0xfffu + (bits >> 13 & 1)) & ~0x1fffu;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* ---- the inner loop ---- */
/* sums [COLUMNS][ROWS] += A's rows k_begin .. k_end-1 [k][ROWS] times b[column][k] */
typedef void (*tile_function)(const float *a, const float *const *b, int64_t k_begin, int64_t k_end,
                              int64_t k_block, float *sums);

static inline __attribute__((always_inline)) void tile_body(const float *a, const float *const *b,
                                                            int64_t k_begin, int64_t k_end,
                                                            int64_t k_block, float *sums)
{
    vector total[COLUMNS][VECTORS];
    memset(total, 0, sizeof total);
    for (int64_t k0 = k_begin; k0 < k_end; k0 += k_block) {
        const int64_t k1 = k0 + k_block < k_end ? k0 + k_block : k_end;
        vector part[COLUMNS][VECTORS];
        memset(part, 0, sizeof part);
        for (int64_t k = k0; k < k1; k++) {
            const vector *row = (const vector *)(a + k * ROWS);
            for (int c = 0; c < COLUMNS; c++)
                for (int v = 0; v < VECTORS; v++) part[c][v] += row[v] * b[c][k];
        }
        for (int c = 0; c < COLUMNS; c++)
            for (int v = 0; v < VECTORS; v++) total[c][v] += part[c][v];
    }
    for (int c = 0; c < COLUMNS; c++)
        for (int v = 0; v < VECTORS; v++) ((vector *)sums)[c * VECTORS + v] += total[c][v];
}

static void tile_plain(const float *a, const float *const *b, int64_t k_begin, int64_t k_end,
                       int64_t k_block, float *sums)
{
    tile_body(a, b, k_begin, k_end, k_block, sums);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void tile_avx2(const float *a, const float *const *b,
                                                      int64_t k_begin, int64_t k_end,
                                                      int64_t k_block, float *sums)
{
    tile_body(a, b, k_begin, k_end, k_block, sums);
}

__attribute__((target("avx512f"))) static void tile_avx512(const float *a, const float *const *b,
                                                           int64_t k_begin, int64_t k_end,
                                                           int64_t k_block, float *sums)
{
    tile_body(a, b, k_begin, k_end, k_block, sums);
}
#endif

static tile_function tile_choose(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) return tile_avx512;
    if (__builtin_cpu_supports("avx2")) return tile_avx2;
#endif
    return tile_plain;
}

/* ---- around it ---- */
static void *memory_make(size_t n_bytes)
{
    void *p = NULL;
    const int failed = posix_memalign(&p, 64, n_bytes);
    assert(!failed);
    return p;
}

/* panel [k][ROWS]: rows i .. i + ROWS - 1 of op(A), zeros beyond m */
static void rows_widen(const blas_call *x, int64_t i_begin, float *panel)
{
    for (int64_t i = 0; i < ROWS; i++) {
        const int64_t row = i_begin + i;
        for (int64_t k = 0; k < x->k; k++) {
            const int64_t at = x->is_a_transposed ? k + row * x->lda : row + k * x->lda;
            const float a = row < x->m ? number_get(x->a, x->ab_type, at) : 0.0f;
            panel[k * ROWS + i] = x->is_tf32 ? tf32_round(a) : a;
        }
    }
}

/* wide [n rounded up][k]: columns of op(B), zeros beyond n */
static void columns_widen(const blas_call *x, float *wide, int64_t n_wide)
{
    for (int64_t j = 0; j < n_wide; j++) {
        for (int64_t k = 0; k < x->k; k++) {
            const int64_t at = x->is_b_transposed ? j + k * x->ldb : k + j * x->ldb;
            const float b = j < x->n ? number_get(x->b, x->ab_type, at) : 0.0f;
            wide[j * x->k + k] = x->is_tf32 ? tf32_round(b) : b;
        }
    }
}

static float gelu(float x)
{
    return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
}

static float epilogue(const blas_call *x, int64_t i, float y)
{
    const cublasLtEpilogue_t e = x->epilogue;
    if (e == CUBLASLT_EPILOGUE_BIAS || e == CUBLASLT_EPILOGUE_RELU_BIAS ||
        e == CUBLASLT_EPILOGUE_GELU_BIAS)
        y += number_get(x->bias, x->cd_type, i);
    if (e == CUBLASLT_EPILOGUE_RELU || e == CUBLASLT_EPILOGUE_RELU_BIAS) y = y > 0.0f ? y : 0.0f;
    if (e == CUBLASLT_EPILOGUE_GELU || e == CUBLASLT_EPILOGUE_GELU_BIAS) y = gelu(y);
    return y;
}

static void tile_store(const blas_call *x, int64_t i_begin, int64_t j_begin, const float *sums)
{
    for (int64_t j = j_begin; j < j_begin + COLUMNS && j < x->n; j++) {
        for (int64_t i = i_begin; i < i_begin + ROWS && i < x->m; i++) {
            float y = x->alpha * sums[(j - j_begin) * ROWS + i - i_begin];
            if (x->beta != 0.0f) y += x->beta * number_get(x->c, x->cd_type, i + j * x->ldc);
            number_set(x->d, x->cd_type, i + j * x->ldd, epilogue(x, i, y));
        }
    }
}

void blas_product_run(void *state)
{
    const blas_call *x = (const blas_call *)state;
    const tile_function tile = tile_choose();
    const int64_t n_wide = (x->n + COLUMNS - 1) / COLUMNS * COLUMNS;
    const int64_t k_split = (x->k + x->n_splits - 1) / x->n_splits;
    float *wide = (float *)memory_make((size_t)(n_wide * x->k) * sizeof *wide);
    float *panel = (float *)memory_make((size_t)(x->k * ROWS) * sizeof *panel);
    if (x->workspace) sim_memory_poison(x->workspace, x->workspace_bytes);
    columns_widen(x, wide, n_wide);
    for (int64_t i = 0; i < x->m; i += ROWS) {
        rows_widen(x, i, panel);
        for (int64_t j = 0; j < x->n; j += COLUMNS) {
            alignas(64) float sums[COLUMNS * ROWS] = {0};
            const float *b[COLUMNS];
            for (int c = 0; c < COLUMNS; c++) b[c] = wide + (j + c) * x->k;
            for (int64_t k = 0; k < x->k; k += k_split)
                tile(panel, b, k, k + k_split < x->k ? k + k_split : x->k, x->k_block, sums);
            tile_store(x, i, j, sums);
        }
    }
    free(wide);
    free(panel);
}
