#include "runtime/base/json.h"
#include "runtime/model/model_parse.h"

#include <string.h>

/* sliding_window where a layer has one: config, else the family's default; 0 for null. */
static pr_status window_size(const json_t *config, const char *where, const pr_family_row *family,
                             int32_t *out, pr_error *err)
{
    int64_t size = 0;
    if (!pr_model_has(config, "sliding_window")) size = family->defaults.sliding_window;
    pr_status st = pr_json_get_i64_opt(config, where, "sliding_window", 1, INT32_MAX, &size, err);
    if (st == PR_OK) *out = (int32_t)size;
    return st;
}

/* layer_types of transformers 5: one name a layer. */
static pr_status layer_types_parse(const json_t *types, const char *where, int32_t size,
                                   pr_model_spec *spec, pr_error *err)
{
    if (json_array_size(types) != (size_t)spec->n_layers) {
        return pr_error_set(err, PR_E_MODEL,
                            "%s: layer_types: found %zu entries, expected %d (num_hidden_layers)",
                            where, json_array_size(types), spec->n_layers);
    }
    for (int32_t i = 0; i < spec->n_layers; i++) {
        const json_t *entry = json_array_get(types, (size_t)i);
        const char *type = json_string_value(entry);
        if (!type) {
            return pr_error_set(err, PR_E_MODEL, "%s: layer_types[%d]: found %s, expected a string",
                                where, i, pr_json_type_name(entry));
        }
        if (strcmp(type, "full_attention") == 0) continue;
        if (strcmp(type, "sliding_attention") != 0) {
            return pr_error_set(err, PR_E_UNSUPPORTED,
                                "%s: layer_types[%d]: found \"%.60s\", expected full_attention or "
                                "sliding_attention (others are not built)",
                                where, i, type);
        }
        if (size == 0) {
            return pr_error_set(err, PR_E_MODEL,
                                "%s: layer_types[%d]: found sliding_attention, but sliding_window "
                                "is not set or use_sliding_window is false",
                                where, i);
        }
        spec->window[i] = size;
    }
    return PR_OK;
}

/* Qwen2 and Qwen3: only with use_sliding_window, and only in the layers that are named. */
static pr_status window_layers_parse(const json_t *config, const char *where,
                                     const pr_family_row *family, pr_model_spec *spec,
                                     pr_error *err)
{
    bool is_used = false;
    int64_t first = family->defaults.max_window_layers;
    json_t *types = NULL;
    int32_t size = 0;
    pr_status st = PR_OK;
    if ((st = pr_json_get_bool_opt(config, where, "use_sliding_window", &is_used, err)) != PR_OK ||
        (st = pr_json_get_i64_opt(config, where, "max_window_layers", 0, INT32_MAX, &first, err)) !=
            PR_OK ||
        (st = pr_json_get_node_opt(config, where, "layer_types", JSON_ARRAY, &types, err)) !=
            PR_OK) {
        return st;
    }
    if (is_used && (st = window_size(config, where, family, &size, err)) != PR_OK) return st;
    if (types) return layer_types_parse(types, where, size, spec, err);
    for (int32_t i = 0; i < spec->n_layers; i++) {
        if (i >= first) spec->window[i] = size;
    }
    return PR_OK;
}

pr_status pr_model_window_parse(const json_t *config, const char *where,
                                const pr_family_row *family, pr_model_spec *spec, pr_error *err)
{
    pr_status st = PR_OK;
    if (family->features & PR_FEATURE_WINDOW) {
        int32_t size = 0;
        st = window_size(config, where, family, &size, err);
        for (int32_t i = 0; st == PR_OK && i < spec->n_layers; i++) spec->window[i] = size;
    } else if (family->features & PR_FEATURE_WINDOW_LAYERS) {
        st = window_layers_parse(config, where, family, spec, err);
    }
    if (st != PR_OK || spec->causal) return st;
    for (int32_t i = 0; i < spec->n_layers; i++) {
        /* Both ways a key is seen up to the window's size away: this one hides none. */
        if (spec->window[i] >= spec->n_positions) spec->window[i] = 0;
        if (spec->window[i] == 0) continue;
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "%s: sliding_window: found %d with attention in both directions, "
                            "expected null (a window is built for causal models)",
                            where, spec->window[i]);
    }
    return PR_OK;
}
