#include "runtime/text/template/value_text.h"

#include "runtime/base/number.h"
#include "runtime/base/utf8.h"
#include "runtime/text/template/call.h"
#include "runtime/text/template/iterate.h"
#include "runtime/text/template/methods.h"
#include "runtime/text/template/python_chars.h"
#include "runtime/text/template/render.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t pr_float_digits(double f, char digits[PR_FLOAT_TEXT_BYTES], int *exponent)
{
    char text[40];
    for (int precision = 0; precision <= 16; precision++) {
        pr_number_format(text, sizeof text, 'e', precision, fabs(f));
        if (precision == 16 || pr_number_read(text, NULL) == fabs(f)) break;
    }
    char *e = strchr(text, 'e');
    *exponent = atoi(e + 1);
    size_t n = 0;
    for (char *p = text; p < e; p++) {
        if (*p >= '0' && *p <= '9') digits[n++] = *p;
    }
    while (n > 1 && digits[n - 1] == '0') n--;
    digits[n] = '\0';
    return n;
}

size_t pr_float_text(double f, char out[PR_FLOAT_TEXT_BYTES])
{
    if (isnan(f)) return (size_t)snprintf(out, PR_FLOAT_TEXT_BYTES, "nan");
    const char *sign = signbit(f) ? "-" : "";
    if (isinf(f)) return (size_t)snprintf(out, PR_FLOAT_TEXT_BYTES, "%sinf", sign);
    if (f == 0) return (size_t)snprintf(out, PR_FLOAT_TEXT_BYTES, "%s0.0", sign);
    char digits[PR_FLOAT_TEXT_BYTES];
    int e = 0;
    int n = (int)pr_float_digits(f, digits, &e);
    if (e < -4 || e >= 16) {
        return (size_t)snprintf(out, PR_FLOAT_TEXT_BYTES, "%s%c%s%se%c%02d", sign, digits[0],
                                n > 1 ? "." : "", digits + 1, e < 0 ? '-' : '+', abs(e));
    }
    if (e < 0) {
        return (size_t)snprintf(out, PR_FLOAT_TEXT_BYTES, "%s0.%.*s%s", sign, -e - 1, "0000",
                                digits);
    }
    if (n <= e + 1) { /* whole: zeros up to the point */
        return (size_t)snprintf(out, PR_FLOAT_TEXT_BYTES, "%s%s%.*s.0", sign, digits, e + 1 - n,
                                "0000000000000000");
    }
    return (size_t)snprintf(out, PR_FLOAT_TEXT_BYTES, "%s%.*s.%s", sign, e + 1, digits,
                            digits + e + 1);
}

