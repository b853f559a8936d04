#include "kernels/cuda/cuda_backend.h"

#include "kernels/cuda/cuda_attention.h"
#include "kernels/cuda/cuda_gemm.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/cuda_weights.h"
#include "kernels/cuda/kernels.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CAPABILITY_MIN = 80, PROBE_COLUMNS = 32 };

typedef struct cuda_backend {
    pr_backend base; /* first: a pr_backend * is a cuda_backend * */
    pr_cuda_memory *memory;
    pr_cuda_gemm *gemm;
    pr_cuda_tiles_cache *tiles;
    uint32_t *offsets; /* of mean_rows, [offsets_max] on the device */
    int64_t offsets_max;
    int capability; /* 90: 9.0 */
} cuda_backend;

static cuda_backend *cuda_of(pr_backend *b)
{
    return (cuda_backend *)b;
}

/* memory */

static void cuda_close(pr_backend *b)
{
    if (!b) return;
    cuda_backend *cuda = cuda_of(b);
    if (cuda->memory) {
        pr_cuda_tiles_cache_free(cuda->memory, cuda->tiles);
        pr_cuda_memory_device_free(cuda->memory, cuda->offsets);
        pr_cuda_gemm_free(cuda->gemm);
        pr_cuda_memory_free(cuda->memory);
    }
    free(cuda);
}

static pr_status cuda_alloc(pr_backend *b, size_t n_bytes, void **out, pr_error *err)
{
    (void)b;
    return pr_cuda_memory_device_alloc(n_bytes, out, err);
}

static void cuda_free(pr_backend *b, void *p)
{
    pr_cuda_memory_device_free(cuda_of(b)->memory, p);
}

static pr_status cuda_host_alloc(pr_backend *b, size_t n_bytes, void **out, pr_error *err)
{
    return pr_cuda_memory_host_alloc(cuda_of(b)->memory, n_bytes, out, err);
}

static void cuda_host_free(pr_backend *b, void *p)
{
    pr_cuda_memory_host_free(cuda_of(b)->memory, p);
}

static pr_status cuda_upload(pr_backend *b, void *dst, const void *src, size_t n_bytes,
                             pr_error *err)
{
    return pr_cuda_memory_upload(cuda_of(b)->memory, dst, src, n_bytes, err);
}

static pr_status cuda_download(pr_backend *b, void *dst, const void *src, size_t n_bytes,
                               pr_error *err)
{
    return pr_cuda_memory_download(cuda_of(b)->memory, dst, src, n_bytes, err);
}

/* Of one batch: six arrays of a row's index or position and one of its type; the pooler's three of
 * indices; the keys of all spans, which are more than rows only where segments share prefixes; and
 * two sets of tiles. What does not fit goes through the staging buffers. */
static size_t ring_bytes(const pr_backend_limits *limits, size_t tiles_bytes)
{
    enum { INDEX_ARRAYS = 9, KEYS_PER_ROW = 4, SLACK = 4096 };
    size_t of_row = (INDEX_ARRAYS + KEYS_PER_ROW) * sizeof(uint32_t) + 1;
    return (size_t)limits->n_rows_max * of_row + 2 * tiles_bytes + SLACK;
}

static pr_status cuda_reserve(pr_backend *b, const pr_backend_limits *limits, pr_error *err)
{
    cuda_backend *cuda = cuda_of(b);
    int64_t n_offsets = limits->n_rows_max + 1;
    pr_status st = pr_cuda_tiles_cache_create(limits, &cuda->tiles, err);
    if (st == PR_OK) {
        size_t n_bytes = ring_bytes(limits, pr_cuda_tiles_cache_bytes(cuda->tiles));
        st = pr_cuda_memory_reserve(cuda->memory, n_bytes, err);
    }
    if (st == PR_OK) {
        st = pr_cuda_memory_device_alloc((size_t)n_offsets * sizeof *cuda->offsets,
                                         (void **)&cuda->offsets, err);
    }
    if (st != PR_OK) return st;
    cuda->offsets_max = n_offsets;
    return pr_cuda_gemm_reserve(cuda->gemm, limits->n_rows_max, err);
}

static pr_status cuda_sync(pr_backend *b, pr_error *err)
{
    return pr_cuda_memory_sync(cuda_of(b)->memory, err);
}

static pr_status cuda_batch_begin(pr_backend *b, int slot, pr_error *err)
{
    return pr_cuda_memory_batch_begin(cuda_of(b)->memory, slot, err);
}

static pr_status cuda_batch_end(pr_backend *b, int slot, pr_error *err)
{
    return pr_cuda_memory_batch_end(cuda_of(b)->memory, slot, err);
}

static pr_status cuda_batch_poll(pr_backend *b, int slot, bool *is_done, pr_error *err)
{
    return pr_cuda_memory_batch_poll(cuda_of(b)->memory, slot, is_done, err);
}

