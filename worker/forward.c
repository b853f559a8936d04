#include "worker/forward.h"

#include "worker/batch_arrays.h"
#include "worker/prefix_store.h"

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
    pr_dtype dtype;        /* of activations */
    bool is_narrow;        /* they are 16 bits wide, the residual stream is f32 all the same */

    /* [n_rows_max, …], rounded up as the backend's gemm wants it; x, spare and qkv have room for
     * n_cached_max rows more */
    uint32_t n_cached_max; /* rows that a batch may take from the store */
    pr_prefix_store *store; /* NULL: nothing is kept */
    float *x;              /* residual stream [hidden] */
    float *spare;          /* what rows_pick gathers into [hidden] */

    /* the same, in the activation dtype */
    void *h;               /* a block's input, then its output before that is added [hidden] */
    void *qkv;             /* [qkv_width] */
    void *att;             /* attention's output [q_width] */
    void *mlp;             /* [MLP_ROWS_MAX, mlp_width] */
    bool has_branch;       /* pre-norm: h waits to be added to x */

    pr_batch_arrays batch;
    const pr_batch_plan *plan; /* of the batch that runs, borrowed */
    const pr_batch_slot *slot; /* of the batch that runs */
};

/* A pointer to activations, so many elements on. */
static void *at(const pr_forward *f, void *base, int64_t n_elements)
{
    return (char *)base + n_elements * (int64_t)pr_dtype_bytes(f->dtype);
}

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
    pr_backend *b = f->c.backend;
    size_t n = (size_t)pr_backend_rows(b, f->c.n_rows_max), n_all = n + f->n_cached_max;
    size_t n_mlp = n < MLP_ROWS_MAX ? n : MLP_ROWS_MAX;
    size_t element = pr_dtype_bytes(f->dtype);
    /* rows_pick exchanges h and spare in a post-norm model */
    size_t h_element = f->c.spec->post_norm ? sizeof(float) : element;
    struct {
        void **p;
        size_t n_bytes;
    } buffers[] = {
        {(void **)&f->x, n_all * (size_t)f->hidden * sizeof(float)},
        {(void **)&f->spare, n_all * (size_t)f->hidden * sizeof(float)},
        {&f->h, n * (size_t)f->hidden * h_element},
        {&f->qkv, n_all * (size_t)f->qkv_width * element},
        {&f->att, n * (size_t)f->q_width * element},
        {&f->mlp, n_mlp * (size_t)f->mlp_width * element},
    };
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) {
        pr_status st = b->ops->alloc(b, buffers[i].n_bytes, buffers[i].p, err);
        if (st != PR_OK) return st;
    }
    pr_status st = pr_batch_arrays_init(&f->batch, f->c.spec, b, f->c.n_rows_max, f->n_cached_max,
                                        err);
    if (st != PR_OK) return st;
    const pr_backend_limits limits = {
        .n_rows_max = f->c.n_rows_max,
        .n_keys_max = f->c.n_positions_max,
        .n_heads = f->c.shard->n_heads,
        .n_kv_heads = f->c.shard->n_kv_heads,
        .head_dim = f->c.spec->head_dim,
    };
    return b->ops->reserve(b, &limits, err);
}

static pr_status store_create(pr_forward *f, pr_error *err)
{
    const pr_shard *shard = f->c.shard;
    const pr_prefix_store_config config = {
        .backend = f->c.backend, .n_blocks = f->c.n_cache_blocks,
        .n_layers = shard->layer_end - shard->layer_begin, .kv_width = f->kv_width,
        .hidden_size = f->hidden, .keeps_hidden = f->c.keeps_hidden && shard->is_pooling_rank,
    };
    if (config.n_blocks == 0) return PR_OK;
    return pr_prefix_store_create(&config, &f->store, err);
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
    f->dtype = config->backend->activation_dtype;
    f->is_narrow = f->dtype != PR_DTYPE_F32;
    f->n_cached_max = config->n_cache_blocks > 0 ? config->n_rows_max : 0;
    pr_status st = rope_tables_create(f, err);
    if (st == PR_OK) st = buffers_create(f, err);
    if (st == PR_OK) st = store_create(f, err);
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
    void *buffers[] = {f->cos, f->sin, f->x, f->spare, f->h, f->qkv, f->att, f->mlp};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) b->ops->free(b, buffers[i]);
    pr_batch_arrays_deinit(&f->batch);
    pr_prefix_store_free(f->store);
    free(f);
}

