/* runtime/text/template/methods.h: methods of values: found by name, bound, called. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_METHODS_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_METHODS_H

#include "runtime/text/template/functions.h"

typedef enum pr_method_kind {
    PR_METHOD_NONE,
    PR_METHOD_SAFE,
    PR_METHOD_UNSAFE,  /* changes a list or a dict: the sandbox refuses it */
    PR_METHOD_REFUSED, /* Python has it, this does not */
} pr_method_kind;

pr_method_kind pr_method_look(pr_value obj, pr_value name);
/* Whether a dict has a method of that name, safe or not. */
bool pr_method_of_dict(pr_value name);
/* obj.name as a value; the method is PR_METHOD_SAFE. */
bool pr_method_bind(pr_render *r, pr_value obj, pr_value name, pr_value *out);
bool pr_method_call(pr_render *r, const pr_bound *method, const pr_actual *args, pr_value *out);

extern const pr_function pr_str_methods[];
extern const size_t pr_n_str_methods;

#endif
