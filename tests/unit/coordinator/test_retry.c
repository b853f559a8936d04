/* What is done about groups that die or hang. */
#include "coordinator/fleet/retry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void a_batch_is_tried_again_then_split_then_given_up(void **state)
{
    (void)state;
    static const struct {
        uint32_t n_deaths;
        size_t n_parts;
        pr_retry expected;
    } cases[] = {
        {1, 1, PR_RETRY_AGAIN},  {1, 64, PR_RETRY_AGAIN}, {2, 64, PR_RETRY_SPLIT},
        {2, 2, PR_RETRY_SPLIT},  {2, 1, PR_RETRY_ALONE},  {3, 1, PR_RETRY_FAIL},
        {3, 2, PR_RETRY_SPLIT},  {9, 1, PR_RETRY_FAIL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(pr_retry_decide(cases[i].n_deaths, cases[i].n_parts), cases[i].expected);
    }
}

static void a_batch_is_alone_from_its_second_death_on(void **state)
{
    (void)state;
    assert_false(pr_retry_is_alone(0));
    assert_false(pr_retry_is_alone(1));
    assert_true(pr_retry_is_alone(2));
    assert_true(pr_retry_is_alone(3));
}

static void the_first_restart_is_at_once_and_the_wait_is_bounded(void **state)
{
    (void)state;
    static const uint64_t expected[] = {0, 0, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000};
    for (uint32_t n = 0; n < sizeof expected / sizeof *expected; n++) {
        assert_int_equal(pr_retry_backoff_ms(n), expected[n]);
    }
    assert_int_equal(pr_retry_backoff_ms(UINT32_MAX), 30000);
}

static void health_and_work_forget_earlier_deaths(void **state)
{
    (void)state;
    assert_int_equal(pr_retry_failures(0, 0, false), 1);
    assert_int_equal(pr_retry_failures(4, 0, false), 5);
    assert_int_equal(pr_retry_failures(4, PR_RETRY_HEALTHY_MS - 1, false), 5);
    assert_int_equal(pr_retry_failures(4, PR_RETRY_HEALTHY_MS, false), 1);
    assert_int_equal(pr_retry_failures(4, 1, true), 1);
    assert_int_equal(pr_retry_failures(UINT32_MAX, 0, false), UINT32_MAX);
}

enum { NOW = 100000, TIMEOUT = 5000, PING = 1000 };

static pr_rank_life well(void)
{
    return (pr_rank_life){.is_here = true, .is_computing = true, .progress_ms = NOW - 10,
                          .batch_seq = 7, .n_steps = 100};
}

static pr_hang verdict(const pr_rank_life *ranks, size_t n, size_t *i_rank)
{
    *i_rank = 99;
    return pr_retry_hang(ranks, n, NOW, TIMEOUT, PING, i_rank);
}

static void ranks_that_answer_and_go_on_do_not_hang(void **state)
{
    (void)state;
    size_t i;
    pr_rank_life ranks[2] = {well(), well()};
    assert_int_equal(verdict(ranks, 2, &i), PR_HANG_NONE);
    ranks[0].asked_ms = NOW - TIMEOUT + 1;
    ranks[1].progress_ms = NOW - TIMEOUT + 1;
    assert_int_equal(verdict(ranks, 2, &i), PR_HANG_NONE);
    ranks[1].progress_ms = 1; /* an idle rank need not go on */
    ranks[1].is_computing = false;
    assert_int_equal(verdict(ranks, 2, &i), PR_HANG_NONE);
    ranks[1].is_computing = true; /* nor one that is not there */
    ranks[1].is_here = false;
    ranks[1].asked_ms = 1;
    assert_int_equal(verdict(ranks, 2, &i), PR_HANG_NONE);
}

static void a_rank_that_does_not_answer_hangs(void **state)
{
    (void)state;
    size_t i;
    pr_rank_life ranks[3] = {well(), well(), well()};
    ranks[1].is_computing = false; /* idle ranks answer too */
    ranks[1].asked_ms = NOW - TIMEOUT;
    assert_int_equal(verdict(ranks, 3, &i), PR_HANG_SILENT);
    assert_int_equal(i, 1);
    ranks[2].asked_ms = NOW - TIMEOUT - 1; /* silent for longer */
    assert_int_equal(verdict(ranks, 3, &i), PR_HANG_SILENT);
    assert_int_equal(i, 2);
    ranks[0].asked_ms = NOW - TIMEOUT - 2; /* the longest, wherever it stands */
    assert_int_equal(verdict(ranks, 3, &i), PR_HANG_SILENT);
    assert_int_equal(i, 0);
    ranks[1].asked_ms = NOW - TIMEOUT - 2; /* the first of equals */
    assert_int_equal(verdict(ranks, 3, &i), PR_HANG_SILENT);
    assert_int_equal(i, 0);
}

static void the_rank_that_is_least_far_is_named(void **state)
{
    (void)state;
    size_t i;
    pr_rank_life ranks[3] = {well(), well(), well()};
    for (int r = 0; r < 3; r++) ranks[r].progress_ms = NOW - TIMEOUT;
    ranks[2].n_steps = 99;
    assert_int_equal(verdict(ranks, 3, &i), PR_HANG_STILL);
    assert_int_equal(i, 2);
    ranks[1].batch_seq = 6;
    ranks[1].n_steps = 500;
    assert_int_equal(verdict(ranks, 3, &i), PR_HANG_STILL);
    assert_int_equal(i, 1);
}

static void a_rank_that_waits_for_one_that_goes_on_does_not_hang(void **state)
{
    (void)state;
    size_t i;
    pr_rank_life ranks[2] = {well(), well()};
    ranks[0].progress_ms = 1;
    assert_int_equal(verdict(ranks, 2, &i), PR_HANG_NONE);
    ranks[1].is_computing = false; /* but one that is idle is no excuse */
    assert_int_equal(verdict(ranks, 2, &i), PR_HANG_STILL);
    assert_int_equal(i, 0);
}

static void a_silent_rank_is_named_before_those_that_wait_for_it(void **state)
{
    (void)state;
    size_t i;
    pr_rank_life ranks[2] = {well(), well()};
    ranks[0].progress_ms = NOW - TIMEOUT;
    ranks[1].progress_ms = NOW - TIMEOUT;
    ranks[1].n_steps = 900;
    ranks[1].asked_ms = NOW - PING;
    assert_int_equal(verdict(ranks, 2, &i), PR_HANG_SILENT);
    assert_int_equal(i, 1);
    ranks[1].asked_ms = NOW - PING + 1; /* asked just now: that says nothing yet */
    assert_int_equal(verdict(ranks, 2, &i), PR_HANG_STILL);
    assert_int_equal(i, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_is_tried_again_then_split_then_given_up),
        cmocka_unit_test(a_batch_is_alone_from_its_second_death_on),
        cmocka_unit_test(the_first_restart_is_at_once_and_the_wait_is_bounded),
        cmocka_unit_test(health_and_work_forget_earlier_deaths),
        cmocka_unit_test(ranks_that_answer_and_go_on_do_not_hang),
        cmocka_unit_test(a_rank_that_does_not_answer_hangs),
        cmocka_unit_test(the_rank_that_is_least_far_is_named),
        cmocka_unit_test(a_rank_that_waits_for_one_that_goes_on_does_not_hang),
        cmocka_unit_test(a_silent_rank_is_named_before_those_that_wait_for_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
