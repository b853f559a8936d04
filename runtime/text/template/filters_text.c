#include "runtime/text/template/filters.h"

#include "runtime/base/utf8.h"
#include "runtime/text/template/call.h"
#include "runtime/text/template/format.h"
#include "runtime/text/template/iterate.h"
#include "runtime/text/template/json_text.h"
#include "runtime/text/template/methods.h"
#include "runtime/text/template/render.h"
#include "runtime/text/template/strings.h"
#include "runtime/text/template/value_text.h"

#include <string.h>

bool pr_filter_string(pr_render *r, const pr_value *argv, pr_value *out)
{
    return pr_value_soft_str(r, argv[0], out);
}

bool pr_filter_safe(pr_render *r, const pr_value *argv, pr_value *out)
{
    if (!pr_value_to_str(r, argv[0], out)) return false;
    out->flag = PR_FLAG_MARKUP;
    return true;
}

bool pr_filter_escape(pr_render *r, const pr_value *argv, pr_value *out)
{
    return pr_str_escape(r, argv[0], out);
}

bool pr_filter_forceescape(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_value text;
    return pr_value_to_str(r, argv[0], &text) && pr_str_escape(r, text, out);
}

bool pr_filter_upper(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_value s;
    return pr_value_soft_str(r, argv[0], &s) && pr_str_case(r, s, PR_PY_TO_UPPER, out);
}

bool pr_filter_lower(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_value s;
    return pr_value_soft_str(r, argv[0], &s) && pr_str_case(r, s, PR_PY_TO_LOWER, out);
}

bool pr_filter_capitalize(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_value s;
    return pr_value_soft_str(r, argv[0], &s) && pr_str_capitalize(r, s, out);
}

/* What separates words for title: -, white space, ( { [ <. */
static bool ends_word(uint32_t c)
{
    return pr_py_is_space(c) || (c < 0x80 && c && strchr("-({[<", (int)c));
}

bool pr_filter_title(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_value s, part, parts = pr_value_str("", 0);
    if (!pr_value_soft_str(r, argv[0], &s)) return false;
    for (size_t i = 0; i < s.n;) {
        uint32_t c = 0;
        size_t first = pr_utf8_decode(s.u.s + i, &c), end = i + first;
        bool between = ends_word(c);
        while (end < s.n) {
            size_t width = pr_utf8_decode(s.u.s + end, &c);
            if (ends_word(c) != between) break;
            end += width;
        }
        if (!pr_str_case(r, pr_value_str(s.u.s + i, first), PR_PY_TO_UPPER, &part) ||
            !pr_render_concat(r, parts, part, &parts) ||
            !pr_str_case(r, pr_value_str(s.u.s + i + first, end - i - first), PR_PY_TO_LOWER,
                         &part) ||
            !pr_render_concat(r, parts, part, &parts)) {
            return false;
        }
        i = end;
    }
    *out = parts;
    return true;
}

bool pr_filter_trim(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_value s;
    bool space = argv[1].kind == PR_V_MISSING || argv[1].kind == PR_V_NONE;
    if (!pr_value_soft_str(r, argv[0], &s)) return false;
    if (!space && argv[1].kind != PR_V_STR) {
        return pr_raise(r, PR_EXC_TYPE, "strip arg must be None or str");
    }
    *out = pr_str_strip(s, PR_STRIP_BOTH, space ? NULL : &argv[1]);
    return pr_render_work(r, (s.n - out->n) / 64);
}

bool pr_filter_replace(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_value s, from, to;
    int64_t n_max = -1;
    bool all = argv[3].kind == PR_V_MISSING || argv[3].kind == PR_V_NONE;
    if (!pr_value_to_str(r, argv[0], &s) || !pr_value_to_str(r, argv[1], &from) ||
        !pr_value_to_str(r, argv[2], &to) || (!all && !pr_arg_int(r, argv[3], -1, &n_max))) {
        return false;
    }
    return pr_str_replace(r, s, from, to, n_max < 0 ? SIZE_MAX : (size_t)n_max, out);
}

