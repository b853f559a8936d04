#include "runtime/text/template/template.h"

#include "runtime/base/utf8.h"
#include "runtime/text/template/eval.h"
#include "runtime/text/template/lexer.h"
#include "runtime/text/template/parser.h"
#include "runtime/text/template/render.h"
#include "runtime/text/template/scope.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    PARSE_BYTES_MAX = 1 << 30, /* of a tree: far above what a source of 1 MiB can make */
    RENDER_BLOCK_BYTES = 16384 /* freeing larger ones makes glibc tidy its heap each time */
};

struct pr_template {
    pr_arena *arena;
    pr_ast ast;
};

pr_template_limits pr_template_limits_default(void)
{
    return (pr_template_limits){.n_steps = 20000000,
                                .n_depth = 1000,
                                .output_bytes = (size_t)64 << 20,
                                .memory_bytes = (size_t)256 << 20};
}

void pr_template_failure_init(pr_template_failure *f)
{
    *f = (pr_template_failure){.kind = ""};
    pr_buffer_init(&f->message);
}

void pr_template_failure_deinit(pr_template_failure *f)
{
    pr_buffer_deinit(&f->message);
}

static pr_status report(const pr_render *r, pr_status st, pr_template_failure *failure,
                        pr_error *err)
{
    int n = r->message.n < PR_ERROR_BYTES ? (int)r->message.n : PR_ERROR_BYTES;
    const char *text = r->message.n ? r->message.data : "";
    if (failure) {
        failure->kind = pr_exc_name(r->exc);
        failure->line = r->line;
        pr_buffer_clear(&failure->message);
        pr_buffer_append(&failure->message, text, r->message.n);
    }
    if (r->exc == PR_EXC_NOMEM) return pr_error_set(err, PR_E_NOMEM, "%.*s", n, text);
    /* raise_exception speaks to the caller itself. */
    if (r->exc == PR_EXC_TEMPLATE) return pr_error_set(err, st, "%.*s", n, text);
    const char *kind = r->exc == PR_EXC_BOUND         ? "over a limit"
                       : r->exc == PR_EXC_UNSUPPORTED ? "not supported"
                                                      : pr_exc_name(r->exc);
    return pr_error_set(err, st, "line %u: %s: %.*s", r->line, kind, n, text);
}

static bool parse(pr_render *r, const char *source, size_t n, pr_ast *ast)
{
    pr_token *tokens = NULL;
    size_t n_tokens = 0;
    if (n > PR_TEMPLATE_SOURCE_BYTES_MAX) {
        return pr_raise(r, PR_EXC_BOUND, "a template of %zu bytes, expected at most %d", n,
                        PR_TEMPLATE_SOURCE_BYTES_MAX);
    }
    if (pr_utf8_prefix(source, n) != n) return pr_raise(r, PR_EXC_SYNTAX, "not UTF-8");
    if (!pr_template_lex(r, source, n, &tokens, &n_tokens) ||
        !pr_template_parse_tokens(r, tokens, n_tokens, &ast->body)) {
        return false;
    }
    return pr_template_resolve(r, ast);
}

pr_status pr_template_parse(const char *source, size_t n, pr_template **out,
                            pr_template_failure *failure, pr_error *err)
{
    assert(out);
    pr_status st = PR_OK;
    pr_render r = {.line = 1, .limits = pr_template_limits_default()};
    r.limits.memory_bytes = PARSE_BYTES_MAX;
    r.n_steps = r.limits.n_steps;
    pr_buffer_init(&r.message);
    pr_template *t = calloc(1, sizeof *t);
    if (!t || !(t->arena = pr_arena_create(0))) {
        st = pr_error_nomem(err, "template", sizeof *t);
        goto cleanup;
    }
    r.arena = t->arena;
    if (!parse(&r, source, n, &t->ast)) {
        st = report(&r, PR_E_MODEL, failure, err);
        goto cleanup;
    }
    *out = t;
    t = NULL;
cleanup:
    pr_template_free(t);
    pr_buffer_deinit(&r.message);
    return st;
}

void pr_template_free(pr_template *t)
{
    if (!t) return;
    pr_arena_free(t->arena);
    free(t);
}

static bool render(pr_render *r, const pr_ast *ast)
{
    pr_act *act = pr_act_create(r, NULL, ast->n_slots);
    r->variables = pr_render_array(r, r->input->n_variables, sizeof *r->variables);
    if (!act || !r->variables) return false;
    memset(r->variables, 0, r->input->n_variables * sizeof *r->variables);
    return pr_scope_enter(r, act, &ast->scope) && pr_exec(r, act, ast->body) != PR_FLOW_RAISED;
}

pr_status pr_template_render(const pr_template *t, const pr_template_input *input, pr_buffer *out,
                             pr_template_failure *failure, pr_error *err)
{
    assert(t);
    assert(input);
    assert(out);
    pr_status st = PR_OK;
    pr_render r = {.line = 1, .ast = &t->ast, .input = input};
    r.limits = input->limits ? *input->limits : pr_template_limits_default();
    r.n_steps = r.limits.n_steps;
    pr_buffer_init(&r.message);
    pr_buffer_init(&r.out);
    r.arena = pr_arena_create(RENDER_BLOCK_BYTES);
    if (!r.arena) {
        st = pr_error_nomem(err, "rendering", sizeof r);
        goto cleanup;
    }
    if (!render(&r, &t->ast)) {
        st = report(&r, PR_E_INPUT, failure, err);
        goto cleanup;
    }
    if (!pr_buffer_append(out, r.out.n ? r.out.data : "", r.out.n)) {
        st = pr_error_nomem(err, "rendered text", r.out.n);
    }
cleanup:
    pr_arena_free(r.arena);
    pr_buffer_deinit(&r.out);
    pr_buffer_deinit(&r.message);
    return st;
}
