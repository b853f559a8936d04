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
} attention_case;

enum { ATTENTION_TOKENS_MAX = 1200, ATTENTION_KEYS_MAX = 4 * ATTENTION_TOKENS_MAX };

typedef struct attention_problem {
    int n_tokens, n_keys, n_tiles;
    pr_span spans[6];
    int begins[6]; /* first token of a segment */
    uint32_t key_rows[ATTENTION_KEYS_MAX];
    int32_t positions[ATTENTION_TOKENS_MAX];
    const void *q, *k, *v;
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

static inline void attention_make(check *c, const attention_case *t, attention_problem *p)
{
    *p = attention_problem{};
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
    pr_cuda_attention *a = &p->a;
    a->ldq = t->n_heads * t->head_dim + 8;
    a->ldk = a->ldv = t->n_kv_heads * t->head_dim;
    a->ldout = t->n_heads * t->head_dim;
    void *q, *k, *v;
    p->q = check_fill(c, t->dtype, p->n_tokens * a->ldq, &q);
    p->k = check_fill(c, t->dtype, p->n_tokens * a->ldk, &k);
    p->v = check_fill(c, t->dtype, p->n_tokens * a->ldv, &v);
    a->q = q;
    a->k = k;
    a->v = v;
    a->query_positions = check_device(c, p->positions, p->n_tokens);
    a->key_rows = check_device(c, p->key_rows, p->n_keys);
    pr_cuda_tile tiles[256];
    a->n_tiles = (int32_t)pr_cuda_tiles(p->spans, t->n_segments, t->n_heads, t->n_kv_heads, NULL);
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
    const int64_t n_out = p->n_tokens * a->ldout * (t->out_is_f32 ? 4 : 2);
    a->out = check_device<unsigned char>(c, NULL, n_out);
}

/* One row of one head by the formula; weights: scratch of key_count. */
static inline void attention_row(const attention_case *t, const attention_problem *p, int segment,
                                 int query, int head, double *weights, double *out)
{
    const pr_span *s = &p->spans[segment];
    const int dim = t->head_dim, kv = head / (t->n_heads / t->n_kv_heads);
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
            sum += (double)check_get(p->q, t->dtype, query * p->a.ldq + head * dim + d) *
                   check_get(p->k, t->dtype, row * p->a.ldk + kv * dim + d);
        weights[j] = sum * p->a.scale;
        top = fmax(top, weights[j]);
    }
    for (int d = 0; d < dim; d++) out[d] = 0;
    for (int j = begin; j < end; j++) {
        const int64_t row = p->key_rows[s->key_begin + (uint32_t)j];
        const double weight = exp(weights[j] - top);
        total += weight;
        for (int d = 0; d < dim; d++)
            out[d] += weight * check_get(p->v, t->dtype, row * p->a.ldv + kv * dim + d);
    }
    for (int d = 0; d < dim; d++) out[d] = total > 0 ? out[d] / total : 0;
}

/* NULL: all is well. Every stride-th row is compared. */
static inline const char *attention_run(const pr_sim_config *config, const attention_case *t,
                                        int stride)
{
    static char wrong[256];
    static attention_problem p;
    static double weights[ATTENTION_KEYS_MAX];
    check c;
    check_begin(&c, config, 21);
    attention_make(&c, t, &p);
    const cudaError_t e = pr_cuda_attention_launch(&p.a, config->arch, c.stream);
    if (e != cudaSuccess) {
        snprintf(wrong, sizeof wrong, "launch: error %d", (int)e);
        return wrong;
    }
    cudaStreamSynchronize(c.stream);
    if (pr_sim_fault()) return pr_sim_fault();
    const pr_dtype type = t->out_is_f32 ? PR_DTYPE_F32 : t->dtype;
    const size_t n_bytes = (size_t)(p.n_tokens * p.a.ldout) * check_bytes(type);
    unsigned char *found = check_host<unsigned char>(&c, (int64_t)n_bytes);
    cudaMemcpy(found, p.a.out, n_bytes, cudaMemcpyDeviceToHost);
    const double bound = 1.2 * check_rounding(t->dtype); /* values are below 1 */
    wrong[0] = '\0';
    for (int s = 0, n = 0; s < t->n_segments && !wrong[0]; s++) {
        for (int i = 0; i < t->lengths[s] && !wrong[0]; i++) {
            for (int h = 0; h < t->n_heads && !wrong[0]; h++) {
                if (n++ % stride != 0) continue;
                double out[256];
                attention_row(t, &p, s, p.begins[s] + i, h, weights, out);
                for (int d = 0; d < t->head_dim; d++) {
                    const int64_t at = (p.begins[s] + i) * p.a.ldout + h * t->head_dim + d;
                    const double f = check_get(found, type, at);
                    if (!(fabs(f - out[d]) <= bound))
                        snprintf(wrong, sizeof wrong,
                                 "head size %d, segment %d, row %d, head %d, column %d: found %g, "
                                 "expected %g +- %g", t->head_dim, s, i, h, d, f, out[d], bound);
                }
            }
        }
    }
    check_end(&c);
    return wrong[0] ? wrong : NULL;
}

#endif
