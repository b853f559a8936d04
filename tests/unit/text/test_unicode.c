/* UTF-8 and character properties. What every code point does inside a normalizer or pre-tokenizer
 * is compared live by tests/parity/compare_text.py --all-points. */
#include "runtime/base/utf8.h"
#include "runtime/text/unicode/unicode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void utf8_round_trips_every_character(void **state)
{
    (void)state;
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        if (c >= 0xd800 && c <= 0xdfff) continue;
        char bytes[4];
        size_t n = pr_utf8_encode(c, bytes);
        uint32_t back;
        assert_int_equal(pr_utf8_decode(bytes, &back), n);
        assert_int_equal(back, c);
        assert_int_equal(pr_utf8_width((unsigned char)bytes[0]), n);
        assert_int_equal(pr_utf8_width_before(bytes, n), n);
        assert_int_equal(pr_utf8_prefix(bytes, n), n);
    }
}

static void bytes_have_gpt2s_characters(void **state)
{
    (void)state;
    assert_int_equal(pr_byte_to_char(' '), 0x120);
    assert_int_equal(pr_byte_to_char('\n'), 0x10a);
    assert_int_equal(pr_byte_to_char('a'), 'a');
    assert_int_equal(pr_byte_to_char(0x7f), 0x121);
    assert_int_equal(pr_byte_to_char(0xad), 0x143);
    for (int b = 0; b < 256; b++) {
        assert_int_equal(pr_byte_of_char(pr_byte_to_char((uint8_t)b)), b);
    }
    assert_int_equal(pr_byte_of_char(' '), -1);
    assert_int_equal(pr_byte_of_char(0xad), -1);
    assert_int_equal(pr_byte_of_char(0x144), -1);
}

static void lower_case_is_of_single_characters(void **state)
{
    (void)state;
    static const uint32_t rows[][2] = {{'A', 'a'},       {'z', 'z'},       {0xc9, 0xe9},
                                       {0x3a3, 0x3c3},   {0x1e9e, 0xdf},   {0x212a, 'k'},
                                       {0x10400, 0x10428}, {0x4e2d, 0x4e2d}, {0x101, 0x101}};
    uint32_t out[2];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(pr_char_lower(rows[i][0], out), 1);
        assert_int_equal(out[0], rows[i][1]);
    }
    assert_int_equal(pr_char_lower(0x130, out), 2);
    assert_int_equal(out[0], 'i');
    assert_int_equal(out[1], 0x307);
}

static void properties_tell_characters_apart(void **state)
{
    (void)state;
    assert_true(pr_char_is_whitespace(0x85));
    assert_false(pr_char_is_whitespace(0x180e));
    assert_true(pr_char_is_numeric(0xbd));
    assert_false(pr_char_is_numeric('a'));
    assert_true(pr_char_is_punctuation('$'));
    assert_false(pr_char_is_punctuation(0x20ac)); /* a currency symbol outside ASCII */
    assert_true(pr_char_is_mark_nonspacing(0x301));
    assert_false(pr_char_is_mark_nonspacing(0x903));
    assert_true(pr_char_is_mark(0x903));
    assert_true(pr_char_is_bert_control(0x200b));
    assert_false(pr_char_is_bert_control('\t'));
    assert_true(pr_char_is_cjk(0x4e00));
    assert_false(pr_char_is_cjk(0x3042));
    assert_true(pr_char_is_word('_'));
    assert_false(pr_char_is_word('-'));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_round_trips_every_character),
        cmocka_unit_test(bytes_have_gpt2s_characters),
        cmocka_unit_test(lower_case_is_of_single_characters),
        cmocka_unit_test(properties_tell_characters_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
