#include "tests/gpu/backend_cases.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the table ---- */

#define GEMM(n, small, rows, in, outs, ...)                                                        \
    {.kind = CASE_GEMM, .name = n, .is_small = small, .n_rows = rows, .dim = in, .n_out = outs,    \
     __VA_ARGS__}
#define ROWS(k, n, small, rows, columns, ...)                                                      \
    {.kind = k, .name = n, .is_small = small, .n_rows = rows, .dim = columns, __VA_ARGS__}
#define HEADS(k, n, small, rows, size, heads, kv_heads, ...)                                       \
    {.kind = k, .name = n, .is_small = small, .n_rows = rows, .dim = size, .n_heads = heads,       \
     .n_kv_heads = kv_heads, __VA_ARGS__}

static const backend_case cases[] = {
    ROWS(CASE_EMBED, "three tables", true, 7, 96, .is_bare = false),
    ROWS(CASE_EMBED, "tokens of another rank", true, 33, 384, .is_bare = true),
    ROWS(CASE_EMBED, "many rows", false, 4000, 3584, .is_bare = true),

    GEMM("1 row, bias", true, 1, 64, 96, .has_bias = true),
    GEMM("5 rows, GELU (erf), bias", true, 5, 96, 64, .has_bias = true,
         .activation = PR_ACTIVATION_GELU),
    GEMM("5 rows, GELU (tanh), bias", true, 5, 96, 64, .has_bias = true,
         .activation = PR_ACTIVATION_GELU_TANH),
    GEMM("3 rows, GELU (tanh)", true, 3, 96, 64, .activation = PR_ACTIVATION_GELU_TANH),
    GEMM("3 rows, ReLU", true, 3, 40, 24, .activation = PR_ACTIVATION_RELU),
    GEMM("130 rows, SiLU gated, bias", true, 130, 64, 96, .is_gated = true, .has_bias = true,
         .activation = PR_ACTIVATION_SILU),
    GEMM("3 rows, GELU (erf) gated", true, 3, 64, 96, .is_gated = true,
         .activation = PR_ACTIVATION_GELU),
    GEMM("a head in f32, tanh", true, 9, 72, 3, .is_head = true, .has_bias = true,
         .activation = PR_ACTIVATION_TANH),
    GEMM("a head in f32, sigmoid", true, 2, 72, 1, .is_head = true,
         .activation = PR_ACTIVATION_SIGMOID),
    GEMM("sizes that are odd", true, 6, 37, 29, .has_bias = true),
    GEMM("1000 rows of 1536, down", false, 1000, 1536, 384, .has_bias = true),
    GEMM("2500 rows of 1024, gated", false, 2500, 1024, 6144, .is_gated = true,
         .activation = PR_ACTIVATION_SILU),
    GEMM("300 rows of 8192", false, 300, 8192, 1280, .has_bias = true),

    ROWS(CASE_NORM, "RMSNorm with residual", true, 5, 96, .norm = PR_NORM_RMS,
         .has_residual = true),
    ROWS(CASE_NORM, "LayerNorm with residual", true, 5, 384, .norm = PR_NORM_LAYER,
         .has_bias = true, .has_residual = true),
    ROWS(CASE_NORM, "LayerNorm of f32 to f32", true, 3, 100, .norm = PR_NORM_LAYER,
         .is_f32_in = true, .is_f32_out = true),
    ROWS(CASE_NORM, "RMSNorm to f32", true, 3, 1024, .norm = PR_NORM_RMS, .is_f32_in = true,
         .is_f32_out = true, .has_residual = true),
    ROWS(CASE_NORM, "only the sum", true, 4, 64, .norm = PR_NORM_RMS, .has_residual = true,
         .is_bare = true),
    ROWS(CASE_NORM, "RMSNorm, 3000 rows of 8192", false, 3000, 8192, .norm = PR_NORM_RMS,
         .has_residual = true),

    HEADS(CASE_ROPE, "4 heads of 64, 2 KV heads", true, 9, 64, 4, 2, .has_head_norms = false),
    HEADS(CASE_ROPE, "with norms, 128", true, 3, 128, 2, 1, .has_head_norms = true),
    HEADS(CASE_ROPE, "80", true, 3, 80, 2, 2, .has_head_norms = false),
    HEADS(CASE_ROPE, "64 heads of 128, 4000 rows", false, 4000, 128, 64, 8, .has_head_norms = true),

    HEADS(CASE_ATTENTION, "full, 32", true, 40, 32, 2, 2, .is_causal = false),
    HEADS(CASE_ATTENTION, "causal, 64, 4:1", true, 40, 64, 4, 1, .is_causal = true),
    HEADS(CASE_ATTENTION, "causal, window 9, 128", true, 40, 128, 2, 1, .is_causal = true,
          .window = 9),
    HEADS(CASE_ATTENTION, "full, 80", true, 20, 80, 1, 1, .is_causal = false),
    HEADS(CASE_ATTENTION, "causal, 96", true, 20, 96, 1, 1, .is_causal = true),
    HEADS(CASE_ATTENTION, "causal, 256", true, 20, 256, 1, 1, .is_causal = true),
    HEADS(CASE_ATTENTION, "causal, 40", true, 20, 40, 1, 1, .is_causal = true),
    HEADS(CASE_ATTENTION, "full, 32, 1000 rows", false, 1000, 32, 12, 12, .is_causal = false),
    HEADS(CASE_ATTENTION, "causal, 64, 1000 rows", false, 1000, 64, 16, 2, .is_causal = true),
    HEADS(CASE_ATTENTION, "causal, 128, 1000 rows", false, 1000, 128, 8, 1, .is_causal = true),
    HEADS(CASE_ATTENTION, "window 100, 96, 1000 rows", false, 1000, 96, 4, 4, .is_causal = true,
          .window = 100),
    HEADS(CASE_ATTENTION, "causal, 256, 700 rows", false, 700, 256, 4, 1, .is_causal = true),

    ROWS(CASE_GATHER, "activations", true, 9, 96, .is_head = false),
    ROWS(CASE_GATHER, "f32", true, 9, 100, .is_head = true),
    ROWS(CASE_MEAN, "means", true, 12, 96, .is_head = true),
    ROWS(CASE_MEAN, "means of 4000 rows", false, 4000, 3584, .is_head = true),
};

