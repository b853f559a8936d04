/* runtime/text/tokenizer/added_tokens.h, seen through a tokenizer whose model knows single letters.
 * */
#include "text_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* u is 0, a to e are 1 to 5, the space is 6; added tokens count from 7. */
#define LETTERS                                                                                    \
    "'model': {'type': 'BPE', 'unk_token': 'u', 'merges': [],"                                     \
    " 'vocab': {'u': 0, 'a': 1, 'b': 2, 'c': 3, 'd': 4, 'e': 5, ' ': 6}}, "

typedef struct encode_case {
    const char *text;
    const char *ids;
} encode_case;

static void assert_cases(const char *members, const encode_case *cases, size_t n)
{
    char ids[256];
    pr_tokenizer *t = support_tokenizer(members);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(support_encode(t, cases[i].text, ids, sizeof ids), cases[i].ids);
    }
    pr_tokenizer_free(t);
}

static void added_tokens_are_cut_out_leftmost_and_longest(void **state)
{
    (void)state;
    static const encode_case cases[] = {
        {"a<x>b", "1 7 2"}, {"<x><x>", "7 7"}, {"a<x>>", "1 8"}, {"<x", "0 0"}, {"abcd", "9 4"},
        {"bcde", "10"},     {"aabcde", "1 9 4 5"},
    };
    assert_cases(LETTERS "'added_tokens': [{'id': 7, 'content': '<x>'}, {'id': 8, 'content':"
                         " '<x>>'}, {'id': 9, 'content': 'abc'}, {'id': 10, 'content': 'bcde'}]",
                 cases, COUNT(cases));
}

static void added_tokens_get_the_models_id_or_the_next_free_one(void **state)
{
    (void)state;
    char ids[256];
    pr_tokenizer *t = support_tokenizer(
        LETTERS "'added_tokens': [{'id': 70, 'content': 'xx'}, {'id': 50, 'content': 'b'},"
                " {'id': 3, 'content': 'yy'}, {'id': 1, 'content': ''}]");
    assert_string_equal(support_encode(t, "xxbyy", ids, sizeof ids), "7 2 8");
    assert_int_equal(pr_tokenizer_n_ids(t), 9);
    assert_int_equal(pr_tokenizer_token_to_id(t, "yy", 2), 8);
    pr_tokenizer_free(t);
}

static void added_tokens_with_lstrip_or_rstrip_take_the_white_space(void **state)
{
    (void)state;
    static const encode_case cases[] = {
        {"a  <l> b", "1 7 6 2"},         {"a <r>  b", "1 6 8 2"},  {"  <l><l>", "7 7"},
        {"<r>  <l>", "8 7"},             {"a\xc2\xa0<l>", "1 7"}, {"<r>\n\t", "8"},
        {" <r> <r> ", "6 8 8"},
    };
    assert_cases(LETTERS "'added_tokens': [{'id': 7, 'content': '<l>', 'lstrip': true},"
                         " {'id': 8, 'content': '<r>', 'rstrip': true}]",
                 cases, COUNT(cases));
}

static void added_tokens_with_single_word_stand_between_other_characters(void **state)
{
    (void)state;
    static const encode_case cases[] = {
        {"xy", "7"},  {"axy", "1 0 0"}, {"xya", "0 0 1"}, {" xy ", "6 7 6"},
        {"-xy-", "0 7 0"}, {"xy_", "0 0 0"}, {"\xc3\xa9xy", "0 0 0"},
    };
    assert_cases(LETTERS "'added_tokens': [{'id': 7, 'content': 'xy', 'single_word': true}]",
                 cases, COUNT(cases));
}

static void added_tokens_with_normalized_are_found_in_normalized_text(void **state)
{
    (void)state;
    static const encode_case cases[] = {
        {"XYZ", "7"}, {"aXyZb", "1 7 2"}, {"QR", "0 0"}, {"qr", "8"}, {"AqrXYZ", "1 8 7"},
    };
    assert_cases(LETTERS "'normalizer': {'type': 'Lowercase'}, 'added_tokens': [{'id': 7,"
                         " 'content': 'Xyz', 'normalized': true}, {'id': 8, 'content': 'qr',"
                         " 'normalized': false}]",
                 cases, COUNT(cases));
}

