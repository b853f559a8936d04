/* runtime/text/template/sort.h: Python's sorted(): stable, by a key, raising where two keys have
 * no order. */
#ifndef POOLRANK_RUNTIME_TEXT_TEMPLATE_SORT_H
#define POOLRANK_RUNTIME_TEXT_TEMPLATE_SORT_H

#include "runtime/text/template/value.h"

typedef struct pr_sort_item {
    pr_value key, value;
} pr_sort_item;

/* items: [n]. */
bool pr_sort(pr_render *r, pr_sort_item *items, size_t n, bool reverse);

#endif
