/* test_runtime.cpp: the simulated CUDA runtime: devices, memory, streams, events, what is refused.
 *
 * With the argument `environment` this program checks what the environment has set up. */
#include "kernels/cuda/device.cuh"

#include "tests/simcuda/check.h"

#include <pthread.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

static const pr_sim_config forward = {90, PR_SIM_FORWARD, PR_SIM_DEFERRED, 1};
static const pr_sim_config reversed = {90, PR_SIM_REVERSE, PR_SIM_DEFERRED, 1};
static const char *program;

typedef struct add_call {
    const float *x;
    float *y; /* [32] */
    float number;
} add_call;

static void add_kernel(add_call c)
{
    c.y[threadIdx.x] = c.x[threadIdx.x] + c.number;
}

static void add(const float *x, float *y, float number, cudaStream_t s)
{
    const add_call call = {x, y, number};
    assert_int_equal(PR_LAUNCH("add", add_kernel, dim3(1), dim3(32), 0, s, call), cudaSuccess);
}

static cudaStream_t stream_make(void)
{
    cudaStream_t s;
    assert_int_equal(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), cudaSuccess);
    return s;
}

static cudaEvent_t event_make(unsigned flags)
{
    cudaEvent_t e;
    assert_int_equal(cudaEventCreateWithFlags(&e, flags), cudaSuccess);
    return e;
}

/* ---- streams and events ---- */

/* Two batches through one buffer: kernel on x, then the next upload to x. Without the wait for the
 * kernel the upload may come first, which the early order shows and the late one does not. */
static float upload_behind_kernel(const pr_sim_config *config, bool has_wait)
{
    check c;
    check_begin(&c, config, 5);
    float ones[32], twos[32], found[32];
    for (float &x : ones) x = 1.0f;
    for (float &x : twos) x = 2.0f;
    float *x = check_device<float>(&c, ones, 32), *y = check_device<float>(&c, NULL, 32);
    cudaStream_t copies = stream_make();
    cudaEvent_t done = event_make(cudaEventDisableTiming);
    add(x, y, 10.0f, c.stream);
    assert_int_equal(cudaEventRecord(done, c.stream), cudaSuccess);
    if (has_wait) assert_int_equal(cudaStreamWaitEvent(copies, done, 0), cudaSuccess);
    assert_int_equal(cudaMemcpyAsync(x, twos, sizeof twos, cudaMemcpyHostToDevice, copies),
                     cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(c.stream), cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(copies), cudaSuccess);
    assert_int_equal(cudaMemcpy(found, y, sizeof found, cudaMemcpyDeviceToHost), cudaSuccess);
    assert_int_equal(cudaEventDestroy(done), cudaSuccess);
    assert_int_equal(cudaStreamDestroy(copies), cudaSuccess);
    check_end(&c);
    return found[31];
}

static void an_early_order_shows_a_copy_that_overtakes_a_kernel(void **)
{
    assert_true(upload_behind_kernel(&forward, true) == 11.0f);
    assert_true(upload_behind_kernel(&reversed, true) == 11.0f);
    assert_true(upload_behind_kernel(&forward, false) == 11.0f);
    assert_true(upload_behind_kernel(&reversed, false) == 12.0f);
    bool is_shown = false;
    for (uint64_t seed = 1; seed <= 64; seed++) {
        const pr_sim_config config = {90, PR_SIM_RANDOM, PR_SIM_DEFERRED, seed};
        assert_true(upload_behind_kernel(&config, true) == 11.0f);
        if (upload_behind_kernel(&config, false) == 12.0f) is_shown = true;
    }
    assert_true(is_shown);
}

