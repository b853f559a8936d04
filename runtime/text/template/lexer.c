#define _GNU_SOURCE /* memmem */
#include "runtime/text/template/lexer.h"

#include "runtime/base/number.h"
#include "runtime/base/utf8.h"
#include "runtime/text/template/render.h"
#include "runtime/text/template/string_literal.h"
#include "runtime/text/template/strings.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BALANCE_MAX = 200 };

typedef struct lexer {
    pr_render *r;
    const char *s; /* [n]: newlines are \n, the last one is gone */
    size_t n, at;
    uint32_t line;
    bool line_starting; /* the last match ended with a newline */
    char balance[BALANCE_MAX];
    size_t n_balance;
    pr_token *tokens;
    size_t n_tokens, n_tokens_max;
    bool failed; /* an error token was added */
} lexer;

const char *pr_token_describe(pr_tok type)
{
    static const char *const names[PR_T_COUNT] = {
        [PR_T_EOF] = "end of template",
        [PR_T_ERROR] = "error",
        [PR_T_DATA] = "template data / text",
        [PR_T_BLOCK_BEGIN] = "begin of statement block",
        [PR_T_BLOCK_END] = "end of statement block",
        [PR_T_VARIABLE_BEGIN] = "begin of print statement",
        [PR_T_VARIABLE_END] = "end of print statement",
        [PR_T_NAME] = "name",
        [PR_T_STRING] = "string",
        [PR_T_INTEGER] = "integer",
        [PR_T_FLOAT] = "float",
        [PR_T_ADD] = "+",
        [PR_T_SUB] = "-",
        [PR_T_DIV] = "/",
        [PR_T_FLOORDIV] = "//",
        [PR_T_MUL] = "*",
        [PR_T_MOD] = "%",
        [PR_T_POW] = "**",
        [PR_T_TILDE] = "~",
        [PR_T_LBRACKET] = "[",
        [PR_T_RBRACKET] = "]",
        [PR_T_LPAREN] = "(",
        [PR_T_RPAREN] = ")",
        [PR_T_LBRACE] = "{",
        [PR_T_RBRACE] = "}",
        [PR_T_EQ] = "==",
        [PR_T_NE] = "!=",
        [PR_T_GT] = ">",
        [PR_T_GTEQ] = ">=",
        [PR_T_LT] = "<",
        [PR_T_LTEQ] = "<=",
        [PR_T_ASSIGN] = "=",
        [PR_T_DOT] = ".",
        [PR_T_COLON] = ":",
        [PR_T_PIPE] = "|",
        [PR_T_COMMA] = ",",
        [PR_T_SEMICOLON] = ";",
    };
    return names[type];
}

static bool add(lexer *x, pr_tok type, uint32_t line, pr_value value)
{
    if (x->n_tokens == x->n_tokens_max) {
        size_t n_max = x->n_tokens_max ? 2 * x->n_tokens_max : 256;
        pr_token *tokens = pr_render_array(x->r, n_max, sizeof *tokens);
        if (!tokens) return false;
        if (x->n_tokens) memcpy(tokens, x->tokens, x->n_tokens * sizeof *tokens);
        x->tokens = tokens;
        x->n_tokens_max = n_max;
    }
    x->tokens[x->n_tokens++] = (pr_token){.type = (uint8_t)type, .line = line, .value = value};
    return true;
}

/* The source is wrong here: nothing is read behind it. */
static bool wrong(lexer *x, const char *fmt, const char *what, const char *also)
{
    pr_value message;
    char text[256];
    snprintf(text, sizeof text, fmt, what, also);
    if (!pr_render_str(x->r, text, strlen(text), &message)) return false;
    if (!add(x, PR_T_ERROR, x->line, message)) return false;
    x->tokens[x->n_tokens - 1].exc = PR_EXC_SYNTAX;
    x->failed = true;
    return true;
}

