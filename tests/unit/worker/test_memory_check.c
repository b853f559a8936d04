/* Whether a rank fits its GPU, and what is said when it does not. */
#include "worker/memory_check.h"
#include "worker/rank_device.h"
#include "../plan/model_72b.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const uint64_t gb = 1000000000;

static pr_memory_demand demand_of(int tp_size, uint32_t n_rows, uint32_t n_positions)
{
    return (pr_memory_demand){.spec = &rm_72b, .parallel = {0, tp_size, 0, 1},
                              .n_rows_max = n_rows, .n_positions_max = n_positions,
                              .dtype = PR_DTYPE_BF16};
}

static uint64_t needed_bytes(const pr_memory_demand *d)
{
    const pr_memory_limits limits = {.n_tokens = d->n_rows_max, .n_positions = d->n_positions_max,
                                     .dtype = d->dtype, .place = PR_PLAN_PLACE_GPU};
    pr_shard shard;
    pr_memory_plan plan;
    assert_int_equal(pr_shard_plan(d->spec, &d->parallel, &shard, NULL), PR_OK);
    assert_int_equal(pr_memory_plan_build(d->spec, &d->parallel, &shard, &limits, &plan, NULL),
                     PR_OK);
    return plan.total_bytes;
}

static pr_cuda_device device_of(uint64_t total_bytes, uint64_t free_bytes)
{
    return (pr_cuda_device){.index = 3, .name = "NVIDIA H100 80GB HBM3", .capability = 90,
                            .total_bytes = total_bytes, .free_bytes = free_bytes};
}

static void memory_that_is_just_enough_is_enough(void **state)
{
    (void)state;
    const pr_memory_demand d = demand_of(4, 4096, 4096);
    uint64_t needed = needed_bytes(&d);
    const pr_cuda_device enough = device_of(80 * gb, needed), short_of = device_of(80 * gb,
                                                                                  needed - 1);
    assert_int_equal(pr_memory_check(&d, &enough, 1, NULL), PR_OK);
    assert_int_equal(pr_memory_check(&d, &short_of, 1, NULL), PR_E_NOMEM);
    /* all of it is free, but only a part may be taken */
    const pr_cuda_device unknown = device_of(2 * needed, 0);
    assert_int_equal(pr_memory_check(&d, &unknown, 0.5, NULL), PR_OK);
    pr_error err;
    assert_int_equal(pr_memory_check(&d, &unknown, 0.499, &err), PR_E_NOMEM);
    assert_non_null(strstr(err.message, " GB (--gpu-memory-utilization 0.499 of "));
    const pr_cuda_device whole = device_of(2 * needed, 2 * needed);
    assert_int_equal(pr_memory_check(&d, &whole, 0.5, NULL), PR_OK);
    assert_int_equal(pr_memory_check(&d, &whole, 0.499, NULL), PR_E_NOMEM);
}

/* The largest budget that is named fits, and one token more does not. */
static void a_budget_that_is_too_large_is_answered_with_the_largest(void **state)
{
    (void)state;
    pr_memory_demand d = demand_of(2, 1 << 20, 4096);
    const pr_cuda_device device = device_of(80 * gb, 79 * gb);
    pr_error err;
    unsigned n = 0;
    assert_int_equal(pr_memory_check(&d, &device, 1, &err), PR_E_NOMEM);
    const char *at = strstr(err.message, "; --max-num-batched-tokens ");
    if (!at || sscanf(at, "; --max-num-batched-tokens %u would fit", &n) != 1) {
        fail_msg("%s", err.message);
    }
    d.n_rows_max = n;
    assert_int_equal(pr_memory_check(&d, &device, 1, NULL), PR_OK);
    d.n_rows_max = n + 1;
    assert_int_equal(pr_memory_check(&d, &device, 1, NULL), PR_E_NOMEM);
}

