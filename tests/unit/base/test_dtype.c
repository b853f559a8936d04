/* runtime/base/dtype.h: names, sizes, and conversions compared with arithmetic on doubles. */
#include "runtime/base/dtype.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

static uint32_t to_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static float from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* The value of 16 bits by the definition of the format. */
static double value_of(uint16_t h, int exponent_bits)
{
    int mantissa_bits = 15 - exponent_bits;
    int bias = (1 << (exponent_bits - 1)) - 1;
    int exponent = h >> mantissa_bits & ((1 << exponent_bits) - 1);
    int mantissa = h & ((1 << mantissa_bits) - 1);
    double v = exponent == 0
                   ? ldexp(mantissa, 1 - bias - mantissa_bits)
                   : ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
    return h & 0x8000 ? -v : v;
}

static void dtype_every_16_bit_float_widens_exactly_and_narrows_back(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float half = pr_f16_to_f32((uint16_t)h), brain = pr_bf16_to_f32((uint16_t)h);
        if ((h & 0x7C00) != 0x7C00) {
            if ((double)half != value_of((uint16_t)h, 5)) fail_msg("f16 %04x", h);
            assert_int_equal(pr_f32_to_f16(half), h);
        } else if (h & 0x3FF) {
            assert_true(isnan(half) && isnan(pr_f16_to_f32(pr_f32_to_f16(half))));
        } else {
            assert_true(isinf(half));
            assert_int_equal(pr_f32_to_f16(half), h);
        }
        if ((h & 0x7F80) != 0x7F80) {
            if ((double)brain != value_of((uint16_t)h, 8)) fail_msg("bf16 %04x", h);
        }
        if (isnan(brain)) {
            assert_true(isnan(pr_bf16_to_f32(pr_f32_to_bf16(brain))));
        } else {
            assert_int_equal(pr_f32_to_bf16(brain), h);
        }
    }
}

/* Between each two neighbours: the midpoint goes to the even one, what lies beside it to the
 * nearer. */
static void check_rounding(uint16_t h, bool is_brain)
{
    double low = value_of(h, is_brain ? 8 : 5),
           high = value_of((uint16_t)(h + 1), is_brain ? 8 : 5);
    float middle = (float)((low + high) / 2);
    uint16_t even = h & 1 ? (uint16_t)(h + 1) : h;
    float inputs[3] = {nextafterf(middle, 0), middle, nextafterf(middle, INFINITY)};
    uint16_t expected[3] = {h, even, (uint16_t)(h + 1)};
    for (int i = 0; i < 3; i++) {
        uint16_t got = is_brain ? pr_f32_to_bf16(inputs[i]) : pr_f32_to_f16(inputs[i]);
        uint16_t negative = is_brain ? pr_f32_to_bf16(-inputs[i]) : pr_f32_to_f16(-inputs[i]);
        if (got != expected[i] || negative != (expected[i] | 0x8000)) {
            fail_msg("%s %a: got %04x, expected %04x", is_brain ? "bf16" : "f16", (double)inputs[i],
                     got, expected[i]);
        }
    }
}

static void dtype_narrowing_rounds_to_nearest_ties_to_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7C00; h++) check_rounding((uint16_t)h, false);
    /* bf16 below 2^-126 + something has no room for the midpoint of its lowest pairs in f32 */
    for (uint32_t h = 0x80; h < 0x7F7F; h++) check_rounding((uint16_t)h, true);
    assert_int_equal(pr_f32_to_f16(65519.996f), 0x7BFF);
    assert_int_equal(pr_f32_to_f16(65520.0f), 0x7C00);
    assert_int_equal(pr_f32_to_bf16(3.4028235e38f), 0x7F80);
}

static void dtype_arrays_convert_from_any_alignment(void **state)
{
    (void)state;
    const float values[5] = {1.0f, -2.5f, 0.0f, 65504.0f, 6.103515625e-05f};
    for (int d = PR_DTYPE_F32; d <= PR_DTYPE_BF16; d++) {
        unsigned char bytes[32];
        float back[5];
        pr_dtype_from_f32(values, (pr_dtype)d, 5, bytes + 1);
        pr_dtype_to_f32(bytes + 1, (pr_dtype)d, 5, back);
        for (int i = 0; i < 5; i++) {
            if (i == 3 && d == PR_DTYPE_BF16) continue; /* 65504 needs 11 bits */
            assert_true(to_bits(back[i]) == to_bits(values[i]));
        }
    }
    assert_true(pr_bf16_to_f32(pr_f32_to_bf16(65504.0f)) == 65536.0f);
    assert_true(isnan(pr_bf16_to_f32(pr_f32_to_bf16(from_bits(0x7F800001)))));
}

static void dtype_names_parse_back(void **state)
{
    (void)state;
    for (int d = 0; d < PR_DTYPE_COUNT; d++) {
        pr_dtype got = PR_DTYPE_COUNT;
        assert_true(pr_dtype_parse(pr_dtype_name((pr_dtype)d), &got) && got == (pr_dtype)d);
        got = PR_DTYPE_COUNT;
        assert_true(pr_dtype_parse(pr_dtype_safetensors((pr_dtype)d), &got) && got == (pr_dtype)d);
        assert_in_range(pr_dtype_bytes((pr_dtype)d), 1, 8);
    }
    pr_dtype got = PR_DTYPE_COUNT;
    assert_true(pr_dtype_parse("torch.bfloat16", &got) && got == PR_DTYPE_BF16);
    assert_false(pr_dtype_parse("float31", &got));
    assert_false(pr_dtype_parse("", &got));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dtype_every_16_bit_float_widens_exactly_and_narrows_back),
        cmocka_unit_test(dtype_narrowing_rounds_to_nearest_ties_to_even),
        cmocka_unit_test(dtype_arrays_convert_from_any_alignment),
        cmocka_unit_test(dtype_names_parse_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
