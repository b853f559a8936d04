#include "runtime/text/template/format.h"

#include "runtime/base/number.h"
#include "runtime/base/utf8.h"
#include "runtime/text/template/render.h"
#include "runtime/text/template/strings.h"
#include "runtime/text/template/value_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIGITS_BYTES = 1024 };

static bool is_align(char c)
{
    return c == '<' || c == '>' || c == '=' || c == '^';
}

static bool read_number(pr_render *r, pr_value text, size_t *i, int64_t max, int64_t *out)
{
    int64_t n = 0;
    for (; *i < text.n && text.u.s[*i] >= '0' && text.u.s[*i] <= '9'; (*i)++) {
        n = 10 * n + (text.u.s[*i] - '0');
        if (n > max) return pr_raise(r, PR_EXC_BOUND, "a format wider than %lld", (long long)max);
    }
    *out = n;
    return true;
}

static void read_align(pr_value text, size_t *i, pr_format_spec *spec)
{
    size_t width = text.n ? pr_utf8_width((unsigned char)text.u.s[0]) : 0;
    if (width && width < text.n && is_align(text.u.s[width])) {
        memcpy(spec->fill, text.u.s, width);
        spec->n_fill = width;
        spec->align = text.u.s[width];
        *i = width + 1;
    } else if (text.n && is_align(text.u.s[0])) {
        spec->align = text.u.s[0];
        *i = 1;
    }
}

static bool at(pr_value text, size_t i, const char *any)
{
    return i < text.n && text.u.s[i] && strchr(any, text.u.s[i]);
}

bool pr_format_spec_parse(pr_render *r, pr_value text, const char *type, pr_format_spec *out)
{
    pr_format_spec spec = {.fill = " ", .n_fill = 1, .precision = -1};
    size_t i = 0;
    read_align(text, &i, &spec);
    if (at(text, i, "+- ")) spec.sign = text.u.s[i++];
    if (at(text, i, "#")) {
        spec.alternate = true;
        i++;
    }
    if (at(text, i, "0")) {
        if (!spec.align) {
            spec.fill[0] = '0';
            spec.n_fill = 1;
            spec.align = strcmp(type, "str") == 0 ? '<' : '=';
        }
        i++;
    }
    if (!read_number(r, text, &i, PR_FORMAT_WIDTH_MAX, &spec.width)) return false;
    if (at(text, i, ",_")) spec.group = text.u.s[i++];
    if (at(text, i, ".")) {
        i++;
        if (!at(text, i, "0123456789")) {
            return pr_raise(r, PR_EXC_VALUE, "Format specifier missing precision");
        }
        if (!read_number(r, text, &i, PR_FORMAT_PRECISION_MAX, &spec.precision)) return false;
    }
    if (i + 1 < text.n) {
        return pr_raise(r, PR_EXC_VALUE, "Invalid format specifier '%.*s' for object of type '%s'",
                        (int)text.n, text.u.s, type);
    }
    if (i < text.n) spec.type = text.u.s[i];
    *out = spec;
    return true;
}

static void fill(const pr_format_spec *spec, int64_t n, pr_buffer *b)
{
    for (; n > 0; n--) pr_buffer_append(b, spec->fill, spec->n_fill);
}

/* head ("-0x") and text with fill before, between, or behind; align: the one without another. */
static bool pad(pr_render *r, const pr_format_spec *spec, char align, const char *head,
                pr_value text, pr_buffer *b)
{
    int64_t n = (int64_t)(strlen(head) + pr_str_count(text));
    int64_t room = spec->width > n ? spec->width - n : 0;
    if (spec->align) align = spec->align;
    int64_t before = align == '>' ? room : align == '^' ? room / 2 : 0;
    int64_t between = align == '=' ? room : 0;
    fill(spec, before, b);
    pr_buffer_append_str(b, head);
    fill(spec, between, b);
    pr_buffer_append(b, text.u.s, text.n);
    fill(spec, room - before - between, b);
    return pr_render_work(r, (size_t)room / 16);
}

static bool raise_code(pr_render *r, char code, const char *type)
{
    return pr_raise(r, PR_EXC_VALUE, "Unknown format code '%c' for object of type '%s'", code,
                    type);
}

bool pr_format_str(pr_render *r, const pr_format_spec *spec, pr_value s, pr_buffer *b)
{
    if (spec->type && spec->type != 's') return raise_code(r, spec->type, "str");
    if (spec->sign) {
        return pr_raise(r, PR_EXC_VALUE,
                        spec->sign == ' ' ? "Space not allowed in string format specifier"
                                          : "Sign not allowed in string format specifier");
    }
    if (spec->align == '=') {
        return pr_raise(r, PR_EXC_VALUE, "'=' alignment not allowed in string format specifier");
    }
    if (spec->alternate) {
        return pr_raise(r, PR_EXC_VALUE,
                        "Alternate form (#) not allowed in string format specifier");
    }
    if (spec->group) {
        return pr_raise(r, PR_EXC_VALUE, "Cannot specify '%c' with 's'.", spec->group);
    }
    if (spec->precision >= 0) s = pr_str_part(s, 0, pr_str_offset(s, (size_t)spec->precision));
    return pad(r, spec, '<', "", s, b);
}

