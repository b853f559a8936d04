/* Plans of a causal model: what requests begin with is computed once, and every sequence still
 * reads its own tokens. */
#include "runtime/plan/pool_plan.h"
#include "runtime/plan/prefix_tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_MAX = 256, TOKENS_MAX = 512, MIN = PR_PREFIX_SHARE_MIN };

static int32_t texts[N_MAX][TOKENS_MAX];
static uint8_t types[N_MAX][TOKENS_MAX];
static pr_queued queue[N_MAX];

/* Request i: n_shared tokens of text `like`, then n_own of its own. */
static void request(uint32_t i, uint32_t like, uint32_t n_shared, uint32_t n_own)
{
    memcpy(texts[i], texts[like], n_shared * sizeof **texts);
    for (uint32_t j = n_shared; j < n_shared + n_own; j++) {
        texts[i][j] = (int32_t)(1000 * (i + 1) + j);
    }
    queue[i] = (pr_queued){.tokens = texts[i], .n_tokens = n_shared + n_own};
}

static void assert_reads_its_own_tokens(const pr_batch_plan *plan)
{
    static uint32_t rows[TOKENS_MAX];
    pr_error err;
    if (pr_batch_plan_check(plan, &err) != PR_OK) fail_msg("%s", err.message);
    for (uint32_t i = 0; i < plan->n_sequences; i++) {
        const pr_sequence *s = &plan->sequences[i];
        const pr_queued *q = &queue[s->i_request];
        assert_int_equal(s->n_tokens, q->n_tokens);
        pr_sequence_rows(plan, s, rows);
        for (uint32_t j = 0; j < q->n_tokens; j++) {
            assert_int_equal(plan->tokens[rows[j]], q->tokens[j]);
            if (!plan->type_ids) continue;
            assert_int_equal(plan->type_ids[rows[j]], q->type_ids ? q->type_ids[j] : 0);
        }
    }
}

static pr_batch_plan *build(uint32_t n, uint32_t n_tokens_max, bool shares)
{
    const pr_batch_limits limits = {n_tokens_max, N_MAX, shares, 0};
    pr_batch_plan *plan = NULL;
    pr_error err;
    assert_int_equal(pr_batch_plan_build(queue, n, &limits, NULL, &plan, &err), PR_OK);
    assert_true(plan->n_tokens <= n_tokens_max);
    assert_reads_its_own_tokens(plan);
    return plan;
}

static void a_question_under_sixteen_answers_is_computed_once(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 16; i++) request(i, 0, i ? 200 : 0, i ? 30 : 230);
    pr_batch_plan *plan = build(16, 10000, true);
    assert_int_equal(plan->n_sequences, 16);
    assert_int_equal(plan->n_tokens, 200 + 16 * 30);
    assert_int_equal(plan->n_segments, 17);
    pr_batch_plan_free(plan);
    plan = build(16, 10000, false);
    assert_int_equal(plan->n_tokens, 16 * 230);
    assert_int_equal(plan->n_segments, 16);
    pr_batch_plan_free(plan);
}

static void prefixes_of_prefixes_are_found(void **state)
{
    (void)state;
    request(0, 0, 0, 300);
    request(1, 0, 100, 50); /* splits text 0 */
    request(2, 0, 200, 50); /* splits what is left of it */
    request(3, 1, 130, 40); /* below text 1's branch */
    request(4, 0, 40, 60);  /* splits the first run again */
    pr_batch_plan *plan = build(5, 10000, true);
    assert_int_equal(plan->n_tokens, 300 + 50 + 50 + 40 + 60);
    pr_batch_plan_free(plan);
}

static void a_text_that_begins_another_costs_nothing(void **state)
{
    (void)state;
    request(0, 0, 0, 120);
    request(1, 0, 70, 0);   /* ends inside text 0 */
    request(2, 0, 90, 0);   /* likewise */
    request(3, 0, 80, 25);  /* splits between the two ends */
    request(4, 0, 120, 30); /* goes on where text 0 ends */
    pr_batch_plan *plan = build(5, 10000, true);
    assert_int_equal(plan->n_tokens, 120 + 25 + 30);
    pr_batch_plan_free(plan);
}

static void a_short_common_beginning_is_not_worth_a_segment(void **state)
{
    (void)state;
    for (uint32_t n_shared = MIN - 1; n_shared <= MIN; n_shared++) {
        request(0, 0, 0, 50);
        request(1, 0, n_shared, 50 - n_shared);
        pr_batch_plan *plan = build(2, 10000, true);
        assert_int_equal(plan->n_segments, n_shared < MIN ? 2 : 3);
        assert_int_equal(plan->n_tokens, n_shared < MIN ? 100 : 100 - n_shared);
        pr_batch_plan_free(plan);
    }
}

/* A run with children stays long enough to be found by those that come later. */
static void a_split_near_the_end_of_a_run_keeps_its_children_in_reach(void **state)
{
    (void)state;
    request(0, 0, 0, 300);
    request(1, 0, 200, 60);
    request(2, 0, 195, 60); /* would leave 5 tokens */
    request(3, 1, 240, 60);
    pr_batch_plan *plan = build(4, 10000, true);
    assert_int_equal(plan->n_tokens, 300 + 60 + (255 - (200 - MIN)) + 60);
    pr_batch_plan_free(plan);
}

