#include "runtime/text/template/symbols.h"

#include "runtime/text/template/render.h"

#include <assert.h>
#include <string.h>

pr_function_slots *pr_function_slots_create(pr_render *r, pr_function_slots *parent)
{
    pr_function_slots *f = pr_render_alloc(r, sizeof *f);
    if (f) *f = (pr_function_slots){.parent = parent};
    return f;
}

pr_symbols *pr_symbols_create(pr_render *r, pr_symbols *parent, pr_function_slots *function)
{
    pr_symbols *s = pr_render_alloc(r, sizeof *s);
    if (!s) return NULL;
    *s = (pr_symbols){
        .parent = parent, .function = function, .level = parent ? parent->level + 1 : 0};
    return s;
}

/* Doubles an array of items_bytes that is full. */
static bool grow(pr_render *r, void **items, uint32_t n, uint32_t *n_max, size_t item_bytes)
{
    if (n < *n_max) return true;
    uint32_t more = *n_max ? 2 * *n_max : 8;
    void *longer = pr_render_array(r, more, item_bytes);
    if (!longer) return false;
    if (n) memcpy(longer, *items, n * item_bytes);
    *items = longer;
    *n_max = more;
    return true;
}

static bool find_slot(pr_render *r, pr_function_slots *f, uint32_t level, pr_value name,
                      uint16_t *out)
{
    for (uint32_t i = 0; i < f->n; i++) {
        if (f->names[i].level != level || !pr_value_same(f->names[i].name, name)) continue;
        *out = (uint16_t)i;
        return true;
    }
    if (f->n >= PR_NO_SLOT) return pr_raise(r, PR_EXC_BOUND, "more than %d names", PR_NO_SLOT);
    void *names = f->names;
    if (!grow(r, &names, f->n, &f->n_max, sizeof *f->names)) return false;
    f->names = names;
    f->names[f->n].level = level;
    f->names[f->n].name = name;
    *out = (uint16_t)f->n++;
    return true;
}

static pr_symbol *find_own(const pr_symbols *s, pr_value name)
{
    for (uint32_t i = 0; i < s->n; i++) {
        if (pr_value_same(s->items[i]->name, name)) return s->items[i];
    }
    return NULL;
}

pr_symbol *pr_symbols_find(pr_symbols *s, pr_value name, pr_symbols **owner)
{
    for (; s; s = s->parent) {
        pr_symbol *found = find_own(s, name);
        if (!found) continue;
        *owner = s;
        return found;
    }
    return NULL;
}

static pr_symbol *define(pr_render *r, pr_symbols *s, pr_value name, pr_load_kind load)
{
    pr_symbol *symbol = find_own(s, name);
    if (!symbol) {
        void *items = s->items;
        symbol = pr_render_alloc(r, sizeof *symbol);
        if (!symbol || !grow(r, &items, s->n, &s->n_max, sizeof(pr_symbol *))) return NULL;
        s->items = items;
        *symbol = (pr_symbol){.name = name};
        if (!find_slot(r, s->function, s->level, name, &symbol->slot)) return NULL;
        s->items[s->n++] = symbol;
    }
    symbol->load = (uint8_t)load;
    return symbol;
}

static bool note_store(pr_render *r, pr_symbols *s, pr_symbol *symbol)
{
    if (symbol->stored) return true;
    void *stores = s->stores;
    if (!grow(r, &stores, s->n_stores, &s->n_stores_max, sizeof(pr_symbol *))) return false;
    s->stores = stores;
    s->stores[s->n_stores++] = symbol;
    symbol->stored = true;
    return true;
}

/* An outer scope's symbol becomes what this one begins with. */
static bool alias(pr_symbols *s, pr_symbol *symbol)
{
    pr_symbols *owner = NULL;
    const pr_symbol *outer = pr_symbols_find(s->parent, symbol->name, &owner);
    if (!outer) return false;
    symbol->load = PR_LOAD_ALIAS;
    symbol->outer = outer;
    symbol->outer_scope = owner;
    return true;
}

bool pr_symbols_load(pr_render *r, pr_symbols *s, pr_value name)
{
    pr_symbols *owner = NULL;
    return pr_symbols_find(s, name, &owner) || define(r, s, name, PR_LOAD_RESOLVE);
}

