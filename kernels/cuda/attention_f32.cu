/* kernels/cuda/attention_f32.cu: segmented flash attention in f32, without tensor cores. */
#include "kernels/cuda/attention.cuh"

/* Four neighbours of a row: one access of 16 bytes. */
struct alignas(16) quad {
    float v[4];
};

enum { LANES = 8, MY_ROWS = 4 }; /* lanes that share rows, and how many rows they share */

/* Tiles of 64 rows x KEYS keys of DIM floats. A row is 4 floats longer than DIM, so that the 8
 * keys, and the 4 rows of q, that a warp reads at a time lie in different banks.
 *
 *     q [ROWS][STRIDE]   k [KEYS][STRIDE]   v [KEYS][STRIDE]                                 */
template <int DIM>
struct shape_f32 {
    enum { STRIDE = DIM + 4, KEYS = DIM <= 128 ? 32 : 16, MY_KEYS = KEYS / LANES };
    enum { PARTS = DIM / (4 * LANES) };
    static constexpr size_t shared_bytes = (size_t)(ROWS + 2 * KEYS) * STRIDE * 4;
};

/* A thread's share: rows w 16 + t / 8 + 4 i of the tile, i = 0 .. 3, for thread t of warp w; of
 * their scores the keys t % 8 + 8 j; of their sums the columns 4 (t % 8) .. + 3 of every 32. */
template <int DIM>
struct share {
    row_keys keys[MY_ROWS];
    float top[MY_ROWS];   /* largest score so far, in units of log2; -inf: none yet */
    float total[MY_ROWS]; /* of this thread's keys: the sum of p so far */
    quad o[MY_ROWS][shape_f32<DIM>::PARTS];
};

__device__ __forceinline__ int my_row(int i)
{
    const int lane = (int)threadIdx.x % PR_WARP;
    return (int)threadIdx.x / PR_WARP * WARP_ROWS + lane / LANES + PR_WARP / LANES * i;
}

/* s = q k^T, columns in order. */
template <int DIM>
__device__ __forceinline__ void scores(float s[MY_ROWS][shape_f32<DIM>::MY_KEYS], const float *q,
                                       const float *k)
{
    typedef shape_f32<DIM> S;
    const float *const my_q = q + my_row(0) * S::STRIDE;
    const float *const my_k = k + (int)threadIdx.x % LANES * S::STRIDE;
#pragma unroll
    for (int i = 0; i < MY_ROWS; i++) {
#pragma unroll
        for (int j = 0; j < S::MY_KEYS; j++) s[i][j] = 0.0f;
    }
#pragma unroll 4
    for (int d = 0; d < DIM; d += 4) {
        quad x[MY_ROWS], y[S::MY_KEYS];
#pragma unroll
        for (int i = 0; i < MY_ROWS; i++)
            x[i] = *(const quad *)(my_q + i * (PR_WARP / LANES) * S::STRIDE + d);
#pragma unroll
        for (int j = 0; j < S::MY_KEYS; j++)
            y[j] = *(const quad *)(my_k + j * LANES * S::STRIDE + d);
#pragma unroll
        for (int i = 0; i < MY_ROWS; i++) {
#pragma unroll
            for (int j = 0; j < S::MY_KEYS; j++) {
#pragma unroll
                for (int c = 0; c < 4; c++) s[i][j] += x[i].v[c] * y[j].v[c];
            }
        }
    }
}

/* Scores to p = exp2(score scale - top'), and what was summed so far by as much less. `key`: of
 * column 0. */
template <int DIM>
__device__ __forceinline__ void softmax_step(float s[MY_ROWS][shape_f32<DIM>::MY_KEYS],
                                             share<DIM> *m, int key, float scale_log2)
{
    typedef shape_f32<DIM> S;
    const int first = key + (int)threadIdx.x % LANES;
#pragma unroll
    for (int i = 0; i < MY_ROWS; i++) {
        float top = m->top[i];
#pragma unroll
        for (int j = 0; j < S::MY_KEYS; j++) {
            const int at = first + j * LANES;
            const bool is_seen = at >= m->keys[i].begin && at < m->keys[i].end;
            s[i][j] = is_seen ? s[i][j] * scale_log2 : -INFINITY;
            top = fmaxf(top, s[i][j]);
        }
#pragma unroll
        for (int bit = LANES / 2; bit > 0; bit /= 2)
            top = fmaxf(top, __shfl_xor_sync(PR_ALL_LANES, top, bit));
        const float base = top == -INFINITY ? 0.0f : top; /* no key seen yet: every p is 0 */
        const float shrink = exp2f(m->top[i] - base);
        m->top[i] = top;
        float sum = 0.0f;
#pragma unroll
        for (int j = 0; j < S::MY_KEYS; j++) {
            s[i][j] = exp2f(s[i][j] - base);
            sum += s[i][j];
        }
        m->total[i] = m->total[i] * shrink + sum;
#pragma unroll
        for (int c = 0; c < S::PARTS * 4; c++) m->o[i][c / 4].v[c % 4] *= shrink;
    }
}

