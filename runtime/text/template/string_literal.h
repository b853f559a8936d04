/* runtime/text/template/string_literal.h: the escapes of a string in a template.
 *
 * As Python's "unicode-escape" codec reads them. Pure but for the memory of r. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_STRING_LITERAL_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_STRING_LITERAL_H

#include "runtime/text/template/value.h"

/* s: [n], what stands between the quotes; *out may share it. Raises PR_EXC_SYNTAX for an escape
 * that is cut short, PR_EXC_UNSUPPORTED for \N{…} and for surrogates. */
bool pr_string_literal(pr_render *r, const char *s, size_t n, pr_value *out);

#endif
