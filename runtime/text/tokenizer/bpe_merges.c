#include "runtime/text/tokenizer/bpe_merges.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Up to this many symbols a plain scan for the lowest rank beats the heap's bookkeeping; the words
 * of a text are nearly all shorter. */
enum { N_SCAN_MAX = 40 };

enum { BLOCK_LINKS = 1, BLOCK_HEAP = 2 };

bool pr_bpe_merges_init(pr_bpe_merges *m, size_t n_max)
{
    *m = (pr_bpe_merges){.n_slots = 16};
    while (m->n_slots / 3 * 2 < n_max) m->n_slots *= 2;
    m->slots = malloc(m->n_slots * sizeof *m->slots);
    m->filter = calloc(m->n_slots / 8, sizeof *m->filter);
    if (!m->slots || !m->filter) {
        pr_bpe_merges_deinit(m);
        return false;
    }
    for (size_t i = 0; i < m->n_slots; i++) m->slots[i] = (pr_bpe_merge){.joined = -1};
    m->seed = pr_hash_seed_make(m->slots);
    return true;
}

void pr_bpe_merges_deinit(pr_bpe_merges *m)
{
    free(m->slots);
    free(m->filter);
    *m = (pr_bpe_merges){0};
}

static uint64_t hash(const pr_bpe_merges *m, int32_t left, int32_t right)
{
    return pr_hash_u64(m->seed, (uint64_t)(uint32_t)left << 32 | (uint32_t)right);
}

/* The slot of the pair, or the empty one where it would go. */
static pr_bpe_merge *find(const pr_bpe_merges *m, int32_t left, int32_t right, uint64_t h)
{
    for (size_t i = h & (m->n_slots - 1);; i = (i + 1) & (m->n_slots - 1)) {
        pr_bpe_merge *slot = &m->slots[i];
        if (slot->joined < 0 || (slot->left == left && slot->right == right)) return slot;
    }
}

void pr_bpe_merges_add(pr_bpe_merges *m, int32_t left, int32_t right, uint32_t rank,
                       int32_t joined)
{
    uint64_t h = hash(m, left, right);
    pr_bpe_merge *slot = find(m, left, right, h);
    uint64_t bit = h >> 32 & (8 * m->n_slots - 1);
    m->filter[bit / 64] |= (uint64_t)1 << bit % 64;
    if (slot->joined < 0) m->n++;
    assert(m->n < m->n_slots);
    *slot = (pr_bpe_merge){left, right, rank, joined};
}

/* NULL: no merge. */
static const pr_bpe_merge *look(const pr_bpe_merges *m, int32_t left, int32_t right)
{
    uint64_t h = hash(m, left, right);
    uint64_t bit = h >> 32 & (8 * m->n_slots - 1);
    if (!(m->filter[bit / 64] >> bit % 64 & 1)) return NULL;
    const pr_bpe_merge *slot = find(m, left, right, h);
    return slot->joined < 0 ? NULL : slot;
}

static void look_up(const pr_bpe_merges *m, const int32_t *symbols, size_t i, uint32_t *ranks,
                    int32_t *joined)
{
    const pr_bpe_merge *found = look(m, symbols[i], symbols[i + 1]);
    ranks[i] = found ? found->rank : UINT32_MAX;
    joined[i] = found ? found->joined : -1;
}

static size_t apply_by_scan(const pr_bpe_merges *m, int32_t *symbols, size_t n)
{
    uint32_t ranks[N_SCAN_MAX]; /* of the pair that starts here; UINT32_MAX: no merge */
    int32_t joined[N_SCAN_MAX];
    for (size_t i = 0; i + 1 < n; i++) look_up(m, symbols, i, ranks, joined);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++) {
            if (ranks[i] < ranks[best]) best = i;
        }
        if (ranks[best] == UINT32_MAX) break;
        symbols[best] = joined[best];
        n--;
        for (size_t i = best; i + 1 < n; i++) { /* a few words: memmove costs more */
            symbols[i + 1] = symbols[i + 2];
            ranks[i] = ranks[i + 1];
            joined[i] = joined[i + 1];
        }
        if (best > 0) look_up(m, symbols, best - 1, ranks, joined);
        if (best + 1 < n) look_up(m, symbols, best, ranks, joined);
    }
    return n;
}

