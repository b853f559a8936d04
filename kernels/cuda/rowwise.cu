/* kernels/cuda/rowwise.cu: embedding, norms and activations, bound by memory.
 *
 * Accesses are 4 elements wide where the row's length, the leading dimensions and the addresses
 * allow it, which every model's do; else one element. Each element is computed alike in both; a
 * norm's sums differ in their order, which shape and alignment decide. */
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

/* Elements at, at + 1, .. of p: 4, or 1. */
__device__ __forceinline__ void load_some(const void *p, pr_dtype t, int64_t at, bool is_wide,
                                          float out[4])
{
    if (t == PR_DTYPE_F32) {
        const float *const x = (const float *)p + at;
        if (is_wide)
            load4(x, out);
        else
            out[0] = *x;
    } else if (t == PR_DTYPE_BF16) {
        const __nv_bfloat16 *const x = (const __nv_bfloat16 *)p + at;
        if (is_wide)
            load4(x, out);
        else
            out[0] = pr_widen(*x);
    } else {
        const __half *const x = (const __half *)p + at;
        if (is_wide)
            load4(x, out);
        else
            out[0] = pr_widen(*x);
    }
}

/* Can rows of a matrix be read 4 elements at a time? A matrix that is not there can. */
static bool is_wide(const void *p, int64_t ld, pr_dtype t)
{
    const uintptr_t n_bytes = t == PR_DTYPE_F32 ? 16 : 8;
    return !p || ((uintptr_t)p % n_bytes == 0 && ld % 4 == 0);
}

static bool is_float(pr_dtype t)
{
    return t == PR_DTYPE_F32 || t == PR_DTYPE_BF16 || t == PR_DTYPE_F16;
}

/* The launch's argument: a call, and whether it goes 4 elements at a time. */
template <class Call>
struct wide_call {
    Call a;
    bool is_wide;
};

/* Embedding   y[i] = token[tokens[i] - token_begin] + type[types[i]] + position[positions[i]]
 *
 * Tables [.., dim], each of its own dtype, y [n_rows, ldy] f32, row-major; sum in f32, in that
 * order (as kernels/cpu). Every rank holds its token rows and adds 0 for the others: an all-reduce
 * of y is owed. Grid n_rows, block 128: a row of 1024 to 8192 elements is 2 to 16 turns of 4.
 * Roofline: 2 or 4 bytes an element and table read, 4 written, at most 2 FLOP: memory, e.g. 8192
 * rows of 8192 from one bf16 table = 403 MB, 120 us at 3.35 TB/s. Exact but for the sum's
 * roundings. The dtypes are looked at at run time, the same way for a whole launch: no 27
 * instances of a kernel that waits for memory. */
__global__ void __launch_bounds__(THREADS) pr_embed_kernel(wide_call<pr_cuda_embed> call)
{
    const pr_cuda_embed &a = call.a;
    const int64_t i = blockIdx.x;
    const int64_t token = (int64_t)a.tokens[i] - a.token_begin;
    const bool has_token = token >= 0 && token < a.n_token_rows;
    const int64_t type = a.type && a.types ? a.types[i] : 0;
    const int64_t position = a.position ? a.positions[i] : 0;
    float *const y = a.y + i * a.ldy;
    const int step = call.is_wide ? 4 : 1;
    for (int c = (int)threadIdx.x * step; c < a.dim; c += THREADS * step) {
        float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f}, more[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        if (has_token) load_some(a.token, a.token_dtype, token * a.dim + c, call.is_wide, sum);
        if (a.type) {
            load_some(a.type, a.type_dtype, type * a.dim + c, call.is_wide, more);
#pragma unroll
            for (int j = 0; j < 4; j++) sum[j] += more[j];
        }
        if (a.position) {
            load_some(a.position, a.position_dtype, position * a.dim + c, call.is_wide, more);
#pragma unroll
            for (int j = 0; j < 4; j++) sum[j] += more[j];
        }
        if (call.is_wide)
            store4(y + c, sum);
        else
            y[c] = sum[0];
    }
}

