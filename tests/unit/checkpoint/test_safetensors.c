/* runtime/checkpoint/safetensors.h: what a header must look like, and what is refused. */
#include "runtime/checkpoint/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A file's first bytes: length and JSON, in memory of exactly that size, so that a sanitizer sees
 * the first byte read past it. */
static char *header_bytes(const char *json, size_t n_json, size_t *n)
{
    *n = 8 + n_json;
    char *bytes = malloc(*n);
    assert_non_null(bytes);
    for (int i = 0; i < 8; i++) bytes[i] = (char)((uint64_t)n_json >> 8 * i);
    memcpy(bytes + 8, json, n_json);
    return bytes;
}

static pr_status parse(const char *json, size_t n_json, uint64_t n_data, pr_safetensors *s,
                       pr_error *err)
{
    size_t n = 0;
    char *bytes = header_bytes(json, n_json, &n);
    pr_status st = pr_safetensors_parse(bytes, n, n + n_data, "x.safetensors", s, err);
    free(bytes);
    return st;
}

static void safetensors_tensors_come_in_file_order(void **state)
{
    (void)state;
    const char json[] = "{\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[4,16]},"
                        "\"__metadata__\":{\"format\":\"pt\"},"
                        "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4],\"more\":1},"
                        "\"none\":{\"dtype\":\"I64\",\"shape\":[0,5],\"data_offsets\":[16,16]}}   ";
    pr_safetensors s = {0};
    pr_error err = {0};
    assert_int_equal(parse(json, sizeof json - 1, 16, &s, &err), PR_OK);
    assert_int_equal(s.n_tensors, 3);
    assert_string_equal(s.tensors[0].name, "a");
    assert_int_equal(s.tensors[0].n_dims, 0);
    assert_int_equal(s.tensors[0].offset, 8 + sizeof json - 1);
    assert_int_equal(s.tensors[0].n_bytes, 4);
    assert_string_equal(s.tensors[1].name, "b");
    assert_int_equal(s.tensors[1].dtype, PR_DTYPE_BF16);
    assert_int_equal(s.tensors[1].shape[0], 2);
    assert_int_equal(s.tensors[1].shape[1], 3);
    assert_int_equal(s.tensors[1].offset, 8 + sizeof json - 1 + 4);
    assert_string_equal(s.tensors[2].name, "none");
    assert_int_equal(s.tensors[2].n_bytes, 0);
    pr_safetensors_deinit(&s);
}

static void safetensors_file_without_tensors_is_valid(void **state)
{
    (void)state;
    pr_safetensors s = {0};
    assert_int_equal(parse("{}", 2, 0, &s, NULL), PR_OK);
    assert_int_equal(s.n_tensors, 0);
    pr_safetensors_deinit(&s);
}

