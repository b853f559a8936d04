/* What a call of the service promises: done exactly once, on the loop, whatever happens to it. */
#include "coordinator/options/config_build.h"
#include "coordinator/options/options.h"
#include "server/service/service.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ITEMS_MAX = 64 };

typedef struct caller {
    pr_call call;
    pr_request items[ITEMS_MAX];
    int n_done;
    struct setup *setup;
} caller;

typedef struct setup {
    uv_loop_t loop;
    pr_options *options;
    pr_config config;
    pr_service *service;
    bool is_loaded;
    pr_error load_error;
    int n_idle, n_done;
} setup;

static void on_loaded(void *context, const pr_error *err)
{
    setup *s = context;
    s->is_loaded = true;
    s->load_error = *err;
}

static void on_idle(void *context)
{
    ((setup *)context)->n_idle++;
}

static void service_open(setup *s, const char *const *options)
{
    char path[512];
    pr_error err;
    memset(s, 0, sizeof *s);
    snprintf(path, sizeof path, "%s/parity/models/bert-st-mean", PR_TESTS_DIR);
    s->options = pr_options_create_for(PR_COMMAND_SERVE);
    assert_int_equal(pr_options_set(s->options, "model", path, &err), PR_OK);
    for (; options && options[0]; options += 2) {
        assert_int_equal(pr_options_set(s->options, options[0], options[1], &err), PR_OK);
    }
    assert_int_equal(pr_config_build(s->options, &s->config, &err), PR_OK);
    uv_loop_init(&s->loop);
    const pr_service_config config = {.config = &s->config, .loop = &s->loop, .loaded = on_loaded,
                                      .idle = on_idle, .context = s};
    if (pr_service_open(&config, &s->service, &err) != PR_OK) fail_msg("%s", err.message);
}

static void service_close(setup *s)
{
    pr_service_close(s->service);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&s->loop), 0);
    pr_config_deinit(&s->config);
    pr_options_free(s->options);
}

static void await_load(setup *s)
{
    while (!s->is_loaded) uv_run(&s->loop, UV_RUN_ONCE);
    assert_int_equal(s->load_error.status, PR_OK);
}

static void on_done(pr_call *call)
{
    caller *c = call->context;
    c->n_done++;
    c->setup->n_done++;
}

static void caller_fill(caller *c, setup *s, size_t n, const char *text)
{
    memset(c, 0, sizeof *c);
    pr_call_init(&c->call);
    for (size_t i = 0; i < n; i++) {
        pr_request_init(&c->items[i]);
        c->items[i].text = text;
        c->items[i].n_text = strlen(text);
    }
    c->call.items = c->items;
    c->call.n_items = n;
    c->call.done = on_done;
    c->call.context = c;
    c->setup = s;
}

static void await_done(setup *s, int n)
{
    while (s->n_done < n) uv_run(&s->loop, UV_RUN_ONCE);
}

static void a_call_brings_a_result_for_each_item(void **state)
{
    (void)state;
    setup s;
    caller c;
    service_open(&s, NULL);
    assert_int_equal(pr_service_state_now(s.service), PR_SERVICE_LOADING);
    await_load(&s);
    assert_int_equal(pr_service_state_now(s.service), PR_SERVICE_READY);
    caller_fill(&c, &s, 3, "hello world");
    c.items[1].text = "\xff";
    c.items[1].n_text = 1;
    pr_service_call_begin(s.service, &c.call);
    assert_int_equal(c.n_done, 0); /* never from inside */
    assert_int_equal(pr_service_n_calls(s.service), 1);
    await_done(&s, 1);
    assert_int_equal(pr_service_n_calls(s.service), 0);
    assert_int_equal(c.call.error.status, PR_OK);
    assert_int_equal(c.call.results[0]->status, PR_OK);
    assert_int_equal(c.call.results[1]->status, PR_E_INPUT);
    assert_true(c.call.results[0]->run_ns > 0 && c.call.results[0]->tokenize_ns > 0);
    assert_true(c.call.end_ns > c.call.begin_ns);
    pr_call_deinit(&c.call);
    caller_fill(&c, &s, 0, "");
    pr_service_call_begin(s.service, &c.call);
    await_done(&s, 2);
    assert_int_equal(c.call.error.status, PR_OK);
    pr_call_deinit(&c.call);
    service_close(&s);
}

