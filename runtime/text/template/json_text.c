#include "runtime/text/template/json_text.h"

#include "runtime/base/utf8.h"
#include "runtime/text/template/iterate.h"
#include "runtime/text/template/render.h"
#include "runtime/text/template/sort.h"
#include "runtime/text/template/strings.h"
#include "runtime/text/template/value_text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct writer {
    pr_render *r;
    pr_buffer b;
    bool ascii, sort, indented;
    pr_value indent, between, colon;
    size_t level;
} writer;

/* How many bytes at s need no escape. */
static size_t plain_prefix(const char *s, size_t n, bool ascii)
{
    size_t i = 0;
    for (; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c < 0x20 || c == '"' || c == '\\' || (ascii && c >= 0x7f)) break;
    }
    return i;
}

static void write_unit(pr_buffer *b, uint32_t c)
{
    pr_buffer_printf(b, "\\u%04x", c);
}

static void write_str(writer *w, pr_value s)
{
    static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
    pr_buffer_append_char(&w->b, '"');
    for (size_t i = 0; i < s.n;) {
        size_t plain = plain_prefix(s.u.s + i, s.n - i, w->ascii);
        pr_buffer_append(&w->b, s.u.s + i, plain);
        i += plain;
        if (i >= s.n) break;
        uint32_t c = 0;
        i += pr_utf8_decode(s.u.s + i, &c);
        const char *simple = c && c < 0x80 ? strchr(from, (int)c) : NULL;
        if (simple) {
            pr_buffer_append_char(&w->b, '\\');
            pr_buffer_append_char(&w->b, to[simple - from]);
        } else if (c < 0x10000) {
            write_unit(&w->b, c);
        } else {
            write_unit(&w->b, 0xd800 + ((c - 0x10000) >> 10));
            write_unit(&w->b, 0xdc00 + ((c - 0x10000) & 0x3ff));
        }
    }
    pr_buffer_append_char(&w->b, '"');
}

static void write_float(writer *w, double f)
{
    char text[PR_FLOAT_TEXT_BYTES];
    if (isnan(f))
        pr_buffer_append_str(&w->b, "NaN");
    else if (isinf(f))
        pr_buffer_append_str(&w->b, f < 0 ? "-Infinity" : "Infinity");
    else
        pr_buffer_append(&w->b, text, pr_float_text(f, text));
}

static void line_break(writer *w)
{
    if (!w->indented) return;
    pr_buffer_append_char(&w->b, '\n');
    for (size_t i = 0; i < w->level; i++) pr_buffer_append(&w->b, w->indent.u.s, w->indent.n);
}

static bool write_value(writer *w, pr_value v);

static bool write_list(writer *w, const pr_list *list)
{
    if (list->n == 0) return pr_buffer_append_str(&w->b, "[]") || true;
    pr_buffer_append_char(&w->b, '[');
    w->level++;
    line_break(w);
    for (size_t i = 0; i < list->n; i++) {
        if (i) {
            pr_buffer_append(&w->b, w->between.u.s, w->between.n);
            line_break(w);
        }
        if (!write_value(w, list->items[i])) return false;
    }
    w->level--;
    line_break(w);
    pr_buffer_append_char(&w->b, ']');
    return true;
}

static bool write_key(writer *w, pr_value key)
{
    char text[PR_FLOAT_TEXT_BYTES];
    switch (key.kind) {
    case PR_V_STR:
        write_str(w, key);
        return true;
    case PR_V_INT:
        pr_buffer_printf(&w->b, "\"%lld\"", (long long)key.u.i);
        return true;
    case PR_V_FLOAT:
        pr_buffer_printf(&w->b, "\"%.*s\"", (int)pr_float_text(key.u.f, text), text);
        return true;
    case PR_V_BOOL:
        pr_buffer_append_str(&w->b, key.u.b ? "\"true\"" : "\"false\"");
        return true;
    case PR_V_NONE:
        pr_buffer_append_str(&w->b, "\"null\"");
        return true;
    default:
        return pr_raise(w->r, PR_EXC_TYPE, "keys must be str, int, float, bool or None, not %s",
                        pr_value_type(key));
    }
}

/* A dict's pairs by their keys. */
static bool sorted_pairs(writer *w, const pr_dict *d, pr_pair **out)
{
    pr_pair *pairs = pr_render_array(w->r, d->n, sizeof *pairs);
    pr_sort_item *items = pairs ? pr_render_array(w->r, d->n, sizeof *items) : NULL;
    if (!items) return false;
    for (size_t i = 0; i < d->n; i++) {
        items[i] = (pr_sort_item){.key = d->pairs[i].key, .value = pr_value_int((int64_t)i)};
    }
    if (!pr_sort(w->r, items, d->n, false)) return false;
    for (size_t i = 0; i < d->n; i++) pairs[i] = d->pairs[items[i].value.u.i];
    *out = pairs;
    return true;
}

