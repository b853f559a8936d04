#include "runtime/text/template/value.h"

#include "runtime/text/template/globals.h"
#include "runtime/text/template/iterate.h"
#include "runtime/text/template/render.h"

#include <assert.h>
#include <math.h>
#include <string.h>

pr_value pr_value_cstr(const char *s)
{
    return pr_value_str(s, strlen(s));
}

double pr_value_as_float(pr_value v)
{
    return v.kind == PR_V_FLOAT ? v.u.f : (double)pr_value_as_int(v);
}

const char *pr_value_type(pr_value v)
{
    static const char *const names[] = {
        [PR_V_MISSING] = "missing", [PR_V_UNDEFINED] = "Undefined",
        [PR_V_NONE] = "NoneType",   [PR_V_BOOL] = "bool",
        [PR_V_INT] = "int",         [PR_V_FLOAT] = "float",
        [PR_V_STR] = "str",         [PR_V_LIST] = "list",
        [PR_V_TUPLE] = "tuple",     [PR_V_DICT] = "dict",
        [PR_V_RANGE] = "range",     [PR_V_VIEW] = "dict_keys",
        [PR_V_ITER] = "generator",  [PR_V_NAMESPACE] = "Namespace",
        [PR_V_MACRO] = "Macro",     [PR_V_METHOD] = "builtin_function_or_method",
        [PR_V_GLOBAL] = "function", [PR_V_LOOP] = "LoopContext",
        [PR_V_CYCLER] = "Cycler",   [PR_V_JOINER] = "Joiner",
    };
    static_assert(sizeof names / sizeof *names == PR_V_KIND_COUNT, "one name per kind");
    static const char *const views[] = {"dict_keys", "dict_values", "dict_items"};
    if (v.kind == PR_V_VIEW) return views[v.flag];
    if (v.kind == PR_V_STR && v.flag & PR_FLAG_MARKUP) return "Markup";
    if (v.kind == PR_V_ITER) return pr_iter_type(v.u.iter);
    if (v.kind == PR_V_GLOBAL && pr_global_is_type(v.u.global)) return "type";
    return names[v.kind];
}

bool pr_value_list_of(pr_render *r, pr_kind kind, const pr_value *items, size_t n, pr_value *out)
{
    pr_list *list = pr_render_alloc(r, sizeof *list);
    if (!list) return false;
    *list = (pr_list){.n = n, .items = items};
    *out = (pr_value){.kind = (uint8_t)kind, .u.list = list};
    return true;
}

bool pr_value_list(pr_render *r, pr_kind kind, const pr_value *items, size_t n, pr_value *out)
{
    pr_value *copy = pr_render_array(r, n, sizeof *copy);
    if (!copy) return false;
    if (n) memcpy(copy, items, n * sizeof *copy);
    return pr_value_list_of(r, kind, copy, n, out);
}

bool pr_value_pair(pr_render *r, pr_value a, pr_value b, pr_value *out)
{
    pr_value items[2] = {a, b};
    return pr_value_list(r, PR_V_TUPLE, items, 2, out);
}

bool pr_value_dict(pr_render *r, size_t n_max, pr_value *out)
{
    pr_dict *d = pr_render_alloc(r, sizeof *d);
    pr_pair *pairs = d ? pr_render_array(r, n_max, sizeof *pairs) : NULL;
    if (!pairs) return false;
    *d = (pr_dict){.n_max = n_max, .pairs = pairs};
    *out = (pr_value){.kind = PR_V_DICT, .u.dict = d};
    return true;
}

const pr_pair *pr_dict_find_str(const pr_dict *d, const char *s, size_t n)
{
    for (size_t i = 0; i < d->n; i++) {
        const pr_value *key = &d->pairs[i].key;
        if (key->kind == PR_V_STR && key->n == n && memcmp(key->u.s, s, n) == 0) {
            return &d->pairs[i];
        }
    }
    return NULL;
}

const pr_pair *pr_dict_find(const pr_dict *d, pr_value key)
{
    if (key.kind == PR_V_STR) return pr_dict_find_str(d, key.u.s, key.n);
    for (size_t i = 0; i < d->n; i++) {
        if (pr_value_equal(d->pairs[i].key, key)) return &d->pairs[i];
    }
    return NULL;
}