static void added_tokens_decode_to_what_they_were_normalized_to(void **state)
{
    (void)state;
    char text[256];
    pr_tokenizer *t = support_tokenizer(
        LETTERS "'normalizer': {'type': 'Lowercase'}, 'added_tokens': [{'id': 7, 'content': 'Xyz',"
                " 'normalized': true}, {'id': 8, 'content': '<S>', 'special': true}]");
    assert_string_equal(support_decode(t, (int32_t[]){1, 7, 8}, 3, false, text, sizeof text),
                        "a xyz <S>");
    assert_string_equal(support_decode(t, (int32_t[]){1, 7, 8}, 3, true, text, sizeof text),
                        "a xyz");
    assert_true(pr_tokenizer_id_is_special(t, 8));
    assert_false(pr_tokenizer_id_is_special(t, 7));
    pr_tokenizer_free(t);
}

static void added_tokens_of_white_space_take_linear_time(void **state)
{
    (void)state;
    enum { N = 400000 };
    pr_tokenizer *t = support_tokenizer(LETTERS "'added_tokens': [{'id': 7, 'content': ' ',"
                                                " 'lstrip': true, 'rstrip': true}]");
    char *text = malloc(N);
    assert_non_null(text);
    memset(text, ' ', N);
    pr_error err;
    pr_ids ids = {0};
    assert_int_equal(pr_tokenizer_encode(t, text, N, &ids, &err), PR_OK);
    /* The first one takes all the others. */
    assert_int_equal(ids.n, 1);
    pr_ids_deinit(&ids);
    free(text);
    pr_tokenizer_free(t);
}

static void added_tokens_that_are_broken_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *members;
        pr_status status;
        const char *message;
    } cases[] = {
        {LETTERS "'added_tokens': [{'id': -1, 'content': 'x'}]", PR_E_MODEL, "added_tokens[0]"},
        {LETTERS "'added_tokens': [{'id': 4294967296, 'content': 'x'}]", PR_E_MODEL, "id"},
        {LETTERS "'added_tokens': [{'id': 1}]", PR_E_MODEL, "content"},
        {LETTERS "'added_tokens': [7]", PR_E_MODEL, "expected an object"},
        {LETTERS "'added_tokens': {}", PR_E_MODEL, "added_tokens"},
        {LETTERS "'normalizer': {'type': 'Strip', 'strip_left': true, 'strip_right': true},"
                 " 'added_tokens': [{'id': 7, 'content': '  ', 'normalized': true}]",
         PR_E_UNSUPPORTED, "normalized to nothing"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        pr_error err;
        assert_int_equal(support_refusal(cases[i].members, &err), cases[i].status);
        if (!strstr(err.message, cases[i].message)) fail_msg("case %zu: %s", i, err.message);
    }
}

/* It is looked for at every byte of a text, so its length multiplies what a text costs. */
static void an_added_token_longer_than_any_file_needs_is_refused(void **state)
{
    (void)state;
    pr_error err = {0};
    for (size_t n = 4096; n <= 4097; n++) {
        pr_buffer members = {0};
        pr_buffer_append_str(&members, LETTERS "'added_tokens': [{'id': 7, 'content': '");
        for (size_t i = 0; i < n; i++) pr_buffer_append_char(&members, 'x');
        pr_buffer_append_str(&members, "'}]");
        if (n == 4096) {
            pr_tokenizer_free(support_tokenizer(pr_buffer_str(&members)));
        } else {
            assert_int_equal(support_refusal(pr_buffer_str(&members), &err), PR_E_UNSUPPORTED);
            assert_non_null(strstr(err.message, "found 4097 bytes, expected at most 4096"));
        }
        pr_buffer_deinit(&members);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(added_tokens_are_cut_out_leftmost_and_longest),
        cmocka_unit_test(added_tokens_get_the_models_id_or_the_next_free_one),
        cmocka_unit_test(added_tokens_with_lstrip_or_rstrip_take_the_white_space),
        cmocka_unit_test(added_tokens_with_single_word_stand_between_other_characters),
        cmocka_unit_test(added_tokens_with_normalized_are_found_in_normalized_text),
        cmocka_unit_test(added_tokens_decode_to_what_they_were_normalized_to),
        cmocka_unit_test(added_tokens_of_white_space_take_linear_time),
        cmocka_unit_test(added_tokens_that_are_broken_are_refused),
        cmocka_unit_test(an_added_token_longer_than_any_file_needs_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
