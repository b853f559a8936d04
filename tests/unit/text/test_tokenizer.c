/* runtime/text/tokenizer/tokenizer.h: the whole pipeline, what it refuses, and its use by several
 * threads. */
#include <pthread.h>
#include "text_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

#define WORDS                                                                                      \
    "'model': {'type': 'WordLevel', 'unk_token': 'u', 'vocab': {'u': 0, 'a': 1, 'b': 2, 'z': 9}}," \
    " 'pre_tokenizer': {'type': 'WhitespaceSplit'}"

static void tokenizer_ignores_padding_and_truncation(void **state)
{
    (void)state;
    char ids[64];
    pr_tokenizer *t = support_tokenizer(
        WORDS ", 'truncation': {'max_length': 1, 'strategy': 'LongestFirst', 'stride': 0,"
              " 'direction': 'Right'}, 'padding': {'strategy': {'Fixed': 8}, 'direction': 'Right',"
              " 'pad_id': 0, 'pad_type_id': 0, 'pad_token': 'u'}");
    assert_string_equal(support_encode(t, "a b a", ids, sizeof ids), "1 2 1");
    pr_tokenizer_free(t);
}

static void tokenizer_encode_appends(void **state)
{
    (void)state;
    pr_error err;
    char shown[64];
    pr_ids ids = {0};
    pr_tokenizer *t = support_tokenizer(WORDS);
    assert_int_equal(pr_tokenizer_encode(t, "a", 1, &ids, &err), PR_OK);
    assert_int_equal(pr_tokenizer_encode(t, "b b", 3, &ids, &err), PR_OK);
    assert_int_equal(pr_tokenizer_encode(t, NULL, 0, &ids, &err), PR_OK);
    assert_string_equal(support_show(ids.ids, ids.n, shown, sizeof shown), "1 2 2");
    pr_ids_deinit(&ids);
    pr_tokenizer_free(t);
}

static void tokenizer_names_the_byte_that_is_not_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *message;
    } cases[] = {{"a \xff", "byte 2"}, {"\xc3", "byte 0"}, {"ab\xed\xa0\x80", "byte 2"}};
    pr_tokenizer *t = support_tokenizer(WORDS);
    for (size_t i = 0; i < COUNT(cases); i++) {
        pr_error err;
        pr_ids ids = {0};
        assert_int_equal(pr_tokenizer_encode(t, cases[i].text, strlen(cases[i].text), &ids, &err),
                         PR_E_INPUT);
        if (!strstr(err.message, cases[i].message)) fail_msg("%s", err.message);
        pr_ids_deinit(&ids);
    }
    pr_tokenizer_free(t);
}

static void tokenizer_knows_its_tokens_both_ways(void **state)
{
    (void)state;
    size_t n = 0;
    pr_tokenizer *t = support_tokenizer(WORDS ", 'added_tokens': [{'id': 4, 'content': '<s>',"
                                              " 'special': true}]");
    assert_int_equal(pr_tokenizer_token_to_id(t, "b", 1), 2);
    assert_int_equal(pr_tokenizer_token_to_id(t, "<s>", 3), 4);
    assert_int_equal(pr_tokenizer_token_to_id(t, "c", 1), -1);
    assert_memory_equal(pr_tokenizer_id_to_token(t, 4, &n), "<s>", 3);
    assert_int_equal(n, 3);
    assert_memory_equal(pr_tokenizer_id_to_token(t, 9, &n), "z", 1);
    assert_null(pr_tokenizer_id_to_token(t, 3, &n));
    assert_null(pr_tokenizer_id_to_token(t, -1, &n));
    assert_null(pr_tokenizer_id_to_token(t, INT32_MAX, &n));
    assert_int_equal(pr_tokenizer_n_ids(t), 10);
    assert_true(pr_tokenizer_id_is_special(t, 4));
    assert_false(pr_tokenizer_id_is_special(t, 1));
    pr_tokenizer_free(t);
}

static void tokenizer_decode_skips_ids_that_are_not_in_use(void **state)
{
    (void)state;
    char text[64];
    pr_tokenizer *t = support_tokenizer(WORDS ", 'added_tokens': [{'id': 4, 'content': '<s>',"
                                              " 'special': true}]");
    static const int32_t ids[] = {4, 1, 3, -5, INT32_MAX, 9};
    assert_string_equal(support_decode(t, ids, COUNT(ids), false, text, sizeof text), "<s> a z");
    assert_string_equal(support_decode(t, ids, COUNT(ids), true, text, sizeof text), "a z");
    assert_string_equal(support_decode(t, NULL, 0, true, text, sizeof text), "");
    pr_tokenizer_free(t);
}

