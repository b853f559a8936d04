#include "worker/cuda/device_memory.h"

#include <cuda_runtime_api.h>
#include <string.h>

#ifdef PR_CUDA_SIMULATED

void pr_device_memory_fill(pr_cuda_device *devices, int n)
{
    int current = 0;
    if (cudaGetDevice(&current) != cudaSuccess) return;
    for (int i = 0; i < n; i++) { /* a simulated device has no context to pay for */
        size_t free_bytes = 0, total_bytes = 0;
        if (cudaSetDevice(devices[i].index) != cudaSuccess) continue;
        if (cudaMemGetInfo(&free_bytes, &total_bytes) == cudaSuccess)
            devices[i].free_bytes = free_bytes;
    }
    (void)cudaSetDevice(current);
}

#else

#include <dlfcn.h>

/* What is used of NVML (nvml.h, API reference "NVML API Reference Guide"), by its own names. */
typedef struct nvml {
    void *library;
    int (*init)(void);
    int (*shutdown)(void);
    int (*device_by_bus)(const char *bus, void **device);
    int (*memory)(void *device, unsigned long long total_free_used[3]);
} nvml;

enum { NVML_SUCCESS = 0, BUS_BYTES = 32, PART = 8 };

static bool nvml_open(nvml *out)
{
    *out = (nvml){.library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL)};
    if (!out->library) return false;
    struct {
        const char *name;
        void *function; /* ISO C has no cast from an object's address to a function's */
    } const wanted[] = {
        {"nvmlInit_v2", &out->init},
        {"nvmlShutdown", &out->shutdown},
        {"nvmlDeviceGetHandleByPciBusId_v2", &out->device_by_bus},
        {"nvmlDeviceGetMemoryInfo", &out->memory},
    };
    bool has_all = true;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        void *symbol = dlsym(out->library, wanted[i].name);
        memcpy(wanted[i].function, &symbol, sizeof symbol);
        has_all = has_all && symbol;
    }
    if (has_all && out->init() == NVML_SUCCESS) return true;
    (void)dlclose(out->library);
    return false;
}

/* Where the totals differ by more than an eighth, CUDA sees a part of the device alone (MIG). */
static void device_fill(const nvml *n, pr_cuda_device *device)
{
    char bus[BUS_BYTES];
    void *handle = NULL;
    unsigned long long memory[3] = {0}; /* nvmlMemory_t: total, free, used */
    if (cudaDeviceGetPCIBusId(bus, sizeof bus, device->index) != cudaSuccess ||
        n->device_by_bus(bus, &handle) != NVML_SUCCESS ||
        n->memory(handle, memory) != NVML_SUCCESS)
        return;
    unsigned long long total = device->total_bytes;
    unsigned long long apart = memory[0] > total ? memory[0] - total : total - memory[0];
    if (apart > total / PART) return;
    device->free_bytes = memory[1] < total ? memory[1] : total;
}

void pr_device_memory_fill(pr_cuda_device *devices, int n)
{
    nvml library;
    if (!nvml_open(&library)) return;
    for (int i = 0; i < n; i++) device_fill(&library, &devices[i]);
    (void)library.shutdown();
    (void)dlclose(library.library);
}

#endif
