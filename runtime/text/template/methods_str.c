#include "runtime/text/template/methods.h"

#include "runtime/base/utf8.h"
#include "runtime/text/template/attributes.h"
#include "runtime/text/template/format.h"
#include "runtime/text/template/iterate.h"
#include "runtime/text/template/render.h"
#include "runtime/text/template/strings.h"

#include <string.h>

static bool absent(pr_value v)
{
    return v.kind == PR_V_MISSING || v.kind == PR_V_NONE;
}

/* argv[1]: what to strip, or None. */
static bool strip(pr_render *r, const pr_value *argv, int sides, const char *name, pr_value *out)
{
    if (!absent(argv[1]) && argv[1].kind != PR_V_STR) {
        return pr_raise(r, PR_EXC_TYPE, "%s arg must be None or str", name);
    }
    *out = pr_str_strip(argv[0], sides, absent(argv[1]) ? NULL : &argv[1]);
    return pr_render_work(r, (argv[0].n - out->n) / 64);
}

static bool str_strip(pr_render *r, const pr_value *argv, pr_value *out)
{
    return strip(r, argv, PR_STRIP_BOTH, "strip", out);
}

static bool str_lstrip(pr_render *r, const pr_value *argv, pr_value *out)
{
    return strip(r, argv, PR_STRIP_LEFT, "lstrip", out);
}

static bool str_rstrip(pr_render *r, const pr_value *argv, pr_value *out)
{
    return strip(r, argv, PR_STRIP_RIGHT, "rstrip", out);
}

static bool split(pr_render *r, const pr_value *argv,
                  bool (*how)(pr_render *, pr_value, const pr_value *, size_t, pr_value *),
                  pr_value *out)
{
    int64_t n_max = -1;
    if (!absent(argv[1]) && argv[1].kind != PR_V_STR) {
        return pr_raise(r, PR_EXC_TYPE, "must be str or None, not %s", pr_value_type(argv[1]));
    }
    if (!pr_arg_int(r, argv[2], -1, &n_max)) return false;
    return how(r, argv[0], absent(argv[1]) ? NULL : &argv[1], n_max < 0 ? SIZE_MAX : (size_t)n_max,
               out);
}

static bool str_split(pr_render *r, const pr_value *argv, pr_value *out)
{
    return split(r, argv, pr_str_split, out);
}

static bool str_rsplit(pr_render *r, const pr_value *argv, pr_value *out)
{
    return split(r, argv, pr_str_rsplit, out);
}

static bool str_splitlines(pr_render *r, const pr_value *argv, pr_value *out)
{
    return pr_str_splitlines(r, argv[0], pr_arg_truth(argv[1], false), out);
}

/* The part of argv[0] that argv[2] and argv[3] leave, as bytes. False with *empty when they leave
 * less than nothing. */
static bool window(pr_render *r, const pr_value *argv, size_t *begin, size_t *end, bool *empty)
{
    pr_value bounds[3] = {argv[2], argv[3], pr_value_none()};
    int64_t start = 0, stop = 0, step = 1;
    *begin = 0;
    *end = argv[0].n;
    *empty = false;
    if (absent(argv[2]) && absent(argv[3])) return true;
    size_t n = pr_str_count(argv[0]);
    if (!pr_slice_bounds(r, bounds, n, &start, &stop, &step)) return false;
    bool beyond = pr_value_is_integral(argv[2]) && pr_value_as_int(argv[2]) > (int64_t)n;
    *empty = start > stop || beyond;
    *begin = pr_str_offset(argv[0], (size_t)start);
    *end = pr_str_offset(argv[0], (size_t)stop);
    return pr_render_work(r, argv[0].n / 64);
}

static bool is_affix(pr_value part, pr_value affix, bool start)
{
    return start ? pr_str_starts(part, affix) : pr_str_ends(part, affix);
}

