/* Requests of one client together: admitted all or none, cancelled together, each answered once. An
 * engine that was created and not loaded accepts and computes nothing, so that what waits is
 * known. */
#include "coordinator/engine/engine.h"
#include "coordinator/queue/job.h"
#include "coordinator/options/config_build.h"
#include "coordinator/options/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>
#include <time.h>
#include <cmocka.h>

enum { MANY = 500 };

typedef struct outcome {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int n_done, n_ok, n_cancelled, n_late, n_unavailable;
} outcome;

static void outcome_init(outcome *o)
{
    memset(o, 0, sizeof *o);
    pthread_mutex_init(&o->lock, NULL);
    pthread_cond_init(&o->changed, NULL);
}

static void on_done(void *context, pr_result *r)
{
    outcome *o = context;
    pthread_mutex_lock(&o->lock);
    o->n_done++;
    o->n_ok += r->status == PR_OK;
    o->n_cancelled += r->status == PR_E_CANCELLED;
    o->n_late += r->status == PR_E_TIMEOUT;
    o->n_unavailable += r->status == PR_E_UNAVAILABLE;
    pthread_cond_signal(&o->changed);
    pthread_mutex_unlock(&o->lock);
    pr_result_free(r);
}

static void await(outcome *o, int n)
{
    pthread_mutex_lock(&o->lock);
    while (o->n_done < n) pthread_cond_wait(&o->changed, &o->lock);
    pthread_mutex_unlock(&o->lock);
}

typedef struct setup {
    pr_options *options;
    pr_config config;
    pr_engine *engine;
    outcome outcome;
} setup;

static void open_with(setup *s, const char *const *options, bool is_loaded)
{
    char path[512];
    pr_error err;
    snprintf(path, sizeof path, "%s/parity/models/bert-st-mean", PR_TESTS_DIR);
    memset(s, 0, sizeof *s);
    outcome_init(&s->outcome);
    s->options = pr_options_create();
    assert_int_equal(pr_options_set(s->options, "model", path, &err), PR_OK);
    for (; options && options[0]; options += 2) {
        assert_int_equal(pr_options_set(s->options, options[0], options[1], &err), PR_OK);
    }
    assert_int_equal(pr_config_build(s->options, &s->config, &err), PR_OK);
    pr_status st = pr_engine_create(&s->config, &s->engine, &err);
    if (st == PR_OK && is_loaded) st = pr_engine_load(s->engine, &err);
    if (st != PR_OK) fail_msg("%s", err.message);
}

static void close_all(setup *s)
{
    pr_engine_close(s->engine);
    pr_config_deinit(&s->config);
    pr_options_free(s->options);
}

static void requests_fill(setup *s, pr_request *requests, size_t n, const char *text)
{
    for (size_t i = 0; i < n; i++) {
        pr_request_init(&requests[i]);
        requests[i].text = text;
        requests[i].n_text = strlen(text);
        requests[i].done = on_done;
        requests[i].context = &s->outcome;
    }
}

static pr_status submit(setup *s, size_t n, const char *text, pr_flow **flow, pr_error *err)
{
    pr_request requests[MANY];
    requests_fill(s, requests, n, text);
    return pr_engine_submit_all(s->engine, requests, n, false, flow, err);
}

static void texts_are_admitted_together_or_not_at_all(void **state)
{
    (void)state;
    static const char *const options[] = {"max-queued-requests", "10", NULL};
    setup s;
    pr_flow *first = NULL, *second = NULL;
    pr_error err;
    pr_engine_stats stats;
    open_with(&s, options, false);
    assert_int_equal(submit(&s, 11, "a", &first, &err), PR_E_TOO_LARGE);
    assert_non_null(strstr(err.message, "--max-queued-requests"));
    assert_int_equal(submit(&s, 6, "a", &first, &err), PR_OK);
    assert_int_equal(submit(&s, 5, "a", &second, &err), PR_E_OVERLOADED);
    pr_engine_stats_get(s.engine, &stats);
    assert_int_equal(stats.n_requests, 6);
    assert_int_equal(stats.n_queued, 6);
    assert_int_equal(submit(&s, 4, "a", &second, &err), PR_OK);
    pr_engine_cancel(s.engine, first);
    assert_int_equal(s.outcome.n_cancelled, 6); /* from inside the call */
    pr_engine_stats_get(s.engine, &stats);
    assert_int_equal(stats.n_requests, 4);
    pr_engine_cancel(s.engine, second);
    pr_engine_cancel(s.engine, second);
    assert_int_equal(s.outcome.n_done, 10);
    pr_flow_release(first);
    pr_flow_release(second);
    close_all(&s);
}