/* o += p v, keys in order; a key's p is in the lane that has its score. */
template <int DIM>
__device__ __forceinline__ void values_add(share<DIM> *m,
                                           const float p[MY_ROWS][shape_f32<DIM>::MY_KEYS],
                                           const float *v)
{
    typedef shape_f32<DIM> S;
    const int lane = (int)threadIdx.x % PR_WARP;
    const float *const my_v = v + lane % LANES * 4;
#pragma unroll
    for (int j = 0; j < S::MY_KEYS; j++) {
#pragma unroll 2
        for (int t = 0; t < LANES; t++) {
            float weight[MY_ROWS];
#pragma unroll
            for (int i = 0; i < MY_ROWS; i++)
                weight[i] = __shfl_sync(PR_ALL_LANES, p[i][j], lane / LANES * LANES + t);
#pragma unroll
            for (int part = 0; part < S::PARTS; part++) {
                const quad x = *(const quad *)(my_v + (j * LANES + t) * S::STRIDE +
                                               part * 4 * LANES);
#pragma unroll
                for (int i = 0; i < MY_ROWS; i++) {
#pragma unroll
                    for (int c = 0; c < 4; c++) m->o[i][part].v[c] += weight[i] * x.v[c];
                }
            }
        }
    }
}

/* out = o / total; a row that saw no key: 0. */
template <int DIM>
__device__ __forceinline__ void rows_store(const pr_cuda_attention &a, const pr_cuda_tile &tile,
                                           const share<DIM> &m)
{
    const int first = (int)threadIdx.x % LANES * 4;
#pragma unroll
    for (int i = 0; i < MY_ROWS; i++) {
        float total = m.total[i];
#pragma unroll
        for (int bit = LANES / 2; bit > 0; bit /= 2)
            total += __shfl_xor_sync(PR_ALL_LANES, total, bit);
        const float inverse = total == 0.0f ? 0.0f : 1.0f / total;
        if (my_row(i) >= (int)tile.row_count && !PR_FAULT(PR_FAULT_OUT_OF_BOUNDS)) continue;
        float *const out = (float *)a.out + row_offset(a, tile, my_row(i), a.ldout);
#pragma unroll
        for (int c = 0; c < shape_f32<DIM>::PARTS * 4; c++) {
            const int column = c / 4 * 4 * LANES + first + c % 4;
            if (column < a.head_dim) out[column] = m.o[i][c / 4].v[c % 4] * inverse;
        }
    }
}

/* The thread's rows before the first key; returns the positions that any of them sees. */
template <int DIM>
__device__ __forceinline__ row_keys share_begin(const pr_cuda_attention &a,
                                                const pr_cuda_tile &tile, share<DIM> *m)
{
    row_keys mine = {KEY_MAX, 0};
#pragma unroll
    for (int i = 0; i < MY_ROWS; i++) {
        m->keys[i] = row_keys_of(a, tile, my_row(i));
        m->top[i] = -INFINITY;
        m->total[i] = 0.0f;
        mine.begin = pr_min(mine.begin, m->keys[i].begin);
        mine.end = pr_max(mine.end, m->keys[i].end);
#pragma unroll
        for (int c = 0; c < shape_f32<DIM>::PARTS * 4; c++) m->o[i][c / 4].v[c % 4] = 0.0f;
    }
    return mine;
}

