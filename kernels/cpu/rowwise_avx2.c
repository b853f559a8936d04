/* kernels/cpu/rowwise_avx2.c: rowwise_impl.h for AVX2. */
#include "kernels/cpu/vmath_avx2.h"
#include "kernels/cpu/rowwise_impl.h"

const pr_cpu_rowwise pr_cpu_rowwise_avx2 = {
    .name = "avx2",
    .norm = norm,
    .rope = rope,
    .embed = embed,
    .activate = activate,
    .gated = gated,
    .gather = gather,
    .mean = mean,
};