static bool affix(pr_render *r, const pr_value *argv, bool start, pr_value *out)
{
    const char *name = start ? "startswith" : "endswith";
    size_t begin = 0, end = 0;
    bool empty = false, found = false;
    if (!window(r, argv, &begin, &end, &empty)) return false;
    pr_value part = empty ? pr_value_str("", 0) : pr_str_part(argv[0], begin, end);
    if (argv[1].kind == PR_V_STR) {
        found = !empty && is_affix(part, argv[1], start);
    } else if (argv[1].kind == PR_V_TUPLE) {
        const pr_list *all = argv[1].u.list;
        for (size_t i = 0; i < all->n && !found; i++) {
            if (all->items[i].kind != PR_V_STR) {
                return pr_raise(r, PR_EXC_TYPE, "tuple for %s must only contain str, not %s", name,
                                pr_value_type(all->items[i]));
            }
            found = !empty && is_affix(part, all->items[i], start);
        }
    } else {
        return pr_raise(r, PR_EXC_TYPE, "%s first arg must be str or a tuple of str, not %s", name,
                        pr_value_type(argv[1]));
    }
    *out = pr_value_bool(found);
    return true;
}

static bool str_startswith(pr_render *r, const pr_value *argv, pr_value *out)
{
    return affix(r, argv, true, out);
}

static bool str_endswith(pr_render *r, const pr_value *argv, pr_value *out)
{
    return affix(r, argv, false, out);
}

static bool need_str(pr_render *r, pr_value v, const char *where)
{
    if (v.kind == PR_V_STR) return true;
    return pr_raise(r, PR_EXC_TYPE, "%s must be str, not %s", where, pr_value_type(v));
}

/* The place of argv[1] as a character index, -1 when it is not there. */
static bool find(pr_render *r, const pr_value *argv, bool last, int64_t *out)
{
    size_t begin = 0, end = 0, at = SIZE_MAX;
    bool empty = false;
    if (argv[1].kind != PR_V_STR) {
        return pr_raise(r, PR_EXC_TYPE, "must be str, not %s", pr_value_type(argv[1]));
    }
    if (!window(r, argv, &begin, &end, &empty) || !pr_render_work(r, argv[0].n / 64)) return false;
    pr_value part = pr_str_part(argv[0], 0, empty ? 0 : end);
    if (!empty) {
        at = last ? pr_str_find_last(part, argv[1], end) : pr_str_find(part, argv[1], begin);
    }
    bool found = at != SIZE_MAX && at >= begin;
    *out = found ? (int64_t)pr_str_count(pr_str_part(argv[0], 0, at)) : -1;
    return true;
}

static bool str_find(pr_render *r, const pr_value *argv, pr_value *out)
{
    int64_t at = -1;
    if (!find(r, argv, false, &at)) return false;
    *out = pr_value_int(at);
    return true;
}

static bool str_rfind(pr_render *r, const pr_value *argv, pr_value *out)
{
    int64_t at = -1;
    if (!find(r, argv, true, &at)) return false;
    *out = pr_value_int(at);
    return true;
}

static bool str_index(pr_render *r, const pr_value *argv, pr_value *out)
{
    if (!str_find(r, argv, out)) return false;
    return out->u.i >= 0 || pr_raise(r, PR_EXC_VALUE, "substring not found");
}

static bool str_rindex(pr_render *r, const pr_value *argv, pr_value *out)
{
    if (!str_rfind(r, argv, out)) return false;
    return out->u.i >= 0 || pr_raise(r, PR_EXC_VALUE, "substring not found");
}

static bool str_count(pr_render *r, const pr_value *argv, pr_value *out)
{
    size_t begin = 0, end = 0;
    bool empty = false;
    int64_t n = 0;
    if (argv[1].kind != PR_V_STR) {
        return pr_raise(r, PR_EXC_TYPE, "must be str, not %s", pr_value_type(argv[1]));
    }
    if (!window(r, argv, &begin, &end, &empty) || !pr_render_work(r, argv[0].n / 16)) return false;
    pr_value part = empty ? pr_value_str("", 0) : pr_str_part(argv[0], begin, end);
    if (argv[1].n == 0) {
        n = empty ? 0 : (int64_t)pr_str_count(part) + 1;
    } else {
        for (size_t at = 0; (at = pr_str_find(part, argv[1], at)) != SIZE_MAX; at += argv[1].n) n++;
    }
    *out = pr_value_int(n);
    return true;
}

