#include "runtime/text/template/filters.h"

#include "runtime/text/template/iterate.h"
#include "runtime/text/template/path.h"
#include "runtime/text/template/render.h"

#include <string.h>

/* What map, select and reject do with each item: prepared when the first one is asked for. */
typedef struct selector {
    pr_actual args; /* copied */
    bool prepared;
    bool map, attribute, reject;
    pr_path path;
    bool by_path; /* map(attribute=…) */
    bool by_name; /* a filter's or a test's name was given */
    pr_value name;
    pr_actual rest; /* its arguments */
} selector;

static bool copy_args(pr_render *r, const pr_actual *args, pr_actual *out)
{
    pr_value items;
    pr_pair *keywords = pr_render_array(r, args->n_keywords, sizeof *keywords);
    if (!keywords || !pr_value_list(r, PR_V_TUPLE, args->items, args->n, &items)) return false;
    if (args->n_keywords) memcpy(keywords, args->keywords, args->n_keywords * sizeof *keywords);
    *out = (pr_actual){.items = items.u.list->items,
                       .n = args->n,
                       .keywords = keywords,
                       .n_keywords = args->n_keywords};
    return true;
}

static const pr_pair *keyword(const pr_actual *args, const char *name)
{
    for (size_t i = 0; i < args->n_keywords; i++) {
        if (pr_value_equal(args->keywords[i].key, pr_value_cstr(name))) return &args->keywords[i];
    }
    return NULL;
}

static bool prepare_map(pr_render *r, selector *s)
{
    const pr_pair *attribute = s->args.n == 0 ? keyword(&s->args, "attribute") : NULL;
    const pr_pair *otherwise = keyword(&s->args, "default");
    if (!attribute) {
        if (s->args.n == 0) {
            return pr_raise(r, PR_EXC_FILTER_ARGUMENT, "map requires a filter argument");
        }
        s->by_name = true;
        s->name = s->args.items[0];
        s->rest = s->args;
        s->rest.items++;
        s->rest.n--;
        return true;
    }
    for (size_t i = 0; i < s->args.n_keywords; i++) {
        const pr_pair *pair = &s->args.keywords[i];
        if (pair == attribute || pair == otherwise) continue;
        return pr_raise_repr(r, PR_EXC_FILTER_ARGUMENT, "Unexpected keyword argument %s",
                             pair->key);
    }
    s->by_path = true;
    if (!pr_path_make(r, attribute->value, false, &s->path)) return false;
    if (otherwise && otherwise->value.kind != PR_V_NONE) s->path.otherwise = otherwise->value;
    return true;
}

static bool prepare_select(pr_render *r, selector *s)
{
    size_t first = s->attribute;
    if (s->attribute) {
        if (s->args.n == 0) {
            return pr_raise(r, PR_EXC_FILTER_ARGUMENT, "Missing parameter for attribute name");
        }
        if (!pr_path_make(r, s->args.items[0], false, &s->path)) return false;
    }
    s->by_name = s->args.n > first;
    if (!s->by_name) return true;
    s->name = s->args.items[first];
    s->rest = s->args;
    s->rest.items += first + 1;
    s->rest.n -= first + 1;
    return true;
}

static bool prepare(pr_render *r, pr_iter *it, selector *s)
{
    s->prepared = true;
    if (!pr_value_truth(it->source)) {
        it->done = true;
        return true;
    }
    if (!(s->map ? prepare_map(r, s) : prepare_select(r, s))) return false;
    it->from = pr_render_alloc(r, sizeof *it->from);
    return it->from && pr_iter_begin(r, it->source, it->from);
}

static bool keeps(pr_render *r, const selector *s, pr_value item, bool *out)
{
    if (s->attribute && !pr_path_get(r, &s->path, item, &item)) return false;
    *out = pr_value_truth(item);
    if (s->by_name && !pr_test_call_named(r, s->name, item, &s->rest, out)) return false;
    *out ^= s->reject;
    return true;
}

static int next_selected(pr_render *r, pr_iter *it, pr_value *out)
{
    selector *s = it->state;
    pr_value item;
    bool keep = false;
    int got = 0;
    if (!s->prepared && !prepare(r, it, s)) return PR_ITER_RAISED;
    if (it->done) return PR_ITER_END;
    while ((got = pr_iter_next(r, it->from, &item)) == PR_ITER_ITEM) {
        if (s->map) {
            bool ok = s->by_path ? pr_path_get(r, &s->path, item, out)
                                 : pr_filter_call_named(r, s->name, item, &s->rest, out);
            return ok ? PR_ITER_ITEM : PR_ITER_RAISED;
        }
        if (!keeps(r, s, item, &keep)) return PR_ITER_RAISED;
        if (!keep) continue;
        *out = item;
        return PR_ITER_ITEM;
    }
    return got;
}

static bool begin(pr_render *r, pr_value value, const pr_actual *args, selector how, pr_value *out)
{
    selector *s = pr_render_alloc(r, sizeof *s);
    if (!s) return false;
    *s = how;
    if (!copy_args(r, args, &s->args)) return false;
    pr_iter it = {.next = next_selected, .type = "generator", .source = value, .state = s};
    return pr_iter_value(r, it, out);
}

bool pr_filter_map(pr_render *r, pr_value value, const pr_actual *args, pr_value *out)
{
    return begin(r, value, args, (selector){.map = true}, out);
}

bool pr_filter_select(pr_render *r, pr_value value, const pr_actual *args, pr_value *out)
{
    return begin(r, value, args, (selector){0}, out);
}

bool pr_filter_reject(pr_render *r, pr_value value, const pr_actual *args, pr_value *out)
{
    return begin(r, value, args, (selector){.reject = true}, out);
}

bool pr_filter_selectattr(pr_render *r, pr_value value, const pr_actual *args, pr_value *out)
{
    return begin(r, value, args, (selector){.attribute = true}, out);
}

bool pr_filter_rejectattr(pr_render *r, pr_value value, const pr_actual *args, pr_value *out)
{
    return begin(r, value, args, (selector){.attribute = true, .reject = true}, out);
}
