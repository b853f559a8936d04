/* runtime_stream.cpp: the simulated CUDA runtime: streams and events.
 *
 * A stream is a queue. Who waits for a stream works it off, and what it waits for in turn; whoever
 * forgot to wait reads old values. Only non-blocking streams: the default stream's hidden order
 * would hide such a fault. pr_sim_order says what begins without being waited for: an early copy
 * shows that nothing keeps it behind the kernel that still reads what it overwrites. */
#include "tests/simcuda/runtime.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { POLL_OPS = 16, EARLY_OPS = 4 };

struct CUevent_st {
    cudaStream_t stream; /* of the latest record; NULL: none yet */
    uint64_t serial;     /* of that record in its stream */
    uint64_t time_ns;
    unsigned n_polls;    /* since then */
    unsigned n_refs;     /* its owner, and records in streams */
    bool is_timed;
};

typedef enum progress { PROGRESS_DONE, PROGRESS_BLOCKED, PROGRESS_FAULT } progress;

static progress stream_progress(cudaStream_t s, uint64_t until, sim_effort *effort);

/* ---- the queue ---- */
bool sim_is_stream(cudaStream_t s)
{
    for (const CUstream_st &one : sim.streams)
        if (s == &one) return one.is_used;
    return false;
}

sim_op *sim_op_make(size_t state_bytes, void **state)
{
    fiber_ignore_begin();
    sim_op *o = (sim_op *)calloc(1, sizeof *o + state_bytes);
    fiber_ignore_end();
    assert(o);
    *state = o + 1;
    return o;
}

static void op_free(sim_op *o)
{
    if (o->drop) o->drop(o + 1);
    fiber_ignore_begin(); /* a kernel that was given up has not let go of it */
    free(o);
    fiber_ignore_end();
}

static void begin_early(cudaStream_t s)
{
    if (sim.config.order == PR_SIM_FORWARD) return;
    if (sim.config.order == PR_SIM_REVERSE) {
        for (CUstream_st &one : sim.streams)
            if (one.first && one.i_device == s->i_device) {
                sim_effort effort = {false, UINT32_MAX};
                stream_progress(&one, UINT64_MAX, &effort);
            }
        return;
    }
    const uint64_t draw = sim_random(&sim.random) >> 32;
    CUstream_st *other = s;
    for (uint64_t i = 0; draw % 2 && other == s && i < SIM_STREAMS_MAX; i++) {
        CUstream_st *one = &sim.streams[(draw / 2 + i) % SIM_STREAMS_MAX];
        if (one->first && one->i_device == s->i_device) other = one;
    }
    sim_effort effort = {false, 1 + (unsigned)(draw / 512 % EARLY_OPS)};
    if (draw / 256 % 2) stream_progress(other, UINT64_MAX, &effort);
}

cudaError_t sim_queue(cudaStream_t s, sim_op *o)
{
    if (!sim_is_stream(s)) {
        sim_fault_set("work on a stream that does not exist (the default stream is not used)");
        op_free(o);
        return sim_report(cudaErrorInvalidResourceHandle);
    }
    o->serial = ++s->n_queued;
    *(s->last ? &s->last->next : &s->first) = o;
    s->last = o;
    begin_early(s);
    return cudaSuccess;
}

typedef struct call_state {
    void (*run)(void *state);
    uint64_t pad; /* the state behind it stays aligned */
} call_state;

static sim_step call_step(void *state, sim_effort *)
{
    call_state *c = (call_state *)state;
    c->run(c + 1);
    return SIM_STEP_DONE;
}

cudaError_t sim_call(cudaStream_t s, void (*run)(void *state), const void *state,
                     size_t state_bytes)
{
    void *place;
    sim_op *o = sim_op_make(sizeof(call_state) + state_bytes, &place);
    call_state *c = (call_state *)place;
    c->run = run;
    memcpy(c + 1, state, state_bytes);
    o->step = call_step;
    o->is_kernel = true;
    return sim_queue(s, o);
}

/* May this op begin though nobody waits for it? */
static bool may_begin(const sim_op *o)
{
    return !o->is_kernel || sim.config.order == PR_SIM_RANDOM;
}