/* Upload, kernel, download on three streams, as a backend has them; the host only asks. */
static void asking_lets_the_device_get_on(void **)
{
    for (int order = 0; order < 3; order++) {
        const pr_sim_config config = {90, (pr_sim_order)order, PR_SIM_DEFERRED, 3};
        check c;
        check_begin(&c, &config, 5);
        float in[32], out[32] = {0};
        for (float &x : in) x = 4.0f;
        float *x = check_device<float>(&c, NULL, 32), *y = check_device<float>(&c, NULL, 32);
        cudaStream_t up = stream_make(), down = stream_make();
        cudaEvent_t uploaded = event_make(cudaEventDisableTiming);
        cudaEvent_t done = event_make(cudaEventDisableTiming);
        cudaMemcpyAsync(x, in, sizeof in, cudaMemcpyHostToDevice, up);
        cudaEventRecord(uploaded, up);
        cudaStreamWaitEvent(c.stream, uploaded, 0);
        /* allowed while it is waited for */
        assert_int_equal(cudaEventDestroy(uploaded), cudaSuccess);
        for (int i = 0; i < 100; i++) add(i ? y : x, y, 1.0f, c.stream);
        cudaEventRecord(done, c.stream);
        cudaStreamWaitEvent(down, done, 0);
        cudaMemcpyAsync(out, y, sizeof out, cudaMemcpyDeviceToHost, down);
        int n_polls = 0;
        cudaError_t e;
        while ((e = cudaStreamQuery(down)) == cudaErrorNotReady && n_polls < 1000) n_polls++;
        assert_int_equal(e, cudaSuccess);
        assert_true(out[31] == 104.0f);
        assert_int_equal(cudaEventQuery(done), cudaSuccess);
        cudaEventDestroy(done);
        cudaStreamDestroy(up);
        cudaStreamDestroy(down);
        check_end(&c);
    }
}

static void an_event_waits_for_its_own_record_only(void **)
{
    check c;
    check_begin(&c, &forward, 5);
    float zeros[32] = {0}, found[32];
    float *x = check_device<float>(&c, zeros, 32);
    cudaEvent_t e = event_make(cudaEventDefault), later = event_make(cudaEventDefault);
    assert_int_equal(cudaEventQuery(e), cudaSuccess); /* never recorded */
    add(x, x, 1.0f, c.stream);
    cudaEventRecord(e, c.stream);
    add(x, x, 1.0f, c.stream);
    cudaEventRecord(later, c.stream);
    float ms = -1.0f;
    assert_int_equal(cudaEventElapsedTime(&ms, e, later), cudaErrorNotReady);
    assert_int_equal(cudaEventSynchronize(e), cudaSuccess);
    cudaMemcpy(found, x, sizeof found, cudaMemcpyDeviceToHost);
    assert_true(found[0] == 1.0f);
    assert_int_equal(cudaEventSynchronize(later), cudaSuccess);
    assert_int_equal(cudaEventElapsedTime(&ms, e, later), cudaSuccess);
    assert_true(ms >= 0.0f);
    cudaEventDestroy(e);
    cudaEventDestroy(later);
    check_end(&c);
}

/* ---- memory ---- */

static void memory_ends(void **)
{
    pr_sim_reset(&forward);
    pr_sim_devices_set(2, 1000000);
    size_t free_bytes = 0, total_bytes = 0;
    void *p[3] = {NULL, NULL, NULL};
    assert_int_equal(cudaMalloc(&p[0], 600000), cudaSuccess);
    assert_int_equal(cudaMemGetInfo(&free_bytes, &total_bytes), cudaSuccess);
    assert_int_equal(free_bytes, 400000);
    assert_int_equal(total_bytes, 1000000);
    assert_int_equal(cudaMalloc(&p[1], 400001), cudaErrorMemoryAllocation);
    assert_null(p[1]);
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    assert_int_equal(cudaSetDevice(1), cudaSuccess); /* has its own */
    assert_int_equal(cudaMalloc(&p[1], 1000000), cudaSuccess);
    assert_int_equal(cudaMallocHost(&p[2], 5000000), cudaSuccess); /* the host's */
    assert_int_equal(pr_sim_bytes_in_use(), 1600000);
    assert_int_equal(pr_sim_pinned_in_use(), 5000000);
    assert_int_equal(cudaFree(p[0]), cudaSuccess);
    assert_int_equal(cudaFree(p[1]), cudaSuccess);
    assert_int_equal(cudaFree(p[2]), cudaErrorInvalidValue);
    assert_int_equal(cudaFreeHost(p[2]), cudaSuccess);
    assert_int_equal(pr_sim_bytes_in_use() + pr_sim_pinned_in_use(), 0);
}

