/* What the engine promises, whatever the numbers are: every request is answered exactly once, bad
 * ones with a reason, and nothing is lost on the way down. Models: small fixtures of the parity
 * tests. */
#include "include/poolrank/engine.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static pr_status engine_try(const char *model, const char *const *options, pr_engine **out,
                            pr_error *err)
{
    char path[512];
    snprintf(path, sizeof path, "%s/parity/models/%s", PR_TESTS_DIR, model);
    pr_options *o = pr_options_create();
    assert_non_null(o);
    pr_status st = pr_options_set(o, "model", path, err);
    for (; st == PR_OK && options && options[0]; options += 2) {
        st = pr_options_set(o, options[0], options[1], err);
    }
    if (st == PR_OK) st = pr_engine_open(o, out, err);
    pr_options_free(o);
    return st;
}

static pr_engine *engine_open(const char *model, const char *const *options)
{
    pr_engine *engine = NULL;
    pr_error err;
    if (engine_try(model, options, &engine, &err) != PR_OK) fail_msg("%s", err.message);
    return engine;
}

static pr_result *ask(pr_engine *engine, const pr_request *request)
{
    pr_ticket *ticket = NULL;
    pr_result *result = NULL;
    pr_error err;
    if (pr_engine_submit(engine, request, &ticket, &err) != PR_OK) fail_msg("%s", err.message);
    if (pr_engine_wait(engine, ticket, &result, &err) != PR_OK) fail_msg("%s", err.message);
    return result;
}

static pr_request request_of(const char *text)
{
    pr_request r;
    pr_request_init(&r);
    r.text = text;
    r.n_text = strlen(text);
    return r;
}

static void assert_fails(pr_result *r, pr_status st, const char *part)
{
    assert_int_equal(r->status, st);
    assert_null(r->data);
    assert_non_null(r->message);
    if (!strstr(r->message, part)) fail_msg("\"%s\" does not say \"%s\"", r->message, part);
    pr_result_free(r);
}

static void a_text_gives_one_normalized_row(void **state)
{
    (void)state;
    pr_engine *engine = engine_open("bert-st-mean", NULL);
    pr_request request = request_of("hello world");
    pr_result *r = ask(engine, &request);
    assert_int_equal(r->status, PR_OK);
    assert_int_equal(r->n_rows, 1);
    assert_false(r->is_token_wise);
    assert_true(r->n_prompt_tokens > 2);
    double sum = 0;
    for (uint32_t i = 0; i < r->n_columns; i++) sum += (double)r->data[i] * r->data[i];
    assert_true(sum > 0.99999 && sum < 1.00001);
    pr_result_free(r);
    pr_engine_close(engine);
}

static void bad_texts_get_an_error_and_others_an_answer(void **state)
{
    (void)state;
    static const char *const options[] = {"max-model-len", "16", NULL};
    pr_engine *engine = engine_open("bert-st-mean", options);
    char text[400];
    memset(text, 'a', sizeof text);
    for (size_t i = 1; i < sizeof text; i += 2) text[i] = ' ';
    pr_request too_long = request_of("");
    too_long.text = text;
    too_long.n_text = sizeof text;
    pr_request not_utf8 = request_of("ab\xff" "cd");
    static const int32_t outside[] = {1, 2, 1000000};
    pr_request bad_token = request_of("");
    bad_token.text = NULL;
    bad_token.tokens = outside;
    bad_token.n_tokens = 3;
    pr_request fine = request_of("fine");
    pr_request empty = request_of("");
    empty.add_special_tokens = 0;
    assert_fails(ask(engine, &too_long), PR_E_TOO_LONG, "limit of 16");
    assert_fails(ask(engine, &not_utf8), PR_E_INPUT, "UTF-8");
    assert_fails(ask(engine, &bad_token), PR_E_INPUT, "id 1000000");
    assert_fails(ask(engine, &empty), PR_E_INPUT, "no token");
    pr_result *r = ask(engine, &fine);
    assert_int_equal(r->status, PR_OK);
    pr_result_free(r);
    pr_engine_close(engine);
}