static void types_that_differ_are_not_shared(void **state)
{
    (void)state;
    request(0, 0, 0, 100);
    request(1, 0, 100, 0);
    request(2, 0, 100, 20);
    memset(types, 0, sizeof types);
    types[1][40] = 1;
    types[2][40] = 1;
    queue[1].type_ids = types[1];
    queue[2].type_ids = types[2];
    pr_batch_plan *plan = build(3, 10000, true);
    assert_int_equal(plan->n_tokens, 100 + 60 + 20);
    pr_batch_plan_free(plan);
}

static void the_budget_counts_computed_tokens(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 10; i++) request(i, 0, i ? 200 : 0, i ? 30 : 230);
    pr_batch_plan *plan = build(10, 200 + 4 * 30 + 29, true);
    assert_int_equal(plan->n_sequences, 4);
    assert_int_equal(plan->n_tokens, 200 + 4 * 30);
    pr_batch_plan_free(plan);
}

/* What does not fit ends the run of those taken in their order; behind it only those ride along
 * that have half of their tokens in the batch, and only within the budget. */
static void what_is_left_of_the_budget_goes_to_who_shares(void **state)
{
    (void)state;
    request(0, 0, 0, 230);
    request(1, 1, 0, 300);  /* does not fit */
    request(2, 2, 0, 20);   /* would fit and shares nothing */
    request(3, 0, 200, 30); /* rides along */
    request(4, 0, 40, 41);  /* has less than half there */
    request(5, 0, 200, 60); /* does not fit any more */
    request(6, 0, 200, 40); /* rides along */
    request(7, 0, 230, 0);  /* equals the first */
    pr_batch_plan *plan = build(8, 300, true);
    static const uint32_t taken[] = {0, 3, 6, 7};
    assert_int_equal(plan->n_sequences, 4);
    for (uint32_t i = 0; i < 4; i++) assert_int_equal(plan->sequences[i].i_request, taken[i]);
    assert_int_equal(plan->n_tokens, 300);
    pr_batch_plan_free(plan);
}

static uint32_t draw(uint64_t *seed, uint32_t n)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33) % n;
}

/* Like request, with few different tokens, so that texts meet again by chance, and types. */
static void request_random(uint64_t *seed, uint32_t i, uint32_t like, uint32_t n_shared,
                           uint32_t n_words)
{
    uint32_t n_own = draw(seed, 60);
    if (n_shared + n_own == 0) n_own = 1;
    if (n_shared + n_own > TOKENS_MAX) n_own = 0;
    memcpy(texts[i], texts[like], n_shared * sizeof **texts);
    for (uint32_t j = n_shared; j < n_shared + n_own; j++) {
        texts[i][j] = (int32_t)draw(seed, n_words);
    }
    memset(types[i], 0, sizeof types[i]);
    if (draw(seed, 8) == 0) types[i][draw(seed, n_shared + n_own)] = 1;
    queue[i] = (pr_queued){.tokens = texts[i], .type_ids = draw(seed, 2) ? types[i] : NULL,
                           .n_tokens = n_shared + n_own};
}

static void random_trees_keep_every_text(void **state)
{
    (void)state;
    uint64_t seed = getenv("PR_SEED") ? strtoull(getenv("PR_SEED"), NULL, 10) : 20260131;
    print_message("PR_SEED=%llu\n", (unsigned long long)seed);
    uint64_t n_all = 0, n_computed = 0;
    for (int round = 0; round < 300; round++) {
        uint32_t n = 1 + draw(&seed, N_MAX), n_words = 2 + draw(&seed, 3);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t like = i ? draw(&seed, i) : 0, n_like = i ? queue[like].n_tokens : 0;
            request_random(&seed, i, like, i ? n_like - draw(&seed, n_like / 2 + 1) : 0, n_words);
        }
        uint32_t budget = draw(&seed, 2) ? TOKENS_MAX + draw(&seed, 4000) : 1u << 20;
        pr_batch_plan *plan = build(n, budget, true);
        if (budget == 1u << 20) assert_int_equal(plan->n_sequences, n);
        for (uint32_t i = 0; i < plan->n_sequences; i++) n_all += plan->sequences[i].n_tokens;
        n_computed += plan->n_tokens;
        pr_batch_plan_free(plan);
    }
    print_message("computed %llu of %llu tokens\n", (unsigned long long)n_computed,
                  (unsigned long long)n_all);
    assert_true(n_computed * 4 < n_all * 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_question_under_sixteen_answers_is_computed_once),
        cmocka_unit_test(prefixes_of_prefixes_are_found),
        cmocka_unit_test(a_text_that_begins_another_costs_nothing),
        cmocka_unit_test(a_short_common_beginning_is_not_worth_a_segment),
        cmocka_unit_test(a_split_near_the_end_of_a_run_keeps_its_children_in_reach),
        cmocka_unit_test(types_that_differ_are_not_shared),
        cmocka_unit_test(the_budget_counts_computed_tokens),
        cmocka_unit_test(what_is_left_of_the_budget_goes_to_who_shares),
        cmocka_unit_test(random_trees_keep_every_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