const backend_case *backend_cases(size_t *n)
{
    *n = sizeof cases / sizeof *cases;
    return cases;
}

const char *backend_case_slot(const backend_case *c)
{
    static const char *const names[] = {
        [CASE_EMBED] = "embed", [CASE_GEMM] = "gemm", [CASE_NORM] = "norm", [CASE_ROPE] = "rope",
        [CASE_ATTENTION] = "attention", [CASE_GATHER] = "gather", [CASE_MEAN] = "mean_rows"};
    return names[c->kind];
}

/* ---- what a case holds on its backend ---- */

enum { HELD_MAX = 16 };

typedef struct held {
    void *p[HELD_MAX];
    int n;
} held;

static void *keep(held *h, void *p)
{
    if (h->n == HELD_MAX) abort();
    return h->p[h->n++] = p;
}

/* Random elements on the backend, of activations, or with is_f32 in f32 as they are. */
static void *random_array(const side *s, held *h, size_t n, size_t n_room, float scale,
                          uint64_t seed, bool is_f32)
{
    pr_dtype dtype = is_f32 ? PR_DTYPE_F32 : s->type;
    pr_dtype rounding = is_f32 ? PR_DTYPE_F32 : s->rounding;
    float *values = gpu_random_new(s->g, n, scale, seed, rounding);
    void *p = keep(h, gpu_floats(s->g, s->b, values, n, n_room, dtype));
    free(values);
    return p;
}

static void *empty_array(const side *s, held *h, size_t n, pr_dtype dtype)
{
    return keep(h, gpu_bytes(s->g, s->b, NULL, n * pr_dtype_bytes(dtype)));
}

