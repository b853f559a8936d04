/* runtime/model/weight_names.h: which tensors a model needs, under which names, with which shapes.
 *
 * Pure: from a pr_model_spec to a list; read by the loader, the shard plan, the memory plan.
 * The list owns its strings. */
#ifndef POOLRANK_RUNTIME_MODEL_WEIGHT_NAMES_H
#define POOLRANK_RUNTIME_MODEL_WEIGHT_NAMES_H

#include "runtime/model/model_spec.h"

typedef enum pr_role {
    PR_ROLE_TOKEN_TABLE,    /* [vocab, hidden] */
    PR_ROLE_POSITION_TABLE, /* [max positions, hidden] */
    PR_ROLE_TYPE_TABLE,     /* [type_vocab, hidden] */
    PR_ROLE_EMBED_NORM,     /* [hidden]; BERT's embeddings.LayerNorm */
    PR_ROLE_EMBED_NORM_BIAS,
    PR_ROLE_ATTENTION_NORM, /* pre-norm: input_layernorm; post-norm: attention.output.LayerNorm */
    PR_ROLE_ATTENTION_NORM_BIAS,
    PR_ROLE_Q, /* [n_heads * head_dim, hidden] */
    PR_ROLE_Q_BIAS,
    PR_ROLE_K, /* [n_kv_heads * head_dim, hidden] */
    PR_ROLE_K_BIAS,
    PR_ROLE_V,
    PR_ROLE_V_BIAS,
    PR_ROLE_Q_NORM, /* [head_dim] */
    PR_ROLE_K_NORM,
    PR_ROLE_O, /* [hidden, n_heads * head_dim] */
    PR_ROLE_O_BIAS,
    PR_ROLE_MLP_NORM, /* pre-norm: post_attention_layernorm; post-norm: output.LayerNorm */
    PR_ROLE_MLP_NORM_BIAS,
    PR_ROLE_GATE, /* [intermediate, hidden]; gated models only */
    PR_ROLE_GATE_BIAS,
    PR_ROLE_UP, /* [intermediate, hidden]; BERT's intermediate.dense */
    PR_ROLE_UP_BIAS,
    PR_ROLE_DOWN, /* [hidden, intermediate] */
    PR_ROLE_DOWN_BIAS,
    PR_ROLE_FINAL_NORM, /* [hidden]; decoders */
    PR_ROLE_FINAL_NORM_BIAS,
    PR_ROLE_HEAD_DENSE, /* first matrix of a two-matrix head: pooler.dense, classifier.dense,
                           score.0 */
    PR_ROLE_HEAD_DENSE_BIAS,
    PR_ROLE_HEAD_OUT, /* last matrix of a head: score, classifier, out_proj, score.2 */
    PR_ROLE_HEAD_OUT_BIAS,
    PR_ROLE_COUNT
} pr_role;

/* How tensor parallelism cuts it (Shoeybi et al. 2019, arXiv:1909.08053). */
typedef enum pr_partition {
    PR_PARTITION_REPLICATED, /* every rank holds it whole */
    PR_PARTITION_HEADS,      /* rows by query heads */
    PR_PARTITION_KV_HEADS, /* rows by KV heads, replicated evenly when there are fewer than ranks */
    PR_PARTITION_COLUMN,   /* column-parallel: rows of [out, in] (intermediate) */
    PR_PARTITION_ROW_HEADS, /* row-parallel: columns of [out, in] by query heads (O) */
    PR_PARTITION_ROW,       /* row-parallel: columns of [out, in] (down) */
    PR_PARTITION_VOCAB,     /* rows by vocabulary */
    PR_PARTITION_FIRST,     /* whole, on tensor rank 0 only: what is added once to a sum over ranks
                               (biases of row-parallel projections, position and type tables) */
    PR_PARTITION_POOLING    /* whole, on the pooling rank only (heads, final norm) */
} pr_partition;

typedef struct pr_weight {
    pr_role role;
    int32_t i_layer;  /* -1: not of a layer */
    const char *name; /* without prefix: "layers.3.mlp.down_proj.weight" */
    bool has_prefix;  /* the family's prefixes apply; heads: name is whole */
    bool optional;    /* a bias that the checkpoint may lack (score.bias) */
    int n_dims;
    int64_t shape[2];
    const char *shape_from[2]; /* config fields that say so: "hidden_size", "num_attention_heads *
                                  head_dim" */
    pr_partition partition;
} pr_weight;

typedef struct pr_weight_list pr_weight_list;

/* In checkpoint order: tables, layers, final norm, head. *out owned (pr_weight_list_free).
 * Fails PR_E_NOMEM. */
pr_status pr_weight_list_build(const pr_model_spec *spec, pr_weight_list **out, pr_error *err);
void pr_weight_list_free(pr_weight_list *list);
size_t pr_weight_list_count(const pr_weight_list *list);
const pr_weight *pr_weight_list_at(const pr_weight_list *list, size_t i);

/* The entry of a role in a layer (-1: of none); NULL when the model has none. */
const pr_weight *pr_weight_list_find(const pr_weight_list *list, pr_role role, int32_t i_layer);

/* The prefixes to try in front of names with has_prefix, "" included; NULL-terminated. */
const char *const *pr_weight_prefixes(const pr_model_spec *spec);

/* Names that some checkpoints use for the same tensor (LayerNorm.gamma / .beta for .weight /
 * .bias); writes the alternative to alt, false when there is none. */
bool pr_weight_name_alternative(const char *name, char *alt, size_t alt_bytes);

#endif
