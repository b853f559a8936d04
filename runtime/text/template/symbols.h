/* runtime/text/template/symbols.h: the names of one scope while a template is resolved.
 *
 * Kept as jinja2's idtracking.Symbols keeps them; memory is the render's that parses. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_SYMBOLS_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_SYMBOLS_H

#include "runtime/text/template/ast.h"

/* What has slots of its own. */
typedef struct pr_function_slots {
    struct pr_function_slots *parent; /* the function around it */
    struct pr_slot_name {
        uint32_t level;
        pr_value name;
    } * names; /* [n] by slot: scopes of one level share the slots of equal names */
    uint32_t n, n_max;
} pr_function_slots;

typedef struct pr_symbol {
    pr_value name;
    uint8_t load; /* pr_load_kind */
    uint16_t slot;
    bool stored;
    const struct pr_symbol *outer; /* of an alias */
    const struct pr_symbols *outer_scope;
} pr_symbol;

typedef struct pr_symbols {
    struct pr_symbols *parent;
    pr_function_slots *function;
    uint32_t level;
    pr_symbol **items; /* [n] in the order of their coming */
    uint32_t n, n_max;
    pr_symbol **stores; /* [n_stores] in the order in which they were first stored to */
    uint32_t n_stores, n_stores_max;
} pr_symbols;

pr_function_slots *pr_function_slots_create(pr_render *r, pr_function_slots *parent);
pr_symbols *pr_symbols_create(pr_render *r, pr_symbols *parent, pr_function_slots *function);

/* Outwards from s; *owner: the scope that has it. NULL when no scope does. */
pr_symbol *pr_symbols_find(pr_symbols *s, pr_value name, pr_symbols **owner);
bool pr_symbols_load(pr_render *r, pr_symbols *s, pr_value name);
bool pr_symbols_store(pr_render *r, pr_symbols *s, pr_value name);
bool pr_symbols_param(pr_render *r, pr_symbols *s, pr_value name);
/* Behind an if: what its branches stored to first (stores from n_before on) may have been left
 * alone, so it begins with the outer value. */
void pr_symbols_branches_end(pr_symbols *s, uint32_t n_before);

/* All names that reading `nodes` and nested expressions gives s; loops, macros and their kin keep
 * theirs. */
bool pr_symbols_visit(pr_render *r, pr_symbols *s, const pr_node *node);
bool pr_symbols_visit_all(pr_render *r, pr_symbols *s, pr_nodes nodes);
/* The names of a target as parameters. */
bool pr_symbols_visit_params(pr_render *r, pr_symbols *s, const pr_node *target);

/* Whether `name` is read in the nodes before anything is stored to it. */
bool pr_nodes_use(pr_nodes nodes, const char *name);

/* Where the symbol is, seen from `from`. */
pr_ref pr_symbols_ref(const pr_symbols *from, const pr_symbols *owner, const pr_symbol *symbol);
/* The scope's list of first values. */
bool pr_symbols_scope(pr_render *r, const pr_symbols *s, pr_scope *out);

#endif