static bool str_replace(pr_render *r, const pr_value *argv, pr_value *out)
{
    int64_t n_max = -1;
    pr_value to = argv[2];
    if (!need_str(r, argv[1], "replace() argument 1") ||
        !need_str(r, argv[2], "replace() argument 2") || !pr_arg_int(r, argv[3], -1, &n_max)) {
        return false;
    }
    if (argv[0].flag & PR_FLAG_MARKUP && !pr_str_escape(r, to, &to)) return false;
    return pr_str_replace(r, argv[0], argv[1], to, n_max < 0 ? SIZE_MAX : (size_t)n_max, out);
}

static bool str_join(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_value all;
    bool markup = argv[0].flag & PR_FLAG_MARKUP;
    if (!pr_value_iterable(argv[1])) return pr_raise(r, PR_EXC_TYPE, "can only join an iterable");
    if (!pr_iter_list(r, argv[1], PR_V_LIST, &all)) return false;
    *out = pr_value_str("", 0);
    for (size_t i = 0; i < all.u.list->n; i++) {
        pr_value part = all.u.list->items[i];
        if (markup && !pr_str_escape(r, part, &part)) return false;
        if (part.kind != PR_V_STR) {
            return pr_raise(r, PR_EXC_TYPE, "sequence item %zu: expected str instance, %s found", i,
                            pr_value_type(part));
        }
        if (i && !pr_render_concat(r, *out, argv[0], out)) return false;
        if (!pr_render_concat(r, *out, part, out)) return false;
    }
    out->flag = argv[0].flag;
    return true;
}

static bool str_upper(pr_render *r, const pr_value *argv, pr_value *out)
{
    return pr_str_case(r, argv[0], PR_PY_TO_UPPER, out);
}

static bool str_lower(pr_render *r, const pr_value *argv, pr_value *out)
{
    return pr_str_case(r, argv[0], PR_PY_TO_LOWER, out);
}

static bool str_casefold(pr_render *r, const pr_value *argv, pr_value *out)
{
    return pr_str_case(r, argv[0], PR_PY_TO_FOLD, out);
}

static bool str_title(pr_render *r, const pr_value *argv, pr_value *out)
{
    return pr_str_title(r, argv[0], out);
}

static bool str_capitalize(pr_render *r, const pr_value *argv, pr_value *out)
{
    return pr_str_capitalize(r, argv[0], out);
}

static bool str_swapcase(pr_render *r, const pr_value *argv, pr_value *out)
{
    return pr_str_swapcase(r, argv[0], out);
}

/* Whether every character has one of the flags, and there is one. */
static bool all_have(pr_render *r, pr_value s, unsigned flags, bool empty, pr_value *out)
{
    bool all = s.n > 0 || empty;
    uint32_t c = 0;
    for (size_t i = 0; i < s.n && all;) {
        i += pr_utf8_decode(s.u.s + i, &c);
        all = pr_py_flags(c) & flags;
    }
    *out = pr_value_bool(all);
    return pr_render_work(r, s.n / 16);
}

static bool str_isalpha(pr_render *r, const pr_value *argv, pr_value *out)
{
    return all_have(r, argv[0], PR_PY_ALPHA, false, out);
}

static bool str_isalnum(pr_render *r, const pr_value *argv, pr_value *out)
{
    return all_have(r, argv[0], PR_PY_ALNUM, false, out);
}

static bool str_isdecimal(pr_render *r, const pr_value *argv, pr_value *out)
{
    return all_have(r, argv[0], PR_PY_DECIMAL, false, out);
}

static bool str_isdigit(pr_render *r, const pr_value *argv, pr_value *out)
{
    return all_have(r, argv[0], PR_PY_DIGIT, false, out);
}

static bool str_isnumeric(pr_render *r, const pr_value *argv, pr_value *out)
{
    return all_have(r, argv[0], PR_PY_NUMERIC, false, out);
}

static bool str_isprintable(pr_render *r, const pr_value *argv, pr_value *out)
{
    return all_have(r, argv[0], PR_PY_PRINTABLE, true, out);
}

static bool str_isascii(pr_render *r, const pr_value *argv, pr_value *out)
{
    *out = pr_value_bool(pr_utf8_ascii_prefix(argv[0].u.s, argv[0].n) == argv[0].n);
    return pr_render_work(r, argv[0].n / 64);
}