bool pr_symbols_store(pr_render *r, pr_symbols *s, pr_value name)
{
    pr_symbol *symbol = find_own(s, name);
    if (!symbol) {
        symbol = define(r, s, name, PR_LOAD_UNDEFINED);
        if (!symbol) return false;
        alias(s, symbol);
    }
    return note_store(r, s, symbol);
}

bool pr_symbols_param(pr_render *r, pr_symbols *s, pr_value name)
{
    pr_symbol *symbol = define(r, s, name, PR_LOAD_PARAM);
    return symbol && note_store(r, s, symbol);
}

void pr_symbols_branches_end(pr_symbols *s, uint32_t n_before)
{
    for (uint32_t i = n_before; i < s->n_stores; i++) {
        if (!alias(s, s->stores[i])) s->stores[i]->load = PR_LOAD_RESOLVE;
    }
}

bool pr_symbols_visit_params(pr_render *r, pr_symbols *s, const pr_node *target)
{
    if (target->kind == PR_N_NAME) return pr_symbols_param(r, s, target->value);
    for (uint32_t i = 0; i < target->items.n; i++) {
        if (!pr_symbols_visit_params(r, s, target->items.items[i])) return false;
    }
    return true;
}

bool pr_symbols_visit_all(pr_render *r, pr_symbols *s, pr_nodes nodes)
{
    for (uint32_t i = 0; i < nodes.n; i++) {
        if (!pr_symbols_visit(r, s, nodes.items[i])) return false;
    }
    return true;
}

static bool visit_args(pr_render *r, pr_symbols *s, const pr_args *args)
{
    if (!pr_symbols_visit_all(r, s, args->positional)) return false;
    for (uint32_t i = 0; i < args->n_keywords; i++) {
        if (!pr_symbols_visit(r, s, args->keywords[i].value)) return false;
    }
    return pr_symbols_visit(r, s, args->dyn_positional) &&
           pr_symbols_visit(r, s, args->dyn_keywords);
}

static bool visit_if(pr_render *r, pr_symbols *s, const pr_node *node)
{
    if (!pr_symbols_visit(r, s, node->a)) return false;
    uint32_t n_before = s->n_stores;
    if (!pr_symbols_visit_all(r, s, node->body) || !pr_symbols_visit_all(r, s, node->items) ||
        !pr_symbols_visit_all(r, s, node->other)) {
        return false;
    }
    pr_symbols_branches_end(s, n_before);
    return true;
}

static bool visit_name(pr_render *r, pr_symbols *s, const pr_node *node)
{
    if (node->op == PR_NAME_PARAM) return pr_symbols_param(r, s, node->value);
    if (node->op == PR_NAME_STORE) return pr_symbols_store(r, s, node->value);
    return pr_symbols_load(r, s, node->value);
}

bool pr_symbols_visit(pr_render *r, pr_symbols *s, const pr_node *node)
{
    if (!node) return true;
    switch (node->kind) {
    case PR_N_NAME:
        return visit_name(r, s, node);
    case PR_N_NSREF:
        return pr_symbols_load(r, s, node->value);
    case PR_N_IF:
        return visit_if(r, s, node);
    case PR_N_FOR:
        return pr_symbols_visit(r, s, node->b);
    case PR_N_MACRO:
        return pr_symbols_store(r, s, node->value);
    case PR_N_CALL_BLOCK:
    case PR_N_FILTER_BLOCK:
    case PR_N_SET_BLOCK: /* of a set block the target alone */
        return pr_symbols_visit(r, s, node->a);
    case PR_N_GENERATION:
        return true;
    case PR_N_SET:
        return pr_symbols_visit(r, s, node->b) && pr_symbols_visit(r, s, node->a);
    case PR_N_WITH:
        for (uint32_t i = 1; i < node->items.n; i += 2) {
            if (!pr_symbols_visit(r, s, node->items.items[i])) return false;
        }
        return true;
    default:
        return pr_symbols_visit(r, s, node->a) && pr_symbols_visit(r, s, node->b) &&
               pr_symbols_visit(r, s, node->c) && pr_symbols_visit_all(r, s, node->items) &&
               (!node->args || visit_args(r, s, node->args));
    }
}

