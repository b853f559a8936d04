/* coordinator/engine.h: the engine behind include/poolrank/engine.h, as the program opens it: from
 * a pr_config.
 *
 * A pr_engine owns its model, its queue and its threads: tokenizer threads that prepare requests,
 * and the compute thread, which owns the worker, plans batches and delivers results. Any thread may
 * submit.
 *
 *     submit → waiting (FIFO) → tokenizer threads → ready (FIFO) → compute thread → done
 */
#ifndef POOLRANK_COORDINATOR_ENGINE_H
#define POOLRANK_COORDINATOR_ENGINE_H

#include "coordinator/model.h"
#include "include/poolrank/engine.h"

/* config: borrowed for the call. Fails as pr_engine_open. */
pr_status pr_engine_open_config(const pr_config *config, pr_engine **out, pr_error *err);

/* Borrowed until close. */
const pr_model *pr_engine_model(const pr_engine *engine);

#endif