/* Works the queue off, up to the op `until`. */
static progress stream_progress(cudaStream_t s, uint64_t until, sim_effort *effort)
{
    if (s->is_draining) return PROGRESS_BLOCKED;
    s->is_draining = true;
    bool is_blocked = false;
    while (s->first && s->n_done < until && effort->n_ops > 0 && !sim.has_fault) {
        sim_op *o = s->first;
        is_blocked =
            (!effort->is_forced && !may_begin(o)) || o->step(o + 1, effort) != SIM_STEP_DONE;
        if (is_blocked) break;
        if (effort->n_ops > 0) effort->n_ops--;
        s->first = o->next;
        if (!s->first) s->last = NULL;
        s->n_done = o->serial;
        op_free(o);
    }
    s->is_draining = false;
    if (sim.has_fault) return PROGRESS_FAULT;
    return is_blocked || (s->first && s->n_done < until) ? PROGRESS_BLOCKED : PROGRESS_DONE;
}

void sim_streams_progress(int i_device)
{
    unsigned order[SIM_STREAMS_MAX];
    sim_order_fill(order, SIM_STREAMS_MAX, sim.config.order, &sim.random);
    for (unsigned i : order) {
        CUstream_st *s = &sim.streams[i];
        sim_effort effort = {true, UINT32_MAX};
        if (s->is_used && s->i_device == i_device) stream_progress(s, UINT64_MAX, &effort);
    }
}

void sim_streams_clear(void)
{
    for (CUstream_st &s : sim.streams) {
        while (s.first) {
            sim_op *next = s.first->next;
            op_free(s.first);
            s.first = next;
        }
        s.last = NULL;
        s.n_done = s.n_queued;
        s.is_draining = false;
    }
}

/* Waits for the op; meanwhile the device's other streams get on, since a peer may wait for what
 * stands in one of them. */
static cudaError_t stream_wait(cudaStream_t s, uint64_t until)
{
    for (;;) {
        sim_effort effort = {true, UINT32_MAX};
        const progress p = stream_progress(s, until, &effort);
        if (p == PROGRESS_FAULT) return sim_report(sim.fault_error);
        if (p == PROGRESS_DONE) return cudaSuccess;
        sim_streams_progress(s->i_device);
        sim_pause();
    }
}

/* What a poll does: the first finds the device idle, later ones let it work for a while. */
static cudaError_t stream_poll(cudaStream_t s, uint64_t until, unsigned *n_polls)
{
    if (sim.has_fault) return sim_report(sim.fault_error);
    if (s->n_done >= until) return cudaSuccess;
    if ((*n_polls)++ == 0) return cudaErrorNotReady;
    sim_effort effort = {true, POLL_OPS};
    if (sim.config.order == PR_SIM_RANDOM)
        effort.n_ops = 1 + (unsigned)(sim_random(&sim.random) % POLL_OPS);
    const progress p = stream_progress(s, until, &effort);
    if (p == PROGRESS_FAULT) return sim_report(sim.fault_error);
    if (s->n_done >= until) return cudaSuccess;
    if (effort.n_ops > 0) { /* waits for a peer */
        sim_streams_progress(s->i_device);
        sim_pause();
    }
    return cudaErrorNotReady;
}

/* ---- streams ---- */
extern "C" cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    const sim_locked held;
    if (sim.has_fault) return sim_report(sim.fault_error);
    if (flags != cudaStreamNonBlocking) return sim_report(cudaErrorInvalidValue);
    for (CUstream_st &s : sim.streams) {
        if (s.is_used) continue;
        s.is_used = true;
        s.i_device = sim_device_now();
        *out = &s;
        return cudaSuccess;
    }
    return sim_report(cudaErrorMemoryAllocation);
}

extern "C" cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int)
{
    return cudaStreamCreateWithFlags(out, flags);
}

extern "C" cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    const sim_locked held;
    if (!sim_is_stream(s)) return sim_report(cudaErrorInvalidResourceHandle);
    const cudaError_t e = stream_wait(s, s->n_queued);
    s->is_used = false;
    return e;
}

extern "C" cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    const sim_locked held;
    if (!sim_is_stream(s)) return sim_report(cudaErrorInvalidResourceHandle);
    return stream_wait(s, s->n_queued);
}

extern "C" cudaError_t cudaStreamQuery(cudaStream_t s)
{
    const sim_locked held;
    if (!sim_is_stream(s)) return sim_report(cudaErrorInvalidResourceHandle);
    unsigned is_not_the_first = 1;
    return stream_poll(s, s->n_queued, &is_not_the_first);
}

