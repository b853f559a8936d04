#include "runtime/text/template/functions.h"

#include "runtime/text/template/filters.h"
#include "runtime/text/template/globals.h"
#include "runtime/text/template/render.h"
#include "runtime/text/template/tests.h"
#include "runtime/text/template/value_text.h"

#include <stdio.h>
#include <string.h>

static uint32_t find(const pr_function *table, size_t n, pr_value name)
{
    if (name.kind != PR_V_STR) return PR_FUNCTION_NONE;
    for (size_t i = 0; i < n; i++) {
        if (pr_value_named(name, table[i].name)) {
            return table[i].bound || table[i].raw ? (uint32_t)i : PR_FUNCTION_REFUSED;
        }
    }
    return PR_FUNCTION_NONE;
}

uint32_t pr_filter_find(pr_value name)
{
    return find(pr_filters, pr_n_filters, name);
}

uint32_t pr_test_find(pr_value name)
{
    return find(pr_tests, pr_n_tests, name);
}

bool pr_global_find(pr_value name, pr_value *out)
{
    uint32_t i = find(pr_globals, pr_n_globals, name);
    if (i == PR_FUNCTION_NONE) return false;
    *out = (pr_value){.kind = PR_V_GLOBAL, .u.global = i};
    return true;
}

static size_t count_params(const pr_function *f)
{
    size_t n = 0;
    while (n < PR_PARAMS_MAX && f->params[n]) n++;
    return n;
}

/* "1 positional argument", "from 1 to 3 positional arguments". */
static bool raise_too_many(pr_render *r, const pr_function *f, size_t self, size_t n_max, size_t n)
{
    size_t n_min = f->n_required;
    char takes[64];
    switch (f->style) {
    case PR_STYLE_NO_ARGS:
        return pr_raise(r, PR_EXC_TYPE, "%s() takes no arguments (%zu given)", f->python, n - self);
    case PR_STYLE_ONE:
        return pr_raise(r, PR_EXC_TYPE, "%s() takes exactly one argument (%zu given)", f->python,
                        n - self);
    case PR_STYLE_KEYWORDS:
        n_max -= self;
        return pr_raise(r, PR_EXC_TYPE, "%s() takes at most %zu argument%s (%zu given)", f->python,
                        n_max, n_max == 1 ? "" : "s", n - self);
    case PR_STYLE_C:
        n_max -= self;
        return pr_raise(r, PR_EXC_TYPE, "%s expected at most %zu argument%s, got %zu", f->python,
                        n_max, n_max == 1 ? "" : "s", n - self);
    default:
        break;
    }
    if (n_min == n_max)
        snprintf(takes, sizeof takes, "%zu positional argument%s", n_max, n_max == 1 ? "" : "s");
    else
        snprintf(takes, sizeof takes, "from %zu to %zu positional arguments", n_min, n_max);
    return pr_raise(r, PR_EXC_TYPE, "%s() takes %s but %zu were given", f->python, takes, n);
}

/* The names of the parameters from the first missing one on, as Python lists them. */
static bool raise_missing(pr_render *r, const pr_function *f, size_t self, const pr_value *argv)
{
    size_t missing[PR_PARAMS_MAX], n = 0, given = 0;
    char names[160];
    for (size_t i = 0; i < f->n_required; i++) {
        if (argv[i].kind == PR_V_MISSING) missing[n++] = i;
    }
    for (size_t i = self; i < PR_PARAMS_MAX; i++) given += argv[i].kind != PR_V_MISSING;
    switch (f->style) {
    case PR_STYLE_ONE:
        return pr_raise(r, PR_EXC_TYPE, "%s() takes exactly one argument (%zu given)", f->python,
                        given);
    case PR_STYLE_C:
        return pr_raise(r, PR_EXC_TYPE, "%s expected at least %zu argument%s, got %zu", f->python,
                        f->n_required - self, f->n_required - self == 1 ? "" : "s", given);
    case PR_STYLE_KEYWORDS:
        return pr_raise(r, PR_EXC_TYPE, "%s() takes at least %zu argument%s (%zu given)", f->python,
                        f->n_required - self, f->n_required - self == 1 ? "" : "s", given);
    default:
        break;
    }
    size_t at = 0;
    for (size_t i = 0; i < n && at < sizeof names; i++) {
        const char *between = i == 0 ? "" : i + 1 < n ? ", " : n == 2 ? " and " : ", and ";
        at += (size_t)snprintf(names + at, sizeof names - at, "%s'%s'", between,
                               f->params[missing[i]]);
    }
    return pr_raise(r, PR_EXC_TYPE, "%s() missing %zu required positional argument%s: %s",
                    f->python, n, n == 1 ? "" : "s", names);
}

static bool bind_keyword(pr_render *r, const pr_function *f, size_t self, const pr_pair *keyword,
                         pr_value *argv)
{
    pr_value name = keyword->key;
    for (size_t i = self; i < PR_PARAMS_MAX && f->params[i]; i++) {
        if (strlen(f->params[i]) != name.n || memcmp(f->params[i], name.u.s, name.n) != 0) continue;
        if (argv[i].kind != PR_V_MISSING) {
            return pr_raise(r, PR_EXC_TYPE, "%s() got multiple values for argument '%s'", f->python,
                            f->params[i]);
        }
        argv[i] = keyword->value;
        return true;
    }
    if (f->style == PR_STYLE_KEYWORDS) {
        return pr_raise(r, PR_EXC_TYPE, "'%.*s' is an invalid keyword argument for %s()",
                        (int)name.n, name.u.s, f->python);
    }
    return pr_raise(r, PR_EXC_TYPE, "%s() got an unexpected keyword argument '%.*s'", f->python,
                    (int)name.n, name.u.s);
}

