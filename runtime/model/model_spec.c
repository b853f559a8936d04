#include "runtime/model/model_spec.h"

#include "runtime/base/buffer.h"
#include "runtime/base/json.h"
#include "runtime/model/activation.h"
#include "runtime/model/model_parse.h"
#include "runtime/model/weight_names.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bounds of one config field: far above every model known, and small enough that a product of any
 * three fits 64 bits. */
enum {
    VOCAB_MAX = 1 << 24,
    HIDDEN_MAX = 1 << 16,
    INTERMEDIATE_MAX = 1 << 20,
    HEADS_MAX = 1 << 12,
    HEAD_DIM_MAX = 1 << 12,
    POSITIONS_MAX = 1 << 26,
    TYPES_MAX = 1 << 8, /* token types travel in a byte */
};

bool pr_model_has(const json_t *config, const char *key)
{
    return json_object_get(config, key) != NULL;
}

/* ---- which model ---- */

static pr_status architecture_unknown(const char *where, const char *key, const char *name,
                                      pr_error *err)
{
    pr_buffer known;
    pr_buffer_init(&known);
    for (size_t i = 0; pr_architecture_at(i); i++) {
        pr_buffer_printf(&known, "%s%s", i > 0 ? ", " : "", pr_architecture_at(i)->name);
    }
    const char *list = pr_buffer_str(&known);
    pr_status st =
        pr_error_set(err, PR_E_UNSUPPORTED, "%s: %s: found \"%.80s\", expected one of %s", where,
                     key, name, list ? list : "the architectures built in");
    pr_buffer_deinit(&known);
    return st;
}

static pr_status architecture_find(const json_t *config, const char *where,
                                   const pr_architecture_row **out, pr_error *err)
{
    json_t *names = NULL;
    const char *name = NULL;
    pr_status st = pr_json_get_node_opt(config, where, "architectures", JSON_ARRAY, &names, err);
    if (st != PR_OK) return st;
    if (names && json_array_size(names) > 0) {
        const json_t *first = json_array_get(names, 0);
        name = json_string_value(first);
        if (!name) {
            return pr_error_set(err, PR_E_MODEL,
                                "%s: architectures[0]: found %s, expected a string", where,
                                pr_json_type_name(first));
        }
        *out = pr_architecture_find(name);
        return *out ? PR_OK : architecture_unknown(where, "architectures", name, err);
    }
    if ((st = pr_json_get_str_opt(config, where, "model_type", &name, err)) != PR_OK) return st;
    if (!name) {
        return pr_error_set(err, PR_E_MODEL, "%s: found neither architectures nor model_type",
                            where);
    }
    *out = pr_architecture_of_type(name);
    return *out ? PR_OK : architecture_unknown(where, "model_type", name, err);
}

/* ---- shapes ---- */

/* A required size. */
static pr_status size_get(const json_t *config, const char *where, const char *key, int32_t max,
                          int32_t *out, pr_error *err)
{
    int64_t value = 0;
    pr_status st = pr_json_get_i64(config, where, key, 1, max, &value, err);
    if (st == PR_OK) *out = (int32_t)value;
    return st;
}

/* A size that keeps its default when the key is missing or null. */
static pr_status size_get_opt(const json_t *config, const char *where, const char *key, int32_t min,
                              int32_t max, int32_t *out, pr_error *err)
{
    int64_t value = *out;
    pr_status st = pr_json_get_i64_opt(config, where, key, min, max, &value, err);
    if (st == PR_OK) *out = (int32_t)value;
    return st;
}

