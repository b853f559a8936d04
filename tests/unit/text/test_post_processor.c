/* runtime/text/tokenizer/post_processor.h: special tokens and types around one content and a pair.
 * */
#include "runtime/text/tokenizer/post_processor.h"
#include "text_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

#define TEMPLATE                                                                                   \
    "{'type': 'TemplateProcessing', 'single': [{'SpecialToken': {'id': 'C', 'type_id': 0}},"       \
    " {'Sequence': {'id': 'A', 'type_id': 0}}, {'SpecialToken': {'id': 'S', 'type_id': 0}}],"      \
    " 'pair': [{'SpecialToken': {'id': 'C', 'type_id': 0}},"                                       \
    " {'Sequence': {'id': 'A', 'type_id': 0}}, {'SpecialToken': {'id': 'S', 'type_id': 0}},"       \
    " {'Sequence': {'id': 'B', 'type_id': 1}}, {'SpecialToken': {'id': 'S', 'type_id': 1}}],"      \
    " 'special_tokens': {'C': {'id': 'C', 'ids': [90, 91], 'tokens': ['C', 'c']},"                 \
    " 'S': {'id': 'S', 'ids': [92], 'tokens': ['S']}}}"
#define BERT "{'type': 'BertProcessing', 'sep': ['S', 92], 'cls': ['C', 90]}"
#define ROBERTA                                                                                    \
    "{'type': 'RobertaProcessing', 'sep': ['S', 92], 'cls': ['C', 90], 'trim_offsets': true,"      \
    " 'add_prefix_space': false}"
#define BYTE_LEVEL                                                                                 \
    "{'type': 'ByteLevel', 'add_prefix_space': true, 'trim_offsets': false, 'use_regex': true}"

static pr_post_processor *parse(const char *text)
{
    pr_error err;
    pr_post_processor *p = NULL;
    json_t *node = text ? support_json(text) : NULL;
    if (pr_post_processor_parse(node, 100, "post_processor", &p, &err) != PR_OK) {
        fail_msg("%s", err.message);
    }
    json_decref(node);
    return p;
}

static void assert_applied(const pr_post_processor *p, bool is_pair, bool special, const char *ids,
                           const char *types)
{
    static const int32_t a[] = {1, 2};
    static const int32_t b[] = {3};
    pr_error err;
    char shown[256];
    pr_encoding e = {0};
    assert_int_equal(
        pr_post_processor_apply(p, a, 2, is_pair ? b : NULL, is_pair, special, &e, &err), PR_OK);
    assert_string_equal(support_show(e.ids, e.n, shown, sizeof shown), ids);
    assert_int_equal(e.n, strlen(types));
    for (size_t i = 0; i < e.n; i++) assert_int_equal(e.type_ids[i], types[i] - '0');
    if (special) assert_int_equal(e.n, 2 + is_pair + pr_post_processor_n_added(p, is_pair));
    pr_encoding_deinit(&e);
}

typedef struct apply_case {
    const char *node;
    const char *single;
    const char *single_types;
    const char *pair;
    const char *pair_types;
    const char *bare_pair; /* without special tokens */
    const char *bare_types;
} apply_case;