static void repr_char(uint32_t c, const char *s, size_t width, char quote, bool ascii, pr_buffer *b)
{
    if (c == '\n')
        pr_buffer_append_str(b, "\\n");
    else if (c == '\r')
        pr_buffer_append_str(b, "\\r");
    else if (c == '\t')
        pr_buffer_append_str(b, "\\t");
    else if (c == '\\' || c == (uint32_t)quote)
        pr_buffer_printf(b, "\\%c", (char)c);
    else if (c < 0x80 ? c >= 0x20 && c < 0x7f : !ascii && pr_py_is_printable(c))
        pr_buffer_append(b, s, width);
    else
        pr_buffer_printf(b, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
}

void pr_str_repr(const char *s, size_t n, bool ascii, pr_buffer *b)
{
    bool single = n && memchr(s, '\'', n), twice = n && memchr(s, '"', n);
    char quote = single && !twice ? '"' : '\'';
    pr_buffer_append_char(b, quote);
    for (size_t i = 0; i < n;) {
        uint32_t c = 0;
        size_t width = pr_utf8_decode(s + i, &c);
        repr_char(c, s + i, width, quote, ascii, b);
        i += width;
    }
    pr_buffer_append_char(b, quote);
}

static bool repr_items(pr_render *r, const pr_list *list, const char *open, const char *close,
                       pr_buffer *b)
{
    pr_buffer_append_str(b, open);
    for (size_t i = 0; i < list->n; i++) {
        if (i) pr_buffer_append_str(b, ", ");
        if (!pr_value_repr(r, list->items[i], b)) return false;
    }
    pr_buffer_append_str(b, close);
    return true;
}

static bool repr_dict(pr_render *r, const pr_dict *d, pr_buffer *b)
{
    pr_buffer_append_char(b, '{');
    for (size_t i = 0; i < d->n; i++) {
        if (i) pr_buffer_append_str(b, ", ");
        if (!pr_value_repr(r, d->pairs[i].key, b)) return false;
        pr_buffer_append_str(b, ": ");
        if (!pr_value_repr(r, d->pairs[i].value, b)) return false;
    }
    pr_buffer_append_char(b, '}');
    return true;
}

static bool repr_view(pr_render *r, pr_value v, pr_buffer *b)
{
    static const char *const names[] = {"dict_keys([", "dict_values([", "dict_items(["};
    const pr_dict *d = v.u.dict;
    pr_buffer_append_str(b, names[v.flag]);
    for (size_t i = 0; i < d->n; i++) {
        if (i) pr_buffer_append_str(b, ", ");
        if (v.flag == PR_VIEW_ITEMS) {
            pr_buffer_append_char(b, '(');
            if (!pr_value_repr(r, d->pairs[i].key, b)) return false;
            pr_buffer_append_str(b, ", ");
        }
        bool key = v.flag == PR_VIEW_KEYS;
        if (!pr_value_repr(r, key ? d->pairs[i].key : d->pairs[i].value, b)) return false;
        if (v.flag == PR_VIEW_ITEMS) pr_buffer_append_char(b, ')');
    }
    pr_buffer_append_str(b, "])");
    return true;
}

static void repr_range(const pr_range *range, pr_buffer *b)
{
    pr_buffer_printf(b, "range(%lld, %lld", (long long)range->start, (long long)range->stop);
    if (range->step != 1) pr_buffer_printf(b, ", %lld", (long long)range->step);
    pr_buffer_append_char(b, ')');
}

/* What Python writes with an address: it differs from run to run, so no template can want it. */
static bool repr_object(pr_render *r, pr_value v)
{
    return pr_raise(r, PR_EXC_UNSUPPORTED, "a %s object as text", pr_value_type(v));
}

static bool repr_nested(pr_render *r, pr_value v, pr_buffer *b)
{
    switch (v.kind) {
    case PR_V_LIST:
        return repr_items(r, v.u.list, "[", "]", b);
    case PR_V_TUPLE:
        return repr_items(r, v.u.list, "(", v.u.list->n == 1 ? ",)" : ")", b);
    case PR_V_DICT:
        return repr_dict(r, v.u.dict, b);
    case PR_V_VIEW:
        return repr_view(r, v, b);
    case PR_V_NAMESPACE:
        pr_buffer_append_str(b, "<Namespace ");
        if (!repr_dict(r, v.u.dict, b)) return false;
        pr_buffer_append_char(b, '>');
        return true;
    case PR_V_MACRO:
        return pr_macro_repr(v.u.macro, b);
    case PR_V_LOOP:
        return pr_loop_repr(r, v.u.loop, b);
    default:
        return repr_object(r, v);
    }
}

bool pr_value_repr(pr_render *r, pr_value v, pr_buffer *b)
{
    char text[PR_FLOAT_TEXT_BYTES];
    if (!pr_render_step(r)) return false;
    switch (v.kind) {
    case PR_V_UNDEFINED:
        pr_buffer_append_str(b, "Undefined");
        return true;
    case PR_V_NONE:
        pr_buffer_append_str(b, "None");
        return true;
    case PR_V_BOOL:
        pr_buffer_append_str(b, v.u.b ? "True" : "False");
        return true;
    case PR_V_INT:
        pr_buffer_printf(b, "%lld", (long long)v.u.i);
        return true;
    case PR_V_FLOAT:
        pr_buffer_append(b, text, pr_float_text(v.u.f, text));
        return true;
    case PR_V_STR:
        if (v.flag & PR_FLAG_MARKUP) pr_buffer_append_str(b, "Markup(");
        pr_str_repr(v.u.s, v.n, false, b);
        if (v.flag & PR_FLAG_MARKUP) pr_buffer_append_char(b, ')');
        return pr_render_work(r, v.n / 64);
    case PR_V_RANGE:
        repr_range(v.u.range, b);
        return true;
    default:
        break;
    }
    if (r->depth >= r->limits.n_depth) {
        return pr_raise(r, PR_EXC_BOUND, "values nested deeper than %zu levels", r->limits.n_depth);
    }
    r->depth++;
    bool ok = repr_nested(r, v, b);
    r->depth--;
    return ok;
}

bool pr_value_text(pr_render *r, pr_value v, pr_buffer *b)
{
    if (v.kind == PR_V_STR) {
        pr_buffer_append(b, v.u.s, v.n);
        return pr_render_work(r, v.n / 64);
    }
    if (v.kind == PR_V_UNDEFINED) return true;
    return pr_value_repr(r, v, b);
}

bool pr_value_to_str(pr_render *r, pr_value v, pr_value *out)
{
    if (v.kind == PR_V_STR) {
        *out = pr_value_str(v.u.s, v.n);
        return true;
    }
    pr_buffer b;
    pr_buffer_init(&b);
    bool ok = pr_value_text(r, v, &b) && pr_render_buffer(r, &b, out);
    pr_buffer_deinit(&b);
    return ok;
}

bool pr_value_soft_str(pr_render *r, pr_value v, pr_value *out)
{
    if (v.kind != PR_V_STR) return pr_value_to_str(r, v, out);
    *out = v;
    return true;
}
