#include "runtime/text/regex/regex_class.h"

#include "runtime/base/utf8.h"
#include "runtime/text/limits.h"

#include <assert.h>
#include <string.h>

/* A set that a pattern may name, by either name (lower case, without space, "_" and "-"). */
struct regex_property {
    const char *name;
    const char *long_name;
    const char *members;
};

#define UNICODE_TABLES_REGEX
#include "runtime/text/unicode/unicode_tables.h"

char pr_regex_peek(const pr_regex_reader *in, size_t ahead)
{
    return in->n - in->at > ahead ? in->p[in->at + ahead] : '\0';
}

bool pr_regex_starts(const pr_regex_reader *in, const char *s)
{
    size_t n = strlen(s);
    return in->n - in->at >= n && memcmp(in->p + in->at, s, n) == 0;
}

pr_status pr_regex_refuse(const pr_regex_reader *in, const char *what)
{
    return pr_error_set(in->err, PR_E_UNSUPPORTED,
                        "regular expression: byte %zu: %s is not supported", in->at, what);
}

pr_status pr_regex_broken(const pr_regex_reader *in, const char *what)
{
    return pr_error_set(in->err, PR_E_MODEL, "regular expression: byte %zu: %s", in->at, what);
}

void pr_regex_emit_char(pr_buffer *out, uint32_t c)
{
    bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                 c == ' ' || c == '\'';
    if (plain)
        pr_buffer_append_char(out, (char)c);
    else
        pr_buffer_printf(out, "\\x{%X}", (unsigned)c);
}

static const char *members_of(const char *name)
{
    for (size_t i = 0; i < sizeof regex_properties / sizeof *regex_properties; i++) {
        const struct regex_property *p = &regex_properties[i];
        if (strcmp(p->name, name) == 0 || strcmp(p->long_name, name) == 0) return p->members;
    }
    if (strcmp(name, "any") == 0) return "\\x{0}-\\x{10FFFF}";
    if (strcmp(name, "ascii") == 0) return "\\x{0}-\\x{7F}";
    if (strcmp(name, "digit") == 0) return members_of("nd");
    if (strcmp(name, "cntrl") == 0) return members_of("cc");
    return NULL;
}

const char *pr_regex_word_members(void)
{
    return members_of("\\w");
}

/* A name as the table spells it; false when it is too long or no name. */
static bool fold_name(const char *s, size_t n, char *out, size_t n_out)
{
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (c == ' ' || c == '_' || c == '-') continue;
        if (c >= 'A' && c <= 'Z') c = (char)(c | 0x20);
        if (c < 'a' || c > 'z' || used + 1 >= n_out) return false;
        out[used++] = c;
    }
    out[used] = '\0';
    return used > 0;
}

static pr_status named_set(pr_regex_reader *in, const char *s, size_t n, pr_regex_item *out)
{
    char name[40];
    if (n > 0 && s[0] == '^') {
        out->negated = !out->negated;
        s++;
        n--;
    }
    out->members = fold_name(s, n, name, sizeof name) ? members_of(name) : NULL;
    if (!out->members) {
        return pr_error_set(in->err, PR_E_UNSUPPORTED,
                            "regular expression: byte %zu: property %.*s is not supported", in->at,
                            (int)(n < 40 ? n : 40), s);
    }
    out->kind = PR_ITEM_CASED;
    return PR_OK;
}

/* \p{…} and \P{…}; in->at on the backslash. */
static pr_status property_escape(pr_regex_reader *in, pr_regex_item *out)
{
    out->negated = pr_regex_peek(in, 1) == 'P';
    if (pr_regex_peek(in, 2) != '{') return pr_regex_refuse(in, "\\p without {");
    const char *begin = in->p + in->at + 3;
    const char *end = memchr(begin, '}', in->n - in->at - 3);
    if (!end) return pr_regex_broken(in, "missing }");
    pr_status st = named_set(in, begin, (size_t)(end - begin), out);
    if (st == PR_OK) in->at = (size_t)(end - in->p) + 1;
    return st;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* \xHH, \x{H…}, \uHHHH; in->at on the backslash. */
static pr_status hex_escape(pr_regex_reader *in, pr_regex_item *out)
{
    bool is_u = pr_regex_peek(in, 1) == 'u';
    bool braces = !is_u && pr_regex_peek(in, 2) == '{';
    size_t at = braces ? 3 : 2;
    size_t n_max = braces ? 8 : is_u ? 4 : 2;
    size_t n = 0;
    uint32_t c = 0;
    while (n < n_max && hex_value(pr_regex_peek(in, at + n)) >= 0) {
        c = c << 4 | (uint32_t)hex_value(pr_regex_peek(in, at + n));
        n++;
    }
    if (n == 0 || (is_u && n < 4)) return pr_regex_refuse(in, "a short \\x or \\u");
    if (braces && pr_regex_peek(in, at + n) != '}') return pr_regex_refuse(in, "this \\x{…}");
    if (!braces && !is_u && c >= 0x80) return pr_regex_refuse(in, "a raw byte");
    if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) return pr_regex_broken(in, "no character");
    in->at += at + n + (braces ? 1 : 0);
    *out = (pr_regex_item){.kind = PR_ITEM_CHAR, .c = c};
    return PR_OK;
}

