/* kernels/cuda/dispatch.cuh: from dtypes known at run time to an instance of a kernel. */
#ifndef POOLRANK_KERNELS_CUDA_DISPATCH_CUH
#define POOLRANK_KERNELS_CUDA_DISPATCH_CUH

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/kernels.h"

/* Queues kernel<In, Out>; ends the calling function. */
#define PR_LAUNCH_AS(kernel, In, Out, grid, block, shared_bytes, stream, args)                     \
    do {                                                                                           \
        const auto instance = kernel<In, Out>;                                                     \
        return PR_LAUNCH(#kernel, instance, grid, block, shared_bytes, stream, args);             \
    } while (0)

/* The seven pairs that a model of one 16-bit format needs. */
#define PR_LAUNCH_BY_DTYPES(kernel, x_dtype, y_dtype, ...)                                         \
    do {                                                                                           \
        const int pair = (int)(x_dtype) * 16 + (int)(y_dtype);                                     \
        if (pair == PR_DTYPE_F32 * 16 + PR_DTYPE_F32)                                              \
            PR_LAUNCH_AS(kernel, float, float, __VA_ARGS__);                                       \
        if (pair == PR_DTYPE_F32 * 16 + PR_DTYPE_BF16)                                             \
            PR_LAUNCH_AS(kernel, float, __nv_bfloat16, __VA_ARGS__);                               \
        if (pair == PR_DTYPE_F32 * 16 + PR_DTYPE_F16)                                              \
            PR_LAUNCH_AS(kernel, float, __half, __VA_ARGS__);                                      \
        if (pair == PR_DTYPE_BF16 * 16 + PR_DTYPE_F32)                                             \
            PR_LAUNCH_AS(kernel, __nv_bfloat16, float, __VA_ARGS__);                               \
        if (pair == PR_DTYPE_F16 * 16 + PR_DTYPE_F32)                                              \
            PR_LAUNCH_AS(kernel, __half, float, __VA_ARGS__);                                      \
        if (pair == PR_DTYPE_BF16 * 16 + PR_DTYPE_BF16)                                            \
            PR_LAUNCH_AS(kernel, __nv_bfloat16, __nv_bfloat16, __VA_ARGS__);                       \
        if (pair == PR_DTYPE_F16 * 16 + PR_DTYPE_F16)                                              \
            PR_LAUNCH_AS(kernel, __half, __half, __VA_ARGS__);                                     \
        return cudaErrorInvalidValue;                                                              \
    } while (0)

#endif
