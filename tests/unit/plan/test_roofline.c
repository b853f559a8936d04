/* Work, traffic and time of a forward pass against numbers worked out by hand. */
#include "runtime/plan/roofline.h"
#include "model_72b.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const pr_workload batch = {.n_tokens = 4096, .n_text_tokens = 4096, .dtype = PR_DTYPE_BF16};

static pr_load load_of(const pr_model_spec *spec, pr_parallel p, pr_workload workload)
{
    pr_shard shard;
    pr_load load = {0};
    assert_int_equal(pr_shard_plan(spec, &p, &shard, NULL), PR_OK);
    assert_int_equal(pr_load_build(spec, &p, &shard, &workload, &load, NULL), PR_OK);
    return load;
}

static void assert_near(double found, double expected)
{
    if (fabs(found - expected) > 1e-9 * fabs(expected)) {
        fail_msg("found %.17g, expected %.17g", found, expected);
    }
}

/* Matrices of a layer: Q and O 8192 x 8192, K and V 1024 x 8192, three of 29568 x 8192. */
static const double layer_matrices = 2.0 * 8192 * 8192 + 2.0 * 1024 * 8192 + 3.0 * 29568 * 8192;

static void work_is_two_operations_for_each_weight_and_token(void **state)
{
    (void)state;
    for (int tp_size = 1; tp_size <= 8; tp_size *= 2) {
        double matrices = 0, attention = 0, head = 0;
        for (int rank = 0; rank < tp_size; rank++) {
            pr_load l = load_of(&rm_72b, (pr_parallel){rank, tp_size, 0, 1}, batch);
            assert_near(l.matrix_flops, 2.0 * 4096 * 80 * layer_matrices / tp_size);
            matrices += l.matrix_flops;
            attention += l.attention_flops;
            head += l.head_flops;
        }
        assert_near(matrices, 2.0 * 4096 * 80 * layer_matrices);
        /* q k^T and p v: 2 operations each, 128 a head and key, on average 2048.5 keys */
        assert_near(attention, 4096 * 80.0 * 4 * 128 * 64 * 2048.5);
        assert_near(head, 2.0 * 4096 * (8192.0 * 8192 + 8192)); /* score.0, score.2 */
    }
}

static void work_of_stages_adds_up_and_the_head_is_the_pooling_ranks(void **state)
{
    (void)state;
    pr_load all = load_of(&rm_72b, (pr_parallel){0, 8, 0, 1}, batch);
    pr_load first = load_of(&rm_72b, (pr_parallel){0, 8, 0, 2}, batch);
    pr_load last = load_of(&rm_72b, (pr_parallel){0, 8, 1, 2}, batch);
    pr_load beside = load_of(&rm_72b, (pr_parallel){1, 8, 1, 2}, batch);
    assert_near(first.matrix_flops + last.matrix_flops, all.matrix_flops);
    assert_near(first.attention_flops + last.attention_flops, all.attention_flops);
    assert_true(first.head_flops == 0);
    assert_true(beside.head_flops == 0);
    assert_near(last.head_flops, all.head_flops);
}

typedef struct keys_case {
    bool causal;
    int32_t window;
    uint32_t n_text;
    double keys; /* seen by a query, on average */
} keys_case;