/* \s \d \w \h and their complements; false when c is none of them. */
static bool short_set(char c, bool in_brackets, pr_regex_item *out)
{
    const char *name = NULL;
    switch (c | 0x20) {
    case 's': name = "whitespace"; break;
    case 'd': name = "nd"; break;
    case 'w': name = in_brackets ? "word" : "\\w"; break; /* "²" is in the second only */
    case 'h': name = "xdigit"; break;
    default: return false;
    }
    *out = (pr_regex_item){.kind = (c | 0x20) == 'w' ? PR_ITEM_CASED : PR_ITEM_SPACES,
                           .members = members_of(name),
                           .negated = c < 'a'};
    assert(out->members);
    return true;
}

pr_status pr_regex_read_escape(pr_regex_reader *in, bool in_brackets, pr_regex_item *out)
{
    static const char names[] = "ntrfvae";
    static const char values[] = "\n\t\r\f\v\a\033";
    *out = (pr_regex_item){0};
    char c = pr_regex_peek(in, 1);
    if (c == 'p' || c == 'P') return property_escape(in, out);
    if (c == 'x' || c == 'u') return hex_escape(in, out);
    if (short_set(c, in_brackets, out)) {
        in->at += 2;
        return PR_OK;
    }
    const char *name = c ? strchr(names, c) : NULL;
    bool is_letter = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    if (name) {
        out->c = (unsigned char)values[name - names];
    } else if (in_brackets && c == 'b') {
        out->c = '\b';
    } else if (is_letter) {
        char what[] = "\\?";
        what[1] = c;
        return pr_regex_refuse(in, what);
    } else if (in->n - in->at < 2) {
        return pr_regex_broken(in, "nothing behind \\");
    } else {
        in->at += 1 + pr_utf8_decode(in->p + in->at + 1, &out->c);
        return PR_OK;
    }
    in->at += 2;
    return PR_OK;
}

/* A class being read: what fits into one PCRE2 class, and what needs an alternative of its own. */
typedef struct class_parts {
    pr_buffer members;
    pr_buffer others; /* "|…" each */
} class_parts;

static void deinit_parts(class_parts *parts)
{
    pr_buffer_deinit(&parts->members);
    pr_buffer_deinit(&parts->others);
}

static void add_char(pr_buffer *out, uint32_t c)
{
    pr_buffer_printf(out, "\\x{%X}", (unsigned)c);
}

static pr_status add_item(pr_regex_reader *in, bool fold, const pr_regex_item *item,
                          class_parts *parts)
{
    if (fold && item->kind == PR_ITEM_CASED) {
        return pr_regex_refuse(in, "a property, ignoring case");
    }
    if (item->negated)
        pr_buffer_printf(&parts->others, "|[^%s]", item->members);
    else
        pr_buffer_append_str(&parts->members, item->members);
    return PR_OK;
}

/* [:name:], in->at on its "["; *found is false when this is a nested class instead. */
static pr_status posix_item(pr_regex_reader *in, pr_regex_item *out, bool *found)
{
    *found = false;
    if (!pr_regex_starts(in, "[:")) return PR_OK;
    const char *begin = in->p + in->at + 2;
    const char *stop = in->p + in->n;
    const char *end = begin;
    while (end < stop && *end != ':' && *end != ']') end++;
    if (stop - end < 2 || end[0] != ':' || end[1] != ']') return PR_OK;
    *found = true;
    *out = (pr_regex_item){0};
    pr_status st = named_set(in, begin, (size_t)(end - begin), out);
    if (st == PR_OK) in->at = (size_t)(end - in->p) + 2;
    return st;
}

static pr_status one_char_or_set(pr_regex_reader *in, pr_regex_item *out)
{
    if (pr_regex_peek(in, 0) == '\\') return pr_regex_read_escape(in, true, out);
    *out = (pr_regex_item){.kind = PR_ITEM_CHAR};
    in->at += pr_utf8_decode(in->p + in->at, &out->c);
    return PR_OK;
}

