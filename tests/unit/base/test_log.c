/* Lines for the operator: one event is one line, whatever its parts hold. */
#define _GNU_SOURCE
#include "runtime/base/log.h"
#include "runtime/base/utf8.h"

#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { READ_BYTES_MAX = 20000 };

static const pr_log log_text = {.level = PR_LOG_INFO, .program = "prog"};
static const pr_log log_json = {.level = PR_LOG_INFO, .format = PR_LOG_JSON};

/* What one call writes, found by one read of a pipe; owned by the caller. */
static char *logged(const pr_log *like, pr_log_level level, const pr_log_field *fields, size_t n,
                    const char *message)
{
    int fds[2];
    assert_int_equal(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
    pr_log log = *like;
    log.fd = fds[1];
    if (n > 0) {
        pr_log_event(&log, level, fields, n, "%s", message);
    } else {
        pr_log_line(&log, level, "%s", message);
    }
    close(fds[1]);
    char *text = calloc(1, READ_BYTES_MAX);
    assert_non_null(text);
    assert_true(read(fds[0], text, READ_BYTES_MAX - 1) >= 0);
    close(fds[0]);
    return text;
}

static void assert_one_line(const char *text)
{
    size_t n = strlen(text);
    assert_in_range(n, 1, PR_LOG_LINE_BYTES);
    assert_ptr_equal(strchr(text, '\n'), text + n - 1);
    assert_int_equal(pr_utf8_prefix(text, n), n);
    for (size_t i = 0; i + 1 < n; i++) assert_in_range((unsigned char)text[i], 0x20, 0xFF);
}

/* The line as an object, owned by the caller. */
static json_t *logged_json(const pr_log_field *fields, size_t n, const char *message)
{
    char *text = logged(&log_json, PR_LOG_WARNING, fields, n, message);
    assert_one_line(text);
    json_t *line = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(line);
    free(text);
    return line;
}

static void text_lines_name_program_and_level(void **state)
{
    (void)state;
    static const struct {
        pr_log_level level;
        const char *line;
    } cases[] = {{PR_LOG_ERROR, "prog: error: a b\n"},
                 {PR_LOG_WARNING, "prog: warning: a b\n"},
                 {PR_LOG_INFO, "prog: a b\n"},
                 {PR_LOG_DEBUG, ""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = logged(&log_text, cases[i].level, NULL, 0, "a\nb");
        assert_string_equal(text, cases[i].line);
        free(text);
    }
}

static void a_log_that_nobody_reads_takes_nothing(void **state)
{
    (void)state;
    pr_log silent = {.fd = -1};
    assert_false(pr_log_takes(NULL, PR_LOG_ERROR));
    assert_false(pr_log_takes(&silent, PR_LOG_ERROR));
    pr_log_line(NULL, PR_LOG_ERROR, "nobody listens");
    pr_log_line(&silent, PR_LOG_ERROR, "nobody listens");
    pr_log_field field = pr_log_integer("rank", 1);
    pr_log_event(NULL, PR_LOG_ERROR, &field, 1, "nobody listens");
}

static void text_fields_follow_the_message(void **state)
{
    (void)state;
    const pr_log_field fields[] = {pr_log_text("group", "0.1"), pr_log_integer("rank", -3),
                                   pr_log_number("seconds", 0.25), pr_log_text("request_id", NULL)};
    char *text = logged(&log_text, PR_LOG_INFO, fields, 4, "it ended");
    assert_string_equal(text, "prog: it ended group=0.1 rank=-3 seconds=0.25\n");
    free(text);
}

static void text_values_are_quoted_where_they_would_be_misread(void **state)
{
    (void)state;
    static const struct {
        const char *value, *shown;
    } cases[] = {
        {"plain", "plain"},
        {"", "\"\""},
        {"two words", "\"two words\""},
        {"say \"no\"", "\"say \\\"no\\\"\""},
        {"a=b", "\"a=b\""},
        {"back\\slash", "\"back\\\\slash\""},
        {"line\nbreak", "\"line break\""},
        {"x\x1B[2J", "\"x [2J\""},
        {"csi\xC2\x9B!", "\"csi  !\""},
        {"\xFF\xC3", "??"},
        {"caf\xC3\xA9", "caf\xC3\xA9"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_log_field field = pr_log_text("v", cases[i].value);
        char *text = logged(&log_text, PR_LOG_INFO, &field, 1, "m");
        char expected[100];
        snprintf(expected, sizeof expected, "prog: m v=%s\n", cases[i].shown);
        assert_string_equal(text, expected);
        free(text);
    }
}

static void json_lines_have_time_level_message_and_fields(void **state)
{
    (void)state;
    const pr_log_field fields[] = {pr_log_text("request_id", "a-1"), pr_log_integer("rank", 2),
                                   pr_log_number("seconds", 0.5), pr_log_number("ratio", NAN),
                                   pr_log_text("group", NULL)};
    json_t *line = logged_json(fields, 5, "it \"ended\"");
    assert_string_equal(json_string_value(json_object_get(line, "message")), "it \"ended\"");
    assert_string_equal(json_string_value(json_object_get(line, "level")), "warning");
    assert_string_equal(json_string_value(json_object_get(line, "request_id")), "a-1");
    assert_int_equal(json_integer_value(json_object_get(line, "rank")), 2);
    assert_true(json_real_value(json_object_get(line, "seconds")) == 0.5);
    assert_true(json_is_null(json_object_get(line, "ratio")));
    assert_null(json_object_get(line, "group"));
    const char *ts = json_string_value(json_object_get(line, "ts"));
    int parts[7], end = 0;
    assert_non_null(ts);
    assert_int_equal(sscanf(ts, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ%n", &parts[0], &parts[1], &parts[2],
                            &parts[3], &parts[4], &parts[5], &parts[6], &end),
                     7);
    assert_int_equal(end, 24);
    assert_int_equal(strlen(ts), 24);
    assert_in_range(parts[0], 2026, 9999);
    json_decref(line);
}

static void what_the_message_says_is_a_field_in_json_only(void **state)
{
    (void)state;
    pr_log_field field = pr_log_said(pr_log_text("group", "0.1"));
    char *text = logged(&log_text, PR_LOG_INFO, &field, 1, "group 0.1 ended");
    assert_string_equal(text, "prog: group 0.1 ended\n");
    free(text);
    json_t *line = logged_json(&field, 1, "group 0.1 ended");
    assert_string_equal(json_string_value(json_object_get(line, "group")), "0.1");
    json_decref(line);
}

/* Quotes, bytes that are no UTF-8, and a message cut inside a character: still one JSON line. */
static void no_message_breaks_a_line(void **state)
{
    (void)state;
    char accents[10000] = "x", quotes[10000], controls[256];
    for (size_t i = 1; i + 2 < sizeof accents; i += 2) memcpy(accents + i, "\xC3\xA9", 2);
    memset(quotes, '"', sizeof quotes - 1);
    quotes[sizeof quotes - 1] = '\0';
    for (int i = 0; i < 255; i++) controls[i] = (char)(i + 1);
    controls[255] = '\0';
    const char *messages[] = {"plain", "\"quoted\" \\ \n", "bad \xFF\xC3 bytes", accents, quotes,
                              controls};
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        json_decref(logged_json(NULL, 0, messages[i]));
        char *text = logged(&log_text, PR_LOG_INFO, NULL, 0, messages[i]);
        assert_one_line(text);
        free(text);
    }
}

static void a_line_that_is_too_long_keeps_its_fields(void **state)
{
    (void)state;
    char message[10000], value[10000];
    memset(message, 'm', sizeof message - 1);
    memset(value, '\\', sizeof value - 1);
    message[sizeof message - 1] = value[sizeof value - 1] = '\0';
    pr_log_field fields[PR_LOG_FIELDS_MAX];
    static const char *const names[] = {"a", "b", "c", "d",
                                        "e", "f", "g", "name_of_thirty_two_bytes_exactly"};
    assert_int_equal(strlen(names[7]), PR_LOG_NAME_BYTES_MAX);
    for (size_t i = 0; i < PR_LOG_FIELDS_MAX; i++) fields[i] = pr_log_text(names[i], value);
    json_t *line = logged_json(fields, PR_LOG_FIELDS_MAX, message);
    for (size_t i = 0; i < PR_LOG_FIELDS_MAX; i++) {
        assert_int_equal(json_string_length(json_object_get(line, names[i])),
                         PR_LOG_VALUE_BYTES_MAX / 2);
    }
    assert_in_range(json_string_length(json_object_get(line, "message")), 1000, PR_LOG_LINE_BYTES);
    json_decref(line);
    char *text = logged(&log_text, PR_LOG_INFO, fields, PR_LOG_FIELDS_MAX, message);
    assert_one_line(text);
    assert_non_null(strstr(text, " name_of_thirty_two_bytes_exactly=\"\\\\"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_lines_name_program_and_level),
        cmocka_unit_test(a_log_that_nobody_reads_takes_nothing),
        cmocka_unit_test(text_fields_follow_the_message),
        cmocka_unit_test(text_values_are_quoted_where_they_would_be_misread),
        cmocka_unit_test(json_lines_have_time_level_message_and_fields),
        cmocka_unit_test(what_the_message_says_is_a_field_in_json_only),
        cmocka_unit_test(no_message_breaks_a_line),
        cmocka_unit_test(a_line_that_is_too_long_keeps_its_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
