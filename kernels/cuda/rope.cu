/* kernels/cuda/rope.cu: from the rows of the QKV projection to q, k and v. */
#include "kernels/cuda/dispatch.cuh"

enum { THREADS = 128, WARPS = THREADS / PR_WARP, DIM_MAX = 256, PER_LANE = DIM_MAX / PR_WARP };

/* h[c] = x[c] + bias[c] of one head; q and k heads then, each where its argument is given,
 *
 *     h[c] = norm[c] h[c] / sqrt(mean(h^2) + eps)
 *     y[c] = h[c] cos[p, c] - h[c + n_pairs] sin[p, c]        for c < n_pairs = head_dim / 2
 *     y[c] = h[c] cos[p, c - n_pairs] + h[c - n_pairs] sin[p, c - n_pairs]      else (NeoX layout)
 *
 * x [n_rows, (n_heads + 2 n_kv_heads) head_dim]; q, k, v matrices of their own, 16 bits for the
 * attention kernel; f32 inside, the norm's sum per lane in order, then a butterfly. Heads are
 * sharded: no collective. One warp a head: lane l holds the pairs l, l + 32, .. so that a rotation
 * needs no other lane. Grid ceil(n_rows heads / 4), block 128.
 * Roofline: x read, q, k, v written = 4 bytes an element at 16 bits (the tables, shared by heads,
 * come from the L2), 4 FLOP: memory, e.g. 8192 rows of 10240 = 336 MB, 100 us at 3.35 TB/s.
 * Sources: Su et al. 2021, arXiv:2104.09864; per-head norm: Henry et al. 2020, arXiv:2010.04245. */
template <class In, class Out>
__global__ void __launch_bounds__(THREADS) pr_rope_kernel(pr_cuda_rope a)
{
    const int n_all = a.n_heads + 2 * a.n_kv_heads, n_pairs = a.head_dim / 2;
    const int lane = (int)threadIdx.x % PR_WARP;
    const int64_t job = (int64_t)blockIdx.x * WARPS + threadIdx.x / PR_WARP;
    const bool is_job = job < (int64_t)a.n_rows * n_all; /* the same for all lanes of a warp */
    const int64_t row = is_job ? job / n_all : 0;
    const int head = is_job ? (int)(job % n_all) : 0;
    const bool is_q = head < a.n_heads, is_v = head >= a.n_heads + a.n_kv_heads;
    const In *const x = (const In *)a.x + row * a.ldx + (int64_t)head * a.head_dim;
    const float *const bias = a.bias ? a.bias + (int64_t)head * a.head_dim : nullptr;
    float low[PER_LANE / 2], high[PER_LANE / 2], squares = 0.0f;
#pragma unroll
    for (int i = 0; i < PER_LANE / 2; i++) {
        const int c = lane + i * PR_WARP;
        low[i] = c < n_pairs ? pr_widen(x[c]) : 0.0f;
        high[i] = c < n_pairs ? pr_widen(x[n_pairs + c]) : 0.0f;
        if (bias && c < n_pairs) {
            low[i] += bias[c];
            high[i] += bias[n_pairs + c];
        }
        squares += low[i] * low[i] + high[i] * high[i];
    }
    const float *const norm = is_q ? a.q_norm : is_v ? nullptr : a.k_norm;
    const float inverse = 1.0f / sqrtf(pr_warp_sum(squares) / (float)a.head_dim + a.norm_eps);
    Out *const y = is_q   ? (Out *)a.q + row * a.ldq + (int64_t)head * a.head_dim
                   : is_v ? (Out *)a.v + row * a.ldv +
                                (int64_t)(head - a.n_heads - a.n_kv_heads) * a.head_dim
                          : (Out *)a.k + row * a.ldk + (int64_t)(head - a.n_heads) * a.head_dim;
    const int64_t angle = a.cos && !is_v ? (int64_t)a.positions[row] * n_pairs : 0;
#pragma unroll
    for (int i = 0; i < PER_LANE / 2; i++) {
        const int c = lane + i * PR_WARP;
        if (c >= n_pairs || !is_job) continue;
        float l = low[i], h = high[i];
        if (norm) {
            l *= inverse * norm[c];
            h *= inverse * norm[n_pairs + c];
        }
        const float turned = a.cos && !is_v ? l * a.cos[angle + c] - h * a.sin[angle + c] : l;
        if (a.cos && !is_v) h = h * a.cos[angle + c] + l * a.sin[angle + c];
        y[c] = pr_narrow<Out>(turned);
        y[n_pairs + c] = pr_narrow<Out>(h);
    }
}

cudaError_t pr_cuda_rope_launch(const pr_cuda_rope *a, cudaStream_t stream)
{
    if (a->n_rows == 0) return cudaSuccess;
    if (a->head_dim < 2 || a->head_dim > DIM_MAX || a->head_dim % 2) return cudaErrorInvalidValue;
    const int64_t n_jobs = (int64_t)a->n_rows * (a->n_heads + 2 * a->n_kv_heads);
    PR_LAUNCH_BY_DTYPES(pr_rope_kernel, a->x_dtype, a->y_dtype,
                        dim3((unsigned)((n_jobs + WARPS - 1) / WARPS)), dim3(THREADS), 0, stream,
                        *a);
}
