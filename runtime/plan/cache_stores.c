#include "runtime/plan/cache_stores.h"

#include "runtime/plan/pool_plan.h"

#include <stdlib.h>
#include <string.h>

/* Blocks of a request that may be kept: whole ones, of what may be reused and the rest alike. */
static uint32_t n_blocks_of(const pr_queued *q)
{
    return q->is_kept ? q->n_tokens / PR_CACHE_BLOCK_TOKENS : 0;
}

/* The block of the cache for tokens at `at` of a request, added where it is missing; *is_store: the
 * batch fills it. -1: there is no room for it. */
static int32_t block_settle(pr_prefix_cache *cache, pr_cache_walk *walk, const pr_queued *q,
                            uint32_t at, bool *is_store)
{
    int32_t i = pr_prefix_cache_find(cache, walk, q->tokens + at, false);
    *is_store = i < 0;
    if (i < 0) return pr_prefix_cache_add(cache, walk, q->tokens + at, q->reads_all);
    if (q->reads_all && !pr_prefix_cache_has_hidden(cache, (uint32_t)i)) {
        pr_prefix_cache_add_hidden(cache, (uint32_t)i);
        *is_store = true;
    }
    return i;
}

/* n_max: stores. rows, blocks: memory for the longest sequence. */
static void sequence_keep(pr_batch_plan *plan, const pr_sequence *s, const pr_queued *q,
                          uint32_t n_max, pr_prefix_cache *cache, uint32_t *rows, uint32_t *blocks)
{
    pr_cache_walk walk = pr_prefix_cache_root(q->salt);
    uint32_t n = n_blocks_of(q), n_settled = 0;
    if (n == 0) return;
    pr_sequence_rows(plan, s, rows);
    for (; n_settled < n && plan->n_stores < n_max; n_settled++) {
        uint32_t at = n_settled * PR_CACHE_BLOCK_TOKENS;
        bool is_store;
        int32_t block = block_settle(cache, &walk, q, at, &is_store);
        if (block < 0) break;
        blocks[n_settled] = (uint32_t)block;
        if (!is_store) continue;
        pr_cache_store *store = &plan->stores[plan->n_stores++];
        store->block = (uint32_t)block;
        store->has_hidden = q->reads_all;
        memcpy(store->rows, rows + at, sizeof store->rows);
    }
    while (n_settled > 0) pr_prefix_cache_touch(cache, blocks[--n_settled]);
}

pr_status pr_cache_stores_plan(pr_batch_plan *plan, const pr_queued *queue, uint32_t n_max,
                               pr_prefix_cache *cache, pr_error *err)
{
    size_t n_longest = 1, n_all = 1;
    for (uint32_t i = 0; i < plan->n_sequences; i++) {
        const pr_queued *q = &queue[plan->sequences[i].i_request];
        if (q->n_tokens > n_longest) n_longest = q->n_tokens;
        n_all += n_blocks_of(q);
    }
    if (n_all > (size_t)n_max + 1) n_all = (size_t)n_max + 1;
    uint32_t *rows = malloc(n_longest * sizeof *rows);
    uint32_t *blocks = malloc(n_longest * sizeof *blocks);
    plan->stores = malloc(n_all * sizeof *plan->stores);
    if (!rows || !blocks || !plan->stores) {
        free(rows);
        free(blocks);
        return pr_error_nomem(err, "blocks to keep", n_all * sizeof *plan->stores);
    }
    for (uint32_t i = 0; i < plan->n_sequences; i++) {
        const pr_sequence *s = &plan->sequences[i];
        sequence_keep(plan, s, &queue[s->i_request], n_max, cache, rows, blocks);
    }
    free(rows);
    free(blocks);
    return PR_OK;
}
