/* kernels/cpu/precision.h: how exact matrix products are, in the words of PyTorch's
 * set_float32_matmul_precision.
 *
 * Pure; called wherever a choice is settled or told. */
#ifndef POOLRANK_KERNELS_CPU_PRECISION_H
#define POOLRANK_KERNELS_CPU_PRECISION_H

#include "runtime/base/dtype.h"

typedef enum pr_matmul_precision {
    PR_MATMUL_AUTO,    /* the fastest that keeps the promise of 1e-5: docs/precision.md */
    PR_MATMUL_HIGHEST, /* as exact as f32 */
    PR_MATMUL_HIGH,    /* 16 bits of each activation, and of each weight */
    PR_MATMUL_MEDIUM,  /* bf16 */
    PR_MATMUL_COUNT
} pr_matmul_precision;

/* "auto", "highest", "high", "medium" */
const char *pr_matmul_precision_name(pr_matmul_precision precision);

/* What AUTO is; others are themselves. */
pr_matmul_precision pr_matmul_precision_resolve(pr_matmul_precision precision);

#endif
