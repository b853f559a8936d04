/* kernels/cpu/attention_impl.h: the vector form of attention.h, written once.
 *
 * Included by attention_avx2.c and attention_avx512.c after the vector names and with VECS defined:
 * how many vectors wide the register tiles are. Everything is static, the including file makes the
 * table.
 *
 *     out[i] = sum_j p[i, j] v[j]
 *     p[i, j] = exp(s[i, j] - max_j s[i, j]) / sum_j exp(...),   s[i, j] = (scale q[i]) k[j]
 *
 * A task takes the rows (query x head of the group) of a block through the key tiles, with the
 * online softmax of Milakov and Gimelshein 2018, arXiv:1805.02867, tiled as in Dao et al. 2022,
 * arXiv:2205.14135. For a tile, keys and values are packed once and serve all rows; the rows pass
 * in panels of MR, whose scores stay in the first-level cache:
 *
 *              keys, transposed           score              values
 *         d  [ TILE keys ...... ]     [ MR x TILE ]     j  [ dim, padded ..... ]
 *         |  | VECS vectors |                           |  | VECS vectors |
 *     q[d][MR] -> MR x VECS sums -> softmax -> p[MR][j] -> MR x VECS sums -> out[MR][dim]
 *
 * Order of every sum (it depends on the row's own position only, see attention.h): a score is one
 * chain of fused multiply-adds over d; p sums up in VF_LANES lanes, vector after vector; out gets
 * one chain over j per tile, from zero, and only over keys that the row sees: where the rows of a
 * panel see different keys, the keys that all see go through the MR-row kernel, the others row by
 * row, with the same chain. (One chain over all tiles was 4.3e-5 off for 20,000 keys of like weight
 * and value, which round the same way each; tile by tile it is 2.4e-7, at the same speed.)
 *
 * Against f64: 3e-6 for values up to 1 and head_dim up to 256 (test_attention.c; the largest seen
 * is 2.1e-6, plain C's is 1.6e-6: scores are f32). What each width reaches is in its own file. */
#include "kernels/cpu/attention.h"
#include "kernels/cpu/attention_rows.h"
#include "kernels/cpu/vmath.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum {
    TILE = PR_CPU_ATTENTION_TILE,
    MR = 6,
    Q_ROWS = 8,       /* MR, rounded up to what a transpose writes */
    PANEL_FLOATS = 16 /* MR, rounded up to whole vectors of any width */
};

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif
#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* A thread's scratch, cut up for one block. */
typedef struct layout {
    int64_t dim;
    int64_t dim_padded; /* to whole vectors */
    float *q;           /* [n_panels][dim][Q_ROWS], scaled; rows beyond the real ones are 0 */
    float *out;         /* [n_panels][MR][dim_padded] */
    float *part;        /* [MR][dim_padded]: of one tile, where a panel's rows see different keys */
    float *total;       /* [n_panels][MR][VF_LANES]: sum of p by lane */
    float *top;         /* [n_panels][PANEL_FLOATS]: largest score so far */
    float *keys;        /* [dim][TILE] */
    float *values;      /* [TILE][dim_padded] */
    key_range *seen;    /* [n_panels][MR]; rows that pad repeat the last row */
} layout;

static int64_t panels_max(int64_t group)
{
    const int64_t rows = group > PR_CPU_ATTENTION_ROWS_MAX ? group : PR_CPU_ATTENTION_ROWS_MAX;
    return (rows + MR - 1) / MR;
}

static int64_t round_up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* Floats and ranges from `at` on, each part on a 64-byte border; returns the end. scratch may be
 * NULL when only the size is asked for. */
