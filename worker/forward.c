#include "worker/forward.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* Rows of the feed-forward block that are in flight at once: bounds the [rows, intermediate]
 * buffer, whatever the token budget is. Rows are independent, so the numbers do not change. */
enum { MLP_ROWS_MAX = 2048 };

struct pr_forward {
    pr_forward_config c;
    int64_t hidden;        /* hidden_size */
    int64_t q_width;       /* of this rank: heads * head_dim */
    int64_t kv_width;      /* of this rank: KV heads * head_dim */
    int64_t qkv_width;     /* q_width + 2 kv_width */
    int64_t mlp_width;     /* of this rank: its share of intermediate_size */
    float *cos, *sin;      /* [n_positions_max, head_dim / 2]; NULL without RoPE */

    /* activations, [n_rows_max, …] */
    float *x;              /* residual stream [hidden] */
    float *h;              /* a block's normalized input, or its output before the norm [hidden] */
    float *spare;          /* what rows_pick gathers into [hidden] */
    float *qkv;            /* [qkv_width] */
    float *att;            /* attention's output [q_width] */
    float *mlp;            /* [MLP_ROWS_MAX, mlp_width] */

    /* what the batch says, in device memory */
    int32_t *tokens, *positions, *table_positions, *query_positions;
    uint8_t *types;
    uint32_t *rows;        /* pool->rows */
    uint32_t *key_rows;
    size_t n_key_rows_max;

    /* the same on the host */
    int32_t *host_positions;
    uint32_t *host_key_rows;
    size_t n_host_key_rows_max;
    pr_span *spans;        /* one a segment: all rows ask */
    pr_span *last_spans;   /* the last layer: only the rows that the pooler reads ask */
    size_t n_spans_max;
    int64_t n_spans, n_last_spans;
};

/* ---- set-up ---- */

static pr_status rope_tables_create(pr_forward *f, pr_error *err)
{
    const pr_model_spec *spec = f->c.spec;
    if (spec->position != PR_POSITION_ROPE) return PR_OK;
    size_t half = (size_t)spec->head_dim / 2, n = half * f->c.n_positions_max;
    pr_backend *b = f->c.backend;
    float *frequencies = malloc(half * sizeof *frequencies);
    float *table = malloc(n * sizeof *table);
    pr_status st = PR_OK;
    if (!frequencies || !table) {
        st = pr_error_nomem(err, "RoPE table", n * sizeof *table);
        goto cleanup;
    }
    pr_model_spec_rope_frequencies(spec, frequencies);
    st = b->ops->alloc(b, n * sizeof *table, (void **)&f->cos, err);
    if (st == PR_OK) st = b->ops->alloc(b, n * sizeof *table, (void **)&f->sin, err);
    for (int part = 0; st == PR_OK && part < 2; part++) {
        for (size_t i = 0; i < n; i++) {
            float angle = (float)(i / half) * frequencies[i % half];
            table[i] = part ? sinf(angle) : cosf(angle);
        }
        st = b->ops->upload(b, part ? f->sin : f->cos, table, n * sizeof *table, err);
    }
cleanup:
    free(frequencies);
    free(table);
    return st;
}

static pr_status buffers_create(pr_forward *f, pr_error *err)
{
    size_t n = f->c.n_rows_max;
    size_t n_mlp = n < MLP_ROWS_MAX ? n : MLP_ROWS_MAX;
    struct {
        void **p;
        size_t n_bytes;
    } buffers[] = {
        {(void **)&f->x, n * (size_t)f->hidden * sizeof(float)},
        {(void **)&f->h, n * (size_t)f->hidden * sizeof(float)},
        {(void **)&f->spare, n * (size_t)f->hidden * sizeof(float)},
        {(void **)&f->qkv, n * (size_t)f->qkv_width * sizeof(float)},
        {(void **)&f->att, n * (size_t)f->q_width * sizeof(float)},
        {(void **)&f->mlp, n_mlp * (size_t)f->mlp_width * sizeof(float)},
        {(void **)&f->tokens, n * sizeof(int32_t)},
        {(void **)&f->positions, n * sizeof(int32_t)},
        {(void **)&f->table_positions, n * sizeof(int32_t)},
        {(void **)&f->query_positions, n * sizeof(int32_t)},
        {(void **)&f->types, n},
        {(void **)&f->rows, n * sizeof(uint32_t)},
    };
    pr_backend *b = f->c.backend;
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) {
        pr_status st = b->ops->alloc(b, buffers[i].n_bytes, buffers[i].p, err);
        if (st != PR_OK) return st;
    }
    f->host_positions = malloc(n * sizeof *f->host_positions);
    if (!f->host_positions) return pr_error_nomem(err, "positions", n * sizeof(int32_t));
    const pr_backend_limits limits = {
        .n_rows_max = (int64_t)n,
        .n_keys_max = f->c.n_positions_max,
        .n_heads = f->c.shard->n_heads,
        .n_kv_heads = f->c.shard->n_kv_heads,
        .head_dim = f->c.spec->head_dim,
    };
    return b->ops->reserve(b, &limits, err);
}

