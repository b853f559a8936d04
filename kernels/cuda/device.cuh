/* kernels/cuda/device.cuh: what the kernels use of the device, in one place.
 *
 * Compiled by nvcc it is CUDA and PTX; compiled by a C++ compiler for the host it is the simulated
 * device of tests/simcuda, which gives every name here a twin with the same contract. Kernels use
 * CUDA's own names where both have them (threadIdx, __syncthreads, __shfl_xor_sync) and nothing
 * that is newer than sm_80: mma.sync and cp.async run on every architecture from there on.
 *
 *   PR_SHARED(type, name, n)           an array in shared memory
 *   PR_DYN_SHARED(name)                the launch's dynamic shared memory, bytes, aligned to 128
 *   PR_LAUNCH(name, kernel, grid, block, shared_bytes, stream, args)
 *                                      a kernel of one struct by value; name is for messages
 *   pr_cp_async_16(shared, global, is_valid)   copies 16 bytes, zeros when not valid
 *   pr_cp_async_commit(), pr_cp_async_wait<N>()    groups; all but the latest N have arrived
 *   pr_ldmatrix_x4(out, address), pr_ldmatrix_x4_trans(out, address)
 *   pr_mma(type, d, a, b)              d += a b, m16n8k16, type __nv_bfloat16 or __half, d in f32
 *
 * Layouts of the fragments: PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type"
 * and "ldmatrix"; tests/simcuda/test_device.cpp holds the twin to them. */
#ifndef POOLRANK_KERNELS_CUDA_DEVICE_CUH
#define POOLRANK_KERNELS_CUDA_DEVICE_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__
#define PR_SHARED(type, name, n) __shared__ type name[n]
#define PR_DYN_SHARED(name)      extern __shared__ __align__(128) unsigned char name[]
#define PR_LAUNCH(name, kernel, grid, block, shared_bytes, stream, args)                           \
    ((kernel)<<<(grid), (block), (shared_bytes), (stream)>>>(args), cudaGetLastError())

__device__ __forceinline__ void pr_cp_async_16(void *shared, const void *global, bool is_valid)
{
    const unsigned to = (unsigned)__cvta_generic_to_shared(shared);
    const int n_read = is_valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(global),
                 "r"(n_read)
                 : "memory");
}

__device__ __forceinline__ void pr_cp_async_commit(void)
{
    asm volatile("cp.async.commit_group;\n" ::: "memory");
}

template <int N_GROUPS>
__device__ __forceinline__ void pr_cp_async_wait(void)
{
    asm volatile("cp.async.wait_group %0;\n" ::"n"(N_GROUPS) : "memory");
}

__device__ __forceinline__ void pr_ldmatrix_x4(uint32_t out[4], const void *address)
{
    const unsigned from = (unsigned)__cvta_generic_to_shared(address);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(from)
                 : "memory");
}

__device__ __forceinline__ void pr_ldmatrix_x4_trans(uint32_t out[4], const void *address)
{
    const unsigned from = (unsigned)__cvta_generic_to_shared(address);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(from)
                 : "memory");
}

#define PR_MMA_ASM(format)                                                                         \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." format "." format ".f32 "                \
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"               \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                  \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

template <class T>
__device__ __forceinline__ void pr_mma_of(float d[4], const uint32_t a[4], const uint32_t b[2]);

template <>
__device__ __forceinline__ void pr_mma_of<__nv_bfloat16>(float d[4], const uint32_t a[4],
                                                         const uint32_t b[2])
{
    PR_MMA_ASM("bf16");
}

template <>
__device__ __forceinline__ void pr_mma_of<__half>(float d[4], const uint32_t a[4],
                                                  const uint32_t b[2])
{
    PR_MMA_ASM("f16");
}
#define pr_mma(type, d, a, b) pr_mma_of<type>(d, a, b)

#else
#include <simcuda/device.h> /* of whoever simulates: on its include path */
#endif

