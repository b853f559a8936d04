/* kernels/cpu/attention_c.c: attention.h in plain C: the fallback on any processor, and the judge
 * of the vector versions. One query row and head after the other, one key tile after the other. */
#include "kernels/cpu/attention.h"
#include "kernels/cpu/attention_rows.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { TILE = PR_CPU_ATTENTION_TILE, LANES = 8 };

/* What a thread needs for one block, in floats: the tile's keys, transposed, and values, and for
 * each row of the block the state of its online softmax. head_dim is padded to LANES. */
typedef struct layout {
    int64_t dim_padded;
    float *keys;   /* [head_dim, TILE] */
    float *values; /* [TILE, dim_padded] */
    float *out;    /* [n_rows, dim_padded]: sum of p v so far */
    float *top;    /* [n_rows]: largest score so far */
    float *total;  /* [n_rows]: sum of p so far */
} layout;

static int64_t rows_max(int64_t group)
{
    return group > PR_CPU_ATTENTION_ROWS_MAX ? group : PR_CPU_ATTENTION_ROWS_MAX;
}

static layout layout_make(float *scratch, int64_t head_dim, int64_t group)
{
    layout l = {.dim_padded = (head_dim + LANES - 1) / LANES * LANES, .keys = scratch};
    l.values = l.keys + head_dim * TILE;
    l.out = l.values + TILE * l.dim_padded;
    l.top = l.out + rows_max(group) * l.dim_padded;
    l.total = l.top + rows_max(group);
    return l;
}

static size_t scratch_bytes(int32_t head_dim, int32_t n_heads, int32_t n_kv_heads)
{
    const int64_t group = n_heads / n_kv_heads;
    const int64_t dim_padded = ((int64_t)head_dim + LANES - 1) / LANES * LANES;
    const int64_t n_floats = TILE * (head_dim + dim_padded) + rows_max(group) * (dim_padded + 2);
    return (size_t)n_floats * sizeof(float);
}

/* Keys beyond n_keys become zeros; no row sees them. */
static void pack_tile(const pr_attention *a, const uint32_t *key_rows, int32_t n_keys,
                      int64_t column, const layout *l)
{
    const int64_t dim = a->head_dim;
    memset(l->keys, 0, (size_t)(dim * TILE) * sizeof(float));
    memset(l->values, 0, (size_t)(TILE * l->dim_padded) * sizeof(float));
    for (int32_t j = 0; j < n_keys; j++) {
        const float *k = (const float *)a->k + key_rows[j] * a->ldk + column;
        const float *v = (const float *)a->v + key_rows[j] * a->ldv + column;
        for (int64_t d = 0; d < dim; d++) l->keys[d * TILE + j] = k[d];
        memcpy(l->values + j * l->dim_padded, v, (size_t)dim * sizeof(float));
    }
}

/* score[j] = sum_d (q[d] scale) k[j, d], d in order. The loop over j is the inner one, so that a
 * compiler can take several j at once without touching the order of any sum. */
static void tile_scores(const float *q, float scale, int64_t dim, const float *keys, float *score)
{
    for (int64_t j = 0; j < TILE; j++) score[j] = 0.0f;
    for (int64_t d = 0; d < dim; d++) {
        const float qd = q[d] * scale;
        const float *k = keys + d * TILE;
        for (int64_t j = 0; j < TILE; j++) score[j] += qd * k[j];
    }
}

/* out = out shrink + sum_j p[j] v[j] over the keys seen, j in order, the sum from zero: see
 * attention_impl.h. */
static void tile_values(const float *p, key_range seen, float shrink, const layout *l, float *out)
{
    for (int64_t d = 0; d < l->dim_padded; d += LANES) {
        float sum[LANES] = {0};
        for (int32_t j = seen.begin; j < seen.end; j++) {
            const float *v = l->values + j * l->dim_padded + d;
            for (int64_t i = 0; i < LANES; i++) sum[i] += p[j] * v[i];
        }
        for (int64_t i = 0; i < LANES; i++) out[d + i] = out[d + i] * shrink + sum[i];
    }
}

