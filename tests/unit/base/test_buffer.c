/* What a growing buffer promises. */
#include "runtime/base/buffer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void room_for_nothing_is_a_place_to_write_to(void **state)
{
    (void)state;
    pr_buffer b;
    pr_buffer_init(&b);
    assert_true(pr_buffer_reserve(&b, 0));
    assert_non_null(b.data);
    pr_buffer_deinit(&b);
    assert_null(b.data);
}

static void what_is_appended_stands_in_order(void **state)
{
    (void)state;
    pr_buffer b;
    pr_buffer_init(&b);
    char expected[5000];
    for (size_t i = 0; i < sizeof expected; i++) {
        expected[i] = (char)('a' + i % 26);
        assert_true(pr_buffer_append_char(&b, expected[i]));
    }
    assert_true(pr_buffer_append(&b, NULL, 0));
    assert_int_equal(b.n, sizeof expected);
    assert_memory_equal(b.data, expected, sizeof expected);
    pr_buffer_clear(&b);
    assert_true(pr_buffer_printf(&b, "%d of %s", 7, "nine"));
    assert_true(pr_buffer_append_str(&b, "!"));
    assert_string_equal(pr_buffer_str(&b), "7 of nine!");
    assert_int_equal(b.n, 10);
    pr_buffer_deinit(&b);
}

static void room_that_no_memory_has_is_remembered_as_a_failure(void **state)
{
    (void)state;
    pr_buffer b;
    pr_buffer_init(&b);
    assert_true(pr_buffer_append_str(&b, "kept"));
    assert_false(pr_buffer_reserve(&b, SIZE_MAX - 2));
    assert_true(b.failed);
    assert_string_equal(pr_buffer_str(&b), "kept");
    pr_buffer_clear(&b);
    assert_false(b.failed);
    pr_buffer_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(room_for_nothing_is_a_place_to_write_to),
        cmocka_unit_test(what_is_appended_stands_in_order),
        cmocka_unit_test(room_that_no_memory_has_is_remembered_as_a_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
