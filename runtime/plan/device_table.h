/* runtime/plan/device_table.h: GPUs as their vendor describes them: memory, bandwidths, rates.
 *
 * Constant data; any thread. Read by `plan`. Nothing here was measured. */
#ifndef POOLRANK_RUNTIME_PLAN_DEVICE_TABLE_H
#define POOLRANK_RUNTIME_PLAN_DEVICE_TABLE_H

#include <stddef.h>
#include <stdint.h>

typedef struct pr_device {
    const char *name;
    uint64_t memory_bytes;
    double memory_bytes_per_s;
    double dense_flops_16_bit; /* bf16 and f16 with f32 accumulation, tensor cores, no sparsity */
    double flops_f32;          /* plain f32, no tensor cores */
    double link_bytes_per_s;   /* NVLink, or PCIe of a card without it; both directions together,
                                  as data sheets count it */
    const char *source;        /* the vendor's document */
} pr_device;

const pr_device *pr_device_at(size_t i); /* NULL past the end; ascending memory */

#endif