bool pr_function_call(pr_render *r, const pr_function *f, pr_value self, const pr_actual *args,
                      pr_value *out)
{
    if (!pr_render_step(r)) return false;
    if (f->raw) return f->raw(r, self, args, out);
    if (!f->bound) return pr_raise(r, PR_EXC_UNSUPPORTED, "the function '%s'", f->name);
    if (args->n + args->n_keywords == 0 && f->n_required == 1 && self.kind != PR_V_MISSING) {
        pr_value alone[PR_PARAMS_MAX] = {self};
        return f->bound(r, alone, out);
    }
    size_t n_self = self.kind != PR_V_MISSING;
    size_t n_max = count_params(f), n = n_self + args->n;
    pr_value argv[PR_PARAMS_MAX] = {self};
    bool keywords = f->style == PR_STYLE_PYTHON || f->style == PR_STYLE_KEYWORDS;
    if (args->n_keywords && !keywords) {
        return pr_raise(r, PR_EXC_TYPE, "%s%s() takes no keyword arguments",
                        f->style == PR_STYLE_C ? "str." : "", f->python);
    }
    if (n > n_max) return raise_too_many(r, f, n_self, n_max, n);
    for (size_t i = 0; i < args->n; i++) argv[n_self + i] = args->items[i];
    for (size_t i = 0; i < args->n_keywords; i++) {
        if (!bind_keyword(r, f, n_self, &args->keywords[i], argv)) return false;
    }
    for (size_t i = n_self; i < f->n_required; i++) {
        if (argv[i].kind == PR_V_MISSING) return raise_missing(r, f, n_self, argv);
    }
    return f->bound(r, argv, out);
}

bool pr_filter_call(pr_render *r, uint32_t i, pr_value value, const pr_actual *args, pr_value *out)
{
    return pr_function_call(r, &pr_filters[i], value, args, out);
}

bool pr_test_call(pr_render *r, uint32_t i, pr_value value, const pr_actual *args, bool *out)
{
    pr_value v;
    if (!pr_function_call(r, &pr_tests[i], value, args, &v)) return false;
    *out = pr_value_truth(v);
    return true;
}

bool pr_global_call(pr_render *r, uint32_t i, const pr_actual *args, pr_value *out)
{
    return pr_function_call(r, &pr_globals[i], (pr_value){0}, args, out);
}

/* "No filter named 'x'."; an undefined name says why it may be one. */
static bool raise_unknown(pr_render *r, pr_value name, const char *what)
{
    char fmt[256];
    if (name.kind != PR_V_UNDEFINED) {
        snprintf(fmt, sizeof fmt, "No %s named %%s.", what);
        return pr_raise_repr(r, PR_EXC_RUNTIME, fmt, name);
    }
    pr_raise_undefined(r, name);
    char why[128];
    snprintf(why, sizeof why, "%.*s", (int)r->message.n, r->message.data);
    return pr_raise(r, PR_EXC_RUNTIME,
                    "No %s named Undefined. (%s; did you forget to quote the callable name?)", what,
                    why);
}

bool pr_filter_call_named(pr_render *r, pr_value name, pr_value value, const pr_actual *args,
                          pr_value *out)
{
    if (!pr_value_hashable(name)) {
        return pr_raise(r, PR_EXC_TYPE, "unhashable type: '%s'", pr_value_type(name));
    }
    uint32_t i = pr_filter_find(name);
    if (i == PR_FUNCTION_NONE) return raise_unknown(r, name, "filter");
    if (i == PR_FUNCTION_REFUSED)
        return pr_raise_repr(r, PR_EXC_UNSUPPORTED, "the filter %s", name);
    return pr_filter_call(r, i, value, args, out);
}

bool pr_test_call_named(pr_render *r, pr_value name, pr_value value, const pr_actual *args,
                        bool *out)
{
    if (!pr_value_hashable(name)) {
        return pr_raise(r, PR_EXC_TYPE, "unhashable type: '%s'", pr_value_type(name));
    }
    uint32_t i = pr_test_find(name);
    if (i == PR_FUNCTION_NONE) return raise_unknown(r, name, "test");
    return pr_test_call(r, i, value, args, out);
}

bool pr_arg_int(pr_render *r, pr_value v, int64_t absent, int64_t *out)
{
    if (v.kind == PR_V_MISSING) {
        *out = absent;
        return true;
    }
    if (pr_value_is_integral(v)) {
        *out = pr_value_as_int(v);
        return true;
    }
    return pr_raise(r, PR_EXC_TYPE, "'%s' object cannot be interpreted as an integer",
                    pr_value_type(v));
}

bool pr_arg_truth(pr_value v, bool absent)
{
    return v.kind == PR_V_MISSING ? absent : pr_value_truth(v);
}
