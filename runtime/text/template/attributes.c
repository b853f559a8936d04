#include "runtime/text/template/attributes.h"

#include "runtime/text/template/call.h"
#include "runtime/text/template/globals.h"
#include "runtime/text/template/iterate.h"
#include "runtime/text/template/methods.h"
#include "runtime/text/template/render.h"
#include "runtime/text/template/strings.h"

#include <string.h>

static bool undefined_of(pr_render *r, pr_value obj, pr_value name, pr_value *out)
{
    pr_undefined *u = pr_render_alloc(r, sizeof *u);
    if (!u) return false;
    *u = (pr_undefined){.obj = obj, .name = name};
    *out = (pr_value){.kind = PR_V_UNDEFINED, .flag = PR_FLAG_FULL, .u.undefined = u};
    return true;
}

static bool undefined_unsafe(pr_render *r, pr_value obj, pr_value name, pr_value *out)
{
    pr_undefined *u = pr_render_alloc(r, sizeof *u);
    if (!u) return false;
    *u = (pr_undefined){.obj = obj, .name = name, .security = true};
    *out = (pr_value){.kind = PR_V_UNDEFINED, .flag = PR_FLAG_FULL, .u.undefined = u};
    return pr_render_printf(r, &u->hint, "access to attribute '%.*s' of '%s' object is unsafe.",
                            (int)name.n, name.u.s, pr_value_type(obj));
}

/* What every object of Python has; the sandbox shows none of it. */
static bool is_dunder(pr_value name)
{
    static const char *const names[] = {"__class__",
                                        "__doc__",
                                        "__init__",
                                        "__str__",
                                        "__repr__",
                                        "__dict__",
                                        "__module__",
                                        "__eq__",
                                        "__ne__",
                                        "__hash__",
                                        "__dir__",
                                        "__new__",
                                        "__reduce__",
                                        "__sizeof__",
                                        "__format__",
                                        "__getattribute__",
                                        "__setattr__",
                                        "__delattr__",
                                        "__init_subclass__",
                                        "__subclasshook__",
                                        "__reduce_ex__",
                                        "__lt__",
                                        "__le__",
                                        "__gt__",
                                        "__ge__"};
    if (name.n < 4 || name.u.s[0] != '_') return false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (pr_value_named(name, names[i])) return true;
    }
    return false;
}

/* getattr(): *found is false where Python raises AttributeError. */
static bool attribute(pr_render *r, pr_value obj, pr_value name, bool *found, pr_value *out)
{
    *found = true;
    switch (obj.kind) {
    case PR_V_UNDEFINED:
        if (!is_dunder(name)) return pr_raise_undefined(r, obj);
        break;
    case PR_V_NAMESPACE: {
        const pr_pair *pair = pr_dict_find(obj.u.dict, name);
        *found = pair != NULL;
        if (!pair) return true;
        *out = pair->value;
        if (name.n && name.u.s[0] == '_') return undefined_unsafe(r, obj, name, out);
        return true;
    }
    case PR_V_LOOP:
        if (!pr_loop_attribute(r, obj, name, found, out) || *found) return *found;
        break;
    case PR_V_MACRO:
        if (!pr_macro_attribute(r, obj.u.macro, name, found, out)) return false;
        if (*found) return true;
        break;
    default:
        break;
    }
    *found = true;
    switch (pr_method_look(obj, name)) {
    case PR_METHOD_SAFE:
        return pr_method_bind(r, obj, name, out);
    case PR_METHOD_UNSAFE:
        return undefined_unsafe(r, obj, name, out);
    case PR_METHOD_REFUSED:
        return pr_raise(r, PR_EXC_UNSUPPORTED, "the method %.*s of a %s", (int)name.n, name.u.s,
                        pr_value_type(obj));
    default:
        break;
    }
    if (is_dunder(name)) return undefined_unsafe(r, obj, name, out);
    *found = false;
    return true;
}

