/* program/input_lines.h: what each kind of line becomes, and that no line stops the reading. */
#define _GNU_SOURCE
#include "program/input_lines.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

static pr_input_item parse(const char *line, size_t n)
{
    /* In memory of exactly that size, so that a sanitizer sees the first byte read past it. */
    char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    if (n) memcpy(copy, line, n);
    pr_input_item item;
    assert_int_equal(pr_input_line_parse(copy, n, &item, NULL), PR_OK);
    free(copy);
    return item;
}

static pr_input_item parse_str(const char *line)
{
    return parse(line, strlen(line));
}

/* ---- one line ---- */

static void input_line_that_is_no_object_is_text_verbatim(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        size_t n;
    } cases[] = {{"", 0},
                 {"plain", 5},
                 {" {\"text\":1}", 11},
                 {"[1]", 3},
                 {"\"quoted\"", 8},
                 {"tab\there  ", 10},
                 {"nul\0inside", 10},
                 {"\xC3\xA9", 2},
                 {"\xEF\xBB\xBFx", 4},
                 {"a\rb\r", 4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_input_item item = parse(cases[i].line, cases[i].n);
        assert_int_equal(item.kind, PR_INPUT_TEXT);
        assert_int_equal(item.n_text, cases[i].n);
        assert_memory_equal(item.text, cases[i].line, cases[i].n + 1);
        assert_null(item.id);
        pr_input_item_deinit(&item);
    }
}

static void input_line_json_forms_become_their_kinds(void **state)
{
    (void)state;
    pr_input_item item = parse_str("{\"text\":\"a \\u00e9\\n\\ud83d\\ude00\\u0000b\"}");
    assert_int_equal(item.kind, PR_INPUT_TEXT);
    assert_int_equal(item.n_text, 11);
    assert_memory_equal(item.text, "a \xC3\xA9\n\xF0\x9F\x98\x80\0b", 12);
    pr_input_item_deinit(&item);

    item = parse_str("{ \"document\" : \"d\", \"query\" : \"q\" }  ");
    assert_int_equal(item.kind, PR_INPUT_PAIR);
    assert_string_equal(item.text, "q");
    assert_string_equal(item.text_pair, "d");
    pr_input_item_deinit(&item);

    item = parse_str("{\"text\":\"a\",\"text_pair\":\"\",\"id\":7}");
    assert_int_equal(item.kind, PR_INPUT_PAIR);
    assert_int_equal(item.n_text_pair, 0);
    assert_int_equal(json_integer_value(item.id), 7);
    pr_input_item_deinit(&item);

    item = parse_str("{\"tokens\":[0,2147483647,5],\"id\":\"x\"}");
    assert_int_equal(item.kind, PR_INPUT_TOKENS);
    assert_int_equal(item.n_tokens, 3);
    assert_int_equal(item.tokens[1], 2147483647);
    assert_string_equal(json_string_value(item.id), "x");
    pr_input_item_deinit(&item);
}

static void input_line_parameters_reach_the_request_and_unset_ones_leave_it(void **state)
{
    (void)state;
    pr_input_item item =
        parse_str("{\"text\":\"a\",\"truncate_prompt_tokens\":-1,\"truncation_side\":\"left\","
                  "\"add_special_tokens\":false,\"normalize\":true,\"softmax\":false,"
                  "\"use_activation\":true,\"dimensions\":64,\"step_tag_id\":0,"
                  "\"returned_token_ids\":[3,4]}");
    pr_request r = {0};
    pr_input_item_apply(&item, &r);
    assert_string_equal(r.text, "a");
    assert_int_equal(r.truncate_prompt_tokens, -1);
    assert_int_equal(r.truncation_side, 1);
    assert_int_equal(r.add_special_tokens, 0);
    assert_int_equal(r.normalize, 1);
    assert_int_equal(r.softmax, 0);
    assert_int_equal(r.use_activation, 1);
    assert_int_equal(r.dimensions, 64);
    assert_int_equal(r.step_tag_id, 0);
    assert_int_equal(r.n_returned_token_ids, 2);
    assert_int_equal(r.returned_token_ids[1], 4);
    pr_input_item_deinit(&item);

    item = parse_str("{\"text\":\"a\",\"dimensions\":null,\"id\":null}");
    pr_request given = {.truncate_prompt_tokens = 9,
                        .truncation_side = 1,
                        .normalize = -1,
                        .dimensions = 8,
                        .step_tag_id = -1};
    pr_input_item_apply(&item, &given);
    assert_int_equal(given.truncate_prompt_tokens, 9);
    assert_int_equal(given.truncation_side, 1);
    assert_int_equal(given.normalize, -1);
    assert_int_equal(given.dimensions, 8);
    assert_int_equal(given.step_tag_id, -1);
    assert_null(given.returned_token_ids);
    assert_null(item.id);
    pr_input_item_deinit(&item);
}

