/* tests/unit/fault_alloc.h: makes the n-th allocation fail, for every n until a call succeeds.
 *
 * For tests named test_fault*.c, which are linked with --wrap for these four functions; each
 * includes this once. Allocations inside shared libraries are not seen. */
#ifndef POOLRANK_TESTS_UNIT_FAULT_ALLOC_H
#define POOLRANK_TESTS_UNIT_FAULT_ALLOC_H

#include "include/poolrank/types.h"

#include <stdbool.h>
#include <stddef.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);

/* The one exception to "no file-scope state": the wrapped functions have no handle. */
static struct {
    long n_left; /* allocations before the one that fails; -1: none fails */
    bool has_failed;
} fault = {.n_left = -1};

static bool fault_now(void)
{
    if (fault.n_left < 0) return false;
    if (fault.n_left-- > 0) return false;
    fault.has_failed = true;
    return true;
}

void *__wrap_malloc(size_t n)
{
    return fault_now() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fault_now() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return fault_now() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
    return fault_now() ? NULL : __real_strdup(s);
}

/* Runs once for each allocation that can fail; returns how many there were. what must report
 * PR_E_NOMEM each time, PR_OK in the run without a failure, and release everything. Returns -1 and
 * the wrong status when it does not. */
static long fault_every_allocation(pr_status (*what)(void *context), void *context,
                                   pr_status *wrong)
{
    for (long n = 0;; n++) {
        fault.n_left = n;
        fault.has_failed = false;
        pr_status st = what(context);
        fault.n_left = -1;
        if (st != (fault.has_failed ? PR_E_NOMEM : PR_OK)) {
            *wrong = st;
            return -1;
        }
        if (!fault.has_failed) return n;
    }
}

#endif
