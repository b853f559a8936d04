/* runtime/text/template/parser_state.h: what the two halves of the parser share: parser.c reads
 * statements, parser_expr.c expressions.
 *
 * On a failure a function returns NULL or false with an exception in p->r. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_PARSER_STATE_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_PARSER_STATE_H

#include "runtime/text/template/ast.h"
#include "runtime/text/template/lexer.h"
#include "runtime/text/template/render.h"

typedef struct pr_parser {
    pr_render *r;
    const pr_token *tokens;
    size_t at, n;
    size_t depth;
    const char *const *ends[PR_TEMPLATE_NESTING_MAX + 2]; /* end tags looked for, NULL-terminated */
    size_t n_ends;
    pr_value tags[PR_TEMPLATE_NESTING_MAX + 1]; /* open statements */
    size_t n_tags;
} pr_parser;

typedef struct pr_node_list { /* nodes that are gathered */
    pr_node **items;
    uint32_t n, n_max;
} pr_node_list;

static inline const pr_token *pr_parser_now(const pr_parser *p)
{
    return &p->tokens[p->at];
}
static inline bool pr_parser_is(const pr_parser *p, pr_tok type)
{
    return pr_parser_now(p)->type == type;
}
bool pr_parser_is_name(const pr_parser *p, const char *name);
/* The token behind the current one; it may be an error. */
const pr_token *pr_parser_look(const pr_parser *p);
bool pr_parser_next(pr_parser *p);
/* Skips the token if it is there; *skipped says whether. */
bool pr_parser_skip(pr_parser *p, pr_tok type, bool *skipped);
bool pr_parser_skip_name(pr_parser *p, const char *name, bool *skipped);
bool pr_parser_expect(pr_parser *p, pr_tok type);
bool pr_parser_expect_name(pr_parser *p, const char *name);
/* Raises a TemplateSyntaxError at that line; always false. */
bool pr_parser_fail(pr_parser *p, uint32_t line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* "'x'": how messages quote the current token. */
void pr_parser_describe(pr_parser *p, char *out, size_t n_max);

pr_node *pr_parser_node(pr_parser *p, pr_node_kind kind, uint32_t line);
bool pr_parser_add(pr_parser *p, pr_node_list *list, pr_node *node);
/* One level of nesting more; every enter that succeeded is left with depth--. */
bool pr_parser_enter(pr_parser *p);

pr_node *pr_parser_expression(pr_parser *p, bool with_condexpr);
/* flags of a tuple. */
enum {
    PR_TUPLE_NO_CONDEXPR = 1,
    PR_TUPLE_PARENTHESES = 2,
    PR_TUPLE_TARGET = 4,
    PR_TUPLE_NAMESPACE = 8
};
/* end_name: a name that ends it too ("in", "recursive"), or NULL. */
pr_node *pr_parser_tuple(pr_parser *p, int flags, const char *end_name);
/* node: what is filtered, NULL in a filter block; start_inline: its name stands here. */
bool pr_parser_filter(pr_parser *p, pr_node *node, bool start_inline, pr_node **out);
/* A name, a tuple of them, or with_namespace ns.attribute. */
pr_node *pr_parser_target(pr_parser *p, const char *end_name, bool with_namespace);
pr_node *pr_parser_target_name(pr_parser *p);

#endif
