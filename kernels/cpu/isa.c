#define _DEFAULT_SOURCE /* syscall */
#include "kernels/cpu/isa.h"

#include "kernels/cpu/attention.h"
#include "kernels/cpu/gemm_tile.h"
#include "kernels/cpu/rowwise.h"

#include <assert.h>
#include <string.h>

#if POOLRANK_X86
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

static const char *const isa_names[] = {
    [PR_CPU_ISA_AUTO] = "auto",     [PR_CPU_ISA_C] = "c",     [PR_CPU_ISA_AVX2] = "avx2",
    [PR_CPU_ISA_AVX512] = "avx512", [PR_CPU_ISA_AMX] = "amx", [PR_CPU_ISA_AMX_C] = "amx-c",
};
static_assert(sizeof isa_names / sizeof *isa_names == PR_CPU_ISA_COUNT, "one name per set");

static const pr_cpu_kernels tables[PR_CPU_ISA_COUNT] = {
    [PR_CPU_ISA_C] = {.isa = PR_CPU_ISA_C,
                      .label = "plain C",
                      .gemm = &pr_cpu_gemm_c,
                      .rowwise = &pr_cpu_rowwise_c,
                      .attention = &pr_cpu_attention_c},
    [PR_CPU_ISA_AMX_C] = {.isa = PR_CPU_ISA_AMX_C,
                          .label = "AMX in plain C",
                          .gemm = &pr_cpu_gemm_amx_c,
                          .rowwise = &pr_cpu_rowwise_c,
                          .attention = &pr_cpu_attention_c},
#if POOLRANK_X86
    [PR_CPU_ISA_AVX2] = {.isa = PR_CPU_ISA_AVX2,
                         .label = "AVX2",
                         .gemm = &pr_cpu_gemm_avx2,
                         .rowwise = &pr_cpu_rowwise_avx2,
                         .attention = &pr_cpu_attention_avx2},
    [PR_CPU_ISA_AVX512] = {.isa = PR_CPU_ISA_AVX512,
                           .label = "AVX-512",
                           .gemm = &pr_cpu_gemm_avx512,
                           .rowwise = &pr_cpu_rowwise_avx512,
                           .attention = &pr_cpu_attention_avx512},
    [PR_CPU_ISA_AMX] = {.isa = PR_CPU_ISA_AMX,
                        .label = "AMX",
                        .gemm = &pr_cpu_gemm_amx,
                        .rowwise = &pr_cpu_rowwise_avx512,
                        .attention = &pr_cpu_attention_avx512},
#endif
};

bool pr_cpu_isa_parse(const char *name, pr_cpu_isa *out)
{
    assert(name);
    for (int i = 0; i < PR_CPU_ISA_COUNT; i++) {
        if (strcmp(name, isa_names[i]) != 0) continue;
        *out = (pr_cpu_isa)i;
        return true;
    }
    return false;
}

const char *pr_cpu_isa_name(pr_cpu_isa isa)
{
    assert((unsigned)isa < PR_CPU_ISA_COUNT);
    return isa_names[isa];
}

#if POOLRANK_X86
/* Linux gives a process the tiles' state when it asks, once; threads have it then too. */
static bool system_gives_tiles(void)
{
#ifdef __linux__
    enum { REQUEST_STATE = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_STATE, TILE_DATA) == 0;
#else
    return false;
#endif
}

static bool has_amx(void)
{
    enum { BF16_TILES = 1 << 22, TILES = 1 << 24, VECTOR_BF16 = 1 << 5 };
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    if (!(d & BF16_TILES) || !(d & TILES)) return false;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & VECTOR_BF16)) return false;
    return system_gives_tiles();
}
#endif

/* What the processor has and the operating system saves: __builtin_cpu_supports asks both. */
static bool processor_has(pr_cpu_isa isa)
{
#if POOLRANK_X86
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (isa == PR_CPU_ISA_AVX2) return avx2;
    if (isa == PR_CPU_ISA_AVX512) return avx512;
    if (isa == PR_CPU_ISA_AMX) return avx512 && has_amx();
#endif
    return isa == PR_CPU_ISA_C || isa == PR_CPU_ISA_AMX_C || isa == PR_CPU_ISA_AUTO;
}

bool pr_cpu_isa_available(pr_cpu_isa isa)
{
    assert((unsigned)isa < PR_CPU_ISA_COUNT);
    return processor_has(isa) && (isa == PR_CPU_ISA_AUTO || tables[isa].gemm != NULL);
}

pr_cpu_isa pr_cpu_isa_best(void)
{
    pr_cpu_isa best = PR_CPU_ISA_AMX;
    while (!pr_cpu_isa_available(best)) best--;
    return best;
}

const char *pr_cpu_product_label(pr_cpu_isa isa, pr_matmul_precision precision, pr_dtype dtype)
{
    if (isa == PR_CPU_ISA_AUTO) isa = pr_cpu_isa_best();
    const pr_cpu_kernels *kernels = pr_cpu_kernels_find(isa);
    if (!kernels) return "none";
    return pr_cpu_gemm_find(kernels->gemm, pr_matmul_precision_resolve(precision), dtype)->label;
}

const pr_cpu_kernels *pr_cpu_kernels_find(pr_cpu_isa isa)
{
    assert(isa != PR_CPU_ISA_AUTO);
    assert((unsigned)isa < PR_CPU_ISA_COUNT);
    return tables[isa].gemm ? &tables[isa] : NULL;
}
