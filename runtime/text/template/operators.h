/* runtime/text/template/operators.h: + - * / // % **, comparisons, in, as Python computes them.
 * Integers stay within 64 bits; what leaves them is refused. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_OPERATORS_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_OPERATORS_H

#include "runtime/text/template/value.h"

/* op: pr_tok of the operator. */
bool pr_operate(pr_render *r, int op, pr_value a, pr_value b, pr_value *out);
bool pr_negate(pr_render *r, pr_value v, bool plus, pr_value *out);
/* op: pr_compare. */
bool pr_compare_values(pr_render *r, int op, pr_value a, pr_value b, bool *out);
/* item in all. */
bool pr_contains(pr_render *r, pr_value all, pr_value item, bool *out);

#endif
