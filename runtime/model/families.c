#include "runtime/model/families.h"

#include <assert.h>
#include <string.h>

/* Two lines a tensor. */
/* clang-format off */
/* Names and shapes: transformers 5.16.1, modeling_bert.py and modeling_roberta.py. */
static const pr_weight_row encoder_weights[] = {
    {PR_ROLE_TOKEN_TABLE, PR_WHEN_ALWAYS, "embeddings.word_embeddings.weight",
     {PR_EXTENT_VOCAB, PR_EXTENT_HIDDEN}, PR_PARTITION_VOCAB, false, false},
    {PR_ROLE_POSITION_TABLE, PR_WHEN_ALWAYS, "embeddings.position_embeddings.weight",
     {PR_EXTENT_POSITIONS, PR_EXTENT_HIDDEN}, PR_PARTITION_FIRST, false, false},
    {PR_ROLE_TYPE_TABLE, PR_WHEN_TYPES, "embeddings.token_type_embeddings.weight",
     {PR_EXTENT_TYPES, PR_EXTENT_HIDDEN}, PR_PARTITION_FIRST, false, false},
    {PR_ROLE_EMBED_NORM, PR_WHEN_ALWAYS, "embeddings.LayerNorm.weight",
     {PR_EXTENT_HIDDEN}, PR_PARTITION_REPLICATED, false, false},
    {PR_ROLE_EMBED_NORM_BIAS, PR_WHEN_ALWAYS, "embeddings.LayerNorm.bias",
     {PR_EXTENT_HIDDEN}, PR_PARTITION_REPLICATED, false, false},
    {PR_ROLE_Q, PR_WHEN_ALWAYS, "encoder.layer.#.attention.self.query.weight",
     {PR_EXTENT_Q, PR_EXTENT_HIDDEN}, PR_PARTITION_HEADS, false, false},
    {PR_ROLE_Q_BIAS, PR_WHEN_QKV_BIAS, "encoder.layer.#.attention.self.query.bias",
     {PR_EXTENT_Q}, PR_PARTITION_HEADS, false, false},
    {PR_ROLE_K, PR_WHEN_ALWAYS, "encoder.layer.#.attention.self.key.weight",
     {PR_EXTENT_KV, PR_EXTENT_HIDDEN}, PR_PARTITION_KV_HEADS, false, false},
    {PR_ROLE_K_BIAS, PR_WHEN_QKV_BIAS, "encoder.layer.#.attention.self.key.bias",
     {PR_EXTENT_KV}, PR_PARTITION_KV_HEADS, false, false},
    {PR_ROLE_V, PR_WHEN_ALWAYS, "encoder.layer.#.attention.self.value.weight",
     {PR_EXTENT_KV, PR_EXTENT_HIDDEN}, PR_PARTITION_KV_HEADS, false, false},
    {PR_ROLE_V_BIAS, PR_WHEN_QKV_BIAS, "encoder.layer.#.attention.self.value.bias",
     {PR_EXTENT_KV}, PR_PARTITION_KV_HEADS, false, false},
    {PR_ROLE_O, PR_WHEN_ALWAYS, "encoder.layer.#.attention.output.dense.weight",
     {PR_EXTENT_HIDDEN, PR_EXTENT_Q}, PR_PARTITION_ROW_HEADS, false, false},
    {PR_ROLE_O_BIAS, PR_WHEN_O_BIAS, "encoder.layer.#.attention.output.dense.bias",
     {PR_EXTENT_HIDDEN}, PR_PARTITION_FIRST, false, false},
    {PR_ROLE_ATTENTION_NORM, PR_WHEN_ALWAYS, "encoder.layer.#.attention.output.LayerNorm.weight",
     {PR_EXTENT_HIDDEN}, PR_PARTITION_REPLICATED, false, false},
    {PR_ROLE_ATTENTION_NORM_BIAS, PR_WHEN_ALWAYS, "encoder.layer.#.attention.output.LayerNorm.bias",
     {PR_EXTENT_HIDDEN}, PR_PARTITION_REPLICATED, false, false},
    {PR_ROLE_UP, PR_WHEN_ALWAYS, "encoder.layer.#.intermediate.dense.weight",
     {PR_EXTENT_INTERMEDIATE, PR_EXTENT_HIDDEN}, PR_PARTITION_COLUMN, false, false},
    {PR_ROLE_UP_BIAS, PR_WHEN_MLP_BIAS, "encoder.layer.#.intermediate.dense.bias",
     {PR_EXTENT_INTERMEDIATE}, PR_PARTITION_COLUMN, false, false},
    {PR_ROLE_DOWN, PR_WHEN_ALWAYS, "encoder.layer.#.output.dense.weight",
     {PR_EXTENT_HIDDEN, PR_EXTENT_INTERMEDIATE}, PR_PARTITION_ROW, false, false},
    {PR_ROLE_DOWN_BIAS, PR_WHEN_MLP_BIAS, "encoder.layer.#.output.dense.bias",
     {PR_EXTENT_HIDDEN}, PR_PARTITION_FIRST, false, false},
    {PR_ROLE_MLP_NORM, PR_WHEN_ALWAYS, "encoder.layer.#.output.LayerNorm.weight",
     {PR_EXTENT_HIDDEN}, PR_PARTITION_REPLICATED, false, false},
    {PR_ROLE_MLP_NORM_BIAS, PR_WHEN_ALWAYS, "encoder.layer.#.output.LayerNorm.bias",
     {PR_EXTENT_HIDDEN}, PR_PARTITION_REPLICATED, false, false},
};