static void the_chosen_allocation_fails(void **)
{
    pr_sim_reset(&forward);
    pr_sim_fail_alloc(3);
    void *p[4] = {NULL, NULL, NULL, NULL};
    assert_int_equal(cudaMalloc(&p[0], 100), cudaSuccess);
    assert_int_equal(cudaMallocHost(&p[1], 100), cudaSuccess);
    assert_int_equal(cudaMalloc(&p[2], 100), cudaErrorMemoryAllocation);
    assert_int_equal(cudaMalloc(&p[3], 100), cudaSuccess);
    cudaFree(p[0]);
    cudaFreeHost(p[1]);
    cudaFree(p[3]);
    cudaGetLastError();
}

static void a_copy_that_fails_ends_the_device(void **)
{
    check c;
    check_begin(&c, &forward, 5);
    float y[32] = {0};
    float *x = check_device<float>(&c, y, 32);
    pr_sim_fail_copy(2);
    cudaEvent_t e = event_make(cudaEventDisableTiming);
    assert_int_equal(cudaMemcpyAsync(y, x, 64, cudaMemcpyDeviceToHost, c.stream), cudaSuccess);
    assert_int_equal(cudaMemcpyAsync(y, x, 64, cudaMemcpyDeviceToHost, c.stream), cudaSuccess);
    cudaEventRecord(e, c.stream);
    assert_int_equal(cudaEventQuery(e), cudaErrorNotReady);
    assert_int_equal(cudaEventQuery(e), cudaErrorECCUncorrectable);
    assert_int_equal(cudaStreamSynchronize(c.stream), cudaErrorECCUncorrectable);
    void *p;
    assert_int_equal(cudaMalloc(&p, 1), cudaErrorECCUncorrectable);
    assert_string_equal(cudaGetErrorName(cudaErrorECCUncorrectable), "cudaErrorECCUncorrectable");
    cudaEventDestroy(e);
    pr_sim_reset(&forward);
    check_end(&c);
}

static void pageable_memory_is_reported_where_it_must_not_be(void **)
{
    check c;
    check_begin(&c, &forward, 5);
    float y[32] = {0};
    float *x = check_device<float>(&c, y, 32);
    void *pinned = NULL;
    float *registered = check_host<float>(&c, 32);
    pr_sim_require_pinned(true);
    assert_int_equal(cudaHostAlloc(&pinned, 128, cudaHostAllocDefault), cudaSuccess);
    assert_int_equal(cudaMemcpyAsync(pinned, x, 128, cudaMemcpyDeviceToHost, c.stream),
                     cudaSuccess);
    assert_int_equal(cudaHostRegister(registered, 128, cudaHostRegisterDefault), cudaSuccess);
    assert_int_equal(cudaMemcpyAsync(registered, x, 128, cudaMemcpyDeviceToHost, c.stream),
                     cudaSuccess);
    check_sync(&c);
    assert_int_equal(cudaHostUnregister(registered), cudaSuccess);
    assert_int_equal(cudaHostUnregister(registered), cudaErrorHostMemoryNotRegistered);
    assert_int_equal(cudaMemcpy(y, x, 128, cudaMemcpyDeviceToHost), cudaSuccess);
    assert_null(pr_sim_fault());
    assert_int_not_equal(cudaMemcpyAsync(y, x, 128, cudaMemcpyDeviceToHost, c.stream), cudaSuccess);
    assert_non_null(strstr(pr_sim_fault(), "not pinned"));
    pr_sim_reset(&forward);
    cudaFreeHost(pinned);
    check_end(&c);
}

