/* runtime/text/template/functions.h: how filters, tests, methods and global functions are listed,
 * found and called.
 *
 * A row names what Python calls the function and its parameters, so that arguments are bound, and
 * wrong ones refused, in one place and in Python's words. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_FUNCTIONS_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_FUNCTIONS_H

#include "runtime/text/template/value.h"

/* What a call passes. Borrowed for the call. */
typedef struct pr_actual {
    const pr_value *items; /* [n] */
    size_t n;
    const pr_pair *keywords; /* [n_keywords] */
    size_t n_keywords;
} pr_actual;

enum { PR_PARAMS_MAX = 7 };

/* How Python words a wrong number of arguments. */
typedef enum pr_function_style {
    PR_STYLE_PYTHON, /* a function written in Python: "do_x() takes 1 positional argument but …" */
    PR_STYLE_KEYWORDS, /* in C, with keywords: "split() takes at most 2 arguments (3 given)" */
    PR_STYLE_NO_ARGS,  /* in C: "str.upper() takes no arguments (1 given)" */
    PR_STYLE_ONE,      /* in C: "str.join() takes exactly one argument (0 given)" */
    PR_STYLE_C,        /* in C: "replace expected at least 2 arguments, got 1" */
} pr_function_style;

typedef struct pr_function {
    const char *name;
    const char *python; /* as messages call it; for PR_STYLE_NO_ARGS and _ONE with its type */
    uint8_t style;
    uint8_t n_required;                /* of the parameters */
    const char *params[PR_PARAMS_MAX]; /* the first is the value that is filtered, tested, or whose
                                          method it is; of global functions there is none */
    /* argv: [PR_PARAMS_MAX], PR_V_MISSING where nothing was passed. */
    bool (*bound)(pr_render *r, const pr_value *argv, pr_value *out);
    /* In place of bound: takes any arguments. */
    bool (*raw)(pr_render *r, pr_value self, const pr_actual *args, pr_value *out);
} pr_function;

enum { PR_FUNCTION_NONE = 0xffffffff, PR_FUNCTION_REFUSED = 0xfffffffe };

/* An index for pr_filter_call and pr_test_call; PR_FUNCTION_REFUSED for a filter that jinja2 has
 * and this does not. */
uint32_t pr_filter_find(pr_value name);
uint32_t pr_test_find(pr_value name);
bool pr_filter_call(pr_render *r, uint32_t i, pr_value value, const pr_actual *args, pr_value *out);
bool pr_test_call(pr_render *r, uint32_t i, pr_value value, const pr_actual *args, bool *out);
/* By a name that is a value; raises TemplateRuntimeError when there is none. */
bool pr_filter_call_named(pr_render *r, pr_value name, pr_value value, const pr_actual *args,
                          pr_value *out);
bool pr_test_call_named(pr_render *r, pr_value name, pr_value value, const pr_actual *args,
                        bool *out);

/* The functions of the environment (range, namespace, raise_exception, …). */
bool pr_global_find(pr_value name, pr_value *out);
bool pr_global_call(pr_render *r, uint32_t i, const pr_actual *args, pr_value *out);

/* Binds and calls f. self: PR_V_MISSING for a global function. */
bool pr_function_call(pr_render *r, const pr_function *f, pr_value self, const pr_actual *args,
                      pr_value *out);

/* Arguments as C wants them. MISSING gives the default. Raise as Python does. */
bool pr_arg_int(pr_render *r, pr_value v, int64_t absent, int64_t *out);
bool pr_arg_truth(pr_value v, bool absent);

#endif
