/* simcuda/device.h: what a kernel of kernels/cuda sees when it is compiled for the host.
 *
 * The host twin of kernels/cuda/device.cuh: thread indices, barriers, warp operations, shared
 * memory, cp.async, ldmatrix and mma.sync, on fibers (tests/simcuda/block.cpp). Included after the
 * CUDA headers, whose declarations the macros below replace. Everything that touches the kernel's
 * own memory is inline here, so that it is compiled with the sanitizer of the test; the rest is in
 * block.cpp, which never is. Called on the fiber of one device thread.
 *
 * Rules that are stricter than the hardware: warp operations name all 32 lanes, a block is a
 * multiple of 32 threads, and no thread returns while others wait at a barrier. */
#ifndef SIMCUDA_DEVICE_H
#define SIMCUDA_DEVICE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The indices of the running thread. */
typedef struct pr_sim_index {
    uint3 thread;
    uint3 block;
    dim3 block_dim;
    dim3 grid_dim;
} pr_sim_index;

/* One copy that cp.async has promised. */
typedef struct pr_sim_copy {
    unsigned char *to;
    const unsigned char *from; /* NULL: zeros */
} pr_sim_copy;

extern "C" {
const pr_sim_index *pr_sim_here(void);
void pr_sim_sync_threads(const char *file, int line);
void pr_sim_sync_warp(const char *file, int line);
uint32_t pr_sim_shuffle(uint32_t value, int from_lane, const char *file, int line);
uint32_t pr_sim_ballot(int predicate, const char *file, int line);
/* rows: the addresses of this lane's row of each of the 4 matrices */
void pr_sim_ldmatrix_rows(const void *address, const unsigned char *rows[4], int transposed,
                          const char *file, int line);
void pr_sim_mma(float d[4], const uint32_t a[4], const uint32_t b[2], int is_bf16, const char *file,
                int line);
void *pr_sim_shared(size_t n_bytes, const char *file, int line);
void *pr_sim_shared_dynamic(void);
/* True: the copy is to be done now (eager mode). */
bool pr_sim_copy_issue(pr_sim_copy copy);
void pr_sim_copy_commit(void);
/* Hands out, one after the other, the copies that are due when n_groups may stay in flight. */
bool pr_sim_copy_due(int n_groups, pr_sim_copy *out);
cudaError_t pr_sim_launch(const char *name, const void *kernel, dim3 grid, dim3 block,
                          size_t shared_bytes, cudaStream_t stream, void (*run)(const void *),
                          const void *args, size_t args_bytes);
}

#define threadIdx (pr_sim_here()->thread)
#define blockIdx  (pr_sim_here()->block)
#define blockDim  (pr_sim_here()->block_dim)
#define gridDim   (pr_sim_here()->grid_dim)

#undef __launch_bounds__
#define __launch_bounds__(...)

#define __syncthreads() pr_sim_sync_threads(__FILE__, __LINE__)
#define __syncwarp()    pr_sim_sync_warp(__FILE__, __LINE__)
#define __ballot_sync(mask, predicate)                                                             \
    ((void)(mask), pr_sim_ballot((predicate) ? 1 : 0, __FILE__, __LINE__))
#define __shfl_sync(mask, value, lane)                                                             \
    ((void)(mask), pr_sim_shuffle_any(value, lane, __FILE__, __LINE__))
#define __shfl_xor_sync(mask, value, bits)                                                         \
    ((void)(mask), pr_sim_shuffle_any(value, (int)(threadIdx.x % 32) ^ (bits), __FILE__, __LINE__))

template <class T>
static inline T pr_sim_shuffle_any(T value, int lane, const char *file, int line)
{
    static_assert(sizeof(T) == 4, "32-bit values");
    uint32_t bits;
    __builtin_memcpy(&bits, &value, 4);
    bits = pr_sim_shuffle(bits, lane, file, line);
    __builtin_memcpy(&value, &bits, 4);
    return value;
}

