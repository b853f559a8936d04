#include "kernels/cpu/cpu_backend.h"

#include "kernels/cpu/attention.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/gemm_pack.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/memory.h"
#include "kernels/cpu/pool.h"
#include "kernels/cpu/rowwise.h"
#include "kernels/cpu/table.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TASK_ELEMENTS_MIN = 8192, /* of a row-wise task: less work than this is not worth a hand-over */
    TASKS_PER_THREAD = 4,     /* of a row-wise call: evens out threads that were interrupted */
    MEAN_COLUMNS = 128        /* of a task of mean_rows */
};

typedef struct cpu_backend {
    pr_backend base; /* first: a pr_backend * is a cpu_backend * */
    pr_cpu_pool *pool;
    int n_threads;
    const pr_cpu_kernels *kernels;
    pr_matmul_precision precision;      /* not AUTO */
    pr_cpu_gemm_scratch *gemm_scratch;  /* [n_threads] */
    char *attention_scratch;            /* [n_threads][attention_scratch_bytes] */
    size_t attention_scratch_bytes;     /* a multiple of the alignment */
    pr_cpu_attention_block *blocks;     /* [n_blocks_max], the plan of one call */
    int64_t n_blocks_max;
} cpu_backend;

static cpu_backend *cpu_of(pr_backend *b)
{
    return (cpu_backend *)b;
}

/* memory */

static void cpu_close(pr_backend *b)
{
    if (!b) return;
    cpu_backend *cpu = cpu_of(b);
    pr_cpu_pool_free(cpu->pool);
    free(cpu->blocks);
    free(cpu->attention_scratch);
    free(cpu->gemm_scratch);
    free(cpu);
}

static pr_status cpu_alloc(pr_backend *b, size_t n_bytes, void **out, pr_error *err)
{
    (void)b;
    void *p = pr_cpu_memory_alloc(n_bytes);
    if (!p) return pr_error_nomem(err, "CPU backend", n_bytes);
    *out = p;
    return PR_OK;
}

static void cpu_free(pr_backend *b, void *p)
{
    (void)b;
    free(p);
}

/* A copy in either direction is done as it returns. */
static pr_status cpu_copy(pr_backend *b, void *dst, const void *src, size_t n_bytes, pr_error *err)
{
    (void)b;
    (void)err;
    if (n_bytes > 0) memcpy(dst, src, n_bytes);
    return PR_OK;
}

static pr_status cpu_sync(pr_backend *b, pr_error *err)
{
    (void)b;
    (void)err;
    return PR_OK;
}

static pr_status cpu_batch(pr_backend *b, int slot, pr_error *err)
{
    (void)b;
    (void)err;
    assert(slot == 0);
    (void)slot;
    return PR_OK;
}

static pr_status cpu_batch_poll(pr_backend *b, int slot, bool *is_done, pr_error *err)
{
    *is_done = true;
    return cpu_batch(b, slot, err);
}

static pr_status reserve_attention(cpu_backend *cpu, int32_t head_dim, int32_t n_heads,
                                   int32_t n_kv_heads, pr_error *err)
{
    size_t n_bytes = cpu->kernels->attention->scratch_bytes(head_dim, n_heads, n_kv_heads);
    n_bytes = (n_bytes + PR_CPU_ALIGNMENT - 1) / PR_CPU_ALIGNMENT * PR_CPU_ALIGNMENT;
    if (n_bytes <= cpu->attention_scratch_bytes) return PR_OK;
    char *scratch = pr_cpu_memory_alloc((size_t)cpu->n_threads * n_bytes);
    if (!scratch) {
        return pr_error_nomem(err, "attention scratch", (size_t)cpu->n_threads * n_bytes);
    }
    free(cpu->attention_scratch);
    cpu->attention_scratch = scratch;
    cpu->attention_scratch_bytes = n_bytes;
    return PR_OK;
}

static pr_status cpu_reserve(pr_backend *b, const pr_backend_limits *limits, pr_error *err)
{
    return reserve_attention(cpu_of(b), limits->head_dim, limits->n_heads, limits->n_kv_heads, err);
}

/* weights */

static pr_status cpu_matrix_create(pr_backend *b, pr_matrix_kind kind, int64_t n_out, int64_t n_in,
                                   pr_dtype dtype, pr_matrix **out, pr_error *err)
{
    const pr_cpu_gemm_kernels *kernels =
        pr_cpu_gemm_find(cpu_of(b)->kernels->gemm, cpu_of(b)->precision, dtype);
    return pr_cpu_matrix_create(kernels, kind, n_out, n_in, out, err);
}