/* Steps that the tests of the simulated device leave out, to see that it is noticed. */
#ifdef PR_FAULTS
extern "C" int pr_fault_injected;
#define PR_FAULT(n) (pr_fault_injected == (n))
#else
#define PR_FAULT(n) false
#endif
enum {
    PR_FAULT_NO_BARRIER = 1, /* tiles are read before all threads have waited for their parts */
    PR_FAULT_NO_WAIT,        /* tiles are read before cp.async has filled them */
    PR_FAULT_EARLY_OVERWRITE,/* the next tile goes over one that is still read */
    PR_FAULT_OUT_OF_BOUNDS,  /* rows beyond the last are written */
    PR_FAULT_SHARED_SMALL,   /* the launch asks for 64 bytes too few */
    PR_FAULT_DIVERGENT       /* one warp leaves out a barrier */
};

enum { PR_WARP = 32 };
#define PR_ALL_LANES 0xffffffffu

/* Limits of a grid; a launch that would be larger is refused, or its blocks take several parts. */
enum { PR_GRID_Y_MAX = 65535 };

static inline bool pr_is_grid(int64_t n_blocks)
{
    return n_blocks >= 0 && n_blocks <= 0x7fffffff;
}

static inline unsigned pr_grid_y(int64_t n_parts)
{
    return n_parts < PR_GRID_Y_MAX ? (unsigned)n_parts : (unsigned)PR_GRID_Y_MAX;
}

/* ---- numbers ---- */
__device__ __forceinline__ int pr_min(int a, int b)
{
    return a < b ? a : b;
}

__device__ __forceinline__ int pr_max(int a, int b)
{
    return a > b ? a : b;
}

__device__ __forceinline__ float pr_widen(float x)
{
    return x;
}

__device__ __forceinline__ float pr_widen(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}

__device__ __forceinline__ float pr_widen(__half x)
{
    return __half2float(x);
}

template <class T>
__device__ __forceinline__ T pr_narrow(float x);

template <>
__device__ __forceinline__ float pr_narrow<float>(float x)
{
    return x;
}

template <>
__device__ __forceinline__ __nv_bfloat16 pr_narrow<__nv_bfloat16>(float x)
{
    return __float2bfloat16_rn(x);
}

template <>
__device__ __forceinline__ __half pr_narrow<__half>(float x)
{
    return __float2half_rn(x);
}

/* Two numbers as one register, the first in the low half. */
__device__ __forceinline__ uint32_t pr_pack(__nv_bfloat16 low, __nv_bfloat16 high)
{
    return __bfloat16_as_ushort(low) | (uint32_t)__bfloat16_as_ushort(high) << 16;
}

__device__ __forceinline__ uint32_t pr_pack(__half low, __half high)
{
    return __half_as_ushort(low) | (uint32_t)__half_as_ushort(high) << 16;
}

/* ---- sums in a fixed order ---- */
__device__ __forceinline__ float pr_warp_sum(float x)
{
#pragma unroll
    for (int bit = PR_WARP / 2; bit > 0; bit /= 2) x += __shfl_xor_sync(PR_ALL_LANES, x, bit);
    return x;
}

__device__ __forceinline__ float pr_warp_max(float x)
{
#pragma unroll
    for (int bit = PR_WARP / 2; bit > 0; bit /= 2)
        x = fmaxf(x, __shfl_xor_sync(PR_ALL_LANES, x, bit));
    return x;
}

/* Over a block of N_THREADS, by every thread; scratch [N_THREADS / PR_WARP] in shared memory, free
 * again when the call returns. The order depends on N_THREADS only. */
template <int N_THREADS>
__device__ __forceinline__ float pr_block_sum(float x, float *scratch)
{
    const int i_warp = (int)threadIdx.x / PR_WARP;
    x = pr_warp_sum(x);
    if (threadIdx.x % PR_WARP == 0) scratch[i_warp] = x;
    __syncthreads();
    float sum = 0.0f;
    for (int i = 0; i < N_THREADS / PR_WARP; i++) sum += scratch[i];
    __syncthreads();
    return sum;
}

template <int N_THREADS>
__device__ __forceinline__ float pr_block_max(float x, float *scratch)
{
    const int i_warp = (int)threadIdx.x / PR_WARP;
    x = pr_warp_max(x);
    if (threadIdx.x % PR_WARP == 0) scratch[i_warp] = x;
    __syncthreads();
    float max = scratch[0];
    for (int i = 1; i < N_THREADS / PR_WARP; i++) max = fmaxf(max, scratch[i]);
    __syncthreads();
    return max;
}

#endif
