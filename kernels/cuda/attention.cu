/* kernels/cuda/attention.cu: segmented flash attention on tensor cores, and the launch of both
 * attention kernels. */
#include "kernels/cuda/attention.cuh"

/* Tiles of 64 rows x KEYS keys of DIM: what stands in shared memory, in elements of 16 bits. A row
 * is 16 bytes longer than DIM: its length is an odd multiple of 16 bytes, so that the 8 rows that
 * ldmatrix reads at a time lie in 8 different groups of 4 banks.
 *
 *     q [ROWS][STRIDE]   k [2][KEYS][STRIDE]   v [2][KEYS][STRIDE]                              */
template <int DIM, int KEYS>
struct shape {
    enum { STRIDE = DIM + 8, BUFFER = KEYS * STRIDE };
    static constexpr size_t shared_bytes = (size_t)(ROWS + 4 * KEYS) * STRIDE * 2;
    static constexpr bool keeps_q = DIM <= 128; /* q's fragments in registers: DIM / 4 of them */
};

/* The warp's 16 rows of q, columns 16 i .. 16 i + 15, as operand A. */
template <class T, int STRIDE>
__device__ __forceinline__ void q_fragment(uint32_t out[4], const T *q, int i)
{
    const int lane = (int)threadIdx.x % PR_WARP, row = (int)threadIdx.x / PR_WARP * WARP_ROWS;
    pr_ldmatrix_x4(out, q + (row + lane % 16) * STRIDE + i * 16 + lane / 16 * 8);
}

/* s = q k^T: s[n][i] is of key 8 n + 2 (lane % 4) + i % 2, row lane / 4 (+ 8 for i >= 2). */
template <class T, int DIM, int KEYS>
__device__ __forceinline__ void scores(float s[KEYS / 8][4], const uint32_t (*q_kept)[4],
                                       const T *q, const T *k)
{
    typedef shape<DIM, KEYS> S;
    const int lane = (int)threadIdx.x % PR_WARP;
    const T *const from = k + (lane / 16 * 8 + lane % 8) * S::STRIDE + lane / 8 % 2 * 8;
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) s[n][i] = 0.0f;
    }
#pragma unroll
    for (int d = 0; d < DIM / 16; d++) {
        uint32_t a[4];
        if (!S::keeps_q) q_fragment<T, S::STRIDE>(a, q, d);
#pragma unroll
        for (int n = 0; n < KEYS / 16; n++) {
            uint32_t b[4]; /* of keys 16 n and 16 n + 8 on */
            pr_ldmatrix_x4(b, from + n * 16 * S::STRIDE + d * 16);
            pr_mma(T, s[2 * n], S::keeps_q ? q_kept[d] : a, b);
            pr_mma(T, s[2 * n + 1], S::keeps_q ? q_kept[d] : a, b + 2);
        }
    }
}

/* The two rows of a thread (row lane / 4 of its warp, and 8 on): the online softmax so far. */
typedef struct row_state {
    row_keys keys[2];
    float top[2];   /* largest score so far, in units of log2; -inf: none yet */
    float total[2]; /* this thread's part of the sum of p so far */
} row_state;

/* Scores to p = exp2(score scale - top'), and what the sums so far shrink by. `key`: of column
 * 0. */
template <int N_TILES>
__device__ __forceinline__ void softmax_step(float s[N_TILES][4], row_state *r, int key,
                                             float scale_log2, float shrink[2])
{
    const int first = key + 2 * ((int)threadIdx.x % 4);
#pragma unroll
    for (int j = 0; j < 2; j++) {
        float top = r->top[j];
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
#pragma unroll
            for (int i = 2 * j; i < 2 * j + 2; i++) {
                const int at = first + 8 * n + i % 2;
                const bool is_seen = at >= r->keys[j].begin && at < r->keys[j].end;
                s[n][i] = is_seen ? s[n][i] * scale_log2 : -INFINITY;
                top = fmaxf(top, s[n][i]);
            }
        }
        top = fmaxf(top, __shfl_xor_sync(PR_ALL_LANES, top, 1));
        top = fmaxf(top, __shfl_xor_sync(PR_ALL_LANES, top, 2));
        const float base = top == -INFINITY ? 0.0f : top; /* no key seen yet: every p is 0 */
        shrink[j] = exp2f(r->top[j] - base);
        r->top[j] = top;
        float sum = 0.0f;
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
#pragma unroll
            for (int i = 2 * j; i < 2 * j + 2; i++) {
                s[n][i] = exp2f(s[n][i] - base);
                sum += s[n][i];
            }
        }
        r->total[j] = r->total[j] * shrink[j] + sum;
    }
}