static void held_free(const side *s, held *h)
{
    for (int i = 0; i < h->n; i++) s->b->ops->free(s->b, h->p[i]);
}

/* A call of one slot, for gpu_batch. */
typedef struct call {
    const side *s;
    const void *args;
} call;

#define SLOT_QUEUE(slot, type)                                                                     \
    static void slot##_queue(void *context)                                                        \
    {                                                                                              \
        pr_error err;                                                                              \
        const call *c = context;                                                                   \
        gpu_must(c->s->g, c->s->b->ops->slot(c->s->b, (const type *)c->args, &err), &err, #slot); \
    }
SLOT_QUEUE(embed, pr_embed)
SLOT_QUEUE(gemm, pr_gemm)
SLOT_QUEUE(norm, pr_norm_args)
SLOT_QUEUE(rope, pr_rope)
SLOT_QUEUE(attention, pr_attention)
SLOT_QUEUE(gather, pr_gather)

static void queue_one(const side *s, void (*queue)(void *context), const void *args)
{
    call c = {s, args};
    gpu_batch(s->g, s->b, queue, &c);
}

/* ---- embed ---- */

enum { TABLE_ROWS = 50, TOKEN_BEGIN = 20, TYPE_ROWS = 2 };

static pr_table *table_make(const side *s, int n_rows, int dim, uint64_t seed)
{
    pr_error err;
    pr_table *t = NULL;
    float *values = gpu_random_new(s->g, (size_t)n_rows * (size_t)dim, 1, seed, s->rounding);
    gpu_must(s->g, s->b->ops->table_create(s->b, n_rows, dim, s->type, &t, &err), &err,
             "table_create");
    gpu_must(s->g, s->b->ops->table_write(s->b, t, 0, n_rows, values, PR_DTYPE_F32, &err), &err,
             "table_write");
    free(values);
    return t;
}

static void embed_run(const side *s, const backend_case *c, float *out)
{
    held h = {0};
    size_t n = (size_t)c->n_rows;
    int32_t *tokens = gpu_memory(s->g, n * sizeof *tokens);
    int32_t *positions = gpu_memory(s->g, n * sizeof *positions);
    uint8_t *types = gpu_memory(s->g, n);
    for (size_t i = 0; i < n; i++) { /* of the vocabulary's three parts this rank has the middle */
        tokens[i] = (int32_t)(i * 37 % (2 * TOKEN_BEGIN + TABLE_ROWS));
        positions[i] = (int32_t)(i % TABLE_ROWS);
        types[i] = (uint8_t)(i % TYPE_ROWS);
    }
    pr_table *tables[3] = {table_make(s, TABLE_ROWS, c->dim, 1), NULL, NULL};
    if (!c->is_bare) {
        tables[1] = table_make(s, TABLE_ROWS, c->dim, 2);
        tables[2] = table_make(s, TYPE_ROWS, c->dim, 3);
    }
    const pr_embed a = {
        .token = tables[0], .token_begin = TOKEN_BEGIN, .position = tables[1], .type = tables[2],
        .tokens = keep(&h, gpu_bytes(s->g, s->b, tokens, n * sizeof *tokens)),
        .positions = keep(&h, gpu_bytes(s->g, s->b, positions, n * sizeof *positions)),
        .types = keep(&h, gpu_bytes(s->g, s->b, types, n)), .n_rows = c->n_rows,
        .y = empty_array(s, &h, n * (size_t)c->dim, PR_DTYPE_F32), .ldy = c->dim,
    };
    queue_one(s, embed_queue, &a);
    gpu_read(s->g, s->b, a.y, PR_DTYPE_F32, n * (size_t)c->dim, out);
    for (int i = 0; i < 3; i++) s->b->ops->table_free(s->b, tables[i]);
    held_free(s, &h);
    free(tokens);
    free(positions);
    free(types);
}

/* ---- gemm ---- */

static void gemm_run(const side *s, const backend_case *c, float *out)
{
    held h = {0};
    pr_dtype type = c->is_head ? PR_DTYPE_F32 : s->type;
    pr_dtype rounding = c->is_head ? PR_DTYPE_F32 : s->rounding;
    size_t room = (size_t)pr_backend_rows(s->b, c->n_rows), n_in = (size_t)c->dim;
    size_t n_y = (size_t)(c->is_gated ? c->n_out / 2 : c->n_out), n = (size_t)c->n_rows;
    pr_matrix *w = gpu_matrix(s->g, s->b, c->is_gated ? PR_MATRIX_GATED : PR_MATRIX_PLAIN,
                              c->n_out, c->dim, rounding, type, 5);
    const pr_gemm a = {
        .w = w, .x = random_array(s, &h, n * n_in, room * n_in, 1, 6, c->is_head), .ldx = c->dim,
        .n_rows = c->n_rows,
        .bias = c->has_bias ? random_array(s, &h, (size_t)c->n_out, (size_t)c->n_out, 1, 7, true)
                            : NULL,
        .activation = c->activation, .y = empty_array(s, &h, room * n_y, type),
        .ldy = (int64_t)n_y,
    };
    queue_one(s, gemm_queue, &a);
    gpu_read(s->g, s->b, a.y, type, n * n_y, out);
    s->b->ops->matrix_free(s->b, w);
    held_free(s, &h);
}

/* ---- norm ---- */

/* y, then the sum, then y in f32. */
static void norm_run(const side *s, const backend_case *c, float *out)
{
    held h = {0};
    size_t dim = (size_t)c->dim, n = (size_t)c->n_rows * dim;
    pr_dtype x_type = c->is_f32_in ? PR_DTYPE_F32 : s->type;
    pr_dtype y_type = c->is_f32_out ? PR_DTYPE_F32 : s->type;
    float *residual =
        c->has_residual ? random_array(s, &h, n, n, 2, 12, true) : NULL;
    const pr_norm_args a = {
        .kind = c->norm, .x = random_array(s, &h, n, n, 1, 11, c->is_f32_in), .x_dtype = x_type,
        .ldx = c->dim, .residual = residual, .ld_residual = c->dim, .sum = residual,
        .ld_sum = c->dim,
        .wide = c->is_bare ? NULL : empty_array(s, &h, n, PR_DTYPE_F32), .ld_wide = c->dim,
        .weight = c->is_bare ? NULL : random_array(s, &h, dim, dim, 2, 13, true),
        .bias = c->has_bias ? random_array(s, &h, dim, dim, 1, 14, true) : NULL,
        .eps = 1e-6f, .n_rows = c->n_rows, .dim = c->dim,
        .y = c->is_bare ? NULL : empty_array(s, &h, n, y_type), .y_dtype = y_type, .ldy = c->dim,
    };
    queue_one(s, norm_queue, &a);
    if (a.y) gpu_read(s->g, s->b, a.y, y_type, n, out);
    if (a.sum) gpu_read(s->g, s->b, a.sum, PR_DTYPE_F32, n, out + n);
    if (a.wide) gpu_read(s->g, s->b, a.wide, PR_DTYPE_F32, n, out + 2 * n);
    held_free(s, &h);
}

/* ---- rope ---- */

enum { ROPE_POSITIONS = 64 };

/* cos or sin of position times frequency, [ROPE_POSITIONS, head_dim / 2]. */
static float *angles(const side *s, held *h, int head_dim, double (*function)(double))
{
    size_t half = (size_t)head_dim / 2, n = ROPE_POSITIONS * half;
    float *values = gpu_memory(s->g, n * sizeof *values);
    for (size_t i = 0; i < n; i++) {
        double frequency = pow(10000.0, -(double)(i % half) / (double)half);
        values[i] = (float)function((double)(i / half) * frequency);
    }
    float *p = keep(h, gpu_floats(s->g, s->b, values, n, n, PR_DTYPE_F32));
    free(values);
    return p;
}

/* Rows are one head wider, as the first of the values that stand there. */
static void rope_run(const side *s, const backend_case *c, float *out)
{
    held h = {0};
    size_t rows = (size_t)c->n_rows, dim = (size_t)c->dim;
    size_t ld = (size_t)(c->n_heads + c->n_kv_heads + 1) * dim, n = rows * ld;
    int32_t *positions = gpu_memory(s->g, rows * sizeof *positions);
    for (size_t i = 0; i < rows; i++) positions[i] = (int32_t)(i * 5 % ROPE_POSITIONS);
    const pr_rope a = {
        .x = random_array(s, &h, n, n, 1, 21, false), .ldx = (int64_t)ld, .n_rows = c->n_rows,
        .n_heads = c->n_heads, .n_kv_heads = c->n_kv_heads, .head_dim = c->dim,
        .positions = keep(&h, gpu_bytes(s->g, s->b, positions, rows * sizeof *positions)),
        .cos = angles(s, &h, c->dim, cos), .sin = angles(s, &h, c->dim, sin),
        .q_norm = c->has_head_norms ? random_array(s, &h, dim, dim, 1, 22, true) : NULL,
        .k_norm = c->has_head_norms ? random_array(s, &h, dim, dim, 1, 23, true) : NULL,
        .norm_eps = 1e-6f,
    };
    queue_one(s, rope_queue, &a);
    gpu_read(s->g, s->b, a.x, s->type, n, out);
    held_free(s, &h);
    free(positions);
}

/* ---- attention ---- */

/* A prefix that two segments go on from, and one alone: begins of the four quarters of the rows. */
static void spans_make(uint32_t n_rows, pr_span spans[4], uint32_t *keys, int32_t *positions,
                       uint32_t *n_keys)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t begin = n_rows * i / 4, count = n_rows * (i + 1) / 4 - begin, n_before = 0;
        spans[i] = (pr_span){.query_begin = begin, .query_count = count, .key_begin = n};
        if (i == 1 || i == 2) {
            n_before = n_rows / 4;
            for (uint32_t k = 0; k < n_before; k++) keys[n++] = k;
        }
        for (uint32_t k = 0; k < count; k++) {
            keys[n++] = begin + k;
            positions[begin + k] = (int32_t)(n_before + k);
        }
        spans[i].key_count = n_before + count;
    }
    *n_keys = n;
}

