#define _GNU_SOURCE /* memmem */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "runtime/text/regex/regex.h"

#include "runtime/base/utf8.h"
#include "runtime/text/regex/regex_translate.h"

#include <assert.h>
#include <pcre2.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    MATCH_STEPS_MAX = 10000000,    /* Oniguruma's own limit on retries has the same value */
    MATCH_HEAP_KIB_MAX = 65536,    /* without JIT */
    JIT_STACK_BYTES_MAX = 8 << 20, /* with JIT; it starts on 32 KiB of the thread's stack */
    PATTERN_BYTES_MAX = 65536
};

struct pr_regex {
    pcre2_code *code; /* NULL: literal */
    bool has_jit;
    char *literal; /* [n_literal] */
    size_t n_literal;
};

void pr_regex_free(pr_regex *re)
{
    if (!re) return;
    pcre2_code_free(re->code);
    free(re->literal);
    free(re);
}

pr_status pr_regex_compile_literal(const char *text, size_t n, pr_regex **out, pr_error *err)
{
    pr_regex *re = calloc(1, sizeof *re);
    char *literal = malloc(n + 1);
    if (!re || !literal) {
        free(re);
        free(literal);
        return pr_error_nomem(err, "pattern", n);
    }
    memcpy(literal, text, n);
    re->literal = literal;
    re->n_literal = n;
    *out = re;
    return PR_OK;
}

/* PCRE2's compile errors: the pattern is broken, or PCRE2 knows no such thing. */
static pr_status compile_failed(int code, size_t at, pr_error *err)
{
    PCRE2_UCHAR message[128];
    if (code == PCRE2_ERROR_NOMEMORY || code == PCRE2_ERROR_HEAP_FAILED) {
        return pr_error_set(err, PR_E_NOMEM, "regular expression: no memory");
    }
    pcre2_get_error_message(code, message, sizeof message);
    return pr_error_set(err, PR_E_UNSUPPORTED,
                        "regular expression: PCRE2: %s (byte %zu of its translation)",
                        (char *)message, at);
}

static pr_status compile_translated(const pr_buffer *pattern, pr_regex *re, pr_error *err)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return pr_error_set(err, PR_E_NOMEM, "regular expression: no memory");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    int code = 0;
    PCRE2_SIZE at = 0;
    re->code = pcre2_compile((PCRE2_SPTR)(pattern->data ? pattern->data : ""), pattern->n,
                             PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C, &code, &at, context);
    pcre2_compile_context_free(context);
    if (!re->code) return compile_failed(code, at, err);
    /* Without JIT (not built in, or no memory may be executable) PCRE2 interprets. */
    re->has_jit = pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE) == 0;
    return PR_OK;
}

pr_status pr_regex_compile(const char *pattern, size_t n, const char *where, pr_regex **out,
                           pr_error *err)
{
    assert(pattern);
    assert(out);
    pr_status st = PR_OK;
    pr_buffer translated = {0};
    pr_regex *re = calloc(1, sizeof *re);
    if (!re) {
        st = pr_error_nomem(err, "regular expression", sizeof *re);
        goto cleanup;
    }
    if (n > PATTERN_BYTES_MAX) {
        st = pr_error_set(err, PR_E_UNSUPPORTED, "regular expression: %zu bytes, at most %d", n,
                          PATTERN_BYTES_MAX);
        goto cleanup;
    }
    if (pr_utf8_prefix(pattern, n) < n) {
        st = pr_error_set(err, PR_E_MODEL, "regular expression: not UTF-8");
        goto cleanup;
    }
    if ((st = pr_regex_translate(pattern, n, &translated, err)) != PR_OK) goto cleanup;
    if ((st = compile_translated(&translated, re, err)) != PR_OK) goto cleanup;
    *out = re;
    re = NULL;
cleanup:
    pr_buffer_deinit(&translated);
    pr_regex_free(re);
    return st == PR_OK ? st : pr_error_context(err, st, "%s", where);
}

pr_status pr_regex_parse_pattern(const json_t *o, const char *where, pr_regex **out,
                                 pr_error *err)
{
    json_t *pattern = NULL;
    pr_status st = pr_json_get_node(o, where, "pattern", JSON_OBJECT, &pattern, err);
    if (st != PR_OK) return st;
    const json_t *text = json_object_get(pattern, "String");
    const json_t *regex = json_object_get(pattern, "Regex");
    if (json_object_size(pattern) == 1 && json_is_string(text)) {
        return pr_regex_compile_literal(json_string_value(text), json_string_length(text), out,
                                        err);
    }
    if (json_object_size(pattern) == 1 && json_is_string(regex)) {
        return pr_regex_compile(json_string_value(regex), json_string_length(regex), where, out,
                                err);
    }
    return pr_error_set(err, PR_E_MODEL,
                        "%s: pattern: expected one key, String or Regex, with a string", where);
}

