/* How a pooler is resolved from task, head, files, override and request, and who set what. */
#include "runtime/model/pooling_spec.h"
#include "tests/unit/model/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define TASK     PR_SOURCE_TASK
#define FAMILY   PR_SOURCE_FAMILY
#define CONFIG   PR_SOURCE_CONFIG
#define ST       PR_SOURCE_SENTENCE_TRANSFORMERS
#define OVERRIDE PR_SOURCE_OVERRIDE
#define REQUEST  PR_SOURCE_REQUEST

#define BERT_1  "{'architectures': ['BertForSequenceClassification'], 'num_labels': 1"
#define BERT_3  "{'architectures': ['BertForSequenceClassification'], 'num_labels': 3"
#define LLAMA_1 "{'architectures': ['LlamaForSequenceClassification'], 'num_labels': 1"
#define LLAMA_2 "{'architectures': ['LlamaForSequenceClassification'], 'num_labels': 2"
#define REWARD  "{'architectures': ['Qwen2ForRewardModel']"
#define PROCESS "{'architectures': ['Qwen2ForProcessRewardModel']"

/* Sentence Transformers files: mean without Normalize, mean with it, a cross-encoder's. */
static const pr_st_files st_mean = {
    .is_present = true, .has_pooling = true, .pooling = PR_POOL_MEAN};
static const pr_st_files st_mean_norm = {
    .is_present = true, .has_pooling = true, .pooling = PR_POOL_MEAN, .normalize = true};
static const pr_st_files st_cross = {.is_present = true, .is_cross_encoder = true, .ce_set = true};

typedef struct expectation {
    pr_pool type;
    bool normalize, softmax;
    pr_activation activation;
    pr_source type_from, normalize_from, activation_from;
} expectation;

