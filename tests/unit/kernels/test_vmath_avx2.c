/* The vector functions of kernels/cpu/vmath.h under AVX2: error bounds over the range of f32. */
#include "tests/unit/kernels/kernel_tables.h"

#include <float.h>

#if POOLRANK_X86
#include <immintrin.h>

/* The code under test is inline: this part of the file is compiled for AVX2, and called only
 * where the processor has it. */
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#include "kernels/cpu/vmath_avx2.h"
#include "tests/unit/kernels/vmath_cases.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

static bool available(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#else
static bool available(void)
{
    return false;
}

static int vmath_is_close_to_libm(void)
{
    return 0;
}

static int vmath_gives_limits_and_keeps_nan(void)
{
    return 0;
}
#endif

static void functions_are_close_to_libm(void **state)
{
    (void)state;
    if (!available()) skip();
    assert_int_equal(vmath_is_close_to_libm(), 0);
}

static void functions_give_limits_and_keep_nan(void **state)
{
    (void)state;
    if (!available()) skip();
    assert_int_equal(vmath_gives_limits_and_keeps_nan(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_are_close_to_libm),
        cmocka_unit_test(functions_give_limits_and_keep_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
