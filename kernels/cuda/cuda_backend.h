/* kernels/cuda/cuda_backend.h: the CUDA implementation of pr_backend.
 *
 * Owns what cuda_memory.h and cuda_gemm.h say, and attention's tiles. Two batches may be in flight.
 * Nothing is allocated on the device between reserve and close but by `alloc` itself.
 *
 * `is_batch_invariant` is false: kernels and products are made so that a row's bits do not depend
 * on its batch (cuda_gemm.h, kernels.h), but no hardware has shown it. */
#ifndef POOLRANK_KERNELS_CUDA_CUDA_BACKEND_H
#define POOLRANK_KERNELS_CUDA_CUDA_BACKEND_H

#include "kernels/backend.h"

#include <cuda_runtime_api.h>

typedef struct pr_cuda_backend_options {
    int device;      /* index among the visible devices */
    pr_dtype dtype;  /* of activations: F32, BF16, F16 */
    bool allow_tf32; /* F32 products in TF32 */
} pr_cuda_backend_options;

/* Makes the device current for the calling thread, from which all calls come. out: owned, release
 * with its close. Fails PR_E_ARGUMENT: another dtype; PR_E_UNSUPPORTED: no kernel was built for the
 * device's architecture; PR_E_UNAVAILABLE: no such device, or it cannot be had; PR_E_NOMEM. */
pr_status pr_cuda_backend_create(const pr_cuda_backend_options *options, pr_backend **out,
                                 pr_error *err);

/* The stream of all kernels, for collectives between them. Valid until close. */
cudaStream_t pr_cuda_backend_stream(pr_backend *b);

#endif
