/* runtime.cpp: the simulated CUDA runtime: devices, their limits, faults and launches.
 *
 * Never compiled with a sanitizer, as block.cpp. */
#include "tests/simcuda/runtime.h"

#include <assert.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const uint64_t memory_default = 8ull << 30;
enum { PAUSE_NS = 50 * 1000, SM_COUNT = 108 };

sim_state sim = {};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static thread_local int device_now;
static thread_local cudaError_t last_error;

/* ---- configuration ---- */
static uint64_t env_number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

/* The place of the word in the list, 0 when it is not there or not set. */
static int env_choice(const char *name, const char *const words[3])
{
    const char *text = getenv(name);
    for (int i = 0; text && i < 3; i++)
        if (strcmp(text, words[i]) == 0) return i;
    if (text && *text) fprintf(stderr, "simcuda: %s: found %s, took %s\n", name, text, words[0]);
    return 0;
}

/* CUDA C++ programming guide, "CUDA environment variables": numbers up to the first that names no
 * device. */
static void devices_set(int n_physical)
{
    sim.n_devices = 0;
    const char *list = getenv("CUDA_VISIBLE_DEVICES");
    if (!list) {
        for (; sim.n_devices < n_physical; sim.n_devices++)
            sim.i_physical[sim.n_devices] = sim.n_devices;
        return;
    }
    while (*list && sim.n_devices < SIM_DEVICES_MAX) {
        char *end;
        const long i = strtol(list, &end, 10);
        if (end == list || i < 0 || i >= n_physical) return;
        sim.i_physical[sim.n_devices++] = (int)i;
        list = *end == ',' ? end + 1 : end;
    }
}

static void configure(const pr_sim_config *config, int n_devices, uint64_t memory_bytes)
{
    sim.config = *config;
    sim.random = config->seed * 2 + 1;
    sim.memory_bytes = memory_bytes;
    devices_set(n_devices < 0 ? 0 : n_devices > SIM_DEVICES_MAX ? SIM_DEVICES_MAX : n_devices);
    sim.is_configured = true;
}

static void configure_by_environment(void)
{
    static const char *const orders[] = {"forward", "reverse", "random"};
    static const char *const copies[] = {"deferred", "eager", "mixed"};
    pr_sim_config config = {};
    config.arch = (int)env_number("POOLRANK_SIM_ARCH", 90);
    config.order = (pr_sim_order)env_choice("POOLRANK_SIM_ORDER", orders);
    config.copies = (pr_sim_copies)env_choice("POOLRANK_SIM_COPIES", copies);
    config.seed = env_number("POOLRANK_SIM_SEED", 1);
    configure(&config, (int)env_number("POOLRANK_SIM_DEVICES", 1),
              env_number("POOLRANK_SIM_MEMORY", memory_default));
    sim.needs_pinned = env_number("POOLRANK_SIM_PINNED", 0) != 0;
    sim.n_allocs_to_failure = env_number("POOLRANK_SIM_FAIL_ALLOC", 0);
    sim.n_copies_to_failure = env_number("POOLRANK_SIM_FAIL_COPY", 0);
}

sim_locked::sim_locked()
{
    pthread_mutex_lock(&lock);
    if (!sim.is_configured) configure_by_environment();
}

sim_locked::~sim_locked()
{
    pthread_mutex_unlock(&lock);
}

void sim_pause(void)
{
    pthread_mutex_unlock(&lock);
    const struct timespec moment = {0, PAUSE_NS};
    nanosleep(&moment, NULL);
    pthread_mutex_lock(&lock);
}

int sim_device_now(void)
{
    return device_now;
}

cudaError_t sim_report(cudaError_t e)
{
    if (e != cudaSuccess) last_error = e;
    return e;
}

int sim_arch(void)
{
    return sim.config.arch ? sim.config.arch : 90;
}

/* ---- faults ---- */
static void fault_keep(cudaError_t e, const char *format, va_list args)
{
    if (sim.has_fault) return;
    fiber_ignore_begin(); /* on a thread's fiber, for the host to read */
    vsnprintf(sim.fault, sizeof sim.fault, format, args);
    sim.has_fault = true;
    sim.fault_error = e;
    fprintf(stderr, "simcuda: %s\n", sim.fault);
    fiber_ignore_end();
}