static pr_status cpu_matrix_write(pr_backend *b, pr_matrix *w, int64_t row_begin, int64_t n_rows,
                                  const void *src, pr_dtype src_dtype, pr_error *err)
{
    (void)err;
    pr_cpu_matrix_write(w, cpu_of(b)->pool, row_begin, n_rows, src, src_dtype);
    return PR_OK;
}

static void cpu_matrix_free(pr_backend *b, pr_matrix *w)
{
    (void)b;
    pr_cpu_matrix_free(w);
}

static size_t cpu_matrix_bytes(const pr_matrix *w)
{
    return w->n_bytes;
}

static pr_status cpu_table_create(pr_backend *b, int64_t n_rows, int64_t dim, pr_dtype dtype,
                                  pr_table **out, pr_error *err)
{
    (void)b;
    return pr_cpu_table_create(n_rows, dim, dtype, out, err);
}

static pr_status cpu_table_write(pr_backend *b, pr_table *t, int64_t row_begin, int64_t n_rows,
                                 const void *src, pr_dtype src_dtype, pr_error *err)
{
    (void)err;
    cpu_backend *cpu = cpu_of(b);
    const pr_cpu_gemm_kernels *any = cpu->kernels->gemm->f32[PR_MATMUL_HIGHEST];
    pr_cpu_table_write(t, any, cpu->pool, row_begin, n_rows, src, src_dtype);
    return PR_OK;
}

static void cpu_table_free(pr_backend *b, pr_table *t)
{
    (void)b;
    pr_cpu_table_free(t);
}

static size_t cpu_table_bytes(const pr_table *t)
{
    return t->n_bytes;
}

/* layers: a row-wise operation is cut into runs of rows, one task each */

typedef struct rows_job rows_job;
struct rows_job {
    void (*run)(const rows_job *job, int64_t row_begin, int64_t row_end);
    const pr_cpu_rowwise *rowwise;
    const void *args;
    int64_t n_rows;
    int n_tasks;
};

static void rows_task(void *ctx, int i_task, int i_thread)
{
    (void)i_thread;
    const rows_job *job = ctx;
    job->run(job, job->n_rows * i_task / job->n_tasks, job->n_rows * (i_task + 1) / job->n_tasks);
}

/* dim: elements of a row, for the size of a task. */
static pr_status run_rows(pr_backend *b, void (*run)(const rows_job *, int64_t, int64_t),
                          const void *args, int64_t n_rows, int64_t dim)
{
    cpu_backend *cpu = cpu_of(b);
    if (n_rows <= 0) return PR_OK;
    int64_t n_tasks = n_rows * dim / TASK_ELEMENTS_MIN;
    int64_t n_tasks_max = (int64_t)cpu->n_threads * TASKS_PER_THREAD;
    if (cpu->n_threads == 1 || n_tasks < 1) n_tasks = 1;
    if (n_tasks > n_tasks_max) n_tasks = n_tasks_max;
    if (n_tasks > n_rows) n_tasks = n_rows;
    rows_job job = {run, cpu->kernels->rowwise, args, n_rows, (int)n_tasks};
    pr_cpu_pool_run(cpu->pool, rows_task, &job, (int)n_tasks);
    return PR_OK;
}

static pr_cpu_rows rows_of(const pr_table *t)
{
    if (!t) return (pr_cpu_rows){0};
    return (pr_cpu_rows){.data = t->data, .dtype = t->dtype, .ld = t->dim};
}

static void embed_rows(const rows_job *job, int64_t row_begin, int64_t row_end)
{
    job->rowwise->embed(job->args, row_begin, row_end);
}

static pr_status cpu_embed(pr_backend *b, const pr_embed *a, pr_error *err)
{
    (void)err;
    assert(!a->position || a->position->dim == a->token->dim);
    assert(!a->type || a->type->dim == a->token->dim);
    pr_cpu_embed args = {.token = rows_of(a->token),
                         .token_begin = a->token_begin,
                         .n_token_rows = a->token->n_rows,
                         .position = rows_of(a->position),
                         .type = rows_of(a->type),
                         .tokens = a->tokens,
                         .positions = a->positions,
                         .types = a->types,
                         .dim = a->token->dim,
                         .y = a->y,
                         .ldy = a->ldy};
    return run_rows(b, embed_rows, &args, a->n_rows, args.dim);
}

