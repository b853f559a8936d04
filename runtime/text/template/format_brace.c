#include "runtime/text/template/format.h"

#include "runtime/base/utf8.h"
#include "runtime/text/template/attributes.h"
#include "runtime/text/template/render.h"
#include "runtime/text/template/strings.h"
#include "runtime/text/template/value_text.h"

#include <string.h>

enum { NESTING_MAX = 2 };

typedef struct formatter {
    pr_render *r;
    const pr_actual *args;
    pr_value mapping; /* of format_map; PR_V_MISSING: args' keywords */
    bool markup;
    size_t n_auto; /* the next field without a number */
    bool numbered; /* a field had a number */
} formatter;

static bool is_number(pr_value s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.u.s[i] < '0' || s.u.s[i] > '9') return false;
    }
    return s.n > 0 && s.n < 10;
}

static int64_t to_number(pr_value s)
{
    int64_t n = 0;
    for (size_t i = 0; i < s.n; i++) n = 10 * n + (s.u.s[i] - '0');
    return n;
}

static bool positional(formatter *f, int64_t i, pr_value *out)
{
    if ((uint64_t)i >= f->args->n) {
        return pr_raise(f->r, PR_EXC_INDEX,
                        "Replacement index %lld out of range for positional args tuple",
                        (long long)i);
    }
    *out = f->args->items[i];
    return true;
}

static bool named(formatter *f, pr_value name, pr_value *out)
{
    if (f->mapping.kind != PR_V_MISSING) {
        const pr_pair *pair =
            f->mapping.kind == PR_V_DICT ? pr_dict_find(f->mapping.u.dict, name) : NULL;
        if (!pair) return pr_raise_repr(f->r, PR_EXC_KEY, "%s", name);
        *out = pair->value;
        return true;
    }
    for (size_t i = 0; i < f->args->n_keywords; i++) {
        if (!pr_value_same(f->args->keywords[i].key, name)) continue;
        *out = f->args->keywords[i].value;
        return true;
    }
    return pr_raise_repr(f->r, PR_EXC_KEY, "%s", name);
}

/* The first part of a field's name: an argument. */
static bool first_part(formatter *f, pr_value name, pr_value *out)
{
    if (name.n == 0) {
        if (f->numbered) {
            return pr_raise(f->r, PR_EXC_VALUE,
                            "cannot switch from manual field specification to automatic field "
                            "numbering");
        }
        return positional(f, (int64_t)f->n_auto++, out);
    }
    if (!is_number(name)) return named(f, name, out);
    if (f->n_auto) {
        return pr_raise(f->r, PR_EXC_VALUE,
                        "cannot switch from manual field specification to automatic field "
                        "numbering");
    }
    f->numbered = true;
    return positional(f, to_number(name), out);
}

/* "a.b[c]". */
static bool field_value(formatter *f, pr_value field, pr_value *out)
{
    size_t i = 0;
    while (i < field.n && field.u.s[i] != '.' && field.u.s[i] != '[') i++;
    if (!first_part(f, pr_str_part(field, 0, i), out)) return false;
    while (i < field.n) {
        bool attribute = field.u.s[i] == '.';
        size_t begin = ++i;
        while (i < field.n &&
               (attribute ? field.u.s[i] != '.' && field.u.s[i] != '[' : field.u.s[i] != ']')) {
            i++;
        }
        pr_value part = pr_str_part(field, begin, i);
        if (part.n == 0) return pr_raise(f->r, PR_EXC_VALUE, "Empty attribute in format string");
        if (attribute) {
            if (!pr_attribute_get(f->r, *out, part, out)) return false;
            continue;
        }
        if (i >= field.n) return pr_raise(f->r, PR_EXC_VALUE, "Missing ']' in format string");
        i++;
        if (i < field.n && field.u.s[i] != '.' && field.u.s[i] != '[') {
            return pr_raise(f->r, PR_EXC_VALUE,
                            "Only '.' or '[' may follow ']' in format field specifier");
        }
        pr_value index = is_number(part) ? pr_value_int(to_number(part)) : part;
        if (!pr_item_get(f->r, *out, index, out)) return false;
    }
    return true;
}

static bool convert(formatter *f, char how, pr_value v, pr_value *out)
{
    pr_buffer b;
    if (how == 's') return pr_value_to_str(f->r, v, out);
    if (how != 'r' && how != 'a') {
        return pr_raise(f->r, PR_EXC_VALUE, "Unknown conversion specifier %c", how);
    }
    pr_buffer_init(&b);
    bool ok = true;
    if (how == 'a' && v.kind == PR_V_STR)
        pr_str_repr(v.u.s, v.n, true, &b);
    else
        ok = pr_value_repr(f->r, v, &b);
    ok = ok && pr_render_buffer(f->r, &b, out);
    pr_buffer_deinit(&b);
    return ok;
}