/* What is known of a name while nodes are read in order. */
typedef enum usage { UNSEEN, USED, STORED } usage;

static usage node_usage(const pr_node *node, pr_value name);

static usage nodes_usage(pr_nodes nodes, pr_value name)
{
    for (uint32_t i = 0; i < nodes.n; i++) {
        usage u = node_usage(nodes.items[i], name);
        if (u != UNSEEN) return u;
    }
    return UNSEEN;
}

static usage args_usage(const pr_args *args, pr_value name)
{
    usage u = nodes_usage(args->positional, name);
    for (uint32_t i = 0; i < args->n_keywords && u == UNSEEN; i++) {
        u = node_usage(args->keywords[i].value, name);
    }
    if (u == UNSEEN) u = node_usage(args->dyn_positional, name);
    return u != UNSEEN ? u : node_usage(args->dyn_keywords, name);
}

static usage macro_usage(const pr_macro_code *macro, pr_value name)
{
    usage u = nodes_usage((pr_nodes){macro->args, macro->n_args}, name);
    if (u == UNSEEN) u = nodes_usage((pr_nodes){macro->defaults, macro->n_defaults}, name);
    return u != UNSEEN ? u : nodes_usage(macro->body, name);
}

/* With's targets come before its values. */
static usage with_usage(const pr_node *node, pr_value name)
{
    usage u = UNSEEN;
    for (uint32_t first = 0; first < 2; first++) {
        for (uint32_t i = first; i < node->items.n && u == UNSEEN; i += 2) {
            u = node_usage(node->items.items[i], name);
        }
    }
    return u != UNSEEN ? u : nodes_usage(node->body, name);
}

static usage node_usage(const pr_node *node, pr_value name)
{
    if (!node) return UNSEEN;
    if (node->kind == PR_N_NAME) {
        if (!pr_value_same(node->value, name)) return UNSEEN;
        return node->op == PR_NAME_LOAD ? USED : STORED;
    }
    if (node->kind == PR_N_WITH) return with_usage(node, name);
    usage u = UNSEEN;
    if (node->kind == PR_N_FILTER_BLOCK) u = nodes_usage(node->body, name);
    if (u == UNSEEN) u = node_usage(node->a, name);
    if (u == UNSEEN) u = node_usage(node->b, name);
    if (u == UNSEEN && node->kind != PR_N_FOR) u = node_usage(node->c, name);
    if (u == UNSEEN && node->kind != PR_N_IF) u = nodes_usage(node->items, name);
    if (u == UNSEEN && node->args) u = args_usage(node->args, name);
    if (u == UNSEEN && node->macro) u = macro_usage(node->macro, name);
    if (u == UNSEEN && node->kind != PR_N_FILTER_BLOCK) u = nodes_usage(node->body, name);
    if (u == UNSEEN && node->kind == PR_N_IF) u = nodes_usage(node->items, name);
    if (u == UNSEEN) u = nodes_usage(node->other, name);
    if (u == UNSEEN && node->kind == PR_N_FOR) u = node_usage(node->c, name);
    return u;
}

bool pr_nodes_use(pr_nodes nodes, const char *name)
{
    return nodes_usage(nodes, pr_value_cstr(name)) == USED;
}

pr_ref pr_symbols_ref(const pr_symbols *from, const pr_symbols *owner, const pr_symbol *symbol)
{
    uint16_t up = 0;
    const pr_function_slots *f = from->function;
    for (; f != owner->function; f = f->parent) {
        assert(f);
        up++;
    }
    return (pr_ref){.up = up, .slot = symbol->slot};
}

bool pr_symbols_scope(pr_render *r, const pr_symbols *s, pr_scope *out)
{
    pr_load *loads = pr_render_array(r, s->n, sizeof *loads);
    if (!loads) return false;
    for (uint32_t i = 0; i < s->n; i++) {
        const pr_symbol *symbol = s->items[i];
        loads[i] = (pr_load){.kind = symbol->load, .slot = symbol->slot, .name = symbol->name};
        if (symbol->load != PR_LOAD_ALIAS) continue;
        loads[i].from = pr_symbols_ref(s, symbol->outer_scope, symbol->outer);
    }
    *out = (pr_scope){.loads = loads, .n_loads = s->n};
    return true;
}
