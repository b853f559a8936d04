/* kernels/cpu/attention_avx512.c: attention_impl.h for AVX-512. Register tiles of 6 rows x 4
 * vectors: 24 accumulators and 4 vectors of keys or values in the 32 registers; broadcasts come
 * from memory within the multiply-add. */
#include "kernels/cpu/vmath_avx512.h"

#define VECS 4
#include "kernels/cpu/attention_impl.h"

const pr_cpu_attention pr_cpu_attention_avx512 = {
    .name = "avx512",
    .scratch_bytes = scratch_bytes,
    .run = run,
};
