/* How fast attention runs on one core, against the core's own multiply-add peak.
 *
 * Prints, for each instruction set and shape: time of one call, useful G operations/s (multiply and
 * add counted apart, masked keys not counted) and the share of the peak that a loop of independent
 * multiply-adds of the same width reaches here. Usage:
 * bench_attention [SECONDS_PER_CASE [PART_OF_A_SHAPE_NAME]]
 *
 *     gcc -O2 ... or the target bench_attention */
#include "kernels/cpu/attention.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <time.h>

typedef struct bench_shape {
    const char *name;
    int32_t n_texts, length, n_heads, n_kv_heads, head_dim;
    bool causal;
    int32_t query_count; /* of each text, its last ones; 0: all */
} bench_shape;

static const bench_shape shapes[] = {
    {"MiniLM, 8 x 16 tokens", 8, 16, 12, 12, 32, false, 0},
    {"MiniLM, 8 x 128 tokens", 8, 128, 12, 12, 32, false, 0},
    {"MiniLM, 1 x 512 tokens", 1, 512, 12, 12, 32, false, 0},
    {"Qwen2-0.5B, 4 x 128 tokens", 4, 128, 14, 2, 64, true, 0},
    {"Qwen2-0.5B, 1 x 512 tokens", 1, 512, 14, 2, 64, true, 0},
    {"Qwen2-0.5B, 1 x 1024 tokens", 1, 1024, 14, 2, 64, true, 0},
    {"Qwen2-0.5B, last token of 512", 4, 512, 14, 2, 64, true, 1},
    {"XLM-R base, 1 x 512 tokens", 1, 512, 12, 12, 64, false, 0},
    {"head_dim 80, 1 x 256 tokens", 1, 256, 8, 8, 80, true, 0},
    {"Qwen3, 1 x 512 tokens", 1, 512, 16, 8, 128, true, 0},
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); /* one thread; others may share the core */
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float *floats(int64_t n)
{
    float *p = NULL;
    if (posix_memalign((void **)&p, 64, (size_t)n * sizeof *p)) abort();
    for (int64_t i = 0; i < n; i++) p[i] = (float)(rand() % 2001 - 1000) * 1e-3f;
    return p;
}

/* 12 chains, as many as the 6 x 2 tile has: more than latency times throughput of the units. */
#define STEP(j)    __asm__ volatile("vfmadd231ps %1, %1, %0" : "+v"(a##j) : "v"(x))
#define VECTORS(s) s(0), s(1), s(2), s(3), s(4), s(5), s(6), s(7), s(8), s(9), s(10), s(11)
#define ZERO(j)    a##j = {0}
#define PEAK(name, isa, width)                                                                     \
    __attribute__((target(isa))) static double name(void)                                          \
    {                                                                                              \
        typedef float vec __attribute__((vector_size(width)));                                     \
        vec x = {0}, VECTORS(ZERO);                                                                \
        double best = 0.0;                                                                         \
        for (int round = 0; round < 5; round++) {                                                  \
            const double begin = now();                                                            \
            for (int i = 0; i < 1000000; i++) {                                                    \
                STEP(0);                                                                           \
                STEP(1);                                                                           \
                STEP(2);                                                                           \
                STEP(3);                                                                           \
                STEP(4);                                                                           \
                STEP(5);                                                                           \
                STEP(6);                                                                           \
                STEP(7);                                                                           \
                STEP(8);                                                                           \
                STEP(9);                                                                           \
                STEP(10);                                                                          \
                STEP(11);                                                                          \
            }                                                                                      \
            const double rate = 1e6 * 12 * 2 * (width / 4) / (now() - begin);                      \
            if (rate > best) best = rate;                                                          \
        }                                                                                          \
        return best * 1e-9;                                                                        \
    }

#if POOLRANK_X86
PEAK(peak_avx2, "avx2,fma", 32)
PEAK(peak_avx512, "avx512f,fma", 64)
#endif

/* Multiplies and adds that one pass needs. */
static double operations(const bench_shape *s)
{
    const int32_t n_queries = s->query_count ? s->query_count : s->length;
    double pairs = 0.0;
    for (int32_t i = 0; i < n_queries; i++) {
        pairs += s->causal ? s->length - n_queries + i + 1 : s->length;
    }
    return 4.0 * pairs * s->n_texts * s->n_heads * s->head_dim;
}