/* out[i] = softmax(q[i] K^T scale) V per head, as the kernel of 16 bits (attention.cu), whose tiles
 * and mask this one shares; everything in f32, scores and sums by FMA, no TF32.
 *
 * Four warps of 16 rows, 8 lanes to 4 rows. K and V have one buffer each: V arrives by cp.async
 * while the scores are made, the next K while V is summed up. Order of every sum: columns of a
 * score in order; keys of o in order; a row's total per lane (its keys in order), then a butterfly.
 * Tiles begin at multiples of KEYS from position 0, and one that a row does not see multiplies its
 * sums by 1 and adds 0: a row's bits do not depend on the rows beside it. Heads are sharded: no
 * collective.
 *
 * q, out [n_queries, ld], k, v [rows, ld], row-major f32; out is none of the others.
 * Grid n_tiles x n_kv_heads, block 128, shared memory (64 + 2 KEYS) (DIM + 4) 4 bytes: 67.6 KB at
 * 128, 99.8 KB at 256, which sm_120 just holds. Against f64, of the largest |v|: 2e-6 allowed; 5e-7
 * holds on the simulated device.
 * Roofline: 4 DIM FLOP for each pair of row and seen key, K and V read once for 64 rows: 32 FLOP a
 * byte of K and V, which the L2 serves to the blocks of one sequence; with that, compute, e.g. 16
 * causal sequences of 512, 64 heads of 128: 69 GFLOP, 1.0 ms at 67 TFLOP/s of f32; a warp's step
 * of 4 columns is 64 FMA to 8 loads of 16 bytes a lane, of p V 16 FMA to 1 and 4 shuffles at 128.
 * Sources: Dao 2023, arXiv:2307.08691; Milakov and Gimelshein 2018, arXiv:1805.02867. */
template <int DIM>
__global__ void __launch_bounds__(THREADS) pr_attention_f32_kernel(pr_attention_call call)
{
    typedef shape_f32<DIM> S;
    PR_DYN_SHARED(shared);
    PR_SHARED(int, scratch, 2 * THREADS / PR_WARP);
    const pr_cuda_attention &a = call.a;
    float *const q = (float *)shared, *const k = q + ROWS * S::STRIDE;
    float *const v = k + S::KEYS * S::STRIDE;
    const pr_cuda_tile tile = a.tiles[blockIdx.x];
    share<DIM> m;
    const row_keys all = block_keys(share_begin<DIM>(a, tile, &m), scratch);
    const int key_first = all.begin / S::KEYS * S::KEYS;
    q_copy<float, DIM, S::STRIDE>(call, tile, q);
    keys_copy<float, DIM, S::KEYS, S::STRIDE>(call, tile, key_first, all.end, a.k, a.ldk, k);
    pr_cp_async_commit();
    for (int key = key_first; key < all.end; key += S::KEYS) {
        const int next = key + S::KEYS;
        keys_copy<float, DIM, S::KEYS, S::STRIDE>(call, tile, key, all.end, a.v, a.ldv, v);
        pr_cp_async_commit();
        if (!PR_FAULT(PR_FAULT_NO_WAIT)) pr_cp_async_wait<1>(); /* k is there, v under way */
        if (!PR_FAULT(PR_FAULT_NO_BARRIER)) __syncthreads();
        float s[MY_ROWS][S::MY_KEYS];
        scores<DIM>(s, q, k);
        pr_cp_async_wait<0>();
        __syncthreads(); /* v is there, and nobody reads k any more */
        if (next < all.end)
            keys_copy<float, DIM, S::KEYS, S::STRIDE>(call, tile, next, all.end, a.k, a.ldk, k);
        pr_cp_async_commit();
        softmax_step<DIM>(s, &m, key, a.scale * 1.44269504f);
        values_add<DIM>(&m, s, v);
        if (PR_FAULT(PR_FAULT_DIVERGENT) && threadIdx.x < PR_WARP) continue;
        if (!PR_FAULT(PR_FAULT_EARLY_OVERWRITE)) __syncthreads(); /* the next turn overwrites v */
    }
    pr_cp_async_wait<0>();
    rows_store<DIM>(a, tile, m);
}

/* ---- launch ---- */

template <int DIM>
static cudaError_t launch_shape(const pr_attention_call &call, cudaStream_t stream)
{
    return pr_attention_queue(pr_attention_f32_kernel<DIM>, "pr_attention_f32_kernel",
                              shape_f32<DIM>::shared_bytes, call, stream);
}

cudaError_t pr_attention_f32_launch(const pr_attention_call &call, int dim, cudaStream_t stream)
{
    switch (dim) {
    case 32: return launch_shape<32>(call, stream);
    case 64: return launch_shape<64>(call, stream);
    case 96: return launch_shape<96>(call, stream);
    case 128: return launch_shape<128>(call, stream);
    case 256: return launch_shape<256>(call, stream);
    default: return cudaErrorNotSupported;
    }
}

int pr_attention_f32_tile_keys(int dim)
{
    return dim <= 128 ? 32 : 16;
}

size_t pr_attention_f32_shared_bytes(int dim)
{
    const int keys = pr_attention_f32_tile_keys(dim);
    return (size_t)(ROWS + 2 * keys) * (size_t)(dim + 4) * 4;
}
