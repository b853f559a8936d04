/* kernels/backend.h: the one interface between the forward pass and a device.
 *
 * A backend owns its device memory, packed weights, threads or streams, and workspace. All calls on
 * one backend come from one thread, the rank's compute thread, and are ordered; a backend may run
 * them asynchronously: what it was asked to do for a batch is done when `batch_poll` says so.
 *
 * Activations are row-major, in device memory ("device" is the host on CPU): x [n, d] with a
 * leading dimension ld >= d in elements, in the backend's activation dtype (f32 on CPU; f32, bf16
 * or f16 on a GPU) where a struct has no field that says otherwise. The residual stream and pooled
 * rows are f32 everywhere. Index arrays are device memory too. Pointers that are not said to be
 * optional are not NULL.
 *
 * A batch, and two of them at a time where n_slots is 2:
 *     batch_begin(slot) -> upload ... -> layers ... -> download ... -> batch_end(slot)
 *     batch_poll(slot) until it is done: downloads have arrived, the slot may be begun again
 *
 * Batch invariance: an output row depends only on its own inputs and on shapes of the weights, to
 * the bit, on a backend whose `is_batch_invariant` is true. */
#ifndef POOLRANK_KERNELS_BACKEND_H
#define POOLRANK_KERNELS_BACKEND_H

#include "runtime/base/dtype.h"
#include "runtime/base/status.h"
#include "runtime/model/model_spec.h"

typedef struct pr_backend pr_backend;
typedef struct pr_matrix pr_matrix; /* a weight matrix W [n_out, n_in], packed for gemm */
typedef struct pr_table pr_table;   /* an embedding table [n_rows, dim], for embed */

typedef enum pr_matrix_kind {
    PR_MATRIX_PLAIN,
    PR_MATRIX_GATED /* rows 0 .. n_out/2-1 are the gate projection, the rest up: gemm yields n_out/2
                       columns, activation(gate) * up */
} pr_matrix_kind;

/* Upper bounds of any later call; a backend sizes its workspace by them. */
typedef struct pr_backend_limits {
    int64_t n_rows_max;  /* rows of one call */
    int64_t n_keys_max;  /* keys of one span */
    int32_t n_heads;
    int32_t n_kv_heads;
    int32_t head_dim;
} pr_backend_limits;

/* y = activation(x W^T + bias), or for a GATED matrix y = activation(g) * u with
 * [g u] = x W^T + bias. A matrix of dtype F32 on a backend whose activations are 16 bits wide (a
 * head's) takes x and gives y in f32. x and y have room for n_rows rounded up to row_multiple: rows
 * from n_rows on are read and may be written, whatever they hold. */
typedef struct pr_gemm {
    const pr_matrix *w;
    const void *x;         /* [n_rows, n_in] */
    int64_t ldx;
    int64_t n_rows;        /* 0 is fine: nothing happens */
    const float *bias;     /* [n_out]; NULL: none */
    pr_activation activation;
    void *y;               /* [n_rows, n_out], not x */
    int64_t ldy;
} pr_gemm;

/* y[i] = token[tokens[i] - token_begin] + position[positions[i]] + type[types[i]]; a token whose
 * row the table lacks (another rank has it) adds 0 */
typedef struct pr_embed {
    const pr_table *token;
    int32_t token_begin;      /* token of the table's first row */
    const pr_table *position; /* NULL: none */
    const pr_table *type;     /* NULL: none */
    const int32_t *tokens;    /* [n_rows] */
    const int32_t *positions; /* [n_rows]; NULL without position table */
    const uint8_t *types;     /* [n_rows]; NULL: all 0 */
    int64_t n_rows;
    float *y; /* [n_rows, dim] */
    int64_t ldy;
} pr_embed;

/* s = x + residual; y = LayerNorm(s) (bias may be NULL) or RMSNorm(s), over rows of `dim`. y may be
 * x or residual where the dtypes are the same. A row is read before anything of it is written.
 * Without a weight y is s itself, converted. */
