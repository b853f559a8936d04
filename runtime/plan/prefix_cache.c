#include "runtime/plan/prefix_cache.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { NONE = UINT32_MAX };

typedef struct block {
    uint64_t id, parent_id;
    uint64_t batch;          /* the last one that used it */
    uint32_t hash_next;      /* in its bucket */
    uint32_t older, newer;   /* in the order of use */
    bool is_used, has_hidden;
    int32_t tokens[PR_CACHE_BLOCK_TOKENS];
} block;

struct pr_prefix_cache {
    block *blocks; /* [n_blocks] */
    uint32_t n_blocks;
    uint32_t *buckets; /* [n_buckets] first block, NONE: empty */
    size_t n_buckets;  /* a power of two */
    uint32_t oldest, newest;
    uint64_t n_ids;   /* ever given */
    uint64_t n_batches;
};

/* ---- the order of use ---- */

static void order_take_out(pr_prefix_cache *c, uint32_t i)
{
    block *b = &c->blocks[i];
    *(b->older == NONE ? &c->oldest : &c->blocks[b->older].newer) = b->newer;
    *(b->newer == NONE ? &c->newest : &c->blocks[b->newer].older) = b->older;
}

static void order_append(pr_prefix_cache *c, uint32_t i)
{
    block *b = &c->blocks[i];
    b->older = c->newest;
    b->newer = NONE;
    *(c->newest == NONE ? &c->oldest : &c->blocks[c->newest].newer) = i;
    c->newest = i;
}

void pr_prefix_cache_touch(pr_prefix_cache *c, uint32_t i)
{
    c->blocks[i].batch = c->n_batches;
    order_take_out(c, i);
    order_append(c, i);
}

/* ---- life ---- */

void pr_prefix_cache_clear(pr_prefix_cache *c)
{
    for (size_t i = 0; i < c->n_buckets; i++) c->buckets[i] = NONE;
    c->oldest = c->newest = NONE;
    for (uint32_t i = 0; i < c->n_blocks; i++) {
        c->blocks[i].is_used = false;
        order_append(c, i); /* neighbours are given out together: they are copied together */
    }
}

pr_status pr_prefix_cache_create(uint32_t n_blocks, pr_prefix_cache **out, pr_error *err)
{
    assert(n_blocks > 0);
    pr_prefix_cache *c = calloc(1, sizeof *c);
    if (!c) return pr_error_nomem(err, "prefix cache", sizeof *c);
    c->n_blocks = n_blocks;
    c->n_buckets = 16;
    while (c->n_buckets < n_blocks) c->n_buckets *= 2;
    c->blocks = calloc(n_blocks, sizeof *c->blocks);
    c->buckets = malloc(c->n_buckets * sizeof *c->buckets);
    if (!c->blocks || !c->buckets) {
        pr_prefix_cache_free(c);
        return pr_error_nomem(err, "prefix cache", n_blocks * sizeof *c->blocks);
    }
    pr_prefix_cache_clear(c);
    *out = c;
    return PR_OK;
}

void pr_prefix_cache_free(pr_prefix_cache *c)
{
    if (!c) return;
    free(c->blocks);
    free(c->buckets);
    free(c);
}

void pr_prefix_cache_begin(pr_prefix_cache *c)
{
    c->n_batches++;
}

/* ---- blocks by name ---- */

/* Ids have the highest bit clear, salts have it set. */
pr_cache_walk pr_prefix_cache_root(uint64_t salt)
{
    return (pr_cache_walk){salt | 1ull << 63};
}

/* FNV-1a; what it finds is compared. */
static uint32_t *bucket_of(pr_prefix_cache *c, uint64_t parent_id, const int32_t *tokens)
{
    uint64_t h = (0xCBF29CE484222325u ^ parent_id) * 0x100000001B3u;
    for (int i = 0; i < PR_CACHE_BLOCK_TOKENS; i++) {
        h = (h ^ (uint32_t)tokens[i]) * 0x100000001B3u;
    }
    return &c->buckets[(size_t)(h ^ (h >> 29)) & (c->n_buckets - 1)];
}

int32_t pr_prefix_cache_find(pr_prefix_cache *c, pr_cache_walk *walk, const int32_t *tokens,
                             bool needs_hidden)
{
    for (uint32_t i = *bucket_of(c, walk->parent_id, tokens); i != NONE;
         i = c->blocks[i].hash_next) {
        block *b = &c->blocks[i];
        if (b->parent_id != walk->parent_id) continue;
        if (memcmp(b->tokens, tokens, sizeof b->tokens) != 0) continue;
        if (needs_hidden && !b->has_hidden) return -1;
        b->batch = c->n_batches;
        walk->parent_id = b->id;
        return (int32_t)i;
    }
    return -1;
}

static void block_drop(pr_prefix_cache *c, uint32_t i)
{
    block *b = &c->blocks[i];
    if (!b->is_used) return;
    uint32_t *at = bucket_of(c, b->parent_id, b->tokens);
    while (*at != i) at = &c->blocks[*at].hash_next;
    *at = b->hash_next;
    b->is_used = false;
}

int32_t pr_prefix_cache_add(pr_prefix_cache *c, pr_cache_walk *walk, const int32_t *tokens,
                            bool has_hidden)
{
    uint32_t i = c->oldest;
    while (i != NONE && c->blocks[i].is_used && c->blocks[i].batch == c->n_batches) {
        i = c->blocks[i].newer;
    }
    if (i == NONE) return -1;
    block_drop(c, i);
    block *b = &c->blocks[i];
    uint32_t *bucket = bucket_of(c, walk->parent_id, tokens);
    b->id = ++c->n_ids;
    b->parent_id = walk->parent_id;
    b->hash_next = *bucket;
    b->is_used = true;
    b->has_hidden = has_hidden;
    memcpy(b->tokens, tokens, sizeof b->tokens);
    *bucket = i;
    pr_prefix_cache_touch(c, i);
    walk->parent_id = b->id;
    return (int32_t)i;
}

void pr_prefix_cache_add_hidden(pr_prefix_cache *c, uint32_t i_block)
{
    c->blocks[i_block].has_hidden = true;
}

bool pr_prefix_cache_has_hidden(const pr_prefix_cache *c, uint32_t i_block)
{
    return c->blocks[i_block].has_hidden;
}
