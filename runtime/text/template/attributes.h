/* runtime/text/template/attributes.h: x.name, x[i] and x[a:b:c], as the sandbox allows them. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_ATTRIBUTES_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_ATTRIBUTES_H

#include "runtime/text/template/value.h"

/* x.name: an attribute, else an item, else an undefined value that says so. */
bool pr_attribute_get(pr_render *r, pr_value obj, pr_value name, pr_value *out);
/* Whether x.name may be more than an item when x is a dict: a method, or what the sandbox hides. */
bool pr_attribute_is_special(pr_value name);
/* x[index]: an item, else an attribute, else an undefined value. */
bool pr_item_get(pr_render *r, pr_value obj, pr_value index, pr_value *out);
/* x[start:stop:step]; PR_V_NONE or PR_V_MISSING where nothing stands. Raises TypeError. */
bool pr_slice_get(pr_render *r, pr_value obj, const pr_value bounds[3], pr_value *out);

/* [start:stop] of something of n items, from values that may be None or negative. */
bool pr_slice_bounds(pr_render *r, const pr_value bounds[3], size_t n, int64_t *start,
                     int64_t *stop, int64_t *step);

#endif
