/* coordinator/engine.h: the engine behind include/poolrank/engine.h, as the program opens it: from
 * a pr_config.
 *
 * A pr_engine owns its model, its queues, its tokenizer threads, which prepare requests, and a
 * runner, which takes batches and delivers their results: the worker's thread in this process, or
 * the fleet of replica groups. Any thread may submit.
 *
 *     submit → waiting (FIFO) → tokenizer threads → batch queue (FIFO) → runner → done
 */
#ifndef POOLRANK_COORDINATOR_ENGINE_H
#define POOLRANK_COORDINATOR_ENGINE_H

#include "coordinator/model.h"
#include "include/poolrank/engine.h"

/* config: borrowed until close. Fails as pr_engine_open. */
pr_status pr_engine_open_config(const pr_config *config, pr_engine **out, pr_error *err);

/* Borrowed until close. */
const pr_model *pr_engine_model(const pr_engine *engine);

#endif