/* Names and shapes: transformers 5.16.1, modeling_qwen2.py, _qwen3, _llama and _mistral. */
static const pr_weight_row decoder_weights[] = {
    {PR_ROLE_TOKEN_TABLE, PR_WHEN_ALWAYS, "embed_tokens.weight",
     {PR_EXTENT_VOCAB, PR_EXTENT_HIDDEN}, PR_PARTITION_VOCAB, false, false},
    {PR_ROLE_ATTENTION_NORM, PR_WHEN_ALWAYS, "layers.#.input_layernorm.weight",
     {PR_EXTENT_HIDDEN}, PR_PARTITION_REPLICATED, false, false},
    {PR_ROLE_Q, PR_WHEN_ALWAYS, "layers.#.self_attn.q_proj.weight",
     {PR_EXTENT_Q, PR_EXTENT_HIDDEN}, PR_PARTITION_HEADS, false, false},
    {PR_ROLE_Q_BIAS, PR_WHEN_QKV_BIAS, "layers.#.self_attn.q_proj.bias",
     {PR_EXTENT_Q}, PR_PARTITION_HEADS, false, false},
    {PR_ROLE_K, PR_WHEN_ALWAYS, "layers.#.self_attn.k_proj.weight",
     {PR_EXTENT_KV, PR_EXTENT_HIDDEN}, PR_PARTITION_KV_HEADS, false, false},
    {PR_ROLE_K_BIAS, PR_WHEN_QKV_BIAS, "layers.#.self_attn.k_proj.bias",
     {PR_EXTENT_KV}, PR_PARTITION_KV_HEADS, false, false},
    {PR_ROLE_V, PR_WHEN_ALWAYS, "layers.#.self_attn.v_proj.weight",
     {PR_EXTENT_KV, PR_EXTENT_HIDDEN}, PR_PARTITION_KV_HEADS, false, false},
    {PR_ROLE_V_BIAS, PR_WHEN_QKV_BIAS, "layers.#.self_attn.v_proj.bias",
     {PR_EXTENT_KV}, PR_PARTITION_KV_HEADS, false, false},
    {PR_ROLE_Q_NORM, PR_WHEN_QK_NORM, "layers.#.self_attn.q_norm.weight",
     {PR_EXTENT_HEAD_DIM}, PR_PARTITION_REPLICATED, false, false},
    {PR_ROLE_K_NORM, PR_WHEN_QK_NORM, "layers.#.self_attn.k_norm.weight",
     {PR_EXTENT_HEAD_DIM}, PR_PARTITION_REPLICATED, false, false},
    {PR_ROLE_O, PR_WHEN_ALWAYS, "layers.#.self_attn.o_proj.weight",
     {PR_EXTENT_HIDDEN, PR_EXTENT_Q}, PR_PARTITION_ROW_HEADS, false, false},
    {PR_ROLE_O_BIAS, PR_WHEN_O_BIAS, "layers.#.self_attn.o_proj.bias",
     {PR_EXTENT_HIDDEN}, PR_PARTITION_FIRST, false, false},
    {PR_ROLE_MLP_NORM, PR_WHEN_ALWAYS, "layers.#.post_attention_layernorm.weight",
     {PR_EXTENT_HIDDEN}, PR_PARTITION_REPLICATED, false, false},
    {PR_ROLE_GATE, PR_WHEN_ALWAYS, "layers.#.mlp.gate_proj.weight",
     {PR_EXTENT_INTERMEDIATE, PR_EXTENT_HIDDEN}, PR_PARTITION_COLUMN, false, false},
    {PR_ROLE_GATE_BIAS, PR_WHEN_MLP_BIAS, "layers.#.mlp.gate_proj.bias",
     {PR_EXTENT_INTERMEDIATE}, PR_PARTITION_COLUMN, false, false},
    {PR_ROLE_UP, PR_WHEN_ALWAYS, "layers.#.mlp.up_proj.weight",
     {PR_EXTENT_INTERMEDIATE, PR_EXTENT_HIDDEN}, PR_PARTITION_COLUMN, false, false},
    {PR_ROLE_UP_BIAS, PR_WHEN_MLP_BIAS, "layers.#.mlp.up_proj.bias",
     {PR_EXTENT_INTERMEDIATE}, PR_PARTITION_COLUMN, false, false},
    {PR_ROLE_DOWN, PR_WHEN_ALWAYS, "layers.#.mlp.down_proj.weight",
     {PR_EXTENT_HIDDEN, PR_EXTENT_INTERMEDIATE}, PR_PARTITION_ROW, false, false},
    {PR_ROLE_DOWN_BIAS, PR_WHEN_MLP_BIAS, "layers.#.mlp.down_proj.bias",
     {PR_EXTENT_HIDDEN}, PR_PARTITION_FIRST, false, false},
    {PR_ROLE_FINAL_NORM, PR_WHEN_ALWAYS, "norm.weight",
     {PR_EXTENT_HIDDEN}, PR_PARTITION_POOLING, false, false},
};