/* Digits in groups; every: 3, or 4 for binary, octal and hexadecimal. */
static void group_digits(char *digits, size_t n_whole, char mark, size_t every)
{
    char out[DIGITS_BYTES * 2];
    size_t to = 0;
    for (size_t i = 0; digits[i] && to + 2 < sizeof out; i++) {
        if (i > 0 && i < n_whole && (n_whole - i) % every == 0) out[to++] = mark;
        out[to++] = digits[i];
    }
    out[to] = '\0';
    if (to < DIGITS_BYTES) memcpy(digits, out, to + 1);
}

static void binary_digits(uint64_t u, char *out)
{
    size_t n = 1;
    while (n < 64 && u >> n) n++;
    for (size_t i = 0; i < n; i++) out[i] = u >> (n - 1 - i) & 1 ? '1' : '0';
    out[n] = '\0';
}

bool pr_format_int(pr_render *r, const pr_format_spec *spec, int64_t i, pr_buffer *b)
{
    char digits[DIGITS_BYTES], head[8] = "", bytes[4];
    char type = spec->type ? spec->type : 'd';
    uint64_t u = i < 0 ? (uint64_t)0 - (uint64_t)i : (uint64_t)i;
    if (strchr("eEfFgG%", type)) return pr_format_float(r, spec, (double)i, b);
    if (!strchr("bcdonxX", type)) return raise_code(r, type, "int");
    if (spec->precision >= 0) {
        return pr_raise(r, PR_EXC_VALUE, "Precision not allowed in integer format specifier");
    }
    if (type == 'c') {
        if (i < 0 || i > 0x10ffff || (i >= 0xd800 && i < 0xe000)) {
            return pr_raise(r, PR_EXC_OVERFLOW, "%%c arg not in range(0x110000)");
        }
        pr_value one = pr_value_str(bytes, pr_utf8_encode((uint32_t)i, bytes));
        return pad(r, spec, '>', "", one, b);
    }
    if (type == 'b')
        binary_digits(u, digits);
    else
        snprintf(digits, sizeof digits,
                 type == 'o'   ? "%llo"
                 : type == 'x' ? "%llx"
                 : type == 'X' ? "%llX"
                               : "%llu",
                 (unsigned long long)u);
    if (spec->group)
        group_digits(digits, strlen(digits), spec->group, strchr("boxX", type) ? 4 : 3);
    const char *sign = i < 0 ? "-" : spec->sign == '+' ? "+" : spec->sign == ' ' ? " " : "";
    const char prefix[] = {'0', type, '\0'};
    snprintf(head, sizeof head, "%s%s", sign,
             spec->alternate && strchr("boxX", type) ? prefix : "");
    return pad(r, spec, '>', head, pr_value_cstr(digits), b);
}

/* repr's digits, or with a precision %g's, but always with a point or an exponent. */
static void natural_digits(double f, int64_t precision, char *out)
{
    if (precision < 0) {
        out[pr_float_text(f, out)] = '\0';
        return;
    }
    int p = precision ? (int)precision : 1;
    pr_number_format(out, DIGITS_BYTES, 'g', p, f);
    char scientific[DIGITS_BYTES];
    pr_number_format(scientific, sizeof scientific, 'e', p - 1, f);
    int exponent = atoi(strchr(scientific, 'e') + 1);
    if (exponent == p - 1) pr_number_format(out, DIGITS_BYTES, 'g', p, f);
    if (exponent >= p - 1 && !strchr(out, 'e') && exponent >= p) {
        pr_number_format(out, DIGITS_BYTES, 'e', p - 1, f);
    }
    if (!strchr(out, '.') && !strchr(out, 'e')) strcat(out, ".0");
}

bool pr_format_float(pr_render *r, const pr_format_spec *spec, double f, pr_buffer *b)
{
    char digits[DIGITS_BYTES], type = spec->type;
    int64_t precision = spec->precision;
    double size = fabs(f);
    if (type && !strchr("eEfFgGn%", type)) return raise_code(r, type, "float");
    if (type == '%') size *= 100;
    if (precision < 0 && type) precision = 6;
    bool upper = type == 'E' || type == 'F' || type == 'G';
    if (isnan(f) || isinf(f)) {
        snprintf(digits, sizeof digits, isnan(f) ? upper ? "NAN" : "nan" : upper ? "INF" : "inf");
    } else if (!type) {
        natural_digits(size, precision, digits);
    } else {
        char c = type == '%' ? 'f' : type == 'n' ? 'g' : (char)(type | 0x20);
        if (spec->alternate) return pr_raise(r, PR_EXC_UNSUPPORTED, "the # of a float's format");
        pr_number_format(digits, sizeof digits, c, (int)precision, size);
        for (char *p = digits; upper && *p; p++) *p = *p == 'e' ? 'E' : *p;
    }
    if (type == '%') strcat(digits, "%");
    if (spec->group) group_digits(digits, strspn(digits, "0123456789"), spec->group, 3);
    bool minus = signbit(f) && !isnan(f);
    const char *sign = minus ? "-" : spec->sign == '+' ? "+" : spec->sign == ' ' ? " " : "";
    return pad(r, spec, '>', sign, pr_value_cstr(digits), b);
}
