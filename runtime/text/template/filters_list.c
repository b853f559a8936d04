#include "runtime/text/template/filters.h"

#include "runtime/text/template/attributes.h"
#include "runtime/text/template/iterate.h"
#include "runtime/text/template/lexer.h"
#include "runtime/text/template/operators.h"
#include "runtime/text/template/path.h"
#include "runtime/text/template/render.h"
#include "runtime/text/template/sort.h"
#include "runtime/text/template/strings.h"
#include "runtime/text/template/value_text.h"

#include <string.h>

static bool undefined_hint(pr_render *r, const char *hint, pr_value *out)
{
    pr_undefined *u = pr_render_alloc(r, sizeof *u);
    if (!u) return false;
    *u = (pr_undefined){.hint = pr_value_cstr(hint)};
    *out = (pr_value){.kind = PR_V_UNDEFINED, .flag = PR_FLAG_FULL, .u.undefined = u};
    return true;
}

bool pr_filter_length(pr_render *r, const pr_value *argv, pr_value *out)
{
    size_t n = 0;
    if (!pr_value_len(r, argv[0], &n)) return false;
    *out = pr_value_int((int64_t)n);
    return true;
}

bool pr_filter_default(pr_render *r, const pr_value *argv, pr_value *out)
{
    (void)r;
    bool absent = argv[0].kind == PR_V_UNDEFINED ||
                  (pr_arg_truth(argv[2], false) && !pr_value_truth(argv[0]));
    pr_value otherwise = argv[1].kind == PR_V_MISSING ? pr_value_str("", 0) : argv[1];
    *out = absent ? otherwise : argv[0];
    return true;
}

static int next_items(pr_render *r, pr_iter *it, pr_value *out)
{
    if (it->source.kind == PR_V_UNDEFINED) return PR_ITER_END;
    if (it->source.kind != PR_V_DICT) {
        pr_raise(r, PR_EXC_TYPE, "Can only get item pairs from a mapping.");
        return PR_ITER_RAISED;
    }
    const pr_dict *d = it->source.u.dict;
    if (it->at >= d->n) return PR_ITER_END;
    const pr_pair *pair = &d->pairs[it->at++];
    return pr_value_pair(r, pair->key, pair->value, out) ? PR_ITER_ITEM : PR_ITER_RAISED;
}

bool pr_filter_items(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_iter it = {.next = next_items, .type = "generator", .source = argv[0]};
    return pr_iter_value(r, it, out);
}

bool pr_filter_list(pr_render *r, const pr_value *argv, pr_value *out)
{
    return pr_iter_list(r, argv[0], PR_V_LIST, out);
}

bool pr_filter_join(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_value between = pr_value_str("", 0), item;
    pr_path path;
    pr_iter it;
    int got = 0;
    if (argv[1].kind != PR_V_MISSING && !pr_value_to_str(r, argv[1], &between)) return false;
    if (!pr_path_make(r, argv[2], false, &path)) return false;
    if (!pr_value_iterable(argv[0])) {
        return pr_raise(r, PR_EXC_TYPE, "'%s' object is not iterable", pr_value_type(argv[0]));
    }
    if (!pr_iter_begin(r, argv[0], &it)) return false;
    *out = pr_value_str("", 0);
    for (bool first = true; (got = pr_iter_next(r, &it, &item)) == PR_ITER_ITEM; first = false) {
        if (!pr_path_get(r, &path, item, &item) || !pr_value_to_str(r, item, &item)) return false;
        if (!first && !pr_render_concat(r, *out, between, out)) return false;
        if (!pr_render_concat(r, *out, item, out)) return false;
    }
    return got == PR_ITER_END;
}

bool pr_filter_first(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_iter it;
    if (!pr_iter_begin(r, argv[0], &it)) return false;
    int got = pr_iter_next(r, &it, out);
    if (got == PR_ITER_END) return undefined_hint(r, "No first item, sequence was empty.", out);
    return got == PR_ITER_ITEM;
}

bool pr_filter_last(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_value reversed;
    if (argv[0].kind == PR_V_UNDEFINED) { /* it has a length of 0, and no __reversed__ */
        return undefined_hint(r, "No last item, sequence was empty.", out);
    }
    if (!pr_iter_reversed(r, argv[0], &reversed)) return false;
    int got = pr_iter_next(r, reversed.u.iter, out);
    if (got == PR_ITER_END) return undefined_hint(r, "No last item, sequence was empty.", out);
    return got == PR_ITER_ITEM;
}

