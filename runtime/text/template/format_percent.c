#include "runtime/text/template/format.h"

#include "runtime/base/utf8.h"
#include "runtime/text/template/attributes.h"
#include "runtime/text/template/render.h"
#include "runtime/text/template/strings.h"
#include "runtime/text/template/value_text.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct formatter {
    pr_render *r;
    pr_value fmt;
    size_t at;
    pr_value args;
    size_t n_used; /* of a tuple; of a single value 0 or 1 */
    bool markup;
    pr_buffer b;
} formatter;

/* What Python's PyMapping_Check is true for. */
static bool is_mapping(pr_value v)
{
    return v.kind == PR_V_DICT || v.kind == PR_V_LIST || v.kind == PR_V_UNDEFINED ||
           v.kind == PR_V_RANGE;
}

static bool next_arg(formatter *f, pr_value *out)
{
    bool tuple = f->args.kind == PR_V_TUPLE;
    if (f->n_used >= (tuple ? f->args.u.list->n : 1)) {
        return pr_raise(f->r, PR_EXC_TYPE, "not enough arguments for format string");
    }
    *out = tuple ? f->args.u.list->items[f->n_used] : f->args;
    f->n_used++;
    return true;
}

static char here(const formatter *f)
{
    return f->at < f->fmt.n ? f->fmt.u.s[f->at] : '\0';
}

/* "(name)": the value of that key. */
static bool read_key(formatter *f, pr_value *out)
{
    size_t depth = 1, begin = ++f->at;
    if (!is_mapping(f->args)) return pr_raise(f->r, PR_EXC_TYPE, "format requires a mapping");
    while (f->at < f->fmt.n && depth > 0) {
        char c = f->fmt.u.s[f->at++];
        if (c == '(') depth++;
        if (c == ')') depth--;
    }
    if (depth > 0) return pr_raise(f->r, PR_EXC_VALUE, "incomplete format key");
    pr_value key = pr_str_part(f->fmt, begin, f->at - 1);
    key.flag = 0;
    if (f->args.kind != PR_V_DICT) {
        if (f->args.kind == PR_V_UNDEFINED) return pr_raise_undefined(f->r, f->args);
        return pr_raise(f->r, PR_EXC_TYPE, "list indices must be integers or slices, not str");
    }
    const pr_pair *pair = pr_dict_find(f->args.u.dict, key);
    if (!pair) return pr_raise_repr(f->r, PR_EXC_KEY, "%s", key);
    f->n_used = 1;
    *out = pair->value;
    return true;
}

/* A number or "*". */
static bool read_size(formatter *f, int64_t max, const char *what, int64_t *out)
{
    pr_value v;
    if (here(f) == '*') {
        f->at++;
        if (!next_arg(f, &v)) return false;
        if (!pr_value_is_integral(v)) return pr_raise(f->r, PR_EXC_TYPE, "* wants int");
        *out = pr_value_as_int(v);
    } else {
        *out = 0;
        while (isdigit((unsigned char)here(f)) && *out <= max) {
            *out = 10 * *out + (here(f) - '0');
            f->at++;
        }
    }
    if (*out > max || *out < -max) {
        return pr_raise(f->r, PR_EXC_BOUND, "a %s of more than %lld", what, (long long)max);
    }
    return true;
}

static bool read_flags(formatter *f, pr_format_spec *spec)
{
    bool left = false, zero = false;
    for (;; f->at++) {
        char c = here(f);
        if (c == '-')
            left = true;
        else if (c == '0')
            zero = true;
        else if (c == '#')
            spec->alternate = true;
        else if (c == '+' || (c == ' ' && spec->sign != '+'))
            spec->sign = c;
        else if (c != ' ')
            break;
    }
    if (!read_size(f, PR_FORMAT_WIDTH_MAX, "width", &spec->width)) return false;
    if (spec->width < 0) {
        left = true;
        spec->width = -spec->width;
    }
    spec->align = left ? '<' : zero ? '=' : '>';
    if (zero && !left) spec->fill[0] = '0';
    if (here(f) != '.') return true;
    f->at++;
    if (!read_size(f, PR_FORMAT_PRECISION_MAX, "precision", &spec->precision)) return false;
    if (spec->precision < 0) spec->precision = 0;
    return true;
}

static bool text_of(formatter *f, char type, pr_value v, pr_value *out)
{
    pr_buffer b;
    if (type == 's') {
        if (f->markup) return pr_str_escape(f->r, v, out);
        return pr_value_to_str(f->r, v, out);
    }
    pr_buffer_init(&b);
    bool ok = true;
    if (type == 'a' && v.kind == PR_V_STR)
        pr_str_repr(v.u.s, v.n, true, &b);
    else
        ok = pr_value_repr(f->r, v, &b);
    ok = ok && pr_render_buffer(f->r, &b, out);
    pr_buffer_deinit(&b);
    return ok && (!f->markup || pr_str_escape(f->r, *out, out));
}

static bool format_text(formatter *f, pr_format_spec *spec, char type, pr_value v)
{
    pr_value text;
    if (!text_of(f, type, v, &text)) return false;
    spec->type = 's';
    spec->sign = '\0';
    spec->alternate = false;
    spec->fill[0] = ' ';
    if (spec->align == '=') spec->align = '>';
    return pr_format_str(f->r, spec, text, &f->b);
}

