/* Attention of the CPU backend: every version against f64 over odd shapes, and its promise that a
 * row's bits depend on nothing but the row, its position and the keys that it sees. */
#include "tests/unit/kernels/kernel_tables.h"

enum { DECOYS = 5 }; /* tokens of each span around the one under test */

/* What stays the same in all variants of one comparison. */
typedef struct shape {
    int32_t length, head_dim, n_kv_heads, group;
    bool causal;
    int32_t window;
} shape;

/* One sequence, dense: row = position. */
typedef struct sequence {
    shape s;
    int64_t q_dim, kv_dim;
    float *q, *k, *v; /* [length, q_dim], [length, kv_dim] */
} sequence;

/* How a variant lays the sequence out. */
typedef struct variant {
    const int32_t *queries; /* positions that are asked for, rising; NULL: all */
    int32_t n_queries;
    bool scattered;   /* key rows in a scrambled order, with unused rows of NaN between them */
    bool with_decoys; /* a span before and one after it */
    int n_threads;
    int block; /* > 0: blocks of that many queries by hand, in place of the plan */
} variant;

static sequence sequence_make(shape s, uint64_t seed)
{
    rng r = {seed};
    sequence q = {.s = s};
    q.kv_dim = (int64_t)s.n_kv_heads * s.head_dim;
    q.q_dim = q.kv_dim * s.group;
    q.q = floats_random(&r, (size_t)(s.length * q.q_dim), 3.0f);
    q.k = floats_random(&r, (size_t)(s.length * q.kv_dim), 2.0f);
    q.v = floats_random(&r, (size_t)(s.length * q.kv_dim), 1.0f);
    return q;
}

static void sequence_free(sequence *q)
{
    free(q->q);
    free(q->k);
    free(q->v);
}

static void attention_run(const pr_cpu_attention *kernels, const pr_attention *a, int n_threads,
                          int block)
{
    pr_cpu_attention_block *blocks;
    int64_t n_queries = 0, n = 0;
    for (int64_t i = 0; i < a->n_spans; i++) n_queries += a->spans[i].query_count;
    const int64_t n_max = block ? n_queries : pr_cpu_attention_n_blocks_max(a);
    blocks = calloc((size_t)n_max + 1, sizeof *blocks);
    if (!block) {
        n = pr_cpu_attention_plan(a, n_threads, blocks);
    } else {
        for (int64_t i = 0; i < a->n_spans; i++) {
            const pr_span *s = &a->spans[i];
            for (uint32_t at = 0; at < s->query_count; at += (uint32_t)block) {
                const uint32_t left = s->query_count - at;
                blocks[n++] = (pr_cpu_attention_block){
                    i, s->query_begin + at, left < (uint32_t)block ? left : (uint32_t)block};
            }
        }
    }
    assert_in_range(n, 0, n_max);
    const size_t n_bytes = kernels->scratch_bytes(a->head_dim, a->n_heads, a->n_kv_heads);
    void *scratch;
    assert_int_equal(posix_memalign(&scratch, 64, n_bytes), 0);
    memset(scratch, 0xFF, n_bytes); /* NaN: whatever is read before it is written shows */
    for (int64_t i = 0; i < n * a->n_kv_heads; i++) {
        kernels->run(a, &blocks[i / a->n_kv_heads], (int32_t)(i % a->n_kv_heads), scratch);
    }
    free(scratch);
    free(blocks);
}

/* The arrays of one call: the sequence as the variant lays it out, decoys around it. Whatever no
 * span reads is NaN, and a result that nobody wrote is -77. */
typedef struct stage {
    int32_t n_queries, pad; /* of the sequence; tokens of a decoy */
    int64_t ldq, ldk, n_key_rows;
    float *q, *k, *v, *out;
    int32_t *positions;
    uint32_t *key_rows;
} stage;