static void tokenizer_refuses_by_the_name_of_the_component(void **state)
{
    (void)state;
    static const struct {
        const char *members;
        pr_status status;
        const char *message;
    } cases[] = {
        {"", PR_E_MODEL, "model"},
        {"'model': null", PR_E_MODEL, "model"},
        {"'model': []", PR_E_MODEL, "model"},
        {"'model': {'type': 'Markov'}", PR_E_UNSUPPORTED, "Markov"},
        {WORDS ", 'version': '2.0'", PR_E_UNSUPPORTED, "2.0"},
        {WORDS ", 'normalizer': {'type': 'Reverse'}", PR_E_UNSUPPORTED, "Reverse"},
        {"'model': {'type': 'WordLevel', 'unk_token': 'u', 'vocab': {}}, 'pre_tokenizer':"
         " {'type': 'Shredder'}", PR_E_UNSUPPORTED, "Shredder"},
        {WORDS ", 'post_processor': {'type': 'Shuffle'}", PR_E_UNSUPPORTED, "Shuffle"},
        {WORDS ", 'decoder': {'type': 'Rot13'}", PR_E_UNSUPPORTED, "Rot13"},
        {WORDS ", 'post_processor': {'type': 'BertProcessing', 'sep': ['s', 10], 'cls': ['c', 1]}",
         PR_E_MODEL, "id 10"},
        {WORDS ", 'decoder': 'WordPiece'", PR_E_MODEL, "decoder"},
        {"'model': {'type': 'WordLevel', 'unk_token': 'u', 'vocab': {'a': -3}}", PR_E_MODEL, "-3"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        pr_error err;
        pr_status st = support_refusal(cases[i].members, &err);
        if (st != cases[i].status || !strstr(err.message, cases[i].message)) {
            fail_msg("case %zu: status %d: %s", i, st, err.message);
        }
    }
}

static void tokenizer_refuses_text_that_is_not_json(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "", "{", "[]", "7", "{\"model\": {\"vocab\": {\"a\": 0", "\xff",
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        pr_error err;
        pr_tokenizer *t = NULL;
        assert_int_equal(pr_tokenizer_parse(cases[i], strlen(cases[i]), "x.json", &t, &err),
                         PR_E_MODEL);
        assert_null(t);
        assert_non_null(strstr(err.message, "x.json"));
    }
}

static void tokenizer_load_refuses_missing_files(void **state)
{
    (void)state;
    pr_error err;
    pr_tokenizer *t = NULL;
    assert_int_equal(pr_tokenizer_load("/nonexistent/tokenizer.json", &t, &err), PR_E_NOT_FOUND);
    assert_null(t);
}

enum { N_THREADS = 4, N_ROUNDS = 200 };

static void *encode_many(void *argument)
{
    const pr_tokenizer *t = argument;
    char ids[256];
    for (int i = 0; i < N_ROUNDS; i++) {
        if (strcmp(support_encode(t, "b a x a<s>z", ids, sizeof ids), "2 1 0 1 4 9") != 0) {
            return argument;
        }
    }
    return NULL;
}

static void tokenizer_is_shared_by_threads(void **state)
{
    (void)state;
    pthread_t threads[N_THREADS];
    pr_tokenizer *t = support_tokenizer(WORDS ", 'added_tokens': [{'id': 4, 'content': '<s>'}]");
    for (int i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, encode_many, t), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        void *failed = NULL;
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    pr_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokenizer_ignores_padding_and_truncation),
        cmocka_unit_test(tokenizer_encode_appends),
        cmocka_unit_test(tokenizer_names_the_byte_that_is_not_utf8),
        cmocka_unit_test(tokenizer_knows_its_tokens_both_ways),
        cmocka_unit_test(tokenizer_decode_skips_ids_that_are_not_in_use),
        cmocka_unit_test(tokenizer_refuses_by_the_name_of_the_component),
        cmocka_unit_test(tokenizer_refuses_text_that_is_not_json),
        cmocka_unit_test(tokenizer_load_refuses_missing_files),
        cmocka_unit_test(tokenizer_is_shared_by_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