/* ---- the layers ----
 *
 * The residual stream x is f32. A block reads h, its normalized input, and leaves its output in h;
 * the norm that follows adds that to x first. What differs:
 *
 *     pre-norm    h = norm(x);  h = block(h);  x += h
 *     post-norm   h = block(x);  x = norm(x + h), and where activations are narrow h = x in 16 bits
 *                 for the next block to read */

static pr_status norm(pr_forward *f, const pr_norm_args *rest, const float *weight,
                      const float *bias, pr_error *err)
{
    pr_norm_args a = *rest;
    a.kind = f->c.spec->norm;
    a.weight = weight;
    a.bias = bias;
    a.eps = f->c.spec->norm_eps;
    a.dim = f->hidden;
    a.ldx = a.ld_residual = a.ld_sum = a.ld_wide = a.ldy = f->hidden;
    return f->c.backend->ops->norm(f->c.backend, &a, err);
}

/* Pre-norm: x += h where that is due; h = norm(x). */
static pr_status norm_pre(pr_forward *f, const float *weight, const float *bias, int64_t n_rows,
                          pr_error *err)
{
    bool adds = f->has_branch;
    const pr_norm_args a = {
        .x = adds ? f->h : f->x, .x_dtype = adds ? f->dtype : PR_DTYPE_F32,
        .residual = adds ? f->x : NULL, .sum = adds ? f->x : NULL, .n_rows = n_rows, .y = f->h,
        .y_dtype = f->dtype,
    };
    f->has_branch = false;
    return norm(f, &a, weight, bias, err);
}

/* Post-norm: x = norm(x + h), in f32 alone after the model's last block. */
static pr_status norm_post(pr_forward *f, const float *weight, const float *bias, int64_t n_rows,
                           bool is_last, pr_error *err)
{
    bool is_narrow = f->is_narrow && !is_last;
    const pr_norm_args a = {
        .x = f->h, .x_dtype = f->dtype, .residual = f->x, .wide = is_narrow ? f->x : NULL,
        .n_rows = n_rows, .y = is_narrow ? f->h : f->x, .y_dtype = is_narrow ? f->dtype
                                                                             : PR_DTYPE_F32,
    };
    return norm(f, &a, weight, bias, err);
}

/* What a post-norm model's blocks read. */
static void *input_post(const pr_forward *f)
{
    return f->is_narrow ? f->h : f->x;
}

static pr_status gemm(pr_forward *f, const pr_gemm *a, pr_error *err)
{
    return f->c.backend->ops->gemm(f->c.backend, a, err);
}

/* A row-parallel projection into y [n_rows, hidden]: every rank adds its part, tensor rank 0 the
 * bias. The sum is on every rank, or (to_first) on tensor rank 0 alone. */
static pr_status row_parallel(pr_forward *f, const pr_matrix *w, const float *bias, const void *x,
                              int64_t ldx, int64_t n_rows, void *y, bool to_first, pr_error *err)
{
    pr_comm *comm = f->c.comm;
    int64_t n = n_rows * f->hidden;
    const pr_gemm a = {.w = w, .x = x, .ldx = ldx, .n_rows = n_rows,
                       .bias = comm->tp_rank == 0 ? bias : NULL, .y = y, .ldy = f->hidden};
    pr_status st = gemm(f, &a, err);
    if (st != PR_OK) return st;
    return to_first ? pr_comm_reduce_to(comm, y, n, f->dtype, 0, err)
                    : pr_comm_all_reduce(comm, y, n, f->dtype, err);
}

