/* runtime/text/tokenizer/decoder.h: tokens back to text. The expected texts are those of tokenizers
 * 0.23.3. */
#include "runtime/text/tokenizer/decoder.h"
#include "text_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

#define BAD "\xef\xbf\xbd"

/* tokens: split at '|'. */
static void assert_decoded(const char *node_text, const char *tokens, const char *expected)
{
    pr_error err;
    pr_decoder *d = NULL;
    json_t *node = node_text ? support_json(node_text) : NULL;
    if (pr_decoder_parse(node, "decoder", &d, &err) != PR_OK) fail_msg("%s", err.message);
    pr_text_list list = {0};
    for (const char *p = tokens; *p;) {
        size_t n = strcspn(p, "|");
        pr_buffer_append(&list.text, p, n);
        assert_true(pr_text_list_end(&list));
        p += n + (p[n] == '|');
    }
    pr_buffer out = {0};
    if (pr_decoder_apply(d, &list, &out, &err) != PR_OK) fail_msg("%s", err.message);
    if (strcmp(pr_buffer_str(&out), expected) != 0) {
        fail_msg("%s on %s: \"%s\", not \"%s\"", node_text ? node_text : "none", tokens, out.data,
                 expected);
    }
    pr_buffer_deinit(&out);
    pr_text_list_deinit(&list);
    pr_decoder_free(d);
    json_decref(node);
}