typedef struct pr_norm_args {
    pr_norm kind;
    const void *x;
    pr_dtype x_dtype; /* F32, or the activation dtype; so is y_dtype */
    int64_t ldx;
    const float *residual; /* [n_rows, dim]; NULL: none, s is x */
    int64_t ld_residual;
    float *sum; /* [n_rows, dim]: receives s; NULL: it is not kept; may be residual */
    int64_t ld_sum;
    float *wide; /* [n_rows, dim]: receives y in f32 beside y; NULL: nobody wants it; may be
                    residual */
    int64_t ld_wide;
    const float *weight; /* [dim]; NULL: nothing is normalized */
    const float *bias;   /* [dim], LayerNorm only; NULL: none */
    float eps;
    int64_t n_rows;
    int64_t dim;
    void *y; /* [n_rows, dim]; NULL: only the sum is wanted */
    pr_dtype y_dtype;
    int64_t ldy;
} pr_norm_args;

/* In place on heads of q and k that stand side by side, x [n_rows, (n_heads + n_kv_heads) *
 * head_dim]: first RMSNorm of each head when its norm weight is given, then rotation by position in
 * the NeoX layout: the pair (i, i + head_dim/2) turns by position * frequency[i]. Su et al. 2021,
 * arXiv:2104.09864. */
typedef struct pr_rope {
    void *x;
    int64_t ldx;
    int64_t n_rows;
    int32_t n_heads;    /* of q; 0: x has only k */
    int32_t n_kv_heads; /* of k; 0: x has only q */
    int32_t head_dim;
    const int32_t *positions;  /* [n_rows] */
    const float *cos;          /* [n_positions, head_dim / 2], from rope_table; NULL: no rotation */
    const float *sin;
    const float *q_norm;       /* [head_dim]; NULL: none */
    const float *k_norm;       /* likewise */
    float norm_eps;
} pr_rope;

/* A run of query rows and the keys that belong to them. Keys are named in position order: key j of
 * the span (position j) is row key_rows[key_begin + j] of k and v. */
typedef struct pr_span {
    uint32_t query_begin; /* first row of q and out */
    uint32_t query_count;
    uint32_t key_begin;   /* first entry in key_rows */
    uint32_t key_count;   /* positions 0 .. key_count - 1 */
} pr_span;

/* out[i] = softmax(q[i] K^T * scale) V per head, over the keys that row i may see: all of its span,
 * or with `causal` those at positions <= query_positions[i], and with window w > 0 only the last w
 * of them. Grouped: query head h reads KV head h / (n_heads / n_kv_heads). */
typedef struct pr_attention {
    const void *q; /* [n_queries, n_heads * head_dim] */
    int64_t ldq;
    const void *k; /* [rows, n_kv_heads * head_dim] */
    int64_t ldk;
    const void *v;
    int64_t ldv;
    const int32_t *query_positions; /* [n_queries], by row of q */
    const uint32_t *key_rows;
    const pr_span *spans;  /* [n_spans], in host memory */
    int64_t n_spans;
    int32_t n_heads;
    int32_t n_kv_heads;
    int32_t head_dim;
    float scale;
    bool causal;
    int32_t window; /* 0: none */
    void *out; /* [n_queries, n_heads * head_dim], not q */
    int64_t ldout;
} pr_attention;

/* y[i] = x[rows[i]], rows of `dim` elements of dtype (F32, or the activation dtype). */
typedef struct pr_gather {
    const void *x;
    int64_t ldx;
    const uint32_t *rows; /* [n_rows] */
    int64_t n_rows;
    int64_t dim;
    pr_dtype dtype;
    void *y; /* not x */
    int64_t ldy;
} pr_gather;

/* One slot a job; none may be NULL. Sizes are trusted (asserted where cheap); failures are the
 * device's: PR_E_NOMEM, PR_E_INTERNAL. */