static pr_status kv_heads_parse(const json_t *config, const char *where,
                                const pr_family_row *family, pr_model_spec *spec, pr_error *err)
{
    spec->n_kv_heads = spec->n_heads;
    if (!(family->features & PR_FEATURE_KV_HEADS)) return PR_OK;
    bool is_missing = !pr_model_has(config, "num_key_value_heads");
    if (is_missing && family->defaults.n_kv_heads > 0) {
        spec->n_kv_heads = family->defaults.n_kv_heads;
    }
    pr_status st =
        size_get_opt(config, where, "num_key_value_heads", 1, HEADS_MAX, &spec->n_kv_heads, err);
    if (st != PR_OK) return st;
    if (spec->n_heads % spec->n_kv_heads != 0) {
        return pr_error_set(err, PR_E_MODEL,
                            "%s: num_key_value_heads: found %d%s, expected a divisor of "
                            "num_attention_heads (%d)",
                            where, spec->n_kv_heads, is_missing ? " (the default)" : "",
                            spec->n_heads);
    }
    return PR_OK;
}

static pr_status head_dim_parse(const json_t *config, const char *where,
                                const pr_family_row *family, pr_model_spec *spec, pr_error *err)
{
    bool has_field = (family->features & PR_FEATURE_HEAD_DIM) != 0;
    spec->head_dim = family->defaults.head_dim;
    if (has_field) {
        pr_status st =
            size_get_opt(config, where, "head_dim", 1, HEAD_DIM_MAX, &spec->head_dim, err);
        if (st != PR_OK) return st;
    }
    if (spec->head_dim == 0) {
        if (spec->hidden_size % spec->n_heads != 0) {
            return pr_error_set(err, PR_E_MODEL,
                                "%s: hidden_size: found %d, expected a multiple of "
                                "num_attention_heads (%d)",
                                where, spec->hidden_size, spec->n_heads);
        }
        spec->head_dim = spec->hidden_size / spec->n_heads;
    }
    if (spec->head_dim > HEAD_DIM_MAX ||
        (family->position == PR_POSITION_ROPE && spec->head_dim % 2 != 0)) {
        return pr_error_set(err, PR_E_MODEL, "%s: head_dim: found %d, expected up to %d%s", where,
                            spec->head_dim, HEAD_DIM_MAX,
                            family->position == PR_POSITION_ROPE ? " and even (RoPE)" : "");
    }
    return PR_OK;
}

/* RoBERTa counts positions from pad_token_id + 1 and keeps that many rows of its table unused. */
static pr_status positions_parse(const json_t *config, const char *where,
                                 const pr_family_row *family, pr_model_spec *spec, pr_error *err)
{
    int32_t n_rows = family->defaults.max_positions;
    spec->pad_token_id = pr_model_has(config, "pad_token_id") ? -1 : family->defaults.pad_token_id;
    pr_status st = PR_OK;
    if ((st = size_get_opt(config, where, "max_position_embeddings", 1, POSITIONS_MAX, &n_rows,
                           err)) != PR_OK ||
        (st = size_get_opt(config, where, "pad_token_id", -1, VOCAB_MAX, &spec->pad_token_id,
                           err)) != PR_OK) {
        return st;
    }
    if (family->position_from_pad) {
        if (spec->pad_token_id < 0) {
            return pr_error_set(err, PR_E_MODEL,
                                "%s: pad_token_id: found none, expected a token: positions start "
                                "behind it",
                                where);
        }
        spec->position_offset = spec->pad_token_id + 1;
    }
    if (n_rows <= spec->position_offset) {
        return pr_error_set(err, PR_E_MODEL,
                            "%s: max_position_embeddings: found %d, expected more than "
                            "pad_token_id + 1 (%d)",
                            where, n_rows, spec->position_offset);
    }
    spec->n_positions = n_rows - spec->position_offset;
    return PR_OK;
}

