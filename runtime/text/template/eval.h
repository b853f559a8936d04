/* runtime/text/template/eval.h: computing expressions and running statements.
 *
 * Recursive over the tree; nesting is counted in r->depth and bounded. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_EVAL_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_EVAL_H

#include "runtime/text/template/ast.h"
#include "runtime/text/template/call.h"

bool pr_eval(pr_render *r, pr_act *act, const pr_node *node, pr_value *out);

typedef enum pr_flow { PR_FLOW_RAISED = -1, PR_FLOW_ON, PR_FLOW_BREAK, PR_FLOW_CONTINUE } pr_flow;

/* Writes to r->out. */
pr_flow pr_exec(pr_render *r, pr_act *act, pr_nodes nodes);

/* Gives a scope's own names their first values; what `enter` sets itself is left alone. */
bool pr_scope_enter(pr_render *r, pr_act *act, const pr_scope *scope);
/* value to a name, a tuple of names, or a namespace's attribute. */
bool pr_assign(pr_render *r, pr_act *act, const pr_node *target, pr_value value);
/* The body of a recursive loop over `over`, as a string. */
bool pr_loop_run(pr_render *r, pr_act *act, const pr_node *node, pr_value over, int64_t depth0,
                 pr_value *out);

/* One level of nesting more; false with PR_EXC_BOUND. */
bool pr_eval_enter(pr_render *r);

#endif
