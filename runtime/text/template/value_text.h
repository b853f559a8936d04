/* runtime/text/template/value_text.h: a value as text, as Python's str() and repr() write it.
 *
 * Appends to a buffer of the caller's. A lack of memory sets the buffer's `failed`; false is
 * returned for an exception in r (nesting, steps). */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_VALUE_TEXT_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_VALUE_TEXT_H

#include "runtime/base/buffer.h"
#include "runtime/text/template/value.h"

bool pr_value_repr(pr_render *r, pr_value v, pr_buffer *b);
bool pr_value_text(pr_render *r, pr_value v, pr_buffer *b); /* str() */

/* str() as a value; a string is itself, without its being Markup. */
bool pr_value_to_str(pr_render *r, pr_value v, pr_value *out);
/* markupsafe's soft_str: Markup stays Markup. */
bool pr_value_soft_str(pr_render *r, pr_value v, pr_value *out);

/* repr() of a float: the shortest digits that read back as it. */
enum { PR_FLOAT_TEXT_BYTES = 32 };
size_t pr_float_text(double f, char out[PR_FLOAT_TEXT_BYTES]);
/* The shortest such digits, without point or sign, and the place of the point behind the first
 * *exponent + 1 of them. f is finite and not 0. */
size_t pr_float_digits(double f, char digits[PR_FLOAT_TEXT_BYTES], int *exponent);

/* '…' with escapes, as Python quotes a string; ascii: what is not ASCII is escaped too. */
void pr_str_repr(const char *s, size_t n, bool ascii, pr_buffer *b);

#endif
