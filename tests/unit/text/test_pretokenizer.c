/* Pre-tokenizers against what Hugging Face tokenizers makes of the same texts
 * (tests/parity/text_golden.json, by make_text_golden.py), and the limits of patterns. */
#include "runtime/text/tokenizer/pretokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static pr_pretokenizer *parse(const char *spec)
{
    json_t *node = json_loads(spec, 0, NULL);
    pr_error err = {0};
    pr_pretokenizer *pt = NULL;
    pr_status st = pr_pretokenizer_parse(node, "test", &pt, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(st, PR_OK);
    json_decref(node);
    return pt;
}

static bool same(const pr_pieces *got, const json_t *want)
{
    if (got->n != json_array_size(want)) return false;
    for (size_t i = 0; i < got->n; i++) {
        const json_t *piece = json_array_get(want, i);
        if (got->pieces[i].n != json_string_length(piece) ||
            memcmp(got->text.data + got->pieces[i].begin, json_string_value(piece),
                   got->pieces[i].n) != 0)
            return false;
    }
    return true;
}

static void check_case(const pr_pretokenizer *pt, const json_t *node, const json_t *one,
                       pr_pieces *pieces)
{
    const json_t *text = json_array_get(one, 0);
    pr_error err = {0};
    pr_status st = pr_pretokenizer_split(pt, json_string_value(text), json_string_length(text),
                                         true, pieces, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(st, PR_OK);
    if (same(pieces, json_array_get(one, 1))) return;
    char *spec = json_dumps(node, JSON_ENSURE_ASCII);
    char *want = json_dumps(json_array_get(one, 1), 0);
    print_message("%.300s\n  text %s\n  want %s\n", spec, json_string_value(text), want);
    for (size_t i = 0; i < pieces->n; i++) {
        print_message("  got  %.*s\n", (int)pieces->pieces[i].n,
                      pieces->text.data + pieces->pieces[i].begin);
    }
    free(spec);
    free(want);
    fail();
}

static void every_pre_tokenizer_gives_what_tokenizers_gives(void **state)
{
    (void)state;
    json_t *golden = NULL;
    pr_error err = {0};
    pr_pieces pieces;
    pr_pieces_init(&pieces);
    size_t n_seen = 0;
    assert_int_equal(
        pr_json_load(PR_TESTS_DIR "/parity/text_golden.json", 64 << 20, &golden, &err), PR_OK);
    for (size_t i = 0; i < json_array_size(golden); i++) {
        const json_t *entry = json_array_get(golden, i);
        if (strcmp(json_string_value(json_object_get(entry, "kind")), "normalizer") == 0) continue;
        const json_t *node = json_object_get(entry, "node");
        const json_t *cases = json_object_get(entry, "cases");
        pr_pretokenizer *pt = NULL;
        pr_status st = pr_pretokenizer_parse(node, "pre_tokenizer", &pt, &err);
        assert_string_equal(err.message, "");
        assert_int_equal(st, PR_OK);
        for (size_t j = 0; j < json_array_size(cases); j++) {
            check_case(pt, node, json_array_get(cases, j), &pieces);
            n_seen++;
        }
        pr_pretokenizer_free(pt);
    }
    assert_true(n_seen > 1000);
    pr_pieces_deinit(&pieces);
    json_decref(golden);
}

static void what_is_no_pre_tokenizer_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *node;
        pr_status st;
        const char *part;
    } rows[] = {
        {"{\"type\":\"UnicodeScripts\"}", PR_E_UNSUPPORTED, "UnicodeScripts"},
        {"3", PR_E_MODEL, "an integer"},
        {"{\"type\":\"ByteLevel\"}", PR_E_MODEL, "add_prefix_space"},
        {"{\"type\":\"Digits\"}", PR_E_MODEL, "individual_digits"},
        {"{\"type\":\"Punctuation\",\"behavior\":\"isolated\"}", PR_E_MODEL, "isolated"},
        {"{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Removed\"}", PR_E_MODEL,
         "invert"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"ab\"}", PR_E_MODEL, "one character"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"add_prefix_space\":false}", PR_E_MODEL,
         "add_prefix_space"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"x\"}", PR_E_MODEL,
         "always, first or never"},
        {"{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?<n>a)\"},\"behavior\":\"Removed\","
         "\"invert\":false}",
         PR_E_UNSUPPORTED, "kind of group"},
        {"{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{Klingon}\"},\"behavior\":\"Removed\","
         "\"invert\":false}",
         PR_E_UNSUPPORTED, "Klingon"},
        {"{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a\"},\"behavior\":\"Removed\","
         "\"invert\":false}",
         PR_E_MODEL, "missing ]"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *node = json_loads(rows[i].node, JSON_DECODE_ANY, NULL);
        pr_error err = {0};
        pr_pretokenizer *pt = NULL;
        assert_int_equal(pr_pretokenizer_parse(node, "tokenizer.json", &pt, &err), rows[i].st);
        assert_null(pt);
        assert_non_null(strstr(err.message, rows[i].part));
        json_decref(node);
    }
}

static void metaspace_first_marks_only_the_beginning_of_the_input(void **state)
{
    (void)state;
    pr_pretokenizer *pt = parse("{\"type\":\"Metaspace\",\"replacement\":\"_\","
                                "\"prepend_scheme\":\"first\",\"split\":false}");
    pr_pieces pieces;
    pr_pieces_init(&pieces);
    assert_int_equal(pr_pretokenizer_split(pt, "ab c", 4, true, &pieces, NULL), PR_OK);
    assert_int_equal(pieces.pieces[0].n, 5);
    assert_memory_equal(pieces.text.data + pieces.pieces[0].begin, "_ab_c", 5);
    assert_int_equal(pr_pretokenizer_split(pt, "ab c", 4, false, &pieces, NULL), PR_OK);
    assert_int_equal(pieces.pieces[0].n, 4);
    assert_memory_equal(pieces.text.data + pieces.pieces[0].begin, "ab_c", 4);
    pr_pieces_deinit(&pieces);
    pr_pretokenizer_free(pt);
}

static void a_pattern_that_backtracks_without_end_gives_an_error(void **state)
{
    (void)state;
    pr_pretokenizer *pt = parse("{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?:a+)+b|(x+x+)+y\"},"
                                "\"behavior\":\"Isolated\",\"invert\":false}");
    char text[64];
    memset(text, 'a', sizeof text);
    pr_pieces pieces;
    pr_pieces_init(&pieces);
    pr_error err = {0};
    assert_int_equal(pr_pretokenizer_split(pt, "aab", 3, true, &pieces, &err), PR_OK);
    memset(text, 'x', sizeof text);
    assert_int_equal(pr_pretokenizer_split(pt, text, sizeof text, true, &pieces, &err), PR_E_INPUT);
    assert_non_null(strstr(err.message, "ran into its limit"));
    /* The handle stays usable. */
    assert_int_equal(pr_pretokenizer_split(pt, "aab", 3, true, &pieces, &err), PR_OK);
    assert_int_equal(pieces.n, 1);
    pr_pieces_deinit(&pieces);
    pr_pretokenizer_free(pt);
}

static void a_megabyte_of_one_character_is_one_piece(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    pr_pretokenizer *pt = parse("{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                                "\"trim_offsets\":true,\"use_regex\":true}");
    char *text = malloc(N);
    assert_non_null(text);
    pr_pieces pieces;
    pr_pieces_init(&pieces);
    const char letters[] = "a! 1";
    for (size_t i = 0; letters[i]; i++) {
        memset(text, letters[i], N);
        assert_int_equal(pr_pretokenizer_split(pt, text, N, true, &pieces, NULL), PR_OK);
        assert_int_equal(pieces.n, 1);
    }
    pr_pieces_deinit(&pieces);
    pr_pretokenizer_free(pt);
    free(text);
}

static pr_status refusal(const char *regex, pr_error *err)
{
    json_t *node = json_pack("{s:s,s:{s:s},s:s,s:b}", "type", "Split", "pattern", "Regex", regex,
                             "behavior", "Isolated", "invert", 0);
    pr_pretokenizer *pt = NULL;
    pr_status st = pr_pretokenizer_parse(node, "test", &pt, err);
    pr_pretokenizer_free(pt);
    json_decref(node);
    return st;
}

/* A pattern of 64 KiB at most can become 110 MB for PCRE2, or cost its length squared. */
static void patterns_that_grow_without_measure_are_refused(void **state)
{
    (void)state;
    enum { N = 60000 };
    static char regex[N + 1];
    pr_error err = {0};
    for (int i = 0; i < N; i++) regex[i] = "\\b"[i % 2];
    assert_int_equal(refusal(regex, &err), PR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "long"));
    for (int i = 0; i < N; i++) regex[i] = "\\w"[i % 2];
    regex[0] = '[';
    regex[1] = 'a';
    regex[N - 1] = ']';
    regex[N - 2] = 'a';
    assert_int_equal(refusal(regex, &err), PR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "long"));
    memset(regex, '*', N);
    regex[0] = 'a';
    assert_int_equal(refusal(regex, &err), PR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "quantifiers"));
    assert_int_equal(refusal("a**+", &err), PR_OK);
}

