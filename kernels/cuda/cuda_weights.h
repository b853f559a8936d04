/* kernels/cuda/cuda_weights.h: weight matrices and embedding tables in device memory.
 *
 * A matrix or table owns its device memory. Rows in pinned memory are copied from there as they
 * are; others, and those of another dtype, go through the staging buffers of pr_cuda_memory,
 * converted on the host. Called by the CUDA backend, on the
 * rank's compute thread. */
#ifndef POOLRANK_KERNELS_CUDA_CUDA_WEIGHTS_H
#define POOLRANK_KERNELS_CUDA_CUDA_WEIGHTS_H

#include "kernels/backend.h"
#include "kernels/cuda/cuda_memory.h"

/* Rows of one dtype in device memory; what follows the last column of a row is 0. */
typedef struct pr_cuda_rows {
    pr_dtype dtype; /* F32, BF16, F16 */
    int64_t n_rows;
    int64_t n_columns;
    int64_t ld; /* in elements, of a multiple of 16 bytes where the rows are a matrix */
    void *data; /* owned */
    size_t n_bytes;
} pr_cuda_rows;

/* A bias in a matrix's dtype, which is what cuBLASLt adds to a product of that dtype. */
typedef struct pr_cuda_bias {
    void *data;          /* [n_out], owned; NULL: the matrix is F32 or GATED and needs none */
    const float *source; /* whose copy it is; NULL: none yet */
    uint64_t epoch;      /* of pr_cuda_memory, when it was copied */
} pr_cuda_bias;

struct pr_matrix {
    pr_matrix_kind kind;
    pr_cuda_rows rows; /* W [n_out, n_in]; GATED: gate rows, then up rows */
    pr_cuda_bias *bias; /* owned */
};

struct pr_table {
    pr_cuda_rows rows;
};

/* out: owned. Fail PR_E_NOMEM with the bytes; PR_E_TOO_LARGE: more bytes than a size_t holds, or a
 * row longer than a staging buffer. */
pr_status pr_cuda_matrix_create(pr_cuda_memory *m, pr_matrix_kind kind, int64_t n_out,
                                int64_t n_in, pr_dtype dtype, pr_matrix **out, pr_error *err);
pr_status pr_cuda_table_create(pr_cuda_memory *m, int64_t n_rows, int64_t dim, pr_dtype dtype,
                               pr_table **out, pr_error *err);
void pr_cuda_matrix_free(pr_cuda_memory *m, pr_matrix *w); /* NULL is fine */
void pr_cuda_table_free(pr_cuda_memory *m, pr_table *t);   /* NULL is fine */
size_t pr_cuda_matrix_bytes(const pr_matrix *w);

/* src: [n_rows, n_columns] in src_dtype, contiguous, any alignment; may change when the call
 * returns. Fails PR_E_INTERNAL when the device does. */
pr_status pr_cuda_rows_write(pr_cuda_memory *m, pr_cuda_rows *rows, int64_t row_begin,
                             int64_t n_rows, const void *src, pr_dtype src_dtype, pr_error *err);

#endif
