#include "runtime/text/template/eval.h"

#include "runtime/text/template/attributes.h"
#include "runtime/text/template/lexer.h"
#include "runtime/text/template/operators.h"
#include "runtime/text/template/render.h"
#include "runtime/text/template/strings.h"
#include "runtime/text/template/value_text.h"

#include "runtime/text/template/iterate.h"

#include <assert.h>
#include <string.h>

enum { ARGS_INLINE = 6 };

bool pr_eval_enter(pr_render *r)
{
    if (r->depth >= r->limits.n_depth) {
        return pr_raise(r, PR_EXC_RECURSION, "maximum recursion depth exceeded");
    }
    r->depth++;
    return true;
}

static bool eval_name(pr_act *act, const pr_node *node, pr_value *out)
{
    for (uint16_t up = node->ref.up; up > 0; up--) act = act->parent;
    *out = act->slots[node->ref.slot];
    if (out->kind == PR_V_MISSING) *out = pr_value_unknown(node->value.u.s, node->value.n);
    return true;
}

static bool eval_items(pr_render *r, pr_act *act, const pr_node *node, pr_value *out)
{
    uint32_t n = node->items.n;
    pr_value *items = pr_render_array(r, n, sizeof *items);
    if (!items) return false;
    for (uint32_t i = 0; i < n; i++) {
        if (!pr_eval(r, act, node->items.items[i], &items[i])) return false;
    }
    return pr_value_list_of(r, node->kind == PR_N_LIST ? PR_V_LIST : PR_V_TUPLE, items, n, out);
}

static bool eval_dict(pr_render *r, pr_act *act, const pr_node *node, pr_value *out)
{
    if (!pr_value_dict(r, node->items.n / 2, out)) return false;
    pr_value key, value;
    for (uint32_t i = 0; i < node->items.n; i += 2) {
        if (!pr_eval(r, act, node->items.items[i], &key) ||
            !pr_eval(r, act, node->items.items[i + 1], &value) ||
            !pr_dict_put(r, out->u.dict, key, value)) {
            return false;
        }
    }
    return true;
}

static bool eval_cond(pr_render *r, pr_act *act, const pr_node *node, pr_value *out)
{
    pr_value condition;
    if (!pr_eval(r, act, node->a, &condition)) return false;
    if (pr_value_truth(condition)) return pr_eval(r, act, node->b, out);
    if (node->c) return pr_eval(r, act, node->c, out);
    pr_undefined *u = pr_render_alloc(r, sizeof *u);
    if (!u) return false;
    *u = (pr_undefined){0};
    *out = (pr_value){.kind = PR_V_UNDEFINED, .flag = PR_FLAG_FULL, .u.undefined = u};
    return pr_render_printf(r, &u->hint,
                            "the inline if-expression on line %u evaluated to false and no else "
                            "section was defined.",
                            node->line);
}

static bool eval_logic(pr_render *r, pr_act *act, const pr_node *node, pr_value *out)
{
    if (!pr_eval(r, act, node->a, out)) return false;
    if (pr_value_truth(*out) == (node->kind == PR_N_OR)) return true;
    return pr_eval(r, act, node->b, out);
}

static bool eval_binary(pr_render *r, pr_act *act, const pr_node *node, pr_value *out)
{
    pr_value a, b;
    if (!pr_eval(r, act, node->a, &a) || !pr_eval(r, act, node->b, &b)) return false;
    if (a.kind == PR_V_STR && b.kind == PR_V_STR && node->op == PR_T_ADD && !(a.flag | b.flag)) {
        return pr_render_concat(r, a, b, out);
    }
    return pr_operate(r, node->op, a, b, out);
}

static bool eval_compare(pr_render *r, pr_act *act, const pr_node *node, pr_value *out)
{
    pr_value left, right;
    bool result = true;
    if (!pr_eval(r, act, node->a, &left)) return false;
    for (uint32_t i = 0; i < node->items.n && result; i++) {
        const pr_node *operand = node->items.items[i];
        if (!pr_eval(r, act, operand->a, &right)) return false;
        if (operand->op <= PR_CMP_NE && left.kind == PR_V_STR && right.kind == PR_V_STR) {
            bool same =
                left.n == right.n && (left.n == 0 || memcmp(left.u.s, right.u.s, left.n) == 0);
            result = same == (operand->op == PR_CMP_EQ);
        } else if (!pr_compare_values(r, operand->op, left, right, &result)) {
            return false;
        }
        left = right;
    }
    *out = pr_value_bool(result);
    return true;
}

