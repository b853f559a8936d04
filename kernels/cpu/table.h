/* kernels/cpu/table.h: embedding tables of the CPU backend.
 *
 * A table owns its copy of the rows, in F32 or BF16, row-major. Created, written and freed on the
 * compute thread; writing uses the pool. */
#ifndef POOLRANK_KERNELS_CPU_TABLE_H
#define POOLRANK_KERNELS_CPU_TABLE_H

#include "kernels/backend.h"
#include "kernels/cpu/gemm_tile.h"
#include "kernels/cpu/pool.h"

/* The CPU backend's own form of the opaque pr_table. */
struct pr_table {
    pr_dtype dtype;
    int64_t n_rows;
    int64_t dim;
    void *data; /* [n_rows, dim], owned */
    size_t n_bytes;
};

/* n_rows, dim: positive; dtype: F32 or BF16. out: owned, release with pr_cpu_table_free.
 * Fails PR_E_NOMEM. */
pr_status pr_cpu_table_create(int64_t n_rows, int64_t dim, pr_dtype dtype, pr_table **out,
                              pr_error *err);
void pr_cpu_table_free(pr_table *t);

/* src: [n_rows, dim] in src_dtype (F32, F16, BF16), contiguous, any alignment. Conversions as in
 * pr_cpu_matrix_write. kernels: for the widening. */
void pr_cpu_table_write(pr_table *t, const pr_cpu_gemm_kernels *kernels, pr_cpu_pool *pool,
                        int64_t row_begin, int64_t n_rows, const void *src, pr_dtype src_dtype);

#endif
