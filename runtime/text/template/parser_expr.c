#include "runtime/text/template/parser_state.h"

#include "runtime/text/template/strings.h"

#include <assert.h>
#include <string.h>

static pr_node *parse_unary(pr_parser *p, bool with_filter);

static pr_node *binary(pr_parser *p, pr_node_kind kind, uint8_t op, uint32_t line, pr_node *a,
                       pr_node *b)
{
    pr_node *node = a && b ? pr_parser_node(p, kind, line) : NULL;
    if (!node) return NULL;
    node->op = op;
    node->a = a;
    node->b = b;
    return node;
}

static bool fill_items(pr_node *node, const pr_node_list *list)
{
    node->items = (pr_nodes){.items = list->items, .n = list->n};
    return true;
}

static pr_node *parse_pow(pr_parser *p)
{
    uint32_t line = pr_parser_now(p)->line;
    pr_node *left = parse_unary(p, true);
    while (left && pr_parser_is(p, PR_T_POW)) {
        if (!pr_parser_next(p)) return NULL;
        left = binary(p, PR_N_BINARY, PR_T_POW, line, left, parse_unary(p, true));
        line = pr_parser_now(p)->line;
    }
    return left;
}

static pr_node *parse_math2(pr_parser *p)
{
    uint32_t line = pr_parser_now(p)->line;
    pr_node *left = parse_pow(p);
    while (left) {
        uint8_t op = pr_parser_now(p)->type;
        if (op != PR_T_MUL && op != PR_T_DIV && op != PR_T_FLOORDIV && op != PR_T_MOD) break;
        if (!pr_parser_next(p)) return NULL;
        left = binary(p, PR_N_BINARY, op, line, left, parse_pow(p));
        line = pr_parser_now(p)->line;
    }
    return left;
}

static pr_node *parse_concat(pr_parser *p)
{
    uint32_t line = pr_parser_now(p)->line;
    pr_node *first = parse_math2(p);
    if (!first || !pr_parser_is(p, PR_T_TILDE)) return first;
    pr_node_list list = {0};
    if (!pr_parser_add(p, &list, first)) return NULL;
    while (pr_parser_is(p, PR_T_TILDE)) {
        if (!pr_parser_next(p) || !pr_parser_add(p, &list, parse_math2(p))) return NULL;
    }
    pr_node *node = pr_parser_node(p, PR_N_CONCAT, line);
    if (node) fill_items(node, &list);
    return node;
}

static pr_node *parse_math1(pr_parser *p)
{
    uint32_t line = pr_parser_now(p)->line;
    pr_node *left = parse_concat(p);
    while (left && (pr_parser_is(p, PR_T_ADD) || pr_parser_is(p, PR_T_SUB))) {
        uint8_t op = pr_parser_now(p)->type;
        if (!pr_parser_next(p)) return NULL;
        left = binary(p, PR_N_BINARY, op, line, left, parse_concat(p));
        line = pr_parser_now(p)->line;
    }
    return left;
}

/* The comparison at the current token, -1 when there is none; *n_tokens: how many it has. */
static int compare_here(const pr_parser *p, size_t *n_tokens)
{
    static const uint8_t types[] = {
        [PR_CMP_EQ] = PR_T_EQ,     [PR_CMP_NE] = PR_T_NE, [PR_CMP_LT] = PR_T_LT,
        [PR_CMP_LTEQ] = PR_T_LTEQ, [PR_CMP_GT] = PR_T_GT, [PR_CMP_GTEQ] = PR_T_GTEQ,
    };
    *n_tokens = 1;
    for (int i = 0; i <= PR_CMP_GTEQ; i++) {
        if (pr_parser_is(p, (pr_tok)types[i])) return i;
    }
    if (pr_parser_is_name(p, "in")) return PR_CMP_IN;
    if (!pr_parser_is_name(p, "not")) return -1;
    const pr_token *behind = pr_parser_look(p);
    *n_tokens = 2;
    bool in = behind->type == PR_T_NAME && behind->value.n == 2 &&
              memcmp(behind->value.u.s, "in", 2) == 0;
    return in ? PR_CMP_NOT_IN : -1;
}

