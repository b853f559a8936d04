/* tests/gpu/invariance.c: does a row keep its bits whatever else is in its batch? Products for the
 * layers of real models, attention, and whole models, in f32, bf16 and f16.
 *
 * It is meant to hold (kernels/cuda/cuda_gemm.h), which only hardware can show: a "NO" is a finding
 * and no failure, unless the backend claims the property or the device is simulated. */
#include "tests/gpu/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void verdict(gpu *g, const char *what, const char *shape, pr_dtype dtype, bool is_claimed,
                    long n_differ, long n)
{
    bool same = n_differ == 0;
    gpu_check(g, "invariance", same || !(is_claimed || g->plugin->is_simulated),
              json_pack("{s:s, s:s, s:s, s:b, s:I, s:I}", "what", what, "shape", shape, "dtype",
                        pr_dtype_name(dtype), "same_bits", same, "differ", (json_int_t)n_differ,
                        "compared", (json_int_t)n),
              "%-9s %-24s %-8s same bits: %s (%ld of %ld rows differ)", what, shape,
              pr_dtype_name(dtype), same ? "yes" : "NO", n_differ, n);
}

static long rows_compare(const char *a, const char *b, size_t n_rows, size_t row_bytes)
{
    long n = 0;
    for (size_t i = 0; i < n_rows; i++) {
        n += memcmp(a + i * row_bytes, b + i * row_bytes, row_bytes) != 0;
    }
    return n;
}

static void read_bytes(const gpu *g, pr_backend *b, const void *src, size_t n_bytes, void *out)
{
    pr_error err;
    void *host = NULL;
    gpu_must(g, b->ops->host_alloc(b, n_bytes, &host, &err), &err, "host_alloc");
    gpu_must(g, b->ops->download(b, host, src, n_bytes, &err), &err, "download");
    gpu_must(g, b->ops->sync(b, &err), &err, "sync");
    memcpy(out, host, n_bytes);
    b->ops->host_free(b, host);
}

/* ---- products ---- */

typedef struct product {
    const char *name;
    int n_out, n_in;
    bool is_gated;
} product;

static const product products[] = {
    {"MiniLM qkv", 1152, 384, false},     {"MiniLM o", 384, 384, false},
    {"MiniLM up", 1536, 384, false},      {"MiniLM down", 384, 1536, false},
    {"0.6B qkv", 4096, 1024, false},      {"0.6B o", 1024, 2048, false},
    {"0.6B gate+up", 6144, 1024, true},   {"0.6B down", 1024, 3072, false},
    {"7B qkv", 4608, 3584, false},        {"7B o", 3584, 3584, false},
    {"7B gate+up", 37888, 3584, true},    {"7B down", 3584, 18944, false},
    {"72B/8 qkv", 1280, 8192, false},     {"72B/8 o", 8192, 1024, false},
    {"72B/8 gate+up", 7392, 8192, true},  {"72B/8 down", 8192, 3696, false},
};
static const product tiny_products[] = {{"tiny qkv", 96, 64, false},
                                        {"tiny gate+up", 96, 64, true}};

enum { ROOM = 4096 };

typedef struct gemm_call {
    const gpu *g;
    pr_backend *b;
    pr_gemm args;
} gemm_call;

static void gemm_queue(void *context)
{
    pr_error err;
    gemm_call *c = context;
    gpu_must(c->g, c->b->ops->gemm(c->b, &c->args, &err), &err, "gemm");
}

