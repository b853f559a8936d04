#include "program/answer.h"

#include <assert.h>
#include <stdlib.h>

pr_status pr_answer_init(pr_answer *answer, pr_output_kind kind, const pr_pooling *pooling,
                         const pr_config *config, pr_error *err)
{
    bool gives_rows = pooling->type == PR_POOL_ALL || pooling->type == PR_POOL_STEP;
    bool takes_rows = kind == PR_OUTPUT_DATA || kind == PR_OUTPUT_REWARD;
    if (gives_rows && !takes_rows) {
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "pooling %s gives several rows a text, and this command prints one; "
                            "`poolrank encode` prints them all",
                            pr_pool_name(pooling->type));
    }
    *answer = (pr_answer){.kind = kind,
                          .pool = pooling->type,
                          .step_tag_id = pooling->step_tag_id,
                          .reduce = config->reduce,
                          .return_tokens = config->return_tokens};
    return PR_OK;
}

void pr_answer_deinit(pr_answer *answer)
{
    free(answer->steps);
    *answer = (pr_answer){0};
}

float pr_answer_reduce(pr_reduce reduce, const float *steps, size_t n)
{
    assert(n > 0);
    double sum = 0;
    double product = 1;
    float least = steps[0];
    for (size_t i = 0; i < n; i++) {
        sum += (double)steps[i];
        product *= (double)steps[i];
        if (steps[i] < least) least = steps[i];
    }
    switch (reduce) {
    case PR_REDUCE_MEAN:
        return (float)(sum / (double)n);
    case PR_REDUCE_MIN:
        return least;
    case PR_REDUCE_PRODUCT:
        return (float)product;
    case PR_REDUCE_LAST:
    case PR_REDUCE_COUNT:
        break;
    }
    return steps[n - 1];
}

/* A row of several columns is [bad, good] after softmax: the last one is the reward. */
static float row_reward(const pr_result *result, uint32_t i_row)
{
    return result->data[(size_t)(i_row + 1) * result->n_columns - 1];
}

static pr_status steps_fill(pr_answer *answer, const pr_result *result, pr_output_row *row,
                            pr_error *err)
{
    if (result->n_rows == 0) {
        return pr_error_set(err, PR_E_INPUT, "the text has no step: token %d does not occur in it",
                            (int)answer->step_tag_id);
    }
    if (result->n_rows > answer->n_steps_max) {
        size_t bytes = result->n_rows * sizeof *answer->steps;
        float *steps = realloc(answer->steps, bytes);
        if (!steps) return pr_error_nomem(err, "step rewards", bytes);
        answer->steps = steps;
        answer->n_steps_max = result->n_rows;
    }
    for (uint32_t i = 0; i < result->n_rows; i++) answer->steps[i] = row_reward(result, i);
    row->value = pr_answer_reduce(answer->reduce, answer->steps, result->n_rows);
    row->step_rewards = answer->steps;
    row->n_step_rewards = result->n_rows;
    return PR_OK;
}

static pr_status reward_fill(pr_answer *answer, const pr_result *result, pr_output_row *row,
                             pr_error *err)
{
    if (!answer->return_tokens) row->data = NULL;
    if (answer->pool == PR_POOL_STEP) return steps_fill(answer, result, row, err);
    assert(result->n_rows > 0);
    row->value = row_reward(result, result->n_rows - 1);
    return PR_OK;
}

pr_status pr_answer_fill(pr_answer *answer, const pr_result *result, pr_output_row *row,
                         pr_error *err)
{
    assert(result->status == PR_OK);
    row->kind = answer->kind;
    row->n_prompt_tokens = result->n_prompt_tokens;
    row->data = result->data;
    row->n_rows = result->n_rows;
    row->n_columns = result->n_columns;
    row->is_token_wise = result->is_token_wise;
    if (answer->kind == PR_OUTPUT_REWARD) return reward_fill(answer, result, row, err);
    if (answer->kind == PR_OUTPUT_SCORE) {
        assert(result->n_rows == 1);
        row->value = result->data[0];
    }
    return PR_OK;
}