/* The same for an exception that is raised in r already: it waits in the token. */
static bool wrong_raised(lexer *x)
{
    if (x->r->exc == PR_EXC_NOMEM || x->r->exc == PR_EXC_BOUND) return false;
    uint8_t exc = (uint8_t)x->r->exc;
    char text[256];
    snprintf(text, sizeof text, "%.*s", (int)x->r->message.n, x->r->message.data);
    x->r->exc = PR_EXC_NONE;
    if (!wrong(x, "%s%s", text, "")) return false;
    x->tokens[x->n_tokens - 1].exc = exc;
    return true;
}

static uint32_t count_lines(const char *s, size_t n)
{
    uint32_t lines = 0;
    for (size_t i = 0; i < n; i++) lines += s[i] == '\n';
    return lines;
}

static bool here(const lexer *x, size_t at, const char *what)
{
    size_t n = strlen(what);
    return n <= x->n - at && memcmp(x->s + at, what, n) == 0;
}

/* The end of the white space that begins at `at`. */
static size_t space_end(const lexer *x, size_t at)
{
    pr_value rest = pr_value_str(x->s + at, x->n - at);
    return x->n - pr_str_strip(rest, PR_STRIP_LEFT, NULL).n;
}

/* Moves to `end`, with the lines in between counted. */
static void move(lexer *x, size_t end)
{
    x->line += count_lines(x->s + x->at, end - x->at);
    x->line_starting = end > x->at ? x->s[end - 1] == '\n' : x->line_starting;
    x->at = end;
}

/* The length of an end of tag at `at`, with the white space that goes with it; 0 when there is
 * none. close: "%}" and "#}" take a newline behind them, "}}" does not. */
static size_t tag_end(const lexer *x, size_t at, const char *close)
{
    bool trims = strcmp(close, "}}") != 0;
    if (x->s[at] == '-' && here(x, at + 1, close)) return space_end(x, at + 3) - at;
    if (trims && x->s[at] == '+' && here(x, at + 1, close)) return 3;
    if (!here(x, at, close)) return 0;
    return trims && at + 2 < x->n && x->s[at + 2] == '\n' ? 3 : 2;
}

/* Data from x->at to `tag`, where a tag begins with `sign` behind its two characters. */
static bool data_before(lexer *x, size_t tag, char sign, bool variable)
{
    pr_value text = pr_value_str(x->s + x->at, tag - x->at);
    if (sign == '-') {
        text = pr_str_strip(text, PR_STRIP_RIGHT, NULL);
    } else if (sign != '+' && !variable) {
        size_t from = text.n;
        while (from > 0 && text.u.s[from - 1] != '\n') from--;
        pr_value rest = pr_str_part(text, from, text.n);
        if ((from > 0 || x->line_starting) && pr_str_strip(rest, PR_STRIP_LEFT, NULL).n == 0) {
            text.n = (uint32_t)from;
        }
    }
    if (text.n && !add(x, PR_T_DATA, x->line, text)) return false;
    x->line += count_lines(x->s + x->at, tag - x->at);
    x->at = tag;
    return true;
}

/* Behind "{%" and its sign: the length of "raw %}" there, 0 when it is another tag. */
static size_t raw_begin(const lexer *x, size_t at)
{
    size_t i = space_end(x, at);
    if (!here(x, i, "raw")) return 0;
    i = space_end(x, i + 3);
    if (here(x, i, "-%}")) return space_end(x, i + 3) - at;
    return here(x, i, "%}") ? i + 2 - at : 0;
}

/* At a "{%" inside raw text: the length of the tag if it is endraw. */
static size_t raw_end(const lexer *x, size_t at, char *sign)
{
    size_t i = at + 2;
    *sign = i < x->n && (x->s[i] == '-' || x->s[i] == '+') ? x->s[i] : '\0';
    i = space_end(x, i + (*sign != '\0'));
    if (!here(x, i, "endraw")) return 0;
    i = space_end(x, i + 6);
    size_t n = i < x->n ? tag_end(x, i, "%}") : 0;
    return n ? i + n - at : 0;
}

