/* tests/gpu/bench_rows.c: GB/s of the kernels that do little with each element, and their share of
 * the memory's rate on the data sheet: embed, norm with residual, rope, gather, mean. Bytes are
 * those that the kernel must read and write once. */
#include "tests/gpu/gpu.h"

#include <stdlib.h>

/* Arrays of the widest call, for all of them. */
typedef struct arrays {
    const gpu *g;
    pr_backend *b;
    int64_t n_rows, dim;
    void *narrow, *narrow_out; /* [n_rows, dim], activations */
    float *wide, *wide_out;    /* [n_rows, dim] */
    float *vector;             /* [dim] */
    uint32_t *rows;            /* [n_rows] */
    int32_t *positions;        /* [n_rows] */
    float *angles;             /* [64, 64] */
    pr_table *table;
    uint32_t *offsets;         /* host: of means */
} arrays;

enum { TABLE_ROWS = 64, MEAN_ROWS = 128, HEAD_DIM = 128, POSITIONS = 64 };

static void embed_queue(void *context)
{
    pr_error err;
    const arrays *a = context;
    const pr_embed args = {.token = a->table, .tokens = a->positions, .n_rows = a->n_rows,
                           .y = a->wide_out, .ldy = a->dim};
    gpu_must(a->g, a->b->ops->embed(a->b, &args, &err), &err, "embed");
}

static void norm_queue(void *context)
{
    pr_error err;
    const arrays *a = context;
    const pr_norm_args args = {
        .kind = PR_NORM_RMS, .x = a->narrow, .x_dtype = a->b->activation_dtype, .ldx = a->dim,
        .residual = a->wide, .ld_residual = a->dim, .sum = a->wide, .ld_sum = a->dim,
        .weight = a->vector, .eps = 1e-6f, .n_rows = a->n_rows, .dim = a->dim,
        .y = a->narrow_out, .y_dtype = a->b->activation_dtype, .ldy = a->dim};
    gpu_must(a->g, a->b->ops->norm(a->b, &args, &err), &err, "norm");
}

static void rope_queue(void *context)
{
    pr_error err;
    const arrays *a = context;
    const pr_rope args = {
        .x = a->narrow_out, .ldx = a->dim, .n_rows = a->n_rows,
        .n_heads = (int32_t)(a->dim / HEAD_DIM), .n_kv_heads = 0, .head_dim = HEAD_DIM,
        .positions = a->positions, .cos = a->angles, .sin = a->angles};
    gpu_must(a->g, a->b->ops->rope(a->b, &args, &err), &err, "rope");
}

static void gather_queue(void *context)
{
    pr_error err;
    const arrays *a = context;
    const pr_gather args = {.x = a->wide, .ldx = a->dim, .rows = a->rows, .n_rows = a->n_rows,
                            .dim = a->dim, .dtype = PR_DTYPE_F32, .y = a->wide_out, .ldy = a->dim};
    gpu_must(a->g, a->b->ops->gather(a->b, &args, &err), &err, "gather");
}

static void mean_queue(void *context)
{
    pr_error err;
    const arrays *a = context;
    gpu_must(a->g, a->b->ops->mean_rows(a->b, a->wide, a->dim, a->rows, a->offsets,
                                        a->n_rows / MEAN_ROWS, a->dim, a->wide_out, a->dim, &err),
             &err, "mean_rows");
}

/* Bytes an element that a kernel reads and writes; e: of an activation. */
static const struct kernel {
    const char *name;
    void (*queue)(void *context);
    int f32_bytes, activations;
} kernels[] = {
    {"embed (table in cache)", embed_queue, 4, 0}, /* what it writes */
    {"RMSNorm + residual", norm_queue, 8, 2},
    {"rope", rope_queue, 0, 2},
    {"gather f32", gather_queue, 8, 0},
    {"mean f32", mean_queue, 4, 0},
};

enum { KERNELS = sizeof kernels / sizeof *kernels };

