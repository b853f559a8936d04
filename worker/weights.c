#include "worker/weights.h"

#include "worker/read_ahead.h"
#include "worker/weights_unread.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct loader {
    pr_checkpoint *checkpoint;
    const pr_model_spec *spec;
    const pr_parallel *parallel;
    const pr_shard *shard;
    pr_dtype dtype;
    pr_backend *backend;
    pr_weight_list *list;
    const char *const *prefixes;
    pr_read_ahead *reader;
    const atomic_bool *is_cancelled; /* NULL: never */
    atomic_uint_fast64_t *n_steps;   /* NULL: not counted */
    pr_weights *out;
} loader;

/* ---- finding a tensor and checking it ---- */

static const pr_tensor *tensor_find(const loader *l, const pr_weight *w)
{
    static const char *const whole[] = {"", NULL};
    const char *const *prefixes = w->has_prefix ? l->prefixes : whole;
    char name[512], alternative[512];
    for (int i = 0; prefixes[i]; i++) {
        snprintf(name, sizeof name, "%s%s", prefixes[i], w->name);
        const pr_tensor *t = pr_checkpoint_find(l->checkpoint, name);
        if (!t && pr_weight_name_alternative(name, alternative, sizeof alternative)) {
            t = pr_checkpoint_find(l->checkpoint, alternative);
        }
        if (t) return t;
    }
    return NULL;
}

static void shape_print(const int64_t *shape, int n_dims, char *out, size_t n_out)
{
    size_t at = 0;
    out[0] = '\0';
    for (int i = 0; i < n_dims && at < n_out; i++) {
        at += (size_t)snprintf(out + at, n_out - at, "%s%lld", i ? ", " : "", (long long)shape[i]);
    }
}

static pr_status expected(const pr_weight *w, pr_status st, const char *name, const char *found,
                          pr_error *err)
{
    char shape[64];
    shape_print(w->shape, w->n_dims, shape, sizeof shape);
    return pr_error_set(err, st, "tensor %s: %s, expected [%s] (%s%s%s)", name, found, shape,
                        w->shape_from[0], w->n_dims > 1 ? ", " : "",
                        w->n_dims > 1 ? w->shape_from[1] : "");
}

/* *out NULL when an optional tensor is not there. */
static pr_status tensor_check(const loader *l, const pr_weight *w, const pr_tensor **out,
                              pr_error *err)
{
    const pr_tensor *t = tensor_find(l, w);
    *out = t;
    if (!t && w->optional) return PR_OK;
    if (!t) return expected(w, PR_E_MODEL, w->name, "not in the checkpoint", err);
    if (t->n_dims != w->n_dims || t->shape[0] != w->shape[0] ||
        (w->n_dims == 2 && t->shape[1] != w->shape[1])) {
        char shape[192], found[224];
        shape_print(t->shape, t->n_dims, shape, sizeof shape);
        snprintf(found, sizeof found, "shape [%s]", shape);
        return expected(w, PR_E_MODEL, t->name, found, err);
    }
    if (t->dtype != PR_DTYPE_F32 && t->dtype != PR_DTYPE_F16 && t->dtype != PR_DTYPE_BF16) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "tensor %s: dtype %s, expected F32, F16 or BF16", t->name,
                            pr_dtype_safetensors(t->dtype));
    }
    return PR_OK;
}

static pr_status tensors_check(const loader *l, pr_error *err)
{
    pr_status st = PR_OK;
    for (size_t i = 0; st == PR_OK && i < pr_weight_list_count(l->list); i++) {
        const pr_tensor *t = NULL;
        st = tensor_check(l, pr_weight_list_at(l->list, i), &t, err);
    }
    return st;
}

/* Tensors that are missing, wrong or not read, before any is loaded. Weights under a known name
 * that are another model's are both: what is missing, and what is there instead. */
