/* kernels/cpu/rowwise_avx512.c: rowwise_impl.h for AVX-512. */
#include "kernels/cpu/vmath_avx512.h"
#include "kernels/cpu/rowwise_impl.h"

const pr_cpu_rowwise pr_cpu_rowwise_avx512 = {
    .name = "avx512",
    .norm = norm,
    .rope = rope,
    .embed = embed,
    .activate = activate,
    .gated = gated,
    .gather = gather,
    .mean = mean,
};
