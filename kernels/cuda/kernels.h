/* kernels/cuda/kernels.h: the launches of poolrank's own CUDA kernels.
 *
 * Owns nothing: every pointer is device memory of the caller, borrowed until the stream has passed
 * the launch. Called by the CUDA backend on the rank's compute thread. Every call queues one kernel
 * and returns; no row is nothing to do. Fails with cudaErrorInvalidValue for a dtype, size or
 * alignment that no kernel takes, before anything is queued, else with what the launch returned.
 *
 * Matrices are row-major with a leading dimension in elements; offsets are 64 bits wide, and a
 * launch of more than 2^31 - 1 blocks is refused. `x_dtype`, `y_dtype`: F32, BF16, F16; two
 * different 16-bit formats in one call are refused. Pointers are aligned to their elements; where
 * pointers and leading dimensions are aligned to 4 elements, or in gather and attention to 16
 * bytes, results come faster (and a norm's sums in another order). Sums are f32 in an order that
 * depends on shapes and alignment only: a row's bits do not depend on its neighbours. */
#ifndef POOLRANK_KERNELS_CUDA_KERNELS_H
#define POOLRANK_KERNELS_CUDA_KERNELS_H

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/backend.h"

#include <cuda_runtime_api.h>

/* y[i] = token[tokens[i] - token_begin] + type[types[i]] + position[positions[i]], added in that
 * order, as pr_embed. Each table has its own dtype. */
typedef struct pr_cuda_embed {
    const void *token;        /* [n_token_rows, dim], token_dtype */
    const void *position;     /* [.., dim], position_dtype; NULL: none */
    const void *type;         /* [.., dim], type_dtype; NULL: none */
    pr_dtype token_dtype;     /* F32, BF16 or F16, in any mixture */
    pr_dtype position_dtype;  /* without a table: any value */
    pr_dtype type_dtype;
    const int32_t *tokens;    /* [n_rows] */
    const int32_t *positions; /* [n_rows]; NULL without position table */
    const uint8_t *types;     /* [n_rows]; NULL: all 0 */
    int32_t token_begin;      /* token of the table's first row */
    int64_t n_token_rows;     /* a token outside the table adds 0 */
    int64_t n_rows;
    int32_t dim;
    float *y; /* [n_rows, dim] */
    int64_t ldy;
} pr_cuda_embed;
cudaError_t pr_cuda_embed_launch(const pr_cuda_embed *a, cudaStream_t stream);

/* s = x + residual;  y = LayerNorm(s) or RMSNorm(s), as pr_norm_args: a block reads its row whole
 * before it writes any of it, so that sum, wide and y may be residual or x where dtypes agree. */
typedef struct pr_cuda_norm {
    pr_norm kind;
    const void *x; /* [n_rows, dim], x_dtype */
    int64_t ldx;
    const float *residual; /* [n_rows, dim]; NULL: none, s is x */
    int64_t ld_residual;
    float *sum; /* [n_rows, dim]: receives s; NULL: not kept */
    int64_t ld_sum;
    float *wide; /* [n_rows, dim]: receives y in f32 beside y; NULL: not wanted */
    int64_t ld_wide;
    const float *weight; /* [dim]; NULL only when y is */
    const float *bias;   /* [dim]; NULL: none */
    float eps;
    int64_t n_rows;
    int32_t dim; /* at most PR_CUDA_NORM_DIM_MAX */
    void *y;     /* [n_rows, dim], y_dtype; NULL: only the sum is wanted, and wide is NULL */
    int64_t ldy;
    pr_dtype x_dtype, y_dtype;
} pr_cuda_norm;
enum { PR_CUDA_NORM_DIM_MAX = 12000 }; /* a row stands in shared memory, 48 KB without opting in */
cudaError_t pr_cuda_norm_launch(const pr_cuda_norm *a, cudaStream_t stream);

/* RMSNorm of each head, then rotation (NeoX layout), in place, as pr_rope: x holds n_heads heads of
 * q, then n_kv_heads heads of k; either may be 0. What stands behind them in a row (v) is not
 * touched. */
typedef struct pr_cuda_rope {
    void *x; /* [n_rows, (n_heads + n_kv_heads) head_dim], dtype */
    int64_t ldx;
    const float *q_norm; /* [head_dim]; NULL: none */
    const float *k_norm; /* likewise */
    float norm_eps;
    const int32_t *positions; /* [n_rows]; NULL without rotation */
    const float *cos;         /* [n_positions, head_dim / 2]; NULL: no rotation */
    const float *sin;
    int64_t n_rows;
    int32_t n_heads;
    int32_t n_kv_heads;
    int32_t head_dim; /* even, at most 256 */
    pr_dtype dtype;   /* F32, BF16, F16 */
} pr_cuda_rope;
cudaError_t pr_cuda_rope_launch(const pr_cuda_rope *a, cudaStream_t stream);

