/* kernels/cpu/memory.h: aligned memory of the CPU backend.
 *
 * Pure wrappers of the allocator; called on the compute thread. */
#ifndef POOLRANK_KERNELS_CPU_MEMORY_H
#define POOLRANK_KERNELS_CPU_MEMORY_H

#include <stddef.h>

enum { PR_CPU_ALIGNMENT = 64 };

/* n_bytes (0 is fine), aligned to 64 bytes, contents undefined; large blocks ask the system for
 * huge pages. NULL when there is no memory. Released with free(). */
void *pr_cpu_memory_alloc(size_t n_bytes);

#endif