/* o = o shrink + p v. The scores' layout is that of operand A, two tiles of 8 keys to one of 16. */
template <class T, int DIM, int KEYS>
__device__ __forceinline__ void values_add(float o[DIM / 8][4], const float p[KEYS / 8][4],
                                           const float shrink[2], const T *v)
{
    typedef shape<DIM, KEYS> S;
    const int lane = (int)threadIdx.x % PR_WARP;
    const T *const from = v + lane % 16 * S::STRIDE + lane / 16 * 8;
#pragma unroll
    for (int n = 0; n < DIM / 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) o[n][i] *= shrink[i / 2];
    }
#pragma unroll
    for (int k = 0; k < KEYS / 16; k++) {
        uint32_t a[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float *const pair = p[2 * k + i / 2] + i % 2 * 2;
            a[i] = pr_pack(pr_narrow<T>(pair[0]), pr_narrow<T>(pair[1]));
        }
#pragma unroll
        for (int d = 0; d < DIM / 16; d++) {
            uint32_t b[4]; /* of columns 16 d and 16 d + 8 on */
            pr_ldmatrix_x4_trans(b, from + k * 16 * S::STRIDE + d * 16);
            pr_mma(T, o[2 * d], a, b);
            pr_mma(T, o[2 * d + 1], a, b + 2);
        }
    }
}

/* out = o / total; a row that saw no key: 0. */
template <class T, int DIM>
__device__ __forceinline__ void rows_store(const pr_cuda_attention &a, const pr_cuda_tile &tile,
                                           const float o[DIM / 8][4], const row_state &r)
{
    const int lane = (int)threadIdx.x % PR_WARP;
#pragma unroll
    for (int j = 0; j < 2; j++) {
        float total = r.total[j];
        total += __shfl_xor_sync(PR_ALL_LANES, total, 1);
        total += __shfl_xor_sync(PR_ALL_LANES, total, 2);
        const float inverse = total == 0.0f ? 0.0f : 1.0f / total;
        const int row = (int)threadIdx.x / PR_WARP * WARP_ROWS + lane / 4 + 8 * j;
        if (row >= (int)tile.row_count && !PR_FAULT(PR_FAULT_OUT_OF_BOUNDS)) continue;
        const int64_t at = row_offset(a, tile, row, a.ldout);
#pragma unroll
        for (int n = 0; n < DIM / 4; n++) {
            const int column = n / 2 * 8 + 2 * (lane % 4) + n % 2;
            const float x = o[n / 2][2 * j + n % 2] * inverse;
            if (column >= a.head_dim) continue;
            if (a.out_is_f32)
                ((float *)a.out)[at + column] = x;
            else
                ((T *)a.out)[at + column] = pr_narrow<T>(x);
        }
    }
}

