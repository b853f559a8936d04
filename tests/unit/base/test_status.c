/* runtime/base/status.h, buffer.h and log.h: messages, growing text, log lines. */
#define _GNU_SOURCE
#include "runtime/base/buffer.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <unistd.h>

static void status_every_one_has_a_name_an_exit_and_an_http_status(void **state)
{
    (void)state;
    for (int st = 0; st < PR_STATUS_COUNT; st++) {
        const pr_status_row *row = pr_status_describe((pr_status)st);
        assert_non_null(row->name);
        assert_true(row->name[0] != '\0');
        assert_in_range(row->exit_status, 0, 2);
        assert_in_range(row->http_status, 200, 599);
        assert_int_equal(row->exit_status == 0, st == PR_OK);
        for (int other = 0; other < st; other++) {
            assert_string_not_equal(row->name, pr_status_describe((pr_status)other)->name);
        }
    }
}

static void error_context_goes_in_front(void **state)
{
    (void)state;
    pr_error err = {0};
    assert_int_equal(pr_error_set(&err, PR_E_MODEL, "found %d", 3), PR_E_MODEL);
    assert_int_equal(pr_error_context(&err, PR_E_MODEL, "tensor %s", "w"), PR_E_MODEL);
    assert_string_equal(err.message, "tensor w: found 3");
    assert_int_equal(err.status, PR_E_MODEL);
    assert_int_equal(pr_error_context(&err, PR_OK, "no"), PR_OK);
    assert_string_equal(err.message, "tensor w: found 3");
    assert_int_equal(pr_error_set(NULL, PR_E_IO, "nobody listens"), PR_E_IO);
    assert_int_equal(pr_error_context(NULL, PR_E_IO, "nobody"), PR_E_IO);
}

static void error_of_an_errno_has_its_status(void **state)
{
    (void)state;
    pr_error err = {0};
    assert_int_equal(pr_error_errno(&err, ENOENT, "%s", "/x"), PR_E_NOT_FOUND);
    assert_string_equal(err.message, "/x: No such file or directory");
    assert_int_equal(pr_error_errno(&err, ENOTDIR, "x"), PR_E_NOT_FOUND);
    assert_int_equal(pr_error_errno(&err, ENOMEM, "x"), PR_E_NOMEM);
    assert_int_equal(pr_error_errno(&err, EACCES, "x"), PR_E_IO);
    assert_int_equal(pr_error_errno(NULL, EACCES, "x"), PR_E_IO);
}

static void error_message_has_no_control_bytes(void **state)
{
    (void)state;
    pr_error err = {0};
    pr_error_set(&err, PR_E_INPUT, "a\nb\tc%cd\x7F", 0x1B);
    assert_string_equal(err.message, "a b c d ");
}

static void error_message_is_cut_between_characters(void **state)
{
    (void)state;
    static const char *const characters[] = {"\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    for (size_t c = 0; c < 3; c++) {
        size_t n_character = strlen(characters[c]);
        for (size_t lead = 0; lead < 5; lead++) {
            char text[PR_ERROR_BYTES + 64] = {0};
            memset(text, 'x', lead);
            while (strlen(text) < PR_ERROR_BYTES + 8) strcat(text, characters[c]);
            pr_error err = {0};
            pr_error_set(&err, PR_E_INPUT, "%s", text);
            size_t n = strlen(err.message);
            assert_in_range(n, PR_ERROR_BYTES - 4, PR_ERROR_BYTES - 1);
            assert_int_equal((n - lead) % n_character, 0);
            pr_error_context(&err, PR_E_INPUT, "12345");
            assert_int_equal((strlen(err.message) - 7 - lead) % n_character, 0);
        }
    }
}

