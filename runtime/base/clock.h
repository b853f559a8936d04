/* runtime/base/clock.h: the time that passes, whatever is done to the wall clock; and that one.
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

/* The wall clock: microseconds since 1970, UTC. */
static inline int64_t pr_clock_wall_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static inline int64_t pr_clock_ms(void)
{
    return (int64_t)(pr_clock_ns() / 1000000u);
}

#endif