static size_t layout_make(layout *l, char *scratch, int64_t dim, int64_t group)
{
    const int64_t panels = panels_max(group), padded = round_up(dim, VF_LANES);
    const struct {
        float **part;
        int64_t n;
    } parts[] = {
        {&l->q, panels * dim * Q_ROWS},
        {&l->out, panels * MR * padded},
        {&l->part, MR * padded},
        {&l->total, panels * MR * VF_LANES},
        {&l->top, panels * PANEL_FLOATS},
        {&l->keys, dim * TILE},
        {&l->values, TILE * padded},
    };
    size_t at = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i].part = scratch ? (float *)(void *)(scratch + at) : NULL;
        at += (size_t)round_up(parts[i].n, 16) * sizeof(float);
    }
    l->seen = scratch ? (key_range *)(void *)(scratch + at) : NULL;
    l->dim = dim;
    l->dim_padded = padded;
    return at + (size_t)round_up(panels * MR, 8) * sizeof(key_range);
}

static size_t scratch_bytes(int32_t head_dim, int32_t n_heads, int32_t n_kv_heads)
{
    assert(head_dim >= 1 && head_dim <= PR_CPU_ATTENTION_HEAD_DIM_MAX);
    layout l;
    return layout_make(&l, NULL, head_dim, n_heads / n_kv_heads);
}

/* 8 rows of at most 8 floats to 8 columns: dst[i * ld + r] = src[r][i] * scale, i < n. */
ALWAYS_INLINE void transpose_8(const float *const src[8], int64_t n, float scale, float *dst,
                               int64_t ld)
{
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(n < 8 ? n : 8)), lanes);
    __m256 r[8], t[8], column[8];
    UNROLL
    for (int i = 0; i < 8; i++) r[i] = _mm256_maskload_ps(src[i], mask);
    UNROLL
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    UNROLL
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xEE);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        column[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
        column[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
    }
    UNROLL
    for (int i = 0; i < 8; i++) {
        if (i < n) _mm256_storeu_ps(dst + i * ld, _mm256_mul_ps(column[i], _mm256_set1_ps(scale)));
    }
}

static const float zeros[PR_CPU_ATTENTION_HEAD_DIM_MAX];

/* Panels of MR rows, scaled and transposed; row r of the block is head r % group of query r /
 * group. Vectors, since this is where the rows of q are met for the first time: 8 of them at once
 * hide the way to memory (a loop over elements took 18 % of MiniLM's attention at length 128, this
 * 5 %). */
static void pack_queries(const pr_attention *a, uint32_t query_begin, int64_t column, int64_t group,
                         int64_t n_rows, const layout *l)
{
    for (int64_t first = 0; first < n_rows; first += MR) {
        const float *src[Q_ROWS], *at[Q_ROWS];
        for (int64_t r = 0; r < Q_ROWS; r++) {
            const int64_t row = first + r, query = query_begin + row / group;
            src[r] = zeros;
            if (r < MR && row < n_rows) {
                src[r] = (const float *)a->q + query * a->ldq + column + row % group * l->dim;
            }
        }
        float *dst = l->q + first / MR * l->dim * Q_ROWS;
        for (int64_t d = 0; d < l->dim; d += 8) {
            for (int r = 0; r < Q_ROWS; r++) at[r] = src[r] + d;
            transpose_8(at, l->dim - d, a->scale, dst + d * Q_ROWS, Q_ROWS);
        }
    }
}

/* Keys that fill the last vector are zeros; no row sees them. */
static void pack_keys(const pr_attention *a, const uint32_t *key_rows, int64_t n_keys,
                      int64_t column, const layout *l)
{
    for (int64_t j = 0; j < round_up(n_keys, VF_LANES); j += 8) {
        for (int64_t d = 0; d < l->dim; d += 8) {
            const float *src[8];
            for (int64_t i = 0; i < 8; i++) {
                const float *row = zeros;
                if (j + i < n_keys) row = (const float *)a->k + key_rows[j + i] * a->ldk + column;
                src[i] = row + d;
            }
            transpose_8(src, l->dim - d, 1.0f, l->keys + d * TILE + j, TILE);
        }
    }
}

