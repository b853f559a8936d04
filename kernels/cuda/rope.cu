/* kernels/cuda/rope.cu: norm and rotation of heads of q and k, where they stand. */
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/kernels.h"

enum { THREADS = 128, WARPS = THREADS / PR_WARP, DIM_MAX = 256, PAIRS = DIM_MAX / 2 / PR_WARP };

/* For each head h of q and k, in place, each step where its argument is given:
 *
 *     h[c] = norm[c] h[c] / sqrt(mean(h^2) + eps)
 *     h'[c] = h[c] cos[p, c] - h[c + n_pairs] sin[p, c]        for c < n_pairs = head_dim / 2
 *     h'[c] = h[c] cos[p, c - n_pairs] + h[c - n_pairs] sin[p, c - n_pairs]     else (NeoX layout)
 *
 * x [n_rows, (n_heads + n_kv_heads) head_dim], row-major, T; cos, sin [n_positions, n_pairs] and
 * norm [head_dim] f32; f32 inside, rounded once; the norm's sum per lane in order, then a
 * butterfly. Heads are sharded: no collective. One warp a head: lane l holds the pairs l, l + 32,
 * .. so that it alone reads and writes its elements, and in place needs no barrier.
 * Grid ceil(n_rows heads / 4), block 128.
 * Roofline: x read and written = 4 bytes an element at 16 bits (the tables, shared by heads, come
 * from the L2), 4 FLOP: memory, e.g. 8192 rows of 72 heads of 128 = 302 MB, 90 us at 3.35 TB/s.
 * Sources: Su et al. 2021, arXiv:2104.09864; per-head norm: Henry et al. 2020, arXiv:2010.04245. */
template <class T>
__global__ void __launch_bounds__(THREADS) pr_rope_kernel(pr_cuda_rope a)
{
    const int n_all = a.n_heads + a.n_kv_heads, n_pairs = a.head_dim / 2;
    const int lane = (int)threadIdx.x % PR_WARP;
    const int64_t job = (int64_t)blockIdx.x * WARPS + threadIdx.x / PR_WARP;
    const bool is_job = job < a.n_rows * n_all; /* the same for all lanes of a warp */
    const int64_t row = is_job ? job / n_all : 0;
    const int head = is_job ? (int)(job % n_all) : 0;
    T *const x = (T *)a.x + row * a.ldx + (int64_t)head * a.head_dim;
    float low[PAIRS], high[PAIRS], squares = 0.0f;
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        const int c = lane + i * PR_WARP;
        const bool is_mine = is_job && c < n_pairs; /* a warp without a job reads nobody's head */
        low[i] = is_mine ? pr_widen(x[c]) : 0.0f;
        high[i] = is_mine ? pr_widen(x[n_pairs + c]) : 0.0f;
        squares += low[i] * low[i] + high[i] * high[i];
    }
    const float *const norm = head < a.n_heads ? a.q_norm : a.k_norm;
    const float inverse = 1.0f / sqrtf(pr_warp_sum(squares) / (float)a.head_dim + a.norm_eps);
    const int64_t angle = a.cos ? (int64_t)a.positions[row] * n_pairs : 0;
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        const int c = lane + i * PR_WARP;
        if (c >= n_pairs || !is_job) continue;
        float l = low[i], h = high[i];
        if (norm) {
            l *= inverse * norm[c];
            h *= inverse * norm[n_pairs + c];
        }
        const float turned = a.cos ? l * a.cos[angle + c] - h * a.sin[angle + c] : l;
        if (a.cos) h = h * a.cos[angle + c] + l * a.sin[angle + c];
        x[c] = pr_narrow<T>(turned);
        x[n_pairs + c] = pr_narrow<T>(h);
    }
}

cudaError_t pr_cuda_rope_launch(const pr_cuda_rope *a, cudaStream_t stream)
{
    const int64_t n_jobs = a->n_rows * ((int64_t)a->n_heads + a->n_kv_heads);
    if (n_jobs == 0) return cudaSuccess;
    const int64_t n_blocks = (n_jobs + WARPS - 1) / WARPS;
    if (a->head_dim < 2 || a->head_dim > DIM_MAX || a->head_dim % 2 || !pr_is_grid(n_blocks))
        return cudaErrorInvalidValue;
    const dim3 grid((unsigned)n_blocks), block(THREADS);
    if (a->dtype == PR_DTYPE_F32)
        return PR_LAUNCH("pr_rope_kernel", pr_rope_kernel<float>, grid, block, 0, stream, *a);
    if (a->dtype == PR_DTYPE_BF16)
        return PR_LAUNCH("pr_rope_kernel", pr_rope_kernel<__nv_bfloat16>, grid, block, 0, stream,
                         *a);
    if (a->dtype == PR_DTYPE_F16)
        return PR_LAUNCH("pr_rope_kernel", pr_rope_kernel<__half>, grid, block, 0, stream, *a);
    return cudaErrorInvalidValue;
}