static bool format_char(formatter *f, pr_format_spec *spec, pr_value v)
{
    if (v.kind == PR_V_STR && pr_str_count(v) == 1) return format_text(f, spec, 's', v);
    if (!pr_value_is_integral(v)) return pr_raise(f->r, PR_EXC_TYPE, "%%c requires int or char");
    spec->type = 'c';
    spec->precision = -1;
    return pr_format_int(f->r, spec, pr_value_as_int(v), &f->b);
}

static bool format_whole(formatter *f, pr_format_spec *spec, char type, pr_value v)
{
    char digits[PR_FORMAT_PRECISION_MAX + 32];
    int64_t i = 0;
    bool decimal = strchr("diu", type);
    if (v.kind == PR_V_FLOAT && decimal) {
        if (!isfinite(v.u.f) || fabs(v.u.f) >= 9e18) {
            return pr_raise(f->r, PR_EXC_BOUND, "an integer of more than 64 bits");
        }
        i = (int64_t)v.u.f;
    } else if (pr_value_is_integral(v)) {
        i = pr_value_as_int(v);
    } else if (v.kind == PR_V_UNDEFINED && decimal) {
        return pr_raise_undefined(f->r, v); /* it has an __int__ that raises */
    } else {
        return pr_raise(f->r, PR_EXC_TYPE,
                        decimal ? "%%%c format: a real number is required, not %s"
                                : "%%%c format: an integer is required, not %s",
                        type, pr_value_type(v));
    }
    if (spec->precision > 0 && decimal) { /* at least so many digits */
        int n = snprintf(digits, sizeof digits, "%.*lld", (int)spec->precision, (long long)i);
        pr_format_spec text = *spec;
        if (i >= 0 && spec->sign) {
            memmove(digits + 1, digits, (size_t)n + 1);
            digits[0] = spec->sign;
        }
        return format_text(f, &text, 's', pr_value_cstr(digits));
    }
    spec->type = decimal ? 'd' : type;
    spec->precision = -1;
    return pr_format_int(f->r, spec, i, &f->b);
}

static bool format_real(formatter *f, pr_format_spec *spec, char type, pr_value v)
{
    if (v.kind == PR_V_UNDEFINED) return pr_raise_undefined(f->r, v);
    if (!pr_value_is_number(v)) {
        return pr_raise(f->r, PR_EXC_TYPE, "must be real number, not %s", pr_value_type(v));
    }
    spec->type = type;
    return pr_format_float(f->r, spec, pr_value_as_float(v), &f->b);
}

/* Behind a '%'. */
static bool convert(formatter *f)
{
    pr_format_spec spec = {.fill = " ", .n_fill = 1, .precision = -1};
    pr_value v = {0};
    bool keyed = here(f) == '(';
    if (keyed && !read_key(f, &v)) return false;
    if (!read_flags(f, &spec)) return false;
    while (here(f) && strchr("hlL", here(f))) f->at++;
    if (f->at >= f->fmt.n) return pr_raise(f->r, PR_EXC_VALUE, "incomplete format");
    char type = here(f);
    f->at++;
    if (type == '%') return pr_buffer_append_char(&f->b, '%') || true;
    if (!keyed && !next_arg(f, &v)) return false;
    if (type && strchr("sra", type)) return format_text(f, &spec, type, v);
    if (type == 'c') return format_char(f, &spec, v);
    if (type && strchr("diuoxX", type)) return format_whole(f, &spec, type, v);
    if (type && strchr("eEfFgG", type)) return format_real(f, &spec, type, v);
    uint32_t c = 0;
    pr_utf8_decode(f->fmt.u.s + f->at - 1, &c);
    size_t index = pr_utf8_count(f->fmt.u.s, f->at - 1);
    return pr_raise(f->r, PR_EXC_VALUE, "unsupported format character '%c' (0x%x) at index %zu",
                    c >= 0x20 && c < 0x7f ? (char)c : '?', c, index);
}

static bool format_all(formatter *f)
{
    while (f->at < f->fmt.n) {
        const char *rest = f->fmt.u.s + f->at;
        const char *mark = memchr(rest, '%', f->fmt.n - f->at);
        size_t n = mark ? (size_t)(mark - rest) : f->fmt.n - f->at;
        pr_buffer_append(&f->b, rest, n);
        f->at += n;
        if (!mark) break;
        f->at++;
        if (!pr_render_step(f->r) || !convert(f)) return false;
    }
    size_t n_args = f->args.kind == PR_V_TUPLE ? f->args.u.list->n : 1;
    if (f->n_used < n_args && !is_mapping(f->args)) {
        return pr_raise(f->r, PR_EXC_TYPE, "not all arguments converted during string formatting");
    }
    return true;
}

bool pr_format_percent(pr_render *r, pr_value fmt, pr_value args, pr_value *out)
{
    formatter f = {.r = r, .fmt = fmt, .args = args, .markup = fmt.flag & PR_FLAG_MARKUP};
    pr_buffer_init(&f.b);
    bool ok = format_all(&f) && pr_render_buffer(r, &f.b, out);
    pr_buffer_deinit(&f.b);
    if (ok) out->flag = fmt.flag;
    return ok;
}
