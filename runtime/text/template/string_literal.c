#include "runtime/text/template/string_literal.h"

#include "runtime/base/utf8.h"
#include "runtime/text/template/render.h"

#include <string.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* \x, \u, \U at s[*i], the letter: n_digits follow. */
static bool hex_escape(pr_render *r, const char *s, size_t n, size_t *i, size_t n_digits,
                       uint32_t *out)
{
    char letter = s[*i];
    uint32_t c = 0;
    for (size_t k = 1; k <= n_digits; k++) {
        int digit = *i + k < n ? hex_digit(s[*i + k]) : -1;
        if (digit < 0) {
            return pr_raise(r, PR_EXC_SYNTAX, "truncated \\%c%.*s escape", letter, (int)n_digits,
                            "XXXXXXXX");
        }
        c = c << 4 | (uint32_t)digit;
    }
    if (c > 0x10ffff) return pr_raise(r, PR_EXC_SYNTAX, "illegal Unicode character");
    if (c >= 0xd800 && c < 0xe000) {
        return pr_raise(r, PR_EXC_UNSUPPORTED, "a surrogate \\u%04x in a string", c);
    }
    *i += n_digits + 1;
    *out = c;
    return true;
}

static void append_char(pr_buffer *b, uint32_t c)
{
    char bytes[4];
    pr_buffer_append(b, bytes, pr_utf8_encode(c, bytes));
}

static void octal_escape(const char *s, size_t n, size_t *i, pr_buffer *b)
{
    uint32_t c = 0;
    for (size_t k = 0; k < 3 && *i < n && s[*i] >= '0' && s[*i] <= '7'; k++, (*i)++) {
        c = c * 8 + (uint32_t)(s[*i] - '0');
    }
    append_char(b, c);
}

/* An escape that Python does not know stays as it is; a character that is not ASCII was spelled
 * out before the escapes are read. */
static void unknown_escape(const char *s, size_t *i, pr_buffer *b)
{
    uint32_t c = 0;
    *i += pr_utf8_decode(s + *i, &c);
    pr_buffer_append_char(b, '\\');
    if (c < 0x80)
        pr_buffer_append_char(b, (char)c);
    else
        pr_buffer_printf(b, c < 0x100 ? "x%02x" : c < 0x10000 ? "u%04x" : "U%08x", c);
}

/* s[*i] stands behind a backslash. */
static bool escape(pr_render *r, const char *s, size_t n, size_t *i, pr_buffer *b)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    char c = s[*i];
    const char *simple = c ? strchr(from, c) : NULL;
    uint32_t code = 0;
    if (simple) {
        pr_buffer_append_char(b, to[simple - from]);
        (*i)++;
        return true;
    }
    if (c == '\n') {
        (*i)++;
        return true;
    }
    if (c >= '0' && c <= '7') {
        octal_escape(s, n, i, b);
        return true;
    }
    size_t n_digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (n_digits) {
        if (!hex_escape(r, s, n, i, n_digits, &code)) return false;
        append_char(b, code);
        return true;
    }
    if (c == 'N') return pr_raise(r, PR_EXC_UNSUPPORTED, "the escape \\N in a string");
    unknown_escape(s, i, b);
    return true;
}

bool pr_string_literal(pr_render *r, const char *s, size_t n, pr_value *out)
{
    if (n == 0 || !memchr(s, '\\', n)) {
        *out = pr_value_str(s, n);
        return true;
    }
    pr_buffer b;
    pr_buffer_init(&b);
    bool ok = true;
    for (size_t i = 0; ok && i < n;) {
        if (s[i] != '\\') {
            pr_buffer_append_char(&b, s[i++]);
        } else {
            i++;
            ok = escape(r, s, n, &i, &b);
        }
    }
    ok = ok && pr_render_buffer(r, &b, out);
    pr_buffer_deinit(&b);
    return ok;
}
