/* test_attention.cpp: segmented flash attention against the formula in f64. */
#include "tests/simcuda/attention_case.h"

static const pr_sim_config forward = {90, PR_SIM_FORWARD, PR_SIM_DEFERRED, 1};

static void require(const pr_sim_config *config, const attention_case *t, int stride)
{
    const char *wrong = attention_run(config, t, stride);
    if (wrong) fail_msg("%s", wrong);
}

/* head size, heads, KV heads, causal, window, segments, lengths, parents, dtype, f32 out, slack */
static const pr_dtype F32 = PR_DTYPE_F32, BF16 = PR_DTYPE_BF16, F16 = PR_DTYPE_F16;

/* The compiled sizes, and some between them: multiples of 16 bytes, and others. */
static void every_head_size_agrees_with_the_formula(void **)
{
    static const int dims[] = {32, 64, 80, 96, 128, 256, 8,   10, 16,
                               24, 40, 48, 72, 100, 192, 255, 1};
    int i = 0;
    for (int dim : dims) {
        attention_case t = {dim, 2, 1, i % 2 == 0, 0, 3, {1, 65, 17}, {-1, -1, -1}, BF16, false, 0};
        t.dtype = i % 2 ? F16 : BF16;
        t.out_is_f32 = i % 3 == 0;
        require(&forward, &t, 3);
        t.is_causal = !t.is_causal;
        t.dtype = F32;
        t.out_is_f32 = false;
        require(&forward, &t, 3);
        t.dtype = i % 2 ? BF16 : F16;
        t.out_is_f32 = i % 3 != 0;
        if (!CHECK_IS_QUICK) require(&forward, &t, 3);
        i++;
    }
}

/* A head size that is a multiple of 16 bytes in rows that are not. */
static void rows_of_any_alignment_are_read(void **)
{
    attention_case t = {64, 2, 2, true, 0, 2, {3, 70}, {-1, -1}, BF16, false, 3};
    require(&forward, &t, 3);
    t.dtype = F32;
    require(&forward, &t, 3);
    t.slack = 8;
    require(&forward, &t, 3);
    t.dtype = F16;
    require(&forward, &t, 3);
}

static void every_architecture_has_a_tile_that_fits(void **)
{
    static const int archs[] = {80, 90, 100, 120}, dims[] = {32, 64, 80, 96, 128, 256};
    static const int limits[] = {163, 227, 227, 99};
    static const pr_dtype dtypes[] = {BF16, F32};
    for (int i = 0; i < 4; i++) {
        for (int dim : dims) {
            for (pr_dtype dtype : dtypes) {
                const size_t n_bytes = pr_cuda_attention_shared_bytes(archs[i], dtype, dim);
                assert_true(n_bytes > 0 && n_bytes + 128 <= (size_t)limits[i] * 1024);
                const attention_case t = {dim, 1, 1, true, 0, 1, {33}, {-1}, dtype, false, 0};
                pr_sim_config config = forward;
                config.arch = archs[i];
                if (dim >= 128 && archs[i] != 90) require(&config, &t, 7);
            }
        }
    }
    assert_int_equal(pr_cuda_attention_tile_keys(90, BF16, 257), 0);
    assert_int_equal(pr_cuda_attention_tile_keys(70, BF16, 64), 0);
    assert_int_equal(pr_cuda_attention_tile_keys(90, BF16, 48), 64);
    assert_int_equal(pr_cuda_attention_tile_keys(86, BF16, 256), 16);
    assert_int_equal(pr_cuda_attention_tile_keys(103, BF16, 256), 32);
}

static void lengths_around_a_tile_are_right(void **)
{
    static const int lengths[] = {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129};
    for (int length : lengths) {
        attention_case t = {32, 1, 1, length % 2 == 1, 0, 1, {length}, {-1}, BF16, false, 0};
        require(&forward, &t, 5);
        t.dtype = F32;
        require(&forward, &t, 5);
    }
}

static void heads_share_keys_as_gqa_says(void **)
{
    attention_case t = {64, 6, 2, true, 0, 2, {5, 30}, {-1, -1}, BF16, false, 0};
    require(&forward, &t, 1);
    t.dtype = F32;
    require(&forward, &t, 1);
    t = {32, 70, 1, true, 0, 1, {2}, {-1}, F16, false, 0}; /* more heads than a tile has rows */
    require(&forward, &t, 3);
    t.dtype = F32;
    require(&forward, &t, 3);
}

