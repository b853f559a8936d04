#include "runtime/text/template/eval.h"

#include "runtime/text/template/functions.h"
#include "runtime/text/template/iterate.h"
#include "runtime/text/template/render.h"
#include "runtime/text/template/value_text.h"
#include "runtime/text/template/variables.h"

#include <assert.h>
#include <string.h>

static pr_act *outwards(pr_act *act, uint16_t up)
{
    for (; up > 0; up--) act = act->parent;
    return act;
}

bool pr_scope_enter(pr_render *r, pr_act *act, const pr_scope *scope)
{
    for (uint32_t i = 0; i < scope->n_loads; i++) {
        const pr_load *load = &scope->loads[i];
        pr_value *slot = &act->slots[load->slot];
        switch (load->kind) {
        case PR_LOAD_RESOLVE:
            if (!pr_variable_find(r, load->name, slot)) return false;
            break;
        case PR_LOAD_ALIAS:
            *slot = outwards(act, load->from.up)->slots[load->from.slot];
            break;
        case PR_LOAD_UNDEFINED:
            *slot = (pr_value){0};
            break;
        default:
            break;
        }
    }
    return true;
}

static void scope_leave(pr_act *act, const pr_scope *scope)
{
    for (uint32_t i = 0; i < scope->n_loads; i++) act->slots[scope->loads[i].slot] = (pr_value){0};
}

static bool assign_tuple(pr_render *r, pr_act *act, const pr_node *target, pr_value value)
{
    pr_iter it;
    pr_value item;
    uint32_t n = target->items.n;
    if (!pr_value_iterable(value)) {
        return pr_raise(r, PR_EXC_TYPE, "cannot unpack non-iterable %s object",
                        pr_value_type(value));
    }
    /* All are drawn before the first one is assigned, as Python does. */
    pr_value *items = pr_render_array(r, n, sizeof *items);
    if (!items || !pr_iter_begin(r, value, &it)) return false;
    for (uint32_t i = 0; i < n; i++) {
        int got = pr_iter_next(r, &it, &items[i]);
        if (got == PR_ITER_RAISED) return false;
        if (got == PR_ITER_END) {
            return pr_raise(r, PR_EXC_VALUE, "not enough values to unpack (expected %u, got %u)", n,
                            i);
        }
    }
    int more = pr_iter_next(r, &it, &item);
    if (more == PR_ITER_RAISED) return false;
    if (more == PR_ITER_ITEM) {
        return pr_raise(r, PR_EXC_VALUE, "too many values to unpack (expected %u)", n);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!pr_assign(r, act, target->items.items[i], items[i])) return false;
    }
    return true;
}

/* Before a set computes anything: what it writes into must be a namespace. */
static bool check_namespaces(pr_render *r, pr_act *act, const pr_node *target)
{
    if (target->kind == PR_N_NSREF) {
        pr_value ns = outwards(act, target->ref.up)->slots[target->ref.slot];
        if (ns.kind == PR_V_NAMESPACE) return true;
        return pr_raise(r, PR_EXC_RUNTIME, "cannot assign attribute on non-namespace object");
    }
    for (uint32_t i = 0; i < target->items.n; i++) {
        if (!check_namespaces(r, act, target->items.items[i])) return false;
    }
    return true;
}

bool pr_assign(pr_render *r, pr_act *act, const pr_node *target, pr_value value)
{
    pr_value *slot = NULL;
    switch (target->kind) {
    case PR_N_NAME:
        outwards(act, target->ref.up)->slots[target->ref.slot] = value;
        return true;
    case PR_N_NSREF:
        slot = &outwards(act, target->ref.up)->slots[target->ref.slot];
        if (slot->kind != PR_V_NAMESPACE) {
            return pr_raise(r, PR_EXC_RUNTIME, "cannot assign attribute on non-namespace object");
        }
        return pr_dict_put(r, slot->u.dict, target->name2, value);
    default:
        assert(target->kind == PR_N_TUPLE);
        return assign_tuple(r, act, target, value);
    }
}

