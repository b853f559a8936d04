/* test_faults.cpp: faults put into the attention kernel on purpose, each of which must be found.
 *
 * With arguments this program is the patient: `FAULT ORDER COPIES`, and it exits 0 when all looked
 * well. Without, it runs itself for every fault in the modes that show it, since a sanitizer ends
 * the process it speaks in. What finds what is in docs/gpu.md. */
#include "tests/simcuda/attention_case.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" int pr_fault_injected;
extern char **environ;

/* As in kernels/cuda/device.cuh, whose PR_FAULT_ names are not for this side. */
enum { NONE, NO_BARRIER, NO_WAIT, EARLY_OVERWRITE, OUT_OF_BOUNDS, SHARED_SMALL, DIVERGENT };

static const char *program;

/* Three tiles of keys; a last row tile that is not full. */
static int patient(char **argv)
{
    pr_fault_injected = atoi(argv[1]);
    const pr_sim_config config = {90, (pr_sim_order)atoi(argv[2]), (pr_sim_copies)atoi(argv[3]), 5};
    const attention_case t = {64, 1, 1, true, 0, 1, {150}, {-1}, PR_DTYPE_BF16, false};
    const char *wrong = attention_run(&config, &t, 1);
    if (wrong) fprintf(stderr, "found: %s\n", wrong);
    _exit(wrong ? 1 : 0);
}

/* True: something was found. */
static bool is_found(int fault, pr_sim_order order, pr_sim_copies copies)
{
    char numbers[3][4];
    snprintf(numbers[0], sizeof numbers[0], "%d", fault);
    snprintf(numbers[1], sizeof numbers[1], "%d", (int)order);
    snprintf(numbers[2], sizeof numbers[2], "%d", (int)copies);
    char *const argv[] = {(char *)program, numbers[0], numbers[1], numbers[2], NULL};
    pid_t pid;
    posix_spawn_file_actions_t quiet;
    posix_spawn_file_actions_init(&quiet);
    if (!getenv("SIM_FAULTS_LOUD"))
        posix_spawn_file_actions_addopen(&quiet, STDERR_FILENO, "/dev/null", 1 /* O_WRONLY */, 0);
    assert_int_equal(posix_spawn(&pid, program, &quiet, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&quiet);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status != 0;
}

static bool is_found_somehow(int fault)
{
    pr_sim_config modes[9];
    const int n_modes = check_modes(modes, false);
    for (int m = 0; m < n_modes; m++)
        if (is_found(fault, modes[m].order, modes[m].copies)) return true;
    return false;
}

static void the_kernel_without_fault_is_well(void **)
{
    pr_sim_config modes[9];
    const int n_modes = check_modes(modes, CHECK_IS_QUICK);
    for (int m = 0; m < n_modes; m++)
        assert_false(is_found(NONE, modes[m].order, modes[m].copies));
}

static void a_missing_barrier_is_found(void **)
{
    assert_true(is_found(NO_BARRIER, PR_SIM_FORWARD, PR_SIM_DEFERRED));
}

static void a_missing_wait_is_found(void **)
{
    assert_true(is_found(NO_WAIT, PR_SIM_FORWARD, PR_SIM_DEFERRED));
}

static void an_early_overwrite_is_found(void **)
{
    assert_true(is_found_somehow(EARLY_OVERWRITE));
}

static void a_write_beyond_the_end_is_found(void **)
{
    assert_true(is_found(OUT_OF_BOUNDS, PR_SIM_FORWARD, PR_SIM_DEFERRED));
}

/* By the address sanitizer where it is read, elsewhere by the bytes after the array. */
static void too_little_shared_memory_is_found(void **)
{
    assert_true(is_found_somehow(SHARED_SMALL));
}

static void a_divergent_barrier_is_found(void **)
{
    assert_true(is_found(DIVERGENT, PR_SIM_FORWARD, PR_SIM_DEFERRED));
}

int main(int argc, char **argv)
{
    if (argc == 4) return patient(argv);
    program = argv[0];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_kernel_without_fault_is_well),
        cmocka_unit_test(a_missing_barrier_is_found),
        cmocka_unit_test(a_missing_wait_is_found),
        cmocka_unit_test(an_early_overwrite_is_found),
        cmocka_unit_test(a_write_beyond_the_end_is_found),
        cmocka_unit_test(too_little_shared_memory_is_found),
        cmocka_unit_test(a_divergent_barrier_is_found),
    };
    return cmocka_run_group_tests_name("faults", tests, NULL, NULL);
}
