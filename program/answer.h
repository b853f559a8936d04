/* program/answer.h: one result of the engine as one line of output: embedding, probs, score,
 * reward, or rows.
 *
 * A pr_answer is plain storage that is reused from line to line. Pure; called by the offline
 * commands, on the thread that writes. */
#ifndef POOLRANK_PROGRAM_ANSWER_H
#define POOLRANK_PROGRAM_ANSWER_H

#include "coordinator/options/config.h"
#include "program/output_lines.h"
#include "include/poolrank/engine.h"
#include "runtime/model/pooling_spec.h"

typedef struct pr_answer {
    pr_output_kind kind;
    pr_pool pool;       /* how the model pools for this task */
    int32_t step_tag_id; /* STEP: for the message when a text has none */
    pr_reduce reduce;
    bool return_tokens;
    float *steps;       /* scratch, owned: [n_steps_max] */
    size_t n_steps_max;
} pr_answer;

/* pooling: the model's for the task. Fails PR_E_UNSUPPORTED when the command needs one row and the
 * pooling gives several. */
pr_status pr_answer_init(pr_answer *answer, pr_output_kind kind, const pr_pooling *pooling,
                         const pr_config *config, pr_error *err);
void pr_answer_deinit(pr_answer *answer);

/* Fills row's kind and values from a result whose status is PR_OK; index and id are the caller's.
 * row borrows from result and from answer. Fails PR_E_INPUT when a text has no step; PR_E_NOMEM. */
pr_status pr_answer_fill(pr_answer *answer, const pr_result *result, pr_output_row *row,
                         pr_error *err);

#endif
