#include "runtime/base/hash.h"

#include <sys/random.h>

pr_hash_seed pr_hash_seed_make(const void *table)
{
    pr_hash_seed seed;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed) {
        seed.start = (uint64_t)(uintptr_t)table * 0x9E3779B97F4A7C15u;
        seed.multiplier = seed.start ^ 0xD6E8FEB86659FD93u;
    }
    seed.multiplier |= 1; /* never zero, which would make all hashes equal */
    return seed;
}