static pr_status names_check(const loader *l, pr_error *err)
{
    pr_error unread = {0};
    pr_status st = tensors_check(l, err);
    if (st == PR_OK) return pr_weights_unread_check(l->checkpoint, l->spec, l->list, err);
    if (st != PR_E_MODEL || !err) return st;
    if (pr_weights_unread_check(l->checkpoint, l->spec, l->list, &unread) != PR_E_UNSUPPORTED) {
        return st;
    }
    pr_error missing = *err;
    return pr_error_set(err, st, "%.400s; %.500s", missing.message, unread.message);
}

static pr_rectangle rectangle_of(const loader *l, const pr_weight *w)
{
    return pr_shard_rectangle(l->spec, l->parallel, l->shard, w);
}

static bool rectangle_is_empty(const pr_rectangle *r)
{
    return r->row_end <= r->row_begin || r->column_end <= r->column_begin;
}

/* ---- reading ---- */

static void step_count(const loader *l)
{
    if (l->n_steps) atomic_fetch_add_explicit(l->n_steps, 1, memory_order_relaxed);
}

/* The rectangle's rows to the sink; row 0 there is the rectangle's first. */
static pr_status rows_read(loader *l, const pr_tensor *t, const pr_rectangle *r, pr_rows_sink sink,
                           void *context, pr_error *err)
{
    if (l->is_cancelled && atomic_load(l->is_cancelled)) {
        return pr_error_set(err, PR_E_CANCELLED, "loading was given up at tensor %s", t->name);
    }
    step_count(l);
    return pr_read_ahead_rows(l->reader, l->checkpoint, t, r, sink, context, err);
}

typedef struct matrix_sink_context {
    pr_backend *backend;
    pr_matrix *matrix;
    int64_t row_begin;
} matrix_sink_context;

static pr_status matrix_sink(void *context, int64_t row, int64_t n_rows, const void *src,
                             pr_dtype src_dtype, pr_error *err)
{
    matrix_sink_context *c = context;
    return c->backend->ops->matrix_write(c->backend, c->matrix, c->row_begin + row, n_rows, src,
                                         src_dtype, err);
}

typedef struct table_sink_context {
    pr_backend *backend;
    pr_table *table;
} table_sink_context;

static pr_status table_sink(void *context, int64_t row, int64_t n_rows, const void *src,
                            pr_dtype src_dtype, pr_error *err)
{
    table_sink_context *c = context;
    return c->backend->ops->table_write(c->backend, c->table, row, n_rows, src, src_dtype, err);
}

/* Reads elements begin .. end - 1 of a 1-D tensor into f32 device memory. A 1-D tensor is one row
 * for the checkpoint: its elements are columns there. Vectors are short: they are read at once. */
static pr_status vector_read(loader *l, const pr_tensor *t, int64_t begin, int64_t end, float *dst,
                             pr_error *err)
{
    size_t n = (size_t)(end - begin);
    void *src = malloc(n * pr_dtype_bytes(t->dtype));
    float *f32 = malloc(n * sizeof *f32);
    pr_status st = PR_OK;
    step_count(l);
    if (!src || !f32) {
        st = pr_error_nomem(err, t->name, n * sizeof *f32);
        goto cleanup;
    }
    st = pr_checkpoint_read(l->checkpoint, t, 0, 1, begin, end, src, err);
    if (st != PR_OK) goto cleanup;
    pr_dtype_to_f32(src, t->dtype, n, f32);
    st = l->backend->ops->upload(l->backend, dst, f32, n * sizeof *f32, err);
cleanup:
    free(src);
    free(f32);
    return st;
}

/* ---- loading one matrix, table or vector ---- */

/* What holds all values of the tensors: 16 bits where all of them have the same 16 bits, and
 * `dtype` asks for more. A tensor that is not there is refused where it is read. */
