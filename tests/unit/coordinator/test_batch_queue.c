/* Prepared requests become batches in their order, and each gets exactly one result, however its
 * batch fares. Jobs are made by hand: no model, no tokenizer. */
#include "coordinator/queue/batch_queue.h"
#include "coordinator/engine/engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const pr_pooling pooling = {.task = PR_TASK_EMBED, .type = PR_POOL_LAST};

/* What came of the jobs, in the order in which they were done. */
typedef struct outcome {
    int n_done, n_room, n_wakes;
    int32_t first_token[64];
    pr_status status[64];
    char message[64][64];
    float value[64];
} outcome;

static void on_done(void *context, pr_job *job)
{
    outcome *o = context;
    int i = o->n_done++;
    assert_true(i < 64);
    o->first_token[i] = job->prepared.parts[0].ids[0];
    o->status[i] = job->result->status;
    o->value[i] = job->result->data ? job->result->data[0] : 0;
    if (job->result->message) snprintf(o->message[i], 64, "%s", job->result->message);
    pr_job_free(job);
}

static void on_room(void *context)
{
    ((outcome *)context)->n_room++;
}

static void on_wake(void *context)
{
    ((outcome *)context)->n_wakes++;
}

static void encoding_fill(pr_encoding *e, int32_t token, size_t n)
{
    e->ids = malloc(n * sizeof *e->ids);
    assert_non_null(e->ids);
    for (size_t i = 0; i < n; i++) e->ids[i] = token;
    e->n = n;
}

/* flow NULL: one of its own. */
static bool push_of(pr_batch_queue *q, pr_flow *flow, int32_t token, size_t n_tokens, int n_parts)
{
    pr_request request;
    pr_request_init(&request);
    request.text = "";
    pr_job *job = pr_job_create(&request, flow);
    assert_non_null(job);
    job->prepared.pooling = &pooling;
    job->prepared.n_parts = n_parts;
    for (int i = 0; i < n_parts; i++) {
        encoding_fill(&job->prepared.parts[i], token + i * 100, n_tokens);
    }
    assert_true(pr_batch_queue_reserve(q, (size_t)n_parts));
    job->n_tokens = n_tokens;
    pr_batch_queue_arrive(q, job);
    bool is_pushed = pr_batch_queue_push(q, job);
    if (!is_pushed) pr_job_free(job);
    return is_pushed;
}

static void push(pr_batch_queue *q, int32_t token, size_t n_tokens, int n_parts)
{
    assert_true(push_of(q, NULL, token, n_tokens, n_parts));
}

static pr_batch_queue *queue_of(outcome *o, uint32_t n_tokens_max, uint32_t n_sequences_max,
                                size_t n_parts_max)
{
    memset(o, 0, sizeof *o);
    const pr_batch_queue_config config = {
        .limits = {.n_tokens_max = n_tokens_max, .n_sequences_max = n_sequences_max},
        .n_parts_max = n_parts_max, .done = on_done, .room = on_room, .context = o};
    pr_batch_queue *q = NULL;
    assert_int_equal(pr_batch_queue_create(&config, &q, NULL), PR_OK);
    return q;
}

/* Answers each sequence with one number: its first token. */
static void answer(pr_batch_queue *q, pr_batch *b)
{
    pr_pooled pooled = {.n_sequences = b->plan->n_sequences};
    pooled.data = malloc(b->n_parts * sizeof *pooled.data);
    pooled.rows = malloc(b->n_parts * sizeof *pooled.rows);
    for (size_t i = 0; i < b->n_parts; i++) {
        const pr_ready_part *p = &b->parts[i];
        pooled.data[i] = (float)p->job->prepared.parts[p->i_part].ids[0];
        pooled.rows[i] = (pr_pooled_rows){.offset = i, .n_rows = 1, .n_columns = 1};
    }
    pr_batch_queue_complete(q, b, &pooled, PR_OK, "");
    pr_pooled_deinit(&pooled);
}

