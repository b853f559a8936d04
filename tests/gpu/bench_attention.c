/* tests/gpu/bench_attention.c: TFLOP/s of attention and its share of the data sheet's dense rate.
 *
 * FLOP: 4 head_dim for each head, query and key that it sees; what a tile computes and masks away
 * is not counted. */
#include "tests/gpu/gpu.h"

#include <math.h>
#include <stdlib.h>

typedef struct shape {
    int head_dim, n_heads, n_kv_heads;
    bool is_causal;
    uint32_t n_texts, n_tokens; /* of each */
} shape;

static const shape shapes[] = {
    {32, 12, 12, false, 64, 128},  {32, 12, 12, false, 16, 512},  {64, 16, 16, false, 16, 512},
    {64, 16, 2, true, 16, 512},    {64, 16, 2, true, 2, 4096},    {128, 16, 8, true, 16, 512},
    {128, 28, 4, true, 16, 512},   {128, 28, 4, true, 2, 4096},   {128, 8, 1, true, 16, 512},
    {128, 8, 1, true, 2, 4096},    {128, 8, 1, true, 1, 32768},   {128, 8, 1, false, 2, 4096},
    {80, 16, 16, true, 2, 4096},   {96, 16, 16, true, 2, 4096},   {256, 8, 4, true, 2, 4096},
};
static const shape tiny_shapes[] = {{32, 2, 1, true, 2, 20}};

typedef struct call {
    const gpu *g;
    pr_backend *b;
    pr_attention args;
} call;

static void queue(void *context)
{
    pr_error err;
    call *c = context;
    gpu_must(c->g, c->b->ops->attention(c->b, &c->args, &err), &err, "attention");
}

static void report(gpu *g, const shape *s, pr_dtype dtype, double seconds)
{
    double n = s->n_tokens, pairs = s->is_causal ? n * (n + 1) / 2 : n * n;
    double tflops = 4e-12 * s->head_dim * s->n_heads * s->n_texts * pairs / seconds, peak = 0;
    if (g->sheet) {
        peak = dtype == PR_DTYPE_F32 ? g->sheet->flops_f32 : g->sheet->dense_flops_16_bit;
    }
    printf("%-8s head %3d, %2d:%d heads, %2u texts of %5u, %-6s %10.1f us %8.2f TFLOP/s",
           pr_dtype_name(dtype), s->head_dim, s->n_heads, s->n_kv_heads, s->n_texts, s->n_tokens,
           s->is_causal ? "causal" : "full", seconds * 1e6, tflops);
    if (peak > 0) printf("  %.3f of peak", tflops * 1e12 / peak);
    printf("\n");
    gpu_result(g, "bench-attention",
               json_pack("{s:s, s:i, s:i, s:i, s:b, s:i, s:i, s:f, s:f, s:o}", "dtype",
                         pr_dtype_name(dtype), "head_dim", s->head_dim, "heads", s->n_heads,
                         "kv_heads", s->n_kv_heads, "causal", s->is_causal, "texts",
                         (int)s->n_texts, "tokens", (int)s->n_tokens, "seconds", seconds, "tflops",
                         tflops, "share_of_peak", gpu_ratio(tflops * 1e12, peak)));
}

static void bench(gpu *g, pr_backend *b, const shape *s)
{
    pr_dtype dtype = b->activation_dtype;
    uint32_t n = s->n_texts * s->n_tokens;
    size_t esize = pr_dtype_bytes(dtype), n_q = (size_t)(s->n_heads * s->head_dim);
    size_t n_k = (size_t)(s->n_kv_heads * s->head_dim), ld = n_q + 2 * n_k;
    pr_span *spans = gpu_memory(g, s->n_texts * sizeof *spans);
    uint32_t *keys = gpu_memory(g, n * sizeof *keys);
    int32_t *positions = gpu_memory(g, n * sizeof *positions);
    for (uint32_t i = 0; i < n; i++) {
        keys[i] = i;
        positions[i] = (int32_t)(i % s->n_tokens);
    }
    for (uint32_t i = 0; i < s->n_texts; i++) {
        uint32_t at = i * s->n_tokens;
        spans[i] = (pr_span){at, s->n_tokens, at, s->n_tokens};
    }
    float *values = gpu_random_new(g, n * ld, 1, 3, dtype);
    char *qkv = gpu_floats(g, b, values, n * ld, n * ld, dtype);
    void *out = gpu_bytes(g, b, NULL, n * n_q * esize);
    void *d_keys = gpu_bytes(g, b, keys, n * sizeof *keys);
    void *d_positions = gpu_bytes(g, b, positions, n * sizeof *positions);
    call c = {g, b, {.q = qkv, .ldq = (int64_t)ld, .k = qkv + n_q * esize, .ldk = (int64_t)ld,
                     .v = qkv + (n_q + n_k) * esize, .ldv = (int64_t)ld,
                     .query_positions = d_positions, .key_rows = d_keys, .spans = spans,
                     .n_spans = s->n_texts, .n_heads = s->n_heads, .n_kv_heads = s->n_kv_heads,
                     .head_dim = s->head_dim, .scale = 1.0f / sqrtf((float)s->head_dim),
                     .causal = s->is_causal, .out = out, .ldout = (int64_t)n_q}};
    report(g, s, dtype, gpu_time(g, b, queue, &c, dtype == PR_DTYPE_F32 ? 3 : 20));
    void *arrays[] = {qkv, out, d_keys, d_positions};
    for (size_t i = 0; i < 4; i++) b->ops->free(b, arrays[i]);
    free(values);
    free(spans);
    free(keys);
    free(positions);
}

int main(int argc, char **argv)
{
    gpu g;
    gpu_open(&g, argc, argv);
    const shape *of = g.is_tiny ? tiny_shapes : shapes;
    size_t n = g.is_tiny ? 1 : sizeof shapes / sizeof *shapes;
    for (size_t i = 0; i < GPU_DTYPES; i++) {
        pr_backend *b = gpu_backend(&g, gpu_dtypes[i]);
        gpu_reserve(&g, b, g.is_tiny ? 128 : 32768);
        for (size_t k = 0; k < n; k++) bench(&g, b, &of[k]);
        b->ops->close(b);
    }
    return gpu_close(&g);
}