static void a_copy_is_held_to_its_memory(void **)
{
    check c;
    check_begin(&c, &forward, 5);
    float y[40] = {0};
    float *x = check_device<float>(&c, y, 32);
    const cudaMemcpyKind down = cudaMemcpyDeviceToHost;
    assert_int_equal(cudaMemcpyAsync(y, x, 128, cudaMemcpyHostToDevice, c.stream),
                     cudaErrorInvalidValue); /* the wrong way */
    assert_int_equal(cudaMemcpy(y, y + 20, 4, cudaMemcpyDeviceToDevice), cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy2DAsync(y, 8, x, 4, 8, 2, down, c.stream), cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy2DAsync(y, 8, x + 4, 16, 8, 3, down, c.stream), cudaSuccess);
    check_sync(&c);
    assert_int_equal(cudaMemcpyAsync(y, x + 1, 128, down, c.stream), cudaErrorIllegalAddress);
    assert_non_null(strstr(pr_sim_fault(), "beyond the end"));
    pr_sim_reset(&forward);
    check_end(&c);
}

static void a_run_of_rows_is_copied(void **)
{
    check c;
    check_begin(&c, &forward, 5);
    float in[12], out[6] = {0};
    for (int i = 0; i < 12; i++) in[i] = (float)i;
    float *x = check_device<float>(&c, NULL, 12);
    cudaMemcpyAsync(x, in, sizeof in, cudaMemcpyHostToDevice, c.stream);
    cudaMemsetAsync(x + 4, 0, 4, c.stream);
    cudaMemcpy2DAsync(out, 8, x, 16, 8, 3, cudaMemcpyDeviceToHost, c.stream);
    check_sync(&c);
    const float expected[6] = {0, 1, 0, 5, 8, 9};
    assert_memory_equal(out, expected, sizeof out);
    check_end(&c);
}

/* ---- devices ---- */

static void devices_are_told_apart(void **)
{
    pr_sim_reset(&forward);
    pr_sim_devices_set(3, 1ull << 30);
    int n = 0;
    assert_int_equal(cudaGetDeviceCount(&n), cudaSuccess);
    assert_int_equal(n, 3);
    cudaDeviceProp of[2];
    char bus[2][32];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(cudaGetDeviceProperties(&of[i], i + 1), cudaSuccess);
        assert_int_equal(cudaDeviceGetPCIBusId(bus[i], 32, i + 1), cudaSuccess);
        assert_int_equal(of[i].major, 9);
        assert_int_equal(of[i].totalGlobalMem, 1ull << 30);
        assert_non_null(strstr(of[i].name, "sm_90"));
    }
    assert_string_not_equal(bus[0], bus[1]);
    assert_memory_not_equal(&of[0].uuid, &of[1].uuid, sizeof of[0].uuid);
    assert_int_equal(cudaSetDevice(3), cudaErrorInvalidDevice);
    assert_int_equal(cudaGetDeviceProperties(&of[0], 3), cudaErrorInvalidDevice);
    pr_sim_devices_set(0, 0);
    assert_int_equal(cudaGetDeviceCount(&n), cudaErrorNoDevice);
    pr_sim_reset(&forward);
}

static void a_kernel_runs_on_its_stream_s_device(void **)
{
    check c;
    check_begin(&c, &forward, 5);
    pr_sim_devices_set(2, 1 << 20);
    float zeros[32] = {0};
    float *x = check_device<float>(&c, zeros, 32);
    const void *kernel = (const void *)add_kernel;
    const cudaFuncAttribute what = cudaFuncAttributeMaxDynamicSharedMemorySize;
    assert_int_equal(cudaFuncSetAttribute(kernel, what, 100000), cudaSuccess);
    const add_call call = {x, x, 1.0f};
    assert_int_equal(PR_LAUNCH("a", add_kernel, dim3(1), dim3(32), 100000, c.stream, call),
                     cudaSuccess);
    assert_int_equal(cudaSetDevice(1), cudaSuccess);
    assert_int_equal(PR_LAUNCH("a", add_kernel, dim3(1), dim3(32), 0, c.stream, call),
                     cudaErrorInvalidResourceHandle);
    cudaStream_t other = stream_make(); /* where the kernel has not been given more memory */
    assert_int_equal(PR_LAUNCH("a", add_kernel, dim3(1), dim3(32), 100000, other, call),
                     cudaErrorInvalidConfiguration);
    cudaStreamDestroy(other);
    assert_int_equal(cudaSetDevice(0), cudaSuccess);
    check_end(&c);
}

