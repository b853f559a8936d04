/* Bytes of a rank, from the shapes alone. */
#include "runtime/plan/memory_plan.h"
#include "model_72b.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

enum { N_MODEL_LAYERS = 80, RESERVED = 1 << 30, GEMM = 32 << 20 };
static const uint64_t n_72b = UINT64_C(71527620609);

static const pr_memory_limits cpu_f32 = {.n_tokens = 4096, .n_threads = 1,
                                         .dtype = PR_DTYPE_F32, .place = PR_PLAN_PLACE_CPU};
static const pr_memory_limits cpu_bf16 = {.n_tokens = 4096, .n_threads = 1,
                                          .dtype = PR_DTYPE_BF16, .place = PR_PLAN_PLACE_CPU};
static const pr_memory_limits gpu_bf16 = {.n_tokens = 4096, .dtype = PR_DTYPE_BF16,
                                          .place = PR_PLAN_PLACE_GPU};

static pr_memory_plan plan_of(const pr_model_spec *spec, pr_parallel p, pr_memory_limits limits)
{
    pr_shard shard;
    pr_memory_plan plan = {0};
    assert_int_equal(pr_shard_plan(spec, &p, &shard, NULL), PR_OK);
    assert_int_equal(pr_memory_plan_build(spec, &p, &shard, &limits, &plan, NULL), PR_OK);
    assert_true(plan.total_bytes == plan.weights_bytes + plan.activations_bytes +
                                        plan.workspace_bytes + plan.reserved_bytes);
    return plan;
}

static pr_memory_plan whole(const pr_model_spec *spec, pr_memory_limits limits)
{
    return plan_of(spec, (pr_parallel){0, 1, 0, 1}, limits);
}

static void memory_of_the_72b_model_counts_its_published_parameters(void **state)
{
    (void)state;
    /* table; per layer Q, O, K, V, gate, up, down, biases, norms; final norm; score.0, score.2 */
    uint64_t layer = 2 * 8192 * 8192 + 2 * 1024 * 8192 + UINT64_C(3) * 29568 * 8192 + 8192 +
                     2 * 1024 + 2 * 8192;
    uint64_t by_hand =
        UINT64_C(152064) * 8192 + 80 * layer + 8192 + 8192 * 8192 + 8192 + 8192 + 1;
    assert_true(by_hand == n_72b);
    pr_memory_plan plan = whole(&rm_72b, cpu_f32);
    assert_true((uint64_t)plan.n_parameters == n_72b);
    assert_true(plan.n_parameters_rank == plan.n_parameters);
    assert_true(plan.weights_bytes == 4 * n_72b);
    assert_true(plan.reserved_bytes == 0);
}

static void memory_of_weights_on_a_gpu_is_counted_in_the_compute_dtype(void **state)
{
    (void)state;
    pr_memory_limits f32 = gpu_bf16, f16 = gpu_bf16;
    f32.dtype = PR_DTYPE_F32;
    f16.dtype = PR_DTYPE_F16;
    assert_true(whole(&rm_72b, gpu_bf16).weights_bytes == 2 * n_72b);
    assert_true(whole(&rm_72b, f16).weights_bytes == 2 * n_72b);
    assert_true(whole(&rm_72b, f32).weights_bytes == 4 * n_72b);
}

static void memory_of_16_bit_weights_on_a_cpu_keeps_vectors_and_heads_in_f32(void **state)
{
    (void)state;
    /* norms, Q/K/V biases, the head's two matrices and biases */
    uint64_t in_f32 = 80 * (2 * 8192 + 8192 + 2 * 1024) + 8192 + 8192 * 8192 + 8192 + 8192 + 1;
    assert_true(whole(&rm_72b, cpu_bf16).weights_bytes == 2 * n_72b + 2 * in_f32);
}

static void memory_of_a_bf16_table_on_a_cpu_is_the_checkpoints(void **state)
{
    (void)state;
    pr_model_spec spec = rm_72b;
    spec.checkpoint_dtype = PR_DTYPE_BF16;
    assert_true(whole(&spec, cpu_f32).weights_bytes == 4 * n_72b - 2 * UINT64_C(152064) * 8192);
    assert_true(whole(&spec, cpu_bf16).weights_bytes == whole(&rm_72b, cpu_bf16).weights_bytes);
}

/* Elements that a group holds more often than once: the layers' norms on every tensor rank, and
 * with more ranks than KV heads K, V and their biases. */