static pr_dtype source_dtype(loader *l, pr_dtype dtype, const pr_role *roles, int n_roles,
                             int32_t i_layer)
{
    if (dtype != PR_DTYPE_F32) return dtype;
    for (int i = 0; i < n_roles; i++) {
        const pr_tensor *t = tensor_find(l, pr_weight_list_find(l->list, roles[i], i_layer));
        if (!t || (t->dtype != PR_DTYPE_BF16 && t->dtype != PR_DTYPE_F16)) return PR_DTYPE_F32;
        if (i > 0 && t->dtype != dtype) return PR_DTYPE_F32;
        dtype = t->dtype;
    }
    return dtype;
}

/* Concatenates the rows of several tensors (Q, K, V; gate, up), which share n_in. A matrix that is
 * there already, of another layer, is written over. */
static pr_status matrix_load(loader *l, pr_matrix_kind kind, pr_dtype dtype, const pr_role *roles,
                             int n_roles, int32_t i_layer, pr_matrix **out, pr_error *err)
{
    pr_backend *b = l->backend;
    int64_t n_out = 0, n_in = 0;
    if (b->keeps_source_dtype) dtype = source_dtype(l, dtype, roles, n_roles, i_layer);
    for (int i = 0; i < n_roles; i++) {
        const pr_weight *w = pr_weight_list_find(l->list, roles[i], i_layer);
        assert(w);
        pr_rectangle r = rectangle_of(l, w);
        if (rectangle_is_empty(&r)) return PR_OK; /* another rank's */
        n_out += r.row_end - r.row_begin;
        n_in = r.column_end - r.column_begin;
    }
    pr_status st = PR_OK;
    if (!*out) {
        st = b->ops->matrix_create(b, kind, n_out, n_in, dtype, out, err);
        if (st == PR_OK) l->out->n_bytes += b->ops->matrix_bytes(*out);
    }
    int64_t at = 0;
    for (int i = 0; st == PR_OK && i < n_roles; i++) {
        const pr_weight *w = pr_weight_list_find(l->list, roles[i], i_layer);
        pr_rectangle r = rectangle_of(l, w);
        const pr_tensor *t = NULL;
        st = tensor_check(l, w, &t, err);
        matrix_sink_context c = {b, *out, at};
        if (st == PR_OK) st = rows_read(l, t, &r, matrix_sink, &c, err);
        at += r.row_end - r.row_begin;
    }
    return st;
}

/* A bf16 table is exact as it is: a lookup widens it. */
static pr_dtype table_dtype(const loader *l, const pr_tensor *t)
{
    return t->dtype == PR_DTYPE_BF16 ? PR_DTYPE_BF16 : l->dtype;
}

static pr_status table_load(loader *l, pr_role role, pr_table **out, pr_error *err)
{
    const pr_weight *w = pr_weight_list_find(l->list, role, -1);
    if (!w) return PR_OK;
    pr_rectangle r = rectangle_of(l, w);
    if (rectangle_is_empty(&r)) return PR_OK;
    const pr_tensor *t = NULL;
    pr_status st = tensor_check(l, w, &t, err);
    if (st != PR_OK) return st;
    pr_backend *b = l->backend;
    st = b->ops->table_create(b, r.row_end - r.row_begin, r.column_end - r.column_begin,
                              table_dtype(l, t), out, err);
    table_sink_context c = {b, *out};
    if (st == PR_OK) st = rows_read(l, t, &r, table_sink, &c, err);
    if (st == PR_OK) l->out->n_bytes += b->ops->table_bytes(*out);
    return st;
}

/* Concatenates vectors; *out stays NULL when the model has none of the first role, or an optional
 * one is not in the checkpoint, or the rank holds nothing of it. */
