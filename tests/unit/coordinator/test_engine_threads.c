/* The engine under several threads: answers belong to their requests, and a full queue refuses or
 * waits. Model: a small fixture of the parity tests. */
#include "include/poolrank/engine.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static pr_engine *engine_open(const char *const *options)
{
    pr_engine *engine = NULL;
    pr_error err;
    pr_options *o = pr_options_create();
    assert_non_null(o);
    pr_status st = pr_options_set(o, "model", PR_TESTS_DIR "/parity/models/bert-st-mean", &err);
    for (; st == PR_OK && options[0]; options += 2) {
        st = pr_options_set(o, options[0], options[1], &err);
    }
    if (st == PR_OK) st = pr_engine_open(o, &engine, &err);
    pr_options_free(o);
    if (st != PR_OK) fail_msg("%s", err.message);
    return engine;
}

static pr_request request_of(const char *text)
{
    pr_request r;
    pr_request_init(&r);
    r.text = text;
    r.n_text = strlen(text);
    return r;
}

/* ---- several submitters ---- */

enum { N_THREADS = 4, N_TEXTS = 60, N_AT_ONCE = 10, WIDTH = 32 };

typedef struct submitter {
    pthread_t thread;
    pr_engine *engine;
    int first; /* text that it begins with: each thread has another order */
    const float (*expected)[WIDTH];
    int n_wrong;
} submitter;

static void text_write(int i, char *out, size_t n)
{
    snprintf(out, n, "text number %d %s", i, i % 3 ? "and a few words more" : "");
}

static pr_result *wait_for(pr_engine *engine, pr_ticket *ticket)
{
    pr_result *result = NULL;
    pr_error err;
    return pr_engine_wait(engine, ticket, &result, &err) == PR_OK ? result : NULL;
}

static void *submitter_main(void *context)
{
    submitter *s = context;
    for (int i = 0; i < N_TEXTS; i += N_AT_ONCE) {
        pr_ticket *tickets[N_AT_ONCE] = {NULL};
        for (int j = 0; j < N_AT_ONCE; j++) {
            char text[64];
            text_write((s->first + i + j) % N_TEXTS, text, sizeof text);
            pr_request r = request_of(text);
            pr_error err;
            if (pr_engine_submit(s->engine, &r, &tickets[j], &err) != PR_OK) s->n_wrong++;
        }
        for (int j = N_AT_ONCE - 1; j >= 0; j--) { /* the last one is waited for first */
            pr_result *r = tickets[j] ? wait_for(s->engine, tickets[j]) : NULL;
            const float *expected = s->expected[(s->first + i + j) % N_TEXTS];
            bool ok = r && r->status == PR_OK && r->n_columns == WIDTH &&
                      memcmp(r->data, expected, WIDTH * sizeof *expected) == 0;
            s->n_wrong += !ok;
            pr_result_free(r);
        }
    }
    return NULL;
}

