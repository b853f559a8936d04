/* test_faults.cpp: faults put into the attention kernels on purpose, each of which must be found.
 *
 * With arguments this program is the patient: `FAULT ORDER COPIES DTYPE`, and it exits 0 when all
 * looked well. Without, it runs itself for every fault in the modes that show it, since a sanitizer
 * ends the process it speaks in. What finds what is in docs/gpu.md. */
#include "kernels/cuda/device.cuh"

#include "tests/simcuda/attention_case.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the patient exits with; a sanitizer's is set in main. */
enum { WELL = 0, WRONG = 1, SANITIZER = 66 };
enum { FAULT_NONE = 0, FAULT_BLOCKS = 100 };

static const char *program;

/* Every block writes the same value to the same place: no value is ever wrong. */
static void blocks_kernel(float *y)
{
    if (threadIdx.x == blockIdx.x) y[0] = 1.0f;
}

static int blocks_patient(const pr_sim_config *config)
{
    check c;
    check_begin(&c, config, 9);
    float *const y = check_device<float>(&c, NULL, 1);
    PR_LAUNCH("blocks", blocks_kernel, dim3(2), dim3(32), 0, c.stream, y);
    check_end(&c);
    return WELL;
}

/* Three tiles of keys; the last row tile is not full. */
static int patient(char **argv)
{
    pr_fault_injected = atoi(argv[1]);
    const pr_sim_config config = {90, (pr_sim_order)atoi(argv[2]), (pr_sim_copies)atoi(argv[3]), 5};
    if (pr_fault_injected == FAULT_BLOCKS) _exit(blocks_patient(&config));
    const pr_dtype dtype = (pr_dtype)atoi(argv[4]);
    const int length = dtype == PR_DTYPE_F32 ? 90 : 150;
    const attention_case t = {64, 1, 1, true, 0, 1, {length}, {-1}, dtype, false, 0};
    const char *wrong = attention_run(&config, &t, 1);
    if (wrong) fprintf(stderr, "found: %s\n", wrong);
    _exit(wrong ? WRONG : WELL);
}

/* The patient's exit status; a signal counts as WRONG. */
static int verdict(int fault, const pr_sim_config *mode, pr_dtype dtype)
{
    char numbers[4][4];
    snprintf(numbers[0], sizeof numbers[0], "%d", fault);
    snprintf(numbers[1], sizeof numbers[1], "%d", (int)mode->order);
    snprintf(numbers[2], sizeof numbers[2], "%d", (int)mode->copies);
    snprintf(numbers[3], sizeof numbers[3], "%d", (int)dtype);
    char *const argv[] = {(char *)program, numbers[0], numbers[1], numbers[2], numbers[3], NULL};
    pid_t pid;
    posix_spawn_file_actions_t quiet;
    posix_spawn_file_actions_init(&quiet);
    if (!getenv("SIM_FAULTS_LOUD"))
        posix_spawn_file_actions_addopen(&quiet, STDERR_FILENO, "/dev/null", 1 /* O_WRONLY */, 0);
    assert_int_equal(posix_spawn(&pid, program, &quiet, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&quiet);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : WRONG;
}

static const pr_dtype dtypes[] = {PR_DTYPE_BF16, PR_DTYPE_F32}; /* one for each kernel */

static bool is_found(int fault, bool by_sanitizer, pr_dtype dtype)
{
    pr_sim_config modes[9];
    const int n_modes = check_modes(modes, false);
    for (int m = 0; m < n_modes; m++) {
        const int v = verdict(fault, &modes[m], dtype);
        if (by_sanitizer ? v == SANITIZER : v != WELL) return true;
    }
    return false;
}

/* Requires that the fault is found in some mode, in both kernels, and, where `by_sanitizer`, that
 * it is the sanitizer that says so. */
static void require_found(int fault, bool by_sanitizer)
{
    for (pr_dtype dtype : dtypes)
        if (!is_found(fault, by_sanitizer, dtype))
            fail_msg("fault %d of dtype %d is not found%s", fault, (int)dtype,
                     by_sanitizer ? " by the sanitizer" : "");
}

#ifdef SIM_TSAN
static const bool sees_races = true;
#else
static const bool sees_races = false;
#endif
#ifdef SIM_ASAN
static const bool sees_bounds = true;
#else
static const bool sees_bounds = false;
#endif

static void the_kernel_without_fault_is_well(void **)
{
    pr_sim_config modes[9];
    const int n_modes = check_modes(modes, CHECK_IS_QUICK);
    for (int m = 0; m < n_modes; m++)
        for (pr_dtype dtype : dtypes)
            assert_int_equal(verdict(FAULT_NONE, &modes[m], dtype), WELL);
}

static void a_missing_barrier_is_found(void **)
{
    require_found(PR_FAULT_NO_BARRIER, sees_races);
}

static void a_missing_wait_is_found(void **)
{
    require_found(PR_FAULT_NO_WAIT, false); /* by the values: deferred copies come too late */
}

static void an_early_overwrite_is_found(void **)
{
    require_found(PR_FAULT_EARLY_OVERWRITE, sees_races);
}

static void a_write_beyond_the_end_is_found(void **)
{
    require_found(PR_FAULT_OUT_OF_BOUNDS, sees_bounds);
}

static void too_little_shared_memory_is_found(void **)
{
    require_found(PR_FAULT_SHARED_SMALL, sees_bounds);
}

static void a_divergent_barrier_is_found(void **)
{
    require_found(PR_FAULT_DIVERGENT, false);
}

static void a_race_between_blocks_is_found(void **)
{
    if (!sees_races) skip(); /* nothing else can */
    require_found(FAULT_BLOCKS, true);
}

int main(int argc, char **argv)
{
    if (argc == 5) return patient(argv);
    program = argv[0];
    setenv("TSAN_OPTIONS", "halt_on_error=1:exitcode=66", 1);
    setenv("ASAN_OPTIONS", "exitcode=66:detect_leaks=0:detect_stack_use_after_return=0", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_kernel_without_fault_is_well),
        cmocka_unit_test(a_missing_barrier_is_found),
        cmocka_unit_test(a_missing_wait_is_found),
        cmocka_unit_test(an_early_overwrite_is_found),
        cmocka_unit_test(a_write_beyond_the_end_is_found),
        cmocka_unit_test(too_little_shared_memory_is_found),
        cmocka_unit_test(a_divergent_barrier_is_found),
        cmocka_unit_test(a_race_between_blocks_is_found),
    };
    return cmocka_run_group_tests_name("faults", tests, NULL, NULL);
}