static pr_status vector_load(loader *l, const pr_role *roles, int n_roles, int32_t i_layer,
                             float **out, pr_error *err)
{
    pr_backend *b = l->backend;
    int64_t n = 0;
    for (int i = 0; i < n_roles; i++) {
        const pr_weight *w = pr_weight_list_find(l->list, roles[i], i_layer);
        if (!w) return PR_OK;
        pr_rectangle r = rectangle_of(l, w);
        if (rectangle_is_empty(&r)) return PR_OK;
        if (w->optional && !tensor_find(l, w)) return PR_OK;
        n += r.row_end - r.row_begin;
    }
    pr_status st = b->ops->alloc(b, (size_t)n * sizeof(float), (void **)out, err);
    int64_t at = 0;
    for (int i = 0; st == PR_OK && i < n_roles; i++) {
        const pr_weight *w = pr_weight_list_find(l->list, roles[i], i_layer);
        pr_rectangle r = rectangle_of(l, w);
        const pr_tensor *t = NULL;
        st = tensor_check(l, w, &t, err);
        if (st == PR_OK) st = vector_read(l, t, r.row_begin, r.row_end, *out + at, err);
        at += r.row_end - r.row_begin;
    }
    return st;
}

static pr_status vector_load1(loader *l, pr_role role, int32_t i_layer, float **out, pr_error *err)
{
    return vector_load(l, &role, 1, i_layer, out, err);
}

/* ---- loading the model ---- */

static pr_status matrices_load(loader *l, int32_t i, pr_layer_weights *w, pr_error *err)
{
    static const pr_role qkv[] = {PR_ROLE_Q, PR_ROLE_K, PR_ROLE_V};
    static const pr_role o[] = {PR_ROLE_O};
    static const pr_role up[] = {PR_ROLE_GATE, PR_ROLE_UP};
    static const pr_role down[] = {PR_ROLE_DOWN};
    int skip = l->spec->gated ? 0 : 1;
    pr_matrix_kind kind = l->spec->gated ? PR_MATRIX_GATED : PR_MATRIX_PLAIN;
    pr_status st;
    if (i + 1 < l->spec->n_layers) {
        st = matrix_load(l, PR_MATRIX_PLAIN, l->dtype, qkv, 3, i, &w->qkv, err);
    } else {
        st = matrix_load(l, PR_MATRIX_PLAIN, l->dtype, qkv, 1, i, &w->q, err);
        if (st == PR_OK) st = matrix_load(l, PR_MATRIX_PLAIN, l->dtype, qkv + 1, 2, i, &w->kv, err);
    }
    if (st == PR_OK) st = matrix_load(l, PR_MATRIX_PLAIN, l->dtype, o, 1, i, &w->o, err);
    if (st == PR_OK) st = matrix_load(l, kind, l->dtype, up + skip, 2 - skip, i, &w->up, err);
    if (st == PR_OK) st = matrix_load(l, PR_MATRIX_PLAIN, l->dtype, down, 1, i, &w->down, err);
    return st;
}

static pr_status vectors_load(loader *l, int32_t i, pr_layer_weights *w, pr_error *err)
{
    static const pr_role qkv[] = {PR_ROLE_Q_BIAS, PR_ROLE_K_BIAS, PR_ROLE_V_BIAS};
    static const pr_role up[] = {PR_ROLE_GATE_BIAS, PR_ROLE_UP_BIAS};
    const struct {
        pr_role role;
        float **out;
    } single[] = {
        {PR_ROLE_Q_NORM, &w->q_norm},
        {PR_ROLE_K_NORM, &w->k_norm},
        {PR_ROLE_O_BIAS, &w->o_bias},
        {PR_ROLE_ATTENTION_NORM, &w->attention_norm},
        {PR_ROLE_ATTENTION_NORM_BIAS, &w->attention_norm_bias},
        {PR_ROLE_DOWN_BIAS, &w->down_bias},
        {PR_ROLE_MLP_NORM, &w->mlp_norm},
        {PR_ROLE_MLP_NORM_BIAS, &w->mlp_norm_bias},
    };
    int skip = l->spec->gated ? 0 : 1;
    pr_status st = vector_load(l, qkv, 3, i, &w->qkv_bias, err);
    if (st == PR_OK) st = vector_load(l, up + skip, 2 - skip, i, &w->up_bias, err);
    for (size_t k = 0; st == PR_OK && k < sizeof single / sizeof *single; k++) {
        st = vector_load1(l, single[k].role, i, single[k].out, err);
    }
    return st;
}

