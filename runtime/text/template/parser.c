#include "runtime/text/template/parser.h"

#include "runtime/text/template/parser_state.h"
#include "runtime/text/template/value_text.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool value_is(pr_value v, const char *name)
{
    return v.n == strlen(name) && memcmp(v.u.s, name, v.n) == 0;
}

bool pr_parser_is_name(const pr_parser *p, const char *name)
{
    return pr_parser_is(p, PR_T_NAME) && value_is(pr_parser_now(p)->value, name);
}

const pr_token *pr_parser_look(const pr_parser *p)
{
    return &p->tokens[p->at + 1 < p->n ? p->at + 1 : p->at];
}

/* An error of the lexer is raised when the parser comes to it. */
static bool check_error(pr_parser *p)
{
    const pr_token *token = pr_parser_now(p);
    if (token->type != PR_T_ERROR) return true;
    p->r->line = token->line;
    return pr_raise_text(p->r, (pr_exc)token->exc, token->value.u.s, token->value.n);
}

bool pr_parser_next(pr_parser *p)
{
    if (p->at + 1 < p->n) p->at++;
    return check_error(p);
}

bool pr_parser_skip(pr_parser *p, pr_tok type, bool *skipped)
{
    *skipped = pr_parser_is(p, type);
    return !*skipped || pr_parser_next(p);
}

bool pr_parser_skip_name(pr_parser *p, const char *name, bool *skipped)
{
    *skipped = pr_parser_is_name(p, name);
    return !*skipped || pr_parser_next(p);
}

bool pr_parser_fail(pr_parser *p, uint32_t line, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    p->r->line = line;
    return pr_raise(p->r, PR_EXC_SYNTAX, "%s", text);
}

static void quote(pr_value v, char *out, size_t n_max)
{
    pr_buffer b;
    pr_buffer_init(&b);
    pr_str_repr(v.u.s, v.n, false, &b);
    const char *s = pr_buffer_str(&b);
    snprintf(out, n_max, "%s", s ? s : "");
    pr_buffer_deinit(&b);
}

void pr_parser_describe(pr_parser *p, char *out, size_t n_max)
{
    const pr_token *token = pr_parser_now(p);
    if (token->type == PR_T_NAME)
        quote(token->value, out, n_max);
    else
        snprintf(out, n_max, "'%s'", pr_token_describe((pr_tok)token->type));
}

static bool expected(pr_parser *p, const char *what)
{
    char found[96];
    const pr_token *token = pr_parser_now(p);
    if (token->type == PR_T_EOF) {
        return pr_parser_fail(p, token->line, "unexpected end of template, expected '%s'.", what);
    }
    pr_parser_describe(p, found, sizeof found);
    return pr_parser_fail(p, token->line, "expected token '%s', got %s", what, found);
}

bool pr_parser_expect(pr_parser *p, pr_tok type)
{
    if (!pr_parser_is(p, type)) return expected(p, pr_token_describe(type));
    return pr_parser_next(p);
}

bool pr_parser_expect_name(pr_parser *p, const char *name)
{
    if (!pr_parser_is_name(p, name)) return expected(p, name);
    return pr_parser_next(p);
}

pr_node *pr_parser_node(pr_parser *p, pr_node_kind kind, uint32_t line)
{
    pr_node *node = pr_render_alloc(p->r, sizeof *node);
    if (!node) return NULL;
    memset(node, 0, sizeof *node);
    node->kind = (uint8_t)kind;
    node->line = line;
    return node;
}

bool pr_parser_add(pr_parser *p, pr_node_list *list, pr_node *node)
{
    if (!node) return false;
    if (list->n == list->n_max) {
        uint32_t n_max = list->n_max ? 2 * list->n_max : 4;
        pr_node **items = pr_render_array(p->r, n_max, sizeof *items);
        if (!items) return false;
        if (list->n) memcpy(items, list->items, list->n * sizeof *items);
        list->items = items;
        list->n_max = n_max;
    }
    list->items[list->n++] = node;
    return true;
}

bool pr_parser_enter(pr_parser *p)
{
    if (p->depth >= PR_TEMPLATE_NESTING_MAX) {
        p->r->line = pr_parser_now(p)->line;
        return pr_raise(p->r, PR_EXC_BOUND, "nested deeper than %d levels",
                        PR_TEMPLATE_NESTING_MAX);
    }
    p->depth++;
    return true;
}

