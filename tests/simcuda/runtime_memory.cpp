/* runtime_memory.cpp: the simulated CUDA runtime: device memory, pinned memory, copies.
 *
 * Device memory is host memory, filled with NaN; the host must not read it, and nothing here stops
 * it but that what it reads is old. Every copy is held to the allocations it names. */
#include "tests/simcuda/runtime.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { TAIL_BYTES = 64 }; /* after an allocation, looked at when it is freed */
enum { HUGE_BYTES = 2 << 20, HUGE_FROM = 8 << 20 };

static size_t tail_bytes(void)
{
#ifdef SIM_ASAN
    return 0;
#else
    return TAIL_BYTES;
#endif
}

void sim_memory_poison(void *p, size_t n_bytes)
{
    const size_t n_words = n_bytes / 8;
    uint64_t *words = (uint64_t *)p;
    for (size_t i = 0; i < n_words; i++) words[i] = 0x7fff7fff7fff7fffull;
    sim_poison(words + n_words, n_bytes % 8);
}

/* ---- allocations ---- */
static sim_allocation *place_find(void)
{
    for (size_t i = 0; i < sim.n_allocations; i++)
        if (!sim.allocations[i].data) return &sim.allocations[i];
    if (sim.n_allocations == sim.allocations_max) {
        const size_t n = sim.allocations_max ? sim.allocations_max * 2 : 256;
        void *more = realloc(sim.allocations, n * sizeof *sim.allocations);
        if (!more) return NULL;
        sim.allocations = (sim_allocation *)more;
        sim.allocations_max = n;
    }
    return &sim.allocations[sim.n_allocations++];
}

const sim_allocation *sim_allocation_find(const void *p)
{
    const unsigned char *byte = (const unsigned char *)p;
    for (size_t i = 0; i < sim.n_allocations; i++) {
        const sim_allocation *a = &sim.allocations[i];
        if (a->data && byte >= a->data && byte < a->data + a->n_bytes + !a->n_bytes) return a;
    }
    return NULL;
}

bool sim_is_on_device(const void *p, size_t n_bytes, int i_device)
{
    const sim_allocation *a = sim_allocation_find(p);
    return a && a->kind == SIM_DEVICE && a->i_device == i_device &&
           n_bytes <= a->n_bytes - (size_t)((const unsigned char *)p - a->data);
}

static bool is_to_fail(void)
{
    return sim.n_allocs_to_failure > 0 && --sim.n_allocs_to_failure == 0;
}

/* Memory for an allocation; large ones in large pages, which come an order of magnitude faster. */
static void *data_make(size_t n_bytes, sim_memory_kind kind)
{
    void *data = NULL;
    const bool is_huge = n_bytes >= HUGE_FROM;
    const int alignment = is_huge ? HUGE_BYTES : kind == SIM_DEVICE ? 256 : 4096;
    if (posix_memalign(&data, (size_t)alignment, n_bytes)) return NULL;
    if (is_huge) madvise(data, n_bytes, MADV_HUGEPAGE); /* or not: as the system has them */
    return data;
}

static cudaError_t memory_make(void **out, size_t n_bytes, sim_memory_kind kind)
{
    *out = NULL;
    if (sim.has_fault) return sim_report(sim.fault_error);
    const int i_device = sim_device_now();
    if (i_device >= sim.n_devices) return sim_report(cudaErrorNoDevice);
    const uint64_t free_bytes = sim.memory_bytes - sim.bytes_in_use[i_device];
    if (is_to_fail() || (kind == SIM_DEVICE && n_bytes > free_bytes))
        return sim_report(cudaErrorMemoryAllocation);
    fiber_ignore_begin();
    sim_allocation *a = place_find();
    void *data = a ? data_make(n_bytes + tail_bytes() + !n_bytes, kind) : NULL;
    fiber_ignore_end();
    if (!data) return sim_report(cudaErrorMemoryAllocation);
    *a = sim_allocation{(unsigned char *)data, n_bytes, kind, false, i_device};
    sim_memory_poison(a->data, n_bytes);
    for (size_t i = 0; i < tail_bytes(); i++) a->data[n_bytes + i] = (unsigned char)(0xa5 ^ i);
    (kind == SIM_DEVICE ? sim.bytes_in_use[i_device] : sim.pinned_bytes) += n_bytes;
    *out = data;
    return cudaSuccess;
}

static void tail_check(const sim_allocation *a)
{
    for (size_t i = 0; i < tail_bytes(); i++) {
        if (a->data[a->n_bytes + i] == (unsigned char)(0xa5 ^ i)) continue;
        sim_fault_set("%s memory written beyond its end: %zu bytes, offset %zu",
                      a->kind == SIM_DEVICE ? "device" : "pinned", a->n_bytes, a->n_bytes + i);
        return;
    }
}

