/* auto_map: models that are not what their architecture says. */
#include "runtime/base/json.h"
#include "runtime/model/model_parse.h"

#include <string.h>

/* Code that is known. Another class of the same name in another file is not. */
static const struct own_code {
    const char *name; /* module.Class, without the repository in front */
    pr_family family;
    bool both_ways; /* it attends both ways, whatever the configuration says */
} known[] = {
    /* gte-Qwen2-1.5B, gte-Qwen2-7B and stella_en_1.5B: transformers' Qwen2 but for its mask. */
    {"modeling_qwen.Qwen2Model", PR_FAMILY_QWEN2, true},
    {"modeling_qwen.Qwen2ForCausalLM", PR_FAMILY_QWEN2, true},
    {"modeling_qwen.Qwen2ForSequenceClassification", PR_FAMILY_QWEN2, true},
    /* Qwen2.5-Math-RM and -PRM: the heads that are built in. */
    {"modeling_qwen2_rm.Qwen2ForRewardModel", PR_FAMILY_QWEN2, false},
    {"modeling_qwen2_rm.Qwen2ForProcessRewardModel", PR_FAMILY_QWEN2, false},
};

static const struct own_code *own_code_find(const char *name, pr_family family)
{
    const char *repository = strstr(name, "--");
    if (repository) name = repository + 2;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i].family == family && strcmp(known[i].name, name) == 0) return &known[i];
    }
    return NULL;
}

/* The class that transformers would run: the entry of the model's kind, else the plain one. */
static pr_status own_class_get(const json_t *map, const char *where, const pr_model_spec *spec,
                               const char **key, const char **name, pr_error *err)
{
    static const char *const plain[] = {"AutoModel", "AutoModelForCausalLM",
                                        "AutoModelForMaskedLM", NULL};
    static const char *const head[] = {"AutoModelForSequenceClassification", "AutoModel", NULL};
    const char *const *keys = spec->head == PR_HEAD_NONE ? plain : head;
    pr_status st = PR_OK;
    for (; st == PR_OK && *keys && !*name; keys++) {
        *key = *keys;
        st = pr_json_get_str_opt(map, where, *keys, name, err);
    }
    return st;
}

pr_status pr_model_own_code_parse(const json_t *config, const char *where, pr_model_spec *spec,
                                  pr_error *err)
{
    json_t *map = NULL;
    const char *key = NULL, *name = NULL;
    pr_status st = pr_json_get_node_opt(config, where, "auto_map", JSON_OBJECT, &map, err);
    if (st == PR_OK && map) st = own_class_get(map, where, spec, &key, &name, err);
    if (st != PR_OK || !name) return st;
    const struct own_code *code = own_code_find(name, spec->family);
    if (code) {
        if (code->both_ways) spec->causal = false;
        return PR_OK;
    }
    return pr_error_set(err, PR_E_UNSUPPORTED,
                        "%s: auto_map: %s: found \"%.100s\", code of the repository's own that is "
                        "not built; --ignore-auto-map computes it as %s",
                        where, key, name, spec->architecture);
}