static void batches_keep_the_order_and_the_limits(void **state)
{
    (void)state;
    outcome o;
    pr_batch_queue *q = queue_of(&o, 10, 3, 16);
    for (int32_t i = 0; i < 8; i++) push(q, i, 4, 1);
    pr_batch_queue_close(q);
    int n_batches = 0;
    for (pr_batch *b; (b = pr_batch_queue_take(q, true, NULL)) != NULL; n_batches++) {
        assert_true(b->plan->n_tokens <= 10);
        assert_true(b->n_parts <= 3);
        answer(q, b);
    }
    assert_int_equal(n_batches, 4); /* 2 texts of 4 tokens each */
    assert_int_equal(o.n_done, 8);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(o.first_token[i], i);
        assert_true(o.value[i] == (float)i);
    }
    assert_true(pr_batch_queue_is_drained(q));
    pr_batch_queue_free(q);
}

static void a_text_over_the_budget_runs_alone(void **state)
{
    (void)state;
    outcome o;
    pr_batch_queue *q = queue_of(&o, 10, 8, 16);
    push(q, 1, 50, 1);
    push(q, 2, 2, 1);
    pr_batch *b = pr_batch_queue_take(q, false, NULL);
    assert_int_equal(b->n_parts, 1);
    assert_int_equal(b->plan->n_tokens, 50);
    answer(q, b);
    answer(q, pr_batch_queue_take(q, false, NULL));
    assert_null(pr_batch_queue_take(q, false, NULL)); /* without waiting */
    assert_int_equal(o.n_done, 2);
    pr_batch_queue_free(q);
}

static void places_are_promised_and_given_back(void **state)
{
    (void)state;
    outcome o;
    pr_batch_queue *q = queue_of(&o, 10, 8, 4);
    pr_batch_queue_set_wake(q, on_wake, &o);
    assert_true(pr_batch_queue_reserve(q, 3));
    assert_false(pr_batch_queue_reserve(q, 2));
    pr_batch_queue_unreserve(q, 3);
    for (int i = 0; i < 4; i++) push(q, i, 1, 1);
    assert_int_equal(o.n_wakes, 4);
    assert_false(pr_batch_queue_reserve(q, 1));
    answer(q, pr_batch_queue_take(q, false, NULL));
    assert_int_equal(o.n_room, 1);
    assert_true(pr_batch_queue_reserve(q, 4));
    pr_batch_queue_unreserve(q, 4);
    pr_batch_queue_free(q);
}

static void a_batch_that_failed_fails_each_of_its_requests_once(void **state)
{
    (void)state;
    outcome o;
    pr_batch_queue *q = queue_of(&o, 100, 3, 16);
    push(q, 1, 2, 2); /* two parts: in one batch */
    push(q, 2, 2, 2); /* one part in each of two batches */
    pr_batch *first = pr_batch_queue_take(q, false, NULL);
    pr_batch *second = pr_batch_queue_take(q, false, NULL);
    assert_int_equal(first->n_parts, 3);
    assert_int_equal(second->n_parts, 1);
    pr_batch_queue_complete(q, first, NULL, PR_E_UNAVAILABLE, "gone");
    assert_int_equal(o.n_done, 1); /* the other waits for its second part */
    answer(q, second);
    assert_int_equal(o.n_done, 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(o.status[i], PR_E_UNAVAILABLE);
        assert_string_equal(o.message[i], "gone");
    }
    pr_batch_queue_free(q);
}

static void a_split_batch_has_each_part_once(void **state)
{
    (void)state;
    outcome o;
    pr_batch_queue *q = queue_of(&o, 100, 8, 16);
    for (int i = 0; i < 3; i++) push(q, 5, 2, 1); /* equal texts share a segment until then */
    push(q, 6, 3, 2);
    pr_batch *b = pr_batch_queue_take(q, false, NULL);
    assert_int_equal(b->n_parts, 5);
    b->n_deaths = 2;
    b = pr_batch_queue_split(q, b);
    int n = 0;
    while (b) {
        pr_batch *next = b->next;
        assert_int_equal(b->n_parts, 1);
        assert_int_equal(b->n_deaths, 2);
        assert_int_equal(b->plan->n_sequences, 1);
        const pr_ready_part *p = &b->parts[0];
        assert_int_equal(b->plan->tokens[0], p->job->prepared.parts[p->i_part].ids[0]);
        answer(q, b);
        b = next;
        n++;
    }
    assert_int_equal(n, 5);
    assert_int_equal(o.n_done, 4);
    pr_batch_queue_free(q);
}