static stage stage_make(const sequence *q, const variant *v)
{
    stage t = {.n_queries = v->queries ? v->n_queries : q->s.length,
               .pad = v->with_decoys ? DECOYS : 0,
               .ldq = q->q_dim + 3,
               .ldk = q->kv_dim + 5};
    t.n_key_rows = (v->scattered ? 2 : 1) * (int64_t)q->s.length + 2 * t.pad;
    const int64_t n_q = (t.n_queries + 2 * t.pad) * t.ldq, n_k = t.n_key_rows * t.ldk;
    rng r = {(uint64_t)t.n_queries + 77u};
    t.q = floats_random(&r, (size_t)n_q, 1.0f);
    t.k = floats_make((size_t)n_k);
    t.v = floats_make((size_t)n_k);
    t.out = floats_make((size_t)n_q);
    t.positions = calloc((size_t)(t.n_queries + 2 * t.pad), sizeof *t.positions);
    t.key_rows = calloc((size_t)(q->s.length + 2 * t.pad), sizeof *t.key_rows);
    for (int64_t i = 0; i < n_k; i++) t.k[i] = t.v[i] = NAN;
    for (int64_t i = 0; i < n_q; i++) t.out[i] = -77.0f;
    return t;
}

static void stage_free(stage *t)
{
    free(t->q);
    free(t->k);
    free(t->v);
    free(t->out);
    free(t->positions);
    free(t->key_rows);
}

/* Decoy keys are the first and the last `pad` rows, in plain order. */
static void stage_decoys(stage *t, const sequence *q)
{
    const int64_t last = t->n_key_rows - t->pad;
    for (int32_t i = 0; i < t->pad; i++) {
        t->positions[i] = t->positions[t->pad + t->n_queries + i] = i;
        t->key_rows[i] = (uint32_t)i;
        t->key_rows[t->pad + q->s.length + i] = (uint32_t)(last + i);
        for (int64_t c = 0; c < q->kv_dim; c++) {
            t->k[i * t->ldk + c] = t->v[i * t->ldk + c] = 0.5f;
            t->k[(last + i) * t->ldk + c] = t->v[(last + i) * t->ldk + c] = -0.5f;
        }
    }
}

static void stage_sequence(stage *t, const sequence *q, const variant *v)
{
    for (int32_t j = 0; j < q->s.length; j++) {
        int64_t row = t->pad + j;
        if (v->scattered) row = t->pad + 2 * (((int64_t)j * 7919 + 3) % q->s.length) + (j & 1);
        const size_t n_bytes = (size_t)q->kv_dim * sizeof(float);
        t->key_rows[t->pad + j] = (uint32_t)row;
        memcpy(t->k + row * t->ldk, q->k + j * q->kv_dim, n_bytes);
        memcpy(t->v + row * t->ldk, q->v + j * q->kv_dim, n_bytes);
    }
    for (int32_t i = 0; i < t->n_queries; i++) {
        const int32_t position = v->queries ? v->queries[i] : i;
        t->positions[t->pad + i] = position;
        memcpy(t->q + (t->pad + i) * t->ldq, q->q + position * q->q_dim,
               (size_t)q->q_dim * sizeof(float));
    }
}

/* The rows of the sequence, dense: [n_queries, q_dim]. What lies between them must be untouched. */
static float *stage_result(const stage *t, const sequence *q)
{
    float *dense = floats_make((size_t)(t->n_queries * q->q_dim));
    for (int32_t i = 0; i < t->n_queries; i++) {
        const float *row = t->out + (t->pad + i) * t->ldq;
        memcpy(dense + i * q->q_dim, row, (size_t)q->q_dim * sizeof(float));
        for (int64_t c = q->q_dim; c < t->ldq; c++) assert_true(row[c] == -77.0f);
    }
    return dense;
}