/* n_heads of q and n_kv_heads of k side by side from x on. */
static pr_status rope(pr_forward *f, const pr_layer_weights *w, void *x, int64_t n_rows,
                      int32_t n_heads, int32_t n_kv_heads, const int32_t *positions, pr_error *err)
{
    const pr_model_spec *spec = f->c.spec;
    if (!f->cos && !w->q_norm && !w->k_norm) return PR_OK;
    const pr_rope a = {
        .x = x, .ldx = f->qkv_width, .n_rows = n_rows, .n_heads = n_heads,
        .n_kv_heads = n_kv_heads, .head_dim = spec->head_dim, .positions = positions,
        .cos = f->cos, .sin = f->sin, .q_norm = w->q_norm, .k_norm = w->k_norm,
        .norm_eps = spec->norm_eps,
    };
    return f->c.backend->ops->rope(f->c.backend, &a, err);
}

/* Where a layer's queries come from: all rows of the batch, or in the last layer those that the
 * pooler reads. They stand in the first columns of qkv. */
typedef struct queries {
    const int32_t *positions;
    const pr_span *spans;
    int64_t n_spans;
} queries;

/* Keys and values of the rows that this layer does not compute: behind those that it does. */
static pr_status keys_load(pr_forward *f, int32_t i_layer, pr_error *err)
{
    const pr_batch_plan *plan = f->plan;
    if (plan->n_cached == 0) return PR_OK;
    int64_t begin = plan->n_tokens * f->qkv_width + f->q_width;
    return pr_prefix_store_load(f->store, i_layer - f->c.shard->layer_begin, f->slot->cached_rows,
                                plan->n_cached, at(f, f->qkv, begin), f->qkv_width, err);
}

static pr_status keys_keep(pr_forward *f, int32_t i_layer, pr_error *err)
{
    if (f->plan->n_stores == 0) return PR_OK;
    return pr_prefix_store_keep(f->store, i_layer - f->c.shard->layer_begin, f->plan,
                                f->slot->stored_rows, at(f, f->qkv, f->q_width), f->qkv_width, err);
}

static pr_status attention(pr_forward *f, int32_t i_layer, const queries *q, pr_error *err)
{
    const pr_model_spec *spec = f->c.spec;
    const pr_shard *shard = f->c.shard;
    pr_status st = keys_load(f, i_layer, err);
    if (st == PR_OK) st = keys_keep(f, i_layer, err);
    if (st != PR_OK) return st;
    const pr_attention a = {
        .q = f->qkv, .ldq = f->qkv_width, .k = at(f, f->qkv, f->q_width), .ldk = f->qkv_width,
        .v = at(f, f->qkv, f->q_width + f->kv_width), .ldv = f->qkv_width,
        .query_positions = q->positions, .key_rows = f->slot->key_rows, .spans = q->spans,
        .n_spans = q->n_spans, .n_heads = shard->n_heads, .n_kv_heads = shard->n_kv_heads,
        .head_dim = spec->head_dim, .scale = (float)(1.0 / sqrt((double)spec->head_dim)),
        .causal = spec->causal, .window = spec->window[i_layer], .out = f->att,
        .ldout = f->q_width,
    };
    return f->c.backend->ops->attention(f->c.backend, &a, err);
}

/* Feed-forward of rows of `in` into h, in runs of rows; in may be h. h is on every rank, but after
 * the model's last layer only the pooling rank needs it. */
static pr_status mlp(pr_forward *f, const pr_layer_weights *w, void *in, int64_t n_rows,
                     bool is_last, pr_error *err)
{
    pr_status st = PR_OK;
    for (int64_t row = 0; st == PR_OK && row < n_rows; row += MLP_ROWS_MAX) {
        int64_t n = n_rows - row < MLP_ROWS_MAX ? n_rows - row : MLP_ROWS_MAX;
        const pr_gemm up = {
            .w = w->up, .x = at(f, in, row * f->hidden), .ldx = f->hidden, .n_rows = n,
            .bias = w->up_bias, .activation = f->c.spec->activation, .y = f->mlp,
            .ldy = f->mlp_width,
        };
        st = gemm(f, &up, err);
        if (st == PR_OK) {
            st = row_parallel(f, w->down, w->down_bias, f->mlp, f->mlp_width, n,
                              at(f, f->h, row * f->hidden), is_last, err);
        }
    }
    return st;
}