static void pack_values(const pr_attention *a, const uint32_t *key_rows, int64_t n_keys,
                        int64_t column, const layout *l)
{
    const int64_t n_padding = l->dim_padded - l->dim;
    for (int64_t j = 0; j < n_keys; j++) {
        float *dst = l->values + j * l->dim_padded;
        memcpy(dst, (const float *)a->v + key_rows[j] * a->ldv + column,
               (size_t)l->dim * sizeof(float));
        if (n_padding) memset(dst + l->dim, 0, (size_t)n_padding * sizeof(float));
    }
}

/* score[r][c] = sum_d q[d][r] keys[d][c] for n_rows rows and n_vecs vectors of keys: a register
 * tile of n_rows x n_vecs accumulators, d in order. */
ALWAYS_INLINE void score_tile(int n_rows, int n_vecs, const float *q, const float *keys,
                              int64_t dim, float *score)
{
    vf acc[MR][VECS];
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        UNROLL
        for (int c = 0; c < n_vecs; c++) acc[r][c] = vf_zero();
    }
    for (int64_t d = 0; d < dim; d++, q += Q_ROWS, keys += TILE) {
        vf k[VECS];
        UNROLL
        for (int c = 0; c < n_vecs; c++) k[c] = vf_load(keys + c * VF_LANES);
        UNROLL
        for (int r = 0; r < n_rows; r++) {
            const vf qr = vf_set1(q[r]);
            UNROLL
            for (int c = 0; c < n_vecs; c++) acc[r][c] = vf_fma(qr, k[c], acc[r][c]);
        }
    }
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        UNROLL
        for (int c = 0; c < n_vecs; c++) vf_store(score + r * TILE + c * VF_LANES, acc[r][c]);
    }
}

/* sum[r][c] = sum_j p[r][j] values[j][c], j = begin .. end-1 in order, for n_rows rows and n_vecs
 * vectors of columns. shrink NULL: the chain goes on from out, and back to it. Else it begins at
 * zero, and out[r][c] = out[r][c] shrink[r] + sum[r][c]. */
ALWAYS_INLINE void value_tile(int n_rows, int n_vecs, const float *p, const float *shrink,
                              const float *values, key_range keys, int64_t dim_padded, float *out)
{
    vf acc[MR][VECS];
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        UNROLL
        for (int c = 0; c < n_vecs; c++) {
            acc[r][c] = shrink ? vf_zero() : vf_load(out + r * dim_padded + c * VF_LANES);
        }
    }
    const float *v_row = values + keys.begin * dim_padded;
    for (int64_t j = keys.begin; j < keys.end; j++, v_row += dim_padded) {
        vf v[VECS];
        UNROLL
        for (int c = 0; c < n_vecs; c++) v[c] = vf_load(v_row + c * VF_LANES);
        UNROLL
        for (int r = 0; r < n_rows; r++) {
            const vf pr = vf_set1(p[r * TILE + j]);
            UNROLL
            for (int c = 0; c < n_vecs; c++) acc[r][c] = vf_fma(pr, v[c], acc[r][c]);
        }
    }
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        UNROLL
        for (int c = 0; c < n_vecs; c++) {
            float *to = out + r * dim_padded + c * VF_LANES;
            vf_store(to, shrink ? vf_fma(vf_load(to), vf_set1(shrink[r]), acc[r][c]) : acc[r][c]);
        }
    }
}

/* The kernels that exist: one row or MR rows, 1 to VECS vectors, each a function of its own so that
 * its registers are its own too. */
typedef void score_kernel(const float *q, const float *keys, int64_t dim, float *score);
typedef void value_kernel(const float *p, const float *shrink, const float *values, key_range keys,
                          int64_t dim_padded, float *out);

#define KERNELS(rows, vecs)                                                                        \
    static void score_##rows##_##vecs(const float *q, const float *keys, int64_t dim,              \
                                      float *score)                                                \
    {                                                                                              \
        score_tile(rows, vecs, q, keys, dim, score);                                               \
    }                                                                                              \
    static void value_##rows##_##vecs(const float *p, const float *shrink, const float *values,    \
                                      key_range keys, int64_t dim_padded, float *out)              \
    {                                                                                              \
        value_tile(rows, vecs, p, shrink, values, keys, dim_padded, out);                          \
    }