static void a_window_hides_what_is_older(void **)
{
    static const int windows[] = {1, 16, 64, 65, 500};
    for (int window : windows) {
        attention_case t = {32, 2, 2, true, window, 2, {140, 9}, {-1, -1}, BF16, false, 0};
        require(&forward, &t, 3);
        t.dtype = F32;
        require(&forward, &t, 3);
    }
    attention_case t = {32, 1, 1, false, 4, 1, {70}, {-1}, BF16, false, 0}; /* only with causal */
    require(&forward, &t, 1);
    t.dtype = F32;
    require(&forward, &t, 1);
}

static void segments_see_their_parents(void **)
{
    attention_case t = {64, 2, 1, true, 0, 5, {70, 10, 1, 33, 2}, {-1, 0, 0, 1, 3}, BF16, false, 0};
    for (int i = 0; i < 2; i++) {
        t.is_causal = true;
        t.window = 0;
        require(&forward, &t, 1);
        t.window = 24;
        require(&forward, &t, 1);
        t.window = 0;
        t.is_causal = false;
        require(&forward, &t, 1);
        t.dtype = F32;
    }
}

static void a_thousand_tokens_are_right(void **)
{
    if (CHECK_IS_QUICK) skip();
    attention_case t = {64, 1, 1, true, 0, 1, {1000}, {-1}, BF16, false, 0};
    require(&forward, &t, 13);
    t.dtype = F32;
    require(&forward, &t, 13);
}

/* Dtypes, head sizes, aligned and not, against the modes. */
static void every_order_and_copy_mode_is_right(void **)
{
    pr_sim_config modes[9];
    const int n_modes = check_modes(modes, CHECK_IS_QUICK);
    static const int dims[] = {64, 32, 80, 128, 256, 96, 40, 64, 128};
    for (int m = 0; m < n_modes; m++) {
        attention_case t = {CHECK_IS_QUICK ? dims[m % 2] : dims[m], 2, 1, m % 2 == 0, 0, 2,
                            {30, 45}, {-1, 0}, m % 3 ? BF16 : F16, false, m == 1 ? 1 : 0};
        t.lengths[1] = 100 / (1 + (t.head_dim > 128)); /* at most 3 tiles of keys */
        require(&modes[m], &t, 7);
        t.dtype = F32;
        t.slack = m == 2 ? 1 : 0;
        t.lengths[1] = t.head_dim > 128 ? 18 : 60;
        require(&modes[m], &t, 7);
    }
}

/* Bytes of row 89, its tile being 64 rows or this one alone. Its window, keys 20 .. 89, begins in
 * the middle of a tile of keys and goes over a border. */
static void row_bytes(pr_dtype dtype, bool is_alone, unsigned char *out, size_t n_bytes)
{
    static attention_problem p;
    check c;
    check_begin(&c, &forward, 33);
    const attention_case t = {64, 1, 1, true, 70, 1, {90}, {-1}, dtype, false, 0};
    attention_make(&c, &t, &p);
    const pr_cuda_tile all = {0, 26, 64, 0, 90}, one = {89, 0, 1, 0, 90};
    p.a.tiles = check_device(&c, is_alone ? &one : &all, 1);
    p.a.n_tiles = 1;
    assert_int_equal(pr_cuda_attention_launch(&p.a, device_arch(&forward), c.stream), cudaSuccess);
    check_sync(&c);
    cudaMemcpy(out, (const unsigned char *)p.a.out + 89 * p.a.ldout * (int64_t)check_bytes(dtype),
               n_bytes, cudaMemcpyDeviceToHost);
    check_end(&c);
}

/* The bits of a row, alone and among others: what batch invariance asks of this kernel. */
static void a_row_does_not_depend_on_its_neighbours(void **)
{
    static const pr_dtype dtypes[] = {BF16, F32};
    for (pr_dtype dtype : dtypes) {
        unsigned char rows[2][256];
        const size_t n_bytes = 64 * check_bytes(dtype);
        row_bytes(dtype, false, rows[0], n_bytes);
        row_bytes(dtype, true, rows[1], n_bytes);
        assert_memory_equal(rows[0], rows[1], n_bytes);
    }
}