static void truncation_keeps_special_tokens_and_the_asked_side(void **state)
{
    (void)state;
    pr_engine *engine = engine_open("bert-st-mean", NULL);
    pr_request request = request_of("one two three four five six seven eight nine ten");
    request.tokenize_only = true;
    pr_result *whole = ask(engine, &request);
    assert_int_equal(whole->status, PR_OK);
    uint32_t n = whole->n_prompt_tokens;
    assert_true(n > 8);
    request.truncate_prompt_tokens = 6;
    request.truncation_side = 0;
    pr_result *right = ask(engine, &request);
    request.truncation_side = 1;
    pr_result *left = ask(engine, &request);
    assert_int_equal(right->n_prompt_tokens, 6);
    assert_int_equal(left->n_prompt_tokens, 6);
    assert_int_equal(right->tokens[0], whole->tokens[0]);
    assert_int_equal(left->tokens[0], whole->tokens[0]);
    assert_int_equal(right->tokens[5], whole->tokens[n - 1]);
    assert_int_equal(left->tokens[5], whole->tokens[n - 1]);
    assert_memory_equal(right->tokens + 1, whole->tokens + 1, 4 * sizeof(int32_t));
    assert_memory_equal(left->tokens + 1, whole->tokens + n - 5, 4 * sizeof(int32_t));
    pr_result_free(whole);
    pr_result_free(right);
    pr_result_free(left);
    for (int32_t n_max = 1; n_max <= 2; n_max++) { /* no more than [CLS] and [SEP] */
        request.truncate_prompt_tokens = n_max;
        pr_result *none = ask(engine, &request);
        assert_int_equal(none->status, PR_E_ARGUMENT);
        assert_non_null(strstr(none->message, "the 2 special tokens leave no room"));
        pr_result_free(none);
    }
    request.truncate_prompt_tokens = 3;
    pr_result *one = ask(engine, &request);
    assert_int_equal(one->status, PR_OK);
    assert_int_equal(one->n_prompt_tokens, 3);
    pr_result_free(one);
    pr_engine_close(engine);
}

static void parameters_of_a_request_apply_to_it_alone(void **state)
{
    (void)state;
    pr_engine *engine = engine_open("bert-st-mean", NULL);
    pr_request request = request_of("hello world");
    pr_result *plain = ask(engine, &request);
    request.dimensions = 8;
    request.normalize = 0;
    pr_result *cut = ask(engine, &request);
    assert_int_equal(cut->status, PR_OK);
    assert_int_equal(cut->n_columns, 8);
    double scale = (double)plain->data[0] / cut->data[0];
    for (uint32_t i = 1; i < 8; i++) {
        double expected = cut->data[i] * scale;
        assert_true(expected - plain->data[i] < 1e-6 && plain->data[i] - expected < 1e-6);
    }
    request.dimensions = 100000;
    assert_fails(ask(engine, &request), PR_E_ARGUMENT, "dimensions");
    pr_result_free(plain);
    pr_result_free(cut);
    pr_engine_close(engine);
}

static void a_task_that_the_head_cannot_serve_is_refused(void **state)
{
    (void)state;
    pr_engine *engine = engine_open("bert-st-mean", NULL);
    pr_request request = request_of("hello");
    request.task = PR_TASK_CLASSIFY;
    assert_fails(ask(engine, &request), PR_E_UNSUPPORTED, "embed");
    pr_engine_close(engine);
    static const char *const options[] = {"task", "classify", NULL};
    pr_error err;
    assert_int_equal(engine_try("bert-st-mean", options, &engine, &err), PR_E_UNSUPPORTED);
}

