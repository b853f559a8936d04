/* kernels/cuda/attention.cuh: what the two attention kernels share: which keys a row sees, where
 * rows of q and out are, and the copy of a head's row to shared memory.
 *
 * attention.cu has the launch and the kernel of 16-bit elements, attention_f32.cu that of f32. */
#ifndef POOLRANK_KERNELS_CUDA_ATTENTION_CUH
#define POOLRANK_KERNELS_CUDA_ATTENTION_CUH

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/kernels.h"

enum { THREADS = 128, ROWS = PR_CUDA_TILE_ROWS, WARP_ROWS = 16, KEY_MAX = 0x7fffffff };

/* A launch's argument. */
typedef struct pr_attention_call {
    pr_cuda_attention a;
    bool is_aligned; /* heads of q, k, v begin and end at multiples of 16 bytes */
} pr_attention_call;

/* The f32 kernel on tiles of dim (the compiled size) columns. */
cudaError_t pr_attention_f32_launch(const pr_attention_call &call, int dim, cudaStream_t stream);
size_t pr_attention_f32_shared_bytes(int dim);
int pr_attention_f32_tile_keys(int dim);

/* Queues an instance of a kernel that may need more than 48 KB of shared memory. */
static inline cudaError_t pr_attention_queue(void (*kernel)(pr_attention_call), const char *name,
                                             size_t n_bytes, const pr_attention_call &call,
                                             cudaStream_t stream)
{
    const cudaError_t e = cudaFuncSetAttribute(
        (const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)n_bytes);
    if (e != cudaSuccess) return e;
    if (PR_FAULT(PR_FAULT_SHARED_SMALL)) n_bytes -= 64;
    return PR_LAUNCH(name, kernel, dim3((unsigned)call.a.n_tiles, (unsigned)call.a.n_kv_heads),
                     dim3(THREADS), n_bytes, stream, call);
}

/* The keys that one row sees, by position; nobody's row sees none. */
typedef struct row_keys {
    int begin;
    int end;
} row_keys;

__device__ __forceinline__ row_keys row_keys_of(const pr_cuda_attention &a,
                                                const pr_cuda_tile &tile, int row)
{
    row_keys keys = {KEY_MAX, 0};
    if (row >= (int)tile.row_count) return keys;
    keys.begin = 0;
    keys.end = (int)tile.key_count;
    if (!a.is_causal) return keys;
    const uint32_t group = (uint32_t)(a.n_heads / a.n_kv_heads);
    const int position = a.query_positions[tile.query_begin + (tile.row_begin + row) / group];
    keys.end = pr_min(keys.end, position + 1);
    if (a.window > 0) keys.begin = pr_max(0, position + 1 - a.window);
    return keys;
}

/* Positions that any row of the block sees; scratch [2 THREADS / PR_WARP]. */
__device__ __forceinline__ row_keys block_keys(row_keys mine, int *scratch)
{
    const int i_warp = (int)threadIdx.x / PR_WARP;
#pragma unroll
    for (int bit = PR_WARP / 2; bit > 0; bit /= 2) {
        mine.begin = pr_min(mine.begin, __shfl_xor_sync(PR_ALL_LANES, mine.begin, bit));
        mine.end = pr_max(mine.end, __shfl_xor_sync(PR_ALL_LANES, mine.end, bit));
    }
    if (threadIdx.x % PR_WARP == 0) {
        scratch[2 * i_warp] = mine.begin;
        scratch[2 * i_warp + 1] = mine.end;
    }
    __syncthreads();
    row_keys all = {KEY_MAX, 0};
    for (int i = 0; i < THREADS / PR_WARP; i++) {
        all.begin = pr_min(all.begin, scratch[2 * i]);
        all.end = pr_max(all.end, scratch[2 * i + 1]);
    }
    if (all.begin >= all.end) all = row_keys{0, 0};
    return all;
}

/* Where a row of the tile begins in q or out. */
__device__ __forceinline__ int64_t row_offset(const pr_cuda_attention &a, const pr_cuda_tile &tile,
                                              int row, int64_t ld)
{
    const uint32_t group = (uint32_t)(a.n_heads / a.n_kv_heads);
    const uint32_t r = tile.row_begin + (uint32_t)row;
    return (int64_t)(tile.query_begin + r / group) * ld +
           (int64_t)(blockIdx.y * group + r % group) * a.head_dim;
}

/* Starts to copy 16 bytes of a head's row, from `column` on; what is behind head_dim, and all of a
 * row that is none, is zeros. */
template <class T>
__device__ __forceinline__ void chunk_copy(const pr_attention_call &call, T *to, const T *row,
                                           int column, bool is_row)
{
    const int n = is_row ? call.a.head_dim - column : 0;
    if (call.is_aligned) {
        pr_cp_async_16(to, n > 0 ? row + column : row, n > 0);
        return;
    }
#pragma unroll
    for (int i = 0; i < (int)(16 / sizeof(T)); i++)
        to[i] = i < n ? row[column + i] : pr_narrow<T>(0.0f);
}

/* Starts to copy the tile's rows of q; rows beyond the last are zeros. */
template <class T, int DIM, int STRIDE>
__device__ __forceinline__ void q_copy(const pr_attention_call &call, const pr_cuda_tile &tile,
                                       T *q)
{
    enum { WIDTH = 16 / sizeof(T), CHUNKS = DIM / WIDTH };
    for (int c = (int)threadIdx.x; c < ROWS * CHUNKS; c += THREADS) {
        const int row = c / CHUNKS, column = c % CHUNKS * WIDTH;
        const bool is_row = row < (int)tile.row_count;
        const T *const from = (const T *)call.a.q +
                              row_offset(call.a, tile, is_row ? row : 0, call.a.ldq);
        chunk_copy(call, q + row * STRIDE + column, from, column, is_row);
    }
}

/* Starts to copy keys key .. key + KEYS - 1 of k or v; those from key_end on are zeros. */
template <class T, int DIM, int KEYS, int STRIDE>
__device__ __forceinline__ void keys_copy(const pr_attention_call &call, const pr_cuda_tile &tile,
                                          int key, int key_end, const void *x, int64_t ld, T *to)
{
    enum { WIDTH = 16 / sizeof(T), CHUNKS = DIM / WIDTH };
    const T *const head = (const T *)x + (int64_t)blockIdx.y * call.a.head_dim;
    for (int c = (int)threadIdx.x; c < KEYS * CHUNKS; c += THREADS) {
        const int row = c / CHUNKS, column = c % CHUNKS * WIDTH;
        const bool is_key = key + row < key_end;
        const int64_t from = is_key ? call.a.key_rows[tile.key_begin + key + row] : 0;
        chunk_copy(call, to + row * STRIDE + column, head + from * ld, column, is_key);
    }
}

#endif
