/* The BPE model of runtime/text/tokenizer/model_bpe.h, seen through a tokenizer. The expected ids
 * come from tokenizers 0.23.3 where they are not plain from the definition. */
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

static void bpe_joins_the_lowest_rank_first_and_then_the_leftmost(void **state)
{
    (void)state;
    static const encode_case cases[] = {
        {"abc", "0 4"}, {"ab", "3"}, {"aab", "0 3"}, {"bcb", "4 1"}, {"aaa", "5 0"}, {"", ""},
    };
    assert_cases("'model': {'type': 'BPE', 'vocab': {'a': 0, 'b': 1, 'c': 2, 'ab': 3, 'bc': 4,"
                 " 'aa': 5}, 'merges': ['b c', 'a b', 'a a']}",
                 cases, COUNT(cases));
}

static void bpe_reads_merges_of_both_forms_and_files_without_type(void **state)
{
    (void)state;
    static const encode_case cases[] = {{"a b", "4"}, {"ab", "0 2"}};
    assert_cases("'model': {'vocab': {'a': 0, ' ': 1, 'b': 2, 'a ': 3, 'a b': 4},"
                 " 'merges': [['a', ' '], ['a ', 'b']]}",
                 cases, COUNT(cases));
}

static void bpe_drops_unknown_characters_without_unk_token(void **state)
{
    (void)state;
    static const encode_case cases[] = {{"axb", "2"}, {"xyz", ""}, {"a\xc3\xa9", "0"}};
    assert_cases("'model': {'type': 'BPE', 'vocab': {'a': 0, 'b': 1, 'ab': 2}, 'merges': ['a b']}",
                 cases, COUNT(cases));
}

static void bpe_gives_unknown_characters_the_unk_token(void **state)
{
    (void)state;
    static const encode_case single[] = {{"axyb", "1 0 0 2"}, {"xx", "0 0"}};
    static const encode_case fused[] = {{"axyb", "1 0 2"}, {"xx", "0"}};
    assert_cases("'model': {'type': 'BPE', 'unk_token': 'u', 'fuse_unk': false,"
                 " 'vocab': {'u': 0, 'a': 1, 'b': 2}, 'merges': []}",
                 single, COUNT(single));
    assert_cases("'model': {'type': 'BPE', 'unk_token': 'u', 'fuse_unk': true,"
                 " 'vocab': {'u': 0, 'a': 1, 'b': 2}, 'merges': []}",
                 fused, COUNT(fused));
}

static void bpe_falls_back_to_bytes_only_when_all_of_them_are_there(void **state)
{
    (void)state;
    static const encode_case cases[] = {
        {"\xc3\xa9", "1 2"}, {"\xc3\xa8", "0"}, {"a\xc3\xa9", "3 1 2"},
    };
    assert_cases("'model': {'type': 'BPE', 'unk_token': 'u', 'byte_fallback': true,"
                 " 'vocab': {'u': 0, '<0xC3>': 1, '<0xA9>': 2, 'a': 3}, 'merges': []}",
                 cases, COUNT(cases));
}

static void bpe_ignore_merges_takes_a_whole_piece_that_is_a_token(void **state)
{
    (void)state;
    static const encode_case cases[] = {{"abc", "3"}, {"abca", "0 1 2 0"}};
    assert_cases("'model': {'type': 'BPE', 'ignore_merges': true,"
                 " 'vocab': {'a': 0, 'b': 1, 'c': 2, 'abc': 3}, 'merges': []}",
                 cases, COUNT(cases));
}

static void bpe_puts_prefix_and_suffix_on_inner_and_last_characters(void **state)
{
    (void)state;
    static const encode_case cases[] = {
        {"a", "1"}, {"ab", "4"}, {"ba", "5 6"}, {"aab", "0 3 2"}, {"b", "7"},
    };
    assert_cases("'model': {'type': 'BPE', 'continuing_subword_prefix': '##',"
                 " 'end_of_word_suffix': '</w>', 'vocab': {'a': 0, 'a</w>': 1, '##b</w>': 2,"
                 " '##a': 3, 'ab</w>': 4, 'b': 5, '##a</w>': 6, 'b</w>': 7},"
                 " 'merges': ['a ##b</w>']}",
                 cases, COUNT(cases));
}

/* Pairs that make a word of 2^k letters: every long run has one right answer. */
static pr_tokenizer *doubling_tokenizer(void)
{
    return support_tokenizer(
        "'model': {'type': 'BPE', 'vocab': {'a': 0, 'aa': 1, 'aaaa': 2, 'aaaaaaaa': 3, 'b': 4},"
        " 'merges': ['a a', 'aa aa', 'aaaa aaaa']}");
}