static bool is_end(const pr_parser *p, const char *const *ends)
{
    for (; ends && *ends; ends++) {
        if (pr_parser_is_name(p, *ends)) return true;
    }
    return false;
}

/* " or ".join(repr of each), for messages. */
static void list_ends(const char *const *ends, char *out, size_t n_max)
{
    size_t n = 0;
    for (size_t i = 0; ends[i] && n < n_max; i++) {
        n += (size_t)snprintf(out + n, n_max - n, "%s'%s'", i ? " or " : "", ends[i]);
    }
}

/* An unknown tag, or with name NULL the end of the template, where an end tag was looked for. */
static bool fail_tag(pr_parser *p, const pr_value *name, uint32_t line)
{
    char text[512], ends[160] = "", quoted[96] = "";
    bool known = false;
    if (name) quote(*name, quoted, sizeof quoted);
    for (size_t i = 0; name && i < p->n_ends; i++) {
        for (const char *const *e = p->ends[i]; *e; e++) known |= value_is(*name, *e);
    }
    size_t n = name ? (size_t)snprintf(text, sizeof text, "Encountered unknown tag %s.", quoted)
                    : (size_t)snprintf(text, sizeof text, "Unexpected end of template.");
    if (p->n_ends) {
        list_ends(p->ends[p->n_ends - 1], ends, sizeof ends);
        n += (size_t)snprintf(text + n, sizeof text - n,
                              known ? " You probably made a nesting mistake. Jinja is expecting "
                                      "this tag, but currently looking for %s."
                                    : " Jinja was looking for the following tags: %s.",
                              ends);
    }
    if (p->n_tags && n < sizeof text) {
        quote(p->tags[p->n_tags - 1], quoted, sizeof quoted);
        snprintf(text + n, sizeof text - n, " The innermost block that needs to be closed is %s.",
                 quoted);
    }
    return pr_parser_fail(p, line, "%s", text);
}

static bool subparse(pr_parser *p, const char *const *ends, pr_nodes *out);

/* The body of a statement up to one of the end tags, which is then the current token. */
static bool parse_body(pr_parser *p, const char *const *ends, pr_nodes *out)
{
    bool colon = false;
    if (!pr_parser_skip(p, PR_T_COLON, &colon) || !pr_parser_expect(p, PR_T_BLOCK_END))
        return false;
    if (!subparse(p, ends, out)) return false;
    if (!pr_parser_is(p, PR_T_EOF)) return true;
    p->ends[p->n_ends++] = ends;
    return fail_tag(p, NULL, pr_parser_now(p)->line);
}

static bool parse_body_whole(pr_parser *p, const char *const *ends, pr_nodes *out)
{
    return parse_body(p, ends, out) && pr_parser_next(p);
}

pr_node *pr_parser_target_name(pr_parser *p)
{
    const pr_token *token = pr_parser_now(p);
    if (!pr_parser_expect(p, PR_T_NAME)) return NULL;
    pr_node *node = pr_parser_node(p, PR_N_NAME, token->line);
    if (!node) return NULL;
    node->value = token->value;
    node->op = PR_NAME_STORE;
    static const char *const words[] = {"true", "false", "none", "True", "False", "None"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (!value_is(node->value, words[i])) continue;
        pr_parser_fail(p, token->line, "can't assign to 'name'");
        return NULL;
    }
    return node;
}

/* Marks the names of a target as stored to; false with an exception for what is no target. */
static bool set_store(pr_parser *p, pr_node *target, pr_node *whole)
{
    static const char *const names[] = {
        [PR_N_CONST] = "const",
        [PR_N_TUPLE] = "tuple",
        [PR_N_LIST] = "list",
        [PR_N_DICT] = "dict",
    };
    if (target->kind == PR_N_NAME) {
        target->op = PR_NAME_STORE;
        return true;
    }
    if (target->kind == PR_N_NSREF) return true;
    if (target->kind == PR_N_TUPLE) {
        for (uint32_t i = 0; i < target->items.n; i++) {
            if (!set_store(p, target->items.items[i], whole)) return false;
        }
        return true;
    }
    const char *name = whole->kind <= PR_N_DICT && names[whole->kind] ? names[whole->kind]
                       : whole->kind == PR_N_COND                     ? "condexpr"
                                                                      : "expr";
    return pr_parser_fail(p, whole->line, "can't assign to '%s'", name);
}

