#include "runtime/text/template/scope.h"

#include "runtime/text/template/attributes.h"
#include "runtime/text/template/functions.h"
#include "runtime/text/template/render.h"
#include "runtime/text/template/symbols.h"

#include <string.h>

/* Where the resolver stands. */
typedef struct place {
    pr_symbols *symbols;
    bool soft;    /* inside an if */
    bool in_loop; /* of this function */
} place;

static bool resolve_node(pr_render *r, place at, pr_node *node);
static bool resolve_all(pr_render *r, place at, pr_nodes nodes);

static bool resolve_name(pr_render *r, place at, pr_node *node)
{
    pr_symbols *owner = NULL;
    const pr_symbol *symbol = pr_symbols_find(at.symbols, node->value, &owner);
    if (!symbol) {
        r->line = node->line;
        return pr_raise_repr(r, PR_EXC_PYTHON_ASSERTION,
                             "Tried to resolve a name to a reference that was unknown to the "
                             "frame (%s)",
                             node->value);
    }
    node->ref = pr_symbols_ref(at.symbols, owner, symbol);
    return true;
}

static bool resolve_args(pr_render *r, place at, pr_args *args)
{
    if (!resolve_all(r, at, args->positional)) return false;
    for (uint32_t i = 0; i < args->n_keywords; i++) {
        if (!resolve_node(r, at, args->keywords[i].value)) return false;
    }
    return resolve_node(r, at, args->dyn_positional) && resolve_node(r, at, args->dyn_keywords);
}

/* A filter or a test by its name. Inside an if jinja2 looks it up when it gets there. */
static bool resolve_function(pr_render *r, place at, pr_node *node)
{
    bool filter = node->kind == PR_N_FILTER;
    node->i_function = filter ? pr_filter_find(node->value) : pr_test_find(node->value);
    node->soft = at.soft;
    r->line = node->line;
    if (node->i_function == PR_FUNCTION_NONE && !at.soft) {
        return pr_raise_repr(r, PR_EXC_ASSERTION,
                             filter ? "No filter named %s." : "No test named %s.", node->value);
    }
    if (node->i_function == PR_FUNCTION_REFUSED && !at.soft) {
        return pr_raise_repr(r, PR_EXC_UNSUPPORTED, "the filter %s", node->value);
    }
    return resolve_node(r, at, node->a) && resolve_args(r, at, node->args);
}

static pr_symbols *inner(pr_render *r, place at)
{
    return pr_symbols_create(r, at.symbols, at.symbols->function);
}

/* `loop` is not to be assigned to anywhere in a loop. */
static bool check_loop_target(pr_render *r, const pr_node *node)
{
    if (!node) return true;
    if (node->kind == PR_N_NAME && node->op == PR_NAME_STORE && node->value.n == 4 &&
        memcmp(node->value.u.s, "loop", 4) == 0) {
        r->line = node->line;
        return pr_raise(r, PR_EXC_ASSERTION,
                        "Can't assign to special loop variable in for-loop target");
    }
    const pr_node *single[] = {node->a, node->b, node->c};
    for (size_t i = 0; i < 3; i++) {
        if (!check_loop_target(r, single[i])) return false;
    }
    const pr_nodes lists[] = {node->items, node->body, node->other,
                              node->macro ? node->macro->body : (pr_nodes){0}};
    for (size_t k = 0; k < 4; k++) {
        for (uint32_t i = 0; i < lists[k].n; i++) {
            if (!check_loop_target(r, lists[k].items[i])) return false;
        }
    }
    return true;
}

/* A copy of a target, whose names are those of another scope. */
static pr_node *copy_target(pr_render *r, const pr_node *target)
{
    pr_node *copy = pr_render_alloc(r, sizeof *copy);
    pr_node **items = copy ? pr_render_array(r, target->items.n, sizeof *items) : NULL;
    if (!items) return NULL;
    *copy = *target;
    copy->items.items = items;
    for (uint32_t i = 0; i < target->items.n; i++) {
        if (!(items[i] = copy_target(r, target->items.items[i]))) return NULL;
    }
    return copy;
}

/* The condition of a loop is a function of its own. */
static bool resolve_condition(pr_render *r, place at, pr_node *node)
{
    pr_function_slots *f = pr_function_slots_create(r, at.symbols->function);
    pr_symbols *s = f ? pr_symbols_create(r, at.symbols, f) : NULL;
    if (!s || !pr_symbols_visit_params(r, s, node->a) || !pr_symbols_visit(r, s, node->c)) {
        return false;
    }
    place inside = {.symbols = s};
    node->loop->test_target = copy_target(r, node->a);
    if (!node->loop->test_target || !resolve_node(r, inside, node->loop->test_target) ||
        !resolve_node(r, inside, node->c) || !pr_symbols_scope(r, s, &node->loop->test_scope)) {
        return false;
    }
    node->loop->n_test_slots = (uint16_t)f->n;
    return true;
}

