#include "tests/simcuda/backend_rig.h"

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/cuda_backend.h"

#include <math.h>

/* ---- life ---- */

void rig_begin(rig *r, pr_dtype dtype, pr_sim_order order, uint64_t seed)
{
    *r = (rig){.random = seed * 2654435761u + 88172645463325252ull};
    const pr_sim_config config = {.arch = 90, .order = order,
                                  .copies = order == PR_SIM_FORWARD ? PR_SIM_DEFERRED
                                                                    : PR_SIM_MIXED,
                                  .seed = seed};
    pr_sim_reset(&config);
    pr_sim_require_pinned(true);
    const pr_cuda_backend_options options = {.device = 0, .dtype = dtype};
    const pr_cpu_options cpu = {.n_threads = 1, .isa = PR_CPU_ISA_AUTO};
    rig_ok(pr_cuda_backend_create(&options, &r->cuda, err));
    rig_ok(pr_cpu_backend_create(&cpu, &r->cpu, err));
}

void rig_end(rig *r)
{
    rig_ok(r->cuda->ops->sync(r->cuda, err));
    for (int i = 0; i < r->n_device; i++) r->cuda->ops->free(r->cuda, r->device[i]);
    for (int i = 0; i < r->n_pinned; i++) r->cuda->ops->host_free(r->cuda, r->pinned[i]);
    for (int i = 0; i < r->n_judge; i++) r->cpu->ops->free(r->cpu, r->judge[i]);
    for (int i = 0; i < r->n_host; i++) free(r->host[i]);
    r->cuda->ops->close(r->cuda);
    r->cpu->ops->close(r->cpu);
    if (pr_sim_fault()) fail_msg("%s", pr_sim_fault());
    assert_int_equal(pr_sim_bytes_in_use(), 0);
    assert_int_equal(pr_sim_pinned_in_use(), 0);
}

void rig_reserve(rig *r, int64_t n_rows, int32_t n_heads, int32_t n_kv_heads, int32_t head_dim)
{
    const pr_backend_limits limits = {.n_rows_max = n_rows, .n_keys_max = n_rows,
                                      .n_heads = n_heads, .n_kv_heads = n_kv_heads,
                                      .head_dim = head_dim};
    rig_ok(r->cuda->ops->reserve(r->cuda, &limits, err));
    rig_ok(r->cpu->ops->reserve(r->cpu, &limits, err));
}

/* ---- numbers and buffers ---- */

uint32_t rig_random(rig *r)
{
    r->random ^= r->random << 13;
    r->random ^= r->random >> 7;
    r->random ^= r->random << 17;
    return (uint32_t)(r->random >> 32);
}

float rig_number(rig *r)
{
    return (float)(int32_t)rig_random(r) / 2147483648.0f;
}

static void *host_keep(rig *r, void *p)
{
    assert_non_null(p);
    assert_true(r->n_host < RIG_BUFFERS_MAX);
    return r->host[r->n_host++] = p;
}

float *rig_host(rig *r, int64_t n)
{
    return host_keep(r, calloc((size_t)n + 1, sizeof(float)));
}

float *rig_numbers(rig *r, int64_t n, pr_dtype dtype, float scale)
{
    float *p = rig_host(r, n), *rounded = rig_host(r, n);
    for (int64_t i = 0; i < n; i++) p[i] = rig_number(r) * scale;
    pr_dtype_from_f32(p, dtype, (size_t)n, rounded);
    pr_dtype_to_f32(rounded, dtype, (size_t)n, p);
    return p;
}

void *rig_device_bytes(rig *r, const void *from, size_t n_bytes)
{
    void *p = NULL;
    assert_true(r->n_device < RIG_BUFFERS_MAX);
    rig_ok(r->cuda->ops->alloc(r->cuda, n_bytes, &p, err));
    r->device[r->n_device++] = p;
    if (from) rig_ok(r->cuda->ops->upload(r->cuda, p, from, n_bytes, err));
    return p;
}