static pr_status shapes_parse(const json_t *config, const char *where, const pr_family_row *family,
                              pr_model_spec *spec, pr_error *err)
{
    pr_status st = PR_OK;
    if ((st = size_get(config, where, "vocab_size", VOCAB_MAX, &spec->vocab_size, err)) != PR_OK ||
        (st = size_get(config, where, "hidden_size", HIDDEN_MAX, &spec->hidden_size, err)) !=
            PR_OK ||
        (st = size_get(config, where, "intermediate_size", INTERMEDIATE_MAX,
                       &spec->intermediate_size, err)) != PR_OK ||
        (st = size_get(config, where, "num_hidden_layers", PR_LAYERS_MAX, &spec->n_layers, err)) !=
            PR_OK ||
        (st = size_get(config, where, "num_attention_heads", HEADS_MAX, &spec->n_heads, err)) !=
            PR_OK ||
        (st = kv_heads_parse(config, where, family, spec, err)) != PR_OK ||
        (st = head_dim_parse(config, where, family, spec, err)) != PR_OK ||
        (st = positions_parse(config, where, family, spec, err)) != PR_OK) {
        return st;
    }
    if (family->defaults.type_vocab_size == 0) return PR_OK;
    spec->type_vocab_size = family->defaults.type_vocab_size;
    return size_get_opt(config, where, "type_vocab_size", 1, TYPES_MAX, &spec->type_vocab_size,
                        err);
}

/* ---- the layer ---- */

static pr_status biases_parse(const json_t *config, const char *where, const pr_family_row *family,
                              pr_model_spec *spec, pr_error *err)
{
    bool attention = false, mlp = false;
    pr_status st = PR_OK;
    if (family->features & PR_FEATURE_ATTENTION_BIAS) {
        st = pr_json_get_bool_opt(config, where, "attention_bias", &attention, err);
    }
    if (st == PR_OK && (family->features & PR_FEATURE_MLP_BIAS_FIELD)) {
        st = pr_json_get_bool_opt(config, where, "mlp_bias", &mlp, err);
    }
    spec->qkv_bias = attention || (family->features & PR_FEATURE_QKV_BIAS);
    spec->o_bias = attention || (family->features & PR_FEATURE_O_BIAS);
    spec->mlp_bias = mlp || (family->features & PR_FEATURE_MLP_BIAS);
    return st;
}

static pr_status norm_parse(const json_t *config, const char *where, const pr_family_row *family,
                            pr_model_spec *spec, pr_error *err)
{
    double eps = family->defaults.norm_eps;
    spec->norm = family->norm;
    pr_status st = pr_json_get_f64_opt(config, where, family->norm_eps_field, &eps, err);
    if (st != PR_OK) return st;
    if (!(eps >= 0.0 && eps <= 1.0)) {
        return pr_error_set(err, PR_E_MODEL, "%s: %s: found %g, expected 0 to 1", where,
                            family->norm_eps_field, eps);
    }
    spec->norm_eps = (float)eps;
    return PR_OK;
}

static pr_status activation_parse(const json_t *config, const char *where,
                                  const pr_family_row *family, pr_model_spec *spec, pr_error *err)
{
    const char *name = family->defaults.hidden_act;
    pr_status st = pr_json_get_str_opt(config, where, "hidden_act", &name, err);
    if (st != PR_OK || pr_activation_parse(name, &spec->activation)) return st;
    return pr_error_set(err, PR_E_UNSUPPORTED,
                        "%s: hidden_act: found \"%.60s\", expected gelu, gelu_new, "
                        "gelu_pytorch_tanh, gelu_fast, relu, silu, swish, tanh or sigmoid",
                        where, name);
}

/* Decoders that were trained to look both ways say so in `is_causal`, the one field that
 * transformers reads for these families; or in the code that comes with them. */
static pr_status direction_parse(const json_t *config, const char *where,
                                 const pr_family_row *family, pr_model_spec *spec, pr_error *err)
{
    spec->causal = family->causal;
    if (!family->causal) return pr_model_own_code_parse(config, where, spec, err);
    pr_status st = pr_json_get_bool_opt(config, where, "is_causal", &spec->causal, err);
    return st == PR_OK ? pr_model_own_code_parse(config, where, spec, err) : st;
}

static pr_status layer_parse(const json_t *config, const char *where, const pr_family_row *family,
                             pr_model_spec *spec, pr_error *err)
{
    spec->post_norm = family->post_norm;
    spec->gated = family->gated;
    spec->qk_norm = family->qk_norm;
    spec->position = family->position;
    spec->tie_word_embeddings = !family->causal;
    pr_status st = PR_OK;
    if ((st = biases_parse(config, where, family, spec, err)) != PR_OK ||
        (st = norm_parse(config, where, family, spec, err)) != PR_OK ||
        (st = activation_parse(config, where, family, spec, err)) != PR_OK ||
        (st = direction_parse(config, where, family, spec, err)) != PR_OK ||
        (st = pr_json_get_bool_opt(config, where, "tie_word_embeddings", &spec->tie_word_embeddings,
                                   err)) != PR_OK) {
        return st;
    }
    return PR_OK;
}

