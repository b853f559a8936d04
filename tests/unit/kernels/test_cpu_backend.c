/* The CPU backend behind the pr_backend interface: choice of instruction set, tables, memory, and
 * that cutting a call over threads changes no bit of any operation. */
#include "kernels/cpu/cpu_backend.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_ROWS = 150, DIM = 200, N_HEADS = 4, N_KV_HEADS = 2, HEAD_DIM = 50, KV_DIM = 100 };

static pr_backend *backend_of(pr_cpu_isa isa, int n_threads)
{
    pr_backend *b = NULL;
    pr_cpu_options options = {.n_threads = n_threads, .isa = isa};
    assert_int_equal(pr_cpu_backend_create(&options, &b, NULL), PR_OK);
    return b;
}

static void fill(float *p, size_t n, uint32_t seed)
{
    uint32_t state = seed * 2654435761U + 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525U + 1013904223U;
        p[i] = (float)(int32_t)state * 0x1p-31F;
    }
}

static void isa_names_are_parsed_and_printed(void **state)
{
    (void)state;
    for (int i = 0; i < PR_CPU_ISA_COUNT; i++) {
        pr_cpu_isa isa = PR_CPU_ISA_COUNT;
        assert_true(pr_cpu_isa_parse(pr_cpu_isa_name((pr_cpu_isa)i), &isa));
        assert_int_equal(isa, i);
    }
    pr_cpu_isa isa = PR_CPU_ISA_C;
    assert_false(pr_cpu_isa_parse("AVX2", &isa));
    assert_false(pr_cpu_isa_parse("", &isa));
    assert_int_equal(isa, PR_CPU_ISA_C);
    assert_true(pr_cpu_isa_available(PR_CPU_ISA_AUTO));
    assert_true(pr_cpu_isa_available(PR_CPU_ISA_C));
}

static void backend_describes_itself(void **state)
{
    (void)state;
    pr_backend *b = backend_of(PR_CPU_ISA_C, 1);
    assert_string_equal(b->name, "cpu");
    assert_string_equal(b->description, "plain C, 1 thread");
    assert_true(b->is_batch_invariant);
    b->ops->close(b);
    b = backend_of(PR_CPU_ISA_C, 3);
    assert_string_equal(b->description, "plain C, 3 threads");
    b->ops->close(b);
}

static void backend_refuses_what_it_cannot_be(void **state)
{
    (void)state;
    static const int n_threads[] = {0, -1, 1 << 20};
    for (size_t i = 0; i < sizeof n_threads / sizeof *n_threads; i++) {
        pr_backend *b = NULL;
        pr_error err = {0};
        pr_cpu_options options = {.n_threads = n_threads[i], .isa = PR_CPU_ISA_AUTO};
        assert_int_equal(pr_cpu_backend_create(&options, &b, &err), PR_E_ARGUMENT);
        assert_null(b);
    }
    for (int isa = PR_CPU_ISA_C; isa < PR_CPU_ISA_COUNT; isa++) {
        if (pr_cpu_isa_available((pr_cpu_isa)isa)) continue;
        pr_backend *b = NULL;
        pr_error err = {0};
        pr_cpu_options options = {.n_threads = 1, .isa = (pr_cpu_isa)isa};
        assert_int_equal(pr_cpu_backend_create(&options, &b, &err), PR_E_UNSUPPORTED);
        assert_null(b);
    }
}

static void every_slot_is_filled(void **state)
{
    (void)state;
    pr_backend *b = backend_of(PR_CPU_ISA_AUTO, 1);
    void *slots[sizeof *b->ops / sizeof(void *)];
    memcpy(slots, b->ops, sizeof slots);
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) assert_non_null(slots[i]);
    b->ops->close(b);
}

static void memory_is_aligned_and_copied(void **state)
{
    (void)state;
    pr_backend *b = backend_of(PR_CPU_ISA_AUTO, 1);
    static const size_t sizes[] = {0, 1, 63, 4096, 5 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        void *p = NULL;
        assert_int_equal(b->ops->alloc(b, sizes[i], &p, NULL), PR_OK);
        assert_int_equal((uintptr_t)p % 64, 0);
        memset(p, 7, sizes[i]);
        b->ops->free(b, p);
    }
    b->ops->free(b, NULL);
    void *p = NULL;
    char back[6] = "";
    assert_int_equal(b->ops->alloc(b, 6, &p, NULL), PR_OK);
    assert_int_equal(b->ops->upload(b, p, "there", 6, NULL), PR_OK);
    assert_int_equal(b->ops->sync(b, NULL), PR_OK);
    assert_int_equal(b->ops->download(b, back, p, 6, NULL), PR_OK);
    assert_string_equal(back, "there");
    b->ops->free(b, p);
    b->ops->close(b);
}

