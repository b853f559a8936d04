#include "kernels/cpu/table.h"

#include "kernels/cpu/memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 1 << 16, STEP = 256 }; /* elements: of a task; converted at a time */

pr_status pr_cpu_table_create(int64_t n_rows, int64_t dim, pr_dtype dtype, pr_table **out,
                              pr_error *err)
{
    assert(out);
    assert(n_rows > 0);
    assert(dim > 0);
    assert(dtype == PR_DTYPE_F32 || dtype == PR_DTYPE_BF16);
    size_t row_bytes = 0;
    size_t n_bytes = 0;
    if (__builtin_mul_overflow((size_t)dim, pr_dtype_bytes(dtype), &row_bytes) ||
        __builtin_mul_overflow((size_t)n_rows, row_bytes, &n_bytes)) {
        return pr_error_set(err, PR_E_NOMEM, "table [%lld, %lld]: more than memory has",
                            (long long)n_rows, (long long)dim);
    }
    pr_table *t = malloc(sizeof *t);
    void *data = pr_cpu_memory_alloc(n_bytes);
    if (!t || !data) {
        free(t);
        free(data);
        return pr_error_nomem(err, "table", n_bytes);
    }
    *t = (pr_table){dtype, n_rows, dim, data, n_bytes};
    *out = t;
    return PR_OK;
}

void pr_cpu_table_free(pr_table *t)
{
    if (!t) return;
    free(t->data);
    free(t);
}

typedef struct write_job {
    const pr_cpu_gemm_kernels *kernels;
    const char *src;
    pr_dtype src_dtype;
    char *dst;
    pr_dtype dst_dtype;
    size_t n; /* elements */
} write_job;

static void to_f32(const write_job *job, const char *src, size_t n, float *dst)
{
    if (job->src_dtype == PR_DTYPE_F32 || (uintptr_t)src % sizeof(uint16_t) != 0) {
        pr_dtype_to_f32(src, job->src_dtype, n, dst);
    } else if (job->src_dtype == PR_DTYPE_BF16) {
        job->kernels->widen_bf16((const uint16_t *)(const void *)src, (int64_t)n, dst);
    } else {
        job->kernels->widen_f16((const uint16_t *)(const void *)src, (int64_t)n, dst);
    }
}

static void write_chunk(void *ctx, int i_task, int i_thread)
{
    (void)i_thread;
    const write_job *job = ctx;
    size_t begin = (size_t)i_task * CHUNK;
    size_t n = job->n - begin < CHUNK ? job->n - begin : CHUNK;
    size_t src_bytes = pr_dtype_bytes(job->src_dtype);
    const char *src = job->src + begin * src_bytes;
    char *dst = job->dst + begin * pr_dtype_bytes(job->dst_dtype);
    if (job->src_dtype == job->dst_dtype) {
        memcpy(dst, src, n * src_bytes);
        return;
    }
    if (job->dst_dtype == PR_DTYPE_F32) {
        to_f32(job, src, n, (float *)(void *)dst);
        return;
    }
    for (size_t i = 0; i < n; i += STEP) {
        float tmp[STEP];
        size_t n_step = n - i < STEP ? n - i : STEP;
        to_f32(job, src + i * src_bytes, n_step, tmp);
        pr_dtype_from_f32(tmp, PR_DTYPE_BF16, n_step, dst + i * sizeof(uint16_t));
    }
}

void pr_cpu_table_write(pr_table *t, const pr_cpu_gemm_kernels *kernels, pr_cpu_pool *pool,
                        int64_t row_begin, int64_t n_rows, const void *src, pr_dtype src_dtype)
{
    assert(t);
    assert(src);
    assert(row_begin >= 0);
    assert(n_rows >= 0);
    assert(row_begin + n_rows <= t->n_rows);
    assert(src_dtype == PR_DTYPE_F32 || src_dtype == PR_DTYPE_F16 || src_dtype == PR_DTYPE_BF16);
    size_t offset = (size_t)row_begin * (size_t)t->dim * pr_dtype_bytes(t->dtype);
    write_job job = {.kernels = kernels,
                     .src = src,
                     .src_dtype = src_dtype,
                     .dst = (char *)t->data + offset,
                     .dst_dtype = t->dtype,
                     .n = (size_t)n_rows * (size_t)t->dim};
    pr_cpu_pool_run(pool, write_chunk, &job, (int)((job.n + CHUNK - 1) / CHUNK));
}
