#include "tests/gpu/gpu.h"

#include "runtime/base/clock.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const pr_dtype gpu_dtypes[GPU_DTYPES] = {PR_DTYPE_F32, PR_DTYPE_BF16, PR_DTYPE_F16};

enum { EXIT_BAD = 1, EXIT_MISTAKE = 2, EXIT_NO_DEVICE = 3, TIMED_RUNS = 5, GATED_MAX = 37888 };

/* ---- life ---- */

/* Whether text has the word, n bytes: "H100" is one of "NVIDIA H100 80GB HBM3". */
static bool has_word(const char *text, const char *word, size_t n)
{
    for (const char *at = text; *at; at++) {
        if (strncmp(at, word, n) != 0) continue;
        if (at > text && isalnum((unsigned char)at[-1])) continue;
        if (!isalnum((unsigned char)at[n])) return true;
    }
    return false;
}

/* Whether a device has every word of the sheet's name, "RTX PRO 6000 96 GB", but for its memory and
 * SXM: "NVIDIA RTX PRO 6000 Blackwell Server Edition". */
static bool is_sheet_of(const pr_device *d, const char *name)
{
    for (const char *word = d->name; *word; word += *word == ' ') {
        size_t n = strcspn(word, " ");
        bool is_memory = strncmp(word + n, " GB", 3) == 0;
        if (is_memory) return true;
        if (strncmp(word, "SXM", n) != 0 && !has_word(name, word, n)) return false;
        word += n;
    }
    return true;
}

static const pr_device *sheet_find(const char *name)
{
    const pr_device *d;
    for (size_t i = 0; (d = pr_device_at(i)) != NULL; i++) {
        if (strcmp(d->name, name) == 0 || is_sheet_of(d, name)) return d;
    }
    return NULL;
}

static _Noreturn void mistake(const gpu *g, const char *what)
{
    fprintf(stderr, "%s: found %s, expected --device N, --as NAME, --tiny\n", g->name, what);
    exit(EXIT_MISTAKE);
}

void gpu_open_line(gpu *g, int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');
    *g = (gpu){.name = slash ? slash + 1 : argv[0]};
    for (int i = 1; i < argc; i++) {
        bool has_value = i + 1 < argc;
        if (strcmp(argv[i], "--tiny") == 0) {
            g->is_tiny = true;
        } else if (strcmp(argv[i], "--device") == 0 && has_value) {
            g->index = atoi(argv[++i]);
        } else if (strcmp(argv[i], "--as") == 0 && has_value) {
            g->sheet = sheet_find(argv[++i]);
            if (!g->sheet) mistake(g, argv[i]);
        } else {
            mistake(g, argv[i]);
        }
    }
    const char *path = getenv("GPU_CHECK_JSON");
    if (path && *path) g->json = fopen(path, "a");
    setvbuf(stdout, NULL, _IOLBF, 0);
}

void gpu_open_device(gpu *g)
{
    pr_error err;
    if (pr_cuda_devices(&g->plugin, g->devices, &g->n_devices, &err) != PR_OK) {
        fprintf(stderr, "%s: %s\n", g->name, err.message);
        exit(EXIT_NO_DEVICE);
    }
    if (g->index < 0 || g->index >= g->n_devices) {
        fprintf(stderr, "%s: --device: found %d, expected a number below %d\n", g->name, g->index,
                g->n_devices);
        exit(EXIT_MISTAKE);
    }
    if (!g->sheet) g->sheet = sheet_find(g->devices[g->index].name);
}

void gpu_open(gpu *g, int argc, char **argv)
{
    gpu_open_line(g, argc, argv);
    gpu_open_device(g);
}

int gpu_close(gpu *g)
{
    if (g->json) fclose(g->json);
    if (g->n_bad > 0) printf("%s: %d of the checks failed\n", g->name, g->n_bad);
    return g->n_bad > 0 ? EXIT_BAD : 0;
}

void gpu_must(const gpu *g, pr_status st, const pr_error *err, const char *what)
{
    if (st == PR_OK) return;
    fprintf(stderr, "%s: %s: %s\n", g->name, what, err->message);
    exit(EXIT_BAD);
}

