/* kernels/cuda/pool.cu: rows of hidden states to pooled rows, and what becomes of those. */
#include "kernels/cuda/dispatch.cuh"

enum { THREADS = 128, PART = THREADS };

/* LAST  y[s] = x[rows[offsets[s + 1] - 1]]     CLS  y[s] = x[rows[offsets[s]]]
 * ROWS  y[i] = x[rows[i]] (ALL, STEP)          MEAN y[s] = sum_j x[rows[j]] / n
 *
 * MEAN adds in the order of rows, in f32 with Kahan's compensation, as kernels/cpu: same bits there
 * for f32. x [.., dim], y [n_out, dim], row-major. Whole rows on the pooling rank: no collective.
 * Grid n_out x the 128-column parts of a row, block 128: one thread a column, so that MEAN needs no
 * reduction between threads and its order is that of the rows.
 * Roofline: every row is read once and few are written: memory; MEAN of 8192 rows of 4096 at 16
 * bits = 67 MB, 20 us at 3.35 TB/s if the columns of all sequences fill the device. (nvcc does not
 * reassociate: the compensation stays; no fast-math.)
 * Source of the sum: Kahan 1965, "Further remarks on reducing truncation errors". */
template <class In, class Out>
__global__ void __launch_bounds__(THREADS) pr_pool_kernel(pr_cuda_pool a)
{
    const int64_t s = blockIdx.x;
    const int c = (int)(blockIdx.y * PART + threadIdx.x);
    if (c >= a.dim) return;
    const In *const x = (const In *)a.x + c;
    const uint32_t begin = a.offsets ? a.offsets[s] : (uint32_t)s;
    const uint32_t end = a.offsets ? a.offsets[s + 1] : (uint32_t)s + 1;
    float out = 0.0f;
    if (begin < end && a.kind != PR_CUDA_POOL_MEAN) {
        const uint32_t i = a.kind == PR_CUDA_POOL_LAST ? end - 1 : begin;
        out = pr_widen(x[(int64_t)a.rows[i] * a.ldx]);
    } else if (begin < end) {
        float lost = 0.0f;
        for (uint32_t i = begin; i < end; i++) {
            const float part = pr_widen(x[(int64_t)a.rows[i] * a.ldx]) - lost, next = out + part;
            lost = (next - out) - part;
            out = next;
        }
        out /= (float)(end - begin);
    }
    ((Out *)a.y)[s * a.ldy + c] = pr_narrow<Out>(out);
}

cudaError_t pr_cuda_pool_launch(const pr_cuda_pool *a, cudaStream_t stream)
{
    if (a->n_out == 0) return cudaSuccess;
    if ((a->kind == PR_CUDA_POOL_ROWS) != !a->offsets) return cudaErrorInvalidValue;
    const unsigned n_parts = ((unsigned)a->dim + PART - 1) / PART;
    PR_LAUNCH_BY_DTYPES(pr_pool_kernel, a->x_dtype, a->y_dtype, dim3((unsigned)a->n_out, n_parts),
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
    return PR_LAUNCH("pr_finish_kernel", pr_finish_kernel, dim3((unsigned)a->n_rows), dim3(THREADS),
                     0, stream, *a);
}