/* transformers makes `score` without a bias; some reward models were trained with one. */
static const pr_weight_row score_weights[] = {
    {PR_ROLE_HEAD_OUT, PR_WHEN_ALWAYS, "score.weight",
     {PR_EXTENT_LABELS, PR_EXTENT_HIDDEN}, PR_PARTITION_POOLING, true, false},
    {PR_ROLE_HEAD_OUT_BIAS, PR_WHEN_ALWAYS, "score.bias",
     {PR_EXTENT_LABELS}, PR_PARTITION_POOLING, true, true},
};

static const pr_weight_row bert_classifier_weights[] = {
    {PR_ROLE_HEAD_DENSE, PR_WHEN_ALWAYS, "pooler.dense.weight",
     {PR_EXTENT_HIDDEN, PR_EXTENT_HIDDEN}, PR_PARTITION_POOLING, false, false},
    {PR_ROLE_HEAD_DENSE_BIAS, PR_WHEN_ALWAYS, "pooler.dense.bias",
     {PR_EXTENT_HIDDEN}, PR_PARTITION_POOLING, false, false},
    {PR_ROLE_HEAD_OUT, PR_WHEN_ALWAYS, "classifier.weight",
     {PR_EXTENT_LABELS, PR_EXTENT_HIDDEN}, PR_PARTITION_POOLING, true, false},
    {PR_ROLE_HEAD_OUT_BIAS, PR_WHEN_ALWAYS, "classifier.bias",
     {PR_EXTENT_LABELS}, PR_PARTITION_POOLING, true, false},
};