static void attention_run(const side *s, const backend_case *c, float *out)
{
    held h = {0};
    pr_span spans[4];
    uint32_t n_keys = 0;
    size_t rows = (size_t)c->n_rows, esize = pr_dtype_bytes(s->type);
    size_t n_q = (size_t)(c->n_heads * c->dim), n_k = (size_t)(c->n_kv_heads * c->dim);
    size_t ld = n_q + 2 * n_k;
    uint32_t *keys = gpu_memory(s->g, 2 * rows * sizeof *keys);
    int32_t *positions = gpu_memory(s->g, rows * sizeof *positions);
    spans_make((uint32_t)c->n_rows, spans, keys, positions, &n_keys);
    char *qkv = random_array(s, &h, rows * ld, rows * ld, 1, 31, false);
    const pr_attention a = {
        .q = qkv, .ldq = (int64_t)ld, .k = qkv + n_q * esize, .ldk = (int64_t)ld,
        .v = qkv + (n_q + n_k) * esize, .ldv = (int64_t)ld,
        .query_positions = keep(&h, gpu_bytes(s->g, s->b, positions, rows * sizeof *positions)),
        .key_rows = keep(&h, gpu_bytes(s->g, s->b, keys, n_keys * sizeof *keys)), .spans = spans,
        .n_spans = 4, .n_heads = c->n_heads, .n_kv_heads = c->n_kv_heads, .head_dim = c->dim,
        .scale = 3.0f / sqrtf((float)c->dim), .causal = c->is_causal, .window = c->window,
        .out = empty_array(s, &h, rows * n_q, s->type), .ldout = (int64_t)n_q,
    };
    queue_one(s, attention_queue, &a);
    gpu_read(s->g, s->b, a.out, s->type, rows * n_q, out);
    held_free(s, &h);
    free(keys);
    free(positions);
}

