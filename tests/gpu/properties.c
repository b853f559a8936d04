/* tests/gpu/properties.c: what CUDA says of each visible device, and its versions. */
#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <nccl.h>

#include <stdio.h>

static const struct {
    const char *name;
    enum cudaDeviceAttr attribute;
} attributes[] = {
    {"multiprocessors", cudaDevAttrMultiProcessorCount},
    {"clock, kHz", cudaDevAttrClockRate},
    {"memory clock, kHz", cudaDevAttrMemoryClockRate},
    {"memory bus, bits", cudaDevAttrGlobalMemoryBusWidth},
    {"L2 cache, bytes", cudaDevAttrL2CacheSize},
    {"shared memory of a block, opt-in, bytes", cudaDevAttrMaxSharedMemoryPerBlockOptin},
    {"shared memory of a multiprocessor, bytes", cudaDevAttrMaxSharedMemoryPerMultiprocessor},
    {"registers of a multiprocessor", cudaDevAttrMaxRegistersPerMultiprocessor},
    {"threads of a multiprocessor", cudaDevAttrMaxThreadsPerMultiProcessor},
    {"copy engines", cudaDevAttrAsyncEngineCount},
    {"ECC", cudaDevAttrEccEnabled},
    {"integrated", cudaDevAttrIntegrated},
};

static void device_print(int device)
{
    struct cudaDeviceProp p;
    if (cudaGetDeviceProperties(&p, device) != cudaSuccess) return;
    printf("device %d: %s, compute capability %d.%d, %zu bytes\n", device, p.name, p.major, p.minor,
           p.totalGlobalMem);
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++) {
        int value = 0;
        if (cudaDeviceGetAttribute(&value, attributes[i].attribute, device) == cudaSuccess)
            printf("    %-42s %d\n", attributes[i].name, value);
    }
}

int main(void)
{
    int driver = 0, runtime = 0, nccl = 0, n = 0;
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    (void)ncclGetVersion(&nccl);
    printf("CUDA driver %d, runtime %d, cuBLASLt %zu, NCCL %d\n", driver, runtime,
           cublasLtGetVersion(), nccl);
    cudaError_t e = cudaGetDeviceCount(&n);
    if (e != cudaSuccess || n == 0) {
        fprintf(stderr, "no device: %s\n", cudaGetErrorString(e));
        return 3;
    }
    for (int i = 0; i < n; i++) device_print(i);
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < n; k++) {
            int can = 0;
            if (i != k && cudaDeviceCanAccessPeer(&can, i, k) == cudaSuccess)
                printf("device %d reaches the memory of %d: %s\n", i, k, can ? "yes" : "no");
        }
    }
    return 0;
}