typedef struct bad_line {
    const char *line;
    pr_status status;
    const char *part; /* of the message */
} bad_line;

static const bad_line bad_lines[] = {
    {"{", PR_E_INPUT, "not JSON"},
    {"{\"text\":\"a\"", PR_E_INPUT, "not JSON"},
    {"{\"text\":\"a\"}}", PR_E_INPUT, "not JSON"},
    {"{\"text\":\"\\ud800\"}", PR_E_INPUT, "not JSON"},
    {"{\"text\":\"a\",\"text\":\"b\"}", PR_E_INPUT, "duplicate"},
    {"{}", PR_E_INPUT, "expected one input"},
    {"{\"id\":1}", PR_E_INPUT, "expected one input"},
    {"{\"text\":null}", PR_E_INPUT, "expected one input"},
    {"{\"text\":1}", PR_E_INPUT, "text: found an integer, expected a string"},
    {"{\"query\":\"q\"}", PR_E_INPUT, "expected one input"},
    {"{\"document\":\"d\"}", PR_E_INPUT, "expected one input"},
    {"{\"text_pair\":\"d\"}", PR_E_INPUT, "expected one input"},
    {"{\"text\":\"a\",\"query\":\"q\",\"document\":\"d\"}", PR_E_INPUT, "expected one input"},
    {"{\"text\":\"a\",\"tokens\":[1]}", PR_E_INPUT, "expected one input"},
    {"{\"query\":\"q\",\"documents\":[\"d\"]}", PR_E_INPUT, "one line for each document"},
    {"{\"text\":\"a\",\"colour\":1}", PR_E_INPUT, "unknown key \"colour\""},
    {"{\"messages\":[],\"text\":\"a\"}", PR_E_INPUT, "expected one input"},
    {"{\"text\":\"a\",\"tools\":[]}", PR_E_INPUT, "expected one input"},
    {"{\"tokens\":[]}", PR_E_INPUT, "tokens: found no token id"},
    {"{\"tokens\":\"a\"}", PR_E_INPUT, "tokens: found a string"},
    {"{\"tokens\":[1,-1]}", PR_E_INPUT, "tokens[1]: found -1"},
    {"{\"tokens\":[2147483648]}", PR_E_INPUT, "found 2147483648"},
    {"{\"tokens\":[1.5]}", PR_E_INPUT, "found a real number"},
    {"{\"text\":\"a\",\"id\":1.5}", PR_E_INPUT, "id: found a real number"},
    {"{\"text\":\"a\",\"id\":[1]}", PR_E_INPUT, "id: found an array"},
    {"{\"text\":\"a\",\"id\":99999999999999999999}", PR_E_INPUT, "not JSON"},
    {"{\"text\":\"a\",\"dimensions\":0}", PR_E_INPUT, "dimensions: found 0"},
    {"{\"text\":\"a\",\"dimensions\":\"8\"}", PR_E_INPUT, "dimensions: found a string"},
    {"{\"text\":\"a\",\"truncate_prompt_tokens\":0}", PR_E_INPUT,
     "truncate_prompt_tokens: found 0"},
    {"{\"text\":\"a\",\"truncate_prompt_tokens\":-2}", PR_E_INPUT, "found -2"},
    {"{\"text\":\"a\",\"truncation_side\":\"middle\"}", PR_E_INPUT, "truncation_side"},
    {"{\"text\":\"a\",\"truncation_side\":1}", PR_E_INPUT, "truncation_side"},
    {"{\"text\":\"a\",\"normalize\":1}", PR_E_INPUT, "normalize: found an integer"},
    {"{\"text\":\"a\",\"step_tag_id\":-1}", PR_E_INPUT, "step_tag_id: found -1"},
    {"{\"text\":\"a\",\"returned_token_ids\":[]}", PR_E_INPUT, "returned_token_ids"},
    {"bad \xFF byte", PR_E_INPUT, "invalid UTF-8 at byte 4"},
    {"{\"text\":\"\xC3\"}", PR_E_INPUT, "invalid UTF-8 at byte 9"},
};