static pr_status cpu_gemm(pr_backend *b, const pr_gemm *a, pr_error *err)
{
    (void)err;
    cpu_backend *cpu = cpu_of(b);
    pr_cpu_gemm_run(cpu->kernels->rowwise, cpu->pool, cpu->gemm_scratch, a);
    return PR_OK;
}

static void norm_rows(const rows_job *job, int64_t row_begin, int64_t row_end)
{
    job->rowwise->norm(job->args, row_begin, row_end);
}

static pr_status cpu_norm(pr_backend *b, const pr_norm_args *a, pr_error *err)
{
    (void)err;
    assert(a->x_dtype == PR_DTYPE_F32 && a->y_dtype == PR_DTYPE_F32);
    return run_rows(b, norm_rows, a, a->n_rows, a->dim);
}

static void rope_rows(const rows_job *job, int64_t row_begin, int64_t row_end)
{
    job->rowwise->rope(job->args, row_begin, row_end);
}

static pr_status cpu_rope(pr_backend *b, const pr_rope *a, pr_error *err)
{
    (void)err;
    int64_t n_heads = a->n_heads + a->n_kv_heads;
    return run_rows(b, rope_rows, a, a->n_rows, n_heads * a->head_dim);
}

typedef struct attention_job {
    const cpu_backend *cpu;
    const pr_attention *a;
} attention_job;

static void attention_task(void *ctx, int i_task, int i_thread)
{
    const attention_job *job = ctx;
    const cpu_backend *cpu = job->cpu;
    int32_t n_kv_heads = job->a->n_kv_heads;
    char *scratch = cpu->attention_scratch + (size_t)i_thread * cpu->attention_scratch_bytes;
    cpu->kernels->attention->run(job->a, &cpu->blocks[i_task / n_kv_heads], i_task % n_kv_heads,
                                 scratch);
}

static pr_status cpu_attention(pr_backend *b, const pr_attention *a, pr_error *err)
{
    cpu_backend *cpu = cpu_of(b);
    pr_status st = reserve_attention(cpu, a->head_dim, a->n_heads, a->n_kv_heads, err);
    if (st != PR_OK) return st;
    int64_t n_blocks_max = pr_cpu_attention_n_blocks_max(a);
    if (n_blocks_max > cpu->n_blocks_max) {
        size_t n_bytes = (size_t)n_blocks_max * sizeof *cpu->blocks;
        void *blocks = realloc(cpu->blocks, n_bytes);
        if (!blocks) return pr_error_nomem(err, "attention plan", n_bytes);
        cpu->blocks = blocks;
        cpu->n_blocks_max = n_blocks_max;
    }
    int64_t n_blocks = pr_cpu_attention_plan(a, cpu->n_threads, cpu->blocks);
    attention_job job = {cpu, a};
    pr_cpu_pool_run(cpu->pool, attention_task, &job, (int)(n_blocks * a->n_kv_heads));
    return PR_OK;
}

static void gather_rows(const rows_job *job, int64_t row_begin, int64_t row_end)
{
    const pr_gather *g = job->args;
    job->rowwise->gather(g->x, g->ldx, g->rows, row_begin, row_end, g->dim, g->y, g->ldy);
}

static pr_status cpu_gather(pr_backend *b, const pr_gather *a, pr_error *err)
{
    (void)err;
    assert(a->dtype == PR_DTYPE_F32);
    return run_rows(b, gather_rows, a, a->n_rows, a->dim);
}

typedef struct mean_job {
    const pr_cpu_rowwise *rowwise;
    const float *x;
    int64_t ldx;
    const uint32_t *rows;
    const uint32_t *offsets;
    int64_t dim;
    int64_t n_column_blocks;
    float *y;
    int64_t ldy;
} mean_job;

static void mean_task(void *ctx, int i_task, int i_thread)
{
    (void)i_thread;
    const mean_job *job = ctx;
    int64_t i = i_task / job->n_column_blocks;
    int64_t column_begin = i_task % job->n_column_blocks * MEAN_COLUMNS;
    int64_t column_end = column_begin + MEAN_COLUMNS;
    if (column_end > job->dim) column_end = job->dim;
    uint32_t begin = job->offsets[i];
    job->rowwise->mean(job->x, job->ldx, job->rows + begin, job->offsets[i + 1] - begin,
                       column_begin, column_end, job->y + i * job->ldy);
}

