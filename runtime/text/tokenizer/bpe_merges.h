/* runtime/text/tokenizer/bpe_merges.h: which two tokens join to which third, and how early.
 *
 * Owns a hash table by pairs of ids. Filled by one thread; then read by any number of threads. */
#ifndef POOLRANK_RUNTIME_TEXT_TOKENIZER_BPE_MERGES_H
#define POOLRANK_RUNTIME_TEXT_TOKENIZER_BPE_MERGES_H

#include "runtime/base/hash.h"
#include "runtime/text/tokenizer/model_scratch.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct pr_bpe_merge {
    int32_t left;
    int32_t right;
    uint32_t rank;  /* the lowest joins first */
    int32_t joined; /* -1: an empty slot */
} pr_bpe_merge;

typedef struct pr_bpe_merges {
    pr_bpe_merge *slots; /* [n_slots], a power of two, at most 2/3 full */
    size_t n_slots;
    size_t n;
    pr_hash_seed seed;
    /* A bit for each hash, eight for each slot: most pairs of a text have no merge, and the slots
     * are too many for the cache that the bits fit in. */
    uint64_t *filter;
} pr_bpe_merges;

/* n_max: how many merges will come at most. False when there is no memory. */
bool pr_bpe_merges_init(pr_bpe_merges *m, size_t n_max);
void pr_bpe_merges_deinit(pr_bpe_merges *m);

/* Of a pair that comes twice the later one counts. Ids are >= 0. */
void pr_bpe_merges_add(pr_bpe_merges *m, int32_t left, int32_t right, uint32_t rank,
                       int32_t joined);

/* Joins symbols until no merge applies: always the pair with the lowest rank, of equal ones the
 * leftmost. symbols: [n] ids, overwritten; returns how many are left, SIZE_MAX when there is no
 * memory. O(n log n). Uses the blocks 1 and 2 of the scratch; symbols may lie in another. */
size_t pr_bpe_merges_apply(const pr_bpe_merges *m, int32_t *symbols, size_t n,
                           pr_model_scratch *scratch);

#endif
