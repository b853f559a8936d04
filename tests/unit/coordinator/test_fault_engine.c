/* The engine and what lies under it with any one allocation failing: PR_E_NOMEM, and nothing is
 * leaked (the sanitizer build judges that). Allocations of jansson and PCRE2 are not seen. */
#include "coordinator/engine/engine.h"
#include "coordinator/engine/engine_inspect.h"
#include "coordinator/options/config_build.h"
#include "coordinator/options/options.h"
#include "coordinator/model/prepare.h"
#include "tests/unit/fault_alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MODEL PR_TESTS_DIR "/parity/models/bert-st-dense"

static pr_status options_to_config(void *context)
{
    pr_config *out = context;
    pr_config config = {0};
    pr_options *o = pr_options_create();
    if (!o) return PR_E_NOMEM;
    pr_status st = pr_options_set(o, "model", MODEL, NULL);
    if (st == PR_OK) st = pr_options_set(o, "threads", "2", NULL);
    if (st == PR_OK) st = pr_config_build(o, &config, NULL);
    pr_options_free(o);
    if (st != PR_OK || !out) {
        pr_config_deinit(&config);
        return st;
    }
    *out = config;
    return PR_OK;
}

static void options_survive_any_failing_allocation(void **state)
{
    (void)state;
    pr_status wrong = PR_OK;
    long n = fault_every_allocation(options_to_config, NULL, &wrong);
    if (n < 5) fail_msg("%ld allocations, status %d", n, (int)wrong);
}

typedef struct prepare_context {
    pr_model *model;
    pr_request request;
} prepare_context;

static pr_status prepare(void *context)
{
    prepare_context *c = context;
    const pr_prepare_defaults defaults = {.add_special_tokens = true};
    pr_prepared prepared = {0};
    pr_status st = pr_prepare(c->model, &defaults, &c->request, &prepared, NULL);
    pr_prepared_deinit(&prepared);
    return st;
}

static void preparing_a_request_survives_any_failing_allocation(void **state)
{
    (void)state;
    pr_config config;
    pr_error err;
    prepare_context c = {0};
    assert_int_equal(options_to_config(&config), PR_OK);
    if (pr_model_open(&config, &c.model, &err) != PR_OK) fail_msg("%s", err.message);
    pr_config_deinit(&config);
    static const int32_t tokens[] = {5, 6, 7};
    for (int kind = 0; kind < 3; kind++) {
        pr_request_init(&c.request);
        c.request.text = kind == 2 ? NULL : "a text of words";
        c.request.n_text = kind == 2 ? 0 : 15;
        c.request.dimensions = kind == 0 ? 4 : 0;
        if (kind == 1) {
            c.request.task = PR_TASK_SCORE;
            c.request.text_pair = "another";
            c.request.n_text_pair = 7;
        }
        if (kind == 2) {
            c.request.tokens = tokens;
            c.request.n_tokens = 3;
        }
        pr_status wrong = PR_OK;
        long n = fault_every_allocation(prepare, &c, &wrong);
        if (n < 2) fail_msg("kind %d: %ld allocations, status %d", kind, n, (int)wrong);
    }
    pr_model_close(c.model);
}

static pr_status whole_run(const pr_config *config)
{
    pr_engine *engine = NULL;
    pr_ticket *ticket = NULL;
    pr_result *result = NULL;
    pr_status st = pr_engine_open_config(config, &engine, NULL);
    pr_request request;
    pr_request_init(&request);
    request.text = "a text";
    request.n_text = 6;
    if (st == PR_OK) st = pr_engine_submit(engine, &request, &ticket, NULL);
    if (st == PR_OK) st = pr_engine_wait(engine, ticket, &result, NULL);
    if (st == PR_OK) st = result->status;
    pr_result_free(result);
    pr_engine_close(engine);
    return st;
}

/* There are thousands of allocations, most of them alike: the first ones, then samples. Some are
 * for words of a message that nobody reads: such a run may succeed. */
static void an_engine_survives_a_failing_allocation(void **state)
{
    (void)state;
    pr_config config;
    assert_int_equal(options_to_config(&config), PR_OK);
    bool has_failed = true;
    long n, n_failed = 0;
    for (n = 0; has_failed; n += n < 300 ? 1 : 1 + n / 64) {
        fault.has_failed = false;
        fault.n_left = n;
        pr_status st = whole_run(&config);
        fault.n_left = -1;
        has_failed = fault.has_failed;
        bool ok = st == PR_OK || (has_failed && st == PR_E_NOMEM);
        if (!ok) fail_msg("allocation %ld: status %d", n, (int)st);
        n_failed += st != PR_OK;
    }
    assert_true(n > 100);
    assert_true(n_failed > 50);
    pr_config_deinit(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_survive_any_failing_allocation),
        cmocka_unit_test(preparing_a_request_survives_any_failing_allocation),
        cmocka_unit_test(an_engine_survives_a_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
