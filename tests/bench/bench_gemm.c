/* tests/bench/bench_gemm.c: how near matrix multiplication comes to the processor's peak.
 *
 * bench_gemm [amx|avx512|avx2|c|amx-c] [n_threads] [f32|f16|bf16] [highest|high|medium] [n_rows…]
 *
 * For layer shapes of real models, weights of that dtype: the best of several runs in GFLOP/s (a
 * multiply and an add of the product asked for are two, however many it is made of), and as a share
 * of what the same threads reach in a loop of nothing but multiply-adds (AMX: of tiles) in the same
 * run. Plain C has no such loop and shows no share. */
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/gemm_pack.h"
#include "kernels/cpu/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if POOLRANK_X86
#include <immintrin.h>
#endif

typedef struct bench_shape {
    const char *name;
    int64_t n_in;
    int64_t n_out;
    pr_matrix_kind kind;
} bench_shape;

static const bench_shape shapes[] = {
    {"MiniLM qkv", 384, 1152, PR_MATRIX_PLAIN},
    {"MiniLM o", 384, 384, PR_MATRIX_PLAIN},
    {"MiniLM up", 384, 1536, PR_MATRIX_PLAIN},
    {"MiniLM down", 1536, 384, PR_MATRIX_PLAIN},
    {"Qwen2-0.5B qkv", 896, 1152, PR_MATRIX_PLAIN},
    {"Qwen2-0.5B o", 896, 896, PR_MATRIX_PLAIN},
    {"Qwen2-0.5B gate+up", 896, 9728, PR_MATRIX_GATED},
    {"Qwen2-0.5B down", 4864, 896, PR_MATRIX_PLAIN},
    {"XLM-R up", 768, 3072, PR_MATRIX_PLAIN},
    {"XLM-R down", 3072, 768, PR_MATRIX_PLAIN},     {"8192 x 8192", 8192, 8192, PR_MATRIX_PLAIN},
};

