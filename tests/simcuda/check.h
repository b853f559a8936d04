/* check.h: what the tests of the kernels share: the device, numbers, buffers, modes, comparisons.
 *
 * Buffers live until check_end, which also requires that the device found nothing. With
 * PR_ON_HARDWARE the device is a GPU: it has one mode, and what it finds are CUDA's errors. */
#ifndef SIMCUDA_CHECK_H
#define SIMCUDA_CHECK_H

#include "kernels/cuda/kernels.h"
#include "tests/simcuda/simcuda.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern "C" {
#include <cmocka.h>
}

#include <sys/mman.h>

/* ---- the device, simulated or real ---- */
#ifdef PR_ON_HARDWARE
static inline void device_reset(const pr_sim_config *)
{
    (void)cudaGetLastError();
}

/* What went wrong, or NULL. */
static inline const char *device_fault(void)
{
    const cudaError_t e = cudaGetLastError();
    return e == cudaSuccess ? NULL : cudaGetErrorString(e);
}

static inline uint64_t device_bytes_in_use(void)
{
    return 0;
}

/* Compute capability times 10; 0 when it cannot be asked. */
static inline int device_arch(const pr_sim_config *)
{
    int device = 0, major = 0, minor = 0;
    if (cudaGetDevice(&device) != cudaSuccess) return 0;
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
    return major * 10 + minor;
}

/* NaN as f32, bf16 and f16; over when it returns, as a copy from `from`. */
static inline void device_fill(void *p, const void *from, size_t n_bytes)
{
    if (from)
        cudaMemcpy(p, from, n_bytes, cudaMemcpyHostToDevice);
    else
        cudaMemset(p, 0xff, n_bytes);
    cudaDeviceSynchronize();
}

/* n_bytes of which few are touched; NULL: there are not that many. */
static inline void *device_sparse(size_t n_bytes)
{
    void *p = NULL;
    if (cudaMalloc(&p, n_bytes) == cudaSuccess) return p;
    (void)cudaGetLastError();
    return NULL;
}

static inline void device_sparse_free(void *p, size_t)
{
    cudaFree(p);
}

static inline void device_sparse_put(void *to, const void *from, size_t n_bytes)
{
    device_fill(to, from, n_bytes);
}

static inline void device_sparse_get(void *to, const void *from, size_t n_bytes)
{
    cudaMemcpy(to, from, n_bytes, cudaMemcpyDeviceToHost);
}
#else
static inline void device_reset(const pr_sim_config *config)
{
    pr_sim_reset(config);
}

static inline const char *device_fault(void)
{
    return pr_sim_fault();
}

static inline uint64_t device_bytes_in_use(void)
{
    return pr_sim_bytes_in_use();
}

static inline int device_arch(const pr_sim_config *config)
{
    return config->arch;
}

static inline void device_fill(void *p, const void *from, size_t n_bytes)
{
    if (from) cudaMemcpy(p, from, n_bytes, cudaMemcpyHostToDevice);
}

/* Memory of the process: more than the simulated device has, and none of its copies reach it. */
static inline void *device_sparse(size_t n_bytes)
{
    void *p = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static inline void device_sparse_free(void *p, size_t n_bytes)
{
    munmap(p, n_bytes);
}

static inline void device_sparse_put(void *to, const void *from, size_t n_bytes)
{
    memcpy(to, from, n_bytes);
}

static inline void device_sparse_get(void *to, const void *from, size_t n_bytes)
{
    memcpy(to, from, n_bytes);
}
#endif

/* ---- buffers ---- */
enum { CHECK_BUFFERS_MAX = 64 };

typedef struct check {
    cudaStream_t stream;
    uint64_t random;
    void *device[CHECK_BUFFERS_MAX];
    void *host[CHECK_BUFFERS_MAX];
    int n_device, n_host;
} check;

static inline void check_begin(check *c, const pr_sim_config *config, uint64_t seed)
{
    *c = check{};
    c->random = seed * 2654435761u + 88172645463325252ull;
    device_reset(config);
    assert_int_equal(cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking), cudaSuccess);
}

/* Waits for the device; its finding, if any, is the test's failure. */
static inline void check_sync(check *c)
{
    const cudaError_t e = cudaStreamSynchronize(c->stream);
    const char *fault = device_fault();
    if (fault) fail_msg("%s", fault);
    assert_int_equal(e, cudaSuccess);
}

