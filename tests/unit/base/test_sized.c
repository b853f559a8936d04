/* Structs that cross the line between programs and the library, of other versions too. */
#include "runtime/base/sized.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

typedef struct first { /* of the first version */
    size_t struct_bytes;
    int32_t a, b;
} first;

typedef struct second { /* of this one */
    size_t struct_bytes;
    int32_t a, b;
    int64_t c;
} second;

typedef struct third { /* of the next */
    size_t struct_bytes;
    int32_t a, b;
    int64_t c, d;
} third;

static const second defaults = {.a = -1, .b = 2, .c = -3};

static void only_what_the_caller_has_is_written(void **state)
{
    (void)state;
    struct {
        first given;
        char behind[32];
    } old;
    memset(&old, 0x5a, sizeof old);
    pr_sized_give(&old.given, sizeof old.given, &defaults, sizeof defaults);
    assert_int_equal(old.given.struct_bytes, sizeof(first));
    assert_int_equal(old.given.a, -1);
    assert_int_equal(old.given.b, 2);
    for (size_t i = 0; i < sizeof old.behind; i++) assert_int_equal(old.behind[i], 0x5a);
    third new;
    memset(&new, 0x5a, sizeof new);
    pr_sized_give(&new, sizeof new, &defaults, sizeof defaults);
    assert_int_equal(new.struct_bytes, sizeof(third));
    assert_int_equal(new.c, -3);
    assert_int_equal(new.d, 0);
}

static pr_status take(const void *given, second *out, pr_error *err)
{
    *out = defaults;
    return pr_sized_take("pr_thing", given, sizeof(first), out, sizeof *out, err);
}

static void an_older_caller_s_struct_has_defaults_behind_it(void **state)
{
    (void)state;
    second taken;
    const first old = {.struct_bytes = sizeof old, .a = 7, .b = 8};
    assert_int_equal(take(&old, &taken, NULL), PR_OK);
    assert_int_equal(taken.struct_bytes, sizeof taken);
    assert_int_equal(taken.a, 7);
    assert_int_equal(taken.b, 8);
    assert_int_equal(taken.c, -3);
    const second same = {.struct_bytes = sizeof same, .a = 7, .b = 8, .c = 9};
    assert_int_equal(take(&same, &taken, NULL), PR_OK);
    assert_memory_equal(&taken, &same, sizeof same);
}

static void a_newer_caller_s_struct_is_refused(void **state)
{
    (void)state;
    second taken;
    pr_error err;
    const third new = {.struct_bytes = sizeof new, .a = 7};
    assert_int_equal(take(&new, &taken, &err), PR_E_ARGUMENT);
    assert_string_equal(err.message,
                        "pr_thing: found a struct of 32 bytes, expected at most 24: the program "
                        "was compiled for a newer version of the library than the one that it runs "
                        "with");
    assert_memory_equal(&taken, &defaults, sizeof taken);
}

static void what_nobody_initialised_is_refused(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, sizeof(first) - 1, (1 << 16) + 1, SIZE_MAX};
    second taken;
    pr_error err;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const first wild = {.struct_bytes = sizes[i]};
        assert_int_equal(take(&wild, &taken, &err), PR_E_ARGUMENT);
        assert_non_null(strstr(err.message, "it was not initialised (pr_thing_init)"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_the_caller_has_is_written),
        cmocka_unit_test(an_older_caller_s_struct_has_defaults_behind_it),
        cmocka_unit_test(a_newer_caller_s_struct_is_refused),
        cmocka_unit_test(what_nobody_initialised_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