static void safetensors_lying_length_is_refused(void **state)
{
    (void)state;
    static const struct {
        unsigned char first8[8];
        uint64_t n_file;
        const char *part;
    } cases[] = {
        {{0}, 0, "0 bytes"},
        {{2}, 7, "7 bytes"},
        {{3}, 10, "found 3, expected at most 2"},
        {{0, 0, 0, 0, 1}, 1 << 20, "expected at most 100000000"},
        {{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, UINT64_MAX, "18446744073709551615"},
        {{0xF8, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, 100, "18446744073709551608"},
        {{0, 0xE1, 0xF5, 0x05}, 1000, "found 100000000, expected at most 992"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_error err = {0};
        size_t n = 0;
        assert_int_equal(
            pr_safetensors_header_bytes(cases[i].first8, cases[i].n_file, "f", &n, &err),
            PR_E_MODEL);
        if (!strstr(err.message, cases[i].part)) fail_msg("%zu: %s", i, err.message);
    }
}

#define INFO(dtype, shape, offsets)                                                                \
    "{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define ONE(dtype, shape, offsets) "{\"t\":" INFO(dtype, shape, offsets) "}"

typedef struct bad_case {
    const char *json;
    uint64_t n_data;
    pr_status status;
    const char *part; /* of the message */
} bad_case;

static const bad_case bad_cases[] = {
    {"", 0, PR_E_MODEL, "expected {"},
    {" {}", 0, PR_E_MODEL, "expected {"},
    {"[]", 0, PR_E_MODEL, "expected {"},
    {"\xEF\xBB\xBF{}", 0, PR_E_MODEL, "expected {"},
    {"{", 0, PR_E_MODEL, "not JSON"},
    {"{}x", 0, PR_E_MODEL, "not JSON"},
    {"{\"\xFF\":1}", 0, PR_E_MODEL, "not JSON"},
    {"{\"t\":1}", 0, PR_E_MODEL, "tensor t: found an integer, expected an object"},
    {"{\"t\":{}}", 0, PR_E_MODEL, "dtype: found nothing"},
    {"{\"__metadata__\":1}", 0, PR_E_MODEL, "__metadata__"},
    {"{\"__metadata__\":{\"a\":1}}", 0, PR_E_MODEL, "__metadata__"},
    {"{\"__metadata__\":{}}", 1, PR_E_MODEL, "tensors end at data byte 0, expected 1"},
    {ONE("\"F33\"", "[1]", "[0,4]"), 4, PR_E_UNSUPPORTED, "found F33"},
    {ONE("\"float32\"", "[1]", "[0,4]"), 4, PR_E_UNSUPPORTED, "found float32"},
    {ONE("4", "[1]", "[0,4]"), 4, PR_E_MODEL, "dtype: found an integer"},
    {ONE("\"F32\"", "1", "[0,4]"), 4, PR_E_MODEL, "shape: found an integer"},
    {ONE("\"F32\"", "[-1]", "[0,4]"), 4, PR_E_MODEL, "shape[0]"},
    {ONE("\"F32\"", "[1.0]", "[0,4]"), 4, PR_E_MODEL, "shape[0]"},
    {ONE("\"F32\"", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, PR_E_MODEL, "at most 8"},
    {ONE("\"F32\"", "[99999999999999999999]", "[0,4]"), 4, PR_E_MODEL, "not JSON"},
    {ONE("\"F32\"", "[4611686018427387904,4]", "[0,0]"), 0, PR_E_MODEL, "64 bits"},
    {ONE("\"F32\"", "[4294967296,4294967296,0]", "[0,0]"), 0, PR_E_MODEL, "64 bits"},
    {ONE("\"F32\"", "[0,4294967296,4294967296]", "[0,0]"), 0, PR_E_MODEL, "64 bits"},
    {ONE("\"F32\"", "[9223372036854775807]", "[0,4]"), 4, PR_E_MODEL, "64 bits"},
    {ONE("\"U8\"", "[9223372036854775807]", "[0,4]"), 4, PR_E_MODEL, "found 4 bytes"},
    {ONE("\"F32\"", "[2]", "[0,4]"), 4, PR_E_MODEL, "found 4 bytes, expected 8"},
    {ONE("\"F32\"", "[1]", "[0,8]"), 8, PR_E_MODEL, "found 8 bytes, expected 4"},
    {ONE("\"F32\"", "[1]", "[0,4]"), 3, PR_E_MODEL, "leaves the file"},
    {ONE("\"F32\"", "[1]", "[0,4]"), 5, PR_E_MODEL, "tensors end at data byte 4, expected 5"},
    {ONE("\"F32\"", "[1]", "[1,5]"), 5, PR_E_MODEL, "a hole before it"},
    {ONE("\"F32\"", "[1]", "[4,0]"), 4, PR_E_MODEL, "begin <= end"},
    {ONE("\"F32\"", "[1]", "[-4,0]"), 4, PR_E_MODEL, "begin <= end"},
    {ONE("\"F32\"", "[1]", "[0]"), 4, PR_E_MODEL, "data_offsets"},
    {ONE("\"F32\"", "[1]", "[0,4,8]"), 8, PR_E_MODEL, "data_offsets"},
    {ONE("\"F32\"", "[1]", "{\"0\":0}"), 4, PR_E_MODEL, "data_offsets"},
    {ONE("\"F32\"", "[1]", "[0,9223372036854775807]"), 4, PR_E_MODEL, "leaves the file"},
    {"{\"a\":" INFO("\"U8\"", "[4]", "[0,4]") ",\"b\":" INFO("\"U8\"", "[4]", "[2,6]") "}", 6,
     PR_E_MODEL, "tensor b: data_offsets: begins at 2, expected 4 (overlaps"},
    {"{\"a\":" INFO("\"U8\"", "[4]", "[0,4]") ",\"b\":" INFO("\"U8\"", "[4]", "[0,4]") "}", 4,
     PR_E_MODEL, "overlaps"},
    {"{\"a\":" INFO("\"U8\"", "[4]", "[0,4]") ",\"b\":" INFO("\"U8\"", "[4]", "[6,10]") "}", 10,
     PR_E_MODEL, "a hole"},
    {"{\"a\":" INFO("\"U8\"", "[0]", "[2,2]") ",\"b\":" INFO("\"U8\"", "[4]", "[0,4]") "}", 4,
     PR_E_MODEL, "overlaps"},
    {"{\"a\":" INFO("\"U8\"", "[4]", "[0,4]") ",\"a\":" INFO("\"U8\"", "[4]", "[0,4]") "}", 4,
     PR_E_MODEL, "duplicate"},
};

static void safetensors_broken_header_is_refused_with_tensor_and_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_cases / sizeof *bad_cases; i++) {
        const bad_case *c = &bad_cases[i];
        pr_error err = {0};
        pr_safetensors s = {0};
        pr_status st = parse(c->json, strlen(c->json), c->n_data, &s, &err);
        if (st != c->status || !strstr(err.message, c->part) ||
            !strstr(err.message, "x.safetensors")) {
            fail_msg("%s: status %d, %s", c->json, (int)st, err.message);
        }
        assert_null(s.tensors); /* outputs untouched */
    }
}

static void safetensors_deep_nesting_and_nul_in_names_are_refused(void **state)
{
    (void)state;
    char deep[2000] = "{\"t\":";
    memset(deep + 5, '[', sizeof deep - 6);
    pr_safetensors s = {0};
    pr_error err = {0};
    assert_int_equal(parse(deep, strlen(deep), 0, &s, &err), PR_E_MODEL);
    assert_non_null(strstr(err.message, "deeper"));
    const char nul[] = "{\"a\\u0000b\":1}";
    assert_int_equal(parse(nul, strlen(nul), 0, &s, &err), PR_E_MODEL);
    assert_non_null(strstr(err.message, "NUL"));
}

/* Every truncation of a good header is an error, never a crash. */
static void safetensors_every_truncation_is_refused(void **state)
{
    (void)state;
    const char json[] =
        "{\"a\":" INFO("\"U8\"", "[4]", "[0,4]") ",\"b\":" INFO("\"F16\"", "[2,1]", "[4,8]") "}";
    for (size_t n = 0; n < sizeof json - 1; n++) {
        pr_safetensors s = {0};
        assert_int_equal(parse(json, n, 8, &s, NULL), PR_E_MODEL);
    }
    pr_safetensors s = {0};
    assert_int_equal(parse(json, sizeof json - 1, 8, &s, NULL), PR_OK);
    pr_safetensors_deinit(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(safetensors_tensors_come_in_file_order),
        cmocka_unit_test(safetensors_file_without_tensors_is_valid),
        cmocka_unit_test(safetensors_lying_length_is_refused),
        cmocka_unit_test(safetensors_broken_header_is_refused_with_tensor_and_reason),
        cmocka_unit_test(safetensors_deep_nesting_and_nul_in_names_are_refused),
        cmocka_unit_test(safetensors_every_truncation_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
