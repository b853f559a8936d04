/* kernels/cpu/cpu_backend.h: the CPU implementation of pr_backend.
 *
 * Owns a pool of threads (short spin, then asleep), packed weights and scratch memory. Results do
 * not depend on the number of threads, nor on what else is in a call. */
#ifndef POOLRANK_KERNELS_CPU_CPU_BACKEND_H
#define POOLRANK_KERNELS_CPU_CPU_BACKEND_H

#include "kernels/backend.h"
#include "kernels/cpu/precision.h"

typedef enum pr_cpu_isa {
    PR_CPU_ISA_AUTO,   /* the best that this processor has */
    PR_CPU_ISA_C,      /* plain C: any processor */
    PR_CPU_ISA_AVX2,   /* AVX2 + FMA */
    PR_CPU_ISA_AVX512, /* AVX-512 F, BW, DQ, VL */
    PR_CPU_ISA_AMX,    /* AVX-512, and AMX's bf16 tiles for products */
    PR_CPU_ISA_AMX_C,  /* plain C, with products that have the bits of AMX: slow, for tests */
    PR_CPU_ISA_COUNT
} pr_cpu_isa;

/* "auto", "c", "avx2", "avx512", "amx", "amx-c"; false when unknown. */
bool pr_cpu_isa_parse(const char *name, pr_cpu_isa *out);
const char *pr_cpu_isa_name(pr_cpu_isa isa);
bool pr_cpu_isa_available(pr_cpu_isa isa); /* built in, and this processor has it */
pr_cpu_isa pr_cpu_isa_best(void);          /* what AUTO is here */

/* What products of weights of that dtype are with a precision and an instruction set, in words:
 * "f32", "bf16 tiles, 3 products". isa, precision: AUTO is resolved. */
const char *pr_cpu_product_label(pr_cpu_isa isa, pr_matmul_precision precision, pr_dtype dtype);

typedef struct pr_cpu_options {
    int n_threads;  /* >= 1, the calling thread included */
    pr_cpu_isa isa; /* AUTO, or force one */
    pr_matmul_precision precision;
} pr_cpu_options;

/* Fails PR_E_UNSUPPORTED when the processor lacks a forced instruction set, PR_E_ARGUMENT
 * for a number of threads that no pool has (1 to PR_CPU_THREADS_MAX of pool.h), PR_E_NOMEM,
 * PR_E_INTERNAL when threads cannot be started. */
pr_status pr_cpu_backend_create(const pr_cpu_options *options, pr_backend **out, pr_error *err);

#endif