static void what_does_not_fit_is_told_in_numbers(void **state)
{
    (void)state;
    static const struct {
        int tp_size;
        uint32_t n_rows;
        uint64_t free_gb;
        const char *expected[3];
    } cases[] = {
        {1, 4096, 79, {"cuda 3 (NVIDIA H100 80GB HBM3): found room for 72.000 GB (79.000 GB are "
                       "free, --gpu-memory-utilization 0.9 of 80.000 GB), expected 1",
                       "weights 143.055, activations of 4096 tokens ",
                       ": not even one token fits; it would with --tensor-parallel-size 4, 8 or "
                       "16"}},
        {8, 4096, 12, {"found room for 12.000 GB (12.000 GB are free", "weights 18.002",
                       "; it would with --tensor-parallel-size 16, 32 or 64"}},
        {64, 4096, 1, {"found room for 1.000 GB", "kept for CUDA and NCCL 1.074",
                       "; no --tensor-parallel-size would change that"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const pr_memory_demand d = demand_of(cases[i].tp_size, cases[i].n_rows, 4096);
        const pr_cuda_device device = device_of(80 * gb, cases[i].free_gb * gb);
        pr_error err;
        assert_int_equal(pr_memory_check(&d, &device, 0.9, &err), PR_E_NOMEM);
        for (int k = 0; k < 3; k++) {
            if (!strstr(err.message, cases[i].expected[k])) {
                fail_msg("\"%s\" lacks \"%s\"", err.message, cases[i].expected[k]);
            }
        }
    }
}

/* A text is computed in one forward pass, so that the longest one is the least budget. */
static void a_budget_below_the_longest_text_names_that_too(void **state)
{
    (void)state;
    const pr_memory_demand d = demand_of(2, 131072, 131072);
    const pr_cuda_device device = device_of(80 * gb, 79 * gb);
    pr_error err;
    assert_int_equal(pr_memory_check(&d, &device, 1, &err), PR_E_NOMEM);
    if (!strstr(err.message, " with --max-model-len ")) fail_msg("%s", err.message);
}

static void sizes_that_the_model_cannot_be_cut_into_fail_as_such(void **state)
{
    (void)state;
    const pr_memory_demand d = demand_of(3, 4096, 4096);
    const pr_cuda_device device = device_of(80 * gb, 79 * gb);
    assert_int_equal(pr_memory_check(&d, &device, 1, NULL), PR_E_ARGUMENT);
}

static void a_rank_that_sees_only_its_own_device_takes_it(void **state)
{
    (void)state;
    static const struct {
        const char *devices;
        bool sees_its_own;
        int n_devices, local_rank, n_local_ranks;
        pr_status status;
        int expected;
    } cases[] = {
        {NULL, true, 1, 3, 4, PR_OK, 0},
        {NULL, false, 1, 3, 4, PR_E_ARGUMENT, -1}, /* one device for all of them */
        {NULL, true, 4, 3, 4, PR_OK, 3},           /* it sees more than was thought */
        {"0", true, 1, 3, 4, PR_E_ARGUMENT, -1},   /* the list is for all ranks of the host */
        {NULL, false, 8, 5, 8, PR_OK, 5},
        {"7,6,5,4", false, 8, 1, 4, PR_OK, 6},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const pr_rank_device r = {.is_cuda = true, .devices = cases[i].devices,
                                  .sees_its_own = cases[i].sees_its_own,
                                  .local_rank = cases[i].local_rank,
                                  .n_local_ranks = cases[i].n_local_ranks};
        int index = -1;
        assert_int_equal(pr_rank_device_index(&r, cases[i].n_devices, &index, NULL),
                         cases[i].status);
        assert_int_equal(index, cases[i].expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_that_is_just_enough_is_enough),
        cmocka_unit_test(a_budget_that_is_too_large_is_answered_with_the_largest),
        cmocka_unit_test(what_does_not_fit_is_told_in_numbers),
        cmocka_unit_test(a_budget_below_the_longest_text_names_that_too),
        cmocka_unit_test(sizes_that_the_model_cannot_be_cut_into_fail_as_such),
        cmocka_unit_test(a_rank_that_sees_only_its_own_device_takes_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
