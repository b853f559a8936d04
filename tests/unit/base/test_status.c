/* runtime/base/status.h and buffer.h: messages, growing text. */
#define _GNU_SOURCE
#include "runtime/base/buffer.h"
#include "runtime/base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
