#include "program/answer.h"

#include "coordinator/model/reward.h"

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

static pr_status steps_reserve(pr_answer *answer, size_t n, pr_error *err)
{
    if (n <= answer->n_steps_max) return PR_OK;
    float *steps = realloc(answer->steps, n * sizeof *steps);
    if (!steps) return pr_error_nomem(err, "step rewards", n * sizeof *steps);
    answer->steps = steps;
    answer->n_steps_max = n;
    return PR_OK;
}

static pr_status reward_fill(pr_answer *answer, const pr_result *result, pr_output_row *row,
                             pr_error *err)
{
    bool has_steps = answer->pool == PR_POOL_STEP;
    pr_status st = has_steps ? steps_reserve(answer, result->n_rows, err) : PR_OK;
    if (!answer->return_tokens) row->data = NULL;
    if (st == PR_OK) {
        st = pr_reward_of(result, answer->pool, answer->step_tag_id, answer->reduce, answer->steps,
                          &row->value, err);
    }
    if (st != PR_OK || !has_steps) return st;
    row->step_rewards = answer->steps;
    row->n_step_rewards = result->n_rows;
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
