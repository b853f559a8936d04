/* coordinator/model/reward.h: rows to one number. */
#include "coordinator/model/reward.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static float rows[] = {0.9f, 0.1f, 0.75f, 0.25f, 0.5f, 0.5f};

static pr_result result_of(uint32_t n_rows, uint32_t n_columns)
{
    return (pr_result){
        .n_rows = n_rows, .n_columns = n_columns, .data = rows, .is_token_wise = true};
}

static void the_last_token_is_the_reward(void **state)
{
    (void)state;
    pr_result result = result_of(6, 1);
    float reward = 0;
    pr_status st = pr_reward_of(&result, PR_POOL_ALL, 0, PR_REDUCE_MIN, NULL, &reward, NULL);
    assert_int_equal(st, PR_OK);
    assert_true(reward == 0.5f);
    result = result_of(1, 1);
    st = pr_reward_of(&result, PR_POOL_LAST, 0, PR_REDUCE_LAST, NULL, &reward, NULL);
    assert_int_equal(st, PR_OK);
    assert_true(reward == 0.9f);
}

static void steps_are_reduced_as_asked(void **state)
{
    (void)state;
    const struct {
        pr_reduce reduce;
        float expected;
    } cases[] = {{PR_REDUCE_LAST, 0.5f},
                 {PR_REDUCE_MEAN, (float)(((double)0.1f + 0.25 + 0.5) / 3)},
                 {PR_REDUCE_MIN, 0.1f},
                 {PR_REDUCE_PRODUCT, (float)((double)0.1f * 0.25 * 0.5)}};
    pr_result result = result_of(3, 2);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float reward = 0, steps[3];
        pr_status st =
            pr_reward_of(&result, PR_POOL_STEP, 7, cases[i].reduce, steps, &reward, NULL);
        assert_int_equal(st, PR_OK);
        assert_true(reward == cases[i].expected);
        assert_true(steps[0] == 0.1f && steps[1] == 0.25f && steps[2] == 0.5f);
        assert_true(pr_reward_reduce(cases[i].reduce, steps, 3) == reward);
    }
}

static void a_text_without_a_step_is_refused_with_the_token(void **state)
{
    (void)state;
    pr_result result = result_of(0, 2);
    pr_error err = {0};
    float reward = 3;
    pr_status st = pr_reward_of(&result, PR_POOL_STEP, 77, PR_REDUCE_LAST, NULL, &reward, &err);
    assert_int_equal(st, PR_E_INPUT);
    assert_non_null(strstr(err.message, "token 77"));
    assert_true(reward == 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_token_is_the_reward),
        cmocka_unit_test(steps_are_reduced_as_asked),
        cmocka_unit_test(a_text_without_a_step_is_refused_with_the_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
