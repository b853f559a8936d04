/* tests/gpu/bench_load.c: how fast weights reach the device: uploads through pinned staging, rows
 * of a matrix in its own dtype and converted, and a whole checkpoint from disk. GB are those of the
 * device's side. PCIe 5.0 x16 carries 63 GB/s at the most, 4.0 31.5 GB/s, both counted as one
 * direction of 32 and 16 GT/s on 16 lanes with 128/130 coding. */
#include "tests/gpu/model.h"

#include "runtime/base/clock.h"

#include <stdlib.h>

static void report(gpu *g, const char *what, double bytes, double seconds)
{
    printf("%-36s %8.3f GB in %8.3f s: %7.2f GB/s\n", what, bytes * 1e-9, seconds,
           bytes / seconds * 1e-9);
    gpu_result(g, "bench-load",
               json_pack("{s:s, s:f, s:f, s:f}", "what", what, "bytes", bytes, "seconds", seconds,
                         "bytes_per_s", bytes / seconds));
}

static double since_s(uint64_t begin)
{
    return (double)(pr_clock_ns() - begin) * 1e-9;
}

static void upload_bench(gpu *g, pr_backend *b, size_t n_bytes)
{
    pr_error err;
    void *src = gpu_memory(g, n_bytes);
    void *dst = gpu_bytes(g, b, src, n_bytes); /* touches both once */
    gpu_must(g, b->ops->sync(b, &err), &err, "sync");
    uint64_t begin = pr_clock_ns();
    gpu_must(g, b->ops->upload(b, dst, src, n_bytes, &err), &err, "upload");
    gpu_must(g, b->ops->sync(b, &err), &err, "sync");
    report(g, "upload of pageable memory", (double)n_bytes, since_s(begin));
    b->ops->free(b, dst);
    free(src);
}

static void matrix_bench(gpu *g, pr_backend *b, int64_t n_out, int64_t n_in, pr_dtype from,
                         pr_dtype to)
{
    enum { BLOCK = 512 };
    pr_error err;
    char what[64];
    pr_matrix *w = NULL;
    void *src = gpu_memory(g, (size_t)(BLOCK * n_in) * pr_dtype_bytes(from));
    gpu_must(g, b->ops->matrix_create(b, PR_MATRIX_PLAIN, n_out, n_in, to, &w, &err), &err,
             "matrix_create");
    uint64_t begin = pr_clock_ns();
    for (int64_t i = 0; i < n_out; i += BLOCK) {
        int64_t n = n_out - i < BLOCK ? n_out - i : BLOCK;
        gpu_must(g, b->ops->matrix_write(b, w, i, n, src, from, &err), &err, "matrix_write");
    }
    gpu_must(g, b->ops->sync(b, &err), &err, "sync");
    double seconds = since_s(begin);
    snprintf(what, sizeof what, "matrix rows, %s to %s", pr_dtype_name(from), pr_dtype_name(to));
    report(g, what, (double)b->ops->matrix_bytes(w), seconds);
    b->ops->matrix_free(b, w);
    free(src);
}

/* The second opening finds the file in the page cache. */
static void checkpoint_bench(gpu *g)
{
    const model_shape *large = &model_shapes[2];
    model_shape s = g->is_tiny ? model_shape_tiny(large) : model_shape_cut(large, 16, 1 << 30);
    model m;
    if (!model_shape_fits(g, &s, PR_DTYPE_BF16, 128)) return;
    model_make(g, &m, &s);
    for (int i = 0; i < 2; i++) {
        uint64_t begin = pr_clock_ns();
        pr_worker *w = model_worker(g, &m, PR_DTYPE_BF16, false, 128);
        double seconds = since_s(begin);
        report(g, i == 0 ? "checkpoint, backend opened too" : "the same again",
               (double)m.file_bytes, seconds);
        pr_worker_close(w);
    }
    model_remove(&m);
}

int main(int argc, char **argv)
{
    gpu g;
    gpu_open(&g, argc, argv);
    pr_backend *b = gpu_backend(&g, PR_DTYPE_BF16);
    int64_t n_out = g.is_tiny ? 100 : 152064, n_in = g.is_tiny ? 64 : 8192;
    upload_bench(&g, b, g.is_tiny ? 1000000 : (size_t)4 << 30);
    matrix_bench(&g, b, n_out, n_in, PR_DTYPE_BF16, PR_DTYPE_BF16);
    matrix_bench(&g, b, n_out, n_in, PR_DTYPE_F32, PR_DTYPE_BF16);
    matrix_bench(&g, b, n_out / 2, n_in, PR_DTYPE_F16, PR_DTYPE_BF16);
    b->ops->close(b);
    checkpoint_bench(&g);
    return gpu_close(&g);
}
