#include "runtime/text/template/methods.h"

#include "runtime/text/template/globals.h"
#include "runtime/text/template/iterate.h"
#include "runtime/text/template/render.h"

#include <assert.h>
#include <string.h>

static bool view(pr_value dict, int which, pr_value *out)
{
    *out = (pr_value){.kind = PR_V_VIEW, .flag = (uint8_t)which, .u.dict = dict.u.dict};
    return true;
}

static bool dict_keys(pr_render *r, const pr_value *argv, pr_value *out)
{
    (void)r;
    return view(argv[0], PR_VIEW_KEYS, out);
}

static bool dict_values(pr_render *r, const pr_value *argv, pr_value *out)
{
    (void)r;
    return view(argv[0], PR_VIEW_VALUES, out);
}

static bool dict_items(pr_render *r, const pr_value *argv, pr_value *out)
{
    (void)r;
    return view(argv[0], PR_VIEW_ITEMS, out);
}

static bool dict_get(pr_render *r, const pr_value *argv, pr_value *out)
{
    if (!pr_value_hashable(argv[1])) {
        return pr_raise(r, PR_EXC_TYPE, "unhashable type: '%s'", pr_value_type(argv[1]));
    }
    const pr_pair *pair = pr_dict_find(argv[0].u.dict, argv[1]);
    *out = pair ? pair->value : argv[2].kind == PR_V_MISSING ? pr_value_none() : argv[2];
    return pr_render_work(r, argv[0].u.dict->n / 16);
}

static bool dict_copy(pr_render *r, const pr_value *argv, pr_value *out)
{
    (void)r;
    *out = argv[0]; /* nothing can change it */
    return true;
}

static const pr_function dict_methods[] = {
    {"get", "get", PR_STYLE_C, 2, {"self", "key", "default"}, dict_get, NULL},
    {"items", "dict.items", PR_STYLE_NO_ARGS, 1, {"self"}, dict_items, NULL},
    {"keys", "dict.keys", PR_STYLE_NO_ARGS, 1, {"self"}, dict_keys, NULL},
    {"values", "dict.values", PR_STYLE_NO_ARGS, 1, {"self"}, dict_values, NULL},
    {"copy", "dict.copy", PR_STYLE_NO_ARGS, 1, {"self"}, dict_copy, NULL},
    {"fromkeys", "fromkeys", PR_STYLE_C, 0, {NULL}, NULL, NULL},
};

/* dict's methods without a dict: nobody means them. */
static const pr_function dict_class_methods[] = {
    {"get", "get", PR_STYLE_C, 0, {NULL}, NULL, NULL},
    {"items", "items", PR_STYLE_C, 0, {NULL}, NULL, NULL},
    {"keys", "keys", PR_STYLE_C, 0, {NULL}, NULL, NULL},
    {"values", "values", PR_STYLE_C, 0, {NULL}, NULL, NULL},
    {"copy", "copy", PR_STYLE_C, 0, {NULL}, NULL, NULL},
    {"fromkeys", "fromkeys", PR_STYLE_C, 0, {NULL}, NULL, NULL},
};

static bool list_index(pr_render *r, const pr_value *argv, pr_value *out)
{
    const pr_list *list = argv[0].u.list;
    if (!pr_render_work(r, list->n)) return false;
    for (size_t i = 0; i < list->n; i++) {
        if (!pr_value_equal(list->items[i], argv[1])) continue;
        *out = pr_value_int((int64_t)i);
        return true;
    }
    if (argv[0].kind == PR_V_TUPLE) {
        return pr_raise(r, PR_EXC_VALUE, "tuple.index(x): x not in tuple");
    }
    return pr_raise_repr(r, PR_EXC_VALUE, "%s is not in list", argv[1]);
}

static bool list_count(pr_render *r, const pr_value *argv, pr_value *out)
{
    const pr_list *list = argv[0].u.list;
    int64_t n = 0;
    if (!pr_render_work(r, list->n)) return false;
    for (size_t i = 0; i < list->n; i++) n += pr_value_equal(list->items[i], argv[1]);
    *out = pr_value_int(n);
    return true;
}

static const pr_function list_methods[] = {
    {"count", "list.count", PR_STYLE_ONE, 2, {"self", "value"}, list_count, NULL},
    {"index", "index", PR_STYLE_C, 2, {"self", "value"}, list_index, NULL},
    {"copy", "list.copy", PR_STYLE_NO_ARGS, 1, {"self"}, dict_copy, NULL},
};

static const pr_function tuple_methods[] = {
    {"count", "tuple.count", PR_STYLE_ONE, 2, {"self", "value"}, list_count, NULL},
    {"index", "index", PR_STYLE_C, 2, {"self", "value"}, list_index, NULL},
};

