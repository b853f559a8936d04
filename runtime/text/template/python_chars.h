/* runtime/text/template/python_chars.h: characters as Python's str sees them.
 *
 * Pure functions on constant tables (Unicode 14, Python 3.11), any thread. A character is a code
 * point from 0 to U+10FFFF. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_PYTHON_CHARS_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_PYTHON_CHARS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PR_PY_PRINTABLE = 1,
    PR_PY_ALPHA = 2,
    PR_PY_DECIMAL = 4,
    PR_PY_DIGIT = 8,
    PR_PY_NUMERIC = 16,
    PR_PY_UPPER = 32,
    PR_PY_LOWER = 64,
    PR_PY_TITLE = 128,
    PR_PY_IGNORABLE = 256, /* looked through on the way to a cased letter */
    PR_PY_ALNUM = PR_PY_ALPHA | PR_PY_DECIMAL | PR_PY_DIGIT | PR_PY_NUMERIC,
    PR_PY_CASED = PR_PY_UPPER | PR_PY_LOWER | PR_PY_TITLE,
};

typedef enum pr_py_case {
    PR_PY_TO_LOWER,
    PR_PY_TO_UPPER,
    PR_PY_TO_TITLE,
    PR_PY_TO_FOLD
} pr_py_case;

unsigned pr_py_flags(uint32_t c);
static inline bool pr_py_is_printable(uint32_t c)
{
    return pr_py_flags(c) & PR_PY_PRINTABLE;
}
/* str.isspace, and what strip() and split() without arguments take. */
bool pr_py_is_space(uint32_t c);
/* What splitlines() ends a line at. */
bool pr_py_is_line_end(uint32_t c);

/* Writes 1 to 3 characters and returns how many. Σ is lowered to σ: whether it is final is the
 * caller's to see. */
size_t pr_py_case_map(pr_py_case to, uint32_t c, uint32_t out[3]);

#endif
