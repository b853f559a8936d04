/* Packing and unpacking with any one allocation failing: PR_E_NOMEM, and nothing is leaked. */
#include "runtime/wire/frame.h"
#include "tests/unit/fault_alloc.h"
#include "tests/unit/worker/control_cases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static pr_status pack_and_unpack(void *context)
{
    const control_case *c = context;
    pr_buffer b;
    pr_buffer_init(&b);
    pr_control_message out;
    pr_status st = pr_control_pack(&c->message, &b, NULL);
    if (st == PR_OK) {
        st = pr_control_unpack(b.data + PR_FRAME_HEADER_BYTES, b.n - PR_FRAME_HEADER_BYTES, &out,
                               NULL);
        if (st == PR_OK) pr_control_message_deinit(&out);
    }
    pr_buffer_deinit(&b);
    return st;
}

static void a_message_without_memory_fails_and_leaks_nothing(void **state)
{
    (void)state;
    for (int kind = 0; kind < PR_CONTROL_KIND_COUNT; kind++) {
        control_case c;
        control_case_make(&c, (pr_control_kind)kind, 2, 500, 7);
        pr_status wrong = PR_OK;
        long n = fault_every_allocation(pack_and_unpack, &c, &wrong);
        assert_int_equal(wrong, PR_OK);
        assert_true(n >= (kind == PR_CONTROL_BATCH ? 9 : 1));
        control_case_free(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_without_memory_fails_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