static bool eval_concat(pr_render *r, pr_act *act, const pr_node *node, pr_value *out)
{
    pr_value part;
    *out = pr_value_str("", 0);
    for (uint32_t i = 0; i < node->items.n; i++) {
        if (!pr_eval(r, act, node->items.items[i], &part) || !pr_value_to_str(r, part, &part) ||
            !pr_render_concat(r, *out, part, out)) {
            return false;
        }
    }
    return true;
}

static bool eval_getattr(pr_render *r, pr_act *act, const pr_node *node, pr_value *out)
{
    pr_value of;
    if (!pr_eval(r, act, node->a, &of)) return false;
    if (of.kind == PR_V_DICT && !node->flag) { /* by far the most frequent */
        const pr_pair *pair = pr_dict_find_str(of.u.dict, node->value.u.s, node->value.n);
        if (pair) {
            *out = pair->value;
            return pr_render_work(r, of.u.dict->n / 16);
        }
    }
    return pr_attribute_get(r, of, node->value, out);
}

static bool eval_getitem(pr_render *r, pr_act *act, const pr_node *node, pr_value *out)
{
    pr_value of, index;
    if (!pr_eval(r, act, node->a, &of)) return false;
    if (node->b->kind != PR_N_SLICE) {
        return pr_eval(r, act, node->b, &index) && pr_item_get(r, of, index, out);
    }
    pr_value bounds[3] = {0};
    for (int i = 0; i < 3; i++) {
        const pr_node *bound = node->b->items.items[i];
        if (bound && !pr_eval(r, act, bound, &bounds[i])) return false;
    }
    return pr_slice_get(r, of, bounds, out);
}

/* Arguments as they are passed; in `inline_items` when they are few. */
typedef struct arguments {
    pr_actual actual;
    pr_value items[ARGS_INLINE];
    pr_pair keywords[ARGS_INLINE];
} arguments;

static bool dyn_positional(pr_render *r, pr_act *act, const pr_node *node, arguments *args)
{
    pr_value v, all;
    if (!pr_eval(r, act, node, &v)) return false;
    if (!pr_value_iterable(v)) {
        return pr_raise(r, PR_EXC_TYPE, "Value after * must be an iterable, not %s",
                        pr_value_type(v));
    }
    if (!pr_iter_list(r, v, PR_V_LIST, &all)) return false;
    size_t n = args->actual.n + all.u.list->n;
    pr_value *items = pr_render_array(r, n, sizeof *items);
    if (!items) return false;
    memcpy(items, args->actual.items, args->actual.n * sizeof *items);
    if (all.u.list->n) {
        memcpy(items + args->actual.n, all.u.list->items, all.u.list->n * sizeof *items);
    }
    args->actual.items = items;
    args->actual.n = n;
    return true;
}

static bool dyn_keywords(pr_render *r, pr_act *act, const pr_node *node, arguments *args)
{
    pr_value v, all;
    if (!pr_eval(r, act, node, &v)) return false;
    if (v.kind != PR_V_DICT) {
        return pr_raise(r, PR_EXC_TYPE, "argument after ** must be a mapping, not %s",
                        pr_value_type(v));
    }
    if (!pr_value_dict(r, args->actual.n_keywords + v.u.dict->n, &all)) return false;
    for (size_t i = 0; i < args->actual.n_keywords + v.u.dict->n; i++) {
        bool own = i < args->actual.n_keywords;
        const pr_pair *pair =
            own ? &args->actual.keywords[i] : &v.u.dict->pairs[i - args->actual.n_keywords];
        if (pair->key.kind != PR_V_STR) return pr_raise(r, PR_EXC_TYPE, "keywords must be strings");
        if (!own && pr_dict_find(all.u.dict, pair->key)) {
            return pr_raise(r, PR_EXC_TYPE, "got multiple values for keyword argument '%.*s'",
                            (int)pair->key.n, pair->key.u.s);
        }
        if (!pr_dict_put(r, all.u.dict, pair->key, pair->value)) return false;
    }
    args->actual.keywords = all.u.dict->pairs;
    args->actual.n_keywords = all.u.dict->n;
    return true;
}

