#include "runtime/text/template/globals.h"

#include "runtime/base/number.h"
#include "runtime/text/template/iterate.h"
#include "runtime/text/template/render.h"
#include "runtime/text/template/value_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RANGE_MAX = 100000, TIME_TEXT_BYTES = 4096 };

static bool global_range(pr_render *r, pr_value self, const pr_actual *args, pr_value *out)
{
    (void)self;
    int64_t v[3] = {0, 0, 1};
    if (args->n_keywords) return pr_raise(r, PR_EXC_TYPE, "range() takes no keyword arguments");
    if (args->n == 0 || args->n > 3) {
        return pr_raise(r, PR_EXC_TYPE, "range expected at %s %d argument%s, got %zu",
                        args->n ? "most" : "least", args->n ? 3 : 1, args->n ? "s" : "", args->n);
    }
    for (size_t i = 0; i < args->n; i++) {
        if (args->items[i].kind == PR_V_UNDEFINED) {
            return pr_raise(r, PR_EXC_TYPE,
                            "'Undefined' object cannot be interpreted as an integer");
        }
        if (!pr_arg_int(r, args->items[i], 0, &v[args->n == 1 ? 1 : i])) return false;
    }
    if (v[2] == 0) return pr_raise(r, PR_EXC_VALUE, "range() arg 3 must not be zero");
    bool none = v[2] > 0 ? v[0] >= v[1] : v[0] <= v[1];
    uint64_t span = none       ? 0
                    : v[2] > 0 ? (uint64_t)v[1] - (uint64_t)v[0]
                               : (uint64_t)v[0] - (uint64_t)v[1];
    uint64_t step = v[2] > 0 ? (uint64_t)v[2] : (uint64_t)0 - (uint64_t)v[2];
    uint64_t n = none ? 0 : (span - 1) / step + 1;
    if (n > RANGE_MAX) {
        return pr_raise(r, PR_EXC_OVERFLOW,
                        "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).",
                        RANGE_MAX);
    }
    pr_range *range = pr_render_alloc(r, sizeof *range);
    if (!range) return false;
    *range = (pr_range){.start = v[0], .stop = v[1], .step = v[2], .n = (size_t)n};
    *out = (pr_value){.kind = PR_V_RANGE, .u.range = range};
    return true;
}

static bool dict_add_pair(pr_render *r, pr_dict *d, pr_value pair, size_t i)
{
    pr_value items;
    if (!pr_value_iterable(pair)) {
        return pr_raise(r, PR_EXC_TYPE,
                        "cannot convert dictionary update sequence element #%zu to a sequence", i);
    }
    if (!pr_iter_list(r, pair, PR_V_LIST, &items)) return false;
    if (items.u.list->n != 2) {
        return pr_raise(r, PR_EXC_VALUE,
                        "dictionary update sequence element #%zu has length %zu; 2 is required", i,
                        items.u.list->n);
    }
    return pr_dict_put(r, d, items.u.list->items[0], items.u.list->items[1]);
}

/* dict(…): of a mapping or of pairs, and keywords. */
static bool global_dict(pr_render *r, pr_value self, const pr_actual *args, pr_value *out)
{
    (void)self;
    pr_value from = {0}, items;
    if (args->n > 1) {
        return pr_raise(r, PR_EXC_TYPE, "dict expected at most 1 argument, got %zu", args->n);
    }
    if (args->n) from = args->items[0];
    if (!pr_value_dict(r, args->n_keywords + (from.kind == PR_V_DICT ? from.u.dict->n : 0), out)) {
        return false;
    }
    if (from.kind == PR_V_DICT) {
        for (size_t i = 0; i < from.u.dict->n; i++) {
            const pr_pair *pair = &from.u.dict->pairs[i];
            if (!pr_dict_put(r, out->u.dict, pair->key, pair->value)) return false;
        }
    } else if (args->n) {
        if (!pr_iter_list(r, from, PR_V_LIST, &items)) return false;
        for (size_t i = 0; i < items.u.list->n; i++) {
            if (!dict_add_pair(r, out->u.dict, items.u.list->items[i], i)) return false;
        }
    }
    for (size_t i = 0; i < args->n_keywords; i++) {
        const pr_pair *pair = &args->keywords[i];
        if (!pr_dict_put(r, out->u.dict, pair->key, pair->value)) return false;
    }
    return true;
}

static bool global_namespace(pr_render *r, pr_value self, const pr_actual *args, pr_value *out)
{
    if (!global_dict(r, self, args, out)) return false;
    out->kind = PR_V_NAMESPACE;
    return true;
}

