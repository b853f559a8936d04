/* Reading and writing msgpack; msgpack-c's own reader is the judge of what a value is. */
#include "runtime/wire/msgpack_read.h"
#include "runtime/wire/msgpack_write.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <msgpack.h>

static pr_msgpack_reader reader(const void *bytes, size_t n, pr_error *err)
{
    pr_msgpack_reader r;
    pr_msgpack_reader_init(&r, "test", bytes, n, err);
    return r;
}

static void integers_of_every_width_come_out_as_they_went_in(void **state)
{
    (void)state;
    pr_buffer b;
    pr_buffer_init(&b);
    for (int shift = 0; shift < 64; shift++) {
        for (int d = -1; d <= 1; d++) {
            uint64_t u = (UINT64_C(1) << shift) + (uint64_t)d;
            pr_buffer_clear(&b);
            pr_msgpack_write_u64(&b, u);
            pr_msgpack_write_i64(&b, (int64_t)u);
            pr_msgpack_write_i64(&b, -(int64_t)(u >> 1) - 1);
            pr_error err = {0};
            pr_msgpack_reader r = reader(b.data, b.n, &err);
            assert_int_equal(pr_msgpack_read_u64(&r, "a", 0, UINT64_MAX), u);
            assert_int_equal(pr_msgpack_read_i64(&r, "b", INT64_MIN, INT64_MAX), (int64_t)u);
            assert_int_equal(pr_msgpack_read_i64(&r, "c", INT64_MIN, INT64_MAX),
                             -(int64_t)(u >> 1) - 1);
            assert_int_equal(pr_msgpack_read_end(&r), PR_OK);
        }
    }
    pr_buffer_deinit(&b);
}

static void values_of_every_type_come_out_as_they_went_in(void **state)
{
    (void)state;
    pr_buffer b;
    pr_buffer_init(&b);
    pr_msgpack_write_array(&b, 9);
    pr_msgpack_write_nil(&b);
    pr_msgpack_write_bool(&b, true);
    pr_msgpack_write_bool(&b, false);
    pr_msgpack_write_f64(&b, -1.5e300);
    pr_buffer_append(&b, "\xCA\x3F\x80\x00\x00", 5); /* 1.0 of 32 bits */
    pr_msgpack_write_i64(&b, -7);
    pr_msgpack_write_text(&b, "text");
    memcpy(pr_msgpack_write_bin_space(&b, 3), "bin", 3);
    pr_msgpack_write_map(&b, 1);
    pr_msgpack_write_str(&b, "key!", 3);
    pr_msgpack_write_bin(&b, NULL, 0);
    assert_false(b.failed);
    pr_msgpack_reader r = reader(b.data, b.n, NULL);
    char text[5], bin[3];
    size_t n = 0;
    assert_int_equal(pr_msgpack_read_array(&r, "a", 9, 9), 9);
    assert_int_equal(pr_msgpack_next(&r), PR_MSGPACK_NIL);
    pr_msgpack_skip(&r, "nil");
    assert_true(pr_msgpack_read_bool(&r, "true"));
    assert_false(pr_msgpack_read_bool(&r, "false"));
    assert_true(pr_msgpack_read_f64(&r, "f64") == -1.5e300);
    assert_true(pr_msgpack_read_f64(&r, "f32") == 1.0);
    assert_true(pr_msgpack_read_f64(&r, "integer") == -7.0);
    pr_msgpack_read_text(&r, "text", text, sizeof text);
    assert_string_equal(text, "text");
    pr_msgpack_read_fixed(&r, "bin", bin, sizeof bin);
    assert_memory_equal(bin, "bin", 3);
    assert_int_equal(pr_msgpack_read_map(&r, "map", 1, 1), 1);
    assert_memory_equal(pr_msgpack_read_str(&r, "key", 0, 3, &n), "key", 3);
    assert_non_null(pr_msgpack_read_bin(&r, "empty", 0, 0, &n));
    assert_int_equal(pr_msgpack_read_end(&r), PR_OK);
    pr_buffer_deinit(&b);
}

