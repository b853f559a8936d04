/* attention_case.h: one attention problem, run on the device and compared with plain C in f64.
 *
 * Also for test_faults.cpp, which wants the verdict and not a failure: attention_run returns what
 * was wrong, or NULL. */
#ifndef SIMCUDA_ATTENTION_CASE_H
#define SIMCUDA_ATTENTION_CASE_H

#include "tests/simcuda/check.h"

typedef struct attention_case {
    int head_dim, n_heads, n_kv_heads;
    bool is_causal;
    int window;
    int n_segments;
    int lengths[6];
    int parents[6]; /* the segment whose keys, and its parents', come first; -1: none */
    pr_dtype dtype;
    bool out_is_f32;
    int slack; /* columns behind the rows of QKV and out */
} attention_case;

enum { ATTENTION_TOKENS_MAX = 1200, ATTENTION_KEYS_MAX = 4 * ATTENTION_TOKENS_MAX };

typedef struct attention_problem {
    int n_tokens, n_keys;
    pr_span spans[6];
    int begins[6]; /* first token of a segment */
    uint32_t key_rows[ATTENTION_KEYS_MAX];
    int32_t positions[ATTENTION_TOKENS_MAX];
    const void *qkv; /* [n_tokens, ldq] on the host: q heads, k heads, v heads */
    pr_cuda_attention a;
} attention_problem;

/* Rows of a segment's keys in position order: its parents' first. */
static inline int attention_keys(const attention_case *t, attention_problem *p, int segment, int at)
{
    if (t->parents[segment] >= 0) at = attention_keys(t, p, t->parents[segment], at);
    for (int i = 0; i < t->lengths[segment]; i++) {
        p->key_rows[at++] = (uint32_t)(p->begins[segment] + i);
    }
    return at;
}

/* Spans, keys and positions of the segments. */
static inline void attention_plan(const attention_case *t, attention_problem *p)
{
    for (int s = 0; s < t->n_segments; s++) {
        p->begins[s] = p->n_tokens;
        const int end = attention_keys(t, p, s, p->n_keys), n_all = end - p->n_keys;
        p->spans[s] = pr_span{(uint32_t)p->n_tokens, (uint32_t)t->lengths[s], (uint32_t)p->n_keys,
                              (uint32_t)n_all};
        for (int i = 0; i < t->lengths[s]; i++)
            p->positions[p->n_tokens + i] = n_all - t->lengths[s] + i;
        p->n_tokens += t->lengths[s];
        p->n_keys = end;
    }
}

static inline void attention_make(check *c, const attention_case *t, attention_problem *p)
{
    *p = attention_problem{};
    attention_plan(t, p);
    pr_cuda_attention *a = &p->a;
    const int64_t size = (int64_t)check_bytes(t->dtype);
    const int64_t q_width = t->n_heads * t->head_dim, kv_width = t->n_kv_heads * t->head_dim;
    a->ldq = a->ldk = a->ldv = q_width + 2 * kv_width + t->slack;
    a->ldout = q_width + t->slack;
    void *qkv;
    p->qkv = check_fill(c, t->dtype, p->n_tokens * a->ldq, &qkv);
    a->q = qkv;
    a->k = (unsigned char *)qkv + q_width * size;
    a->v = (unsigned char *)qkv + (q_width + kv_width) * size;
    a->query_positions = check_device(c, p->positions, p->n_tokens);
    a->key_rows = check_device(c, p->key_rows, p->n_keys);
    pr_cuda_tile tiles[256];
    a->n_tiles = pr_cuda_tiles(p->spans, t->n_segments, t->n_heads, t->n_kv_heads, NULL);
    assert_true(a->n_tiles <= 256);
    pr_cuda_tiles(p->spans, t->n_segments, t->n_heads, t->n_kv_heads, tiles);
    a->tiles = check_device(c, tiles, a->n_tiles);
    a->n_heads = t->n_heads;
    a->n_kv_heads = t->n_kv_heads;
    a->head_dim = t->head_dim;
    a->scale = 3.0f / sqrtf((float)t->head_dim); /* spread wider than a model's */
    a->is_causal = t->is_causal;
    a->window = t->window;
    a->out_is_f32 = t->out_is_f32;
    a->dtype = t->dtype;
    const int64_t n_out = p->n_tokens * a->ldout * (t->out_is_f32 ? 4 : size);
    a->out = check_device<unsigned char>(c, NULL, n_out);
}

/* Element d of head h of the row: heads of q, then k, then v. */
static inline double attention_get(const attention_case *t, const attention_problem *p, int64_t row,
                                   int h, int d)
{
    return check_get(p->qkv, t->dtype, row * p->a.ldq + h * t->head_dim + d);
}

