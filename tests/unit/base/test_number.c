/* What runtime/base/number.h promises: text that reads back as the same bits, in the fewest digits,
 * laid out as Python's repr does. */
#include "runtime/base/number.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fenv.h>
#include <locale.h>
#include <math.h>

static float from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t to_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static const char *written(float x, char text[PR_NUMBER_BYTES + 1])
{
    memset(text, '#', PR_NUMBER_BYTES + 1);
    size_t n = pr_number_write(x, text);
    assert_in_range(n, 1, PR_NUMBER_BYTES);
    assert_true(text[PR_NUMBER_BYTES] == '#'); /* nothing is written past the room it has */
    text[n] = '\0';
    return text;
}

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void number_is_laid_out_as_pythons_repr(void **state)
{
    (void)state;
    static const struct {
        float x;
        const char *text;
    } cases[] = {
        {0.0f, "0.0"},
        {-0.0f, "-0.0"},
        {1.0f, "1.0"},
        {-3.0f, "-3.0"},
        {0.1f, "0.1"},
        {0.3f, "0.3"},
        {10.0f, "10.0"},
        {123456.0f, "123456.0"},
        {1.5e-3f, "0.0015"},
        {1e-4f, "0.0001"},
        {1.25e-4f, "0.000125"},
        {9.9999e-5f, "9.9999e-05"},
        {1e-5f, "1e-05"},
        {1e-7f, "1e-07"},
        {1e15f, "1000000000000000.0"},
        {9e15f, "9000000000000000.0"},
        {1e16f, "1e+16"},
        {1.5e16f, "1.5e+16"},
        {1e20f, "1e+20"},
        {16777216.0f, "16777216.0"},
        {33554432.0f, "33554432.0"},
        {2097152.25f, "2097152.2"},
        {3.4028234663852886e38f, "3.4028235e+38"},
        {1.401298464324817e-45f, "1e-45"},
        {9.8e-45f, "1e-44"},
        {1.1754943508222875e-38f, "1.1754944e-38"},
        {1.1754942106924411e-38f, "1.1754942e-38"},
        {0.33333334f, "0.33333334"},
        {-0.000123456789f, "-0.00012345679"},
        {8.589974e9f, "8589974000.0"},
        {1e10f, "10000000000.0"},
        {INFINITY, "null"},
        {-INFINITY, "null"},
        {NAN, "null"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[PR_NUMBER_BYTES + 1];
        assert_string_equal(written(cases[i].x, text), cases[i].text);
    }
}

/* Digits of "d.ddde±XX" or of our own form, without sign, point and zeros around. */
static int digits_of(const char *text, char *digits)
{
    int n = 0, last = 0;
    for (; *text && *text != 'e'; text++) {
        if (*text < '0' || *text > '9' || (n == 0 && *text == '0')) continue;
        digits[n++] = *text;
        if (*text != '0') last = n;
    }
    digits[last] = '\0';
    return last;
}

/* Judge: the C library, which rounds exactly in each direction. With fewer digits neither
 * neighbouring decimal reads back; with as many, ours is the nearest of those that do. */
static void check_shortest_and_closest(uint32_t bits)
{
    float x = from_bits(bits);
    char text[PR_NUMBER_BYTES + 1];
    written(x, text);
    if (to_bits(strtof(text, NULL)) != bits)
        fail_msg("%08x: %s reads back differently", bits, text);
    char ours[40];
    int n = digits_of(text, ours);
    char nearest[40], below[40], above[40];
    if (n > 1) {
        fesetround(FE_DOWNWARD);
        snprintf(below, sizeof below, "%.*e", n - 2, (double)x);
        fesetround(FE_UPWARD);
        snprintf(above, sizeof above, "%.*e", n - 2, (double)x);
        fesetround(FE_TONEAREST);
        if (strtof(below, NULL) == x || strtof(above, NULL) == x) {
            fail_msg("%08x: %s, but %s or %s is shorter", bits, text, below, above);
        }
    }
    snprintf(nearest, sizeof nearest, "%.*e", n - 1, (double)x);
    if (strtof(nearest, NULL) != x)
        return; /* beside a power of two: the nearest may not read back */
    char theirs[40];
    digits_of(nearest, theirs);
    if (strcmp(ours, theirs) != 0) fail_msg("%08x: %s, but %s is closer", bits, text, nearest);
}

static void number_is_shortest_and_closest_at_powers_of_two_and_their_neighbours(void **state)
{
    (void)state;
    for (uint32_t exponent = 0; exponent < 255; exponent++) {
        for (int32_t around = -40; around <= 40; around++) {
            int64_t bits = ((int64_t)exponent << 23) + around;
            if (bits > 0 && bits < 0x7F800000) check_shortest_and_closest((uint32_t)bits);
        }
    }
    for (uint32_t bits = 1; bits < 2000; bits++) check_shortest_and_closest(bits);
    for (int e = -44; e <= 38; e++) {
        char text[16];
        snprintf(text, sizeof text, "1e%d", e);
        uint32_t bits = to_bits(strtof(text, NULL));
        for (uint32_t b = bits > 9 ? bits - 9 : 1; b < bits + 9; b++) check_shortest_and_closest(b);
    }
}

static void number_is_shortest_and_closest_for_random_bits(void **state)
{
    (void)state;
    uint64_t seed = 0x5DEECE66Du;
    print_message("seed %llx\n", (unsigned long long)seed);
    for (int i = 0; i < 300000; i++) {
        uint32_t bits = (uint32_t)random_next(&seed) & 0x7FFFFFFFu;
        if (bits > 0 && bits < 0x7F800000u) check_shortest_and_closest(bits);
    }
}

static void number_reads_back_with_the_same_bits(void **state)
{
    (void)state;
    uint64_t seed = 0x9E3779B97F4A7C15u;
    print_message("seed %llx\n", (unsigned long long)seed);
    for (int i = 0; i < 3000000; i++) {
        uint32_t bits = (uint32_t)(random_next(&seed) >> 16);
        if ((bits & 0x7F800000u) == 0x7F800000u) continue;
        char text[PR_NUMBER_BYTES + 1];
        size_t n = pr_number_write(from_bits(bits), text);
        text[n] = '\0';
        if (to_bits(strtof(text, NULL)) != bits) fail_msg("%08x became %s", bits, text);
    }
}

static void numbers_are_read_as_in_the_c_locale(void **state)
{
    (void)state;
    const char *end;
    assert_true(pr_number_read("0.25x", &end) == 0.25);
    assert_string_equal(end, "x");
    assert_true(pr_number_read(" -1e-3", NULL) == -1e-3);
    assert_true(pr_number_read("1,5", &end) == 1);
    assert_string_equal(end, ",5");
    static const char none[] = "x";
    assert_true(pr_number_read(none, &end) == 0);
    assert_ptr_equal(end, none);
}

static void numbers_are_formatted_as_in_the_c_locale(void **state)
{
    (void)state;
    char text[32];
    assert_int_equal(pr_number_format(text, sizeof text, 'g', 9, 0.1), 3);
    assert_string_equal(text, "0.1");
    pr_number_format(text, sizeof text, 'e', 3, -1234.5);
    assert_string_equal(text, "-1.234e+03");
    pr_number_format(text, sizeof text, 'f', 2, 1e6);
    assert_string_equal(text, "1000000.00");
    assert_int_equal(pr_number_format(text, 4, 'f', 2, 1e6), 10);
    assert_string_equal(text, "100");
}

/* strtof, which judges what follows, reads points only. */
static void the_judge_reads_points(void **state)
{
    (void)state;
    assert_non_null(setlocale(LC_ALL, "C"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_read_as_in_the_c_locale),
        cmocka_unit_test(numbers_are_formatted_as_in_the_c_locale),
        cmocka_unit_test(the_judge_reads_points),
        cmocka_unit_test(number_is_laid_out_as_pythons_repr),
        cmocka_unit_test(number_is_shortest_and_closest_at_powers_of_two_and_their_neighbours),
        cmocka_unit_test(number_is_shortest_and_closest_for_random_bits),
        cmocka_unit_test(number_reads_back_with_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