/* ---- what is not built ---- */

static pr_status encoder_refuse(const json_t *config, const char *where, pr_error *err)
{
    bool is_decoder = false;
    const char *kind = "absolute";
    pr_status st = PR_OK;
    if ((st = pr_json_get_bool_opt(config, where, "is_decoder", &is_decoder, err)) != PR_OK ||
        (st = pr_json_get_str_opt(config, where, "position_embedding_type", &kind, err)) != PR_OK) {
        return st;
    }
    if (is_decoder) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "%s: is_decoder: found true, expected false (an encoder)", where);
    }
    if (strcmp(kind, "absolute") != 0) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "%s: position_embedding_type: found \"%.60s\", expected absolute",
                            where, kind);
    }
    return PR_OK;
}

static pr_status quantization_refuse(const json_t *config, const char *where, pr_error *err)
{
    json_t *node = NULL;
    pr_status st =
        pr_json_get_node_opt(config, where, "quantization_config", JSON_OBJECT, &node, err);
    if (st != PR_OK || !node) return st;
    const char *method = json_string_value(json_object_get(node, "quant_method"));
    return pr_error_set(err, PR_E_UNSUPPORTED,
                        "%s: quantization_config: found quant_method \"%.60s\", expected none "
                        "(only float32, float16 and bfloat16 weights are read)",
                        where, method ? method : "?");
}

/* Counts what the fields ask for, so that no config file reserves memory beyond reason. */
static pr_status parameters_check(const pr_model_spec *spec, const char *where, pr_error *err)
{
    int64_t h = spec->hidden_size, i = spec->intermediate_size, d = spec->head_dim;
    int64_t rows = (int64_t)spec->vocab_size + spec->n_labels + h;
    if (spec->position == PR_POSITION_TABLE) rows += spec->n_positions;
    int64_t layer =
        h * (2 * d * ((int64_t)spec->n_heads + spec->n_kv_heads) + (spec->gated ? 3 : 2) * i);
    int64_t total = h * rows + spec->n_layers * layer;
    if (total <= PR_PARAMETERS_MAX) return PR_OK;
    return pr_error_set(err, PR_E_MODEL,
                        "%s: hidden_size, intermediate_size, num_hidden_layers and vocab_size: "
                        "found %lld parameters in all, expected at most %lld",
                        where, (long long)total, (long long)PR_PARAMETERS_MAX);
}

/* ---- the rest ---- */

static pr_status dtype_parse(const json_t *config, const char *where, pr_model_spec *spec,
                             pr_error *err)
{
    const char *name = NULL;
    const char *key = "dtype";
    pr_status st = pr_json_get_str_opt(config, where, key, &name, err);
    if (st == PR_OK && !name) {
        key = "torch_dtype";
        st = pr_json_get_str_opt(config, where, key, &name, err);
    }
    spec->checkpoint_dtype = PR_DTYPE_F32;
    if (st != PR_OK || !name) return st;
    if (strncmp(name, "torch.", 6) == 0) name += 6;
    if (pr_dtype_parse(name, &spec->checkpoint_dtype)) return PR_OK;
    return pr_error_set(err, PR_E_MODEL,
                        "%s: %s: found \"%.60s\", expected float32, float16 or bfloat16", where,
                        key, name);
}