pr_node *pr_parser_target(pr_parser *p, const char *end_name, bool with_namespace)
{
    int flags = PR_TUPLE_TARGET | (with_namespace ? PR_TUPLE_NAMESPACE : 0);
    pr_node *target = pr_parser_tuple(p, flags, end_name);
    return target && set_store(p, target, target) ? target : NULL;
}

static pr_node *parse_set(pr_parser *p)
{
    static const char *const ends[] = {"endset", NULL};
    pr_node *node = pr_parser_node(p, PR_N_SET, pr_parser_now(p)->line);
    bool assign = false;
    if (!node || !pr_parser_next(p) || !(node->a = pr_parser_target(p, NULL, true)) ||
        !pr_parser_skip(p, PR_T_ASSIGN, &assign)) {
        return NULL;
    }
    if (assign) return (node->b = pr_parser_tuple(p, 0, NULL)) ? node : NULL;
    node->kind = PR_N_SET_BLOCK;
    if (!pr_parser_filter(p, NULL, false, &node->b)) return NULL;
    return parse_body_whole(p, ends, &node->body) ? node : NULL;
}

static pr_node *parse_for(pr_parser *p)
{
    static const char *const ends[] = {"endfor", "else", NULL}, *const last[] = {"endfor", NULL};
    pr_node *node = pr_parser_node(p, PR_N_FOR, pr_parser_now(p)->line);
    bool condition = false;
    if (!node || !pr_parser_next(p) || !(node->a = pr_parser_target(p, "in", false)) ||
        !pr_parser_expect_name(p, "in") ||
        !(node->b = pr_parser_tuple(p, PR_TUPLE_NO_CONDEXPR, "recursive")) ||
        !pr_parser_skip_name(p, "if", &condition)) {
        return NULL;
    }
    if (condition && !(node->c = pr_parser_expression(p, true))) return NULL;
    if (!pr_parser_skip_name(p, "recursive", &node->flag) || !parse_body(p, ends, &node->body)) {
        return NULL;
    }
    bool otherwise = pr_parser_is_name(p, "else");
    if (!pr_parser_next(p)) return NULL;
    if (otherwise && !parse_body_whole(p, last, &node->other)) return NULL;
    return node;
}

static pr_node *parse_if(pr_parser *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    static const char *const last[] = {"endif", NULL};
    pr_node *result = pr_parser_node(p, PR_N_IF, pr_parser_now(p)->line), *node = result;
    pr_node_list elifs = {0};
    if (!node || !pr_parser_next(p)) return NULL;
    while (true) {
        if (!(node->a = pr_parser_tuple(p, PR_TUPLE_NO_CONDEXPR, NULL)) ||
            !parse_body(p, ends, &node->body)) {
            return NULL;
        }
        bool another = pr_parser_is_name(p, "elif"), otherwise = pr_parser_is_name(p, "else");
        if (!pr_parser_next(p)) return NULL;
        if (!another) {
            if (otherwise && !parse_body_whole(p, last, &result->other)) return NULL;
            break;
        }
        node = pr_parser_node(p, PR_N_IF, pr_parser_now(p)->line);
        if (!pr_parser_add(p, &elifs, node)) return NULL;
    }
    result->items = (pr_nodes){.items = elifs.items, .n = elifs.n};
    return result;
}

/* The parameters of a macro or a call block. */
static bool parse_signature(pr_parser *p, pr_macro_code *macro)
{
    pr_node_list args = {0}, defaults = {0};
    if (!pr_parser_expect(p, PR_T_LPAREN)) return false;
    while (!pr_parser_is(p, PR_T_RPAREN)) {
        bool assign = false;
        if (args.n && !pr_parser_expect(p, PR_T_COMMA)) return false;
        pr_node *arg = pr_parser_target_name(p);
        if (!arg || !pr_parser_skip(p, PR_T_ASSIGN, &assign)) return false;
        arg->op = PR_NAME_PARAM;
        if (assign) {
            if (!pr_parser_add(p, &defaults, pr_parser_expression(p, true))) return false;
        } else if (defaults.n) {
            return pr_parser_fail(p, pr_parser_now(p)->line,
                                  "non-default argument follows default argument");
        }
        if (!pr_parser_add(p, &args, arg)) return false;
    }
    macro->args = args.items;
    macro->n_args = args.n;
    macro->defaults = defaults.items;
    macro->n_defaults = defaults.n;
    return pr_parser_next(p);
}