static void bpe_joins_short_and_long_pieces_alike(void **state)
{
    (void)state;
    pr_tokenizer *t = doubling_tokenizer();
    char text[200];
    memset(text, 'a', sizeof text);
    for (size_t n = 1; n < sizeof text; n++) {
        pr_error err;
        pr_ids ids = {0};
        assert_int_equal(pr_tokenizer_encode(t, text, n, &ids, &err), PR_OK);
        size_t expected = n / 8 + (n / 4) % 2 + (n / 2) % 2 + n % 2;
        if (ids.n != expected) fail_msg("%zu letters: %zu ids, not %zu", n, ids.n, expected);
        pr_ids_deinit(&ids);
    }
    pr_tokenizer_free(t);
}

static void bpe_takes_a_piece_of_a_million_letters(void **state)
{
    (void)state;
    enum { N = 1000000 };
    pr_tokenizer *t = doubling_tokenizer();
    char *text = malloc(N);
    assert_non_null(text);
    memset(text, 'a', N);
    pr_error err;
    pr_ids ids = {0};
    assert_int_equal(pr_tokenizer_encode(t, text, N, &ids, &err), PR_OK);
    assert_int_equal(ids.n, N / 8);
    pr_ids_deinit(&ids);
    free(text);
    pr_tokenizer_free(t);
}