static bool eval_args(pr_render *r, pr_act *act, const pr_args *from, arguments *args)
{
    pr_value *items = args->items;
    pr_pair *keywords = args->keywords;
    uint32_t n = from->positional.n, n_keywords = from->n_keywords;
    if (n > ARGS_INLINE && !(items = pr_render_array(r, n, sizeof *items))) return false;
    if (n_keywords > ARGS_INLINE &&
        !(keywords = pr_render_array(r, n_keywords, sizeof *keywords))) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!pr_eval(r, act, from->positional.items[i], &items[i])) return false;
    }
    for (uint32_t i = 0; i < n_keywords; i++) {
        keywords[i].key = from->keywords[i].name;
        if (!pr_eval(r, act, from->keywords[i].value, &keywords[i].value)) return false;
    }
    args->actual =
        (pr_actual){.items = items, .n = n, .keywords = keywords, .n_keywords = n_keywords};
    if (from->dyn_positional && !dyn_positional(r, act, from->dyn_positional, args)) return false;
    return !from->dyn_keywords || dyn_keywords(r, act, from->dyn_keywords, args);
}

static bool eval_call(pr_render *r, pr_act *act, const pr_node *node, pr_value *out)
{
    arguments args;
    pr_value callee;
    if (!pr_eval(r, act, node->a, &callee) || !eval_args(r, act, node->args, &args)) return false;
    r->line = node->line;
    return pr_value_call(r, callee, &args.actual, out);
}

/* A filter or test that was not known when the template was parsed. */
static bool raise_unknown(pr_render *r, const pr_node *node)
{
    bool filter = node->kind == PR_N_FILTER;
    if (node->i_function == PR_FUNCTION_REFUSED) {
        return pr_raise_repr(r, PR_EXC_UNSUPPORTED, "the filter %s", node->value);
    }
    return pr_raise_repr(r, PR_EXC_RUNTIME,
                         filter ? "No filter named %s found." : "No test named %s found.",
                         node->value);
}

static bool eval_filter(pr_render *r, pr_act *act, const pr_node *node, pr_value *out)
{
    arguments args;
    pr_value of;
    const pr_args *from = node->args;
    if (!pr_eval(r, act, node->a, &of)) return false;
    if (from->positional.n || from->n_keywords || from->dyn_positional || from->dyn_keywords) {
        if (!eval_args(r, act, from, &args)) return false;
    } else {
        args.actual = (pr_actual){0};
    }
    r->line = node->line;
    if (node->i_function >= PR_FUNCTION_REFUSED) return raise_unknown(r, node);
    if (node->kind == PR_N_FILTER)
        return pr_filter_call(r, node->i_function, of, &args.actual, out);
    bool result = false;
    if (!pr_test_call(r, node->i_function, of, &args.actual, &result)) return false;
    *out = pr_value_bool(result);
    return true;
}

static bool eval_inside(pr_render *r, pr_act *act, const pr_node *node, pr_value *out)
{
    pr_value v;
    switch (node->kind) {
    case PR_N_TUPLE:
    case PR_N_LIST:
        return eval_items(r, act, node, out);
    case PR_N_DICT:
        return eval_dict(r, act, node, out);
    case PR_N_COND:
        return eval_cond(r, act, node, out);
    case PR_N_OR:
    case PR_N_AND:
        return eval_logic(r, act, node, out);
    case PR_N_NOT:
        if (!pr_eval(r, act, node->a, &v)) return false;
        *out = pr_value_bool(!pr_value_truth(v));
        return true;
    case PR_N_NEG:
    case PR_N_POS:
        return pr_eval(r, act, node->a, &v) && pr_negate(r, v, node->kind == PR_N_POS, out);
    case PR_N_BINARY:
        return eval_binary(r, act, node, out);
    case PR_N_COMPARE:
        return eval_compare(r, act, node, out);
    case PR_N_CONCAT:
        return eval_concat(r, act, node, out);
    case PR_N_GETATTR:
        return eval_getattr(r, act, node, out);
    case PR_N_GETITEM:
        return eval_getitem(r, act, node, out);
    case PR_N_CALL:
        return eval_call(r, act, node, out);
    case PR_N_FILTER:
    case PR_N_TEST:
        return eval_filter(r, act, node, out);
    default:
        assert(!"a node that is no expression");
        return false;
    }
}

bool pr_eval(pr_render *r, pr_act *act, const pr_node *node, pr_value *out)
{
    if (node->kind == PR_N_CONST) {
        *out = node->value;
        return true;
    }
    if (node->kind == PR_N_NAME) return eval_name(act, node, out);
    if (!pr_render_step(r) || !pr_eval_enter(r)) return false;
    bool ok = eval_inside(r, act, node, out);
    r->depth--;
    return ok;
}