pr_status pr_forward_create(const pr_forward_config *config, pr_forward **out, pr_error *err)
{
    assert(config->n_rows_max > 0 && config->n_positions_max > 0);
    pr_forward *f = calloc(1, sizeof *f);
    if (!f) return pr_error_nomem(err, "forward pass", sizeof *f);
    const pr_model_spec *spec = config->spec;
    const pr_shard *shard = config->shard;
    f->c = *config;
    f->hidden = spec->hidden_size;
    f->q_width = (int64_t)shard->n_heads * spec->head_dim;
    f->kv_width = (int64_t)shard->n_kv_heads * spec->head_dim;
    f->qkv_width = f->q_width + 2 * f->kv_width;
    f->mlp_width = shard->intermediate_end - shard->intermediate_begin;
    pr_status st = rope_tables_create(f, err);
    if (st == PR_OK) st = buffers_create(f, err);
    if (st != PR_OK) {
        pr_forward_free(f);
        return st;
    }
    *out = f;
    return PR_OK;
}

void pr_forward_free(pr_forward *f)
{
    if (!f) return;
    pr_backend *b = f->c.backend;
    void *buffers[] = {f->cos,  f->sin,       f->x,     f->h,        f->qkv,
                       f->att,  f->mlp,       f->rows,  f->tokens,   f->positions,
                       f->types, f->key_rows, f->table_positions, f->query_positions, f->spare};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) b->ops->free(b, buffers[i]);
    free(f->host_positions);
    free(f->host_key_rows);
    free(f->spans);
    free(f->last_spans);
    free(f);
}

/* ---- the batch, as the backend wants it ---- */

/* Keys of a segment: the rows of its ancestors and its own, in position order. */
static size_t n_keys_of(const pr_batch_plan *batch, uint32_t i)
{
    return (size_t)batch->segments[i].position_begin + batch->segments[i].token_count;
}

static pr_status spans_reserve(pr_forward *f, const pr_batch_plan *batch, pr_error *err)
{
    if (batch->n_segments > f->n_spans_max) {
        free(f->spans);
        free(f->last_spans);
        f->n_spans_max = 0;
        f->spans = malloc(batch->n_segments * sizeof *f->spans);
        f->last_spans = malloc(batch->n_segments * sizeof *f->last_spans);
        if (!f->spans || !f->last_spans) {
            return pr_error_nomem(err, "spans", batch->n_segments * sizeof *f->spans);
        }
        f->n_spans_max = batch->n_segments;
    }
    size_t n = 0;
    for (uint32_t i = 0; i < batch->n_segments; i++) n += n_keys_of(batch, i);
    if (n > UINT32_MAX) return pr_error_set(err, PR_E_TOO_LARGE, "batch of %zu keys", n);
    if (n > f->n_host_key_rows_max) {
        pr_backend *b = f->c.backend;
        free(f->host_key_rows);
        b->ops->free(b, f->key_rows);
        f->key_rows = NULL;
        f->n_host_key_rows_max = 0;
        f->host_key_rows = malloc(n * sizeof *f->host_key_rows);
        if (!f->host_key_rows) return pr_error_nomem(err, "key rows", n * sizeof(uint32_t));
        pr_status st = b->ops->alloc(b, n * sizeof(uint32_t), (void **)&f->key_rows, err);
        if (st != PR_OK) return st;
        f->n_host_key_rows_max = n;
    }
    return PR_OK;
}