bool pr_filter_reverse(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_value bounds[3] = {pr_value_none(), pr_value_none(), pr_value_int(-1)}, list;
    if (argv[0].kind == PR_V_STR) return pr_slice_get(r, argv[0], bounds, out);
    if (argv[0].kind != PR_V_ITER) {
        if (!pr_value_iterable(argv[0])) {
            return pr_raise(r, PR_EXC_FILTER_ARGUMENT, "argument must be iterable");
        }
        return pr_iter_reversed(r, argv[0], out);
    }
    return pr_iter_list(r, argv[0], PR_V_LIST, &list) && pr_slice_get(r, list, bounds, out);
}

bool pr_filter_attr(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_value obj = argv[0], found;
    if (argv[1].kind != PR_V_STR) {
        return pr_raise(r, PR_EXC_TYPE, "attribute name must be string, not '%s'",
                        pr_value_type(argv[1]));
    }
    /* An attribute alone: a dict's items are none. */
    if (obj.kind == PR_V_DICT) {
        const pr_pair *pair = pr_dict_find(obj.u.dict, argv[1]);
        pr_value empty;
        if (pair &&
            (!pr_value_dict(r, 0, &empty) || !pr_attribute_get(r, empty, argv[1], &found))) {
            return false;
        }
        if (pair && found.kind == PR_V_UNDEFINED) {
            pr_undefined *u = pr_render_alloc(r, sizeof *u);
            if (!u) return false;
            *u = (pr_undefined){.obj = obj, .name = argv[1]};
            *out = (pr_value){.kind = PR_V_UNDEFINED, .flag = PR_FLAG_FULL, .u.undefined = u};
            return true;
        }
    }
    return pr_attribute_get(r, obj, argv[1], out);
}

typedef struct batch {
    int64_t n;
    pr_value fill;
} batch;

static int next_batch(pr_render *r, pr_iter *it, pr_value *out)
{
    const batch *b = it->state;
    pr_values list = {0};
    pr_value item;
    int got = PR_ITER_ITEM;
    if (!it->from) {
        pr_iter *from = pr_render_alloc(r, sizeof *from);
        if (!from || !pr_iter_begin(r, it->source, from)) return PR_ITER_RAISED;
        it->from = from;
    }
    while ((int64_t)list.n != b->n || list.n == 0) {
        got = pr_iter_next(r, it->from, &item);
        if (got != PR_ITER_ITEM) break;
        if (!pr_values_add(r, &list, item)) return PR_ITER_RAISED;
    }
    if (got == PR_ITER_RAISED || list.n == 0) return got == PR_ITER_RAISED ? got : PR_ITER_END;
    bool fills = b->fill.kind != PR_V_MISSING && b->fill.kind != PR_V_NONE;
    while (fills && (int64_t)list.n < b->n) {
        if (!pr_render_step(r) || !pr_values_add(r, &list, b->fill)) return PR_ITER_RAISED;
    }
    return pr_value_list_of(r, PR_V_LIST, list.items, list.n, out) ? PR_ITER_ITEM : PR_ITER_RAISED;
}

bool pr_filter_batch(pr_render *r, const pr_value *argv, pr_value *out)
{
    batch *b = pr_render_alloc(r, sizeof *b);
    if (!b) return false;
    *b = (batch){.fill = argv[2]};
    if (!pr_arg_int(r, argv[1], 1, &b->n)) return false;
    pr_iter it = {.next = next_batch, .type = "generator", .source = argv[0], .state = b};
    return pr_iter_value(r, it, out);
}

