/* kernels/cpu/gemm_pack.h: weight matrices in the panel layout that the tiles read.
 *
 * A matrix owns its packed copy of the weights; nothing else keeps them. Created, written and freed
 * on the compute thread; writing uses the pool.
 *
 *   PLAIN, panel p:  column j = row p * nr + j of W
 *   GATED, panel p:  column j < nr/2 = row p * nr/2 + j of the gate projection,
 *                    column nr/2 + j = the same row of the up projection
 *
 * What a panel looks like inside is the kernels' own affair (gemm_tile.h).
 * Panels are filled up with zeros. */
#ifndef POOLRANK_KERNELS_CPU_GEMM_PACK_H
#define POOLRANK_KERNELS_CPU_GEMM_PACK_H

#include "kernels/backend.h"
#include "kernels/cpu/gemm_tile.h"
#include "kernels/cpu/pool.h"

/* The CPU backend's own form of the opaque pr_matrix. */
struct pr_matrix {
    const pr_cpu_gemm_kernels *kernels; /* whose layout this is; borrowed, constant */
    pr_matrix_kind kind;
    int64_t n_out;
    int64_t n_in;
    int64_t n_panels;
    int64_t panel_columns; /* columns of y from one panel: nr, or nr / 2 when GATED */
    size_t panel_bytes;
    void *panels; /* owned: n_panels of them */
    size_t n_bytes;
};

/* n_out, n_in: positive, n_out even when GATED. out: owned, release with pr_cpu_matrix_free.
 * Fails PR_E_NOMEM. */
pr_status pr_cpu_matrix_create(const pr_cpu_gemm_kernels *kernels, pr_matrix_kind kind,
                               int64_t n_out, int64_t n_in, pr_matrix **out, pr_error *err);
void pr_cpu_matrix_free(pr_matrix *w);

/* src: [n_rows, n_in] in src_dtype (F32, F16, BF16), contiguous, any alignment; rows row_begin … of
 * W. F16 and BF16 to F32 and BF16 to BF16 are exact; what is rounded, is rounded to nearest even.
 */
void pr_cpu_matrix_write(pr_matrix *w, pr_cpu_pool *pool, int64_t row_begin, int64_t n_rows,
                         const void *src, pr_dtype src_dtype);

#endif