static bool str_isspace(pr_render *r, const pr_value *argv, pr_value *out)
{
    *out = pr_value_bool(argv[0].n > 0 && pr_str_strip(argv[0], PR_STRIP_LEFT, NULL).n == 0);
    return pr_render_work(r, argv[0].n / 64);
}

static bool is_cased(pr_render *r, pr_value s, unsigned wanted, unsigned other, pr_value *out)
{
    bool any = false;
    uint32_t c = 0;
    *out = pr_value_bool(false);
    for (size_t i = 0; i < s.n;) {
        i += pr_utf8_decode(s.u.s + i, &c);
        unsigned flags = pr_py_flags(c);
        if (flags & other) return pr_render_work(r, s.n / 16);
        any |= (flags & wanted) != 0;
    }
    *out = pr_value_bool(any);
    return pr_render_work(r, s.n / 16);
}

static bool str_islower(pr_render *r, const pr_value *argv, pr_value *out)
{
    return is_cased(r, argv[0], PR_PY_LOWER, PR_PY_UPPER | PR_PY_TITLE, out);
}

static bool str_isupper(pr_render *r, const pr_value *argv, pr_value *out)
{
    return is_cased(r, argv[0], PR_PY_UPPER, PR_PY_LOWER | PR_PY_TITLE, out);
}

static bool str_istitle(pr_render *r, const pr_value *argv, pr_value *out)
{
    bool any = false, inside = false, ok = true;
    uint32_t c = 0;
    for (size_t i = 0; i < argv[0].n && ok;) {
        i += pr_utf8_decode(argv[0].u.s + i, &c);
        unsigned flags = pr_py_flags(c);
        if (flags & (PR_PY_UPPER | PR_PY_TITLE)) ok = !inside;
        if (flags & PR_PY_LOWER) ok = inside;
        inside = flags & PR_PY_CASED;
        any |= inside;
    }
    *out = pr_value_bool(ok && any);
    return pr_render_work(r, argv[0].n / 16);
}

/* argv[1] characters wide, argv[2] the fill; left: how much of the room stands before the text. */
static bool pad(pr_render *r, const pr_value *argv, int where, pr_value *out)
{
    int64_t width = 0;
    pr_value fill = argv[2].kind == PR_V_MISSING ? pr_value_str(" ", 1) : argv[2], before, after;
    size_t n = pr_str_count(argv[0]);
    if (!pr_arg_int(r, argv[1], 0, &width)) return false;
    if (fill.kind != PR_V_STR) {
        return pr_raise(r, PR_EXC_TYPE, "The fill character must be a unicode character, not %s",
                        pr_value_type(fill));
    }
    if (pr_str_count(fill) != 1) {
        return pr_raise(r, PR_EXC_TYPE, "The fill character must be exactly one character long");
    }
    int64_t room = width > (int64_t)n ? width - (int64_t)n : 0;
    int64_t left = where < 0 ? 0 : where > 0 ? room : room / 2 + (room & width & 1);
    if (argv[0].flag & PR_FLAG_MARKUP && !pr_str_escape(r, fill, &fill)) return false;
    if (!pr_str_repeat(r, fill, left, &before) || !pr_str_repeat(r, fill, room - left, &after) ||
        !pr_render_concat(r, before, argv[0], out) || !pr_render_concat(r, *out, after, out)) {
        return false;
    }
    out->flag = argv[0].flag;
    return true;
}

static bool str_center(pr_render *r, const pr_value *argv, pr_value *out)
{
    return pad(r, argv, 0, out);
}

static bool str_ljust(pr_render *r, const pr_value *argv, pr_value *out)
{
    return pad(r, argv, -1, out);
}

static bool str_rjust(pr_render *r, const pr_value *argv, pr_value *out)
{
    return pad(r, argv, 1, out);
}

