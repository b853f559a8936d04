/* runtime/base/json.h: what is read, what is refused, and what the messages say. */
#include "runtime/base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <unistd.h>

static json_t *parse_ok(const char *text)
{
    json_t *value = NULL;
    pr_error err = {0};
    if (pr_json_parse(text, strlen(text), "t", &value, &err) != PR_OK) fail_msg("%s", err.message);
    return value;
}

static void json_that_is_broken_is_refused_with_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t n;
        const char *part;
    } cases[] = {
        {"", 0, "file: column"},
        {"{\n\"a\": }", 8, "file: line 2, column 6: not JSON"},
        {"{\"a\":1", 6, "file: column 6: not JSON"},
        {"{\"a\":NaN}", 9, "not JSON"},
        {"[Infinity]", 10, "not JSON"},
        {"[1e999]", 7, "not JSON"},
        {"[99999999999999999999]", 22, "not JSON"},
        {"{\"a\\u0000b\":1}", 14, "NUL"},
        {"\"\xFF\"", 3, "not JSON"},
        {"[\"\\udc00\"]", 10, "not JSON"},
        {"[1] x", 5, "not JSON"},
        {"{'a':1}", 7, "not JSON"},
        {"[1,]", 4, "not JSON"},
        {"\xEF\xBB\xBF{}", 5, "not JSON"},
        {"a\0b", 3, "not JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *value = NULL;
        pr_error err = {0};
        assert_int_equal(pr_json_parse(cases[i].text, cases[i].n, "file", &value, &err),
                         PR_E_MODEL);
        if (!strstr(err.message, cases[i].part)) fail_msg("%s: %s", cases[i].text, err.message);
        assert_null(value);
    }
}

static char *nested(size_t depth, const char *open, const char *inner, const char *close)
{
    char *text = calloc(1, depth * (strlen(open) + strlen(close)) + strlen(inner) + 1);
    for (size_t i = 0; i < depth; i++) strcat(text, open);
    strcat(text, inner);
    for (size_t i = 0; i < depth; i++) strcat(text, close);
    return text;
}

static void json_is_bounded_in_depth(void **state)
{
    (void)state;
    static const struct {
        const char *open, *inner, *close;
    } shapes[] = {{"[", "1", "]"}, {"{\"a\":", "1", "}"}, {"[", "\"]]]\\\"}}}\"", "]"}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (size_t over = 0; over < 2; over++) {
            char *text =
                nested(PR_JSON_DEPTH_MAX + over, shapes[i].open, shapes[i].inner, shapes[i].close);
            json_t *value = NULL;
            pr_error err = {0};
            pr_status st = pr_json_parse(text, strlen(text), "t", &value, &err);
            assert_int_equal(st, over ? PR_E_MODEL : PR_OK);
            if (over) assert_non_null(strstr(err.message, "deeper than 256"));
            json_decref(value);
            free(text);
        }
    }
    /* a million brackets cost no stack; brackets inside a string are text */
    char *many = malloc(1000000);
    memset(many, '[', 1000000);
    json_t *value = NULL;
    assert_int_equal(pr_json_parse(many, 1000000, "t", &value, NULL), PR_E_MODEL);
    many[0] = many[999999] = '"';
    assert_int_equal(pr_json_parse(many, 1000000, "t", &value, NULL), PR_OK);
    json_decref(value);
    free(many);
}

static void json_duplicate_keys_are_refused_only_when_asked(void **state)
{
    (void)state;
    const char *text = "{\"a\":1,\"a\":2}";
    json_t *value = parse_ok(text);
    assert_int_equal(json_integer_value(json_object_get(value, "a")), 2);
    json_decref(value);
    value = NULL;
    pr_error err = {0};
    assert_int_equal(pr_json_parse_unique(text, strlen(text), "t", &value, &err), PR_E_MODEL);
    assert_non_null(strstr(err.message, "duplicate"));
}

static void json_of_a_file_may_have_integers_over_64_bits(void **state)
{
    (void)state;
    static const char text[] =
        "{\"a\": 1000000000000000019884624838656, \"b\": [-99999999999999999999,"
        "9223372036854775807, 1.00000000000000000000001, 12345678901234567890e3],"
        "\"c\": \"12345678901234567890 \\\" 12345678901234567890\", \"d\": 7}";
    char path[] = "/tmp/pr_json_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    close(fd);
    json_t *value = NULL;
    pr_error err = {0};
    pr_status st = pr_json_load(path, 4096, &value, &err);
    unlink(path);
    if (st != PR_OK) fail_msg("%s", err.message);
    assert_true(json_real_value(json_object_get(value, "a")) == 1000000000000000019884624838656.0);
    const json_t *b = json_object_get(value, "b");
    assert_true(json_real_value(json_array_get(b, 0)) == -1e20);
    /* A number of 19 digits that would have fitted is the same number at least. */
    assert_true(json_number_value(json_array_get(b, 1)) == 9223372036854775807.0);
    assert_true(json_real_value(json_array_get(b, 2)) == 1.0);
    assert_true(json_real_value(json_array_get(b, 3)) == 12345678901234567890e3);
    assert_string_equal(json_string_value(json_object_get(value, "c")),
                        "12345678901234567890 \" 12345678901234567890");
    assert_int_equal(json_integer_value(json_object_get(value, "d")), 7);
    json_decref(value);
}

