/* runtime/base/json_write.h: values that read back, whatever the bytes. */
#include "runtime/base/json_write.h"

#include "runtime/base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

static void assert_text(pr_buffer *b, const char *expected)
{
    assert_false(b->failed);
    assert_string_equal(pr_buffer_str(b), expected);
    pr_buffer_deinit(b);
}

static void strings_escape_what_json_does_not_take_as_it_is(void **state)
{
    (void)state;
    pr_buffer b;
    pr_buffer_init(&b);
    pr_json_write_str(&b, "a\"b\\c\n\x7f\0é", 10);
    assert_text(&b, "\"a\\\"b\\\\c\\u000a\\u007f\\u0000é\"");
    pr_json_write_str(&b, "", 0);
    assert_text(&b, "\"\"");
}

static void bytes_that_are_not_utf8_become_replacement_characters(void **state)
{
    (void)state;
    pr_buffer b;
    pr_buffer_init(&b);
    pr_json_write_str(&b,
                      "\xff\x80"
                      "a\xc3",
                      4);
    assert_text(&b, "\"\xEF\xBF\xBD\xEF\xBF\xBD"
                    "a\xEF\xBF\xBD\"");
}

static void every_pair_of_bytes_gives_a_string_that_a_reader_takes(void **state)
{
    (void)state;
    pr_buffer b;
    pr_buffer_init(&b);
    for (int i = 0; i < 0x10000; i++) {
        const char bytes[2] = {(char)(i >> 8), (char)i};
        json_t *read = NULL;
        pr_buffer_clear(&b);
        pr_json_write_str(&b, bytes, 2);
        assert_int_equal(pr_json_parse(b.data, b.n, "test", &read, NULL), PR_OK);
        assert_true(json_is_string(read));
        json_decref(read);
    }
    pr_buffer_deinit(&b);
}

static void integers_have_their_extremes(void **state)
{
    (void)state;
    pr_buffer b;
    pr_buffer_init(&b);
    const int64_t values[] = {0, -1, 10, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        pr_json_write_int(&b, values[i]);
        pr_buffer_append_char(&b, ' ');
    }
    assert_text(&b, "0 -1 10 9223372036854775807 -9223372036854775808 ");
}

static void floats_of_any_number_are_one_array(void **state)
{
    (void)state;
    enum { N_MAX = 200 };
    float x[N_MAX];
    for (int i = 0; i < N_MAX; i++) x[i] = (float)i * -0.1f;
    for (size_t n = 0; n <= N_MAX; n++) {
        pr_buffer b;
        json_t *read = NULL;
        pr_buffer_init(&b);
        pr_json_write_floats(&b, x, n);
        assert_int_equal(pr_json_parse(b.data, b.n, "test", &read, NULL), PR_OK);
        assert_int_equal(json_array_size(read), n);
        for (size_t i = 0; i < n; i++) {
            float back = (float)json_number_value(json_array_get(read, i));
            assert_memory_equal(&back, &x[i], sizeof back);
        }
        json_decref(read);
        pr_buffer_deinit(&b);
    }
}

static void what_is_not_finite_is_null(void **state)
{
    (void)state;
    pr_buffer b;
    pr_buffer_init(&b);
    const float x[] = {INFINITY, 0.5f, NAN};
    pr_json_write_floats(&b, x, 3);
    assert_text(&b, "[null,0.5,null]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_escape_what_json_does_not_take_as_it_is),
        cmocka_unit_test(bytes_that_are_not_utf8_become_replacement_characters),
        cmocka_unit_test(every_pair_of_bytes_gives_a_string_that_a_reader_takes),
        cmocka_unit_test(integers_have_their_extremes),
        cmocka_unit_test(floats_of_any_number_are_one_array),
        cmocka_unit_test(what_is_not_finite_is_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