static void steps_that_multiply_a_text_without_end_are_stopped(void **state)
{
    (void)state;
    pr_buffer spec = {0};
    pr_buffer_append_str(&spec, "{\"type\":\"Sequence\",\"pretokenizers\":[");
    for (int i = 0; i < 22; i++) {
        pr_buffer_printf(&spec, "%s{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                                "\"trim_offsets\":true,\"use_regex\":false}", i ? "," : "");
    }
    pr_buffer_append_str(&spec, "]}");
    pr_pretokenizer *pt = parse(pr_buffer_str(&spec));
    pr_pieces pieces;
    pr_pieces_init(&pieces);
    assert_int_equal(pr_pretokenizer_split(pt, "\xc3\xa9", 2, true, &pieces, NULL),
                     PR_E_TOO_LARGE);
    pr_pieces_deinit(&pieces);
    pr_pretokenizer_free(pt);
    pr_buffer_deinit(&spec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pre_tokenizer_gives_what_tokenizers_gives),
        cmocka_unit_test(what_is_no_pre_tokenizer_is_refused_by_name),
        cmocka_unit_test(metaspace_first_marks_only_the_beginning_of_the_input),
        cmocka_unit_test(a_pattern_that_backtracks_without_end_gives_an_error),
        cmocka_unit_test(a_megabyte_of_one_character_is_one_piece),
        cmocka_unit_test(patterns_that_grow_without_measure_are_refused),
        cmocka_unit_test(steps_that_multiply_a_text_without_end_are_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