/* A table [n_rows, DIM] of what src holds, in src_dtype, stored as `stored`, written in two parts
 * from sources at odd addresses. */
static pr_table *table_of(pr_backend *b, const float *src, int64_t n_rows, pr_dtype src_dtype,
                          pr_dtype stored)
{
    pr_table *t = NULL;
    assert_int_equal(b->ops->table_create(b, n_rows, DIM, stored, &t, NULL), PR_OK);
    size_t row_bytes = DIM * pr_dtype_bytes(src_dtype);
    char *bytes = malloc((size_t)n_rows * row_bytes + 1);
    assert_non_null(bytes);
    char *odd = bytes + 1;
    pr_dtype_from_f32(src, src_dtype, (size_t)n_rows * DIM, odd);
    int64_t half = n_rows / 2;
    assert_int_equal(b->ops->table_write(b, t, half, n_rows - half, odd + (size_t)half * row_bytes,
                                         src_dtype, NULL),
                     PR_OK);
    assert_int_equal(b->ops->table_write(b, t, 0, half, odd, src_dtype, NULL), PR_OK);
    free(bytes);
    return t;
}

static void embed_reads_tables_of_every_dtype(void **state)
{
    (void)state;
    enum { N_TABLE_ROWS = 700 }; /* more than one chunk of a write */
    static float src[N_TABLE_ROWS * DIM];
    fill(src, N_TABLE_ROWS * DIM, 1);
    static const pr_dtype sources[] = {PR_DTYPE_F32, PR_DTYPE_F16, PR_DTYPE_BF16};
    for (int i = 0; i < 6; i++) {
        pr_dtype stored = i < 3 ? PR_DTYPE_F32 : PR_DTYPE_BF16;
        pr_backend *b = backend_of(PR_CPU_ISA_AUTO, 2);
        pr_table *t = table_of(b, src, N_TABLE_ROWS, sources[i % 3], stored);
        assert_int_equal(b->ops->table_bytes(t), N_TABLE_ROWS * DIM * pr_dtype_bytes(stored));
        int32_t tokens[] = {0, 699, 350, 349, 0};
        float y[5 * DIM];
        pr_embed a = {.token = t, .tokens = tokens, .n_rows = 5, .y = y, .ldy = DIM};
        assert_int_equal(b->ops->embed(b, &a, NULL), PR_OK);
        for (int j = 0; j < 5 * DIM; j++) {
            float expected = src[tokens[j / DIM] * DIM + j % DIM];
            uint16_t half;
            pr_dtype_from_f32(&expected, sources[i % 3], 1, i % 3 ? (void *)&half : &expected);
            if (i % 3) pr_dtype_to_f32(&half, sources[i % 3], 1, &expected);
            if (i >= 3) expected = pr_bf16_to_f32(pr_f32_to_bf16(expected));
            assert_true(y[j] == expected);
        }
        b->ops->table_free(b, t);
        b->ops->close(b);
    }
}

/* Everything that a forward pass calls, once, into one buffer. */
enum { N_OUT = N_ROWS * DIM * 4 };

typedef struct inputs {
    float x[N_ROWS * DIM];
    float kv[N_ROWS * KV_DIM];
    float weight[DIM];
    float cosine[N_ROWS * HEAD_DIM / 2];
    float sine[N_ROWS * HEAD_DIM / 2];
    int32_t positions[N_ROWS];
    uint32_t rows[N_ROWS];
} inputs;

static void make_inputs(inputs *in)
{
    fill(in->x, N_ROWS * DIM, 1);
    fill(in->kv, N_ROWS * KV_DIM, 2);
    fill(in->weight, DIM, 3);
    fill(in->cosine, N_ROWS * HEAD_DIM / 2, 4);
    fill(in->sine, N_ROWS * HEAD_DIM / 2, 5);
    for (int i = 0; i < N_ROWS; i++) {
        in->positions[i] = i < 100 ? i : i - 100; /* two spans: 100 and 50 rows */
        in->rows[i] = (uint32_t)i;
    }
}

