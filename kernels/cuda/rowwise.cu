/* kernels/cuda/rowwise.cu: embedding, norms and activations: one block a row, bound by memory.
 *
 * Accesses are 4 elements wide where the row's length and leading dimensions are multiples of 4,
 * which every model's are; else one element. Both add in an order that dim alone decides. */
#include "kernels/cuda/dispatch.cuh"

enum { THREADS = 128 };

template <class T>
struct alignas(4 * sizeof(T)) vec4 {
    T v[4];
};

template <class T>
__device__ __forceinline__ void load4(const T *p, float out[4])
{
    const vec4<T> x = *(const vec4<T> *)p;
#pragma unroll
    for (int i = 0; i < 4; i++) out[i] = pr_widen(x.v[i]);
}

template <class T>
__device__ __forceinline__ void store4(T *p, const float x[4])
{
    vec4<T> y;
#pragma unroll
    for (int i = 0; i < 4; i++) y.v[i] = pr_narrow<T>(x[i]);
    *(vec4<T> *)p = y;
}

static bool is_wide(int64_t a, int64_t b, int64_t c)
{
    return (a | b | c) % 4 == 0;
}

/* Embedding   y[i] = token[tokens[i] - token_begin] + type[types[i]] + position[positions[i]]
 *
 * Tables [.., dim] and y [n_rows, ldy], row-major; sum in f32, in that order (as kernels/cpu).
 * Every rank holds its token rows and adds 0 for the others: an all-reduce of y is owed.
 * Grid n_rows, block 128: a row of 1024 to 8192 elements is 2 to 16 turns of 4.
 * Roofline: 2 (1 to 3 tables) + 2 bytes an element at 16 bits, 1 FLOP a byte or less: memory.
 * Exact but for the last rounding. */
template <class In, class Out>
__global__ void __launch_bounds__(THREADS) pr_embed_kernel(pr_cuda_embed a)
{
    const int64_t i = blockIdx.x;
    const int64_t token = (int64_t)a.tokens[i] - a.token_begin;
    const bool has_token = token >= 0 && token < a.n_token_rows;
    const In *const t = (const In *)a.token + (has_token ? token : 0) * a.dim;
    const In *const type =
        a.type ? (const In *)a.type + (int64_t)(a.types ? a.types[i] : 0) * a.dim : nullptr;
    const In *const position =
        a.position ? (const In *)a.position + (int64_t)a.positions[i] * a.dim : nullptr;
    Out *const y = (Out *)a.y + i * a.ldy;
    for (int c = (int)threadIdx.x; c < a.dim; c += THREADS) {
        float sum = has_token ? pr_widen(t[c]) : 0.0f;
        if (type) sum += pr_widen(type[c]);
        if (position) sum += pr_widen(position[c]);
        y[c] = pr_narrow<Out>(sum);
    }
}

cudaError_t pr_cuda_embed_launch(const pr_cuda_embed *a, cudaStream_t stream)
{
    if (a->n_rows == 0) return cudaSuccess;
    PR_LAUNCH_BY_DTYPES(pr_embed_kernel, a->x_dtype, a->y_dtype, dim3((unsigned)a->n_rows),
                        dim3(THREADS), 0, stream, *a);
}

/* The launch's argument: a norm, and whether it goes 4 elements at a time. */
typedef struct norm_call {
    pr_cuda_norm a;
    bool is_wide;
} norm_call;

/* s = x + residual into row (f32), and into a.sum; the thread's part of sum(s). */
template <class In>
__device__ __forceinline__ float norm_load(const norm_call &call, int64_t i, float *row)
{
    const pr_cuda_norm &a = call.a;
    const In *const x = (const In *)a.x + i * a.ldx;
    const In *const residual = a.residual ? (const In *)a.residual + i * a.ld_residual : nullptr;
    In *const kept = a.sum ? (In *)a.sum + i * a.ld_sum : nullptr;
    const int step = call.is_wide ? 4 : 1;
    float total = 0.0f;
    for (int c = (int)threadIdx.x * step; c < a.dim; c += THREADS * step) {
        float s[4], r[4];
        if (call.is_wide) {
            load4(x + c, s);
            if (residual) load4(residual + c, r);
        } else {
            s[0] = pr_widen(x[c]);
            if (residual) r[0] = pr_widen(residual[c]);
        }
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (j >= step) break;
            if (residual) s[j] += r[j];
            row[c + j] = s[j];
            total += s[j];
        }
        if (kept && call.is_wide) store4(kept + c, s);
        if (kept && !call.is_wide) kept[c] = pr_narrow<In>(s[0]);
    }
    return total;
}

/* RMSNorm    y[c] = weight[c] (s[c] / sqrt(mean(s^2) + eps))
 * LayerNorm  y[c] = (s[c] - mean(s)) / sqrt(mean((s - mean(s))^2) + eps) weight[c] + bias[c]
 * of s = x + residual, which is kept when a.sum says where: the next layer's residual.
 *
 * x, residual, sum, y [n_rows, dim], row-major; y, sum may be x. weight, bias [dim] f32. Sums in
 * f32: each thread its elements in order, lanes by a butterfly, warps in order. s is not rounded
 * to x_dtype before it is normalized. Every rank holds whole rows: no collective.
 * Grid n_rows, block 128, shared memory 4 dim bytes: each thread reads back only what it wrote,
 * so that x is read once and no barrier is needed but those of the sums.
 * Roofline at 16 bits, with residual: 2 + 2 read, 2 + 2 written = 8 bytes and about 8 FLOP an
 * element: memory, e.g. 8192 rows of 4096 = 268 MB, 80 us at 3.35 TB/s.
 * Sources: Zhang and Sennrich 2019, arXiv:1910.07467; Ba, Kiros, Hinton 2016, arXiv:1607.06450. */
