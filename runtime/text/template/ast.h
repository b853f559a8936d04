/* runtime/text/template/ast.h: a parsed template as a tree.
 *
 * Nodes live in the template's memory and do not change after pr_template_resolve (scope.h), which
 * turns names into slots. One struct serves all kinds; the enum says which fields each one uses. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_AST_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_AST_H

#include "runtime/text/template/value.h"

typedef enum pr_node_kind {
    /* Expressions. */
    PR_N_CONST,   /* value */
    PR_N_NAME,    /* value: the name; ref; op: pr_name_use */
    PR_N_NSREF,   /* value: the namespace's name; name2: the attribute; ref */
    PR_N_TUPLE,   /* items */
    PR_N_LIST,    /* items */
    PR_N_DICT,    /* items: key, value, key, … */
    PR_N_COND,    /* b if a else c; c may be NULL */
    PR_N_OR,      /* a or b */
    PR_N_AND,     /* a and b */
    PR_N_NOT,     /* a */
    PR_N_NEG,     /* a */
    PR_N_POS,     /* a */
    PR_N_BINARY,  /* a op b; op: pr_tok of + - * / // % ** */
    PR_N_COMPARE, /* a, then items: PR_N_OPERAND */
    PR_N_OPERAND, /* op, a; op: pr_compare */
    PR_N_CONCAT,  /* items ~ … */
    PR_N_GETATTR, /* a.value; flag: pr_attribute_is_special */
    PR_N_GETITEM, /* a[b] */
    PR_N_SLICE,   /* items: start, stop, step, each may be NULL; only as b of GETITEM */
    PR_N_CALL,    /* a(args) */
    PR_N_FILTER,  /* a | value(args); a NULL in a filter block; i_function */
    PR_N_TEST,    /* a is value(args); i_function */
    /* Statements. */
    PR_N_OUTPUT, /* items, written one after the other */
    PR_N_FOR,    /* a: target, b: iterable, c: condition or NULL; body, other; flag: recursive */
    PR_N_IF,     /* a: condition; body; items: PR_N_IF of each elif; other */
    PR_N_MACRO,  /* value: name; ref; macro; body */
    PR_N_CALL_BLOCK,   /* a: PR_N_CALL; macro; body */
    PR_N_GENERATION,   /* macro; body */
    PR_N_FILTER_BLOCK, /* a: PR_N_FILTER; body */
    PR_N_SET,          /* a: target, b: value */
    PR_N_SET_BLOCK,    /* a: target, b: PR_N_FILTER or NULL; body */
    PR_N_WITH,         /* items: target, value, target, …; body */
    PR_N_BREAK,
    PR_N_CONTINUE,
} pr_node_kind;

typedef enum pr_name_use { PR_NAME_LOAD, PR_NAME_STORE, PR_NAME_PARAM } pr_name_use;

typedef enum pr_compare {
    PR_CMP_EQ,
    PR_CMP_NE,
    PR_CMP_LT,
    PR_CMP_LTEQ,
    PR_CMP_GT,
    PR_CMP_GTEQ,
    PR_CMP_IN,
    PR_CMP_NOT_IN,
} pr_compare;

typedef struct pr_node pr_node;

typedef struct pr_nodes {
    pr_node **items;
    uint32_t n;
} pr_nodes;

/* Where a name's value is: `up` functions out, then a slot of that activation. */
typedef struct pr_ref {
    uint16_t up;
    uint16_t slot;
} pr_ref;

typedef struct pr_keyword {
    pr_value name;
    pr_node *value;
} pr_keyword;

typedef struct pr_args {
    pr_nodes positional;
    pr_keyword *keywords;
    uint32_t n_keywords;
    pr_node *dyn_positional, *dyn_keywords; /* NULL without */
} pr_args;

typedef enum pr_load_kind {
    PR_LOAD_PARAM,     /* set by who enters */
    PR_LOAD_RESOLVE,   /* a variable of the rendering, or a function of the environment */
    PR_LOAD_ALIAS,     /* begins as what an outer name is */
    PR_LOAD_UNDEFINED, /* begins without a value */
} pr_load_kind;

typedef struct pr_load {
    uint8_t kind;
    uint16_t slot;
    pr_ref from;   /* of an alias */
    pr_value name; /* to resolve */
} pr_load;

/* What happens when a scope is entered: each of its own names gets its first value. */
typedef struct pr_scope {
    pr_load *loads;
    uint32_t n_loads;
} pr_scope;

enum { PR_NO_SLOT = 0xffff };

/* What a macro, a call block and a generation block are when they are called. */
typedef struct pr_macro_code {
    pr_value name;  /* kind PR_V_NONE: "anonymous" */
    pr_node **args; /* [n_args] PR_N_NAME */
    uint32_t n_args;
    pr_node **defaults; /* [n_defaults], of the last ones */
    uint32_t n_defaults;
    uint16_t *slots;                  /* [n_args] */
    uint16_t caller, kwargs, varargs; /* slots; PR_NO_SLOT when the body does not use them */
    bool explicit_caller;             /* `caller` is among the arguments */
    uint16_t n_slots;                 /* of an activation */
    pr_scope scope;
    pr_nodes body;
    uint32_t line;
} pr_macro_code;

typedef struct pr_for_code {
    bool extended; /* `loop` is used */
    uint16_t loop; /* its slot */
    pr_scope scope, else_scope;
    /* With a condition: a function of its own, which sets the target and computes it. */
    pr_scope test_scope;
    uint16_t n_test_slots;
    pr_node *test_target;
    uint16_t n_slots; /* of a recursive loop's activation */
} pr_for_code;

struct pr_node {
    uint8_t kind;
    uint8_t op;
    bool flag;
    bool soft; /* inside an if: an unknown filter is an error when it is reached */
    uint32_t line;
    pr_ref ref;
    uint32_t i_function;
    pr_value value;
    pr_value name2;
    pr_node *a, *b, *c;
    pr_nodes items;
    pr_nodes body, other;
    pr_args *args;
    pr_macro_code *macro;
    pr_for_code *loop;
    pr_scope *scope;
};

typedef struct pr_ast {
    pr_nodes body;
    pr_scope scope;
    uint16_t n_slots; /* of the outermost activation */
} pr_ast;

#endif
