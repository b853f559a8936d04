#include "kernels/cuda/cuda_weights.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { MATRIX_ALIGNMENT = 16, CONVERT_ELEMENTS = 4096 };

/* ---- rows ---- */

static pr_status rows_create(pr_cuda_rows *rows, int64_t n_rows, int64_t n_columns, int64_t ld,
                             pr_dtype dtype, pr_error *err)
{
    assert(n_rows > 0 && n_columns > 0);
    assert(dtype == PR_DTYPE_F32 || dtype == PR_DTYPE_BF16 || dtype == PR_DTYPE_F16);
    size_t row_bytes = 0, n_bytes = 0;
    if (__builtin_mul_overflow((size_t)ld, pr_dtype_bytes(dtype), &row_bytes) ||
        __builtin_mul_overflow((size_t)n_rows, row_bytes, &n_bytes) ||
        row_bytes > PR_CUDA_STAGING_BYTES) {
        return pr_error_set(err, PR_E_TOO_LARGE,
                            "weights of %lld rows of %lld: a row has at most %d bytes",
                            (long long)n_rows, (long long)n_columns, (int)PR_CUDA_STAGING_BYTES);
    }
    void *data = NULL;
    pr_status st = pr_cuda_memory_device_alloc(n_bytes, &data, err);
    if (st != PR_OK) return st;
    *rows = (pr_cuda_rows){dtype, n_rows, n_columns, ld, data, n_bytes};
    return PR_OK;
}

/* n elements from any of the three dtypes to any other; dst is aligned, src need not be. */
static void convert(const char *src, pr_dtype src_dtype, size_t n, char *dst, pr_dtype dtype)
{
    float wide[CONVERT_ELEMENTS];
    size_t src_bytes = pr_dtype_bytes(src_dtype), dst_bytes = pr_dtype_bytes(dtype);
    if (src_dtype == dtype) {
        memcpy(dst, src, n * dst_bytes);
        return;
    }
    for (size_t i = 0; i < n; i += CONVERT_ELEMENTS) {
        size_t n_now = n - i < CONVERT_ELEMENTS ? n - i : CONVERT_ELEMENTS;
        pr_dtype_to_f32(src + i * src_bytes, src_dtype, n_now, wide);
        pr_dtype_from_f32(wide, dtype, n_now, dst + i * dst_bytes);
    }
}

/* Rows as they stand on the device, into a staging buffer. */
static void rows_fill(const pr_cuda_rows *rows, int64_t n_rows, const char *src, pr_dtype src_dtype,
                      char *out)
{
    size_t n = (size_t)rows->n_columns, ld = (size_t)rows->ld;
    size_t src_bytes = n * pr_dtype_bytes(src_dtype), element = pr_dtype_bytes(rows->dtype);
    if (n == ld) {
        convert(src, src_dtype, (size_t)n_rows * n, out, rows->dtype);
        return;
    }
    for (int64_t i = 0; i < n_rows; i++, src += src_bytes, out += ld * element) {
        convert(src, src_dtype, n, out, rows->dtype);
        memset(out + n * element, 0, (ld - n) * element);
    }
}

pr_status pr_cuda_rows_write(pr_cuda_memory *m, pr_cuda_rows *rows, int64_t row_begin,
                             int64_t n_rows, const void *src, pr_dtype src_dtype, pr_error *err)
{
    assert(row_begin >= 0 && n_rows >= 0 && row_begin + n_rows <= rows->n_rows);
    size_t row_bytes = (size_t)rows->ld * pr_dtype_bytes(rows->dtype);
    size_t src_row_bytes = (size_t)rows->n_columns * pr_dtype_bytes(src_dtype);
    int64_t n_max = (int64_t)(PR_CUDA_STAGING_BYTES / row_bytes);
    if (n_rows > 0 && src_dtype == rows->dtype && rows->n_columns == rows->ld &&
        pr_cuda_memory_is_pinned(m, src, (size_t)n_rows * row_bytes)) {
        char *to = (char *)rows->data + (size_t)row_begin * row_bytes;
        return pr_cuda_memory_upload_pinned(m, to, src, (size_t)n_rows * row_bytes, err);
    }
    for (int64_t i = 0; i < n_rows; i += n_max) {
        int64_t n = n_rows - i < n_max ? n_rows - i : n_max;
        void *piece = NULL;
        pr_status st = pr_cuda_memory_staging_take(m, &piece, err);
        if (st != PR_OK) return st;
        rows_fill(rows, n, (const char *)src + (size_t)i * src_row_bytes, src_dtype, piece);
        char *to = (char *)rows->data + (size_t)(row_begin + i) * row_bytes;
        st = pr_cuda_memory_staging_send(m, to, (size_t)n * row_bytes, err);
        if (st != PR_OK) return st;
    }
    return PR_OK;
}

/* ---- matrices and tables ---- */

pr_status pr_cuda_matrix_create(pr_cuda_memory *m, pr_matrix_kind kind, int64_t n_out,
                                int64_t n_in, pr_dtype dtype, pr_matrix **out, pr_error *err)
{
    int64_t step = MATRIX_ALIGNMENT / (int64_t)pr_dtype_bytes(dtype);
    int64_t ld = (n_in + step - 1) / step * step;
    bool has_bias = kind == PR_MATRIX_PLAIN && dtype != PR_DTYPE_F32;
    size_t bias_bytes = (size_t)n_out * pr_dtype_bytes(dtype);
    pr_matrix *w = calloc(1, sizeof *w);
    if (!w) return pr_error_nomem(err, "matrix", sizeof *w);
    w->kind = kind;
    pr_status st = PR_OK;
    w->bias = calloc(1, sizeof *w->bias);
    if (!w->bias) st = pr_error_nomem(err, "matrix", sizeof *w->bias);
    if (st == PR_OK) st = rows_create(&w->rows, n_out, n_in, ld, dtype, err);
    if (st == PR_OK && has_bias)
        st = pr_cuda_memory_device_alloc(bias_bytes, &w->bias->data, err);
    if (st != PR_OK) {
        pr_cuda_matrix_free(m, w);
        return st;
    }
    *out = w;
    return PR_OK;
}

void pr_cuda_matrix_free(pr_cuda_memory *m, pr_matrix *w)
{
    if (!w) return;
    if (w->bias) pr_cuda_memory_device_free(m, w->bias->data);
    free(w->bias);
    pr_cuda_memory_device_free(m, w->rows.data);
    free(w);
}

size_t pr_cuda_matrix_bytes(const pr_matrix *w)
{
    size_t bias_bytes = (size_t)w->rows.n_rows * pr_dtype_bytes(w->rows.dtype);
    return w->rows.n_bytes + (w->bias->data ? bias_bytes : 0);
}

pr_status pr_cuda_table_create(pr_cuda_memory *m, int64_t n_rows, int64_t dim, pr_dtype dtype,
                               pr_table **out, pr_error *err)
{
    (void)m;
    pr_table *t = calloc(1, sizeof *t);
    if (!t) return pr_error_nomem(err, "table", sizeof *t);
    pr_status st = rows_create(&t->rows, n_rows, dim, dim, dtype, err);
    if (st != PR_OK) {
        free(t);
        return st;
    }
    *out = t;
    return PR_OK;
}

void pr_cuda_table_free(pr_cuda_memory *m, pr_table *t)
{
    if (!t) return;
    pr_cuda_memory_device_free(m, t->rows.data);
    free(t);
}
