/* kernels/cuda/pool.cu: rows of hidden states to pooled rows, and what becomes of those. */
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/kernels.h"

enum { THREADS = 128 };

/* A launch's argument: rows and leading dimensions in units of the copy. */
typedef struct gather_call {
    const void *x;
    void *y;
    const uint32_t *rows;
    int64_t ldx, ldy;
    int64_t n_units; /* of a row */
} gather_call;

/* y[i] = x[rows[i]]: the rows of LAST, CLS, ALL, STEP or any other choice.
 *
 * x [.., ldx], y [n_rows, ldy] of any dtype, row-major, copied as units of 16, 4 or 2 bytes, the
 * largest that the sizes and addresses allow. Bits do not change. Whole rows on the pooling rank:
 * no collective. Grid n_rows, block 128: 2 KB a turn.
 * Roofline: a row read and written, no FLOP: memory, but rows are few (one a sequence for LAST and
 * CLS): 64 rows of 8192 in f32 are 4 MB, 1 us at 3.35 TB/s, less than the launch. */
template <class Unit>
__global__ void __launch_bounds__(THREADS) pr_gather_kernel(gather_call a)
{
    const int64_t i = blockIdx.x;
    const Unit *const x = (const Unit *)a.x + (int64_t)a.rows[i] * a.ldx;
    Unit *const y = (Unit *)a.y + i * a.ldy;
    for (int64_t c = threadIdx.x; c < a.n_units; c += THREADS) y[c] = x[c];
}

template <class Unit>
static cudaError_t gather_launch(const pr_cuda_gather *a, int64_t size, cudaStream_t stream)
{
    const int64_t unit = (int64_t)sizeof(Unit);
    const gather_call call = {a->x, a->y, a->rows, a->ldx * size / unit, a->ldy * size / unit,
                              a->dim * size / unit};
    return PR_LAUNCH("pr_gather_kernel", pr_gather_kernel<Unit>, dim3((unsigned)a->n_rows),
                     dim3(THREADS), 0, stream, call);
}

cudaError_t pr_cuda_gather_launch(const pr_cuda_gather *a, cudaStream_t stream)
{
    if (a->n_rows == 0) return cudaSuccess;
    const bool is_16bit = a->dtype == PR_DTYPE_BF16 || a->dtype == PR_DTYPE_F16;
    if ((!is_16bit && a->dtype != PR_DTYPE_F32) || a->dim < 1 || !pr_is_grid(a->n_rows))
        return cudaErrorInvalidValue;
    const int64_t size = is_16bit ? 2 : 4;
    const uintptr_t bits = (uintptr_t)a->x | (uintptr_t)a->y |
                           (uintptr_t)(size * (a->ldx | a->ldy | a->dim));
    if (bits % 16 == 0) return gather_launch<uint4>(a, size, stream);
    if (bits % 4 == 0) return gather_launch<uint32_t>(a, size, stream);
    return gather_launch<uint16_t>(a, size, stream);
}

/* y[s] = sum_j x[rows[j]] / n over the n rows j = offsets[s] .. offsets[s + 1] - 1; 0 for n = 0
 *
 * x [.., ldx], y [n_sequences, ldy] f32, row-major. Added in the order of rows with Kahan's
 * compensation, as kernels/cpu: the same bits. Whole rows on the pooling rank: no collective.
 * Grid n_sequences x the 128-column parts of a row, block 128: one thread a column, so that no sum
 * is divided between threads and its order is that of the rows.
 * Roofline: every row is read once and few are written, 4 FLOP for 4 bytes: memory; 8192 rows of
 * 4096 = 134 MB, 40 us at 3.35 TB/s if the columns of all sequences fill the device: one sequence
 * alone is a chain of dependent additions, 4 for each of its rows. (nvcc does not reassociate: the
 * compensation stays; no fast-math.)
 * Source of the sum: Kahan 1965, "Further remarks on reducing truncation errors". */
