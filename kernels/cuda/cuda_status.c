#include "kernels/cuda/cuda_status.h"

static pr_status status_of(cudaError_t e)
{
    switch (e) {
    case cudaErrorMemoryAllocation: return PR_E_NOMEM;
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice:
    case cudaErrorInitializationError:
    case cudaErrorSystemNotReady:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
    case cudaErrorStubLibrary:
    case cudaErrorDevicesUnavailable:
    case cudaErrorInvalidDevice: return PR_E_UNAVAILABLE;
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidKernelImage:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorNotSupported: return PR_E_UNSUPPORTED;
    default: return PR_E_INTERNAL;
    }
}

pr_status pr_cuda_status(cudaError_t e, pr_error *err, const char *what)
{
    if (e == cudaSuccess) return PR_OK;
    (void)cudaGetLastError();
    return pr_error_set(err, status_of(e), "%s: %s (%s)", what, cudaGetErrorString(e),
                        cudaGetErrorName(e));
}

pr_status pr_cublas_status(cublasStatus_t e, pr_error *err, const char *what)
{
    if (e == CUBLAS_STATUS_SUCCESS) return PR_OK;
    pr_status st = PR_E_INTERNAL;
    if (e == CUBLAS_STATUS_ALLOC_FAILED) st = PR_E_NOMEM;
    if (e == CUBLAS_STATUS_NOT_INITIALIZED) st = PR_E_UNAVAILABLE;
    if (e == CUBLAS_STATUS_NOT_SUPPORTED || e == CUBLAS_STATUS_ARCH_MISMATCH) st = PR_E_UNSUPPORTED;
    return pr_error_set(err, st, "%s: %s (%s)", what, cublasLtGetStatusString(e),
                        cublasLtGetStatusName(e));
}