static bool global_cycler(pr_render *r, pr_value self, const pr_actual *args, pr_value *out)
{
    (void)self;
    pr_value items;
    if (args->n == 0) return pr_raise(r, PR_EXC_RUNTIME, "at least one item has to be provided");
    pr_cycler *c = pr_render_alloc(r, sizeof *c);
    if (!c || !pr_value_list(r, PR_V_TUPLE, args->items, args->n, &items)) return false;
    *c = (pr_cycler){.items = items.u.list->items, .n = args->n};
    *out = (pr_value){.kind = PR_V_CYCLER, .u.cycler = c};
    return true;
}

/* A joiner's state: whether it was called, and its text. */
typedef struct joiner {
    bool used;
    pr_value text;
} joiner;

static bool global_joiner(pr_render *r, const pr_value *argv, pr_value *out)
{
    joiner *j = pr_render_alloc(r, sizeof *j);
    if (!j) return false;
    *j = (joiner){.text = argv[0].kind == PR_V_MISSING ? pr_value_cstr(", ") : argv[0]};
    *out = (pr_value){.kind = PR_V_JOINER, .u.joiner = &j->used};
    return true;
}

bool pr_joiner_call(pr_render *r, pr_value v, pr_value *out)
{
    (void)r;
    joiner *j = (joiner *)(void *)v.u.joiner; /* its first member */
    *out = j->used ? j->text : pr_value_str("", 0);
    j->used = true;
    return true;
}

static bool global_raise_exception(pr_render *r, const pr_value *argv, pr_value *out)
{
    (void)out;
    pr_value text;
    if (!pr_value_to_str(r, argv[0], &text)) return false;
    return pr_raise_text(r, PR_EXC_TEMPLATE, text.u.s, text.n);
}

/* %f is Python's own: microseconds. */
static bool expand_format(pr_value format, int micros, char *out, size_t n_max)
{
    size_t to = 0;
    for (size_t i = 0; i < format.n; i++) {
        bool pair = format.u.s[i] == '%' && i + 1 < format.n;
        if (to + 8 >= n_max || format.u.s[i] == '\0') return false;
        if (pair && format.u.s[i + 1] == 'f') {
            to += (size_t)snprintf(out + to, n_max - to, "%06d", micros);
            i++;
        } else if (pair && (format.u.s[i + 1] == 'z' || format.u.s[i + 1] == 'Z')) {
            i++; /* a time without a zone has neither */
        } else {
            out[to++] = format.u.s[i];
            if (pair) out[to++] = format.u.s[++i];
        }
    }
    out[to] = '\0';
    return true;
}

static bool global_strftime_now(pr_render *r, const pr_value *argv, pr_value *out)
{
    char format[TIME_TEXT_BYTES], text[TIME_TEXT_BYTES];
    if (argv[0].kind != PR_V_STR) {
        return pr_raise(r, PR_EXC_TYPE, "strftime() argument 1 must be str, not %s",
                        pr_value_type(argv[0]));
    }
    int64_t now = r->input->now_us, seconds = now / 1000000;
    if (!expand_format(argv[0], (int)(now % 1000000), format, sizeof format)) {
        return pr_raise(r, PR_EXC_BOUND, "a format of more than %d bytes", TIME_TEXT_BYTES);
    }
    time_t t = (time_t)seconds;
    struct tm local;
    tzset();
    localtime_r(&t, &local);
    if (format[0] == '\0') {
        *out = pr_value_str("", 0);
        return true;
    }
    size_t n = pr_time_format(text, sizeof text, format, &local);
    return pr_render_str(r, text, n, out);
}

/* `self` is missing: the first parameter is the first argument. */
const pr_function pr_globals[] = {
    {"range", "range", PR_STYLE_C, 0, {NULL}, NULL, global_range},
    {"dict", "dict", PR_STYLE_C, 0, {NULL}, NULL, global_dict},
    {"namespace", "namespace", PR_STYLE_C, 0, {NULL}, NULL, global_namespace},
    {"cycler", "cycler", PR_STYLE_C, 0, {NULL}, NULL, global_cycler},
    {"joiner", "joiner", PR_STYLE_PYTHON, 0, {"sep"}, global_joiner, NULL},
    {"raise_exception",
     "_cached_compile_jinja_template.<locals>.raise_exception",
     PR_STYLE_PYTHON,
     1,
     {"message"},
     global_raise_exception,
     NULL},
    {"strftime_now",
     "_cached_compile_jinja_template.<locals>.strftime_now",
     PR_STYLE_PYTHON,
     1,
     {"format"},
     global_strftime_now,
     NULL},
    {"lipsum", "lipsum", PR_STYLE_C, 0, {NULL}, NULL, NULL},
};
const size_t pr_n_globals = sizeof pr_globals / sizeof *pr_globals;

bool pr_global_is_type(uint32_t i)
{
    static const char *const types[] = {"dict", "namespace", "cycler", "joiner"};
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        if (strcmp(pr_globals[i].name, types[k]) == 0) return true;
    }
    return false;
}

bool pr_global_is_dict(uint32_t i)
{
    return strcmp(pr_globals[i].name, "dict") == 0;
}