__global__ void __launch_bounds__(THREADS) pr_mean_kernel(pr_cuda_mean a)
{
    const int64_t s = blockIdx.x;
    const uint32_t begin = a.offsets[s], end = a.offsets[s + 1];
    for (int64_t c = (int64_t)blockIdx.y * THREADS + threadIdx.x; c < a.dim;
         c += (int64_t)gridDim.y * THREADS) {
        const float *const x = a.x + c;
        float sum = 0.0f, lost = 0.0f;
        for (uint32_t i = begin; i < end; i++) {
            const float part = x[(int64_t)a.rows[i] * a.ldx] - lost, next = sum + part;
            lost = (next - sum) - part;
            sum = next;
        }
        a.y[s * a.ldy + c] = begin < end ? sum / (float)(end - begin) : 0.0f;
    }
}

cudaError_t pr_cuda_mean_launch(const pr_cuda_mean *a, cudaStream_t stream)
{
    if (a->n_sequences == 0) return cudaSuccess;
    if (a->dim < 1 || !pr_is_grid(a->n_sequences)) return cudaErrorInvalidValue;
    const unsigned n_parts = pr_grid_y(((int64_t)a->dim + THREADS - 1) / THREADS);
    return PR_LAUNCH("pr_mean_kernel", pr_mean_kernel, dim3((unsigned)a->n_sequences, n_parts),
                     dim3(THREADS), 0, stream, *a);
}

/* L2        x[c] = x[c] / max(sqrt(sum(x^2)), 1e-12)
 * softmax   x[c] = exp(x[c] - max(x)) / sum(exp(x - max(x)))
 * sigmoid   x[c] = 1 / (1 + exp(-x[c]))
 *
 * x [n_rows, dim] f32, in place; sums in f32, each thread its columns in order, then as
 * pr_block_sum. Whole rows: no collective. Grid n_rows, block 128. Pooled rows are few: a launch's
 * latency (microseconds) is the bound, not the 8 bytes an element. Against f64: 1e-6. */
__global__ void __launch_bounds__(THREADS) pr_finish_kernel(pr_cuda_finish a)
{
    PR_SHARED(float, scratch, THREADS / PR_WARP);
    float *const x = a.x + (int64_t)blockIdx.x * a.ldx;
    float max = -INFINITY, sum = 0.0f;
    if (a.kind == PR_CUDA_FINISH_SOFTMAX) {
        for (int c = (int)threadIdx.x; c < a.dim; c += THREADS) max = fmaxf(max, x[c]);
        max = pr_block_max<THREADS>(max, scratch);
    }
    for (int c = (int)threadIdx.x; c < a.dim; c += THREADS) {
        if (a.kind == PR_CUDA_FINISH_L2) sum += x[c] * x[c];
        if (a.kind == PR_CUDA_FINISH_SOFTMAX) sum += expf(x[c] - max);
    }
    sum = pr_block_sum<THREADS>(sum, scratch);
    for (int c = (int)threadIdx.x; c < a.dim; c += THREADS) {
        if (a.kind == PR_CUDA_FINISH_L2) {
            x[c] = x[c] / fmaxf(sqrtf(sum), 1e-12f);
        } else if (a.kind == PR_CUDA_FINISH_SOFTMAX) {
            x[c] = expf(x[c] - max) / sum;
        } else {
            const float e = expf(-fabsf(x[c]));
            x[c] = (x[c] < 0.0f ? e : 1.0f) / (1.0f + e);
        }
    }
}

cudaError_t pr_cuda_finish_launch(const pr_cuda_finish *a, cudaStream_t stream)
{
    if (a->n_rows == 0) return cudaSuccess;
    if (a->dim < 1 || !pr_is_grid(a->n_rows)) return cudaErrorInvalidValue;
    return PR_LAUNCH("pr_finish_kernel", pr_finish_kernel, dim3((unsigned)a->n_rows), dim3(THREADS),
                     0, stream, *a);
}
