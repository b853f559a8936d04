#include "program/worker_environment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { VARIABLES_MAX = 12 };

typedef struct environment_case {
    const char *env[VARIABLES_MAX];
    pr_status status;
    const char *message; /* part of it, of a failure */
    pr_worker_environment expected;
} environment_case;

#define MPIRUN                                                                       \
    "OMPI_COMM_WORLD_RANK=3", "OMPI_COMM_WORLD_SIZE=4", "OMPI_COMM_WORLD_LOCAL_RANK=1", \
        "OMPI_COMM_WORLD_LOCAL_SIZE=2"
#define SRUN "SLURM_JOB_ID=17", "SLURM_STEP_ID=2", "SLURM_PROCID=4", "SLURM_LOCALID=0"

static const environment_case cases[] = {
    /* started by itself */
    {.env = {"HOME=/root"}, .expected = {.n_ranks = 1, .n_local = 1, .group = ""}},
    /* a batch script is no task of a step, nor is a shell in an allocation */
    {.env = {"SLURM_JOB_ID=17", "SLURM_PROCID=0", "SLURM_NTASKS=4", "SLURM_LOCALID=0"},
     .expected = {.n_ranks = 1, .n_local = 1, .group = ""}},
    {.env = {MPIRUN, "PMIX_NAMESPACE=199",
             "OMPI_MCA_orte_hnp_uri=199.0;tcp://10.0.0.1:7;tcp6://[::1]:8"},
     .expected = {3, 4, 1, 2, false, "mpirun", "mpirun:199@10.0.0.1:7"}},
    {.env = {MPIRUN, "OMPI_MCA_orte_bound_at_launch=1", "PMIX_RANK=3"},
     .expected = {3, 4, 1, 2, true, "mpirun", ""}},
    /* mpirun starts its ranks of other nodes by srun, of which they know more than those of the
     * first node do */
    {.env = {MPIRUN, "PMIX_NAMESPACE=199", SRUN, "SLURM_NTASKS=2"},
     .expected = {3, 4, 1, 2, false, "mpirun", "mpirun:199"}},
    {.env = {SRUN, "SLURM_NTASKS=9", "SLURM_STEP_NUM_TASKS=6", "SLURM_NODEID=2",
             "SLURM_STEP_TASKS_PER_NODE=2(x2),1(x2)", "PMIX_RANK=4"},
     .expected = {4, 6, 0, 1, false, "srun", "slurm:17.2"}},
    {.env = {SRUN, "SLURM_NTASKS=6", "SLURM_NODEID=1", "SLURM_STEP_TASKS_PER_NODE=2,4",
             "SLURM_CPU_BIND_TYPE=mask_cpu:", "SLURM_CLUSTER_NAME=c"},
     .expected = {4, 6, 0, 4, true, "srun", "slurm:c:17.2"}},
    {.env = {SRUN, "SLURM_NTASKS=6", "SLURM_CPU_BIND_TYPE=none"},
     .expected = {4, 6, 0, 6, false, "srun", "slurm:17.2"}},
    {.env = {SRUN, "SLURM_NTASKS=6", "CUDA_VISIBLE_DEVICES=0"},
     .expected = {4, 6, 0, 6, false, "srun", "slurm:17.2", true}},
    {.env = {"CUDA_VISIBLE_DEVICES=GPU-8932f937"},
     .expected = {.n_ranks = 1, .n_local = 1, .sees_one_device = true}},
    {.env = {"CUDA_VISIBLE_DEVICES=0,1,2,3"}, .expected = {.n_ranks = 1, .n_local = 1}},
    {.env = {"CUDA_VISIBLE_DEVICES="}, .expected = {.n_ranks = 1, .n_local = 1}},
    {.env = {"OMPI_COMM_WORLD_RANK=3"}, .status = PR_E_ARGUMENT,
     .message = "environment of mpirun: OMPI_COMM_WORLD_SIZE is not set"},
    {.env = {"OMPI_COMM_WORLD_RANK=3", "OMPI_COMM_WORLD_SIZE=3", "OMPI_COMM_WORLD_LOCAL_RANK=0",
             "OMPI_COMM_WORLD_LOCAL_SIZE=1"},
     .status = PR_E_ARGUMENT, .message = "rank 3 of 3"},
    {.env = {"OMPI_COMM_WORLD_RANK=-1", "OMPI_COMM_WORLD_SIZE=3"}, .status = PR_E_ARGUMENT,
     .message = "found -1, expected a number"},
    {.env = {"OMPI_COMM_WORLD_RANK=1x"}, .status = PR_E_ARGUMENT, .message = "found 1x"},
    {.env = {SRUN, "SLURM_NTASKS=99999999999"}, .status = PR_E_ARGUMENT,
     .message = "SLURM_NTASKS: found 99999999999"},
    {.env = {"PMIX_RANK=0"}, .status = PR_E_ARGUMENT, .message = "how many ranks"},
};