static void json_getters_return_the_values(void **state)
{
    (void)state;
    json_t *o =
        parse_ok("{\"i\":7,\"f\":0.5,\"b\":true,\"s\":\"text\",\"a\":[1],\"o\":{},\"n\":null}");
    int64_t i = 0;
    double f = 0, whole = 0;
    bool b = false;
    const char *s = NULL;
    json_t *node = NULL;
    assert_int_equal(pr_json_get_i64(o, "t", "i", 0, 7, &i, NULL), PR_OK);
    assert_int_equal(i, 7);
    assert_int_equal(pr_json_get_f64(o, "t", "f", &f, NULL), PR_OK);
    assert_true(f == 0.5);
    assert_int_equal(pr_json_get_f64(o, "t", "i", &whole, NULL), PR_OK);
    assert_true(whole == 7.0);
    assert_int_equal(pr_json_get_bool_opt(o, "t", "b", &b, NULL), PR_OK);
    assert_int_equal(pr_json_get_bool(o, "t", "b", &b, NULL), PR_OK);
    assert_true(b);
    assert_int_equal(pr_json_get_str(o, "t", "s", &s, NULL), PR_OK);
    assert_string_equal(s, "text");
    assert_int_equal(pr_json_get_node(o, "t", "a", JSON_ARRAY, &node, NULL), PR_OK);
    assert_ptr_equal(node, json_object_get(o, "a"));
    /* missing and null leave the optional ones as they were */
    assert_int_equal(pr_json_get_i64_opt(o, "t", "n", 0, 7, &i, NULL), PR_OK);
    assert_int_equal(pr_json_get_f64_opt(o, "t", "none", &f, NULL), PR_OK);
    assert_int_equal(pr_json_get_bool_opt(o, "t", "n", &b, NULL), PR_OK);
    assert_int_equal(pr_json_get_str_opt(o, "t", "none", &s, NULL), PR_OK);
    assert_int_equal(pr_json_get_node_opt(o, "t", "n", JSON_OBJECT, &node, NULL), PR_OK);
    assert_true(i == 7 && f == 0.5 && b && node == json_object_get(o, "a"));
    assert_string_equal(s, "text");
    json_decref(o);
}

static void json_getters_refuse_with_path_found_and_expected(void **state)
{
    (void)state;
    json_t *o = parse_ok("{\"i\":7,\"f\":1.0,\"s\":\"a\\u0000b\",\"n\":null}");
    int64_t i = 0;
    double f = 0;
    bool b = false;
    const char *s = NULL;
    json_t *node = NULL;
    pr_error err = {0};
    assert_int_equal(pr_json_get_i64(o, "c.json", "i", 8, 9, &i, &err), PR_E_MODEL);
    assert_string_equal(err.message, "c.json: i: found 7, expected 8 to 9");
    assert_int_equal(pr_json_get_i64(o, "c.json", "f", 0, 9, &i, &err), PR_E_MODEL);
    assert_string_equal(err.message, "c.json: f: found a real number, expected an integer");
    assert_int_equal(pr_json_get_i64(o, "c.json", "n", 0, 9, &i, &err), PR_E_MODEL);
    assert_string_equal(err.message, "c.json: n: found nothing, expected an integer");
    assert_int_equal(pr_json_get_f64(o, "c.json", "s", &f, &err), PR_E_MODEL);
    assert_int_equal(pr_json_get_bool_opt(o, "c.json", "i", &b, &err), PR_E_MODEL);
    assert_string_equal(err.message, "c.json: i: found an integer, expected true or false");
    assert_int_equal(pr_json_get_bool(o, "c.json", "none", &b, &err), PR_E_MODEL);
    assert_string_equal(err.message, "c.json: none: found nothing, expected true or false");
    assert_int_equal(pr_json_get_str(o, "c.json", "i", &s, &err), PR_E_MODEL);
    assert_int_equal(pr_json_get_str(o, "c.json", "s", &s, &err), PR_E_MODEL);
    assert_string_equal(err.message, "c.json: s: found a string with a NUL character");
    assert_int_equal(pr_json_get_node(o, "c.json", "i", JSON_ARRAY, &node, &err), PR_E_MODEL);
    assert_string_equal(err.message, "c.json: i: found an integer, expected an array");
    assert_int_equal(pr_json_get_node(o, "c.json", "none", JSON_OBJECT, &node, &err), PR_E_MODEL);
    assert_true(i == 0 && f == 0 && !b && !s && !node);
    json_decref(o);
    o = parse_ok("[1]"); /* no object at all */
    assert_int_equal(pr_json_get_i64(o, "c.json", "i", 0, 9, &i, &err), PR_E_MODEL);
    json_decref(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_that_is_broken_is_refused_with_its_place),
        cmocka_unit_test(json_is_bounded_in_depth),
        cmocka_unit_test(json_duplicate_keys_are_refused_only_when_asked),
        cmocka_unit_test(json_of_a_file_may_have_integers_over_64_bits),
        cmocka_unit_test(json_getters_return_the_values),
        cmocka_unit_test(json_getters_refuse_with_path_found_and_expected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
