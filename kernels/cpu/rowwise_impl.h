/* kernels/cpu/rowwise_impl.h: the vector form of rowwise.h, written once.
 *
 * Included by rowwise_avx2.c and rowwise_avx512.c after the vector names (vmath_avx2.h or
 * vmath_avx512.h) and vmath.h; everything is static, the including file makes the table.
 *
 * Reductions over a row of `dim` elements go over 4 accumulators of VF_LANES lanes, whole groups of
 * 4 vectors first, then whole vectors, then the rest with the missing lanes 0; then one fixed tree.
 * The order depends on dim only. Elements are computed lane by lane: their place does not matter.
 */
#include "kernels/cpu/rowwise.h"
#include "kernels/cpu/vmath.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* A vector of a row, whole or the last n lanes of it. */
static inline vf load_part(const float *p, int64_t n)
{
    return n >= VF_LANES ? vf_load(p) : vf_load_n(p, n);
}

static inline void store_part(float *p, int64_t n, vf v)
{
    if (n >= VF_LANES)
        vf_store(p, v);
    else
        vf_store_n(p, n, v);
}

static float row_sum(const float *x, int64_t dim)
{
    vf a = vf_zero(), b = vf_zero(), c = vf_zero(), d = vf_zero();
    int64_t i = 0;
    for (; i + 4 * VF_LANES <= dim; i += 4 * VF_LANES) {
        a = vf_add(a, vf_load(x + i));
        b = vf_add(b, vf_load(x + i + VF_LANES));
        c = vf_add(c, vf_load(x + i + 2 * VF_LANES));
        d = vf_add(d, vf_load(x + i + 3 * VF_LANES));
    }
    for (; i + VF_LANES <= dim; i += VF_LANES) a = vf_add(a, vf_load(x + i));
    if (i < dim) b = vf_add(b, vf_load_n(x + i, dim - i));
    return vf_sum(vf_add(vf_add(a, b), vf_add(c, d)));
}

/* Sum of (x - shift)^2. */
static float row_sum_squares(const float *x, float shift, int64_t dim)
{
    const vf s = vf_set1(shift);
    vf a = vf_zero(), b = vf_zero(), c = vf_zero(), d = vf_zero();
    int64_t i = 0;
    for (; i + 4 * VF_LANES <= dim; i += 4 * VF_LANES) {
        vf t = vf_sub(vf_load(x + i), s);
        vf u = vf_sub(vf_load(x + i + VF_LANES), s);
        vf v = vf_sub(vf_load(x + i + 2 * VF_LANES), s);
        vf w = vf_sub(vf_load(x + i + 3 * VF_LANES), s);
        a = vf_fma(t, t, a);
        b = vf_fma(u, u, b);
        c = vf_fma(v, v, c);
        d = vf_fma(w, w, d);
    }
    for (; i + VF_LANES <= dim; i += VF_LANES) {
        vf t = vf_sub(vf_load(x + i), s);
        a = vf_fma(t, t, a);
    }
    if (i < dim) {
        vf t = vf_sub(vf_load_n(x + i, dim - i), s);
        t = vf_select(vm_first(dim - i), t, vf_zero());
        b = vf_fma(t, t, b);
    }
    return vf_sum(vf_add(vf_add(a, b), vf_add(c, d)));
}

/* LayerNorm  y[i] = (x[i] - mean) / sqrt(mean((x - mean)^2) + eps) * weight[i] + bias[i]
 *
 * Two passes over the row in f32, 4 x VF_LANES partial sums. Against f64: 1e-6 x max(1, |y|), plus
 * what rounding leaves of a mean that is large beside the deviation (test_rowwise.c holds both).
 * Source: Ba, Kiros, Hinton 2016, arXiv:1607.06450. */
static void layer_norm_row(const pr_norm_args *a, const float *x, float *y)
{
    const float mean = row_sum(x, a->dim) / (float)a->dim;
    const float variance = row_sum_squares(x, mean, a->dim) / (float)a->dim;
    const vf m = vf_set1(mean);
    const vf inverse = vf_set1(1.0f / sqrtf(variance + a->eps));
    for (int64_t i = 0; i < a->dim; i += VF_LANES) {
        const int64_t n = a->dim - i;
        vf v = vf_mul(vf_sub(load_part(x + i, n), m), inverse);
        vf w = load_part(a->weight + i, n);
        v = a->bias ? vf_fma(v, w, load_part(a->bias + i, n)) : vf_mul(v, w);
        store_part(y + i, n, v);
    }
}

/* RMSNorm  y[i] = weight[i] * (x[i] / sqrt(mean(x^2) + eps)); y may be x.
 *
 * Sum of squares in f32 over 4 x VF_LANES lanes, the root and the quotient correctly rounded.
 * Against f64: 1e-6 x max(1, |y|).
 * Source: Zhang and Sennrich 2019, arXiv:1910.07467. */
static void rms_norm_row(const float *x, const float *weight, float eps, int64_t dim, float *y)
{
    const float mean_square = row_sum_squares(x, 0.0f, dim) / (float)dim;
    const vf inverse = vf_set1(1.0f / sqrtf(mean_square + eps));
    for (int64_t i = 0; i < dim; i += VF_LANES) {
        const int64_t n = dim - i;
        vf v = vf_mul(load_part(x + i, n), inverse);
        store_part(y + i, n, vf_mul(load_part(weight + i, n), v));
    }
}

/* s = x + residual, into the row where it is wanted: sum, or the output's own. */
static void add_row(const float *x, const float *residual, int64_t dim, float *s)
{
    for (int64_t i = 0; i < dim; i += VF_LANES) {
        const int64_t n = dim - i;
        store_part(s + i, n, vf_add(load_part(x + i, n), load_part(residual + i, n)));
    }
}