static void a_single_text_overtakes_those_of_one_request(void **state)
{
    (void)state;
    outcome o;
    pr_batch_queue *q = queue_of(&o, 10, 2, 64);
    pr_flow *bulk = pr_flow_create(0, 0);
    for (int32_t i = 0; i < 20; i++) assert_true(push_of(q, bulk, i, 4, 1));
    answer(q, pr_batch_queue_take(q, false, NULL));
    push(q, 1000, 4, 1);
    answer(q, pr_batch_queue_take(q, false, NULL));
    assert_int_equal(o.n_done, 4);
    assert_true(o.first_token[2] == 1000 || o.first_token[3] == 1000);
    for (pr_batch *b; (b = pr_batch_queue_take(q, false, NULL)) != NULL;) answer(q, b);
    assert_int_equal(o.n_done, 21);
    pr_flow_release(bulk);
    pr_batch_queue_free(q);
}

static void what_nobody_waits_for_is_not_computed(void **state)
{
    (void)state;
    outcome o;
    pr_batch_queue_stats stats;
    pr_batch_queue *q = queue_of(&o, 100, 3, 64);
    pr_flow *gone = pr_flow_create(0, 0);
    push(q, 1, 2, 1);
    for (int i = 0; i < 4; i++) assert_true(push_of(q, gone, 50 + i, 2, 2));
    push(q, 2, 2, 1);
    pr_batch *running = pr_batch_queue_take(q, false, NULL); /* 1, and the first pair */
    assert_int_equal(running->n_parts, 3);
    atomic_store(&gone->is_cancelled, true);
    pr_batch_queue_cancel(q, gone);
    assert_int_equal(o.n_done, 3);
    for (int i = 0; i < 3; i++) assert_int_equal(o.status[i], PR_E_CANCELLED);
    assert_true(pr_batch_queue_reserve(q, 2));
    pr_batch_queue_unreserve(q, 2);
    assert_false(push_of(q, gone, 60, 2, 1)); /* it was being prepared */
    answer(q, running);
    answer(q, pr_batch_queue_take(q, false, NULL));
    assert_null(pr_batch_queue_take(q, false, NULL));
    assert_int_equal(o.n_done, 6);
    pr_batch_queue_stats_get(q, &stats);
    assert_int_equal(stats.n_batches, 2);
    assert_int_equal(stats.n_sequences, 4);
    assert_int_equal(stats.n_tokens, 8);
    assert_int_equal(stats.n_parts, 0);
    pr_flow_release(gone);
    pr_batch_queue_free(q);
}

static void half_a_job_in_a_batch_is_finished_there(void **state)
{
    (void)state;
    outcome o;
    pr_batch_queue *q = queue_of(&o, 2, 8, 64);
    pr_flow *gone = pr_flow_create(0, 0);
    assert_true(push_of(q, gone, 5, 2, 2));
    pr_batch *first = pr_batch_queue_take(q, false, NULL);
    assert_int_equal(first->n_parts, 1);
    atomic_store(&gone->is_cancelled, true);
    pr_batch_queue_cancel(q, gone);
    assert_int_equal(o.n_done, 0);
    pr_batch_queue_stats stats;
    pr_batch_queue_stats_get(q, &stats);
    assert_int_equal(stats.n_parts, 1); /* whoever completes the first takes the second too */
    answer(q, first);
    assert_null(pr_batch_queue_take(q, false, NULL)); /* its second part is dropped */
    assert_int_equal(o.n_done, 1);
    assert_int_equal(o.status[0], PR_E_CANCELLED);
    pr_flow_release(gone);
    pr_batch_queue_free(q);
}

/* ---- shared prefixes ---- */

