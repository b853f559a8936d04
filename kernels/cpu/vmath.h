/* kernels/cpu/vmath.h: exp, erf, tanh, sigmoid and the activations built of them, on a vector.
 *
 * Included after vmath_avx2.h or vmath_avx512.h, which give vf its width. Stateless inline
 * functions; any thread. Each lane is computed by itself with the same instructions, so a value's
 * result does not depend on its place; both widths give the same bits.
 *
 * NaN gives NaN; infinities give the limits. The error bounds, in units of the last place (ulp) of
 * the exact result, are held over the whole range by tests/unit/kernels/vmath_cases.h against
 * double libm. The polynomials are our own weighted minimax fits (Lawson's algorithm in double on
 * Chebyshev nodes against 40-digit values), their coefficients then rounded to f32. */
#ifndef POOLRANK_KERNELS_CPU_VMATH_H
#define POOLRANK_KERNELS_CPU_VMATH_H

#include "runtime/model/model_spec.h"

/* exp(x) = 2^n e^r, n = round(x / ln 2), r = x - n ln 2 in two steps (Cody and Waite 1980: the
 * first part of ln 2 has few enough bits that n times it is exact), e^r = 1 + r + r^2 P(r) on |r|
 * <= ln 2 / 2. Returns e^r, for x in -104 .. 89. */
static inline vf vf_exp_reduced(vf x, vf *n)
{
    *n = vf_round(vf_mul(x, vf_set1(1.44269504f)));
    vf r = vf_fnma(*n, vf_set1(0.693359375f), x);
    r = vf_fnma(*n, vf_set1(-2.12194440e-4f), r);
    vf p = vf_set1(1.381454e-3f);
    p = vf_fma(p, r, vf_set1(8.368745e-3f));
    p = vf_fma(p, r, vf_set1(4.166839e-2f));
    p = vf_fma(p, r, vf_set1(1.6666521e-1f));
    p = vf_fma(p, r, vf_set1(4.9999994e-1f));
    p = vf_fma(p, vf_mul(r, r), r);
    return vf_add(p, vf_set1(1.0f));
}

/* exp(x): at most 1 ulp, subnormal results included; 0 below -104, infinity above 88.73. */
static inline vf vf_exp(vf x)
{
    vf n, e = vf_exp_reduced(vf_max(vf_set1(-104.0f), vf_min(vf_set1(89.0f), x)), &n);
    return vf_scale2(e, n);
}

/* The same for x <= 0, without the clamp from above. */
static inline vf vf_exp_nonpositive(vf x)
{
    vf n, e = vf_exp_reduced(vf_max(vf_set1(-104.0f), x), &n);
    return vf_scale2(e, n);
}

/* The same for x in -87 .. 0, where the result is a normal number. */
static inline vf vf_exp_normal(vf x)
{
    vf n, e = vf_exp_reduced(x, &n);
    return vf_scale2_normal(e, n);
}

/* The same for x <= 0, but 0 below -87: for weights beside others near 1, and quicker, since some
 * processors take a hundred cycles and more for a subnormal result. */
static inline vf vf_exp_flushed(vf x)
{
    const vf lowest = vf_set1(-87.0f);
    return vf_select(vf_lt(x, lowest), vf_zero(), vf_exp_normal(vf_max(lowest, x)));
}

/* Where the two halves of erf meet, and from where on erfc is taken as 0 (it is 2e-17). */
#define VF_ERF_SPLIT    0.92f
#define VF_ERFC_IS_ZERO 6.0f

/* erf(t) for |t| < 0.92: t + t P(t^2). */
static inline vf vf_erf_small(vf t)
{
    vf s = vf_mul(t, t);
    vf p = vf_set1(-6.021821e-4f);
    p = vf_fma(p, s, vf_set1(4.999605e-3f));
    p = vf_fma(p, s, vf_set1(-2.6771287e-2f));
    p = vf_fma(p, s, vf_set1(1.1281955e-1f));
    p = vf_fma(p, s, vf_set1(-3.7612507e-1f));
    p = vf_fma(p, s, vf_set1(1.2837915e-1f));
    return vf_fma(p, t, t);
}

/* erfc(t) for t >= 0.92: exp(-Q(t)), Q fitted to -log(erfc(t)) up to 6 with the weight that the
 * error has in erf and in erfc; t beyond 6 counts as 6. */
static inline vf vf_erfc_large(vf t)
{
    t = vf_min(vf_set1(VF_ERFC_IS_ZERO), t);
    vf q = vf_set1(8.641067e-8f);
    q = vf_fma(q, t, vf_set1(-3.4458756e-6f));
    q = vf_fma(q, t, vf_set1(6.222633e-5f));
    q = vf_fma(q, t, vf_set1(-6.774304e-4f));
    q = vf_fma(q, t, vf_set1(5.005535e-3f));
    q = vf_fma(q, t, vf_set1(-2.6894672e-2f));
    q = vf_fma(q, t, vf_set1(1.1065258e-1f));
    q = vf_fma(q, t, vf_set1(6.314096e-1f));
    q = vf_fma(q, t, vf_set1(1.1303973f));
    q = vf_fma(q, t, vf_set1(-3.4625217e-4f));
    return vf_exp_normal(vf_sub(vf_zero(), q));
}