/* Runs the sequence in the layout of `v`; returns [n_queries, q_dim], dense. */
static float *variant_run(const pr_cpu_attention *kernels, const sequence *q, const variant *v)
{
    const shape *s = &q->s;
    stage t = stage_make(q, v);
    stage_decoys(&t, q);
    stage_sequence(&t, q, v);
    const uint32_t p = (uint32_t)t.pad, l = (uint32_t)s->length, m = (uint32_t)t.n_queries;
    const pr_span spans[] = {{0, p, 0, p}, {p, m, p, l}, {p + m, p, p + l, p}};
    const pr_attention a = {
        .q = t.q,
        .ldq = t.ldq,
        .k = t.k,
        .ldk = t.ldk,
        .v = t.v,
        .ldv = t.ldk,
        .query_positions = t.positions,
        .key_rows = t.key_rows,
        .spans = v->with_decoys ? spans : spans + 1,
        .n_spans = v->with_decoys ? 3 : 1,
        .n_heads = s->n_kv_heads * s->group,
        .n_kv_heads = s->n_kv_heads,
        .head_dim = s->head_dim,
        .scale = 1.0f / sqrtf((float)s->head_dim),
        .causal = s->causal,
        .window = s->window,
        .out = t.out,
        .ldout = t.ldq,
    };
    attention_run(kernels, &a, v->n_threads ? v->n_threads : 1, v->block);
    float *dense = stage_result(&t, q);
    stage_free(&t);
    return dense;
}

/* The formula, in double, for one row and head. */
static void judge_row(const sequence *q, int32_t position, int32_t head, double *out)
{
    const shape *s = &q->s;
    const int32_t end = s->causal ? position + 1 : s->length;
    const int32_t begin = s->window && end > s->window ? end - s->window : 0;
    const float *qr = q->q + position * q->q_dim + (int64_t)head * s->head_dim;
    const int64_t column = (int64_t)(head / s->group) * s->head_dim;
    double *p = calloc((size_t)s->length, sizeof *p), top = -INFINITY, sum = 0.0;
    for (int32_t j = begin; j < end; j++) {
        for (int32_t d = 0; d < s->head_dim; d++) {
            p[j] += (double)qr[d] * q->k[j * q->kv_dim + column + d];
        }
        p[j] /= sqrt(s->head_dim);
        top = fmax(top, p[j]);
    }
    for (int32_t j = begin; j < end; j++) sum += p[j] = exp(p[j] - top);
    for (int32_t d = 0; d < s->head_dim; d++) out[d] = 0.0;
    for (int32_t j = begin; j < end; j++) {
        for (int32_t d = 0; d < s->head_dim; d++) {
            out[d] += p[j] / sum * q->v[j * q->kv_dim + column + d];
        }
    }
    free(p);
}

/* Largest difference from the formula over at most 16 rows, the first and the last among them. */
static double worst_error(const sequence *q, const float *out)
{
    const shape *s = &q->s;
    double expected[PR_CPU_ATTENTION_HEAD_DIM_MAX], worst = 0.0;
    const int32_t n = s->length < 16 ? s->length : 16;
    for (int32_t i = 0; i < n; i++) {
        const int32_t row = n == 1 ? 0 : (int32_t)((int64_t)i * (s->length - 1) / (n - 1));
        const int32_t head = (row + i) % (s->n_kv_heads * s->group);
        judge_row(q, row, head, expected);
        for (int32_t d = 0; d < s->head_dim; d++) {
            const float got = out[row * q->q_dim + (int64_t)head * s->head_dim + d];
            const double e = fabs(got - expected[d]);
            if (!(e <= worst)) worst = e; /* NaN too */
        }
    }
    return worst;
}

static const int32_t lengths[] = {1, 2, 7, 63, 64, 65, 127, 129, 200, 1000};
static const int32_t head_dims[] = {8, 16, 32, 40, 64, 80, 96, 128, 256, 1, 33};
static const int32_t groups[] = {1, 2, 7};
static const struct {
    bool causal;
    int32_t window;
} masks[] = {{true, 0}, {false, 0}, {true, 1}, {true, 50}, {true, 64}};

#define COUNT(x) (sizeof(x) / sizeof *(x))

static double error_of(const kernel_table *t, shape s)
{
    sequence q = sequence_make(s, 1 + (uint64_t)s.length);
    const variant plain = {.scattered = s.length % 2};
    float *out = variant_run(t->attention, &q, &plain);
    const double e = worst_error(&q, out);
    if (!(e <= 3e-6)) {
        print_message("%s: length %d head_dim %d group %d causal %d window %d: error %g\n", t->name,
                      s.length, s.head_dim, s.group, s.causal, s.window, e);
    }
    free(out);
    sequence_free(&q);
    return e;
}