static bool index_of(pr_value index, size_t n, size_t *out)
{
    int64_t i = pr_value_as_int(index);
    if (i < 0) i += (int64_t)n;
    if (i < 0 || (uint64_t)i >= n) return false;
    *out = (size_t)i;
    return true;
}

/* obj[index] where Python raises neither TypeError nor LookupError; else *found is false. */
static bool item(pr_render *r, pr_value obj, pr_value index, bool *found, pr_value *out)
{
    size_t n = 0, i = 0;
    const pr_pair *pair = NULL;
    *found = false;
    switch (obj.kind) {
    case PR_V_UNDEFINED:
        return pr_raise_undefined(r, obj);
    case PR_V_DICT:
        if (!pr_value_hashable(index)) return true;
        pair = pr_dict_find(obj.u.dict, index);
        if (pair) *out = pair->value;
        *found = pair != NULL;
        return pr_render_work(r, 1 + obj.u.dict->n / 16);
    case PR_V_GLOBAL:
        *found = pr_global_is_dict(obj.u.global);
        if (*found) *out = obj;
        return true;
    case PR_V_LIST:
    case PR_V_TUPLE:
    case PR_V_RANGE:
    case PR_V_STR:
        if (!pr_value_is_integral(index)) return true;
        if (!pr_value_len(r, obj, &n)) return false;
        *found = index_of(index, n, &i);
        return !*found || pr_value_at(r, obj, i, out);
    default:
        return true;
    }
}

bool pr_attribute_is_special(pr_value name)
{
    return is_dunder(name) || pr_method_of_dict(name);
}

bool pr_attribute_get(pr_render *r, pr_value obj, pr_value name, pr_value *out)
{
    bool found = false;
    if (!attribute(r, obj, name, &found, out) || found) return r->exc == PR_EXC_NONE;
    if (!item(r, obj, name, &found, out) || found) return r->exc == PR_EXC_NONE;
    return undefined_of(r, obj, name, out);
}

bool pr_item_get(pr_render *r, pr_value obj, pr_value index, pr_value *out)
{
    bool found = false;
    if (!item(r, obj, index, &found, out) || found) return r->exc == PR_EXC_NONE;
    if (index.kind == PR_V_STR) {
        if (!attribute(r, obj, index, &found, out) || found) return r->exc == PR_EXC_NONE;
    }
    return undefined_of(r, obj, index, out);
}

static bool bound(pr_render *r, pr_value v, int64_t absent, int64_t *out)
{
    if (v.kind == PR_V_NONE || v.kind == PR_V_MISSING) {
        *out = absent;
        return true;
    }
    if (pr_value_is_integral(v)) {
        *out = pr_value_as_int(v);
        return true;
    }
    return pr_raise(r, PR_EXC_TYPE,
                    "slice indices must be integers or None or have an __index__ method");
}

/* A bound as Python clips it: from the end when negative, then into [low, high]. */
static int64_t clip(int64_t i, int64_t n, int64_t low, int64_t high)
{
    if (i < 0) i = i < -n ? -1 - n : i + n;
    return i < low ? low : i > high ? high : i;
}

bool pr_slice_bounds(pr_render *r, const pr_value bounds[3], size_t n, int64_t *start,
                     int64_t *stop, int64_t *step)
{
    int64_t length = (int64_t)n;
    if (!bound(r, bounds[2], 1, step)) return false;
    if (*step == 0) return pr_raise(r, PR_EXC_VALUE, "slice step cannot be zero");
    int64_t low = *step < 0 ? -1 : 0, high = *step < 0 ? length - 1 : length;
    bool has_start = bounds[0].kind != PR_V_NONE && bounds[0].kind != PR_V_MISSING;
    bool has_stop = bounds[1].kind != PR_V_NONE && bounds[1].kind != PR_V_MISSING;
    if (!bound(r, bounds[0], 0, start) || !bound(r, bounds[1], 0, stop)) return false;
    *start = has_start ? clip(*start, length, low, high) : *step < 0 ? high : low;
    *stop = has_stop ? clip(*stop, length, low, high) : *step < 0 ? low : high;
    return true;
}

