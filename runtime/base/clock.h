/* runtime/base/clock.h: the time that passes, whatever is done to the wall clock.
 *
 * Inline, any thread. */
#ifndef POOLRANK_RUNTIME_BASE_CLOCK_H
#define POOLRANK_RUNTIME_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t pr_clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline int64_t pr_clock_ms(void)
{
    return (int64_t)(pr_clock_ns() / 1000000u);
}

#endif