static pr_batch_queue *sharing_queue_of(outcome *o, uint32_t n_tokens_max)
{
    memset(o, 0, sizeof *o);
    const pr_batch_queue_config config = {
        .limits = {.n_tokens_max = n_tokens_max, .n_sequences_max = 8, .shares_prefixes = true,
                   .n_cached_max = 1000},
        .n_parts_max = 64, .done = on_done, .room = on_room, .context = o};
    pr_batch_queue *q = NULL;
    assert_int_equal(pr_batch_queue_create(&config, &q, NULL), PR_OK);
    return q;
}

/* Who rides along is taken out of the middle of the queue; the others keep their order. */
static void the_request_that_did_not_fit_is_first_in_the_next_batch(void **state)
{
    (void)state;
    outcome o;
    pr_batch_queue *q = sharing_queue_of(&o, 100);
    push(q, 1, 80, 1);
    push(q, 2, 90, 1); /* does not fit */
    push(q, 3, 10, 1); /* shares nothing */
    push(q, 1, 99, 1); /* rides along */
    pr_batch *b = pr_batch_queue_take(q, false, NULL);
    assert_int_equal(b->n_parts, 2);
    assert_int_equal(b->plan->n_tokens, 99);
    answer(q, b);
    b = pr_batch_queue_take(q, false, NULL);
    assert_int_equal(b->n_parts, 2);
    assert_int_equal(b->plan->tokens[0], 2);
    answer(q, b);
    static const int32_t done[] = {1, 1, 2, 3};
    assert_int_equal(o.n_done, 4);
    for (int i = 0; i < 4; i++) assert_int_equal(o.first_token[i], done[i]);
    pr_batch_queue_free(q);
}

static void a_batch_planned_for_one_cache_is_planned_anew_for_other_ranks(void **state)
{
    (void)state;
    outcome o;
    pr_prefix_cache *cache = NULL;
    pr_batch_queue *q = sharing_queue_of(&o, 100);
    assert_int_equal(pr_prefix_cache_create(16, &cache, NULL), PR_OK);
    push(q, 1, 80, 1);
    pr_batch *b = pr_batch_queue_take(q, false, cache);
    assert_int_equal(b->plan->n_stores, 2);
    answer(q, b);
    push(q, 1, 90, 1);
    push(q, 1, 95, 1);
    push(q, 2, 64, 1);
    b = pr_batch_queue_take(q, false, cache);
    assert_int_equal(b->n_parts, 3);
    assert_int_equal(b->plan->n_cached, 64);
    assert_int_equal(b->plan->n_tokens, 26 + 5 + 64);
    b->n_deaths = 1;
    b = pr_batch_queue_replan(q, b);
    assert_non_null(b->next);
    assert_null(b->next->next);
    for (pr_batch *next; b; b = next) {
        next = b->next;
        assert_true(b->plan->n_tokens <= 100);
        assert_int_equal(b->plan->n_cached + b->plan->n_stores, 0);
        assert_int_equal(b->n_deaths, 1);
        answer(q, b);
    }
    static const int32_t done[] = {1, 1, 1, 2};
    assert_int_equal(o.n_done, 4);
    for (int i = 0; i < 4; i++) assert_int_equal(o.first_token[i], done[i]);
    push(q, 3, 8, 1); /* nothing of a cache in it: itself */
    b = pr_batch_queue_take(q, false, NULL);
    assert_ptr_equal(pr_batch_queue_replan(q, b), b);
    answer(q, b);
    pr_prefix_cache_free(cache);
    pr_batch_queue_free(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_keep_the_order_and_the_limits),
        cmocka_unit_test(a_text_over_the_budget_runs_alone),
        cmocka_unit_test(places_are_promised_and_given_back),
        cmocka_unit_test(a_batch_that_failed_fails_each_of_its_requests_once),
        cmocka_unit_test(a_split_batch_has_each_part_once),
        cmocka_unit_test(a_single_text_overtakes_those_of_one_request),
        cmocka_unit_test(what_nobody_waits_for_is_not_computed),
        cmocka_unit_test(half_a_job_in_a_batch_is_finished_there),
        cmocka_unit_test(the_request_that_did_not_fit_is_first_in_the_next_batch),
        cmocka_unit_test(a_batch_planned_for_one_cache_is_planned_anew_for_other_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