static void a_rank_knows_its_place_from_its_launcher(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const environment_case *c = &cases[i];
        pr_worker_environment e = {.rank = 77};
        pr_error err = {0};
        pr_status st = pr_worker_environment_read((char *const *)c->env, &e, &err);
        if (st != c->status) fail_msg("case %zu: status %d: %s", i, (int)st, err.message);
        if (st != PR_OK) {
            if (!strstr(err.message, c->message)) fail_msg("case %zu: %s", i, err.message);
            assert_int_equal(e.rank, 77); /* untouched */
            continue;
        }
        const pr_worker_environment *x = &c->expected;
        bool is_same = e.rank == x->rank && e.n_ranks == x->n_ranks &&
                       e.local_rank == x->local_rank && e.n_local == x->n_local &&
                       e.is_bound == x->is_bound &&
                       e.sees_one_device == x->sees_one_device && strcmp(e.group, x->group) == 0 &&
                       !e.launcher == !x->launcher;
        if (!is_same) {
            fail_msg("case %zu: rank %u of %u, here %u of %u, bound %d, group %s", i, e.rank,
                     e.n_ranks, e.local_rank, e.n_local, e.is_bound, e.group);
        }
        if (x->launcher) assert_string_equal(e.launcher, x->launcher);
    }
}

static void a_slice_of_the_devices_is_read_or_refused(void **state)
{
    (void)state;
    uint32_t slice = 7, n = 7;
    static const char *const wrong[] = {"", "1", "1/", "/4", "4/4", "5/4", "-1/4", "0/0", "0/4x",
                                        " 0/4", "0/99999", "a/b", "1.5/2"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        pr_error err;
        if (pr_worker_slice_parse(wrong[i], &slice, &n, &err) != PR_E_ARGUMENT) fail();
        assert_non_null(strstr(err.message, "expected I/N"));
        assert_true(slice == 7 && n == 7);
    }
    assert_int_equal(pr_worker_slice_parse("1/4", &slice, &n, NULL), PR_OK);
    assert_true(slice == 1 && n == 4);
    assert_int_equal(pr_worker_slice_parse("0/1", &slice, &n, NULL), PR_OK);
    assert_true(slice == 0 && n == 1);
}

static void ranks_of_a_host_share_its_processors(void **state)
{
    (void)state;
    static const struct {
        uint32_t n_local;
        bool is_bound;
        int32_t n_cpus, n_threads;
    } rows[] = {
        {1, false, 8, 8}, {2, false, 8, 4}, {3, false, 8, 2}, {16, false, 8, 1}, {4, true, 2, 2},
        {1, true, 1, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const pr_worker_environment e = {.n_local = rows[i].n_local, .is_bound = rows[i].is_bound};
        assert_int_equal(pr_worker_threads(&e, rows[i].n_cpus), rows[i].n_threads);
    }
}

static void a_rank_is_pinned_to_its_slice(void **state)
{
    (void)state;
    static const int cpus[] = {0, 1, 4, 5, 8, 9};
    int own[6] = {-1, -1, -1, -1, -1, -1};
    const pr_worker_environment e = {.n_local = 3, .local_rank = 1};
    assert_int_equal(pr_worker_cpus(&e, cpus, 6, 2, own), 2);
    assert_int_equal(own[0], 4);
    assert_int_equal(own[1], 5);
    assert_int_equal(own[2], -1);
    const pr_worker_environment last = {.n_local = 3, .local_rank = 2};
    assert_int_equal(pr_worker_cpus(&last, cpus, 6, 1, own), 1);
    assert_int_equal(own[0], 4);
}

static void a_rank_is_left_alone_where_slices_do_not_fit_or_are_not_its_own(void **state)
{
    (void)state;
    static const int cpus[] = {0, 1, 4, 5, 8, 9};
    int own[6];
    const pr_worker_environment e = {.n_local = 3, .local_rank = 1};
    const pr_worker_environment bound = {.n_local = 3, .local_rank = 1, .is_bound = true};
    const pr_worker_environment alone = {.n_local = 1};
    assert_int_equal(pr_worker_cpus(&e, cpus, 6, 3, own), 0);
    assert_int_equal(pr_worker_cpus(&e, cpus, 0, 1, own), 0);
    assert_int_equal(pr_worker_cpus(&bound, cpus, 6, 1, own), 0);
    assert_int_equal(pr_worker_cpus(&alone, cpus, 6, 2, own), 0);
}

static void processors_are_printed_as_ranges(void **state)
{
    (void)state;
    static const int cpus[] = {0, 1, 2, 5, 7, 8};
    char text[32];
    pr_worker_cpus_print(cpus, 6, text, sizeof text);
    assert_string_equal(text, "0-2,5,7-8");
    pr_worker_cpus_print(cpus, 1, text, sizeof text);
    assert_string_equal(text, "0");
    pr_worker_cpus_print(cpus, 0, text, sizeof text);
    assert_string_equal(text, "");
    char small[12];
    pr_worker_cpus_print(cpus, 6, small, sizeof small);
    assert_string_equal(small, "0-2,5,…");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rank_knows_its_place_from_its_launcher),
        cmocka_unit_test(a_slice_of_the_devices_is_read_or_refused),
        cmocka_unit_test(ranks_of_a_host_share_its_processors),
        cmocka_unit_test(a_rank_is_pinned_to_its_slice),
        cmocka_unit_test(a_rank_is_left_alone_where_slices_do_not_fit_or_are_not_its_own),
        cmocka_unit_test(processors_are_printed_as_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
