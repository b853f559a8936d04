#include "runtime/text/template/filters.h"

#include "runtime/base/number.h"
#include "runtime/text/template/iterate.h"
#include "runtime/text/template/operators.h"
#include "runtime/text/template/render.h"
#include "runtime/text/template/strings.h"
#include "runtime/text/template/value_text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { NUMBER_TEXT_BYTES = 400 };

bool pr_filter_abs(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_value v = argv[0];
    if (v.kind == PR_V_FLOAT) {
        *out = pr_value_float(fabs(v.u.f));
        return true;
    }
    if (!pr_value_is_integral(v)) {
        return pr_raise(r, PR_EXC_TYPE, "bad operand type for abs(): '%s'", pr_value_type(v));
    }
    if (pr_value_as_int(v) >= 0) {
        *out = pr_value_int(pr_value_as_int(v));
        return true;
    }
    return pr_negate(r, v, false, out);
}

/* A number's text without white space around and single underscores inside; false when it cannot
 * be one. */
static bool number_text(pr_value s, char out[NUMBER_TEXT_BYTES])
{
    s = pr_str_strip(s, PR_STRIP_BOTH, NULL);
    size_t to = 0;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.u.s[i];
        if (c == '_') {
            bool inside = i > 0 && i + 1 < s.n && s.u.s[i - 1] != '_' && s.u.s[i + 1] != '_';
            if (!inside) return false;
            continue;
        }
        if ((unsigned char)c >= 0x80 || c == '\0' || to + 1 >= NUMBER_TEXT_BYTES) return false;
        out[to++] = c;
    }
    out[to] = '\0';
    return to > 0;
}

/* int(s, base): 1 a number, 0 none, -1 one that does not fit. */
static int parse_int(pr_value s, int base, int64_t *out)
{
    char text[NUMBER_TEXT_BYTES], *end = NULL;
    if (!number_text(s, text)) return 0;
    const char *p = text;
    bool minus = *p == '-';
    if (*p == '+' || *p == '-') p++;
    char mark = p[0] == '0' ? (char)(p[1] | 0x20) : '\0';
    int prefix = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (prefix && (base == prefix || base == 0)) {
        p += 2;
        base = prefix;
    } else if (base == 0) {
        base = 10;
        if (p[0] == '0' && strspn(p, "0") != strlen(p)) return 0;
    }
    if (*p == '\0' || *p == '+' || *p == '-' || *p == ' ' ||
        (base == 16 && p[0] == '0' && (p[1] | 0x20) == 'x')) {
        return 0;
    }
    errno = 0;
    unsigned long long u = strtoull(p, &end, base);
    if (*end) return 0;
    if (errno || u > (unsigned long long)INT64_MAX) return -1;
    *out = minus ? -(int64_t)u : (int64_t)u;
    return 1;
}

static bool parse_float(pr_value s, double *out)
{
    char text[NUMBER_TEXT_BYTES];
    if (!number_text(s, text)) return false;
    const char *p = text + (*text == '+' || *text == '-');
    bool word =
        strcasecmp(p, "inf") == 0 || strcasecmp(p, "infinity") == 0 || strcasecmp(p, "nan") == 0;
    if (!word && strspn(p, "0123456789.eE+-") != strlen(p)) return false;
    const char *end = NULL;
    *out = pr_number_read(text, &end);
    return *end == '\0' && end != text;
}

/* int() of a float; false when it has no integer. */
static bool whole_part(pr_render *r, double f, int64_t *out, bool *none)
{
    *none = !isfinite(f);
    if (*none) return true;
    f = trunc(f);
    if (f >= 9223372036854775808.0 || f < -9223372036854775808.0) {
        return pr_raise(r, PR_EXC_BOUND, "an integer of more than 64 bits");
    }
    *out = (int64_t)f;
    return true;
}

bool pr_filter_int(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_value v = argv[0], otherwise = argv[1].kind == PR_V_MISSING ? pr_value_int(0) : argv[1];
    int64_t base = 10, i = 0;
    double f = 0;
    bool none = false;
    if (!pr_arg_int(r, argv[2], 10, &base)) return false;
    bool base_ok = base == 0 || (base >= 2 && base <= 36);
    if (v.kind == PR_V_UNDEFINED) return pr_raise_undefined(r, v);
    if (pr_value_is_integral(v)) {
        *out = pr_value_int(pr_value_as_int(v));
        return true;
    }
    if (v.kind == PR_V_STR) {
        int got = base_ok ? parse_int(v, (int)base, &i) : 0;
        if (got < 0) return pr_raise(r, PR_EXC_BOUND, "an integer of more than 64 bits");
        if (got > 0) {
            *out = pr_value_int(i);
            return true;
        }
        none = !parse_float(v, &f);
    } else if (v.kind == PR_V_FLOAT) {
        if (isinf(v.u.f)) {
            return pr_raise(r, PR_EXC_OVERFLOW, "cannot convert float infinity to integer");
        }
        f = v.u.f;
    } else {
        none = true;
    }
    if (!none && !whole_part(r, f, &i, &none)) return false;
    *out = none ? otherwise : pr_value_int(i);
    return true;
}