static pr_status layers_load(loader *l, bool is_streamed, pr_error *err)
{
    int32_t n = l->shard->layer_end - l->shard->layer_begin;
    l->out->layers = calloc((size_t)n + 1, sizeof *l->out->layers);
    if (!l->out->layers) return pr_error_nomem(err, "layers", (size_t)n);
    l->out->n_layers = n;
    pr_status st = PR_OK;
    for (int32_t i = 0; st == PR_OK && i < n; i++) {
        int32_t i_layer = l->shard->layer_begin + i;
        if (!is_streamed) st = matrices_load(l, i_layer, &l->out->layers[i], err);
        if (st == PR_OK) st = vectors_load(l, i_layer, &l->out->layers[i], err);
    }
    return st;
}

static pr_status embeddings_load(loader *l, bool is_streamed, pr_error *err)
{
    pr_weights *w = l->out;
    if (!l->shard->is_first_stage) return PR_OK;
    pr_status st = is_streamed ? PR_OK : table_load(l, PR_ROLE_TOKEN_TABLE, &w->tokens, err);
    if (st == PR_OK) st = table_load(l, PR_ROLE_POSITION_TABLE, &w->positions, err);
    if (st == PR_OK) st = table_load(l, PR_ROLE_TYPE_TABLE, &w->types, err);
    if (st == PR_OK) st = vector_load1(l, PR_ROLE_EMBED_NORM, -1, &w->embed_norm, err);
    if (st == PR_OK) st = vector_load1(l, PR_ROLE_EMBED_NORM_BIAS, -1, &w->embed_norm_bias, err);
    return st;
}

/* ---- heads ---- */

static pr_activation dense_activation(pr_head head)
{
    bool is_reward = head == PR_HEAD_REWARD || head == PR_HEAD_PROCESS_REWARD;
    return is_reward ? PR_ACTIVATION_RELU : PR_ACTIVATION_TANH;
}

static pr_status linear_load(loader *l, pr_role role, pr_role bias, pr_activation activation,
                             pr_error *err)
{
    const pr_weight *w = pr_weight_list_find(l->list, role, -1);
    if (!w) return PR_OK;
    pr_linear *linear = &l->out->head[l->out->n_head++];
    *linear = (pr_linear){.n_out = (int32_t)w->shape[0], .n_in = (int32_t)w->shape[1],
                          .activation = activation};
    pr_status st = matrix_load(l, PR_MATRIX_PLAIN, PR_DTYPE_F32, &role, 1, -1, &linear->w, err);
    if (st == PR_OK) st = vector_load1(l, bias, -1, &linear->bias, err);
    return st;
}

static pr_status head_load(loader *l, pr_error *err)
{
    pr_weights *w = l->out;
    if (!l->shard->is_pooling_rank) return PR_OK;
    pr_status st = vector_load1(l, PR_ROLE_FINAL_NORM, -1, &w->final_norm, err);
    if (st == PR_OK) st = vector_load1(l, PR_ROLE_FINAL_NORM_BIAS, -1, &w->final_norm_bias, err);
    if (st == PR_OK) {
        st = linear_load(l, PR_ROLE_HEAD_DENSE, PR_ROLE_HEAD_DENSE_BIAS,
                         dense_activation(l->spec->head), err);
    }
    if (st == PR_OK) {
        st = linear_load(l, PR_ROLE_HEAD_OUT, PR_ROLE_HEAD_OUT_BIAS, PR_ACTIVATION_NONE, err);
    }
    return st;
}

/* A Dense module is two weights in a small checkpoint of its own. *bias stays NULL without one. */
static pr_status dense_check(const loader *l, const pr_dense *d, const pr_tensor **out,
                             const pr_tensor **bias, pr_error *err)
{
    const pr_weight weights[] = {
        {.name = "linear.weight", .n_dims = 2, .shape = {d->n_out, d->n_in},
         .shape_from = {"out_features", "in_features"}},
        {.name = "linear.bias", .n_dims = 1, .shape = {d->n_out, 0},
         .shape_from = {"out_features", NULL}},
    };
    pr_status st = tensor_check(l, &weights[0], out, err);
    return st == PR_OK && d->bias ? tensor_check(l, &weights[1], bias, err) : st;
}