static bool exec_output(pr_render *r, pr_act *act, const pr_node *node)
{
    for (uint32_t i = 0; i < node->items.n; i++) {
        const pr_node *item = node->items.items[i];
        pr_value v;
        r->line = item->line;
        if (!pr_eval(r, act, item, &v)) return false;
        if (v.kind != PR_V_STR && !pr_value_to_str(r, v, &v)) return false;
        if (!pr_render_write(r, v.u.s, v.n)) return false;
    }
    return true;
}

/* A loop's condition, as the generator that jinja2 makes of it. */
typedef struct loop_condition {
    const pr_node *node;
    pr_act *act; /* of the condition's own */
} loop_condition;

static int next_where(pr_render *r, pr_iter *it, pr_value *out)
{
    const loop_condition *c = it->state;
    pr_value keep;
    int got = 0;
    while ((got = pr_iter_next(r, it->from, out)) == PR_ITER_ITEM) {
        if (!pr_assign(r, c->act, c->node->loop->test_target, *out) ||
            !pr_eval(r, c->act, c->node->c, &keep)) {
            return PR_ITER_RAISED;
        }
        if (pr_value_truth(keep)) return PR_ITER_ITEM;
    }
    return got;
}

/* outer: the activation around the loop. */
static bool filter_begin(pr_render *r, pr_act *outer, const pr_node *node, pr_value over,
                         pr_value *out)
{
    loop_condition *c = pr_render_alloc(r, sizeof *c);
    pr_iter *from = c ? pr_render_alloc(r, sizeof *from) : NULL;
    if (!from || !pr_iter_begin(r, over, from)) return false;
    *c = (loop_condition){.node = node, .act = pr_act_create(r, outer, node->loop->n_test_slots)};
    if (!c->act || !pr_scope_enter(r, c->act, &node->loop->test_scope)) return false;
    pr_iter it = {.next = next_where, .type = "generator", .from = from, .state = c};
    return pr_iter_value(r, it, out);
}

/* The rounds of a loop; *n_rounds: 0 when there was none. */
static pr_flow run_rounds(pr_render *r, pr_act *act, const pr_node *node, pr_iter *it,
                          pr_loop *loop, size_t *n_rounds)
{
    const pr_for_code *code = node->loop;
    pr_value item;
    while (true) {
        int got = loop ? pr_loop_next(r, loop, &item) : pr_iter_next(r, it, &item);
        if (got == PR_ITER_RAISED) return PR_FLOW_RAISED;
        if (got == PR_ITER_END) return PR_FLOW_ON;
        if (!pr_assign(r, act, node->a, item)) return PR_FLOW_RAISED;
        if (loop) act->slots[code->loop] = (pr_value){.kind = PR_V_LOOP, .u.loop = loop};
        if (!pr_scope_enter(r, act, &code->scope)) return PR_FLOW_RAISED;
        pr_flow flow = pr_exec(r, act, node->body);
        if (flow == PR_FLOW_RAISED) return flow;
        if (flow == PR_FLOW_BREAK) {
            /* What jinja2 counts as a round reaches the end of its body. */
            return PR_FLOW_ON;
        }
        if (flow == PR_FLOW_ON) (*n_rounds)++;
    }
}

static pr_flow run_for(pr_render *r, pr_act *act, pr_act *outer, const pr_node *node, pr_value over,
                       int64_t depth0)
{
    const pr_for_code *code = node->loop;
    pr_iter *it = NULL;
    pr_loop *loop = NULL;
    size_t n_rounds = 0;
    if (node->c && !filter_begin(r, outer, node, over, &over)) return PR_FLOW_RAISED;
    if (!(it = pr_render_alloc(r, sizeof *it)) || !pr_iter_begin(r, over, it)) {
        return PR_FLOW_RAISED;
    }
    if (code->extended) {
        if (!(loop = pr_render_alloc(r, sizeof *loop))) return PR_FLOW_RAISED;
        *loop = (pr_loop){.iter = it,
                          .iterable = over,
                          .index0 = -1,
                          .depth0 = depth0,
                          .recurse = node->flag ? node : NULL,
                          .act = outer};
        act->slots[code->loop] = (pr_value){0};
    }
    pr_flow flow = run_rounds(r, act, node, it, loop, &n_rounds);
    if (flow != PR_FLOW_ON) return flow;
    scope_leave(act, &code->scope);
    if (n_rounds > 0 || node->other.n == 0) return PR_FLOW_ON;
    if (!pr_scope_enter(r, act, &code->else_scope)) return PR_FLOW_RAISED;
    flow = pr_exec(r, act, node->other);
    scope_leave(act, &code->else_scope);
    return flow;
}