static void product_check(gpu *g, pr_backend *b, const product *p)
{
    static const size_t parts[][2] = {/* first row, rows */
                                      {0, 1},    {5, 1},     {128, 1},   {0, 7},   {64, 127},
                                      {3, 128},  {256, 129}, {100, 300}, {0, 700}, {1, 1000},
                                      {0, 2048}, {0, 3000}};
    pr_dtype dtype = b->activation_dtype;
    size_t room = g->is_tiny ? 256 : ROOM, esize = pr_dtype_bytes(dtype);
    size_t n_in = (size_t)p->n_in, n_y = (size_t)(p->is_gated ? p->n_out / 2 : p->n_out);
    pr_matrix *w = gpu_matrix(g, b, p->is_gated ? PR_MATRIX_GATED : PR_MATRIX_PLAIN, p->n_out,
                              p->n_in, dtype, dtype, 1);
    float *values = gpu_random_new(g, room * n_in, 1, 2, dtype);
    float *bias_values = gpu_random_new(g, (size_t)p->n_out, 1, 3, PR_DTYPE_F32);
    char *x = gpu_floats(g, b, values, room * n_in, room * n_in, dtype);
    float *bias = gpu_floats(g, b, bias_values, (size_t)p->n_out, (size_t)p->n_out, PR_DTYPE_F32);
    void *y = gpu_bytes(g, b, NULL, room * n_y * esize);
    char *all = gpu_memory(g, room * n_y * esize), *part = gpu_memory(g, room * n_y * esize);
    gemm_call c = {g, b, {.w = w, .x = x, .ldx = p->n_in, .n_rows = (int64_t)room, .bias = bias,
                          .activation = p->is_gated ? PR_ACTIVATION_SILU : PR_ACTIVATION_NONE,
                          .y = y, .ldy = (int64_t)n_y}};
    gpu_batch(g, b, gemm_queue, &c);
    read_bytes(g, b, y, room * n_y * esize, all);
    long n_differ = 0, n = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t begin = parts[i][0], rows = parts[i][1];
        if (begin + (size_t)pr_backend_rows(b, (int64_t)rows) > room) continue;
        c.args.x = x + begin * n_in * esize;
        c.args.n_rows = (int64_t)rows;
        gpu_batch(g, b, gemm_queue, &c);
        read_bytes(g, b, y, rows * n_y * esize, part);
        n_differ += rows_compare(all + begin * n_y * esize, part, rows, n_y * esize);
        n += (long)rows;
    }
    verdict(g, "gemm", p->name, dtype, b->is_batch_invariant, n_differ, n);
    b->ops->free(b, x);
    b->ops->free(b, y);
    b->ops->free(b, bias);
    b->ops->matrix_free(b, w);
    free(values);
    free(bias_values);
    free(all);
    free(part);
}

/* ---- attention ---- */

typedef struct attention_call {
    const gpu *g;
    pr_backend *b;
    pr_attention args;
} attention_call;

static void attention_queue(void *context)
{
    pr_error err;
    attention_call *c = context;
    gpu_must(c->g, c->b->ops->attention(c->b, &c->args, &err), &err, "attention");
}

enum { SPANS = 6 };

/* Spans one after the other in the same rows; then each alone. */
static void attention_check(gpu *g, pr_backend *b, int head_dim, int n_heads, int n_kv_heads,
                            bool is_causal)
{
    static const uint32_t counts[SPANS] = {1, 63, 200, 64, 777, 5};
    static const uint32_t tiny[SPANS] = {1, 9, 20, 3, 33, 5};
    const uint32_t *of = g->is_tiny ? tiny : counts;
    pr_span spans[SPANS];
    uint32_t n_rows = 0, keys[2000];
    int32_t positions[2000];
    for (int s = 0; s < SPANS; s++) {
        spans[s] = (pr_span){n_rows, of[s], n_rows, of[s]};
        for (uint32_t i = 0; i < of[s]; i++, n_rows++) {
            keys[n_rows] = n_rows;
            positions[n_rows] = (int32_t)i;
        }
    }
    pr_dtype dtype = b->activation_dtype;
    size_t esize = pr_dtype_bytes(dtype), n_q = (size_t)(n_heads * head_dim);
    size_t ld = n_q + 2 * (size_t)(n_kv_heads * head_dim), row = n_q * esize;
    float *values = gpu_random_new(g, n_rows * ld, 1, 9, dtype);
    char *qkv = gpu_floats(g, b, values, n_rows * ld, n_rows * ld, dtype);
    void *out = gpu_bytes(g, b, NULL, n_rows * row);
    void *d_keys = gpu_bytes(g, b, keys, n_rows * sizeof *keys);
    void *d_positions = gpu_bytes(g, b, positions, n_rows * sizeof *positions);
    char *all = gpu_memory(g, n_rows * row), *part = gpu_memory(g, n_rows * row);
    attention_call c = {g, b, {
        .q = qkv, .ldq = (int64_t)ld, .k = qkv + row, .ldk = (int64_t)ld,
        .v = qkv + row + (size_t)(n_kv_heads * head_dim) * esize, .ldv = (int64_t)ld,
        .query_positions = d_positions, .key_rows = d_keys, .spans = spans, .n_spans = SPANS,
        .n_heads = n_heads, .n_kv_heads = n_kv_heads, .head_dim = head_dim,
        .scale = 1.0f / sqrtf((float)head_dim), .causal = is_causal, .out = out,
        .ldout = (int64_t)n_q}};
    gpu_batch(g, b, attention_queue, &c);
    read_bytes(g, b, out, n_rows * row, all);
    long n_differ = 0;
    c.args.n_spans = 1;
    for (int s = 0; s < SPANS; s++) {
        c.args.spans = &spans[s];
        gpu_batch(g, b, attention_queue, &c);
        read_bytes(g, b, out, n_rows * row, part);
        size_t begin = spans[s].query_begin * row;
        n_differ += rows_compare(all + begin, part + begin, of[s], row);
    }
    char shape[64];
    snprintf(shape, sizeof shape, "%s, %d:%d heads of %d", is_causal ? "causal" : "full", n_heads,
             n_kv_heads, head_dim);
    verdict(g, "attention", shape, dtype, b->is_batch_invariant, n_differ, (long)n_rows);
    void *arrays[] = {qkv, out, d_keys, d_positions};
    for (size_t i = 0; i < 4; i++) b->ops->free(b, arrays[i]);
    free(values);
    free(all);
    free(part);
}

