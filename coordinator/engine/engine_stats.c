#include "coordinator/engine/engine_state.h"

#include <assert.h>
#include <math.h>

static void local_group(const pr_engine *e, pr_engine_stats *out)
{
    bool is_lost = e->local && pr_run_local_is_lost(e->local);
    const char *state = is_lost ? "idle" : e->is_loaded ? "ready" : "loading";
    out->n_groups = 1;
    out->n_groups_ready = e->is_loaded && !is_lost ? 1 : 0;
    out->n_group_starts = 1;
    out->groups[0] = (pr_engine_group){.index = 0, .state = state, .n_starts = 1};
}

static void fleet_groups(const pr_engine *e, pr_engine_stats *out)
{
    static_assert((int)PR_ENGINE_GROUPS_MAX == (int)PR_FLEET_GROUPS_SHOWN_MAX,
                  "as many groups are shown");
    pr_fleet_groups_now now;
    pr_fleet_groups_get(e->fleet, &now);
    out->n_groups = now.n;
    out->n_groups_ready = now.n_ready;
    out->n_group_starts = now.n_starts;
    out->n_restarts = now.n_restarts;
    for (uint32_t i = 0; i < now.n && i < PR_ENGINE_GROUPS_MAX; i++) {
        out->groups[i] = (pr_engine_group){now.groups[i].index, now.groups[i].state,
                                           now.groups[i].n_starts};
    }
}

void pr_engine_stats_get(pr_engine *e, pr_engine_stats *out)
{
    pr_batch_queue_stats queue;
    *out = (pr_engine_stats){0};
    pr_batch_queue_stats_get(e->queue, &queue);
    pthread_mutex_lock(&e->lock);
    out->n_requests = e->n_jobs;
    out->n_tokens = e->n_tokens;
    out->n_queued = (uint32_t)(e->waiting.n + e->n_preparing + queue.n_parts);
    if (e->fleet) {
        fleet_groups(e, out);
    } else {
        local_group(e, out);
    }
    pthread_mutex_unlock(&e->lock);
    out->tokens_per_s = queue.tokens_per_s;
    out->n_batches = queue.n_batches;
    out->n_batch_tokens = queue.n_tokens;
    out->n_tokens_saved = queue.n_tokens_saved;
    out->n_tokens_cached = queue.n_tokens_cached;
    out->prefix_cache_bytes = e->prefix_cache_bytes;
    out->n_batch_requests = queue.n_sequences;
    out->batch_tokens = queue.batch_tokens;
}

uint32_t pr_engine_wait_s(pr_engine *e)
{
    enum { SECONDS_MAX = 3600 };
    pr_batch_queue_stats queue;
    pr_batch_queue_stats_get(e->queue, &queue);
    pthread_mutex_lock(&e->lock);
    double n_tokens = (double)e->n_tokens;
    pthread_mutex_unlock(&e->lock);
    if (queue.tokens_per_s <= 0) return 1;
    double seconds = ceil(n_tokens / queue.tokens_per_s);
    return seconds < 1 ? 1 : seconds > SECONDS_MAX ? SECONDS_MAX : (uint32_t)seconds;
}
