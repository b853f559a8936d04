/* runtime/model/families.h: the table of model families and architectures. A new family is a row.
 *
 * Constant data; any thread. */
#ifndef POOLRANK_RUNTIME_MODEL_FAMILIES_H
#define POOLRANK_RUNTIME_MODEL_FAMILIES_H

#include "runtime/model/model_spec.h"
#include "runtime/model/pooling_spec.h"

/* What all models of a family share; model_spec.c fills a pr_model_spec from it and the config. */
typedef struct pr_family_row {
    const char *name;           /* "bert", also config.json's model_type */
    const char *const *prefixes; /* weight-name prefixes to try, "" included; NULL-terminated */
    const struct pr_weight_row *weights; /* names, roles, shapes: weight_names.h */
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
} pr_family_row;

/* One name of config.json's `architectures`. */
typedef struct pr_architecture_row {
    const char *name; /* "Qwen2ForRewardModel" */
    pr_family family;
    pr_head head;
} pr_architecture_row;

const pr_family_row *pr_family_describe(pr_family family);
const pr_architecture_row *pr_architecture_find(const char *name); /* NULL when unknown */
/* i-th row, NULL past the end: for messages and documents. */
const pr_architecture_row *pr_architecture_at(size_t i);

#endif