/* weights */

static pr_status cuda_matrix_create(pr_backend *b, pr_matrix_kind kind, int64_t n_out,
                                    int64_t n_in, pr_dtype dtype, pr_matrix **out, pr_error *err)
{
    cuda_backend *cuda = cuda_of(b);
    pr_matrix *w = NULL;
    assert(dtype == b->activation_dtype || dtype == PR_DTYPE_F32);
    pr_status st = pr_cuda_matrix_create(cuda->memory, kind, n_out, n_in, dtype, &w, err);
    if (st == PR_OK) st = pr_cuda_gemm_prepare(cuda->gemm, w, err);
    if (st != PR_OK) {
        pr_cuda_matrix_free(cuda->memory, w);
        return st;
    }
    *out = w;
    return PR_OK;
}

static pr_status cuda_matrix_write(pr_backend *b, pr_matrix *w, int64_t row_begin, int64_t n_rows,
                                   const void *src, pr_dtype src_dtype, pr_error *err)
{
    return pr_cuda_rows_write(cuda_of(b)->memory, &w->rows, row_begin, n_rows, src, src_dtype, err);
}

static void cuda_matrix_free(pr_backend *b, pr_matrix *w)
{
    pr_cuda_matrix_free(cuda_of(b)->memory, w);
}

static pr_status cuda_table_create(pr_backend *b, int64_t n_rows, int64_t dim, pr_dtype dtype,
                                   pr_table **out, pr_error *err)
{
    return pr_cuda_table_create(cuda_of(b)->memory, n_rows, dim, dtype, out, err);
}

static pr_status cuda_table_write(pr_backend *b, pr_table *t, int64_t row_begin, int64_t n_rows,
                                  const void *src, pr_dtype src_dtype, pr_error *err)
{
    return pr_cuda_rows_write(cuda_of(b)->memory, &t->rows, row_begin, n_rows, src, src_dtype, err);
}

static void cuda_table_free(pr_backend *b, pr_table *t)
{
    pr_cuda_table_free(cuda_of(b)->memory, t);
}

static size_t cuda_table_bytes(const pr_table *t)
{
    return t->rows.n_bytes;
}

/* layers */

/* The stream for a kernel. */
static pr_status layer_begin(pr_backend *b, cudaStream_t *out, pr_error *err)
{
    return pr_cuda_memory_layer_begin(cuda_of(b)->memory, out, err);
}

static pr_status cuda_embed(pr_backend *b, const pr_embed *a, pr_error *err)
{
    static const pr_cuda_rows none = {0};
    const pr_cuda_rows *token = &a->token->rows;
    const pr_cuda_rows *position = a->position ? &a->position->rows : &none;
    const pr_cuda_rows *type = a->type ? &a->type->rows : &none;
    const pr_cuda_embed k = {
        .token = token->data, .position = position->data, .type = type->data,
        .token_dtype = token->dtype, .position_dtype = position->dtype, .type_dtype = type->dtype,
        .tokens = a->tokens, .positions = a->positions, .types = a->types,
        .token_begin = a->token_begin, .n_token_rows = token->n_rows, .n_rows = a->n_rows,
        .dim = (int32_t)token->n_columns, .y = a->y, .ldy = a->ldy,
    };
    cudaStream_t stream = NULL;
    pr_status st = layer_begin(b, &stream, err);
    return st == PR_OK ? pr_cuda_status(pr_cuda_embed_launch(&k, stream), err, "embed") : st;
}

static pr_status cuda_gemm(pr_backend *b, const pr_gemm *a, pr_error *err)
{
    cudaStream_t stream = NULL;
    pr_status st = layer_begin(b, &stream, err);
    return st == PR_OK ? pr_cuda_gemm_run(cuda_of(b)->gemm, a, stream, err) : st;
}

/* y = x in another dtype, which is what a norm without a weight is for. */
static pr_status copy_converted(const pr_norm_args *a, cudaStream_t stream, pr_error *err)
{
    assert(!a->residual && !a->sum && !a->wide);
    const pr_cuda_activation k = {
        .activation = PR_ACTIVATION_NONE, .x = a->x, .ldx = a->ldx, .n_rows = a->n_rows,
        .dim = (int32_t)a->dim, .y = a->y, .ldy = a->ldy, .x_dtype = a->x_dtype,
        .y_dtype = a->y_dtype,
    };
    return pr_cuda_status(pr_cuda_activation_launch(&k, stream), err, "conversion");
}