KERNELS(1, 1)
KERNELS(1, 2)
KERNELS(MR, 1)
KERNELS(MR, 2)
#if VECS == 4
KERNELS(1, 3)
KERNELS(1, 4)
KERNELS(MR, 3)
KERNELS(MR, 4)
#endif

/* [one row, MR rows][number of vectors - 1] */
static score_kernel *const score_kernels[2][VECS] = {
#if VECS == 4
    {score_1_1, score_1_2, score_1_3, score_1_4},
    {score_MR_1, score_MR_2, score_MR_3, score_MR_4},
#else
    {score_1_1, score_1_2},
    {score_MR_1, score_MR_2},
#endif
};
static value_kernel *const value_kernels[2][VECS] = {
#if VECS == 4
    {value_1_1, value_1_2, value_1_3, value_1_4},
    {value_MR_1, value_MR_2, value_MR_3, value_MR_4},
#else
    {value_1_1, value_1_2},
    {value_MR_1, value_MR_2},
#endif
};

/* Scores of a panel against the keys of the tile from vector vec_begin to vec_end - 1. n_rows: 1 or
 * MR, as below. */
static void panel_scores(int n_rows, const float *q, const layout *l, int vec_begin, int vec_end,
                         float *score)
{
    for (int c = vec_begin; c < vec_end; c += VECS) {
        const int n_vecs = vec_end - c < VECS ? vec_end - c : VECS;
        score_kernels[n_rows > 1][n_vecs - 1](q, l->keys + c * VF_LANES, l->dim,
                                              score + c * VF_LANES);
    }
}

/* p, shrink and out point to the first of the n_rows rows; shrink NULL as in value_tile. */
static void rows_values(int n_rows, const float *p, const float *shrink, const layout *l,
                        key_range keys, float *out)
{
    const int n_all = (int)(l->dim_padded / VF_LANES);
    for (int c = 0; c < n_all; c += VECS) {
        const int n_vecs = n_all - c < VECS ? n_all - c : VECS;
        value_kernels[n_rows > 1][n_vecs - 1](p, shrink, l->values + c * VF_LANES, keys,
                                              l->dim_padded, out + c * VF_LANES);
    }
}

/* The largest score of a row among the keys that it sees, at least `top`; the other lanes of the
 * vectors that it looks at become minus infinity. A NaN is passed over here; it comes back with
 * exp. */
static float row_top(float *score, key_range seen, float top)
{
    vf m = vf_set1(-INFINITY);
    for (int32_t c = seen.begin / VF_LANES * VF_LANES; c < seen.end; c += VF_LANES) {
        vf s = vf_load(score + c);
        if (c < seen.begin || c + VF_LANES > seen.end) {
            const int32_t skip = seen.begin > c ? seen.begin - c : 0;
            const int32_t stop = seen.end - c < VF_LANES ? seen.end - c : VF_LANES;
            s = vf_select(vm_andnot(vm_first(skip), vm_first(stop)), s, vf_set1(-INFINITY));
            vf_store(score + c, s);
        }
        m = vf_max(s, m);
    }
    const float largest = vf_max_lane(m);
    return largest > top ? largest : top;
}

/* Scores to p = exp(score - top), in place; adds them to the row's lanes of total. Lanes at minus
 * infinity become exactly 0. */
static void row_exp(float *score, key_range seen, float top, float shrink, float *total)
{
    const vf m = vf_set1(top);
    vf sum = vf_zero();
    for (int32_t c = seen.begin / VF_LANES * VF_LANES; c < seen.end; c += VF_LANES) {
        vf p = vf_exp_flushed(vf_sub(vf_load(score + c), m));
        vf_store(score + c, p);
        sum = vf_add(sum, p);
    }
    vf_store(total, vf_fma(vf_load(total), vf_set1(shrink), sum));
}

