/* What test_vmath_avx2.c and test_vmath_avx512.c have in common: the vector functions against
 * double libm over the whole range of f32. Included after the vector names, under that instruction
 * set. */
#include "kernels/cpu/vmath.h"

#include <stddef.h>
#include <stdio.h>

/* Every 997th float: 4.3 million values from every binade, both signs, subnormals included. */
enum { STRIDE = 997 };

typedef vf vector_function(vf x);

typedef struct vmath_case {
    const char *name;
    vector_function *function;
    double (*exact)(double x);
    double ulp_max;      /* of the exact result, anywhere; INFINITY: not held */
    double relative_max; /* |error| / |x| where |x| >= 2^-100, in units of 2^-24 */
} vmath_case;

static double exact_exp(double x)
{
    return exp(x);
}

static vf exp_of_minus_abs(vf x)
{
    return vf_exp_flushed(vf_sub(vf_zero(), vf_abs(x)));
}

static double exact_exp_flushed(double x)
{
    return -fabs(x) < -87.0 ? 0.0 : exp(-fabs(x));
}

static double exact_sigmoid(double x)
{
    return x < 0.0 ? exp(x) / (1.0 + exp(x)) : 1.0 / (1.0 + exp(-x));
}

static double exact_silu(double x)
{
    return x * exact_sigmoid(x);
}

static double exact_gelu(double x)
{
    return 0.5 * x * erfc(-x * 0.70710678118654752);
}

static double exact_gelu_tanh(double x)
{
    return x * exact_sigmoid(2.0 * 0.79788456080286536 * (x + 0.044715 * x * x * x));
}

static double exact_relu(double x)
{
    return x < 0.0 ? 0.0 : x;
}

/* The tails of silu and gelu are held by the second bound only: there x times a subnormal, or exp
 * of a rounded argument, is far from the exact result in units of a number that is itself tiny. */
static const vmath_case vmath_cases[] = {
    {"exp", vf_exp, exact_exp, 1.0, INFINITY},
    {"exp(-|x|)", exp_of_minus_abs, exact_exp_flushed, 1.0, INFINITY},
    {"erf", vf_erf, erf, 1.2, INFINITY},
    {"tanh", vf_tanh, tanh, 1.4, INFINITY},
    {"sigmoid", vf_sigmoid, exact_sigmoid, 2.4, INFINITY},
    {"silu", vf_silu, exact_silu, INFINITY, 2.5},
    {"gelu", vf_gelu, exact_gelu, INFINITY, 2.0},
    {"gelu_tanh", vf_gelu_tanh, exact_gelu_tanh, INFINITY, 2.5},
    {"relu", vf_relu, exact_relu, 0.0, 0.0},
};
enum { N_VMATH_CASES = sizeof vmath_cases / sizeof *vmath_cases };

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Distance in units of the last place of the exact result as an f32. */
static double ulps(float got, double exact)
{
    const float rounded = (float)exact;
    if (got == rounded) return 0.0;
    if (isinf(rounded) || isinf(got)) {
        /* the largest float and infinity are one step apart */
        const double top = (double)FLT_MAX;
        return fabs(fmax(-2 * top, fmin(2 * top, exact)) - fmax(-2 * top, fmin(2 * top, got))) /
               0x1p104;
    }
    int exponent;
    frexp(exact, &exponent);
    return fabs(got - exact) / ldexp(1.0, (exponent < -125 ? -125 : exponent) - 24);
}

typedef struct worst {
    double ulps, relative;
    float ulps_at, relative_at;
} worst;

static void look_at(const vmath_case *c, const float *x, const float *y, worst *w)
{
    for (int i = 0; i < VF_LANES; i++) {
        const double exact = c->exact(x[i]);
        const double u = ulps(y[i], exact), r = fabs(y[i] - exact) / fabs(x[i]) * 0x1p24;
        if (!(u <= w->ulps)) {
            w->ulps = u;
            w->ulps_at = x[i];
        }
        if (fabsf(x[i]) >= 0x1p-100f && !(r <= w->relative)) {
            w->relative = r;
            w->relative_at = x[i];
        }
    }
}