static pr_status cuda_norm(pr_backend *b, const pr_norm_args *a, pr_error *err)
{
    const pr_cuda_norm k = {
        .kind = a->kind, .x = a->x, .ldx = a->ldx, .residual = a->residual,
        .ld_residual = a->ld_residual, .sum = a->sum, .ld_sum = a->ld_sum, .wide = a->wide,
        .ld_wide = a->ld_wide, .weight = a->weight, .bias = a->bias, .eps = a->eps,
        .n_rows = a->n_rows, .dim = (int32_t)a->dim, .y = a->y, .ldy = a->ldy,
        .x_dtype = a->x_dtype, .y_dtype = a->y ? a->y_dtype : a->x_dtype,
    };
    cudaStream_t stream = NULL;
    pr_status st = layer_begin(b, &stream, err);
    if (st == PR_OK && a->y && !a->weight) return copy_converted(a, stream, err);
    return st == PR_OK ? pr_cuda_status(pr_cuda_norm_launch(&k, stream), err, "norm") : st;
}

static pr_status cuda_rope(pr_backend *b, const pr_rope *a, pr_error *err)
{
    const pr_cuda_rope k = {
        .x = a->x, .ldx = a->ldx, .q_norm = a->q_norm, .k_norm = a->k_norm,
        .norm_eps = a->norm_eps, .positions = a->positions, .cos = a->cos, .sin = a->sin,
        .n_rows = a->n_rows, .n_heads = a->n_heads, .n_kv_heads = a->n_kv_heads,
        .head_dim = a->head_dim, .dtype = b->activation_dtype,
    };
    cudaStream_t stream = NULL;
    pr_status st = layer_begin(b, &stream, err);
    return st == PR_OK ? pr_cuda_status(pr_cuda_rope_launch(&k, stream), err, "rope") : st;
}

static pr_status cuda_attention(pr_backend *b, const pr_attention *a, pr_error *err)
{
    cuda_backend *cuda = cuda_of(b);
    const pr_cuda_tile *tiles = NULL;
    uint32_t n_tiles = 0;
    cudaStream_t stream = NULL;
    pr_status st = layer_begin(b, &stream, err);
    if (st == PR_OK) {
        st = pr_cuda_tiles_cache_get(cuda->tiles, cuda->memory, a, &tiles, &n_tiles, err);
    }
    if (st != PR_OK) return st;
    const pr_cuda_attention k = {
        .q = a->q, .ldq = a->ldq, .k = a->k, .ldk = a->ldk, .v = a->v, .ldv = a->ldv,
        .query_positions = a->query_positions, .key_rows = a->key_rows, .tiles = tiles,
        .n_tiles = n_tiles, .n_heads = a->n_heads, .n_kv_heads = a->n_kv_heads,
        .head_dim = a->head_dim, .scale = a->scale, .is_causal = a->causal, .window = a->window,
        .out = a->out, .ldout = a->ldout, .dtype = b->activation_dtype,
    };
    st = pr_cuda_status(pr_cuda_attention_launch(&k, cuda->capability, stream), err, "attention");
    return st == PR_OK ? st : pr_error_context(err, st, "head_dim %d", a->head_dim);
}

static pr_status cuda_gather(pr_backend *b, const pr_gather *a, pr_error *err)
{
    const pr_cuda_gather k = {
        .x = a->x, .ldx = a->ldx, .rows = a->rows, .n_rows = a->n_rows, .dim = (int32_t)a->dim,
        .y = a->y, .ldy = a->ldy, .dtype = a->dtype,
    };
    cudaStream_t stream = NULL;
    pr_status st = layer_begin(b, &stream, err);
    return st == PR_OK ? pr_cuda_status(pr_cuda_gather_launch(&k, stream), err, "gather") : st;
}

static pr_status cuda_mean_rows(pr_backend *b, const float *x, int64_t ldx, const uint32_t *rows,
                                const uint32_t *offsets, int64_t n_sequences, int64_t dim, float *y,
                                int64_t ldy, pr_error *err)
{
    cuda_backend *cuda = cuda_of(b);
    if (n_sequences == 0) return PR_OK;
    assert(n_sequences < cuda->offsets_max);
    cudaStream_t stream = NULL;
    pr_status st = layer_begin(b, &stream, err); /* first: then the upload is among the kernels */
    if (st == PR_OK) {
        st = pr_cuda_memory_upload(cuda->memory, cuda->offsets, offsets,
                                   (size_t)(n_sequences + 1) * sizeof *offsets, err);
    }
    if (st == PR_OK) st = layer_begin(b, &stream, err);
    if (st != PR_OK) return st;
    const pr_cuda_mean k = {
        .x = x, .ldx = ldx, .rows = rows, .offsets = cuda->offsets, .n_sequences = n_sequences,
        .dim = (int32_t)dim, .y = y, .ldy = ldy,
    };
    return pr_cuda_status(pr_cuda_mean_launch(&k, stream), err, "mean of rows");
}