typedef struct pr_backend_ops {
    void (*close)(pr_backend *b);

    /* memory: aligned to 64 bytes, contents undefined; free accepts NULL */
    pr_status (*alloc)(pr_backend *b, size_t n_bytes, void **out, pr_error *err);
    void (*free)(pr_backend *b, void *p);
    /* host memory that `download` writes to, pinned on a GPU, which also takes rows of weights from
     * there without a copy in between; free accepts NULL */
    pr_status (*host_alloc)(pr_backend *b, size_t n_bytes, void **out, pr_error *err);
    void (*host_free)(pr_backend *b, void *p);
    /* src may change when the call returns */
    pr_status (*upload)(pr_backend *b, void *dst, const void *src, size_t n_bytes, pr_error *err);
    /* dst, from host_alloc, is valid when the batch is done, or after sync */
    pr_status (*download)(pr_backend *b, void *dst, const void *src, size_t n_bytes, pr_error *err);
    /* Once, before the first batch and after the weights: allocates all that batches will need. */
    pr_status (*reserve)(pr_backend *b, const pr_backend_limits *limits, pr_error *err);
    pr_status (*sync)(pr_backend *b, pr_error *err);

    /* Batches. slot < n_slots: whose device arrays the uploads up to the first layer go to; they
     * may overtake the batch before, which uses the other slot's. */
    pr_status (*batch_begin)(pr_backend *b, int slot, pr_error *err);
    pr_status (*batch_end)(pr_backend *b, int slot, pr_error *err);
    /* Never waits. Fails when the device failed, after which nothing on it is of use. */
    pr_status (*batch_poll)(pr_backend *b, int slot, bool *is_done, pr_error *err);

    /* weights. dtype: how the backend stores them: F32, BF16, or F16 on a GPU. write takes rows
     * row_begin .. row_begin + n_rows - 1 in src_dtype (F32, F16, BF16), contiguous [n_rows, n_in],
     * in any order, each row once, before the first use. */
    pr_status (*matrix_create)(pr_backend *b, pr_matrix_kind kind, int64_t n_out, int64_t n_in,
                               pr_dtype dtype, pr_matrix **out, pr_error *err);
    pr_status (*matrix_write)(pr_backend *b, pr_matrix *w, int64_t row_begin, int64_t n_rows,
                              const void *src, pr_dtype src_dtype, pr_error *err);
    void (*matrix_free)(pr_backend *b, pr_matrix *w); /* NULL is fine */
    size_t (*matrix_bytes)(const pr_matrix *w);
    pr_status (*table_create)(pr_backend *b, int64_t n_rows, int64_t dim, pr_dtype dtype,
                              pr_table **out, pr_error *err);
    pr_status (*table_write)(pr_backend *b, pr_table *t, int64_t row_begin, int64_t n_rows,
                             const void *src, pr_dtype src_dtype, pr_error *err);
    void (*table_free)(pr_backend *b, pr_table *t); /* NULL is fine */
    size_t (*table_bytes)(const pr_table *t);

    /* layers */
    pr_status (*embed)(pr_backend *b, const pr_embed *a, pr_error *err);
    pr_status (*gemm)(pr_backend *b, const pr_gemm *a, pr_error *err);
    pr_status (*norm)(pr_backend *b, const pr_norm_args *a, pr_error *err);
    pr_status (*rope)(pr_backend *b, const pr_rope *a, pr_error *err);
    pr_status (*attention)(pr_backend *b, const pr_attention *a, pr_error *err);

    pr_status (*gather)(pr_backend *b, const pr_gather *a, pr_error *err);
    /* y[s] = mean of x[rows[j]], j = offsets[s] .. offsets[s+1]-1, added in that order in f32 with
     * Kahan's compensation; offsets [n_sequences + 1] in host memory */
    pr_status (*mean_rows)(pr_backend *b, const float *x, int64_t ldx, const uint32_t *rows,
                           const uint32_t *offsets, int64_t n_sequences, int64_t dim, float *y,
                           int64_t ldy, pr_error *err);
} pr_backend_ops;

/* The first member of every backend's own struct. */
struct pr_backend {
    const pr_backend_ops *ops;
    const char *name;        /* "cpu", "cuda" */
    char description[128];   /* "AVX-512, 2 threads": for logs and inspect */
    char device[64];         /* "cpu 0-1", "cuda 3": where; empty: the caller knows */
    bool is_batch_invariant;
    pr_dtype activation_dtype;
    int32_t row_multiple;    /* of gemm; 1 on CPU */
    int n_slots;             /* batches at a time: 1 when every call is done as it returns */
    bool keeps_source_dtype; /* a matrix of F32 all of whose sources are BF16, or all F16, may be
                                created in that dtype: the same values, fewer products */
    int32_t norm_dim_max;    /* most values of a row that norm takes; 0: any number */
};

/* Rows that a buffer of gemm's x or y needs for n. */
static inline int64_t pr_backend_rows(const pr_backend *b, int64_t n)
{
    return (n + b->row_multiple - 1) / b->row_multiple * b->row_multiple;
}

#endif
