/* runtime/model/pooling_spec.h: how hidden states become a result: pooling type, head order,
 * normalization, activation; resolved from several sources, each field remembering which set it.
 *
 * Pure; plain data. Called at start and once a request (parameters), any thread. */
#ifndef POOLRANK_RUNTIME_MODEL_POOLING_SPEC_H
#define POOLRANK_RUNTIME_MODEL_POOLING_SPEC_H

#include "runtime/model/model_spec.h"

typedef enum pr_pool { PR_POOL_LAST, PR_POOL_CLS, PR_POOL_MEAN, PR_POOL_ALL, PR_POOL_STEP, PR_POOL_COUNT } pr_pool;

/* Who set a field, lowest precedence first. */
typedef enum pr_source {
    PR_SOURCE_TASK,      /* the task's default */
    PR_SOURCE_FAMILY,    /* the model family or its head */
    PR_SOURCE_CONFIG,    /* config.json */
    PR_SOURCE_SENTENCE_TRANSFORMERS,
    PR_SOURCE_OVERRIDE,  /* --override-pooler-config */
    PR_SOURCE_REQUEST,
    PR_SOURCE_COUNT
} pr_source;

enum { PR_STEP_TAG_DEFAULT = 151651, PR_RETURNED_TOKENS_MAX = 1024, PR_DENSE_MAX = 8 };

typedef struct pr_pooling {
    pr_task task;
    pr_pool type;
    bool normalize;            /* L2, after the head and `dimensions` */
    pr_activation activation;  /* of the head's output; NONE: raw. SOFTMAX is the flag below */
    bool softmax;              /* over the row's values, in place of activation */
    int32_t dimensions;        /* cut before normalizing; 0: all */
    int32_t step_tag_id;       /* STEP */
    int32_t n_returned_tokens; /* STEP: columns to keep, in this order; 0: all */
    int32_t returned_tokens[PR_RETURNED_TOKENS_MAX];
    struct {
        pr_source task, type, normalize, activation, dimensions, step_tag_id, returned_tokens;
    } source;
} pr_pooling;

/* A Dense module of Sentence Transformers: y = activation(x W^T + b). */
typedef struct pr_dense {
    int32_t n_in, n_out;
    bool bias;
    pr_activation activation;
    char path[128]; /* folder of its model.safetensors, below the model folder: "2_Dense" */
} pr_dense;

/* What the Sentence Transformers files of a folder say; all absent: is_present false. */
typedef struct pr_st_files {
    bool is_present;      /* modules.json was there */
    bool has_pooling;     /* a Pooling module; its type: */
    pr_pool pooling;
    bool normalize;       /* a Normalize module */
    int32_t max_seq_length; /* sentence_bert_config.json; 0: unset */
    bool do_lower_case;
    bool include_prompt;  /* Pooling: include_prompt */
    pr_dense dense[PR_DENSE_MAX];
    int32_t n_dense;
    bool is_cross_encoder;
    json_t *prompts;      /* config_sentence_transformers.json prompts, owned; NULL: none */
} pr_st_files;

/* Reads modules.json and what it names, sentence_bert_config.json (and its family of names) and
 * config_sentence_transformers.json below folder. Missing files are fine.
 * Fails PR_E_MODEL (broken, or a path that leaves the folder), PR_E_UNSUPPORTED (a module or pooling
 * mode that is not built, by name), PR_E_NOMEM. */
pr_status pr_st_files_read(const char *folder, pr_st_files *out, pr_error *err);
void pr_st_files_deinit(pr_st_files *st);

/* Which task `auto` means for this model (design: `--task auto`). */
pr_task pr_task_resolve(const pr_model_spec *spec, const pr_st_files *st);

/* Whether the model's head can serve the task; if not, PR_E_UNSUPPORTED naming those it can. */
pr_status pr_task_check(const pr_model_spec *spec, const pr_st_files *st, pr_task task,
                        pr_error *err);

/* override: the object of --override-pooler-config, or NULL: pooling_type, normalize, softmax,
 * use_activation, step_tag_id, returned_token_ids, dimensions, seq_pooling_type, tok_pooling_type,
 * task, and (null only) enable_chunked_processing …: an unknown key is refused by name.
 * task: not AUTO. Fails PR_E_ARGUMENT, PR_E_UNSUPPORTED. */
pr_status pr_pooling_resolve(const pr_model_spec *spec, const pr_st_files *st, pr_task task,
                             const json_t *override, pr_pooling *out, pr_error *err);

/* Per-request parameters; -1 / 0 / NULL: not given. */
typedef struct pr_pooling_request {
    int8_t normalize;      /* -1 unset, 0, 1 */
    int8_t softmax;        /* -1 unset, 0, 1 */
    int8_t use_activation; /* -1 unset, 0, 1 */
    int32_t dimensions;    /* 0 unset */
    int32_t step_tag_id;   /* -1 unset */
    const int32_t *returned_tokens; /* borrowed; NULL unset */
    int32_t n_returned_tokens;
} pr_pooling_request;

/* base with the request's parameters applied; n_width: values a row has before the cut.
 * Fails PR_E_ARGUMENT naming the parameter (dimensions out of range or not in
 * matryoshka_dimensions; a returned token that is no column). */
pr_status pr_pooling_apply(const pr_model_spec *spec, const pr_pooling *base, int32_t n_width,
                           const pr_pooling_request *request, pr_pooling *out, pr_error *err);

const char *pr_task_name(pr_task task); /* "embed" */
bool pr_task_parse(const char *name, pr_task *out); /* "embedding" too */
const char *pr_pool_name(pr_pool pool); /* "LAST" */
bool pr_pool_parse(const char *name, pr_pool *out); /* any case */
const char *pr_source_name(pr_source source); /* "Sentence Transformers files" */

#endif
