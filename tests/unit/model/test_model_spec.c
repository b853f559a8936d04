/* config.json to pr_model_spec: what is read, what is assumed, what is refused. */
#include "runtime/model/families.h"
#include "runtime/model/model_spec.h"
#include "tests/unit/model/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void config_of_bert_is_read_with_the_defaults_of_transformers(void **state)
{
    (void)state;
    pr_model_spec s = spec_of(bert_config, NULL);
    assert_int_equal(s.family, PR_FAMILY_BERT);
    assert_int_equal(s.head, PR_HEAD_NONE);
    assert_string_equal(s.architecture, "BertModel");
    assert_int_equal(s.head_dim, 8);
    assert_int_equal(s.n_kv_heads, 4);
    assert_int_equal(s.n_positions, 40);
    assert_int_equal(s.position_offset, 0);
    assert_int_equal(s.type_vocab_size, 2);
    assert_int_equal(s.pad_token_id, 0);
    assert_int_equal(s.norm, PR_NORM_LAYER);
    assert_true(s.norm_eps == 1e-12f);
    assert_int_equal(s.activation, PR_ACTIVATION_GELU);
    assert_true(s.post_norm && s.qkv_bias && s.o_bias && s.mlp_bias);
    assert_false(s.gated || s.causal || s.qk_norm);
    assert_int_equal(s.checkpoint_dtype, PR_DTYPE_F32);
    assert_int_equal(s.n_labels, 0);
    assert_null(s.labels);
}

static void config_of_qwen2_is_read_with_the_defaults_of_transformers(void **state)
{
    (void)state;
    pr_model_spec s = spec_of(qwen2_config, NULL);
    assert_int_equal(s.family, PR_FAMILY_QWEN2);
    assert_int_equal(s.n_kv_heads, 2);
    assert_int_equal(s.head_dim, 8);
    assert_int_equal(s.norm, PR_NORM_RMS);
    assert_true(s.norm_eps == 1e-6f);
    assert_int_equal(s.activation, PR_ACTIVATION_SILU);
    assert_true(s.gated && s.causal && s.qkv_bias);
    assert_false(s.o_bias || s.mlp_bias || s.qk_norm || s.post_norm || s.tie_word_embeddings);
    assert_true(s.rope_theta == 10000.0);
    assert_int_equal(s.rope_scaling, PR_ROPE_NO_SCALING);
    assert_int_equal(s.window[0], 0);
    assert_int_equal(s.window[3], 0);
    assert_int_equal(s.pad_token_id, -1);
}

static void config_of_roberta_starts_positions_behind_the_padding_token(void **state)
{
    (void)state;
    pr_model_spec s = spec_of(xlmr_config, NULL);
    assert_int_equal(s.position_offset, 2);
    assert_int_equal(s.n_positions, 38);
    s = spec_of(roberta_config, "{'pad_token_id': 5}");
    assert_int_equal(s.position_offset, 6);
    assert_int_equal(s.n_positions, 34);
}

static void config_of_each_layout_gives_the_same_model(void **state)
{
    (void)state;
    pr_model_spec old =
        spec_of(llama_config, "{'torch_dtype': 'bfloat16', 'rope_theta': 500000.0, "
                              "'rope_scaling': {'rope_type': 'llama3', 'factor': 8.0, "
                              "'low_freq_factor': 1.0, 'high_freq_factor': 4.0, "
                              "'original_max_position_embeddings': 64}}");
    pr_model_spec new =
        spec_of(llama_config, "{'dtype': 'bfloat16', 'rope_parameters': {'rope_type': 'llama3', "
                              "'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0, "
                              "'rope_theta': 500000.0, 'original_max_position_embeddings': 64}}");
    assert_int_equal(old.checkpoint_dtype, PR_DTYPE_BF16);
    assert_int_equal(old.rope_scaling, PR_ROPE_LLAMA3);
    assert_int_equal(old.rope_original_positions, 64);
    assert_true(old.rope_theta == 500000.0 && old.rope_factor == 8.0);
    assert_int_equal(new.checkpoint_dtype, old.checkpoint_dtype);
    assert_int_equal(new.rope_scaling, old.rope_scaling);
    assert_int_equal(new.rope_original_positions, old.rope_original_positions);
    assert_true(new.rope_theta == old.rope_theta &&new.rope_factor == old.rope_factor);
    assert_true(new.rope_low_freq_factor == old.rope_low_freq_factor);
    assert_true(new.rope_high_freq_factor == old.rope_high_freq_factor);
}

