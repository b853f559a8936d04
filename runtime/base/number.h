/* runtime/base/number.h: numbers as text and back: floats that read back as the same float32, and
 * what strtod and printf do, in the C locale whatever the process's is (a program that embeds the
 * library may have set one with decimal commas).
 *
 * Pure; called on any thread. */
#ifndef POOLRANK_RUNTIME_BASE_NUMBER_H
#define POOLRANK_RUNTIME_BASE_NUMBER_H

#include <stdarg.h>
#include <stddef.h>
#include <time.h>

enum { PR_NUMBER_BYTES = 24 };

/* Writes the shortest decimal that reads back as exactly x when parsed as float32, in JSON form:
 * "0.1", "-3.0", "1e-07", "1e+20" (the layout of Python's repr: fixed between 1e-4 and 1e16, always
 * with a point or an exponent). Of several shortest ones the closest to x. -0.0 is "-0.0".
 * dst has PR_NUMBER_BYTES; returns the length, no NUL is written.
 * Not-a-number and infinities have no JSON form: "null" is written. */
size_t pr_number_write(float x, char *dst);

/* strtod: a decimal or hexadecimal number, infinity or not-a-number at the start of text, blanks
 * before it skipped. *end: behind it, text itself where there is none; may be NULL. */
double pr_number_read(const char *text, const char **end);

/* printf's %.*e, %.*f or %.*g of x, for which conversion stands: 'e', 'f', 'g'. Returns what
 * snprintf does. */
int pr_number_format(char *dst, size_t n_bytes, char conversion, int precision, double x);

/* strftime: English names of days and months. */
size_t pr_time_format(char *dst, size_t n_bytes, const char *format, const struct tm *time);

/* vsnprintf. What messages and answers are made with. */
int pr_text_format(char *dst, size_t n_bytes, const char *format, va_list args);

#endif