/* out[i] = softmax(q[i] K^T scale) V per head over the keys that row i sees: pr_attention of
 * kernels/backend.h, which says what segments, positions, parents (through key_rows), GQA and the
 * window mean.
 *
 * A block has 64 rows of one KV head: queries times the heads that share it, so that K and V are
 * read once for all of them and a LAST pooler's single query still fills a tile. Four warps of 16
 * rows; K and V come tile by tile through two buffers, the next tile by cp.async while this one is
 * worked on; q, p, k, v in 16 bits, scores, softmax and sums in f32 (p is rounded to 16 bits for
 * the product with v, its own sum is not). Tiles begin at multiples of KEYS from position 0, and a
 * tile that a row does not see multiplies its sums by 1 and adds 0: a row's bits do not depend on
 * the rows beside it. Heads are sharded: no collective.
 *
 * A head of fewer than DIM columns stands in shared memory with zeros behind it, which add nothing
 * to scores and give columns of o that are not stored.
 *
 * q, out [n_queries, ld], k, v [rows, ld], row-major; out is none of the others.
 * Grid n_tiles x n_kv_heads, block 128, shared memory pr_cuda_attention_shared_bytes.
 * Against f64 on the same 16-bit inputs: 2^-8 (bf16), 2^-10 (f16) of the largest |v|.
 * Roofline: 4 DIM FLOP for each pair of row and seen key, K and V read once for 64 rows: 4 DIM 64 /
 * (4 DIM) = 64 FLOP a byte of K and V, which the L2 serves to the blocks of one sequence; with
 * that, compute, e.g. 16 causal sequences of 512, 64 heads of 128: 69 GFLOP in 16-bit mma, 70 us at
 * 989 TFLOP/s, of which mma.sync without wgmma reaches an unmeasured part.
 * Sources: Dao 2023, arXiv:2307.08691 (schedule); Milakov and Gimelshein 2018, arXiv:1805.02867. */
template <class T, int DIM, int KEYS>
__global__ void __launch_bounds__(THREADS) pr_attention_kernel(pr_attention_call call)
{
    typedef shape<DIM, KEYS> S;
    const pr_cuda_attention &a = call.a;
    PR_DYN_SHARED(shared);
    PR_SHARED(int, scratch, 2 * THREADS / PR_WARP);
    T *const q = (T *)shared, *const k = q + ROWS * S::STRIDE, *const v = k + 2 * S::BUFFER;
    const pr_cuda_tile tile = a.tiles[blockIdx.x];
    const int first_row = (int)threadIdx.x / PR_WARP * WARP_ROWS + (int)threadIdx.x % PR_WARP / 4;
    row_state r = {{row_keys_of(a, tile, first_row), row_keys_of(a, tile, first_row + 8)},
                   {-INFINITY, -INFINITY},
                   {0.0f, 0.0f}};
    const row_keys mine = {pr_min(r.keys[0].begin, r.keys[1].begin),
                           pr_max(r.keys[0].end, r.keys[1].end)};
    const row_keys all = block_keys(mine, scratch);
    float o[DIM / 8][4];
#pragma unroll
    for (int n = 0; n < DIM / 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) o[n][i] = 0.0f;
    }
    uint32_t q_kept[S::keeps_q ? DIM / 16 : 1][4];
    const int key_first = all.begin / KEYS * KEYS;
    q_copy<T, DIM, S::STRIDE>(call, tile, q);
    keys_copy<T, DIM, KEYS, S::STRIDE>(call, tile, key_first, all.end, a.k, a.ldk, k);
    keys_copy<T, DIM, KEYS, S::STRIDE>(call, tile, key_first, all.end, a.v, a.ldv, v);
    pr_cp_async_commit();
    int i_buffer = 0;
    for (int key = key_first; key < all.end; key += KEYS, i_buffer ^= 1) {
        const int next = key + KEYS, i_next = (i_buffer ^ 1) * S::BUFFER;
        const int i_now = i_buffer * S::BUFFER;
        if (next < all.end) {
            keys_copy<T, DIM, KEYS, S::STRIDE>(call, tile, next, all.end, a.k, a.ldk, k + i_next);
            keys_copy<T, DIM, KEYS, S::STRIDE>(call, tile, next, all.end, a.v, a.ldv, v + i_next);
        }
        pr_cp_async_commit(); /* an empty group for the last tile: then too, 1 may stay in flight */
        if (!PR_FAULT(PR_FAULT_NO_WAIT)) pr_cp_async_wait<1>();
        if (!PR_FAULT(PR_FAULT_NO_BARRIER)) __syncthreads();
        if (S::keeps_q && key == key_first) {
#pragma unroll
            for (int d = 0; d < DIM / 16; d++)
                q_fragment<T, S::STRIDE>(q_kept[S::keeps_q ? d : 0], q, d);
        }
        float s[KEYS / 8][4], shrink[2];
        scores<T, DIM, KEYS>(s, q_kept, q, k + i_now);
        softmax_step<KEYS / 8>(s, &r, key, a.scale * 1.44269504f, shrink);
        values_add<T, DIM, KEYS>(o, s, shrink, v + i_now);
        if (PR_FAULT(PR_FAULT_DIVERGENT) && threadIdx.x < PR_WARP) continue;
        if (!PR_FAULT(PR_FAULT_EARLY_OVERWRITE)) __syncthreads(); /* the next turn overwrites */
    }
    pr_cp_async_wait<0>();
    rows_store<T, DIM>(a, tile, o, r);
}