bool pr_filter_float(pr_render *r, const pr_value *argv, pr_value *out)
{
    double f = 0;
    if (argv[0].kind == PR_V_UNDEFINED) return pr_raise_undefined(r, argv[0]);
    if (pr_value_is_number(argv[0]))
        *out = pr_value_float(pr_value_as_float(argv[0]));
    else if (argv[0].kind == PR_V_STR && parse_float(argv[0], &f))
        *out = pr_value_float(f);
    else
        *out = argv[1].kind == PR_V_MISSING ? pr_value_float(0.0) : argv[1];
    return true;
}

/* round(f, n): to the nearest of the decimal, half to even, as printf rounds it. */
static double round_decimal(double f, int64_t n)
{
    char text[NUMBER_TEXT_BYTES];
    if (!isfinite(f) || n > 300) return f;
    if (n >= 0) {
        pr_number_format(text, sizeof text, 'f', (int)n, f);
        return pr_number_read(text, NULL);
    }
    double power = pow(10, (double)-n);
    return nearbyint(f / power) * power;
}

static bool round_int(pr_render *r, int64_t i, int64_t n, pr_value *out)
{
    if (n >= 0) {
        *out = pr_value_int(i);
        return true;
    }
    int64_t power = 1;
    for (; n < 0; n++) {
        if (__builtin_mul_overflow(power, 10, &power)) {
            *out = pr_value_int(0);
            return true;
        }
    }
    int64_t rest = i % power, whole = i - rest;
    if (rest < 0) {
        rest += power;
        whole -= power;
    }
    bool up = rest > power / 2 || (rest == power / 2 && (whole / power) % 2 != 0);
    if (up && __builtin_add_overflow(whole, power, &whole)) {
        return pr_raise(r, PR_EXC_BOUND, "an integer of more than 64 bits");
    }
    *out = pr_value_int(whole);
    return true;
}

static bool method_is(pr_value v, const char *name)
{
    return v.kind == PR_V_STR && pr_value_named(v, name);
}

bool pr_filter_round(pr_render *r, const pr_value *argv, pr_value *out)
{
    pr_value v = argv[0], method = argv[2];
    int64_t n = 0;
    bool common = method.kind == PR_V_MISSING || method_is(method, "common");
    bool ceil_up = method_is(method, "ceil");
    if (!common && !ceil_up && !method_is(method, "floor")) {
        return pr_raise(r, PR_EXC_FILTER_ARGUMENT, "method must be common, ceil or floor");
    }
    if (v.kind == PR_V_UNDEFINED && !common) return pr_raise_undefined(r, v);
    if (!pr_value_is_number(v)) {
        if (common) {
            return pr_raise(r, PR_EXC_TYPE, "type %s doesn't define __round__ method",
                            pr_value_type(v));
        }
        return pr_raise(r, PR_EXC_TYPE, "must be real number, not %s", pr_value_type(v));
    }
    if (!pr_arg_int(r, argv[1], 0, &n)) return false;
    if (common && v.kind != PR_V_FLOAT) return round_int(r, pr_value_as_int(v), n, out);
    double f = pr_value_as_float(v);
    if (common) {
        *out = pr_value_float(round_decimal(f, n));
        return true;
    }
    double power = pow(10, (double)n);
    *out = pr_value_float((ceil_up ? ceil(f * power) : floor(f * power)) / power);
    return true;
}

bool pr_filter_filesizeformat(pr_render *r, const pr_value *argv, pr_value *out)
{
    static const char prefixes[] = "kMGTPEZY";
    bool binary = pr_arg_truth(argv[1], false);
    double bytes = 0, base = binary ? 1024 : 1000, unit = base;
    if (argv[0].kind == PR_V_UNDEFINED) return pr_raise_undefined(r, argv[0]);
    if (pr_value_is_number(argv[0])) {
        bytes = pr_value_as_float(argv[0]);
    } else if (argv[0].kind != PR_V_STR) {
        return pr_raise(r, PR_EXC_TYPE,
                        "float() argument must be a string or a real number, not "
                        "'%s'",
                        pr_value_type(argv[0]));
    } else if (!parse_float(argv[0], &bytes)) {
        return pr_raise_repr(r, PR_EXC_VALUE, "could not convert string to float: %s", argv[0]);
    }
    if (bytes == 1) return pr_render_printf(r, out, "1 Byte");
    if (bytes < base) return pr_render_printf(r, out, "%.0f Bytes", trunc(bytes));
    for (size_t i = 0; i < sizeof prefixes - 1; i++) {
        unit *= base;
        if (bytes >= unit && i + 2 < sizeof prefixes) continue;
        char prefix = binary && i == 0 ? 'K' : prefixes[i];
        return pr_render_printf(r, out, "%.1f %c%sB", base * bytes / unit, prefix,
                                binary ? "i" : "");
    }
    return true;
}
