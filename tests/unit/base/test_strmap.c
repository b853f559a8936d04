/* runtime/base/strmap.h and arena.h: maps of byte strings, and the memory below them. */
#include "runtime/base/arena.h"
#include "runtime/base/strmap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void strmap_returns_what_was_put_last(void **state)
{
    (void)state;
    pr_strmap *m = pr_strmap_create(0);
    assert_true(pr_strmap_put(m, "a", 1, 1));
    assert_true(pr_strmap_put(m, "", 0, 2));
    assert_true(pr_strmap_put(m, "a\0b", 3, 3));
    assert_true(pr_strmap_put(m, "a", 1, 4));
    uint32_t v = 77;
    assert_true(pr_strmap_get(m, "a", 1, &v) && v == 4);
    assert_true(pr_strmap_get(m, "", 0, &v) && v == 2);
    assert_true(pr_strmap_get(m, "a\0b", 3, &v) && v == 3);
    assert_false(pr_strmap_get(m, "a\0", 2, &v));
    assert_int_equal(v, 3); /* untouched */
    assert_true(pr_strmap_get(m, "a", 1, NULL));
    assert_int_equal(pr_strmap_count(m), 3);
    pr_strmap_free(m);
    pr_strmap_free(NULL);
}

static void check_many(size_t n_expected)
{
    enum { N = 20000 };
    pr_strmap *m = pr_strmap_create(n_expected);
    char key[64];
    for (uint32_t i = 0; i < N; i++) {
        int n = snprintf(key, sizeof key, "model.layers.%u.weight", i);
        assert_true(pr_strmap_put(m, key, (size_t)n, i));
    }
    assert_int_equal(pr_strmap_count(m), N);
    for (uint32_t i = 0; i < N; i++) {
        uint32_t v = 0;
        int n = snprintf(key, sizeof key, "model.layers.%u.weight", i);
        assert_true(pr_strmap_get(m, key, (size_t)n, &v));
        assert_int_equal(v, i);
        assert_false(pr_strmap_get(m, key, (size_t)n - 1, &v));
    }
    pr_strmap_free(m);
}

static void strmap_grows_and_loses_nothing(void **state)
{
    (void)state;
    check_many(0);
    check_many(20000);
}

/* Keys that differ in one bit, in blocks of eight bytes and beside them: none may be lost. */
static void strmap_tells_keys_apart_that_differ_in_one_bit(void **state)
{
    (void)state;
    for (size_t n = 1; n <= 33; n++) {
        pr_strmap *m = pr_strmap_create(0);
        char key[40] = {0};
        assert_true(pr_strmap_put(m, key, n, 0));
        for (size_t bit = 0; bit < 8 * n; bit++) {
            key[bit / 8] = (char)(1 << bit % 8);
            assert_false(pr_strmap_get(m, key, n, NULL));
            assert_true(pr_strmap_put(m, key, n, (uint32_t)bit + 1));
            key[bit / 8] = 0;
        }
        assert_int_equal(pr_strmap_count(m), 8 * n + 1);
        pr_strmap_free(m);
    }
}

static void arena_memory_is_aligned_disjoint_and_stays(void **state)
{
    (void)state;
    pr_arena *a = pr_arena_create(256);
    static const size_t sizes[] = {1, 15, 16, 17, 0, 255, 256, 257, 100000, 3};
    enum { N = sizeof sizes / sizeof *sizes };
    unsigned char *p[N];
    for (size_t i = 0; i < N; i++) {
        p[i] = pr_arena_alloc(a, sizes[i]);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 16, 0);
        memset(p[i], (int)i, sizes[i]);
    }
    for (size_t i = 0; i < N; i++) {
        for (size_t j = 0; j < sizes[i]; j++) assert_int_equal(p[i][j], i);
    }
    assert_string_equal(pr_arena_strdup(a, "text"), "text");
    assert_memory_equal(pr_arena_copy(a, "a\0b", 3), "a\0b", 4);
    assert_string_equal(pr_arena_copy(a, NULL, 0), "");
    assert_null(pr_arena_alloc(a, SIZE_MAX)); /* refused, not wrapped around */
    assert_null(pr_arena_copy(a, "x", SIZE_MAX));
    pr_arena_free(a);
    pr_arena_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strmap_returns_what_was_put_last),
        cmocka_unit_test(strmap_grows_and_loses_nothing),
        cmocka_unit_test(strmap_tells_keys_apart_that_differ_in_one_bit),
        cmocka_unit_test(arena_memory_is_aligned_disjoint_and_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
