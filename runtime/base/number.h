/* runtime/base/number.h: floats as text that reads back as the same float32.
 *
 * Pure; called on any thread. */
#ifndef POOLRANK_RUNTIME_BASE_NUMBER_H
#define POOLRANK_RUNTIME_BASE_NUMBER_H

#include <stddef.h>

enum { PR_NUMBER_BYTES = 24 };

/* Writes the shortest decimal that reads back as exactly x when parsed as float32, in JSON form:
 * "0.1", "-3.0", "1e-07", "1e+20" (the layout of Python's repr: fixed between 1e-4 and 1e16, always
 * with a point or an exponent). Of several shortest ones the closest to x. -0.0 is "-0.0".
 * dst has PR_NUMBER_BYTES; returns the length, no NUL is written.
 * Not-a-number and infinities have no JSON form: "null" is written. */
size_t pr_number_write(float x, char *dst);

#endif