static void answers_belong_to_their_requests_whoever_asks(void **state)
{
    (void)state;
    static const char *const options[] = {"threads", "2",     "max-queued-requests",
                                          "8",       "block", "true", NULL};
    static float expected[N_TEXTS][WIDTH];
    static submitter s[N_THREADS];
    pr_engine *engine = engine_open(options);
    for (int i = 0; i < N_TEXTS; i++) {
        char text[64];
        text_write(i, text, sizeof text);
        pr_request request = request_of(text);
        pr_ticket *ticket = NULL;
        assert_int_equal(pr_engine_submit(engine, &request, &ticket, NULL), PR_OK);
        pr_result *r = wait_for(engine, ticket);
        assert_int_equal(r->n_columns, WIDTH);
        memcpy(expected[i], r->data, sizeof expected[i]);
        pr_result_free(r);
    }
    for (int i = 0; i < N_THREADS; i++) {
        s[i] = (submitter){.engine = engine, .first = i * 17, .expected = expected};
        assert_int_equal(pthread_create(&s[i].thread, NULL, submitter_main, &s[i]), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(s[i].thread, NULL);
        assert_int_equal(s[i].n_wrong, 0);
    }
    pr_engine_close(engine);
}

/* ---- a full queue ---- */

typedef struct gate {
    sem_t is_reached;
    sem_t may_pass;
    int n_done;
} gate;

/* A request counts as queued until its callback has returned: the gate holds it there. */
static void hold(void *context, pr_result *result)
{
    gate *g = context;
    pr_result_free(result);
    sem_post(&g->is_reached);
    sem_wait(&g->may_pass);
    g->n_done++;
}

static void a_full_queue_refuses_and_takes_again(void **state)
{
    (void)state;
    static const char *const options[] = {"threads", "1", "max-queued-requests", "1", NULL};
    pr_engine *engine = engine_open(options);
    gate g = {.n_done = 0};
    sem_init(&g.is_reached, 0, 0);
    sem_init(&g.may_pass, 0, 0);
    pr_error err;
    pr_request held = request_of("held");
    held.done = hold;
    held.context = &g;
    pr_request next = request_of("next");
    pr_ticket *ticket = NULL;
    assert_int_equal(pr_engine_submit(engine, &held, NULL, &err), PR_OK);
    sem_wait(&g.is_reached);
    assert_int_equal(pr_engine_submit(engine, &next, &ticket, &err), PR_E_OVERLOADED);
    assert_non_null(strstr(err.message, "--max-queued-requests"));
    assert_null(ticket);
    sem_post(&g.may_pass);
    pr_status st;
    do { /* the place is free a moment after the callback returns */
        st = pr_engine_submit(engine, &next, &ticket, &err);
    } while (st == PR_E_OVERLOADED);
    assert_int_equal(st, PR_OK);
    pr_result *r = wait_for(engine, ticket);
    assert_int_equal(r->status, PR_OK);
    pr_result_free(r);
    pr_engine_close(engine);
    assert_int_equal(g.n_done, 1);
    sem_destroy(&g.is_reached);
    sem_destroy(&g.may_pass);
}

typedef struct late {
    pr_engine *engine;
    pr_status st;
} late;

static void *late_main(void *context)
{
    late *l = context;
    pr_request r = request_of("late");
    pr_ticket *ticket = NULL;
    l->st = pr_engine_submit(l->engine, &r, &ticket, NULL);
    if (l->st == PR_OK) pr_result_free(wait_for(l->engine, ticket));
    return NULL;
}

static void a_full_queue_lets_the_submitter_wait_where_it_may(void **state)
{
    (void)state;
    static const char *const options[] = {"threads", "1",     "max-queued-requests",
                                          "1",       "block", "true", NULL};
    pr_engine *engine = engine_open(options);
    gate g = {.n_done = 0};
    sem_init(&g.is_reached, 0, 0);
    sem_init(&g.may_pass, 0, 0);
    pr_request held = request_of("held");
    held.done = hold;
    held.context = &g;
    late l = {.engine = engine, .st = PR_E_INTERNAL};
    pthread_t thread;
    assert_int_equal(pr_engine_submit(engine, &held, NULL, NULL), PR_OK);
    sem_wait(&g.is_reached);
    assert_int_equal(pthread_create(&thread, NULL, late_main, &l), 0);
    sem_post(&g.may_pass);
    pthread_join(thread, NULL);
    assert_int_equal(l.st, PR_OK);
    pr_engine_close(engine);
    sem_destroy(&g.is_reached);
    sem_destroy(&g.may_pass);
}

static void engines_live_side_by_side(void **state)
{
    (void)state;
    static const char *const options[] = {"threads", "2", NULL};
    pr_engine *a = engine_open(options);
    pr_engine *b = engine_open(options);
    float first[WIDTH];
    for (int i = 0; i < 2; i++) {
        pr_request request = request_of("the same text");
        pr_ticket *ticket = NULL;
        pr_engine *engine = i ? b : a;
        assert_int_equal(pr_engine_submit(engine, &request, &ticket, NULL), PR_OK);
        pr_result *r = wait_for(engine, ticket);
        assert_int_equal(r->n_columns, WIDTH);
        if (i == 0) memcpy(first, r->data, sizeof first);
        assert_memory_equal(r->data, first, sizeof first);
        pr_result_free(r);
    }
    pr_engine_close(a);
    pr_engine_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_belong_to_their_requests_whoever_asks),
        cmocka_unit_test(a_full_queue_refuses_and_takes_again),
        cmocka_unit_test(a_full_queue_lets_the_submitter_wait_where_it_may),
        cmocka_unit_test(engines_live_side_by_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
