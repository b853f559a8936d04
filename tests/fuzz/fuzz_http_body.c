/* Any bytes as the body of any POST route, and, where they are taken, any results: the answer is
 * JSON, 200 or an error object. The first byte chooses the route, the second the settings and
 * results. */
#include "tests/unit/server/fakes/fake_model_service.h"

#include "runtime/base/json.h"

#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(int ok)
{
    if (!ok) abort();
}

/* The i-th POST route with a body. */
static const char *route_path(pr_http_exchange *x, size_t which)
{
    size_t n_labels, n_posts = 0;
    const char *const *labels = pr_http_route_labels(&n_labels);
    const char *posts[64];
    x->method = "POST";
    for (size_t i = 0; i + 1 < n_labels; i++) {
        x->path = labels[i];
        if (pr_http_exchange_route(x)) {
            if (pr_http_route_has_call(x->route)) posts[n_posts++] = labels[i];
        } else {
            x->answer.n_headers = 0;
            x->answer.status = 0;
            pr_buffer_clear(&x->answer.body);
        }
    }
    return posts[which % n_posts];
}

static pr_result *result_make(const pr_request *r, unsigned seed, size_t i)
{
    unsigned kind = (seed + (unsigned)i) % 8;
    bool may_have_rows = r->task == PR_TASK_REWARD || r->task == PR_TASK_AUTO;
    check(!!r->text != !!r->tokens);
    if (kind == 7) return fake_failure((pr_status)(1 + seed % (PR_STATUS_COUNT - 1)), "b\xff\"d");
    if (r->tokenize_only) return fake_tokens(kind);
    if (may_have_rows) return fake_result(kind, 2, true, (float)kind);
    return fake_result(1, 1 + kind, false, (float)kind);
}

/* An answer is whole JSON; an error has its message and code. */
static void answer_check(const pr_http_exchange *x)
{
    json_t *json = NULL;
    check(x->answer.status >= 200 && x->answer.status < 600);
    check(pr_json_parse(x->answer.body.data, x->answer.body.n, "answer", &json, NULL) == PR_OK);
    if (x->answer.status != 200) {
        const json_t *error = json_object_get(json, "error");
        check(json_string_length(json_object_get(error, "message")) > 0);
        check(json_integer_value(json_object_get(error, "code")) == x->answer.status);
    }
    json_decref(json);
}

static void exchange_run(pr_http_exchange *x, unsigned seed)
{
    if (!pr_http_exchange_parse(x)) {
        check(x->answer.status >= 400);
        answer_check(x);
        return;
    }
    check(x->answer.status == 0);
    check(x->call.n_items <= (size_t)pr_service_settings(x->service)->max_client_batch_size);
    fake_results(x);
    for (size_t i = 0; i < x->call.n_items; i++) {
        x->call.results[i] = result_make(&x->call.items[i], seed, i);
    }
    if (seed % 16 == 15) pr_error_set(&x->call.error, PR_E_TIMEOUT, "too late");
    pr_http_exchange_format(x);
    answer_check(x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 2) return 0;
    unsigned seed = data[1];
    pr_service service;
    pr_http_exchange x;
    fake_service_init(&service, seed & 1 ? PR_POOL_STEP : PR_POOL_ALL);
    service.config.allow_token_input = seed & 2;
    pr_http_exchange_init(&x, &service, NULL);
    snprintf(x.call.id, sizeof x.call.id, "id");
    x.path = route_path(&x, data[0]);
    check(pr_http_exchange_route(&x));
    x.body = (const char *)data + 2;
    x.n_body = n - 2;
    exchange_run(&x, seed);
    pr_http_exchange_deinit(&x);
    fake_service_deinit(&service);
    return 0;
}
