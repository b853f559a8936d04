/* runtime/model/pooling_spec.h: how hidden states become a result: pooling type, head order,
 * normalization, activation; resolved from several sources, each field remembering which set it.
 *
 * Pure; plain data. Called at start and once a request (parameters), any thread. */
#ifndef POOLRANK_RUNTIME_MODEL_POOLING_SPEC_H
#define POOLRANK_RUNTIME_MODEL_POOLING_SPEC_H

#include "runtime/model/st_files.h"
#include "runtime/model/task.h"

/* Who set a field, lowest precedence first. */
typedef enum pr_source {
    PR_SOURCE_TASK,   /* the task's default */
    PR_SOURCE_FAMILY, /* the model family or its head */
    PR_SOURCE_CONFIG, /* config.json */
    PR_SOURCE_SENTENCE_TRANSFORMERS,
    PR_SOURCE_OVERRIDE, /* --override-pooler-config */
    PR_SOURCE_REQUEST,
    PR_SOURCE_COUNT
} pr_source;

enum { PR_STEP_TAG_DEFAULT = 151651, PR_RETURNED_TOKENS_MAX = 1024 };

typedef struct pr_pooling {
    pr_task task;
    pr_pool type;
    bool skips_pad; /* LAST: the last token that is not pad_token_id, as transformers pools a
                       decoder's `score` (the first token if all are) */
    int32_t pad_token_id;
    bool normalize;                /* L2, after the head and `dimensions` */
    pr_activation activation;      /* of the head's output; NONE: raw. SOFTMAX is the flag below */
    bool softmax;                  /* over the row's values, in place of activation */
    pr_activation head_activation; /* what use_activation: true turns on, and */
    bool head_softmax;             /* likewise */
    int32_t dimensions;            /* values that are kept, cut before normalizing; 0: all */
    bool cuts_last;                /* cut after normalizing: truncate_dim */
    int32_t step_tag_id;           /* STEP */
    int32_t n_returned_tokens;     /* STEP: columns to keep, in this order; 0: all */
    int32_t returned_tokens[PR_RETURNED_TOKENS_MAX];
    struct {
        pr_source task, type, normalize, activation, dimensions, step_tag_id, returned_tokens;
    } source;
} pr_pooling;

/* override: the object of --override-pooler-config, or NULL: pooling_type, normalize, softmax,
 * use_activation, step_tag_id, returned_token_ids, dimensions, seq_pooling_type, tok_pooling_type,
 * task, and (null or false only) enable_chunked_processing …: an unknown key is refused by name.
 * task: not AUTO.
 * Fails PR_E_ARGUMENT (a key of override), PR_E_UNSUPPORTED (the task, or a pooling type that the
 * model cannot serve), PR_E_MODEL (the Dense modules do not fit the model's width). */
pr_status pr_pooling_resolve(const pr_model_spec *spec, const pr_st_files *st, pr_task task,
                             const json_t *override, pr_pooling *out, pr_error *err);

/* Per-request parameters; -1 / 0 / NULL: not given. */
typedef struct pr_pooling_request {
    int8_t normalize;               /* -1 unset, 0, 1 */
    int8_t softmax;                 /* -1 unset, 0, 1 */
    int8_t use_activation;          /* -1 unset, 0, 1 */
    int32_t dimensions;             /* 0 unset */
    int32_t step_tag_id;            /* -1 unset */
    const int32_t *returned_tokens; /* borrowed; NULL unset */
    int32_t n_returned_tokens;
} pr_pooling_request;

/* Values of a pooled row after the head: labels, the width of the last Dense module, or hidden. */
int32_t pr_pooling_width(const pr_model_spec *spec, const pr_st_files *st);

/* base with the request's parameters applied; n_width: values a row has before the cut.
 * Fails PR_E_ARGUMENT naming the parameter (dimensions out of range or not in
 * matryoshka_dimensions; a returned token that is no column). */
pr_status pr_pooling_apply(const pr_model_spec *spec, const pr_pooling *base, int32_t n_width,
                           const pr_pooling_request *request, pr_pooling *out, pr_error *err);

const char *pr_pool_name(pr_pool pool);             /* "LAST" */
bool pr_pool_parse(const char *name, pr_pool *out); /* any case */
const char *pr_source_name(pr_source source);       /* "Sentence Transformers files" */

#endif
