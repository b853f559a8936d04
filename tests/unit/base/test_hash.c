/* runtime/base/hash.h: one hash for all tables. */
#include "runtime/base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Given keys of which each pair of words may differ in bit 62 of the first word and in what that
 * bit becomes after a multiplication by an odd number and a shift by 28: with a public multiplier
 * about every second such difference vanishes, whatever the seed. */
static void crafted_differences_do_not_cancel(void **state)
{
    (void)state;
    enum { N_BITS = 12, N = 1 << N_BITS };
    static uint64_t hashes[N];
    int table = 0;
    pr_hash_seed seed = pr_hash_seed_make(&table);
    for (uint32_t i = 0; i < N; i++) {
        char key[16 * N_BITS];
        memset(key, 'a', sizeof key);
        for (int bit = 0; bit < N_BITS; bit++) {
            if (!(i >> bit & 1)) continue;
            key[16 * bit + 7] ^= 0x40;
            key[16 * bit + 15] ^= 0x40;
            key[16 * bit + 12] ^= 0x04;
        }
        hashes[i] = pr_hash_bytes(seed, key, sizeof key);
    }
    qsort(hashes, N, sizeof *hashes, compare_u64);
    for (int i = 1; i < N; i++) assert_true(hashes[i - 1] != hashes[i]);
}

/* A table looks at the lowest bits: neighbours must spread over them. */
static void numbers_in_a_row_spread_over_the_low_bits(void **state)
{
    (void)state;
    enum { N = 4096, N_BUCKETS = 256 };
    int counts[N_BUCKETS] = {0};
    int table = 0;
    pr_hash_seed seed = pr_hash_seed_make(&table);
    for (uint64_t i = 0; i < N; i++) counts[pr_hash_u64(seed, i << 32 | i) % N_BUCKETS]++;
    for (int i = 0; i < N_BUCKETS; i++) assert_true(counts[i] < 4 * N / N_BUCKETS);
}

static void each_table_has_a_seed_of_its_own(void **state)
{
    (void)state;
    int table = 0;
    pr_hash_seed a = pr_hash_seed_make(&table), b = pr_hash_seed_make(&table);
    assert_true(a.start != b.start || a.multiplier != b.multiplier);
    assert_int_equal(a.multiplier & 1, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crafted_differences_do_not_cancel),
        cmocka_unit_test(numbers_in_a_row_spread_over_the_low_bits),
        cmocka_unit_test(each_table_has_a_seed_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