static pr_node *macro_node(pr_parser *p, pr_node_kind kind)
{
    pr_node *node = pr_parser_node(p, kind, pr_parser_now(p)->line);
    if (!node || !(node->macro = pr_render_alloc(p->r, sizeof *node->macro))) return NULL;
    memset(node->macro, 0, sizeof *node->macro);
    node->macro->line = node->line;
    node->macro->name = pr_value_none();
    return pr_parser_next(p) ? node : NULL;
}

static pr_node *parse_macro(pr_parser *p)
{
    static const char *const ends[] = {"endmacro", NULL};
    pr_node *node = macro_node(p, PR_N_MACRO);
    pr_node *name = node ? pr_parser_target_name(p) : NULL;
    if (!name || !parse_signature(p, node->macro)) return NULL;
    node->value = node->macro->name = name->value;
    return parse_body_whole(p, ends, &node->macro->body) ? node : NULL;
}

static pr_node *parse_call_block(pr_parser *p)
{
    static const char *const ends[] = {"endcall", NULL};
    pr_node *node = macro_node(p, PR_N_CALL_BLOCK);
    if (!node) return NULL;
    if (pr_parser_is(p, PR_T_LPAREN) && !parse_signature(p, node->macro)) return NULL;
    if (!(node->a = pr_parser_expression(p, true))) return NULL;
    if (node->a->kind != PR_N_CALL) {
        pr_parser_fail(p, node->line, "expected call");
        return NULL;
    }
    return parse_body_whole(p, ends, &node->macro->body) ? node : NULL;
}

static pr_node *parse_generation(pr_parser *p)
{
    static const char *const ends[] = {"endgeneration", NULL};
    pr_node *node = macro_node(p, PR_N_GENERATION);
    return node && parse_body_whole(p, ends, &node->macro->body) ? node : NULL;
}

static pr_node *parse_filter_block(pr_parser *p)
{
    static const char *const ends[] = {"endfilter", NULL};
    pr_node *node = pr_parser_node(p, PR_N_FILTER_BLOCK, pr_parser_now(p)->line);
    if (!node || !pr_parser_next(p) || !pr_parser_filter(p, NULL, true, &node->a)) return NULL;
    return parse_body_whole(p, ends, &node->body) ? node : NULL;
}

static void set_param(pr_node *target)
{
    target->op = PR_NAME_PARAM;
    for (uint32_t i = 0; i < target->items.n; i++) set_param(target->items.items[i]);
}

static pr_node *parse_with(pr_parser *p)
{
    static const char *const ends[] = {"endwith", NULL};
    pr_node *node = pr_parser_node(p, PR_N_WITH, pr_parser_now(p)->line);
    pr_node_list list = {0};
    if (!node || !pr_parser_next(p)) return NULL;
    while (!pr_parser_is(p, PR_T_BLOCK_END)) {
        if (list.n && !pr_parser_expect(p, PR_T_COMMA)) return NULL;
        pr_node *target = pr_parser_target(p, NULL, false);
        if (target) set_param(target);
        if (!pr_parser_add(p, &list, target) || !pr_parser_expect(p, PR_T_ASSIGN) ||
            !pr_parser_add(p, &list, pr_parser_expression(p, true))) {
            return NULL;
        }
    }
    node->items = (pr_nodes){.items = list.items, .n = list.n};
    return parse_body_whole(p, ends, &node->body) ? node : NULL;
}

static pr_node *parse_print(pr_parser *p)
{
    pr_node *node = pr_parser_node(p, PR_N_OUTPUT, pr_parser_now(p)->line);
    pr_node_list list = {0};
    if (!node || !pr_parser_next(p)) return NULL;
    while (!pr_parser_is(p, PR_T_BLOCK_END)) {
        if (list.n && !pr_parser_expect(p, PR_T_COMMA)) return NULL;
        if (!pr_parser_add(p, &list, pr_parser_expression(p, true))) return NULL;
    }
    node->items = (pr_nodes){.items = list.items, .n = list.n};
    return node;
}

static pr_node *parse_break(pr_parser *p)
{
    pr_node *node = pr_parser_node(p, PR_N_BREAK, pr_parser_now(p)->line);
    return node && pr_parser_next(p) ? node : NULL;
}