static void decoder_gives_the_text_of_tokenizers(void **state)
{
    (void)state;
    static const struct {
        const char *node;
        const char *tokens;
        const char *text;
    } cases[] = {
        {NULL, "a|b", "a b"},
        {"{'type': 'ByteLevel'}", "Hello|\xc4\xa0my|\xc3\x83|\xc2\xa9", "Hello my\xc3\xa9"},
        {"{'type': 'ByteLevel'}", "\xc3\x83|a", BAD "a"},
        {"{'type': 'ByteLevel'}", "\xe2\x96\x81|\xc4\xa0", "\xe2\x96\x81 "},
        {"{'type': 'WordPiece', 'prefix': '##', 'cleanup': true}", "hello|##s|,|don|'|t|.",
         "hellos, don ' t."},
        {"{'type': 'WordPiece', 'prefix': '##', 'cleanup': false}", "##a|##b|,", "##ab ,"},
        {"{'type': 'WordPiece', 'prefix': '##', 'cleanup': true}", "it|'s|do not", "it's don't"},
        {"{'type': 'Metaspace', 'replacement': '_', 'prepend_scheme': 'always', 'split': true}",
         "_a_b|_c", "ab c"},
        {"{'type': 'Metaspace', 'replacement': '_', 'prepend_scheme': 'never'}", "_a|_c", " a c"},
        {"{'type': 'Metaspace', 'replacement': '_', 'add_prefix_space': true}", "_a|_c", "a c"},
        {"{'type': 'ByteFallback'}", "a|<0xC3>|<0xA9>|b", "a\xc3\xa9" "b"},
        {"{'type': 'ByteFallback'}", "<0xC3>|<0xC3>|a|<0x61>|<0xZZ>", BAD BAD "aa<0xZZ>"},
        {"{'type': 'Sequence', 'decoders': [{'type': 'Fuse'}, {'type': 'Strip', 'content': ' ',"
         " 'start': 1, 'stop': 0}]}", "  a| b ", " a b "},
        {"{'type': 'Strip', 'content': 'x', 'start': 2, 'stop': 1}", "xxxaxx|ax", "xaxa"},
        {"{'type': 'Replace', 'pattern': {'String': '_'}, 'content': ' '}", "_a_|b", " a b"},
        {"{'type': 'Replace', 'pattern': {'Regex': '[0-9]+'}, 'content': '#'}", "a12b3|4", "a#b##"},
        {"{'type': 'BPEDecoder', 'suffix': '</w>'}", "he|llo</w>|you</w>", "hello you"},
        {"{'type': 'CTC', 'pad_token': '<p>', 'word_delimiter_token': '|', 'cleanup': true}",
         "h|h|<p>|e|l|<p>|l|o", "hello"},
        {"{'type': 'Sequence', 'decoders': []}", "a|b", "ab"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_decoded(cases[i].node, cases[i].tokens, cases[i].text);
    }
}

static void decoder_replaces_each_broken_part_of_utf8_once(void **state)
{
    (void)state;
    /* Bytes as byte-level characters: E2 82 (cut off), 41, F0 9F 98 (cut off), C0, 80, ED A0 80. */
    assert_decoded("{'type': 'ByteLevel'}", "\xc3\xa2\xc4\xa4" "A\xc3\xb0\xc5\x81\xc4\xba\xc3\x80",
                   BAD "A" BAD BAD);
    assert_decoded("{'type': 'ByteLevel'}", "\xc3\xad\xc5\x82\xc4\xa2", BAD BAD BAD);
}

static void decoder_refuses_what_it_does_not_know(void **state)
{
    (void)state;
    static const struct {
        const char *node;
        pr_status status;
        const char *message;
    } cases[] = {
        {"{'type': 'Rot13'}", PR_E_UNSUPPORTED, "Rot13"},
        {"{'type': 'Sequence', 'decoders': [{'type': 'Rot13'}]}", PR_E_UNSUPPORTED, "Rot13"},
        {"{}", PR_E_MODEL, "type"},
        {"{'type': 'Strip', 'content': 'ab', 'start': 1, 'stop': 0}", PR_E_MODEL, "one character"},
        {"{'type': 'Strip', 'content': 'a', 'start': -1, 'stop': 0}", PR_E_MODEL, "start"},
        {"{'type': 'Replace', 'pattern': {}, 'content': ' '}", PR_E_MODEL, "pattern"},
        {"{'type': 'WordPiece', 'cleanup': true}", PR_E_MODEL, "prefix"},
        {"{'type': 'Metaspace', 'replacement': ''}", PR_E_MODEL, "one character"},
        {"{'type': 'Sequence', 'decoders': 7}", PR_E_MODEL, "decoders"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        pr_error err;
        pr_decoder *d = NULL;
        json_t *node = support_json(cases[i].node);
        assert_int_equal(pr_decoder_parse(node, "decoder", &d, &err), cases[i].status);
        assert_null(d);
        if (!strstr(err.message, cases[i].message)) fail_msg("case %zu: %s", i, err.message);
        json_decref(node);
    }
}

static void decoder_stops_steps_that_multiply_a_text_without_end(void **state)
{
    (void)state;
    pr_error err = {0};
    pr_buffer spec = {0};
    pr_buffer_append_str(&spec, "{'type': 'Sequence', 'decoders': [");
    for (int i = 0; i < 22; i++) {
        pr_buffer_printf(&spec, "%s{'type': 'Replace', 'pattern': {'String': 'a'},"
                                " 'content': 'aa'}", i ? ", " : "");
    }
    pr_buffer_append_str(&spec, "]}");
    json_t *node = support_json(pr_buffer_str(&spec));
    pr_decoder *d = NULL;
    assert_int_equal(pr_decoder_parse(node, "decoder", &d, &err), PR_OK);
    pr_text_list list = {0};
    pr_buffer out = {0};
    pr_buffer_append_str(&list.text, "a");
    assert_true(pr_text_list_end(&list));
    assert_int_equal(pr_decoder_apply(d, &list, &out, &err), PR_E_TOO_LARGE);
    pr_buffer_deinit(&out);
    pr_text_list_deinit(&list);
    pr_decoder_free(d);
    json_decref(node);
    pr_buffer_deinit(&spec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoder_gives_the_text_of_tokenizers),
        cmocka_unit_test(decoder_replaces_each_broken_part_of_utf8_once),
        cmocka_unit_test(decoder_refuses_what_it_does_not_know),
        cmocka_unit_test(decoder_stops_steps_that_multiply_a_text_without_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
