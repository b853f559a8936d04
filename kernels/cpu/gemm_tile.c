#include "kernels/cpu/gemm_tile.h"

#include <assert.h>

const pr_cpu_gemm_kernels *pr_cpu_gemm_find(const pr_cpu_gemm_set *set,
                                            pr_matmul_precision precision, pr_dtype dtype)
{
    assert(set);
    assert(precision > PR_MATMUL_AUTO && precision < PR_MATMUL_COUNT);
    assert(dtype == PR_DTYPE_F32 || dtype == PR_DTYPE_F16 || dtype == PR_DTYPE_BF16);
    if (dtype == PR_DTYPE_BF16) return set->bf16[precision];
    return dtype == PR_DTYPE_F16 ? set->f16[precision] : set->f32[precision];
}