static void attention_is_the_formula_over_odd_shapes(void **state)
{
    (void)state;
    kernel_table tables[N_TABLES];
    kernel_tables(tables);
    for (size_t t = 0; t < N_TABLES; t++) {
        double worst = 0.0;
        if (!tables[t].available) continue;
        for (size_t i = 0; i < COUNT(lengths); i++) {
            for (size_t j = 0; j < COUNT(head_dims); j++) {
                for (size_t k = 0; k < COUNT(groups) * COUNT(masks); k++) {
                    const shape s = {.length = lengths[i],
                                     .head_dim = head_dims[j],
                                     .n_kv_heads = 1 + (int32_t)(j % 2),
                                     .group = groups[k % 3],
                                     .causal = masks[k / 3].causal,
                                     .window = masks[k / 3].window};
                    /* the longer ones in fewer combinations, they cost seconds otherwise */
                    if (s.length >= 200 && k != (i + j) % 15) continue;
                    if (s.length >= 127 && k % 5 != (i + j) % 5) continue;
                    worst = fmax(worst, error_of(&tables[t], s));
                }
            }
        }
        print_message("%s: largest error %.2g, of values up to 1\n", tables[t].name, worst);
        assert_true(worst <= 3e-6);
    }
}

/* The rows of `v` must have the bits that `expected` has for their positions. */
static void assert_same_bits(const kernel_table *t, const sequence *q, const float *expected,
                             const variant *v, const char *what)
{
    float *out = variant_run(t->attention, q, v);
    const int32_t n = v->queries ? v->n_queries : q->s.length;
    for (int32_t i = 0; i < n; i++) {
        const int32_t position = v->queries ? v->queries[i] : i;
        const size_t n_bytes = (size_t)q->q_dim * sizeof(float);
        if (memcmp(out + i * q->q_dim, expected + position * q->q_dim, n_bytes) != 0) {
            fail_msg("%s: %s: length %d head_dim %d group %d causal %d window %d: row at position "
                     "%d has other bits",
                     t->name, what, q->s.length, q->s.head_dim, q->s.group, q->s.causal,
                     q->s.window, position);
        }
    }
    free(out);
}

static void check_layouts(const kernel_table *t, const sequence *q, const float *expected)
{
    static const int n_threads[] = {2, 3, 8, 64};
    for (size_t i = 0; i < COUNT(n_threads); i++) {
        assert_same_bits(t, q, expected, &(variant){.n_threads = n_threads[i]}, "more threads");
    }
    assert_same_bits(t, q, expected, &(variant){.with_decoys = true}, "among other spans");
    assert_same_bits(t, q, expected, &(variant){.scattered = true}, "scattered key rows");
    assert_same_bits(t, q, expected,
                     &(variant){.scattered = true, .with_decoys = true, .n_threads = 5},
                     "scattered, among others, 5 threads");
    for (int block = 1; block <= 13; block += 3) {
        if (block * q->s.group > PR_CPU_ATTENTION_ROWS_MAX) continue;
        assert_same_bits(t, q, expected, &(variant){.block = block}, "other query blocks");
    }
}

static void check_subsets(const kernel_table *t, const sequence *q, const float *expected,
                          uint64_t seed)
{
    const int32_t length = q->s.length;
    int32_t *some = calloc((size_t)length, sizeof *some);
    /* what a shared prefix leaves: the queries from some position on */
    const int32_t prefixes[] = {1, 2, 5, 63, 64, 65, 100, length - 1};
    for (size_t i = 0; i < COUNT(prefixes); i++) {
        int32_t n = 0;
        for (int32_t p = prefixes[i]; p < length; p++) some[n++] = p;
        if (prefixes[i] < 0 || n == 0) continue;
        const variant v = {some, n, .scattered = true, .with_decoys = i % 2,
                           .n_threads = 1 + (int)i};
        assert_same_bits(t, q, expected, &v, "prefix computed elsewhere");
    }
    rng r = {seed};
    for (uint32_t sparse = 2; sparse < 64; sparse *= 2) {
        int32_t n = 0;
        for (int32_t p = 0; p < length; p++) {
            if (rng_u32(&r) % sparse == 0) some[n++] = p;
        }
        if (n == 0) continue;
        assert_same_bits(t, q, expected, &(variant){some, n, .n_threads = 1 + (int)sparse % 3},
                         "pruned queries");
    }
    free(some);
}

