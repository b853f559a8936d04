/* runtime.cpp: the part of the CUDA runtime that poolrank uses, on the simulated device.
 *
 * A stream is a queue that nobody works on until the host waits for it: what forgot to wait reads
 * old values. Only non-blocking streams: the default stream's hidden order would hide such a fault.
 * Device memory is host memory, filled with NaN; the host must not read it, and nothing here stops
 * it. Never compiled with a sanitizer, as block.cpp. */
#include "tests/simcuda/fiber.h"
#include "tests/simcuda/sim.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALLOCATIONS_MAX = 4096, STREAMS_MAX = 16, KERNELS_MAX = 256, MESSAGE_BYTES = 512 };
enum { TAIL_BYTES = 64 }; /* after an allocation, looked at when it is freed */

typedef enum op_kind { OP_KERNEL, OP_COPY, OP_SET, OP_RECORD, OP_WAIT } op_kind;

typedef struct alignas(16) op {
    struct op *next;
    op_kind kind;
    sim_launch launch; /* KERNEL; its args stand after the op */
    void *to;
    const void *from;
    size_t n_bytes;
    int value;
    cudaEvent_t event;
    uint64_t turn; /* RECORD, WAIT: which recording of the event */
} op;

struct CUstream_st {
    op *first, *last;
    bool is_used, is_draining;
};

struct CUevent_st {
    uint64_t n_recorded, n_done;
    cudaStream_t stream; /* of the latest record */
};

typedef struct allocation {
    unsigned char *data;
    size_t n_bytes;
} allocation;

/* One device a process, as the runtime's own interface has it. */
typedef struct device {
    pr_sim_config config;
    uint64_t random;
    allocation allocations[ALLOCATIONS_MAX];
    CUstream_st streams[STREAMS_MAX];
    const void *opted[KERNELS_MAX]; /* kernels with a limit of dynamic shared memory of their own */
    size_t opted_bytes[KERNELS_MAX];
    unsigned n_opted;
    uint64_t bytes_in_use;
    cudaError_t last_error;
    bool has_fault;
    char fault[MESSAGE_BYTES];
} device;

static device dev = {};

static cudaError_t report(cudaError_t e)
{
    if (e != cudaSuccess) dev.last_error = e;
    return e;
}

void sim_fault_set(const char *format, ...)
{
    if (dev.has_fault) return;
    fiber_ignore_begin(); /* on a thread's fiber, for the host to read */
    va_list args;
    va_start(args, format);
    vsnprintf(dev.fault, sizeof dev.fault, format, args);
    va_end(args);
    dev.has_fault = true;
    fprintf(stderr, "simcuda: %s\n", dev.fault);
    fiber_ignore_end();
}

static int arch_now(void)
{
    return dev.config.arch ? dev.config.arch : 90;
}

/* CUDA C++ programming guide, "Technical specifications per compute capability". */
static size_t shared_optin_bytes(void)
{
    switch (arch_now()) {
    case 80: return 163 * 1024;
    case 120: return 99 * 1024;
    default: return 227 * 1024;
    }
}

extern "C" const char *pr_sim_fault(void)
{
    return dev.has_fault ? dev.fault : NULL;
}

extern "C" uint64_t pr_sim_bytes_in_use(void)
{
    return dev.bytes_in_use;
}

extern "C" void pr_sim_reset(const pr_sim_config *config)
{
    for (CUstream_st &s : dev.streams) {
        while (s.first) {
            op *next = s.first->next;
            free(s.first);
            s.first = next;
        }
        s.last = NULL;
        s.is_draining = false;
    }
    dev.config = *config;
    dev.random = config->seed * 2 + 1;
    dev.has_fault = false;
    dev.last_error = cudaSuccess;
    dev.n_opted = 0;
}

/* ---- memory ---- */
static size_t tail_bytes(void)
{
#ifdef SIM_ASAN
    return 0;
#else
    return TAIL_BYTES;
#endif
}

extern "C" cudaError_t cudaMalloc(void **out, size_t n_bytes)
{
    allocation *a = NULL;
    for (int i = 0; i < ALLOCATIONS_MAX && !a; i++)
        if (!dev.allocations[i].data) a = &dev.allocations[i];
    void *data = NULL;
    fiber_ignore_begin();
    const bool failed = !a || posix_memalign(&data, 256, n_bytes + tail_bytes() + !n_bytes);
    fiber_ignore_end();
    if (failed) return report(cudaErrorMemoryAllocation);
    *a = allocation{(unsigned char *)data, n_bytes};
    sim_poison(a->data, n_bytes + tail_bytes());
    dev.bytes_in_use += n_bytes;
    *out = data;
    return cudaSuccess;
}

