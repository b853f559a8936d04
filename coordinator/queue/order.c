#include "coordinator/queue/order.h"

#include <assert.h>
#include <stdlib.h>

pr_place pr_order_arrive(pr_clock_virtual *clock, pr_flow *flow, uint64_t n_tokens)
{
    assert(n_tokens > 0);
    double start = flow->end > clock->now ? flow->end : clock->now;
    flow->end = start + (double)n_tokens;
    if (flow->n_waiting++ == 0) clock->n_flows++;
    return (pr_place){flow->priority, start, clock->n_arrivals++};
}

void pr_order_leave(pr_clock_virtual *clock, pr_flow *flow, const pr_place *place,
                    uint64_t n_tokens)
{
    assert(flow->n_waiting > 0);
    assert(clock->n_flows > 0);
    if (n_tokens > 0) {
        /* Nothing of an earlier start waits (of this priority): idle time is not saved up. */
        if (place->start > clock->now) clock->now = place->start;
        clock->now += (double)n_tokens / (double)clock->n_flows;
    }
    if (--flow->n_waiting == 0) clock->n_flows--;
}

bool pr_place_is_before(const pr_place *a, const pr_place *b)
{
    if (a->priority != b->priority) return a->priority < b->priority;
    if (a->start != b->start) return a->start < b->start;
    return a->arrival < b->arrival;
}

static bool is_before(const pr_order_entry *a, const pr_order_entry *b)
{
    if (a->place.arrival == b->place.arrival) return a->i_part < b->i_part;
    return pr_place_is_before(&a->place, &b->place);
}

void pr_order_deinit(pr_order *o)
{
    free(o->entries);
    *o = (pr_order){0};
}

bool pr_order_reserve(pr_order *o, size_t n_more)
{
    if (o->n_max - o->n >= n_more) return true;
    size_t n_max = o->n_max ? o->n_max : 64;
    while (n_max - o->n < n_more) n_max *= 2;
    pr_order_entry *entries = realloc(o->entries, n_max * sizeof *entries);
    if (!entries) return false;
    o->entries = entries;
    o->n_max = n_max;
    return true;
}

static void sift_up(pr_order *o, size_t i)
{
    pr_order_entry entry = o->entries[i];
    for (; i > 0 && is_before(&entry, &o->entries[(i - 1) / 2]); i = (i - 1) / 2) {
        o->entries[i] = o->entries[(i - 1) / 2];
    }
    o->entries[i] = entry;
}

static void sift_down(pr_order *o, size_t i)
{
    pr_order_entry entry = o->entries[i];
    for (size_t child; (child = 2 * i + 1) < o->n; i = child) {
        if (child + 1 < o->n && is_before(&o->entries[child + 1], &o->entries[child])) child++;
        if (!is_before(&o->entries[child], &entry)) break;
        o->entries[i] = o->entries[child];
    }
    o->entries[i] = entry;
}

void pr_order_push(pr_order *o, const pr_order_entry *entry)
{
    assert(o->n < o->n_max);
    o->entries[o->n++] = *entry;
    sift_up(o, o->n - 1);
}

pr_order_entry pr_order_pop(pr_order *o)
{
    assert(o->n > 0);
    pr_order_entry first = o->entries[0];
    o->entries[0] = o->entries[--o->n];
    if (o->n > 0) sift_down(o, 0);
    return first;
}

size_t pr_order_extract(pr_order *o, bool (*matches)(const pr_order_entry *entry, const void *what),
                        const void *what, pr_order_entry *out)
{
    size_t n_kept = 0, n_out = 0;
    for (size_t i = 0; i < o->n; i++) {
        if (matches(&o->entries[i], what)) {
            out[n_out++] = o->entries[i];
        } else {
            o->entries[n_kept++] = o->entries[i];
        }
    }
    o->n = n_kept;
    for (size_t i = n_kept / 2; n_out > 0 && i-- > 0;) sift_down(o, i);
    return n_out;
}