/* ---- whole models ---- */

static void run(const gpu *g, pr_worker *w, const model_batch *b, pr_pooled *out)
{
    pr_error err;
    gpu_must(g, pr_worker_run(w, &b->plan, b->poolings, NULL, out, &err), &err, "run a batch");
}

/* Texts together, in three orders, against each alone. */
static void model_check(gpu *g, const model_shape *shape, pr_dtype dtype)
{
    enum { TEXTS = 7, ORDERS = 3 };
    static const uint32_t lengths[TEXTS] = {9, 1, 300, 33, 128, 511, 64};
    static const uint32_t tiny[TEXTS] = {9, 1, 30, 12, 17, 5, 40};
    static const uint32_t orders[ORDERS][TEXTS] = {
        {0, 1, 2, 3, 4, 5, 6}, {6, 5, 4, 3, 2, 1, 0}, {4, 2, 6, 0, 5, 1, 3}};
    const uint32_t *of = g->is_tiny ? tiny : lengths;
    model m;
    model_batch b;
    pr_pooled alone[TEXTS], together;
    model_make(g, &m, shape);
    pr_worker *w = model_worker(g, &m, dtype, false, 2048);
    long n_differ = 0;
    for (uint32_t i = 0; i < TEXTS; i++) {
        model_batch_make(g, &b, &m, shape->pool, 1, &of[i], &i);
        run(g, w, &b, &alone[i]);
        model_batch_deinit(&b);
    }
    for (int o = 0; o < ORDERS; o++) {
        uint32_t ordered[TEXTS];
        for (int i = 0; i < TEXTS; i++) ordered[i] = of[orders[o][i]];
        model_batch_make(g, &b, &m, shape->pool, TEXTS, ordered, orders[o]);
        run(g, w, &b, &together);
        for (uint32_t i = 0; i < TEXTS; i++) {
            const pr_pooled *other = &alone[orders[o][i]];
            size_t n = together.rows[i].n_columns;
            n_differ += memcmp(together.data + together.rows[i].offset,
                               other->data + other->rows[0].offset, n * sizeof(float)) != 0;
        }
        pr_pooled_deinit(&together);
        model_batch_deinit(&b);
    }
    verdict(g, "model", shape->name, dtype, false, n_differ, ORDERS * TEXTS);
    for (int i = 0; i < TEXTS; i++) pr_pooled_deinit(&alone[i]);
    pr_worker_close(w);
    model_remove(&m);
}

/* ---- all ---- */

static void kernels_check(gpu *g, pr_backend *b)
{
    const product *of = g->is_tiny ? tiny_products : products;
    size_t n = g->is_tiny ? sizeof tiny_products / sizeof *tiny_products
                          : sizeof products / sizeof *products;
    for (size_t i = 0; i < n; i++) product_check(g, b, &of[i]);
    static const int sizes[] = {32, 64, 80, 96, 128, 256};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (g->is_tiny && sizes[i] > 64) break;
        attention_check(g, b, sizes[i], 4, 1, true);
        attention_check(g, b, sizes[i], 2, 2, false);
    }
}

int main(int argc, char **argv)
{
    gpu g;
    gpu_open(&g, argc, argv);
    for (size_t i = 0; i < GPU_DTYPES; i++) {
        pr_backend *b = gpu_backend(&g, gpu_dtypes[i]);
        gpu_reserve(&g, b, ROOM);
        kernels_check(&g, b);
        b->ops->close(b);
        for (size_t k = 0; k < MODEL_SHAPES; k++) {
            model_shape s = g.is_tiny ? model_shape_tiny(&model_shapes[k])
                                      : model_shape_cut(&model_shapes[k], 4, 30522);
            if (!g.is_tiny || k % 2 == i % 2) model_check(&g, &s, gpu_dtypes[i]);
        }
    }
    return gpu_close(&g);
}
