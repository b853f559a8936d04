#include "runtime/model/task.h"

#include "runtime/base/buffer.h"

#include <assert.h>
#include <string.h>

static const char *const task_names[PR_TASK_COUNT] = {
    [PR_TASK_AUTO] = "auto",   [PR_TASK_EMBED] = "embed",   [PR_TASK_CLASSIFY] = "classify",
    [PR_TASK_SCORE] = "score", [PR_TASK_REWARD] = "reward",
};

const char *pr_task_name(pr_task task)
{
    assert((unsigned)task < PR_TASK_COUNT);
    return task_names[task];
}

bool pr_task_parse(const char *name, pr_task *out)
{
    if (strcmp(name, "embedding") == 0) name = "embed"; /* vLLM's older word */
    for (int i = 0; i < PR_TASK_COUNT; i++) {
        if (strcmp(task_names[i], name) != 0) continue;
        *out = (pr_task)i;
        return true;
    }
    return false;
}

static bool is_reward_head(pr_head head)
{
    return head == PR_HEAD_REWARD || head == PR_HEAD_PROCESS_REWARD;
}

pr_task pr_task_resolve(const pr_model_spec *spec, const pr_st_files *st)
{
    if (st && st->has_pooling) return PR_TASK_EMBED;
    if (spec->head == PR_HEAD_NONE) return PR_TASK_EMBED;
    if (is_reward_head(spec->head)) return PR_TASK_REWARD;
    if (spec->n_labels > 1) return PR_TASK_CLASSIFY;
    /* A decoder with one output is a reward model, unless it was saved as a cross-encoder. */
    bool is_cross_encoder = st && st->is_cross_encoder;
    return spec->head == PR_HEAD_SCORE && !is_cross_encoder ? PR_TASK_REWARD : PR_TASK_SCORE;
}

static bool head_serves(const pr_model_spec *spec, pr_task task)
{
    bool one_label = spec->n_labels == 1;
    if (spec->head == PR_HEAD_NONE) return task != PR_TASK_CLASSIFY;
    if (is_reward_head(spec->head)) return task == PR_TASK_REWARD;
    if (task == PR_TASK_CLASSIFY || task == PR_TASK_REWARD) return true; /* reward: raw values */
    return task == PR_TASK_SCORE && one_label;
}

pr_status pr_task_check(const pr_model_spec *spec, const pr_st_files *st, pr_task task,
                        pr_error *err)
{
    (void)st;
    assert(task != PR_TASK_AUTO);
    if (head_serves(spec, task)) return PR_OK;
    pr_buffer served;
    pr_buffer_init(&served);
    for (int t = PR_TASK_EMBED; t < PR_TASK_COUNT; t++) {
        if (!head_serves(spec, (pr_task)t)) continue;
        pr_buffer_printf(&served, "%s%s", served.n > 0 ? ", " : "", task_names[t]);
    }
    const char *list = pr_buffer_str(&served);
    pr_status status;
    if (spec->head == PR_HEAD_NONE) {
        status = pr_error_set(err, PR_E_UNSUPPORTED, "task %s: %s has no head, expected one of %s",
                              task_names[task], spec->architecture, list ? list : "");
    } else {
        status = pr_error_set(
            err, PR_E_UNSUPPORTED, "task %s: %s has a head of %d output%s, expected one of %s%s",
            task_names[task], spec->architecture, spec->n_labels, spec->n_labels == 1 ? "" : "s",
            list ? list : "",
            task == PR_TASK_EMBED ? " (--hf-overrides '{\"architectures\": […]}' with the base "
                                    "model's name leaves the head out)"
                                  : "");
    }
    pr_buffer_deinit(&served);
    return status;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), n_end = strlen(end);
    return n >= n_end && strcmp(text + n - n_end, end) == 0;
}

pr_status pr_task_meant_check(const pr_model_spec *spec, const pr_st_files *st, pr_task asked,
                              pr_task task, pr_error *err)
{
    if (spec->head != PR_HEAD_NONE || (st && st->has_pooling) || asked == PR_TASK_EMBED) {
        return PR_OK;
    }
    if (task == PR_TASK_SCORE && ends_with(spec->architecture, "ForCausalLM")) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "task score: %s has no pooling files of Sentence Transformers; "
                            "rerankers of this kind read the logits of two tokens, which is not "
                            "built; --task embed scores by the cosine of its embeddings",
                            spec->architecture);
    }
    if ((task == PR_TASK_SCORE || task == PR_TASK_EMBED) &&
        ends_with(spec->architecture, "ForMaskedLM")) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "task %s: %s has no pooling files of Sentence Transformers; it may be "
                            "a sparse encoder (SPLADE), which is not built; --task embed takes "
                            "its hidden states",
                            task_names[task], spec->architecture);
    }
    return PR_OK;
}

pr_status pr_reward_check(const pr_model_spec *spec, pr_error *err)
{
    if (spec->head == PR_HEAD_NONE) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "reward: %s has no reward head, expected a *ForRewardModel, "
                            "*ForProcessRewardModel or one-label *ForSequenceClassification; "
                            "`poolrank encode --task reward` prints hidden states",
                            spec->architecture);
    }
    if (!is_reward_head(spec->head) && spec->n_labels > 1) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "reward: %s has a head of %d labels, expected one (a reward is one "
                            "number); `poolrank encode --task reward` prints the raw values of all",
                            spec->architecture, spec->n_labels);
    }
    return pr_task_check(spec, NULL, PR_TASK_REWARD, err);
}
