/* kernels/cuda/kernels.h: the launches of poolrank's own CUDA kernels.
 *
 * Owns nothing: every pointer is device memory of the caller, borrowed until the stream has passed
 * the launch. Called by the CUDA backend on the rank's compute thread. Every call queues one kernel
 * and returns; no row is nothing to do. Fails with cudaErrorInvalidValue for a dtype, size or
 * alignment that no kernel takes, before anything is queued, else with what the launch returned.
 *
 * Matrices are row-major with a leading dimension in elements. `x_dtype`, `y_dtype`: F32, BF16,
 * F16; two different 16-bit formats in one call are refused. Sums are f32 in an order that depends
 * on the row's length only: a row's bits do not depend on its neighbours. */
#ifndef POOLRANK_KERNELS_CUDA_KERNELS_H
#define POOLRANK_KERNELS_CUDA_KERNELS_H

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/backend.h"

#include <cuda_runtime_api.h>

/* y[i] = token[tokens[i] - token_begin] + position[positions[i]] + type[types[i]], as pr_embed. */
typedef struct pr_cuda_embed {
    const void *token;        /* [n_token_rows, dim], x_dtype */
    const void *position;     /* [.., dim], x_dtype; NULL: none */
    const void *type;         /* [.., dim], x_dtype; NULL: none */
    const int32_t *tokens;    /* [n_rows] */
    const int32_t *positions; /* [n_rows]; NULL without position table */
    const uint8_t *types;     /* [n_rows]; NULL: all 0 */
    int32_t token_begin;      /* token of the table's first row */
    int32_t n_token_rows;     /* a token outside the table adds 0 */
    int32_t n_rows;
    int32_t dim;
    void *y; /* [n_rows, dim] */
    int64_t ldy;
    pr_dtype x_dtype, y_dtype;
} pr_cuda_embed;
cudaError_t pr_cuda_embed_launch(const pr_cuda_embed *a, cudaStream_t stream);

/* s = x + residual;  y = LayerNorm(s) or RMSNorm(s). */
typedef struct pr_cuda_norm {
    pr_norm kind;
    const void *x; /* [n_rows, dim] */
    int64_t ldx;
    const void *residual; /* [n_rows, dim], x_dtype; NULL: none */
    int64_t ld_residual;
    void *sum; /* [n_rows, dim], x_dtype: receives s; NULL: not kept; may be x, residual */
    int64_t ld_sum;
    const float *weight; /* [dim] */
    const float *bias;   /* [dim]; NULL: none */
    float eps;
    int32_t n_rows;
    int32_t dim; /* at most PR_CUDA_NORM_DIM_MAX */
    void *y;     /* [n_rows, dim]; may be x when the dtypes are the same */
    int64_t ldy;
    pr_dtype x_dtype, y_dtype;
} pr_cuda_norm;
enum { PR_CUDA_NORM_DIM_MAX = 12000 }; /* a row stands in shared memory, 48 KB without opting in */
cudaError_t pr_cuda_norm_launch(const pr_cuda_norm *a, cudaStream_t stream);

/* From the QKV projection to what attention reads: bias, RMSNorm of each head of q and k, rotation
 * (NeoX layout), conversion, each of q, k, v in a matrix of its own. */
typedef struct pr_cuda_rope {
    const void *x; /* [n_rows, (n_heads + 2 n_kv_heads) head_dim]: q heads, k heads, v heads */
    int64_t ldx;
    const float *bias;         /* as wide as x; NULL: none */
    const float *q_norm;       /* [head_dim]; NULL: none */
    const float *k_norm;       /* [head_dim]; NULL: none */
    float norm_eps;
    const int32_t *positions;  /* [n_rows]; NULL without rotation */
    const float *cos;          /* [n_positions, head_dim / 2]; NULL: no rotation */
    const float *sin;
    int32_t n_rows;
    int32_t n_heads;
    int32_t n_kv_heads;
    int32_t head_dim; /* even, at most 256 */
    void *q;          /* [n_rows, n_heads head_dim], y_dtype; not x */
    int64_t ldq;
    void *k; /* [n_rows, n_kv_heads head_dim] */
    int64_t ldk;
    void *v;
    int64_t ldv;
    pr_dtype x_dtype, y_dtype;
} pr_cuda_rope;
cudaError_t pr_cuda_rope_launch(const pr_cuda_rope *a, cudaStream_t stream);

/* y = f(x + bias), or gated: y = f(x[0 .. dim-1]) x[dim .. 2 dim-1] of rows twice as wide. */
typedef struct pr_cuda_activation {
    pr_activation activation;
    bool is_gated;
    const void *x; /* [n_rows, dim or 2 dim] */
    int64_t ldx;
    const float *bias; /* [dim or 2 dim]; NULL: none */
    int32_t n_rows;
    int32_t dim;
    void *y; /* [n_rows, dim]; may be x when the dtypes are the same and it is not gated */
    int64_t ldy;
    pr_dtype x_dtype, y_dtype;
} pr_cuda_activation;
cudaError_t pr_cuda_activation_launch(const pr_cuda_activation *a, cudaStream_t stream);