typedef struct neighbours {
    uint32_t previous;
    uint32_t next;
} neighbours;

static const uint32_t NO_LINK = UINT32_MAX;

/* A merge that was possible when it was queued. It may be stale when its turn comes: then the pair
 * that is there now joins to something else, or its left part is gone. */
typedef struct candidate {
    uint32_t rank;
    uint32_t position;
    int32_t joined;
} candidate;

typedef struct heap {
    candidate *items; /* room for three times the symbols: one each at first, two for each join */
    size_t n;
} heap;

static bool goes_before(const candidate *a, const candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->position < b->position;
}

static void heap_push(heap *h, candidate c)
{
    size_t i = h->n++;
    while (i > 0 && goes_before(&c, &h->items[(i - 1) / 2])) {
        h->items[i] = h->items[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    h->items[i] = c;
}

static candidate heap_pop(heap *h)
{
    candidate top = h->items[0];
    candidate last = h->items[--h->n];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= h->n) break;
        if (child + 1 < h->n && goes_before(&h->items[child + 1], &h->items[child])) child++;
        if (!goes_before(&h->items[child], &last)) break;
        h->items[i] = h->items[child];
        i = child;
    }
    h->items[i] = last;
    return top;
}

static void push_pair(const pr_bpe_merges *m, heap *h, const int32_t *symbols, uint32_t left,
                      uint32_t right)
{
    const pr_bpe_merge *found = look(m, symbols[left], symbols[right]);
    if (found) heap_push(h, (candidate){found->rank, left, found->joined});
}

static void join(const pr_bpe_merges *m, heap *h, int32_t *symbols, neighbours *links,
                 candidate top)
{
    uint32_t left = top.position;
    if (symbols[left] < 0 || links[left].next == NO_LINK) return;
    uint32_t right = links[left].next;
    const pr_bpe_merge *found = look(m, symbols[left], symbols[right]);
    if (!found || found->joined != top.joined) return;
    symbols[left] = top.joined;
    symbols[right] = -1;
    links[left].next = links[right].next;
    if (links[left].next != NO_LINK) links[links[left].next].previous = left;
    if (links[left].previous != NO_LINK) push_pair(m, h, symbols, links[left].previous, left);
    if (links[left].next != NO_LINK) push_pair(m, h, symbols, left, links[left].next);
}

static size_t apply_by_heap(const pr_bpe_merges *m, int32_t *symbols, size_t n,
                            pr_model_scratch *scratch)
{
    neighbours *links = pr_model_scratch_reserve(scratch, BLOCK_LINKS, n, sizeof *links);
    heap h = {.items = pr_model_scratch_reserve(scratch, BLOCK_HEAP, 3 * n, sizeof *h.items)};
    if (!links || !h.items || n >= UINT32_MAX) return SIZE_MAX;
    for (size_t i = 0; i < n; i++) {
        links[i].previous = i > 0 ? (uint32_t)i - 1 : NO_LINK;
        links[i].next = i + 1 < n ? (uint32_t)i + 1 : NO_LINK;
        if (i + 1 < n) push_pair(m, &h, symbols, (uint32_t)i, (uint32_t)i + 1);
    }
    while (h.n > 0) join(m, &h, symbols, links, heap_pop(&h));
    size_t n_left = 0;
    for (size_t i = 0; i < n; i++) {
        if (symbols[i] >= 0) symbols[n_left++] = symbols[i];
    }
    return n_left;
}

size_t pr_bpe_merges_apply(const pr_bpe_merges *m, int32_t *symbols, size_t n,
                           pr_model_scratch *scratch)
{
    if (n <= N_SCAN_MAX) return apply_by_scan(m, symbols, n);
    return apply_by_heap(m, symbols, n, scratch);
}