static void *device_of_a_thread(void *)
{
    static int found[2];
    cudaGetDevice(&found[0]);
    cudaSetDevice(1);
    cudaGetDevice(&found[1]);
    return found;
}

static void each_thread_has_a_current_device(void **)
{
    pr_sim_reset(&forward);
    pr_sim_devices_set(2, 1 << 20);
    pthread_t thread;
    void *found;
    assert_int_equal(pthread_create(&thread, NULL, device_of_a_thread, NULL), 0);
    assert_int_equal(pthread_join(thread, &found), 0);
    assert_int_equal(((const int *)found)[0], 0);
    assert_int_equal(((const int *)found)[1], 1);
    int own = -1;
    cudaGetDevice(&own);
    assert_int_equal(own, 0);
    pr_sim_reset(&forward);
}

/* ---- a program that is steered from outside ---- */

static int environment_check(void)
{
    int n = 0;
    char bus[32] = "";
    cudaDeviceProp of;
    void *p = NULL;
    const bool is_well = cudaGetDeviceCount(&n) == cudaSuccess && n == 2 &&
                         cudaDeviceGetPCIBusId(bus, 32, 0) == cudaSuccess &&
                         strcmp(bus, "0000:03:00.0") == 0 &&
                         cudaGetDeviceProperties(&of, 1) == cudaSuccess && of.major == 12 &&
                         of.totalGlobalMem == 123456 &&
                         cudaMalloc(&p, 1000) == cudaErrorMemoryAllocation &&
                         cudaMalloc(&p, 123457) == cudaErrorMemoryAllocation &&
                         cudaMalloc(&p, 123456) == cudaSuccess;
    return is_well ? 0 : 1;
}

static void the_environment_steers_a_program(void **)
{
    setenv("POOLRANK_SIM_DEVICES", "4", 1);
    setenv("CUDA_VISIBLE_DEVICES", "2,0,7,1", 1); /* 7 is none: what follows does not count */
    setenv("POOLRANK_SIM_ARCH", "120", 1);
    setenv("POOLRANK_SIM_MEMORY", "123456", 1);
    setenv("POOLRANK_SIM_FAIL_ALLOC", "1", 1);
    setenv("POOLRANK_SIM_ORDER", "random", 1);
    pid_t pid;
    int status = -1;
    char mode[] = "environment";
    char *const argv[] = {(char *)program, mode, NULL};
    assert_int_equal(posix_spawn(&pid, program, NULL, NULL, argv, environ), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    for (const char *name : {"POOLRANK_SIM_DEVICES", "CUDA_VISIBLE_DEVICES", "POOLRANK_SIM_ARCH",
                             "POOLRANK_SIM_MEMORY", "POOLRANK_SIM_FAIL_ALLOC",
                             "POOLRANK_SIM_ORDER"})
        unsetenv(name);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "environment") == 0) return environment_check();
    program = argv[0];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_early_order_shows_a_copy_that_overtakes_a_kernel),
        cmocka_unit_test(asking_lets_the_device_get_on),
        cmocka_unit_test(an_event_waits_for_its_own_record_only),
        cmocka_unit_test(memory_ends),
        cmocka_unit_test(the_chosen_allocation_fails),
        cmocka_unit_test(a_copy_that_fails_ends_the_device),
        cmocka_unit_test(pageable_memory_is_reported_where_it_must_not_be),
        cmocka_unit_test(a_copy_is_held_to_its_memory),
        cmocka_unit_test(a_run_of_rows_is_copied),
        cmocka_unit_test(devices_are_told_apart),
        cmocka_unit_test(a_kernel_runs_on_its_stream_s_device),
        cmocka_unit_test(each_thread_has_a_current_device),
        cmocka_unit_test(the_environment_steers_a_program),
    };
    return cmocka_run_group_tests_name("runtime", tests, NULL, NULL);
}
