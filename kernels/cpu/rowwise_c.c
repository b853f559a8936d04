/* kernels/cpu/rowwise_c.c: rowwise.h in plain C: the fallback on any processor, and the judge of
 * the vector versions. Sums in f64, in order; functions from libm. */
#include "kernels/cpu/rowwise.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* LayerNorm  y[i] = (x[i] - mean) / sqrt(mean((x - mean)^2) + eps) * weight[i] + bias[i]
 * Source: Ba, Kiros, Hinton 2016, arXiv:1607.06450. */
static void layer_norm_row(const pr_norm_args *a, const float *x, float *y)
{
    double sum = 0.0, squares = 0.0;
    for (int64_t i = 0; i < a->dim; i++) sum += x[i];
    const double mean = sum / (double)a->dim;
    for (int64_t i = 0; i < a->dim; i++) squares += (x[i] - mean) * (x[i] - mean);
    const double inverse = 1.0 / sqrt(squares / (double)a->dim + (double)a->eps);
    for (int64_t i = 0; i < a->dim; i++) {
        const double bias = a->bias ? a->bias[i] : 0.0;
        y[i] = (float)((x[i] - mean) * inverse * a->weight[i] + bias);
    }
}

/* RMSNorm  y[i] = weight[i] * (x[i] / sqrt(mean(x^2) + eps)); y may be x.
 * Source: Zhang and Sennrich 2019, arXiv:1910.07467. */
static void rms_norm_row(const float *x, const float *weight, float eps, int64_t dim, float *y)
{
    double squares = 0.0;
    for (int64_t i = 0; i < dim; i++) squares += (double)x[i] * x[i];
    const float inverse = (float)(1.0 / sqrt(squares / (double)dim + (double)eps));
    for (int64_t i = 0; i < dim; i++) y[i] = weight[i] * (x[i] * inverse);
}

/* s = x + residual, into the row where it is wanted: sum, or the output's own. */
static void add_row(const float *x, const float *residual, int64_t dim, float *s)
{
    for (int64_t i = 0; i < dim; i++) s[i] = x[i] + residual[i];
}

/* RoPE, NeoX layout: with c, s = cos, sin of the position and j = i + head_dim / 2
 *
 *     x[i]' = x[i] c[i] - x[j] s[i]        x[j]' = x[j] c[i] + x[i] s[i]
 *
 * Source: Su et al. 2021, arXiv:2104.09864. */
static void rotate_head(float *x, const float *cos_row, const float *sin_row, int64_t half)
{
    for (int64_t i = 0; i < half; i++) {
        const float lo = x[i], hi = x[half + i];
        x[i] = lo * cos_row[i] - hi * sin_row[i];
        x[half + i] = hi * cos_row[i] + lo * sin_row[i];
    }
}

#include "kernels/cpu/rowwise_rows.h"

static float table_at(const pr_cpu_rows *t, int64_t i, int64_t c)
{
    const int64_t at = i * t->ld + c;
    if (t->dtype == PR_DTYPE_F32) return ((const float *)t->data)[at];
    return pr_bf16_to_f32(((const uint16_t *)t->data)[at]);
}

static void embed(const pr_cpu_embed *a, int64_t row_begin, int64_t row_end)
{
    for (int64_t i = row_begin; i < row_end; i++) {
        const int64_t type = a->types ? a->types[i] : 0;
        const int64_t token = a->tokens[i] - a->token_begin;
        const bool has_token = token >= 0 && token < a->n_token_rows;
        for (int64_t c = 0; c < a->dim; c++) {
            float v = has_token ? table_at(&a->token, token, c) : 0.0f;
            if (a->type.data) v += table_at(&a->type, type, c);
            if (a->position.data) v += table_at(&a->position, a->positions[i], c);
            a->y[i * a->ldy + c] = v;
        }
    }
}

static float sigmoid_at(float x)
{
    const float e = expf(-fabsf(x));
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

/* gelu(x) = x/2 (1 + erf(x / sqrt 2)) = x/2 erfc(-x / sqrt 2); gelu_tanh(x) = x/2 (1 + tanh(u))
 * with u = sqrt(2/pi) (x + 0.044715 x^3); silu(x) = x sigmoid(x). All from Hendrycks and Gimpel
 * 2016, arXiv:1606.08415. */
static float activation_at(pr_activation activation, float x)
{
    switch (activation) {
    case PR_ACTIVATION_GELU:
        return 0.5f * x * erfcf(-0.707106781f * x);
    case PR_ACTIVATION_GELU_TANH:
        return x * sigmoid_at(1.59576912f * (x + 0.044715f * x * x * x));
    case PR_ACTIVATION_RELU:
        return x < 0.0f ? 0.0f : x;
    case PR_ACTIVATION_SILU:
        return x * sigmoid_at(x);
    case PR_ACTIVATION_TANH:
        return tanhf(x);
    case PR_ACTIVATION_SIGMOID:
        return sigmoid_at(x);
    case PR_ACTIVATION_NONE:
        break;
    }
    return x;
}

static void activate(pr_activation activation, float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) x[i] = activation_at(activation, x[i]);
}

static void gated(pr_activation activation, const float *gate, const float *up, float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = activation_at(activation, gate[i]) * up[i];
}

static void gather(const float *x, int64_t ldx, const uint32_t *rows, int64_t row_begin,
                   int64_t row_end, int64_t dim, float *y, int64_t ldy)
{
    for (int64_t i = row_begin; i < row_end; i++) {
        memcpy(y + i * ldy, x + (int64_t)rows[i] * ldx, (size_t)dim * sizeof *y);
    }
}

/* In f32, rows in order, as torch adds them: every version gives the same bits. */
static void mean(const float *x, int64_t ldx, const uint32_t *rows, int64_t n_rows,
                 int64_t column_begin, int64_t column_end, float *y)
{
    for (int64_t c = column_begin; c < column_end; c++) {
        float sum = 0.0f, lost = 0.0f;
        for (int64_t i = 0; i < n_rows; i++) {
            const float part = x[(int64_t)rows[i] * ldx + c] - lost, next = sum + part;
            lost = (next - sum) - part;
            sum = next;
        }
        y[c] = n_rows > 0 ? sum / (float)n_rows : 0.0f;
    }
}

const pr_cpu_rowwise pr_cpu_rowwise_c = {
    .name = "c",
    .norm = norm,
    .rope = rope,
    .embed = embed,
    .activate = activate,
    .gated = gated,
    .gather = gather,
    .mean = mean,
};