static pr_node *parse_compare(pr_parser *p)
{
    uint32_t line = pr_parser_now(p)->line;
    pr_node *first = parse_math1(p);
    pr_node_list operands = {0};
    while (first) {
        size_t n_tokens = 0;
        int op = compare_here(p, &n_tokens);
        if (op < 0) break;
        while (n_tokens-- > 0) {
            if (!pr_parser_next(p)) return NULL;
        }
        pr_node *operand = pr_parser_node(p, PR_N_OPERAND, line);
        if (!operand || !(operand->a = parse_math1(p))) return NULL;
        operand->op = (uint8_t)op;
        if (!pr_parser_add(p, &operands, operand)) return NULL;
        line = pr_parser_now(p)->line;
    }
    if (!first || operands.n == 0) return first;
    pr_node *node = pr_parser_node(p, PR_N_COMPARE, line);
    if (!node) return NULL;
    node->a = first;
    fill_items(node, &operands);
    return node;
}

static pr_node *parse_not(pr_parser *p)
{
    if (!pr_parser_is_name(p, "not")) return parse_compare(p);
    pr_node *node = pr_parser_node(p, PR_N_NOT, pr_parser_now(p)->line);
    if (!node || !pr_parser_next(p) || !pr_parser_enter(p)) return NULL;
    node->a = parse_not(p);
    p->depth--;
    return node->a ? node : NULL;
}

/* and, or: chains that lean left. */
static pr_node *parse_and(pr_parser *p)
{
    uint32_t line = pr_parser_now(p)->line;
    pr_node *left = parse_not(p);
    while (left && pr_parser_is_name(p, "and")) {
        if (!pr_parser_next(p)) return NULL;
        left = binary(p, PR_N_AND, 0, line, left, parse_not(p));
        line = pr_parser_now(p)->line;
    }
    return left;
}

static pr_node *parse_or(pr_parser *p)
{
    uint32_t line = pr_parser_now(p)->line;
    pr_node *left = parse_and(p);
    while (left && pr_parser_is_name(p, "or")) {
        if (!pr_parser_next(p)) return NULL;
        left = binary(p, PR_N_OR, 0, line, left, parse_and(p));
        line = pr_parser_now(p)->line;
    }
    return left;
}

static pr_node *parse_condexpr(pr_parser *p)
{
    uint32_t line = pr_parser_now(p)->line;
    pr_node *value = parse_or(p);
    while (value && pr_parser_is_name(p, "if")) {
        pr_node *node = pr_parser_node(p, PR_N_COND, line);
        bool otherwise = false;
        if (!node || !pr_parser_next(p) || !(node->a = parse_or(p))) return NULL;
        node->b = value;
        if (!pr_parser_skip_name(p, "else", &otherwise)) return NULL;
        if (otherwise) {
            if (!pr_parser_enter(p)) return NULL;
            node->c = parse_condexpr(p);
            p->depth--;
            if (!node->c) return NULL;
        }
        value = node;
        line = pr_parser_now(p)->line;
    }
    return value;
}

pr_node *pr_parser_expression(pr_parser *p, bool with_condexpr)
{
    if (!pr_parser_enter(p)) return NULL;
    pr_node *node = with_condexpr ? parse_condexpr(p) : parse_or(p);
    p->depth--;
    return node;
}

/* One part of a subscript: an expression or a slice. */
static pr_node *parse_subscribed(pr_parser *p)
{
    uint32_t line = pr_parser_now(p)->line;
    pr_node **parts = pr_render_array(p->r, 3, sizeof *parts);
    if (!parts) return NULL;
    parts[0] = parts[1] = parts[2] = NULL;
    if (!pr_parser_is(p, PR_T_COLON)) {
        parts[0] = pr_parser_expression(p, true);
        if (!parts[0] || !pr_parser_is(p, PR_T_COLON)) return parts[0];
    }
    for (int i = 1; i < 3 && pr_parser_is(p, PR_T_COLON); i++) {
        if (!pr_parser_next(p)) return NULL;
        if (pr_parser_is(p, PR_T_COLON) || pr_parser_is(p, PR_T_RBRACKET) ||
            pr_parser_is(p, PR_T_COMMA)) {
            continue;
        }
        if (!(parts[i] = pr_parser_expression(p, true))) return NULL;
    }
    pr_node *node = pr_parser_node(p, PR_N_SLICE, line);
    if (node) node->items = (pr_nodes){.items = parts, .n = 3};
    return node;
}

