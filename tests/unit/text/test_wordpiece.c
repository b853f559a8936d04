/* The WordPiece and WordLevel models of runtime/text/tokenizer/model_wordpiece.h, seen through a
 * tokenizer. */
#include "text_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

#define WORDPIECE                                                                                  \
    "'pre_tokenizer': {'type': 'WhitespaceSplit'}, 'model': {'type': 'WordPiece',"                 \
    " 'unk_token': 'u', 'continuing_subword_prefix': '##', 'max_input_chars_per_word': 8,"         \
    " 'vocab': {'u': 0, 'play': 1, '##ing': 2, '##i': 3, 'p': 4, '##lay': 5, '##s': 6,"            \
    " '\xc3\xa9': 7, '##\xc3\xa9': 8, '##': 9}}"

static void wordpiece_takes_the_longest_start_and_the_longest_continuations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *ids;
    } cases[] = {
        {"playing", "1 2"},           {"plays", "1 6"},  {"playi", "1 3"}, {"pla", "0"},
        {"p", "4"},                   {"lay", "0"},      {"##", "9"},      {"play ing", "1 0"},
        {"\xc3\xa9\xc3\xa9", "7 8"}, {"playingx", "0"}, {"", ""},
    };
    char ids[256];
    pr_tokenizer *t = support_tokenizer(WORDPIECE);
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_string_equal(support_encode(t, cases[i].text, ids, sizeof ids), cases[i].ids);
    }
    pr_tokenizer_free(t);
}

static void wordpiece_longer_words_than_the_limit_are_unknown(void **state)
{
    (void)state;
    char ids[256];
    pr_tokenizer *t = support_tokenizer(WORDPIECE);
    assert_string_equal(support_encode(t, "playssss", ids, sizeof ids), "1 6 6 6 6");
    assert_string_equal(support_encode(t, "playsssss", ids, sizeof ids), "0");
    /* The limit counts characters, not bytes. */
    assert_string_equal(support_encode(t, "play\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", ids, sizeof ids),
                        "1 8 8 8 8");
    pr_tokenizer_free(t);
}

static void wordpiece_without_unk_in_the_vocabulary_fails_on_unknown_words(void **state)
{
    (void)state;
    char ids[256];
    pr_tokenizer *t = support_tokenizer(
        "'model': {'unk_token': 'u', 'continuing_subword_prefix': '##',"
        " 'max_input_chars_per_word': 8, 'vocab': {'a': 0}}");
    assert_string_equal(support_encode(t, "a", ids, sizeof ids), "0");
    assert_non_null(strstr(support_encode(t, "b", ids, sizeof ids), "unk_token"));
    pr_tokenizer_free(t);
}

static void wordlevel_knows_whole_words_only(void **state)
{
    (void)state;
    char ids[256];
    pr_tokenizer *t = support_tokenizer(
        "'pre_tokenizer': {'type': 'WhitespaceSplit'}, 'model': {'type': 'WordLevel',"
        " 'unk_token': 'u', 'vocab': {'u': 0, 'one': 5, 'two': 9}}");
    assert_string_equal(support_encode(t, "one two three onetwo", ids, sizeof ids), "5 9 0 0");
    assert_int_equal(pr_tokenizer_n_ids(t), 10);
    pr_tokenizer_free(t);
}

static void wordpiece_names_the_field_that_is_missing(void **state)
{
    (void)state;
    static const struct {
        const char *members;
        const char *field;
    } cases[] = {
        {"'model': {'type': 'WordPiece', 'unk_token': 'u', 'continuing_subword_prefix': '##',"
         " 'max_input_chars_per_word': 8}", "vocab"},
        {"'model': {'type': 'WordPiece', 'continuing_subword_prefix': '##',"
         " 'max_input_chars_per_word': 8, 'vocab': {}}", "unk_token"},
        {"'model': {'type': 'WordPiece', 'unk_token': 'u', 'max_input_chars_per_word': 8,"
         " 'vocab': {}}", "continuing_subword_prefix"},
        {"'model': {'type': 'WordPiece', 'unk_token': 'u', 'continuing_subword_prefix': '##',"
         " 'vocab': {}}", "max_input_chars_per_word"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        pr_error err;
        assert_int_equal(support_refusal(cases[i].members, &err), PR_E_MODEL);
        if (!strstr(err.message, cases[i].field)) fail_msg("case %zu: %s", i, err.message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wordpiece_takes_the_longest_start_and_the_longest_continuations),
        cmocka_unit_test(wordpiece_longer_words_than_the_limit_are_unknown),
        cmocka_unit_test(wordpiece_without_unk_in_the_vocabulary_fails_on_unknown_words),
        cmocka_unit_test(wordlevel_knows_whole_words_only),
        cmocka_unit_test(wordpiece_names_the_field_that_is_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
