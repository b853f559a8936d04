/* blas_state.h: inside the simulated cuBLASLt: between descriptors and algorithms (blas.cpp) and
 * the product itself (blas_product.cpp). */
#ifndef SIMCUDA_BLAS_STATE_H
#define SIMCUDA_BLAS_STATE_H

#include "tests/simcuda/runtime.h"

#include <cublasLt.h>

/* One product, as it stands in a stream: D = epilogue(alpha op(A) op(B) + beta C). Column-major. */
typedef struct blas_call {
    int64_t m, n, k;
    const void *a, *b, *c;
    void *d;
    int64_t lda, ldb, ldc, ldd;
    bool is_a_transposed, is_b_transposed, is_tf32;
    cudaDataType_t ab_type, cd_type;
    float alpha, beta;
    cublasLtEpilogue_t epilogue;
    const void *bias; /* [m] of cd_type */
    int32_t n_splits; /* of k */
    int32_t k_block;  /* added up by itself before it is added to the rest */
    void *workspace;
    size_t workspace_bytes;
} blas_call;

/* state: a blas_call. */
void blas_product_run(void *state);

#endif
