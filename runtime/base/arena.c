#include "runtime/base/arena.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 64 * 1024, ALIGN = 16 };

typedef struct block {
    struct block *next;
    size_t used;
    size_t size;
    _Alignas(ALIGN) unsigned char data[];
} block;

struct pr_arena {
    block *blocks; /* newest first */
    size_t block_bytes;
};

pr_arena *pr_arena_create(size_t block_bytes)
{
    pr_arena *a = calloc(1, sizeof *a);
    if (a) a->block_bytes = block_bytes ? block_bytes : BLOCK_BYTES;
    return a;
}

void pr_arena_free(pr_arena *a)
{
    if (!a) return;
    for (block *b = a->blocks; b;) {
        block *next = b->next;
        free(b);
        b = next;
    }
    free(a);
}

void *pr_arena_alloc(pr_arena *a, size_t n)
{
    assert(a);
    if (n > SIZE_MAX / 2) return NULL;
    n = (n + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    block *b = a->blocks;
    if (!b || b->size - b->used < n) {
        size_t size = n > a->block_bytes ? n : a->block_bytes;
        b = malloc(sizeof *b + size);
        if (!b) return NULL;
        *b = (block){.next = a->blocks, .size = size};
        a->blocks = b;
    }
    void *p = b->data + b->used;
    b->used += n;
    return p;
}

char *pr_arena_copy(pr_arena *a, const void *data, size_t n)
{
    char *p = n < SIZE_MAX / 2 ? pr_arena_alloc(a, n + 1) : NULL;
    if (!p) return NULL;
    if (n) memcpy(p, data, n);
    p[n] = '\0';
    return p;
}

char *pr_arena_strdup(pr_arena *a, const char *s)
{
    return pr_arena_copy(a, s, strlen(s));
}
