/* tests/gpu/backend.c: every slot of the CUDA backend against the CPU backend, in f32, bf16, f16.
 *
 * Both sides get the same numbers, rounded to the device's dtype; the CPU computes in f32. A result
 * is right within BOUND units of that dtype's rounding times (1 + |expected|). */
#include "tests/gpu/backend_cases.h"

#include <stdlib.h>
#include <string.h>

/* The roundings of a product, its activation and the row that is stored; one of attention's weights
 * and one of its row. */
enum { BOUND = 4 };

/* Half a unit in the last place of numbers near 1; f32: of a sum of some thousand products. */
static double rounding(pr_dtype dtype)
{
    return dtype == PR_DTYPE_F32 ? 1e-5 : dtype == PR_DTYPE_BF16 ? 1.0 / 256 : 1.0 / 2048;
}

static void case_compare(gpu *g, const side *cpu, const side *device, const backend_case *c)
{
    size_t n = backend_case_count(c);
    float *expected = gpu_memory(g, n * sizeof *expected);
    float *found = gpu_memory(g, n * sizeof *found);
    backend_case_run(cpu, c, expected);
    backend_case_run(device, c, found);
    pr_dtype rounded = backend_case_is_f32(c) ? PR_DTYPE_F32 : device->rounding;
    double error = gpu_distance(found, expected, n), bound = BOUND * rounding(rounded);
    gpu_check(g, "backend", error <= bound,
              json_pack("{s:s, s:s, s:s, s:o, s:f}", "slot", backend_case_slot(c), "case", c->name,
                        "dtype", pr_dtype_name(device->rounding), "error", gpu_ratio(error, 1),
                        "bound", bound),
              "%-8s %-10s %-34s %.2e, bound %.2e", pr_dtype_name(device->rounding),
              backend_case_slot(c), c->name, error, bound);
    free(expected);
    free(found);
}

/* Bytes there and back: through the ring, and through both staging buffers several times. */
static void copies_check(gpu *g, pr_backend *b)
{
    pr_error err;
    const size_t sizes[] = {1, 1000, 100001, g->is_tiny ? 300001 : 200000001};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i];
        unsigned char *bytes = gpu_memory(g, n);
        for (size_t k = 0; k < n; k++) bytes[k] = (unsigned char)(k * 2654435761u >> 13);
        void *back = NULL, *p = gpu_bytes(g, b, bytes, n);
        gpu_must(g, b->ops->host_alloc(b, n, &back, &err), &err, "host_alloc");
        gpu_must(g, b->ops->download(b, back, p, n, &err), &err, "download");
        gpu_must(g, b->ops->sync(b, &err), &err, "sync");
        gpu_check(g, "backend", memcmp(back, bytes, n) == 0,
                  json_pack("{s:s, s:s, s:I}", "slot", "upload", "case", "and download", "bytes",
                            (json_int_t)n),
                  "upload and download of %zu bytes", n);
        b->ops->host_free(b, back);
        b->ops->free(b, p);
        free(bytes);
    }
}

/* Two batches in flight, each with its slot's array: what one uploads does not reach the other. */
static void slots_check(gpu *g, pr_backend *b)
{
    enum { BATCHES = 6, N = 4000 };
    pr_error err;
    float *values = gpu_memory(g, N * sizeof *values), *found[BATCHES];
    const size_t n_bytes = N * sizeof(float);
    float *arrays[2] = {gpu_bytes(g, b, NULL, n_bytes), gpu_bytes(g, b, NULL, n_bytes)};
    bool ok = true, is_done = false;
    for (int i = 0; i < BATCHES; i++) {
        void *p = NULL;
        int slot = i % b->n_slots;
        gpu_must(g, b->ops->host_alloc(b, n_bytes, &p, &err), &err, "host_alloc");
        found[i] = p;
        gpu_must(g, b->ops->batch_begin(b, slot, &err), &err, "batch_begin");
        for (int k = 0; k < N; k++) values[k] = (float)(i * 10000 + k);
        gpu_must(g, b->ops->upload(b, arrays[slot], values, n_bytes, &err), &err, "upload");
        gpu_must(g, b->ops->download(b, p, arrays[slot], n_bytes, &err), &err, "download");
        gpu_must(g, b->ops->batch_end(b, slot, &err), &err, "batch_end");
    }
    gpu_must(g, b->ops->sync(b, &err), &err, "sync");
    for (int slot = 0; slot < b->n_slots; slot++) {
        gpu_must(g, b->ops->batch_poll(b, slot, &is_done, &err), &err, "batch_poll");
        ok = ok && is_done;
    }
    for (int i = 0; i < BATCHES; i++) {
        for (int k = 0; k < N; k++) ok = ok && found[i][k] == (float)(i * 10000 + k);
        b->ops->host_free(b, found[i]);
    }
    gpu_check(g, "backend", ok, json_pack("{s:s, s:s}", "slot", "batch", "case", "two in flight"),
              "%d batches in %d slots keep their arrays", (int)BATCHES, b->n_slots);
    for (int slot = 0; slot < 2; slot++) b->ops->free(b, arrays[slot]);
    free(values);
}

int main(int argc, char **argv)
{
    gpu g;
    gpu_open(&g, argc, argv);
    pr_backend *cpu = gpu_cpu_backend(&g);
    gpu_reserve(&g, cpu, CASE_ROWS_MAX);
    for (size_t i = 0; i < GPU_DTYPES; i++) {
        pr_backend *b = gpu_backend(&g, gpu_dtypes[i]);
        gpu_reserve(&g, b, CASE_ROWS_MAX);
        if (i == 0) {
            printf("%s\n", b->description);
            copies_check(&g, b);
        }
        slots_check(&g, b);
        const side sides[] = {{&g, cpu, PR_DTYPE_F32, gpu_dtypes[i]},
                              {&g, b, b->activation_dtype, gpu_dtypes[i]}};
        size_t n_cases = 0;
        const backend_case *cases = backend_cases(&n_cases);
        for (size_t k = 0; k < n_cases; k++) {
            if (g.is_tiny && !cases[k].is_small) continue;
            case_compare(&g, &sides[0], &sides[1], &cases[k]);
        }
        b->ops->close(b);
    }
    cpu->ops->close(cpu);
    return gpu_close(&g);
}
