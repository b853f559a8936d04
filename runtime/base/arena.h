/* runtime/base/arena.h: memory for many small objects that live and die together.
 *
 * Owns every block that it handed out; nothing is freed alone. One thread at a time. */
#ifndef POOLRANK_RUNTIME_BASE_ARENA_H
#define POOLRANK_RUNTIME_BASE_ARENA_H

#include <stddef.h>

typedef struct pr_arena pr_arena;

/* block_bytes: the size of its usual blocks, 0 for 64 KiB. NULL when there is no memory. */
pr_arena *pr_arena_create(size_t block_bytes);
void pr_arena_free(pr_arena *a);

/* n bytes aligned to 16, not cleared, valid until pr_arena_free; NULL when there is no memory. */
void *pr_arena_alloc(pr_arena *a, size_t n);

/* A copy of n bytes with a NUL behind it; NULL when there is no memory. */
char *pr_arena_copy(pr_arena *a, const void *data, size_t n);
char *pr_arena_strdup(pr_arena *a, const char *s);

#endif
