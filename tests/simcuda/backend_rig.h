/* backend_rig.h: what the tests of the CUDA backend on the simulated device share: the backend, the
 * CPU backend as its judge, numbers that both have exactly, and buffers that are freed at the end.
 *
 * All functions fail the test on what they did not expect. */
#ifndef SIMCUDA_BACKEND_RIG_H
#define SIMCUDA_BACKEND_RIG_H

#include "kernels/backend.h"
#include "tests/simcuda/simcuda.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { RIG_BUFFERS_MAX = 256 };

typedef struct rig {
    pr_backend *cuda, *cpu;
    uint64_t random;
    void *device[RIG_BUFFERS_MAX]; /* of cuda */
    void *judge[RIG_BUFFERS_MAX];  /* of cpu */
    void *host[RIG_BUFFERS_MAX];
    void *pinned[RIG_BUFFERS_MAX];
    int n_device, n_judge, n_host, n_pinned;
} rig;

/* A device in a given order of execution, and both backends. */
void rig_begin(rig *r, pr_dtype dtype, pr_sim_order order, uint64_t seed);
/* Requires that the device found nothing and that nothing is left on it. */
void rig_end(rig *r);
void rig_reserve(rig *r, int64_t n_rows, int32_t n_heads, int32_t n_kv_heads, int32_t head_dim);

uint32_t rig_random(rig *r);
float rig_number(rig *r); /* -1 .. 1 */

/* n numbers, zeroed; freed by rig_end. */
float *rig_host(rig *r, int64_t n);
/* n random numbers that `dtype` holds exactly, times scale. */
float *rig_numbers(rig *r, int64_t n, pr_dtype dtype, float scale);
/* Memory of the device for n elements; with numbers, which it holds then as `dtype`. */
void *rig_device(rig *r, const float *numbers, int64_t n, pr_dtype dtype);
/* The same for the judge, always f32. */
float *rig_judge(rig *r, const float *numbers, int64_t n);
/* Bytes on the device, in memory of the judge, in pinned memory. */
void *rig_device_bytes(rig *r, const void *from, size_t n_bytes);
void *rig_judge_bytes(rig *r, const void *from, size_t n_bytes);
void *rig_pinned(rig *r, size_t n_bytes);

/* n elements of the device as f32; waits. Freed by rig_end. */
float *rig_fetch(rig *r, const void *device, int64_t n, pr_dtype dtype);

/* Weights of both backends, of numbers that `dtype` holds. */
typedef struct rig_matrix {
    pr_matrix *cuda, *cpu;
} rig_matrix;
rig_matrix rig_matrix_make(rig *r, pr_matrix_kind kind, int64_t n_out, int64_t n_in,
                           pr_dtype dtype);
void rig_matrix_free(rig *r, rig_matrix *m);

/* Rows [n_rows, dim] that lie ld and ld_expected apart: |found - expected| <= u |expected| + more,
 * u half the gap behind 1 in dtype, twice where two roundings are allowed. */
void rig_near(const char *what, const float *found, int64_t ld, const float *expected,
              int64_t ld_expected, int64_t n_rows, int64_t dim, pr_dtype dtype, double more);

/* Polls the slot until its batch is done. */
void rig_wait(rig *r, int slot);

#define rig_ok(call)                                                                               \
    do {                                                                                           \
        pr_error rig_err_ = {0};                                                                   \
        pr_error *err = &rig_err_;                                                                 \
        if ((call) != PR_OK) fail_msg("%s: %s", #call, rig_err_.message);                          \
    } while (0)

#endif