/* ---- pooling ---- */

static uint32_t *rows_make(const side *s, const backend_case *c)
{
    uint32_t n = (uint32_t)c->n_rows, *rows = gpu_memory(s->g, n * sizeof *rows);
    for (uint32_t i = 0; i < n; i++) rows[i] = (i * 7 + 3) % n;
    return rows;
}

static void gather_run(const side *s, const backend_case *c, float *out)
{
    held h = {0};
    size_t n = (size_t)c->n_rows * (size_t)c->dim;
    pr_dtype type = c->is_head ? PR_DTYPE_F32 : s->type;
    uint32_t *rows = rows_make(s, c);
    const pr_gather a = {
        .x = random_array(s, &h, n, n, 1, 41, c->is_head), .ldx = c->dim,
        .rows = keep(&h, gpu_bytes(s->g, s->b, rows, (size_t)c->n_rows * sizeof *rows)),
        .n_rows = c->n_rows, .dim = c->dim, .dtype = type, .y = empty_array(s, &h, n, type),
        .ldy = c->dim,
    };
    queue_one(s, gather_queue, &a);
    gpu_read(s->g, s->b, a.y, type, n, out);
    held_free(s, &h);
    free(rows);
}

typedef struct mean_call {
    const side *s;
    const float *x;
    const uint32_t *rows, *offsets;
    int64_t dim;
    float *y;
} mean_call;

