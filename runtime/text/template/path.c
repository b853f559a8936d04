#include "runtime/text/template/path.h"

#include "runtime/text/template/attributes.h"
#include "runtime/text/template/render.h"
#include "runtime/text/template/strings.h"

/* Digits are an index. */
static pr_value part_value(pr_value s)
{
    int64_t i = 0;
    for (size_t k = 0; k < s.n; k++) {
        if (s.u.s[k] < '0' || s.u.s[k] > '9' || i > INT64_MAX / 10 - 10) return s;
        i = 10 * i + (s.u.s[k] - '0');
    }
    return s.n ? pr_value_int(i) : s;
}

static bool add_parts(pr_render *r, pr_value attribute, pr_values *parts)
{
    pr_value dot = pr_value_cstr("."), list;
    if (attribute.kind == PR_V_MISSING || attribute.kind == PR_V_NONE) return true;
    if (attribute.kind != PR_V_STR) return pr_values_add(r, parts, attribute);
    if (!pr_str_split(r, attribute, &dot, SIZE_MAX, &list)) return false;
    for (size_t i = 0; i < list.u.list->n; i++) {
        if (!pr_values_add(r, parts, part_value(list.u.list->items[i]))) return false;
    }
    return true;
}

bool pr_path_make(pr_render *r, pr_value attribute, bool fold, pr_path *out)
{
    pr_values parts = {0};
    if (!add_parts(r, attribute, &parts)) return false;
    *out = (pr_path){.parts = parts.items, .n = parts.n, .fold = fold};
    return true;
}

bool pr_path_make_many(pr_render *r, pr_value attribute, bool fold, pr_path *out)
{
    pr_value comma = pr_value_cstr(","), list;
    pr_values parts = {0};
    if (attribute.kind != PR_V_STR) return pr_path_make(r, attribute, fold, out);
    if (!pr_str_split(r, attribute, &comma, SIZE_MAX, &list)) return false;
    size_t n = list.u.list->n;
    size_t *lengths = pr_render_array(r, n, sizeof *lengths);
    if (!lengths) return false;
    for (size_t i = 0; i < n; i++) {
        size_t before = parts.n;
        if (!add_parts(r, list.u.list->items[i], &parts)) return false;
        lengths[i] = parts.n - before;
    }
    *out = (pr_path){
        .parts = parts.items, .n = parts.n, .lengths = lengths, .n_many = n, .fold = fold};
    return true;
}

static bool get(pr_render *r, const pr_path *path, size_t first, size_t n, pr_value item,
                pr_value *out)
{
    for (size_t i = 0; i < n; i++) {
        if (!pr_item_get(r, item, path->parts[first + i], &item)) return false;
        if (item.kind == PR_V_UNDEFINED && path->otherwise.kind != PR_V_MISSING) {
            item = path->otherwise;
        }
    }
    if (path->fold && item.kind == PR_V_STR) return pr_str_case(r, item, PR_PY_TO_LOWER, out);
    *out = item;
    return true;
}

bool pr_path_get(pr_render *r, const pr_path *path, pr_value item, pr_value *out)
{
    if (!path->lengths) return get(r, path, 0, path->n, item, out);
    pr_value *items = pr_render_array(r, path->n_many, sizeof *items);
    if (!items) return false;
    size_t first = 0;
    for (size_t i = 0; i < path->n_many; i++) {
        if (!get(r, path, first, path->lengths[i], item, &items[i])) return false;
        first += path->lengths[i];
    }
    return pr_value_list_of(r, PR_V_LIST, items, path->n_many, out);
}