static uint32_t n_accepted(setup *s)
{
    pr_engine_stats stats;
    pr_engine_stats_get(s->engine, &stats);
    return stats.n_requests;
}

static pr_status submit_waiting(setup *s, size_t n, pr_flow **flow)
{
    pr_request requests[MANY];
    pr_error err;
    requests_fill(s, requests, n, "a");
    return pr_engine_submit_all(s->engine, requests, n, true, flow, &err);
}

/* Given a queue of 10 with 6 in it and a model that is not loaded: nothing moves by itself. */
static void who_waits_for_room_is_admitted_in_the_order_of_arrival(void **state)
{
    (void)state;
    static const char *const options[] = {"max-queued-requests", "10", NULL};
    setup s;
    pr_flow *first = NULL, *second = NULL, *third = NULL, *fourth = NULL, *refused = NULL;
    pr_error err;
    open_with(&s, options, false);
    assert_int_equal(submit(&s, 6, "a", &first, &err), PR_OK);
    assert_int_equal(submit_waiting(&s, 5, &second), PR_OK);
    assert_int_equal(submit_waiting(&s, 1, &third), PR_OK); /* would fit, and is behind */
    assert_int_equal(submit_waiting(&s, 9, &fourth), PR_OK);
    assert_int_equal(submit(&s, 1, "a", &refused, &err), PR_E_OVERLOADED);
    assert_int_equal(n_accepted(&s), 6);
    pr_engine_cancel(s.engine, first);
    assert_int_equal(n_accepted(&s), 6); /* the second and the third */
    assert_false(pr_engine_withdraw(s.engine, second));
    assert_int_equal(s.outcome.n_cancelled, 6);
    assert_true(pr_engine_withdraw(s.engine, fourth));
    assert_false(pr_engine_withdraw(s.engine, fourth));
    assert_int_equal(s.outcome.n_done, 6); /* nobody was called back for it */
    assert_int_equal(submit(&s, 1, "a", &refused, &err), PR_OK); /* nobody stands in line */
    pr_flow *all[] = {first, second, third, fourth, refused};
    for (int i = 0; i < 5; i++) pr_engine_cancel(s.engine, all[i]);
    for (int i = 0; i < 5; i++) pr_flow_release(all[i]);
    assert_int_equal(s.outcome.n_done, 13);
    close_all(&s);
}

static void who_still_waits_when_the_engine_closes_is_told(void **state)
{
    (void)state;
    static const char *const options[] = {"max-queued-requests", "4", NULL};
    setup s;
    pr_flow *flows[20];
    open_with(&s, options, true);
    for (int i = 0; i < 20; i++) assert_int_equal(submit_waiting(&s, 3, &flows[i]), PR_OK);
    pr_engine_close(s.engine);
    s.engine = NULL;
    assert_int_equal(s.outcome.n_done, 60);
    assert_int_equal(s.outcome.n_ok + s.outcome.n_unavailable, 60);
    for (int i = 0; i < 20; i++) pr_flow_release(flows[i]);
    close_all(&s);
}