static void before_the_model_is_loaded_calls_are_refused(void **state)
{
    (void)state;
    setup s;
    caller c;
    service_open(&s, NULL);
    caller_fill(&c, &s, 1, "early");
    pr_service_call_begin(s.service, &c.call);
    await_done(&s, 1);
    assert_int_equal(c.call.error.status, PR_E_UNAVAILABLE);
    assert_true(c.call.retry_after_s > 0);
    pr_call_deinit(&c.call);
    service_close(&s); /* in the middle of loading */
}

static void a_model_that_cannot_be_loaded_is_told(void **state)
{
    (void)state;
    static const char *const options[] = {"worker-launch", "external", NULL};
    setup s;
    service_open(&s, options); /* nobody comes */
    uv_run(&s.loop, UV_RUN_NOWAIT);
    assert_false(s.is_loaded);
    pr_service_cancel_load(s.service);
    while (!s.is_loaded) uv_run(&s.loop, UV_RUN_ONCE);
    assert_int_equal(s.load_error.status, PR_E_CANCELLED);
    assert_int_equal(pr_service_state_now(s.service), PR_SERVICE_LOADING);
    service_close(&s);
}

static void a_full_queue_refuses_or_is_waited_for(void **state)
{
    (void)state;
    static const char *const options[] = {"max-queued-requests", "8", "max-num-seqs", "1", NULL};
    setup s;
    caller full, refused, waiting, never;
    service_open(&s, options);
    await_load(&s);
    caller_fill(&full, &s, 8, "some words to read");
    caller_fill(&refused, &s, 8, "no room");
    caller_fill(&waiting, &s, 8, "later");
    caller_fill(&never, &s, 9, "too many");
    waiting.call.wait_ms = 20000;
    pr_service_call_begin(s.service, &full.call);
    pr_service_call_begin(s.service, &refused.call);
    pr_service_call_begin(s.service, &waiting.call);
    pr_service_call_begin(s.service, &never.call);
    await_done(&s, 4);
    assert_int_equal(full.call.error.status, PR_OK);
    assert_int_equal(waiting.call.error.status, PR_OK);
    assert_int_equal(waiting.call.results[7]->status, PR_OK);
    assert_int_equal(never.call.error.status, PR_E_TOO_LARGE);
    /* The first may have gone by then, if this thread was stopped for long. */
    if (refused.call.error.status != PR_OK) {
        assert_int_equal(refused.call.error.status, PR_E_OVERLOADED);
        assert_true(refused.call.retry_after_s >= 1);
    }
    caller *all[] = {&full, &refused, &waiting, &never};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(all[i]->n_done, 1);
        pr_call_deinit(&all[i]->call);
    }
    service_close(&s);
}

/* Who waits has no bound here: a call that misses its turn hangs this test. */
static void of_many_that_wait_for_room_none_is_forgotten(void **state)
{
    (void)state;
    enum { CALLERS = 64, ROUNDS = 40 };
    static const char *const options[] = {"max-queued-requests", "3", NULL};
    static caller callers[CALLERS];
    setup s;
    service_open(&s, options);
    await_load(&s);
    for (int round = 0; round < ROUNDS; round++) {
        s.n_done = 0;
        for (int i = 0; i < CALLERS; i++) {
            caller_fill(&callers[i], &s, 1 + (size_t)(i + round) % 3, "a");
            callers[i].call.wait_ms = UINT32_MAX;
            pr_service_call_begin(s.service, &callers[i].call);
            if (i % 7 == 3) uv_run(&s.loop, UV_RUN_NOWAIT);
            if (i % 16 == 5) pr_service_call_cancel(s.service, &callers[i - 1].call);
        }
        await_done(&s, CALLERS);
        for (int i = 0; i < CALLERS; i++) {
            assert_int_equal(callers[i].n_done, 1);
            pr_status st = callers[i].call.error.status;
            assert_true(st == PR_OK || (st == PR_E_CANCELLED && i % 16 == 4));
            pr_call_deinit(&callers[i].call);
        }
    }
    service_close(&s);
}

