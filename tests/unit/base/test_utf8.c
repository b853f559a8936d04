/* runtime/base/utf8.h: checking and reading UTF-8. */
#include "runtime/base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void utf8_prefix_ends_at_the_first_bad_sequence(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t n;
        size_t prefix;
    } cases[] = {
        {"", 0, 0},
        {"plain", 5, 5},
        {"a\0b", 3, 3},
        {"longer than eight bytes", 23, 23},
        {"longer than eight b\xFFtes", 23, 19},
        {"\xC3\xA9", 2, 2},
        {"\xE2\x82\xAC", 3, 3},
        {"\xF0\x9F\x98\x80", 4, 4},
        {"\xF4\x8F\xBF\xBF", 4, 4},
        {"\xF4\x90\x80\x80", 4, 0}, /* past U+10FFFF */
        {"\xED\x9F\xBF", 3, 3},
        {"\xED\xA0\x80", 3, 0}, /* a surrogate */
        {"\xC0\x80", 2, 0},     /* overlong */
        {"\xC1\xBF", 2, 0},
        {"\xE0\x9F\xBF", 3, 0},
        {"\xE0\xA0\x80", 3, 3},
        {"\xF0\x8F\xBF\xBF", 4, 0},
        {"\xF0\x90\x80\x80", 4, 4},
        {"\xF5\x80\x80\x80", 4, 0},
        {"ab\x80", 3, 2}, /* a continuation alone */
        {"ab\xC3", 3, 2}, /* cut off */
        {"ab\xE2\x82", 4, 2},
        {"ab\xF0\x9F\x98", 5, 2},
        {"ab\xE2\x28\xA1", 5, 2},
        {"ab\xF0\x9F\x28\x80", 6, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(pr_utf8_prefix(cases[i].text, cases[i].n), cases[i].prefix);
    }
}

/* Every code point, encoded here by the definition, is accepted whole, except surrogates. */
static void utf8_accepts_every_scalar_value(void **state)
{
    (void)state;
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        char b[4];
        size_t n;
        if (c < 0x80) {
            n = 1;
            b[0] = (char)c;
        } else if (c < 0x800) {
            n = 2;
            b[0] = (char)(0xC0 | c >> 6);
        } else if (c < 0x10000) {
            n = 3;
            b[0] = (char)(0xE0 | c >> 12);
        } else {
            n = 4;
            b[0] = (char)(0xF0 | c >> 18);
        }
        for (size_t i = 1; i < n; i++) b[i] = (char)(0x80 | (c >> 6 * (n - 1 - i) & 0x3F));
        size_t expected = c >= 0xD800 && c < 0xE000 ? 0 : n;
        if (pr_utf8_prefix(b, n) != expected) fail_msg("U+%04X", c);
    }
}

static void subparts_are_what_one_replacement_stands_for(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t n;
        bool whole;
    } rows[] = {
        {"a", 1, true},
        {"\xC3\xA9", 2, true},
        {"\x80", 1, false},
        {"\xC0\xAF", 1, false},
        {"\xE2\x82", 2, false},
        {"\xE2\x82z", 2, false},
        {"\xE0\x80\x80", 1, false},
        {"\xF0\x9F\x98", 3, false},
        {"\xF0\x9F\x98\x80", 4, true},
        {"\xF4\x90\x80\x80", 1, false},
        {"\xF5\x80", 1, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool whole = !rows[i].whole;
        assert_int_equal(pr_utf8_subpart(rows[i].text, strlen(rows[i].text), &whole), rows[i].n);
        assert_int_equal(whole, rows[i].whole);
    }
}

static void counting_goes_by_characters(void **state)
{
    (void)state;
    assert_int_equal(pr_utf8_count("", 0), 0);
    assert_int_equal(pr_utf8_count("a\xC3\xA9\xF0\x9F\x98\x80", 7), 3);
    assert_int_equal(pr_utf8_ascii_prefix("123456789\xC3\xA9", 11), 9);
    assert_int_equal(pr_utf8_ascii_prefix("\xC3\xA9", 2), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_prefix_ends_at_the_first_bad_sequence),
        cmocka_unit_test(utf8_accepts_every_scalar_value),
        cmocka_unit_test(subparts_are_what_one_replacement_stands_for),
        cmocka_unit_test(counting_goes_by_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
