/* coordinator/engine/describe.h: what was understood of a model, as JSON: for `inspect`, the log
 * and pr_engine_describe.
 *
 * Pure but for memory; any thread. */
#ifndef POOLRANK_COORDINATOR_ENGINE_DESCRIBE_H
#define POOLRANK_COORDINATOR_ENGINE_DESCRIBE_H

#include "coordinator/model/model.h"
#include "worker/worker.h"

/* worker: NULL when no weights are loaded (inspect). *out: owned (json_decref).
 * Fails PR_E_NOMEM. */
pr_status pr_describe(const pr_model *model, const pr_config *config, const pr_worker_info *worker,
                      json_t **out, pr_error *err);

#endif
