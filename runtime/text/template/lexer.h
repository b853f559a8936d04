/* runtime/text/template/lexer.h: a template's source as tokens.
 *
 * White space is trimmed here, as jinja2 does it with trim_blocks and lstrip_blocks. All tokens are
 * made at once; where the source is wrong the list ends with a token that holds the error, so that
 * a parser that fails before it reports its own. Memory is the render's that parses. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_LEXER_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_LEXER_H

#include "runtime/text/template/value.h"

typedef enum pr_tok {
    PR_T_EOF,
    PR_T_ERROR, /* value: its message */
    PR_T_DATA,
    PR_T_BLOCK_BEGIN,
    PR_T_BLOCK_END,
    PR_T_VARIABLE_BEGIN,
    PR_T_VARIABLE_END,
    PR_T_NAME,
    PR_T_STRING,
    PR_T_INTEGER,
    PR_T_FLOAT,
    PR_T_ADD,
    PR_T_SUB,
    PR_T_DIV,
    PR_T_FLOORDIV,
    PR_T_MUL,
    PR_T_MOD,
    PR_T_POW,
    PR_T_TILDE,
    PR_T_LBRACKET,
    PR_T_RBRACKET,
    PR_T_LPAREN,
    PR_T_RPAREN,
    PR_T_LBRACE,
    PR_T_RBRACE,
    PR_T_EQ,
    PR_T_NE,
    PR_T_GT,
    PR_T_GTEQ,
    PR_T_LT,
    PR_T_LTEQ,
    PR_T_ASSIGN,
    PR_T_DOT,
    PR_T_COLON,
    PR_T_PIPE,
    PR_T_COMMA,
    PR_T_SEMICOLON,
    PR_T_COUNT
} pr_tok;

typedef struct pr_token {
    uint8_t type;   /* pr_tok */
    uint32_t line;  /* from 1 */
    pr_value value; /* data, a name, a literal */
    uint8_t exc;    /* of an error: pr_exc */
} pr_token;

/* How messages name a type: "end of statement block", "==". */
const char *pr_token_describe(pr_tok type);

/* source: [n], UTF-8, stays where it is. *out: [*n_out] tokens, the last one PR_T_EOF or
 * PR_T_ERROR. False with an exception in r for a lack of memory. */
bool pr_template_lex(pr_render *r, const char *source, size_t n, pr_token **out, size_t *n_out);

#endif
