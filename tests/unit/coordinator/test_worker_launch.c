/* How ranks come to be follows from the settings alone; what does not go together is refused before
 * anything is started. */
#include "coordinator/fleet/worker_launch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static pr_config config_of(int32_t tp, int32_t pp, int32_t dp)
{
    return (pr_config){.tensor_parallel_size = tp, .pipeline_parallel_size = pp,
                       .data_parallel_size = dp};
}

static const pr_model_spec spec = {.n_layers = 4, .n_heads = 8, .n_kv_heads = 2,
                                   .head_dim = 8, .hidden_size = 64, .intermediate_size = 96,
                                   .vocab_size = 100};

static void auto_follows_the_number_of_ranks_and_the_allocation(void **state)
{
    (void)state;
    const struct {
        int32_t tp, pp, dp;
        bool is_in_allocation;
        pr_worker_launch expected;
    } cases[] = {
        {1, 1, 1, false, PR_WORKER_LAUNCH_INPROC}, {1, 1, 1, true, PR_WORKER_LAUNCH_INPROC},
        {2, 1, 1, false, PR_WORKER_LAUNCH_MPIRUN}, {1, 2, 1, false, PR_WORKER_LAUNCH_MPIRUN},
        {1, 1, 2, false, PR_WORKER_LAUNCH_MPIRUN}, {2, 1, 1, true, PR_WORKER_LAUNCH_SRUN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_config c = config_of(cases[i].tp, cases[i].pp, cases[i].dp);
        c.is_in_allocation = cases[i].is_in_allocation;
        pr_worker_launch launch;
        assert_int_equal(pr_worker_launch_resolve(&c, &spec, &launch, NULL), PR_OK);
        assert_int_equal(launch, cases[i].expected);
    }
}

static void what_was_asked_for_is_taken_also_for_one_rank(void **state)
{
    (void)state;
    for (int l = PR_WORKER_LAUNCH_INPROC; l < PR_WORKER_LAUNCH_COUNT; l++) {
        pr_config c = config_of(1, 1, 1);
        c.worker_launch = (pr_worker_launch)l;
        pr_worker_launch launch;
        assert_int_equal(pr_worker_launch_resolve(&c, &spec, &launch, NULL), PR_OK);
        assert_int_equal(launch, l);
    }
}

static void assert_refused(const pr_config *c, const char *part)
{
    pr_worker_launch launch;
    pr_error err = {0};
    assert_int_equal(pr_worker_launch_resolve(c, &spec, &launch, &err), PR_E_ARGUMENT);
    if (!strstr(err.message, part)) fail_msg("\"%s\" lacks \"%s\"", err.message, part);
}

static void what_does_not_go_together_is_refused(void **state)
{
    (void)state;
    pr_config c = config_of(2, 1, 1);
    c.worker_launch = PR_WORKER_LAUNCH_INPROC;
    assert_refused(&c, "worker-launch: found inproc");
    c = config_of(3, 1, 1);
    assert_refused(&c, "expected one of 1, 2, 4, 8");
    c = config_of(1, 5, 1);
    assert_refused(&c, "pipeline_parallel_size: found 5, expected 1 to 4");
    char text[] = "x";
    c = config_of(1, 1, 1);
    c.hostfile = text;
    assert_refused(&c, "hostfile: it has no meaning with worker-launch inproc (which auto means");
    c.worker_launch = PR_WORKER_LAUNCH_SRUN;
    assert_refused(&c, "hostfile: it has no meaning with worker-launch srun");
    c = config_of(2, 1, 1);
    c.srun_args = text;
    assert_refused(&c, "srun-args: it has no meaning with worker-launch mpirun");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auto_follows_the_number_of_ranks_and_the_allocation),
        cmocka_unit_test(what_was_asked_for_is_taken_also_for_one_rank),
        cmocka_unit_test(what_does_not_go_together_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