static pr_status matryoshka_parse(const json_t *config, const char *where, pr_model_spec *spec,
                                  pr_error *err)
{
    json_t *list = NULL;
    pr_status st = PR_OK;
    if ((st = pr_json_get_bool_opt(config, where, "is_matryoshka", &spec->is_matryoshka, err)) !=
            PR_OK ||
        (st = pr_json_get_node_opt(config, where, "matryoshka_dimensions", JSON_ARRAY, &list,
                                   err)) != PR_OK ||
        !list) {
        return st;
    }
    size_t n = json_array_size(list);
    if (n > PR_MATRYOSHKA_MAX) {
        return pr_error_set(err, PR_E_MODEL,
                            "%s: matryoshka_dimensions: found %zu entries, expected at most %d",
                            where, n, PR_MATRYOSHKA_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(list, i);
        int64_t value = json_integer_value(entry);
        if (!json_is_integer(entry) || value < 1 || value > HIDDEN_MAX) {
            return pr_error_set(err, PR_E_MODEL,
                                "%s: matryoshka_dimensions[%zu]: found %s, expected an integer "
                                "from 1 to %d",
                                where, i, pr_json_type_name(entry), HIDDEN_MAX);
        }
        spec->matryoshka[i] = (int32_t)value;
    }
    spec->n_matryoshka = (int32_t)n;
    return PR_OK;
}

static pr_status config_parse(const json_t *config, const char *where, pr_model_spec *spec,
                              pr_error *err)
{
    const pr_architecture_row *architecture = NULL;
    pr_status st = architecture_find(config, where, &architecture, err);
    if (st != PR_OK) return st;
    const pr_family_row *family = pr_family_describe(architecture->family);
    spec->family = architecture->family;
    spec->head = architecture->head;
    snprintf(spec->architecture, sizeof spec->architecture, "%s", architecture->name);

    if (!family->causal && (st = encoder_refuse(config, where, err)) != PR_OK) return st;
    if ((st = quantization_refuse(config, where, err)) != PR_OK ||
        (st = shapes_parse(config, where, family, spec, err)) != PR_OK ||
        (st = layer_parse(config, where, family, spec, err)) != PR_OK ||
        (st = pr_model_window_parse(config, where, family, spec, err)) != PR_OK) {
        return st;
    }
    if (spec->position == PR_POSITION_ROPE &&
        (st = pr_model_rope_parse(config, where, spec, err)) != PR_OK) {
        return st;
    }
    if ((st = pr_model_head_parse(config, where, spec, err)) != PR_OK ||
        (st = dtype_parse(config, where, spec, err)) != PR_OK ||
        (st = matryoshka_parse(config, where, spec, err)) != PR_OK) {
        return st;
    }
    return parameters_check(spec, where, err);
}

pr_status pr_model_spec_parse(const json_t *config, const char *where, pr_model_spec *out,
                              pr_error *err)
{
    assert(where);
    assert(out);
    if (!json_is_object(config)) {
        return pr_error_set(err, PR_E_MODEL, "%s: found %s, expected an object", where,
                            pr_json_type_name(config));
    }
    pr_model_spec spec = {0};
    pr_status st = config_parse(config, where, &spec, err);
    if (st == PR_OK) {
        *out = spec;
    } else {
        pr_model_spec_deinit(&spec);
    }
    return st;
}

void pr_model_spec_deinit(pr_model_spec *spec)
{
    if (!spec || !spec->labels) return;
    for (int32_t i = 0; i < spec->n_labels; i++) free(spec->labels[i]);
    free(spec->labels);
    spec->labels = NULL;
    spec->n_labels = 0;
}

pr_status pr_config_override(json_t *config, const json_t *overrides, pr_error *err)
{
    assert(json_is_object(config));
    assert(json_is_object(overrides));
    void *it = json_object_iter((json_t *)overrides);
    for (; it; it = json_object_iter_next((json_t *)overrides, it)) {
        const char *key = json_object_iter_key(it);
        json_t *value = json_object_iter_value(it);
        json_t *old = json_object_get(config, key);
        if (json_is_object(value) && json_is_object(old)) {
            pr_status st = pr_config_override(old, value, err);
            if (st != PR_OK) return st;
        } else {
            json_t *copy = json_deep_copy(value);
            if (!copy || json_object_set_new(config, key, copy) != 0) {
                return pr_error_nomem(err, "config override", strlen(key));
            }
        }
    }
    return PR_OK;
}