static void bpe_refuses_what_it_cannot_honour(void **state)
{
    (void)state;
    static const struct {
        const char *members;
        pr_status status;
        const char *message;
    } cases[] = {
        {"'model': {'type': 'BPE', 'vocab': {'a': 0}, 'merges': ['a b']}", PR_E_MODEL,
         "merges[0]: token \"b\" is not in the vocabulary"},
        {"'model': {'type': 'BPE', 'vocab': {'a': 0, 'b': 1}, 'merges': ['a b']}", PR_E_MODEL,
         "merges[0]: token \"ab\" is not in the vocabulary"},
        {"'model': {'type': 'BPE', 'vocab': {'a': 0}, 'merges': ['a']}", PR_E_MODEL, "merges[0]"},
        {"'model': {'type': 'BPE', 'vocab': {'a': 0}, 'merges': ['a b c']}", PR_E_MODEL,
         "merges[0]"},
        {"'model': {'type': 'BPE', 'vocab': {'a': 0}, 'merges': [['a']]}", PR_E_MODEL,
         "merges[0]"},
        {"'model': {'type': 'BPE', 'vocab': {'a': -1}, 'merges': []}", PR_E_MODEL, "\"a\""},
        {"'model': {'type': 'BPE', 'vocab': {'a': 2147483647}, 'merges': []}", PR_E_MODEL,
         "2147483647"},
        {"'model': {'type': 'BPE', 'vocab': {'a': 1.5}, 'merges': []}", PR_E_MODEL, "\"a\""},
        {"'model': {'type': 'BPE', 'vocab': {'a': 0}}", PR_E_MODEL, "merges"},
        {"'model': {'type': 'BPE', 'dropout': 0.1, 'vocab': {'a': 0}, 'merges': []}",
         PR_E_UNSUPPORTED, "dropout 0.1"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        pr_error err;
        assert_int_equal(support_refusal(cases[i].members, &err), cases[i].status);
        if (!strstr(err.message, cases[i].message)) fail_msg("case %zu: %s", i, err.message);
    }
}

static void bpe_unk_token_outside_the_vocabulary_fails_where_it_is_needed(void **state)
{
    (void)state;
    char ids[256];
    pr_tokenizer *t = support_tokenizer(
        "'model': {'type': 'BPE', 'unk_token': 'u', 'vocab': {'a': 0}, 'merges': []}");
    assert_string_equal(support_encode(t, "aa", ids, sizeof ids), "0 0");
    assert_non_null(strstr(support_encode(t, "ab", ids, sizeof ids), "unk_token"));
    pr_tokenizer_free(t);
}

static void bpe_reads_escapes_spaces_and_keys_that_come_twice(void **state)
{
    (void)state;
    static const encode_case cases[] = {
        {"\xc3\xa9\xf0\x9f\x98\x80", "7"}, {"\"\\/", "2 3 4"}, {"\n", "8"}, {"a", "9"},
    };
    assert_cases("'model' : { 'type':'BPE' ,\n 'vocab' : { '\\u00e9' : 0 ,'\\ud83d\\uDE00':1,"
                 " '\\\"': 2, '\\\\': 3, '\\/': 4, 'a': 5, '\\u00e9\\ud83d\\ude00':7,"
                 " '\\n': 8, 'a': 9}\t,"
                 " 'merges': [ [ '\\u00e9' , '\xf0\x9f\x98\x80' ] ] } ",
                 cases, COUNT(cases));
}

static void bpe_says_what_is_wrong_in_large_values(void **state)
{
    (void)state;
    static const struct {
        const char *members;
        const char *message;
    } cases[] = {
        {"'model': {'type': 'BPE', 'vocab': {'a': 0,}, 'merges': []}", "not JSON"},
        {"'model': {'type': 'BPE', 'vocab': {'a': 0}, 'merges': ['a' 'b']}", "not JSON"},
        {"'model': {'type': 'BPE', 'vocab': {'a': 01}, 'merges': []}", "not JSON"},
        {"'model': {'type': 'BPE', 'vocab': {'\\ud800': 0}, 'merges': []}", "not JSON"},
        {"'model': {'type': 'BPE', 'vocab': {'\\u0000': 0}, 'merges': []}", "not JSON"},
        {"'model': {'type': 'BPE', 'vocab': {'\xff': 0}, 'merges': []}", "not JSON"},
        {"'model': {'type': 'BPE', 'vocab': {'a': 4294967296}, 'merges': []}", "4294967296"},
        {"'model': {'type': 'BPE', 'vocab': {'a': -1}, 'merges': []}", "found id -1"},
        {"'model': {'type': 'BPE', 'vocab': {'a': 0}, 'merges': [['a']]}", "merges[0]: expected"},
        {"'model': {'type': 'BPE', 'vocab': {'a': 0}, 'merges': ['a b']}", "\"b\" is not in"},
        {"'model': {'type': 'BPE', 'vocab': {'a': 0}, 'merges': [1]}", "merges[0]: expected"},
        {"'model': {'type': 'Unigram', 'vocab': {'a': 0}}", "expected an array"},
        {"'model': {'type': 'BPE', 'vocab': {'a': 0}, 'vocab': [], 'merges': []}", "an object"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        pr_error err;
        assert_int_equal(support_refusal(cases[i].members, &err), PR_E_MODEL);
        if (!strstr(err.message, cases[i].message)) fail_msg("case %zu: %s", i, err.message);
    }
}

static void bpe_token_whose_text_merges_to_others_is_not_taken_whole(void **state)
{
    (void)state;
    char ids[64];
    pr_tokenizer *t = support_tokenizer(
        "'model': {'type': 'BPE', 'vocab': {'a': 0, 'b': 1, 'c': 2, 'ab': 3, 'bc': 4, 'abc': 5},"
        " 'merges': ['b c', 'a b', 'ab c']}");
    for (int i = 0; i < 3; i++) { /* what is known of a token stays right */
        assert_string_equal(support_encode(t, "abc", ids, sizeof ids), "0 4");
        assert_string_equal(support_encode(t, "ab", ids, sizeof ids), "3");
    }
    pr_tokenizer_free(t);
}

static void bpe_merges_words_apart_unless_a_merge_joins_them(void **state)
{
    (void)state;
    static const encode_case apart[] = {
        {"a\u2581a", "0 2"}, {"\u2581\u2581a", "3 0"}, {"a\u2581\u2581", "0 3"},
        {"\u2581", "1"},     {"x\u2581a", "4 2"},      {"a\u2580a", "0 4 0"},
    };
    assert_cases("'model': {'type': 'BPE', 'unk_token': 'u', 'vocab': {'a': 0, '\u2581': 1,"
                 " '\u2581a': 2, '\u2581\u2581': 3, 'u': 4}, 'merges': ['\u2581 \u2581',"
                 " '\u2581 a']}",
                 apart, COUNT(apart));
    static const encode_case joined[] = {{"a\u2581a", "3 0"}, {"\u2581a", "2"}};
    assert_cases("'model': {'type': 'BPE', 'vocab': {'a': 0, '\u2581': 1, '\u2581a': 2,"
                 " 'a\u2581': 3}, 'merges': ['a \u2581', '\u2581 a']}",
                 joined, COUNT(joined));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bpe_joins_the_lowest_rank_first_and_then_the_leftmost),
        cmocka_unit_test(bpe_reads_merges_of_both_forms_and_files_without_type),
        cmocka_unit_test(bpe_drops_unknown_characters_without_unk_token),
        cmocka_unit_test(bpe_gives_unknown_characters_the_unk_token),
        cmocka_unit_test(bpe_falls_back_to_bytes_only_when_all_of_them_are_there),
        cmocka_unit_test(bpe_ignore_merges_takes_a_whole_piece_that_is_a_token),
        cmocka_unit_test(bpe_puts_prefix_and_suffix_on_inner_and_last_characters),
        cmocka_unit_test(bpe_joins_short_and_long_pieces_alike),
        cmocka_unit_test(bpe_takes_a_piece_of_a_million_letters),
        cmocka_unit_test(bpe_refuses_what_it_cannot_honour),
        cmocka_unit_test(bpe_reads_escapes_spaces_and_keys_that_come_twice),
        cmocka_unit_test(bpe_says_what_is_wrong_in_large_values),
        cmocka_unit_test(bpe_token_whose_text_merges_to_others_is_not_taken_whole),
        cmocka_unit_test(bpe_merges_words_apart_unless_a_merge_joins_them),
        cmocka_unit_test(bpe_unk_token_outside_the_vocabulary_fails_where_it_is_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