static void tokens_are_bounded_too(void **state)
{
    (void)state;
    static const char *const options[] = {"max-queued-tokens", "20", NULL};
    static const char text[] = "twenty-four bytes of it.";
    setup s;
    pr_flow *flow = NULL, *other = NULL;
    pr_error err;
    open_with(&s, options, false);
    assert_int_equal(submit(&s, 3, text, &flow, &err), PR_E_TOO_LARGE); /* 7 each */
    assert_non_null(strstr(err.message, "--max-queued-tokens"));
    assert_int_equal(submit(&s, 2, text, &flow, &err), PR_OK);
    assert_int_equal(submit(&s, 1, text, &other, &err), PR_E_OVERLOADED);
    pr_engine_cancel(s.engine, flow);
    assert_int_equal(submit(&s, 1, text, &other, &err), PR_OK);
    pr_engine_cancel(s.engine, other);
    pr_flow_release(flow);
    pr_flow_release(other);
    /* One that is over the bound by itself is taken, alone: else it never would be. */
    static const char long_text[] = "a hundred bytes and more of one text, which is far more than "
                                    "the bound of twenty tokens takes as it stands";
    assert_int_equal(submit(&s, 1, long_text, &flow, &err), PR_OK);
    assert_int_equal(submit(&s, 1, "x", &other, &err), PR_E_OVERLOADED);
    pr_engine_cancel(s.engine, flow);
    pr_flow_release(flow);
    close_all(&s);
}

static void every_text_of_many_is_answered_once_and_counted(void **state)
{
    (void)state;
    setup s;
    pr_flow *flow = NULL;
    pr_error err;
    pr_engine_stats stats;
    open_with(&s, NULL, true);
    assert_int_equal(submit(&s, MANY, "a few words", &flow, &err), PR_OK);
    await(&s.outcome, MANY);
    assert_int_equal(s.outcome.n_ok, MANY);
    pr_flow_release(flow);
    do { /* the last one's leaving is noted behind its callback */
        pr_engine_stats_get(s.engine, &stats);
    } while (stats.n_requests > 0);
    assert_int_equal(stats.n_tokens, 0);
    assert_int_equal(stats.n_batch_requests, MANY);
    assert_int_equal(stats.batch_tokens.n, stats.n_batches);
    assert_true(stats.tokens_per_s > 0);
    assert_int_equal(stats.n_groups_ready, 1);
    assert_in_range(pr_engine_wait_s(s.engine), 1, 1);
    close_all(&s);
}

static void a_cancellation_in_the_middle_leaves_no_text_unanswered(void **state)
{
    (void)state;
    static const char *const options[] = {"max-num-seqs", "4", NULL};
    for (int round = 0; round < 20; round++) {
        setup s;
        pr_flow *flow = NULL;
        pr_error err;
        open_with(&s, options, true);
        assert_int_equal(submit(&s, MANY, "a few words", &flow, &err), PR_OK);
        await(&s.outcome, round * 5);
        pr_engine_cancel(s.engine, flow);
        pr_flow_release(flow);
        await(&s.outcome, MANY);
        pr_engine_close(s.engine);
        assert_int_equal(s.outcome.n_done, MANY);
        assert_int_equal(s.outcome.n_ok + s.outcome.n_cancelled, MANY);
        s.engine = NULL;
        close_all(&s);
    }
}

static void a_text_whose_time_has_passed_is_not_computed(void **state)
{
    (void)state;
    setup s;
    pr_request requests[64];
    pr_flow *flow = NULL;
    pr_error err;
    open_with(&s, NULL, false);
    requests_fill(&s, requests, 64, "late");
    requests[0].timeout_ms = 1;
    assert_int_equal(pr_engine_submit_all(s.engine, requests, 64, false, &flow, &err), PR_OK);
    struct timespec pause = {0, 5000000};
    nanosleep(&pause, NULL);
    assert_int_equal(pr_engine_load(s.engine, &err), PR_OK);
    await(&s.outcome, 64);
    assert_int_equal(s.outcome.n_late, 64);
    pr_flow_release(flow);
    close_all(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_admitted_together_or_not_at_all),
        cmocka_unit_test(who_waits_for_room_is_admitted_in_the_order_of_arrival),
        cmocka_unit_test(who_still_waits_when_the_engine_closes_is_told),
        cmocka_unit_test(tokens_are_bounded_too),
        cmocka_unit_test(every_text_of_many_is_answered_once_and_counted),
        cmocka_unit_test(a_cancellation_in_the_middle_leaves_no_text_unanswered),
        cmocka_unit_test(a_text_whose_time_has_passed_is_not_computed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
