/* runtime/model/st_files.h: what the files of Sentence Transformers beside a model say (versions 2
 * to 6).
 *
 * Owns the JSON in it (pr_st_files_deinit). Read at start, by one thread; read-only afterwards.
 */
#ifndef POOLRANK_RUNTIME_MODEL_ST_FILES_H
#define POOLRANK_RUNTIME_MODEL_ST_FILES_H

#include "runtime/model/model_spec.h"

enum { PR_DENSE_MAX = 8 };

/* A Dense module of Sentence Transformers: y = activation(x W^T + b). */
typedef struct pr_dense {
    int32_t n_in, n_out;
    bool bias;
    pr_activation activation;
    char path[128]; /* folder of its model.safetensors, below the model folder: "2_Dense" */
} pr_dense;

/* What similarity_fn_name says that the score of two embeddings is. */
typedef enum pr_similarity {
    PR_SIMILARITY_COSINE,
    PR_SIMILARITY_DOT,
    PR_SIMILARITY_EUCLIDEAN, /* the distance, negative */
    PR_SIMILARITY_MANHATTAN, /* likewise */
    PR_SIMILARITY_COUNT
} pr_similarity;

/* What the Sentence Transformers files of a folder say; all absent: is_present false. */
typedef struct pr_st_files {
    bool is_present;            /* modules.json was there */
    char transformer_path[128]; /* folder of config.json and the weights: "", "0_Transformer" */
    bool has_pooling; /* a Pooling module; its type, and the width it was made for (0: unset) */
    pr_pool pooling;
    int32_t pooling_width;
    bool normalize;         /* a Normalize module */
    int32_t max_seq_length; /* sentence_bert_config.json; 0: unset */
    bool do_lower_case;
    json_t *tokenizer_args; /* for AutoTokenizer; owned; NULL: none */
    bool include_prompt; /* Pooling: include_prompt */
    pr_dense dense[PR_DENSE_MAX];
    int32_t n_dense;
    bool is_cross_encoder;       /* model_type "CrossEncoder"; its activation: */
    pr_activation ce_activation; /* NONE with ce_set: identity */
    bool ce_set, ce_softmax;
    int32_t truncate_dim;     /* values of an embedding that are kept; 0: all */
    pr_similarity similarity; /* of `score` */
    json_t *prompts;            /* config_sentence_transformers.json prompts, owned; NULL: none */
    const char *default_prompt; /* goes in front of every input; borrowed from prompts; or NULL */
} pr_st_files;

/* Reads modules.json and what it names, sentence_bert_config.json (and its family of names) and
 * config_sentence_transformers.json below folder. Missing files are fine.
 * Fails PR_E_MODEL (broken, or a path that leaves the folder), PR_E_UNSUPPORTED (a module or
 * pooling mode that is not built, by name), PR_E_NOMEM. */
pr_status pr_st_files_read(const char *folder, pr_st_files *out, pr_error *err);
void pr_st_files_deinit(pr_st_files *st);

#endif