extern "C" cudaError_t cudaFree(void *p)
{
    if (!p) return cudaSuccess;
    for (allocation &a : dev.allocations) {
        if (a.data != p) continue;
        for (size_t i = a.n_bytes; i < a.n_bytes + tail_bytes(); i++) {
            if (a.data[i] == (i % 2 ? 0x7f : 0xff)) continue;
            sim_fault_set("device memory written beyond its end: %zu bytes, offset %zu", a.n_bytes,
                          i);
            break;
        }
        dev.bytes_in_use -= a.n_bytes;
        fiber_ignore_begin();
        free(a.data);
        fiber_ignore_end();
        a = allocation{};
        return cudaSuccess;
    }
    return report(cudaErrorInvalidValue);
}

extern "C" cudaError_t cudaMallocHost(void **out, size_t n_bytes)
{
    *out = malloc(n_bytes ? n_bytes : 1);
    if (!*out) return report(cudaErrorMemoryAllocation);
    sim_poison(*out, n_bytes);
    return cudaSuccess;
}

extern "C" cudaError_t cudaFreeHost(void *p)
{
    free(p);
    return cudaSuccess;
}

extern "C" cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    *total_bytes = (size_t)80 * 1000 * 1000 * 1000;
    *free_bytes = *total_bytes - dev.bytes_in_use;
    return cudaSuccess;
}

/* ---- streams ---- */
static cudaError_t drain(cudaStream_t s, const op *until);

static void op_run(const op *o)
{
    switch (o->kind) {
    case OP_KERNEL:
        sim_grid_run(&o->launch, &dev.config, &dev.random);
        break;
    case OP_COPY:
        memmove(o->to, o->from, o->n_bytes);
        break;
    case OP_SET:
        memset(o->to, o->value, o->n_bytes);
        break;
    case OP_RECORD:
        o->event->n_done = o->turn;
        break;
    case OP_WAIT:
        if (o->event->n_done < o->turn) drain(o->event->stream, NULL);
        break;
    }
}

/* Works the queue off, up to and with `until` (NULL: all of it). */
static cudaError_t drain(cudaStream_t s, const op *until)
{
    if (s->is_draining) {
        sim_fault_set("streams that wait for each other");
        return report(cudaErrorLaunchFailure);
    }
    s->is_draining = true;
    for (bool is_last = false; s->first && !is_last && !dev.has_fault;) {
        op *o = s->first;
        op_run(o);
        is_last = o == until;
        s->first = o->next;
        if (!s->first) s->last = NULL;
        fiber_ignore_begin(); /* a kernel that was given up has not let go of it */
        free(o);
        fiber_ignore_end();
    }
    s->is_draining = false;
    return dev.has_fault ? report(cudaErrorLaunchFailure) : cudaSuccess;
}

static bool is_stream(cudaStream_t s)
{
    for (const CUstream_st &one : dev.streams)
        if (s == &one) return one.is_used;
    return false;
}

/* Puts an op at the end of the stream; NULL when the stream is none of ours. */
static op *op_add(cudaStream_t s, op_kind kind, size_t more_bytes)
{
    if (!is_stream(s)) {
        sim_fault_set("work on a stream that does not exist (the default stream is not used)");
        return NULL;
    }
    fiber_ignore_begin();
    op *o = (op *)calloc(1, sizeof *o + more_bytes);
    fiber_ignore_end();
    assert(o);
    o->kind = kind;
    *(s->last ? &s->last->next : &s->first) = o;
    s->last = o;
    return o;
}

extern "C" cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    if (flags != cudaStreamNonBlocking) return report(cudaErrorInvalidValue);
    for (CUstream_st &s : dev.streams) {
        if (s.is_used) continue;
        s = CUstream_st{};
        s.is_used = true;
        *out = &s;
        return cudaSuccess;
    }
    return report(cudaErrorMemoryAllocation);
}

extern "C" cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    if (!is_stream(s)) return report(cudaErrorInvalidResourceHandle);
    const cudaError_t e = drain(s, NULL);
    s->is_used = false;
    return e;
}

extern "C" cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    if (!is_stream(s)) return report(cudaErrorInvalidResourceHandle);
    return drain(s, NULL);
}

extern "C" cudaError_t cudaDeviceSynchronize(void)
{
    unsigned order[STREAMS_MAX];
    sim_order_fill(order, STREAMS_MAX, dev.config.order, &dev.random);
    cudaError_t e = cudaSuccess;
    for (unsigned i : order)
        if (dev.streams[i].is_used && e == cudaSuccess) e = drain(&dev.streams[i], NULL);
    return e;
}

extern "C" cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n_bytes, cudaMemcpyKind,
                                       cudaStream_t s)
{
    op *o = op_add(s, OP_COPY, 0);
    if (!o) return report(cudaErrorInvalidResourceHandle);
    o->to = to;
    o->from = from;
    o->n_bytes = n_bytes;
    return cudaSuccess;
}