/* Q, K and V of all rows of `in`, then attention. */
static pr_status attention_all(pr_forward *f, const pr_layer_weights *w, int32_t i_layer,
                               const void *in, int64_t n_rows, pr_error *err)
{
    const pr_shard *shard = f->c.shard;
    const pr_gemm qkv = {.w = w->qkv, .x = in, .ldx = f->hidden, .n_rows = n_rows,
                         .bias = w->qkv_bias, .y = f->qkv, .ldy = f->qkv_width};
    const queries all = {f->slot->positions, f->batch.spans, f->batch.n_spans};
    pr_status st = gemm(f, &qkv, err);
    if (st == PR_OK) {
        st = rope(f, w, f->qkv, n_rows, shard->n_heads, shard->n_kv_heads, f->slot->positions, err);
    }
    if (st == PR_OK) st = attention(f, i_layer, &all, err);
    return st;
}

/* Rows of `from` that the pooler reads, into the spare buffer. */
static pr_status rows_gather(pr_forward *f, const void *from, pr_dtype dtype, int64_t n,
                             pr_error *err)
{
    const pr_gather a = {.x = from, .ldx = f->hidden, .rows = f->slot->rows, .n_rows = n,
                         .dim = f->hidden, .dtype = dtype, .y = f->spare, .ldy = f->hidden};
    return f->c.backend->ops->gather(f->c.backend, &a, err);
}

/* Keeps of x, and of what the last layer's queries are made from, only the rows that the pooler
 * reads, by gathering them into the spare buffer and exchanging the two. */
static pr_status rows_pick(pr_forward *f, const pr_layer_weights *w, int64_t n, pr_error *err)
{
    pr_status st = rows_gather(f, f->x, PR_DTYPE_F32, n, err);
    float *picked = f->spare;
    f->spare = f->x;
    f->x = picked;
    if (st != PR_OK) return st;
    if (!f->c.spec->post_norm) { /* the bits that these rows had */
        return norm_pre(f, w->attention_norm, w->attention_norm_bias, n, err);
    }
    if (!f->is_narrow) return PR_OK;
    st = rows_gather(f, f->h, f->dtype, n, err);
    void *picked_h = f->spare;
    f->spare = f->h;
    f->h = picked_h;
    return st;
}

/* K and V of all rows, Q only of those that the pooler reads; x and h keep just these. */
static pr_status attention_last(pr_forward *f, const pr_layer_weights *w, int32_t i_layer,
                                int64_t n_rows, const pr_pool_plan *pool, pr_error *err)
{
    const pr_shard *shard = f->c.shard;
    bool post = f->c.spec->post_norm;
    const float *kv_bias = w->qkv_bias ? w->qkv_bias + f->q_width : NULL;
    void *k = at(f, f->qkv, f->q_width);
    const pr_gemm kv = {.w = w->kv, .x = post ? input_post(f) : f->h, .ldx = f->hidden,
                        .n_rows = n_rows, .bias = kv_bias, .y = k, .ldy = f->qkv_width};
    pr_status st = gemm(f, &kv, err);
    if (st == PR_OK && pool->n_computed < n_rows) st = rows_pick(f, w, pool->n_computed, err);
    const pr_gemm q = {.w = w->q, .x = post ? input_post(f) : f->h, .ldx = f->hidden,
                       .n_rows = pool->n_computed, .bias = w->qkv_bias, .y = f->qkv,
                       .ldy = f->qkv_width};
    const queries asked = {f->slot->query_positions, f->batch.last_spans, f->batch.n_last_spans};
    if (st == PR_OK) st = gemm(f, &q, err);
    if (st == PR_OK) {
        st = rope(f, w, f->qkv, pool->n_computed, shard->n_heads, 0, f->slot->query_positions, err);
    }
    if (st == PR_OK) st = rope(f, w, k, n_rows, 0, shard->n_kv_heads, f->slot->positions, err);
    if (st == PR_OK) st = attention(f, i_layer, &asked, err);
    return st;
}