static bool resolve_for(pr_render *r, place at, pr_node *node)
{
    pr_for_code *loop = pr_render_alloc(r, sizeof *loop);
    if (!loop) return false;
    *loop = (pr_for_code){.loop = PR_NO_SLOT};
    node->loop = loop;
    loop->extended = node->flag || pr_nodes_use(node->body, "loop");
    pr_function_slots *f = at.symbols->function;
    if (node->flag && !(f = pr_function_slots_create(r, f))) return false;
    pr_symbols *body = pr_symbols_create(r, at.symbols, f);
    pr_symbols *other = body ? pr_symbols_create(r, at.symbols, f) : NULL;
    if (!other) return false;
    pr_value name = pr_value_cstr("loop");
    if (loop->extended && !pr_symbols_param(r, body, name)) return false;
    if (loop->extended) loop->loop = body->items[0]->slot;
    if (!pr_symbols_visit_params(r, body, node->a) || !pr_symbols_visit_all(r, body, node->body) ||
        !pr_symbols_visit_all(r, other, node->other) ||
        (node->c && !resolve_condition(r, at, node)) || !check_loop_target(r, node)) {
        return false;
    }
    place inside = {.symbols = body, .in_loop = true};
    place beside = {.symbols = other, .in_loop = at.in_loop && !node->flag};
    if (!resolve_node(r, inside, node->a) || !resolve_node(r, at, node->b) ||
        !resolve_all(r, inside, node->body) || !resolve_all(r, beside, node->other)) {
        return false;
    }
    loop->n_slots = (uint16_t)f->n;
    return pr_symbols_scope(r, body, &loop->scope) && pr_symbols_scope(r, other, &loop->else_scope);
}

/* Its slot when the body uses `name` and the macro has no argument of that name. */
static bool special_param(pr_render *r, pr_symbols *s, const pr_macro_code *macro, const char *text,
                          uint16_t *slot)
{
    pr_value name = pr_value_cstr(text);
    *slot = PR_NO_SLOT;
    if (!pr_nodes_use(macro->body, text)) return true;
    for (uint32_t i = 0; i < macro->n_args; i++) {
        if (pr_value_same(macro->args[i]->value, name)) return true;
    }
    pr_symbols *owner = NULL;
    if (!pr_symbols_param(r, s, name)) return false;
    *slot = pr_symbols_find(s, name, &owner)->slot;
    return true;
}

static bool check_caller(pr_render *r, pr_macro_code *macro)
{
    for (uint32_t i = 0; i < macro->n_args; i++) {
        if (!pr_value_same(macro->args[i]->value, pr_value_cstr("caller"))) continue;
        macro->explicit_caller = true;
        if (i + macro->n_defaults >= macro->n_args || !pr_nodes_use(macro->body, "caller"))
            continue;
        r->line = macro->line;
        return pr_raise(r, PR_EXC_ASSERTION,
                        "When defining macros or call blocks the special \"caller\" argument must "
                        "be omitted or be given a default.");
    }
    return true;
}

static bool resolve_macro(pr_render *r, place at, pr_macro_code *macro)
{
    pr_function_slots *f = pr_function_slots_create(r, at.symbols->function);
    pr_symbols *s = f ? pr_symbols_create(r, at.symbols, f) : NULL;
    macro->slots = pr_render_array(r, macro->n_args, sizeof *macro->slots);
    if (!s || !macro->slots) return false;
    pr_nodes args = {macro->args, macro->n_args}, defaults = {macro->defaults, macro->n_defaults};
    if (!pr_symbols_visit_all(r, s, args) || !pr_symbols_visit_all(r, s, defaults) ||
        !pr_symbols_visit_all(r, s, macro->body) || !check_caller(r, macro) ||
        !special_param(r, s, macro, "caller", &macro->caller) ||
        !special_param(r, s, macro, "kwargs", &macro->kwargs) ||
        !special_param(r, s, macro, "varargs", &macro->varargs)) {
        return false;
    }
    place inside = {.symbols = s};
    for (uint32_t i = 0; i < macro->n_args; i++) {
        if (!resolve_name(r, inside, macro->args[i])) return false;
        macro->slots[i] = macro->args[i]->ref.slot;
    }
    if (!resolve_all(r, inside, defaults) || !resolve_all(r, inside, macro->body)) return false;
    macro->n_slots = (uint16_t)f->n;
    return pr_symbols_scope(r, s, &macro->scope);
}