bool pr_filter_center(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_value s, method, width = argv[1].kind == PR_V_MISSING ? pr_value_int(80) : argv[1];
    pr_actual args = {.items = &width, .n = 1};
    return pr_value_soft_str(r, argv[0], &s) &&
           pr_method_bind(r, s, pr_value_cstr("center"), &method) &&
           pr_value_call(r, method, &args, out);
}

static bool indentation(pr_render *r, pr_value width, pr_value *out)
{
    int64_t n = 4;
    if (width.kind == PR_V_STR) {
        *out = width;
        return true;
    }
    if (width.kind != PR_V_MISSING && !pr_value_is_integral(width)) {
        return pr_raise(r, PR_EXC_TYPE, "can't multiply sequence by non-int of type '%s'",
                        pr_value_type(width));
    }
    if (width.kind != PR_V_MISSING) n = pr_value_as_int(width);
    return pr_str_repeat(r, pr_value_cstr(" "), n, out);
}

/* s + "\n" as jinja2 writes it: what is no string fails there. */
static bool indent_lines(pr_render *r, pr_value s, pr_value *lines)
{
    if (s.kind == PR_V_UNDEFINED) return pr_raise_undefined(r, s);
    if (s.kind == PR_V_LIST) { /* += takes any iterable; splitlines is what fails */
        return pr_raise(r, PR_EXC_ATTRIBUTE, "'list' object has no attribute 'splitlines'");
    }
    if (s.kind == PR_V_TUPLE) {
        return pr_raise(r, PR_EXC_TYPE, "can only concatenate tuple (not \"str\") to tuple");
    }
    if (s.kind != PR_V_STR) {
        return pr_raise(r, PR_EXC_TYPE, "unsupported operand type(s) for +=: '%s' and 'str'",
                        pr_value_type(s));
    }
    pr_value whole;
    uint8_t flag = s.flag;
    if (!pr_render_concat(r, s, pr_value_cstr("\n"), &whole)) return false;
    whole.flag = flag;
    return pr_str_splitlines(r, whole, false, lines);
}

bool pr_filter_indent(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_value by, lines, text = pr_value_str("", 0), newline = pr_value_cstr("\n");
    bool first = pr_arg_truth(argv[2], false), blank = pr_arg_truth(argv[3], false);
    if (!indentation(r, argv[1], &by) || !indent_lines(r, argv[0], &lines)) return false;
    const pr_list *list = lines.u.list;
    if (first && !pr_render_concat(r, text, by, &text)) return false;
    for (size_t i = 0; i < list->n; i++) {
        pr_value line = list->items[i];
        if (i && !pr_render_concat(r, text, newline, &text)) return false;
        if (i && (blank || line.n) && !pr_render_concat(r, text, by, &text)) return false;
        if (!pr_render_concat(r, text, line, &text)) return false;
    }
    *out = text;
    out->flag = argv[0].flag;
    return true;
}

bool pr_filter_truncate(pr_render *r, const pr_value *argv, pr_value *out)
{
    int64_t length = 255, leeway = 5;
    pr_value s = argv[0], end = argv[3].kind == PR_V_MISSING ? pr_value_cstr("...") : argv[3];
    size_t n = 0, n_end = 0;
    bool has_leeway = argv[4].kind != PR_V_MISSING && argv[4].kind != PR_V_NONE;
    if (!pr_arg_int(r, argv[1], 255, &length) || !pr_value_len(r, end, &n_end)) return false;
    if (has_leeway && !pr_arg_int(r, argv[4], 5, &leeway)) return false;
    if (length < (int64_t)n_end) {
        return pr_raise(r, PR_EXC_PYTHON_ASSERTION, "expected length >= %zu, got %lld", n_end,
                        (long long)length);
    }
    if (leeway < 0) {
        return pr_raise(r, PR_EXC_PYTHON_ASSERTION, "expected leeway >= 0, got %lld",
                        (long long)leeway);
    }
    if (!pr_value_len(r, s, &n)) return false;
    if ((int64_t)n <= length + leeway) {
        *out = s;
        return true;
    }
    if (s.kind != PR_V_STR || end.kind != PR_V_STR) {
        return pr_raise(r, PR_EXC_UNSUPPORTED, "truncate of a %s", pr_value_type(s));
    }
    pr_value cut = pr_str_part(s, 0, pr_str_offset(s, (size_t)length - n_end));
    if (!pr_arg_truth(argv[2], false)) {
        size_t at = pr_str_find_last(cut, pr_value_cstr(" "), cut.n);
        if (at != SIZE_MAX) cut = pr_str_part(cut, 0, at);
    }
    return pr_render_concat(r, cut, end, out);
}