/* What follows attention: x and, in att, attention's output in; x and h out. */
static pr_status layer_end(pr_forward *f, const pr_layer_weights *w, int64_t n, bool is_last,
                           pr_error *err)
{
    bool post = f->c.spec->post_norm;
    pr_status st = row_parallel(f, w->o, w->o_bias, f->att, f->q_width, n, f->h, false, err);
    if (st != PR_OK) return st;
    if (!post) {
        f->has_branch = true;
        st = norm_pre(f, w->mlp_norm, w->mlp_norm_bias, n, err);
        if (st == PR_OK) st = mlp(f, w, f->h, n, is_last, err);
        f->has_branch = true;
        return st;
    }
    st = norm_post(f, w->attention_norm, w->attention_norm_bias, n, false, err);
    if (st == PR_OK) st = mlp(f, w, input_post(f), n, is_last, err);
    bool has_sum = !is_last || f->c.shard->is_pooling_rank;
    if (st == PR_OK && has_sum) {
        st = norm_post(f, w->mlp_norm, w->mlp_norm_bias, n, is_last, err);
    }
    return st;
}

/* One layer; x and h [*n_rows] in and out (after the model's last layer fewer rows, and only on the
 * pooling rank). */
static pr_status layer(pr_forward *f, int32_t i_layer, const pr_pool_plan *pool, int64_t *n_rows,
                       pr_error *err)
{
    const pr_layer_weights *w = NULL;
    bool post = f->c.spec->post_norm, is_last = i_layer + 1 == f->c.spec->n_layers;
    if (f->c.n_steps) atomic_fetch_add_explicit(f->c.n_steps, 1, memory_order_relaxed);
    pr_status st = pr_weights_layer(f->c.weights, i_layer - f->c.shard->layer_begin, &w, err);
    if (st == PR_OK && !post) {
        st = norm_pre(f, w->attention_norm, w->attention_norm_bias, *n_rows, err);
    }
    if (st != PR_OK) return st;
    if (!is_last) {
        st = attention_all(f, w, i_layer, post ? input_post(f) : f->h, *n_rows, err);
    } else {
        st = attention_last(f, w, i_layer, *n_rows, pool, err);
        *n_rows = pool->n_computed;
    }
    return st == PR_OK ? layer_end(f, w, *n_rows, is_last, err) : st;
}

/* h = x in 16 bits, for a post-norm model's first block here. */
static pr_status narrow(pr_forward *f, int64_t n_rows, pr_error *err)
{
    if (!f->c.spec->post_norm || !f->is_narrow) return PR_OK;
    const pr_norm_args a = {.x = f->x, .x_dtype = PR_DTYPE_F32, .n_rows = n_rows, .y = f->h,
                            .y_dtype = f->dtype};
    return norm(f, &a, NULL, NULL, err);
}

/* Streamed weights hold the token table's rows in the batch's own order. */
static pr_status tokens_stream(pr_forward *f, const pr_batch_plan *batch, int slot, pr_error *err)
{
    pr_status st = pr_weights_tokens_fetch(f->c.weights, batch->tokens, batch->n_tokens, err);
    if (st != PR_OK) return st;
    return pr_batch_arrays_tokens_count(&f->batch, slot, batch->n_tokens, err);
}

/* Each rank looks up the tokens of its part of the vocabulary, tensor rank 0 adds what belongs to
 * positions and types; x [n_tokens] is their sum, on every rank of the first stage. */
static pr_status embeddings(pr_forward *f, const pr_batch_plan *batch, int slot, pr_error *err)
{
    const pr_weights *w = f->c.weights;
    int64_t n = batch->n_tokens;
    if (w->stream) {
        pr_status fetched = tokens_stream(f, batch, slot, err);
        if (fetched != PR_OK) return fetched;
    }
    const pr_embed a = {
        .token = w->tokens, .token_begin = w->stream ? 0 : f->c.shard->vocab_begin,
        .position = w->positions, .type = w->types, .tokens = f->slot->tokens,
        .positions = w->positions ? f->slot->table_positions : NULL,
        .types = batch->type_ids ? f->slot->types : NULL, .n_rows = n, .y = f->x,
        .ldy = f->hidden,
    };
    pr_status st = f->c.backend->ops->embed(f->c.backend, &a, err);
    if (st == PR_OK) st = pr_comm_all_reduce(f->c.comm, f->x, n * f->hidden, PR_DTYPE_F32, err);
    if (st == PR_OK && w->embed_norm) {
        const pr_norm_args in_place = {.x = f->x, .x_dtype = PR_DTYPE_F32, .n_rows = n, .y = f->x,
                                       .y_dtype = PR_DTYPE_F32};
        st = norm(f, &in_place, w->embed_norm, w->embed_norm_bias, err);
    }
    return st;
}