static void input_line_that_is_wrong_becomes_an_error_that_says_why(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_lines / sizeof *bad_lines; i++) {
        pr_input_item item = parse_str(bad_lines[i].line);
        if (item.kind != PR_INPUT_ERROR || item.status != bad_lines[i].status ||
            !strstr(item.message, bad_lines[i].part)) {
            fail_msg("%s: %s", bad_lines[i].line, item.message ? item.message : "no error");
        }
        assert_null(item.text);
        assert_null(item.text_pair);
        assert_null(item.tokens);
        pr_input_item_deinit(&item);
    }
}

static void input_line_error_keeps_the_id_that_was_given(void **state)
{
    (void)state;
    pr_input_item item = parse_str("{\"text\":5,\"id\":\"seven\"}");
    assert_int_equal(item.kind, PR_INPUT_ERROR);
    assert_string_equal(json_string_value(item.id), "seven");
    pr_input_item_deinit(&item);
    item = parse_str("{\"colour\":5,\"id\":7}");
    assert_int_equal(json_integer_value(item.id), 7);
    pr_input_item_deinit(&item);
}

static void input_line_deep_nesting_is_an_error(void **state)
{
    (void)state;
    char line[4000] = "{\"text\":";
    memset(line + 8, '[', sizeof line - 9);
    pr_input_item item = parse_str(line);
    assert_int_equal(item.kind, PR_INPUT_ERROR);
    assert_non_null(strstr(item.message, "deeper"));
    pr_input_item_deinit(&item);
}

/* ---- the reader ---- */

/* A descriptor that holds these bytes. */
static int fd_with(const char *data, size_t n)
{
    int fd = memfd_create("lines", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, n), n);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static void check_lines(const char *data, size_t n, size_t line_bytes_max,
                        const char *const *expected, size_t n_expected)
{
    int fd = fd_with(data, n);
    pr_input_lines *in = NULL;
    assert_int_equal(pr_input_lines_create(fd, "test", line_bytes_max, &in, NULL), PR_OK);
    for (size_t i = 0; i < n_expected; i++) {
        pr_input_item item;
        bool has_item = false;
        assert_int_equal(pr_input_lines_next(in, &item, &has_item, NULL), PR_OK);
        assert_true(has_item);
        assert_int_equal(item.index, i);
        assert_string_equal(item.kind == PR_INPUT_ERROR ? item.message : item.text, expected[i]);
        pr_input_item_deinit(&item);
    }
    for (int again = 0; again < 2; again++) {
        pr_input_item item;
        bool has_item = true;
        assert_int_equal(pr_input_lines_next(in, &item, &has_item, NULL), PR_OK);
        assert_false(has_item);
    }
    pr_input_lines_close(in);
    close(fd);
}