bool pr_filter_slice(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_value all, fill = argv[2];
    pr_values slices = {0};
    int64_t n = 0;
    bool fills = fill.kind != PR_V_MISSING && fill.kind != PR_V_NONE;
    if (!pr_arg_int(r, argv[1], 1, &n) || !pr_iter_list(r, argv[0], PR_V_LIST, &all)) return false;
    if (n == 0) {
        return pr_raise(r, PR_EXC_ZERO_DIVISION, "integer division or modulo by zero");
    }
    size_t begin = 0, length = all.u.list->n;
    for (int64_t i = 0; i < n; i++) {
        size_t each = length / (size_t)n + ((size_t)i < length % (size_t)n);
        pr_values items = {0};
        pr_value slice;
        if (!pr_render_step(r)) return false;
        for (size_t k = 0; k < each; k++) {
            if (!pr_values_add(r, &items, all.u.list->items[begin + k])) return false;
        }
        begin += each;
        bool short_one = (size_t)i >= length % (size_t)n;
        if (fills && short_one && !pr_values_add(r, &items, fill)) return false;
        if (!pr_value_list_of(r, PR_V_LIST, items.items, items.n, &slice) ||
            !pr_values_add(r, &slices, slice)) {
            return false;
        }
    }
    pr_value list;
    pr_iter it;
    if (!pr_value_list_of(r, PR_V_LIST, slices.items, slices.n, &list) ||
        !pr_iter_begin(r, list, &it)) {
        return false;
    }
    it.type = "generator";
    return pr_iter_value(r, it, out);
}

/* Items with their keys; *n_out of them. */
static bool keyed(pr_render *r, pr_value all, const pr_path *path, pr_sort_item **out,
                  size_t *n_out)
{
    pr_value list;
    if (!pr_iter_list(r, all, PR_V_LIST, &list)) return false;
    size_t n = list.u.list->n;
    pr_sort_item *items = pr_render_array(r, n, sizeof *items);
    if (!items) return false;
    for (size_t i = 0; i < n; i++) {
        items[i].value = list.u.list->items[i];
        if (!pr_path_get(r, path, items[i].value, &items[i].key)) return false;
    }
    *out = items;
    *n_out = n;
    return true;
}

static bool unkeyed(pr_render *r, const pr_sort_item *items, size_t n, pr_value *out)
{
    pr_value *values = pr_render_array(r, n, sizeof *values);
    if (!values) return false;
    for (size_t i = 0; i < n; i++) values[i] = items[i].value;
    return pr_value_list_of(r, PR_V_LIST, values, n, out);
}

bool pr_filter_sort(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_path path;
    pr_sort_item *items = NULL;
    size_t n = 0;
    return pr_path_make_many(r, argv[3], !pr_arg_truth(argv[2], false), &path) &&
           keyed(r, argv[0], &path, &items, &n) &&
           pr_sort(r, items, n, pr_arg_truth(argv[1], false)) && unkeyed(r, items, n, out);
}

bool pr_filter_dictsort(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_value by = argv[2].kind == PR_V_MISSING ? pr_value_cstr("key") : argv[2];
    bool value = pr_value_equal(by, pr_value_cstr("value"));
    if (!value && !pr_value_equal(by, pr_value_cstr("key"))) {
        return pr_raise(r, PR_EXC_FILTER_ARGUMENT,
                        "You can only sort by either \"key\" or \"value\"");
    }
    if (argv[0].kind == PR_V_UNDEFINED) return pr_raise_undefined(r, argv[0]);
    if (argv[0].kind != PR_V_DICT) {
        return pr_raise(r, PR_EXC_ATTRIBUTE, "'%s' object has no attribute 'items'",
                        pr_value_type(argv[0]));
    }
    const pr_dict *d = argv[0].u.dict;
    pr_sort_item *items = pr_render_array(r, d->n, sizeof *items);
    if (!items) return false;
    for (size_t i = 0; i < d->n; i++) {
        pr_value key = value ? d->pairs[i].value : d->pairs[i].key;
        bool fold = !pr_arg_truth(argv[1], false) && key.kind == PR_V_STR;
        if (fold && !pr_str_case(r, key, PR_PY_TO_LOWER, &key)) return false;
        items[i].key = key;
        if (!pr_value_pair(r, d->pairs[i].key, d->pairs[i].value, &items[i].value)) return false;
    }
    return pr_sort(r, items, d->n, pr_arg_truth(argv[3], false)) && unkeyed(r, items, d->n, out);
}

typedef struct unique {
    pr_path path;
    pr_values seen;
} unique;

