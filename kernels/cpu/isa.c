#include "kernels/cpu/isa.h"

#include "kernels/cpu/attention.h"
#include "kernels/cpu/gemm_tile.h"
#include "kernels/cpu/rowwise.h"

#include <assert.h>
#include <string.h>

static const char *const isa_names[] = {
    [PR_CPU_ISA_AUTO] = "auto",
    [PR_CPU_ISA_C] = "c",
    [PR_CPU_ISA_AVX2] = "avx2",
    [PR_CPU_ISA_AVX512] = "avx512",
};
static_assert(sizeof isa_names / sizeof *isa_names == PR_CPU_ISA_COUNT, "one name per set");

static const pr_cpu_kernels tables[PR_CPU_ISA_COUNT] = {
    [PR_CPU_ISA_C] = {.isa = PR_CPU_ISA_C,
                      .label = "plain C",
                      .gemm = &pr_cpu_gemm_c,
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

/* What the processor has and the operating system saves: __builtin_cpu_supports asks both. */
static bool processor_has(pr_cpu_isa isa)
{
#if POOLRANK_X86
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (isa == PR_CPU_ISA_AVX2) return avx2;
    if (isa == PR_CPU_ISA_AVX512) {
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    }
#endif
    return isa == PR_CPU_ISA_C || isa == PR_CPU_ISA_AUTO;
}

bool pr_cpu_isa_available(pr_cpu_isa isa)
{
    assert((unsigned)isa < PR_CPU_ISA_COUNT);
    return processor_has(isa) && (isa == PR_CPU_ISA_AUTO || tables[isa].gemm != NULL);
}

const pr_cpu_kernels *pr_cpu_kernels_find(pr_cpu_isa isa)
{
    assert(isa != PR_CPU_ISA_AUTO);
    assert((unsigned)isa < PR_CPU_ISA_COUNT);
    return tables[isa].gemm ? &tables[isa] : NULL;
}
