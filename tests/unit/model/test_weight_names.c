/* Which tensors a model needs, their names, shapes and the config fields that say so. */
#include "runtime/model/weight_names.h"
#include "tests/unit/model/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static pr_weight_list *list_of(const pr_model_spec *spec)
{
    pr_weight_list *list = NULL;
    assert_int_equal(pr_weight_list_build(spec, &list, NULL), PR_OK);
    return list;
}

static int64_t parameters_of(const pr_weight_list *list)
{
    int64_t n = 0;
    for (size_t i = 0; i < pr_weight_list_count(list); i++) {
        const pr_weight *w = pr_weight_list_at(list, i);
        if (!w->optional) n += w->shape[0] * (w->n_dims > 1 ? w->shape[1] : 1);
    }
    return n;
}

static const struct {
    const char *base, *changes;
    pr_role role;
    int32_t i_layer;
    const char *name;
    bool has_prefix, optional;
    int n_dims;
    int64_t shape[2];
    const char *shape_from;
} named[] = {
    {bert_config,
     NULL,
     PR_ROLE_TOKEN_TABLE,
     -1,
     "embeddings.word_embeddings.weight",
     true,
     false,
     2,
     {100, 32},
     "vocab_size"},
    {xlmr_config,
     NULL,
     PR_ROLE_POSITION_TABLE,
     -1,
     "embeddings.position_embeddings.weight",
     true,
     false,
     2,
     {40, 32},
     "max_position_embeddings"},
    {bert_config,
     NULL,
     PR_ROLE_Q_BIAS,
     2,
     "encoder.layer.2.attention.self.query.bias",
     true,
     false,
     1,
     {32, 0},
     "hidden_size"},
    {bert_config,
     NULL,
     PR_ROLE_MLP_NORM,
     0,
     "encoder.layer.0.output.LayerNorm.weight",
     true,
     false,
     1,
     {32, 0},
     "hidden_size"},
    {qwen3_config,
     NULL,
     PR_ROLE_Q,
     3,
     "layers.3.self_attn.q_proj.weight",
     true,
     false,
     2,
     {128, 64},
     "num_attention_heads * head_dim"},
    {qwen3_config,
     NULL,
     PR_ROLE_K,
     3,
     "layers.3.self_attn.k_proj.weight",
     true,
     false,
     2,
     {32, 64},
     "num_key_value_heads * head_dim"},
    {qwen3_config,
     NULL,
     PR_ROLE_Q_NORM,
     0,
     "layers.0.self_attn.q_norm.weight",
     true,
     false,
     1,
     {16, 0},
     "head_dim"},
    {qwen2_config,
     NULL,
     PR_ROLE_DOWN,
     1,
     "layers.1.mlp.down_proj.weight",
     true,
     false,
     2,
     {64, 96},
     "hidden_size"},
    {llama_config,
     "{'mlp_bias': true}",
     PR_ROLE_GATE_BIAS,
     0,
     "layers.0.mlp.gate_proj.bias",
     true,
     false,
     1,
     {96, 0},
     "intermediate_size"},
    {bert_config,
     "{'architectures': ['BertForSequenceClassification'], 'num_labels': 3}",
     PR_ROLE_HEAD_DENSE,
     -1,
     "pooler.dense.weight",
     true,
     false,
     2,
     {32, 32},
     "hidden_size"},
    {bert_config,
     "{'architectures': ['BertForSequenceClassification'], 'num_labels': 3}",
     PR_ROLE_HEAD_OUT,
     -1,
     "classifier.weight",
     false,
     false,
     2,
     {3, 32},
     "num_labels / id2label"},
    {xlmr_config,
     "{'architectures': ['XLMRobertaForSequenceClassification']}",
     PR_ROLE_HEAD_OUT,
     -1,
     "classifier.out_proj.weight",
     false,
     false,
     2,
     {2, 32},
     "num_labels / id2label"},
    {llama_config,
     "{'architectures': ['LlamaForSequenceClassification']}",
     PR_ROLE_HEAD_OUT_BIAS,
     -1,
     "score.bias",
     false,
     true,
     1,
     {2, 0},
     "num_labels / id2label"},
    {qwen2_config,
     "{'architectures': ['Qwen2ForRewardModel']}",
     PR_ROLE_HEAD_OUT,
     -1,
     "score.2.weight",
     false,
     false,
     2,
     {1, 64},
     "a reward is one number"},
};

static void weights_of_a_model_are_named_shaped_and_explained(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        pr_model_spec spec = spec_of(named[i].base, named[i].changes);
        pr_weight_list *list = list_of(&spec);
        const pr_weight *w = pr_weight_list_find(list, named[i].role, named[i].i_layer);
        if (!w) fail_msg("case %zu: no such weight", i);
        assert_string_equal(w->name, named[i].name);
        assert_string_equal(w->shape_from[0], named[i].shape_from);
        assert_int_equal(w->has_prefix, named[i].has_prefix);
        assert_int_equal(w->optional, named[i].optional);
        assert_int_equal(w->n_dims, named[i].n_dims);
        assert_int_equal(w->shape[0], named[i].shape[0]);
        assert_int_equal(w->shape[1], named[i].shape[1]);
        pr_weight_list_free(list);
        pr_model_spec_deinit(&spec);
    }
}

