/* test_device.cpp: the simulated device itself: fragment layouts, barriers, streams, limits. */
#include "kernels/cuda/device.cuh"

#include "tests/simcuda/check.h"

static const pr_sim_config forward = {90, PR_SIM_FORWARD, PR_SIM_DEFERRED, 1};

/* ---- layouts, from the tables of the PTX ISA, "Matrix fragments for mma.m16n8k16 with floating
 * point type" (9.7.14.5.8 in version 9) and "ldmatrix" ---- */

/* Row and column of element i of lane l, written out again from the text and not shared with
 * block.cpp: operand A has 8 elements, B 4, accumulators 4. */
static void place_a(int lane, int i, int *row, int *column)
{
    const int group = lane >> 2, in_group = lane % 4;
    const bool is_upper = (0 <= i && i < 2) || (4 <= i && i < 6);
    *row = is_upper ? group : group + 8;
    *column = in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0);
}

static void place_b(int lane, int i, int *row, int *column)
{
    *row = lane % 4 * 2 + (i & 1) + (i >= 2 ? 8 : 0);
    *column = lane >> 2;
}

static void place_c(int lane, int i, int *row, int *column)
{
    *row = i < 2 ? lane >> 2 : (lane >> 2) + 8;
    *column = lane % 4 * 2 + (i & 1);
}

typedef struct mma_call {
    const uint32_t *a; /* [32][4] */
    const uint32_t *b; /* [32][2] */
    float *d;          /* [32][4] */
    bool is_bf16;
} mma_call;

static void mma_kernel(mma_call c)
{
    const int lane = (int)threadIdx.x;
    uint32_t a[4], b[2];
    float d[4];
    for (int i = 0; i < 4; i++) a[i] = c.a[lane * 4 + i];
    for (int i = 0; i < 2; i++) b[i] = c.b[lane * 2 + i];
    for (int i = 0; i < 4; i++) d[i] = c.d[lane * 4 + i];
    if (c.is_bf16)
        pr_mma(__nv_bfloat16, d, a, b);
    else
        pr_mma(__half, d, a, b);
    for (int i = 0; i < 4; i++) c.d[lane * 4 + i] = d[i];
}

static void mma_case(pr_dtype dtype)
{
    check c;
    check_begin(&c, &forward, 3);
    float a[16][16], b[16][8], d[16][8];
    for (auto &row : a) for (float &x : row) x = (float)(check_random(&c) % 17) - 8.0f;
    for (auto &row : b) for (float &x : row) x = (float)(check_random(&c) % 17) - 8.0f;
    for (auto &row : d) for (float &x : row) x = (float)(check_random(&c) % 17) - 8.0f;
    uint16_t ra[32][8], rb[32][4];
    float rd[32][4];
    for (int l = 0; l < 32; l++) {
        int row, column;
        for (int i = 0; i < 8; i++) {
            place_a(l, i, &row, &column);
            check_set(&ra[l][i], dtype, 0, a[row][column]);
        }
        for (int i = 0; i < 4; i++) {
            place_b(l, i, &row, &column);
            check_set(&rb[l][i], dtype, 0, b[row][column]);
            place_c(l, i, &row, &column);
            rd[l][i] = d[row][column];
        }
    }
    mma_call call = {check_device(&c, (const uint32_t *)ra, 128),
                     check_device(&c, (const uint32_t *)rb, 64), check_device(&c, &rd[0][0], 128),
                     dtype == PR_DTYPE_BF16};
    PR_LAUNCH("mma", mma_kernel, dim3(1), dim3(32), 0, c.stream, call);
    check_sync(&c);
    cudaMemcpy(rd, call.d, sizeof rd, cudaMemcpyDeviceToHost);
    for (int l = 0; l < 32; l++) {
        for (int i = 0; i < 4; i++) {
            int row, column;
            place_c(l, i, &row, &column);
            float expected = d[row][column];
            for (int k = 0; k < 16; k++) expected += a[row][k] * b[k][column];
            assert_true(rd[l][i] == expected);
        }
    }
    check_end(&c);
}

static void mma_places_elements_as_the_ptx_table_says(void **)
{
    mma_case(PR_DTYPE_BF16);
    mma_case(PR_DTYPE_F16);
}

typedef struct ldmatrix_call {
    uint16_t *out; /* [32][8] */
    bool is_transposed;
} ldmatrix_call;

