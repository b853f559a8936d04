#include "worker/batch_arrays.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static pr_status slot_init(pr_backend *b, pr_batch_slot *s, size_t n, size_t n_cached,
                           pr_error *err)
{
    /* what is kept of a batch: rows of it, computed or cached ones, each in one block */
    size_t n_stored = n_cached > 0 ? n + n_cached : 0;
    struct {
        void **p;
        size_t n_bytes;
    } arrays[] = {
        {(void **)&s->tokens, n * sizeof(int32_t)},
        {(void **)&s->positions, n * sizeof(int32_t)},
        {(void **)&s->table_positions, n * sizeof(int32_t)},
        {(void **)&s->query_positions, n * sizeof(int32_t)},
        {(void **)&s->types, n},
        {(void **)&s->rows, n * sizeof(uint32_t)},
        {(void **)&s->key_rows, n * sizeof(uint32_t)},
        {(void **)&s->cached_rows, n_cached * sizeof(uint32_t)},
        {(void **)&s->cached_pooled, n_cached * sizeof(uint32_t)},
        {(void **)&s->stored_rows, n_stored * sizeof(uint32_t)},
        {(void **)&s->stored_pooled, n_stored * sizeof(uint32_t)},
    };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        if (arrays[i].n_bytes == 0) continue;
        pr_status st = b->ops->alloc(b, arrays[i].n_bytes, arrays[i].p, err);
        if (st != PR_OK) return st;
    }
    s->n_key_rows_max = n;
    return PR_OK;
}

pr_status pr_batch_arrays_init(pr_batch_arrays *a, const pr_model_spec *spec, pr_backend *backend,
                               uint32_t n_rows_max, uint32_t n_cached_max, pr_error *err)
{
    assert(backend->n_slots <= PR_BATCH_SLOTS_MAX);
    *a = (pr_batch_arrays){.spec = spec, .backend = backend};
    pr_status st = PR_OK;
    for (int i = 0; st == PR_OK && i < backend->n_slots; i++) {
        st = slot_init(backend, &a->slots[i], n_rows_max, n_cached_max, err);
    }
    if (st != PR_OK) return st;
    size_t n = (size_t)n_rows_max + n_cached_max;
    a->host_positions = malloc(n * sizeof *a->host_positions);
    a->host_rows = malloc(n * sizeof *a->host_rows);
    a->host_places = malloc(n * sizeof *a->host_places);
    if (a->host_positions && a->host_rows && a->host_places) return PR_OK;
    return pr_error_nomem(err, "positions", n * sizeof(int32_t));
}

void pr_batch_arrays_deinit(pr_batch_arrays *a)
{
    pr_backend *b = a->backend;
    if (!b) return;
    for (int i = 0; i < b->n_slots; i++) {
        pr_batch_slot *s = &a->slots[i];
        void *arrays[] = {s->tokens,      s->positions,     s->table_positions, s->query_positions,
                          s->types,       s->rows,          s->key_rows,        s->cached_rows,
                          s->cached_pooled, s->stored_rows, s->stored_pooled};
        for (size_t k = 0; k < sizeof arrays / sizeof *arrays; k++) b->ops->free(b, arrays[k]);
    }
    free(a->host_positions);
    free(a->host_rows);
    free(a->host_places);
    free(a->host_key_rows);
    free(a->spans);
    free(a->last_spans);
    *a = (pr_batch_arrays){0};
}

/* ---- spans ---- */

/* Keys of a segment: the rows of its ancestors and its own, in position order. */
static size_t n_keys_of(const pr_batch_plan *batch, uint32_t i)
{
    return (size_t)batch->segments[i].position_begin + batch->segments[i].token_count;
}

static pr_status spans_reserve(pr_batch_arrays *a, size_t n, pr_error *err)
{
    if (n <= a->n_spans_max) return PR_OK;
    free(a->spans);
    free(a->last_spans);
    a->n_spans_max = 0;
    a->spans = malloc(n * sizeof *a->spans);
    a->last_spans = malloc(n * sizeof *a->last_spans);
    if (!a->spans || !a->last_spans) return pr_error_nomem(err, "spans", n * sizeof *a->spans);
    a->n_spans_max = n;
    return PR_OK;
}

