/* runtime/base/histogram.h: counts of values between fixed bounds, as Prometheus has them.
 *
 * Plain data in its owner's storage, one thread at a time. Inline. */
#ifndef POOLRANK_RUNTIME_BASE_HISTOGRAM_H
#define POOLRANK_RUNTIME_BASE_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

enum { PR_HISTOGRAM_BUCKETS_MAX = 20 };

typedef struct pr_histogram {
    const double *bounds; /* [n_bounds] ascending, each the largest value of its bucket; constant */
    size_t n_bounds;      /* at most PR_HISTOGRAM_BUCKETS_MAX */
    uint64_t counts[PR_HISTOGRAM_BUCKETS_MAX + 1]; /* of each bucket alone; the last: above all */
    uint64_t n;
    double sum;
} pr_histogram;

static inline void pr_histogram_add(pr_histogram *h, double value)
{
    size_t i = 0;
    while (i < h->n_bounds && value > h->bounds[i]) i++;
    h->counts[i]++;
    h->n++;
    h->sum += value;
}

#endif