/* RoPE, NeoX layout: with c, s = cos, sin of the position and j = i + head_dim / 2
 *
 *     x[i]' = x[i] c[i] - x[j] s[i]        x[j]' = x[j] c[i] + x[i] s[i]
 *
 * One product rounded, the other fused. Source: Su et al. 2021, arXiv:2104.09864. */
static void rotate_head(float *x, const float *cos_row, const float *sin_row, int64_t half)
{
    for (int64_t i = 0; i < half; i += VF_LANES) {
        const int64_t n = half - i;
        vf c = load_part(cos_row + i, n), s = load_part(sin_row + i, n);
        vf lo = load_part(x + i, n), hi = load_part(x + half + i, n);
        store_part(x + i, n, vf_fnma(hi, s, vf_mul(lo, c)));
        store_part(x + half + i, n, vf_fma(lo, s, vf_mul(hi, c)));
    }
}

#include "kernels/cpu/rowwise_rows.h"

/* Lanes c .. of row i of a table. */
static inline vf table_part(const pr_cpu_rows *t, int64_t i, int64_t c, int64_t n)
{
    const int64_t at = i * t->ld + c;
    if (t->dtype == PR_DTYPE_F32) return load_part((const float *)t->data + at, n);
    const uint16_t *p = (const uint16_t *)t->data + at;
    return n >= VF_LANES ? vf_load_bf16(p) : vf_load_bf16_n(p, n);
}

static void embed(const pr_cpu_embed *a, int64_t row_begin, int64_t row_end)
{
    for (int64_t i = row_begin; i < row_end; i++) {
        const int64_t type = a->types ? a->types[i] : 0;
        const int64_t token = a->tokens[i] - a->token_begin;
        const bool has_token = token >= 0 && token < a->n_token_rows;
        for (int64_t c = 0; c < a->dim; c += VF_LANES) {
            const int64_t n = a->dim - c;
            vf v = has_token ? table_part(&a->token, token, c, n) : vf_zero();
            if (a->type.data) v = vf_add(v, table_part(&a->type, type, c, n));
            if (a->position.data) v = vf_add(v, table_part(&a->position, a->positions[i], c, n));
            store_part(a->y + i * a->ldy + c, n, v);
        }
    }
}

/* One loop for each activation: `activation` is a constant in every copy of this body. */
static inline __attribute__((always_inline)) void
activate_all(pr_activation activation, const float *x, const float *up, float *y, int64_t n)
{
    int64_t i = 0;
    for (; i + VF_LANES <= n; i += VF_LANES) {
        vf v = vf_activate(activation, vf_load(x + i));
        vf_store(y + i, up ? vf_mul(v, vf_load(up + i)) : v);
    }
    if (i < n) {
        vf v = vf_activate(activation, vf_load_n(x + i, n - i));
        vf_store_n(y + i, n - i, up ? vf_mul(v, vf_load_n(up + i, n - i)) : v);
    }
}

static void activate_switch(pr_activation activation, const float *x, const float *up, float *y,
                            int64_t n)
{
    switch (activation) {
    case PR_ACTIVATION_NONE:
        activate_all(PR_ACTIVATION_NONE, x, up, y, n);
        break;
    case PR_ACTIVATION_GELU:
        activate_all(PR_ACTIVATION_GELU, x, up, y, n);
        break;
    case PR_ACTIVATION_GELU_TANH:
        activate_all(PR_ACTIVATION_GELU_TANH, x, up, y, n);
        break;
    case PR_ACTIVATION_RELU:
        activate_all(PR_ACTIVATION_RELU, x, up, y, n);
        break;
    case PR_ACTIVATION_SILU:
        activate_all(PR_ACTIVATION_SILU, x, up, y, n);
        break;
    case PR_ACTIVATION_TANH:
        activate_all(PR_ACTIVATION_TANH, x, up, y, n);
        break;
    case PR_ACTIVATION_SIGMOID:
        activate_all(PR_ACTIVATION_SIGMOID, x, up, y, n);
        break;
    }
}

static void activate(pr_activation activation, float *x, int64_t n)
{
    if (activation != PR_ACTIVATION_NONE) activate_switch(activation, x, NULL, x, n);
}

static void gated(pr_activation activation, const float *gate, const float *up, float *y, int64_t n)
{
    activate_switch(activation, gate, up, y, n);
}

static void gather(const float *x, int64_t ldx, const uint32_t *rows, int64_t row_begin,
                   int64_t row_end, int64_t dim, float *y, int64_t ldy)
{
    for (int64_t i = row_begin; i < row_end; i++) {
        memcpy(y + i * ldy, x + (int64_t)rows[i] * ldx, (size_t)dim * sizeof *y);
    }
}

/* Columns side by side in the lanes, rows in order: the plain C bits. */
static void mean(const float *x, int64_t ldx, const uint32_t *rows, int64_t n_rows,
                 int64_t column_begin, int64_t column_end, float *y)
{
    const vf count = vf_set1(n_rows > 0 ? (float)n_rows : 1.0f);
    for (int64_t c = column_begin; c < column_end; c += VF_LANES) {
        const int64_t n = column_end - c;
        vf sum = vf_zero(), lost = vf_zero();
        for (int64_t i = 0; i < n_rows; i++) {
            const vf part = vf_sub(load_part(x + (int64_t)rows[i] * ldx + c, n), lost);
            const vf next = vf_add(sum, part);
            lost = vf_sub(vf_sub(next, sum), part);
            sum = next;
        }
        store_part(y + c, n, vf_div(sum, count));
    }
}
