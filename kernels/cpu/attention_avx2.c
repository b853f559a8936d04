/* kernels/cpu/attention_avx2.c: attention_impl.h for AVX2. Register tiles of 6 rows x 2 vectors: 12
 * accumulators, 2 vectors of keys or values and a broadcast in the 16 registers.
 *
 * Measured with bench_attention, one core of an EPYC (Zen 4), gcc 12, share of the core's
 * multiply-add peak (118 G/s) in useful operations: MiniLM 8 x 128 tokens 52 %, 1 x 512 54 %;
 * Qwen2-0.5B 1 x 512 63 %, 1 x 1024 64 %; 16-token texts 30 %. Plain C: 3 to 6 G/s. */
#include "kernels/cpu/vmath_avx2.h"

#define VECS 2
#include "kernels/cpu/attention_impl.h"

const pr_cpu_attention pr_cpu_attention_avx2 = {
    .name = "avx2",
    .scratch_bytes = scratch_bytes,
    .run = run,
};
