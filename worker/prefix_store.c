#include "worker/prefix_store.h"

#include <assert.h>
#include <stdlib.h>

struct pr_prefix_store {
    pr_prefix_store_config c;
    size_t element;
    void **kv;     /* [n_layers], each [n_blocks * PR_CACHE_BLOCK_TOKENS, 2 kv_width] */
    float *hidden; /* [n_blocks * PR_CACHE_BLOCK_TOKENS, hidden_size]; NULL: not kept */
};

pr_status pr_prefix_store_create(const pr_prefix_store_config *config, pr_prefix_store **out,
                                 pr_error *err)
{
    const pr_backend_ops *ops = config->backend->ops;
    size_t n_rows = (size_t)config->n_blocks * PR_CACHE_BLOCK_TOKENS;
    pr_prefix_store *s = calloc(1, sizeof *s);
    if (!s) return pr_error_nomem(err, "prefix cache", sizeof *s);
    s->c = *config;
    s->element = pr_dtype_bytes(config->backend->activation_dtype);
    s->kv = calloc((size_t)config->n_layers, sizeof *s->kv);
    pr_status st = s->kv ? PR_OK : pr_error_nomem(err, "prefix cache", n_rows);
    size_t layer_bytes = n_rows * 2 * (size_t)config->kv_width * s->element;
    for (int32_t i = 0; st == PR_OK && i < config->n_layers; i++) {
        st = ops->alloc(config->backend, layer_bytes, &s->kv[i], err);
    }
    if (st == PR_OK && config->keeps_hidden) {
        size_t n_bytes = n_rows * (size_t)config->hidden_size * sizeof(float);
        st = ops->alloc(config->backend, n_bytes, (void **)&s->hidden, err);
    }
    if (st != PR_OK) {
        pr_prefix_store_free(s);
        return st;
    }
    *out = s;
    return PR_OK;
}

void pr_prefix_store_free(pr_prefix_store *s)
{
    if (!s) return;
    pr_backend *b = s->c.backend;
    for (int32_t i = 0; s->kv && i < s->c.n_layers; i++) b->ops->free(b, s->kv[i]);
    b->ops->free(b, s->hidden);
    free(s->kv);
    free(s);
}

pr_status pr_prefix_store_check(const pr_prefix_store *s, const pr_batch_plan *plan, pr_error *err)
{
    uint32_t n_blocks = s ? s->c.n_blocks : 0, n_rows = n_blocks * PR_CACHE_BLOCK_TOKENS;
    for (uint32_t i = 0; i < plan->n_cached; i++) {
        if (plan->cached_rows[i] < n_rows) continue;
        return pr_error_set(err, PR_E_ARGUMENT, "row %u of a prefix cache of %u",
                            plan->cached_rows[i], n_rows);
    }
    for (uint32_t i = 0; i < plan->n_stores; i++) {
        if (plan->stores[i].block < n_blocks) continue;
        return pr_error_set(err, PR_E_ARGUMENT, "block %u of a prefix cache of %u",
                            plan->stores[i].block, n_blocks);
    }
    return PR_OK;
}

static pr_status copy(pr_prefix_store *s, const pr_gather *a, pr_error *err)
{
    return a->n_rows > 0 ? s->c.backend->ops->gather(s->c.backend, a, err) : PR_OK;
}

pr_status pr_prefix_store_load(pr_prefix_store *s, int32_t i_layer, const uint32_t *rows, int64_t n,
                               void *kv, int64_t ld, pr_error *err)
{
    int64_t width = 2 * s->c.kv_width;
    const pr_gather a = {.x = s->kv[i_layer], .ldx = width, .rows = rows, .n_rows = n, .dim = width,
                         .dtype = s->c.backend->activation_dtype, .y = kv, .ldy = ld};
    return copy(s, &a, err);
}

pr_status pr_prefix_store_load_hidden(pr_prefix_store *s, const uint32_t *rows, int64_t n, float *x,
                                      pr_error *err)
{
    assert(n == 0 || s->hidden);
    const pr_gather a = {.x = s->hidden, .ldx = s->c.hidden_size, .rows = rows, .n_rows = n,
                         .dim = s->c.hidden_size, .dtype = PR_DTYPE_F32, .y = x,
                         .ldy = s->c.hidden_size};
    return copy(s, &a, err);
}

/* How many stores from i on fill blocks that follow each other; only_hidden: and have hidden
 * states. */
static uint32_t run_length(const pr_batch_plan *plan, uint32_t i, bool only_hidden)
{
    uint32_t n = 1;
    while (i + n < plan->n_stores && plan->stores[i + n].block == plan->stores[i].block + n &&
           (!only_hidden || plan->stores[i + n].has_hidden)) {
        n++;
    }
    return n;
}

/* One copy for each run of blocks. from: its rows and dtype, y is the store's. */
static pr_status runs_keep(pr_prefix_store *s, const pr_batch_plan *plan, const pr_gather *from,
                           bool only_hidden, pr_error *err)
{
    size_t row_bytes = (size_t)from->dim * pr_dtype_bytes(from->dtype);
    const uint32_t *rows = from->rows;
    pr_status st = PR_OK;
    for (uint32_t i = 0, n; st == PR_OK && i < plan->n_stores; i += n) {
        n = 1;
        if (only_hidden && !plan->stores[i].has_hidden) continue;
        n = run_length(plan, i, only_hidden);
        pr_gather a = *from;
        a.rows = rows;
        a.n_rows = (int64_t)n * PR_CACHE_BLOCK_TOKENS;
        a.y = (char *)from->y + plan->stores[i].block * PR_CACHE_BLOCK_TOKENS * row_bytes;
        st = copy(s, &a, err);
        rows += a.n_rows;
    }
    return st;
}

pr_status pr_prefix_store_keep(pr_prefix_store *s, int32_t i_layer, const pr_batch_plan *plan,
                               const uint32_t *rows, const void *kv, int64_t ld, pr_error *err)
{
    int64_t width = 2 * s->c.kv_width;
    const pr_gather from = {.x = kv, .ldx = ld, .rows = rows, .dim = width,
                            .dtype = s->c.backend->activation_dtype, .y = s->kv[i_layer],
                            .ldy = width};
    return runs_keep(s, plan, &from, false, err);
}

pr_status pr_prefix_store_keep_hidden(pr_prefix_store *s, const pr_batch_plan *plan,
                                      const uint32_t *rows, const float *x, pr_error *err)
{
    const pr_gather from = {.x = x, .ldx = s->c.hidden_size, .rows = rows, .dim = s->c.hidden_size,
                            .dtype = PR_DTYPE_F32, .y = s->hidden, .ldy = s->c.hidden_size};
    return s->hidden ? runs_keep(s, plan, &from, true, err) : PR_OK;
}
