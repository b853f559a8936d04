/* What pr_pool_plan_build promises: each row once, every sequence finds its own. */
#include "runtime/plan/pool_plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { STEP = 9 };

/*  rows      0 1 2 | 3 4 | 5 6 7
 *  tokens    1 9 3 | 4 9 | 9 7 9
 *  segments  0     | 1: child of 0 | 2: alone */
static int32_t tokens[] = {1, STEP, 3, 4, STEP, STEP, 7, STEP};
static pr_segment segments[] = {{0, 3, 0, -1}, {3, 2, 3, 0}, {5, 3, 0, -1}};

static pr_pool_plan *build(pr_sequence *sequences, const pr_pool *types, uint32_t n)
{
    pr_batch_plan batch = {.tokens = tokens, .n_tokens = 8, .segments = segments, .n_segments = 3,
                           .sequences = sequences, .n_sequences = n};
    pr_error err;
    assert_int_equal(pr_batch_plan_check(&batch, &err), PR_OK);
    static pr_pooling poolings[16];
    const pr_pooling *pointers[16];
    for (uint32_t i = 0; i < n; i++) {
        poolings[i] = (pr_pooling){.type = types[i], .step_tag_id = STEP};
        pointers[i] = &poolings[i];
    }
    pr_pool_plan *plan = NULL;
    assert_int_equal(pr_pool_plan_build(&batch, pointers, &plan, &err), PR_OK);
    return plan;
}

/* The batch rows behind a sequence's j-th slot; a mean's are listed one after the other. */
static uint32_t rows_of(const pr_pool_plan *p, uint32_t i, uint32_t *out)
{
    uint32_t n = 0;
    for (uint32_t j = 0; j < p->ranges[i].count; j++) {
        uint32_t slot = p->slots_of[p->ranges[i].begin + j];
        if (slot < p->n_picked) {
            out[n++] = p->rows[p->picked[slot]];
            continue;
        }
        uint32_t mean = slot - p->n_picked;
        for (uint32_t k = p->mean_offsets[mean]; k < p->mean_offsets[mean + 1]; k++) {
            out[n++] = p->rows[p->mean_rows[k]];
        }
    }
    return n;
}

static void each_pooling_reads_its_rows(void **state)
{
    (void)state;
    static const struct {
        pr_pool type;
        pr_sequence sequence;
        uint32_t n;
        uint32_t rows[8];
    } cases[] = {
        {PR_POOL_LAST, {1, 5, 0}, 1, {4}},
        {PR_POOL_LAST, {1, 4, 0}, 1, {3}}, /* ends inside its leaf */
        {PR_POOL_LAST, {0, 2, 0}, 1, {1}},
        {PR_POOL_CLS, {1, 5, 0}, 1, {0}}, /* the first row is the parent's */
        {PR_POOL_CLS, {2, 3, 0}, 1, {5}},
        {PR_POOL_ALL, {1, 5, 0}, 5, {0, 1, 2, 3, 4}},
        {PR_POOL_ALL, {2, 2, 0}, 2, {5, 6}},
        {PR_POOL_MEAN, {1, 4, 0}, 4, {0, 1, 2, 3}},
        {PR_POOL_STEP, {1, 5, 0}, 2, {1, 4}},
        {PR_POOL_STEP, {2, 3, 0}, 2, {5, 7}},
        {PR_POOL_STEP, {0, 1, 0}, 0, {0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_sequence sequence = cases[i].sequence;
        pr_pool_plan *plan = build(&sequence, &cases[i].type, 1);
        uint32_t rows[16];
        assert_int_equal(rows_of(plan, 0, rows), cases[i].n);
        assert_memory_equal(rows, cases[i].rows, cases[i].n * sizeof *rows);
        assert_int_equal(plan->n_rows, cases[i].n);
        assert_int_equal(plan->ranges[0].count, cases[i].type == PR_POOL_MEAN ? 1 : cases[i].n);
        pr_pool_plan_free(plan);
    }
}

/* transformers pools a decoder's score at the last token that is not pad; the first if all are. */
static void the_last_row_can_be_the_last_that_is_not_pad(void **state)
{
    (void)state;
    static const struct {
        pr_sequence sequence;
        int32_t pad;
        uint32_t row;
    } cases[] = {
        {{1, 5, 0}, STEP, 3}, /* one pad at the end */
        {{1, 4, 0}, STEP, 3}, /* none */
        {{0, 2, 0}, STEP, 0}, /* all but the first */
        {{2, 3, 0}, STEP, 6}, /* around one other */
        {{2, 1, 0}, STEP, 5}, /* nothing but pad */
        {{1, 4, 0}, 4, 2},    /* the search goes on in the parent */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_sequence sequence = cases[i].sequence;
        pr_batch_plan batch = {.tokens = tokens, .n_tokens = 8, .segments = segments,
                               .n_segments = 3, .sequences = &sequence, .n_sequences = 1};
        const pr_pooling pooling = {
            .type = PR_POOL_LAST, .skips_pad = true, .pad_token_id = cases[i].pad};
        const pr_pooling *pointer = &pooling;
        pr_pool_plan *plan = NULL;
        pr_error err;
        assert_int_equal(pr_pool_plan_build(&batch, &pointer, &plan, &err), PR_OK);
        uint32_t rows[16];
        assert_int_equal(rows_of(plan, 0, rows), 1);
        assert_int_equal(rows[0], cases[i].row);
        pr_pool_plan_free(plan);
    }
}

static void a_shared_row_is_read_once(void **state)
{
    (void)state;
    pr_sequence sequences[] = {{1, 5, 0}, {0, 3, 1}, {1, 5, 2}, {1, 5, 3}, {1, 5, 4}, {1, 4, 5}};
    const pr_pool types[] = {PR_POOL_ALL,  PR_POOL_LAST, PR_POOL_LAST,
                             PR_POOL_MEAN, PR_POOL_MEAN, PR_POOL_MEAN};
    pr_pool_plan *plan = build(sequences, types, 6);
    assert_int_equal(plan->n_rows, 5);
    assert_int_equal(plan->n_picked, 5);
    assert_int_equal(plan->n_means, 2); /* equal sequences share a mean, a shorter one does not */
    uint32_t rows[16];
    assert_int_equal(rows_of(plan, 1, rows), 1);
    assert_int_equal(rows[0], 2);
    assert_int_equal(rows_of(plan, 4, rows), 5);
    assert_int_equal(rows_of(plan, 5, rows), 4);
    for (uint32_t i = 1; i < plan->n_rows; i++) assert_true(plan->rows[i - 1] < plan->rows[i]);
    pr_pool_plan_free(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_pooling_reads_its_rows),
        cmocka_unit_test(the_last_row_can_be_the_last_that_is_not_pad),
        cmocka_unit_test(a_shared_row_is_read_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