static void a_score_of_an_embedding_model_is_the_cosine(void **state)
{
    (void)state;
    pr_engine *engine = engine_open("bert-st-mean", NULL);
    static const char *const texts[] = {"a red house", "the green tree"};
    pr_result *rows[2];
    for (int i = 0; i < 2; i++) {
        pr_request request = request_of(texts[i]);
        rows[i] = ask(engine, &request);
    }
    double dot = 0;
    for (uint32_t i = 0; i < rows[0]->n_columns; i++) {
        dot += (double)rows[0]->data[i] * rows[1]->data[i];
    }
    pr_request pair = request_of(texts[0]);
    pair.task = PR_TASK_SCORE;
    pair.text_pair = texts[1];
    pair.n_text_pair = strlen(texts[1]);
    pr_result *score = ask(engine, &pair);
    assert_int_equal(score->status, PR_OK);
    assert_int_equal(score->n_columns, 1);
    assert_true(score->data[0] - dot < 1e-6 && dot - score->data[0] < 1e-6);
    assert_int_equal(score->n_prompt_tokens, rows[0]->n_prompt_tokens + rows[1]->n_prompt_tokens);
    pair.text_pair = NULL;
    assert_fails(ask(engine, &pair), PR_E_ARGUMENT, "two");
    static const int32_t tokens[] = {1, 2, 3};
    pair.text = NULL;
    pair.tokens = tokens;
    pair.n_tokens = 3;
    assert_fails(ask(engine, &pair), PR_E_ARGUMENT, "found tokens, expected two texts");
    for (int i = 0; i < 2; i++) pr_result_free(rows[i]);
    pr_result_free(score);
    pr_engine_close(engine);
}

static void the_last_row_alone_is_the_same_to_the_bit(void **state)
{
    (void)state;
    pr_engine *engine = engine_open("qwen2-reward", NULL);
    pr_request request = request_of("What is 7 times 8? It is 56.");
    pr_result *all = ask(engine, &request);
    request.last_row_only = true;
    pr_result *last = ask(engine, &request);
    assert_int_equal(all->n_rows, all->n_prompt_tokens);
    assert_true(all->is_token_wise);
    assert_int_equal(last->n_rows, 1);
    assert_memory_equal(last->data, all->data + all->n_rows - 1, sizeof(float));
    pr_result_free(all);
    pr_result_free(last);
    pr_engine_close(engine);
}

/* ---- many at once ---- */

enum { N_MANY = 500 };

typedef struct tally {
    pthread_mutex_t lock;
    int n_answers[N_MANY];
    pr_status status[N_MANY];
} tally;

typedef struct context {
    tally *tally;
    int i;
} context;

static void count(void *p, pr_result *result)
{
    context *c = p;
    pthread_mutex_lock(&c->tally->lock);
    c->tally->n_answers[c->i]++;
    c->tally->status[c->i] = result->status;
    pthread_mutex_unlock(&c->tally->lock);
    pr_result_free(result);
}

static void closing_finishes_what_was_accepted_once(void **state)
{
    (void)state;
    static tally t = {.lock = PTHREAD_MUTEX_INITIALIZER};
    static context contexts[N_MANY];
    static const char *const options[] = {"threads", "2", "max-num-batched-tokens", "64", NULL};
    pr_engine *engine = engine_open("qwen2-plain", options);
    for (int i = 0; i < N_MANY; i++) {
        char text[64];
        snprintf(text, sizeof text, i % 10 == 3 ? "bad \xff %d" : "text number %d", i);
        contexts[i] = (context){&t, i};
        pr_request request = request_of(text);
        request.done = count;
        request.context = &contexts[i];
        pr_error err;
        assert_int_equal(pr_engine_submit(engine, &request, NULL, &err), PR_OK);
    }
    pr_engine_close(engine);
    for (int i = 0; i < N_MANY; i++) {
        assert_int_equal(t.n_answers[i], 1);
        assert_int_equal(t.status[i], i % 10 == 3 ? PR_E_INPUT : PR_OK);
    }
}

static void a_ticket_that_nobody_waits_for_is_released(void **state)
{
    (void)state;
    pr_engine *engine = engine_open("qwen2-plain", NULL);
    for (int i = 0; i < 5; i++) {
        pr_request request = request_of("nobody waits");
        pr_ticket *ticket = NULL;
        pr_error err;
        assert_int_equal(pr_engine_submit(engine, &request, &ticket, &err), PR_OK);
        assert_non_null(ticket);
    }
    pr_engine_close(engine); /* the leak checker of the sanitizer build is the judge */
}