static void run_attention(pr_backend *b, const inputs *in, float *out)
{
    static const pr_span spans[] = {{0, 100, 0, 100}, {100, 50, 100, 50}};
    pr_attention a = {.q = in->x,
                      .ldq = DIM,
                      .k = in->kv,
                      .ldk = KV_DIM,
                      .v = in->kv,
                      .ldv = KV_DIM,
                      .query_positions = in->positions,
                      .key_rows = in->rows,
                      .spans = spans,
                      .n_spans = 2,
                      .n_heads = N_HEADS,
                      .n_kv_heads = N_KV_HEADS,
                      .head_dim = HEAD_DIM,
                      .scale = 0.2F,
                      .causal = true,
                      .out = out,
                      .ldout = DIM};
    assert_int_equal(b->ops->attention(b, &a, NULL), PR_OK);
}

static void run_everything(pr_backend *b, const inputs *in, float *out)
{
    enum { SIZE = N_ROWS * DIM };
    memset(out, 0, N_OUT * sizeof *out);
    pr_norm_args norm = {.kind = PR_NORM_RMS, .x = in->x, .ldx = DIM, .weight = in->weight,
                         .eps = 1e-6F, .n_rows = N_ROWS, .dim = DIM, .y = out, .ldy = DIM};
    assert_int_equal(b->ops->norm(b, &norm, NULL), PR_OK);
    pr_rope rope = {.x = out, .ldx = DIM, .n_rows = N_ROWS, .n_heads = N_HEADS,
                    .head_dim = HEAD_DIM, .positions = in->positions, .cos = in->cosine,
                    .sin = in->sine};
    assert_int_equal(b->ops->rope(b, &rope, NULL), PR_OK);
    run_attention(b, in, out + SIZE);
    float *rows = out + 2 * SIZE;
    const pr_gather gather = {.x = in->x, .ldx = DIM, .rows = in->rows, .n_rows = N_ROWS,
                              .dim = DIM, .y = rows, .ldy = DIM};
    assert_int_equal(b->ops->gather(b, &gather, NULL), PR_OK);
    static const uint32_t offsets[] = {0, 1, 100, 150};
    float *means = out + 3 * SIZE;
    assert_int_equal(
        b->ops->mean_rows(b, in->x, DIM, in->rows, offsets, 3, DIM, means, DIM, NULL), PR_OK);
}

static void operations_give_the_same_bits_on_any_number_of_threads(void **state)
{
    (void)state;
    static inputs in;
    make_inputs(&in);
    float *alone = malloc(N_OUT * sizeof *alone);
    float *together = malloc(N_OUT * sizeof *together);
    assert_non_null(alone);
    assert_non_null(together);
    for (int isa = PR_CPU_ISA_C; isa < PR_CPU_ISA_COUNT; isa++) {
        if (!pr_cpu_isa_available((pr_cpu_isa)isa)) continue;
        pr_backend *b = backend_of((pr_cpu_isa)isa, 1);
        run_everything(b, &in, alone);
        b->ops->close(b);
        for (int n_threads = 2; n_threads <= 5; n_threads++) {
            b = backend_of((pr_cpu_isa)isa, n_threads);
            pr_backend_limits limits = {N_ROWS, N_ROWS, N_HEADS, N_KV_HEADS, HEAD_DIM};
            if (n_threads % 2) assert_int_equal(b->ops->reserve(b, &limits, NULL), PR_OK);
            run_everything(b, &in, together);
            assert_memory_equal(alone, together, N_OUT * sizeof *alone);
            b->ops->close(b);
        }
    }
    free(together);
    free(alone);
}

static void means_are_of_the_rows_named(void **state)
{
    (void)state;
    pr_backend *b = backend_of(PR_CPU_ISA_AUTO, 2);
    enum { WIDE = 300 };
    static float x[4 * WIDE];
    static float y[2 * WIDE];
    for (int i = 0; i < 4 * WIDE; i++) x[i] = (float)(i / WIDE) + (float)(i % WIDE);
    uint32_t rows[] = {3, 1, 2};
    uint32_t offsets[] = {0, 2, 3};
    assert_int_equal(b->ops->mean_rows(b, x, WIDE, rows, offsets, 2, WIDE, y, WIDE, NULL), PR_OK);
    for (int c = 0; c < WIDE; c++) {
        assert_true(y[c] == 2.0F + (float)c);
        assert_true(y[WIDE + c] == 2.0F + (float)c);
    }
    b->ops->close(b);
}