#define CHECK_LINES(data, max, ...)                                                                \
    check_lines(data, sizeof(data) - 1, max, (const char *const[]){__VA_ARGS__},                   \
                sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void input_lines_are_split_at_newlines_and_counted_from_zero(void **state)
{
    (void)state;
    check_lines("", 0, 0, NULL, 0);
    CHECK_LINES("a", 0, "a");
    CHECK_LINES("a\n", 0, "a");
    CHECK_LINES("\n", 0, "");
    CHECK_LINES("\n\nb", 0, "", "", "b");
    CHECK_LINES("a\r\nb\rc\n\r\nd\r", 0, "a", "b\rc", "", "d\r");
    CHECK_LINES("{\"text\":\"x\"}\r\n{\"text\":\"y\"}", 0, "x", "y");
}

static void input_lines_bad_line_in_the_middle_does_not_stop_the_rest(void **state)
{
    (void)state;
    CHECK_LINES("first\n\xFF\xFE\n{\"text\":\"third\"}\nfourth", 0, "first",
                "invalid UTF-8 at byte 0 of the line", "third", "fourth");
}

static void input_lines_longer_than_the_limit_are_errors_and_skipped(void **state)
{
    (void)state;
    const char *too_long = "line longer than 4 bytes";
    CHECK_LINES("1234\n12345\n1234\r\n12345\r\nab", 4, "1234", too_long, "1234", too_long, "ab");
    CHECK_LINES("12345", 4, too_long);
    CHECK_LINES("123456789", 4, too_long);
    CHECK_LINES("12345678901234567890\nok\n12345678901234567890", 4, too_long, "ok", too_long);
}

/* Lines around the size of the read buffer, and far over it, against a limit between. */
static void input_lines_of_any_size_cross_the_read_buffer(void **state)
{
    (void)state;
    static const size_t sizes[] = {0,      1,      65534,  65535,  65536, 65537,
                                   131072, 200000, 300000, 700000, 3};
    enum { N = sizeof sizes / sizeof *sizes, LIMIT = 200000 };
    size_t n = 0;
    for (size_t i = 0; i < N; i++) n += sizes[i] + 1;
    char *data = malloc(n), *p = data;
    for (size_t i = 0; i < N; i++) {
        memset(p, (int)('a' + i), sizes[i]);
        p[sizes[i]] = '\n';
        p += sizes[i] + 1;
    }
    int fd = fd_with(data, n);
    pr_input_lines *in = NULL;
    assert_int_equal(pr_input_lines_create(fd, "test", LIMIT, &in, NULL), PR_OK);
    for (size_t i = 0; i < N; i++) {
        pr_input_item item;
        bool has_item = false;
        assert_int_equal(pr_input_lines_next(in, &item, &has_item, NULL), PR_OK);
        assert_true(has_item);
        if (sizes[i] > LIMIT) {
            assert_int_equal(item.status, PR_E_TOO_LARGE);
        } else {
            assert_int_equal(item.n_text, sizes[i]);
            for (size_t j = 0; j < sizes[i]; j++) {
                if (item.text[j] != (char)('a' + i)) fail_msg("line %zu byte %zu", i, j);
            }
        }
        pr_input_item_deinit(&item);
    }
    pr_input_lines_close(in);
    close(fd);
    free(data);
}

/* The longest line allowed, its "\r" the last byte of the first read and its "\n" in the next. */
static void input_lines_of_the_longest_length_may_end_in_crlf_across_reads(void **state)
{
    (void)state;
    enum { LONGEST = 64 * 1024 - 1 };
    char *data = malloc(LONGEST + 2);
    memset(data, 'x', LONGEST);
    memcpy(data + LONGEST, "\r\n", 2);
    int fd = fd_with(data, LONGEST + 2);
    pr_input_lines *in = NULL;
    assert_int_equal(pr_input_lines_create(fd, "test", LONGEST, &in, NULL), PR_OK);
    pr_input_item item;
    bool has_item = false;
    assert_int_equal(pr_input_lines_next(in, &item, &has_item, NULL), PR_OK);
    assert_int_equal(item.kind, PR_INPUT_TEXT);
    assert_int_equal(item.n_text, LONGEST);
    pr_input_item_deinit(&item);
    assert_int_equal(pr_input_lines_next(in, &item, &has_item, NULL), PR_OK);
    assert_false(has_item);
    pr_input_lines_close(in);
    close(fd);
    free(data);
}

static void input_lines_byte_order_mark_before_json_is_said(void **state)
{
    (void)state;
    CHECK_LINES("\xEF\xBB\xBF{\"text\":\"a\"}\n{\"text\":\"b\"}\n", 0,
                "the input begins with a byte order mark (EF BB BF) before {: save it as UTF-8 "
                "without one",
                "b");
}

/* Through a pipe that does not block: each line comes as soon as it is whole. */
static void input_lines_come_before_the_writer_is_done(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    pr_input_lines *in = NULL;
    assert_int_equal(pr_input_lines_create(fds[0], "pipe", 0, &in, NULL), PR_OK);
    assert_int_equal(write(fds[1], "one\ntw", 6), 6);
    pr_input_item item;
    bool has_item = false;
    assert_int_equal(pr_input_lines_next(in, &item, &has_item, NULL), PR_OK);
    assert_string_equal(item.text, "one");
    pr_input_item_deinit(&item);
    assert_int_equal(write(fds[1], "o", 1), 1);
    close(fds[1]);
    assert_int_equal(pr_input_lines_next(in, &item, &has_item, NULL), PR_OK);
    assert_string_equal(item.text, "two");
    pr_input_item_deinit(&item);
    pr_input_lines_close(in);
    close(fds[0]);
}

static void input_lines_what_cannot_be_read_is_refused(void **state)
{
    (void)state;
    pr_input_lines *in = NULL;
    pr_error err = {0};
    assert_int_equal(pr_input_lines_open("/no/such/file", 0, &in, &err), PR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "/no/such/file"));
    assert_int_equal(pr_input_lines_open("/tmp", 0, &in, &err), PR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "folder"));
    assert_null(in);
    /* a descriptor that is not open for reading */
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    assert_int_equal(pr_input_lines_create(fd, "write-only", 0, &in, NULL), PR_OK);
    pr_input_item item;
    bool has_item = false;
    assert_int_equal(pr_input_lines_next(in, &item, &has_item, &err), PR_E_IO);
    assert_non_null(strstr(err.message, "write-only"));
    pr_input_lines_close(in);
    close(fd);
}