/* format(v, spec). */
static bool format_value(formatter *f, pr_value v, pr_value text, pr_buffer *b)
{
    pr_format_spec spec;
    pr_value s;
    bool number = pr_value_is_number(v) && (v.kind != PR_V_BOOL || text.n);
    if (text.n && !number && v.kind != PR_V_STR) {
        return pr_raise(f->r, PR_EXC_TYPE, "unsupported format string passed to %s.__format__",
                        pr_value_type(v));
    }
    if (f->markup && !number) return pr_str_escape(f->r, v, &s) && pr_value_text(f->r, s, b);
    if (!number && text.n == 0) return pr_value_text(f->r, v, b);
    if (!pr_format_spec_parse(f->r, text, pr_value_type(v), &spec)) return false;
    if (v.kind == PR_V_STR) return pr_format_str(f->r, &spec, v, b);
    if (v.kind == PR_V_FLOAT) return pr_format_float(f->r, &spec, v.u.f, b);
    return pr_format_int(f->r, &spec, pr_value_as_int(v), b);
}

static bool format_all(formatter *f, pr_value fmt, int depth, pr_buffer *b);

/* The field between braces at fmt[begin, end). */
static bool format_field(formatter *f, pr_value field, int depth, pr_buffer *b)
{
    size_t i = 0, brackets = 0;
    while (i < field.n && (brackets || (field.u.s[i] != '!' && field.u.s[i] != ':'))) {
        if (field.u.s[i] == '[') brackets = 1;
        if (field.u.s[i] == ']') brackets = 0;
        i++;
    }
    pr_value v, spec = pr_value_str("", 0), text;
    if (!field_value(f, pr_str_part(field, 0, i), &v)) return false;
    if (i < field.n && field.u.s[i] == '!') {
        if (i + 1 >= field.n) {
            return pr_raise(f->r, PR_EXC_VALUE,
                            "end of string while looking for conversion specifier");
        }
        if (!convert(f, field.u.s[i + 1], v, &v)) return false;
        i += 2;
        if (i < field.n && field.u.s[i] != ':') {
            return pr_raise(f->r, PR_EXC_VALUE, "expected ':' after conversion specifier");
        }
    }
    if (i < field.n) spec = pr_str_part(field, i + 1, field.n);
    pr_buffer inner;
    pr_buffer_init(&inner);
    bool ok = format_all(f, spec, depth + 1, &inner) && pr_render_buffer(f->r, &inner, &text) &&
              format_value(f, v, text, b);
    pr_buffer_deinit(&inner);
    return ok;
}

/* Behind a '{': the place of the '}' that closes it, fmt.n when none does. */
static size_t field_end(pr_value fmt, size_t i)
{
    for (size_t depth = 1; i < fmt.n; i++) {
        if (fmt.u.s[i] == '{') depth++;
        if (fmt.u.s[i] == '}' && --depth == 0) return i;
    }
    return fmt.n;
}

static bool format_all(formatter *f, pr_value fmt, int depth, pr_buffer *b)
{
    if (depth > NESTING_MAX) return pr_raise(f->r, PR_EXC_VALUE, "Max string recursion exceeded");
    for (size_t i = 0; i < fmt.n;) {
        char c = fmt.u.s[i++];
        if (c != '{' && c != '}') {
            pr_buffer_append_char(b, c);
            continue;
        }
        if (i < fmt.n && fmt.u.s[i] == c) {
            pr_buffer_append_char(b, c);
            i++;
            continue;
        }
        if (c == '}' || i >= fmt.n) {
            return pr_raise(f->r, PR_EXC_VALUE, "Single '%c' encountered in format string", c);
        }
        size_t end = field_end(fmt, i);
        if (end >= fmt.n) return pr_raise(f->r, PR_EXC_VALUE, "expected '}' before end of string");
        if (!pr_render_step(f->r) || !format_field(f, pr_str_part(fmt, i, end), depth, b)) {
            return false;
        }
        i = end + 1;
    }
    return true;
}

static bool run(formatter *f, pr_value self, pr_value *out)
{
    pr_buffer b;
    pr_value fmt = pr_value_str(self.u.s, self.n);
    pr_buffer_init(&b);
    bool ok = pr_render_work(f->r, self.n / 16) && format_all(f, fmt, 0, &b) &&
              pr_render_buffer(f->r, &b, out);
    pr_buffer_deinit(&b);
    if (ok) out->flag = self.flag;
    return ok;
}

bool pr_format_method(pr_render *r, pr_value self, const pr_actual *args, pr_value *out)
{
    formatter f = {.r = r, .args = args, .markup = self.flag & PR_FLAG_MARKUP};
    return run(&f, self, out);
}

bool pr_format_map_method(pr_render *r, pr_value self, const pr_actual *args, pr_value *out)
{
    pr_actual none = {0};
    if (args->n_keywords) {
        return pr_raise(r, PR_EXC_TYPE, "format_map() takes no keyword arguments");
    }
    if (args->n != 1) {
        return pr_raise(r, PR_EXC_TYPE, "format_map() takes exactly one argument (%zu given)",
                        args->n);
    }
    formatter f = {
        .r = r, .args = &none, .mapping = args->items[0], .markup = self.flag & PR_FLAG_MARKUP};
    return run(&f, self, out);
}
