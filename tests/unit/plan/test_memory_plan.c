/* Bytes of a rank, from the shapes alone. */
#include "runtime/plan/memory_plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

/* Qwen2.5-Math-RM-72B. */
static const pr_model_spec rm_72b = {.family = PR_FAMILY_QWEN2,
                                     .head = PR_HEAD_REWARD,
                                     .vocab_size = 152064,
                                     .hidden_size = 8192,
                                     .intermediate_size = 29568,
                                     .n_layers = 80,
                                     .n_heads = 64,
                                     .n_kv_heads = 8,
                                     .head_dim = 128,
                                     .n_positions = 4096,
                                     .qkv_bias = true,
                                     .gated = true,
                                     .position = PR_POSITION_ROPE,
                                     .n_labels = 1};

static pr_memory_plan plan_of(const pr_model_spec *spec, pr_parallel p, pr_memory_limits limits)
{
    pr_shard shard;
    pr_memory_plan plan = {0};
    assert_int_equal(pr_shard_plan(spec, &p, &shard, NULL), PR_OK);
    assert_int_equal(pr_memory_plan_build(spec, &p, &shard, &limits, &plan, NULL), PR_OK);
    assert_true(plan.total_bytes ==
                plan.weights_bytes + plan.activations_bytes + plan.workspace_bytes);
    return plan;
}

static void memory_of_the_72b_model_counts_its_published_parameters(void **state)
{
    (void)state;
    pr_memory_plan plan =
        plan_of(&rm_72b, (pr_parallel){0, 1, 0, 1}, (pr_memory_limits){4096, 1, PR_DTYPE_F32});
    assert_true(plan.n_parameters == INT64_C(71527620609));
    assert_true(plan.n_parameters_rank == plan.n_parameters);
    assert_true(plan.weights_bytes == 4 * UINT64_C(71527620609));
}

static void memory_of_16_bit_weights_keeps_vectors_and_heads_in_f32(void **state)
{
    (void)state;
    pr_memory_plan plan =
        plan_of(&rm_72b, (pr_parallel){0, 1, 0, 1}, (pr_memory_limits){4096, 1, PR_DTYPE_BF16});
    /* norms, Q/K/V biases, the head's two matrices and biases */
    uint64_t in_f32 = 80 * (2 * 8192 + 8192 + 2 * 1024) + 8192 + 8192 * 8192 + 8192 + 8192 + 1;
    assert_true(plan.weights_bytes == 2 * UINT64_C(71527620609) + 2 * in_f32);
}

static void memory_of_all_ranks_adds_up_to_the_model(void **state)
{
    (void)state;
    int64_t total = 0;
    for (int stage = 0; stage < 2; stage++) {
        for (int rank = 0; rank < 8; rank++) {
            total += plan_of(&rm_72b, (pr_parallel){rank, 8, stage, 2},
                             (pr_memory_limits){4096, 1, PR_DTYPE_BF16})
                         .n_parameters_rank;
        }
    }
    int64_t n_replicated = 80 * 2 * 8192; /* the norms of the layers, on every rank */
    assert_true(total == INT64_C(71527620609) + 7 * n_replicated);
}

static void memory_of_activations_grows_with_the_token_budget_only(void **state)
{
    (void)state;
    pr_parallel p = {0, 1, 0, 1};
    pr_memory_plan one = plan_of(&rm_72b, p, (pr_memory_limits){1, 1, PR_DTYPE_F32});
    pr_memory_plan many = plan_of(&rm_72b, p, (pr_memory_limits){1000, 4, PR_DTYPE_BF16});
    /* residual, normed, QKV, attention output, gate and up: f32 values of a row */
    uint64_t row = 8192 + 8192 + (8192 + 2 * 1024) + 8192 + 2 * 29568;
    assert_true(one.activations_bytes == 4 * row);
    assert_true(many.activations_bytes == 1000 * 4 * row);
    assert_true(many.workspace_bytes > one.workspace_bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_of_the_72b_model_counts_its_published_parameters),
        cmocka_unit_test(memory_of_16_bit_weights_keeps_vectors_and_heads_in_f32),
        cmocka_unit_test(memory_of_all_ranks_adds_up_to_the_model),
        cmocka_unit_test(memory_of_activations_grows_with_the_token_budget_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