/* ---- launch ---- */

/* Keys of a tile by architecture and compiled head size: the most, up to 64, that let two blocks
 * stand on a multiprocessor (164 KB of shared memory on sm_80, 228 KB on sm_90 and sm_100); on
 * sm_120 (100 KB) that holds up to head size 64, above it there is one. Chosen on paper, measured
 * nowhere. */
typedef struct tile_choice {
    int16_t arch;
    int16_t dim;
    int16_t keys;
} tile_choice;

static const tile_choice tile_choices[] = {
    {80, 32, 64},  {80, 64, 64},  {80, 80, 64},  {80, 96, 64},  {80, 128, 32},  {80, 256, 16},
    {90, 32, 64},  {90, 64, 64},  {90, 80, 64},  {90, 96, 64},  {90, 128, 64},  {90, 256, 32},
    {100, 32, 64}, {100, 64, 64}, {100, 80, 64}, {100, 96, 64}, {100, 128, 64}, {100, 256, 32},
    {120, 32, 64}, {120, 64, 64}, {120, 80, 64}, {120, 96, 64}, {120, 128, 32}, {120, 256, 16},
};

/* The architecture of the table whose shared memory another one has: 8.6, 8.9 and 12.x let a block
 * have 99 KB, 8.0 and 8.7 163 KB, 9.0 to 11.0 227 KB (CUDA C++ Programming Guide, "Technical
 * Specifications per Compute Capability"). 0: too old. */
static int table_arch(int arch)
{
    if (arch < 80) return 0;
    if (arch == 80 || arch == 87) return 80;
    if (arch < 90 || arch >= 120) return 120;
    return arch < 100 ? 90 : 100;
}

static const int32_t compiled_16bit[] = {32, 64, 80, 96, 128, 256};
static const int32_t compiled_f32[] = {32, 64, 96, 128, 256};

/* The smallest compiled size that holds a head; 0: none. */
static int32_t compiled_dim(pr_dtype dtype, int32_t head_dim)
{
    const bool is_f32 = dtype == PR_DTYPE_F32;
    const int32_t *const dims = is_f32 ? compiled_f32 : compiled_16bit;
    const int n = (int)(is_f32 ? sizeof compiled_f32 : sizeof compiled_16bit) / (int)sizeof *dims;
    if (head_dim < 1) return 0;
    for (int i = 0; i < n; i++)
        if (head_dim <= dims[i]) return dims[i];
    return 0;
}

int32_t pr_cuda_attention_tile_keys(int arch, pr_dtype dtype, int32_t head_dim)
{
    const int32_t dim = compiled_dim(dtype, head_dim);
    const int row = table_arch(arch);
    if (dim == 0 || row == 0) return 0;
    if (dtype == PR_DTYPE_F32) return pr_attention_f32_tile_keys(dim);
    for (const tile_choice &c : tile_choices)
        if (c.arch == row && c.dim == dim) return c.keys;
    return 0;
}