static pr_status dense_open(const char *folder, const pr_dense *d, pr_checkpoint **out,
                            pr_error *err)
{
    char relative[sizeof d->path + 32];
    snprintf(relative, sizeof relative, "%s/model.safetensors", d->path);
    return pr_checkpoint_open_file(folder, relative, out, err);
}

static pr_status dense_read(loader *l, pr_checkpoint *file, const pr_dense *d, pr_linear *linear,
                            pr_error *err)
{
    pr_backend *b = l->backend;
    pr_checkpoint *model = l->checkpoint;
    l->checkpoint = file; /* dense_check and rows_read look here */
    const pr_tensor *t = NULL, *bias = NULL;
    pr_status st = dense_check(l, d, &t, &bias, err);
    if (st == PR_OK) {
        st = b->ops->matrix_create(b, PR_MATRIX_PLAIN, d->n_out, d->n_in, PR_DTYPE_F32,
                                   &linear->w, err);
    }
    pr_rectangle all = {0, d->n_out, 0, d->n_in};
    matrix_sink_context c = {b, linear->w, 0};
    if (st == PR_OK) st = rows_read(l, t, &all, matrix_sink, &c, err);
    if (st == PR_OK && bias) {
        st = b->ops->alloc(b, (size_t)d->n_out * sizeof(float), (void **)&linear->bias, err);
        if (st == PR_OK) st = vector_read(l, bias, 0, d->n_out, linear->bias, err);
    }
    l->checkpoint = model;
    return st;
}

static pr_status dense_load(loader *l, const char *folder, const pr_st_files *st_files,
                            pr_error *err)
{
    pr_weights *w = l->out;
    if (!l->shard->is_pooling_rank || l->spec->head != PR_HEAD_NONE) return PR_OK;
    int32_t width = l->spec->hidden_size;
    for (int32_t i = 0; i < st_files->n_dense; i++) {
        const pr_dense *d = &st_files->dense[i];
        if (d->n_in != width) {
            return pr_error_set(err, PR_E_MODEL, "%s/config.json: in_features %d, expected %d",
                                d->path, d->n_in, width);
        }
        width = d->n_out;
        pr_checkpoint *file = NULL;
        pr_status st = dense_open(folder, d, &file, err);
        if (st != PR_OK) return st;
        pr_linear *linear = &w->head[w->n_head++];
        *linear = (pr_linear){.n_in = d->n_in, .n_out = d->n_out, .activation = d->activation};
        st = dense_read(l, file, d, linear, err);
        pr_checkpoint_close(file);
        if (st != PR_OK) return pr_error_context(err, st, "%s/model.safetensors", d->path);
    }
    return PR_OK;
}

pr_status pr_weights_check(const char *folder, pr_checkpoint *checkpoint, const pr_model_spec *spec,
                           const pr_st_files *st_files, pr_error *err)
{
    loader l = {.checkpoint = checkpoint, .spec = spec, .prefixes = pr_weight_prefixes(spec)};
    const pr_tensor *t = NULL;
    pr_status st = pr_weight_list_build(spec, &l.list, err);
    if (st == PR_OK) st = names_check(&l, err);
    pr_weight_list_free(l.list);
    int32_t n_dense = spec->head == PR_HEAD_NONE ? st_files->n_dense : 0;
    for (int32_t i = 0; st == PR_OK && i < n_dense; i++) {
        const pr_dense *d = &st_files->dense[i];
        pr_checkpoint *file = NULL;
        if ((st = dense_open(folder, d, &file, err)) != PR_OK) return st;
        l.checkpoint = file;
        st = dense_check(&l, d, &t, &t, err);
        pr_checkpoint_close(file);
        if (st != PR_OK) pr_error_context(err, st, "%s/model.safetensors", d->path);
    }
    return st;
}

