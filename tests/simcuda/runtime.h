/* runtime.h: inside the simulated CUDA runtime: its state, and how work gets into a stream.
 *
 * Owns: the one state of the process. runtime.cpp has the devices, their limits and the faults,
 * runtime_memory.cpp allocations and copies, runtime_stream.cpp streams and events; blas.cpp and
 * nccl.cpp queue their work through sim_call. Every entry point holds the lock for as long as it
 * runs, so that the runtime may be called from any thread; functions of this header expect it held.
 * Nothing here is ever compiled with a sanitizer, and none of it uses libstdc++ (see block.cpp). */
#ifndef SIMCUDA_RUNTIME_H
#define SIMCUDA_RUNTIME_H

#include "tests/simcuda/fiber.h"
#include "tests/simcuda/sim.h"

enum { SIM_STREAMS_MAX = 64, SIM_KERNELS_MAX = 512, SIM_MESSAGE_BYTES = 512, SIM_DEVICES_MAX = 64 };

/* What a step of queued work says. */
typedef enum sim_step {
    SIM_STEP_DONE,
    SIM_STEP_BLOCKED /* waits for something outside of this process: asked again later */
} sim_step;

/* How much the device is to do. */
typedef struct sim_effort {
    bool is_forced; /* somebody waits: what the work waits for is done too */
    unsigned n_ops; /* at most, in all streams; counts down */
} sim_effort;

/* An operation in a stream. Its state stands behind it. */
typedef struct alignas(16) sim_op {
    struct sim_op *next;
    /* called until it is done */
    sim_step (*step)(void *state, sim_effort *effort);
    /* called once, when the op is done or dropped; NULL: nothing to let go of */
    void (*drop)(void *state);
    bool is_kernel;  /* computes: what stands behind it does not begin early */
    uint64_t serial; /* in its stream, from 1 */
} sim_op;

struct CUstream_st {
    sim_op *first, *last;
    uint64_t n_queued, n_done; /* over all that ever used this place */
    int i_device;
    bool is_used, is_draining;
};

typedef enum sim_memory_kind { SIM_DEVICE, SIM_PINNED } sim_memory_kind;

typedef struct sim_allocation {
    unsigned char *data; /* NULL: free place */
    size_t n_bytes;
    sim_memory_kind kind;
    bool is_registered; /* the caller's own memory */
    int i_device;
} sim_allocation;

/* A kernel's own limit of dynamic shared memory, on one device. */
typedef struct sim_opted {
    const void *kernel;
    int i_device;
    size_t n_bytes;
} sim_opted;

typedef struct sim_state {
    bool is_configured;
    pr_sim_config config;
    uint64_t random;
    int n_devices;
    int i_physical[SIM_DEVICES_MAX]; /* of each visible device */
    uint64_t memory_bytes;           /* of each device */
    uint64_t bytes_in_use[SIM_DEVICES_MAX];
    uint64_t pinned_bytes;
    sim_allocation *allocations;
    size_t n_allocations, allocations_max;
    CUstream_st streams[SIM_STREAMS_MAX];
    sim_opted opted[SIM_KERNELS_MAX];
    unsigned n_opted;
    bool needs_pinned;
    uint64_t n_allocs_to_failure, n_copies_to_failure; /* 0: never */
    cudaError_t fault_error;
    bool has_fault;
    char fault[SIM_MESSAGE_BYTES];
} sim_state;

extern sim_state sim;

/* The lock of everything; configures the device from the environment when nobody has. */
struct sim_locked {
    sim_locked();
    ~sim_locked();
    sim_locked(const sim_locked &) = delete;
    sim_locked &operator=(const sim_locked &) = delete;
};
/* Lets go of the lock and sleeps for a moment, so that another thread or process gets on. */
void sim_pause(void);

int sim_arch(void);
/* The calling thread's. */
int sim_device_now(void);
/* Keeps an error for cudaGetLastError, and returns it. */
cudaError_t sim_report(cudaError_t e);
/* As sim_fault_set, with the error that all later calls give. */
void sim_fault_set_as(cudaError_t e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The allocation that holds p, or NULL. */
const sim_allocation *sim_allocation_find(const void *p);
/* Whether all of p .. p + n_bytes is memory of that device. */
bool sim_is_on_device(const void *p, size_t n_bytes, int i_device);
void sim_memory_poison(void *p, size_t n_bytes);

bool sim_is_stream(cudaStream_t s);
/* An op for sim_queue with room for its state, which *state points to. */
sim_op *sim_op_make(size_t state_bytes, void **state);
/* Puts it at the end of the stream. Fails cudaErrorInvalidResourceHandle: not a stream. */
cudaError_t sim_queue(cudaStream_t s, sim_op *o);
/* Queues a call of `run` with a copy of the state. */
cudaError_t sim_call(cudaStream_t s, void (*run)(void *state), const void *state,
                     size_t state_bytes);
/* Works off what all streams of the device can do without waiting, but for kernels' streams that
 * nobody waits for: those too when is_forced. */
void sim_streams_progress(int i_device);
/* Drops what is queued, everywhere. */
void sim_streams_clear(void);

#endif