static pr_status cpu_mean_rows(pr_backend *b, const float *x, int64_t ldx, const uint32_t *rows,
                               const uint32_t *offsets, int64_t n_sequences, int64_t dim, float *y,
                               int64_t ldy, pr_error *err)
{
    (void)err;
    cpu_backend *cpu = cpu_of(b);
    mean_job job = {.rowwise = cpu->kernels->rowwise,
                    .x = x,
                    .ldx = ldx,
                    .rows = rows,
                    .offsets = offsets,
                    .dim = dim,
                    .n_column_blocks = (dim + MEAN_COLUMNS - 1) / MEAN_COLUMNS,
                    .y = y,
                    .ldy = ldy};
    pr_cpu_pool_run(cpu->pool, mean_task, &job, (int)(n_sequences * job.n_column_blocks));
    return PR_OK;
}

static const pr_backend_ops cpu_ops = {
    .close = cpu_close,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .host_alloc = cpu_alloc,
    .host_free = cpu_free,
    .upload = cpu_copy,
    .download = cpu_copy,
    .reserve = cpu_reserve,
    .sync = cpu_sync,
    .batch_begin = cpu_batch,
    .batch_end = cpu_batch,
    .batch_poll = cpu_batch_poll,
    .matrix_create = cpu_matrix_create,
    .matrix_write = cpu_matrix_write,
    .matrix_free = cpu_matrix_free,
    .matrix_bytes = cpu_matrix_bytes,
    .table_create = cpu_table_create,
    .table_write = cpu_table_write,
    .table_free = cpu_table_free,
    .table_bytes = cpu_table_bytes,
    .embed = cpu_embed,
    .gemm = cpu_gemm,
    .norm = cpu_norm,
    .rope = cpu_rope,
    .attention = cpu_attention,
    .gather = cpu_gather,
    .mean_rows = cpu_mean_rows,
};

pr_status pr_cpu_backend_create(const pr_cpu_options *options, pr_backend **out, pr_error *err)
{
    assert(options);
    assert(out);
    int n_threads = options->n_threads;
    if (n_threads < 1 || n_threads > PR_CPU_THREADS_MAX) {
        return pr_error_set(err, PR_E_ARGUMENT, "threads: found %d, expected 1 to %d", n_threads,
                            PR_CPU_THREADS_MAX);
    }
    pr_cpu_isa isa = options->isa == PR_CPU_ISA_AUTO ? pr_cpu_isa_best() : options->isa;
    if (!pr_cpu_isa_available(isa)) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "instruction set %s: this processor has it not; the best it has is %s",
                            pr_cpu_isa_name(isa), pr_cpu_isa_name(pr_cpu_isa_best()));
    }
    cpu_backend *cpu = calloc(1, sizeof *cpu);
    if (!cpu) return pr_error_nomem(err, "CPU backend", sizeof *cpu);
    cpu->base = (pr_backend){.ops = &cpu_ops, .name = "cpu", .is_batch_invariant = true,
                             .activation_dtype = PR_DTYPE_F32, .row_multiple = 1, .n_slots = 1};
    cpu->n_threads = n_threads;
    cpu->kernels = pr_cpu_kernels_find(isa);
    cpu->precision = pr_matmul_precision_resolve(options->precision);
    cpu->base.keeps_source_dtype =
        cpu->kernels->gemm->f32[cpu->precision]->n_w_terms > 1; /* else nothing is gained */
    snprintf(cpu->base.description, sizeof cpu->base.description, "%s, %d thread%s",
             cpu->kernels->label, n_threads, n_threads == 1 ? "" : "s");
    pr_status st = pr_cpu_pool_create(n_threads, &cpu->pool, err);
    size_t scratch_bytes = (size_t)n_threads * sizeof *cpu->gemm_scratch;
    if (st == PR_OK && !(cpu->gemm_scratch = pr_cpu_memory_alloc(scratch_bytes))) {
        st = pr_error_nomem(err, "gemm scratch", scratch_bytes);
    }
    if (st != PR_OK) {
        cpu_close(&cpu->base);
        return st;
    }
    *out = &cpu->base;
    return PR_OK;
}