static void spans_fill(pr_forward *f, const pr_batch_plan *batch, const pr_pool_plan *pool)
{
    uint32_t key = 0, query = 0;
    f->n_spans = 0;
    f->n_last_spans = 0;
    for (uint32_t i = 0; i < batch->n_segments; i++) {
        const pr_segment *s = &batch->segments[i];
        uint32_t n_keys = (uint32_t)n_keys_of(batch, i);
        pr_sequence whole = {.leaf_segment = i, .n_tokens = n_keys};
        pr_sequence_rows(batch, &whole, f->host_key_rows + key);
        pr_span span = {.query_begin = s->token_begin, .query_count = s->token_count,
                        .key_begin = key, .key_count = n_keys};
        f->spans[f->n_spans++] = span;
        uint32_t begin = query; /* pool->rows ascend, and so do the segments */
        while (query < pool->n_rows && pool->rows[query] < s->token_begin + s->token_count) query++;
        if (query > begin) {
            span.query_begin = begin;
            span.query_count = query - begin;
            f->last_spans[f->n_last_spans++] = span;
        }
        key += n_keys;
    }
}

static pr_status upload(pr_forward *f, void *dst, const void *src, size_t n_bytes, pr_error *err)
{
    return f->c.backend->ops->upload(f->c.backend, dst, src, n_bytes, err);
}

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

static pr_status positions_upload(pr_forward *f, const pr_batch_plan *batch,
                                  const pr_pool_plan *pool, pr_error *err)
{
    int32_t *p = f->host_positions;
    for (uint32_t i = 0; i < batch->n_segments; i++) {
        const pr_segment *s = &batch->segments[i];
        for (uint32_t j = 0; j < s->token_count; j++) {
            p[s->token_begin + j] = (int32_t)(s->position_begin + j);
        }
    }
    size_t n_bytes = batch->n_tokens * sizeof *p;
    pr_status st = upload(f, f->positions, p, n_bytes, err);
    if (st != PR_OK) return st;
    int32_t *queries = malloc((size_t)pool->n_rows * sizeof *queries + 1);
    if (!queries) return pr_error_nomem(err, "positions", pool->n_rows * sizeof *queries);
    for (uint32_t i = 0; i < pool->n_rows; i++) queries[i] = p[pool->rows[i]];
    st = upload(f, f->query_positions, queries, pool->n_rows * sizeof *queries, err);
    free(queries);
    if (st != PR_OK || f->c.spec->position != PR_POSITION_TABLE) return st;
    table_positions_fill(f->c.spec, batch, p);
    return upload(f, f->table_positions, p, n_bytes, err);
}

static pr_status batch_upload(pr_forward *f, const pr_batch_plan *batch, const pr_pool_plan *pool,
                              pr_error *err)
{
    pr_status st = spans_reserve(f, batch, err);
    if (st != PR_OK) return st;
    spans_fill(f, batch, pool);
    size_t n_keys = 0;
    for (uint32_t i = 0; i < batch->n_segments; i++) n_keys += n_keys_of(batch, i);
    st = upload(f, f->key_rows, f->host_key_rows, n_keys * sizeof(uint32_t), err);
    if (st == PR_OK)
        st = upload(f, f->tokens, batch->tokens, batch->n_tokens * sizeof(int32_t), err);
    if (st == PR_OK && batch->type_ids) {
        st = upload(f, f->types, batch->type_ids, batch->n_tokens, err);
    }
    if (st == PR_OK) st = upload(f, f->rows, pool->rows, pool->n_rows * sizeof(uint32_t), err);
    if (st == PR_OK) st = positions_upload(f, batch, pool, err);
    return st;
}

/* ---- the layers ---- */

static pr_status norm(pr_forward *f, const float *x, const float *weight, const float *bias,
                      int64_t n_rows, float *y, pr_error *err)
{
    const pr_norm_args a = {
        .kind = f->c.spec->norm, .x = x, .ldx = f->hidden, .weight = weight, .bias = bias,
        .eps = f->c.spec->norm_eps, .n_rows = n_rows, .dim = f->hidden, .y = y, .ldy = f->hidden,
    };
    return f->c.backend->ops->norm(f->c.backend, &a, err);
}

static pr_status gemm(pr_forward *f, const pr_gemm *a, pr_error *err)
{
    return f->c.backend->ops->gemm(f->c.backend, a, err);
}

