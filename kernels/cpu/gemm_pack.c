#include "kernels/cpu/gemm_pack.h"

#include "kernels/cpu/memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK = 64, /* k packed at a time: the touched part of a panel stays in L1 */
    QUAD = 4    /* rows transposed together; every half panel is a multiple of it */
};

typedef float quad __attribute__((vector_size(16)));
typedef float quad_unaligned __attribute__((vector_size(16), aligned(4)));

static size_t matrix_panel_elements(const pr_matrix *w)
{
    return (size_t)w->n_in * (size_t)w->kernels->nr;
}

pr_status pr_cpu_matrix_create(const pr_cpu_gemm_kernels *kernels, pr_matrix_kind kind,
                               int64_t n_out, int64_t n_in, pr_dtype dtype, pr_matrix **out,
                               pr_error *err)
{
    assert(kernels);
    assert(out);
    assert(n_out > 0);
    assert(n_in > 0);
    assert(dtype == PR_DTYPE_F32 || dtype == PR_DTYPE_BF16);
    assert(kind == PR_MATRIX_PLAIN || n_out % 2 == 0);
    int64_t columns = kind == PR_MATRIX_GATED ? kernels->nr / 2 : kernels->nr;
    int64_t n_columns = kind == PR_MATRIX_GATED ? n_out / 2 : n_out;
    int64_t n_panels = (n_columns - 1) / columns + 1;
    size_t panel_bytes = 0;
    size_t n_bytes = 0;
    if (__builtin_mul_overflow((size_t)n_in, (size_t)kernels->nr * pr_dtype_bytes(dtype),
                               &panel_bytes) ||
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
                     .dtype = dtype,
                     .n_out = n_out,
                     .n_in = n_in,
                     .n_panels = n_panels,
                     .panel_columns = columns,
                     .panels = panels,
                     .n_bytes = n_bytes};
    memset((char *)panels + (n_bytes - panel_bytes), 0, panel_bytes); /* columns past n_out */
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

/* dst[k * nr + r] = rows[r][k] for n_rows <= QUAD rows. */
static void transpose_f32(const float *const rows[QUAD], int64_t n_rows, int64_t n_k, int64_t nr,
                          float *dst)
{
    int64_t k = 0;
    for (; n_rows == QUAD && k + 4 <= n_k; k += 4) {
        quad a = *(const quad_unaligned *)(rows[0] + k);
        quad b = *(const quad_unaligned *)(rows[1] + k);
        quad c = *(const quad_unaligned *)(rows[2] + k);
        quad d = *(const quad_unaligned *)(rows[3] + k);
        quad ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
        quad ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
        quad cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
        quad cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
        float *p = dst + k * nr;
        *(quad_unaligned *)p = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
        *(quad_unaligned *)(p + nr) = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
        *(quad_unaligned *)(p + 2 * nr) = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
        *(quad_unaligned *)(p + 3 * nr) = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
    }
    for (; k < n_k; k++) {
        for (int64_t r = 0; r < n_rows; r++) dst[k * nr + r] = rows[r][k];
    }
}

static void transpose_bf16(const float *const rows[QUAD], int64_t n_rows, int64_t n_k, int64_t nr,
                           uint16_t *dst)
{
    for (int64_t k = 0; k < n_k; k++) {
        for (int64_t r = 0; r < n_rows; r++) dst[k * nr + r] = pr_f32_to_bf16(rows[r][k]);
    }
}

/* One group of rows that lie side by side in a panel, k0 .. k0 + n_k - 1. */
static void pack_rows(const pack_job *job, int64_t row, int64_t n_rows, int64_t k0, int64_t n_k)
{
    const pr_matrix *w = job->w;
    int64_t nr = w->kernels->nr;
    float tmp[QUAD][CHUNK];
    const float *rows[QUAD];
    for (int64_t r = 0; r < n_rows; r++) rows[r] = row_chunk(job, row + r, k0, n_k, tmp[r]);
    int64_t i_panel = (row - job->row_base) / w->panel_columns;
    int64_t column = (row - job->row_base) % w->panel_columns + job->column_base;
    size_t at = (size_t)i_panel * matrix_panel_elements(w) + (size_t)(k0 * nr + column);
    if (w->dtype == PR_DTYPE_F32) {
        transpose_f32(rows, n_rows, n_k, nr, (float *)w->panels + at);
    } else {
        transpose_bf16(rows, n_rows, n_k, nr, (uint16_t *)w->panels + at);
    }
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
    pack_job job = {.w = w,
                    .row_begin = row_begin,
                    .row_end = row_end,
                    .src = src,
                    .src_dtype = src_dtype};
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
