/* What ranks keep between batches: blocks by name, the order in which they are given up, and what a
 * plan takes from them and adds to them. */
#include "runtime/plan/batch_plan.h"
#include "runtime/plan/pool_plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { B = PR_CACHE_BLOCK_TOKENS, SALT = 3 };

static int32_t text[8 * B];

static void text_make(int32_t first)
{
    for (int32_t i = 0; i < 8 * B; i++) text[i] = first + i;
}

static pr_prefix_cache *cache_create(uint32_t n_blocks)
{
    pr_prefix_cache *c = NULL;
    pr_error err;
    assert_int_equal(pr_prefix_cache_create(n_blocks, &c, &err), PR_OK);
    pr_prefix_cache_begin(c);
    return c;
}

static void chain_add(pr_prefix_cache *c, uint64_t salt, int n, bool has_hidden)
{
    pr_cache_walk walk = pr_prefix_cache_root(salt);
    int32_t blocks[8];
    int n_there = 0;
    for (; n_there < n; n_there++) {
        blocks[n_there] = pr_prefix_cache_find(c, &walk, text + n_there * B, false);
        if (blocks[n_there] < 0) {
            blocks[n_there] = pr_prefix_cache_add(c, &walk, text + n_there * B, has_hidden);
        }
        if (blocks[n_there] < 0) break;
    }
    while (n_there > 0) pr_prefix_cache_touch(c, (uint32_t)blocks[--n_there]);
}

static int chain_length(pr_prefix_cache *c, uint64_t salt, bool needs_hidden)
{
    pr_cache_walk walk = pr_prefix_cache_root(salt);
    int n = 0;
    while (n < 8 && pr_prefix_cache_find(c, &walk, text + n * B, needs_hidden) >= 0) n++;
    return n;
}

static void a_block_is_named_by_all_that_stands_before_it(void **state)
{
    (void)state;
    pr_prefix_cache *c = cache_create(16);
    text_make(0);
    chain_add(c, SALT, 3, false);
    assert_int_equal(chain_length(c, SALT, false), 3);
    assert_int_equal(chain_length(c, SALT + 1, false), 0); /* another tenant's */
    assert_int_equal(chain_length(c, SALT, true), 0);
    pr_cache_walk walk = pr_prefix_cache_root(SALT);
    assert_int_equal(pr_prefix_cache_find(c, &walk, text + B, false), -1); /* the second alone */
    text[5] ^= 1;
    assert_int_equal(chain_length(c, SALT, false), 0);
    text[5] ^= 1;
    pr_prefix_cache_clear(c);
    assert_int_equal(chain_length(c, SALT, false), 0);
    pr_prefix_cache_free(c);
}

static void what_was_used_longest_ago_is_given_up_last_block_first(void **state)
{
    (void)state;
    pr_prefix_cache *c = cache_create(4);
    text_make(0);
    chain_add(c, SALT, 2, false);
    text_make(1000);
    pr_prefix_cache_begin(c);
    chain_add(c, SALT, 2, false);
    text_make(2000);
    pr_prefix_cache_begin(c);
    chain_add(c, SALT, 1, false); /* in place of the first text's second block */
    pr_prefix_cache_begin(c);
    text_make(0);
    assert_int_equal(chain_length(c, SALT, false), 1);
    text_make(1000);
    assert_int_equal(chain_length(c, SALT, false), 2);
    text_make(2000);
    assert_int_equal(chain_length(c, SALT, false), 1);
    pr_prefix_cache_free(c);
}

static void what_a_batch_uses_is_not_given_up_for_it(void **state)
{
    (void)state;
    pr_prefix_cache *c = cache_create(3);
    text_make(0);
    chain_add(c, SALT, 2, false);
    pr_prefix_cache_begin(c);
    assert_int_equal(chain_length(c, SALT, false), 2); /* found: in use by this batch */
    text_make(1000);
    chain_add(c, SALT, 3, false); /* one place is left */
    assert_int_equal(chain_length(c, SALT, false), 1);
    text_make(0);
    assert_int_equal(chain_length(c, SALT, false), 2);
    pr_prefix_cache_free(c);
}

/* ---- plans ---- */

static const pr_batch_limits limits = {1000, 16, true, 8 * B};

static pr_queued queued(uint32_t n, bool reads_all)
{
    return (pr_queued){.tokens = text, .n_tokens = n, .salt = SALT, .n_reusable = n - 1,
                       .needs_hidden = reads_all, .is_kept = true, .reads_all = reads_all};
}

static pr_batch_plan *plan_one(pr_prefix_cache *c, const pr_queued *q, size_t n)
{
    pr_batch_plan *plan = NULL;
    pr_error err;
    if (pr_batch_plan_build(q, n, &limits, c, &plan, &err) != PR_OK) fail_msg("%s", err.message);
    if (pr_batch_plan_check(plan, &err) != PR_OK) fail_msg("%s", err.message);
    uint32_t rows[8 * B];
    for (uint32_t i = 0; i < plan->n_sequences; i++) {
        pr_sequence_rows(plan, &plan->sequences[i], rows);
        for (uint32_t j = 0; j < plan->sequences[i].n_tokens; j++) {
            assert_int_equal(plan->tokens[rows[j]], q[plan->sequences[i].i_request].tokens[j]);
        }
    }
    return plan;
}