static bool lex_raw(lexer *x)
{
    char sign = '\0';
    for (size_t i = x->at; i + 1 < x->n; i++) {
        size_t n = here(x, i, "{%") ? raw_end(x, i, &sign) : 0;
        if (!n) continue;
        if (!data_before(x, i, sign, false)) return false;
        move(x, i + n);
        return true;
    }
    if (x->at < x->n) return wrong(x, "Missing end of raw directive%s%s", "", "");
    return true;
}

static bool lex_comment(lexer *x)
{
    const char *end = memmem(x->s + x->at, x->n - x->at, "#}", 2);
    if (!end) {
        if (x->at < x->n) return wrong(x, "Missing end of comment tag%s%s", "", "");
        return true;
    }
    size_t at = (size_t)(end - x->s);
    if (at > x->at && (x->s[at - 1] == '-' || x->s[at - 1] == '+')) at--;
    move(x, at + tag_end(x, at, "#}"));
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* \w+ at `at`: 0 when there is none. */
static size_t name_length(const lexer *x, size_t at)
{
    size_t i = at;
    uint32_t c = 0;
    while (i < x->n) {
        size_t width = pr_utf8_decode(x->s + i, &c);
        if (c != '_' && !(pr_py_flags(c) & PR_PY_ALNUM)) break;
        i += width;
    }
    return i - at;
}

/* Digits with single underscores between them; 0 when there are none. */
static size_t digits_length(const lexer *x, size_t at)
{
    size_t i = at;
    while (i < x->n) {
        if (is_digit(x->s[i]))
            i++;
        else if (i > at && x->s[i] == '_' && i + 1 < x->n && is_digit(x->s[i + 1]))
            i += 2;
        else
            break;
    }
    return i - at;
}

/* A float's length at `at`, 0 when an integer, or nothing, stands there. */
static size_t float_length(const lexer *x, size_t at)
{
    if (at > 0 && x->s[at - 1] == '.') return 0;
    size_t whole = digits_length(x, at);
    if (!whole) return 0;
    size_t i = at + whole, fraction = 0;
    if (i < x->n && x->s[i] == '.') fraction = digits_length(x, i + 1);
    if (fraction) i += 1 + fraction;
    if (i < x->n && (x->s[i] == 'e' || x->s[i] == 'E')) {
        size_t sign = i + 1 < x->n && (x->s[i + 1] == '+' || x->s[i + 1] == '-');
        size_t exponent = digits_length(x, i + 1 + sign);
        if (exponent) return i + 1 + sign + exponent - at;
    }
    return fraction ? i - at : 0;
}

/* An integer's length and base. */
static size_t integer_length(const lexer *x, size_t at, int *base)
{
    *base = 10;
    if (!is_digit(x->s[at])) return 0;
    char mark = at + 2 < x->n && x->s[at] == '0' ? (char)(x->s[at + 1] | 0x20) : '\0';
    int other = mark == 'b' ? 2 : mark == 'o' ? 8 : mark == 'x' ? 16 : 0;
    size_t i = at + 2;
    while (other && i < x->n) {
        size_t digit = i + (x->s[i] == '_');
        char c = digit < x->n ? (char)(x->s[digit] | 0x20) : '\0';
        int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
        if (v >= other) break;
        i = digit + 1;
    }
    if (other && i > at + 2) {
        *base = other;
        return i - at;
    }
    if (x->s[at] != '0') return digits_length(x, at);
    i = at + 1; /* zeros only */
    while (i < x->n && (x->s[i] == '0' || (x->s[i] == '_' && i + 1 < x->n && x->s[i + 1] == '0'))) {
        i += x->s[i] == '_' ? 2 : 1;
    }
    return i - at;
}

/* The number's text without underscores. */
static bool number_text(lexer *x, size_t n, char *text, size_t n_max)
{
    size_t to = 0;
    for (size_t i = 0; i < n; i++) {
        char c = x->s[x->at + i];
        if (c == '_') continue;
        if (to + 1 >= n_max) return false;
        text[to++] = c;
    }
    text[to] = '\0';
    return true;
}

static bool lex_number(lexer *x, size_t n, bool is_float, int base)
{
    char text[128];
    bool whole = number_text(x, n, text, sizeof text);
    pr_value v;
    if (is_float && whole) {
        v = pr_value_float(pr_number_read(text, NULL));
    } else {
        uint64_t i = 0;
        char *p = base == 10 ? text : text + 2;
        for (; whole && *p; p++) {
            char c = (char)(*p | 0x20);
            uint64_t digit = (uint64_t)(c >= 'a' ? c - 'a' + 10 : c - '0');
            whole = !__builtin_mul_overflow(i, (uint64_t)base, &i) &&
                    !__builtin_add_overflow(i, digit, &i) && i <= INT64_MAX;
        }
        v = pr_value_int((int64_t)i);
    }
    if (!whole) return wrong(x, "a number of more than 64 bits%s%s", "", "");
    if (!add(x, is_float ? PR_T_FLOAT : PR_T_INTEGER, x->line, v)) return false;
    move(x, x->at + n);
    return true;
}

static bool lex_name(lexer *x, size_t n)
{
    pr_value name = pr_value_str(x->s + x->at, n);
    uint32_t c = 0;
    pr_utf8_decode(name.u.s, &c);
    if (c != '_' && !(pr_py_flags(c) & PR_PY_ALPHA)) {
        return wrong(x, "Invalid character in identifier%s%s", "", "");
    }
    if (!add(x, PR_T_NAME, x->line, name)) return false;
    move(x, x->at + n);
    return true;
}

/* The length of a string literal with its quotes, 0 when it does not end. */
static size_t string_length(const lexer *x)
{
    char quote = x->s[x->at];
    for (size_t i = x->at + 1; i < x->n; i++) {
        if (x->s[i] == '\\')
            i++;
        else if (x->s[i] == quote)
            return i + 1 - x->at;
    }
    return 0;
}

static bool lex_string(lexer *x, size_t n)
{
    pr_value v;
    if (!pr_string_literal(x->r, x->s + x->at + 1, n - 2, &v)) return wrong_raised(x);
    if (!add(x, PR_T_STRING, x->line, v)) return false;
    move(x, x->at + n);
    return true;
}

static pr_tok operator_at(const lexer *x, size_t *n)
{
    static const pr_tok order[] = {PR_T_FLOORDIV, PR_T_POW, PR_T_EQ, PR_T_NE, PR_T_GTEQ, PR_T_LTEQ};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        *n = 2;
        if (here(x, x->at, pr_token_describe(order[i]))) return order[i];
    }
    *n = 1;
    for (int type = PR_T_ADD; type < PR_T_COUNT; type++) {
        const char *text = pr_token_describe((pr_tok)type);
        if (text[1] == '\0' && x->s[x->at] == text[0]) return (pr_tok)type;
    }
    return PR_T_EOF;
}