static bool str_zfill(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_value s = argv[0], sign = pr_value_str("", 0);
    int64_t width = 0;
    if (!pr_arg_int(r, argv[1], 0, &width)) return false;
    if (s.n && (s.u.s[0] == '+' || s.u.s[0] == '-')) {
        sign = pr_str_part(s, 0, 1);
        s = pr_str_part(s, 1, s.n);
    }
    pr_value padded[PR_PARAMS_MAX] = {s, pr_value_int(width - (int64_t)sign.n),
                                      pr_value_str("0", 1)};
    if (!pad(r, padded, 1, out) || !pr_render_concat(r, sign, *out, out)) return false;
    out->flag = argv[0].flag;
    return true;
}

static bool partition(pr_render *r, const pr_value *argv, bool last, pr_value *out)
{
    pr_value s = argv[0], empty = pr_value_str("", 0);
    if (argv[1].kind != PR_V_STR) {
        return pr_raise(r, PR_EXC_TYPE, "must be str, not %s", pr_value_type(argv[1]));
    }
    if (argv[1].n == 0) return pr_raise(r, PR_EXC_VALUE, "empty separator");
    if (!pr_render_work(r, s.n / 64)) return false;
    size_t at = last ? pr_str_find_last(s, argv[1], s.n) : pr_str_find(s, argv[1], 0);
    empty.flag = s.flag;
    pr_value items[3] = {last ? empty : s, empty, last ? s : empty};
    if (at != SIZE_MAX) {
        items[0] = pr_str_part(s, 0, at);
        items[1] = argv[1];
        items[1].flag = s.flag;
        items[2] = pr_str_part(s, at + argv[1].n, s.n);
    }
    return pr_value_list(r, PR_V_TUPLE, items, 3, out);
}

static bool str_partition(pr_render *r, const pr_value *argv, pr_value *out)
{
    return partition(r, argv, false, out);
}

static bool str_rpartition(pr_render *r, const pr_value *argv, pr_value *out)
{
    return partition(r, argv, true, out);
}

static bool str_removeprefix(pr_render *r, const pr_value *argv, pr_value *out)
{
    if (!need_str(r, argv[1], "removeprefix() argument")) return false;
    size_t n = pr_str_starts(argv[0], argv[1]) ? argv[1].n : 0;
    *out = pr_str_part(argv[0], n, argv[0].n);
    return true;
}

static bool str_removesuffix(pr_render *r, const pr_value *argv, pr_value *out)
{
    if (!need_str(r, argv[1], "removesuffix() argument")) return false;
    size_t n = pr_str_ends(argv[0], argv[1]) ? argv[1].n : 0;
    *out = pr_str_part(argv[0], 0, argv[0].n - n);
    return true;
}

static bool str_expandtabs(pr_render *r, const pr_value *argv, pr_value *out)
{
    int64_t size = 8, column = 0;
    if (!pr_arg_int(r, argv[1], 8, &size)) return false;
    if (size > 1024) return pr_raise(r, PR_EXC_BOUND, "tabs of more than 1024 columns");
    pr_buffer b;
    pr_buffer_init(&b);
    for (size_t i = 0; i < argv[0].n;) {
        size_t width = pr_utf8_width((unsigned char)argv[0].u.s[i]);
        char c = argv[0].u.s[i];
        if (c == '\t') {
            int64_t n = size > 0 ? size - column % size : 0;
            for (int64_t k = 0; k < n; k++) pr_buffer_append_char(&b, ' ');
            column += n;
        } else {
            pr_buffer_append(&b, argv[0].u.s + i, width);
            column = c == '\n' || c == '\r' ? 0 : column + 1;
        }
        i += width;
    }
    bool ok = pr_render_work(r, b.n / 16) && pr_render_buffer(r, &b, out);
    pr_buffer_deinit(&b);
    if (ok) out->flag = argv[0].flag;
    return ok;
}

#define NONE(name, function)                                                                       \
    {                                                                                              \
#name, "str." #name, PR_STYLE_NO_ARGS, 1, {"self" }, function, NULL                        \
    }
#define REFUSED(name)                                                                              \
    {                                                                                              \
#name, #name, PR_STYLE_C, 0, {NULL }, NULL, NULL                                           \
    }