/* A character, a range or a set. */
static pr_status class_item(pr_regex_reader *in, bool fold, class_parts *parts)
{
    pr_regex_item low;
    pr_status st = one_char_or_set(in, &low);
    if (st != PR_OK) return st;
    bool is_range = pr_regex_peek(in, 0) == '-' && in->n - in->at > 1 &&
                    pr_regex_peek(in, 1) != ']' && !pr_regex_starts(in, "-&&");
    if (low.kind != PR_ITEM_CHAR) {
        if (is_range) return pr_regex_broken(in, "a range that starts with a set");
        return add_item(in, fold, &low, parts);
    }
    if (fold && low.c >= 0x80)
        return pr_regex_refuse(in, "a character outside ASCII, ignoring case");
    add_char(&parts->members, low.c);
    if (!is_range) return PR_OK;
    in->at++;
    if (pr_regex_peek(in, 0) == '[') return pr_regex_refuse(in, "a range that ends with [");
    pr_regex_item high;
    if ((st = one_char_or_set(in, &high)) != PR_OK) return st;
    if (high.kind != PR_ITEM_CHAR || high.c < low.c) return pr_regex_broken(in, "a bad range");
    if (fold && high.c >= 0x80) {
        return pr_regex_refuse(in, "a character outside ASCII, ignoring case");
    }
    pr_buffer_append_char(&parts->members, '-');
    add_char(&parts->members, high.c);
    if (pr_regex_peek(in, 0) == '-') { /* a-c-e: the second one stands for itself */
        in->at++;
        add_char(&parts->members, '-');
    }
    return PR_OK;
}

/* The union of what was read, as a pattern for one character; empties the parts. */
static void emit_union(class_parts *parts, pr_buffer *out)
{
    bool both = parts->members.n > 0 || parts->others.n > 0;
    assert(both);
    pr_buffer_append_str(out, "(?:");
    if (parts->members.n > 0) {
        pr_buffer_append_char(out, '[');
        pr_buffer_append(out, parts->members.data, parts->members.n);
        pr_buffer_append_char(out, ']');
        pr_buffer_append(out, parts->others.data, parts->others.n);
    } else {
        pr_buffer_append(out, parts->others.data + 1, parts->others.n - 1);
    }
    pr_buffer_append_char(out, ')');
    out->failed |= parts->members.failed || parts->others.failed;
    pr_buffer_clear(&parts->members);
    pr_buffer_clear(&parts->others);
}

/* The items up to "]". Each "&&" turns what came before into a look-ahead in *lookaheads. */
static pr_status class_items(pr_regex_reader *in, bool fold, int depth_max, class_parts *parts,
                             pr_buffer *lookaheads)
{
    bool is_first = true;
    for (;; is_first = false) {
        char c = pr_regex_peek(in, 0);
        if (in->at >= in->n) return pr_regex_broken(in, "missing ]");
        if (parts->members.n + parts->others.n > PR_PATTERN_BYTES_MAX) {
            return pr_regex_refuse(in, "a pattern that becomes this long");
        }
        if (c == ']' && !is_first) {
            in->at++;
            break;
        }
        pr_regex_item item;
        bool is_posix = false;
        pr_status st = PR_OK;
        if (pr_regex_starts(in, "&&")) {
            if (parts->members.n + parts->others.n == 0) return pr_regex_broken(in, "empty class");
            in->at += 2;
            pr_buffer_append_str(lookaheads, "(?=");
            emit_union(parts, lookaheads);
            pr_buffer_append_char(lookaheads, ')');
        } else if (c == '[') {
            st = posix_item(in, &item, &is_posix);
            if (st == PR_OK && is_posix) {
                st = add_item(in, fold, &item, parts);
            } else if (st == PR_OK) {
                pr_buffer_append_char(&parts->others, '|');
                st = pr_regex_class(in, fold, depth_max - 1, &parts->others);
            }
        } else {
            st = class_item(in, fold, parts);
        }
        if (st != PR_OK) return st;
    }
    return parts->members.n + parts->others.n > 0 ? PR_OK : pr_regex_broken(in, "empty class");
}

pr_status pr_regex_class(pr_regex_reader *in, bool fold, int depth_max, pr_buffer *out)
{
    if (depth_max == 0) return pr_regex_refuse(in, "classes nested this deep");
    class_parts parts = {0};
    pr_buffer lookaheads = {0};
    in->at++;
    bool negated = pr_regex_peek(in, 0) == '^';
    if (negated) in->at++;
    pr_status st = class_items(in, fold, depth_max, &parts, &lookaheads);
    if (st != PR_OK) goto cleanup;
    if (lookaheads.n == 0 && parts.others.n == 0) {
        pr_buffer_append_str(out, negated ? "[^" : "[");
        pr_buffer_append(out, parts.members.data, parts.members.n);
        pr_buffer_append_char(out, ']');
    } else {
        pr_buffer_append_str(out, negated ? "(?:(?!" : "(?:");
        pr_buffer_append(out, lookaheads.data, lookaheads.n);
        emit_union(&parts, out);
        pr_buffer_append_str(out, negated ? ")(?s:.))" : ")");
    }
    out->failed |= lookaheads.failed || parts.members.failed || parts.others.failed;
cleanup:
    deinit_parts(&parts);
    pr_buffer_deinit(&lookaheads);
    return st;
}