size_t pr_cuda_attention_shared_bytes(int arch, pr_dtype dtype, int32_t head_dim)
{
    const int32_t keys = pr_cuda_attention_tile_keys(arch, dtype, head_dim);
    const int32_t dim = compiled_dim(dtype, head_dim);
    if (keys == 0) return 0;
    if (dtype == PR_DTYPE_F32) return pr_attention_f32_shared_bytes(dim);
    return (size_t)(ROWS + 4 * keys) * (size_t)(dim + 8) * 2;
}

/* Tiles of the spans: rows are queries times the group's heads, cut every 64. */
uint32_t pr_cuda_tiles(const pr_span *spans, int64_t n_spans, int32_t n_heads, int32_t n_kv_heads,
                       pr_cuda_tile *out)
{
    const uint32_t group = (uint32_t)(n_heads / n_kv_heads);
    uint32_t n_tiles = 0;
    for (int64_t i = 0; i < n_spans; i++) {
        const uint32_t n_rows = spans[i].query_count * group;
        for (uint32_t row = 0; row < n_rows; row += ROWS, n_tiles++) {
            if (!out) continue;
            out[n_tiles] = pr_cuda_tile{spans[i].query_begin, row,
                                        n_rows - row < ROWS ? n_rows - row : (uint32_t)ROWS,
                                        spans[i].key_begin, spans[i].key_count};
        }
    }
    return n_tiles;
}

template <class T, int DIM, int KEYS>
static cudaError_t launch_shape(const pr_attention_call &call, cudaStream_t stream)
{
    return pr_attention_queue(pr_attention_kernel<T, DIM, KEYS>, "pr_attention_kernel",
                              shape<DIM, KEYS>::shared_bytes, call, stream);
}

template <class T>
static cudaError_t launch_16bit(const pr_attention_call &call, int dim, int keys,
                                cudaStream_t stream)
{
    switch (dim * 1000 + keys) {
    case 32064: return launch_shape<T, 32, 64>(call, stream);
    case 64064: return launch_shape<T, 64, 64>(call, stream);
    case 80064: return launch_shape<T, 80, 64>(call, stream);
    case 96064: return launch_shape<T, 96, 64>(call, stream);
    case 128032: return launch_shape<T, 128, 32>(call, stream);
    case 128064: return launch_shape<T, 128, 64>(call, stream);
    case 256016: return launch_shape<T, 256, 16>(call, stream);
    case 256032: return launch_shape<T, 256, 32>(call, stream);
    default: return cudaErrorNotSupported;
    }
}

cudaError_t pr_cuda_attention_launch(const pr_cuda_attention *a, int arch, cudaStream_t stream)
{
    if (a->n_tiles == 0) return cudaSuccess;
    const int32_t keys = pr_cuda_attention_tile_keys(arch, a->dtype, a->head_dim);
    const int32_t dim = compiled_dim(a->dtype, a->head_dim);
    if (keys == 0) return cudaErrorNotSupported;
    if (a->n_kv_heads < 1 || a->n_kv_heads > PR_GRID_Y_MAX || a->n_heads % a->n_kv_heads != 0 ||
        !pr_is_grid(a->n_tiles))
        return cudaErrorInvalidValue;
    const int64_t size = a->dtype == PR_DTYPE_F32 ? 4 : 2;
    const uintptr_t bits = (uintptr_t)a->q | (uintptr_t)a->k | (uintptr_t)a->v |
                           (uintptr_t)(size * (a->ldq | a->ldk | a->ldv | a->head_dim));
    const pr_attention_call call = {*a, bits % 16 == 0};
    if (a->dtype == PR_DTYPE_F32) return pr_attention_f32_launch(call, dim, stream);
    if (a->dtype == PR_DTYPE_BF16) return launch_16bit<__nv_bfloat16>(call, dim, keys, stream);
    if (a->dtype == PR_DTYPE_F16) return launch_16bit<__half>(call, dim, keys, stream);
    return cudaErrorInvalidValue;
}