/* A new array a block, on the heap: with red zones, and filled with NaN. */
#define PR_SHARED(type, name, n)                                                                   \
    type *const name = (type *)pr_sim_shared(sizeof(type) * (size_t)(n), __FILE__, __LINE__)
#define PR_DYN_SHARED(name)                                                                        \
    unsigned char *const name = (unsigned char *)pr_sim_shared_dynamic()

static inline void pr_sim_copy_do(pr_sim_copy c)
{
    for (int i = 0; i < 2; i++) {
        uint64_t word = 0;
        if (c.from) word = ((const uint64_t *)c.from)[i];
        ((uint64_t *)c.to)[i] = word;
    }
}

static inline void pr_cp_async_16(void *shared, const void *global, bool is_valid)
{
    const pr_sim_copy c = {(unsigned char *)shared,
                           is_valid ? (const unsigned char *)global : nullptr};
    if (pr_sim_copy_issue(c)) pr_sim_copy_do(c);
}

static inline void pr_cp_async_commit(void)
{
    pr_sim_copy_commit();
}

template <int N_GROUPS>
static inline void pr_cp_async_wait(void)
{
    pr_sim_copy c;
    while (pr_sim_copy_due(N_GROUPS, &c)) pr_sim_copy_do(c);
}

/* Four 8 x 8 matrices of 16-bit elements; lane l names row l % 8 of matrix l / 8. Lane l receives
 * of each matrix the elements [l / 4][2 (l % 4)] (low half) and [l / 4][2 (l % 4) + 1]; transposed:
 * [2 (l % 4)][l / 4] and [2 (l % 4) + 1][l / 4]. PTX ISA, "Warp-level matrix instructions:
 * ldmatrix". */
static inline void pr_sim_ldmatrix(uint32_t out[4], const void *address, bool transposed,
                                   const char *file, int line)
{
    const int lane = (int)(threadIdx.x % 32);
    for (int part = 0; part < (transposed ? 2 : 1); part++) {
        const unsigned char *rows[4];
        pr_sim_ldmatrix_rows(address, rows, transposed ? 1 + part : 0, file, line);
        for (int m = 0; m < 4; m++) {
            const uint16_t *row = (const uint16_t *)rows[m];
            if (!transposed)
                out[m] = row[2 * (lane % 4)] | (uint32_t)row[2 * (lane % 4) + 1] << 16;
            else if (part == 0)
                out[m] = row[lane / 4];
            else
                out[m] |= (uint32_t)row[lane / 4] << 16;
        }
    }
}

#define pr_ldmatrix_x4(out, address) pr_sim_ldmatrix(out, address, false, __FILE__, __LINE__)
#define pr_ldmatrix_x4_trans(out, address) pr_sim_ldmatrix(out, address, true, __FILE__, __LINE__)
#define pr_mma(type, d, a, b)                                                                     \
    pr_sim_mma(d, a, b, pr_sim_is_bf16((type *)nullptr), __FILE__, __LINE__)

static inline int pr_sim_is_bf16(const __nv_bfloat16 *)
{
    return 1;
}

static inline int pr_sim_is_bf16(const __half *)
{
    return 0;
}

template <class Args>
static inline cudaError_t pr_sim_launch_any(const char *name, void (*kernel)(Args), dim3 grid,
                                            dim3 block, size_t shared_bytes, cudaStream_t stream,
                                            const Args &args)
{
    struct call {
        void (*kernel)(Args);
        Args args;
        static void run(const void *self)
        {
            const call *c = (const call *)self;
            c->kernel(c->args);
        }
    } c = {kernel, args};
    return pr_sim_launch(name, (const void *)kernel, grid, block, shared_bytes, stream, call::run,
                         &c, sizeof c);
}

#define PR_LAUNCH(name, kernel, grid, block, shared_bytes, stream, args)                           \
    pr_sim_launch_any(name, kernel, grid, block, shared_bytes, stream, args)

#endif