bool pr_loop_run(pr_render *r, pr_act *outer, const pr_node *node, pr_value over, int64_t depth0,
                 pr_value *out)
{
    size_t begin = r->out.n;
    pr_act *act = pr_act_create(r, outer, node->loop->n_slots);
    if (!act || !pr_eval_enter(r)) return false;
    pr_flow flow = run_for(r, act, outer, node, over, depth0);
    r->depth--;
    return flow != PR_FLOW_RAISED && pr_render_captured(r, begin, out);
}

static pr_flow exec_for(pr_render *r, pr_act *act, const pr_node *node)
{
    pr_value over, text;
    if (!pr_eval(r, act, node->b, &over)) return PR_FLOW_RAISED;
    r->line = node->line;
    if (!node->flag) return run_for(r, act, act, node, over, 0);
    if (!pr_loop_run(r, act, node, over, 0, &text)) return PR_FLOW_RAISED;
    return pr_render_write(r, text.u.s, text.n) ? PR_FLOW_ON : PR_FLOW_RAISED;
}

static pr_flow exec_if(pr_render *r, pr_act *act, const pr_node *node)
{
    pr_value condition;
    if (!pr_eval(r, act, node->a, &condition)) return PR_FLOW_RAISED;
    if (pr_value_truth(condition)) return pr_exec(r, act, node->body);
    for (uint32_t i = 0; i < node->items.n; i++) {
        const pr_node *branch = node->items.items[i];
        r->line = branch->line;
        if (!pr_eval(r, act, branch->a, &condition)) return PR_FLOW_RAISED;
        if (pr_value_truth(condition)) return pr_exec(r, act, branch->body);
    }
    return pr_exec(r, act, node->other);
}

static bool make_macro(pr_render *r, pr_act *act, const pr_macro_code *code, pr_value *out)
{
    pr_macro *macro = pr_render_alloc(r, sizeof *macro);
    if (!macro) return false;
    *macro = (pr_macro){.code = code, .act = act};
    *out = (pr_value){.kind = PR_V_MACRO, .u.macro = macro};
    return true;
}

/* The call of a call block, with the block as its keyword `caller`. */
static bool exec_call_block(pr_render *r, pr_act *act, const pr_node *node)
{
    pr_value caller, text;
    pr_node constant = {.kind = PR_N_CONST, .line = node->line};
    pr_args args = *node->a->args;
    if (!make_macro(r, act, node->macro, &caller)) return false;
    constant.value = caller;
    args.keywords = pr_render_array(r, args.n_keywords + 1u, sizeof *args.keywords);
    if (!args.keywords) return false;
    if (args.n_keywords) {
        memcpy(args.keywords, node->a->args->keywords, args.n_keywords * sizeof *args.keywords);
    }
    args.keywords[args.n_keywords++] =
        (pr_keyword){.name = pr_value_cstr("caller"), .value = &constant};
    pr_node call = *node->a;
    call.args = &args;
    return pr_eval(r, act, &call, &text) && pr_value_to_str(r, text, &text) &&
           pr_render_write(r, text.u.s, text.n);
}

static bool exec_generation(pr_render *r, pr_act *act, const pr_node *node)
{
    pr_value macro, text;
    pr_actual none = {0};
    return make_macro(r, act, node->macro, &macro) && pr_value_call(r, macro, &none, &text) &&
           pr_render_write(r, text.u.s, text.n);
}

/* A filter over what stands behind `begin` in the output. */
static bool filter_captured(pr_render *r, pr_act *act, const pr_node *filter, pr_value *text)
{
    pr_node constant = {.kind = PR_N_CONST, .value = *text};
    pr_node chain[8];
    size_t n = 0;
    for (const pr_node *f = filter; f; f = f->a) {
        if (n == sizeof chain / sizeof *chain) {
            return pr_raise(r, PR_EXC_BOUND, "more than %zu filters on a block", n);
        }
        chain[n++] = *f;
    }
    for (size_t i = 0; i + 1 < n; i++) chain[i].a = &chain[i + 1];
    chain[n - 1].a = &constant;
    return pr_eval(r, act, &chain[0], text);
}