enum { MEANS = 3 };

static void mean_queue(void *context)
{
    pr_error err;
    const mean_call *m = context;
    gpu_must(m->s->g, m->s->b->ops->mean_rows(m->s->b, m->x, m->dim, m->rows, m->offsets, MEANS,
                                              m->dim, m->y, m->dim, &err), &err, "mean_rows");
}

static void mean_run(const side *s, const backend_case *c, float *out)
{
    held h = {0};
    size_t n = (size_t)c->n_rows * (size_t)c->dim;
    uint32_t *rows = rows_make(s, c), n_rows = (uint32_t)c->n_rows;
    const uint32_t offsets[MEANS + 1] = {0, 1, n_rows / 2, n_rows};
    mean_call m = {
        .s = s, .x = random_array(s, &h, n, n, 1, 42, true),
        .rows = keep(&h, gpu_bytes(s->g, s->b, rows, n_rows * sizeof *rows)), .offsets = offsets,
        .dim = c->dim, .y = empty_array(s, &h, MEANS * (size_t)c->dim, PR_DTYPE_F32),
    };
    gpu_batch(s->g, s->b, mean_queue, &m);
    gpu_read(s->g, s->b, m.y, PR_DTYPE_F32, MEANS * (size_t)c->dim, out);
    held_free(s, &h);
    free(rows);
}

/* ---- any ---- */

bool backend_case_is_f32(const backend_case *c)
{
    return c->kind == CASE_EMBED || c->kind == CASE_MEAN || c->is_head;
}

size_t backend_case_count(const backend_case *c)
{
    size_t rows = (size_t)c->n_rows, dim = (size_t)c->dim;
    switch (c->kind) {
    case CASE_GEMM: return rows * (size_t)(c->is_gated ? c->n_out / 2 : c->n_out);
    case CASE_NORM: return rows * dim * 3;
    case CASE_ROPE: return rows * dim * (size_t)(c->n_heads + c->n_kv_heads + 1);
    case CASE_ATTENTION: return rows * dim * (size_t)c->n_heads;
    case CASE_MEAN: return MEANS * dim;
    default: return rows * dim;
    }
}

void backend_case_run(const side *s, const backend_case *c, float *out)
{
    static void (*const runs[])(const side *s, const backend_case *c, float *out) = {
        [CASE_EMBED] = embed_run, [CASE_GEMM] = gemm_run, [CASE_NORM] = norm_run,
        [CASE_ROPE] = rope_run, [CASE_ATTENTION] = attention_run, [CASE_GATHER] = gather_run,
        [CASE_MEAN] = mean_run};
    runs[c->kind](s, c, out);
}