static pr_status key_rows_reserve(pr_batch_arrays *a, pr_batch_slot *s, size_t n, pr_error *err)
{
    pr_backend *b = a->backend;
    size_t n_bytes = n * sizeof(uint32_t);
    if (n > UINT32_MAX) return pr_error_set(err, PR_E_TOO_LARGE, "batch of %zu keys", n);
    if (n > a->n_host_key_rows_max) {
        free(a->host_key_rows);
        a->n_host_key_rows_max = 0;
        a->host_key_rows = malloc(n_bytes);
        if (!a->host_key_rows) return pr_error_nomem(err, "key rows", n_bytes);
        a->n_host_key_rows_max = n;
    }
    if (n <= s->n_key_rows_max) return PR_OK;
    b->ops->free(b, s->key_rows);
    s->key_rows = NULL;
    s->n_key_rows_max = 0;
    pr_status st = b->ops->alloc(b, n_bytes, (void **)&s->key_rows, err);
    if (st == PR_OK) s->n_key_rows_max = n;
    return st;
}

static void spans_fill(pr_batch_arrays *a, const pr_batch_plan *batch, const pr_pool_plan *pool)
{
    uint32_t key = 0, query = 0;
    a->n_spans = 0;
    a->n_last_spans = 0;
    for (uint32_t i = 0; i < batch->n_segments; i++) {
        const pr_segment *s = &batch->segments[i];
        if (s->token_begin >= batch->n_tokens) continue; /* cached: nobody asks there */
        uint32_t n_keys = (uint32_t)n_keys_of(batch, i);
        pr_sequence whole = {.leaf_segment = i, .n_tokens = n_keys};
        pr_sequence_rows(batch, &whole, a->host_key_rows + key);
        pr_span span = {.query_begin = s->token_begin, .query_count = s->token_count,
                        .key_begin = key, .key_count = n_keys};
        a->spans[a->n_spans++] = span;
        uint32_t begin = query; /* pool->rows ascend, and so do the segments */
        uint32_t end = s->token_begin + s->token_count;
        while (query < pool->n_computed && pool->rows[query] < end) query++;
        if (query > begin) {
            span.query_begin = begin;
            span.query_count = query - begin;
            a->last_spans[a->n_last_spans++] = span;
        }
        key += n_keys;
    }
}

static pr_status upload(pr_batch_arrays *a, void *dst, const void *src, size_t n_bytes,
                        pr_error *err)
{
    return a->backend->ops->upload(a->backend, dst, src, n_bytes, err);
}

static pr_status spans_upload(pr_batch_arrays *a, pr_batch_slot *s, const pr_batch_plan *batch,
                              const pr_pool_plan *pool, pr_error *err)
{
    size_t n_keys = 0;
    for (uint32_t i = 0; i < batch->n_segments; i++) {
        if (batch->segments[i].token_begin < batch->n_tokens) n_keys += n_keys_of(batch, i);
    }
    pr_status st = spans_reserve(a, batch->n_segments, err);
    if (st == PR_OK) st = key_rows_reserve(a, s, n_keys, err);
    if (st != PR_OK) return st;
    spans_fill(a, batch, pool);
    return upload(a, s->key_rows, a->host_key_rows, n_keys * sizeof(uint32_t), err);
}

/* ---- positions ---- */

/* Rows of the position table. RoBERTa counts only tokens other than pad, and gives every pad the
 * row pad_token_id (transformers: create_position_ids_from_input_ids). */
static void table_positions_fill(const pr_model_spec *spec, const pr_batch_plan *batch, int32_t *p)
{
    for (uint32_t i = 0; i < batch->n_segments; i++) {
        const pr_segment *s = &batch->segments[i];
        int32_t next = spec->position_offset + (int32_t)s->position_begin;
        for (uint32_t j = s->token_begin; j < s->token_begin + s->token_count; j++) {
            bool is_pad = spec->position_offset > 0 && batch->tokens[j] == spec->pad_token_id;
            p[j] = is_pad ? spec->pad_token_id : next++;
        }
    }
}

static pr_status positions_upload(pr_batch_arrays *a, pr_batch_slot *s, const pr_batch_plan *batch,
                                  const pr_pool_plan *pool, pr_error *err)
{
    int32_t *p = a->host_positions;
    for (uint32_t i = 0; i < batch->n_segments; i++) {
        const pr_segment *segment = &batch->segments[i];
        if (segment->token_begin >= batch->n_tokens) continue;
        for (uint32_t j = 0; j < segment->token_count; j++) {
            p[segment->token_begin + j] = (int32_t)(segment->position_begin + j);
        }
    }
    size_t n_bytes = batch->n_tokens * sizeof *p;
    pr_status st = upload(a, s->positions, p, n_bytes, err);
    if (st != PR_OK) return st;
    /* rows ascend: what is read below stands at or behind what is written */
    for (uint32_t i = 0; i < pool->n_computed; i++) p[i] = p[pool->rows[i]];
    st = upload(a, s->query_positions, p, pool->n_computed * sizeof *p, err);
    if (st != PR_OK || a->spec->position != PR_POSITION_TABLE) return st;
    table_positions_fill(a->spec, batch, p);
    return upload(a, s->table_positions, p, n_bytes, err);
}