/* At most 1.2 ulp. */
static inline vf vf_erf(vf x)
{
    vf t = vf_abs(x);
    vf large = vf_sub(vf_set1(1.0f), vf_erfc_large(t));
    vf small = vf_erf_small(t);
    return vf_copysign(vf_select(vf_lt(t, vf_set1(VF_ERF_SPLIT)), small, large), x);
}

/* gelu(x) = x/2 (1 + erf(x / sqrt 2)), Hendrycks and Gimpel 2016, arXiv:1606.08415. For x < 0 the
 * bracket is taken as erfc(|x| / sqrt 2), so that nothing cancels in the negative tail. */
static inline vf vf_gelu(vf x)
{
    vf t = vf_mul(vf_abs(x), vf_set1(0.707106781f));
    vf erfc = vf_select(vf_lt(t, vf_set1(VF_ERF_SPLIT)), vf_sub(vf_set1(1.0f), vf_erf_small(t)),
                        vf_erfc_large(t));
    erfc = vf_select(vf_lt(vf_set1(VF_ERFC_IS_ZERO), t), vf_zero(), erfc);
    vf both = vf_select(vf_lt(x, vf_zero()), erfc, vf_sub(vf_set1(2.0f), erfc));
    return vf_mul(vf_mul(vf_set1(0.5f), x), both);
}

/* tanh(x): x + x^3 P(x^2) below 0.625, else 1 - 2 / (e^(2|x|) + 1), with the sign of x: at most
 * 1.4 ulp. */
static inline vf vf_tanh(vf x)
{
    vf a = vf_abs(x);
    vf s = vf_mul(x, x);
    vf p = vf_set1(-5.717045e-3f);
    p = vf_fma(p, s, vf_set1(2.0650588e-2f));
    p = vf_fma(p, s, vf_set1(-5.3743497e-2f));
    p = vf_fma(p, s, vf_set1(1.3331491e-1f));
    p = vf_fma(p, s, vf_set1(-3.3333284e-1f));
    vf small = vf_fma(vf_mul(p, s), a, a);
    vf e = vf_exp(vf_add(a, a));
    vf large = vf_sub(vf_set1(1.0f), vf_div(vf_set1(2.0f), vf_add(e, vf_set1(1.0f))));
    return vf_copysign(vf_select(vf_lt(a, vf_set1(0.625f)), small, large), x);
}

/* sigmoid(x) = 1 / (1 + e^-x), for x < 0 as e^x / (1 + e^x): nothing overflows, and the
 * tail keeps its digits: at most 2.4 ulp. */
static inline vf vf_sigmoid(vf x)
{
    vf e = vf_exp_nonpositive(vf_sub(vf_zero(), vf_abs(x)));
    vf numerator = vf_select(vf_lt(x, vf_zero()), e, vf_set1(1.0f));
    return vf_div(numerator, vf_add(vf_set1(1.0f), e));
}

/* silu(x) = x sigmoid(x), Hendrycks and Gimpel 2016. Error at most 2.5 x 2^-24 |x|. */
static inline vf vf_silu(vf x)
{
    return vf_mul(x, vf_sigmoid(x));
}

/* x/2 (1 + tanh(u)) with u = sqrt(2/pi) (x + 0.044715 x^3), written as x sigmoid(2u): the same
 * number without the cancellation of 1 + tanh. Error at most 2.5 x 2^-24 |x|. */
static inline vf vf_gelu_tanh(vf x)
{
    vf cubic = vf_fma(vf_mul(vf_mul(x, x), vf_set1(0.044715f)), x, x);
    return vf_mul(x, vf_sigmoid(vf_mul(cubic, vf_set1(1.59576912f))));
}

static inline vf vf_relu(vf x)
{
    return vf_max(vf_zero(), x);
}

/* `activation` is constant or outside of the loop: the switch costs nothing per vector. */
static inline vf vf_activate(pr_activation activation, vf x)
{
    switch (activation) {
    case PR_ACTIVATION_GELU:
        return vf_gelu(x);
    case PR_ACTIVATION_GELU_TANH:
        return vf_gelu_tanh(x);
    case PR_ACTIVATION_RELU:
        return vf_relu(x);
    case PR_ACTIVATION_SILU:
        return vf_silu(x);
    case PR_ACTIVATION_TANH:
        return vf_tanh(x);
    case PR_ACTIVATION_SIGMOID:
        return vf_sigmoid(x);
    case PR_ACTIVATION_NONE:
        break;
    }
    return x;
}

#endif