static const struct {
    const char *base, *changes;
    const pr_st_files *st;
    pr_task task;
    const char *override;
    expectation expected;
} cases[] = {
    /* no head */
    {bert_config,
     NULL,
     NULL,
     PR_TASK_EMBED,
     NULL,
     {PR_POOL_CLS, true, false, PR_ACTIVATION_NONE, FAMILY, TASK, TASK}},
    {qwen2_config,
     NULL,
     NULL,
     PR_TASK_EMBED,
     NULL,
     {PR_POOL_LAST, true, false, PR_ACTIVATION_NONE, FAMILY, TASK, TASK}},
    {bert_config,
     NULL,
     &st_mean,
     PR_TASK_EMBED,
     NULL,
     {PR_POOL_MEAN, false, false, PR_ACTIVATION_NONE, ST, ST, TASK}},
    {bert_config,
     NULL,
     &st_mean_norm,
     PR_TASK_SCORE,
     NULL,
     {PR_POOL_MEAN, true, false, PR_ACTIVATION_NONE, ST, ST, TASK}},
    {bert_config,
     NULL,
     &st_mean,
     PR_TASK_EMBED,
     "{'pooling_type': 'last', 'normalize': true}",
     {PR_POOL_LAST, true, false, PR_ACTIVATION_NONE, OVERRIDE, OVERRIDE, TASK}},
    {bert_config,
     NULL,
     NULL,
     PR_TASK_EMBED,
     "{'use_activation': false}",
     {PR_POOL_CLS, false, false, PR_ACTIVATION_NONE, FAMILY, OVERRIDE, OVERRIDE}},
    {bert_config,
     NULL,
     NULL,
     PR_TASK_EMBED,
     "{'softmax': true}",
     {PR_POOL_CLS, true, true, PR_ACTIVATION_NONE, FAMILY, TASK, OVERRIDE}},
    {qwen2_config,
     NULL,
     &st_mean,
     PR_TASK_REWARD,
     NULL,
     {PR_POOL_ALL, false, false, PR_ACTIVATION_NONE, TASK, TASK, TASK}},
    {bert_config,
     NULL,
     NULL,
     PR_TASK_EMBED,
     "{'seq_pooling_type': 'MEAN', "
     "'tok_pooling_type': 'ALL'}",
     {PR_POOL_MEAN, true, false, PR_ACTIVATION_NONE, OVERRIDE, TASK, TASK}},
    {qwen2_config,
     NULL,
     NULL,
     PR_TASK_EMBED,
     "{'tok_pooling_type': 'ALL'}",
     {PR_POOL_LAST, true, false, PR_ACTIVATION_NONE, FAMILY, TASK, TASK}},
    /* labels */
    {bert_config,
     BERT_3 "}",
     NULL,
     PR_TASK_CLASSIFY,
     NULL,
     {PR_POOL_CLS, false, true, PR_ACTIVATION_NONE, FAMILY, FAMILY, TASK}},
    {llama_config,
     LLAMA_2 "}",
     NULL,
     PR_TASK_CLASSIFY,
     NULL,
     {PR_POOL_LAST, false, true, PR_ACTIVATION_NONE, FAMILY, FAMILY, TASK}},
    {bert_config,
     BERT_3 ", 'problem_type': 'multi_label_classification'}",
     NULL,
     PR_TASK_CLASSIFY,
     NULL,
     {PR_POOL_CLS, false, false, PR_ACTIVATION_SIGMOID, FAMILY, FAMILY, CONFIG}},
    {bert_config,
     BERT_3 ", 'problem_type': 'regression'}",
     NULL,
     PR_TASK_CLASSIFY,
     NULL,
     {PR_POOL_CLS, false, false, PR_ACTIVATION_NONE, FAMILY, FAMILY, CONFIG}},
    {bert_config,
     BERT_3 "}",
     NULL,
     PR_TASK_CLASSIFY,
     "{'softmax': false}",
     {PR_POOL_CLS, false, false, PR_ACTIVATION_NONE, FAMILY, FAMILY, OVERRIDE}},
    /* one label */
    {bert_config,
     BERT_1 "}",
     NULL,
     PR_TASK_SCORE,
     NULL,
     {PR_POOL_CLS, false, false, PR_ACTIVATION_SIGMOID, FAMILY, FAMILY, FAMILY}},
    {bert_config,
     BERT_1 "}",
     NULL,
     PR_TASK_CLASSIFY,
     NULL,
     {PR_POOL_CLS, false, false, PR_ACTIVATION_SIGMOID, FAMILY, FAMILY, FAMILY}},
    {bert_config,
     BERT_1 "}",
     &st_cross,
     PR_TASK_SCORE,
     NULL,
     {PR_POOL_CLS, false, false, PR_ACTIVATION_NONE, FAMILY, FAMILY, ST}},
    {bert_config,
     BERT_1 ", 'sbert_ce_default_activation_function': 'torch.nn.modules.linear.Identity'}",
     NULL,
     PR_TASK_SCORE,
     NULL,
     {PR_POOL_CLS, false, false, PR_ACTIVATION_NONE, FAMILY, FAMILY, CONFIG}},
    {bert_config,
     BERT_1 ", 'problem_type': 'regression'}",
     NULL,
     PR_TASK_SCORE,
     NULL,
     {PR_POOL_CLS, false, false, PR_ACTIVATION_NONE, FAMILY, FAMILY, CONFIG}},
    {bert_config,
     BERT_1 "}",
     NULL,
     PR_TASK_SCORE,
     "{'use_activation': false}",
     {PR_POOL_CLS, false, false, PR_ACTIVATION_NONE, FAMILY, FAMILY, OVERRIDE}},
    {llama_config,
     LLAMA_1 "}",
     NULL,
     PR_TASK_REWARD,
     NULL,
     {PR_POOL_LAST, false, false, PR_ACTIVATION_NONE, FAMILY, FAMILY, TASK}},
    {llama_config,
     LLAMA_1 "}",
     NULL,
     PR_TASK_REWARD,
     "{'use_activation': true}",
     {PR_POOL_LAST, false, false, PR_ACTIVATION_SIGMOID, FAMILY, FAMILY, OVERRIDE}},
    {llama_config,
     LLAMA_1 "}",
     NULL,
     PR_TASK_SCORE,
     "{'softmax': true}",
     {PR_POOL_LAST, false, false, PR_ACTIVATION_SIGMOID, FAMILY, FAMILY, OVERRIDE}},
    /* reward heads */
    {qwen2_config,
     REWARD "}",
     NULL,
     PR_TASK_REWARD,
     NULL,
     {PR_POOL_ALL, false, false, PR_ACTIVATION_NONE, FAMILY, FAMILY, FAMILY}},
    {qwen2_config,
     REWARD "}",
     NULL,
     PR_TASK_REWARD,
     "{'pooling_type': 'LAST'}",
     {PR_POOL_LAST, false, false, PR_ACTIVATION_NONE, OVERRIDE, FAMILY, FAMILY}},
    {qwen2_config,
     PROCESS "}",
     NULL,
     PR_TASK_REWARD,
     NULL,
     {PR_POOL_STEP, false, true, PR_ACTIVATION_NONE, FAMILY, FAMILY, FAMILY}},
    {qwen2_config,
     PROCESS "}",
     NULL,
     PR_TASK_REWARD,
     "{'softmax': false}",
     {PR_POOL_STEP, false, false, PR_ACTIVATION_NONE, FAMILY, FAMILY, OVERRIDE}},
};

