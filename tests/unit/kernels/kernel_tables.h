/* The row-wise and attention kernels that this processor can run, and a few things that tests of
 * kernels share. */
#ifndef POOLRANK_TESTS_UNIT_KERNELS_KERNEL_TABLES_H
#define POOLRANK_TESTS_UNIT_KERNELS_KERNEL_TABLES_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/rowwise.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct kernel_table {
    const char *name;
    const pr_cpu_rowwise *rowwise;
    const pr_cpu_attention *attention;
    bool available;
} kernel_table;

enum { N_TABLES = 3 };

/* Plain C first. Where the processor lacks an instruction set, a line says that it is not tested.
 */
static inline void kernel_tables(kernel_table out[N_TABLES])
{
    memset(out, 0, N_TABLES * sizeof *out);
    out[0] = (kernel_table){"c", &pr_cpu_rowwise_c, &pr_cpu_attention_c, true};
    out[1].name = "avx2";
    out[2].name = "avx512";
#if POOLRANK_X86
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    out[1] = (kernel_table){"avx2", &pr_cpu_rowwise_avx2, &pr_cpu_attention_avx2, avx2};
    out[2] = (kernel_table){"avx512", &pr_cpu_rowwise_avx512, &pr_cpu_attention_avx512, avx512};
#endif
    for (int i = 0; i < N_TABLES; i++) {
        if (!out[i].available) print_message("%s: not on this processor, skipped\n", out[i].name);
    }
}

/* A small generator of its own, so that a seed gives the same numbers everywhere (PCG, O'Neill
 * 2014). */
typedef struct rng {
    uint64_t state;
} rng;

static inline uint32_t rng_u32(rng *r)
{
    const uint64_t old = r->state;
    r->state = old * 6364136223846793005u + 1442695040888963407u;
    const uint32_t mixed = (uint32_t)(((old >> 18) ^ old) >> 27), turn = (uint32_t)(old >> 59);
    return (mixed >> turn) | (mixed << (-turn & 31));
}

static inline float rng_unit(rng *r) /* -1 .. 1 */
{
    return (float)((int32_t)rng_u32(r)) * 0x1p-31f;
}

/* Exactly n floats: a sanitizer sees a read past them. */
static inline float *floats_make(size_t n)
{
    float *p = NULL;
    assert_int_equal(posix_memalign((void **)&p, 64, (n ? n : 1) * sizeof *p), 0);
    return p;
}

static inline float *floats_random(rng *r, size_t n, float scale)
{
    float *p = floats_make(n);
    for (size_t i = 0; i < n; i++) p[i] = scale * rng_unit(r);
    return p;
}

#endif
