/* runtime/model/model_parse.h: the parts that reading a config.json is made of.
 *
 * Internal to runtime/model; model_spec.c calls them in turn on one half-filled spec. All fail as
 * pr_model_spec_parse does. */
#ifndef POOLRANK_RUNTIME_MODEL_MODEL_PARSE_H
#define POOLRANK_RUNTIME_MODEL_MODEL_PARSE_H

#include "runtime/model/families.h"

/* rope_theta, rope_scaling and rope_parameters; n_positions is set already. */
pr_status pr_model_rope_parse(const json_t *config, const char *where, pr_model_spec *spec,
                              pr_error *err);

/* Window of each layer: sliding_window, use_sliding_window, max_window_layers, layer_types. */
pr_status pr_model_window_parse(const json_t *config, const char *where,
                                const pr_family_row *family, pr_model_spec *spec, pr_error *err);

/* n_labels, labels, problem_type, the activation of cross-encoders. */
pr_status pr_model_head_parse(const json_t *config, const char *where, pr_model_spec *spec,
                              pr_error *err);

/* `auto_map`: code of the repository's own. What is known by its file and class is computed as that
 * code does (causal may change), classes that are built in go on, PR_E_UNSUPPORTED for any other
 * class that would run. family, head, architecture and causal are set already. */
pr_status pr_model_own_code_parse(const json_t *config, const char *where, pr_model_spec *spec,
                                  pr_error *err);

/* Whether a key is there at all; null counts. */
bool pr_model_has(const json_t *config, const char *key);

#endif