/* Lengths around where the form of a head changes. */
static void lengths_of_every_form_come_out_as_they_went_in(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536, 70000};
    char *bytes = calloc(1, 70000);
    assert_non_null(bytes);
    pr_buffer b;
    pr_buffer_init(&b);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        uint32_t n = lengths[i];
        pr_buffer_clear(&b);
        pr_msgpack_write_str(&b, bytes, n);
        pr_msgpack_write_bin(&b, bytes, n);
        pr_msgpack_write_array(&b, n);
        for (uint32_t j = 0; j < n; j++) pr_msgpack_write_nil(&b);
        pr_msgpack_write_map(&b, n / 2);
        for (uint32_t j = 0; j < n / 2 * 2; j++) pr_msgpack_write_nil(&b);
        pr_msgpack_reader r = reader(b.data, b.n, NULL);
        size_t n_str = 0, n_bin = 0;
        pr_msgpack_read_str(&r, "s", n, n, &n_str);
        pr_msgpack_read_bin(&r, "b", n, n, &n_bin);
        assert_int_equal(n_str, n);
        assert_int_equal(n_bin, n);
        pr_msgpack_skip(&r, "array");
        assert_int_equal(pr_msgpack_read_map(&r, "m", 0, UINT32_MAX), n / 2);
        for (uint32_t j = 0; j < n / 2 * 2; j++) pr_msgpack_skip(&r, "nil");
        assert_int_equal(pr_msgpack_read_end(&r), PR_OK);
    }
    pr_buffer_deinit(&b);
    free(bytes);
}

/* The first failure stays, and what is read after it is zero. */
static void the_first_failure_is_the_one_reported(void **state)
{
    (void)state;
    pr_error err = {0};
    pr_msgpack_reader r = reader("\x05\xC0\xA1x\xC4\x01y", 7, &err);
    char text[4] = "old", fixed[2] = "f";
    size_t n = 9;
    assert_int_equal(pr_msgpack_read_u64(&r, "small", 0, 4), 0);
    assert_int_equal(pr_msgpack_next(&r), PR_MSGPACK_NONE);
    pr_msgpack_read_text(&r, "text", text, sizeof text);
    pr_msgpack_read_fixed(&r, "fixed", fixed, 2);
    assert_string_equal(text, "");
    assert_memory_equal(fixed, "\0\0", 2);
    assert_null(pr_msgpack_read_str(&r, "s", 0, 9, &n));
    assert_int_equal(n, 0);
    assert_int_equal(pr_msgpack_read_array(&r, "a", 0, 9), 0);
    assert_true(pr_msgpack_read_f64(&r, "f") == 0);
    pr_msgpack_skip(&r, "skip");
    assert_int_equal(pr_msgpack_fail(&r, "later", "no"), PR_E_INPUT);
    assert_int_equal(pr_msgpack_read_end(&r), PR_E_INPUT);
    assert_string_equal(err.message, "test: small: found 5, expected 0 to 4");
}

static void a_count_that_its_bytes_cannot_hold_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *reason;
    } cases[] = {
        {"\xDD\xFF\xFF\xFF\xFF\xC0", 6,
         "test: x: found bytes for at most 1 elements, expected 4294967295"},
        {"\xDF\xFF\xFF\xFF\xFF\xC0\xC0", 7,
         "test: x: found bytes for at most 1 elements, expected 4294967295"},
        {"\x82\xC0\xC0\xC0", 4, "test: x: found bytes for at most 1 elements, expected 2"},
        {"\xC6\xFF\xFF\xFF\xFFz", 6, "test: x: found 1 bytes, expected 4294967295"},
        {"\xDB\xFF\xFF\xFF\xFFz", 6, "test: x: found 1 bytes, expected 4294967295"},
        {"\xC9\xFF\xFF\xFF\xFFzz", 7, "test: x: found 2 bytes, expected 4294967296"},
        {"\xC1", 1, "test: x: found no whole value at byte 0 of 1, expected nil"},
        {"\xCD\x01", 2, "test: x: found no whole value at byte 0 of 2, expected nil"},
        {"", 0, "test: x: found the end at byte 0 of 0, expected nil"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *copy = malloc(cases[i].n + 1);
        memcpy(copy, cases[i].bytes, cases[i].n);
        pr_error err = {0};
        pr_msgpack_reader r = reader(copy, cases[i].n, &err);
        pr_msgpack_skip(&r, "x");
        assert_int_equal(r.status, PR_E_INPUT);
        assert_string_equal(err.message, cases[i].reason);
        free(copy);
    }
}