extern "C" cudaError_t cudaDeviceSynchronize(void)
{
    const sim_locked held;
    unsigned order[SIM_STREAMS_MAX];
    sim_order_fill(order, SIM_STREAMS_MAX, sim.config.order, &sim.random);
    cudaError_t e = cudaSuccess;
    for (unsigned i : order) {
        CUstream_st *s = &sim.streams[i];
        if (s->is_used && s->i_device == sim_device_now() && e == cudaSuccess)
            e = stream_wait(s, s->n_queued);
    }
    return e;
}

typedef struct host_call {
    cudaHostFn_t run;
    void *data;
} host_call;

static void host_run(void *state)
{
    const host_call *h = (const host_call *)state;
    h->run(h->data);
}

extern "C" cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t run, void *data)
{
    const sim_locked held;
    const host_call h = {run, data};
    return sim_call(s, host_run, &h, sizeof h);
}

/* ---- events ---- */
static void event_unref(cudaEvent_t e)
{
    if (--e->n_refs == 0) free(e);
}

extern "C" cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    const sim_locked held;
    if (sim.has_fault) return sim_report(sim.fault_error);
    *out = (cudaEvent_t)calloc(1, sizeof **out);
    if (!*out) return sim_report(cudaErrorMemoryAllocation);
    (*out)->n_refs = 1;
    (*out)->is_timed = !(flags & cudaEventDisableTiming);
    return cudaSuccess;
}

extern "C" cudaError_t cudaEventCreate(cudaEvent_t *out)
{
    return cudaEventCreateWithFlags(out, cudaEventDefault);
}

extern "C" cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    const sim_locked held;
    if (!e) return sim_report(cudaErrorInvalidResourceHandle);
    event_unref(e);
    return cudaSuccess;
}

static sim_step record_step(void *state, sim_effort *)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    (*(cudaEvent_t *)state)->time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    return SIM_STEP_DONE;
}

static void record_drop(void *state)
{
    event_unref(*(cudaEvent_t *)state);
}

extern "C" cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    const sim_locked held;
    if (!e) return sim_report(cudaErrorInvalidResourceHandle);
    void *state;
    sim_op *o = sim_op_make(sizeof e, &state);
    *(cudaEvent_t *)state = e;
    o->step = record_step;
    o->drop = record_drop;
    e->n_refs++;
    if (sim_is_stream(s)) {
        e->stream = s;
        e->serial = s->n_queued + 1;
        e->n_polls = 0;
    }
    return sim_queue(s, o);
}

typedef struct wait_state {
    cudaStream_t stream;
    uint64_t serial;
} wait_state;

static sim_step wait_step(void *state, sim_effort *effort)
{
    const wait_state *w = (const wait_state *)state;
    if (w->stream->n_done < w->serial && effort->is_forced)
        stream_progress(w->stream, w->serial, effort);
    return w->stream->n_done >= w->serial ? SIM_STEP_DONE : SIM_STEP_BLOCKED;
}

extern "C" cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
    const sim_locked held;
    if (!e) return sim_report(cudaErrorInvalidResourceHandle);
    if (!e->stream && sim_is_stream(s)) return cudaSuccess;
    void *state;
    sim_op *o = sim_op_make(sizeof(wait_state), &state);
    *(wait_state *)state = wait_state{e->stream, e->serial};
    o->step = wait_step;
    return sim_queue(s, o);
}

extern "C" cudaError_t cudaEventQuery(cudaEvent_t e)
{
    const sim_locked held;
    if (!e) return sim_report(cudaErrorInvalidResourceHandle);
    if (!e->stream) return cudaSuccess;
    return stream_poll(e->stream, e->serial, &e->n_polls);
}

extern "C" cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    const sim_locked held;
    if (!e) return sim_report(cudaErrorInvalidResourceHandle);
    return e->stream ? stream_wait(e->stream, e->serial) : cudaSuccess;
}

extern "C" cudaError_t cudaEventElapsedTime(float *out_ms, cudaEvent_t from, cudaEvent_t to)
{
    const sim_locked held;
    if (!from || !to || !from->is_timed || !to->is_timed || !from->stream || !to->stream)
        return sim_report(cudaErrorInvalidResourceHandle);
    if (from->stream->n_done < from->serial || to->stream->n_done < to->serial)
        return cudaErrorNotReady;
    *out_ms = (float)((double)(int64_t)(to->time_ns - from->time_ns) * 1e-6);
    return cudaSuccess;
}