bool pr_value_hashable(pr_value v)
{
    if (v.kind == PR_V_TUPLE) {
        for (size_t i = 0; i < v.u.list->n; i++) {
            if (!pr_value_hashable(v.u.list->items[i])) return false;
        }
        return true;
    }
    return v.kind != PR_V_LIST && v.kind != PR_V_DICT && v.kind != PR_V_VIEW;
}

/* The type that Python names: of the first part that has no hash. */
static const char *unhashable_type(pr_value v)
{
    if (v.kind != PR_V_TUPLE) return pr_value_type(v);
    for (size_t i = 0; i < v.u.list->n; i++) {
        if (!pr_value_hashable(v.u.list->items[i])) return unhashable_type(v.u.list->items[i]);
    }
    return "tuple";
}

bool pr_dict_put(pr_render *r, pr_dict *d, pr_value key, pr_value value)
{
    if (!pr_value_hashable(key)) {
        return pr_raise(r, PR_EXC_TYPE, "unhashable type: '%s'", unhashable_type(key));
    }
    if (!pr_render_work(r, 1 + d->n / 16)) return false;
    const pr_pair *found = pr_dict_find(d, key);
    if (found) {
        d->pairs[found - d->pairs].value = value;
        return true;
    }
    if (d->n == d->n_max) {
        size_t n_max = d->n_max ? 2 * d->n_max : 8;
        pr_pair *pairs = pr_render_array(r, n_max, sizeof *pairs);
        if (!pairs) return false;
        if (d->n) memcpy(pairs, d->pairs, d->n * sizeof *pairs);
        d->pairs = pairs;
        d->n_max = n_max;
    }
    d->pairs[d->n++] = (pr_pair){.key = key, .value = value};
    return true;
}

bool pr_value_truth(pr_value v)
{
    switch (v.kind) {
    case PR_V_MISSING:
    case PR_V_UNDEFINED:
    case PR_V_NONE:
        return false;
    case PR_V_BOOL:
        return v.u.b;
    case PR_V_INT:
        return v.u.i != 0;
    case PR_V_FLOAT:
        return v.u.f != 0;
    case PR_V_STR:
        return v.n != 0;
    case PR_V_LIST:
    case PR_V_TUPLE:
        return v.u.list->n != 0;
    case PR_V_DICT:
    case PR_V_VIEW:
        return v.u.dict->n != 0;
    case PR_V_RANGE:
        return v.u.range->n != 0;
    default:
        return true;
    }
}

/* An integer against a float, exactly: -1, 0, 1, or 2 for nan. */
static int order_int_float(int64_t i, double f)
{
    if (isnan(f)) return 2;
    if (f >= 9223372036854775808.0) return -1;
    if (f < -9223372036854775808.0) return 1;
    int64_t whole = (int64_t)f;
    if (i != whole) return i < whole ? -1 : 1;
    double rest = f - (double)whole;
    return rest > 0 ? -1 : rest < 0 ? 1 : 0;
}

static int order_numbers(pr_value a, pr_value b)
{
    if (a.kind != PR_V_FLOAT && b.kind != PR_V_FLOAT) {
        int64_t x = pr_value_as_int(a), y = pr_value_as_int(b);
        return x < y ? -1 : x > y;
    }
    if (a.kind == PR_V_FLOAT && b.kind == PR_V_FLOAT) {
        if (isnan(a.u.f) || isnan(b.u.f)) return 2;
        return a.u.f < b.u.f ? -1 : a.u.f > b.u.f;
    }
    if (a.kind != PR_V_FLOAT) return order_int_float(pr_value_as_int(a), b.u.f);
    int c = order_int_float(pr_value_as_int(b), a.u.f);
    return c == 2 ? 2 : -c;
}

static bool list_equal(const pr_list *a, const pr_list *b)
{
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++) {
        if (!pr_value_equal(a->items[i], b->items[i])) return false;
    }
    return true;
}

static bool dict_equal(const pr_dict *a, const pr_dict *b)
{
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++) {
        const pr_pair *p = pr_dict_find(b, a->pairs[i].key);
        if (!p || !pr_value_equal(a->pairs[i].value, p->value)) return false;
    }
    return true;
}