static pr_node *parse_brackets(pr_parser *p, pr_node *of, uint32_t line)
{
    pr_node_list list = {0};
    bool sliced = false;
    while (!pr_parser_is(p, PR_T_RBRACKET)) {
        if (list.n && !pr_parser_expect(p, PR_T_COMMA)) return NULL;
        if (!pr_parser_add(p, &list, parse_subscribed(p))) return NULL;
        sliced |= list.items[list.n - 1]->kind == PR_N_SLICE;
    }
    if (!pr_parser_next(p)) return NULL;
    pr_node *index = list.n == 1 ? list.items[0] : pr_parser_node(p, PR_N_TUPLE, line);
    if (!index) return NULL;
    if (list.n != 1) {
        if (sliced) {
            p->r->line = line;
            pr_raise(p->r, PR_EXC_UNSUPPORTED, "several slices in one subscript");
            return NULL;
        }
        fill_items(index, &list);
    }
    return binary(p, PR_N_GETITEM, 0, line, of, index);
}

static pr_node *parse_subscript(pr_parser *p, pr_node *of)
{
    uint32_t line = pr_parser_now(p)->line;
    bool dot = pr_parser_is(p, PR_T_DOT);
    if (!pr_parser_next(p)) return NULL;
    if (!dot) return parse_brackets(p, of, line);
    const pr_token *attribute = pr_parser_now(p);
    if (!pr_parser_next(p)) return NULL;
    if (attribute->type != PR_T_NAME && attribute->type != PR_T_INTEGER) {
        pr_parser_fail(p, attribute->line, "expected name or number");
        return NULL;
    }
    if (attribute->type == PR_T_NAME) {
        pr_node *node = pr_parser_node(p, PR_N_GETATTR, line);
        if (!node) return NULL;
        node->a = of;
        node->value = attribute->value;
        return node;
    }
    pr_node *index = pr_parser_node(p, PR_N_CONST, attribute->line);
    if (!index) return NULL;
    index->value = attribute->value;
    return binary(p, PR_N_GETITEM, 0, line, of, index);
}

static bool add_keyword(pr_parser *p, pr_args *args, uint32_t *n_max)
{
    if (args->n_keywords == *n_max) {
        uint32_t more = *n_max ? 2 * *n_max : 4;
        pr_keyword *keywords = pr_render_array(p->r, more, sizeof *keywords);
        if (!keywords) return false;
        if (args->n_keywords) {
            memcpy(keywords, args->keywords, args->n_keywords * sizeof *keywords);
        }
        args->keywords = keywords;
        *n_max = more;
    }
    pr_keyword *keyword = &args->keywords[args->n_keywords];
    keyword->name = pr_parser_now(p)->value;
    for (uint32_t i = 0; i < args->n_keywords; i++) {
        if (pr_value_same(args->keywords[i].name, keyword->name)) {
            return pr_parser_fail(p, pr_parser_now(p)->line, "keyword argument repeated: %.*s",
                                  (int)keyword->name.n, keyword->name.u.s);
        }
    }
    if (!pr_parser_next(p) || !pr_parser_next(p)) return false;
    keyword->value = pr_parser_expression(p, true);
    args->n_keywords++;
    return keyword->value != NULL;
}

static bool parse_argument(pr_parser *p, pr_args *args, pr_node_list *list, uint32_t *n_max,
                           uint32_t line)
{
    bool ok = true;
    if (pr_parser_is(p, PR_T_MUL)) {
        ok = !args->dyn_positional && !args->dyn_keywords;
        if (ok && !pr_parser_next(p)) return false;
        if (ok) return (args->dyn_positional = pr_parser_expression(p, true)) != NULL;
    } else if (pr_parser_is(p, PR_T_POW)) {
        ok = !args->dyn_keywords;
        if (ok && !pr_parser_next(p)) return false;
        if (ok) return (args->dyn_keywords = pr_parser_expression(p, true)) != NULL;
    } else if (pr_parser_is(p, PR_T_NAME) && pr_parser_look(p)->type == PR_T_ASSIGN) {
        ok = !args->dyn_keywords;
        if (ok) return add_keyword(p, args, n_max);
    } else {
        ok = !args->dyn_positional && !args->dyn_keywords && !args->n_keywords;
        if (ok) return pr_parser_add(p, list, pr_parser_expression(p, true));
    }
    return pr_parser_fail(p, line, "invalid syntax for function call expression");
}