static void post_processor_puts_special_tokens_and_types(void **state)
{
    (void)state;
    static const apply_case cases[] = {
        {NULL, "1 2", "00", "1 2 3", "001", "1 2 3", "001"},
        {TEMPLATE, "90 91 1 2 92", "00000", "90 91 1 2 92 3 92", "0000011", "1 2 3", "001"},
        {BERT, "90 1 2 92", "0000", "90 1 2 92 3 92", "000011", "1 2 3", "001"},
        {ROBERTA, "90 1 2 92", "0000", "90 1 2 92 92 3 92", "0000000", "1 2 3", "000"},
        {BYTE_LEVEL, "1 2", "00", "1 2 3", "001", "1 2 3", "001"},
        {"{'type': 'Sequence', 'processors': [" BYTE_LEVEL ", " TEMPLATE "]}", "90 91 1 2 92",
         "00000", "90 91 1 2 92 3 92", "0000011", "1 2 3", "001"},
        {"{'type': 'Sequence', 'processors': [" BERT ", " ROBERTA "]}", "90 90 1 2 92 92",
         "000000", "90 90 1 2 92 92 92 3 92 92", "0000000000", "1 2 3", "000"},
        {"{'type': 'Sequence', 'processors': []}", "1 2", "00", "1 2 3", "001", "1 2 3", "001"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const apply_case *c = &cases[i];
        pr_post_processor *p = parse(c->node);
        assert_applied(p, false, true, c->single, c->single_types);
        assert_applied(p, true, true, c->pair, c->pair_types);
        assert_applied(p, false, false, "1 2", "00");
        assert_applied(p, true, false, c->bare_pair, c->bare_types);
        pr_post_processor_free(p);
    }
}

static void post_processor_template_decides_the_order_and_the_number(void **state)
{
    (void)state;
    pr_post_processor *p = parse(
        "{'type': 'TemplateProcessing', 'single': [{'Sequence': {'id': 'A', 'type_id': 1}}],"
        " 'pair': [{'Sequence': {'id': 'B', 'type_id': 0}},"
        " {'Sequence': {'id': 'A', 'type_id': 1}}, {'Sequence': {'id': 'A', 'type_id': 0}}],"
        " 'special_tokens': {}}");
    static const int32_t a[] = {1, 2};
    static const int32_t b[] = {3};
    pr_error err;
    char shown[256];
    pr_encoding e = {0};
    assert_int_equal(pr_post_processor_apply(p, a, 2, b, 1, true, &e, &err), PR_OK);
    assert_string_equal(support_show(e.ids, e.n, shown, sizeof shown), "3 1 2 1 2");
    assert_memory_equal(e.type_ids, ((uint8_t[]){0, 1, 1, 0, 0}), 5);
    pr_encoding_deinit(&e);
    pr_post_processor_free(p);
}

static void post_processor_takes_empty_contents(void **state)
{
    (void)state;
    static const int32_t nothing[1];
    pr_error err;
    char shown[256];
    pr_encoding e = {0};
    pr_post_processor *p = parse(BERT);
    assert_int_equal(pr_post_processor_apply(p, NULL, 0, nothing, 0, true, &e, &err), PR_OK);
    assert_string_equal(support_show(e.ids, e.n, shown, sizeof shown), "90 92 92");
    pr_encoding_deinit(&e);
    pr_post_processor_free(p);
}

static void post_processor_refuses_what_it_cannot_honour(void **state)
{
    (void)state;
    static const struct {
        const char *node;
        pr_status status;
        const char *message;
    } cases[] = {
        {"{'type': 'Shuffle'}", PR_E_UNSUPPORTED, "Shuffle"},
        {"{}", PR_E_MODEL, "type"},
        {"{'type': 'BertProcessing', 'sep': ['S', 100], 'cls': ['C', 1]}", PR_E_MODEL, "100"},
        {"{'type': 'BertProcessing', 'sep': ['S', -1], 'cls': ['C', 1]}", PR_E_MODEL, "-1"},
        {"{'type': 'BertProcessing', 'sep': ['S'], 'cls': ['C', 1]}", PR_E_MODEL, "sep"},
        {"{'type': 'TemplateProcessing', 'single': [{'SpecialToken': {'id': 'X', 'type_id': 0}}],"
         " 'pair': [], 'special_tokens': {}}", PR_E_MODEL, "X"},
        {"{'type': 'TemplateProcessing', 'single': [{'Sequence': {'id': 'B', 'type_id': 0}}],"
         " 'pair': [], 'special_tokens': {}}", PR_E_MODEL, "expected A"},
        {"{'type': 'TemplateProcessing', 'single': [{'Sequence': {'id': 'A', 'type_id': 2}}],"
         " 'pair': [], 'special_tokens': {}}", PR_E_UNSUPPORTED, "type_id 2"},
        {"{'type': 'TemplateProcessing', 'single': [{'Other': {}}], 'pair': [],"
         " 'special_tokens': {}}", PR_E_MODEL, "template"},
        {"{'type': 'TemplateProcessing', 'single': [7], 'pair': [], 'special_tokens': {}}",
         PR_E_MODEL, "template"},
        {"{'type': 'Sequence', 'processors': [" TEMPLATE ", " TEMPLATE "]}", PR_E_UNSUPPORTED,
         "behind"},
        {"{'type': 'Sequence', 'processors': [7]}", PR_E_MODEL, "an object"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        pr_error err;
        pr_post_processor *p = NULL;
        json_t *node = support_json(cases[i].node);
        assert_int_equal(pr_post_processor_parse(node, 100, "pp", &p, &err), cases[i].status);
        assert_null(p);
        if (!strstr(err.message, cases[i].message)) fail_msg("case %zu: %s", i, err.message);
        json_decref(node);
    }
}

/* items: how often `item` stands between head and tail. */
static pr_status parse_many(const char *head, const char *item, int items, const char *tail,
                            pr_error *err)
{
    pr_buffer text = {0};
    pr_buffer_append_str(&text, head);
    for (int i = 0; i < items; i++) pr_buffer_printf(&text, i ? ", %s" : "%s", item);
    pr_buffer_append_str(&text, tail);
    json_t *node = support_json(pr_buffer_str(&text));
    pr_post_processor *p = NULL;
    pr_status st = pr_post_processor_parse(node, 100, "pp", &p, err);
    pr_post_processor_free(p);
    json_decref(node);
    pr_buffer_deinit(&text);
    return st;
}

/* Each would multiply what a text costs. */
static void post_processor_refuses_more_parts_than_any_file_needs(void **state)
{
    (void)state;
    static const struct {
        const char *head, *item, *tail;
    } cases[] = {
        {"{'type': 'Sequence', 'processors': [", BERT, "]}"},
        {"{'type': 'TemplateProcessing', 'single': [], 'pair': [",
         "{'Sequence': {'id': 'A', 'type_id': 0}}", "], 'special_tokens': {}}"},
        {"{'type': 'TemplateProcessing', 'single': [{'SpecialToken': {'id': 'S', 'type_id': 0}}],"
         " 'pair': [], 'special_tokens': {'S': {'ids': [", "1", "]}}}"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        pr_error err = {0};
        const char *head = cases[i].head, *item = cases[i].item, *tail = cases[i].tail;
        assert_int_equal(parse_many(head, item, 256, tail, &err), PR_OK);
        assert_int_equal(parse_many(head, item, 257, tail, &err), PR_E_UNSUPPORTED);
        assert_non_null(strstr(err.message, "256"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(post_processor_puts_special_tokens_and_types),
        cmocka_unit_test(post_processor_template_decides_the_order_and_the_number),
        cmocka_unit_test(post_processor_takes_empty_contents),
        cmocka_unit_test(post_processor_refuses_what_it_cannot_honour),
        cmocka_unit_test(post_processor_refuses_more_parts_than_any_file_needs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
