/* kernels/cuda/cuda_gemm.h: matrix products through cuBLASLt.
 *
 * Owns cuBLASLt's handle, a workspace of PR_CUDA_GEMM_WORKSPACE_BYTES that every product uses, the
 * plans (one a shape), and the rows between a GATED product and its activation. Called by the CUDA
 * backend, on the rank's compute thread.
 *
 *     y [n_rows, n_out] = activation(x [n_rows, n_in] W^T + bias)
 *
 * is to cuBLASLt, which counts in columns, Y' = W'^T X' with W' [n_in, n_out], X' [n_in, n_rows],
 * Y' [n_out, n_rows]: A is W with TRANSA = T, B is x, D is y. 16-bit operands are multiplied and
 * summed in f32 and rounded once, after the bias (and GELU in its tanh form) is added; the bias is
 * in y's dtype, so that of a 16-bit product is rounded to 16 bits. Other activations, and the gated
 * form, are a kernel of their own, which adds the bias in f32 to the product rounded to y's dtype.
 *
 * Batch invariance. cuBLASLt chooses by the shape, n_rows included, and its algorithms add in
 * different orders. Here the choice is made once for a (dtype, n_out, n_in, epilogue, alignment),
 * at PR_CUDA_GEMM_ROWS rows whatever the batch has, without split-K or any reduction between
 * blocks, and n_rows is always padded to a multiple of PR_CUDA_ROW_MULTIPLE, so that each row goes
 * through full tiles of one kernel. That is meant to make a row's bits independent of the batch;
 * what a kernel does is its own business, and no hardware has shown it.
 *
 * PR_CUDA_ROW_MULTIPLE is 128: a height of tile that every architecture's kernels have, and free
 * where it matters, as reading W bounds a product of up to some 295 rows (989 TFLOP/s over
 * 3.35 TB/s, two bytes a weight, two FLOP a weight and row). */
#ifndef POOLRANK_KERNELS_CUDA_CUDA_GEMM_H
#define POOLRANK_KERNELS_CUDA_CUDA_GEMM_H

#include "kernels/backend.h"
#include "kernels/cuda/cuda_memory.h"
#include "runtime/plan/memory_plan.h"

enum {
    PR_CUDA_ROW_MULTIPLE = PR_PLAN_GPU_ROWS,
    PR_CUDA_GEMM_ROWS = PR_PLAN_MLP_ROWS, /* that algorithms are chosen for: a full batch; also the
                                             most rows between a gated product and its activation,
                                             which is what worker/forward.c asks for at a time */
    PR_CUDA_GEMM_WORKSPACE_BYTES = PR_PLAN_GEMM_BYTES
};

typedef struct pr_cuda_gemm pr_cuda_gemm;

/* memory: borrowed, outlives it. out: owned. Fails PR_E_NOMEM, PR_E_UNAVAILABLE. */
pr_status pr_cuda_gemm_create(pr_cuda_memory *memory, bool allow_tf32, pr_cuda_gemm **out,
                              pr_error *err);
void pr_cuda_gemm_free(pr_cuda_gemm *g); /* NULL is fine */

/* Chooses the algorithms for a new matrix. Fails PR_E_UNSUPPORTED: there is none; PR_E_NOMEM. */
pr_status pr_cuda_gemm_prepare(pr_cuda_gemm *g, const pr_matrix *w, pr_error *err);
/* Memory for the gated matrices so far, for calls of at most n_rows_max rows (more are cut). */
pr_status pr_cuda_gemm_reserve(pr_cuda_gemm *g, int64_t n_rows_max, pr_error *err);

/* As pr_backend_ops.gemm, on the stream. A bias may be written between batches, not within one:
 * its 16-bit copy is kept. y_dtype: of x and y. */
pr_status pr_cuda_gemm_run(pr_cuda_gemm *g, const pr_gemm *a, cudaStream_t stream, pr_error *err);

/* Device memory of PR_CUDA_GEMM_WORKSPACE_BYTES, between products anybody's. */
void *pr_cuda_gemm_workspace(const pr_cuda_gemm *g);

#endif
