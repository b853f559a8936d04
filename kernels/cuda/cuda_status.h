/* kernels/cuda/cuda_status.h: errors of CUDA and cuBLASLt as a pr_status, in one place each.
 *
 * Pure but for CUDA's own memory of the last error, which is cleared: it would else be the answer
 * of the next launch. Called by the CUDA backend and the plug-in, on the thread that failed. */
#ifndef POOLRANK_KERNELS_CUDA_CUDA_STATUS_H
#define POOLRANK_KERNELS_CUDA_CUDA_STATUS_H

#include "runtime/base/status.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>

/* PR_OK for cudaSuccess; else a message "what: CUDA's words (CUDA's name)" and
 * PR_E_NOMEM        no device or pinned memory;
 * PR_E_UNAVAILABLE  no driver, one that is too old, no device, a device in use or gone;
 * PR_E_UNSUPPORTED  no kernel for this architecture or shape;
 * PR_E_INTERNAL     anything else. */
pr_status pr_cuda_status(cudaError_t e, pr_error *err, const char *what);

/* The same for cuBLASLt: PR_E_NOMEM, PR_E_UNAVAILABLE (not initialized), PR_E_UNSUPPORTED,
 * PR_E_INTERNAL. */
pr_status pr_cublas_status(cublasStatus_t e, pr_error *err, const char *what);

#endif