cudaError_t pr_cuda_embed_launch(const pr_cuda_embed *a, cudaStream_t stream)
{
    if (a->n_rows == 0) return cudaSuccess;
    if (!pr_is_grid(a->n_rows) || !is_float(a->token_dtype) ||
        (a->position && !is_float(a->position_dtype)) || (a->type && !is_float(a->type_dtype)))
        return cudaErrorInvalidValue;
    const wide_call<pr_cuda_embed> call = {
        *a, is_wide(a->token, a->dim, a->token_dtype) &&
                is_wide(a->position, a->dim, a->position_dtype) &&
                is_wide(a->type, a->dim, a->type_dtype) && is_wide(a->y, a->ldy, PR_DTYPE_F32)};
    return PR_LAUNCH("pr_embed_kernel", pr_embed_kernel, dim3((unsigned)a->n_rows), dim3(THREADS),
                     0, stream, call);
}

/* s = x + residual into row (f32), and into a.sum; the thread's part of sum(s). */
template <class In>
__device__ __forceinline__ float norm_load(const wide_call<pr_cuda_norm> &call, int64_t i,
                                           float *row)
{
    const pr_cuda_norm &a = call.a;
    const In *const x = (const In *)a.x + i * a.ldx;
    const float *const residual = a.residual ? a.residual + i * a.ld_residual : nullptr;
    float *const kept = a.sum ? a.sum + i * a.ld_sum : nullptr;
    const int step = call.is_wide ? 4 : 1;
    float total = 0.0f;
    for (int c = (int)threadIdx.x * step; c < a.dim; c += THREADS * step) {
        float s[4] = {0.0f, 0.0f, 0.0f, 0.0f}, r[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        if (call.is_wide) {
            load4(x + c, s);
            if (residual) load4(residual + c, r);
        } else {
            s[0] = pr_widen(x[c]);
            if (residual) r[0] = residual[c];
        }
#pragma unroll
        for (int j = 0; j < 4; j++) s[j] += r[j];
        if (call.is_wide) {
            store4(row + c, s);
            if (kept) store4(kept + c, s);
        } else {
            row[c] = s[0];
            if (kept) kept[c] = s[0];
        }
        total += (s[0] + s[1]) + (s[2] + s[3]);
    }
    return total;
}

/* The thread's part of sum((row[c] - mean)^2). */
__device__ __forceinline__ float norm_squares(const wide_call<pr_cuda_norm> &call,
                                              const float *row, float mean)
{
    const int step = call.is_wide ? 4 : 1;
    float squares = 0.0f;
    for (int c = (int)threadIdx.x * step; c < call.a.dim; c += THREADS * step) {
        float s[4] = {mean, mean, mean, mean};
        if (call.is_wide)
            load4(row + c, s);
        else
            s[0] = row[c];
#pragma unroll
        for (int j = 0; j < 4; j++) squares += (s[j] - mean) * (s[j] - mean);
    }
    return squares;
}

/* y, and wide, of a row that stands in `row`. */
template <class Out>
__device__ __forceinline__ void norm_store(const wide_call<pr_cuda_norm> &call, int64_t i,
                                           const float *row, float mean, float inverse)
{
    const pr_cuda_norm &a = call.a;
    Out *const y = (Out *)a.y + i * a.ldy;
    float *const wide = a.wide ? a.wide + i * a.ld_wide : nullptr;
    const int step = call.is_wide ? 4 : 1;
    for (int c = (int)threadIdx.x * step; c < a.dim; c += THREADS * step) {
        float out[4], w[4] = {0.0f, 0.0f, 0.0f, 0.0f}, b[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        out[1] = out[2] = out[3] = 0.0f;
        load_some(row, PR_DTYPE_F32, c, call.is_wide, out);
        load_some(a.weight, PR_DTYPE_F32, c, call.is_wide, w);
        if (a.bias) load_some(a.bias, PR_DTYPE_F32, c, call.is_wide, b);
#pragma unroll
        for (int j = 0; j < 4; j++) out[j] = (out[j] - mean) * inverse * w[j] + b[j];
        if (call.is_wide) {
            store4(y + c, out);
            if (wide) store4(wide + c, out);
        } else {
            y[c] = pr_narrow<Out>(out[0]);
            if (wide) wide[c] = out[0];
        }
    }
}

/* RMSNorm    y[c] = weight[c] (s[c] / sqrt(mean(s^2) + eps))
 * LayerNorm  y[c] = (s[c] - mean(s)) / sqrt(mean((s - mean(s))^2) + eps) weight[c] + bias[c]
 * of s = x + residual, which is kept in f32 when a.sum says where (the residual stream), as y is
 * when a.wide does (the stream of a model that normalizes after each branch).
 *
 * x [n_rows, dim] In, y Out, residual, sum, wide f32, row-major. weight, bias [dim] f32. Sums in
 * f32: each thread its elements in order, lanes by a butterfly, warps in order. s is not rounded
 * before it is normalized. Every rank holds whole rows: no collective.
 * A thread writes sum where it has just read residual; y and wide are written behind the barriers
 * of the sums, when the whole row is read: each may be x or residual where the dtypes agree.
 * Without y nothing but the sum is made, without a barrier.
 * Grid n_rows, block 128, shared memory 4 dim bytes: each thread reads back only what it wrote, so
 * that x is read once and no barrier is needed but those of the sums. Rows of more than 12,000
 * would need shared memory that is opted into, for which no model asks (largest: 8,192).
 * Roofline, 16-bit x and y, with residual and sum: 2 + 4 read, 4 + 2 written = 12 bytes and about 8
 * FLOP an element: memory, e.g. 8192 rows of 4096 = 403 MB, 120 us at 3.35 TB/s.
 * Sources: Zhang and Sennrich 2019, arXiv:1910.07467; Ba, Kiros, Hinton 2016, arXiv:1607.06450. */
template <class In, class Out>
__global__ void __launch_bounds__(THREADS) pr_norm_kernel(wide_call<pr_cuda_norm> call)
{
    PR_DYN_SHARED(shared);
    PR_SHARED(float, scratch, THREADS / PR_WARP);
    const pr_cuda_norm &a = call.a;
    const int64_t i = blockIdx.x;
    float *const row = (float *)shared;
    const float total = norm_load<In>(call, i, row);
    if (!a.y) return;
    float mean = 0.0f;
    if (a.kind == PR_NORM_LAYER) mean = pr_block_sum<THREADS>(total, scratch) / (float)a.dim;
    const float squares = pr_block_sum<THREADS>(norm_squares(call, row, mean), scratch);
    norm_store<Out>(call, i, row, mean, 1.0f / sqrtf(squares / (float)a.dim + a.eps));
}

cudaError_t pr_cuda_norm_launch(const pr_cuda_norm *a, cudaStream_t stream)
{
    if (a->n_rows == 0) return cudaSuccess;
    if (a->dim < 1 || a->dim > PR_CUDA_NORM_DIM_MAX || !pr_is_grid(a->n_rows))
        return cudaErrorInvalidValue;
    if (a->y ? !a->weight : a->wide != nullptr) return cudaErrorInvalidValue;
    const pr_dtype f32 = PR_DTYPE_F32;
    const wide_call<pr_cuda_norm> call = {
        *a, a->dim % 4 == 0 && is_wide(a->x, a->ldx, a->x_dtype) &&
                is_wide(a->residual, a->ld_residual, f32) && is_wide(a->sum, a->ld_sum, f32) &&
                is_wide(a->wide, a->ld_wide, f32) && is_wide(a->y, a->ldy, a->y_dtype) &&
                is_wide(a->weight, 0, f32) && is_wide(a->bias, 0, f32)};
    PR_LAUNCH_BY_DTYPES(pr_norm_kernel, a->x_dtype, a->y ? a->y_dtype : a->x_dtype,
                        dim3((unsigned)a->n_rows), dim3(THREADS), (size_t)a->dim * sizeof(float),
                        stream, call);
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

/* f(gate) or f(gate) up of 4 elements, or 1, from column c on. */
template <class In>
__device__ __forceinline__ void activation_some(const wide_call<pr_cuda_activation> &call,
                                                const In *x, int c, float out[4])
{
    const pr_cuda_activation &a = call.a;
    for (int part = a.is_gated ? 1 : 0; part >= 0; part--) {
        const int64_t at = (int64_t)part * a.dim + c;
        float v[4] = {0.0f, 0.0f, 0.0f, 0.0f}, b[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        if (call.is_wide)
            load4(x + at, v);
        else
            v[0] = pr_widen(x[at]);
        if (a.bias) load_some(a.bias, PR_DTYPE_F32, at, call.is_wide, b);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            v[j] += b[j];
            if (part == 1)
                out[j] = v[j]; /* up */
            else
                out[j] = activation_at(a.activation, v[j]) * (a.is_gated ? out[j] : 1.0f);
        }
    }
}

/* Activation  y[c] = f(x[c] + bias[c])
 * gated       y[c] = f(x[c] + bias[c]) (x[dim + c] + bias[dim + c])
 *
 * x [n_rows, dim or 2 dim] (gate, then up), y [n_rows, dim], row-major, f32 inside.
 * Column-parallel: each rank holds its part of gate and of up side by side; no collective.
 * Grid n_rows x the 1024-element parts of a row, block 128: short batches of wide rows still fill
 * the device.
 * Roofline at 16 bits, gated: 4 read, 2 written an element of y, about 10 FLOP: memory, e.g. 8192
 * rows of 29568 = 1.45 GB, 430 us at 3.35 TB/s. Against f64: 2e-6 of max(1, |y|) before
 * rounding. */
enum { ACTIVATION_PART = THREADS * 8 };

template <class In, class Out>
__global__ void __launch_bounds__(THREADS) pr_activation_kernel(wide_call<pr_cuda_activation> call)
{
    const pr_cuda_activation &a = call.a;
    const In *const x = (const In *)a.x + (int64_t)blockIdx.x * a.ldx;
    Out *const y = (Out *)a.y + (int64_t)blockIdx.x * a.ldy;
    const int step = call.is_wide ? 4 : 1;
    for (int64_t begin = (int64_t)blockIdx.y * ACTIVATION_PART; begin < a.dim;
         begin += (int64_t)gridDim.y * ACTIVATION_PART) {
        const int end = (int)begin + pr_min(ACTIVATION_PART, a.dim - (int)begin);
        for (int c = (int)begin + (int)threadIdx.x * step; c < end; c += THREADS * step) {
            float out[4] = {1.0f, 1.0f, 1.0f, 1.0f};
            activation_some(call, x, c, out);
            if (call.is_wide)
                store4(y + c, out);
            else
                y[c] = pr_narrow<Out>(out[0]);
        }
    }
}

cudaError_t pr_cuda_activation_launch(const pr_cuda_activation *a, cudaStream_t stream)
{
    if (a->n_rows == 0) return cudaSuccess;
    if (a->dim < 1 || a->dim > 1 << 30 || !pr_is_grid(a->n_rows)) return cudaErrorInvalidValue;
    const wide_call<pr_cuda_activation> call = {
        *a, a->dim % 4 == 0 && is_wide(a->x, a->ldx, a->x_dtype) &&
                is_wide(a->y, a->ldy, a->y_dtype) && is_wide(a->bias, 0, PR_DTYPE_F32)};
    const int64_t n_parts = ((int64_t)a->dim + ACTIVATION_PART - 1) / ACTIVATION_PART;
    PR_LAUNCH_BY_DTYPES(pr_activation_kernel, a->x_dtype, a->y_dtype,
                        dim3((unsigned)a->n_rows, pr_grid_y(n_parts)), dim3(THREADS), 0, stream,
                        call);
}
