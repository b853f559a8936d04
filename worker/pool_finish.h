/* worker/pool_finish.h: the last step of pooling, on one row of values in host memory: pick
 * columns, cut to `dimensions`, then activation, softmax or L2 normalization.
 *
 * Pure; called by the pooler. All in float32, the sums in double and in index order, so that a
 * row's result depends on nothing but the row. */
#ifndef POOLRANK_WORKER_POOL_FINISH_H
#define POOLRANK_WORKER_POOL_FINISH_H

#include "runtime/model/pooling_spec.h"

/* How many values pr_pool_finish writes for rows of n_width. */
uint32_t pr_pool_finish_width(const pr_pooling *pooling, uint32_t n_width);

/* row: [n_width], unchanged; out: [pr_pool_finish_width()]. */
void pr_pool_finish(const pr_pooling *pooling, const float *row, uint32_t n_width, float *out);

#endif