static pr_node *parse_continue(pr_parser *p)
{
    pr_node *node = pr_parser_node(p, PR_N_CONTINUE, pr_parser_now(p)->line);
    return node && pr_parser_next(p) ? node : NULL;
}

static pr_node *parse_unsupported(pr_parser *p)
{
    pr_value name = pr_parser_now(p)->value;
    p->r->line = pr_parser_now(p)->line;
    pr_raise(p->r, PR_EXC_UNSUPPORTED, "the tag '%.*s'", (int)name.n, name.u.s);
    return NULL;
}

static const struct {
    const char *name;
    pr_node *(*parse)(pr_parser *p);
} statements[] = {
    {"if", parse_if},
    {"set", parse_set},
    {"for", parse_for},
    {"macro", parse_macro},
    {"call", parse_call_block},
    {"generation", parse_generation},
    {"filter", parse_filter_block},
    {"with", parse_with},
    {"print", parse_print},
    {"break", parse_break},
    {"continue", parse_continue},
    {"block", parse_unsupported},
    {"extends", parse_unsupported},
    {"include", parse_unsupported},
    {"import", parse_unsupported},
    {"from", parse_unsupported},
    {"autoescape", parse_unsupported},
};

static pr_node *parse_statement(pr_parser *p)
{
    const pr_token *token = pr_parser_now(p);
    if (token->type != PR_T_NAME) {
        pr_parser_fail(p, token->line, "tag name expected");
        return NULL;
    }
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        if (!pr_parser_is_name(p, statements[i].name)) continue;
        if (!pr_parser_enter(p)) return NULL;
        p->tags[p->n_tags++] = token->value;
        pr_node *node = statements[i].parse(p);
        p->n_tags--;
        p->depth--;
        return node;
    }
    fail_tag(p, &token->value, token->line);
    return NULL;
}

/* What was written since the last statement, as one node. */
static bool flush(pr_parser *p, pr_node_list *data, pr_node_list *body)
{
    if (data->n == 0) return true;
    pr_node *node = pr_parser_node(p, PR_N_OUTPUT, data->items[0]->line);
    if (!pr_parser_add(p, body, node)) return false;
    node->items = (pr_nodes){.items = data->items, .n = data->n};
    *data = (pr_node_list){0};
    return true;
}

static bool parse_data(pr_parser *p, pr_node_list *data)
{
    const pr_token *token = pr_parser_now(p);
    if (token->type == PR_T_DATA) {
        pr_node *node = pr_parser_node(p, PR_N_CONST, token->line);
        if (!pr_parser_add(p, data, node)) return false;
        node->value = token->value;
        return pr_parser_next(p);
    }
    return pr_parser_next(p) && pr_parser_add(p, data, pr_parser_tuple(p, 0, NULL)) &&
           pr_parser_expect(p, PR_T_VARIABLE_END);
}

static bool subparse_inside(pr_parser *p, const char *const *ends, pr_nodes *out)
{
    pr_node_list body = {0}, data = {0};
    while (!pr_parser_is(p, PR_T_EOF)) {
        if (!pr_parser_is(p, PR_T_BLOCK_BEGIN)) {
            if (!parse_data(p, &data)) return false;
            continue;
        }
        if (!flush(p, &data, &body) || !pr_parser_next(p)) return false;
        if (is_end(p, ends)) {
            *out = (pr_nodes){.items = body.items, .n = body.n};
            return true;
        }
        if (!pr_parser_add(p, &body, parse_statement(p)) || !pr_parser_expect(p, PR_T_BLOCK_END)) {
            return false;
        }
    }
    if (!flush(p, &data, &body)) return false;
    *out = (pr_nodes){.items = body.items, .n = body.n};
    return true;
}

static bool subparse(pr_parser *p, const char *const *ends, pr_nodes *out)
{
    if (ends) p->ends[p->n_ends++] = ends;
    bool ok = subparse_inside(p, ends, out);
    if (ends && ok) p->n_ends--;
    return ok;
}

bool pr_template_parse_tokens(pr_render *r, const pr_token *tokens, size_t n, pr_nodes *body)
{
    assert(n > 0);
    pr_parser p = {.r = r, .tokens = tokens, .n = n};
    return check_error(&p) && subparse(&p, NULL, body);
}