static uint64_t n_held_again(int tp_size)
{
    uint64_t n = (uint64_t)(tp_size - 1) * N_MODEL_LAYERS * 2 * 8192;
    if (tp_size > 8) n += (uint64_t)(tp_size / 8 - 1) * N_MODEL_LAYERS * 2 * (1024 * 8192 + 1024);
    return n;
}

static void memory_of_all_ranks_adds_up_to_the_model_and_what_is_replicated(void **state)
{
    (void)state;
    static const int groups[][2] = {{1, 1}, {2, 1}, {4, 1}, {8, 1}, {16, 1},
                                    {8, 2}, {2, 3}, {1, 80}, {64, 1}};
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        uint64_t n = 0, bytes = 0;
        int tp_size = groups[i][0], n_stages = groups[i][1];
        for (int rank = 0; rank < tp_size * n_stages; rank++) {
            pr_parallel p = {rank % tp_size, tp_size, rank / tp_size, n_stages};
            pr_memory_plan plan = plan_of(&rm_72b, p, gpu_bf16);
            n += (uint64_t)plan.n_parameters_rank;
            bytes += plan.weights_bytes;
        }
        uint64_t expected = n_72b + n_held_again(tp_size);
        if (n != expected) fail_msg("%d x %d: %llu", tp_size, n_stages, (unsigned long long)n);
        assert_true(bytes == 2 * expected);
    }
}

/* Of a rank of TP 8: 8 query heads and 1 KV head of 128, 3696 of 29568. */
static void memory_of_activations_is_what_the_forward_pass_allocates(void **state)
{
    (void)state;
    pr_parallel p = {1, 8, 0, 1};
    /* residual, spare; normed; Q, K, V; attention's output */
    uint64_t stream = 2 * 8192, block = 8192 + (1024 + 2 * 128) + 1024;
    uint64_t indices = 6 * 4 + 1;
    pr_memory_limits limits = gpu_bf16;
    limits.n_tokens = 1; /* a GPU has 128 rows then, and indices for two batches */
    assert_true(plan_of(&rm_72b, p, limits).activations_bytes ==
                128 * (4 * stream + 2 * (block + 3696)) + 2 * indices);
    limits.n_tokens = 4096; /* the feed-forward block in runs of 2048 rows */
    assert_true(plan_of(&rm_72b, p, limits).activations_bytes ==
                4096 * (4 * stream + 2 * block) + 2048 * 2 * 3696 + 2 * 4096 * indices);
    limits = cpu_bf16; /* f32 activations there */
    assert_true(plan_of(&rm_72b, p, limits).activations_bytes ==
                4 * (4096 * (stream + block) + 2048 * 3696) + 4096 * indices);
}

static void memory_of_a_post_norm_blocks_row_is_f32_on_a_gpu(void **state)
{
    (void)state;
    pr_model_spec spec = rm_72b;
    spec.post_norm = true;
    pr_parallel p = {1, 8, 0, 1};
    assert_true(plan_of(&spec, p, gpu_bf16).activations_bytes ==
                plan_of(&rm_72b, p, gpu_bf16).activations_bytes + 2 * 4096 * 8192);
}

static void memory_of_the_workspace_of_a_gpu_is_counted_part_by_part(void **state)
{
    (void)state;
    uint64_t gate_up = 2 * (2048 * 2 * UINT64_C(3696));
    uint64_t rope = 4 * 4096 * 128; /* cosines and sines of 64 pairs */
    /* row and score.0's row; for two batches the reward, and which rows are read */
    uint64_t pooled = 4 * UINT64_C(4096) * (2 * 8192) + 2 * 4096 * (4 + 2 * 4);
    /* 2 bytes more each, for being f32: norms and biases, the head */
    uint64_t vectors = 2 * UINT64_C(80) * (2 * 8192 + 1024 + 2 * 128);
    uint64_t head = 2 * (8192 + UINT64_C(8192) * 8192 + 8192 + 8192 + 1);
    pr_memory_plan other = plan_of(&rm_72b, (pr_parallel){1, 8, 0, 1}, gpu_bf16);
    pr_memory_plan pooling = plan_of(&rm_72b, (pr_parallel){0, 8, 0, 1}, gpu_bf16);
    assert_true(other.widened_bytes == vectors);
    assert_true(pooling.widened_bytes == vectors + head);
    assert_true(other.workspace_bytes == GEMM + gate_up + rope + vectors);
    assert_true(pooling.workspace_bytes == GEMM + gate_up + rope + vectors + head + pooled);
    assert_true(other.reserved_bytes == RESERVED);
    pr_memory_limits shorter = gpu_bf16;
    shorter.n_positions = 1024; /* --max-model-len */
    assert_true(plan_of(&rm_72b, (pr_parallel){1, 8, 0, 1}, shorter).workspace_bytes ==
                other.workspace_bytes - 4 * 3072 * 128);
}

