/* kernels/cpu/isa.h: the kernels of one instruction set, as one table.
 *
 * Constant data, read on any thread. The backend picks a table once, when it is created, and splits
 * work over its threads; a kernel works on one thread, on the rows that it is given. Files named
 * *_avx2.c and *_avx512.c are compiled for that instruction set, all others for the baseline. */
#ifndef POOLRANK_KERNELS_CPU_ISA_H
#define POOLRANK_KERNELS_CPU_ISA_H

#include "kernels/cpu/cpu_backend.h"

typedef struct pr_cpu_gemm_set pr_cpu_gemm_set;   /* kernels/cpu/gemm_tile.h */
typedef struct pr_cpu_rowwise pr_cpu_rowwise;     /* kernels/cpu/rowwise.h */
typedef struct pr_cpu_attention pr_cpu_attention; /* kernels/cpu/attention.h */

typedef struct pr_cpu_kernels {
    pr_cpu_isa isa;
    const char *label; /* "AVX-512": for descriptions */
    const pr_cpu_gemm_set *gemm;
    const pr_cpu_rowwise *rowwise;
    const pr_cpu_attention *attention;
} pr_cpu_kernels;

/* isa: not AUTO. NULL when it is not built in (another architecture). */
const pr_cpu_kernels *pr_cpu_kernels_find(pr_cpu_isa isa);

#endif