static pr_args *parse_args(pr_parser *p)
{
    uint32_t line = pr_parser_now(p)->line, n_max = 0;
    pr_args *args = pr_render_alloc(p->r, sizeof *args);
    pr_node_list list = {0};
    if (!args || !pr_parser_expect(p, PR_T_LPAREN)) return NULL;
    *args = (pr_args){0};
    for (bool comma = false; !pr_parser_is(p, PR_T_RPAREN); comma = true) {
        if (comma) {
            if (!pr_parser_expect(p, PR_T_COMMA)) return NULL;
            if (pr_parser_is(p, PR_T_RPAREN)) break;
        }
        if (!parse_argument(p, args, &list, &n_max, line)) return NULL;
    }
    if (!pr_parser_next(p)) return NULL;
    args->positional = (pr_nodes){.items = list.items, .n = list.n};
    return args;
}

static pr_node *parse_call(pr_parser *p, pr_node *of)
{
    pr_node *node = pr_parser_node(p, PR_N_CALL, pr_parser_now(p)->line);
    if (!node || !(node->args = parse_args(p))) return NULL;
    node->a = of;
    return node;
}

static pr_node *parse_postfix(pr_parser *p, pr_node *node)
{
    while (node) {
        if (pr_parser_is(p, PR_T_DOT) || pr_parser_is(p, PR_T_LBRACKET))
            node = parse_subscript(p, node);
        else if (pr_parser_is(p, PR_T_LPAREN))
            node = parse_call(p, node);
        else
            break;
    }
    return node;
}

/* "a" or "a.b": the name of a filter or a test. */
static bool parse_dotted(pr_parser *p, pr_value *out)
{
    const pr_token *first = pr_parser_now(p);
    if (!pr_parser_expect(p, PR_T_NAME)) return false;
    *out = first->value;
    while (pr_parser_is(p, PR_T_DOT)) {
        if (!pr_parser_next(p)) return false;
        const pr_token *part = pr_parser_now(p);
        if (!pr_parser_expect(p, PR_T_NAME)) return false;
        if (!pr_render_printf(p->r, out, "%.*s.%.*s", (int)out->n, out->u.s, (int)part->value.n,
                              part->value.u.s)) {
            return false;
        }
    }
    return true;
}

static pr_args *no_args(pr_parser *p)
{
    pr_args *args = pr_render_alloc(p->r, sizeof *args);
    if (args) *args = (pr_args){0};
    return args;
}

bool pr_parser_filter(pr_parser *p, pr_node *of, bool start_inline, pr_node **out)
{
    while (pr_parser_is(p, PR_T_PIPE) || start_inline) {
        if (!start_inline && !pr_parser_next(p)) return false;
        start_inline = false;
        pr_node *node = pr_parser_node(p, PR_N_FILTER, pr_parser_now(p)->line);
        if (!node || !parse_dotted(p, &node->value)) return false;
        node->args = pr_parser_is(p, PR_T_LPAREN) ? parse_args(p) : no_args(p);
        if (!node->args) return false;
        node->a = of;
        of = node;
    }
    *out = of;
    return true;
}

/* Whether a test's argument without parentheses begins here. */
static bool argument_begins(const pr_parser *p)
{
    switch (pr_parser_now(p)->type) {
    case PR_T_NAME:
        return !pr_parser_is_name(p, "else") && !pr_parser_is_name(p, "or") &&
               !pr_parser_is_name(p, "and");
    case PR_T_STRING:
    case PR_T_INTEGER:
    case PR_T_FLOAT:
    case PR_T_LPAREN:
    case PR_T_LBRACKET:
    case PR_T_LBRACE:
        return true;
    default:
        return false;
    }
}