static bool cycler_next(pr_render *r, const pr_value *argv, pr_value *out)
{
    (void)r;
    pr_cycler *c = argv[0].u.cycler;
    *out = c->items[c->at];
    c->at = (c->at + 1) % c->n;
    return true;
}

static bool cycler_reset(pr_render *r, const pr_value *argv, pr_value *out)
{
    (void)r;
    argv[0].u.cycler->at = 0;
    *out = pr_value_none();
    return true;
}

static const pr_function cycler_methods[] = {
    {"next", "Cycler.next", PR_STYLE_PYTHON, 1, {"self"}, cycler_next, NULL},
    {"reset", "Cycler.reset", PR_STYLE_PYTHON, 1, {"self"}, cycler_reset, NULL},
};

static bool loop_cycle(pr_render *r, pr_value self, const pr_actual *args, pr_value *out)
{
    if (args->n == 0) return pr_raise(r, PR_EXC_TYPE, "no items for cycling given");
    *out = args->items[(size_t)self.u.loop->index0 % args->n];
    return true;
}

static bool loop_changed(pr_render *r, pr_value self, const pr_actual *args, pr_value *out)
{
    pr_loop *loop = self.u.loop;
    pr_value now;
    if (!pr_value_list(r, PR_V_TUPLE, args->items, args->n, &now)) return false;
    bool changed = !loop->changed_known || !pr_value_equal(loop->changed, now);
    loop->changed_known = true;
    loop->changed = now;
    *out = pr_value_bool(changed);
    return true;
}

static const pr_function loop_methods[] = {
    {"cycle", "LoopContext.cycle", PR_STYLE_PYTHON, 1, {"self"}, NULL, loop_cycle},
    {"changed", "LoopContext.changed", PR_STYLE_PYTHON, 1, {"self"}, NULL, loop_changed},
};

/* What would change a value; the sandbox shows these as unsafe. */
static const char *const list_changes[] = {"append", "clear",  "pop",    "reverse", "insert",
                                           "sort",   "extend", "remove", NULL};
static const char *const dict_changes[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};

typedef struct table {
    const pr_function *methods;
    size_t n;
    const char *const *changes;
} table;

#define TABLE(methods, changes)                                                                    \
    {                                                                                              \
        methods, sizeof(methods) / sizeof *(methods), changes                                      \
    }

static table table_of(pr_value v)
{
    static const table dicts = TABLE(dict_methods, dict_changes);
    static const table lists = TABLE(list_methods, list_changes);
    static const table tuples = TABLE(tuple_methods, NULL);
    static const table cyclers = TABLE(cycler_methods, NULL);
    static const table loops = TABLE(loop_methods, NULL);
    static const table dict_class = TABLE(dict_class_methods, dict_changes);
    switch (v.kind) {
    case PR_V_STR:
        return (table){pr_str_methods, pr_n_str_methods, NULL};
    case PR_V_DICT:
        return dicts;
    case PR_V_LIST:
        return lists;
    case PR_V_TUPLE:
        return tuples;
    case PR_V_CYCLER:
        return cyclers;
    case PR_V_LOOP:
        return loops;
    case PR_V_GLOBAL:
        return pr_global_is_dict(v.u.global) ? dict_class : (table){0};
    default:
        return (table){0};
    }
}

pr_method_kind pr_method_look(pr_value obj, pr_value name)
{
    table t = table_of(obj);
    for (size_t i = 0; i < t.n; i++) {
        if (!pr_value_named(name, t.methods[i].name)) continue;
        return t.methods[i].bound || t.methods[i].raw ? PR_METHOD_SAFE : PR_METHOD_REFUSED;
    }
    for (const char *const *change = t.changes; change && *change; change++) {
        if (pr_value_named(name, *change)) return PR_METHOD_UNSAFE;
    }
    return PR_METHOD_NONE;
}

bool pr_method_of_dict(pr_value name)
{
    return pr_method_look((pr_value){.kind = PR_V_DICT}, name) != PR_METHOD_NONE;
}

bool pr_method_bind(pr_render *r, pr_value obj, pr_value name, pr_value *out)
{
    table t = table_of(obj);
    size_t i = 0;
    while (i < t.n && !pr_value_named(name, t.methods[i].name)) i++;
    assert(i < t.n);
    pr_bound *bound = pr_render_alloc(r, sizeof *bound);
    if (!bound) return false;
    *bound = (pr_bound){.self = obj, .i_method = (uint32_t)i};
    *out = (pr_value){.kind = PR_V_METHOD, .u.method = bound};
    return true;
}

bool pr_method_call(pr_render *r, const pr_bound *method, const pr_actual *args, pr_value *out)
{
    table t = table_of(method->self);
    return pr_function_call(r, &t.methods[method->i_method], method->self, args, out);
}
