/* The last step of pooling, on one row. */
#include "worker/pool_finish.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void assert_near(float found, double expected)
{
    if (!(fabs(found - expected) <= 1e-7 * fmax(1, fabs(expected)))) {
        fail_msg("found %.9g, expected %.9g", (double)found, expected);
    }
}

static void raw_rows_stay_as_they_are(void **state)
{
    (void)state;
    const float row[] = {3, -4, 0.5f};
    const pr_pooling p = {.type = PR_POOL_ALL};
    float out[3];
    assert_int_equal(pr_pool_finish_width(&p, 3), 3);
    pr_pool_finish(&p, row, 3, out);
    assert_memory_equal(out, row, sizeof row);
}

static void dimensions_are_cut_before_normalizing(void **state)
{
    (void)state;
    const float row[] = {3, -4, 100};
    const pr_pooling p = {.normalize = true, .dimensions = 2};
    float out[2];
    assert_int_equal(pr_pool_finish_width(&p, 3), 2);
    pr_pool_finish(&p, row, 3, out);
    assert_near(out[0], 0.6);
    assert_near(out[1], -0.8);
}

static void dimensions_of_sentence_transformers_are_cut_last(void **state)
{
    (void)state;
    const float row[] = {3, -4, 12};
    const pr_pooling p = {.normalize = true, .dimensions = 2, .cuts_last = true};
    float out[2];
    pr_pool_finish(&p, row, 3, out);
    assert_near(out[0], 3.0 / 13);
    assert_near(out[1], -4.0 / 13);
}

static void a_zero_row_is_not_divided_by_zero(void **state)
{
    (void)state;
    const float row[] = {0, 0};
    const pr_pooling p = {.normalize = true};
    float out[2];
    pr_pool_finish(&p, row, 2, out);
    assert_true(out[0] == 0 && out[1] == 0);
}

static void softmax_survives_large_values(void **state)
{
    (void)state;
    const float row[] = {1000, 1001, -1000};
    const pr_pooling p = {.softmax = true};
    float out[3];
    pr_pool_finish(&p, row, 3, out);
    assert_near(out[0], 1 / (1 + exp(1)));
    assert_near(out[1], 1 / (1 + exp(-1)));
    assert_near(out[2], 0);
}

static void columns_are_picked_before_softmax(void **state)
{
    (void)state;
    const float row[] = {0.5f, 7, 1.5f, 9};
    const pr_pooling p = {.type = PR_POOL_STEP, .softmax = true, .n_returned_tokens = 2,
                          .returned_tokens = {2, 0}};
    float out[2];
    assert_int_equal(pr_pool_finish_width(&p, 4), 2);
    pr_pool_finish(&p, row, 4, out);
    assert_near(out[0], 1 / (1 + exp(-1)));
    assert_near(out[1], 1 / (1 + exp(1)));
}

static void activations_match_their_formulas(void **state)
{
    (void)state;
    static const float xs[] = {-80, -3, -0.5f, 0, 0.25f, 2, 90};
    for (size_t i = 0; i < sizeof xs / sizeof *xs; i++) {
        double x = xs[i];
        const struct {
            pr_activation activation;
            double expected;
        } cases[] = {
            {PR_ACTIVATION_NONE, x},
            {PR_ACTIVATION_SIGMOID, 1 / (1 + exp(-x))},
            {PR_ACTIVATION_TANH, tanh(x)},
            {PR_ACTIVATION_RELU, x > 0 ? x : 0},
            {PR_ACTIVATION_SILU, x / (1 + exp(-x))},
            {PR_ACTIVATION_GELU, x * 0.5 * erfc(-x / sqrt(2))},
        };
        for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
            const pr_pooling p = {.activation = cases[k].activation};
            float out;
            pr_pool_finish(&p, &xs[i], 1, &out);
            assert_near(out, cases[k].expected);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(raw_rows_stay_as_they_are),
        cmocka_unit_test(dimensions_are_cut_before_normalizing),
        cmocka_unit_test(dimensions_of_sentence_transformers_are_cut_last),
        cmocka_unit_test(a_zero_row_is_not_divided_by_zero),
        cmocka_unit_test(softmax_survives_large_values),
        cmocka_unit_test(columns_are_picked_before_softmax),
        cmocka_unit_test(activations_match_their_formulas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