static pr_node *parse_primary(pr_parser *p, bool with_namespace);

static pr_node *parse_test(pr_parser *p, pr_node *of)
{
    pr_node *node = pr_parser_node(p, PR_N_TEST, pr_parser_now(p)->line);
    bool negated = false;
    if (!node || !pr_parser_next(p) || !pr_parser_skip_name(p, "not", &negated) ||
        !parse_dotted(p, &node->value)) {
        return NULL;
    }
    node->a = of;
    if (pr_parser_is(p, PR_T_LPAREN)) {
        node->args = parse_args(p);
    } else if ((node->args = no_args(p)) && argument_begins(p)) {
        if (pr_parser_is_name(p, "is")) {
            pr_parser_fail(p, pr_parser_now(p)->line, "You cannot chain multiple tests with is");
            return NULL;
        }
        pr_node_list list = {0};
        pr_node *argument = parse_primary(p, false);
        if (!pr_parser_add(p, &list, argument ? parse_postfix(p, argument) : NULL)) return NULL;
        node->args->positional = (pr_nodes){.items = list.items, .n = list.n};
    }
    if (!node->args) return NULL;
    if (!negated) return node;
    pr_node *not_node = pr_parser_node(p, PR_N_NOT, node->line);
    if (not_node) not_node->a = node;
    return not_node;
}

static pr_node *parse_filter_expr(pr_parser *p, pr_node *node)
{
    while (node) {
        if (pr_parser_is(p, PR_T_PIPE)) {
            if (!pr_parser_filter(p, node, false, &node)) return NULL;
        } else if (pr_parser_is_name(p, "is")) {
            node = parse_test(p, node);
        } else if (pr_parser_is(p, PR_T_LPAREN)) {
            node = parse_call(p, node);
        } else {
            break;
        }
    }
    return node;
}

static pr_node *parse_unary(pr_parser *p, bool with_filter)
{
    pr_node *node = NULL;
    uint8_t type = pr_parser_now(p)->type;
    if (!pr_parser_enter(p)) return NULL;
    if (type == PR_T_SUB || type == PR_T_ADD) {
        node = pr_parser_node(p, type == PR_T_SUB ? PR_N_NEG : PR_N_POS, pr_parser_now(p)->line);
        if (node && pr_parser_next(p)) node->a = parse_unary(p, false);
        if (node && !node->a) node = NULL;
    } else {
        node = parse_primary(p, false);
    }
    node = node ? parse_postfix(p, node) : NULL;
    if (with_filter && node) node = parse_filter_expr(p, node);
    p->depth--;
    return node;
}

static pr_node *parse_name(pr_parser *p, bool with_namespace)
{
    static const struct {
        const char *name;
        uint8_t kind;
        bool b;
    } words[] = {{"true", PR_V_BOOL, true},   {"True", PR_V_BOOL, true},
                 {"false", PR_V_BOOL, false}, {"False", PR_V_BOOL, false},
                 {"none", PR_V_NONE, false},  {"None", PR_V_NONE, false}};
    const pr_token *token = pr_parser_now(p);
    pr_node *node = pr_parser_node(p, PR_N_NAME, token->line);
    if (!node) return NULL;
    node->value = token->value;
    bool constant = false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (!pr_parser_is_name(p, words[i].name)) continue;
        node->kind = PR_N_CONST;
        node->value = words[i].kind == PR_V_BOOL ? pr_value_bool(words[i].b) : pr_value_none();
        constant = true;
        break;
    }
    if (!pr_parser_next(p)) return NULL;
    if (constant || !with_namespace || !pr_parser_is(p, PR_T_DOT)) return node;
    if (!pr_parser_next(p)) return NULL;
    node->kind = PR_N_NSREF;
    node->name2 = pr_parser_now(p)->value;
    return pr_parser_expect(p, PR_T_NAME) ? node : NULL;
}

