/* runtime/text/template/path.h: "a.b.0": what attribute= of the filters looks up in an item. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_PATH_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_PATH_H

#include "runtime/text/template/value.h"

typedef struct pr_path {
    const pr_value *parts; /* [n] of all its paths, one behind the other */
    size_t n;
    const size_t *lengths; /* [n_many]: parts of each path; NULL for a single one */
    size_t n_many;
    bool fold;          /* strings are compared in lower case */
    pr_value otherwise; /* in place of what is undefined on the way; PR_V_MISSING: none */
} pr_path;

/* attribute: a name, an index, or None for the item itself. */
bool pr_path_make(pr_render *r, pr_value attribute, bool fold, pr_path *out);
/* "a,b.c": several, whose values together are a list. */
bool pr_path_make_many(pr_render *r, pr_value attribute, bool fold, pr_path *out);
bool pr_path_get(pr_render *r, const pr_path *path, pr_value item, pr_value *out);

#endif
