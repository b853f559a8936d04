#define _GNU_SOURCE /* strtod_l, strftime_l */
#include "runtime/base/number.h"

#include <assert.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>

/* glibc makes none of "C": it has one, which freelocale leaves alone. */
static locale_t c_locale(void)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    assert(c != (locale_t)0);
    return c;
}

double pr_number_read(const char *text, const char **end)
{
    locale_t c = c_locale();
    char *behind = NULL;
    double x = strtod_l(text, &behind, c);
    freelocale(c);
    if (end) *end = behind;
    return x;
}

size_t pr_time_format(char *dst, size_t n_bytes, const char *format, const struct tm *time)
{
    locale_t c = c_locale();
    size_t n = strftime_l(dst, n_bytes, format, time, c);
    freelocale(c);
    return n;
}

int pr_text_format(char *dst, size_t n_bytes, const char *format, va_list args)
{
    locale_t c = c_locale(), before = uselocale(c);
    int n = vsnprintf(dst, n_bytes, format, args);
    uselocale(before);
    freelocale(c);
    return n;
}

int pr_number_format(char *dst, size_t n_bytes, char conversion, int precision, double x)
{
    assert(conversion == 'e' || conversion == 'f' || conversion == 'g');
    locale_t c = c_locale(), before = uselocale(c);
    int n = conversion == 'e'   ? snprintf(dst, n_bytes, "%.*e", precision, x)
            : conversion == 'f' ? snprintf(dst, n_bytes, "%.*f", precision, x)
                                : snprintf(dst, n_bytes, "%.*g", precision, x);
    uselocale(before);
    freelocale(c);
    return n;
}
