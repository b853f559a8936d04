/* Which task a model is for, and which ones its head can serve. */
#include "runtime/model/task.h"
#include "tests/unit/model/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const pr_st_files st_pooling = {.is_present = true, .has_pooling = true};
static const pr_st_files st_cross = {.is_present = true, .is_cross_encoder = true};

/* served: e(mbed) c(lassify) s(core) r(eward); reward: whether the reward command answers. */
static const struct {
    const char *base, *changes;
    const pr_st_files *st;
    pr_task resolved;
    const char *served;
    bool reward;
} cases[] = {
    {bert_config, NULL, NULL, PR_TASK_EMBED, "esr", false},
    {qwen2_config, NULL, &st_pooling, PR_TASK_EMBED, "esr", false},
    {bert_config, "{'architectures': ['BertForSequenceClassification'], 'num_labels': 1}", NULL,
     PR_TASK_SCORE, "csr", true},
    {bert_config, "{'architectures': ['BertForSequenceClassification'], 'num_labels': 3}", NULL,
     PR_TASK_CLASSIFY, "cr", false},
    {xlmr_config, "{'architectures': ['XLMRobertaForSequenceClassification'], 'num_labels': 1}",
     NULL, PR_TASK_SCORE, "csr", true},
    {llama_config, "{'architectures': ['LlamaForSequenceClassification'], 'num_labels': 1}", NULL,
     PR_TASK_REWARD, "csr", true},
    {llama_config, "{'architectures': ['LlamaForSequenceClassification'], 'num_labels': 1}",
     &st_cross, PR_TASK_SCORE, "csr", true},
    {llama_config, "{'architectures': ['LlamaForSequenceClassification']}", NULL, PR_TASK_CLASSIFY,
     "cr", false},
    {qwen2_config, "{'architectures': ['Qwen2ForRewardModel']}", NULL, PR_TASK_REWARD, "r", true},
    {qwen2_config, "{'architectures': ['Qwen2ForProcessRewardModel']}", NULL, PR_TASK_REWARD, "r",
     true},
};

static void task_auto_means_what_the_model_is_for(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_model_spec spec = spec_of(cases[i].base, cases[i].changes);
        if (pr_task_resolve(&spec, cases[i].st) != cases[i].resolved) fail_msg("case %zu", i);
        pr_model_spec_deinit(&spec);
    }
}

static void language_model_without_pooling_files_is_not_taken_for_what_it_may_not_be(void **state)
{
    (void)state;
    static const struct {
        const char *base, *changes;
        const pr_st_files *st;
        pr_task asked, task;
        bool fits;
    } meant[] = {
        {qwen2_config, "{'architectures': ['Qwen2ForCausalLM']}", NULL, PR_TASK_AUTO,
         PR_TASK_SCORE, false},
        {qwen2_config, "{'architectures': ['Qwen2ForCausalLM']}", NULL, PR_TASK_SCORE,
         PR_TASK_SCORE, false},
        {qwen2_config, "{'architectures': ['Qwen2ForCausalLM']}", NULL, PR_TASK_EMBED,
         PR_TASK_SCORE, true},
        {qwen2_config, "{'architectures': ['Qwen2ForCausalLM']}", NULL, PR_TASK_AUTO,
         PR_TASK_EMBED, true},
        {qwen2_config, "{'architectures': ['Qwen2ForCausalLM']}", &st_pooling, PR_TASK_SCORE,
         PR_TASK_SCORE, true},
        {qwen2_config, "{'architectures': ['Qwen2Model']}", NULL, PR_TASK_SCORE, PR_TASK_SCORE,
         true},
        {bert_config, "{'architectures': ['BertForMaskedLM']}", NULL, PR_TASK_AUTO, PR_TASK_EMBED,
         false},
        {bert_config, "{'architectures': ['BertForMaskedLM']}", NULL, PR_TASK_EMBED, PR_TASK_EMBED,
         true},
        {bert_config, "{'architectures': ['BertForMaskedLM']}", &st_pooling, PR_TASK_AUTO,
         PR_TASK_EMBED, true},
    };
    for (size_t i = 0; i < sizeof meant / sizeof *meant; i++) {
        pr_model_spec spec = spec_of(meant[i].base, meant[i].changes);
        pr_error err = {0};
        pr_status st = pr_task_meant_check(&spec, meant[i].st, meant[i].asked, meant[i].task, &err);
        if (st != (meant[i].fits ? PR_OK : PR_E_UNSUPPORTED)) fail_msg("case %zu", i);
        if (!meant[i].fits && !strstr(err.message, "--task embed")) fail_msg("case %zu", i);
    }
}

static void task_that_the_head_cannot_serve_is_refused_with_those_it_can(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_model_spec spec = spec_of(cases[i].base, cases[i].changes);
        for (int t = PR_TASK_EMBED; t < PR_TASK_COUNT; t++) {
            pr_error err = {0};
            const char *name = pr_task_name((pr_task)t);
            bool served = strchr(cases[i].served, name[0]) != NULL;
            pr_status st = pr_task_check(&spec, cases[i].st, (pr_task)t, &err);
            if (st != (served ? PR_OK : PR_E_UNSUPPORTED)) fail_msg("case %zu, task %s", i, name);
            if (served) continue;
            const char *list = strstr(err.message, "expected one of");
            assert_non_null(list);
            for (int u = PR_TASK_EMBED; u < PR_TASK_COUNT; u++) {
                const char *other = pr_task_name((pr_task)u);
                if (strchr(cases[i].served, other[0])) assert_non_null(strstr(list, other));
            }
        }
        pr_model_spec_deinit(&spec);
    }
}

static void reward_command_needs_a_reward_head(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_model_spec spec = spec_of(cases[i].base, cases[i].changes);
        pr_status expected = cases[i].reward ? PR_OK : PR_E_UNSUPPORTED;
        if (pr_reward_check(&spec, NULL) != expected) fail_msg("case %zu", i);
        pr_model_spec_deinit(&spec);
    }
}

static void names_of_tasks_read_back(void **state)
{
    (void)state;
    pr_task task = PR_TASK_COUNT;
    for (int i = 0; i < PR_TASK_COUNT; i++) {
        assert_true(pr_task_parse(pr_task_name((pr_task)i), &task));
        assert_int_equal(task, i);
    }
    assert_true(pr_task_parse("embedding", &task));
    assert_int_equal(task, PR_TASK_EMBED);
    assert_false(pr_task_parse("generate", &task));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(task_auto_means_what_the_model_is_for),
        cmocka_unit_test(language_model_without_pooling_files_is_not_taken_for_what_it_may_not_be),
        cmocka_unit_test(task_that_the_head_cannot_serve_is_refused_with_those_it_can),
        cmocka_unit_test(reward_command_needs_a_reward_head),
        cmocka_unit_test(names_of_tasks_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
