/* tests/gpu/bench_gemm.c: TFLOP/s of the products of real models' layers, beside the roofline of
 * the device's data sheet: the larger of 2 M N K over its rate and of the bytes of W, x and y over
 * its memory's. A product and its activation are timed together where they are two kernels. */
#include "tests/gpu/gpu.h"

#include <stdlib.h>

typedef struct shape {
    const char *name;
    int n_out, n_in;
    bool is_gated;
    pr_activation activation;
} shape;

static const shape shapes[] = {
    {"MiniLM qkv", 1152, 384, false, PR_ACTIVATION_NONE},
    {"MiniLM o", 384, 384, false, PR_ACTIVATION_NONE},
    {"MiniLM up, GELU", 1536, 384, false, PR_ACTIVATION_GELU},
    {"MiniLM down", 384, 1536, false, PR_ACTIVATION_NONE},
    {"0.6B qkv", 4096, 1024, false, PR_ACTIVATION_NONE},
    {"0.6B o", 1024, 2048, false, PR_ACTIVATION_NONE},
    {"0.6B gate+up", 6144, 1024, true, PR_ACTIVATION_SILU},
    {"0.6B down", 1024, 3072, false, PR_ACTIVATION_NONE},
    {"7B qkv", 4608, 3584, false, PR_ACTIVATION_NONE},
    {"7B o", 3584, 3584, false, PR_ACTIVATION_NONE},
    {"7B gate+up", 37888, 3584, true, PR_ACTIVATION_SILU},
    {"7B down", 3584, 18944, false, PR_ACTIVATION_NONE},
    {"72B/8 qkv", 1280, 8192, false, PR_ACTIVATION_NONE},
    {"72B/8 o", 8192, 1024, false, PR_ACTIVATION_NONE},
    {"72B/8 gate+up", 7392, 8192, true, PR_ACTIVATION_SILU},
    {"72B/8 down", 8192, 3696, false, PR_ACTIVATION_NONE},
};
static const shape tiny_shapes[] = {{"tiny gate+up", 96, 64, true, PR_ACTIVATION_SILU}};

typedef struct call {
    const gpu *g;
    pr_backend *b;
    pr_gemm args;
} call;

static void queue(void *context)
{
    pr_error err;
    call *c = context;
    gpu_must(c->g, c->b->ops->gemm(c->b, &c->args, &err), &err, "gemm");
}

/* Seconds that the data sheet allows; 0: there is none. */
static double roofline_s(const gpu *g, const shape *s, pr_dtype dtype, double rows)
{
    if (!g->sheet) return 0;
    double n = s->n_out, k = s->n_in, n_y = s->is_gated ? n / 2 : n;
    double rate = dtype == PR_DTYPE_F32 ? g->sheet->flops_f32 : g->sheet->dense_flops_16_bit;
    double compute = 2 * rows * n * k / rate;
    double memory = (double)pr_dtype_bytes(dtype) * (n * k + rows * (k + n_y)) /
                    g->sheet->memory_bytes_per_s;
    return compute > memory ? compute : memory;
}

static pr_matrix *matrix_make(const gpu *g, pr_backend *b, const shape *s)
{
    return gpu_matrix(g, b, s->is_gated ? PR_MATRIX_GATED : PR_MATRIX_PLAIN, s->n_out, s->n_in,
                      b->activation_dtype, b->activation_dtype, 1);
}

static void bench(gpu *g, pr_backend *b, const shape *s, int64_t n_rows)
{
    pr_dtype dtype = b->activation_dtype;
    size_t room = (size_t)pr_backend_rows(b, n_rows), n_in = (size_t)s->n_in;
    int64_t n_y = s->is_gated ? s->n_out / 2 : s->n_out;
    pr_matrix *w = matrix_make(g, b, s);
    float *values = gpu_random_new(g, room * n_in, 1, 2, dtype);
    void *x = gpu_floats(g, b, values, room * n_in, room * n_in, dtype);
    void *y = gpu_bytes(g, b, NULL, room * (size_t)n_y * pr_dtype_bytes(dtype));
    call c = {g, b, {.w = w, .x = x, .ldx = s->n_in, .n_rows = n_rows, .activation = s->activation,
                     .y = y, .ldy = n_y}};
    double seconds = gpu_time(g, b, queue, &c, 30);
    double tflops = 2e-12 * (double)n_rows * s->n_out * s->n_in / seconds;
    double least = roofline_s(g, s, dtype, (double)n_rows);
    printf("%-16s %-8s [%5d, %5d] %6lld rows %10.1f us %8.1f TFLOP/s", s->name,
           pr_dtype_name(dtype), s->n_out, s->n_in, (long long)n_rows, seconds * 1e6, tflops);
    if (least > 0) printf("  roofline %.1f us, %.2f of it", least * 1e6, least / seconds);
    printf("\n");
    gpu_result(g, "bench-gemm",
               json_pack("{s:s, s:s, s:i, s:i, s:I, s:f, s:f, s:f, s:o}", "shape", s->name, "dtype",
                         pr_dtype_name(dtype), "n_out", s->n_out, "n_in", s->n_in, "rows",
                         (json_int_t)n_rows, "seconds", seconds, "tflops", tflops,
                         "roofline_seconds", least, "roofline_over_measured",
                         gpu_ratio(least, seconds)));
    b->ops->free(b, x);
    b->ops->free(b, y);
    b->ops->matrix_free(b, w);
    free(values);
}

int main(int argc, char **argv)
{
    static const int64_t rows[] = {128, 512, 2048, 8192};
    gpu g;
    gpu_open(&g, argc, argv);
    const shape *of = g.is_tiny ? tiny_shapes : shapes;
    size_t n = g.is_tiny ? 1 : sizeof shapes / sizeof *shapes;
    for (size_t i = 0; i < GPU_DTYPES; i++) {
        pr_backend *b = gpu_backend(&g, gpu_dtypes[i]);
        gpu_reserve(&g, b, 8192);
        for (size_t k = 0; k < n; k++) {
            for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
                if (g.is_tiny && r > 0) break;
                bench(&g, b, &of[k], g.is_tiny ? 130 : rows[r]);
            }
        }
        b->ops->close(b);
    }
    return gpu_close(&g);
}