/* One row of one head by the formula; weights: scratch of key_count. */
static inline void attention_row(const attention_case *t, const attention_problem *p, int segment,
                                 int query, int head, double *weights, double *out)
{
    const pr_span *s = &p->spans[segment];
    const int dim = t->head_dim, k = t->n_heads + head / (t->n_heads / t->n_kv_heads);
    const int v = k + t->n_kv_heads;
    int begin = 0, end = (int)s->key_count;
    if (t->is_causal) {
        if (p->positions[query] + 1 < end) end = p->positions[query] + 1;
        if (t->window > 0 && end - t->window > 0) begin = p->positions[query] + 1 - t->window;
    }
    double top = -INFINITY, total = 0;
    for (int j = begin; j < end; j++) {
        const int64_t row = p->key_rows[s->key_begin + (uint32_t)j];
        double sum = 0;
        for (int d = 0; d < dim; d++)
            sum += attention_get(t, p, query, head, d) * attention_get(t, p, row, k, d);
        weights[j] = sum * p->a.scale;
        top = fmax(top, weights[j]);
    }
    for (int d = 0; d < dim; d++) out[d] = 0;
    for (int j = begin; j < end; j++) {
        const int64_t row = p->key_rows[s->key_begin + (uint32_t)j];
        const double weight = exp(weights[j] - top);
        total += weight;
        for (int d = 0; d < dim; d++) out[d] += weight * attention_get(t, p, row, v, d);
    }
    for (int d = 0; d < dim; d++) out[d] = total > 0 ? out[d] / total : 0;
}

/* Of values below 1: rounding of p and out, or f32's of long sums. */
static inline double attention_bound(pr_dtype dtype)
{
    return dtype == PR_DTYPE_F32 ? 2e-6 : 1.2 * check_rounding(dtype);
}

/* NULL: row i of segment s is right, and what stands behind it is as it was. */
static inline const char *attention_compare(const attention_case *t, const attention_problem *p,
                                            const void *found, pr_dtype type, int s, int i, int h)
{
    static char wrong[256];
    static double weights[ATTENTION_KEYS_MAX];
    double out[256];
    const double bound = attention_bound(t->dtype);
    attention_row(t, p, s, p->begins[s] + i, h, weights, out);
    const int64_t row = (p->begins[s] + i) * p->a.ldout;
    for (int d = 0; d < t->head_dim; d++) {
        const double f = check_get(found, type, row + h * t->head_dim + d);
        if (fabs(f - out[d]) <= bound) continue;
        snprintf(wrong, sizeof wrong,
                 "head size %d, dtype %d, segment %d, row %d, head %d, column %d: found %g, "
                 "expected %g +- %g", t->head_dim, (int)t->dtype, s, i, h, d, f, out[d], bound);
        return wrong;
    }
    for (int d = 0; d < t->slack; d++)
        if (!isnan(check_get(found, type, row + t->n_heads * t->head_dim + d)))
            return "written behind a row";
    return NULL;
}

/* NULL: all is well. Every stride-th row is compared. */
static inline const char *attention_run(const pr_sim_config *config, const attention_case *t,
                                        int stride)
{
    static char wrong[256];
    static attention_problem p;
    check c;
    check_begin(&c, config, 21);
    attention_make(&c, t, &p);
    const cudaError_t e = pr_cuda_attention_launch(&p.a, device_arch(config), c.stream);
    if (e != cudaSuccess) {
        snprintf(wrong, sizeof wrong, "launch: error %d", (int)e);
        return wrong;
    }
    cudaStreamSynchronize(c.stream);
    const char *fault = device_fault();
    if (fault) return fault;
    const pr_dtype type = t->out_is_f32 ? PR_DTYPE_F32 : t->dtype;
    const size_t n_bytes = (size_t)(p.n_tokens * p.a.ldout) * check_bytes(type);
    unsigned char *found = check_host<unsigned char>(&c, (int64_t)n_bytes);
    cudaMemcpy(found, p.a.out, n_bytes, cudaMemcpyDeviceToHost);
    const char *message = NULL;
    for (int s = 0, n = 0; s < t->n_segments; s++) {
        for (int i = 0; i < t->lengths[s]; i++) {
            for (int h = 0; h < t->n_heads && !message; h++) {
                if (n++ % stride == 0)
                    message = attention_compare(t, &p, found, type, s, i, h);
            }
        }
    }
    check_end(&c);
    return message;
}

#endif
