/* Normalizers against what Hugging Face tokenizers makes of the same texts
 * (tests/parity/text_golden.json, by make_text_golden.py). */
#include "runtime/text/normalizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void check_case(const pr_normalizer *nz, const json_t *node, const json_t *one)
{
    const json_t *text = json_array_get(one, 0);
    const json_t *want = json_array_get(json_array_get(one, 1), 0);
    pr_buffer out = {0};
    pr_error err = {0};
    pr_status st = pr_normalizer_apply(nz, json_string_value(text), json_string_length(text), &out,
                                       &err);
    assert_string_equal(err.message, "");
    assert_int_equal(st, PR_OK);
    if (out.n != json_string_length(want) ||
        (out.n > 0 && memcmp(out.data, json_string_value(want), out.n) != 0)) {
        char *spec = json_dumps(node, JSON_ENSURE_ASCII);
        print_message("%.300s\n  text %s\n  got  %.*s\n  want %s\n", spec, json_string_value(text),
                      (int)out.n, out.data, json_string_value(want));
        free(spec);
        fail();
    }
    pr_buffer_deinit(&out);
}

static void every_normalizer_gives_what_tokenizers_gives(void **state)
{
    (void)state;
    json_t *golden = NULL;
    pr_error err = {0};
    size_t n_seen = 0;
    assert_int_equal(
        pr_json_load(PR_TESTS_DIR "/parity/text_golden.json", 64 << 20, &golden, &err), PR_OK);
    for (size_t i = 0; i < json_array_size(golden); i++) {
        const json_t *entry = json_array_get(golden, i);
        if (strcmp(json_string_value(json_object_get(entry, "kind")), "normalizer") != 0) continue;
        const json_t *node = json_object_get(entry, "node");
        const json_t *cases = json_object_get(entry, "cases");
        pr_normalizer *nz = NULL;
        pr_status st = pr_normalizer_parse(node, "normalizer", &nz, &err);
        assert_string_equal(err.message, "");
        assert_int_equal(st, PR_OK);
        for (size_t j = 0; j < json_array_size(cases); j++) {
            check_case(nz, node, json_array_get(cases, j));
            n_seen++;
        }
        pr_normalizer_free(nz);
    }
    assert_true(n_seen > 1000);
    json_decref(golden);
}

static void what_is_no_normalizer_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *node;
        pr_status st;
        const char *part; /* of the message */
    } rows[] = {
        {"{\"type\":\"Uppercase\"}", PR_E_UNSUPPORTED, "Uppercase"},
        {"{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Foo\"}]}",
         PR_E_UNSUPPORTED, "Foo"},
        {"[]", PR_E_MODEL, "an array"},
        {"{}", PR_E_MODEL, "type"},
        {"{\"type\":\"Sequence\"}", PR_E_MODEL, "normalizers"},
        {"{\"type\":\"BertNormalizer\"}", PR_E_MODEL, "clean_text"},
        {"{\"type\":\"Strip\",\"strip_left\":true}", PR_E_MODEL, "strip_right"},
        {"{\"type\":\"Prepend\"}", PR_E_MODEL, "prepend"},
        {"{\"type\":\"Replace\",\"pattern\":\"a\",\"content\":\"b\"}", PR_E_MODEL, "pattern"},
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(\"},\"content\":\"\"}", PR_E_MODEL,
         "missing )"},
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\G\"},\"content\":\"\"}",
         PR_E_UNSUPPORTED, "\\G"},
        {"{\"type\":\"Precompiled\",\"precompiled_charsmap\":null}", PR_E_MODEL, "charsmap"},
        {"{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"\"}", PR_E_MODEL, "0 bytes"},
        {"{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"a\"}", PR_E_MODEL, "base64"},
        {"{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"/////w==\"}", PR_E_MODEL, "trie"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *node = NULL;
        pr_error err = {0};
        pr_normalizer *nz = NULL;
        assert_int_equal(
            pr_json_parse(rows[i].node, strlen(rows[i].node), "test", &node, &err), PR_OK);
        assert_int_equal(pr_normalizer_parse(node, "tokenizer.json", &nz, &err), rows[i].st);
        assert_null(nz);
        assert_non_null(strstr(err.message, rows[i].part));
        json_decref(node);
    }
}

static void a_charsmap_that_points_astray_changes_nothing(void **state)
{
    (void)state;
    /* One trie unit whose children lie far outside of it. */
    static const char spec[] =
        "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"BAAAAP////8=\"}";
    json_t *node = json_loads(spec, 0, NULL);
    pr_error err = {0};
    pr_normalizer *nz = NULL;
    pr_buffer out = {0};
    assert_int_equal(pr_normalizer_parse(node, "test", &nz, &err), PR_OK);
    assert_int_equal(pr_normalizer_apply(nz, "a\xc3\xa9", 3, &out, &err), PR_OK);
    assert_int_equal(out.n, 3);
    assert_memory_equal(out.data, "a\xc3\xa9", 3);
    pr_buffer_deinit(&out);
    pr_normalizer_free(nz);
    json_decref(node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_normalizer_gives_what_tokenizers_gives),
        cmocka_unit_test(what_is_no_normalizer_is_refused_by_name),
        cmocka_unit_test(a_charsmap_that_points_astray_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
