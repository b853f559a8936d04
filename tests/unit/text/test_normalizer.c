/* Normalizers against what Hugging Face tokenizers makes of the same texts
 * (tests/parity/text_golden.json, by make_text_golden.py). */
#include "runtime/text/tokenizer/normalizer.h"

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

/* A tokenizer of n equal steps in a Sequence, applied to text. */
static pr_status apply_many(const char *step, int n, const char *text, size_t n_text, pr_error *err)
{
    pr_buffer spec = {0};
    pr_buffer_append_str(&spec, "{\"type\":\"Sequence\",\"normalizers\":[");
    for (int i = 0; i < n; i++) pr_buffer_printf(&spec, i ? ",%s" : "%s", step);
    pr_buffer_append_str(&spec, "]}");
    json_t *node = json_loads(pr_buffer_str(&spec), 0, NULL);
    pr_normalizer *nz = NULL;
    pr_buffer out = {0};
    pr_status st = pr_normalizer_parse(node, "test", &nz, err);
    if (st == PR_OK) st = pr_normalizer_apply(nz, text, n_text, &out, err);
    pr_buffer_deinit(&out);
    pr_normalizer_free(nz);
    json_decref(node);
    pr_buffer_deinit(&spec);
    return st;
}

/* A trie of one unit and one replacement of 300 bytes; base64 of "bbb" is "YmJi". */
static void a_charsmap_with_an_endless_replacement_is_refused(void **state)
{
    (void)state;
    pr_buffer step = {0};
    pr_buffer_append_str(&step,
                         "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"BAAAAP////9i");
    for (int i = 0; i < 100; i++) pr_buffer_append_str(&step, "YmJi");
    pr_buffer_append_str(&step, "\"}");
    pr_error err = {0};
    assert_int_equal(apply_many(pr_buffer_str(&step), 1, "a", 1, &err), PR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "301 bytes"));
    pr_buffer_deinit(&step);
}

static void steps_that_multiply_a_text_without_end_are_stopped(void **state)
{
    (void)state;
    static const char twice[] =
        "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"aa\"}";
    pr_error err = {0};
    assert_int_equal(apply_many(twice, 16, "a", 1, &err), PR_OK);
    assert_int_equal(apply_many(twice, 22, "a", 1, &err), PR_E_TOO_LARGE);
    assert_int_equal(apply_many("{\"type\":\"ByteLevel\"}", 22, "\xc3\xa9", 2, &err),
                     PR_E_TOO_LARGE);
    assert_int_equal(apply_many("{\"type\":\"NFC\"}", 257, "a", 1, &err), PR_E_UNSUPPORTED);
}

/* One step whose replacement is 10 kB for each of 10,000 characters. */
static void a_replacement_that_is_much_longer_is_stopped_while_it_grows(void **state)
{
    (void)state;
    enum { N = 10000 };
    static char step[N + 100], text[N];
    memset(text, 'a', N);
    int n = snprintf(step, sizeof step,
                     "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"");
    memset(step + n, 'b', N);
    memcpy(step + n + N, "\"}", 3);
    pr_error err = {0};
    assert_int_equal(apply_many(step, 1, text, 5, &err), PR_OK);
    assert_int_equal(apply_many(step, 1, text, N, &err), PR_E_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_normalizer_gives_what_tokenizers_gives),
        cmocka_unit_test(what_is_no_normalizer_is_refused_by_name),
        cmocka_unit_test(a_charsmap_that_points_astray_changes_nothing),
        cmocka_unit_test(a_charsmap_with_an_endless_replacement_is_refused),
        cmocka_unit_test(steps_that_multiply_a_text_without_end_are_stopped),
        cmocka_unit_test(a_replacement_that_is_much_longer_is_stopped_while_it_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
