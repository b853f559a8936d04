/* runtime/plan/prefix_cache.h: which beginnings of earlier requests the ranks of one replica group
 * still hold keys and values of, in blocks of PR_CACHE_BLOCK_TOKENS tokens.
 *
 * A block is named by the tokens in it and by all that stands before it: its parent's id, which is
 * never used again, or a salt at position 0. So a block whose parent was dropped is not found any
 * more and ages out. The ranks know blocks by number only: block b is the rows b *
 * PR_CACHE_BLOCK_TOKENS and on of what they keep.
 *
 * Owns its memory; plain bookkeeping without I/O or clock, the same calls always give the same
 * answers. Used by whoever plans batches for the group, under that one's lock. */
#ifndef POOLRANK_RUNTIME_PLAN_PREFIX_CACHE_H
#define POOLRANK_RUNTIME_PLAN_PREFIX_CACHE_H

#include "runtime/base/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { PR_CACHE_BLOCK_TOKENS = 32 };

typedef struct pr_prefix_cache pr_prefix_cache;

/* Where a walk along a request's blocks stands. */
typedef struct pr_cache_walk {
    uint64_t parent_id;
} pr_cache_walk;

/* n_blocks: at least 1. Fails PR_E_NOMEM. */
pr_status pr_prefix_cache_create(uint32_t n_blocks, pr_prefix_cache **out, pr_error *err);
void pr_prefix_cache_free(pr_prefix_cache *c); /* NULL is fine */

/* Forgets all: the ranks were started again, or may not hold what they should. */
void pr_prefix_cache_clear(pr_prefix_cache *c);

/* A batch is planned: blocks found, added or touched from now on are kept until the next one. */
void pr_prefix_cache_begin(pr_prefix_cache *c);

/* Requests of different salts share nothing. */
pr_cache_walk pr_prefix_cache_root(uint64_t salt);

/* The block that goes on with tokens [PR_CACHE_BLOCK_TOKENS], and the walk goes on to it; -1: none,
 * or with needs_hidden one without hidden states: the walk stays. */
int32_t pr_prefix_cache_find(pr_prefix_cache *c, pr_cache_walk *walk, const int32_t *tokens,
                             bool needs_hidden);

/* Makes a block in place of the one that was used longest ago, and goes on to it; -1: all are kept
 * for this batch. find has just answered -1 for these tokens without needs_hidden. */
int32_t pr_prefix_cache_add(pr_prefix_cache *c, pr_cache_walk *walk, const int32_t *tokens,
                            bool has_hidden);

/* The block gets hidden states as well: the batch stores it again. */
void pr_prefix_cache_add_hidden(pr_prefix_cache *c, uint32_t i_block);
bool pr_prefix_cache_has_hidden(const pr_prefix_cache *c, uint32_t i_block);

/* Used now. Of a chain the last block first: it is dropped before its parents are. */
void pr_prefix_cache_touch(pr_prefix_cache *c, uint32_t i_block);

#endif