/* Matrix m has 100 m + 10 row + column at [row][column]. */
static void ldmatrix_kernel(ldmatrix_call c)
{
    PR_SHARED(uint16_t, tile, 4 * 64);
    const int lane = (int)threadIdx.x;
    for (int i = lane; i < 256; i += 32)
        tile[i] = (uint16_t)(i / 64 * 100 + i / 8 % 8 * 10 + i % 8);
    __syncthreads();
    uint32_t out[4];
    if (c.is_transposed)
        pr_ldmatrix_x4_trans(out, tile + lane * 8);
    else
        pr_ldmatrix_x4(out, tile + lane * 8);
    for (int m = 0; m < 4; m++) {
        c.out[lane * 8 + 2 * m] = (uint16_t)(out[m] & 0xffffu);
        c.out[lane * 8 + 2 * m + 1] = (uint16_t)(out[m] >> 16);
    }
}

static void ldmatrix_places_elements_as_the_ptx_table_says(void **)
{
    for (int is_transposed = 0; is_transposed < 2; is_transposed++) {
        check c;
        check_begin(&c, &forward, 3);
        const ldmatrix_call call = {check_device<uint16_t>(&c, NULL, 256), is_transposed != 0};
        PR_LAUNCH("ldmatrix", ldmatrix_kernel, dim3(1), dim3(32), 0, c.stream, call);
        check_sync(&c);
        uint16_t out[32][8];
        cudaMemcpy(out, call.out, sizeof out, cudaMemcpyDeviceToHost);
        for (int l = 0; l < 32; l++) {
            for (int i = 0; i < 8; i++) {
                const int row = l / 4, column = l % 4 * 2 + i % 2;
                const int expected = i / 2 * 100 +
                                     (is_transposed ? column * 10 + row : row * 10 + column);
                assert_int_equal(out[l][i], expected);
            }
        }
        check_end(&c);
    }
}

/* ---- barriers ---- */
typedef struct sum_call {
    const float *x;
    float *y;
    int kind;
} sum_call;

static void sum_kernel(sum_call c)
{
    PR_SHARED(float, scratch, 4);
    c.y[threadIdx.x] = pr_block_sum<128>(c.x[threadIdx.x], scratch);
}

static void a_block_sum_is_the_same_in_every_order(void **)
{
    pr_sim_config modes[9];
    const int n_modes = check_modes(modes, false);
    float first = 0.0f;
    for (int m = 0; m < n_modes; m++) {
        check c;
        check_begin(&c, &modes[m], 5);
        float x[128], y[128];
        for (float &one : x) one = check_number(&c);
        const sum_call call = {check_device(&c, x, 128), check_device<float>(&c, NULL, 128), 0};
        PR_LAUNCH("sum", sum_kernel, dim3(1), dim3(128), 0, c.stream, call);
        check_sync(&c);
        cudaMemcpy(y, call.y, sizeof y, cudaMemcpyDeviceToHost);
        if (m == 0) first = y[0];
        for (float one : y) assert_true(one == first);
        check_end(&c);
    }
}

enum { MEET_ELSEWHERE, RETURN_EARLY, SHUFFLE_ALONE, COPY_UNWAITED };

static void wrong_kernel(sum_call c)
{
    PR_SHARED(float, shared, 4);
    if (c.kind == MEET_ELSEWHERE) {
        if (threadIdx.x < 64)
            __syncthreads();
        else
            __syncthreads();
    }
    if (c.kind == RETURN_EARLY) {
        if (threadIdx.x == 5) return;
        __syncthreads();
    }
    if (c.kind == SHUFFLE_ALONE && threadIdx.x % 32 < 16)
        c.y[threadIdx.x] = __shfl_xor_sync(PR_ALL_LANES, 1.0f, 1);
    if (c.kind == COPY_UNWAITED && threadIdx.x == 0) {
        pr_cp_async_16(shared, c.x, true);
        pr_cp_async_commit();
    }
}

static void a_barrier_that_not_all_reach_is_reported(void **)
{
    static const char *const messages[] = {"divergent barrier", "divergent barrier",
                                           "divergent barrier", "nobody waited"};
    for (int kind = 0; kind < 4; kind++) {
        check c;
        check_begin(&c, &forward, 5);
        sum_call call = {check_device<float>(&c, NULL, 128), check_device<float>(&c, NULL, 128),
                         kind};
        PR_LAUNCH("wrong", wrong_kernel, dim3(2), dim3(128), 0, c.stream, call);
        assert_int_equal(cudaStreamSynchronize(c.stream), cudaErrorLaunchFailure);
        assert_non_null(pr_sim_fault());
        assert_non_null(strstr(pr_sim_fault(), messages[kind]));
        assert_non_null(strstr(pr_sim_fault(), "kernel wrong, block 0,0"));
        if (kind != COPY_UNWAITED) assert_non_null(strstr(pr_sim_fault(), "test_device.cpp:"));
        pr_sim_reset(&forward);
        check_end(&c);
    }
}

/* ---- streams ---- */
static void write_kernel(sum_call c)
{
    c.y[threadIdx.x] = (float)c.kind;
}