static void pooler_follows_the_precedence_and_remembers_its_sources(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_model_spec spec = spec_of(cases[i].base, cases[i].changes);
        json_t *override = cases[i].override ? json_of(cases[i].override) : NULL;
        pr_pooling p = {0};
        pr_error err = {0};
        const expectation *e = &cases[i].expected;
        if (pr_pooling_resolve(&spec, cases[i].st, cases[i].task, override, &p, &err) != PR_OK) {
            fail_msg("case %zu: %s", i, err.message);
        }
        if (p.type != e->type || p.normalize != e->normalize || p.softmax != e->softmax ||
            p.activation != e->activation || p.source.type != e->type_from ||
            p.source.normalize != e->normalize_from || p.source.activation != e->activation_from ||
            p.task != cases[i].task) {
            fail_msg("case %zu: %s normalize %d softmax %d activation %d, sources %d %d %d", i,
                     pr_pool_name(p.type), p.normalize, p.softmax, p.activation, p.source.type,
                     p.source.normalize, p.source.activation);
        }
        json_decref(override);
        pr_model_spec_deinit(&spec);
    }
}

static void override_sets_steps_columns_and_dimensions(void **state)
{
    (void)state;
    pr_model_spec spec = spec_of(qwen2_config, PROCESS "}");
    pr_pooling p = {0};
    assert_int_equal(pr_pooling_resolve(&spec, NULL, PR_TASK_REWARD, NULL, &p, NULL), PR_OK);
    assert_int_equal(p.step_tag_id, 151651);
    assert_int_equal(p.source.step_tag_id, FAMILY);
    json_t *o = json_of("{'step_tag_id': 17, 'returned_token_ids': [1, 0], 'task': 'reward', "
                        "'logit_mean': null, 'enable_chunked_processing': false}");
    assert_int_equal(pr_pooling_resolve(&spec, NULL, PR_TASK_REWARD, o, &p, NULL), PR_OK);
    assert_int_equal(p.step_tag_id, 17);
    assert_int_equal(p.source.step_tag_id, OVERRIDE);
    assert_int_equal(p.n_returned_tokens, 2);
    assert_int_equal(p.returned_tokens[0], 1);
    assert_int_equal(p.returned_tokens[1], 0);
    json_decref(o);
    pr_model_spec_deinit(&spec);

    spec = spec_of(bert_config, NULL);
    o = json_of("{'dimensions': 8}");
    assert_int_equal(pr_pooling_resolve(&spec, NULL, PR_TASK_EMBED, o, &p, NULL), PR_OK);
    assert_int_equal(p.dimensions, 8);
    json_decref(o);
}

