/* load_latency.h: counts of latencies, fine enough for a 99.9th percentile, in fixed memory.
 *
 *     bucket  0 .. 127          values 0 .. 127
 *             then 128 for each power of two: a bucket is at most 1/128 of its value wide
 *
 * Plain data in its owner's storage. */
#ifndef POOLRANK_BENCH_LOAD_LATENCY_H
#define POOLRANK_BENCH_LOAD_LATENCY_H

#include <stdint.h>

enum { LOAD_LATENCY_BITS = 7, LOAD_LATENCY_BUCKETS = (64 - LOAD_LATENCY_BITS + 1) << 7 };

typedef struct load_latency {
    uint64_t n, max;
    double sum;
    uint64_t counts[LOAD_LATENCY_BUCKETS];
} load_latency;

void load_latency_add(load_latency *l, uint64_t value);
/* The least value that share (0 to 1) of all are not above, to 1 %; 0: there are none. */
uint64_t load_latency_at(const load_latency *l, double share);

#endif