static size_t slice_count(int64_t start, int64_t stop, int64_t step)
{
    if (step > 0 ? start >= stop : start <= stop) return 0;
    uint64_t span = step > 0 ? (uint64_t)(stop - start) : (uint64_t)(start - stop);
    uint64_t by = step > 0 ? (uint64_t)step : (uint64_t)0 - (uint64_t)step;
    return (size_t)((span - 1) / by + 1);
}

static bool slice_str(pr_render *r, pr_value s, int64_t start, int64_t stop, int64_t step,
                      pr_value *out)
{
    if (!pr_render_work(r, s.n / 64)) return false;
    if (step == 1) {
        size_t begin = pr_str_offset(s, (size_t)start);
        size_t length = stop > start ? (size_t)(stop - start) : 0;
        size_t end = begin + pr_str_offset(pr_str_part(s, begin, s.n), length);
        *out = pr_str_part(s, begin, end);
        return true;
    }
    pr_value chars;
    pr_buffer b;
    if (!pr_iter_list(r, s, PR_V_LIST, &chars)) return false;
    pr_buffer_init(&b);
    size_t n = slice_count(start, stop, step);
    for (size_t i = 0; i < n; i++, start += step) {
        pr_value c = chars.u.list->items[start];
        pr_buffer_append(&b, c.u.s, c.n);
    }
    bool ok = pr_render_buffer(r, &b, out);
    pr_buffer_deinit(&b);
    if (ok) out->flag = s.flag;
    return ok;
}

static bool slice_list(pr_render *r, pr_value v, int64_t start, int64_t stop, int64_t step,
                       pr_value *out)
{
    size_t n = slice_count(start, stop, step);
    if (step == 1) {
        return pr_value_list_of(r, (pr_kind)v.kind, v.u.list->items + start, n, out);
    }
    pr_value *items = pr_render_array(r, n, sizeof *items);
    if (!items || !pr_render_work(r, n / 16)) return false;
    for (size_t i = 0; i < n; i++, start += step) items[i] = v.u.list->items[start];
    return pr_value_list_of(r, (pr_kind)v.kind, items, n, out);
}

static bool slice_range(pr_render *r, const pr_range *of, int64_t start, int64_t stop, int64_t step,
                        pr_value *out)
{
    pr_range *range = pr_render_alloc(r, sizeof *range);
    if (!range) return false;
    *range = (pr_range){.start = of->start + start * of->step,
                        .stop = of->start + stop * of->step,
                        .step = of->step * step,
                        .n = slice_count(start, stop, step)};
    *out = (pr_value){.kind = PR_V_RANGE, .u.range = range};
    return true;
}

bool pr_slice_get(pr_render *r, pr_value obj, const pr_value bounds[3], pr_value *out)
{
    int64_t start = 0, stop = 0, step = 0;
    size_t n = 0;
    switch (obj.kind) {
    case PR_V_UNDEFINED:
        return pr_raise_undefined(r, obj);
    case PR_V_DICT:
        return pr_raise(r, PR_EXC_TYPE, "unhashable type: 'slice'");
    case PR_V_STR:
    case PR_V_LIST:
    case PR_V_TUPLE:
    case PR_V_RANGE:
        break;
    default:
        return pr_raise(r, PR_EXC_TYPE, "'%s' object is not subscriptable", pr_value_type(obj));
    }
    if (!pr_value_len(r, obj, &n) || !pr_slice_bounds(r, bounds, n, &start, &stop, &step)) {
        return false;
    }
    if (obj.kind == PR_V_STR) return slice_str(r, obj, start, stop, step, out);
    if (obj.kind == PR_V_RANGE) return slice_range(r, obj.u.range, start, stop, step, out);
    return slice_list(r, obj, start, stop, step, out);
}