static const pr_backend_ops cuda_ops = {
    .close = cuda_close,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .host_alloc = cuda_host_alloc,
    .host_free = cuda_host_free,
    .upload = cuda_upload,
    .download = cuda_download,
    .reserve = cuda_reserve,
    .sync = cuda_sync,
    .batch_begin = cuda_batch_begin,
    .batch_end = cuda_batch_end,
    .batch_poll = cuda_batch_poll,
    .matrix_create = cuda_matrix_create,
    .matrix_write = cuda_matrix_write,
    .matrix_free = cuda_matrix_free,
    .matrix_bytes = pr_cuda_matrix_bytes,
    .table_create = cuda_table_create,
    .table_write = cuda_table_write,
    .table_free = cuda_table_free,
    .table_bytes = cuda_table_bytes,
    .embed = cuda_embed,
    .gemm = cuda_gemm,
    .norm = cuda_norm,
    .rope = cuda_rope,
    .attention = cuda_attention,
    .gather = cuda_gather,
    .mean_rows = cuda_mean_rows,
};

/* creation */

static pr_status device_describe(cuda_backend *cuda, int device, pr_error *err)
{
    struct cudaDeviceProp properties;
    cudaError_t e = cudaGetDeviceProperties(&properties, device);
    if (e != cudaSuccess) return pr_cuda_status(e, err, "properties of the device");
    cuda->capability = properties.major * 10 + properties.minor;
    snprintf(cuda->base.description, sizeof cuda->base.description, "%.80s, sm_%d, %s",
             properties.name, cuda->capability, pr_dtype_name(cuda->base.activation_dtype));
    snprintf(cuda->base.device, sizeof cuda->base.device, "cuda %d", device);
    return PR_OK;
}

/* Runs a kernel, over rows that nobody looks at: without one for this device it fails here, and not
 * in the first batch. */
static pr_status kernels_probe(cuda_backend *cuda, pr_error *err)
{
    const pr_cuda_activation k = {
        .activation = PR_ACTIVATION_RELU, .x = pr_cuda_gemm_workspace(cuda->gemm),
        .ldx = PROBE_COLUMNS, .n_rows = 1, .dim = PROBE_COLUMNS,
        .y = pr_cuda_gemm_workspace(cuda->gemm), .ldy = PROBE_COLUMNS, .x_dtype = PR_DTYPE_F32,
        .y_dtype = PR_DTYPE_F32,
    };
    cudaError_t e = pr_cuda_activation_launch(&k, pr_cuda_memory_stream(cuda->memory));
    if (e != cudaSuccess) return pr_cuda_status(e, err, "first kernel");
    return pr_cuda_memory_sync(cuda->memory, err);
}

static pr_status device_open(cuda_backend *cuda, const pr_cuda_backend_options *options,
                             pr_error *err)
{
    pr_status st = pr_cuda_status(cudaSetDevice(options->device), err, "cudaSetDevice");
    if (st == PR_OK) st = device_describe(cuda, options->device, err);
    if (st == PR_OK && cuda->capability < CAPABILITY_MIN) {
        st = pr_error_set(err, PR_E_UNSUPPORTED, "%s: expected sm_%d or newer",
                          cuda->base.description, CAPABILITY_MIN);
    }
    if (st == PR_OK) st = pr_cuda_memory_create(&cuda->memory, err);
    if (st == PR_OK) st = pr_cuda_gemm_create(cuda->memory, options->allow_tf32, &cuda->gemm, err);
    if (st == PR_OK) st = kernels_probe(cuda, err);
    return st == PR_OK ? st : pr_error_context(err, st, "cuda %d", options->device);
}

pr_status pr_cuda_backend_create(const pr_cuda_backend_options *options, pr_backend **out,
                                 pr_error *err)
{
    assert(options);
    assert(out);
    pr_dtype dtype = options->dtype;
    if (dtype != PR_DTYPE_F32 && dtype != PR_DTYPE_BF16 && dtype != PR_DTYPE_F16) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "dtype on CUDA: found %s, expected float32, bfloat16 or float16",
                            pr_dtype_name(dtype));
    }
    cuda_backend *cuda = calloc(1, sizeof *cuda);
    if (!cuda) return pr_error_nomem(err, "CUDA backend", sizeof *cuda);
    cuda->base = (pr_backend){.ops = &cuda_ops, .name = "cuda", .activation_dtype = dtype,
                              .row_multiple = PR_CUDA_ROW_MULTIPLE, .n_slots = PR_CUDA_SLOTS,
                              .norm_dim_max = PR_CUDA_NORM_DIM_MAX};
    pr_status st = device_open(cuda, options, err);
    if (st != PR_OK) {
        cuda_close(&cuda->base);
        return st;
    }
    *out = &cuda->base;
    return PR_OK;
}

cudaStream_t pr_cuda_backend_stream(pr_backend *b)
{
    return pr_cuda_memory_stream(cuda_of(b)->memory);
}