pr_status pr_regex_scan_init(pr_regex_scan *s, const pr_regex *re, const char *text, size_t n,
                             pr_error *err)
{
    *s = (pr_regex_scan){.re = re, .text = text ? text : "", .n = n, .last_end = SIZE_MAX};
    if (!re->code) return PR_OK;
    pcre2_match_context *context = pcre2_match_context_create(NULL);
    s->context = context;
    s->match = pcre2_match_data_create(1, NULL); /* only the whole match is of interest */
    if (!context || !s->match) {
        pr_regex_scan_deinit(s);
        return pr_error_set(err, PR_E_NOMEM, "regular expression: no memory for a match");
    }
    pcre2_set_match_limit(context, MATCH_STEPS_MAX);
    pcre2_set_heap_limit(context, MATCH_HEAP_KIB_MAX);
    return PR_OK;
}

void pr_regex_scan_deinit(pr_regex_scan *s)
{
    pcre2_match_data_free(s->match);
    pcre2_match_context_free(s->context);
    pcre2_jit_stack_free(s->stack);
    *s = (pr_regex_scan){0};
}

static int match_at(pr_regex_scan *s, size_t at)
{
    PCRE2_SPTR text = (PCRE2_SPTR)s->text;
    if (s->re->has_jit) {
        return pcre2_jit_match(s->re->code, text, s->n, at, 0, s->match, s->context);
    }
    return pcre2_match(s->re->code, text, s->n, at, PCRE2_NO_UTF_CHECK, s->match, s->context);
}

/* A first JIT stack overflow gets a large stack of its own and another try. */
static int match_with_stack(pr_regex_scan *s, size_t at)
{
    int rc = match_at(s, at);
    if (rc != PCRE2_ERROR_JIT_STACKLIMIT || s->stack) return rc;
    s->stack = pcre2_jit_stack_create(32 << 10, JIT_STACK_BYTES_MAX, NULL);
    if (!s->stack) return PCRE2_ERROR_NOMEMORY;
    pcre2_jit_stack_assign(s->context, NULL, s->stack);
    return match_at(s, at);
}

static pr_status match_failed(int rc, pr_error *err)
{
    switch (rc) {
    case PCRE2_ERROR_NOMEMORY:
        return pr_error_set(err, PR_E_NOMEM, "regular expression: no memory for a match");
    case PCRE2_ERROR_MATCHLIMIT:
    case PCRE2_ERROR_DEPTHLIMIT:
    case PCRE2_ERROR_HEAPLIMIT:
    case PCRE2_ERROR_JIT_STACKLIMIT:
        return pr_error_set(err, PR_E_INPUT,
                            "regular expression of the tokenizer ran into its limit");
    default:
        return pr_error_set(err, PR_E_INTERNAL, "regular expression: PCRE2 status %d", rc);
    }
}

static bool find_literal(const pr_regex_scan *s, size_t at, size_t *begin, size_t *end)
{
    const char *needle = s->re->literal;
    size_t n = s->re->n_literal;
    if (n == 0) {
        *begin = *end = at;
        return true;
    }
    const char *p = memmem(s->text + at, s->n - at, needle, n);
    if (!p) return false;
    *begin = (size_t)(p - s->text);
    *end = *begin + n;
    return true;
}

static pr_status find(pr_regex_scan *s, bool *found, size_t *begin, size_t *end, pr_error *err)
{
    if (!s->re->code) {
        *found = find_literal(s, s->at, begin, end);
        return PR_OK;
    }
    int rc = match_with_stack(s, s->at);
    *found = rc >= 0;
    if (rc == PCRE2_ERROR_NOMATCH) return PR_OK;
    if (rc < 0) return match_failed(rc, err);
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(s->match);
    *begin = span[0];
    *end = span[1];
    return PR_OK;
}

pr_status pr_regex_scan_next(pr_regex_scan *s, bool *found, size_t *begin, size_t *end,
                             pr_error *err)
{
    *found = false;
    while (s->at <= s->n) {
        size_t b = 0;
        size_t e = 0;
        bool hit = false;
        pr_status st = find(s, &hit, &b, &e, err);
        if (st != PR_OK) return st;
        if (!hit) break;
        s->at = e;
        if (b == e) {
            /* The next search starts one character on; right behind a match, an empty one does
             * not count. */
            s->at += e < s->n ? pr_utf8_width((unsigned char)s->text[e]) : 1;
            if (s->last_end == e) continue;
        }
        s->last_end = e;
        *found = true;
        *begin = b;
        *end = e;
        return PR_OK;
    }
    s->at = s->n + 1;
    return PR_OK;
}
