/* kernels/cpu/attention_avx512.c: attention_impl.h for AVX-512. Register tiles of 6 rows x 4
 * vectors: 24 accumulators, 4 vectors of keys or values and a broadcast in the 32 registers.
 *
 * Measured with bench_attention, one core of an EPYC (Zen 4), gcc 12, share of the core's
 * multiply-add peak (118 G/s) in useful operations: MiniLM 8 x 128 tokens 54 to 60 %, 1 x 512 65 %;
 * Qwen2-0.5B 1 x 512 73 %, 1 x 1024 68 %; 16-token texts 29 %. */
#include "kernels/cpu/vmath_avx512.h"

#define VECS 4
#include "kernels/cpu/attention_impl.h"

const pr_cpu_attention pr_cpu_attention_avx512 = {
    .name = "avx512",
    .scratch_bytes = scratch_bytes,
    .run = run,
};
