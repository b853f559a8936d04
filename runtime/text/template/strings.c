#define _GNU_SOURCE /* memmem */
#include "runtime/text/template/strings.h"

#include "runtime/base/utf8.h"
#include "runtime/text/template/render.h"
#include "runtime/text/template/value_text.h"

#include <string.h>

size_t pr_str_count(pr_value s)
{
    return s.n ? pr_utf8_count(s.u.s, s.n) : 0;
}

size_t pr_str_offset(pr_value s, size_t i)
{
    size_t at = 0;
    for (; i > 0 && at < s.n; i--) at += pr_utf8_width((unsigned char)s.u.s[at]);
    return at;
}

pr_value pr_str_part(pr_value s, size_t begin, size_t end)
{
    pr_value part = pr_value_str(s.u.s + begin, end - begin);
    part.flag = s.flag;
    return part;
}

size_t pr_str_find(pr_value s, pr_value what, size_t begin)
{
    if (begin > s.n) return SIZE_MAX;
    if (what.n == 0) return begin;
    if (what.n > s.n - begin) return SIZE_MAX;
    const char *found = memmem(s.u.s + begin, s.n - begin, what.u.s, what.n);
    return found ? (size_t)(found - s.u.s) : SIZE_MAX;
}

size_t pr_str_find_last(pr_value s, pr_value what, size_t end)
{
    if (what.n > end) return SIZE_MAX;
    for (size_t at = end - what.n + 1; at > 0; at--) {
        if (what.n == 0 || memcmp(s.u.s + at - 1, what.u.s, what.n) == 0) return at - 1;
    }
    return SIZE_MAX;
}

bool pr_str_starts(pr_value s, pr_value what)
{
    return what.n <= s.n && (what.n == 0 || memcmp(s.u.s, what.u.s, what.n) == 0);
}

bool pr_str_ends(pr_value s, pr_value what)
{
    return what.n <= s.n && (what.n == 0 || memcmp(s.u.s + s.n - what.n, what.u.s, what.n) == 0);
}

static bool stripped(uint32_t c, const char *at, size_t width, const pr_value *chars)
{
    if (!chars) return pr_py_is_space(c);
    return pr_str_find(*chars, pr_value_str(at, width), 0) != SIZE_MAX;
}

pr_value pr_str_strip(pr_value s, int sides, const pr_value *chars)
{
    size_t begin = 0, end = s.n;
    uint32_t c = 0;
    while (sides & PR_STRIP_LEFT && begin < end) {
        size_t width = pr_utf8_decode(s.u.s + begin, &c);
        if (!stripped(c, s.u.s + begin, width, chars)) break;
        begin += width;
    }
    while (sides & PR_STRIP_RIGHT && begin < end) {
        size_t width = pr_utf8_width_before(s.u.s, end);
        pr_utf8_decode(s.u.s + end - width, &c);
        if (!stripped(c, s.u.s + end - width, width, chars)) break;
        end -= width;
    }
    return pr_str_part(s, begin, end);
}

static void append_mapped(pr_buffer *b, pr_py_case to, uint32_t c)
{
    uint32_t out[3];
    char bytes[4];
    size_t n = pr_py_case_map(to, c, out);
    for (size_t i = 0; i < n; i++) pr_buffer_append(b, bytes, pr_utf8_encode(out[i], bytes));
}

/* Whether a capital sigma at `at` ends a word: a cased letter before it, none behind it, looking
 * through what case ignores. */
static bool sigma_is_final(pr_value s, size_t at)
{
    uint32_t c = 0;
    bool before = false;
    for (size_t end = at; end > 0;) {
        end -= pr_utf8_width_before(s.u.s, end);
        pr_utf8_decode(s.u.s + end, &c);
        unsigned flags = pr_py_flags(c);
        if (flags & PR_PY_IGNORABLE) continue;
        before = flags & PR_PY_CASED;
        break;
    }
    if (!before) return false;
    for (size_t i = at + 2; i < s.n;) { /* sigma has two bytes */
        i += pr_utf8_decode(s.u.s + i, &c);
        unsigned flags = pr_py_flags(c);
        if (flags & PR_PY_IGNORABLE) continue;
        return !(flags & PR_PY_CASED);
    }
    return true;
}

enum { SIGMA = 0x3a3, SIGMA_FINAL = 0x3c2 };

static void append_lower(pr_buffer *b, pr_value s, size_t at, uint32_t c)
{
    char bytes[4];
    if (c == SIGMA && sigma_is_final(s, at))
        pr_buffer_append(b, bytes, pr_utf8_encode(SIGMA_FINAL, bytes));
    else
        append_mapped(b, PR_PY_TO_LOWER, c);
}

static bool finish(pr_render *r, pr_buffer *b, pr_value s, pr_value *out)
{
    bool ok = pr_render_work(r, s.n / 16) && pr_render_buffer(r, b, out);
    pr_buffer_deinit(b);
    if (ok) out->flag = s.flag;
    return ok;
}