/* Freeing waits for the work that is queued, as cudaFree does. */
static cudaError_t memory_free(void *p, sim_memory_kind kind)
{
    if (!p) return cudaSuccess;
    for (size_t i = 0; i < sim.n_allocations; i++) {
        sim_allocation *a = &sim.allocations[i];
        if (a->data != p || a->kind != kind || a->is_registered) continue;
        tail_check(a);
        (kind == SIM_DEVICE ? sim.bytes_in_use[a->i_device] : sim.pinned_bytes) -= a->n_bytes;
        fiber_ignore_begin();
        free(a->data);
        fiber_ignore_end();
        *a = sim_allocation{};
        return cudaSuccess;
    }
    return sim_report(cudaErrorInvalidValue);
}

extern "C" cudaError_t cudaMalloc(void **out, size_t n_bytes)
{
    const sim_locked held;
    return memory_make(out, n_bytes, SIM_DEVICE);
}

extern "C" cudaError_t cudaFree(void *p)
{
    cudaDeviceSynchronize();
    const sim_locked held;
    return memory_free(p, SIM_DEVICE);
}

extern "C" cudaError_t cudaMallocHost(void **out, size_t n_bytes)
{
    const sim_locked held;
    return memory_make(out, n_bytes, SIM_PINNED);
}

extern "C" cudaError_t cudaHostAlloc(void **out, size_t n_bytes, unsigned)
{
    return cudaMallocHost(out, n_bytes);
}

extern "C" cudaError_t cudaFreeHost(void *p)
{
    const sim_locked held;
    return memory_free(p, SIM_PINNED);
}

extern "C" cudaError_t cudaHostRegister(void *p, size_t n_bytes, unsigned)
{
    const sim_locked held;
    if (!p || n_bytes == 0) return sim_report(cudaErrorInvalidValue);
    if (sim_allocation_find(p)) return sim_report(cudaErrorHostMemoryAlreadyRegistered);
    if (is_to_fail()) return sim_report(cudaErrorMemoryAllocation);
    sim_allocation *a = place_find();
    if (!a) return sim_report(cudaErrorMemoryAllocation);
    *a = sim_allocation{(unsigned char *)p, n_bytes, SIM_PINNED, true, sim_device_now()};
    sim.pinned_bytes += n_bytes;
    return cudaSuccess;
}

extern "C" cudaError_t cudaHostUnregister(void *p)
{
    const sim_locked held;
    for (size_t i = 0; i < sim.n_allocations; i++) {
        sim_allocation *a = &sim.allocations[i];
        if (a->data != p || !a->is_registered) continue;
        sim.pinned_bytes -= a->n_bytes;
        *a = sim_allocation{};
        return cudaSuccess;
    }
    return sim_report(cudaErrorHostMemoryNotRegistered);
}

extern "C" cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    const sim_locked held;
    if (sim_device_now() >= sim.n_devices) return sim_report(cudaErrorNoDevice);
    *total_bytes = sim.memory_bytes;
    *free_bytes = sim.memory_bytes - sim.bytes_in_use[sim_device_now()];
    return cudaSuccess;
}

extern "C" uint64_t pr_sim_bytes_in_use(void)
{
    const sim_locked held;
    uint64_t n = 0;
    for (uint64_t bytes : sim.bytes_in_use) n += bytes;
    return n;
}

extern "C" uint64_t pr_sim_pinned_in_use(void)
{
    const sim_locked held;
    return sim.pinned_bytes;
}

/* ---- copies ---- */
/* A run of rows; one row where it is a plain copy. */
typedef struct copy {
    unsigned char *to;
    const unsigned char *from; /* NULL: set to value */
    size_t to_pitch, from_pitch, width, n_rows;
    int value;
} copy;

/* Whether one side of a copy is what the kind says it is. */
static cudaError_t side_check(const void *p, size_t n_bytes, bool is_device, bool is_async)
{
    const sim_allocation *a = sim_allocation_find(p);
    if (is_device != (a && a->kind == SIM_DEVICE)) return cudaErrorInvalidValue;
    if (a && n_bytes > a->n_bytes - (size_t)((const unsigned char *)p - a->data)) {
        sim_fault_set_as(cudaErrorIllegalAddress,
                         "a copy of %zu bytes beyond the end of an allocation: %zu bytes, at %zu",
                         n_bytes, a->n_bytes, (size_t)((const unsigned char *)p - a->data));
        return cudaErrorIllegalAddress;
    }
    if (!a && is_async && sim.needs_pinned) {
        sim_fault_set("an asynchronous copy of %zu bytes to or from memory that is not pinned",
                      n_bytes);
        return cudaErrorInvalidValue;
    }
    return cudaSuccess;
}