/* One step of the online softmax for each row of a panel that sees keys of the tile; shrink[r] is
 * what its sums so far are to be multiplied with. */
static void panel_softmax(int n_rows, const key_range *seen, float *score, float *top, float *total,
                          float *shrink)
{
    float before[PANEL_FLOATS];
    memcpy(before, top, sizeof before);
    for (int r = 0; r < n_rows; r++) {
        if (seen[r].end > 0) top[r] = row_top(score + r * TILE, seen[r], top[r]);
    }
    for (int i = 0; i < MR; i += VF_LANES) {
        vf_store(shrink + i, vf_exp_flushed(vf_sub(vf_load(before + i), vf_load(top + i))));
    }
    for (int r = 0; r < n_rows; r++) {
        if (seen[r].end == 0) continue;
        row_exp(score + r * TILE, seen[r], top[r], shrink[r], total + r * VF_LANES);
    }
}

/* The keys that every row sees; empty when begin >= end. */
static key_range range_common(const key_range *seen, int n_rows)
{
    key_range common = seen[0];
    for (int r = 1; r < n_rows; r++) {
        if (seen[r].begin > common.begin) common.begin = seen[r].begin;
        if (seen[r].end < common.end) common.end = seen[r].end;
    }
    return common;
}

/* out = out shrink + part */
static void row_fold(const float *part, float shrink, int64_t dim_padded, float *out)
{
    const vf f = vf_set1(shrink);
    for (int64_t d = 0; d < dim_padded; d += VF_LANES) {
        vf_store(out + d, vf_fma(vf_load(out + d), f, vf_load(part + d)));
    }
}

/* Rows that see different keys: each one's chain runs in l->part, in up to three pieces. */
static void panel_values_apart(int n_rows, const key_range *seen, key_range common, const float *p,
                               const float *shrink, const layout *l, float *out)
{
    const int64_t ld = l->dim_padded;
    memset(l->part, 0, (size_t)(n_rows * ld) * sizeof(float));
    for (int r = 0; r < n_rows; r++) {
        if (seen[r].begin == common.begin) continue;
        const key_range before = {seen[r].begin, common.begin};
        rows_values(1, p + r * TILE, NULL, l, before, l->part + r * ld);
    }
    rows_values(n_rows, p, NULL, l, common, l->part);
    for (int r = 0; r < n_rows; r++) {
        if (seen[r].end != common.end) {
            const key_range after = {common.end, seen[r].end};
            rows_values(1, p + r * TILE, NULL, l, after, l->part + r * ld);
        }
        row_fold(l->part + r * ld, shrink[r], ld, out + r * ld);
    }
}

static void panel_values(int n_rows, const key_range *seen, const float *p, const float *shrink,
                         const layout *l, float *out)
{
    const int64_t ld = l->dim_padded;
    const key_range common = range_common(seen, n_rows);
    if (common.begin >= common.end) {
        for (int r = 0; r < n_rows; r++) {
            if (seen[r].end == 0) continue;
            rows_values(1, p + r * TILE, shrink + r, l, seen[r], out + r * ld);
        }
        return;
    }
    bool is_same = true;
    for (int r = 0; r < n_rows; r++) {
        is_same = is_same && seen[r].begin == common.begin && seen[r].end == common.end;
    }
    if (is_same) {
        rows_values(n_rows, p, shrink, l, common, out);
    } else {
        panel_values_apart(n_rows, seen, common, p, shrink, l, out);
    }
}

/* One panel against one tile. n_rows: 1 or MR. */
static void panel_step(const layout *l, int64_t i_panel, int n_rows, int32_t tile)
{
    key_range seen[MR];
    int32_t begin = TILE, end = 0;
    for (int r = 0; r < n_rows; r++) {
        seen[r] = keys_in_tile(l->seen[i_panel * MR + r], tile, TILE);
        if (seen[r].end == 0) continue;
        if (seen[r].begin < begin) begin = seen[r].begin;
        if (seen[r].end > end) end = seen[r].end;
    }
    if (end == 0) return;
    float score[MR * TILE] __attribute__((aligned(64)));
    float shrink[PANEL_FLOATS] __attribute__((aligned(64)));
    panel_scores(n_rows, l->q + i_panel * Q_ROWS * l->dim, l, begin / VF_LANES,
                 (end + VF_LANES - 1) / VF_LANES, score);
    panel_softmax(n_rows, seen, score, l->top + i_panel * PANEL_FLOATS,
                  l->total + i_panel * MR * VF_LANES, shrink);
    panel_values(n_rows, seen, score, shrink, l, l->out + i_panel * MR * l->dim_padded);
}