static pr_flow exec_capture(pr_render *r, pr_act *act, const pr_node *node)
{
    bool set = node->kind == PR_N_SET_BLOCK;
    const pr_node *filter = set ? node->b : node->a;
    size_t begin = r->out.n;
    pr_value text;
    if (!pr_scope_enter(r, act, node->scope)) return PR_FLOW_RAISED;
    pr_flow flow = pr_exec(r, act, node->body);
    if (flow == PR_FLOW_RAISED || !pr_render_captured(r, begin, &text)) return PR_FLOW_RAISED;
    if (flow != PR_FLOW_ON) return flow; /* a break: what was captured is dropped */
    if (filter && !filter_captured(r, act, filter, &text)) return PR_FLOW_RAISED;
    bool ok = set ? check_namespaces(r, act, node->a) && pr_assign(r, act, node->a, text)
                  : pr_value_to_str(r, text, &text) && pr_render_write(r, text.u.s, text.n);
    scope_leave(act, node->scope);
    return ok ? PR_FLOW_ON : PR_FLOW_RAISED;
}

static pr_flow exec_with(pr_render *r, pr_act *act, const pr_node *node)
{
    pr_value value;
    if (!pr_scope_enter(r, act, node->scope)) return PR_FLOW_RAISED;
    for (uint32_t i = 0; i < node->items.n; i += 2) {
        if (!pr_eval(r, act, node->items.items[i + 1], &value) ||
            !pr_assign(r, act, node->items.items[i], value)) {
            return PR_FLOW_RAISED;
        }
    }
    pr_flow flow = pr_exec(r, act, node->body);
    scope_leave(act, node->scope);
    return flow;
}

static bool exec_set(pr_render *r, pr_act *act, const pr_node *node)
{
    pr_value value;
    return check_namespaces(r, act, node->a) && pr_eval(r, act, node->b, &value) &&
           pr_assign(r, act, node->a, value);
}

static bool exec_macro(pr_render *r, pr_act *act, const pr_node *node)
{
    return make_macro(r, act, node->macro, &outwards(act, node->ref.up)->slots[node->ref.slot]);
}

static pr_flow exec_node(pr_render *r, pr_act *act, const pr_node *node)
{
    bool ok = false;
    r->line = node->line;
    switch (node->kind) {
    case PR_N_OUTPUT:
        ok = exec_output(r, act, node);
        break;
    case PR_N_IF:
        return exec_if(r, act, node);
    case PR_N_FOR:
        return exec_for(r, act, node);
    case PR_N_SET:
        ok = exec_set(r, act, node);
        break;
    case PR_N_SET_BLOCK:
    case PR_N_FILTER_BLOCK:
        return exec_capture(r, act, node);
    case PR_N_MACRO:
        ok = exec_macro(r, act, node);
        break;
    case PR_N_CALL_BLOCK:
        ok = exec_call_block(r, act, node);
        break;
    case PR_N_GENERATION:
        ok = exec_generation(r, act, node);
        break;
    case PR_N_WITH:
        return exec_with(r, act, node);
    case PR_N_BREAK:
        return PR_FLOW_BREAK;
    case PR_N_CONTINUE:
        return PR_FLOW_CONTINUE;
    default:
        assert(!"a node that is no statement");
    }
    return ok ? PR_FLOW_ON : PR_FLOW_RAISED;
}

pr_flow pr_exec(pr_render *r, pr_act *act, pr_nodes nodes)
{
    pr_flow flow = PR_FLOW_ON;
    if (!pr_eval_enter(r)) return PR_FLOW_RAISED;
    for (uint32_t i = 0; i < nodes.n && flow == PR_FLOW_ON; i++) {
        flow = pr_render_step(r) ? exec_node(r, act, nodes.items[i]) : PR_FLOW_RAISED;
    }
    r->depth--;
    return flow;
}
