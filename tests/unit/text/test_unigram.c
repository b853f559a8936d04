/* The Unigram model of runtime/text/tokenizer/model_unigram.h, seen through a tokenizer. */
#include "text_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

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

static void unigram_cuts_where_the_sum_of_scores_is_highest(void **state)
{
    (void)state;
    static const encode_case cases[] = {
        {"abcd", "8"}, {"abc", "7"}, {"acd", "1 5"}, {"abcdacdxx", "8 1 5 0"}, {"", ""},
    };
    assert_cases("'model': {'type': 'Unigram', 'unk_id': 0, 'vocab': [['<unk>', 0.0], ['a', 0.0],"
                 " ['b', 0.0], ['c', 0.0], ['d', 0.0], ['cd', 1.0], ['ab', 2.0], ['abc', 5.0],"
                 " ['abcd', 10.0]]}",
                 cases, COUNT(cases));
}

static void unigram_of_equal_sums_keeps_the_last_token_that_begins_first(void **state)
{
    (void)state;
    /* a+aa and aa+a tie: the best way to end at 3 was offered first by the token from 1. */
    static const encode_case cases[] = {{"aaa", "1 2"}, {"aaaaa", "1 2 2"}};
    assert_cases("'model': {'type': 'Unigram', 'unk_id': 0, 'vocab': [['<unk>', 0], ['a', -1.5],"
                 " ['aa', -2.0]]}",
                 cases, COUNT(cases));
}

static void unigram_joins_unknown_characters_into_one(void **state)
{
    (void)state;
    static const encode_case cases[] = {
        {"xyz", "0"}, {"axyza", "1 0 1"}, {"x<unk>y", "0"}, {"xax", "0 1 0"},
        /* "zz" is so unlikely that two unknowns win, and then it is found after all. */
        {"zz", "3"},
    };
    assert_cases("'model': {'type': 'Unigram', 'unk_id': 0, 'vocab': [['<unk>', 0.0], ['a', -1.0],"
                 " ['b', -2.0], ['zz', -60.0]]}",
                 cases, COUNT(cases));
}

static void unigram_falls_back_to_bytes_of_all_unknown_characters_or_of_none(void **state)
{
    (void)state;
    static const encode_case cases[] = {
        {"\xc3\xa9", "1 2"}, {"\xc3\xa9\xc3\xa9", "1 2 1 2"}, {"\xc3\xa9\xc3\xa8", "0"},
    };
    assert_cases("'model': {'type': 'Unigram', 'unk_id': 0, 'byte_fallback': true,"
                 " 'vocab': [['<unk>', 0.0], ['<0xC3>', -1.0], ['<0xA9>', -1.0]]}",
                 cases, COUNT(cases));
}

static void unigram_without_unk_id_fails_on_unknown_characters_only(void **state)
{
    (void)state;
    char ids[256];
    pr_tokenizer *t =
        support_tokenizer("'model': {'vocab': [['a', -1.0], ['ab', -3.0]], 'unk_id': null}");
    assert_string_equal(support_encode(t, "aab", ids, sizeof ids), "0 1");
    assert_non_null(strstr(support_encode(t, "ax", ids, sizeof ids), "unk_id"));
    pr_tokenizer_free(t);
}

static void unigram_takes_long_pieces(void **state)
{
    (void)state;
    enum { N = 300000 };
    pr_tokenizer *t = support_tokenizer("'model': {'type': 'Unigram', 'unk_id': 0, 'vocab':"
                                        " [['<unk>', 0], ['a', -2.0], ['aaaa', -3.0]]}");
    char *text = malloc(N);
    assert_non_null(text);
    memset(text, 'a', N);
    pr_error err;
    pr_ids ids = {0};
    assert_int_equal(pr_tokenizer_encode(t, text, N, &ids, &err), PR_OK);
    assert_int_equal(ids.n, N / 4);
    pr_ids_deinit(&ids);
    free(text);
    pr_tokenizer_free(t);
}

static void unigram_refuses_broken_vocabularies(void **state)
{
    (void)state;
    static const struct {
        const char *members;
        const char *message;
    } cases[] = {
        {"'model': {'type': 'Unigram', 'unk_id': 0, 'vocab': []}", "unk_id"},
        {"'model': {'type': 'Unigram', 'unk_id': 1, 'vocab': [['a', 0]]}", "unk_id"},
        {"'model': {'type': 'Unigram', 'unk_id': 0, 'vocab': [['a']]}", "vocab[0]"},
        {"'model': {'type': 'Unigram', 'unk_id': 0, 'vocab': [['a', 0], [1, 0]]}", "vocab[1]"},
        {"'model': {'type': 'Unigram', 'unk_id': 0, 'vocab': {'a': 0}}", "vocab"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        pr_error err;
        assert_int_equal(support_refusal(cases[i].members, &err), PR_E_MODEL);
        if (!strstr(err.message, cases[i].message)) fail_msg("case %zu: %s", i, err.message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unigram_cuts_where_the_sum_of_scores_is_highest),
        cmocka_unit_test(unigram_of_equal_sums_keeps_the_last_token_that_begins_first),
        cmocka_unit_test(unigram_joins_unknown_characters_into_one),
        cmocka_unit_test(unigram_falls_back_to_bytes_of_all_unknown_characters_or_of_none),
        cmocka_unit_test(unigram_without_unk_id_fails_on_unknown_characters_only),
        cmocka_unit_test(unigram_takes_long_pieces),
        cmocka_unit_test(unigram_refuses_broken_vocabularies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
