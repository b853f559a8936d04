/* kernels/cpu/attention_avx2.c: attention_impl.h for AVX2. Register tiles of 6 rows x 2 vectors: 12
 * accumulators, 2 vectors of keys or values and a broadcast in the 16 registers. */
#include "kernels/cpu/vmath_avx2.h"

#define VECS 2
#include "kernels/cpu/attention_impl.h"

const pr_cpu_attention pr_cpu_attention_avx2 = {
    .name = "avx2",
    .scratch_bytes = scratch_bytes,
    .run = run,
};
