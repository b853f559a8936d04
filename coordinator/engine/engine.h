/* coordinator/engine/engine.h: the engine behind include/poolrank/engine.h, as the program opens
 * it: from a pr_config.
 *
 * A pr_engine owns its model, its queues, its tokenizer threads, which prepare requests, and a
 * runner, which takes batches and delivers their results: the worker's thread in this process, or
 * the fleet of replica groups. Any thread may submit.
 *
 *     submit → waiting (FIFO) → tokenizer threads → batch queue (FIFO) → runner → done
 */
#ifndef POOLRANK_COORDINATOR_ENGINE_ENGINE_H
#define POOLRANK_COORDINATOR_ENGINE_ENGINE_H

#include "coordinator/model/model.h"
#include "include/poolrank/engine.h"
#include "runtime/base/histogram.h"
#include "worker/worker.h"

/* config: borrowed until close. Fails as pr_engine_open. */
pr_status pr_engine_open_config(const pr_config *config, pr_engine **out, pr_error *err);

/* The same in two steps: create reads the model's files but for weights and tokenizer, load does
 * the rest and blocks. Nothing but cancel_load, stats and close may be called before load has
 * returned PR_OK. Fail as pr_engine_open_config. */
pr_status pr_engine_create(const pr_config *config, pr_engine **out, pr_error *err);
pr_status pr_engine_load(pr_engine *engine, pr_error *err);
/* Any thread: load ends soon, with PR_E_CANCELLED. */
void pr_engine_cancel_load(pr_engine *engine);

/* Borrowed until close. */
const pr_model *pr_engine_model(const pr_engine *engine);
const pr_config *pr_engine_settings(const pr_engine *engine); /* device and so on decided */

/* ---- requests that one client sent together ---- */

/* Their common place in the order of fairness; shared by the caller and the requests. */
typedef struct pr_flow pr_flow;

/* Admits all of requests [n], each with its `done`, or none of them; blocks never. Without room now
 * they fail, or with `waits` they stand in line, first come first served, and are admitted as soon
 * as there is, which nobody is told: their results come. Priority and timeout are the first
 * request's. *flow: owned by the caller (pr_flow_release, coordinator/queue/job.h). Fails as
 * pr_engine_submit; PR_E_TOO_LARGE: more than could ever be admitted. */
pr_status pr_engine_submit_all(pr_engine *engine, const pr_request *requests, size_t n, bool waits,
                               pr_flow **flow, pr_error *err);

/* Whether the flow still stood in line: then its requests are dropped, and none is called back. Any
 * thread. */
bool pr_engine_withdraw(pr_engine *engine, const pr_flow *flow);

/* Any thread. Requests of the flow that no batch has taken yet are answered PR_E_CANCELLED, from
 * inside this call; the others as if nothing had happened. */
void pr_engine_cancel(pr_engine *engine, pr_flow *flow);

/* ---- numbers ---- */

/* One replica group, or the worker of this process. */
typedef struct pr_engine_group {
    uint32_t index;
    const char *state;  /* "idle", "starting", "loading", "ready"; constant */
    uint32_t n_starts;
} pr_engine_group;

enum { PR_ENGINE_GROUPS_MAX = 64 };

typedef struct pr_engine_stats {
    uint32_t n_requests; /* accepted and not answered */
    uint32_t n_queued;   /* of them, in no batch yet */
    uint64_t n_tokens;   /* of the accepted ones; a text that is not tokenized yet counts as a
                            token for each 4 bytes */
    double tokens_per_s; /* measured while the model was at work; 0: nothing has been run */
    uint64_t n_batches, n_batch_tokens, n_batch_requests; /* ever run */
    uint64_t n_tokens_saved;  /* of requests, but not computed for them: what they begin with was */
    uint64_t n_tokens_cached; /* rows that batches took from the prefix cache */
    uint64_t prefix_cache_bytes; /* what the cache may take; 0: there is none */
    pr_histogram batch_tokens;
    uint32_t n_groups, n_groups_ready; /* all; groups [] has the first PR_ENGINE_GROUPS_MAX */
    uint64_t n_group_starts, n_restarts; /* starts after the first of each group */
    pr_engine_group groups[PR_ENGINE_GROUPS_MAX];
} pr_engine_stats;

/* Any thread. */
void pr_engine_stats_get(pr_engine *engine, pr_engine_stats *out);
/* Seconds until what is accepted now is through, at the measured rate: at least 1. */
uint32_t pr_engine_wait_s(pr_engine *engine);

#endif