/* A row-parallel projection: every rank adds its part; bias and residual come in once, on tensor
 * rank 0, before the sum. y [n_rows, hidden] holds the sum on every rank, or (to_first) on tensor
 * rank 0 alone. */
static pr_status row_parallel(pr_forward *f, const pr_matrix *w, const float *bias, const float *x,
                              int64_t ldx, int64_t n_rows, const float *residual, float *y,
                              bool to_first, pr_error *err)
{
    pr_comm *comm = f->c.comm;
    int64_t n = n_rows * f->hidden;
    bool is_first = comm->tp_rank == 0;
    const pr_gemm a = {
        .w = w, .x = x, .ldx = ldx, .n_rows = n_rows, .bias = is_first ? bias : NULL,
        .residual = is_first ? residual : NULL, .ld_residual = f->hidden, .y = y,
        .ldy = f->hidden,
    };
    pr_status st = gemm(f, &a, err);
    if (st != PR_OK) return st;
    return to_first ? pr_comm_reduce_to(comm, y, n, 0, err) : pr_comm_all_reduce(comm, y, n, err);
}

static pr_status rope(pr_forward *f, float *x, int64_t n_rows, int32_t n_heads,
                      const int32_t *positions, const float *norm_weight, pr_error *err)
{
    const pr_model_spec *spec = f->c.spec;
    if (!f->cos && !norm_weight) return PR_OK;
    const pr_rope a = {
        .x = x, .ldx = f->qkv_width, .n_rows = n_rows, .n_heads = n_heads,
        .head_dim = spec->head_dim, .positions = positions, .cos = f->cos, .sin = f->sin,
        .norm_weight = norm_weight, .norm_eps = spec->norm_eps,
    };
    return f->c.backend->ops->rope(f->c.backend, &a, err);
}

/* Where a layer's queries come from: all rows of the batch, or in the last layer those that the
 * pooler reads. */
typedef struct queries {
    int64_t n_rows;
    const int32_t *positions;
    const pr_span *spans;
    int64_t n_spans;
    float *q; /* [n_rows, q_width], leading dimension qkv_width */
} queries;

static pr_status attention(pr_forward *f, const pr_layer_weights *w, int32_t i_layer,
                           const queries *q, int64_t n_rows, pr_error *err)
{
    const pr_model_spec *spec = f->c.spec;
    const pr_shard *shard = f->c.shard;
    float *k = f->qkv + f->q_width;
    pr_status st = rope(f, q->q, q->n_rows, shard->n_heads, q->positions, w->q_norm, err);
    if (st == PR_OK) st = rope(f, k, n_rows, shard->n_kv_heads, f->positions, w->k_norm, err);
    if (st != PR_OK) return st;
    const pr_attention a = {
        .q = q->q, .ldq = f->qkv_width, .k = k, .ldk = f->qkv_width, .v = k + f->kv_width,
        .ldv = f->qkv_width, .query_positions = q->positions, .key_rows = f->key_rows,
        .spans = q->spans, .n_spans = q->n_spans, .n_heads = shard->n_heads,
        .n_kv_heads = shard->n_kv_heads, .head_dim = spec->head_dim,
        .scale = (float)(1.0 / sqrt((double)spec->head_dim)), .causal = spec->causal,
        .window = spec->window[i_layer], .out = f->att, .ldout = f->q_width,
    };
    return f->c.backend->ops->attention(f->c.backend, &a, err);
}

/* Feed-forward of rows of x into y = residual + down(…), in runs of rows. y is on every rank, but
 * after the model's last layer only the pooling rank needs it. */
static pr_status mlp(pr_forward *f, const pr_layer_weights *w, const float *x, int64_t n_rows,
                     const float *residual, float *y, bool is_last, pr_error *err)
{
    pr_status st = PR_OK;
    for (int64_t row = 0; st == PR_OK && row < n_rows; row += MLP_ROWS_MAX) {
        int64_t n = n_rows - row < MLP_ROWS_MAX ? n_rows - row : MLP_ROWS_MAX;
        const pr_gemm up = {
            .w = w->up, .x = x + row * f->hidden, .ldx = f->hidden, .n_rows = n,
            .bias = w->up_bias, .activation = f->c.spec->activation, .y = f->mlp,
            .ldy = f->mlp_width,
        };
        st = gemm(f, &up, err);
        if (st == PR_OK) {
            st = row_parallel(f, w->down, w->down_bias, f->mlp, f->mlp_width, n,
                              residual + row * f->hidden, y + row * f->hidden, is_last, err);
        }
    }
    return st;
}

