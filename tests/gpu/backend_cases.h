/* tests/gpu/backend_cases.h: calls of pr_backend's slots with random numbers, that one backend and
 * another can make.
 *
 * Pure but for the backend. Called by backend.c. */
#ifndef POOLRANK_TESTS_GPU_BACKEND_CASES_H
#define POOLRANK_TESTS_GPU_BACKEND_CASES_H

#include "tests/gpu/gpu.h"

enum { CASE_ROWS_MAX = 4096 };

/* Where a case runs, and how its numbers are rounded. */
typedef struct side {
    const gpu *g;
    pr_backend *b;
    pr_dtype type;     /* of activations there */
    pr_dtype rounding; /* of inputs: the device's dtype */
} side;

typedef enum case_kind {
    CASE_EMBED,
    CASE_GEMM,
    CASE_NORM,
    CASE_ROPE,
    CASE_ATTENTION,
    CASE_GATHER,
    CASE_MEAN
} case_kind;

typedef struct backend_case {
    case_kind kind;
    const char *name;
    bool is_small; /* also for the simulated device */
    int n_rows;
    int dim; /* embed, norm, gather, mean: columns; gemm: n_in; rope, attention: head_dim */
    int n_out;                /* gemm */
    bool is_gated;            /* gemm */
    bool is_head;             /* gemm in f32; gather of f32 rows */
    pr_activation activation; /* gemm */
    bool has_bias;            /* gemm, LayerNorm */
    pr_norm norm;
    bool is_f32_in, is_f32_out; /* norm: dtypes of x and y */
    bool has_residual;          /* norm: and the sum is kept in its place */
    bool is_bare;               /* norm: no weight; embed: token table alone */
    int n_heads, n_kv_heads;    /* rope, attention */
    bool has_head_norms;        /* rope */
    bool is_causal;             /* attention */
    int window;
} backend_case;

const backend_case *backend_cases(size_t *n);
const char *backend_case_slot(const backend_case *c); /* "gemm" */
bool backend_case_is_f32(const backend_case *c); /* nothing of it is in 16 bits but a table */
size_t backend_case_count(const backend_case *c);     /* floats of the result */

/* out: [backend_case_count] */
void backend_case_run(const side *s, const backend_case *c, float *out);

#endif
