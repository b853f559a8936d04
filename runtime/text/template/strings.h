/* runtime/text/template/strings.h: strings by code points.
 *
 * Indices count characters, offsets count bytes. Strings are well-formed UTF-8. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_STRINGS_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_STRINGS_H

#include "runtime/text/template/python_chars.h"
#include "runtime/text/template/value.h"

size_t pr_str_count(pr_value s); /* its characters */
/* The byte where character i begins; its end for i past it. */
size_t pr_str_offset(pr_value s, size_t i);
/* s[begin:end] by bytes: shares s's bytes and is Markup where s is. */
pr_value pr_str_part(pr_value s, size_t begin, size_t end);
/* The first place of `what` at or behind `begin`, the last that ends at or before `end`; SIZE_MAX
 * when there is none. */
size_t pr_str_find(pr_value s, pr_value what, size_t begin);
size_t pr_str_find_last(pr_value s, pr_value what, size_t end);
bool pr_str_starts(pr_value s, pr_value what);
bool pr_str_ends(pr_value s, pr_value what);

enum { PR_STRIP_LEFT = 1, PR_STRIP_RIGHT = 2, PR_STRIP_BOTH = 3 };
/* chars: NULL for white space. */
pr_value pr_str_strip(pr_value s, int sides, const pr_value *chars);

/* lower(), upper(), casefold(), title() (of each word), capitalize(), swapcase(). What follows
 * returns false with an exception in r. */
bool pr_str_case(pr_render *r, pr_value s, pr_py_case to, pr_value *out);
bool pr_str_title(pr_render *r, pr_value s, pr_value *out);
bool pr_str_capitalize(pr_render *r, pr_value s, pr_value *out);
bool pr_str_swapcase(pr_render *r, pr_value s, pr_value *out);

/* replace(); n_max SIZE_MAX for all. */
bool pr_str_replace(pr_render *r, pr_value s, pr_value from, pr_value to, size_t n_max,
                    pr_value *out);
bool pr_str_repeat(pr_render *r, pr_value s, int64_t n, pr_value *out);
/* sep: NULL for runs of white space. n_max: cuts at most, SIZE_MAX for all. */
bool pr_str_split(pr_render *r, pr_value s, const pr_value *sep, size_t n_max, pr_value *out);
bool pr_str_rsplit(pr_render *r, pr_value s, const pr_value *sep, size_t n_max, pr_value *out);
bool pr_str_splitlines(pr_render *r, pr_value s, bool keep_ends, pr_value *out);

/* markupsafe.escape: Markup is itself, anything else becomes text with & < > ' " replaced. */
bool pr_str_escape(pr_render *r, pr_value v, pr_value *out);

/* Values that are gathered before their number is known. */
typedef struct pr_values {
    pr_value *items;
    size_t n, n_max;
} pr_values;
bool pr_values_add(pr_render *r, pr_values *list, pr_value v);

#endif