/* ---- streaming: one layer's matrices, and a batch's rows of the token table ---- */

typedef struct pr_weights_stream pr_weights_stream;
struct pr_weights_stream {
    loader l;
    const pr_tensor *tokens; /* the token table; NULL: of another stage */
    pr_rectangle tokens_rectangle;
    void *token_rows; /* [n_rows_max, hidden] in the checkpoint's dtype */
    pr_layer_weights matrices; /* of the layer that was asked for last; owned */
    pr_layer_weights current;  /* these and its vectors; borrowed */
};

static pr_status stream_tokens_create(pr_weights_stream *s, uint32_t n_rows_max, pr_error *err)
{
    loader *l = &s->l;
    pr_backend *b = l->backend;
    if (!l->shard->is_first_stage) return PR_OK;
    const pr_weight *w = pr_weight_list_find(l->list, PR_ROLE_TOKEN_TABLE, -1);
    pr_status st = tensor_check(l, w, &s->tokens, err);
    if (st != PR_OK) return st;
    s->tokens_rectangle = rectangle_of(l, w);
    int64_t dim = s->tokens_rectangle.column_end - s->tokens_rectangle.column_begin;
    size_t n_bytes = (size_t)n_rows_max * (size_t)dim * pr_dtype_bytes(s->tokens->dtype);
    s->token_rows = malloc(n_bytes);
    if (!s->token_rows) return pr_error_nomem(err, "rows of the token table", n_bytes);
    st = b->ops->table_create(b, n_rows_max, dim, table_dtype(l, s->tokens), &l->out->tokens, err);
    if (st == PR_OK) l->out->n_bytes += b->ops->table_bytes(l->out->tokens);
    return st;
}

pr_status pr_weights_tokens_fetch(pr_weights *w, const int32_t *tokens, uint32_t n, pr_error *err)
{
    pr_weights_stream *s = w->stream;
    const pr_rectangle *r = &s->tokens_rectangle;
    size_t row_bytes = (size_t)(r->column_end - r->column_begin) * pr_dtype_bytes(s->tokens->dtype);
    step_count(&s->l);
    for (uint32_t i = 0; i < n; i++) {
        int64_t row = tokens[i];
        char *dst = (char *)s->token_rows + i * row_bytes;
        if (row < r->row_begin || row >= r->row_end) {
            memset(dst, 0, row_bytes);
            continue;
        }
        pr_status st = pr_checkpoint_read(s->l.checkpoint, s->tokens, row, row + 1,
                                          r->column_begin, r->column_end, dst, err);
        if (st != PR_OK) return st;
    }
    return w->backend->ops->table_write(w->backend, w->tokens, 0, n, s->token_rows,
                                        s->tokens->dtype, err);
}

pr_status pr_weights_layer(pr_weights *w, int32_t i, const pr_layer_weights **out, pr_error *err)
{
    assert(i >= 0 && i < w->n_layers);
    pr_weights_stream *s = w->stream;
    *out = &w->layers[i];
    if (!s) return PR_OK;
    pr_status st = matrices_load(&s->l, s->l.shard->layer_begin + i, &s->matrices, err);
    if (st != PR_OK) return st;
    bool is_last = s->l.shard->layer_begin + i + 1 == s->l.spec->n_layers;
    s->current = w->layers[i];
    s->current.qkv = is_last ? NULL : s->matrices.qkv;
    s->current.q = s->matrices.q;
    s->current.kv = s->matrices.kv;
    s->current.o = s->matrices.o;
    s->current.up = s->matrices.up;
    s->current.down = s->matrices.down;
    *out = &s->current;
    return PR_OK;
}

static void loader_deinit(loader *l)
{
    pr_weight_list_free(l->list);
    pr_read_ahead_free(l->reader);
}

