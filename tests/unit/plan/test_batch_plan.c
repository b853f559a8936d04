/* What pr_batch_plan_build and pr_batch_plan_check promise. */
#include "runtime/plan/batch_plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const int32_t abc[] = {1, 2, 3}, abd[] = {1, 2, 4}, ab[] = {1, 2};
static const uint8_t types0[] = {0, 0, 0}, types1[] = {0, 0, 1};

static pr_batch_plan *build(const pr_queued *queue, size_t n, uint32_t n_tokens_max,
                            uint32_t n_sequences_max)
{
    const pr_batch_limits limits = {n_tokens_max, n_sequences_max, false, 0};
    pr_batch_plan *plan = NULL;
    pr_error err;
    assert_int_equal(pr_batch_plan_build(queue, n, &limits, NULL, &plan, &err), PR_OK);
    assert_int_equal(pr_batch_plan_check(plan, &err), PR_OK);
    return plan;
}

static void requests_are_laid_out_without_padding(void **state)
{
    (void)state;
    const pr_queued queue[] = {
        {.tokens = abc, .n_tokens = 3},
        {.tokens = ab, .n_tokens = 2},
        {.tokens = abd, .n_tokens = 3},
    };
    pr_batch_plan *plan = build(queue, 3, 100, 100);
    const int32_t tokens[] = {1, 2, 3, 1, 2, 1, 2, 4};
    assert_int_equal(plan->n_sequences, 3);
    assert_int_equal(plan->n_tokens, 8);
    assert_memory_equal(plan->tokens, tokens, sizeof tokens);
    assert_null(plan->type_ids);
    assert_int_equal(plan->n_segments, 3);
    assert_int_equal(plan->segments[1].token_begin, 3);
    assert_int_equal(plan->segments[2].token_begin, 5);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(plan->sequences[i].i_request, i);
        assert_int_equal(plan->sequences[i].leaf_segment, i);
        assert_int_equal(plan->sequences[i].n_tokens, queue[i].n_tokens);
    }
    pr_batch_plan_free(plan);
}

static void equal_requests_share_one_segment(void **state)
{
    (void)state;
    const pr_queued queue[] = {
        {.tokens = abc, .n_tokens = 3},
        {.tokens = abd, .n_tokens = 3},
        {.tokens = abc, .type_ids = types0, .n_tokens = 3},
        {.tokens = abc, .type_ids = types1, .n_tokens = 3},
    };
    pr_batch_plan *plan = build(queue, 4, 100, 100);
    assert_int_equal(plan->n_sequences, 4);
    assert_int_equal(plan->n_segments, 3); /* types1 differs from types0 and from none */
    assert_int_equal(plan->n_tokens, 9);
    assert_int_equal(plan->sequences[0].leaf_segment, 0);
    assert_int_equal(plan->sequences[2].leaf_segment, 0);
    assert_int_equal(plan->sequences[3].leaf_segment, 2);
    assert_non_null(plan->type_ids);
    assert_int_equal(plan->type_ids[8], 1);
    assert_int_equal(plan->type_ids[0], 0);
    pr_batch_plan_free(plan);
}

static void an_equal_request_costs_no_budget(void **state)
{
    (void)state;
    const pr_queued queue[] = {
        {.tokens = abc, .n_tokens = 3},
        {.tokens = abc, .n_tokens = 3},
        {.tokens = abc, .n_tokens = 3},
        {.tokens = abd, .n_tokens = 3},
    };
    pr_batch_plan *plan = build(queue, 4, 5, 100);
    assert_int_equal(plan->n_sequences, 3);
    assert_int_equal(plan->n_tokens, 3);
    pr_batch_plan_free(plan);
}

static void limits_end_the_batch(void **state)
{
    (void)state;
    const pr_queued queue[] = {
        {.tokens = abc, .n_tokens = 3},
        {.tokens = ab, .n_tokens = 2},
        {.tokens = abd, .n_tokens = 3},
    };
    static const struct {
        uint32_t n_tokens_max, n_sequences_max;
        size_t n_taken;
    } cases[] = {{3, 9, 1}, {4, 9, 1}, {5, 9, 2}, {7, 9, 2}, {8, 9, 3}, {100, 1, 1}, {100, 2, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            pr_batch_plan *plan = build(queue, 3, cases[i].n_tokens_max, cases[i].n_sequences_max);
        assert_int_equal(plan->n_sequences, cases[i].n_taken);
        pr_batch_plan_free(plan);
    }
}

static void a_request_over_the_budget_is_refused(void **state)
{
    (void)state;
    const pr_queued queue[] = {{.tokens = abc, .n_tokens = 3}};
    const pr_batch_limits limits = {2, 9, false, 0};
    pr_batch_plan *plan = NULL;
    pr_error err;
    assert_int_equal(pr_batch_plan_build(queue, 1, &limits, NULL, &plan, &err), PR_E_TOO_LONG);
    assert_non_null(strstr(err.message, "--max-num-batched-tokens"));
    assert_null(plan);
}

/* A good plan with a shared prefix, one field spoiled at a time. */
static void a_broken_plan_is_found(void **state)
{
    (void)state;
    static const struct {
        int what;
        const char *message;
    } cases[] = {
        {0, NULL},
        {1, "segment 1: parent 1"},
        {2, "segment 1: position 3, expected 2"},
        {3, "segment 1: rows from 2"},
        {4, "segment 0: is empty"},
        {5, "segments cover 4 of 5"},
        {6, "sequence 1: leaf 2 of 2"},
        {7, "sequence 1: ends at position 2"},
        {8, "sequence 1: ends at position 5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t tokens[] = {1, 2, 3, 4, 5};
        pr_segment segments[] = {{0, 2, 0, -1}, {2, 2, 2, 0}};
        pr_sequence sequences[] = {{0, 2, 0}, {1, 4, 1}};
        pr_batch_plan plan = {.tokens = tokens, .n_tokens = 4, .segments = segments,
                              .n_segments = 2, .sequences = sequences, .n_sequences = 2};
        switch (cases[i].what) {
        case 1: segments[1].parent = 1; break;
        case 2: segments[1].position_begin = 3; break;
        case 3: segments[1].token_begin = 1; break;
        case 4: segments[0].token_count = 0; break;
        case 5: plan.n_tokens = 5; break;
        case 6: sequences[1].leaf_segment = 2; break;
        case 7: sequences[1].n_tokens = 2; break;
        case 8: sequences[1].n_tokens = 5; break;
        default: break;
        }
        pr_error err = {0};
        pr_status st = pr_batch_plan_check(&plan, &err);
        if (!cases[i].message) {
            assert_int_equal(st, PR_OK);
            continue;
        }
        assert_int_equal(st, PR_E_ARGUMENT);
        if (!strstr(err.message, cases[i].message)) fail_msg("%s", err.message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_laid_out_without_padding),
        cmocka_unit_test(equal_requests_share_one_segment),
        cmocka_unit_test(an_equal_request_costs_no_budget),
        cmocka_unit_test(limits_end_the_batch),
        cmocka_unit_test(a_request_over_the_budget_is_refused),
        cmocka_unit_test(a_broken_plan_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
