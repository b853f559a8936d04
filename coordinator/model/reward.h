/* coordinator/model/reward.h: the rows of a reward model as one number.
 *
 *     LAST, ALL    the value of the last row
 *     STEP         one row a step; their values become one by `reduce`
 *
 * A row of several columns is [bad, good] after softmax: its last one is the value. Pure; any
 * thread. */
#ifndef POOLRANK_COORDINATOR_MODEL_REWARD_H
#define POOLRANK_COORDINATOR_MODEL_REWARD_H

#include "coordinator/options/config.h"
#include "include/poolrank/engine.h"
#include "runtime/model/pooling_spec.h"

float pr_reward_row(const pr_result *result, uint32_t i_row);

/* The number that n step rewards become; n is at least 1. */
float pr_reward_reduce(pr_reduce reduce, const float *steps, size_t n);

/* result: PR_OK, with rows of pool. steps: [n_rows], written for STEP; NULL: not wanted, then
 * nothing is allocated either. step_tag_id: for the message. Fails PR_E_INPUT when a text has no
 * step. */
pr_status pr_reward_of(const pr_result *result, pr_pool pool, int32_t step_tag_id, pr_reduce reduce,
                       float *steps, float *out, pr_error *err);

#endif
