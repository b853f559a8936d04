#include "runtime/base/json.h"
#include "runtime/model/activation.h"
#include "runtime/model/model_parse.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LABELS_DEFAULT = 2, LABEL_BYTES_MAX = 4096 };

/* How many labels: num_labels and id2label must agree where both are there. */
static pr_status n_labels_parse(const json_t *config, const json_t *id2label, const char *where,
                                int32_t *out, pr_error *err)
{
    int64_t n = id2label ? (int64_t)json_object_size(id2label) : LABELS_DEFAULT;
    if (id2label && (n < 1 || n > PR_LABELS_MAX)) {
        return pr_error_set(err, PR_E_MODEL, "%s: id2label: found %lld labels, expected 1 to %d",
                            where, (long long)n, PR_LABELS_MAX);
    }
    int64_t told = n;
    pr_status st = pr_json_get_i64_opt(config, where, "num_labels", 1, PR_LABELS_MAX, &told, err);
    if (st != PR_OK) return st;
    if (id2label && told != n) {
        return pr_error_set(err, PR_E_MODEL,
                            "%s: num_labels: found %lld, expected %lld (the size of id2label)",
                            where, (long long)told, (long long)n);
    }
    *out = (int32_t)told;
    return PR_OK;
}

static char *label_copy(const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy = malloc(n);
    if (copy) memcpy(copy, text, n);
    return copy;
}

/* id2label[i], or "LABEL_i" as transformers writes it. */
static pr_status label_parse(const json_t *id2label, int32_t i, const char *where, char **out,
                             pr_error *err)
{
    char text[32];
    char key[16];
    snprintf(text, sizeof text, "LABEL_%d", i);
    snprintf(key, sizeof key, "%d", i);
    const char *label = text;
    if (id2label) {
        const json_t *value = json_object_get(id2label, key);
        if (json_is_integer(value)) {
            snprintf(text, sizeof text, "%lld", (long long)json_integer_value(value));
        } else if (json_is_string(value) && json_string_length(value) <= LABEL_BYTES_MAX) {
            label = json_string_value(value);
        } else {
            return pr_error_set(err, PR_E_MODEL,
                                "%s: id2label: %s: found %s, expected a string of at most %d bytes",
                                where, key, pr_json_type_name(value), LABEL_BYTES_MAX);
        }
    }
    *out = label_copy(label);
    return *out ? PR_OK : pr_error_nomem(err, "label", strlen(label) + 1);
}

static pr_status labels_parse(const json_t *config, const char *where, pr_model_spec *spec,
                              pr_error *err)
{
    json_t *id2label = NULL;
    pr_status st = PR_OK;
    /* A reward model has one output whatever its config says; a leftover id2label is not its. */
    if (spec->head == PR_HEAD_REWARD) {
        spec->n_labels = 1;
    } else {
        st = pr_json_get_node_opt(config, where, "id2label", JSON_OBJECT, &id2label, err);
        if (st == PR_OK) st = n_labels_parse(config, id2label, where, &spec->n_labels, err);
        if (st != PR_OK) return st;
    }
    spec->labels = calloc((size_t)spec->n_labels, sizeof *spec->labels);
    if (!spec->labels) {
        return pr_error_nomem(err, "labels", (size_t)spec->n_labels * sizeof *spec->labels);
    }
    for (int32_t i = 0; st == PR_OK && i < spec->n_labels; i++) {
        st = label_parse(id2label, i, where, &spec->labels[i], err);
    }
    return st;
}

static pr_status problem_parse(const json_t *config, const char *where, pr_model_spec *spec,
                               pr_error *err)
{
    const char *name = NULL;
    pr_status st = pr_json_get_str_opt(config, where, "problem_type", &name, err);
    if (st != PR_OK || !name) return st;
    if (strcmp(name, "regression") == 0) {
        spec->problem = PR_PROBLEM_REGRESSION;
    } else if (strcmp(name, "single_label_classification") == 0) {
        spec->problem = PR_PROBLEM_SINGLE_LABEL;
    } else if (strcmp(name, "multi_label_classification") == 0) {
        spec->problem = PR_PROBLEM_MULTI_LABEL;
    } else {
        return pr_error_set(err, PR_E_MODEL,
                            "%s: problem_type: found \"%.60s\", expected regression, "
                            "single_label_classification or multi_label_classification",
                            where, name);
    }
    return PR_OK;
}

/* The activation that Sentence Transformers keeps for a cross-encoder: since version 4 in
 * "sentence_transformers", before that at the top. */
static pr_status cross_encoder_parse(const json_t *config, const char *where, pr_model_spec *spec,
                                     pr_error *err)
{
    const char *key = "sbert_ce_default_activation_function";
    const char *name = NULL;
    json_t *node = NULL;
    pr_status st = PR_OK;
    if ((st = pr_json_get_str_opt(config, where, key, &name, err)) != PR_OK ||
        (st = pr_json_get_node_opt(config, where, "sentence_transformers", JSON_OBJECT, &node,
                                   err)) != PR_OK) {
        return st;
    }
    if (node && pr_model_has(node, "activation_fn")) {
        key = "sentence_transformers: activation_fn";
        if ((st = pr_json_get_str_opt(node, where, "activation_fn", &name, err)) != PR_OK) {
            return st;
        }
    }
    if (!name) return PR_OK;
    if (!pr_activation_parse_torch(name, &spec->ce_activation, &spec->ce_softmax)) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "%s: %s: found \"%.80s\", expected Identity, Sigmoid, Softmax, Tanh, "
                            "ReLU, GELU or SiLU of torch.nn",
                            where, key, name);
    }
    spec->ce_set = true;
    return PR_OK;
}

pr_status pr_model_head_parse(const json_t *config, const char *where, pr_model_spec *spec,
                              pr_error *err)
{
    if (spec->head == PR_HEAD_NONE) return PR_OK;
    pr_status st = labels_parse(config, where, spec, err);
    if (st == PR_OK) st = problem_parse(config, where, spec, err);
    if (st == PR_OK) st = cross_encoder_parse(config, where, spec, err);
    return st;
}