static void pass(const pr_cpu_attention *kernels, const pr_attention *a,
                 pr_cpu_attention_block *blocks, void *scratch)
{
    const int64_t n = pr_cpu_attention_plan(a, 1, blocks);
    for (int64_t i = 0; i < n * a->n_kv_heads; i++) {
        kernels->run(a, &blocks[i / a->n_kv_heads], (int32_t)(i % a->n_kv_heads), scratch);
    }
}

static double seconds_per_pass(const pr_cpu_attention *kernels, const pr_attention *a,
                               double seconds)
{
    pr_cpu_attention_block *blocks =
        calloc((size_t)pr_cpu_attention_n_blocks_max(a) + 1, sizeof *blocks);
    void *scratch = NULL;
    if (posix_memalign(&scratch, 64,
                       kernels->scratch_bytes(a->head_dim, a->n_heads, a->n_kv_heads))) {
        abort();
    }
    double best = INFINITY;
    const double begin = now();
    do {
        const double t = now();
        pass(kernels, a, blocks, scratch);
        best = fmin(best, now() - t);
    } while (now() - begin < seconds);
    free(scratch);
    free(blocks);
    return best;
}

static void bench(const pr_cpu_attention *kernels, double peak, const bench_shape *s,
                  double seconds)
{
    const int64_t rows = (int64_t)s->n_texts * s->length;
    const int64_t q_dim = (int64_t)s->n_heads * s->head_dim,
                  kv_dim = (int64_t)s->n_kv_heads * s->head_dim;
    const int64_t ld = q_dim + 2 * kv_dim; /* one QKV projection */
    const int32_t n_queries = s->query_count ? s->query_count : s->length;
    float *qkv = floats(rows * ld), *out = floats(rows * q_dim);
    int32_t *positions = calloc((size_t)rows, sizeof *positions);
    uint32_t *key_rows = calloc((size_t)rows, sizeof *key_rows);
    pr_span *spans = calloc((size_t)s->n_texts, sizeof *spans);
    for (int64_t i = 0; i < rows; i++) {
        key_rows[i] = (uint32_t)i;
        positions[i] = s->length - n_queries + (int32_t)(i % n_queries);
    }
    for (int32_t i = 0; i < s->n_texts; i++) {
        spans[i] = (pr_span){(uint32_t)(i * n_queries), (uint32_t)n_queries,
                             (uint32_t)(i * s->length), (uint32_t)s->length};
    }
    const pr_attention a = {.q = qkv,
                            .ldq = ld,
                            .k = qkv + q_dim,
                            .ldk = ld,
                            .v = qkv + q_dim + kv_dim,
                            .ldv = ld,
                            .query_positions = positions,
                            .key_rows = key_rows,
                            .spans = spans,
                            .n_spans = s->n_texts,
                            .n_heads = s->n_heads,
                            .n_kv_heads = s->n_kv_heads,
                            .head_dim = s->head_dim,
                            .scale = 1.0f / sqrtf((float)s->head_dim),
                            .causal = s->causal,
                            .out = out,
                            .ldout = q_dim};
    const double t = seconds_per_pass(kernels, &a, seconds);
    printf("%-7s %-30s %9.1f us %7.1f G/s", kernels->name, s->name, t * 1e6,
           operations(s) / t * 1e-9);
    if (peak > 0.0) printf(" %4.0f %%", 100.0 * operations(s) / t * 1e-9 / peak);
    printf("\n");
    free(qkv);
    free(out);
    free(positions);
    free(key_rows);
    free(spans);
}

int main(int argc, char **argv)
{
    const double seconds = argc > 1 ? atof(argv[1]) : 0.3;
#if POOLRANK_X86
    const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool has_avx512 =
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    const double peak2 = has_avx2 ? peak_avx2() : 0.0, peak5 = has_avx512 ? peak_avx512() : 0.0;
    printf("peak: avx2 %.1f G/s, avx512 %.1f G/s\n", peak2, peak5);
#endif
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (argc > 2 && !strstr(shapes[i].name, argv[2])) continue;
        bench(&pr_cpu_attention_c, 0.0, &shapes[i], seconds);
#if POOLRANK_X86
        if (has_avx2) bench(&pr_cpu_attention_avx2, peak2, &shapes[i], seconds);
        if (has_avx512) bench(&pr_cpu_attention_avx512, peak5, &shapes[i], seconds);
#endif
    }
    return 0;
}
