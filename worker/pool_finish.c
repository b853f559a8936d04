#define _GNU_SOURCE
#include "worker/pool_finish.h"

#include "runtime/base/dtype.h"

#include <assert.h>
#include <math.h>
#include <string.h>

uint32_t pr_pool_finish_width(const pr_pooling *pooling, uint32_t n_width)
{
    if (pooling->n_returned_tokens > 0) n_width = (uint32_t)pooling->n_returned_tokens;
    uint32_t n_cut = (uint32_t)pooling->dimensions;
    return n_cut > 0 && n_cut < n_width ? n_cut : n_width;
}

/* exp(x - max) / sum, the maximum taken out first. */
static void softmax(float *x, uint32_t n)
{
    float max = x[0];
    for (uint32_t i = 1; i < n; i++) max = x[i] > max ? x[i] : max;
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        x[i] = expf(x[i] - max);
        sum += x[i];
    }
    for (uint32_t i = 0; i < n; i++) x[i] = (float)(x[i] / sum);
}

/* x / max(||x||_2, 1e-12): torch.nn.functional.normalize. */
static void l2_normalize(float *x, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    double norm = sqrt(sum);
    if (norm < 1e-12) norm = 1e-12;
    for (uint32_t i = 0; i < n; i++) x[i] = (float)(x[i] / norm);
}

/* The first n values of the normalized row. */
static void scale_to_whole(const float *row, uint32_t n_row, float *out, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n_row; i++) sum += (double)row[i] * row[i];
    double norm = sqrt(sum);
    if (norm < 1e-12) norm = 1e-12;
    for (uint32_t i = 0; i < n; i++) out[i] = (float)(row[i] / norm);
}

static float activate1(pr_activation activation, float x)
{
    switch (activation) {
    case PR_ACTIVATION_NONE: return x;
    case PR_ACTIVATION_SIGMOID: return (float)(1.0 / (1.0 + exp(-(double)x)));
    case PR_ACTIVATION_TANH: return tanhf(x);
    case PR_ACTIVATION_RELU: return x < 0 ? 0 : x; /* not-a-number stays */
    case PR_ACTIVATION_GELU: return (float)(0.5 * x * (1.0 + erf((double)x * M_SQRT1_2)));
    case PR_ACTIVATION_SILU: return (float)(x / (1.0 + exp(-(double)x)));
    case PR_ACTIVATION_GELU_TANH: {
        double inner = sqrt(2.0 / M_PI) * (x + 0.044715 * (double)x * x * x);
        return (float)(0.5 * x * (1.0 + tanh(inner)));
    }
    }
    assert(!"activation");
    return x;
}

void pr_pool_finish(const pr_pooling *pooling, const float *row, uint32_t n_width, float *out)
{
    uint32_t n = pr_pool_finish_width(pooling, n_width);
    if (pooling->n_returned_tokens > 0) {
        for (uint32_t i = 0; i < n; i++) out[i] = row[pooling->returned_tokens[i]];
    } else {
        memcpy(out, row, n * sizeof *out);
    }
    if (n == 0) return;
    /* What is not finite must not become a plausible number: sigmoid(inf) is 1. */
    if (!pr_f32_is_finite(out, n)) {
        for (uint32_t i = 0; i < n; i++) out[i] = NAN;
        return;
    }
    if (pooling->softmax) {
        softmax(out, n);
    } else {
        for (uint32_t i = 0; i < n; i++) out[i] = activate1(pooling->activation, out[i]);
    }
    if (!pooling->normalize) return;
    if (pooling->cuts_last) {
        scale_to_whole(row, n_width, out, n);
    } else {
        l2_normalize(out, n);
    }
}
