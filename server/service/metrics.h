/* server/service/metrics.h: counters and histograms of the service, and their Prometheus text.
 *
 * Names, labels and buckets are fixed in docs/operations.md. Labels never come from a client:
 * routes are indexes into the table that create is given, codes are HTTP statuses, reasons are
 * statuses' names. Loop thread only. */
#ifndef POOLRANK_SERVER_SERVICE_METRICS_H
#define POOLRANK_SERVER_SERVICE_METRICS_H

#include "coordinator/engine/engine.h"
#include "runtime/base/buffer.h"

typedef struct pr_metrics pr_metrics;

typedef enum pr_stage {
    PR_STAGE_TOKENIZE,
    PR_STAGE_QUEUE, /* prepared, until it is part of a batch */
    PR_STAGE_RUN,   /* in a batch */
    PR_STAGE_COUNT
} pr_stage;

/* routes: [n_routes] labels, borrowed for ever (constant data); the last is for what has none. */
pr_status pr_metrics_create(const char *const *routes, size_t n_routes, pr_metrics **out,
                            pr_error *err);
void pr_metrics_free(pr_metrics *m);

/* A request was answered: code is the HTTP status, or its like in the socket protocol. */
void pr_metrics_request(pr_metrics *m, size_t i_route, int code, double seconds);
/* One item of a request went through: seconds of each stage. */
void pr_metrics_item(pr_metrics *m, size_t i_route, uint32_t n_prompt_tokens,
                     const double seconds[PR_STAGE_COUNT]);
void pr_metrics_rejected(pr_metrics *m, pr_status reason);
void pr_metrics_connections(pr_metrics *m, int32_t n_change); /* open ones */

/* What is measured at the moment of the scrape. */
typedef struct pr_metrics_now {
    const pr_engine_stats *engine;
    const char *version, *model, *device, *isa, *dtype; /* of poolrank_build_info */
    const char *state;                /* pr_service_state_name */
    size_t n_calls;                   /* open */
    double uptime_s;
} pr_metrics_now;

/* Appends the text format, version 0.0.4. */
void pr_metrics_render(const pr_metrics *m, const pr_metrics_now *now, pr_buffer *out);

#endif
