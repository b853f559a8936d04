#include "kernels/cpu/gemm_pack.h"

#include "kernels/cpu/memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK = 64, /* k packed at a time: the touched part of a panel stays in L1 */
    QUAD = PR_CPU_GEMM_QUAD
};

pr_status pr_cpu_matrix_create(const pr_cpu_gemm_kernels *kernels, pr_matrix_kind kind,
                               int64_t n_out, int64_t n_in, pr_matrix **out, pr_error *err)
{
    assert(kernels);
    assert(out);
    assert(n_out > 0);
    assert(n_in > 0);
    assert(kind == PR_MATRIX_PLAIN || n_out % 2 == 0);
    int64_t columns = kind == PR_MATRIX_GATED ? kernels->nr / 2 : kernels->nr;
    int64_t n_columns = kind == PR_MATRIX_GATED ? n_out / 2 : n_out;
    int64_t n_panels = (n_columns - 1) / columns + 1;
    size_t n_units = ((size_t)n_in - 1) / (size_t)kernels->k_unit + 1;
    size_t unit_bytes = (size_t)(kernels->k_unit * kernels->nr * kernels->weight_bytes);
    size_t panel_bytes = 0;
    size_t n_bytes = 0;
    if (__builtin_mul_overflow(n_units, unit_bytes, &panel_bytes) ||
        __builtin_mul_overflow((size_t)n_panels, panel_bytes, &n_bytes)) {
        return pr_error_set(err, PR_E_NOMEM, "packed weights [%lld, %lld]: more than memory has",
                            (long long)n_out, (long long)n_in);
    }
    pr_matrix *w = malloc(sizeof *w);
    void *panels = pr_cpu_memory_alloc(n_bytes);
    if (!w || !panels) {
        free(w);
        free(panels);
        return pr_error_nomem(err, "packed weights", n_bytes);
    }
    *w = (pr_matrix){.kernels = kernels,
                     .kind = kind,
                     .n_out = n_out,
                     .n_in = n_in,
                     .n_panels = n_panels,
                     .panel_columns = columns,
                     .panel_bytes = panel_bytes,
                     .panels = panels,
                     .n_bytes = n_bytes};
    /* Columns past n_out are in the last panel, k past n_in in each. */
    size_t n_zeroed = n_in % kernels->k_unit == 0 ? panel_bytes : n_bytes;
    memset((char *)panels + (n_bytes - n_zeroed), 0, n_zeroed);
    *out = w;
    return PR_OK;
}

void pr_cpu_matrix_free(pr_matrix *w)
{
    if (!w) return;
    free(w->panels);
    free(w);
}

typedef struct pack_job {
    pr_matrix *w;
    int64_t row_begin;
    int64_t row_end;
    int64_t row_base; /* first row of W of the projection that is written: 0, or n_out/2 for up */
    int64_t column_base; /* its first column in a panel: 0, or nr/2 for up */
    int64_t i_panel_begin;
    const char *src; /* of row_begin */
    pr_dtype src_dtype;
} pack_job;

/* k0 .. k0 + n_k - 1 of one row of the source as f32: in place where it is f32, else in tmp. */
static const float *row_chunk(const pack_job *job, int64_t row, int64_t k0, int64_t n_k, float *tmp)
{
    size_t element_bytes = pr_dtype_bytes(job->src_dtype);
    size_t offset = (size_t)(row - job->row_begin) * (size_t)job->w->n_in + (size_t)k0;
    const char *src = job->src + offset * element_bytes;
    if (job->src_dtype == PR_DTYPE_F32 && (uintptr_t)src % sizeof(float) == 0) {
        return (const float *)(const void *)src;
    }
    if ((uintptr_t)src % element_bytes != 0 || job->src_dtype == PR_DTYPE_F32) {
        pr_dtype_to_f32(src, job->src_dtype, (size_t)n_k, tmp);
    } else if (job->src_dtype == PR_DTYPE_BF16) {
        job->w->kernels->widen_bf16((const uint16_t *)(const void *)src, n_k, tmp);
    } else {
        job->w->kernels->widen_f16((const uint16_t *)(const void *)src, n_k, tmp);
    }
    return tmp;
}

/* One group of rows that lie side by side in a panel, k0 .. k0 + n_k - 1. */
static void pack_rows(const pack_job *job, int64_t row, int64_t n_rows, int64_t k0, int64_t n_k)
{
    const pr_matrix *w = job->w;
    float tmp[QUAD][CHUNK];
    const float *rows[QUAD];
    for (int64_t r = 0; r < n_rows; r++) rows[r] = row_chunk(job, row + r, k0, n_k, tmp[r]);
    int64_t i_panel = (row - job->row_base) / w->panel_columns;
    int64_t column = (row - job->row_base) % w->panel_columns + job->column_base;
    char *panel = (char *)w->panels + (size_t)i_panel * w->panel_bytes;
    w->kernels->pack_w(w->kernels, rows, n_rows, k0, n_k, column, panel);
}

static int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* The job's rows of one panel. */
static void pack_panel(void *ctx, int i_task, int i_thread)
{
    (void)i_thread;
    const pack_job *job = ctx;
    const pr_matrix *w = job->w;
    int64_t panel_row = job->row_base + (job->i_panel_begin + i_task) * w->panel_columns;
    int64_t row_begin = max_i64(job->row_begin, panel_row);
    int64_t row_end = min_i64(job->row_end, panel_row + w->panel_columns);
    for (int64_t k0 = 0; k0 < w->n_in; k0 += CHUNK) {
        int64_t n_k = min_i64(CHUNK, w->n_in - k0);
        for (int64_t row = row_begin; row < row_end;) {
            int64_t n_rows = min_i64(QUAD, row_end - row);
            pack_rows(job, row, n_rows, k0, n_k);
            row += n_rows;
        }
    }
}

static void pack_projection(pack_job job, pr_cpu_pool *pool)
{
    if (job.row_begin >= job.row_end) return;
    job.i_panel_begin = (job.row_begin - job.row_base) / job.w->panel_columns;
    int64_t i_panel_last = (job.row_end - 1 - job.row_base) / job.w->panel_columns;
    pr_cpu_pool_run(pool, pack_panel, &job, (int)(i_panel_last - job.i_panel_begin + 1));
}

void pr_cpu_matrix_write(pr_matrix *w, pr_cpu_pool *pool, int64_t row_begin, int64_t n_rows,
                         const void *src, pr_dtype src_dtype)
{
    assert(w);
    assert(src);
    assert(row_begin >= 0);
    assert(n_rows >= 0);
    assert(row_begin + n_rows <= w->n_out);
    assert(src_dtype == PR_DTYPE_F32 || src_dtype == PR_DTYPE_F16 || src_dtype == PR_DTYPE_BF16);
    int64_t row_end = row_begin + n_rows;
    pack_job job = {
        .w = w, .row_begin = row_begin, .row_end = row_end, .src = src, .src_dtype = src_dtype};
    if (w->kind == PR_MATRIX_PLAIN) {
        pack_projection(job, pool);
        return;
    }
    int64_t n_gate = w->n_out / 2;
    job.row_end = min_i64(row_end, n_gate);
    pack_projection(job, pool);

    pack_job up = job;
    up.row_begin = max_i64(row_begin, n_gate);
    up.row_end = row_end;
    up.row_base = n_gate;
    up.column_base = w->kernels->nr / 2;
    size_t n_skipped = (size_t)(up.row_begin - row_begin) * (size_t)w->n_in;
    up.src = job.src + n_skipped * pr_dtype_bytes(src_dtype);
    pack_projection(up, pool);
}
