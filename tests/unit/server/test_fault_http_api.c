/* The routes with any one allocation failing: the answer is 500, and nothing is leaked. */
#include "fakes/fake_model_service.h"
#include "tests/unit/fault_alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

typedef struct asked {
    pr_service service;
    const char *path, *body;
} asked;

/* Results are not the routes': their memory is always there. */
static void results_make(pr_http_exchange *x)
{
    long n_left = fault.n_left;
    fault.n_left = -1;
    fake_results(x);
    for (size_t i = 0; i < x->call.n_items; i++) {
        const pr_request *r = &x->call.items[i];
        bool is_bad = x->call.n_items > 1 && i == 1 && strstr(x->body, "per_item");
        x->call.results[i] = is_bad             ? fake_failure(PR_E_TOO_LONG, "too long")
                             : r->tokenize_only ? fake_tokens(3)
                                                : fake_result(1, 700, false, 1);
    }
    fault.n_left = n_left;
}

static pr_status ask(void *context)
{
    asked *a = context;
    pr_http_exchange x;
    pr_http_exchange_init(&x, &a->service, NULL);
    strcpy(x.call.id, "id");
    x.method = "POST";
    x.path = a->path;
    x.body = a->body;
    x.n_body = strlen(a->body);
    if (pr_http_exchange_route(&x) && pr_http_exchange_parse(&x)) {
        results_make(&x);
        pr_http_exchange_format(&x);
    }
    int status = x.answer.status;
    pr_http_exchange_deinit(&x);
    return status == 200 ? PR_OK : status == 500 ? PR_E_NOMEM : PR_E_INTERNAL;
}

static void every_route_survives_any_failing_allocation(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"/v1/embeddings", "{\"input\":[\"a\",\"b\"],\"on_error\":\"per_item\"}"},
        {"/v1/embeddings", "{\"input\":[[1,2],[3]],\"encoding_format\":\"base64\"}"},
        {"/v1/embeddings", "{\"input\":[1,2]}"},
        {"/pooling", "{\"input\":\"a\",\"returned_token_ids\":[1,2]}"},
        {"/classify", "{\"input\":\"a\"}"},
        {"/score", "{\"text_1\":\"a\",\"text_2\":[\"b\",\"c\"]}"},
        {"/rerank", "{\"query\":\"a\",\"documents\":[\"b\",\"c\"],\"on_error\":\"per_item\"}"},
        {"/rerank", "{\"query\":\"a\",\"texts\":[\"b\",\"c\"],\"return_text\":true}"},
        {"/get_reward", "{\"query\":[\"b\",\"c\"],\"on_error\":\"per_item\"}"},
        {"/tokenize", "{\"prompt\":\"a\",\"return_token_strs\":true}"},
        {"/detokenize", "{\"tokens\":[1,2,3]}"},
        {"/embed", "{\"inputs\":[\"a\"]}"},
        {"/v2/embed", "{\"texts\":[\"a\"],\"embedding_types\":[\"float\",\"base64\"]}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        asked a = {.path = cases[i][0], .body = cases[i][1]};
        fake_service_init(&a.service, PR_POOL_LAST);
        a.service.config.allow_token_input = true;
        pr_status wrong = PR_OK;
        long n = fault_every_allocation(ask, &a, &wrong);
        if (n < 2) fail_msg("%s %s: %ld allocations, %d", a.path, a.body, n, (int)wrong);
        fake_service_deinit(&a.service);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_route_survives_any_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
