/* runtime/text/template/parser.h: tokens to a tree, with jinja2's grammar and messages.
 *
 * Memory is the render's that parses (the template's own). Raises PR_EXC_SYNTAX and
 * PR_EXC_UNSUPPORTED, r->line then is the line; nesting is bounded by PR_TEMPLATE_NESTING_MAX. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_PARSER_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_PARSER_H

#include "runtime/text/template/ast.h"
#include "runtime/text/template/lexer.h"

/* tokens: [n], the last one PR_T_EOF or PR_T_ERROR. */
bool pr_template_parse_tokens(pr_render *r, const pr_token *tokens, size_t n, pr_nodes *body);

#endif