static bool write_dict(writer *w, const pr_dict *d)
{
    pr_pair *pairs = d->pairs;
    if (d->n == 0) return pr_buffer_append_str(&w->b, "{}") || true;
    if (w->sort && !sorted_pairs(w, d, &pairs)) return false;
    pr_buffer_append_char(&w->b, '{');
    w->level++;
    line_break(w);
    for (size_t i = 0; i < d->n; i++) {
        if (i) {
            pr_buffer_append(&w->b, w->between.u.s, w->between.n);
            line_break(w);
        }
        if (!write_key(w, pairs[i].key)) return false;
        pr_buffer_append(&w->b, w->colon.u.s, w->colon.n);
        if (!write_value(w, pairs[i].value)) return false;
    }
    w->level--;
    line_break(w);
    pr_buffer_append_char(&w->b, '}');
    return true;
}

static bool write_nested(writer *w, pr_value v)
{
    if (w->level >= w->r->limits.n_depth) {
        return pr_raise(w->r, PR_EXC_BOUND, "values nested deeper than %zu levels",
                        w->r->limits.n_depth);
    }
    return v.kind == PR_V_DICT ? write_dict(w, v.u.dict) : write_list(w, v.u.list);
}

static bool write_value(writer *w, pr_value v)
{
    if (!pr_render_step(w->r)) return false;
    switch (v.kind) {
    case PR_V_STR:
        write_str(w, v);
        return pr_render_work(w->r, v.n / 64);
    case PR_V_INT:
        pr_buffer_printf(&w->b, "%lld", (long long)v.u.i);
        return true;
    case PR_V_FLOAT:
        write_float(w, v.u.f);
        return true;
    case PR_V_BOOL:
        pr_buffer_append_str(&w->b, v.u.b ? "true" : "false");
        return true;
    case PR_V_NONE:
        pr_buffer_append_str(&w->b, "null");
        return true;
    case PR_V_LIST:
    case PR_V_TUPLE:
    case PR_V_DICT:
        return write_nested(w, v);
    default:
        return pr_raise(w->r, PR_EXC_TYPE, "Object of type %s is not JSON serializable",
                        pr_value_type(v));
    }
}

static bool set_indent(writer *w, pr_value indent)
{
    if (indent.kind == PR_V_NONE || indent.kind == PR_V_MISSING) return true;
    w->indented = true;
    w->between = pr_value_cstr(",");
    if (indent.kind == PR_V_STR) {
        w->indent = indent;
        return true;
    }
    if (!pr_value_is_integral(indent)) {
        return pr_raise(w->r, PR_EXC_TYPE, "can't multiply sequence by non-int of type '%s'",
                        pr_value_type(indent));
    }
    int64_t n = pr_value_as_int(indent);
    if (n > 1024) return pr_raise(w->r, PR_EXC_BOUND, "an indent of more than 1024");
    return pr_str_repeat(w->r, pr_value_cstr(" "), n, &w->indent);
}

static bool set_separators(writer *w, pr_value separators)
{
    pr_value list;
    if (separators.kind == PR_V_NONE || separators.kind == PR_V_MISSING) return true;
    if (!pr_value_iterable(separators)) {
        return pr_raise(w->r, PR_EXC_TYPE, "cannot unpack non-iterable %s object",
                        pr_value_type(separators));
    }
    if (!pr_iter_list(w->r, separators, PR_V_LIST, &list)) return false;
    size_t n = list.u.list->n;
    if (n < 2) {
        return pr_raise(w->r, PR_EXC_VALUE, "not enough values to unpack (expected 2, got %zu)", n);
    }
    if (n > 2) return pr_raise(w->r, PR_EXC_VALUE, "too many values to unpack (expected 2)");
    w->between = list.u.list->items[0];
    w->colon = list.u.list->items[1];
    if (w->between.kind == PR_V_STR && w->colon.kind == PR_V_STR) return true;
    return pr_raise(w->r, PR_EXC_TYPE, "make_encoder() argument must be str, not %s",
                    pr_value_type(w->between.kind == PR_V_STR ? w->colon : w->between));
}

bool pr_json_text(pr_render *r, pr_value v, bool ensure_ascii, pr_value indent, pr_value separators,
                  bool sort_keys, pr_value *out)
{
    writer w = {.r = r,
                .ascii = ensure_ascii,
                .sort = sort_keys,
                .between = pr_value_cstr(", "),
                .colon = pr_value_cstr(": ")};
    pr_buffer_init(&w.b);
    bool ok = set_indent(&w, indent) && set_separators(&w, separators) && write_value(&w, v) &&
              pr_render_buffer(r, &w.b, out);
    pr_buffer_deinit(&w.b);
    return ok;
}