static const pr_weight_row roberta_classifier_weights[] = {
    {PR_ROLE_HEAD_DENSE, PR_WHEN_ALWAYS, "classifier.dense.weight",
     {PR_EXTENT_HIDDEN, PR_EXTENT_HIDDEN}, PR_PARTITION_POOLING, true, false},
    {PR_ROLE_HEAD_DENSE_BIAS, PR_WHEN_ALWAYS, "classifier.dense.bias",
     {PR_EXTENT_HIDDEN}, PR_PARTITION_POOLING, true, false},
    {PR_ROLE_HEAD_OUT, PR_WHEN_ALWAYS, "classifier.out_proj.weight",
     {PR_EXTENT_LABELS, PR_EXTENT_HIDDEN}, PR_PARTITION_POOLING, true, false},
    {PR_ROLE_HEAD_OUT_BIAS, PR_WHEN_ALWAYS, "classifier.out_proj.bias",
     {PR_EXTENT_LABELS}, PR_PARTITION_POOLING, true, false},
};

static const pr_weight_row reward_weights[] = {
    {PR_ROLE_HEAD_DENSE, PR_WHEN_ALWAYS, "score.0.weight",
     {PR_EXTENT_HIDDEN, PR_EXTENT_HIDDEN}, PR_PARTITION_POOLING, true, false},
    {PR_ROLE_HEAD_DENSE_BIAS, PR_WHEN_ALWAYS, "score.0.bias",
     {PR_EXTENT_HIDDEN}, PR_PARTITION_POOLING, true, false},
    {PR_ROLE_HEAD_OUT, PR_WHEN_ALWAYS, "score.2.weight",
     {PR_EXTENT_LABELS, PR_EXTENT_HIDDEN}, PR_PARTITION_POOLING, true, false},
    {PR_ROLE_HEAD_OUT_BIAS, PR_WHEN_ALWAYS, "score.2.bias",
     {PR_EXTENT_LABELS}, PR_PARTITION_POOLING, true, false},
};
/* clang-format on */

#define COUNT(a) (sizeof(a) / sizeof *(a))

static const char *const bert_prefixes[] = {"", "bert.", NULL};
static const char *const roberta_prefixes[] = {"", "roberta.", NULL};
static const char *const decoder_prefixes[] = {"", "model.", NULL};

#define ENCODER                                                                                    \
    .weights = encoder_weights, .n_weights = COUNT(encoder_weights), .norm = PR_NORM_LAYER,        \
    .position = PR_POSITION_TABLE, .post_norm = true, .norm_eps_field = "layer_norm_eps",          \
    .pooling = PR_POOL_CLS,                                                                        \
    .features = PR_FEATURE_QKV_BIAS | PR_FEATURE_O_BIAS | PR_FEATURE_MLP_BIAS

#define DECODER                                                                                    \
    .prefixes = decoder_prefixes, .weights = decoder_weights, .n_weights = COUNT(decoder_weights), \
    .norm = PR_NORM_RMS, .position = PR_POSITION_ROPE, .gated = true, .causal = true,              \
    .norm_eps_field = "rms_norm_eps", .pooling = PR_POOL_LAST

