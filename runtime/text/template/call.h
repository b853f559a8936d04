/* runtime/text/template/call.h: calling values: macros, methods, functions, recursive loops. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_CALL_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_CALL_H

#include "runtime/base/buffer.h"
#include "runtime/text/template/ast.h"
#include "runtime/text/template/functions.h"

/* The slots of one call of a function (scope.h), and the call that it was defined in. */
typedef struct pr_act {
    struct pr_act *parent;
    pr_value slots[];
} pr_act;

struct pr_macro {
    const pr_macro_code *code;
    pr_act *act; /* where it was defined */
};

/* With n_slots slots without values. NULL with an exception. */
pr_act *pr_act_create(pr_render *r, pr_act *parent, size_t n_slots);

bool pr_value_call(pr_render *r, pr_value callee, const pr_actual *args, pr_value *out);
bool pr_value_callable(pr_value v);

bool pr_macro_repr(const pr_macro *macro, pr_buffer *b);
bool pr_macro_attribute(pr_render *r, const pr_macro *macro, pr_value name, bool *found,
                        pr_value *out);

#endif