/* LAST, CLS: y[s] = x[row] of the last or first row of sequence s. MEAN: y[s] = the mean of its
 * rows, as pr_backend_ops.mean_rows. ALL, STEP and any other choice of rows: the rows themselves,
 * y[i] = x[rows[i]], with offsets NULL. */
typedef enum pr_cuda_pool_kind { PR_CUDA_POOL_LAST, PR_CUDA_POOL_CLS, PR_CUDA_POOL_MEAN,
                                 PR_CUDA_POOL_ROWS } pr_cuda_pool_kind;
typedef struct pr_cuda_pool {
    pr_cuda_pool_kind kind;
    const void *x;
    int64_t ldx;
    const uint32_t *rows;    /* of x, sequence after sequence */
    const uint32_t *offsets; /* [n_out + 1]: rows offsets[s] .. offsets[s + 1] - 1; ROWS: NULL */
    int32_t n_out;
    int32_t dim;
    void *y; /* [n_out, dim], not x; a sequence without rows gives zeros */
    int64_t ldy;
    pr_dtype x_dtype, y_dtype;
} pr_cuda_pool;
cudaError_t pr_cuda_pool_launch(const pr_cuda_pool *a, cudaStream_t stream);

/* What becomes of pooled rows, in place: x / max(||x||_2, 1e-12), softmax(x), or sigmoid(x). */
typedef enum pr_cuda_finish_kind { PR_CUDA_FINISH_L2, PR_CUDA_FINISH_SOFTMAX,
                                   PR_CUDA_FINISH_SIGMOID } pr_cuda_finish_kind;
typedef struct pr_cuda_finish {
    pr_cuda_finish_kind kind;
    float *x; /* [n_rows, dim] */
    int64_t ldx;
    int32_t n_rows;
    int32_t dim;
} pr_cuda_finish;
cudaError_t pr_cuda_finish_launch(const pr_cuda_finish *a, cudaStream_t stream);

/* ---- attention ---- */

/* Some of a span's rows. A row is one query and one of the heads that share a KV head: row r of the
 * span is query r / group, head r % group of the group, group = n_heads / n_kv_heads. */
typedef struct pr_cuda_tile {
    uint32_t query_begin; /* the span's first row of q and out */
    uint32_t row_begin;
    uint32_t row_count;   /* at most PR_CUDA_TILE_ROWS */
    uint32_t key_begin;   /* the span's */
    uint32_t key_count;
} pr_cuda_tile;
enum { PR_CUDA_TILE_ROWS = 64 };

/* Tiles of the spans, in order; writes them to out when it is not NULL, and returns how many. */
uint32_t pr_cuda_tiles(const pr_span *spans, int64_t n_spans, int32_t n_heads, int32_t n_kv_heads,
                       pr_cuda_tile *out);

/* pr_attention (kernels/backend.h) on tiles of its spans, q, k, v in 16 bits. */
typedef struct pr_cuda_attention {
    const void *q; /* [n_queries, n_heads head_dim], aligned to 16 bytes as k, v and every ld */
    int64_t ldq;
    const void *k; /* [rows, n_kv_heads head_dim] */
    int64_t ldk;
    const void *v;
    int64_t ldv;
    const int32_t *query_positions;
    const uint32_t *key_rows;
    const pr_cuda_tile *tiles; /* [n_tiles], device memory */
    int32_t n_tiles;
    int32_t n_heads;
    int32_t n_kv_heads;
    int32_t head_dim; /* 32, 64, 80, 96, 128 or 256 */
    float scale;
    bool is_causal;
    int32_t window; /* 0: none; only with is_causal, as pr_attention */
    void *out;      /* [n_queries, n_heads head_dim], dtype, or f32 */
    int64_t ldout;
    bool out_is_f32;
    pr_dtype dtype; /* of q, k, v: BF16 or F16 */
} pr_cuda_attention;

/* arch: 80, 90, 100, 120: compute capability times 10. Fails also with cudaErrorNotSupported where
 * no tile of the table fits. */
cudaError_t pr_cuda_attention_launch(const pr_cuda_attention *a, int arch, cudaStream_t stream);

/* Keys of a tile and bytes of shared memory of a launch; 0 for a head size that has no kernel. */
int32_t pr_cuda_attention_tile_keys(int arch, int32_t head_dim);
size_t pr_cuda_attention_shared_bytes(int arch, int32_t head_dim);

#ifdef __cplusplus
}
#endif
#endif