static void memory_of_a_cpu_workspace_grows_with_threads(void **state)
{
    (void)state;
    pr_memory_limits four = cpu_f32;
    four.n_threads = 4;
    pr_parallel p = {1, 8, 0, 1};
    uint64_t thread = 4 * (64 * UINT64_C(4096) + 64 * 29568); /* scores, a widened panel */
    assert_true(plan_of(&rm_72b, p, four).workspace_bytes -
                    plan_of(&rm_72b, p, cpu_f32).workspace_bytes ==
                3 * thread);
}

/* With that budget it fits, with one token more it does not. */
static void memory_of_the_largest_budget_just_fits(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {80000000000, 96000000000, 85899345920, 74000000000};
    const pr_memory_limits places[] = {gpu_bf16, cpu_bf16};
    for (size_t i = 0; i < 8; i++) {
        pr_memory_limits limits = places[i / 4];
        uint64_t size = sizes[i % 4];
        pr_parallel p = {0, i / 4 ? 4 : 2, 0, 1};
        pr_shard shard;
        assert_int_equal(pr_shard_plan(&rm_72b, &p, &shard, NULL), PR_OK);
        pr_memory_plan plan = plan_of(&rm_72b, p, limits);
        uint32_t n = pr_memory_plan_tokens_max(&rm_72b, &shard, &limits, &plan, size);
        assert_true(n > 0 && n < PR_PLAN_TOKENS_MAX);
        limits.n_tokens = n;
        assert_true(plan_of(&rm_72b, p, limits).total_bytes <= size);
        limits.n_tokens = n + 1;
        assert_true(plan_of(&rm_72b, p, limits).total_bytes > size);
    }
}

static void memory_that_is_short_of_the_weights_fits_no_token(void **state)
{
    (void)state;
    pr_parallel p = {0, 1, 0, 1};
    pr_shard shard;
    assert_int_equal(pr_shard_plan(&rm_72b, &p, &shard, NULL), PR_OK);
    pr_memory_plan plan = plan_of(&rm_72b, p, gpu_bf16);
    uint64_t fixed = 2 * n_72b + plan.widened_bytes + RESERVED;
    static const uint64_t plenty = UINT64_C(1) << 60;
    assert_int_equal(pr_memory_plan_tokens_max(&rm_72b, &shard, &gpu_bf16, &plan, 80000000000), 0);
    assert_int_equal(pr_memory_plan_tokens_max(&rm_72b, &shard, &gpu_bf16, &plan, fixed - 1), 0);
    assert_int_equal(pr_memory_plan_tokens_max(&rm_72b, &shard, &gpu_bf16, &plan, fixed), 0);
    assert_int_equal(pr_memory_plan_tokens_max(&rm_72b, &shard, &gpu_bf16, &plan, plenty),
                     PR_PLAN_TOKENS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_of_the_72b_model_counts_its_published_parameters),
        cmocka_unit_test(memory_of_weights_on_a_gpu_is_counted_in_the_compute_dtype),
        cmocka_unit_test(memory_of_16_bit_weights_on_a_cpu_keeps_vectors_and_heads_in_f32),
        cmocka_unit_test(memory_of_a_bf16_table_on_a_cpu_is_the_checkpoints),
        cmocka_unit_test(memory_of_all_ranks_adds_up_to_the_model_and_what_is_replicated),
        cmocka_unit_test(memory_of_activations_is_what_the_forward_pass_allocates),
        cmocka_unit_test(memory_of_a_post_norm_blocks_row_is_f32_on_a_gpu),
        cmocka_unit_test(memory_of_the_workspace_of_a_gpu_is_counted_part_by_part),
        cmocka_unit_test(memory_of_a_cpu_workspace_grows_with_threads),
        cmocka_unit_test(memory_of_the_largest_budget_just_fits),
        cmocka_unit_test(memory_that_is_short_of_the_weights_fits_no_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