static void buffer_holds_what_was_appended(void **state)
{
    (void)state;
    pr_buffer b;
    pr_buffer_init(&b);
    assert_string_equal(pr_buffer_str(&b), "");
    assert_true(pr_buffer_append(&b, NULL, 0));
    for (int i = 0; i < 1000; i++) assert_true(pr_buffer_printf(&b, "%d,", i));
    assert_true(pr_buffer_append_char(&b, '!'));
    assert_true(pr_buffer_append_str(&b, "end"));
    assert_int_equal(b.n, 10 * 2 + 90 * 3 + 900 * 4 + 4);
    assert_memory_equal(b.data, "0,1,2,3", 7);
    assert_string_equal(pr_buffer_str(&b) + b.n - 8, "999,!end");
    assert_false(b.failed);
    pr_buffer_clear(&b);
    assert_int_equal(b.n, 0);
    assert_string_equal(pr_buffer_str(&b), "");
    pr_buffer_deinit(&b);
}

static void buffer_that_cannot_grow_says_so_and_keeps_its_contents(void **state)
{
    (void)state;
    pr_buffer b;
    pr_buffer_init(&b);
    pr_buffer_append_str(&b, "kept");
    assert_false(pr_buffer_reserve(&b, SIZE_MAX));
    assert_false(pr_buffer_reserve(&b, SIZE_MAX / 2));
    assert_true(b.failed);
    assert_string_equal(pr_buffer_str(&b), "kept");
    assert_true(b.failed);
    pr_buffer_clear(&b);
    assert_false(b.failed);
    pr_buffer_deinit(&b);
}

/* What one call writes; owned by the caller. */
static char *logged(const pr_log *like, pr_log_level level, const char *message)
{
    int fds[2];
    assert_int_equal(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
    pr_log log = *like;
    log.fd = fds[1];
    pr_log_line(&log, level, "%s", message);
    close(fds[1]);
    char *text = calloc(1, 20000);
    ssize_t n = read(fds[0], text, 19999);
    assert_true(n >= 0);
    close(fds[0]);
    return text;
}

static void log_text_lines_name_program_and_level(void **state)
{
    (void)state;
    pr_log log = {.level = PR_LOG_INFO, .program = "prog"};
    static const struct {
        pr_log_level level;
        const char *line;
    } cases[] = {{PR_LOG_ERROR, "prog: error: a b\n"},
                 {PR_LOG_WARNING, "prog: warning: a b\n"},
                 {PR_LOG_INFO, "prog: a b\n"},
                 {PR_LOG_DEBUG, ""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = logged(&log, cases[i].level, "a\nb");
        assert_string_equal(text, cases[i].line);
        free(text);
    }
    pr_log_line(NULL, PR_LOG_ERROR, "nobody listens");
    pr_log silent = {.fd = -1};
    pr_log_line(&silent, PR_LOG_ERROR, "nobody listens");
}

/* Quotes, bytes that are no UTF-8, and a message cut inside a character: still one JSON line. */
static void log_json_lines_are_json_whatever_the_message_holds(void **state)
{
    (void)state;
    pr_log log = {.level = PR_LOG_INFO, .format = PR_LOG_JSON};
    char long_message[10000] = "x";
    for (size_t i = 1; i + 2 < sizeof long_message; i += 2) memcpy(long_message + i, "\xC3\xA9", 2);
    const char *messages[] = {"plain", "\"quoted\" \\ \n", "bad \xFF\xC3 bytes", long_message};
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        char *text = logged(&log, PR_LOG_WARNING, messages[i]);
        json_t *line = json_loads(text, 0, NULL);
        assert_non_null(line);
        assert_string_equal(json_string_value(json_object_get(line, "level")), "warning");
        assert_true(json_real_value(json_object_get(line, "time")) > 1.5e9);
        assert_true(json_is_string(json_object_get(line, "message")));
        assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
        json_decref(line);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_every_one_has_a_name_an_exit_and_an_http_status),
        cmocka_unit_test(error_context_goes_in_front),
        cmocka_unit_test(error_of_an_errno_has_its_status),
        cmocka_unit_test(error_message_has_no_control_bytes),
        cmocka_unit_test(error_message_is_cut_between_characters),
        cmocka_unit_test(buffer_holds_what_was_appended),
        cmocka_unit_test(buffer_that_cannot_grow_says_so_and_keeps_its_contents),
        cmocka_unit_test(log_text_lines_name_program_and_level),
        cmocka_unit_test(log_json_lines_are_json_whatever_the_message_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
