/* test_attention.cpp: segmented flash attention against the formula in f64. */
#include "tests/simcuda/attention_case.h"

static const pr_sim_config forward = {90, PR_SIM_FORWARD, PR_SIM_DEFERRED, 1};

static void require(const pr_sim_config *config, const attention_case *t, int stride)
{
    const char *wrong = attention_run(config, t, stride);
    if (wrong) fail_msg("%s", wrong);
}

/* head size, heads, KV heads, causal, window, segments, lengths, parents, dtype, f32 out */
static const pr_dtype BF16 = PR_DTYPE_BF16, F16 = PR_DTYPE_F16;

static void every_head_size_agrees_with_the_formula(void **)
{
    static const int dims[] = {32, 64, 80, 96, 128, 256};
    for (int i = 0; i < 6; i++) {
        attention_case t = {dims[i], 2, 1, i % 2 == 0, 0, 3, {1, 65, 17}, {-1, -1, -1}, BF16, false};
        require(&forward, &t, 3);
        t.dtype = F16;
        t.is_causal = !t.is_causal;
        t.out_is_f32 = true;
        if (!CHECK_IS_QUICK) require(&forward, &t, 3);
    }
}

static void every_architecture_has_a_tile_that_fits(void **)
{
    static const int archs[] = {80, 90, 100, 120}, dims[] = {32, 64, 80, 96, 128, 256};
    static const int limits[] = {163, 227, 227, 99};
    for (int i = 0; i < 4; i++) {
        for (int dim : dims) {
            const size_t n_bytes = pr_cuda_attention_shared_bytes(archs[i], dim);
            assert_true(n_bytes > 0 && n_bytes + 128 <= (size_t)limits[i] * 1024);
            const attention_case t = {dim, 1, 1, true, 0, 1, {33}, {-1}, BF16, false};
            pr_sim_config config = forward;
            config.arch = archs[i];
            if (dim >= 128 && archs[i] != 90) require(&config, &t, 7);
        }
    }
    assert_int_equal(pr_cuda_attention_tile_keys(90, 48), 0);
    assert_int_equal(pr_cuda_attention_tile_keys(70, 64), 0);
}

static void lengths_around_a_tile_are_right(void **)
{
    static const int lengths[] = {1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129};
    for (int length : lengths) {
        attention_case t = {32, 1, 1, length % 2 == 1, 0, 1, {length}, {-1}, BF16, false};
        require(&forward, &t, 5);
    }
}

static void heads_share_keys_as_gqa_says(void **)
{
    attention_case t = {64, 6, 2, true, 0, 2, {5, 30}, {-1, -1}, BF16, false};
    require(&forward, &t, 1);
    t = {32, 70, 1, true, 0, 1, {2}, {-1}, F16, false}; /* more heads than a tile has rows */
    require(&forward, &t, 3);
}

static void a_window_hides_what_is_older(void **)
{
    static const int windows[] = {1, 16, 64, 65, 500};
    for (int window : windows) {
        attention_case t = {32, 2, 2, true, window, 2, {140, 9}, {-1, -1}, BF16, false};
        require(&forward, &t, 3);
    }
    attention_case t = {32, 1, 1, false, 4, 1, {70}, {-1}, BF16, false}; /* only with causal */
    require(&forward, &t, 1);
}

static void segments_see_their_parents(void **)
{
    attention_case t = {64, 2, 1, true, 0, 5, {70, 10, 1, 33, 2}, {-1, 0, 0, 1, 3}, BF16, false};
    require(&forward, &t, 1);
    t.window = 24;
    require(&forward, &t, 1);
    t.window = 0;
    t.is_causal = false;
    require(&forward, &t, 1);
}

static void a_thousand_tokens_are_right(void **)
{
    if (CHECK_IS_QUICK) skip();
    const attention_case t = {64, 1, 1, true, 0, 1, {1000}, {-1}, BF16, false};
    require(&forward, &t, 13);
}

static void every_order_and_copy_mode_is_right(void **)
{
    pr_sim_config modes[9];
    const int n_modes = check_modes(modes, CHECK_IS_QUICK);
    static const int dims[] = {64, 32, 80, 128, 256, 96, 32, 64, 128};
    for (int m = 0; m < n_modes; m++) {
        attention_case t = {CHECK_IS_QUICK ? dims[m % 2] : dims[m], 2, 1, m % 2 == 0, 0, 2, {30, 45},
                            {-1, 0}, m % 3 ? BF16 : F16, false};
        t.lengths[1] = 100 / (1 + (t.head_dim > 128)); /* at most 3 tiles of keys */
        require(&modes[m], &t, 7);
    }
}

/* The bits of a row, alone and among others: what batch invariance asks of this kernel. */
static void a_row_does_not_depend_on_its_neighbours(void **)
{
    static attention_problem p;
    uint16_t rows[2][64];
    for (int turn = 0; turn < 2; turn++) {
        check c;
        check_begin(&c, &forward, 33);
        const attention_case t = {64, 1, 1, true, 20, 1, {90}, {-1}, BF16, false};
        attention_make(&c, &t, &p);
        const pr_cuda_tile all = {0, 0, 64, 0, 90}, one = {63, 0, 1, 0, 90};
        p.a.tiles = check_device(&c, turn ? &one : &all, 1);
        p.a.n_tiles = 1;
        assert_int_equal(pr_cuda_attention_launch(&p.a, 90, c.stream), cudaSuccess);
        check_sync(&c);
        cudaMemcpy(rows[turn], (const uint16_t *)p.a.out + 63 * p.a.ldout, sizeof rows[turn],
                   cudaMemcpyDeviceToHost);
        check_end(&c);
    }
    assert_memory_equal(rows[0], rows[1], sizeof rows[0]);
}

static void what_no_kernel_takes_is_refused(void **)
{
    check c;
    check_begin(&c, &forward, 21);
    pr_cuda_attention a = {};
    assert_int_equal(pr_cuda_attention_launch(&a, 90, c.stream), cudaSuccess); /* no tile */
    a.n_tiles = a.n_heads = a.n_kv_heads = 1;
    a.head_dim = 48;
    assert_int_equal(pr_cuda_attention_launch(&a, 90, c.stream), cudaErrorNotSupported);
    a.head_dim = 64;
    a.ldq = 4;
    assert_int_equal(pr_cuda_attention_launch(&a, 90, c.stream), cudaErrorInvalidValue);
    a.ldq = 64;
    a.dtype = PR_DTYPE_F32;
    assert_int_equal(pr_cuda_attention_launch(&a, 90, c.stream), cudaErrorInvalidValue);
    check_end(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_head_size_agrees_with_the_formula),
        cmocka_unit_test(every_architecture_has_a_tile_that_fits),
        cmocka_unit_test(lengths_around_a_tile_are_right),
        cmocka_unit_test(heads_share_keys_as_gqa_says),
        cmocka_unit_test(a_window_hides_what_is_older),
        cmocka_unit_test(segments_see_their_parents),
        cmocka_unit_test(a_thousand_tokens_are_right),
        cmocka_unit_test(every_order_and_copy_mode_is_right),
        cmocka_unit_test(a_row_does_not_depend_on_its_neighbours),
        cmocka_unit_test(what_no_kernel_takes_is_refused),
    };
    return cmocka_run_group_tests_name("attention", tests, NULL, NULL);
}