bool pr_str_case(pr_render *r, pr_value s, pr_py_case to, pr_value *out)
{
    pr_buffer b;
    pr_buffer_init(&b);
    uint32_t c = 0;
    for (size_t i = 0; i < s.n;) {
        size_t width = pr_utf8_decode(s.u.s + i, &c);
        if (to == PR_PY_TO_LOWER)
            append_lower(&b, s, i, c);
        else
            append_mapped(&b, to, c);
        i += width;
    }
    return finish(r, &b, s, out);
}

bool pr_str_title(pr_render *r, pr_value s, pr_value *out)
{
    pr_buffer b;
    pr_buffer_init(&b);
    bool inside = false; /* a word: behind a cased letter */
    uint32_t c = 0;
    for (size_t i = 0; i < s.n;) {
        size_t width = pr_utf8_decode(s.u.s + i, &c);
        if (inside)
            append_lower(&b, s, i, c);
        else
            append_mapped(&b, PR_PY_TO_TITLE, c);
        inside = pr_py_flags(c) & PR_PY_CASED;
        i += width;
    }
    return finish(r, &b, s, out);
}

bool pr_str_capitalize(pr_render *r, pr_value s, pr_value *out)
{
    pr_buffer b;
    pr_buffer_init(&b);
    uint32_t c = 0;
    for (size_t i = 0; i < s.n;) {
        size_t width = pr_utf8_decode(s.u.s + i, &c);
        if (i > 0)
            append_lower(&b, s, i, c);
        else
            append_mapped(&b, PR_PY_TO_TITLE, c);
        i += width;
    }
    return finish(r, &b, s, out);
}

bool pr_str_swapcase(pr_render *r, pr_value s, pr_value *out)
{
    pr_buffer b;
    pr_buffer_init(&b);
    uint32_t c = 0;
    for (size_t i = 0; i < s.n;) {
        size_t width = pr_utf8_decode(s.u.s + i, &c);
        unsigned flags = pr_py_flags(c);
        if (flags & PR_PY_UPPER)
            append_lower(&b, s, i, c);
        else if (flags & PR_PY_LOWER)
            append_mapped(&b, PR_PY_TO_UPPER, c);
        else
            pr_buffer_append(&b, s.u.s + i, width);
        i += width;
    }
    return finish(r, &b, s, out);
}

bool pr_str_replace(pr_render *r, pr_value s, pr_value from, pr_value to, size_t n_max,
                    pr_value *out)
{
    size_t at = pr_str_find(s, from, 0);
    if (n_max == 0 || at == SIZE_MAX) {
        *out = s;
        return pr_render_work(r, s.n / 64);
    }
    pr_buffer b;
    pr_buffer_init(&b);
    size_t done = 0;
    for (size_t n = 0; n < n_max && at != SIZE_MAX; n++) {
        if (b.n + to.n > r->limits.memory_bytes) break; /* refused below */
        pr_buffer_append(&b, s.u.s + done, at - done);
        pr_buffer_append(&b, to.u.s, to.n);
        done = at + from.n;
        if (from.n > 0) {
            at = pr_str_find(s, from, done);
        } else { /* between all characters, and at both ends */
            if (at >= s.n) break;
            at += pr_utf8_width((unsigned char)s.u.s[at]);
        }
    }
    pr_buffer_append(&b, s.u.s + done, s.n - done);
    pr_value origin = s;
    return finish(r, &b, origin, out);
}

bool pr_str_repeat(pr_render *r, pr_value s, int64_t n, pr_value *out)
{
    if (n < 0) n = 0;
    size_t bytes = 0;
    if (__builtin_mul_overflow((size_t)n, (size_t)s.n, &bytes)) bytes = SIZE_MAX;
    if (bytes > UINT32_MAX) return pr_raise(r, PR_EXC_BOUND, "a string of %zu bytes", bytes);
    char *text = pr_render_alloc(r, bytes);
    if (!text || !pr_render_work(r, bytes / 64)) return false;
    for (size_t at = 0; at < bytes; at += s.n) memcpy(text + at, s.u.s, s.n);
    *out = pr_value_str(text, bytes);
    out->flag = s.flag;
    return true;
}

bool pr_values_add(pr_render *r, pr_values *list, pr_value v)
{
    if (list->n == list->n_max) {
        size_t n_max = list->n_max ? 2 * list->n_max : 8;
        pr_value *items = pr_render_array(r, n_max, sizeof *items);
        if (!items) return false;
        if (list->n) memcpy(items, list->items, list->n * sizeof *items);
        list->items = items;
        list->n_max = n_max;
    }
    list->items[list->n++] = v;
    return true;
}

static bool split_space(pr_render *r, pr_value s, size_t n_max, pr_values *parts)
{
    uint32_t c = 0;
    for (size_t i = 0; i < s.n;) {
        size_t width = pr_utf8_decode(s.u.s + i, &c);
        if (pr_py_is_space(c)) {
            i += width;
            continue;
        }
        if (parts->n >= n_max) { /* the rest, without white space at its end */
            return pr_values_add(r, parts,
                                 pr_str_strip(pr_str_part(s, i, s.n), PR_STRIP_RIGHT, NULL));
        }
        size_t begin = i;
        while (i < s.n) {
            width = pr_utf8_decode(s.u.s + i, &c);
            if (pr_py_is_space(c)) break;
            i += width;
        }
        if (!pr_values_add(r, parts, pr_str_part(s, begin, i))) return false;
    }
    return true;
}