void *rig_judge_bytes(rig *r, const void *from, size_t n_bytes)
{
    void *p = NULL;
    assert_true(r->n_judge < RIG_BUFFERS_MAX);
    rig_ok(r->cpu->ops->alloc(r->cpu, n_bytes, &p, err));
    r->judge[r->n_judge++] = p;
    if (from) memcpy(p, from, n_bytes);
    return p;
}

void *rig_pinned(rig *r, size_t n_bytes)
{
    void *p = NULL;
    assert_true(r->n_pinned < RIG_BUFFERS_MAX);
    rig_ok(r->cuda->ops->host_alloc(r->cuda, n_bytes, &p, err));
    r->pinned[r->n_pinned++] = p;
    return p;
}

void *rig_device(rig *r, const float *numbers, int64_t n, pr_dtype dtype)
{
    if (!numbers) return rig_device_bytes(r, NULL, (size_t)n * pr_dtype_bytes(dtype));
    void *narrow = rig_host(r, n);
    pr_dtype_from_f32(numbers, dtype, (size_t)n, narrow);
    return rig_device_bytes(r, narrow, (size_t)n * pr_dtype_bytes(dtype));
}

float *rig_judge(rig *r, const float *numbers, int64_t n)
{
    return rig_judge_bytes(r, numbers, (size_t)n * sizeof(float));
}

float *rig_fetch(rig *r, const void *device, int64_t n, pr_dtype dtype)
{
    size_t n_bytes = (size_t)n * pr_dtype_bytes(dtype);
    void *pinned = NULL;
    float *out = rig_host(r, n);
    rig_ok(r->cuda->ops->host_alloc(r->cuda, n_bytes, &pinned, err));
    rig_ok(r->cuda->ops->download(r->cuda, pinned, device, n_bytes, err));
    rig_ok(r->cuda->ops->sync(r->cuda, err));
    pr_dtype_to_f32(pinned, dtype, (size_t)n, out);
    r->cuda->ops->host_free(r->cuda, pinned);
    return out;
}

rig_matrix rig_matrix_make(rig *r, pr_matrix_kind kind, int64_t n_out, int64_t n_in,
                           pr_dtype dtype)
{
    rig_matrix m = {0};
    const float *w = rig_numbers(r, n_out * n_in, dtype, 1.0f);
    rig_ok(r->cuda->ops->matrix_create(r->cuda, kind, n_out, n_in, dtype, &m.cuda, err));
    rig_ok(r->cpu->ops->matrix_create(r->cpu, kind, n_out, n_in, PR_DTYPE_F32, &m.cpu, err));
    rig_ok(r->cuda->ops->matrix_write(r->cuda, m.cuda, 0, n_out, w, PR_DTYPE_F32, err));
    rig_ok(r->cpu->ops->matrix_write(r->cpu, m.cpu, 0, n_out, w, PR_DTYPE_F32, err));
    return m;
}

void rig_matrix_free(rig *r, rig_matrix *m)
{
    r->cuda->ops->matrix_free(r->cuda, m->cuda);
    r->cpu->ops->matrix_free(r->cpu, m->cpu);
}

/* ---- comparison ---- */

static double rounding_of(pr_dtype t)
{
    return t == PR_DTYPE_F32 ? 0x1p-24 : t == PR_DTYPE_BF16 ? 0x1p-8 : 0x1p-11;
}

void rig_near(const char *what, const float *found, int64_t ld, const float *expected,
              int64_t ld_expected, int64_t n_rows, int64_t dim, pr_dtype dtype, double more)
{
    for (int64_t i = 0; i < n_rows; i++) {
        for (int64_t j = 0; j < dim; j++) {
            double f = (double)found[i * ld + j], e = (double)expected[i * ld_expected + j];
            double bound = 2.0 * rounding_of(dtype) * fabs(e) + more;
            if (fabs(f - e) <= bound) continue;
            fail_msg("%s: row %lld, column %lld: found %.9g, expected %.9g +- %.3g", what,
                     (long long)i, (long long)j, f, e, bound);
        }
    }
}

void rig_wait(rig *r, int slot)
{
    bool is_done = false;
    while (!is_done) rig_ok(r->cuda->ops->batch_poll(r->cuda, slot, &is_done, err));
}
