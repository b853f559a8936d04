/* server/service/service.h: what both protocols serve: the engine with its state, and the calls
 * that are open on it.
 *
 *     call_begin ─► admitted? ──► engine ──► results ──► done (loop thread)
 *                      │ full: waits up to wait_ms, else PR_E_OVERLOADED with retry_after_s
 *
 * Owns the engine, the thread that loads it, and the calls' timers. Loop thread only, but for
 * what says otherwise. */
#ifndef POOLRANK_SERVER_SERVICE_SERVICE_H
#define POOLRANK_SERVER_SERVICE_SERVICE_H

#include "coordinator/options/config.h"
#include "coordinator/engine/engine.h"
#include "server/service/api_keys.h"
#include "server/service/call.h"
#include "server/service/metrics.h"

#include <uv.h>

typedef enum pr_service_state {
    PR_SERVICE_LOADING,
    PR_SERVICE_READY,      /* at least one group is */
    PR_SERVICE_RESTARTING, /* loaded, and no group is ready just now */
    PR_SERVICE_DRAINING,   /* SIGTERM came */
    PR_SERVICE_STATE_COUNT
} pr_service_state;

/* Names of the model in answers, and what handlers need to know of it. */
typedef struct pr_service_model {
    const char *const *names; /* [n_names], at least 1: --served-model-name, else --model */
    size_t n_names;
    int64_t created_s;        /* Unix time of the start */
    const pr_model *model;    /* NULL until loaded */
} pr_service_model;

typedef struct pr_service_config {
    const pr_config *config; /* borrowed until close */
    uv_loop_t *loop;
    const pr_log *log;
    pr_metrics *metrics;     /* borrowed */
    /* Loop thread: loading has ended, with the reason when it failed. */
    void (*loaded)(void *context, const pr_error *err);
    /* Loop thread: draining, and no call is open. May come more than once. */
    void (*idle)(void *context);
    void *context;
} pr_service_config;

/* Begins to load the model on a thread of its own. Fails PR_E_NOMEM, PR_E_INTERNAL. */
pr_status pr_service_open(const pr_service_config *config, pr_service **out, pr_error *err);
/* No call may be open. Ends loading if need be, closes the engine; blocks. Handles of the loop are
 * closed: run the loop once more before it is closed. NULL is fine. */
void pr_service_close(pr_service *service);
/* Loading need not go on: `loaded` comes soon, with PR_E_CANCELLED. */
void pr_service_cancel_load(pr_service *service);

pr_service_state pr_service_state_now(const pr_service *service);
const char *pr_service_state_name(pr_service_state state); /* "loading" */
/* Any thread once loaded. */
const pr_service_model *pr_service_model_of(const pr_service *service);
const pr_config *pr_service_settings(const pr_service *service); /* any thread */
bool pr_service_model_is_known(const pr_service *service, const char *name); /* any thread */
/* Engine's numbers; zeroed while it loads. */
void pr_service_stats(const pr_service *service, pr_engine_stats *out);

/* New calls are still taken (the listeners decide when to stop); readiness says "draining". */
void pr_service_drain(pr_service *service);
/* From now on new calls are refused PR_E_UNAVAILABLE. */
void pr_service_refuse(pr_service *service);
size_t pr_service_n_calls(const pr_service *service);

/* Hands over a call whose first part is filled; n_items may be 0. done comes exactly once, whatever
 * happens. What is refused says so in call->error: PR_E_UNAVAILABLE (loading, restarting is no
 * reason), PR_E_OVERLOADED, PR_E_TOO_LARGE (could never be admitted, or answers over
 * --max-response-bytes), PR_E_ARGUMENT. */
void pr_service_call_begin(pr_service *service, pr_call *call);
/* The client has left: drops what has not begun to run. done still comes, with PR_E_CANCELLED. */
void pr_service_call_cancel(pr_service *service, pr_call *call);

#endif
