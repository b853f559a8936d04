/* Where a run computes follows from its settings and what the host has; what does not go together
 * is refused before anything is loaded. */
#include "coordinator/fleet/placement.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const pr_placement_seen no_driver = {.status = PR_E_UNAVAILABLE,
                                            .reason = "no NVIDIA driver"};
static const pr_placement_seen not_looked = {0};
static const pr_placement_seen one = {.n_devices = 1, .name = "NVIDIA L4"};
static const pr_placement_seen eight = {.n_devices = 8, .name = "NVIDIA H100"};

static pr_config config_of(pr_device_choice device, int32_t tp, int32_t dp)
{
    return (pr_config){.device = device, .tensor_parallel_size = tp, .pipeline_parallel_size = 1,
                       .data_parallel_size = dp};
}

#define AUTO PR_DEVICE_CHOICE_AUTO
#define CPU PR_DEVICE_CHOICE_CPU
#define CUDA PR_DEVICE_CHOICE_CUDA

static void devices_are_looked_for_where_the_answer_matters(void **state)
{
    (void)state;
    static const struct {
        pr_device_choice device;
        pr_worker_launch launch;
        bool leaves_host, expected;
    } cases[] = {
        {CPU, PR_WORKER_LAUNCH_INPROC, false, false},
        {CUDA, PR_WORKER_LAUNCH_INPROC, false, true},
        {AUTO, PR_WORKER_LAUNCH_INPROC, false, true},
        {CUDA, PR_WORKER_LAUNCH_MPIRUN, false, true},
        {CUDA, PR_WORKER_LAUNCH_MPIRUN, true, false}, /* a coordinator needs no GPU */
        {CUDA, PR_WORKER_LAUNCH_SRUN, true, false},
        {CUDA, PR_WORKER_LAUNCH_SRUN, false, false}, /* Slurm says what a step sees */
        {CUDA, PR_WORKER_LAUNCH_EXTERNAL, true, false},
        {CUDA, PR_WORKER_LAUNCH_JOB, false, false},
        {AUTO, PR_WORKER_LAUNCH_SRUN, true, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const pr_config c = config_of(cases[i].device, 1, 1);
        assert_int_equal(pr_placement_needs_look(&c, cases[i].launch, cases[i].leaves_host),
                         cases[i].expected);
    }
}

static void auto_takes_a_gpu_that_is_there_and_says_why_not_else(void **state)
{
    (void)state;
    static const struct {
        pr_device_choice device;
        const pr_placement_seen *seen;
        pr_device_choice expected;
        const char *reason;
    } cases[] = {
        {AUTO, &no_driver, CPU, "no NVIDIA driver"},
        {AUTO, &one, CUDA, "1 device, NVIDIA L4"},
        {AUTO, &eight, CUDA, "8 devices, the first NVIDIA H100"},
        {CUDA, &eight, CUDA, "8 devices, the first NVIDIA H100"},
        {CPU, &not_looked, CPU, "--device cpu"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const pr_config c = config_of(cases[i].device, 1, 1);
        pr_placement p;
        assert_int_equal(pr_placement_decide(&c, PR_WORKER_LAUNCH_INPROC, false, cases[i].seen, &p,
                                             NULL), PR_OK);
        assert_int_equal(p.device, cases[i].expected);
        assert_string_equal(p.reason, cases[i].reason);
    }
}

static void ranks_elsewhere_need_no_gpu_here(void **state)
{
    (void)state;
    const pr_config c = config_of(PR_DEVICE_CHOICE_CUDA, 8, 2);
    static const pr_worker_launch launches[] = {PR_WORKER_LAUNCH_MPIRUN, PR_WORKER_LAUNCH_SRUN,
                                                PR_WORKER_LAUNCH_EXTERNAL, PR_WORKER_LAUNCH_JOB};
    for (size_t i = 0; i < sizeof launches / sizeof *launches; i++) {
        pr_placement p;
        assert_int_equal(pr_placement_decide(&c, launches[i], true, &not_looked, &p, NULL), PR_OK);
        assert_int_equal(p.device, CUDA);
        assert_string_equal(p.reason, "--device cuda");
    }
}

static void what_cannot_be_is_refused_with_the_reason(void **state)
{
    (void)state;
    const struct {
        pr_config config;
        pr_worker_launch launch;
        const pr_placement_seen *seen;
        pr_status status;
        const char *expected;
    } cases[] = {
        {{.device = CUDA}, PR_WORKER_LAUNCH_INPROC, &no_driver, PR_E_UNAVAILABLE,
         "device cuda: no NVIDIA driver"},
        {{.device = CUDA, .tensor_parallel_size = 4}, PR_WORKER_LAUNCH_MPIRUN, &no_driver,
         PR_E_UNAVAILABLE, "device cuda: no NVIDIA driver"},
        {{.device = CUDA, .tensor_parallel_size = 4, .data_parallel_size = 3},
         PR_WORKER_LAUNCH_MPIRUN, &eight, PR_E_ARGUMENT, "12 ranks on this host, 8 visible"},
        {{.tensor_parallel_size = 2}, PR_WORKER_LAUNCH_MPIRUN, &one, PR_E_ARGUMENT,
         "--device cpu would not need one): 2 ranks on this host, 1 visible device"},
        {{.device = CUDA, .devices = (char *)"0,1", .tensor_parallel_size = 4},
         PR_WORKER_LAUNCH_MPIRUN, &eight, PR_E_ARGUMENT, "4 ranks on this host, 2 in --devices"},
        {{.device = CUDA, .devices = (char *)"9"}, PR_WORKER_LAUNCH_INPROC, &eight, PR_E_ARGUMENT,
         "found 9 in 9, expected numbers below 8"},
        {{.dtype = PR_DTYPE_CHOICE_FLOAT16}, PR_WORKER_LAUNCH_INPROC, &no_driver,
         PR_E_UNSUPPORTED, "the CPU (no NVIDIA driver), which keeps weights in float32"},
        {{.device = CPU, .dtype = PR_DTYPE_CHOICE_FLOAT16}, PR_WORKER_LAUNCH_INPROC, &not_looked,
         PR_E_UNSUPPORTED, "--dtype bfloat16"},
        {{.device = CPU, .devices = (char *)"0"}, PR_WORKER_LAUNCH_INPROC, &not_looked,
         PR_E_ARGUMENT, "devices: found 0, but the model runs on the CPU (--device cpu)"},
        {{.device = CUDA, .stream_weights = PR_STREAM_CHOICE_ON}, PR_WORKER_LAUNCH_INPROC, &eight,
         PR_E_UNSUPPORTED, "stream-weights: on is refused with --device cuda"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_config c = cases[i].config;
        if (c.tensor_parallel_size == 0) c.tensor_parallel_size = 1;
        if (c.data_parallel_size == 0) c.data_parallel_size = 1;
        c.pipeline_parallel_size = 1;
        pr_placement p;
        pr_error err = {0};
        pr_status st = pr_placement_decide(&c, cases[i].launch, false, cases[i].seen, &p, &err);
        if (st != cases[i].status || !strstr(err.message, cases[i].expected)) {
            fail_msg("case %zu: %d, \"%s\"", i, (int)st, err.message);
        }
    }
}

static void weights_are_streamed_on_the_cpu_only(void **state)
{
    (void)state;
    static const struct {
        pr_stream_choice asked;
        bool has_few_texts;
        const pr_placement_seen *seen;
        pr_device_choice device;
        pr_stream_choice expected;
    } cases[] = {
        {PR_STREAM_CHOICE_AUTO, true, &no_driver, CPU, PR_STREAM_CHOICE_ON},
        {PR_STREAM_CHOICE_AUTO, false, &no_driver, CPU, PR_STREAM_CHOICE_OFF},
        {PR_STREAM_CHOICE_AUTO, true, &one, CUDA, PR_STREAM_CHOICE_OFF},
        {PR_STREAM_CHOICE_OFF, true, &no_driver, CPU, PR_STREAM_CHOICE_OFF},
        {PR_STREAM_CHOICE_ON, false, &not_looked, CPU, PR_STREAM_CHOICE_ON}, /* nobody looks */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_config c = config_of(PR_DEVICE_CHOICE_AUTO, 1, 1);
        c.stream_weights = cases[i].asked;
        c.has_few_texts = cases[i].has_few_texts;
        pr_placement p;
        bool looks = pr_placement_needs_look(&c, PR_WORKER_LAUNCH_INPROC, false);
        assert_int_equal(looks, cases[i].seen != &not_looked);
        assert_int_equal(pr_placement_decide(&c, PR_WORKER_LAUNCH_INPROC, false, cases[i].seen, &p,
                                             NULL), PR_OK);
        assert_int_equal(p.device, cases[i].device);
        assert_int_equal(p.stream_weights, cases[i].expected);
    }
}

static void groups_that_share_hosts_take_slices_of_their_devices(void **state)
{
    (void)state;
    static const struct {
        pr_worker_launch launch;
        int32_t n_groups, n_nodes, expected;
    } cases[] = {
        {PR_WORKER_LAUNCH_INPROC, 1, 0, 1},   {PR_WORKER_LAUNCH_MPIRUN, 1, 0, 1},
        {PR_WORKER_LAUNCH_MPIRUN, 4, 0, 4},   {PR_WORKER_LAUNCH_MPIRUN, 4, 2, 4},
        {PR_WORKER_LAUNCH_SRUN, 4, 0, 4},     {PR_WORKER_LAUNCH_SRUN, 4, 1, 4},
        {PR_WORKER_LAUNCH_SRUN, 4, 2, 2},     {PR_WORKER_LAUNCH_SRUN, 4, 4, 1},
        {PR_WORKER_LAUNCH_SRUN, 2, 8, 1},     {PR_WORKER_LAUNCH_SRUN, 5, 2, 3},
        {PR_WORKER_LAUNCH_EXTERNAL, 1, 0, 1}, {PR_WORKER_LAUNCH_JOB, 4, 2, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const pr_config c = config_of(PR_DEVICE_CHOICE_CUDA, 2, cases[i].n_groups);
        assert_int_equal(pr_placement_slices(&c, cases[i].launch, cases[i].n_nodes),
                         cases[i].expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_are_looked_for_where_the_answer_matters),
        cmocka_unit_test(auto_takes_a_gpu_that_is_there_and_says_why_not_else),
        cmocka_unit_test(ranks_elsewhere_need_no_gpu_here),
        cmocka_unit_test(what_cannot_be_is_refused_with_the_reason),
        cmocka_unit_test(weights_are_streamed_on_the_cpu_only),
        cmocka_unit_test(groups_that_share_hosts_take_slices_of_their_devices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