/* Rows of q, k, v and out lie more than 2^31 elements apart. */
static void rows_far_apart_are_right(void **)
{
    const int64_t ld = ((int64_t)1 << 31) + 64;
    const size_t n_bytes = (size_t)(ld + 64) * 2;
    unsigned char *const qkv = (unsigned char *)device_sparse(n_bytes);
    unsigned char *const out = (unsigned char *)device_sparse(n_bytes);
    if (qkv && out) {
        static attention_problem p;
        check c;
        check_begin(&c, &forward, 3);
        const attention_case t = {16, 1, 1, true, 0, 1, {2}, {-1}, BF16, false, 0};
        attention_make(&c, &t, &p);
        uint16_t near_rows[2][16], far_row[16];
        assert_int_equal(pr_cuda_attention_launch(&p.a, device_arch(&forward), c.stream), 0);
        check_sync(&c);
        cudaMemcpy(near_rows, p.a.out, sizeof near_rows, cudaMemcpyDeviceToHost);
        device_sparse_put(qkv, p.qkv, 48 * 2);
        device_sparse_put(qkv + ld * 2, (const unsigned char *)p.qkv + 48 * 2, 48 * 2);
        p.a.q = qkv;
        p.a.k = qkv + 32;
        p.a.v = qkv + 64;
        p.a.out = out;
        p.a.ldq = p.a.ldk = p.a.ldv = p.a.ldout = ld;
        assert_int_equal(pr_cuda_attention_launch(&p.a, device_arch(&forward), c.stream), 0);
        check_sync(&c);
        device_sparse_get(far_row, out + ld * 2, sizeof far_row);
        assert_memory_equal(far_row, near_rows[1], sizeof far_row);
        check_end(&c);
    }
    if (qkv) device_sparse_free(qkv, n_bytes);
    if (out) device_sparse_free(out, n_bytes);
}

static void what_no_kernel_takes_is_refused(void **)
{
    check c;
    check_begin(&c, &forward, 21);
    pr_cuda_attention a = {};
    assert_int_equal(pr_cuda_attention_launch(&a, 90, c.stream), cudaSuccess); /* no tile */
    a.n_tiles = a.n_heads = a.n_kv_heads = 1;
    a.head_dim = 257;
    a.dtype = BF16;
    assert_int_equal(pr_cuda_attention_launch(&a, 90, c.stream), cudaErrorNotSupported);
    a.head_dim = 64;
    assert_int_equal(pr_cuda_attention_launch(&a, 75, c.stream), cudaErrorNotSupported);
    a.n_kv_heads = 2;
    assert_int_equal(pr_cuda_attention_launch(&a, 90, c.stream), cudaErrorInvalidValue);
    a.n_heads = a.n_kv_heads = 65536;
    assert_int_equal(pr_cuda_attention_launch(&a, 90, c.stream), cudaErrorInvalidValue);
    a.n_heads = a.n_kv_heads = 1;
    a.n_tiles = (int64_t)1 << 31;
    assert_int_equal(pr_cuda_attention_launch(&a, 90, c.stream), cudaErrorInvalidValue);
    check_end(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_head_size_agrees_with_the_formula),
        cmocka_unit_test(rows_of_any_alignment_are_read),
        cmocka_unit_test(every_architecture_has_a_tile_that_fits),
        cmocka_unit_test(lengths_around_a_tile_are_right),
        cmocka_unit_test(heads_share_keys_as_gqa_says),
        cmocka_unit_test(a_window_hides_what_is_older),
        cmocka_unit_test(segments_see_their_parents),
        cmocka_unit_test(a_thousand_tokens_are_right),
        cmocka_unit_test(every_order_and_copy_mode_is_right),
        cmocka_unit_test(a_row_does_not_depend_on_its_neighbours),
        cmocka_unit_test(rows_far_apart_are_right),
        cmocka_unit_test(what_no_kernel_takes_is_refused),
    };
    return cmocka_run_group_tests_name("attention", tests, NULL, NULL);
}