/* Q, K and V of all rows of `in`, then attention. */
static pr_status attention_all(pr_forward *f, const pr_layer_weights *w, int32_t i_layer,
                               const float *in, int64_t n_rows, pr_error *err)
{
    const pr_gemm qkv = {.w = w->qkv, .x = in, .ldx = f->hidden, .n_rows = n_rows,
                         .bias = w->qkv_bias, .y = f->qkv, .ldy = f->qkv_width};
    pr_status st = gemm(f, &qkv, err);
    const queries q = {n_rows, f->positions, f->spans, f->n_spans, f->qkv};
    if (st == PR_OK) st = attention(f, w, i_layer, &q, n_rows, err);
    return st;
}

/* Keeps of *buffer [n_rows] only the rows that the pooler reads, by gathering them into the spare
 * buffer and exchanging the two. */
static pr_status rows_pick(pr_forward *f, float **buffer, const pr_pool_plan *pool, pr_error *err)
{
    pr_status st =
        f->c.backend->ops->gather_rows(f->c.backend, *buffer, f->hidden, f->rows, pool->n_rows,
                                       f->hidden, f->spare, f->hidden, err);
    float *picked = f->spare;
    f->spare = *buffer;
    *buffer = picked;
    return st;
}

/* K and V of all rows of *in, Q only of those that the pooler reads; *in (f->x or f->h) and f->x
 * keep just these. */
static pr_status attention_last(pr_forward *f, const pr_layer_weights *w, int32_t i_layer,
                                float **in, int64_t n_rows, const pr_pool_plan *pool, pr_error *err)
{
    const float *kv_bias = w->qkv_bias ? w->qkv_bias + f->q_width : NULL;
    const pr_gemm kv = {.w = w->kv, .x = *in, .ldx = f->hidden, .n_rows = n_rows, .bias = kv_bias,
                        .y = f->qkv + f->q_width, .ldy = f->qkv_width};
    pr_status st = gemm(f, &kv, err);
    if (pool->n_rows < n_rows) {
        if (st == PR_OK) st = rows_pick(f, in, pool, err);
        if (st == PR_OK && in != &f->x) st = rows_pick(f, &f->x, pool, err);
    }
    const pr_gemm q = {.w = w->q, .x = *in, .ldx = f->hidden, .n_rows = pool->n_rows,
                       .bias = w->qkv_bias, .y = f->qkv, .ldy = f->qkv_width};
    if (st == PR_OK) st = gemm(f, &q, err);
    const queries asked = {pool->n_rows, f->query_positions, f->last_spans, f->n_last_spans,
                           f->qkv};
    if (st == PR_OK) st = attention(f, w, i_layer, &asked, n_rows, err);
    return st;
}

/* What follows attention: x and, in f->att, attention's output in; x out. */
static pr_status layer_end(pr_forward *f, const pr_layer_weights *w, int64_t n, bool is_last,
                           pr_error *err)
{
    bool post = f->c.spec->post_norm;
    float *out = post ? f->h : f->x;
    pr_status st = row_parallel(f, w->o, w->o_bias, f->att, f->q_width, n, f->x, out, false, err);
    if (st != PR_OK) return st;
    if (!post) {
        st = norm(f, f->x, w->mlp_norm, w->mlp_norm_bias, n, f->h, err);
        return st == PR_OK ? mlp(f, w, f->h, n, f->x, f->x, is_last, err) : st;
    }
    st = norm(f, out, w->attention_norm, w->attention_norm_bias, n, f->x, err);
    if (st == PR_OK) st = mlp(f, w, f->x, n, f->x, f->h, is_last, err);
    bool has_sum = !is_last || f->c.shard->is_pooling_rank;
    if (st == PR_OK && has_sum) st = norm(f, f->h, w->mlp_norm, w->mlp_norm_bias, n, f->x, err);
    return st;
}

/* One layer; x [n_rows] in, x [*n_rows] out (after the model's last layer fewer, and only on the
 * pooling rank). */
