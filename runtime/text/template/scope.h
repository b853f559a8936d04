/* runtime/text/template/scope.h: names to slots, by the rules of jinja2's compiler.
 *
 * jinja2 decides when a template is compiled which scope a name belongs to (idtracking.py); a name
 * that is set in an if belongs to what is around the if, one that is set in a for is gone behind
 * it, a macro sees what its surroundings hold when it is called. The same here: each for, macro,
 * call, filter, set and with block is a scope, whose own names are listed with the value that they
 * begin with; macros, call blocks, recursive loops and conditions of loops are functions, each call
 * of which has slots of its own. Filters and tests are looked up here too. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_SCOPE_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_SCOPE_H

#include "runtime/text/template/ast.h"

/* Fills refs, scopes and i_function of the whole tree. Raises PR_EXC_ASSERTION for an unknown
 * filter or test outside of an if, PR_EXC_SYNTAX for a break outside of a loop; r->line then is the
 * line. */
bool pr_template_resolve(pr_render *r, pr_ast *ast);

#endif