static inline void check_end(check *c)
{
    check_sync(c);
    for (int i = 0; i < c->n_device; i++) cudaFree(c->device[i]);
    for (int i = 0; i < c->n_host; i++) free(c->host[i]);
    assert_int_equal(cudaStreamDestroy(c->stream), cudaSuccess);
    const char *fault = device_fault();
    if (fault) fail_msg("%s", fault);
    assert_int_equal(device_bytes_in_use(), 0);
}

template <class T>
static inline T *check_host(check *c, int64_t n)
{
    T *p = (T *)calloc((size_t)n + 1, sizeof(T));
    assert_non_null(p);
    assert_true(c->n_host < CHECK_BUFFERS_MAX);
    c->host[c->n_host++] = p;
    return p;
}

/* n elements on the device, copied from `from` unless that is NULL (then NaN). */
template <class T>
static inline T *check_device(check *c, const T *from, int64_t n)
{
    void *p = NULL;
    assert_int_equal(cudaMalloc(&p, (size_t)n * sizeof(T)), cudaSuccess);
    assert_true(c->n_device < CHECK_BUFFERS_MAX);
    c->device[c->n_device++] = p;
    device_fill(p, from, (size_t)n * sizeof(T));
    return (T *)p;
}

static inline uint32_t check_random(check *c)
{
    c->random ^= c->random << 13;
    c->random ^= c->random >> 7;
    c->random ^= c->random << 17;
    return (uint32_t)(c->random >> 32);
}

/* -1 .. 1 */
static inline float check_number(check *c)
{
    return (float)((int32_t)check_random(c)) / 2147483648.0f;
}

static inline size_t check_bytes(pr_dtype t)
{
    return t == PR_DTYPE_F32 ? 4 : 2;
}

static inline float check_get(const void *p, pr_dtype t, int64_t i)
{
    if (t == PR_DTYPE_F32) return ((const float *)p)[i];
    if (t == PR_DTYPE_BF16) return __bfloat162float(((const __nv_bfloat16 *)p)[i]);
    return __half2float(((const __half *)p)[i]);
}

static inline void check_set(void *p, pr_dtype t, int64_t i, float x)
{
    if (t == PR_DTYPE_F32) ((float *)p)[i] = x;
    if (t == PR_DTYPE_BF16) ((__nv_bfloat16 *)p)[i] = __float2bfloat16_rn(x);
    if (t == PR_DTYPE_F16) ((__half *)p)[i] = __float2half_rn(x);
}

/* n random elements of a dtype: on the host, and at *device. */
static inline void *check_fill(check *c, pr_dtype t, int64_t n, void **device)
{
    unsigned char *p = check_host<unsigned char>(c, n * (int64_t)check_bytes(t));
    for (int64_t i = 0; i < n; i++) check_set(p, t, i, check_number(c));
    *device = check_device<unsigned char>(c, p, n * (int64_t)check_bytes(t));
    return p;
}

/* Half a unit in the last place of numbers near 1. */
static inline double check_rounding(pr_dtype t)
{
    return t == PR_DTYPE_F32 ? 6e-8 : t == PR_DTYPE_BF16 ? 1.0 / 256 : 1.0 / 2048;
}

/* |found - expected| <= (rounding of the dtype + more) (|expected| + small), NaN never. */
static inline void check_near(const void *found, pr_dtype t, int64_t i, double expected,
                              double more, const char *what)
{
    const double f = (double)check_get(found, t, i);
    const double bound = check_rounding(t) * fabs(expected) + more * (fabs(expected) + 1.0);
    if (!(fabs(f - expected) <= bound))
        fail_msg("%s: element %lld: found %.9g, expected %.9g +- %.3g", what, (long long)i, f,
                 expected, bound);
}

/* Every order with every copy mode; quick: three of the nine, each order and each mode once. A GPU
 * has one. */
static inline int check_modes(pr_sim_config *out, bool is_quick)
{
#ifdef PR_ON_HARDWARE
    (void)is_quick;
    out[0] = pr_sim_config{};
    return 1;
#else
    int n = 0;
    for (int order = 0; order < 3; order++) {
        for (int copies = 0; copies < 3; copies++) {
            if (is_quick && copies != (order + 1) % 3) continue;
            out[n] = pr_sim_config{};
            out[n].arch = 90;
            out[n].order = (pr_sim_order)order;
            out[n].copies = (pr_sim_copies)copies;
            out[n].seed = 7 + (uint64_t)n;
            n++;
        }
    }
    return n;
#endif
}

/* Is this a time to do less? */
#if defined(SIM_TSAN) || defined(SIM_ASAN)
enum { CHECK_IS_QUICK = 1 };
#else
enum { CHECK_IS_QUICK = 0 };
#endif

#endif