static pr_status layer(pr_forward *f, int32_t i_layer, const pr_pool_plan *pool, int64_t *n_rows,
                       pr_error *err)
{
    const pr_layer_weights *w = NULL;
    bool post = f->c.spec->post_norm, is_last = i_layer + 1 == f->c.spec->n_layers;
    float **in = post ? &f->x : &f->h;
    if (f->c.n_steps) atomic_fetch_add_explicit(f->c.n_steps, 1, memory_order_relaxed);
    pr_status st = pr_weights_layer(f->c.weights, i_layer - f->c.shard->layer_begin, &w, err);
    if (st == PR_OK && !post)
        st = norm(f, f->x, w->attention_norm, w->attention_norm_bias, *n_rows, *in, err);
    if (st != PR_OK) return st;
    if (!is_last) {
        st = attention_all(f, w, i_layer, *in, *n_rows, err);
    } else {
        st = attention_last(f, w, i_layer, in, *n_rows, pool, err);
        *n_rows = pool->n_rows;
    }
    return st == PR_OK ? layer_end(f, w, *n_rows, is_last, err) : st;
}

/* Streamed weights hold the token table's rows in the batch's own order. */
static pr_status tokens_stream(pr_forward *f, const pr_batch_plan *batch, pr_error *err)
{
    pr_status st = pr_weights_tokens_fetch(f->c.weights, batch->tokens, batch->n_tokens, err);
    if (st != PR_OK) return st;
    for (uint32_t i = 0; i < batch->n_tokens; i++) f->host_positions[i] = (int32_t)i;
    return upload(f, f->tokens, f->host_positions, batch->n_tokens * sizeof(int32_t), err);
}

/* Each rank looks up the tokens of its part of the vocabulary, tensor rank 0 adds what belongs to
 * positions and types; x [n_tokens] is their sum, on every rank of the first stage. */
static pr_status embeddings(pr_forward *f, const pr_batch_plan *batch, pr_error *err)
{
    const pr_weights *w = f->c.weights;
    if (w->stream) {
        pr_status fetched = tokens_stream(f, batch, err);
        if (fetched != PR_OK) return fetched;
    }
    const pr_embed a = {
        .token = w->tokens, .token_begin = w->stream ? 0 : f->c.shard->vocab_begin,
        .position = w->positions, .type = w->types,
        .tokens = f->tokens, .positions = w->positions ? f->table_positions : NULL,
        .types = batch->type_ids ? f->types : NULL, .n_rows = batch->n_tokens, .y = f->x,
        .ldy = f->hidden,
    };
    pr_status st = f->c.backend->ops->embed(f->c.backend, &a, err);
    if (st == PR_OK) {
        st = pr_comm_all_reduce(f->c.comm, f->x, batch->n_tokens * f->hidden, err);
    }
    if (st == PR_OK && w->embed_norm) {
        st = norm(f, f->x, w->embed_norm, w->embed_norm_bias, batch->n_tokens, f->x, err);
    }
    return st;
}

pr_status pr_forward_run(pr_forward *f, const pr_batch_plan *batch, const pr_pool_plan *pool,
                         const float **hidden, pr_error *err)
{
    assert(batch->n_tokens <= f->c.n_rows_max);
    if (!f->c.spec->causal) {
        for (uint32_t i = 0; i < batch->n_segments; i++) assert(batch->segments[i].parent < 0);
    }
    pr_comm *comm = f->c.comm;
    int64_t n_rows = batch->n_tokens, n = n_rows * f->hidden;
    pr_status st = batch_upload(f, batch, pool, err);
    if (st != PR_OK) return st;
    if (f->c.shard->is_first_stage) {
        st = embeddings(f, batch, err);
    } else {
        st = pr_comm_recv(comm, f->x, n, comm->stage - 1, err);
    }
    for (int32_t i = f->c.shard->layer_begin; st == PR_OK && i < f->c.shard->layer_end; i++) {
        st = layer(f, i, pool, &n_rows, err);
    }
    if (st == PR_OK && comm->stage + 1 < comm->n_stages) {
        st = pr_comm_send(comm, f->x, n, comm->stage + 1, err);
    }
    if (st == PR_OK && f->c.weights->final_norm) {
        st = norm(f, f->x, f->c.weights->final_norm, f->c.weights->final_norm_bias, n_rows, f->x,
                  err);
    }
    if (st == PR_OK) *hidden = f->x;
    return st;
}
