/* worker/weights_unread.h: tensors of a checkpoint that the model as understood does not read: a
 * head that would be left out changes the numbers without a word.
 *
 * Pure but for memory. Called before weights are loaded, and by `inspect`. */
#ifndef POOLRANK_WORKER_WEIGHTS_UNREAD_H
#define POOLRANK_WORKER_WEIGHTS_UNREAD_H

#include "runtime/checkpoint/checkpoint.h"
#include "runtime/model/weight_names.h"

/* list: of the spec. Refuses (PR_E_UNSUPPORTED) a checkpoint with tensors that are neither in it
 * nor known to be harmless (heads for masked or causal language modelling, buffers, what a task
 * without a head leaves out on purpose), naming some. Fails PR_E_NOMEM. */
pr_status pr_weights_unread_check(const pr_checkpoint *checkpoint, const pr_model_spec *spec,
                                  const pr_weight_list *list, pr_error *err);

#endif