static void config_gives_each_family_its_own_layer(void **state)
{
    (void)state;
    static const struct {
        const char *base, *changes;
        bool qkv_bias, o_bias, mlp_bias, qk_norm, causal;
        int32_t head_dim;
    } cases[] = {
        {qwen3_config, NULL, false, false, false, true, true, 16},
        {qwen3_config, "{'attention_bias': true}", true, true, false, true, true, 16},
        {llama_config, NULL, false, false, false, false, true, 8},
        {llama_config, "{'attention_bias': true}", true, true, false, false, true, 8},
        {llama_config, "{'mlp_bias': true, 'head_dim': 12}", false, false, true, false, true, 12},
        {mistral_config, "{'attention_bias': true}", false, false, false, false, true, 8},
        {qwen2_config, "{'is_causal': false}", true, false, false, false, false, 8},
        /* transformers reads it in no code of these families. */
        {llama_config, "{'use_bidirectional_attention': true}", false, false, false, false, true,
         8},
        {qwen2_config, "{'auto_map': {'AutoModel': 'modeling_qwen.Qwen2Model'}}", true, false,
         false, false, false, 8},
        {qwen2_config, "{'auto_map': {'AutoModel': 'a/b--modeling_qwen.Qwen2Model'}}", true, false,
         false, false, false, 8},
        {qwen2_config, "{'auto_map': {'AutoConfig': 'configuration_qwen2_rm.Qwen2RMConfig'}}",
         true, false, false, false, true, 8},
        {qwen2_config,
         "{'architectures': ['Qwen2ForRewardModel'], 'auto_map': {'AutoConfig': "
         "'configuration_qwen2_rm.Qwen2RMConfig', 'AutoModel': "
         "'modeling_qwen2_rm.Qwen2ForRewardModel'}}",
         true, false, false, false, true, 8},
        {qwen2_config,
         "{'architectures': ['Qwen2ForProcessRewardModel'], 'auto_map': {'AutoModel': "
         "'modeling_qwen2_rm.Qwen2ForProcessRewardModel'}}",
         true, false, false, false, true, 8},
        {llama_config, "{'head_dim': null, 'is_causal': null}", false, false, false, false, true,
         8},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_model_spec s = spec_of(cases[i].base, cases[i].changes);
        if (s.qkv_bias != cases[i].qkv_bias || s.o_bias != cases[i].o_bias ||
            s.mlp_bias != cases[i].mlp_bias || s.qk_norm != cases[i].qk_norm ||
            s.causal != cases[i].causal || s.head_dim != cases[i].head_dim) {
            fail_msg("case %zu", i);
        }
        pr_model_spec_deinit(&s);
    }
}

