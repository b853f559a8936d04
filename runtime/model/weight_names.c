#include "runtime/model/weight_names.h"

#include "runtime/base/arena.h"
#include "runtime/model/families.h"
#include "runtime/model/weight_rows.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pr_weight_list {
    pr_arena *arena; /* names */
    pr_weight *weights;
    size_t n;
    size_t n_max;
};

static int64_t extent_size(const pr_model_spec *spec, pr_extent extent)
{
    switch (extent) {
    case PR_EXTENT_VOCAB:
        return spec->vocab_size;
    case PR_EXTENT_POSITIONS:
        return (int64_t)spec->n_positions + spec->position_offset;
    case PR_EXTENT_TYPES:
        return spec->type_vocab_size;
    case PR_EXTENT_HIDDEN:
        return spec->hidden_size;
    case PR_EXTENT_Q:
        return (int64_t)spec->n_heads * spec->head_dim;
    case PR_EXTENT_KV:
        return (int64_t)spec->n_kv_heads * spec->head_dim;
    case PR_EXTENT_HEAD_DIM:
        return spec->head_dim;
    case PR_EXTENT_INTERMEDIATE:
        return spec->intermediate_size;
    case PR_EXTENT_LABELS:
        return spec->n_labels;
    case PR_EXTENT_NONE:
    case PR_EXTENT_COUNT:
        break;
    }
    return 0;
}

/* The config fields that give a size, for messages. */
static const char *extent_fields(const pr_model_spec *spec, pr_extent extent)
{
    bool is_rope = spec->position == PR_POSITION_ROPE;
    switch (extent) {
    case PR_EXTENT_VOCAB:
        return "vocab_size";
    case PR_EXTENT_POSITIONS:
        return "max_position_embeddings";
    case PR_EXTENT_TYPES:
        return "type_vocab_size";
    case PR_EXTENT_HIDDEN:
        return "hidden_size";
    case PR_EXTENT_Q:
        return is_rope ? "num_attention_heads * head_dim" : "hidden_size";
    case PR_EXTENT_KV:
        return is_rope ? "num_key_value_heads * head_dim" : "hidden_size";
    case PR_EXTENT_HEAD_DIM:
        return "head_dim";
    case PR_EXTENT_INTERMEDIATE:
        return "intermediate_size";
    case PR_EXTENT_LABELS:
        return spec->head == PR_HEAD_REWARD ? "a reward is one number" : "num_labels / id2label";
    case PR_EXTENT_NONE:
    case PR_EXTENT_COUNT:
        break;
    }
    return NULL;
}

static bool row_applies(const pr_model_spec *spec, const pr_weight_row *row)
{
    switch (row->when) {
    case PR_WHEN_ALWAYS:
        return true;
    case PR_WHEN_QKV_BIAS:
        return spec->qkv_bias;
    case PR_WHEN_O_BIAS:
        return spec->o_bias;
    case PR_WHEN_MLP_BIAS:
        return spec->mlp_bias;
    case PR_WHEN_QK_NORM:
        return spec->qk_norm;
    case PR_WHEN_TYPES:
        return spec->type_vocab_size > 0;
    }
    return false;
}

static bool is_layer_row(const pr_weight_row *row)
{
    return strchr(row->name, '#') != NULL;
}

/* The row's name with the layer's index in place of "#"; NULL when there is no memory. */
static const char *row_name(pr_weight_list *list, const pr_weight_row *row, int32_t i_layer)
{
    const char *mark = strchr(row->name, '#');
    if (!mark) return row->name;
    char name[128];
    int n = snprintf(name, sizeof name, "%.*s%d%s", (int)(mark - row->name), row->name, i_layer,
                     mark + 1);
    assert(n > 0 && (size_t)n < sizeof name);
    return pr_arena_strdup(list->arena, name);
}

static pr_status list_add(pr_weight_list *list, const pr_model_spec *spec, const pr_weight_row *row,
                          int32_t i_layer, pr_error *err)
{
    assert(list->n < list->n_max);
    const char *name = row_name(list, row, i_layer);
    if (!name) return pr_error_nomem(err, "weight name", strlen(row->name));
    pr_weight *w = &list->weights[list->n++];
    *w = (pr_weight){.role = row->role,
                     .i_layer = i_layer,
                     .name = name,
                     .has_prefix = !row->whole_name,
                     .optional = row->optional,
                     .partition = row->partition};
    for (int d = 0; d < 2 && row->extent[d] != PR_EXTENT_NONE; d++) {
        w->shape[d] = extent_size(spec, row->extent[d]);
        w->shape_from[d] = extent_fields(spec, row->extent[d]);
        w->n_dims = d + 1;
    }
    return PR_OK;
}

