#include "runtime/base/json.h"
#include "runtime/model/model_parse.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const double rope_theta_default = 10000.0;

/* The object that describes RoPE: transformers takes rope_scaling over rope_parameters, and an
 * empty one for none. NULL: plain RoPE. *key: its name. */
static pr_status rope_object(const json_t *config, const char *where, json_t **out,
                             const char **key, pr_error *err)
{
    static const char *const keys[] = {"rope_scaling", "rope_parameters"};
    for (size_t i = 0; i < 2; i++) {
        json_t *node = NULL;
        pr_status st = pr_json_get_node_opt(config, where, keys[i], JSON_OBJECT, &node, err);
        if (st != PR_OK) return st;
        if (!node || json_object_size(node) == 0) continue;
        *out = node;
        *key = keys[i];
        return PR_OK;
    }
    return PR_OK;
}

static pr_status positive(double value, const char *where, const char *key, pr_error *err)
{
    if (isfinite(value) && value > 0 && value <= 1e12) return PR_OK;
    return pr_error_set(err, PR_E_MODEL, "%s: %s: found %g, expected above 0 and up to 1e12", where,
                        key, value);
}

static pr_status factor_get(const json_t *rope, const char *where, const char *key, double *out,
                            pr_error *err)
{
    pr_status st = pr_json_get_f64(rope, where, key, out, err);
    return st == PR_OK ? positive(*out, where, key, err) : st;
}

static pr_status theta_parse(const json_t *config, const json_t *rope, const char *where,
                             pr_model_spec *spec, pr_error *err)
{
    spec->rope_theta = rope_theta_default;
    pr_status st = pr_json_get_f64_opt(config, where, "rope_theta", &spec->rope_theta, err);
    if (st == PR_OK && rope) {
        st = pr_json_get_f64_opt(rope, where, "rope_theta", &spec->rope_theta, err);
    }
    return st == PR_OK ? positive(spec->rope_theta, where, "rope_theta", err) : st;
}

/* Rotating only a part of each head is not built. */
static pr_status partial_refuse(const json_t *o, const char *where, pr_error *err)
{
    double part = 1.0;
    pr_status st = pr_json_get_f64_opt(o, where, "partial_rotary_factor", &part, err);
    if (st != PR_OK || part == 1.0) return st;
    return pr_error_set(err, PR_E_UNSUPPORTED,
                        "%s: partial_rotary_factor: found %g, expected 1 (others are not built)",
                        where, part);
}

static pr_status llama3_parse(const json_t *config, const json_t *rope, const char *where,
                              pr_model_spec *spec, pr_error *err)
{
    int64_t original = spec->n_positions;
    pr_status st = PR_OK;
    if ((st = factor_get(rope, where, "factor", &spec->rope_factor, err)) != PR_OK ||
        (st = factor_get(rope, where, "low_freq_factor", &spec->rope_low_freq_factor, err)) !=
            PR_OK ||
        (st = factor_get(rope, where, "high_freq_factor", &spec->rope_high_freq_factor, err)) !=
            PR_OK ||
        (st = pr_json_get_i64_opt(rope, where, "original_max_position_embeddings", 1, INT32_MAX,
                                  &original, err)) != PR_OK ||
        (st = pr_json_get_i64_opt(config, where, "original_max_position_embeddings", 1, INT32_MAX,
                                  &original, err)) != PR_OK) {
        return st;
    }
    if (spec->rope_high_freq_factor <= spec->rope_low_freq_factor) {
        return pr_error_set(err, PR_E_MODEL,
                            "%s: high_freq_factor: found %g, expected above low_freq_factor (%g)",
                            where, spec->rope_high_freq_factor, spec->rope_low_freq_factor);
    }
    spec->rope_original_positions = (int32_t)original;
    spec->rope_scaling = PR_ROPE_LLAMA3;
    return PR_OK;
}

static pr_status scaling_parse(const json_t *config, const json_t *rope, const char *where,
                               pr_model_spec *spec, pr_error *err)
{
    const char *type = "default";
    pr_status st = PR_OK;
    if ((st = pr_json_get_str_opt(rope, where, "type", &type, err)) != PR_OK ||
        (st = pr_json_get_str_opt(rope, where, "rope_type", &type, err)) != PR_OK) {
        return st;
    }
    if (strcmp(type, "default") == 0) return PR_OK;
    if (strcmp(type, "linear") == 0) {
        spec->rope_scaling = PR_ROPE_LINEAR;
        return factor_get(rope, where, "factor", &spec->rope_factor, err);
    }
    if (strcmp(type, "llama3") == 0) return llama3_parse(config, rope, where, spec, err);
    return pr_error_set(err, PR_E_UNSUPPORTED,
                        "%s: rope_type: found \"%.60s\", expected default, linear or llama3 "
                        "(others are not built)",
                        where, type);
}

pr_status pr_model_rope_parse(const json_t *config, const char *where, pr_model_spec *spec,
                              pr_error *err)
{
    json_t *rope = NULL;
    const char *key = NULL;
    spec->rope_factor = 1.0;
    pr_status st = rope_object(config, where, &rope, &key, err);
    if (st != PR_OK) return st;
    if ((st = partial_refuse(config, where, err)) != PR_OK) return st;
    if (!rope) return theta_parse(config, NULL, where, spec, err);

    char inside[256];
    snprintf(inside, sizeof inside, "%.200s: %s", where, key);
    if (json_is_object(json_object_get(rope, "full_attention")) ||
        json_is_object(json_object_get(rope, "sliding_attention"))) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "%s: found one per layer type, expected one for all layers (others "
                            "are not built)",
                            inside);
    }
    if ((st = partial_refuse(rope, inside, err)) != PR_OK) return st;
    if ((st = theta_parse(config, rope, inside, spec, err)) != PR_OK) return st;
    return scaling_parse(config, rope, inside, spec, err);
}

/* llama3 scaling of one inverse frequency: long wavelengths are stretched by the factor, short ones
 * kept, those between blended. Every step rounds to f32 as in torch, where a number over a tensor
 * is the tensor's reciprocal times the number. Source: transformers 5.16.1, modeling_rope_utils.py,
 * llama3. */
static float llama3_scale(const pr_model_spec *spec, float inv_freq)
{
    float factor = (float)spec->rope_factor;
    float low = (float)spec->rope_low_freq_factor;
    double original = spec->rope_original_positions;
    float wavelength_low = (float)(original / spec->rope_low_freq_factor);
    float wavelength_high = (float)(original / spec->rope_high_freq_factor);
    float span = (float)(spec->rope_high_freq_factor - spec->rope_low_freq_factor);

    float wavelength = 1.0f / inv_freq * (float)(2.0 * 3.14159265358979323846);
    if (wavelength > wavelength_low) return inv_freq / factor;
    if (wavelength < wavelength_high) return inv_freq;
    float smooth = (1.0f / wavelength * (float)original - low) / span;
    return (1.0f - smooth) * inv_freq / factor + smooth * inv_freq;
}

void pr_model_spec_rope_frequencies(const pr_model_spec *spec, float *out)
{
    assert(spec);
    assert(out);
    float theta = (float)spec->rope_theta;
    for (int32_t i = 0; i < spec->head_dim / 2; i++) {
        float inv_freq = 1.0f / powf(theta, (float)(2 * i) / (float)spec->head_dim);
        if (spec->rope_scaling == PR_ROPE_LINEAR) inv_freq /= (float)spec->rope_factor;
        if (spec->rope_scaling == PR_ROPE_LLAMA3) inv_freq = llama3_scale(spec, inv_freq);
        out[i] = inv_freq;
    }
}