static void attention_counts_the_keys_that_a_query_sees(void **state)
{
    (void)state;
    static const keys_case cases[] = {
        {false, 0, 100, 100},
        {true, 0, 1, 1},
        {true, 0, 4, 2.5},        /* (1 + 2 + 3 + 4) / 4 */
        {true, 2, 4, 1.75},       /* (1 + 2 + 2 + 2) / 4 */
        {true, 4, 4, 2.5},
        {true, 4096, 1000, 500.5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_model_spec spec = rm_72b;
        spec.causal = cases[i].causal;
        for (int k = 0; k < spec.n_layers; k++) spec.window[k] = cases[i].window;
        pr_workload w = {.n_tokens = 10, .n_text_tokens = cases[i].n_text, .dtype = PR_DTYPE_BF16};
        pr_load l = load_of(&spec, (pr_parallel){0, 1, 0, 1}, w);
        assert_near(l.attention_flops, 10 * 80 * 4.0 * 64 * 128 * cases[i].keys);
    }
}

/* One token: every weight of the layers and the head once, and little else. */
static void memory_is_read_once_a_batch_and_the_mlp_once_for_each_run_of_rows(void **state)
{
    (void)state;
    pr_workload one = batch, run = batch, two = batch;
    one.n_tokens = 1;
    run.n_tokens = 2048;
    two.n_tokens = 2049;
    pr_parallel p = {0, 1, 0, 1};
    double weights = 2 * (71527620609.0 - 152064.0 * 8192); /* rows of the table are copied */
    /* 4 rows of the residual stream in f32; 8 of hidden states, QKV twice, Q and K twice for RoPE,
     * attention's output twice, and gate, up and their product 6 times in bf16 */
    double token = 80 * (4.0 * 4 * 8192 + 2 * (8.0 * 8192 + 2 * (8192 + 2048) +
                                               2 * (8192 + 1024) + 2 * 8192 + 6.0 * 29568));
    assert_near(load_of(&rm_72b, p, one).memory_bytes, weights + token);
    assert_near(load_of(&rm_72b, p, run).memory_bytes, weights + 2048 * token);
    assert_near(load_of(&rm_72b, p, two).memory_bytes,
                weights + 2 * 80 * 3.0 * 29568 * 8192 + 2049 * token);
}

static void traffic_is_two_sums_a_layer_and_one_of_the_vocabulary(void **state)
{
    (void)state;
    pr_traffic t = pr_traffic_of(&rm_72b, 8, 2, PR_DTYPE_BF16);
    assert_int_equal(t.vector_bytes, 16384);
    assert_int_equal(t.layer_bytes, 32768);
    assert_int_equal(t.vocabulary_bytes, 32768); /* f32, as what goes to the next stage */
    assert_int_equal(t.token_bytes, 80 * 32768 + 32768);
    assert_int_equal(t.stage_bytes, 32768);
    assert_near(t.ring_layer_bytes, 57344); /* 2 * 7 / 8 of 32768 */
    assert_near(t.ordered_layer_bytes, 57344);
    assert_near(t.ring_token_bytes, 2 * 7.0 / 8 * (80 * 32768 + 32768));
    assert_int_equal(t.ring_steps, 14);
    assert_int_equal(t.ordered_steps, 2);
    assert_int_equal(pr_traffic_of(&rm_72b, 2, 1, PR_DTYPE_F32).layer_bytes, 65536);
    t = pr_traffic_of(&rm_72b, 1, 1, PR_DTYPE_BF16);
    assert_true(t.layer_bytes == 0 && t.token_bytes == 0 && t.stage_bytes == 0);
    assert_true(t.ring_token_bytes == 0 && t.ordered_token_bytes == 0);
}

static void links_carry_sums_and_what_goes_to_the_next_stage(void **state)
{
    (void)state;
    double sums = 40 * 57344.0, vocabulary = 2 * 7.0 / 8 * 32768;
    pr_load first = load_of(&rm_72b, (pr_parallel){3, 8, 0, 2}, batch);
    pr_load last = load_of(&rm_72b, (pr_parallel){3, 8, 1, 2}, batch);
    assert_near(first.link_bytes, 4096 * (sums + vocabulary + 32768));
    assert_near(last.link_bytes, 4096 * sums);
    assert_true(load_of(&rm_72b, (pr_parallel){0, 1, 0, 1}, batch).link_bytes == 0);
}

static const pr_device device = {.name = "test", .memory_bytes = 1, .memory_bytes_per_s = 10,
                                 .dense_flops_16_bit = 100, .flops_f32 = 5,
                                 .link_bytes_per_s = 40};

static void time_is_the_longer_of_computing_and_reading_then_links_then_the_head(void **state)
{
    (void)state;
    static const struct {
        pr_load load;
        pr_dtype dtype;
        double total;
        pr_bound bound;
    } cases[] = {
        {{200, 100, 5, 20, 20}, PR_DTYPE_BF16, 3 + 1 + 1, PR_BOUND_COMPUTE},
        {{200, 100, 5, 50, 20}, PR_DTYPE_BF16, 5 + 1 + 1, PR_BOUND_MEMORY},
        {{200, 100, 5, 20, 80}, PR_DTYPE_BF16, 3 + 4 + 1, PR_BOUND_LINK}, /* 20 a direction */
        {{200, 100, 40, 20, 80}, PR_DTYPE_BF16, 3 + 4 + 8, PR_BOUND_HEAD},
        {{200, 100, 5, 20, 20}, PR_DTYPE_F32, 60 + 1 + 1, PR_BOUND_COMPUTE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_roofline r = pr_roofline_of(&cases[i].load, &device, cases[i].dtype);
        assert_near(r.total_s, cases[i].total);
        assert_int_equal(r.bound, cases[i].bound);
    }
    assert_string_equal(pr_bound_name(PR_BOUND_LINK), "link");
}

static void devices_have_every_figure_and_its_source(void **state)
{
    (void)state;
    static const uint64_t needed[] = {80, 96, 141, 192};
    uint64_t before = 0;
    size_t n = 0;
    for (const pr_device *d; (d = pr_device_at(n)) != NULL; n++) {
        assert_true(d->memory_bytes >= before);
        assert_true(d->memory_bytes_per_s > 1e12 && d->memory_bytes_per_s < 1e14);
        assert_true(d->dense_flops_16_bit > 1e14 && d->dense_flops_16_bit < 1e16);
        assert_true(d->flops_f32 > 1e13 && d->flops_f32 < d->dense_flops_16_bit);
        assert_true(d->link_bytes_per_s > 1e11 && d->link_bytes_per_s < d->memory_bytes_per_s);
        assert_non_null(strstr(d->source, "NVIDIA"));
        before = d->memory_bytes;
    }
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        bool is_there = false;
        for (size_t k = 0; k < n; k++) {
            is_there |= pr_device_at(k)->memory_bytes == needed[i] * 1000000000;
        }
        assert_true(is_there);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(work_is_two_operations_for_each_weight_and_token),
        cmocka_unit_test(work_of_stages_adds_up_and_the_head_is_the_pooling_ranks),
        cmocka_unit_test(attention_counts_the_keys_that_a_query_sees),
        cmocka_unit_test(memory_is_read_once_a_batch_and_the_mlp_once_for_each_run_of_rows),
        cmocka_unit_test(traffic_is_two_sums_a_layer_and_one_of_the_vocabulary),
        cmocka_unit_test(links_carry_sums_and_what_goes_to_the_next_stage),
        cmocka_unit_test(time_is_the_longer_of_computing_and_reading_then_links_then_the_head),
        cmocka_unit_test(devices_have_every_figure_and_its_source),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