static void weights_that_a_model_does_not_use_are_not_listed(void **state)
{
    (void)state;
    static const struct {
        const char *base, *changes;
        pr_role role;
        int32_t i_layer;
    } cases[] = {
        {bert_config, NULL, PR_ROLE_HEAD_DENSE, -1}, /* BertModel's own pooler */
        {bert_config, NULL, PR_ROLE_GATE, 0},
        {bert_config, NULL, PR_ROLE_FINAL_NORM, -1},
        {bert_config, NULL, PR_ROLE_Q, 3}, /* there are three layers */
        {llama_config, NULL, PR_ROLE_Q_BIAS, 0},
        {qwen2_config, NULL, PR_ROLE_O_BIAS, 0},
        {qwen2_config, NULL, PR_ROLE_POSITION_TABLE, -1},
        {qwen2_config, NULL, PR_ROLE_HEAD_OUT, -1},
        {mistral_config, "{'attention_bias': true}", PR_ROLE_Q_BIAS, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_model_spec spec = spec_of(cases[i].base, cases[i].changes);
        pr_weight_list *list = list_of(&spec);
        if (pr_weight_list_find(list, cases[i].role, cases[i].i_layer)) fail_msg("case %zu", i);
        pr_weight_list_free(list);
    }
}

/* Counts that transformers gives: sum(p.numel()) of the same shapes, and of the 72B model the
 * total_parameters of its index file. */
static void weights_add_up_to_the_published_parameter_counts(void **state)
{
    (void)state;
    static const struct {
        const char *config;
        int64_t n_parameters;
    } cases[] = {
        {"{'architectures': ['Qwen2ForRewardModel'], 'hidden_size': 8192, "
         "'intermediate_size': 29568, 'num_hidden_layers': 80, 'num_attention_heads': 64, "
         "'num_key_value_heads': 8, 'vocab_size': 152064, 'max_position_embeddings': 4096, "
         "'tie_word_embeddings': false}",
         INT64_C(71527620609)},
        /* all-MiniLM-L6-v2 without its pooler: 22,713,216 - 147,840 */
        {"{'architectures': ['BertModel'], 'hidden_size': 384, 'intermediate_size': 1536, "
         "'num_hidden_layers': 6, 'num_attention_heads': 12, 'vocab_size': 30522, "
         "'max_position_embeddings': 512, 'type_vocab_size': 2}",
         INT64_C(22565376)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_model_spec spec = spec_of(cases[i].config, NULL);
        pr_weight_list *list = list_of(&spec);
        assert_true(parameters_of(list) == cases[i].n_parameters);
        pr_weight_list_free(list);
        pr_model_spec_deinit(&spec);
    }
}

static void weights_are_listed_in_checkpoint_order(void **state)
{
    (void)state;
    pr_model_spec spec = spec_of(qwen2_config, "{'architectures': ['Qwen2ForRewardModel']}");
    pr_weight_list *list = list_of(&spec);
    int32_t i_layer = -1;
    for (size_t i = 0; i < pr_weight_list_count(list); i++) {
        const pr_weight *w = pr_weight_list_at(list, i);
        if (w->i_layer < 0) continue;
        assert_true(w->i_layer == i_layer || w->i_layer == i_layer + 1);
        i_layer = w->i_layer;
    }
    assert_int_equal(pr_weight_list_at(list, 0)->role, PR_ROLE_TOKEN_TABLE);
    assert_int_equal(pr_weight_list_at(list, pr_weight_list_count(list) - 1)->role,
                     PR_ROLE_HEAD_OUT_BIAS);
    pr_weight_list_free(list);
    pr_model_spec_deinit(&spec);
}

static void weight_names_of_old_checkpoints_say_gamma_and_beta(void **state)
{
    (void)state;
    char alt[64];
    assert_true(pr_weight_name_alternative("embeddings.LayerNorm.weight", alt, sizeof alt));
    assert_string_equal(alt, "embeddings.LayerNorm.gamma");
    assert_true(pr_weight_name_alternative("embeddings.LayerNorm.bias", alt, sizeof alt));
    assert_string_equal(alt, "embeddings.LayerNorm.beta");
    assert_false(pr_weight_name_alternative("norm.weight", alt, sizeof alt));
    assert_false(pr_weight_name_alternative("embeddings.LayerNorm.weight", alt, 8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_of_a_model_are_named_shaped_and_explained),
        cmocka_unit_test(weights_that_a_model_does_not_use_are_not_listed),
        cmocka_unit_test(weights_add_up_to_the_published_parameter_counts),
        cmocka_unit_test(weights_are_listed_in_checkpoint_order),
        cmocka_unit_test(weight_names_of_old_checkpoints_say_gamma_and_beta),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