/* What this rank's layers leave: the next stage's x, or on the pooling rank the hidden states. */
static pr_status stage_end(pr_forward *f, int64_t n_rows, pr_error *err)
{
    pr_comm *comm = f->c.comm;
    const pr_weights *w = f->c.weights;
    bool is_last = comm->stage + 1 == comm->n_stages;
    pr_status st = PR_OK;
    if (f->has_branch && (!is_last || f->c.shard->is_pooling_rank)) {
        bool is_final = is_last && w->final_norm;
        const pr_norm_args add = {.x = f->h, .x_dtype = f->dtype, .residual = f->x,
                                  .n_rows = n_rows, .sum = is_final ? NULL : f->x,
                                  .y = is_final ? f->x : NULL, .y_dtype = PR_DTYPE_F32};
        st = norm(f, &add, is_final ? w->final_norm : NULL, w->final_norm_bias, err);
    }
    f->has_branch = false;
    if (st != PR_OK || is_last) return st;
    return pr_comm_send(comm, f->x, n_rows * f->hidden, PR_DTYPE_F32, comm->stage + 1, err);
}

/* On the pooling rank: behind the hidden states that were computed those that were kept. */
static pr_status hidden_settle(pr_forward *f, const pr_batch_plan *batch, const pr_pool_plan *pool,
                               pr_error *err)
{
    if (!f->store || !f->c.shard->is_pooling_rank) return PR_OK;
    pr_status st = pr_prefix_store_load_hidden(f->store, f->slot->cached_pooled,
                                               pool->n_rows - pool->n_computed,
                                               f->x + pool->n_computed * f->hidden, err);
    if (st != PR_OK) return st;
    return pr_prefix_store_keep_hidden(f->store, batch, f->slot->stored_pooled, f->x, err);
}

pr_status pr_forward_run(pr_forward *f, int slot, const pr_batch_plan *batch,
                         const pr_pool_plan *pool, const float **hidden, pr_error *err)
{
    assert(batch->n_tokens <= f->c.n_rows_max);
    pr_status st = pr_prefix_store_check(f->store, batch, err);
    if (st == PR_OK && batch->n_cached > f->n_cached_max) {
        st = pr_error_set(err, PR_E_ARGUMENT, "%u cached rows, more than %u", batch->n_cached,
                          f->n_cached_max);
    }
    if (st != PR_OK) return st;
    if (!f->c.spec->causal) {
        for (uint32_t i = 0; i < batch->n_segments; i++) assert(batch->segments[i].parent < 0);
    }
    pr_comm *comm = f->c.comm;
    int64_t n_rows = batch->n_tokens, n = n_rows * f->hidden;
    f->plan = batch;
    f->slot = &f->batch.slots[slot];
    f->has_branch = false;
    st = pr_batch_arrays_upload(&f->batch, slot, batch, pool, err);
    if (st != PR_OK) return st;
    if (f->c.shard->is_first_stage) {
        st = embeddings(f, batch, slot, err);
    } else {
        st = pr_comm_recv(comm, f->x, n, PR_DTYPE_F32, comm->stage - 1, err);
    }
    if (st == PR_OK) st = narrow(f, n_rows, err);
    for (int32_t i = f->c.shard->layer_begin; st == PR_OK && i < f->c.shard->layer_end; i++) {
        st = layer(f, i, pool, &n_rows, err);
    }
    if (st == PR_OK) st = stage_end(f, n_rows, err);
    if (st == PR_OK) st = hidden_settle(f, batch, pool, err);
    if (st == PR_OK) *hidden = f->x;
    return st;
}