/* It came in neither by itself nor by then. */
static void who_has_waited_long_enough_is_refused(void **state)
{
    (void)state;
    setup s;
    caller full, late;
    static const char *const small[] = {"max-queued-requests", "8", "max-num-seqs", "1", NULL};
    service_open(&s, small);
    await_load(&s);
    caller_fill(&full, &s, 8, "some words to read");
    caller_fill(&late, &s, 8, "later");
    late.call.wait_ms = 1;
    pr_service_call_begin(s.service, &full.call);
    pr_service_call_begin(s.service, &late.call);
    await_done(&s, 2);
    assert_int_equal(full.call.error.status, PR_OK);
    if (late.call.error.status != PR_OK) { /* the machine may have been slow, or the model fast */
        assert_int_equal(late.call.error.status, PR_E_OVERLOADED);
        assert_true(late.call.retry_after_s >= 1);
    }
    assert_int_equal(late.n_done, 1);
    pr_call_deinit(&full.call);
    pr_call_deinit(&late.call);
    service_close(&s);
}

static void a_client_that_leaves_gets_no_results_and_the_others_theirs(void **state)
{
    (void)state;
    setup s;
    caller gone[10], stays;
    service_open(&s, NULL);
    await_load(&s);
    for (int i = 0; i < 10; i++) {
        caller_fill(&gone[i], &s, ITEMS_MAX, "nobody waits for this");
        pr_service_call_begin(s.service, &gone[i].call);
    }
    caller_fill(&stays, &s, 4, "somebody waits for this");
    pr_service_call_begin(s.service, &stays.call);
    for (int i = 0; i < 10; i++) {
        pr_service_call_cancel(s.service, &gone[i].call);
        pr_service_call_cancel(s.service, &gone[i].call); /* again: nothing */
    }
    await_done(&s, 11);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(gone[i].n_done, 1);
        assert_int_equal(gone[i].call.error.status, PR_E_CANCELLED);
        assert_null(gone[i].call.results);
        pr_call_deinit(&gone[i].call);
    }
    assert_int_equal(stays.call.error.status, PR_OK);
    pr_call_deinit(&stays.call);
    service_close(&s);
}

static void a_deadline_ends_a_call_although_nothing_is_computed(void **state)
{
    (void)state;
    static const char *const options[] = {"max-queued-requests", "1", NULL};
    setup s;
    caller c;
    service_open(&s, options);
    await_load(&s);
    /* It can never get in, and waits for room until its time is over. */
    caller_fill(&c, &s, 1, "x");
    c.call.wait_ms = 60000;
    c.call.timeout_ms = 30;
    caller first;
    caller_fill(&first, &s, 1, "first");
    pr_service_call_begin(s.service, &first.call);
    pr_service_call_begin(s.service, &c.call);
    await_done(&s, 2);
    assert_true(c.call.error.status == PR_E_TIMEOUT || c.call.error.status == PR_OK);
    pr_call_deinit(&c.call);
    pr_call_deinit(&first.call);
    service_close(&s);
}

static void an_answer_that_would_be_too_large_is_refused(void **state)
{
    (void)state;
    static const char *const options[] = {"max-response-bytes", "1024", NULL};
    setup s;
    caller c;
    service_open(&s, options);
    await_load(&s);
    caller_fill(&c, &s, 20, "one of many");
    pr_service_call_begin(s.service, &c.call);
    await_done(&s, 1);
    assert_int_equal(c.call.error.status, PR_E_TOO_LARGE);
    assert_non_null(strstr(c.call.error.message, "--max-response-bytes"));
    pr_call_deinit(&c.call);
    service_close(&s);
}