static void override_that_is_wrong_is_refused_by_key(void **state)
{
    (void)state;
    static const struct {
        const char *base, *changes;
        pr_task task;
        const char *override;
        pr_status status;
        const char *text;
    } wrong[] = {
        {bert_config, NULL, PR_TASK_EMBED, "{'pooling': 'MEAN'}", PR_E_ARGUMENT, "pooling:"},
        {bert_config, NULL, PR_TASK_EMBED, "{'pooling_type': 'MAX'}", PR_E_ARGUMENT, "MAX"},
        {bert_config, NULL, PR_TASK_EMBED, "{'pooling_type': 3}", PR_E_ARGUMENT, "pooling_type"},
        {bert_config, NULL, PR_TASK_EMBED, "{'normalize': 1}", PR_E_ARGUMENT, "normalize"},
        {bert_config, NULL, PR_TASK_EMBED, "{'logit_mean': 1.5}", PR_E_ARGUMENT, "logit_mean"},
        {bert_config, NULL, PR_TASK_EMBED, "{'dimensions': 33}", PR_E_ARGUMENT, "1 to 32"},
        {bert_config, NULL, PR_TASK_EMBED, "{'dimensions': 0}", PR_E_ARGUMENT, "dimensions"},
        {bert_config, "{'matryoshka_dimensions': [8, 16]}", PR_TASK_EMBED, "{'dimensions': 4}",
         PR_E_ARGUMENT, "matryoshka_dimensions"},
        {bert_config, NULL, PR_TASK_EMBED, "{'task': 'classify'}", PR_E_ARGUMENT, "task"},
        {bert_config, NULL, PR_TASK_EMBED, "{'seq_pooling_type': 'ALL'}", PR_E_ARGUMENT,
         "seq_pooling_type"},
        {bert_config, NULL, PR_TASK_EMBED, "[1]", PR_E_ARGUMENT, "an array"},
        {bert_config, NULL, PR_TASK_EMBED, "{'pooling_type': 'STEP'}", PR_E_UNSUPPORTED, "STEP"},
        {bert_config, NULL, PR_TASK_SCORE, "{'pooling_type': 'ALL'}", PR_E_UNSUPPORTED, "ALL"},
        {bert_config, BERT_3 "}", PR_TASK_CLASSIFY, "{'normalize': true}", PR_E_ARGUMENT,
         "normalize"},
        {bert_config, BERT_3 "}", PR_TASK_CLASSIFY, "{'dimensions': 2}", PR_E_ARGUMENT,
         "dimensions"},
        {qwen2_config, PROCESS "}", PR_TASK_REWARD, "{'step_tag_id': 200}", PR_E_ARGUMENT,
         "vocab_size"},
        {qwen2_config, PROCESS "}", PR_TASK_REWARD, "{'step_tag_id': -1}", PR_E_ARGUMENT,
         "step_tag_id"},
        {qwen2_config, PROCESS "}", PR_TASK_REWARD, "{'returned_token_ids': [2]}", PR_E_ARGUMENT,
         "0 to 1"},
        {qwen2_config, PROCESS "}", PR_TASK_REWARD, "{'returned_token_ids': ['a']}", PR_E_ARGUMENT,
         "returned_token_ids[0]"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        pr_model_spec spec = spec_of(wrong[i].base, wrong[i].changes);
        json_t *override = json_of(wrong[i].override);
        pr_pooling p = {.task = PR_TASK_COUNT};
        pr_error err = {0};
        pr_status st = pr_pooling_resolve(&spec, NULL, wrong[i].task, override, &p, &err);
        if (st != wrong[i].status || err.status != st || !strstr(err.message, wrong[i].text)) {
            fail_msg("case %zu: status %d (%d), message \"%s\"", i, st, err.status, err.message);
        }
        assert_int_equal(p.task, PR_TASK_COUNT);
        json_decref(override);
        pr_model_spec_deinit(&spec);
    }
}

static void request_parameters_have_the_last_word(void **state)
{
    (void)state;
    static const pr_pooling_request unset = {-1, -1, -1, 0, -1, NULL, 0};
    pr_model_spec spec = spec_of(bert_config, NULL);
    pr_pooling base = {0}, p = {0};
    assert_int_equal(pr_pooling_resolve(&spec, NULL, PR_TASK_EMBED, NULL, &base, NULL), PR_OK);

    assert_int_equal(pr_pooling_apply(&spec, &base, 32, &unset, &p, NULL), PR_OK);
    assert_true(p.normalize && p.dimensions == 0);
    assert_int_equal(p.source.normalize, TASK);

    pr_pooling_request r = unset;
    r.normalize = 0;
    r.dimensions = 32;
    assert_int_equal(pr_pooling_apply(&spec, &base, 32, &r, &p, NULL), PR_OK);
    assert_false(p.normalize);
    assert_int_equal(p.dimensions, 32);
    assert_int_equal(p.source.normalize, REQUEST);
    assert_int_equal(p.source.dimensions, REQUEST);

    static const int32_t wrong_dimensions[] = {33, -1, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < 4; i++) {
        r = unset;
        r.dimensions = wrong_dimensions[i];
        assert_int_equal(pr_pooling_apply(&spec, &base, 32, &r, &p, NULL), PR_E_ARGUMENT);
    }
}

static void request_turns_an_activation_off_and_on_again(void **state)
{
    (void)state;
    pr_model_spec spec = spec_of(bert_config, BERT_1 "}");
    json_t *off = json_of("{'use_activation': false}");
    pr_pooling base = {0}, p = {0};
    assert_int_equal(pr_pooling_resolve(&spec, NULL, PR_TASK_SCORE, off, &base, NULL), PR_OK);
    assert_int_equal(base.activation, PR_ACTIVATION_NONE);
    pr_pooling_request on = {-1, -1, 1, 0, -1, NULL, 0};
    assert_int_equal(pr_pooling_apply(&spec, &base, 1, &on, &p, NULL), PR_OK);
    assert_int_equal(p.activation, PR_ACTIVATION_SIGMOID);
    json_decref(off);
    pr_model_spec_deinit(&spec);
}

static void request_columns_and_step_tags_are_checked(void **state)
{
    (void)state;
    pr_model_spec spec = spec_of(qwen2_config, PROCESS "}");
    pr_pooling base = {0}, p = {0};
    assert_int_equal(pr_pooling_resolve(&spec, NULL, PR_TASK_REWARD, NULL, &base, NULL), PR_OK);
    static const int32_t good[] = {1}, bad[] = {0, 2};
    static int32_t many[PR_RETURNED_TOKENS_MAX + 1];
    pr_pooling_request r = {-1, -1, -1, 0, 5, good, 1};
    assert_int_equal(pr_pooling_apply(&spec, &base, 2, &r, &p, NULL), PR_OK);
    assert_int_equal(p.step_tag_id, 5);
    assert_int_equal(p.n_returned_tokens, 1);
    assert_int_equal(p.source.returned_tokens, REQUEST);
    r = (pr_pooling_request){-1, -1, -1, 0, -1, bad, 2};
    assert_int_equal(pr_pooling_apply(&spec, &base, 2, &r, &p, NULL), PR_E_ARGUMENT);
    r = (pr_pooling_request){-1, -1, -1, 0, -1, many, PR_RETURNED_TOKENS_MAX + 1};
    assert_int_equal(pr_pooling_apply(&spec, &base, 2, &r, &p, NULL), PR_E_ARGUMENT);
    r = (pr_pooling_request){-1, -1, -1, 0, 200, NULL, 0};
    assert_int_equal(pr_pooling_apply(&spec, &base, 2, &r, &p, NULL), PR_E_ARGUMENT);
    pr_model_spec_deinit(&spec);
}

static void only_a_decoders_score_skips_pad_at_the_end(void **state)
{
    (void)state;
    static const struct {
        const char *base, *changes;
        pr_task task;
        bool skips_pad;
    } skips[] = {
        {llama_config, LLAMA_1 ", 'pad_token_id': 7}", PR_TASK_REWARD, true},
        {llama_config, LLAMA_2 ", 'pad_token_id': 7}", PR_TASK_CLASSIFY, true},
        {llama_config, LLAMA_2 "}", PR_TASK_CLASSIFY, false},
        {llama_config, LLAMA_2 ", 'pad_token_id': null}", PR_TASK_CLASSIFY, false},
        {llama_config, LLAMA_2 ", 'pad_token_id': -1}", PR_TASK_CLASSIFY, false},
        {llama_config, "{'pad_token_id': 7}", PR_TASK_EMBED, false},
        {qwen2_config, REWARD ", 'pad_token_id': 7}", PR_TASK_REWARD, false},
        {bert_config, BERT_3 ", 'pad_token_id': 7}", PR_TASK_CLASSIFY, false},
    };
    for (size_t i = 0; i < sizeof skips / sizeof *skips; i++) {
        pr_model_spec spec = spec_of(skips[i].base, skips[i].changes);
        pr_pooling p = {0};
        assert_int_equal(pr_pooling_resolve(&spec, NULL, skips[i].task, NULL, &p, NULL), PR_OK);
        if (p.skips_pad != skips[i].skips_pad) fail_msg("case %zu: %d", i, p.skips_pad);
        if (p.skips_pad) assert_int_equal(p.pad_token_id, 7);
        pr_model_spec_deinit(&spec);
    }
}

static void dense_modules_must_chain_from_the_hidden_size(void **state)
{
    (void)state;
    pr_model_spec spec = spec_of(bert_config, NULL);
    pr_pooling p = {0};
    pr_error err = {0};
    pr_st_files st = st_mean;
    st.n_dense = 2;
    st.dense[0] = (pr_dense){.n_in = 32, .n_out = 8, .path = "2_Dense"};
    st.dense[1] = (pr_dense){.n_in = 8, .n_out = 24, .path = "3_Dense"};
    assert_int_equal(pr_pooling_resolve(&spec, &st, PR_TASK_EMBED, NULL, &p, &err), PR_OK);
    assert_int_equal(pr_pooling_width(&spec, &st), 24);
    st.dense[1].n_in = 9;
    assert_int_equal(pr_pooling_resolve(&spec, &st, PR_TASK_EMBED, NULL, &p, &err), PR_E_MODEL);
    assert_non_null(strstr(err.message, "3_Dense"));
    st = st_mean;
    st.pooling_width = 31;
    assert_int_equal(pr_pooling_resolve(&spec, &st, PR_TASK_EMBED, NULL, &p, &err), PR_E_MODEL);
}

static void names_of_poolers_read_back(void **state)
{
    (void)state;
    for (int i = 0; i < PR_POOL_COUNT; i++) {
        pr_pool pool = PR_POOL_COUNT;
        assert_true(pr_pool_parse(pr_pool_name((pr_pool)i), &pool));
        assert_int_equal(pool, i);
    }
    pr_pool pool;
    assert_true(pr_pool_parse("mean", &pool));
    assert_false(pr_pool_parse("", &pool));
    for (int i = 0; i < PR_SOURCE_COUNT; i++) assert_true(pr_source_name((pr_source)i)[0] != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pooler_follows_the_precedence_and_remembers_its_sources),
        cmocka_unit_test(override_sets_steps_columns_and_dimensions),
        cmocka_unit_test(override_that_is_wrong_is_refused_by_key),
        cmocka_unit_test(request_parameters_have_the_last_word),
        cmocka_unit_test(request_turns_an_activation_off_and_on_again),
        cmocka_unit_test(request_columns_and_step_tags_are_checked),
        cmocka_unit_test(only_a_decoders_score_skips_pad_at_the_end),
        cmocka_unit_test(dense_modules_must_chain_from_the_hidden_size),
        cmocka_unit_test(names_of_poolers_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