static worst sweep(const vmath_case *c)
{
    worst w = {0};
    float x[VF_LANES], y[VF_LANES];
    int n = 0;
    for (uint64_t magnitude = 0; magnitude < 0x7F800000u; magnitude += STRIDE) {
        for (uint32_t sign = 0; sign <= 1; sign++) {
            x[n++] = float_of((uint32_t)magnitude | sign << 31);
            if (n < VF_LANES) continue;
            vf_store(y, c->function(vf_load(x)));
            look_at(c, x, y, &w);
            n = 0;
        }
    }
    return w;
}

static int vmath_is_close_to_libm(void)
{
    int n_bad = 0;
    for (int i = 0; i < N_VMATH_CASES; i++) {
        const vmath_case *c = &vmath_cases[i];
        const worst w = sweep(c);
        printf("%-10s", c->name);
        if (isfinite(c->ulp_max)) printf(" %.3g ulp at %.9g", w.ulps, w.ulps_at);
        if (isfinite(c->relative_max))
            printf(" %.3g x 2^-24 |x| at %.9g", w.relative, w.relative_at);
        printf("\n");
        if (!(w.ulps <= c->ulp_max) || !(w.relative <= c->relative_max)) n_bad++;
    }
    return n_bad;
}

/* Lane 0 of the function at x. */
static float at(vector_function *f, float x)
{
    float y[VF_LANES];
    vf_store(y, f(vf_set1(x)));
    return y[0];
}

static int vmath_gives_limits_and_keeps_nan(void)
{
    static const struct {
        vector_function *function;
        float x, y;
    } rows[] = {
        {vf_exp, 0.0f, 1.0f},
        {vf_exp, -0.0f, 1.0f},
        {vf_exp, INFINITY, INFINITY},
        {vf_exp, -INFINITY, 0.0f},
        {vf_exp, 89.0f, INFINITY},
        {vf_exp, -104.0f, 0.0f},
        {vf_exp, 3e38f, INFINITY},
        {vf_exp, -3e38f, 0.0f},
        {vf_exp_nonpositive, -INFINITY, 0.0f},
        {vf_exp_nonpositive, 0.0f, 1.0f},
        {vf_exp_flushed, -INFINITY, 0.0f},
        {vf_exp_flushed, -0.0f, 1.0f},
        {vf_erf, INFINITY, 1.0f},
        {vf_erf, -INFINITY, -1.0f},
        {vf_erf, 0.0f, 0.0f},
        {vf_erf, -0.0f, -0.0f},
        {vf_erf, 50.0f, 1.0f},
        {vf_tanh, INFINITY, 1.0f},
        {vf_tanh, -INFINITY, -1.0f},
        {vf_tanh, -0.0f, -0.0f},
        {vf_sigmoid, INFINITY, 1.0f},
        {vf_sigmoid, -INFINITY, 0.0f},
        {vf_sigmoid, 0.0f, 0.5f},
        {vf_silu, INFINITY, INFINITY},
        {vf_gelu, INFINITY, INFINITY},
        {vf_gelu, 1e30f, 1e30f},
        {vf_gelu, -1e30f, -0.0f},
        {vf_gelu_tanh, 1e30f, 1e30f},
        {vf_gelu_tanh, -1e30f, -0.0f},
        {vf_relu, -INFINITY, 0.0f},
    };
    int n_bad = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const float y = at(rows[i].function, rows[i].x);
        if (y == rows[i].y && signbit(y) == signbit(rows[i].y)) continue;
        printf("row %zu: f(%g) is %g, expected %g\n", i, rows[i].x, y, rows[i].y);
        n_bad++;
    }
    for (int i = 0; i < N_VMATH_CASES; i++) {
        if (!isnan(at(vmath_cases[i].function, NAN))) {
            printf("%s(NaN) is not NaN\n", vmath_cases[i].name);
            n_bad++;
        }
    }
    return n_bad;
}
