/* coordinator/engine/engine_inspect.h: what an engine would understand of a model, without its
 * weights.
 *
 * Reads config.json, the Sentence Transformers files, the tokenizer and the headers of the
 * checkpoint; no thread is started, and no weight is read but with check_finite, whose finding is
 * "weights_finite" (coordinator/engine/check_finite.h). Called by `poolrank inspect`. */
#ifndef POOLRANK_COORDINATOR_ENGINE_ENGINE_INSPECT_H
#define POOLRANK_COORDINATOR_ENGINE_ENGINE_INSPECT_H

#include "coordinator/options/config.h"
#include "runtime/base/status.h"

#include <jansson.h>

/* *out: the object that pr_engine_describe prints; owned (json_decref). config: borrowed.
 * Fails as pr_engine_open does for the same config. */
pr_status pr_engine_inspect(const pr_config *config, json_t **out, pr_error *err);

#endif
