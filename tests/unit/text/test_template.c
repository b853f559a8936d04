/* Chat templates against what jinja2 rendered (tests/parity/templates/golden.json), their bounds,
 * and one template in many threads. */
#include "runtime/text/template/template.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { VARIABLES_MAX = 32, THREADS = 4, ROUNDS = 200 };

typedef struct golden {
    json_t *root;
    pr_template_variable variables[VARIABLES_MAX];
    pr_template_input input;
} golden;

static void golden_load(golden *g)
{
    pr_error err = {0};
    memset(g, 0, sizeof *g);
    pr_status st =
        pr_json_load(PR_TESTS_DIR "/parity/templates/golden.json", 1 << 20, &g->root, &err);
    if (st != PR_OK) fail_msg("%s", err.message);
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(json_object_get(g->root, "variables"), name, value)
    {
        assert_true(g->input.n_variables < VARIABLES_MAX);
        g->variables[g->input.n_variables++] = (pr_template_variable){name, value};
    }
    g->input.variables = g->variables;
    g->input.now_us = json_integer_value(json_object_get(g->root, "now_us"));
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static void check_failure(const json_t *wanted, const pr_template_failure *f)
{
    json_int_t line = json_integer_value(json_object_get(wanted, "line"));
    bool same = strcmp(text_of(wanted, "kind"), f->kind) == 0 &&
                strlen(text_of(wanted, "message")) == f->message.n &&
                memcmp(text_of(wanted, "message"), f->message.n ? f->message.data : "",
                       f->message.n) == 0 &&
                (line == 0 || line == f->line);
    if (!same) {
        fail_msg("%s\nfound line %u: %s: %.*s\nexpected line %d: %s: %s",
                 text_of(wanted, "template"), f->line, f->kind, (int)f->message.n,
                 f->message.n ? f->message.data : "", (int)line, text_of(wanted, "kind"),
                 text_of(wanted, "message"));
    }
}

static void check_case(const json_t *wanted, const pr_template_input *input)
{
    const json_t *source = json_object_get(wanted, "template");
    const json_t *text = json_object_get(wanted, "text");
    pr_template *t = NULL;
    pr_template_failure f;
    pr_template_failure_init(&f);
    pr_buffer out;
    pr_buffer_init(&out);
    pr_error err = {0};
    pr_status st =
        pr_template_parse(json_string_value(source), json_string_length(source), &t, &f, &err);
    if (st == PR_OK) st = pr_template_render(t, input, &out, &f, &err);
    if (!text) {
        assert_int_not_equal(st, PR_OK);
        assert_int_equal(out.n, 0);
        check_failure(wanted, &f);
    } else {
        if (st != PR_OK) fail_msg("%s\n%s", json_string_value(source), err.message);
        if (out.n != json_string_length(text) ||
            memcmp(out.data ? out.data : "", json_string_value(text), out.n) != 0) {
            fail_msg("%s\nfound    %.*s\nexpected %s", json_string_value(source), (int)out.n,
                     out.data ? out.data : "", json_string_value(text));
        }
    }
    pr_buffer_deinit(&out);
    pr_template_failure_deinit(&f);
    pr_template_free(t);
}

static void templates_render_as_jinja2_renders_them(void **state)
{
    (void)state;
    golden g;
    golden_load(&g);
    const json_t *cases = json_object_get(g.root, "cases");
    assert_true(json_array_size(cases) > 90);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        check_case(json_array_get(cases, i), &g.input);
    }
    json_decref(g.root);
}

static void raise_exception_reaches_the_caller_as_it_is(void **state)
{
    (void)state;
    static const char source[] = "\n{{ raise_exception('Roles must alternate') }}";
    pr_template *t = NULL;
    pr_error err = {0};
    pr_buffer out;
    pr_buffer_init(&out);
    pr_template_input input = {0};
    assert_int_equal(pr_template_parse(source, sizeof source - 1, &t, NULL, &err), PR_OK);
    assert_int_equal(pr_template_render(t, &input, &out, NULL, &err), PR_E_INPUT);
    assert_string_equal(err.message, "Roles must alternate");
    pr_template_free(t);
    pr_buffer_deinit(&out);
}

