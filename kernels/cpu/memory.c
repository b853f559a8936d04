#define _DEFAULT_SOURCE /* madvise */
#include "kernels/cpu/memory.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { HUGE_PAGE_BYTES = 2 << 20 };

void *pr_cpu_memory_alloc(size_t n_bytes)
{
    bool is_huge = n_bytes >= 2 * (size_t)HUGE_PAGE_BYTES;
    void *p = NULL;
    size_t alignment = is_huge ? HUGE_PAGE_BYTES : PR_CPU_ALIGNMENT;
    if (posix_memalign(&p, alignment, n_bytes ? n_bytes : 1) != 0) return NULL;
#ifdef MADV_HUGEPAGE
    /* Whole huge pages only: a last page that is used in part would be resident in full. A refusal
     * costs speed, nothing else. */
    if (is_huge) (void)madvise(p, n_bytes - n_bytes % HUGE_PAGE_BYTES, MADV_HUGEPAGE);
#endif
    return p;
}