bool pr_str_split(pr_render *r, pr_value s, const pr_value *sep, size_t n_max, pr_value *out)
{
    pr_values parts = {0};
    if (!pr_render_work(r, s.n / 64)) return false;
    if (!sep) {
        return split_space(r, s, n_max, &parts) &&
               pr_value_list_of(r, PR_V_LIST, parts.items, parts.n, out);
    }
    if (sep->n == 0) return pr_raise(r, PR_EXC_VALUE, "empty separator");
    size_t done = 0;
    while (parts.n < n_max) {
        size_t at = pr_str_find(s, *sep, done);
        if (at == SIZE_MAX) break;
        if (!pr_values_add(r, &parts, pr_str_part(s, done, at))) return false;
        done = at + sep->n;
    }
    return pr_values_add(r, &parts, pr_str_part(s, done, s.n)) &&
           pr_value_list_of(r, PR_V_LIST, parts.items, parts.n, out);
}

static bool rsplit_space(pr_render *r, pr_value s, size_t n_max, pr_values *parts)
{
    uint32_t c = 0;
    for (size_t end = s.n; end > 0;) {
        size_t width = pr_utf8_width_before(s.u.s, end);
        pr_utf8_decode(s.u.s + end - width, &c);
        if (pr_py_is_space(c)) {
            end -= width;
            continue;
        }
        if (parts->n >= n_max) {
            return pr_values_add(r, parts,
                                 pr_str_strip(pr_str_part(s, 0, end), PR_STRIP_LEFT, NULL));
        }
        size_t begin = end;
        while (begin > 0) {
            width = pr_utf8_width_before(s.u.s, begin);
            pr_utf8_decode(s.u.s + begin - width, &c);
            if (pr_py_is_space(c)) break;
            begin -= width;
        }
        if (!pr_values_add(r, parts, pr_str_part(s, begin, end))) return false;
        end = begin;
    }
    return true;
}

bool pr_str_rsplit(pr_render *r, pr_value s, const pr_value *sep, size_t n_max, pr_value *out)
{
    pr_values parts = {0};
    if (!pr_render_work(r, s.n / 64)) return false;
    if (sep && sep->n == 0) return pr_raise(r, PR_EXC_VALUE, "empty separator");
    size_t end = s.n;
    if (!sep) {
        if (!rsplit_space(r, s, n_max, &parts)) return false;
    } else {
        while (parts.n < n_max) {
            size_t at = pr_str_find_last(s, *sep, end);
            if (at == SIZE_MAX) break;
            if (!pr_values_add(r, &parts, pr_str_part(s, at + sep->n, end))) return false;
            end = at;
        }
        if (!pr_values_add(r, &parts, pr_str_part(s, 0, end))) return false;
    }
    for (size_t i = 0; i < parts.n / 2; i++) { /* they were gathered from the end */
        pr_value v = parts.items[i];
        parts.items[i] = parts.items[parts.n - 1 - i];
        parts.items[parts.n - 1 - i] = v;
    }
    return pr_value_list_of(r, PR_V_LIST, parts.items, parts.n, out);
}

bool pr_str_splitlines(pr_render *r, pr_value s, bool keep_ends, pr_value *out)
{
    pr_values parts = {0};
    uint32_t c = 0;
    size_t begin = 0;
    if (!pr_render_work(r, s.n / 64)) return false;
    for (size_t i = 0; i < s.n;) {
        size_t end = i;
        i += pr_utf8_decode(s.u.s + i, &c);
        if (!pr_py_is_line_end(c)) continue;
        if (c == '\r' && i < s.n && s.u.s[i] == '\n') i++;
        if (!pr_values_add(r, &parts, pr_str_part(s, begin, keep_ends ? i : end))) return false;
        begin = i;
    }
    if (begin < s.n && !pr_values_add(r, &parts, pr_str_part(s, begin, s.n))) return false;
    return pr_value_list_of(r, PR_V_LIST, parts.items, parts.n, out);
}

bool pr_str_escape(pr_render *r, pr_value v, pr_value *out)
{
    pr_value s = v;
    if (v.kind == PR_V_STR && v.flag & PR_FLAG_MARKUP) {
        *out = v;
        return true;
    }
    if (!pr_value_to_str(r, v, &s)) return false;
    pr_buffer b;
    pr_buffer_init(&b);
    for (size_t i = 0; i < s.n; i++) {
        char c = s.u.s[i];
        const char *to = c == '&'    ? "&amp;"
                         : c == '<'  ? "&lt;"
                         : c == '>'  ? "&gt;"
                         : c == '\'' ? "&#39;"
                         : c == '"'  ? "&#34;"
                                     : NULL;
        if (to)
            pr_buffer_append_str(&b, to);
        else
            pr_buffer_append_char(&b, c);
    }
    if (!finish(r, &b, s, out)) return false;
    out->flag = PR_FLAG_MARKUP;
    return true;
}