void gpu_result(gpu *g, const char *job, json_t *fields)
{
    json_t *line = json_pack("{s:s, s:b}", "job", job, "simulated", g->plugin->is_simulated);
    if (!fields || !line || json_object_update(line, fields) != 0) abort();
    if (g->json) {
        json_dumpf(line, g->json, JSON_COMPACT | JSON_REAL_PRECISION(6));
        fputc('\n', g->json);
        fflush(g->json);
    }
    json_decref(line);
    json_decref(fields);
}

void gpu_check(gpu *g, const char *job, bool ok, json_t *fields, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("%-4s ", ok ? "ok" : "BAD");
    vprintf(format, args);
    printf("\n");
    va_end(args);
    if (!ok) g->n_bad++;
    json_object_set_new(fields, "ok", json_boolean(ok));
    gpu_result(g, job, fields);
}

/* ---- backends ---- */

pr_backend *gpu_backend(const gpu *g, pr_dtype dtype)
{
    pr_error err;
    pr_backend *b = NULL;
    const pr_cuda_options options = {.device = g->devices[g->index].index, .dtype = dtype};
    gpu_must(g, g->plugin->backend_create(&options, &b, &err), &err, "backend");
    return b;
}

pr_backend *gpu_cpu_backend(const gpu *g)
{
    pr_error err;
    pr_backend *b = NULL;
    const pr_cpu_options options = {.n_threads = g->is_tiny ? 1 : 8, .isa = PR_CPU_ISA_AUTO};
    gpu_must(g, pr_cpu_backend_create(&options, &b, &err), &err, "CPU backend");
    return b;
}

void *gpu_memory(const gpu *g, size_t n_bytes)
{
    void *p = calloc(1, n_bytes ? n_bytes : 1);
    if (p) return p;
    fprintf(stderr, "%s: no memory: %zu bytes\n", g->name, n_bytes);
    exit(EXIT_BAD);
}

void *gpu_bytes(const gpu *g, pr_backend *b, const void *src, size_t n_bytes)
{
    pr_error err;
    void *p = NULL;
    gpu_must(g, b->ops->alloc(b, n_bytes ? n_bytes : 1, &p, &err), &err, "alloc");
    if (src && n_bytes > 0) gpu_must(g, b->ops->upload(b, p, src, n_bytes, &err), &err, "upload");
    return p;
}

void *gpu_floats(const gpu *g, pr_backend *b, const float *src, size_t n, size_t n_room,
                 pr_dtype dtype)
{
    size_t bytes = pr_dtype_bytes(dtype);
    unsigned char *host = gpu_memory(g, n_room * bytes);
    pr_dtype_from_f32(src, dtype, n, host);
    void *p = gpu_bytes(g, b, host, n_room * bytes);
    free(host);
    return p;
}

void gpu_read(const gpu *g, pr_backend *b, const void *src, pr_dtype dtype, size_t n, float *out)
{
    pr_error err;
    void *host = NULL;
    size_t n_bytes = n * pr_dtype_bytes(dtype);
    if (n == 0) return;
    gpu_must(g, b->ops->host_alloc(b, n_bytes, &host, &err), &err, "host_alloc");
    gpu_must(g, b->ops->sync(b, &err), &err, "sync");
    gpu_must(g, b->ops->download(b, host, src, n_bytes, &err), &err, "download");
    gpu_must(g, b->ops->sync(b, &err), &err, "sync");
    pr_dtype_to_f32(host, dtype, n, out);
    b->ops->host_free(b, host);
}

pr_matrix *gpu_matrix(const gpu *g, pr_backend *b, pr_matrix_kind kind, int64_t n_out, int64_t n_in,
                      pr_dtype dtype, pr_dtype stored, uint64_t seed)
{
    enum { BLOCK_ROWS = 256 };
    pr_error err;
    pr_matrix *w = NULL;
    float *rows = gpu_memory(g, (size_t)BLOCK_ROWS * (size_t)n_in * sizeof *rows);
    gpu_must(g, b->ops->matrix_create(b, kind, n_out, n_in, stored, &w, &err), &err,
             "matrix_create");
    for (int64_t i = 0; i < n_out; i += BLOCK_ROWS) {
        int64_t n = n_out - i < BLOCK_ROWS ? n_out - i : BLOCK_ROWS;
        gpu_random(rows, (size_t)(n * n_in), sqrtf(3.0f / (float)n_in), seed + (uint64_t)i, dtype);
        gpu_must(g, b->ops->matrix_write(b, w, i, n, rows, PR_DTYPE_F32, &err), &err,
                 "matrix_write");
    }
    free(rows);
    return w;
}