/* Defaults: transformers 5.16.1, configuration_*.py of each family. */
static const pr_family_row families[] = {
    [PR_FAMILY_BERT] = {.name = "bert",
                        .model_type = "bert",
                        .prefixes = bert_prefixes,
                        ENCODER,
                        .defaults = {1e-12, "gelu", 512, 2, 0, 0, 0, 0, 0}},
    [PR_FAMILY_ROBERTA] = {.name = "roberta",
                           .model_type = "roberta",
                           .prefixes = roberta_prefixes,
                           ENCODER,
                           .position_from_pad = true,
                           .defaults = {1e-12, "gelu", 512, 2, 1, 0, 0, 0, 0}},
    [PR_FAMILY_XLM_ROBERTA] = {.name = "xlm-roberta",
                               .model_type = "xlm-roberta",
                               .prefixes = roberta_prefixes,
                               ENCODER,
                               .position_from_pad = true,
                               .defaults = {1e-12, "gelu", 512, 2, 1, 0, 0, 0, 0}},
    [PR_FAMILY_QWEN2] = {.name = "qwen2",
                         .model_type = "qwen2",
                         DECODER,
                         .features = PR_FEATURE_QKV_BIAS | PR_FEATURE_WINDOW_LAYERS |
                                     PR_FEATURE_HEAD_DIM | PR_FEATURE_KV_HEADS,
                         .defaults = {1e-6, "silu", 32768, 0, -1, 32, 0, 4096, 28}},
    [PR_FAMILY_QWEN3] = {.name = "qwen3",
                         .model_type = "qwen3",
                         DECODER,
                         .qk_norm = true,
                         .features = PR_FEATURE_ATTENTION_BIAS | PR_FEATURE_WINDOW_LAYERS |
                                     PR_FEATURE_HEAD_DIM | PR_FEATURE_KV_HEADS,
                         .defaults = {1e-6, "silu", 32768, 0, -1, 32, 128, 4096, 28}},
    [PR_FAMILY_LLAMA] = {.name = "llama",
                         .model_type = "llama",
                         DECODER,
                         .features = PR_FEATURE_ATTENTION_BIAS | PR_FEATURE_MLP_BIAS_FIELD |
                                     PR_FEATURE_HEAD_DIM | PR_FEATURE_KV_HEADS,
                         .defaults = {1e-6, "silu", 2048, 0, -1, 0, 0, 0, 0}},
    [PR_FAMILY_MISTRAL] = {.name = "mistral",
                           .model_type = "mistral",
                           DECODER,
                           .features =
                               PR_FEATURE_WINDOW | PR_FEATURE_HEAD_DIM | PR_FEATURE_KV_HEADS,
                           .defaults = {1e-6, "silu", 131072, 0, -1, 8, 0, 4096, 0}},
};
static_assert(COUNT(families) == PR_FAMILY_COUNT, "one row per family");