static void a_request_that_names_nothing_is_refused(void **state)
{
    (void)state;
    pr_engine *engine = engine_open("bert-st-mean", NULL);
    pr_request request;
    pr_ticket *ticket = NULL;
    pr_error err;
    pr_request_init(&request);
    assert_int_equal(pr_engine_submit(engine, &request, &ticket, &err), PR_E_ARGUMENT);
    request.text = "x";
    request.n_text = 1;
    request.struct_bytes = 3;
    assert_int_equal(pr_engine_submit(engine, &request, &ticket, &err), PR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "pr_request_init"));
    request = request_of("x");
    static const int32_t many[2000];
    request.returned_token_ids = many;
    request.n_returned_token_ids = 2000;
    assert_int_equal(pr_engine_submit(engine, &request, &ticket, &err), PR_E_TOO_LARGE);
    assert_non_null(strstr(err.message, "returned_token_ids: found 2000, expected at most 1024"));
    pr_engine_close(engine);
}

/* What a program sees that was compiled with another version of the header. */
static void a_request_of_another_version_is_taken_or_refused(void **state)
{
    (void)state;
    pr_engine *engine = engine_open("bert-st-mean", NULL);
    pr_ticket *ticket = NULL;
    pr_result *result = NULL;
    pr_error err;
    volatile size_t old_bytes = offsetof(pr_request, cache_salt);
    pr_request *old = malloc(old_bytes); /* the sanitizer sees whoever goes over it */
    assert_non_null(old);
    pr_request_init_size(old, old_bytes);
    assert_int_equal(old->struct_bytes, old_bytes);
    assert_int_equal(old->normalize, -1);
    old->text = "x";
    old->n_text = 1;
    assert_int_equal(pr_engine_submit(engine, old, &ticket, &err), PR_OK);
    free(old);
    assert_int_equal(pr_engine_wait(engine, ticket, &result, &err), PR_OK);
    assert_int_equal(result->status, PR_OK);
    pr_result_free(result);
    struct {
        pr_request request;
        char more[16];
    } new;
    pr_request_init_size(&new.request, sizeof new);
    new.request.text = "x";
    new.request.n_text = 1;
    assert_int_equal(pr_engine_submit(engine, &new.request, &ticket, &err), PR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "compiled for a newer version"));
    pr_engine_close(engine);
}

static void limits_beyond_the_model_are_refused_at_start(void **state)
{
    (void)state;
    pr_engine *engine = NULL;
    pr_error err;
    static const char *const too_long[] = {"max-model-len", "100000", NULL};
    assert_int_equal(engine_try("bert-st-mean", too_long, &engine, &err), PR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "positions"));
    assert_int_equal(engine_try("no-such-model", NULL, &engine, &err), PR_E_NOT_FOUND);
    assert_null(engine);
}

static void the_description_names_the_sources(void **state)
{
    (void)state;
    static const char *const options[] = {"override-pooler-config", "{\"pooling_type\": \"CLS\"}",
                                          NULL};
    pr_engine *engine = engine_open("bert-st-mean", options);
    const char *text = pr_engine_describe(engine);
    assert_non_null(strstr(text, "\"pooling_type\""));
    assert_non_null(strstr(text, "\"CLS\""));
    assert_non_null(strstr(text, "Sentence Transformers"));
    pr_engine_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_gives_one_normalized_row),
        cmocka_unit_test(bad_texts_get_an_error_and_others_an_answer),
        cmocka_unit_test(truncation_keeps_special_tokens_and_the_asked_side),
        cmocka_unit_test(parameters_of_a_request_apply_to_it_alone),
        cmocka_unit_test(a_task_that_the_head_cannot_serve_is_refused),
        cmocka_unit_test(a_score_of_an_embedding_model_is_the_cosine),
        cmocka_unit_test(the_last_row_alone_is_the_same_to_the_bit),
        cmocka_unit_test(closing_finishes_what_was_accepted_once),
        cmocka_unit_test(a_ticket_that_nobody_waits_for_is_released),
        cmocka_unit_test(a_request_that_names_nothing_is_refused),
        cmocka_unit_test(a_request_of_another_version_is_taken_or_refused),
        cmocka_unit_test(limits_beyond_the_model_are_refused_at_start),
        cmocka_unit_test(the_description_names_the_sources),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