void gpu_reserve(const gpu *g, pr_backend *b, int64_t n_rows_max)
{
    pr_error err;
    pr_matrix *widest = NULL;
    gpu_must(g, b->ops->matrix_create(b, PR_MATRIX_GATED, g->is_tiny ? 128 : GATED_MAX, 64,
                                      b->activation_dtype, &widest, &err), &err, "matrix_create");
    b->ops->matrix_free(b, widest);
    const pr_backend_limits limits = {.n_rows_max = n_rows_max, .n_keys_max = n_rows_max,
                                      .n_heads = 64, .n_kv_heads = 64, .head_dim = 256};
    gpu_must(g, b->ops->reserve(b, &limits, &err), &err, "reserve");
}

void gpu_batch(const gpu *g, pr_backend *b, void (*queue)(void *context), void *context)
{
    pr_error err;
    bool is_done = false;
    gpu_must(g, b->ops->batch_begin(b, 0, &err), &err, "batch_begin");
    queue(context);
    gpu_must(g, b->ops->batch_end(b, 0, &err), &err, "batch_end");
    gpu_must(g, b->ops->sync(b, &err), &err, "sync");
    gpu_must(g, b->ops->batch_poll(b, 0, &is_done, &err), &err, "batch_poll");
    if (is_done) return;
    fprintf(stderr, "%s: batch_poll: not done after sync\n", g->name);
    exit(EXIT_BAD);
}

/* ---- numbers ---- */

void gpu_random(float *out, size_t n, float scale, uint64_t seed, pr_dtype dtype)
{
    uint64_t state = seed * 0x9E3779B97F4A7C15u + 0x2545F4914F6CDD1Du;
    for (size_t i = 0; i < n; i++) {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        float x = scale * (float)(int32_t)(state * 0x2545F4914F6CDD1Du >> 32) * 0x1p-31f;
        if (dtype == PR_DTYPE_BF16) x = pr_bf16_to_f32(pr_f32_to_bf16(x));
        if (dtype == PR_DTYPE_F16) x = pr_f16_to_f32(pr_f32_to_f16(x));
        out[i] = x;
    }
}

float *gpu_random_new(const gpu *g, size_t n, float scale, uint64_t seed, pr_dtype dtype)
{
    float *p = gpu_memory(g, n * sizeof *p);
    gpu_random(p, n, scale, seed, dtype);
    return p;
}

double gpu_distance(const float *a, const float *b, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]) / (1.0 + fabs((double)b[i]));
        if (!(d <= worst)) worst = d; /* a NaN stays */
        if (isnan(d)) return d;
    }
    return worst;
}

/* ---- time ---- */

typedef struct calls {
    void (*queue)(void *context);
    void *context;
    int n;
} calls;

static void calls_queue(void *context)
{
    const calls *c = context;
    for (int i = 0; i < c->n; i++) c->queue(c->context);
}

double gpu_time(const gpu *g, pr_backend *b, void (*queue)(void *context), void *context,
                int n_calls)
{
    double best_s = 1e9;
    int n_runs = g->is_tiny ? 1 : TIMED_RUNS;
    calls c = {queue, context, g->is_tiny ? 1 : n_calls};
    gpu_batch(g, b, queue, context); /* the first call loads code and chooses algorithms */
    for (int run = 0; run < n_runs; run++) {
        uint64_t begin = pr_clock_ns();
        gpu_batch(g, b, calls_queue, &c);
        double s = (double)(pr_clock_ns() - begin) * 1e-9 / c.n;
        if (s < best_s) best_s = s;
    }
    return best_s;
}

json_t *gpu_ratio(double a, double b)
{
    return b > 0 && isfinite(a / b) ? json_real(a / b) : json_null();
}
