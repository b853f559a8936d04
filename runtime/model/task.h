/* runtime/model/task.h: tasks: their names, which one a model is for, which ones its head can
 * serve.
 *
 * Pure; any thread. */
#ifndef POOLRANK_RUNTIME_MODEL_TASK_H
#define POOLRANK_RUNTIME_MODEL_TASK_H

#include "runtime/model/st_files.h"

const char *pr_task_name(pr_task task);             /* "embed" */
bool pr_task_parse(const char *name, pr_task *out); /* "embedding" too */

/* Which task `auto` means for this model (design: `--task auto`). */
pr_task pr_task_resolve(const pr_model_spec *spec, const pr_st_files *st);

/* Whether the model's head can serve the task; if not, PR_E_UNSUPPORTED naming those it can.
 * For PR_TASK_REWARD a model without a head passes, `encode` then gives its hidden states, and so
 * does a classifier of several labels, of which it gives the raw values. */
pr_status pr_task_check(const pr_model_spec *spec, const pr_st_files *st, pr_task task,
                        pr_error *err);

/* Whether a language model's files say that it is meant for a task that it could serve; asked: what
 * the user named, AUTO: nothing. Language models without pooling files may be rerankers that read
 * two tokens' logits or sparse encoders: the cosine of a decoder's embeddings needs asked EMBED,
 * and so do embeddings of a masked language model. PR_E_UNSUPPORTED saying so. */
pr_status pr_task_meant_check(const pr_model_spec *spec, const pr_st_files *st, pr_task asked,
                              pr_task task, pr_error *err);

/* For the `reward` command, whose answer is one number: PR_E_UNSUPPORTED without a reward head
 * or with one of several labels. */
pr_status pr_reward_check(const pr_model_spec *spec, pr_error *err);

#endif