/* Rows of tokens: how many there are is known only when they are there. */
static void an_answer_that_turns_out_too_large_is_refused(void **state)
{
    (void)state;
    static const char *const options[] = {"max-response-bytes", "1024", "override-pooler-config",
                                          "{\"pooling_type\": \"ALL\"}", NULL};
    setup s;
    caller small, large;
    service_open(&s, options);
    await_load(&s);
    caller_fill(&small, &s, 1, "one");
    caller_fill(&large, &s, 20, "one of many");
    pr_service_call_begin(s.service, &small.call);
    pr_service_call_begin(s.service, &large.call);
    await_done(&s, 2);
    assert_int_equal(small.call.error.status, PR_OK);
    assert_int_equal(large.call.error.status, PR_E_TOO_LARGE);
    assert_non_null(strstr(large.call.error.message, "--max-response-bytes"));
    assert_null(large.call.results);
    pr_call_deinit(&small.call);
    pr_call_deinit(&large.call);
    service_close(&s);
}

static void draining_says_so_and_tells_when_nothing_is_left(void **state)
{
    (void)state;
    setup s;
    caller accepted, late;
    service_open(&s, NULL);
    await_load(&s);
    caller_fill(&accepted, &s, 8, "accepted");
    pr_service_call_begin(s.service, &accepted.call);
    pr_service_drain(s.service);
    assert_int_equal(pr_service_state_now(s.service), PR_SERVICE_DRAINING);
    assert_string_equal(pr_service_state_name(PR_SERVICE_DRAINING), "draining");
    pr_service_refuse(s.service);
    caller_fill(&late, &s, 1, "late");
    pr_service_call_begin(s.service, &late.call);
    while (s.n_idle == 0) uv_run(&s.loop, UV_RUN_ONCE);
    assert_int_equal(s.n_done, 2);
    assert_int_equal(accepted.call.error.status, PR_OK);
    assert_int_equal(late.call.error.status, PR_E_UNAVAILABLE);
    pr_call_deinit(&accepted.call);
    pr_call_deinit(&late.call);
    service_close(&s);
}

static void ids_of_clients_are_taken_when_they_are_safe_to_write(void **state)
{
    (void)state;
    char id[PR_REQUEST_ID_BYTES_MAX + 1], other[PR_REQUEST_ID_BYTES_MAX + 1], long_id[129];
    pr_request_id_take(id, "run-7:batch.3_A", 15);
    assert_string_equal(id, "run-7:batch.3_A");
    memset(long_id, 'a', sizeof long_id);
    static const char *const bad[] = {"", "a b", "a\nb", "a\"b", "\xc3\xa4"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pr_request_id_take(id, bad[i], strlen(bad[i]));
        assert_int_equal(strlen(id), 32);
    }
    pr_request_id_take(id, long_id, 128);
    assert_int_equal(strlen(id), 128);
    pr_request_id_take(id, long_id, 129);
    pr_request_id_take(other, NULL, 0);
    assert_int_equal(strlen(id), 32);
    assert_string_not_equal(id, other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_brings_a_result_for_each_item),
        cmocka_unit_test(before_the_model_is_loaded_calls_are_refused),
        cmocka_unit_test(a_model_that_cannot_be_loaded_is_told),
        cmocka_unit_test(a_full_queue_refuses_or_is_waited_for),
        cmocka_unit_test(of_many_that_wait_for_room_none_is_forgotten),
        cmocka_unit_test(who_has_waited_long_enough_is_refused),
        cmocka_unit_test(a_client_that_leaves_gets_no_results_and_the_others_theirs),
        cmocka_unit_test(a_deadline_ends_a_call_although_nothing_is_computed),
        cmocka_unit_test(an_answer_that_would_be_too_large_is_refused),
        cmocka_unit_test(an_answer_that_turns_out_too_large_is_refused),
        cmocka_unit_test(draining_says_so_and_tells_when_nothing_is_left),
        cmocka_unit_test(ids_of_clients_are_taken_when_they_are_safe_to_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