/* As on the hardware it does not wait for non-blocking streams. */
extern "C" cudaError_t cudaMemcpy(void *to, const void *from, size_t n_bytes, cudaMemcpyKind)
{
    memmove(to, from, n_bytes);
    return cudaSuccess;
}

extern "C" cudaError_t cudaMemsetAsync(void *to, int value, size_t n_bytes, cudaStream_t s)
{
    op *o = op_add(s, OP_SET, 0);
    if (!o) return report(cudaErrorInvalidResourceHandle);
    o->to = to;
    o->value = value;
    o->n_bytes = n_bytes;
    return cudaSuccess;
}

/* ---- events ---- */
extern "C" cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned)
{
    *out = (cudaEvent_t)calloc(1, sizeof **out);
    return *out ? cudaSuccess : report(cudaErrorMemoryAllocation);
}

extern "C" cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    free(e);
    return cudaSuccess;
}

extern "C" cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    op *o = op_add(s, OP_RECORD, 0);
    if (!o) return report(cudaErrorInvalidResourceHandle);
    e->stream = s;
    o->event = e;
    o->turn = ++e->n_recorded;
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
    op *o = op_add(s, OP_WAIT, 0);
    if (!o) return report(cudaErrorInvalidResourceHandle);
    o->event = e;
    o->turn = e->n_recorded;
    return cudaSuccess;
}

extern "C" cudaError_t cudaEventQuery(cudaEvent_t e)
{
    return e->n_done >= e->n_recorded ? cudaSuccess : cudaErrorNotReady;
}

extern "C" cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    if (e->n_done >= e->n_recorded) return cudaSuccess;
    const op *until = e->stream->first;
    while (until && !(until->kind == OP_RECORD && until->event == e && until->turn == e->n_recorded))
        until = until->next;
    return drain(e->stream, until);
}

/* ---- the device ---- */
extern "C" cudaError_t cudaGetDeviceCount(int *out)
{
    *out = 1;
    return cudaSuccess;
}

extern "C" cudaError_t cudaSetDevice(int i_device)
{
    return i_device == 0 ? cudaSuccess : report(cudaErrorInvalidDevice);
}

extern "C" cudaError_t cudaGetDevice(int *out)
{
    *out = 0;
    return cudaSuccess;
}

extern "C" cudaError_t cudaDeviceGetAttribute(int *out, cudaDeviceAttr attribute, int i_device)
{
    if (i_device != 0) return report(cudaErrorInvalidDevice);
    switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
        *out = arch_now() / 10;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *out = arch_now() % 10;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *out = (int)shared_optin_bytes();
        return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
        *out = 108;
        return cudaSuccess;
    default:
        return report(cudaErrorInvalidValue);
    }
}

extern "C" cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute what, int value)
{
    if (what != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
        (size_t)value > shared_optin_bytes())
        return report(cudaErrorInvalidValue);
    unsigned i = 0;
    while (i < dev.n_opted && dev.opted[i] != kernel) i++;
    if (i == KERNELS_MAX) return report(cudaErrorMemoryAllocation);
    if (i == dev.n_opted) dev.n_opted++;
    dev.opted[i] = kernel;
    dev.opted_bytes[i] = (size_t)value;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGetLastError(void)
{
    const cudaError_t e = dev.last_error;
    dev.last_error = cudaSuccess;
    return e;
}

extern "C" const char *cudaGetErrorString(cudaError_t e)
{
    return e == cudaSuccess ? "no error" : "simulated device: error";
}

extern "C" cudaError_t pr_sim_launch(const char *name, const void *kernel, dim3 grid, dim3 block,
                                     size_t shared_bytes, cudaStream_t stream,
                                     void (*run)(const void *), const void *args,
                                     size_t args_bytes)
{
    size_t dynamic_max = 48 * 1024;
    for (unsigned i = 0; i < dev.n_opted; i++)
        if (dev.opted[i] == kernel) dynamic_max = dev.opted_bytes[i];
    if (shared_bytes > dynamic_max || grid.x == 0 || grid.y == 0 || grid.y > 65535 ||
        grid.z != 1 || block.x == 0 || block.x > 1024 || block.x % 32 || block.y != 1 ||
        block.z != 1)
        return report(cudaErrorInvalidConfiguration);
    op *o = op_add(stream, OP_KERNEL, args_bytes);
    if (!o) return report(cudaErrorInvalidResourceHandle);
    memcpy(o + 1, args, args_bytes);
    o->launch = sim_launch{name, grid, block, shared_bytes, shared_optin_bytes(), run, o + 1};
    return cudaSuccess;
}
