#include "tests/unit/model/fixture.h"

#include "runtime/base/json.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENCODER                                                                                    \
    "'hidden_size': 32, 'num_hidden_layers': 3, 'num_attention_heads': 4, 'vocab_size': 100, "     \
    "'intermediate_size': 64, 'max_position_embeddings': 40"
#define DECODER                                                                                    \
    "'hidden_size': 64, 'num_hidden_layers': 4, 'num_attention_heads': 8, "                        \
    "'num_key_value_heads': 2, 'vocab_size': 200, 'intermediate_size': 96, "                       \
    "'max_position_embeddings': 128"

const char bert_config[] = "{'architectures': ['BertModel'], " ENCODER "}";
const char roberta_config[] = "{'architectures': ['RobertaModel'], " ENCODER "}";
const char xlmr_config[] =
    "{'architectures': ['XLMRobertaModel'], 'type_vocab_size': 1, " ENCODER "}";
const char qwen2_config[] = "{'architectures': ['Qwen2ForCausalLM'], " DECODER "}";
const char qwen3_config[] = "{'architectures': ['Qwen3ForCausalLM'], 'head_dim': 16, " DECODER "}";
const char llama_config[] = "{'architectures': ['LlamaForCausalLM'], " DECODER "}";
const char mistral_config[] = "{'architectures': ['MistralForCausalLM'], " DECODER "}";

json_t *json_of(const char *text)
{
    size_t n = strlen(text);
    char *copy = malloc(n + 1);
    assert(copy);
    for (size_t i = 0; i <= n; i++) copy[i] = text[i] == '\'' ? '"' : text[i];
    json_t *value = NULL;
    pr_error err = {0};
    if (pr_json_parse(copy, n, "test", &value, &err) != PR_OK) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    free(copy);
    return value;
}

pr_status spec_parse(const char *base, const char *drop, const char *changes, pr_model_spec *out,
                     pr_error *err)
{
    json_t *config = json_of(base);
    if (drop) json_object_del(config, drop);
    if (changes) {
        json_t *overrides = json_of(changes);
        pr_status st = pr_config_override(config, overrides, err);
        assert(st == PR_OK);
        (void)st;
        json_decref(overrides);
    }
    pr_status st = pr_model_spec_parse(config, "config.json", out, err);
    json_decref(config);
    return st;
}

pr_model_spec spec_of(const char *base, const char *changes)
{
    pr_model_spec spec = {0};
    pr_error err = {0};
    if (spec_parse(base, NULL, changes, &spec, &err) != PR_OK) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    return spec;
}