static void bench(gpu *g, arrays *a, const struct kernel *k)
{
    pr_dtype dtype = a->b->activation_dtype;
    double seconds = gpu_time(g, a->b, k->queue, a, 50);
    double bytes = (double)(a->n_rows * a->dim) *
                   (k->f32_bytes + k->activations * (double)pr_dtype_bytes(dtype));
    double rate = bytes / seconds, peak = g->sheet ? g->sheet->memory_bytes_per_s : 0;
    printf("%-24s %-8s %6lld rows of %5lld %9.1f us %8.1f GB/s", k->name, pr_dtype_name(dtype),
           (long long)a->n_rows, (long long)a->dim, seconds * 1e6, rate * 1e-9);
    if (peak > 0) printf("  %.2f of peak", rate / peak);
    printf("\n");
    gpu_result(g, "bench-rows",
               json_pack("{s:s, s:s, s:I, s:I, s:f, s:f, s:o}", "kernel", k->name, "dtype",
                         pr_dtype_name(dtype), "rows", (json_int_t)a->n_rows, "columns",
                         (json_int_t)a->dim, "seconds", seconds, "bytes_per_s", rate,
                         "share_of_peak", gpu_ratio(rate, peak)));
}

static void arrays_make(arrays *a)
{
    const gpu *g = a->g;
    pr_error err;
    size_t n = (size_t)(a->n_rows * a->dim), n_rows = (size_t)a->n_rows;
    pr_dtype dtype = a->b->activation_dtype;
    float *values = gpu_random_new(g, n, 1, 4, dtype);
    uint32_t *rows = gpu_memory(g, n_rows * sizeof *rows);
    int32_t *positions = gpu_memory(g, n_rows * sizeof *positions);
    a->offsets = gpu_memory(g, (n_rows + 1) * sizeof *a->offsets);
    for (size_t i = 0; i < n_rows; i++) {
        rows[i] = (uint32_t)(i * 7919 % n_rows);
        positions[i] = (int32_t)(i % POSITIONS);
        a->offsets[i] = (uint32_t)(i * MEAN_ROWS);
    }
    a->narrow = gpu_floats(g, a->b, values, n, n, dtype);
    a->narrow_out = gpu_floats(g, a->b, values, n, n, dtype);
    a->wide = gpu_floats(g, a->b, values, n, n, PR_DTYPE_F32);
    a->wide_out = gpu_bytes(g, a->b, NULL, n * sizeof(float));
    a->vector = gpu_floats(g, a->b, values, (size_t)a->dim, (size_t)a->dim, PR_DTYPE_F32);
    a->angles = gpu_floats(g, a->b, values, 64, POSITIONS * HEAD_DIM, PR_DTYPE_F32);
    a->rows = gpu_bytes(g, a->b, rows, n_rows * sizeof *rows);
    a->positions = gpu_bytes(g, a->b, positions, n_rows * sizeof *positions);
    gpu_must(g, a->b->ops->table_create(a->b, TABLE_ROWS, a->dim, dtype, &a->table, &err), &err,
             "table_create");
    gpu_must(g, a->b->ops->table_write(a->b, a->table, 0, TABLE_ROWS, values, PR_DTYPE_F32, &err),
             &err, "table_write");
    free(values);
    free(rows);
    free(positions);
}

static void arrays_free(arrays *a)
{
    void *all[] = {a->narrow, a->narrow_out, a->wide, a->wide_out,
                   a->vector, a->angles,     a->rows, a->positions};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) a->b->ops->free(a->b, all[i]);
    a->b->ops->table_free(a->b, a->table);
    free(a->offsets);
}

int main(int argc, char **argv)
{
    static const int64_t widths[] = {384, 1024, 3584, 8192};
    gpu g;
    gpu_open(&g, argc, argv);
    for (size_t i = 0; i < GPU_DTYPES; i++) {
        pr_backend *b = gpu_backend(&g, gpu_dtypes[i]);
        gpu_reserve(&g, b, 16384);
        for (size_t k = 0; k < sizeof widths / sizeof *widths; k++) {
            if (g.is_tiny && k > 0) break;
            arrays a = {.g = &g, .b = b, .n_rows = g.is_tiny ? MEAN_ROWS : 16384, .dim = widths[k]};
            arrays_make(&a);
            for (size_t j = 0; j < KERNELS; j++) bench(&g, &a, &kernels[j]);
            arrays_free(&a);
        }
        b->ops->close(b);
    }
    return gpu_close(&g);
}
