/* tests/gpu/gpu.h: what the programs of launch/gpu-check share: the device that is looked at,
 * memory on it, random numbers, time, and results.
 *
 * A program prints what it finds for people, and appends one line of JSON a result to the file that
 * GPU_CHECK_JSON names. Exit status: 0 all is well, 1 a check failed or the device did, 2 a mistake
 * in the command line, 3 there is no device. All calls from the main thread. */
#ifndef POOLRANK_TESTS_GPU_GPU_H
#define POOLRANK_TESTS_GPU_GPU_H

#include "runtime/plan/device_table.h"
#include "worker/device.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

typedef struct gpu {
    const char *name; /* of the program */
    const pr_cuda_plugin *plugin;
    pr_cuda_device devices[PR_CUDA_DEVICES_MAX];
    int n_devices;
    int index;              /* which of them is looked at: --device N, else the first */
    const pr_device *sheet; /* its data sheet, or that of --as NAME; NULL: not in the table */
    bool is_tiny;           /* --tiny: shapes for the simulated device, where speed means nothing */
    int n_bad;              /* checks that failed */
    FILE *json;             /* NULL: nobody asked */
} gpu;

/* Reads the command line and finds the device; exits with 2 or 3, and why, where it cannot. */
void gpu_open(gpu *g, int argc, char **argv);
/* The same but for the plug-in, which a program that forks loads in its children. */
void gpu_open_line(gpu *g, int argc, char **argv);
void gpu_open_device(gpu *g);
int gpu_close(gpu *g); /* the exit status */

/* Ends the program with status 1 and the message unless st is PR_OK. */
void gpu_must(const gpu *g, pr_status st, const pr_error *err, const char *what);

/* Appends {"job": job, fields …}; fields: consumed. */
void gpu_result(gpu *g, const char *job, json_t *fields);

/* A verdict: printed, counted, and a result with "ok" added to fields (consumed). */
void gpu_check(gpu *g, const char *job, bool ok, json_t *fields, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* ---- backends ---- */

pr_backend *gpu_backend(const gpu *g, pr_dtype dtype); /* on the device; close it */
pr_backend *gpu_cpu_backend(const gpu *g);             /* what it is compared with */

enum { GPU_DTYPES = 3 };
extern const pr_dtype gpu_dtypes[GPU_DTYPES]; /* F32, BF16, F16 */

/* Device memory of n_bytes with src's contents; src NULL: undefined. Release with the slot free. */
void *gpu_bytes(const gpu *g, pr_backend *b, const void *src, size_t n_bytes);
/* n floats as elements of dtype, with room for n_room >= n elements; what follows is 0. */
void *gpu_floats(const gpu *g, pr_backend *b, const float *src, size_t n, size_t n_room,
                 pr_dtype dtype);
/* n elements of dtype back, as floats, when all that is queued is done. */
void gpu_read(const gpu *g, pr_backend *b, const void *src, pr_dtype dtype, size_t n, float *out);

/* A matrix of random weights that keep the variance of what they multiply, rounded to dtype;
 * stored: how the backend keeps it. */
pr_matrix *gpu_matrix(const gpu *g, pr_backend *b, pr_matrix_kind kind, int64_t n_out, int64_t n_in,
                      pr_dtype dtype, pr_dtype stored, uint64_t seed);

/* Sizes that every program's calls stay within, gated matrices of up to those of the 7B model
 * included, which may then be created later. */
void gpu_reserve(const gpu *g, pr_backend *b, int64_t n_rows_max);

/* One batch: what `queue` queues, and waits for it. */
void gpu_batch(const gpu *g, pr_backend *b, void (*queue)(void *context), void *context);

/* ---- numbers ---- */

/* Even in [-scale, scale), from a seed, rounded to dtype. */
void gpu_random(float *out, size_t n, float scale, uint64_t seed, pr_dtype dtype);
float *gpu_random_new(const gpu *g, size_t n, float scale, uint64_t seed, pr_dtype dtype);
void *gpu_memory(const gpu *g, size_t n_bytes); /* zeroed; never NULL */

/* max |a - b| / (1 + |b|); NaN where either has one. */
double gpu_distance(const float *a, const float *b, size_t n);

/* ---- time ---- */

/* Seconds of one call of `queue`, the best of several batches of n_calls of them: what a call costs
 * in a queue that is never empty. */
double gpu_time(const gpu *g, pr_backend *b, void (*queue)(void *context), void *context,
                int n_calls);

/* a / b, null where b is 0 or unknown: "measured over predicted". */
json_t *gpu_ratio(double a, double b);

#endif
