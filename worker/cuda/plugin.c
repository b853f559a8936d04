#include "worker/cuda/plugin.h"

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_status.h"
#include "worker/cuda/device_memory.h"
#include "worker/cuda/nccl_comm.h"

#include <stdio.h>

#ifdef PR_CUDA_SIMULATED
enum { IS_SIMULATED = 1 };
#else
enum { IS_SIMULATED = 0 };
#endif

/* "CUDA 13.0, sm_80 sm_90": CMake knows the toolkit and the architectures. */
#ifndef PR_CUDA_DESCRIPTION
#define PR_CUDA_DESCRIPTION "CUDA"
#endif

/* ---- devices ---- */

static int major_of(int version)
{
    return version / 1000;
}

static int minor_of(int version)
{
    return version % 1000 / 10;
}

/* Why there is no device, with both versions: of the driver, 0 when there is none, and of the
 * runtime that this was built with. */
static pr_status devices_missing(cudaError_t e, pr_error *err)
{
    int driver = 0, runtime = 0;
    (void)pr_cuda_status(e, err, "CUDA devices"); /* its words, below with the versions */
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    if (driver == 0) {
        return pr_error_set(err, PR_E_UNAVAILABLE,
                            "no NVIDIA driver is loaded; expected one for CUDA %d.%d",
                            major_of(runtime), minor_of(runtime));
    }
    if (e == cudaErrorInsufficientDriver) {
        return pr_error_set(err, PR_E_UNAVAILABLE,
                            "NVIDIA driver: found one for CUDA %d.%d, expected CUDA %d.%d or newer",
                            major_of(driver), minor_of(driver), major_of(runtime),
                            minor_of(runtime));
    }
    return pr_error_context(err, PR_E_UNAVAILABLE, "driver for CUDA %d.%d, runtime %d.%d",
                            major_of(driver), minor_of(driver), major_of(runtime),
                            minor_of(runtime));
}

static pr_status device_describe(int i_device, pr_cuda_device *out, pr_error *err)
{
    struct cudaDeviceProp properties;
    cudaError_t e = cudaGetDeviceProperties(&properties, i_device);
    if (e != cudaSuccess) return devices_missing(e, err);
    *out = (pr_cuda_device){.index = i_device,
                            .capability = properties.major * 10 + properties.minor,
                            .total_bytes = properties.totalGlobalMem};
    snprintf(out->name, sizeof out->name, "%.63s", properties.name);
    return PR_OK;
}

static pr_status devices(pr_cuda_device out[PR_CUDA_DEVICES_MAX], int *n, pr_error *err)
{
    int count = 0;
    cudaError_t e = cudaGetDeviceCount(&count);
    if (e == cudaSuccess && count == 0) e = cudaErrorNoDevice;
    if (e != cudaSuccess) return devices_missing(e, err);
    if (count > PR_CUDA_DEVICES_MAX) count = PR_CUDA_DEVICES_MAX;
    for (int i = 0; i < count; i++) {
        pr_status st = device_describe(i, &out[i], err);
        if (st != PR_OK) return st;
    }
    pr_device_memory_fill(out, count);
    *n = count;
    return PR_OK;
}

/* ---- the table ---- */

static pr_status backend_create(const pr_cuda_options *options, pr_backend **out, pr_error *err)
{
    const pr_cuda_backend_options own = {.device = options->device, .dtype = options->dtype,
                                         .allow_tf32 = options->allow_tf32};
    return pr_cuda_backend_create(&own, out, err);
}

static const pr_cuda_plugin plugin = {
    .abi = PR_CUDA_PLUGIN_ABI,
    .is_simulated = IS_SIMULATED,
    .description = PR_CUDA_DESCRIPTION,
    .devices = devices,
    .backend_create = backend_create,
    .comm_id = pr_nccl_comm_id,
    .comm_create = pr_nccl_comm_create,
};

__attribute__((visibility("default"))) const pr_cuda_plugin *pr_cuda_plugin_get(void)
{
    return &plugin;
}