static void gemm_works_through_the_interface(void **state)
{
    (void)state;
    pr_backend *b = backend_of(PR_CPU_ISA_AUTO, 2);
    pr_matrix *w = NULL;
    float weights[] = {1, 2, 3, 4, 5, 6}; /* [3, 2] */
    float x[] = {1, 10, 0, 1};
    float bias[] = {0.5F, 0, -30};
    float y[6] = {1, 1, 1, 1, 1, 1};
    assert_int_equal(b->ops->matrix_create(b, PR_MATRIX_PLAIN, 3, 2, PR_DTYPE_F32, &w, NULL),
                     PR_OK);
    assert_int_equal(b->ops->matrix_write(b, w, 0, 3, weights, PR_DTYPE_F32, NULL), PR_OK);
    assert_true(b->ops->matrix_bytes(w) >= sizeof weights);
    pr_gemm a = {.w = w, .x = x, .ldx = 2, .n_rows = 2, .bias = bias,
                 .activation = PR_ACTIVATION_RELU, .y = y, .ldy = 3};
    assert_int_equal(b->ops->gemm(b, &a, NULL), PR_OK);
    static const float expected[] = {21.5F, 43, 35, 2.5F, 4, 0};
    for (int i = 0; i < 6; i++) assert_true(y[i] == expected[i]);
    b->ops->matrix_free(b, w);
    b->ops->matrix_free(b, NULL);
    b->ops->close(b);
}

/* Given sums over a long K of values that do not cancel, then the relative error is that of short
 * chains, about 2e-7; one chain over all of K gave 3.8e-6. */
static void a_long_sum_is_added_block_by_block(void **state)
{
    (void)state;
    enum { K = 14336, N = 16 };
    static float weights[N * K], x[K], y[N];
    uint64_t seed = 7;
    for (int i = 0; i < N * K; i++) {
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        weights[i] = (float)(seed >> 40) / (float)(1 << 24);
    }
    for (int i = 0; i < K; i++) x[i] = 0.5F + (float)(i * 37 % 101) / 101.0F;
    for (int isa = PR_CPU_ISA_C; isa < PR_CPU_ISA_COUNT; isa++) {
        if (!pr_cpu_isa_available((pr_cpu_isa)isa)) continue;
        pr_backend *b = backend_of((pr_cpu_isa)isa, 1);
        pr_matrix *w = NULL;
        assert_int_equal(b->ops->matrix_create(b, PR_MATRIX_PLAIN, N, K, PR_DTYPE_F32, &w, NULL),
                         PR_OK);
        assert_int_equal(b->ops->matrix_write(b, w, 0, N, weights, PR_DTYPE_F32, NULL), PR_OK);
        pr_gemm a = {.w = w, .x = x, .ldx = K, .n_rows = 1, .y = y, .ldy = N};
        assert_int_equal(b->ops->gemm(b, &a, NULL), PR_OK);
        double worst = 0;
        for (int j = 0; j < N; j++) {
            double exact = 0;
            for (int k = 0; k < K; k++) exact += (double)weights[j * K + k] * x[k];
            worst = fmax(worst, fabs(y[j] - exact) / exact);
        }
        assert_true(worst < 1e-6);
        b->ops->matrix_free(b, w);
        b->ops->close(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(isa_names_are_parsed_and_printed),
        cmocka_unit_test(backend_describes_itself),
        cmocka_unit_test(backend_refuses_what_it_cannot_be),
        cmocka_unit_test(every_slot_is_filled),
        cmocka_unit_test(memory_is_aligned_and_copied),
        cmocka_unit_test(embed_reads_tables_of_every_dtype),
        cmocka_unit_test(operations_give_the_same_bits_on_any_number_of_threads),
        cmocka_unit_test(means_are_of_the_rows_named),
        cmocka_unit_test(gemm_works_through_the_interface),
        cmocka_unit_test(a_long_sum_is_added_block_by_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