static void values_too_deep_inside_each_other_are_not_skipped(void **state)
{
    (void)state;
    char nested[64];
    for (int depth = 0; depth < 40; depth++) {
        memset(nested, '\x91', sizeof nested);
        nested[depth] = '\xC0';
        pr_msgpack_reader r = reader(nested, (size_t)depth + 1, NULL);
        pr_msgpack_skip(&r, "x");
        assert_int_equal(pr_msgpack_read_end(&r),
                         depth <= PR_MSGPACK_DEPTH_MAX ? PR_OK : PR_E_INPUT);
    }
}

static void a_text_with_a_nul_byte_or_without_room_is_refused(void **state)
{
    (void)state;
    char out[4];
    pr_msgpack_reader r = reader("\xA3" "a\0b", 4, NULL);
    pr_msgpack_read_text(&r, "x", out, sizeof out);
    assert_int_equal(r.status, PR_E_INPUT);
    assert_string_equal(out, "");
    r = reader("\xA4" "abcd", 5, NULL);
    pr_msgpack_read_text(&r, "x", out, sizeof out);
    assert_int_equal(r.status, PR_E_INPUT);
}

/* ---- against msgpack-c ---- */

static uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

/* Random values of few bytes, mostly heads, that msgpack-c can be trusted with: of the 32-bit
 * counts only those below 256. */
static size_t random_bytes(uint64_t *s, unsigned char *out, size_t n_max)
{
    size_t n = 1 + next_random(s) % (n_max - 5);
    for (size_t i = 0; i < n; i++) {
        out[i] = (unsigned char)(next_random(s) >> 20);
        if (next_random(s) % 2) out[i] = (unsigned char)(0xC0 + out[i] % 32);
        if (next_random(s) % 4 == 0) out[i] = (unsigned char)(out[i] % 4);
    }
    for (size_t i = 0; i < n; i++) {
        bool is_wide = out[i] == 0xC6 || out[i] == 0xC9 || out[i] == 0xDB || out[i] == 0xDD ||
                       out[i] == 0xDF;
        if (is_wide) memset(out + i + 1, 0, i + 4 < n ? 3 : n - i - 1);
    }
    return n;
}

static void what_msgpack_c_takes_is_skipped_whole_and_nothing_else(void **state)
{
    (void)state;
    uint64_t s = 20250101;
    size_t n_good = 0;
    for (int i = 0; i < 200000; i++) {
        unsigned char bytes[32] = {0};
        size_t n = random_bytes(&s, bytes, sizeof bytes), n_taken = 0;
        msgpack_unpacked u;
        msgpack_unpacked_init(&u);
        msgpack_unpack_return judge = msgpack_unpack_next(&u, (char *)bytes, n, &n_taken);
        bool is_good = judge == MSGPACK_UNPACK_SUCCESS || judge == MSGPACK_UNPACK_EXTRA_BYTES;
        pr_error err = {0};
        pr_msgpack_reader r = reader(bytes, n, &err);
        pr_msgpack_skip(&r, "x");
        bool is_deep = strstr(err.message, "inside each other") != NULL;
        if (!is_deep) assert_int_equal(r.status == PR_OK, is_good);
        if (is_good && !is_deep) {
            assert_int_equal(r.at, n_taken);
            n_good++;
        }
        msgpack_unpacked_destroy(&u);
    }
    assert_true(n_good > 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_of_every_width_come_out_as_they_went_in),
        cmocka_unit_test(values_of_every_type_come_out_as_they_went_in),
        cmocka_unit_test(lengths_of_every_form_come_out_as_they_went_in),
        cmocka_unit_test(the_first_failure_is_the_one_reported),
        cmocka_unit_test(a_count_that_its_bytes_cannot_hold_is_refused),
        cmocka_unit_test(values_too_deep_inside_each_other_are_not_skipped),
        cmocka_unit_test(a_text_with_a_nul_byte_or_without_room_is_refused),
        cmocka_unit_test(what_msgpack_c_takes_is_skipped_whole_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
