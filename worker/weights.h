/* worker/weights.h: the weights of one rank's shard, packed for its backend.
 *
 * Owns device memory and packed matrices of the backend it was loaded with, which must outlive it.
 * Loaded by the rank's compute thread; read-only afterwards. */
#ifndef POOLRANK_WORKER_WEIGHTS_H
#define POOLRANK_WORKER_WEIGHTS_H

#include "kernels/backend.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/model/pooling_spec.h"
#include "runtime/plan/shard_plan.h"

#include <stdatomic.h>

/* A layer's part on this rank. Bias and norm vectors are f32 device memory, NULL: none. Matrices
 * are [n_out, n_in]; h = heads of this rank * head_dim, kv likewise, i = its part of
 * intermediate. */
typedef struct pr_layer_weights {
    pr_matrix *qkv;  /* [h + 2 kv, hidden]; NULL in the model's last layer, which has: */
    pr_matrix *q;    /* [h, hidden], computed for the rows that the pooler reads only */
    pr_matrix *kv;   /* [2 kv, hidden] */
    float *qkv_bias; /* [h + 2 kv] */
    float *q_norm, *k_norm; /* [head_dim] */
    pr_matrix *o;           /* [hidden, h] */
    float *o_bias;          /* [hidden]; tensor rank 0 only */
    pr_matrix *up;          /* [i, hidden], or gated [2 i, hidden]: gate, then up */
    float *up_bias;
    pr_matrix *down;  /* [hidden, i] */
    float *down_bias; /* [hidden]; tensor rank 0 only */
    float *attention_norm, *attention_norm_bias; /* [hidden] */
    float *mlp_norm, *mlp_norm_bias;
} pr_layer_weights;

/* One matrix of a head, kept in f32. */
typedef struct pr_linear {
    pr_matrix *w;
    float *bias; /* NULL: none */
    int32_t n_in, n_out;
    pr_activation activation;
} pr_linear;

enum { PR_LINEARS_MAX = PR_DENSE_MAX + 2 };

typedef struct pr_weights {
    pr_backend *backend; /* borrowed */
    pr_table *tokens;             /* first stage: the shard's part of the vocabulary */
    pr_table *positions, *types;  /* tensor rank 0 of it; NULL where the model has none */
    float *embed_norm, *embed_norm_bias;
    pr_layer_weights *layers; /* [layer_end - layer_begin] */
    int32_t n_layers;
    float *final_norm, *final_norm_bias;
    pr_linear head[PR_LINEARS_MAX]; /* applied in order to pooled rows */
    int32_t n_head;
    uint64_t n_bytes;                 /* of packed matrices and tables in memory */
    struct pr_weights_stream *stream; /* reads the rest when it is asked for; NULL: all is loaded */
} pr_weights;

/* Whether the checkpoint, and those of Dense modules, have every tensor of the model, in its shape
 * and in a dtype that is read; no weight is read for it. Fails PR_E_NOT_FOUND, PR_E_MODEL,
 * PR_E_UNSUPPORTED as pr_weights_load; PR_E_NOMEM. */
pr_status pr_weights_check(const char *folder, pr_checkpoint *checkpoint, const pr_model_spec *spec,
                           const pr_st_files *st_files, pr_error *err);

/* What is loaded, and how. All borrowed for the call. */
typedef struct pr_weights_source {
    const char *folder; /* for the Dense modules of `st`: part of an embedding model's head */
    pr_checkpoint *checkpoint;
    const pr_model_spec *spec;
    const pr_st_files *st;
    const pr_parallel *parallel;
    const pr_shard *shard;
    pr_dtype dtype;                   /* F32 or BF16, of the layers' matrices; heads stay f32 */
    const atomic_bool *is_cancelled;  /* set by another thread: loading ends soon; NULL: never */
    bool is_streamed; /* keep one layer's matrices and a batch's rows of the token table, read again
                         for each batch. checkpoint, spec, parallel, shard and is_cancelled are then
                         borrowed until the weights are freed */
    uint32_t n_rows_max; /* of a batch; for is_streamed */
    atomic_uint_fast64_t *n_steps; /* grows by one for each tensor read; NULL: not counted. Borrowed
                                      as is_cancelled */
} pr_weights_source;

/* Fails PR_E_NOT_FOUND / PR_E_MODEL / PR_E_UNSUPPORTED naming the tensor, what was found and which
 * config field expects otherwise; PR_E_IO; PR_E_NOMEM; PR_E_CANCELLED. */
pr_status pr_weights_load(const pr_weights_source *source, pr_backend *backend, pr_weights **out,
                          pr_error *err);
void pr_weights_free(pr_weights *w);

/* The i-th layer of this rank. *out is valid until the next call. Fails only when the weights are
 * streamed: as pr_checkpoint_read, with the tensor's name. */
pr_status pr_weights_layer(pr_weights *w, int32_t i, const pr_layer_weights **out, pr_error *err);

/* Streamed weights only: row i of w->tokens becomes that of tokens[i], i < n; one that is in
 * another rank's part of the vocabulary is zeros. Fails as above. */
pr_status pr_weights_tokens_fetch(pr_weights *w, const int32_t *tokens, uint32_t n, pr_error *err);

/* Values that a pooled row has after the head: labels, the width of the last Dense, or hidden. */
int32_t pr_weights_width(const pr_weights *w, const pr_model_spec *spec);

#endif