/* Adds the rows of [begin, end) that belong to i_layer. */
static pr_status list_add_rows(pr_weight_list *list, const pr_model_spec *spec,
                               const pr_weight_row *rows, size_t begin, size_t end, int32_t i_layer,
                               pr_error *err)
{
    for (size_t i = begin; i < end; i++) {
        if (!row_applies(spec, &rows[i])) continue;
        pr_status st = list_add(list, spec, &rows[i], i_layer, err);
        if (st != PR_OK) return st;
    }
    return PR_OK;
}

/* Tables stand before the layers' rows, the final norm behind them. */
static pr_status list_fill(pr_weight_list *list, const pr_model_spec *spec, pr_error *err)
{
    const pr_family_row *family = pr_family_describe(spec->family);
    size_t first = 0;
    while (first < family->n_weights && !is_layer_row(&family->weights[first])) first++;
    size_t last = first;
    while (last < family->n_weights && is_layer_row(&family->weights[last])) last++;

    pr_status st = list_add_rows(list, spec, family->weights, 0, first, -1, err);
    for (int32_t i = 0; st == PR_OK && i < spec->n_layers; i++) {
        st = list_add_rows(list, spec, family->weights, first, last, i, err);
    }
    if (st == PR_OK) {
        st = list_add_rows(list, spec, family->weights, last, family->n_weights, -1, err);
    }
    size_t n_head = 0;
    const pr_weight_row *head = pr_head_weights(spec->head, &n_head);
    if (st == PR_OK) st = list_add_rows(list, spec, head, 0, n_head, -1, err);
    return st;
}

pr_status pr_weight_list_build(const pr_model_spec *spec, pr_weight_list **out, pr_error *err)
{
    assert(spec);
    assert(out);
    pr_status st = PR_OK;
    size_t n_head = 0;
    (void)pr_head_weights(spec->head, &n_head);
    size_t n_max = pr_family_describe(spec->family)->n_weights * ((size_t)spec->n_layers + 1);
    pr_weight_list *list = calloc(1, sizeof *list);
    if (list) {
        list->n_max = n_max + n_head;
        list->weights = calloc(list->n_max, sizeof *list->weights);
        list->arena = pr_arena_create(0);
    }
    if (!list || !list->weights || !list->arena) {
        st = pr_error_nomem(err, "weight list", (n_max + n_head) * sizeof(pr_weight));
        goto cleanup;
    }
    if ((st = list_fill(list, spec, err)) != PR_OK) goto cleanup;
    *out = list;
    list = NULL; /* now the caller's */
cleanup:
    pr_weight_list_free(list);
    return st;
}

void pr_weight_list_free(pr_weight_list *list)
{
    if (!list) return;
    pr_arena_free(list->arena);
    free(list->weights);
    free(list);
}

size_t pr_weight_list_count(const pr_weight_list *list)
{
    return list->n;
}

const pr_weight *pr_weight_list_at(const pr_weight_list *list, size_t i)
{
    assert(i < list->n);
    return &list->weights[i];
}

const pr_weight *pr_weight_list_find(const pr_weight_list *list, pr_role role, int32_t i_layer)
{
    for (size_t i = 0; i < list->n; i++) {
        const pr_weight *w = &list->weights[i];
        if (w->role == role && w->i_layer == i_layer) return w;
    }
    return NULL;
}

const char *const *pr_weight_prefixes(const pr_model_spec *spec)
{
    return pr_family_describe(spec->family)->prefixes;
}

bool pr_weight_name_alternative(const char *name, char *alt, size_t alt_bytes)
{
    static const struct {
        const char *ending, *other;
    } pairs[] = {{"LayerNorm.weight", "LayerNorm.gamma"}, {"LayerNorm.bias", "LayerNorm.beta"}};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        size_t n_ending = strlen(pairs[i].ending);
        if (n < n_ending || strcmp(name + n - n_ending, pairs[i].ending) != 0) continue;
        int written = snprintf(alt, alt_bytes, "%.*s%s", (int)(n - n_ending), name, pairs[i].other);
        return written > 0 && (size_t)written < alt_bytes;
    }
    return false;
}
