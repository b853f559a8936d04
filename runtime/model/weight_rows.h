/* runtime/model/weight_rows.h: how the tensors of a family are written down as table rows.
 *
 * Constant data; read by weight_names.c only. A name holds "#" where the layer's index goes. */
#ifndef POOLRANK_RUNTIME_MODEL_WEIGHT_ROWS_H
#define POOLRANK_RUNTIME_MODEL_WEIGHT_ROWS_H

#include "runtime/model/weight_names.h"

/* A dimension, as a size of the model. */
typedef enum pr_extent {
    PR_EXTENT_NONE, /* no such dimension: the tensor is a vector */
    PR_EXTENT_VOCAB,
    PR_EXTENT_POSITIONS,
    PR_EXTENT_TYPES,
    PR_EXTENT_HIDDEN,
    PR_EXTENT_Q,  /* n_heads * head_dim */
    PR_EXTENT_KV, /* n_kv_heads * head_dim */
    PR_EXTENT_HEAD_DIM,
    PR_EXTENT_INTERMEDIATE,
    PR_EXTENT_LABELS,
    PR_EXTENT_COUNT
} pr_extent;

/* Which models of the family have the tensor. */
typedef enum pr_when {
    PR_WHEN_ALWAYS,
    PR_WHEN_QKV_BIAS,
    PR_WHEN_O_BIAS,
    PR_WHEN_MLP_BIAS,
    PR_WHEN_QK_NORM,
    PR_WHEN_TYPES
} pr_when;

typedef struct pr_weight_row {
    pr_role role;
    pr_when when;
    const char *name;
    pr_extent extent[2]; /* rows, columns */
    pr_partition partition;
    bool whole_name; /* no family prefix goes in front */
    bool optional;
} pr_weight_row;

/* The tensors of a head; *n 0 and NULL for PR_HEAD_NONE. */
const pr_weight_row *pr_head_weights(pr_head head, size_t *n);

#endif