static const shape invariance_shapes[] = {
    {1, 32, 2, 1, false, 0},   {9, 32, 2, 1, true, 0},    {64, 64, 1, 7, true, 0},
    {65, 80, 1, 2, true, 0},   {130, 32, 2, 1, false, 0}, {130, 64, 2, 7, true, 0},
    {200, 40, 1, 1, true, 0},  {200, 128, 1, 2, true, 0}, {200, 64, 1, 7, true, 50},
    {300, 32, 1, 1, true, 64}, {300, 96, 1, 2, true, 1},  {150, 33, 3, 1, true, 100},
    {257, 64, 1, 7, false, 0}, {70, 256, 1, 5, true, 0},
};

static void attention_rows_do_not_depend_on_their_company(void **state)
{
    (void)state;
    kernel_table tables[N_TABLES];
    kernel_tables(tables);
    for (size_t t = 0; t < N_TABLES; t++) {
        if (!tables[t].available) continue;
        for (size_t i = 0; i < COUNT(invariance_shapes); i++) {
            sequence q = sequence_make(invariance_shapes[i], 100 + i);
            float *expected = variant_run(tables[t].attention, &q, &(variant){0});
            check_layouts(&tables[t], &q, expected);
            check_subsets(&tables[t], &q, expected, 7 + i);
            free(expected);
            sequence_free(&q);
        }
    }
}

static void attention_of_a_prefix_does_not_see_what_follows(void **state)
{
    (void)state;
    kernel_table tables[N_TABLES];
    kernel_tables(tables);
    static const int32_t cuts[] = {1, 3, 63, 64, 65, 90, 128};
    for (size_t t = 0; t < N_TABLES; t++) {
        if (!tables[t].available) continue;
        for (size_t i = 0; i < COUNT(cuts); i++) {
            const shape s = {140, 40, 2, 1 + (int32_t)(i % 3), true, i % 2 ? 70 : 0};
            sequence q = sequence_make(s, 5 + i);
            sequence prefix = q;
            prefix.s.length = cuts[i];
            float *expected = variant_run(tables[t].attention, &prefix, &(variant){0});
            for (int64_t c = cuts[i] * q.kv_dim; c < s.length * q.kv_dim; c++) {
                q.k[c] = c % 2 ? NAN : INFINITY;
                q.v[c] = c % 3 ? NAN : INFINITY;
            }
            float *out = variant_run(tables[t].attention, &q, &(variant){0});
            assert_memory_equal(out, expected, (size_t)(cuts[i] * q.q_dim) * sizeof(float));
            free(out);
            free(expected);
            sequence_free(&q);
        }
    }
}

/* Keys of like weight and value round the same way each: one chain over all was 4.3e-5 off. */
static void attention_over_many_equal_keys_is_their_value(void **state)
{
    (void)state;
    kernel_table tables[N_TABLES];
    kernel_tables(tables);
    const shape s = {20000, 24, 1, 1, true, 0};
    sequence q = sequence_make(s, 3);
    for (int64_t i = 0; i < s.length * q.kv_dim; i++) {
        q.k[i] = 0.0f;
        q.v[i] = (float)(i % q.kv_dim + 1) * 0.1234567f;
    }
    static const int32_t last[] = {19998, 19999};
    for (size_t t = 0; t < N_TABLES; t++) {
        if (!tables[t].available) continue;
        const variant v = {.queries = last, .n_queries = 2};
        float *out = variant_run(tables[t].attention, &q, &v);
        for (int64_t c = 0; c < 2 * q.kv_dim; c++) {
            const double expected = (double)q.v[c % q.kv_dim];
            assert_true(fabs((double)out[c] - expected) <= 5e-6 * expected);
        }
        free(out);
    }
    sequence_free(&q);
}