/* A filter block or a set block: its body is a scope. */
static bool resolve_capture(pr_render *r, place at, pr_node *node)
{
    bool set = node->kind == PR_N_SET_BLOCK;
    pr_symbols *s = inner(r, at);
    node->scope = pr_render_alloc(r, sizeof *node->scope);
    if (!s || !node->scope || !pr_symbols_visit_all(r, s, node->body)) return false;
    if (!set && !pr_symbols_visit(r, s, node->a)) return false;
    place inside = {.symbols = s, .in_loop = at.in_loop};
    if (!resolve_all(r, inside, node->body)) return false;
    if (!resolve_node(r, inside, set ? node->b : node->a)) return false;
    if (set && !resolve_node(r, at, node->a)) return false;
    return pr_symbols_scope(r, s, node->scope);
}

static bool resolve_with(pr_render *r, place at, pr_node *node)
{
    pr_symbols *s = inner(r, at);
    node->scope = pr_render_alloc(r, sizeof *node->scope);
    if (!s || !node->scope) return false;
    place inside = {.symbols = s, .in_loop = at.in_loop};
    for (uint32_t i = 0; i < node->items.n; i += 2) {
        if (!pr_symbols_visit(r, s, node->items.items[i])) return false;
    }
    if (!pr_symbols_visit_all(r, s, node->body)) return false;
    for (uint32_t i = 0; i < node->items.n; i += 2) {
        if (!resolve_node(r, inside, node->items.items[i]) ||
            !resolve_node(r, at, node->items.items[i + 1])) {
            return false;
        }
    }
    return resolve_all(r, inside, node->body) && pr_symbols_scope(r, s, node->scope);
}

static bool resolve_children(pr_render *r, place at, pr_node *node)
{
    return resolve_node(r, at, node->a) && resolve_node(r, at, node->b) &&
           resolve_node(r, at, node->c) && resolve_all(r, at, node->items) &&
           (!node->args || resolve_args(r, at, node->args)) && resolve_all(r, at, node->body) &&
           resolve_all(r, at, node->other);
}

static bool resolve_node(pr_render *r, place at, pr_node *node)
{
    if (!node) return true;
    place soft = at;
    soft.soft = true;
    switch (node->kind) {
    case PR_N_NAME:
    case PR_N_NSREF:
        return resolve_name(r, at, node);
    case PR_N_FILTER:
    case PR_N_TEST:
        return resolve_function(r, at, node);
    case PR_N_GETATTR:
        node->flag = pr_attribute_is_special(node->value);
        return resolve_node(r, at, node->a);
    case PR_N_IF:
    case PR_N_COND:
        return resolve_children(r, soft, node);
    case PR_N_FOR:
        return resolve_for(r, at, node);
    case PR_N_MACRO:
        return resolve_macro(r, at, node->macro) && resolve_name(r, at, node);
    case PR_N_CALL_BLOCK:
        return resolve_macro(r, at, node->macro) && resolve_node(r, at, node->a);
    case PR_N_GENERATION:
        return resolve_macro(r, at, node->macro);
    case PR_N_FILTER_BLOCK:
    case PR_N_SET_BLOCK:
        return resolve_capture(r, at, node);
    case PR_N_WITH:
        return resolve_with(r, at, node);
    case PR_N_BREAK:
    case PR_N_CONTINUE:
        if (at.in_loop) return true;
        r->line = node->line;
        return pr_raise(r, PR_EXC_SYNTAX,
                        node->kind == PR_N_BREAK ? "'break' outside loop"
                                                 : "'continue' not properly in loop");
    default:
        return resolve_children(r, at, node);
    }
}

static bool resolve_all(pr_render *r, place at, pr_nodes nodes)
{
    for (uint32_t i = 0; i < nodes.n; i++) {
        if (!resolve_node(r, at, nodes.items[i])) return false;
    }
    return true;
}

bool pr_template_resolve(pr_render *r, pr_ast *ast)
{
    pr_function_slots *f = pr_function_slots_create(r, NULL);
    pr_symbols *s = f ? pr_symbols_create(r, NULL, f) : NULL;
    if (!s || !pr_symbols_visit_all(r, s, ast->body)) return false;
    place root = {.symbols = s};
    if (!resolve_all(r, root, ast->body)) return false;
    ast->n_slots = (uint16_t)f->n;
    return pr_symbols_scope(r, s, &ast->scope);
}