static void rows_begin(const pr_attention *a, const pr_cpu_attention_block *block, int64_t group,
                       int64_t n_rows, const layout *l)
{
    const pr_span *span = &a->spans[block->i_span];
    const int64_t n_panels = (n_rows + MR - 1) / MR;
    memset(l->out, 0, (size_t)(n_panels * MR * l->dim_padded) * sizeof(float));
    memset(l->total, 0, (size_t)(n_panels * MR * VF_LANES) * sizeof(float));
    for (int64_t i = 0; i < n_panels * PANEL_FLOATS; i++) l->top[i] = -INFINITY;
    for (int64_t row = 0; row < n_panels * MR; row++) {
        const int64_t real = row < n_rows ? row : n_rows - 1;
        l->seen[row] = visible_keys(a, span, block->query_begin + (uint32_t)(real / group));
    }
}

/* Divides by the sum of p; a row that saw no key becomes zeros. */
static void rows_end(const pr_attention *a, const pr_cpu_attention_block *block, int64_t column,
                     int64_t group, int64_t n_rows, const layout *l)
{
    for (int64_t row = 0; row < n_rows; row++) {
        const int64_t query = block->query_begin + row / group;
        const float total = vf_sum(vf_load(l->total + row * VF_LANES));
        const vf divisor = vf_set1(total == 0.0f ? 1.0f : total);
        const float *src = l->out + row * l->dim_padded;
        float *dst = (float *)a->out + query * a->ldout + column + row % group * l->dim;
        for (int64_t d = 0; d < l->dim; d += VF_LANES) {
            const vf o = vf_div(vf_load(src + d), divisor);
            if (l->dim - d >= VF_LANES)
                vf_store(dst + d, o);
            else
                vf_store_n(dst + d, l->dim - d, o);
        }
    }
}

static void run(const pr_attention *a, const pr_cpu_attention_block *block, int32_t kv_head,
                void *scratch)
{
    assert((uintptr_t)scratch % 64 == 0);
    const int64_t group = a->n_heads / a->n_kv_heads;
    const int64_t n_rows = block->query_count * group;
    const int64_t column = kv_head * group * a->head_dim;
    assert(n_rows > 0 && n_rows <= panels_max(group) * MR);
    layout l;
    layout_make(&l, scratch, a->head_dim, group);
    rows_begin(a, block, group, n_rows, &l);
    pack_queries(a, block->query_begin, column, group, n_rows, &l);

    int32_t begin = INT32_MAX, end = 0;
    for (int64_t r = 0; r < n_rows; r++) {
        if (l.seen[r].begin < begin) begin = l.seen[r].begin;
        if (l.seen[r].end > end) end = l.seen[r].end;
    }
    const uint32_t *key_rows = a->key_rows + a->spans[block->i_span].key_begin;
    for (int32_t tile = begin / TILE * TILE; tile < end; tile += TILE) {
        const int32_t n_keys = end - tile < TILE ? end - tile : TILE;
        pack_keys(a, key_rows + tile, n_keys, (int64_t)kv_head * l.dim, &l);
        pack_values(a, key_rows + tile, n_keys, (int64_t)kv_head * l.dim, &l);
        for (int64_t first = 0; first < n_rows; first += MR) {
            panel_step(&l, first / MR, n_rows - first == 1 ? 1 : MR, tile);
        }
    }
    rows_end(a, block, column, group, n_rows, &l);
}