static void attention_survives_scores_far_apart(void **state)
{
    (void)state;
    kernel_table tables[N_TABLES];
    kernel_tables(tables);
    for (size_t t = 0; t < N_TABLES; t++) {
        if (!tables[t].available) continue;
        const shape s = {150, 16, 1, 1, true, 0};
        sequence q = sequence_make(s, 11);
        for (int64_t i = 0; i < s.length * q.q_dim; i++) q.q[i] *= 1000.0f;
        float *out = variant_run(tables[t].attention, &q, &(variant){0});
        assert_true(worst_error(&q, out) < 2e-3); /* scores of 1e4 carry 1e-3 of rounding */
        free(out);
        sequence_free(&q);
    }
}

static void attention_without_keys_gives_zeros(void **state)
{
    (void)state;
    kernel_table tables[N_TABLES];
    kernel_tables(tables);
    for (size_t t = 0; t < N_TABLES; t++) {
        if (!tables[t].available) continue;
        float q[16] = {1.0f}, out[16];
        for (int i = 0; i < 16; i++) out[i] = 5.0f;
        const int32_t positions[1] = {0};
        const uint32_t key_rows[1] = {0};
        const pr_span span = {0, 1, 0, 0};
        const pr_attention a = {.q = q,
                                .ldq = 16,
                                .k = q,
                                .ldk = 16,
                                .v = q,
                                .ldv = 16,
                                .query_positions = positions,
                                .key_rows = key_rows,
                                .spans = &span,
                                .n_spans = 1,
                                .n_heads = 1,
                                .n_kv_heads = 1,
                                .head_dim = 16,
                                .scale = 1.0f,
                                .out = out,
                                .ldout = 16};
        attention_run(tables[t].attention, &a, 1, 0);
        for (int i = 0; i < 16; i++) assert_true(out[i] == 0.0f);
    }
}

/* Given spans of any size, when they are planned, then every query is in exactly one block. */
static void plan_covers_every_query_once(void **state)
{
    (void)state;
    rng r = {3};
    for (int round = 0; round < 200; round++) {
        pr_span spans[20];
        uint32_t n_queries = 0;
        const int n_spans = 1 + (int)(rng_u32(&r) % 20);
        for (int i = 0; i < n_spans; i++) {
            const uint32_t n = rng_u32(&r) % (round % 3 ? 40 : 1500);
            spans[i] = (pr_span){n_queries, n, 0, n};
            n_queries += n;
        }
        const int32_t kv = 1 + (int32_t)(rng_u32(&r) % 3), group = 1 + (int32_t)(rng_u32(&r) % 200);
        const pr_attention a = {
            .spans = spans, .n_spans = n_spans, .n_heads = kv * group, .n_kv_heads = kv};
        pr_cpu_attention_block *blocks =
            calloc((size_t)pr_cpu_attention_n_blocks_max(&a) + 1, sizeof *blocks);
        uint8_t *seen = calloc(n_queries + 1, 1);
        const int64_t n = pr_cpu_attention_plan(&a, 1 + (int)(rng_u32(&r) % 64), blocks);
        assert_in_range(n, 0, pr_cpu_attention_n_blocks_max(&a));
        for (int64_t b = 0; b < n; b++) {
            const uint32_t count = blocks[b].query_count;
            assert_true(count >= 1);
            assert_true(count == 1 || count * (uint32_t)group <= PR_CPU_ATTENTION_ROWS_MAX);
            for (uint32_t i = 0; i < count; i++) {
                const uint32_t row = blocks[b].query_begin + i;
                const pr_span *s = &spans[blocks[b].i_span];
                assert_in_range(row, s->query_begin, s->query_begin + s->query_count - 1);
                assert_int_equal(seen[row]++, 0);
            }
        }
        for (uint32_t i = 0; i < n_queries; i++) assert_int_equal(seen[i], 1);
        free(seen);
        free(blocks);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_is_the_formula_over_odd_shapes),
        cmocka_unit_test(attention_rows_do_not_depend_on_their_company),
        cmocka_unit_test(attention_of_a_prefix_does_not_see_what_follows),
        cmocka_unit_test(attention_over_many_equal_keys_is_their_value),
        cmocka_unit_test(attention_survives_scores_far_apart),
        cmocka_unit_test(attention_without_keys_gives_zeros),
        cmocka_unit_test(plan_covers_every_query_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