/* ---- the cache ---- */

/* Rows of the cache whose hidden states the pooler reads: the last ones of pool->rows. */
static pr_status cached_pooled_upload(pr_batch_arrays *a, pr_batch_slot *s,
                                      const pr_batch_plan *batch, const pr_pool_plan *pool,
                                      pr_error *err)
{
    uint32_t n = pool->n_rows - pool->n_computed;
    for (uint32_t i = 0; i < n; i++) {
        a->host_rows[i] = batch->cached_rows[pool->rows[pool->n_computed + i] - batch->n_tokens];
    }
    return upload(a, s->cached_pooled, a->host_rows, n * sizeof *a->host_rows, err);
}

static pr_status stored_rows_upload(pr_batch_arrays *a, pr_batch_slot *s,
                                    const pr_batch_plan *batch, pr_error *err)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < batch->n_stores; i++) {
        memcpy(a->host_rows + n, batch->stores[i].rows, sizeof batch->stores[i].rows);
        n += PR_CACHE_BLOCK_TOKENS;
    }
    return upload(a, s->stored_rows, a->host_rows, n * sizeof *a->host_rows, err);
}

/* Places in pool->rows of the rows whose hidden states are kept. */
static pr_status stored_pooled_upload(pr_batch_arrays *a, pr_batch_slot *s,
                                      const pr_batch_plan *batch, const pr_pool_plan *pool,
                                      pr_error *err)
{
    uint32_t n = 0, n_rows = batch->n_tokens + batch->n_cached;
    for (uint32_t i = 0; i < n_rows; i++) a->host_places[i] = UINT32_MAX;
    for (uint32_t i = 0; i < pool->n_rows; i++) a->host_places[pool->rows[i]] = i;
    for (uint32_t i = 0; i < batch->n_stores; i++) {
        const pr_cache_store *store = &batch->stores[i];
        for (uint32_t j = 0; store->has_hidden && j < PR_CACHE_BLOCK_TOKENS; j++) {
            uint32_t place = a->host_places[store->rows[j]];
            if (place == UINT32_MAX) {
                return pr_error_set(err, PR_E_ARGUMENT,
                                    "block %u keeps hidden states that nobody reads: row %u",
                                    store->block, store->rows[j]);
            }
            a->host_rows[n++] = place;
        }
    }
    return upload(a, s->stored_pooled, a->host_rows, n * sizeof *a->host_rows, err);
}

static pr_status cache_upload(pr_batch_arrays *a, pr_batch_slot *s, const pr_batch_plan *batch,
                              const pr_pool_plan *pool, pr_error *err)
{
    pr_status st = PR_OK;
    if (batch->n_cached > 0) {
        st = upload(a, s->cached_rows, batch->cached_rows,
                    batch->n_cached * sizeof *batch->cached_rows, err);
        if (st == PR_OK) st = cached_pooled_upload(a, s, batch, pool, err);
    }
    if (st == PR_OK && batch->n_stores > 0) {
        st = stored_rows_upload(a, s, batch, err);
        if (st == PR_OK) st = stored_pooled_upload(a, s, batch, pool, err);
    }
    return st;
}

pr_status pr_batch_arrays_upload(pr_batch_arrays *a, int slot, const pr_batch_plan *batch,
                                 const pr_pool_plan *pool, pr_error *err)
{
    pr_batch_slot *s = &a->slots[slot];
    pr_status st = spans_upload(a, s, batch, pool, err);
    if (st == PR_OK)
        st = upload(a, s->tokens, batch->tokens, batch->n_tokens * sizeof(int32_t), err);
    if (st == PR_OK && batch->type_ids) {
        st = upload(a, s->types, batch->type_ids, batch->n_tokens, err);
    }
    if (st == PR_OK) st = upload(a, s->rows, pool->rows, pool->n_computed * sizeof(uint32_t), err);
    if (st == PR_OK) st = positions_upload(a, s, batch, pool, err);
    if (st == PR_OK) st = cache_upload(a, s, batch, pool, err);
    return st;
}

pr_status pr_batch_arrays_tokens_count(pr_batch_arrays *a, int slot, uint32_t n, pr_error *err)
{
    for (uint32_t i = 0; i < n; i++) a->host_positions[i] = (int32_t)i;
    return upload(a, a->slots[slot].tokens, a->host_positions, n * sizeof(int32_t), err);
}
