#include "tests/bench/load_latency.h"

#include <math.h>
#include <stddef.h>

static size_t bucket_of(uint64_t value)
{
    if (value >> LOAD_LATENCY_BITS == 0) return (size_t)value;
    unsigned shift = 63 - (unsigned)__builtin_clzll(value) - LOAD_LATENCY_BITS;
    return ((size_t)(shift + 1) << LOAD_LATENCY_BITS) +
           (size_t)((value >> shift) - (1u << LOAD_LATENCY_BITS));
}

/* The largest value of a bucket. */
static uint64_t bucket_end(size_t i)
{
    size_t row = i >> LOAD_LATENCY_BITS, column = i & ((1u << LOAD_LATENCY_BITS) - 1);
    if (row == 0) return column;
    return ((((uint64_t)1 << LOAD_LATENCY_BITS) + column + 1) << (row - 1)) - 1;
}

void load_latency_add(load_latency *l, uint64_t value)
{
    l->counts[bucket_of(value)]++;
    l->n++;
    l->sum += (double)value;
    if (value > l->max) l->max = value;
}

uint64_t load_latency_at(const load_latency *l, double share)
{
    uint64_t rank = (uint64_t)ceil(share * (double)l->n), n = 0;
    for (size_t i = 0; i < LOAD_LATENCY_BUCKETS; i++) {
        n += l->counts[i];
        if (n > 0 && n >= rank) return bucket_end(i) < l->max ? bucket_end(i) : l->max;
    }
    return 0;
}
