/* runtime/text/tokenizer/tokenizer.h against what Hugging Face tokenizers made of the same strings:
 * tests/parity/tokenizers/small/golden, written by make_golden.py there. */
#include "runtime/base/json.h"
#include "runtime/text/tokenizer/tokenizer.h"
#include "text_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SMALL PR_TESTS_DIR "/parity/tokenizers/small/"

typedef struct fixture {
    pr_tokenizer *t;
    json_t *texts;
    json_t *golden;
} fixture;

static json_t *load(const char *path)
{
    pr_error err;
    json_t *value = NULL;
    if (pr_json_load(path, (size_t)8 << 20, &value, &err) != PR_OK) fail_msg("%s", err.message);
    return value;
}

static fixture fixture_open(const char *name)
{
    fixture f = {0};
    pr_error err;
    char path[512];
    snprintf(path, sizeof path, SMALL "%s.json", name);
    if (pr_tokenizer_load(path, &f.t, &err) != PR_OK) fail_msg("%s", err.message);
    f.texts = load(SMALL "golden/texts.json");
    snprintf(path, sizeof path, SMALL "golden/%s.json", name);
    f.golden = load(path);
    assert_true(json_array_size(f.texts) >= 200);
    return f;
}

static void fixture_close(fixture *f)
{
    pr_tokenizer_free(f->t);
    json_decref(f->texts);
    json_decref(f->golden);
}

static pr_ids encode(const fixture *f, size_t i)
{
    pr_error err;
    pr_ids ids = {0};
    const json_t *text = json_array_get(f->texts, i % json_array_size(f->texts));
    if (pr_tokenizer_encode(f->t, json_string_value(text), json_string_length(text), &ids, &err) !=
        PR_OK) {
        fail_msg("text %zu: %s", i, err.message);
    }
    return ids;
}

static void assert_numbers(const json_t *expected, const void *found, size_t n, bool is_bytes,
                           const char *what, size_t i_text)
{
    bool same = json_array_size(expected) == n;
    for (size_t i = 0; same && i < n; i++) {
        int value = is_bytes ? ((const uint8_t *)found)[i] : ((const int32_t *)found)[i];
        same = json_integer_value(json_array_get(expected, i)) == value;
    }
    if (same) return;
    char *wanted = json_dumps(expected, JSON_COMPACT);
    char shown[4096] = "";
    if (!is_bytes) support_show(found, n, shown, sizeof shown);
    fail_msg("text %zu: %s: expected %s, found %zu: %s", i_text, what, wanted, n, shown);
}

static void assert_decoded(const fixture *f, const pr_encoding *e, size_t i, const char *key,
                           bool skip_special)
{
    pr_error err;
    pr_buffer text = {0};
    const json_t *expected = json_array_get(json_object_get(f->golden, key), i);
    if (pr_tokenizer_decode(f->t, e->ids, e->n, skip_special, &text, &err) != PR_OK) {
        fail_msg("text %zu: %s", i, err.message);
    }
    if (text.n != json_string_length(expected) ||
        (text.n && memcmp(text.data, json_string_value(expected), text.n) != 0)) {
        fail_msg("text %zu: %s: expected \"%s\", found \"%.*s\"", i, key,
                 json_string_value(expected), (int)text.n, text.data);
    }
    pr_buffer_deinit(&text);
}

static void check_single(const fixture *f, size_t i)
{
    pr_error err;
    pr_encoding e = {0};
    pr_ids ids = encode(f, i);
    assert_int_equal(
        pr_tokenizer_assemble(f->t, ids.ids, ids.n, NULL, 0, true, &e, &err), PR_OK);
    assert_int_equal(e.n, ids.n + pr_tokenizer_n_added(f->t, false));
    assert_numbers(json_array_get(json_object_get(f->golden, "single"), i), e.ids, e.n, false,
                   "ids", i);
    assert_decoded(f, &e, i, "decoded", true);
    assert_decoded(f, &e, i, "decoded_special", false);
    pr_encoding_deinit(&e);
    pr_ids_deinit(&ids);
}

static void check_pair(const fixture *f, size_t i)
{
    static const int32_t nothing[1];
    pr_error err;
    pr_encoding e = {0};
    pr_ids a = encode(f, i);
    pr_ids b = encode(f, i + 1);
    assert_int_equal(pr_tokenizer_assemble(f->t, a.ids, a.n, b.ids ? b.ids : nothing, b.n, true,
                                           &e, &err),
                     PR_OK);
    assert_int_equal(e.n, a.n + b.n + pr_tokenizer_n_added(f->t, true));
    const json_t *expected = json_array_get(json_object_get(f->golden, "pair"), i);
    assert_numbers(json_array_get(expected, 0), e.ids, e.n, false, "pair", i);
    assert_numbers(json_array_get(expected, 1), e.type_ids, e.n, true, "types", i);
    pr_encoding_deinit(&e);
    pr_ids_deinit(&a);
    pr_ids_deinit(&b);
}

static void check_all(const char *name)
{
    fixture f = fixture_open(name);
    for (size_t i = 0; i < json_array_size(f.texts); i++) {
        check_single(&f, i);
        check_pair(&f, i);
    }
    fixture_close(&f);
}

static void tokenizer_bert_uncased_is_as_golden(void **state)
{
    (void)state;
    check_all("bert_uncased");
}

static void tokenizer_bert_cased_is_as_golden(void **state)
{
    (void)state;
    check_all("bert_cased");
}

static void tokenizer_roberta_is_as_golden(void **state)
{
    (void)state;
    check_all("roberta_bpe");
}

static void tokenizer_xlm_roberta_is_as_golden(void **state)
{
    (void)state;
    check_all("xlmr_unigram");
}

static void tokenizer_qwen2_is_as_golden(void **state)
{
    (void)state;
    check_all("qwen2_bpe");
}

static void tokenizer_llama3_is_as_golden(void **state)
{
    (void)state;
    check_all("llama3_bpe");
}

static void tokenizer_mistral_is_as_golden(void **state)
{
    (void)state;
    check_all("mistral_bpe");
}

static void tokenizer_mistral_with_metaspace_is_as_golden(void **state)
{
    (void)state;
    check_all("mistral_metaspace_bpe");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokenizer_bert_uncased_is_as_golden),
        cmocka_unit_test(tokenizer_bert_cased_is_as_golden),
        cmocka_unit_test(tokenizer_roberta_is_as_golden),
        cmocka_unit_test(tokenizer_xlm_roberta_is_as_golden),
        cmocka_unit_test(tokenizer_qwen2_is_as_golden),
        cmocka_unit_test(tokenizer_llama3_is_as_golden),
        cmocka_unit_test(tokenizer_mistral_is_as_golden),
        cmocka_unit_test(tokenizer_mistral_with_metaspace_is_as_golden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
