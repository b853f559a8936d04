/* runtime/base/hash.h: the hash of this program's tables of strings and pairs.
 *
 * Pure inline functions, any thread. Each table has a secret seed of its own, so that whoever
 * writes a file cannot choose keys that all collide. Not for what leaves the process. */
#ifndef POOLRANK_RUNTIME_BASE_HASH_H
#define POOLRANK_RUNTIME_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct pr_hash_seed {
    uint64_t start;
    uint64_t multiplier; /* odd */
} pr_hash_seed;

/* A seed from the system's random numbers; early in boot, when there are none, from the address
 * of the table that it is for. */
pr_hash_seed pr_hash_seed_make(const void *table);

/* The 128-bit product, folded. */
static inline uint64_t pr_hash_fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t pr_hash_u64(pr_hash_seed seed, uint64_t word)
{
    return pr_hash_fold(pr_hash_fold(seed.start ^ word, seed.multiplier) ^ 0xD6E8FEB86659FD93u,
                        seed.multiplier);
}

/* The last n < 8 bytes in a word; two such texts of the same n never give the same. Loads of fixed
 * sizes: a memcpy of n bytes is a call. */
static inline uint64_t pr_hash_tail(const char *p, size_t n)
{
    if (n >= 4) {
        uint32_t first, last;
        memcpy(&first, p, 4);
        memcpy(&last, p + n - 4, 4);
        return first | (uint64_t)last << 32;
    }
    if (n == 0) return 0;
    return (uint64_t)(unsigned char)p[0] | (uint64_t)(unsigned char)p[n / 2] << 8 |
           (uint64_t)(unsigned char)p[n - 1] << 16;
}

/* Eight bytes a step. The multiplier is secret too: with a public one, two keys can be made whose
 * differences cancel whatever the start value is. */
static inline uint64_t pr_hash_bytes(pr_hash_seed seed, const char *p, size_t n)
{
    uint64_t h = seed.start ^ (n * 0x9E3779B97F4A7C15u);
    uint64_t word = 0;
    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&word, p, 8);
        h = pr_hash_fold(h ^ word, seed.multiplier);
    }
    h = pr_hash_fold(h ^ pr_hash_tail(p, n), seed.multiplier);
    return pr_hash_fold(h ^ 0xD6E8FEB86659FD93u, seed.multiplier);
}

#endif