static void layer_free(pr_backend *b, pr_layer_weights *w)
{
    pr_matrix *matrices[] = {w->qkv, w->q, w->kv, w->o, w->up, w->down};
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++) {
        b->ops->matrix_free(b, matrices[i]);
    }
    float *vectors[] = {w->qkv_bias,  w->q_norm,         w->k_norm,
                        w->o_bias,    w->up_bias,        w->down_bias,
                        w->mlp_norm,  w->mlp_norm_bias,  w->attention_norm,
                        w->attention_norm_bias};
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) b->ops->free(b, vectors[i]);
}

static void stream_free(pr_weights_stream *s)
{
    if (!s) return;
    layer_free(s->l.backend, &s->matrices);
    free(s->token_rows);
    loader_deinit(&s->l);
    free(s);
}

/* The loader, and the list and the thread that it owns, become the stream's. */
static pr_status stream_create(loader *l, uint32_t n_rows_max, pr_error *err)
{
    pr_weights_stream *s = calloc(1, sizeof *s);
    if (!s) return pr_error_nomem(err, "stream of weights", sizeof *s);
    s->l = *l;
    l->list = NULL;
    l->reader = NULL;
    l->out->stream = s;
    return stream_tokens_create(s, n_rows_max, err);
}

pr_status pr_weights_load(const pr_weights_source *source, pr_backend *backend, pr_weights **out,
                          pr_error *err)
{
    assert(source->dtype == PR_DTYPE_F32 || source->dtype == PR_DTYPE_BF16 ||
           source->dtype == PR_DTYPE_F16);
    bool is_streamed = source->is_streamed;
    loader l = {.checkpoint = source->checkpoint, .spec = source->spec,
                .parallel = source->parallel, .shard = source->shard, .dtype = source->dtype,
                .backend = backend, .prefixes = pr_weight_prefixes(source->spec),
                .is_cancelled = source->is_cancelled, .n_steps = source->n_steps};
    pr_status st = PR_OK;
    l.out = calloc(1, sizeof *l.out);
    if (!l.out) {
        st = pr_error_nomem(err, "weights", sizeof *l.out);
        goto cleanup;
    }
    l.out->backend = backend;
    st = pr_read_ahead_create(backend, &l.reader, err);
    if (st == PR_OK) st = pr_weight_list_build(source->spec, &l.list, err);
    if (st == PR_OK) st = names_check(&l, err);
    if (st == PR_OK) st = embeddings_load(&l, is_streamed, err);
    if (st == PR_OK) st = layers_load(&l, is_streamed, err);
    if (st == PR_OK) st = head_load(&l, err);
    if (st == PR_OK) st = dense_load(&l, source->folder, source->st, err);
    if (st == PR_OK && is_streamed) st = stream_create(&l, source->n_rows_max, err);
    if (st != PR_OK) goto cleanup;
    *out = l.out;
    l.out = NULL;
cleanup:
    pr_weights_free(l.out);
    loader_deinit(&l);
    return st;
}

void pr_weights_free(pr_weights *w)
{
    if (!w) return;
    pr_backend *b = w->backend;
    for (int32_t i = 0; i < w->n_layers; i++) layer_free(b, &w->layers[i]);
    free(w->layers);
    stream_free(w->stream);
    for (int32_t i = 0; i < w->n_head; i++) {
        b->ops->matrix_free(b, w->head[i].w);
        b->ops->free(b, w->head[i].bias);
    }
    b->ops->table_free(b, w->tokens);
    b->ops->table_free(b, w->positions);
    b->ops->table_free(b, w->types);
    float *vectors[] = {w->embed_norm, w->embed_norm_bias, w->final_norm, w->final_norm_bias};
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) b->ops->free(b, vectors[i]);
    free(w);
}

int32_t pr_weights_width(const pr_weights *w, const pr_model_spec *spec)
{
    return w->n_head > 0 ? w->head[w->n_head - 1].n_out : spec->hidden_size;
}