static void what_an_earlier_batch_kept_is_not_computed(void **state)
{
    (void)state;
    pr_prefix_cache *c = cache_create(16);
    text_make(0);
    pr_queued q = queued(3 * B + 5, false);
    pr_batch_plan *plan = plan_one(c, &q, 1);
    assert_int_equal(plan->n_tokens, 3 * B + 5);
    assert_int_equal(plan->n_stores, 3); /* whole blocks */
    uint32_t first = plan->stores[0].block;
    assert_int_equal(plan->stores[2].rows[0], 2 * B);
    assert_false(plan->stores[0].has_hidden);
    pr_batch_plan_free(plan);
    plan = plan_one(c, &q, 1);
    assert_int_equal(plan->n_cached, 3 * B);
    assert_int_equal(plan->n_tokens, 5);
    assert_int_equal(plan->n_stores, 0);
    assert_int_equal(plan->cached_rows[0], first * B);
    assert_int_equal(plan->segments[0].token_begin, 5);
    pr_batch_plan_free(plan);
    q = queued(3 * B, false); /* the last token is computed all the same */
    plan = plan_one(c, &q, 1);
    assert_int_equal(plan->n_cached, 2 * B);
    assert_int_equal(plan->n_tokens, B);
    pr_batch_plan_free(plan);
    pr_prefix_cache_free(c);
}

static void a_pooler_that_reads_all_rows_needs_their_hidden_states(void **state)
{
    (void)state;
    pr_prefix_cache *c = cache_create(16);
    text_make(0);
    pr_queued last = queued(2 * B + 1, false), all = queued(2 * B + 1, true);
    pr_batch_plan_free(plan_one(c, &last, 1));
    pr_batch_plan *plan = plan_one(c, &all, 1);
    assert_int_equal(plan->n_cached, 0);
    assert_int_equal(plan->n_stores, 2); /* the same blocks again, with hidden states */
    assert_true(plan->stores[1].has_hidden);
    pr_batch_plan_free(plan);
    const pr_queued *both[] = {&last, &all};
    for (int i = 0; i < 2; i++) {
        plan = plan_one(c, both[i], 1);
        assert_int_equal(plan->n_cached, 2 * B);
        assert_int_equal(plan->n_stores, 0);
        pr_batch_plan_free(plan);
    }
    pr_prefix_cache_free(c);
}

/* Two answers behind a cached question: its rows are taken once. One of another salt computes all
 * of it. */
static void requests_of_a_batch_share_what_is_cached(void **state)
{
    (void)state;
    static int32_t other[3 * B];
    pr_prefix_cache *c = cache_create(16);
    text_make(0);
    pr_queued q[3] = {queued(3 * B, false)};
    pr_batch_plan_free(plan_one(c, q, 1));
    memcpy(other, text, sizeof other);
    other[2 * B + 1] = 100000;
    q[1] = q[0];
    q[1].tokens = other;
    q[2] = q[1];
    q[2].n_tokens = 2 * B + 20;
    pr_batch_plan *plan = plan_one(c, q, 3);
    assert_int_equal(plan->n_cached, 2 * B);
    assert_int_equal(plan->n_tokens, B + B);
    pr_batch_plan_free(plan);
    q[0].salt = SALT + 1;
    plan = plan_one(c, q, 1);
    assert_int_equal(plan->n_cached, 0);
    pr_batch_plan_free(plan);
    pr_prefix_cache_free(c);
}

static void the_bound_on_cached_rows_holds(void **state)
{
    (void)state;
    pr_prefix_cache *c = cache_create(64);
    text_make(0);
    pr_queued q = queued(8 * B, false);
    pr_batch_plan_free(plan_one(c, &q, 1));
    const pr_batch_limits tight = {1000, 16, true, 3 * B + 7};
    pr_batch_plan *plan = NULL;
    pr_error err;
    assert_int_equal(pr_batch_plan_build(&q, 1, &tight, c, &plan, &err), PR_OK);
    assert_int_equal(plan->n_cached, 3 * B);
    pr_batch_plan_free(plan);
    pr_prefix_cache_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_is_named_by_all_that_stands_before_it),
        cmocka_unit_test(what_was_used_longest_ago_is_given_up_last_block_first),
        cmocka_unit_test(what_a_batch_uses_is_not_given_up_for_it),
        cmocka_unit_test(what_an_earlier_batch_kept_is_not_computed),
        cmocka_unit_test(a_pooler_that_reads_all_rows_needs_their_hidden_states),
        cmocka_unit_test(requests_of_a_batch_share_what_is_cached),
        cmocka_unit_test(the_bound_on_cached_rows_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