/* The ones that templates use most come first. */
const pr_function pr_str_methods[] = {
    {"strip", "strip", PR_STYLE_C, 1, {"self", "chars"}, str_strip, NULL},
    {"split", "split", PR_STYLE_KEYWORDS, 1, {"self", "sep", "maxsplit"}, str_split, NULL},
    {"startswith", "startswith", PR_STYLE_KEYWORDS, 2, {"self", "", "", ""}, str_startswith, NULL},
    {"endswith", "endswith", PR_STYLE_KEYWORDS, 2, {"self", "", "", ""}, str_endswith, NULL},
    {"lstrip", "lstrip", PR_STYLE_C, 1, {"self", "chars"}, str_lstrip, NULL},
    {"rstrip", "rstrip", PR_STYLE_C, 1, {"self", "chars"}, str_rstrip, NULL},
    {"replace", "replace", PR_STYLE_C, 3, {"self", "old", "new", "count"}, str_replace, NULL},
    {"rsplit", "rsplit", PR_STYLE_KEYWORDS, 1, {"self", "sep", "maxsplit"}, str_rsplit, NULL},
    {"splitlines", "splitlines", PR_STYLE_KEYWORDS, 1, {"self", "keepends"}, str_splitlines, NULL},
    {"join", "str.join", PR_STYLE_ONE, 2, {"self", "iterable"}, str_join, NULL},
    {"find", "find", PR_STYLE_KEYWORDS, 2, {"self", "", "", ""}, str_find, NULL},
    {"rfind", "rfind", PR_STYLE_KEYWORDS, 2, {"self", "", "", ""}, str_rfind, NULL},
    {"index", "index", PR_STYLE_KEYWORDS, 2, {"self", "", "", ""}, str_index, NULL},
    {"rindex", "rindex", PR_STYLE_KEYWORDS, 2, {"self", "", "", ""}, str_rindex, NULL},
    {"count", "count", PR_STYLE_KEYWORDS, 2, {"self", "", "", ""}, str_count, NULL},
    {"format", "format", PR_STYLE_C, 1, {"self"}, NULL, pr_format_method},
    {"format_map", "format_map", PR_STYLE_C, 1, {"self"}, NULL, pr_format_map_method},
    {"center", "center", PR_STYLE_C, 2, {"self", "width", "fillchar"}, str_center, NULL},
    {"ljust", "ljust", PR_STYLE_C, 2, {"self", "width", "fillchar"}, str_ljust, NULL},
    {"rjust", "rjust", PR_STYLE_C, 2, {"self", "width", "fillchar"}, str_rjust, NULL},
    {"zfill", "str.zfill", PR_STYLE_ONE, 2, {"self", "width"}, str_zfill, NULL},
    {"partition", "str.partition", PR_STYLE_ONE, 2, {"self", "sep"}, str_partition, NULL},
    {"rpartition", "str.rpartition", PR_STYLE_ONE, 2, {"self", "sep"}, str_rpartition, NULL},
    {"removeprefix", "str.removeprefix", PR_STYLE_ONE, 2, {"self", "p"}, str_removeprefix, NULL},
    {"removesuffix", "str.removesuffix", PR_STYLE_ONE, 2, {"self", "s"}, str_removesuffix, NULL},
    {"expandtabs", "expandtabs", PR_STYLE_KEYWORDS, 1, {"self", "tabsize"}, str_expandtabs, NULL},
    NONE(upper, str_upper),
    NONE(lower, str_lower),
    NONE(title, str_title),
    NONE(capitalize, str_capitalize),
    NONE(casefold, str_casefold),
    NONE(swapcase, str_swapcase),
    NONE(isalpha, str_isalpha),
    NONE(isalnum, str_isalnum),
    NONE(isdecimal, str_isdecimal),
    NONE(isdigit, str_isdigit),
    NONE(isnumeric, str_isnumeric),
    NONE(isspace, str_isspace),
    NONE(islower, str_islower),
    NONE(isupper, str_isupper),
    NONE(istitle, str_istitle),
    NONE(isascii, str_isascii),
    NONE(isprintable, str_isprintable),
    REFUSED(isidentifier),
    REFUSED(encode),
    REFUSED(translate),
    REFUSED(maketrans),
};
const size_t pr_n_str_methods = sizeof pr_str_methods / sizeof *pr_str_methods;