static bool range_equal(const pr_range *a, const pr_range *b)
{
    if (a->n != b->n) return false;
    return a->n == 0 || (a->start == b->start && (a->n == 1 || a->step == b->step));
}

bool pr_value_equal(pr_value a, pr_value b)
{
    if (pr_value_is_number(a) && pr_value_is_number(b)) return order_numbers(a, b) == 0;
    if (a.kind != b.kind) return false;
    switch (a.kind) {
    case PR_V_STR:
        return a.n == b.n && (a.n == 0 || memcmp(a.u.s, b.u.s, a.n) == 0);
    case PR_V_LIST:
    case PR_V_TUPLE:
        return a.u.list == b.u.list || list_equal(a.u.list, b.u.list);
    case PR_V_DICT:
        return a.u.dict == b.u.dict || dict_equal(a.u.dict, b.u.dict);
    case PR_V_RANGE:
        return range_equal(a.u.range, b.u.range);
    default:
        return pr_value_same(a, b);
    }
}

bool pr_value_same(pr_value a, pr_value b)
{
    if (a.kind != b.kind) return false;
    switch (a.kind) {
    case PR_V_MISSING:
    case PR_V_UNDEFINED: /* of one type: jinja2 calls them equal */
    case PR_V_NONE:
        return true;
    case PR_V_BOOL:
        return a.u.b == b.u.b;
    case PR_V_INT:
        return a.u.i == b.u.i;
    case PR_V_FLOAT:
        return a.u.f == b.u.f;
    case PR_V_STR:
        return a.n == b.n && (a.n == 0 || memcmp(a.u.s, b.u.s, a.n) == 0);
    case PR_V_METHOD:
        return a.u.method == b.u.method;
    case PR_V_GLOBAL:
        return a.u.global == b.u.global;
    case PR_V_VIEW:
        return a.u.dict == b.u.dict && a.flag == b.flag;
    default:
        return a.u.s == b.u.s; /* the same object */
    }
}

static bool order_lists(pr_render *r, const char *op, const pr_list *a, const pr_list *b, int *out)
{
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        if (!pr_render_step(r)) return false;
        if (!pr_value_equal(a->items[i], b->items[i])) {
            return pr_value_order(r, op, a->items[i], b->items[i], out);
        }
    }
    *out = a->n < b->n ? -1 : a->n > b->n;
    return true;
}

bool pr_value_order(pr_render *r, const char *op, pr_value a, pr_value b, int *out)
{
    if (pr_value_is_number(a) && pr_value_is_number(b)) {
        *out = order_numbers(a, b);
        return true;
    }
    if (a.kind == PR_V_STR && b.kind == PR_V_STR) { /* by bytes is by code points in UTF-8 */
        size_t n = a.n < b.n ? a.n : b.n;
        int c = n ? memcmp(a.u.s, b.u.s, n) : 0;
        *out = c ? c : a.n < b.n ? -1 : a.n > b.n;
        return true;
    }
    if (a.kind == b.kind && (a.kind == PR_V_LIST || a.kind == PR_V_TUPLE)) {
        return order_lists(r, op, a.u.list, b.u.list, out);
    }
    if (a.kind == PR_V_UNDEFINED) return pr_raise_undefined(r, a);
    if (b.kind == PR_V_UNDEFINED) return pr_raise_undefined(r, b);
    return pr_raise(r, PR_EXC_TYPE, "'%s' not supported between instances of '%s' and '%s'", op,
                    pr_value_type(a), pr_value_type(b));
}

bool pr_value_len(pr_render *r, pr_value v, size_t *out)
{
    switch (v.kind) {
    case PR_V_UNDEFINED:
        *out = 0;
        return true;
    case PR_V_STR:
        *out = pr_str_count(v);
        return pr_render_work(r, v.n / 64);
    case PR_V_LIST:
    case PR_V_TUPLE:
        *out = v.u.list->n;
        return true;
    case PR_V_DICT:
    case PR_V_VIEW:
        *out = v.u.dict->n;
        return true;
    case PR_V_RANGE:
        *out = v.u.range->n;
        return true;
    case PR_V_LOOP:
        return pr_loop_length(r, v.u.loop, out);
    default:
        return pr_raise(r, PR_EXC_TYPE, "object of type '%s' has no len()", pr_value_type(v));
    }
}
