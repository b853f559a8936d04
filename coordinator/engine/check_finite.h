/* coordinator/engine/check_finite.h: whether the weights of a checkpoint are numbers: `inspect
 * --check-finite`.
 *
 * Reads every tensor of floats once, a piece at a time. */
#ifndef POOLRANK_COORDINATOR_ENGINE_CHECK_FINITE_H
#define POOLRANK_COORDINATOR_ENGINE_CHECK_FINITE_H

#include "runtime/base/status.h"

#include <jansson.h>

/* folder: of the checkpoint. *out owned (json_decref): "tensors", how many were read; "not_finite",
 * how many have not-a-number or infinities; "first", the first of them in the order of the layers,
 * with "name", "element" (its index, row-major) and "count", or null.
 * Fails as pr_checkpoint_open and pr_checkpoint_read; PR_E_NOMEM. */
pr_status pr_check_finite(const char *folder, json_t **out, pr_error *err);

#endif