static cudaError_t copy_check(const copy *c, cudaMemcpyKind kind, bool is_async)
{
    if (c->width == 0 || c->n_rows == 0) return cudaSuccess;
    if (c->width > c->to_pitch || (c->from && c->width > c->from_pitch))
        return cudaErrorInvalidValue;
    const size_t to_bytes = (c->n_rows - 1) * c->to_pitch + c->width;
    const size_t from_bytes = (c->n_rows - 1) * c->from_pitch + c->width;
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (kind == cudaMemcpyDefault) {
        const sim_allocation *to = sim_allocation_find(c->to), *from = sim_allocation_find(c->from);
        to_device = to && to->kind == SIM_DEVICE;
        from_device = from && from->kind == SIM_DEVICE;
    }
    const cudaError_t e = side_check(c->to, to_bytes, to_device, is_async);
    if (e != cudaSuccess || !c->from) return e;
    return side_check(c->from, from_bytes, from_device, is_async);
}

static void copy_do(const copy *c)
{
    for (size_t i = 0; i < c->n_rows; i++) {
        if (c->from)
            memmove(c->to + i * c->to_pitch, c->from + i * c->from_pitch, c->width);
        else
            memset(c->to + i * c->to_pitch, c->value, c->width);
    }
}

static sim_step copy_step(void *state, sim_effort *)
{
    if (sim.n_copies_to_failure > 0 && --sim.n_copies_to_failure == 0)
        sim_fault_set_as(cudaErrorECCUncorrectable, "the failure of a copy that was asked for");
    else
        copy_do((const copy *)state);
    return SIM_STEP_DONE;
}

static cudaError_t copy_queue(const copy *c, cudaMemcpyKind kind, cudaStream_t s)
{
    if (sim.has_fault) return sim_report(sim.fault_error);
    const cudaError_t e = copy_check(c, kind, true);
    if (e != cudaSuccess) return sim_report(e);
    void *state;
    sim_op *o = sim_op_make(sizeof *c, &state);
    memcpy(state, c, sizeof *c);
    o->step = copy_step;
    return sim_queue(s, o);
}

/* As on the hardware it does not wait for non-blocking streams. */
static cudaError_t copy_now(const copy *c, cudaMemcpyKind kind)
{
    if (sim.has_fault) return sim_report(sim.fault_error);
    const cudaError_t e = copy_check(c, kind, false);
    if (e != cudaSuccess) return sim_report(e);
    copy_do(c);
    return cudaSuccess;
}

static copy copy_of(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                    size_t n_rows)
{
    return copy{(unsigned char *)to, (const unsigned char *)from, to_pitch, from_pitch, width,
                n_rows, 0};
}

extern "C" cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n_bytes,
                                       cudaMemcpyKind kind, cudaStream_t s)
{
    const sim_locked held;
    const copy c = copy_of(to, n_bytes, from, n_bytes, n_bytes, 1);
    return copy_queue(&c, kind, s);
}

extern "C" cudaError_t cudaMemcpy(void *to, const void *from, size_t n_bytes, cudaMemcpyKind kind)
{
    const sim_locked held;
    const copy c = copy_of(to, n_bytes, from, n_bytes, n_bytes, 1);
    return copy_now(&c, kind);
}

extern "C" cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from,
                                         size_t from_pitch, size_t width, size_t n_rows,
                                         cudaMemcpyKind kind, cudaStream_t s)
{
    const sim_locked held;
    const copy c = copy_of(to, to_pitch, from, from_pitch, width, n_rows);
    return copy_queue(&c, kind, s);
}

extern "C" cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                                    size_t width, size_t n_rows, cudaMemcpyKind kind)
{
    const sim_locked held;
    const copy c = copy_of(to, to_pitch, from, from_pitch, width, n_rows);
    return copy_now(&c, kind);
}

extern "C" cudaError_t cudaMemsetAsync(void *to, int value, size_t n_bytes, cudaStream_t s)
{
    const sim_locked held;
    copy c = copy_of(to, n_bytes, NULL, 0, n_bytes, 1);
    c.value = value;
    return copy_queue(&c, cudaMemcpyHostToDevice, s);
}

extern "C" cudaError_t cudaMemset(void *to, int value, size_t n_bytes)
{
    const sim_locked held;
    copy c = copy_of(to, n_bytes, NULL, 0, n_bytes, 1);
    c.value = value;
    return copy_now(&c, cudaMemcpyHostToDevice);
}