bool pr_filter_wordcount(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_value s;
    int64_t n = 0;
    bool inside = false;
    uint32_t c = 0;
    if (!pr_value_soft_str(r, argv[0], &s)) return false;
    for (size_t i = 0; i < s.n;) {
        i += pr_utf8_decode(s.u.s + i, &c);
        bool word = c == '_' || pr_py_flags(c) & PR_PY_ALNUM;
        n += word && !inside;
        inside = word;
    }
    *out = pr_value_int(n);
    return pr_render_work(r, s.n / 16);
}

/* urllib.parse.quote; in a query a space is + and / is quoted. */
static bool quote(pr_render *r, pr_value v, bool query, pr_buffer *b)
{
    pr_value s;
    if (!pr_value_to_str(r, v, &s)) return false;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.u.s[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     (c && strchr("_.-~", c)) || (c == '/' && !query);
        if (plain)
            pr_buffer_append_char(b, (char)c);
        else if (c == ' ' && query)
            pr_buffer_append_char(b, '+');
        else
            pr_buffer_printf(b, "%%%02X", c);
    }
    return pr_render_work(r, s.n / 16);
}

static bool quote_pairs(pr_render *r, pr_value v, pr_buffer *b)
{
    pr_value pairs, pair;
    if (v.kind == PR_V_DICT) v = (pr_value){.kind = PR_V_VIEW, .flag = PR_VIEW_ITEMS, .u = v.u};
    if (!pr_iter_list(r, v, PR_V_LIST, &pairs)) return false;
    for (size_t i = 0; i < pairs.u.list->n; i++) {
        if (!pr_iter_list(r, pairs.u.list->items[i], PR_V_LIST, &pair)) return false;
        if (pair.u.list->n != 2) {
            return pr_raise(r, PR_EXC_VALUE,
                            pair.u.list->n < 2 ? "not enough values to unpack (expected 2, got %zu)"
                                               : "too many values to unpack (expected 2)",
                            pair.u.list->n);
        }
        if (i) pr_buffer_append_char(b, '&');
        if (!quote(r, pair.u.list->items[0], true, b)) return false;
        pr_buffer_append_char(b, '=');
        if (!quote(r, pair.u.list->items[1], true, b)) return false;
    }
    return true;
}

bool pr_filter_urlencode(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_buffer b;
    pr_buffer_init(&b);
    bool single = argv[0].kind == PR_V_STR || !pr_value_iterable(argv[0]);
    bool ok = (single ? quote(r, argv[0], false, &b) : quote_pairs(r, argv[0], &b)) &&
              pr_render_buffer(r, &b, out);
    pr_buffer_deinit(&b);
    return ok;
}

bool pr_filter_tojson(pr_render *r, const pr_value *argv, pr_value *out)
{
    return pr_json_text(r, argv[0], pr_arg_truth(argv[1], false), argv[2], argv[3],
                        pr_arg_truth(argv[4], false), out);
}

bool pr_filter_format(pr_render *r, pr_value value, const pr_actual *args, pr_value *out)
{
    pr_value s, with;
    if (args->n && args->n_keywords) {
        return pr_raise(r, PR_EXC_FILTER_ARGUMENT,
                        "can't handle positional and keyword arguments at the same time");
    }
    if (!pr_value_soft_str(r, value, &s)) return false;
    if (!args->n_keywords) {
        return pr_value_list(r, PR_V_TUPLE, args->items, args->n, &with) &&
               pr_format_percent(r, s, with, out);
    }
    if (!pr_value_dict(r, args->n_keywords, &with)) return false;
    for (size_t i = 0; i < args->n_keywords; i++) {
        if (!pr_dict_put(r, with.u.dict, args->keywords[i].key, args->keywords[i].value)) {
            return false;
        }
    }
    return pr_format_percent(r, s, with, out);
}
