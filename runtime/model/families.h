/* runtime/model/families.h: the table of model families and architectures. A new family is a row.
 *
 * Constant data; any thread. */
#ifndef POOLRANK_RUNTIME_MODEL_FAMILIES_H
#define POOLRANK_RUNTIME_MODEL_FAMILIES_H

#include "runtime/model/model_spec.h"
#include "runtime/model/weight_rows.h"

/* Values that transformers' configuration class takes where config.json has no such key. */
typedef struct pr_family_defaults {
    double norm_eps;
    const char *hidden_act;
    int32_t max_positions;
    int32_t type_vocab_size; /* 0: the family has no token types */
    int32_t pad_token_id;    /* -1: none */
    int32_t n_kv_heads;      /* 0: as many as query heads */
    int32_t head_dim;        /* 0: hidden_size / num_attention_heads */
    int32_t sliding_window;  /* 0: none */
    int32_t max_window_layers;
} pr_family_defaults;

/* Which config fields a family knows beyond those that all have. */
typedef enum pr_feature {
    PR_FEATURE_QKV_BIAS = 1 << 0,       /* biases on Q, K, V whatever the config says */
    PR_FEATURE_O_BIAS = 1 << 1,         /* likewise on O */
    PR_FEATURE_MLP_BIAS = 1 << 2,       /* likewise on up and down */
    PR_FEATURE_ATTENTION_BIAS = 1 << 3, /* `attention_bias`: Q, K, V and O */
    PR_FEATURE_MLP_BIAS_FIELD = 1 << 4, /* `mlp_bias` */
    PR_FEATURE_WINDOW = 1 << 5,         /* `sliding_window` for every layer */
    PR_FEATURE_WINDOW_LAYERS = 1 << 6,  /* use_sliding_window, max_window_layers, layer_types */
    PR_FEATURE_HEAD_DIM = 1 << 7,       /* `head_dim` */
    PR_FEATURE_KV_HEADS = 1 << 8        /* `num_key_value_heads` */
} pr_feature;

/* What all models of a family share; model_spec.c fills a pr_model_spec from it and the config. */
typedef struct pr_family_row {
    const char *name;             /* "bert" */
    const char *model_type;       /* config.json's model_type: "bert", "xlm-roberta" */
    const char *const *prefixes;  /* weight-name prefixes to try, "" included; NULL-terminated */
    const pr_weight_row *weights; /* names, roles, shapes: weight_rows.h */
    size_t n_weights;
    pr_norm norm;
    pr_position position;
    bool post_norm;
    bool gated;
    bool qk_norm;
    bool causal;
    bool position_from_pad;     /* positions start at pad_token_id + 1 */
    const char *norm_eps_field; /* "layer_norm_eps", "rms_norm_eps" */
    pr_pool pooling;            /* the family's own pooler for an embedding model */
    unsigned features;          /* of pr_feature */
    pr_family_defaults defaults;
} pr_family_row;

/* One name of config.json's `architectures`. */
typedef struct pr_architecture_row {
    const char *name; /* "Qwen2ForRewardModel" */
    pr_family family;
    pr_head head;
} pr_architecture_row;

const pr_family_row *pr_family_describe(pr_family family);
const pr_architecture_row *pr_architecture_find(const char *name); /* NULL when unknown */
/* The base model of a config.json that names no architecture; NULL when unknown. */
const pr_architecture_row *pr_architecture_of_type(const char *model_type);
/* i-th row, NULL past the end: for messages and documents. */
const pr_architecture_row *pr_architecture_at(size_t i);

#endif