/* The first row of a family is its base model. CamemBERT's code is RoBERTa's, line for line. */
static const pr_architecture_row architectures[] = {
    {"BertModel", PR_FAMILY_BERT, PR_HEAD_NONE},
    {"BertForPreTraining", PR_FAMILY_BERT, PR_HEAD_NONE},
    {"BertForMaskedLM", PR_FAMILY_BERT, PR_HEAD_NONE},
    {"BertForSequenceClassification", PR_FAMILY_BERT, PR_HEAD_BERT_CLASSIFIER},
    {"RobertaModel", PR_FAMILY_ROBERTA, PR_HEAD_NONE},
    {"RobertaForMaskedLM", PR_FAMILY_ROBERTA, PR_HEAD_NONE},
    {"RobertaForSequenceClassification", PR_FAMILY_ROBERTA, PR_HEAD_ROBERTA_CLASSIFIER},
    {"CamembertModel", PR_FAMILY_ROBERTA, PR_HEAD_NONE},
    {"CamembertForMaskedLM", PR_FAMILY_ROBERTA, PR_HEAD_NONE},
    {"CamembertForSequenceClassification", PR_FAMILY_ROBERTA, PR_HEAD_ROBERTA_CLASSIFIER},
    {"XLMRobertaModel", PR_FAMILY_XLM_ROBERTA, PR_HEAD_NONE},
    {"XLMRobertaForMaskedLM", PR_FAMILY_XLM_ROBERTA, PR_HEAD_NONE},
    {"XLMRobertaForSequenceClassification", PR_FAMILY_XLM_ROBERTA, PR_HEAD_ROBERTA_CLASSIFIER},
    {"Qwen2Model", PR_FAMILY_QWEN2, PR_HEAD_NONE},
    {"Qwen2ForCausalLM", PR_FAMILY_QWEN2, PR_HEAD_NONE},
    {"Qwen2ForSequenceClassification", PR_FAMILY_QWEN2, PR_HEAD_SCORE},
    {"Qwen2ForRewardModel", PR_FAMILY_QWEN2, PR_HEAD_REWARD},
    {"Qwen2ForProcessRewardModel", PR_FAMILY_QWEN2, PR_HEAD_PROCESS_REWARD},
    {"Qwen3Model", PR_FAMILY_QWEN3, PR_HEAD_NONE},
    {"Qwen3ForCausalLM", PR_FAMILY_QWEN3, PR_HEAD_NONE},
    {"Qwen3ForSequenceClassification", PR_FAMILY_QWEN3, PR_HEAD_SCORE},
    {"LlamaModel", PR_FAMILY_LLAMA, PR_HEAD_NONE},
    {"LlamaForCausalLM", PR_FAMILY_LLAMA, PR_HEAD_NONE},
    {"LlamaForSequenceClassification", PR_FAMILY_LLAMA, PR_HEAD_SCORE},
    {"MistralModel", PR_FAMILY_MISTRAL, PR_HEAD_NONE},
    {"MistralForCausalLM", PR_FAMILY_MISTRAL, PR_HEAD_NONE},
    {"MistralForSequenceClassification", PR_FAMILY_MISTRAL, PR_HEAD_SCORE},
};

const pr_family_row *pr_family_describe(pr_family family)
{
    assert((unsigned)family < PR_FAMILY_COUNT);
    return &families[family];
}

const pr_architecture_row *pr_architecture_find(const char *name)
{
    assert(name);
    for (size_t i = 0; i < COUNT(architectures); i++) {
        if (strcmp(architectures[i].name, name) == 0) return &architectures[i];
    }
    return NULL;
}

const pr_architecture_row *pr_architecture_at(size_t i)
{
    return i < COUNT(architectures) ? &architectures[i] : NULL;
}

const pr_architecture_row *pr_architecture_of_type(const char *model_type)
{
    assert(model_type);
    if (strcmp(model_type, "camembert") == 0) return pr_architecture_find("CamembertModel");
    for (size_t i = 0; i < COUNT(architectures); i++) {
        const pr_family_row *family = &families[architectures[i].family];
        if (strcmp(family->model_type, model_type) == 0) return &architectures[i];
    }
    return NULL;
}

const pr_weight_row *pr_head_weights(pr_head head, size_t *n)
{
    static const struct {
        const pr_weight_row *rows;
        size_t n;
    } heads[] = {
        [PR_HEAD_NONE] = {NULL, 0},
        [PR_HEAD_SCORE] = {score_weights, COUNT(score_weights)},
        [PR_HEAD_BERT_CLASSIFIER] = {bert_classifier_weights, COUNT(bert_classifier_weights)},
        [PR_HEAD_ROBERTA_CLASSIFIER] = {roberta_classifier_weights,
                                        COUNT(roberta_classifier_weights)},
        [PR_HEAD_REWARD] = {reward_weights, COUNT(reward_weights)},
        [PR_HEAD_PROCESS_REWARD] = {reward_weights, COUNT(reward_weights)},
    };
    static_assert(COUNT(heads) == PR_HEAD_COUNT, "one row per head");
    assert((unsigned)head < PR_HEAD_COUNT);
    *n = heads[head].n;
    return heads[head].rows;
}