static void input_lines_of_an_endless_line_stay_bounded(void **state)
{
    (void)state;
    /* /dev/zero never ends a line: the first item is its error, and memory stays at the limit. */
    pr_input_lines *in = NULL;
    assert_int_equal(pr_input_lines_open("/dev/zero", 1 << 20, &in, NULL), PR_OK);
    pr_input_item item;
    bool has_item = false;
    assert_int_equal(pr_input_lines_next(in, &item, &has_item, NULL), PR_OK);
    assert_int_equal(item.status, PR_E_TOO_LARGE);
    pr_input_item_deinit(&item);
    pr_input_lines_close(in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(input_line_that_is_no_object_is_text_verbatim),
        cmocka_unit_test(input_line_json_forms_become_their_kinds),
        cmocka_unit_test(input_line_parameters_reach_the_request_and_unset_ones_leave_it),
        cmocka_unit_test(input_line_that_is_wrong_becomes_an_error_that_says_why),
        cmocka_unit_test(input_line_error_keeps_the_id_that_was_given),
        cmocka_unit_test(input_line_deep_nesting_is_an_error),
        cmocka_unit_test(input_lines_are_split_at_newlines_and_counted_from_zero),
        cmocka_unit_test(input_lines_bad_line_in_the_middle_does_not_stop_the_rest),
        cmocka_unit_test(input_lines_longer_than_the_limit_are_errors_and_skipped),
        cmocka_unit_test(input_lines_of_any_size_cross_the_read_buffer),
        cmocka_unit_test(input_lines_of_the_longest_length_may_end_in_crlf_across_reads),
        cmocka_unit_test(input_lines_byte_order_mark_before_json_is_said),
        cmocka_unit_test(input_lines_come_before_the_writer_is_done),
        cmocka_unit_test(input_lines_what_cannot_be_read_is_refused),
        cmocka_unit_test(input_lines_of_an_endless_line_stay_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