static void config_says_which_layers_see_a_window(void **state)
{
    (void)state;
    static const struct {
        const char *base, *drop, *changes;
        int32_t window[4];
    } cases[] = {
        /* Mistral: all layers; null is none; a missing key is transformers' 4096. */
        {mistral_config, NULL, "{'sliding_window': 16}", {16, 16, 16, 16}},
        {mistral_config, NULL, "{'sliding_window': null}", {0, 0, 0, 0}},
        {mistral_config, NULL, NULL, {4096, 4096, 4096, 4096}},
        /* Qwen2: off unless it is turned on, then from max_window_layers. */
        {qwen2_config, NULL, "{'sliding_window': 16, 'max_window_layers': 2}", {0, 0, 0, 0}},
        {qwen2_config,
         NULL,
         "{'sliding_window': 16, 'max_window_layers': 2, 'use_sliding_window': true}",
         {0, 0, 16, 16}},
        {qwen3_config,
         NULL,
         "{'sliding_window': 7, 'use_sliding_window': true, 'max_window_layers': 4, "
         "'layer_types': ['sliding_attention', 'full_attention', 'full_attention', "
         "'sliding_attention']}",
         {7, 0, 0, 7}},
        {qwen2_config, NULL, "{'use_sliding_window': true, 'sliding_window': null}", {0, 0, 0, 0}},
        /* Both ways only a window that hides nothing is taken: 4096 is over the 128 positions. */
        {mistral_config, NULL, "{'is_causal': false}", {0, 0, 0, 0}},
        /* Llama has none, whatever the file says. */
        {llama_config, NULL, "{'sliding_window': 16}", {0, 0, 0, 0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_model_spec s = {0};
        assert_int_equal(spec_parse(cases[i].base, cases[i].drop, cases[i].changes, &s, NULL),
                         PR_OK);
        for (int l = 0; l < 4; l++) {
            if (s.window[l] != cases[i].window[l]) fail_msg("case %zu, layer %d", i, l);
        }
    }
}

static void config_gives_labels_to_heads_only(void **state)
{
    (void)state;
    static const char classifier[] = "{'architectures': ['BertForSequenceClassification'], "
                                     "'id2label': {'1': 'bad', '0': 'good'}}";
    pr_model_spec s = spec_of(bert_config, classifier);
    assert_int_equal(s.head, PR_HEAD_BERT_CLASSIFIER);
    assert_int_equal(s.n_labels, 2);
    assert_string_equal(s.labels[0], "good");
    assert_string_equal(s.labels[1], "bad");
    pr_model_spec_deinit(&s);

    s = spec_of(llama_config, "{'architectures': ['LlamaForSequenceClassification']}");
    assert_int_equal(s.n_labels, 2); /* transformers' default */
    assert_string_equal(s.labels[1], "LABEL_1");
    pr_model_spec_deinit(&s);

    s = spec_of(qwen2_config, "{'architectures': ['Qwen2ForRewardModel'], 'num_labels': 2}");
    assert_int_equal(s.n_labels, 1);
    pr_model_spec_deinit(&s);

    s = spec_of(qwen2_config, "{'architectures': ['Qwen2ForProcessRewardModel']}");
    assert_int_equal(s.n_labels, 2);
    pr_model_spec_deinit(&s);

    s = spec_of(bert_config, "{'id2label': {'0': 'a', '1': 'b', '2': 'c'}}");
    assert_int_equal(s.n_labels, 0);
}

static void config_keeps_the_activation_of_a_cross_encoder(void **state)
{
    (void)state;
    static const struct {
        const char *changes;
        bool set, softmax;
        pr_activation activation;
    } cases[] = {
        {"{}", false, false, PR_ACTIVATION_NONE},
        {"{'sbert_ce_default_activation_function': 'torch.nn.modules.linear.Identity'}", true,
         false, PR_ACTIVATION_NONE},
        {"{'sentence_transformers': {'activation_fn': 'torch.nn.modules.activation.Sigmoid'}}",
         true, false, PR_ACTIVATION_SIGMOID},
        {"{'sentence_transformers': {'activation_fn': 'torch.nn.modules.activation.Softmax'}, "
         "'sbert_ce_default_activation_function': 'torch.nn.modules.linear.Identity'}",
         true, true, PR_ACTIVATION_NONE},
        {"{'sentence_transformers': {'version': '4.0.1'}}", false, false, PR_ACTIVATION_NONE},
    };
    static const char base[] = "{'architectures': ['BertForSequenceClassification'], "
                               "'num_labels': 1, 'hidden_size': 32, 'num_hidden_layers': 1, "
                               "'num_attention_heads': 4, 'vocab_size': 9, "
                               "'intermediate_size': 8}";
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_model_spec s = spec_of(base, cases[i].changes);
        if (s.ce_set != cases[i].set || s.ce_softmax != cases[i].softmax ||
            s.ce_activation != cases[i].activation) {
            fail_msg("case %zu", i);
        }
        pr_model_spec_deinit(&s);
    }
}

static void config_without_architectures_falls_back_to_its_model_type(void **state)
{
    (void)state;
    static const struct {
        const char *type, *architecture;
    } cases[] = {{"bert", "BertModel"},
                 {"xlm-roberta", "XLMRobertaModel"},
                 {"camembert", "CamembertModel"},
                 {"qwen3", "Qwen3Model"},
                 {"mistral", "MistralModel"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *config = json_of("{'hidden_size': 32, 'num_hidden_layers': 1, "
                                 "'num_attention_heads': 4, 'num_key_value_heads': 4, "
                                 "'vocab_size': 9, 'intermediate_size': 8}");
        json_object_set_new(config, "model_type", json_string(cases[i].type));
        pr_model_spec s = {0};
        assert_int_equal(pr_model_spec_parse(config, "config.json", &s, NULL), PR_OK);
        assert_string_equal(s.architecture, cases[i].architecture);
        json_decref(config);
    }
}

static void config_of_an_unknown_architecture_lists_the_known_ones(void **state)
{
    (void)state;
    pr_model_spec s = {0};
    pr_error err = {0};
    assert_int_equal(spec_parse(bert_config, NULL,
                                "{'architectures': ['BertForTokenClassification']}", &s, &err),
                     PR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "BertForTokenClassification"));
    for (size_t i = 0; pr_architecture_at(i); i++) {
        assert_non_null(strstr(err.message, pr_architecture_at(i)->name));
    }
}

static void config_override_merges_objects_and_replaces_the_rest(void **state)
{
    (void)state;
    json_t *config = json_of("{'a': 1, 'b': {'c': 2, 'd': 3}, 'e': [1, 2]}");
    json_t *overrides = json_of("{'a': null, 'b': {'c': 4}, 'e': [5], 'f': {'g': 6}}");
    json_t *expected = json_of("{'a': null, 'b': {'c': 4, 'd': 3}, 'e': [5], 'f': {'g': 6}}");
    assert_int_equal(pr_config_override(config, overrides, NULL), PR_OK);
    assert_true(json_equal(config, expected));
    json_decref(config);
    json_decref(overrides);
    json_decref(expected);
}

/* base without drop and with changes must fail with this status, and the message must hold text. */
static const struct {
    const char *base, *drop, *changes;
    pr_status status;
    const char *text;
} refused[] = {
    {bert_config, "hidden_size", NULL, PR_E_MODEL, "hidden_size"},
    {bert_config, "vocab_size", NULL, PR_E_MODEL, "vocab_size"},
    {bert_config, NULL, "{'hidden_size': '32'}", PR_E_MODEL, "found a string"},
    {bert_config, NULL, "{'hidden_size': 32.0}", PR_E_MODEL, "found a real number"},
    {bert_config, NULL, "{'hidden_size': 0}", PR_E_MODEL, "found 0"},
    {bert_config, NULL, "{'hidden_size': -32}", PR_E_MODEL, "found -32"},
    {bert_config, NULL, "{'hidden_size': 9223372036854775807}", PR_E_MODEL, "hidden_size"},
    {bert_config, NULL, "{'hidden_size': 33}", PR_E_MODEL, "num_attention_heads (4)"},
    {bert_config, NULL, "{'num_hidden_layers': 513}", PR_E_MODEL, "1 to 512"},
    {bert_config, NULL, "{'vocab_size': 4294967297}", PR_E_MODEL, "vocab_size"},
    {bert_config, NULL, "{'type_vocab_size': 0}", PR_E_MODEL, "type_vocab_size"},
    {bert_config, NULL, "{'layer_norm_eps': -1e-5}", PR_E_MODEL, "layer_norm_eps"},
    {bert_config, NULL, "{'layer_norm_eps': 'nan'}", PR_E_MODEL, "layer_norm_eps"},
    {bert_config, NULL, "{'layer_norm_eps': 1e300}", PR_E_MODEL, "layer_norm_eps"},
    {bert_config, NULL, "{'hidden_act': 'mish'}", PR_E_UNSUPPORTED, "mish"},
    {bert_config, NULL, "{'is_decoder': true}", PR_E_UNSUPPORTED, "is_decoder"},
    {bert_config, NULL, "{'position_embedding_type': 'relative_key'}", PR_E_UNSUPPORTED,
     "relative_key"},
    {bert_config, NULL, "{'architectures': 'BertModel'}", PR_E_MODEL, "architectures"},
    {bert_config, NULL, "{'architectures': [1]}", PR_E_MODEL, "architectures[0]"},
    {mistral_config, NULL, "{'auto_map': {'AutoModel': 'modeling_gritlm7b.MistralModel'}}",
     PR_E_UNSUPPORTED, "modeling_gritlm7b.MistralModel"},
    {qwen2_config, NULL, "{'auto_map': {'AutoModelForCausalLM': 'modeling_x.Qwen2ForCausalLM'}}",
     PR_E_UNSUPPORTED, "--ignore-auto-map"},
    {bert_config, NULL, "{'auto_map': {'AutoModel': 'modeling_qwen.Qwen2Model'}}",
     PR_E_UNSUPPORTED, "modeling_qwen.Qwen2Model"},
    {bert_config, NULL, "{'auto_map': []}", PR_E_MODEL, "auto_map"},
    {bert_config, "architectures", NULL, PR_E_MODEL, "neither architectures nor model_type"},
    {bert_config, "architectures", "{'model_type': 't5'}", PR_E_UNSUPPORTED, "t5"},
    {bert_config, NULL, "{'torch_dtype': 'float3'}", PR_E_MODEL, "float3"},
    {bert_config, NULL, "{'quantization_config': {'quant_method': 'gptq'}}", PR_E_UNSUPPORTED,
     "gptq"},
    {bert_config, NULL, "{'matryoshka_dimensions': [64, 0]}", PR_E_MODEL,
     "matryoshka_dimensions[1]"},
    {xlmr_config, NULL, "{'max_position_embeddings': 2}", PR_E_MODEL, "pad_token_id + 1"},
    {xlmr_config, NULL, "{'pad_token_id': null}", PR_E_MODEL, "pad_token_id"},
    {qwen2_config, NULL, "{'num_key_value_heads': 3}", PR_E_MODEL, "num_key_value_heads"},
    {qwen2_config, "num_key_value_heads", NULL, PR_E_MODEL, "32 (the default)"},
    {llama_config, NULL, "{'head_dim': 7}", PR_E_MODEL, "even"},
    {llama_config, NULL, "{'rope_theta': 0}", PR_E_MODEL, "rope_theta"},
    {llama_config, NULL, "{'rope_scaling': {'type': 'yarn', 'factor': 4.0}}", PR_E_UNSUPPORTED,
     "yarn"},
    {llama_config, NULL, "{'rope_scaling': {'rope_type': 'dynamic', 'factor': 4.0}}",
     PR_E_UNSUPPORTED, "dynamic"},
    {llama_config, NULL, "{'rope_parameters': {'rope_type': 'longrope'}}", PR_E_UNSUPPORTED,
     "longrope"},
    {llama_config, NULL, "{'rope_scaling': {'rope_type': 'linear'}}", PR_E_MODEL, "factor"},
    {llama_config, NULL, "{'rope_scaling': {'rope_type': 'linear', 'factor': 0}}", PR_E_MODEL,
     "factor"},
    {llama_config, NULL,
     "{'rope_scaling': {'rope_type': 'llama3', 'factor': 8, 'low_freq_factor': 4, "
     "'high_freq_factor': 4}}",
     PR_E_MODEL, "high_freq_factor"},
    {llama_config, NULL, "{'rope_parameters': {'full_attention': {'rope_type': 'default'}}}",
     PR_E_UNSUPPORTED, "layer type"},
    {llama_config, NULL, "{'partial_rotary_factor': 0.5}", PR_E_UNSUPPORTED,
     "partial_rotary_factor"},
    {llama_config, NULL, "{'rope_parameters': {'partial_rotary_factor': 0.5}}", PR_E_UNSUPPORTED,
     "partial_rotary_factor"},
    {mistral_config, NULL, "{'sliding_window': 0}", PR_E_MODEL, "sliding_window"},
    {mistral_config, NULL, "{'sliding_window': 8, 'is_causal': false}", PR_E_UNSUPPORTED,
     "sliding_window"},
    {qwen3_config, NULL, "{'layer_types': ['full_attention']}", PR_E_MODEL, "num_hidden_layers"},
    {qwen3_config, NULL,
     "{'layer_types': ['full_attention', 'linear_attention', 'full_attention', "
     "'full_attention']}",
     PR_E_UNSUPPORTED, "layer_types[1]"},
    {qwen3_config, NULL,
     "{'layer_types': ['sliding_attention', 'full_attention', 'full_attention', "
     "'full_attention']}",
     PR_E_MODEL, "use_sliding_window"},
    {bert_config, NULL,
     "{'architectures': ['BertForSequenceClassification'], 'num_labels': 3, "
     "'id2label': {'0': 'a', '1': 'b'}}",
     PR_E_MODEL, "num_labels"},
    {bert_config, NULL,
     "{'architectures': ['BertForSequenceClassification'], 'id2label': {'0': 'a', '2': 'b'}}",
     PR_E_MODEL, "id2label: 1"},
    {bert_config, NULL, "{'architectures': ['BertForSequenceClassification'], 'id2label': {}}",
     PR_E_MODEL, "id2label"},
    {bert_config, NULL,
     "{'architectures': ['BertForSequenceClassification'], 'num_labels': 1000000000}", PR_E_MODEL,
     "num_labels"},
    {bert_config, NULL,
     "{'architectures': ['BertForSequenceClassification'], 'problem_type': 'guess'}", PR_E_MODEL,
     "guess"},
    {bert_config, NULL,
     "{'architectures': ['BertForSequenceClassification'], "
     "'sbert_ce_default_activation_function': 'os.system'}",
     PR_E_UNSUPPORTED, "os.system"},
    /* Each field within its bound, the whole beyond reason. */
    {llama_config, NULL,
     "{'hidden_size': 65536, 'intermediate_size': 1048576, 'num_hidden_layers': 512, "
     "'num_attention_heads': 512}",
     PR_E_MODEL, "parameters"},
};

static void config_that_is_broken_or_not_built_is_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        pr_model_spec s = {0};
        pr_error err = {0};
        pr_status st = spec_parse(refused[i].base, refused[i].drop, refused[i].changes, &s, &err);
        if (st != refused[i].status || !strstr(err.message, refused[i].text)) {
            fail_msg("case %zu (%s): status %d, message \"%s\"", i, refused[i].text, st,
                     err.message);
        }
        assert_null(s.labels); /* nothing is written on failure */
    }
}