/* Brackets must match before a tag may end. */
static bool balance(lexer *x, char c)
{
    char open[2] = {c, '\0'}, expected[2] = {0};
    if (c == '(' || c == '[' || c == '{') {
        if (x->n_balance == BALANCE_MAX) {
            return wrong(x, "brackets nested deeper than 200 levels%s%s", "", "");
        }
        x->balance[x->n_balance++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
        if (x->n_balance == 0) return wrong(x, "unexpected '%s'%s", open, "");
        expected[0] = x->balance[--x->n_balance];
        if (expected[0] != c) return wrong(x, "unexpected '%s', expected '%s'", open, expected);
    }
    return true;
}

static bool lex_operator(lexer *x)
{
    size_t n = 0;
    pr_tok type = operator_at(x, &n);
    if (type == PR_T_EOF) {
        pr_value one = pr_str_part(pr_value_str(x->s + x->at, x->n - x->at), 0,
                                   pr_utf8_width((unsigned char)x->s[x->at]));
        char fmt[64];
        snprintf(fmt, sizeof fmt, "unexpected char %%s at %zu", pr_utf8_count(x->s, x->at));
        pr_raise_repr(x->r, PR_EXC_SYNTAX, fmt, one);
        return wrong_raised(x);
    }
    if (n == 1 && !balance(x, x->s[x->at])) return false;
    if (x->failed) return true;
    if (!add(x, type, x->line, pr_value_str(x->s + x->at, n))) return false;
    move(x, x->at + n);
    return true;
}

/* Inside a tag until its end. */
static bool lex_tag(lexer *x, bool variable)
{
    const char *close = variable ? "}}" : "%}";
    while (x->at < x->n && !x->failed) {
        size_t n = x->n_balance ? 0 : tag_end(x, x->at, close);
        if (n) {
            if (!add(x, variable ? PR_T_VARIABLE_END : PR_T_BLOCK_END, x->line, pr_value_none())) {
                return false;
            }
            move(x, x->at + n);
            return true;
        }
        int base = 10;
        char c = x->s[x->at];
        bool ok = true;
        if (space_end(x, x->at) > x->at)
            move(x, space_end(x, x->at));
        else if ((n = float_length(x, x->at)) > 0)
            ok = lex_number(x, n, true, 10);
        else if ((n = integer_length(x, x->at, &base)) > 0)
            ok = lex_number(x, n, false, base);
        else if ((n = name_length(x, x->at)) > 0)
            ok = lex_name(x, n);
        else if ((c == '\'' || c == '"') && (n = string_length(x)) > 0)
            ok = lex_string(x, n);
        else
            ok = lex_operator(x);
        if (!ok) return false;
    }
    return true;
}

/* Data up to the next tag, and the tag. */
static bool lex_root(lexer *x)
{
    size_t tag = x->at;
    while (tag + 1 < x->n && !(x->s[tag] == '{' && (x->s[tag + 1] == '%' || x->s[tag + 1] == '{' ||
                                                    x->s[tag + 1] == '#'))) {
        tag++;
    }
    if (tag + 1 >= x->n) { /* none */
        if (!add(x, PR_T_DATA, x->line, pr_value_str(x->s + x->at, x->n - x->at))) return false;
        move(x, x->n);
        return true;
    }
    char kind = x->s[tag + 1];
    size_t behind = tag + 2;
    char sign = behind < x->n && (x->s[behind] == '-' || x->s[behind] == '+') ? x->s[behind] : '\0';
    behind += sign != '\0';
    if (!data_before(x, tag, sign, kind == '{')) return false;
    size_t raw = kind == '%' ? raw_begin(x, behind) : 0;
    x->n_balance = 0;
    uint32_t line = x->line;
    move(x, behind + raw);
    if (raw) return lex_raw(x);
    if (kind == '#') return lex_comment(x);
    if (!add(x, kind == '{' ? PR_T_VARIABLE_BEGIN : PR_T_BLOCK_BEGIN, line, pr_value_none())) {
        return false;
    }
    return lex_tag(x, kind == '{');
}

/* Every end of line as \n, without the last one. */
static bool normalize(lexer *x, const char *source, size_t n)
{
    char *s = pr_render_alloc(x->r, n);
    if (!s) return false;
    size_t to = 0;
    for (size_t i = 0; i < n; i++) {
        if (source[i] == '\r' && i + 1 < n && source[i + 1] == '\n') i++;
        s[to++] = source[i] == '\r' ? '\n' : source[i];
    }
    if (to > 0 && s[to - 1] == '\n') to--;
    x->s = s;
    x->n = to;
    return true;
}

bool pr_template_lex(pr_render *r, const char *source, size_t n, pr_token **out, size_t *n_out)
{
    lexer x = {.r = r, .line = 1, .line_starting = true};
    if (!normalize(&x, source, n)) return false;
    while (x.at < x.n && !x.failed) {
        if (!lex_root(&x)) return false;
    }
    if (!x.failed && !add(&x, PR_T_EOF, x.line, pr_value_none())) return false;
    *out = x.tokens;
    *n_out = x.n_tokens;
    return true;
}