static int next_unique(pr_render *r, pr_iter *it, pr_value *out)
{
    unique *u = it->state;
    pr_value key;
    int got = 0;
    if (!it->from) {
        pr_iter *from = pr_render_alloc(r, sizeof *from);
        if (!from || !pr_iter_begin(r, it->source, from)) return PR_ITER_RAISED;
        it->from = from;
    }
    while ((got = pr_iter_next(r, it->from, out)) == PR_ITER_ITEM) {
        if (!pr_path_get(r, &u->path, *out, &key)) return PR_ITER_RAISED;
        if (!pr_value_hashable(key)) {
            pr_raise(r, PR_EXC_TYPE, "unhashable type: '%s'", pr_value_type(key));
            return PR_ITER_RAISED;
        }
        bool seen = false;
        if (!pr_render_work(r, u->seen.n / 4)) return PR_ITER_RAISED;
        for (size_t i = 0; i < u->seen.n && !seen; i++)
            seen = pr_value_equal(u->seen.items[i], key);
        if (seen) continue;
        return pr_values_add(r, &u->seen, key) ? PR_ITER_ITEM : PR_ITER_RAISED;
    }
    return got;
}

bool pr_filter_unique(pr_render *r, const pr_value *argv, pr_value *out)
{
    unique *u = pr_render_alloc(r, sizeof *u);
    if (!u) return false;
    *u = (unique){0};
    if (!pr_path_make(r, argv[2], !pr_arg_truth(argv[1], false), &u->path)) return false;
    pr_iter it = {.next = next_unique, .type = "generator", .source = argv[0], .state = u};
    return pr_iter_value(r, it, out);
}

/* A group as a named tuple prints: (grouper, list). */
static bool add_group(pr_render *r, const pr_path *path, const pr_sort_item *items, size_t n,
                      pr_values *groups)
{
    pr_value list, key, group;
    return unkeyed(r, items, n, &list) && pr_path_get(r, path, items[0].value, &key) &&
           pr_value_pair(r, key, list, &group) && pr_values_add(r, groups, group);
}

bool pr_filter_groupby(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_path path, shown;
    pr_sort_item *items = NULL;
    pr_values groups = {0};
    size_t n = 0;
    bool fold = !pr_arg_truth(argv[3], false);
    if (!pr_path_make(r, argv[1], fold, &path) || !pr_path_make(r, argv[1], false, &shown)) {
        return false;
    }
    path.otherwise = shown.otherwise = argv[2].kind == PR_V_NONE ? (pr_value){0} : argv[2];
    if (!keyed(r, argv[0], &path, &items, &n) || !pr_sort(r, items, n, false)) return false;
    for (size_t begin = 0, i = 1; i <= n; i++) {
        if (i < n && pr_value_equal(items[i].key, items[begin].key)) continue;
        if (!add_group(r, &shown, items + begin, i - begin, &groups)) return false;
        begin = i;
    }
    return pr_value_list_of(r, PR_V_LIST, groups.items, groups.n, out);
}

static bool extreme(pr_render *r, const pr_value *argv, bool max, pr_value *out)
{
    pr_path path;
    pr_sort_item *items = NULL;
    size_t n = 0, best = 0;
    if (!pr_path_make(r, argv[2], !pr_arg_truth(argv[1], false), &path) ||
        !keyed(r, argv[0], &path, &items, &n)) {
        return false;
    }
    if (n == 0) return undefined_hint(r, "No aggregated item, sequence was empty.", out);
    for (size_t i = 1; i < n; i++) {
        int order = 0;
        if (!pr_value_order(r, max ? ">" : "<", items[i].key, items[best].key, &order))
            return false;
        if (order != 2 && (max ? order > 0 : order < 0)) best = i;
    }
    *out = items[best].value;
    return true;
}

bool pr_filter_min(pr_render *r, const pr_value *argv, pr_value *out)
{
    return extreme(r, argv, false, out);
}

bool pr_filter_max(pr_render *r, const pr_value *argv, pr_value *out)
{
    return extreme(r, argv, true, out);
}

bool pr_filter_sum(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_value sum = argv[2].kind == PR_V_MISSING ? pr_value_int(0) : argv[2], item;
    pr_path path;
    pr_iter it;
    int got = 0;
    if (!pr_path_make(r, argv[1], false, &path) || !pr_iter_begin(r, argv[0], &it)) return false;
    if (sum.kind == PR_V_STR) {
        return pr_raise(r, PR_EXC_TYPE, "sum() can't sum strings [use ''.join(seq) instead]");
    }
    while ((got = pr_iter_next(r, &it, &item)) == PR_ITER_ITEM) {
        if (!pr_path_get(r, &path, item, &item) || !pr_operate(r, PR_T_ADD, sum, item, &sum)) {
            return false;
        }
    }
    *out = sum;
    return got == PR_ITER_END;
}
