#include "tests/large/sink_backend.h"

#include <stdlib.h>

/* A matrix or a table: how many rows it has and how far they came, from the first on. */
typedef struct rows {
    int64_t n_rows, n_columns;
    int64_t n_written;
    bool is_broken; /* not in order, or twice */
} rows;

static sink_backend *sink_of(pr_backend *b)
{
    return (sink_backend *)(void *)b;
}

static rows *rows_create(pr_backend *b, int64_t n_rows, int64_t n_columns)
{
    rows *r = calloc(1, sizeof *r);
    if (!r) abort();
    *r = (rows){.n_rows = n_rows, .n_columns = n_columns};
    sink_of(b)->n_elements += (uint64_t)(n_rows * n_columns);
    sink_of(b)->n_held++;
    return r;
}

static void rows_write(pr_backend *b, rows *r, int64_t row_begin, int64_t n_rows, pr_dtype dtype)
{
    if (row_begin != r->n_written) r->is_broken = true;
    r->n_written = row_begin + n_rows;
    sink_of(b)->n_bytes += (uint64_t)(n_rows * r->n_columns) * pr_dtype_bytes(dtype);
}

static void rows_free(pr_backend *b, rows *r)
{
    if (!r) return;
    if (r->is_broken || r->n_written != r->n_rows) sink_of(b)->n_wrong++;
    sink_of(b)->n_held--;
    free(r);
}

/* Vectors are short: the loader may point into them. */
static pr_status sink_alloc(pr_backend *b, size_t n_bytes, void **out, pr_error *err)
{
    (void)err;
    *out = malloc(n_bytes);
    if (!*out) abort();
    sink_of(b)->n_elements += n_bytes / sizeof(float);
    sink_of(b)->n_held++;
    return PR_OK;
}

static void sink_free(pr_backend *b, void *p)
{
    if (p) sink_of(b)->n_held--;
    free(p);
}

static pr_status sink_upload(pr_backend *b, void *dst, const void *src, size_t n, pr_error *err)
{
    (void)b, (void)dst, (void)src, (void)n, (void)err;
    return PR_OK;
}

static pr_status sink_matrix_create(pr_backend *b, pr_matrix_kind kind, int64_t n_out,
                                    int64_t n_in, pr_dtype dtype, pr_matrix **out, pr_error *err)
{
    (void)kind, (void)dtype, (void)err;
    *out = (pr_matrix *)(void *)rows_create(b, n_out, n_in);
    return PR_OK;
}

static pr_status sink_matrix_write(pr_backend *b, pr_matrix *w, int64_t row_begin, int64_t n_rows,
                                   const void *src, pr_dtype dtype, pr_error *err)
{
    (void)src, (void)err;
    rows_write(b, (rows *)(void *)w, row_begin, n_rows, dtype);
    return PR_OK;
}

static void sink_matrix_free(pr_backend *b, pr_matrix *w)
{
    rows_free(b, (rows *)(void *)w);
}

static size_t sink_matrix_bytes(const pr_matrix *w)
{
    const rows *r = (const rows *)(const void *)w;
    return (size_t)(r->n_rows * r->n_columns) * 2;
}

static pr_status sink_table_create(pr_backend *b, int64_t n_rows, int64_t dim, pr_dtype dtype,
                                   pr_table **out, pr_error *err)
{
    (void)dtype, (void)err;
    *out = (pr_table *)(void *)rows_create(b, n_rows, dim);
    return PR_OK;
}

static pr_status sink_table_write(pr_backend *b, pr_table *t, int64_t row_begin, int64_t n_rows,
                                  const void *src, pr_dtype dtype, pr_error *err)
{
    (void)src, (void)err;
    rows_write(b, (rows *)(void *)t, row_begin, n_rows, dtype);
    return PR_OK;
}

static void sink_table_free(pr_backend *b, pr_table *t)
{
    rows_free(b, (rows *)(void *)t);
}

static size_t sink_table_bytes(const pr_table *t)
{
    return sink_matrix_bytes((const pr_matrix *)(const void *)t);
}

static pr_status sink_host_alloc(pr_backend *b, size_t n_bytes, void **out, pr_error *err)
{
    (void)b, (void)err;
    *out = malloc(n_bytes);
    if (!*out) abort();
    return PR_OK;
}

static void sink_host_free(pr_backend *b, void *p)
{
    (void)b;
    free(p);
}

void sink_backend_init(sink_backend *sink)
{
    static const pr_backend_ops ops = {
        .alloc = sink_alloc,
        .free = sink_free,
        .host_alloc = sink_host_alloc,
        .host_free = sink_host_free,
        .upload = sink_upload,
        .matrix_create = sink_matrix_create,
        .matrix_write = sink_matrix_write,
        .matrix_free = sink_matrix_free,
        .matrix_bytes = sink_matrix_bytes,
        .table_create = sink_table_create,
        .table_write = sink_table_write,
        .table_free = sink_table_free,
        .table_bytes = sink_table_bytes,
    };
    *sink = (sink_backend){.base = {.ops = &ops, .name = "sink"}};
}