void sim_fault_set(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fault_keep(cudaErrorLaunchFailure, format, args);
    va_end(args);
}

void sim_fault_set_as(cudaError_t e, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fault_keep(e, format, args);
    va_end(args);
}

/* ---- for tests ---- */
extern "C" const char *pr_sim_fault(void)
{
    return sim.has_fault ? sim.fault : NULL;
}

extern "C" void pr_sim_reset(const pr_sim_config *config)
{
    const sim_locked held;
    sim_streams_clear();
    configure(config, 1, memory_default);
    sim.needs_pinned = false;
    sim.n_allocs_to_failure = sim.n_copies_to_failure = 0;
    sim.has_fault = false;
    sim.n_opted = 0;
    last_error = cudaSuccess;
    device_now = 0;
}

extern "C" void pr_sim_devices_set(int n, uint64_t memory_bytes)
{
    const sim_locked held;
    sim.memory_bytes = memory_bytes;
    devices_set(n);
}

extern "C" void pr_sim_require_pinned(bool is_required)
{
    const sim_locked held;
    sim.needs_pinned = is_required;
}

extern "C" void pr_sim_fail_alloc(uint64_t n)
{
    const sim_locked held;
    sim.n_allocs_to_failure = n;
}

extern "C" void pr_sim_fail_copy(uint64_t n)
{
    const sim_locked held;
    sim.n_copies_to_failure = n;
}

/* ---- devices ---- */
/* CUDA C++ programming guide, "Technical specifications per compute capability". */
static size_t shared_optin_bytes(void)
{
    switch (sim_arch()) {
    case 80: return 163 * 1024;
    case 120: return 99 * 1024;
    default: return 227 * 1024;
    }
}

extern "C" cudaError_t cudaRuntimeGetVersion(int *out)
{
    *out = CUDART_VERSION;
    return cudaSuccess;
}