template <class In, class Out>
__global__ void __launch_bounds__(THREADS) pr_norm_kernel(norm_call call)
{
    PR_DYN_SHARED(shared);
    PR_SHARED(float, scratch, THREADS / PR_WARP);
    const pr_cuda_norm &a = call.a;
    const int64_t i = blockIdx.x;
    const int step = call.is_wide ? 4 : 1;
    float *const row = (float *)shared;
    const float total = norm_load<In>(call, i, row);
    float mean = 0.0f;
    if (a.kind == PR_NORM_LAYER) mean = pr_block_sum<THREADS>(total, scratch) / (float)a.dim;
    float squares = 0.0f;
    for (int c = (int)threadIdx.x * step; c < a.dim; c += THREADS * step) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (j < step) squares += (row[c + j] - mean) * (row[c + j] - mean);
        }
    }
    squares = pr_block_sum<THREADS>(squares, scratch);
    const float inverse = 1.0f / sqrtf(squares / (float)a.dim + a.eps);
    Out *const y = (Out *)a.y + i * a.ldy;
    for (int c = (int)threadIdx.x * step; c < a.dim; c += THREADS * step) {
        float out[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (j >= step) break;
            out[j] = (row[c + j] - mean) * inverse * a.weight[c + j];
            if (a.bias) out[j] += a.bias[c + j];
        }
        if (call.is_wide)
            store4(y + c, out);
        else
            y[c] = pr_narrow<Out>(out[0]);
    }
}

cudaError_t pr_cuda_norm_launch(const pr_cuda_norm *a, cudaStream_t stream)
{
    if (a->n_rows == 0) return cudaSuccess;
    if (a->dim < 1 || a->dim > PR_CUDA_NORM_DIM_MAX) return cudaErrorInvalidValue;
    const int64_t more = (a->residual ? a->ld_residual : 0) | (a->sum ? a->ld_sum : 0);
    const norm_call call = {*a, is_wide(a->dim, a->ldx | more, a->ldy)};
    PR_LAUNCH_BY_DTYPES(pr_norm_kernel, a->x_dtype, a->y_dtype, dim3((unsigned)a->n_rows),
                        dim3(THREADS), (size_t)a->dim * sizeof(float), stream, call);
}

__device__ __forceinline__ float sigmoid_at(float x)
{
    const float e = expf(-fabsf(x));
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

/* gelu(x) = x/2 erfc(-x / sqrt 2); gelu_tanh(x) = x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)), the
 * same as x/2 (1 + tanh ..); silu(x) = x sigmoid(x). Hendrycks and Gimpel 2016,
 * arXiv:1606.08415. */
__device__ __forceinline__ float activation_at(pr_activation activation, float x)
{
    switch (activation) {
    case PR_ACTIVATION_GELU: return 0.5f * x * erfcf(-0.707106781f * x);
    case PR_ACTIVATION_GELU_TANH: return x * sigmoid_at(1.59576912f * (x + 0.044715f * x * x * x));
    case PR_ACTIVATION_RELU: return x < 0.0f ? 0.0f : x;
    case PR_ACTIVATION_SILU: return x * sigmoid_at(x);
    case PR_ACTIVATION_TANH: return tanhf(x);
    case PR_ACTIVATION_SIGMOID: return sigmoid_at(x);
    default: return x;
    }
}

/* Activation  y[c] = f(x[c] + bias[c]);  gated  y[c] = f(x[c] + bias[c]) (x[dim + c] + bias[dim +
 * c])
 *
 * x [n_rows, dim or 2 dim] (gate, then up), y [n_rows, dim], row-major, f32 inside.
 * Column-parallel: each rank holds its part of gate and of up side by side; no collective.
 * Grid n_rows x the 1024-element parts of a row, block 128: no loop over a row, so that short
 * batches of wide rows still fill the device.
 * Roofline at 16 bits, gated: 4 read, 2 written an element of y, about 10 FLOP: memory, e.g. 8192
 * rows of 29568 = 1.45 GB, 430 us at 3.35 TB/s. Against f64: 2e-6 of max(1, |y|) before
 * rounding. */
enum { ACTIVATION_PART = THREADS * 8 };

template <class In, class Out>
__global__ void __launch_bounds__(THREADS) pr_activation_kernel(pr_cuda_activation a)
{
    const int64_t i = blockIdx.x;
    const int begin = (int)blockIdx.y * ACTIVATION_PART;
    const int end = begin + ACTIVATION_PART < a.dim ? begin + ACTIVATION_PART : a.dim;
    const In *const x = (const In *)a.x + i * a.ldx;
    Out *const y = (Out *)a.y + i * a.ldy;
    for (int c = begin + (int)threadIdx.x; c < end; c += THREADS) {
        float gate = pr_widen(x[c]);
        if (a.bias) gate += a.bias[c];
        float out = activation_at(a.activation, gate);
        if (a.is_gated) {
            float up = pr_widen(x[a.dim + c]);
            if (a.bias) up += a.bias[a.dim + c];
            out *= up;
        }
        y[c] = pr_narrow<Out>(out);
    }
}

cudaError_t pr_cuda_activation_launch(const pr_cuda_activation *a, cudaStream_t stream)
{
    if (a->n_rows == 0) return cudaSuccess;
    const unsigned n_parts = ((unsigned)a->dim + ACTIVATION_PART - 1) / ACTIVATION_PART;
    PR_LAUNCH_BY_DTYPES(pr_activation_kernel, a->x_dtype, a->y_dtype,
                        dim3((unsigned)a->n_rows, n_parts), dim3(THREADS), 0, stream, *a);
}
