/* tests/tools/render_template.c: renders chat templates for the comparison with jinja2
 * (tests/parity/templates/compare.py) and for timing (tests/bench/templates.py).
 *
 *     render_template < jobs > answers
 *
 * jobs:    a line of JSON each: {"template": "…", "now_us": 0, "cases": [{name: value, …}, …]};
 *          with "repeat": N each case is rendered N times, and the answer says how long one took.
 * answers: a line each: {"cases": [{"text": "…"} or {"kind": "…", "message": "…", "line": n}, …]},
 *          or {"kind": …} when the template does not parse; with repeat "ns" beside "text". */
#include "runtime/text/template/template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static json_t *failure_json(const pr_template_failure *f)
{
    json_t *o = json_object();
    json_object_set_new(o, "kind", json_string(f->kind));
    json_object_set_new(o, "message",
                        json_stringn(f->message.n ? f->message.data : "", f->message.n));
    json_object_set_new(o, "line", json_integer(f->line));
    return o;
}

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

static json_t *render(const pr_template *t, json_t *variables, int64_t now_us, int64_t repeat)
{
    size_t n = json_object_size(variables), i = 0;
    pr_template_variable *list = calloc(n ? n : 1, sizeof *list);
    const char *name = NULL;
    json_t *value = NULL, *answer = NULL;
    if (!list) abort();
    json_object_foreach(variables, name, value)
    {
        list[i++] = (pr_template_variable){.name = name, .value = value};
    }
    pr_template_input input = {.variables = list, .n_variables = n, .now_us = now_us};
    pr_template_failure failure;
    pr_template_failure_init(&failure);
    pr_buffer out;
    pr_buffer_init(&out);
    double begin = now_ns();
    pr_status st = PR_OK;
    for (int64_t k = 0; k < repeat && st == PR_OK; k++) {
        pr_buffer_clear(&out);
        st = pr_template_render(t, &input, &out, &failure, NULL);
    }
    double ns = (now_ns() - begin) / (double)repeat;
    if (st != PR_OK) {
        answer = failure_json(&failure);
    } else {
        answer = json_object();
        json_object_set_new(answer, "text", json_stringn(out.n ? out.data : "", out.n));
        if (repeat > 1) json_object_set_new(answer, "ns", json_real(ns));
    }
    pr_template_failure_deinit(&failure);
    pr_buffer_deinit(&out);
    free(list);
    return answer;
}

static json_t *run(const json_t *job)
{
    const json_t *source = json_object_get(job, "template"), *cases = json_object_get(job, "cases");
    const json_t *repeat = json_object_get(job, "repeat");
    int64_t now_us = json_integer_value(json_object_get(job, "now_us"));
    pr_template *t = NULL;
    pr_template_failure failure;
    pr_template_failure_init(&failure);
    json_t *answer = NULL;
    if (pr_template_parse(json_string_value(source), json_string_length(source), &t, &failure,
                          NULL) != PR_OK) {
        answer = failure_json(&failure);
    } else {
        json_t *answers = json_array();
        for (size_t i = 0; i < json_array_size(cases); i++) {
            json_array_append_new(answers, render(t, json_array_get(cases, i), now_us,
                                                  repeat ? json_integer_value(repeat) : 1));
        }
        answer = json_object();
        json_object_set_new(answer, "cases", answers);
    }
    pr_template_failure_deinit(&failure);
    pr_template_free(t);
    return answer;
}

int main(void)
{
    char *line = NULL;
    size_t n_max = 0;
    ssize_t n = 0;
    while ((n = getline(&line, &n_max, stdin)) > 0) {
        json_t *job = NULL;
        pr_error err = {0};
        if (pr_json_parse(line, (size_t)n, "job", &job, &err) != PR_OK) {
            fprintf(stderr, "render_template: %s\n", err.message);
            free(line);
            return 1;
        }
        json_t *answer = run(job);
        json_dumpf(answer, stdout, JSON_COMPACT);
        putchar('\n');
        fflush(stdout);
        json_decref(answer);
        json_decref(job);
    }
    free(line);
    return 0;
}
