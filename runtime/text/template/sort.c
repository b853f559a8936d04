#include "runtime/text/template/sort.h"

#include "runtime/text/template/render.h"

#include <string.h>

/* b < a as Python asks it while sorting. */
static bool less(pr_render *r, const pr_sort_item *a, const pr_sort_item *b, bool *out)
{
    int order = 0;
    if (!pr_render_step(r) || !pr_value_order(r, "<", a->key, b->key, &order)) return false;
    *out = order < 0;
    return true;
}

/* Two sorted runs of one array into another; equal ones keep their order. */
static bool merge(pr_render *r, const pr_sort_item *from, size_t begin, size_t middle, size_t end,
                  pr_sort_item *to)
{
    size_t left = begin, right = middle;
    for (size_t i = begin; i < end; i++) {
        bool take_right = left >= middle;
        if (!take_right && right < end && !less(r, &from[right], &from[left], &take_right)) {
            return false;
        }
        to[i] = from[take_right ? right++ : left++];
    }
    return true;
}

static void turn(pr_sort_item *items, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        pr_sort_item item = items[i];
        items[i] = items[n - 1 - i];
        items[n - 1 - i] = item;
    }
}

bool pr_sort(pr_render *r, pr_sort_item *items, size_t n, bool reverse)
{
    pr_sort_item *other = pr_render_array(r, n, sizeof *other), *from = items;
    if (!other) return false;
    if (reverse) turn(items, n); /* turned twice, equal ones keep their order */
    for (size_t width = 1; width < n; width *= 2) {
        pr_sort_item *to = from == items ? other : items;
        for (size_t begin = 0; begin < n; begin += 2 * width) {
            size_t middle = begin + width < n ? begin + width : n;
            size_t end = begin + 2 * width < n ? begin + 2 * width : n;
            if (!merge(r, from, begin, middle, end, to)) return false;
        }
        from = to;
    }
    if (from != items) memcpy(items, from, n * sizeof *items);
    if (reverse) turn(items, n);
    return true;
}