/* y = f(x + bias), or gated: y = f(x[0 .. dim-1]) x[dim .. 2 dim-1] of rows twice as wide. */
typedef struct pr_cuda_activation {
    pr_activation activation;
    bool is_gated;
    const void *x; /* [n_rows, dim or 2 dim] */
    int64_t ldx;
    const float *bias; /* [dim or 2 dim]; NULL: none */
    int64_t n_rows;
    int32_t dim;
    void *y; /* [n_rows, dim]; may be x when the dtypes are the same and it is not gated */
    int64_t ldy;
    pr_dtype x_dtype, y_dtype;
} pr_cuda_activation;
cudaError_t pr_cuda_activation_launch(const pr_cuda_activation *a, cudaStream_t stream);

/* y[i] = x[rows[i]], as pr_gather: the rows of LAST, CLS, ALL and STEP, any choice of rows. */
typedef struct pr_cuda_gather {
    const void *x;
    int64_t ldx;
    const uint32_t *rows; /* [n_rows] */
    int64_t n_rows;
    int32_t dim;
    void *y; /* [n_rows, dim], not x */
    int64_t ldy;
    pr_dtype dtype; /* of x and y */
} pr_cuda_gather;
cudaError_t pr_cuda_gather_launch(const pr_cuda_gather *a, cudaStream_t stream);

/* y[s] = mean of x[rows[j]], j = offsets[s] .. offsets[s + 1] - 1, as pr_backend_ops.mean_rows:
 * added in that order with Kahan's compensation. A sequence without rows gives zeros. */
typedef struct pr_cuda_mean {
    const float *x;
    int64_t ldx;
    const uint32_t *rows;
    const uint32_t *offsets; /* [n_sequences + 1], device memory */
    int64_t n_sequences;
    int32_t dim;
    float *y; /* [n_sequences, dim], not x */
    int64_t ldy;
} pr_cuda_mean;
cudaError_t pr_cuda_mean_launch(const pr_cuda_mean *a, cudaStream_t stream);

/* What becomes of pooled rows, in place: x / max(||x||_2, 1e-12), softmax(x), or sigmoid(x). */
typedef enum pr_cuda_finish_kind { PR_CUDA_FINISH_L2, PR_CUDA_FINISH_SOFTMAX,
                                   PR_CUDA_FINISH_SIGMOID } pr_cuda_finish_kind;
typedef struct pr_cuda_finish {
    pr_cuda_finish_kind kind;
    float *x; /* [n_rows, dim] */
    int64_t ldx;
    int64_t n_rows;
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

/* pr_attention (kernels/backend.h) on tiles of its spans, for any head_dim up to 256: the kernel of
 * the next compiled size takes it, with zeros in shared memory behind head_dim. Compiled are 32,
 * 64, 80, 96, 128, 256 in 16 bits, and 32, 64, 96, 128, 256 in F32. Rows are copied 16 bytes at a
 * time by cp.async where q, k, v, their leading dimensions and head_dim are multiples of 16 bytes,
 * else an element at a time. q, k and v may be columns of one matrix (QKV rows). */
typedef struct pr_cuda_attention {
    const void *q; /* [n_queries, n_heads head_dim], dtype */
    int64_t ldq;
    const void *k; /* [rows, n_kv_heads head_dim] */
    int64_t ldk;
    const void *v;
    int64_t ldv;
    const int32_t *query_positions;
    const uint32_t *key_rows;
    const pr_cuda_tile *tiles; /* [n_tiles], device memory */
    int64_t n_tiles;
    int32_t n_heads;
    int32_t n_kv_heads;
    int32_t head_dim;
    float scale;
    bool is_causal;
    int32_t window; /* 0: none; only with is_causal, as pr_attention */
    void *out;      /* [n_queries, n_heads head_dim], dtype, or f32; none of the others */
    int64_t ldout;
    bool out_is_f32; /* of 16-bit q, k, v */
    pr_dtype dtype;  /* of q, k, v: F32, BF16, F16 */
} pr_cuda_attention;

/* arch: compute capability times 10 (90 of 9.0, 86 of 8.6). Fails with cudaErrorNotSupported below
 * 80 and for a head size above 256; cudaErrorInvalidValue for heads that do not divide by KV heads,
 * and for more than 65535 KV heads. */
cudaError_t pr_cuda_attention_launch(const pr_cuda_attention *a, int arch, cudaStream_t stream);

/* Keys of a tile and bytes of shared memory of a launch; 0 for what has no kernel. */
int32_t pr_cuda_attention_tile_keys(int arch, pr_dtype dtype, int32_t head_dim);
size_t pr_cuda_attention_shared_bytes(int arch, pr_dtype dtype, int32_t head_dim);

#ifdef __cplusplus
}
#endif
#endif