/* One thread is timed by what it ran, so that other processes disturb less; several by clock. */
static double now_s(bool is_alone)
{
    struct timespec t;
    clock_gettime(is_alone ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

enum { PEAK_ROUNDS = 200000, PEAK_CHAINS = 12 };

#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#if POOLRANK_X86
__attribute__((target("avx512f"))) static float peak_avx512(void)
{
    __m512 sum[PEAK_CHAINS];
    __m512 x = _mm512_set1_ps(0.5F);
    UNROLL
    for (int i = 0; i < PEAK_CHAINS; i++) sum[i] = _mm512_set1_ps((float)i);
    for (int n = 0; n < PEAK_ROUNDS; n++) {
        UNROLL
        for (int i = 0; i < PEAK_CHAINS; i++) sum[i] = _mm512_fmadd_ps(sum[i], x, x);
    }
    UNROLL
    for (int i = 1; i < PEAK_CHAINS; i++) sum[0] = _mm512_add_ps(sum[0], sum[i]);
    return _mm512_cvtss_f32(sum[0]);
}

__attribute__((target("avx2,fma"))) static float peak_avx2(void)
{
    __m256 sum[PEAK_CHAINS];
    __m256 x = _mm256_set1_ps(0.5F);
    UNROLL
    for (int i = 0; i < PEAK_CHAINS; i++) sum[i] = _mm256_set1_ps((float)i);
    for (int n = 0; n < PEAK_ROUNDS; n++) {
        UNROLL
        for (int i = 0; i < PEAK_CHAINS; i++) sum[i] = _mm256_fmadd_ps(sum[i], x, x);
    }
    UNROLL
    for (int i = 1; i < PEAK_CHAINS; i++) sum[0] = _mm256_add_ps(sum[0], sum[i]);
    return _mm256_cvtss_f32(sum[0]);
}

/* Eight sums of zeros in registers: nothing is read. */
__attribute__((target("avx512f,amx-tile,amx-bf16"))) static void peak_amx(void)
{
    static const _Alignas(64) uint8_t config[64] = {
        [0] = 1, [16] = 64, [18] = 64, [20] = 64, [22] = 64, [24] = 64, [26] = 64, [28] = 64,
        [30] = 64, [48] = 16, 16, 16, 16, 16, 16, 16, 16};
    __asm__ volatile("ldtilecfg %0" ::"m"(config) : "memory");
    for (int n = 0; n < PEAK_ROUNDS / 4; n++) {
        _tile_dpbf16ps(0, 6, 7);
        _tile_dpbf16ps(1, 6, 7);
        _tile_dpbf16ps(2, 6, 7);
        _tile_dpbf16ps(3, 6, 7);
        _tile_dpbf16ps(4, 6, 7);
        _tile_dpbf16ps(5, 6, 7);
    }
    _tile_release();
}
#endif

static void peak_task(void *ctx, int i_task, int i_thread)
{
    (void)i_thread;
    volatile float sink = 0;
#if POOLRANK_X86
    switch (*(const pr_cpu_isa *)ctx) {
    case PR_CPU_ISA_AMX: peak_amx(); break;
    case PR_CPU_ISA_AVX512: sink = peak_avx512(); break;
    default: sink = peak_avx2(); break;
    }
#else
    (void)ctx;
#endif
    (void)i_task;
    (void)sink;
}

static double peak_gflops(pr_cpu_isa isa, pr_cpu_pool *pool)
{
    if (isa == PR_CPU_ISA_C || isa == PR_CPU_ISA_AMX_C) return 0;
    int n_threads = pr_cpu_pool_n_threads(pool);
    double flops =
        2.0 * PEAK_ROUNDS * PEAK_CHAINS * (isa == PR_CPU_ISA_AVX512 ? 16 : 8) * n_threads;
    if (isa == PR_CPU_ISA_AMX) flops = 2.0 * PEAK_ROUNDS / 4 * 6 * 16 * 16 * 32 * n_threads;
    double best_s = 1e9;
    for (int i = 0; i < 60; i++) {
        double t = now_s(n_threads == 1);
        pr_cpu_pool_run(pool, peak_task, &isa, n_threads);
        t = now_s(n_threads == 1) - t;
        if (t < best_s) best_s = t;
    }
    return flops / best_s * 1e-9;
}

static float *random_floats(size_t n)
{
    float *p = pr_cpu_memory_alloc(n * sizeof *p);
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525U + 1013904223U;
        p[i] = (float)(int32_t)state * 0x1p-31F;
    }
    return p;
}

static double gemm_gflops(const pr_cpu_kernels *kernels, pr_cpu_pool *pool,
                          pr_cpu_gemm_scratch *scratch, const pr_gemm *a)
{
    double flops = 2.0 * (double)a->n_rows * (double)a->w->n_in * (double)a->w->n_out;
    bool is_alone = pr_cpu_pool_n_threads(pool) == 1;
    double best_s = 1e9;
    double end = now_s(false) + 0.2;
    for (int i = 0; i < 5 || now_s(false) < end; i++) {
        double t = now_s(is_alone);
        pr_cpu_gemm_run(kernels->rowwise, pool, scratch, a);
        t = now_s(is_alone) - t;
        if (t < best_s) best_s = t;
    }
    return flops / best_s * 1e-9;
}

static void bench_shape_run(const bench_shape *shape, const pr_cpu_kernels *kernels,
                            pr_cpu_pool *pool, pr_cpu_gemm_scratch *scratch,
                            const pr_cpu_gemm_kernels *row, int64_t n_rows, double peak)
{
    pr_matrix *w = NULL;
    if (pr_cpu_matrix_create(row, shape->kind, shape->n_out, shape->n_in, &w, NULL) != PR_OK) {
        abort();
    }
    float *src = random_floats((size_t)(shape->n_out * shape->n_in));
    double pack_s = now_s(false);
    pr_cpu_matrix_write(w, pool, 0, shape->n_out, src, PR_DTYPE_F32);
    pack_s = now_s(false) - pack_s;
    float *x = random_floats((size_t)(n_rows * shape->n_in));
    float *y = random_floats((size_t)(n_rows * shape->n_out));
    int64_t ldy = shape->kind == PR_MATRIX_GATED ? shape->n_out / 2 : shape->n_out;
    pr_gemm a = {.w = w, .x = x, .ldx = shape->n_in, .n_rows = n_rows, .y = y, .ldy = ldy};
    double gflops = gemm_gflops(kernels, pool, scratch, &a);
    printf("%-20s %5lld x %5lld  M %5lld  %7.1f GFLOP/s", shape->name, (long long)shape->n_in,
           (long long)shape->n_out, (long long)n_rows, gflops);
    if (peak > 0) printf("  %5.1f %%", gflops / peak * 100);
    printf("  (packed at %.2f GB/s)\n", (double)(shape->n_out * shape->n_in) * 4e-9 / pack_s);
    free(y);
    free(x);
    free(src);
    pr_cpu_matrix_free(w);
}

int main(int argc, char **argv)
{
    pr_cpu_isa isa = PR_CPU_ISA_AVX512;
    if (argc > 1 && !pr_cpu_isa_parse(argv[1], &isa)) return 2;
    if (isa == PR_CPU_ISA_AUTO || !pr_cpu_isa_available(isa)) return 2;
    int n_threads = argc > 2 ? atoi(argv[2]) : 1;
    pr_dtype dtype = PR_DTYPE_F32;
    if (argc > 3 && strcmp(argv[3], "bf16") == 0) dtype = PR_DTYPE_BF16;
    if (argc > 3 && strcmp(argv[3], "f16") == 0) dtype = PR_DTYPE_F16;
    pr_matmul_precision precision = PR_MATMUL_HIGHEST;
    if (argc > 4 && strcmp(argv[4], "high") == 0) precision = PR_MATMUL_HIGH;
    if (argc > 4 && strcmp(argv[4], "medium") == 0) precision = PR_MATMUL_MEDIUM;
    const pr_cpu_kernels *kernels = pr_cpu_kernels_find(isa);
    pr_cpu_pool *pool = NULL;
    if (n_threads < 1 || pr_cpu_pool_create(n_threads, &pool, NULL) != PR_OK) return 2;
    pr_cpu_gemm_scratch *scratch = pr_cpu_memory_alloc((size_t)n_threads * sizeof *scratch);
    double peak = peak_gflops(isa, pool);
    const pr_cpu_gemm_kernels *row = pr_cpu_gemm_find(kernels->gemm, precision, dtype);
    printf("%s, %s, %d threads, peak %.1f GFLOP/s\n", kernels->label, row->label, n_threads, peak);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        static const int64_t rows[] = {1, 7, 16, 64, 128, 300, 512, 2048};
        for (size_t r = 0; argc <= 5 && r < sizeof rows / sizeof *rows; r++) {
            bench_shape_run(&shapes[i], kernels, pool, scratch, row, rows[r], peak);
        }
        for (int r = 5; r < argc; r++) {
            bench_shape_run(&shapes[i], kernels, pool, scratch, row, atoll(argv[r]), peak);
        }
    }
    free(scratch);
    pr_cpu_pool_free(pool);
    return 0;
}