static void config_that_is_no_object_is_refused(void **state)
{
    (void)state;
    json_t *list = json_of("[1]");
    pr_model_spec s = {0};
    pr_error err = {0};
    assert_int_equal(pr_model_spec_parse(list, "config.json", &s, &err), PR_E_MODEL);
    assert_non_null(strstr(err.message, "found an array"));
    json_decref(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(config_of_bert_is_read_with_the_defaults_of_transformers),
        cmocka_unit_test(config_of_qwen2_is_read_with_the_defaults_of_transformers),
        cmocka_unit_test(config_of_roberta_starts_positions_behind_the_padding_token),
        cmocka_unit_test(config_of_each_layout_gives_the_same_model),
        cmocka_unit_test(config_gives_each_family_its_own_layer),
        cmocka_unit_test(config_says_which_layers_see_a_window),
        cmocka_unit_test(config_gives_labels_to_heads_only),
        cmocka_unit_test(config_keeps_the_activation_of_a_cross_encoder),
        cmocka_unit_test(config_without_architectures_falls_back_to_its_model_type),
        cmocka_unit_test(config_of_an_unknown_architecture_lists_the_known_ones),
        cmocka_unit_test(config_override_merges_objects_and_replaces_the_rest),
        cmocka_unit_test(config_that_is_broken_or_not_built_is_refused_by_name),
        cmocka_unit_test(config_that_is_no_object_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