static void work_waits_until_the_host_does(void **)
{
    check c;
    check_begin(&c, &forward, 5);
    float y[32];
    const sum_call call = {NULL, check_device<float>(&c, NULL, 32), 4};
    PR_LAUNCH("write", write_kernel, dim3(1), dim3(32), 0, c.stream, call);
    cudaMemcpy(y, call.y, sizeof y, cudaMemcpyDeviceToHost);
    assert_true(isnan(y[0]));
    check_sync(&c);
    cudaMemcpy(y, call.y, sizeof y, cudaMemcpyDeviceToHost);
    assert_true(y[31] == 4.0f);
    check_end(&c);
}

static void an_event_orders_two_streams(void **)
{
    for (int has_wait = 0; has_wait < 2; has_wait++) {
        check c;
        check_begin(&c, &forward, 5);
        cudaStream_t other;
        cudaEvent_t event;
        assert_int_equal(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
        assert_int_equal(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
        float y[32] = {0};
        const sum_call call = {NULL, check_device<float>(&c, NULL, 32), 6};
        PR_LAUNCH("write", write_kernel, dim3(1), dim3(32), 0, c.stream, call);
        cudaEventRecord(event, c.stream);
        assert_int_equal(cudaEventQuery(event), cudaErrorNotReady);
        if (has_wait) cudaStreamWaitEvent(other, event, 0);
        cudaMemcpyAsync(y, call.y, sizeof y, cudaMemcpyDeviceToHost, other);
        assert_int_equal(cudaStreamSynchronize(other), cudaSuccess);
        assert_true(has_wait ? y[3] == 6.0f : isnan(y[3]));
        assert_int_equal(cudaEventSynchronize(event), cudaSuccess);
        assert_int_equal(cudaEventQuery(event), cudaSuccess);
        assert_int_equal(cudaEventDestroy(event), cudaSuccess);
        assert_int_equal(cudaStreamDestroy(other), cudaSuccess);
        check_end(&c);
    }
}

static void what_is_not_allowed_is_refused(void **)
{
    check c;
    check_begin(&c, &forward, 5);
    const sum_call call = {NULL, check_device<float>(&c, NULL, 128), 0};
    const cudaError_t bad = cudaErrorInvalidConfiguration;
    assert_int_equal(PR_LAUNCH("w", write_kernel, dim3(0), dim3(32), 0, c.stream, call), bad);
    assert_int_equal(PR_LAUNCH("w", write_kernel, dim3(1), dim3(2048), 0, c.stream, call), bad);
    assert_int_equal(PR_LAUNCH("w", write_kernel, dim3(1), dim3(32), 50000, c.stream, call), bad);
    check_end(&c);
    check_begin(&c, &forward, 5);
    assert_int_equal(PR_LAUNCH("w", write_kernel, dim3(1), dim3(32), 0, NULL, call),
                     cudaErrorInvalidResourceHandle);
    pr_sim_reset(&forward);
    check_end(&c);
}

static void each_architecture_has_its_limit_of_shared_memory(void **)
{
    static const struct { int arch, kilobytes; } limits[] = {
        {80, 163}, {90, 227}, {100, 227}, {120, 99}};
    for (const auto &limit : limits) {
        pr_sim_config config = forward;
        config.arch = limit.arch;
        check c;
        check_begin(&c, &config, 5);
        const int most = limit.kilobytes * 1024;
        int found = 0;
        const void *kernel = (const void *)write_kernel;
        const cudaFuncAttribute what = cudaFuncAttributeMaxDynamicSharedMemorySize;
        assert_int_equal(cudaDeviceGetAttribute(&found, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0),
                         cudaSuccess);
        assert_int_equal(found, most);
        assert_int_equal(cudaFuncSetAttribute(kernel, what, most + 1), cudaErrorInvalidValue);
        assert_int_equal(cudaFuncSetAttribute(kernel, what, most), cudaSuccess);
        const sum_call call = {NULL, check_device<float>(&c, NULL, 128), 0};
        assert_int_equal(PR_LAUNCH("w", write_kernel, dim3(1), dim3(32), (size_t)most, c.stream,
                                   call), cudaSuccess);
        check_sync(&c);
        check_end(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mma_places_elements_as_the_ptx_table_says),
        cmocka_unit_test(ldmatrix_places_elements_as_the_ptx_table_says),
        cmocka_unit_test(a_block_sum_is_the_same_in_every_order),
        cmocka_unit_test(a_barrier_that_not_all_reach_is_reported),
        cmocka_unit_test(work_waits_until_the_host_does),
        cmocka_unit_test(an_event_orders_two_streams),
        cmocka_unit_test(what_is_not_allowed_is_refused),
        cmocka_unit_test(each_architecture_has_its_limit_of_shared_memory),
    };
    return cmocka_run_group_tests_name("device", tests, NULL, NULL);
}