extern "C" cudaError_t cudaDriverGetVersion(int *out)
{
    *out = CUDART_VERSION;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGetDeviceCount(int *out)
{
    const sim_locked held;
    *out = sim.n_devices;
    return sim.n_devices > 0 ? cudaSuccess : sim_report(cudaErrorNoDevice);
}

extern "C" cudaError_t cudaSetDevice(int i_device)
{
    const sim_locked held;
    if (i_device < 0 || i_device >= sim.n_devices) return sim_report(cudaErrorInvalidDevice);
    device_now = i_device;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGetDevice(int *out)
{
    *out = device_now;
    return cudaSuccess;
}

extern "C" cudaError_t cudaDeviceGetAttribute(int *out, cudaDeviceAttr attribute, int i_device)
{
    const sim_locked held;
    if (i_device < 0 || i_device >= sim.n_devices) return sim_report(cudaErrorInvalidDevice);
    switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *out = sim_arch() / 10; break;
    case cudaDevAttrComputeCapabilityMinor: *out = sim_arch() % 10; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *out = (int)shared_optin_bytes(); break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *out = 48 * 1024; break;
    case cudaDevAttrMultiProcessorCount: *out = SM_COUNT; break;
    case cudaDevAttrMaxThreadsPerBlock: *out = 1024; break;
    case cudaDevAttrWarpSize: *out = 32; break;
    default: return sim_report(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

extern "C" cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int i_device)
{
    const sim_locked held;
    if (i_device < 0 || i_device >= sim.n_devices) return sim_report(cudaErrorInvalidDevice);
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "Simulated sm_%d", sim_arch());
    out->totalGlobalMem = sim.memory_bytes;
    out->sharedMemPerBlock = 48 * 1024;
    out->sharedMemPerBlockOptin = shared_optin_bytes();
    out->regsPerBlock = 65536;
    out->warpSize = 32;
    out->maxThreadsPerBlock = 1024;
    out->major = sim_arch() / 10;
    out->minor = sim_arch() % 10;
    out->multiProcessorCount = SM_COUNT;
    out->unifiedAddressing = 1;
    out->asyncEngineCount = 2;
    out->pciBusID = 1 + sim.i_physical[i_device];
    memcpy(out->uuid.bytes, "simulated-", 10);
    out->uuid.bytes[15] = (char)sim.i_physical[i_device];
    return cudaSuccess;
}

extern "C" cudaError_t cudaDeviceGetPCIBusId(char *out, int n, int i_device)
{
    const sim_locked held;
    if (i_device < 0 || i_device >= sim.n_devices) return sim_report(cudaErrorInvalidDevice);
    if (n < 13) return sim_report(cudaErrorInvalidValue);
    snprintf(out, (size_t)n, "0000:%02x:00.0", 1 + sim.i_physical[i_device]);
    return cudaSuccess;
}

extern "C" cudaError_t cudaDeviceCanAccessPeer(int *out, int i_device, int i_peer)
{
    const sim_locked held;
    if (i_device < 0 || i_device >= sim.n_devices || i_peer < 0 || i_peer >= sim.n_devices)
        return sim_report(cudaErrorInvalidDevice);
    *out = i_device != i_peer;
    return cudaSuccess;
}

/* ---- errors ---- */
extern "C" cudaError_t cudaGetLastError(void)
{
    const cudaError_t e = last_error;
    last_error = cudaSuccess;
    return e;
}

extern "C" cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}

typedef struct error_text {
    cudaError_t error;
    const char *name, *text;
} error_text;

static const error_text error_texts[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorECCUncorrectable, "cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorHostMemoryAlreadyRegistered, "cudaErrorHostMemoryAlreadyRegistered",
     "part or all of the requested memory range is already mapped"},
    {cudaErrorHostMemoryNotRegistered, "cudaErrorHostMemoryNotRegistered",
     "pointer does not correspond to a registered memory region"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
};

static const error_text *error_find(cudaError_t e)
{
    static const error_text unknown = {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"};
    for (const error_text &t : error_texts)
        if (t.error == e) return &t;
    return &unknown;
}

extern "C" const char *cudaGetErrorString(cudaError_t e)
{
    return error_find(e)->text;
}

extern "C" const char *cudaGetErrorName(cudaError_t e)
{
    return error_find(e)->name;
}

/* ---- kernels ---- */
static sim_opted *opted_find(const void *kernel)
{
    for (unsigned i = 0; i < sim.n_opted; i++)
        if (sim.opted[i].kernel == kernel && sim.opted[i].i_device == device_now)
            return &sim.opted[i];
    return NULL;
}

extern "C" cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute what, int value)
{
    const sim_locked held;
    if (what != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
        (size_t)value > shared_optin_bytes())
        return sim_report(cudaErrorInvalidValue);
    sim_opted *o = opted_find(kernel);
    if (!o && sim.n_opted == SIM_KERNELS_MAX) return sim_report(cudaErrorMemoryAllocation);
    if (!o) o = &sim.opted[sim.n_opted++];
    *o = sim_opted{kernel, device_now, (size_t)value};
    return cudaSuccess;
}

static_assert(sizeof(sim_launch) % 16 == 0, "arguments stand behind it, aligned");

static sim_step kernel_step(void *state, sim_effort *)
{
    sim_launch *launch = (sim_launch *)state;
    launch->args = launch + 1;
    sim_grid_run(launch, &sim.config, &sim.random);
    return SIM_STEP_DONE;
}

extern "C" cudaError_t pr_sim_launch(const char *name, const void *kernel, dim3 grid, dim3 block,
                                     size_t shared_bytes, cudaStream_t stream,
                                     void (*run)(const void *), const void *args,
                                     size_t args_bytes)
{
    const sim_locked held;
    const sim_opted *opted = opted_find(kernel);
    const size_t dynamic_max = opted ? opted->n_bytes : 48 * 1024;
    if (shared_bytes > dynamic_max || grid.x == 0 || grid.y == 0 || grid.y > 65535 ||
        grid.z != 1 || block.x == 0 || block.x > 1024 || block.x % 32 || block.y != 1 ||
        block.z != 1)
        return sim_report(cudaErrorInvalidConfiguration);
    if (sim.has_fault) return sim_report(sim.fault_error);
    if (sim_is_stream(stream) && stream->i_device != device_now)
        return sim_report(cudaErrorInvalidResourceHandle);
    void *state;
    sim_op *o = sim_op_make(sizeof(sim_launch) + args_bytes, &state);
    sim_launch *launch = (sim_launch *)state;
    *launch = sim_launch{name, grid, block, shared_bytes, shared_optin_bytes(), run, NULL};
    memcpy(launch + 1, args, args_bytes);
    o->step = kernel_step;
    o->is_kernel = true;
    return sim_queue(stream, o);
}