/* One step of the online softmax (Milakov and Gimelshein 2018, arXiv:1805.02867):
 *
 *     top' = max(top, max_j score[j])        p[j] = exp(score[j] - top')
 *     total' = total exp(top - top') + sum_j p[j],   out' likewise with p[j] v[j] */
static void tile_step(const float *q, float scale, int64_t dim, key_range seen, const layout *l,
                      int64_t row)
{
    float score[TILE];
    tile_scores(q, scale, dim, l->keys, score);
    float top = l->top[row];
    for (int32_t j = seen.begin; j < seen.end; j++) top = score[j] > top ? score[j] : top;
    const float shrink = expf(l->top[row] - top);
    float sum = 0.0f;
    for (int32_t j = seen.begin; j < seen.end; j++) {
        score[j] = expf(score[j] - top);
        sum += score[j];
    }
    l->top[row] = top;
    l->total[row] = l->total[row] * shrink + sum;
    tile_values(score, seen, shrink, l, l->out + row * l->dim_padded);
}

/* The positions that any row of the block sees. */
static key_range block_keys(const pr_attention *a, const pr_span *span,
                            const pr_cpu_attention_block *block)
{
    key_range all = {INT32_MAX, 0};
    for (uint32_t i = 0; i < block->query_count; i++) {
        const key_range one = visible_keys(a, span, block->query_begin + i);
        if (one.begin < all.begin) all.begin = one.begin;
        if (one.end > all.end) all.end = one.end;
    }
    return all;
}

static void finish_row(const float *sum, float total, int64_t dim, float *out)
{
    for (int64_t d = 0; d < dim; d++) out[d] = total == 0.0f ? 0.0f : sum[d] / total;
}

/* Scores in f32 over head_dim in order, values in f32 over keys in order, products rounded (no
 * fused multiply-add). Against f64: 3e-6 for values up to 1 (test_attention.c). */
static void run(const pr_attention *a, const pr_cpu_attention_block *block, int32_t kv_head,
                void *scratch)
{
    const pr_span *span = &a->spans[block->i_span];
    const int64_t group = a->n_heads / a->n_kv_heads, dim = a->head_dim;
    const int64_t column = kv_head * group * dim;
    const int64_t n_rows = block->query_count * group; /* row: query * group + head of the group */
    assert(n_rows <= rows_max(group));
    const layout l = layout_make(scratch, dim, group);
    memset(l.out, 0, (size_t)(n_rows * l.dim_padded) * sizeof(float));
    for (int64_t row = 0; row < n_rows; row++) {
        l.top[row] = -INFINITY;
        l.total[row] = 0.0f;
    }
    const key_range all = block_keys(a, span, block);
    for (int32_t tile = all.begin / TILE * TILE; tile < all.end; tile += TILE) {
        const int32_t n_keys = all.end - tile < TILE ? all.end - tile : TILE;
        pack_tile(a, a->key_rows + span->key_begin + tile, n_keys, kv_head * dim, &l);
        for (int64_t row = 0; row < n_rows; row++) {
            const uint32_t query = block->query_begin + (uint32_t)(row / group);
            const key_range seen = keys_in_tile(visible_keys(a, span, query), tile, TILE);
            if (seen.begin == seen.end) continue;
            const float *q = (const float *)a->q + query * a->ldq + column + row % group * dim;
            tile_step(q, a->scale, dim, seen, &l, row);
        }
    }
    for (int64_t row = 0; row < n_rows; row++) {
        const int64_t query = block->query_begin + row / group;
        finish_row(l.out + row * l.dim_padded, l.total[row], dim,
                   (float *)a->out + query * a->ldout + column + row % group * dim);
    }
}

const pr_cpu_attention pr_cpu_attention_c = {
    .name = "c",
    .scratch_bytes = scratch_bytes,
    .run = run,
};