/* Strings that stand side by side are one. */
static pr_node *parse_strings(pr_parser *p)
{
    pr_node *node = pr_parser_node(p, PR_N_CONST, pr_parser_now(p)->line);
    if (!node) return NULL;
    node->value = pr_parser_now(p)->value;
    if (!pr_parser_next(p)) return NULL;
    while (pr_parser_is(p, PR_T_STRING)) {
        if (!pr_render_concat(p->r, node->value, pr_parser_now(p)->value, &node->value) ||
            !pr_parser_next(p)) {
            return NULL;
        }
    }
    return node;
}

/* A list's or a dict's items up to `close`. */
static pr_node *parse_items(pr_parser *p, pr_node_kind kind, pr_tok close)
{
    pr_node *node = pr_parser_node(p, kind, pr_parser_now(p)->line);
    pr_node_list list = {0};
    if (!node || !pr_parser_next(p)) return NULL;
    while (!pr_parser_is(p, close)) {
        if (list.n && !pr_parser_expect(p, PR_T_COMMA)) return NULL;
        if (pr_parser_is(p, close)) break;
        if (!pr_parser_add(p, &list, pr_parser_expression(p, true))) return NULL;
        if (kind != PR_N_DICT) continue;
        if (!pr_parser_expect(p, PR_T_COLON) ||
            !pr_parser_add(p, &list, pr_parser_expression(p, true))) {
            return NULL;
        }
    }
    fill_items(node, &list);
    return pr_parser_next(p) ? node : NULL;
}

static pr_node *parse_primary(pr_parser *p, bool with_namespace)
{
    const pr_token *token = pr_parser_now(p);
    char text[80];
    pr_node *node = NULL;
    switch (token->type) {
    case PR_T_NAME:
        return parse_name(p, with_namespace);
    case PR_T_STRING:
        return parse_strings(p);
    case PR_T_INTEGER:
    case PR_T_FLOAT:
        node = pr_parser_node(p, PR_N_CONST, token->line);
        if (node) node->value = token->value;
        return node && pr_parser_next(p) ? node : NULL;
    case PR_T_LPAREN:
        if (!pr_parser_next(p)) return NULL;
        node = pr_parser_tuple(p, PR_TUPLE_PARENTHESES, NULL);
        return node && pr_parser_expect(p, PR_T_RPAREN) ? node : NULL;
    case PR_T_LBRACKET:
        return parse_items(p, PR_N_LIST, PR_T_RBRACKET);
    case PR_T_LBRACE:
        return parse_items(p, PR_N_DICT, PR_T_RBRACE);
    default:
        pr_parser_describe(p, text, sizeof text);
        pr_parser_fail(p, token->line, "unexpected %s", text);
        return NULL;
    }
}

static bool tuple_ends(const pr_parser *p, const char *end_name)
{
    return pr_parser_is(p, PR_T_VARIABLE_END) || pr_parser_is(p, PR_T_BLOCK_END) ||
           pr_parser_is(p, PR_T_RPAREN) || (end_name && pr_parser_is_name(p, end_name));
}

pr_node *pr_parser_tuple(pr_parser *p, int flags, const char *end_name)
{
    uint32_t line = pr_parser_now(p)->line;
    pr_node_list list = {0};
    bool is_tuple = false;
    char text[80];
    while (true) {
        if (list.n && !pr_parser_expect(p, PR_T_COMMA)) return NULL;
        if (tuple_ends(p, end_name)) break;
        pr_node *item = flags & PR_TUPLE_TARGET
                            ? parse_primary(p, flags & PR_TUPLE_NAMESPACE)
                            : pr_parser_expression(p, !(flags & PR_TUPLE_NO_CONDEXPR));
        if (!pr_parser_add(p, &list, item)) return NULL;
        if (!pr_parser_is(p, PR_T_COMMA)) break;
        is_tuple = true;
        line = pr_parser_now(p)->line;
    }
    if (!is_tuple && list.n) return list.items[0];
    if (!is_tuple && !(flags & PR_TUPLE_PARENTHESES)) {
        pr_parser_describe(p, text, sizeof text);
        pr_parser_fail(p, pr_parser_now(p)->line, "Expected an expression, got %s", text);
        return NULL;
    }
    pr_node *node = pr_parser_node(p, PR_N_TUPLE, line);
    if (node) fill_items(node, &list);
    return node;
}
