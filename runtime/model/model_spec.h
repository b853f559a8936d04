/* runtime/model/model_spec.h: everything about a model that follows from its config.json: family,
 * shapes, attention, positions, head. Plain data.
 *
 * Owns its label strings (pr_model_spec_deinit). Read by everybody; written only here, by one
 * thread, at start. */
#ifndef POOLRANK_RUNTIME_MODEL_MODEL_SPEC_H
#define POOLRANK_RUNTIME_MODEL_MODEL_SPEC_H

#include "runtime/base/dtype.h"
#include "runtime/base/status.h"

#include <jansson.h>
#include <stdint.h>

typedef enum pr_family {
    PR_FAMILY_BERT,
    PR_FAMILY_ROBERTA,
    PR_FAMILY_XLM_ROBERTA,
    PR_FAMILY_QWEN2,
    PR_FAMILY_QWEN3,
    PR_FAMILY_LLAMA,
    PR_FAMILY_MISTRAL,
    PR_FAMILY_COUNT
} pr_family;

/* What stands on top of the transformer. */
typedef enum pr_head {
    PR_HEAD_NONE,  /* hidden states */
    PR_HEAD_SCORE, /* decoders: score [n_labels, hidden] (bias if the checkpoint has one) */
    PR_HEAD_BERT_CLASSIFIER,    /* pooler.dense, tanh, classifier */
    PR_HEAD_ROBERTA_CLASSIFIER, /* classifier.dense, tanh, classifier.out_proj */
    PR_HEAD_REWARD,             /* score.0, ReLU, score.2 → 1; Qwen2ForRewardModel */
    PR_HEAD_PROCESS_REWARD, /* score.0, ReLU, score.2 → n_labels; Qwen2ForProcessRewardModel */
    PR_HEAD_COUNT
} pr_head;

typedef enum pr_norm { PR_NORM_LAYER, PR_NORM_RMS } pr_norm;
typedef enum pr_activation {
    PR_ACTIVATION_NONE,
    PR_ACTIVATION_GELU,      /* erf form; config "gelu" */
    PR_ACTIVATION_GELU_TANH, /* "gelu_new", "gelu_pytorch_tanh", "gelu_fast" */
    PR_ACTIVATION_RELU,
    PR_ACTIVATION_SILU, /* "silu", "swish" */
    PR_ACTIVATION_TANH,
    PR_ACTIVATION_SIGMOID
} pr_activation;

/* Not an enumerator, so that a switch over activations names each and no more. */
enum { PR_ACTIVATION_COUNT = PR_ACTIVATION_SIGMOID + 1 };
typedef enum pr_position { PR_POSITION_TABLE, PR_POSITION_ROPE } pr_position;
typedef enum pr_rope_scaling { PR_ROPE_NO_SCALING, PR_ROPE_LINEAR, PR_ROPE_LLAMA3 } pr_rope_scaling;

/* Which rows of the last layer make up a result. */
typedef enum pr_pool {
    PR_POOL_LAST,
    PR_POOL_CLS, /* the first */
    PR_POOL_MEAN,
    PR_POOL_ALL,
    PR_POOL_STEP, /* those whose token is the step tag */
    PR_POOL_COUNT
} pr_pool;

typedef enum pr_problem {
    PR_PROBLEM_UNSET,
    PR_PROBLEM_REGRESSION,
    PR_PROBLEM_SINGLE_LABEL,
    PR_PROBLEM_MULTI_LABEL
} pr_problem;

enum { PR_LAYERS_MAX = 512, PR_LABELS_MAX = 65536, PR_MATRYOSHKA_MAX = 64 };

/* A config.json that asks for more is refused: 2 TiB of weights in f32. */
#define PR_PARAMETERS_MAX (INT64_C(1) << 39)

typedef struct pr_model_spec {
    pr_family family;
    pr_head head;
    char architecture[96]; /* architectures[0], e.g. "Qwen2ForRewardModel" */

    /* shapes */
    int32_t vocab_size;
    int32_t hidden_size;
    int32_t intermediate_size;
    int32_t n_layers;
    int32_t n_heads;
    int32_t n_kv_heads;
    int32_t head_dim;
    int32_t n_positions; /* usable: max_position_embeddings, less position_offset for RoBERTa */
    int32_t
        position_offset; /* row of the position table for position 0 (pad_token_id + 1), else 0 */
    int32_t type_vocab_size; /* 0: no token types */
    int32_t pad_token_id;    /* -1: none */

    /* layer */
    pr_norm norm;
    float norm_eps;
    bool post_norm; /* BERT: norm after the residual; else before each block */
    pr_activation activation;
    bool gated; /* gate and up projections */
    bool qkv_bias;
    bool o_bias;
    bool mlp_bias;
    bool qk_norm; /* RMSNorm of each head's q and k before RoPE */
    bool causal;
    bool ignores_unread_tensors; /* of the checkpoint; not of config.json */
    bool tie_word_embeddings;

    /* positions */
    pr_position position;
    double rope_theta;
    pr_rope_scaling rope_scaling;
    double rope_factor;
    double rope_low_freq_factor;     /* llama3 */
    double rope_high_freq_factor;    /* llama3 */
    int32_t rope_original_positions; /* llama3: original_max_position_embeddings */
    int32_t window[PR_LAYERS_MAX];   /* per layer: keys seen, own position included; 0: all */

    /* head */
    int32_t n_labels; /* of a head; 0 when PR_HEAD_NONE */
    char **labels;    /* [n_labels] id2label, owned; NULL for PR_HEAD_NONE */
    pr_problem problem;
    pr_activation
        ce_activation; /* of cross-encoders: sbert_ce_default_activation_function or
                          sentence_transformers.activation_fn; NONE with ce_set: identity */
    bool ce_set;
    bool ce_softmax; /* the activation is Softmax, ce_activation is NONE then */

    /* the rest */
    pr_dtype checkpoint_dtype; /* dtype / torch_dtype; F32 when absent */
    bool is_matryoshka;
    int32_t n_matryoshka;
    int32_t matryoshka[PR_MATRYOSHKA_MAX]; /* matryoshka_dimensions */
} pr_model_spec;

/* config: the object of config.json, overrides already applied. where: for messages.
 * Fails PR_E_UNSUPPORTED for an architecture, activation, rope scaling or other feature that is not
 * built (unknown architectures: with the list of those known), PR_E_MODEL for a missing, mistyped
 * or contradictory field, PR_E_NOMEM. */
pr_status pr_model_spec_parse(const json_t *config, const char *where, pr_model_spec *out,
                              pr_error *err);
void pr_model_spec_deinit(pr_model_spec *spec);

/* Merges `overrides` (an object; nested objects are merged, all else replaces) into config, in
 * place: `--hf-overrides`. A null is kept, for it can differ from a missing key (Mistral's
 * sliding_window). Fails PR_E_NOMEM. */
pr_status pr_config_override(json_t *config, const json_t *overrides, pr_error *err);

/* inverse frequencies, llama3 and linear scaling applied: out [head_dim / 2], computed in f32 the
 * way transformers does. */
void pr_model_spec_rope_frequencies(const pr_model_spec *spec, float *out);

#endif