static pr_status render_bounded(const char *source, pr_template_limits limits, pr_error *err)
{
    pr_template *t = NULL;
    pr_buffer out;
    pr_buffer_init(&out);
    pr_template_input input = {.limits = &limits};
    pr_status st = pr_template_parse(source, strlen(source), &t, NULL, err);
    if (st == PR_OK) st = pr_template_render(t, &input, &out, NULL, err);
    pr_template_free(t);
    pr_buffer_deinit(&out);
    return st;
}

static void work_is_bounded(void **state)
{
    (void)state;
    static const struct {
        const char *source, *message;
        pr_template_limits limits;
    } cases[] = {
        {"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
         "more than 1000 steps",
         {.n_steps = 1000}},
        {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
         "maximum recursion depth",
         {.n_depth = 100}},
        {"{% for a in range(100) %}0123456789{% endfor %}",
         "more than 500 bytes",
         {.output_bytes = 500}},
        {"{{ 'x' * 1000000 }}", "bytes of memory", {.memory_bytes = 100000}},
        {"{{ [1] * 1000000 }}", "bytes of memory", {.memory_bytes = 100000}},
        {"{{ ('x' * 50000).replace('', 'x' * 50000) }}",
         "bytes of memory",
         {.memory_bytes = 10000000}},
        {"{{ '%99999999d' % 1 }}", "width of more than", {0}},
        {"{{ 2 ** 64 }}", "more than 64 bits", {0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_template_limits limits = pr_template_limits_default(), own = cases[i].limits;
        if (own.n_steps) limits.n_steps = own.n_steps;
        if (own.n_depth) limits.n_depth = own.n_depth;
        if (own.output_bytes) limits.output_bytes = own.output_bytes;
        if (own.memory_bytes) limits.memory_bytes = own.memory_bytes;
        pr_error err = {0};
        assert_int_equal(render_bounded(cases[i].source, limits, &err), PR_E_INPUT);
        if (!strstr(err.message, cases[i].message)) fail_msg("%s", err.message);
    }
}

static void a_source_nested_too_deep_is_refused(void **state)
{
    (void)state;
    static const char *const units[] = {"(", "[", "-", "not ", "{% if 1 %}"};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        pr_buffer b;
        pr_buffer_init(&b);
        pr_template *t = NULL;
        pr_error err = {0};
        bool statement = units[i][0] == '{';
        if (!statement) pr_buffer_append_str(&b, "{{ ");
        for (int k = 0; k < 5000; k++) pr_buffer_append_str(&b, units[i]);
        assert_int_equal(pr_template_parse(b.data, b.n, &t, NULL, &err), PR_E_MODEL);
        if (!strstr(err.message, "deeper than 200")) fail_msg("%s", err.message);
        pr_buffer_deinit(&b);
    }
}

typedef struct worker {
    const pr_template *t;
    const pr_template_input *input;
    bool ok;
} worker;

static void *work(void *context)
{
    worker *w = context;
    w->ok = true;
    for (int i = 0; i < ROUNDS && w->ok; i++) {
        pr_buffer out;
        pr_buffer_init(&out);
        w->ok = pr_template_render(w->t, w->input, &out, NULL, NULL) == PR_OK && out.n == 27 &&
                memcmp(out.data, "system;user;assistant;True2", 27) == 0;
        pr_buffer_deinit(&out);
    }
    return NULL;
}

static void threads_share_a_template(void **state)
{
    (void)state;
    static const char source[] = "{% set ns = namespace(n=0) %}{% for m in messages %}{{ m.role }};"
                                 "{% set ns.n = loop.index0 %}{% endfor %}{{ t }}{{ ns.n }}";
    golden g;
    golden_load(&g);
    pr_template *t = NULL;
    pr_error err = {0};
    assert_int_equal(pr_template_parse(source, sizeof source - 1, &t, NULL, &err), PR_OK);
    pthread_t threads[THREADS];
    worker workers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (worker){.t = t, .input = &g.input};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(workers[i].ok);
    }
    pr_template_free(t);
    json_decref(g.root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(templates_render_as_jinja2_renders_them),
        cmocka_unit_test(raise_exception_reaches_the_caller_as_it_is),
        cmocka_unit_test(work_is_bounded),
        cmocka_unit_test(a_source_nested_too_deep_is_refused),
        cmocka_unit_test(threads_share_a_template),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
