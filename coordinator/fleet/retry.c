#include "coordinator/fleet/retry.h"

#include <assert.h>

enum { BACKOFF_MS_MIN = 500 };

pr_retry pr_retry_decide(uint32_t n_deaths, size_t n_parts)
{
    assert(n_deaths > 0);
    assert(n_parts > 0);
    if (n_deaths < PR_RETRY_DEATHS_MAX) return PR_RETRY_AGAIN;
    if (n_parts > 1) return PR_RETRY_SPLIT;
    return n_deaths == PR_RETRY_DEATHS_MAX ? PR_RETRY_ALONE : PR_RETRY_FAIL;
}

bool pr_retry_is_alone(uint32_t n_deaths)
{
    return n_deaths >= PR_RETRY_DEATHS_MAX;
}

uint64_t pr_retry_backoff_ms(uint32_t n_failures)
{
    if (n_failures <= 1) return 0;
    uint64_t wait_ms = BACKOFF_MS_MIN;
    for (uint32_t i = 2; i < n_failures && wait_ms < PR_RETRY_BACKOFF_MS_MAX; i++) wait_ms *= 2;
    return wait_ms < PR_RETRY_BACKOFF_MS_MAX ? wait_ms : PR_RETRY_BACKOFF_MS_MAX;
}

uint32_t pr_retry_failures(uint32_t n_failures_before, uint64_t ready_ms, bool has_answered)
{
    if (has_answered || ready_ms >= PR_RETRY_HEALTHY_MS) return 1;
    return n_failures_before < UINT32_MAX ? n_failures_before + 1 : UINT32_MAX;
}

static uint64_t since(uint64_t then_ms, uint64_t now_ms)
{
    return now_ms > then_ms ? now_ms - then_ms : 0;
}

/* The rank whose question is unanswered for longest, of those unanswered for at least_ms. */
static bool silent_find(const pr_rank_life *ranks, size_t n_ranks, uint64_t now_ms,
                        uint64_t at_least_ms, size_t *i_rank)
{
    bool is_found = false;
    for (size_t i = 0; i < n_ranks; i++) {
        const pr_rank_life *r = &ranks[i];
        if (!r->is_here || r->asked_ms == 0 || since(r->asked_ms, now_ms) < at_least_ms) continue;
        if (is_found && r->asked_ms >= ranks[*i_rank].asked_ms) continue;
        *i_rank = i;
        is_found = true;
    }
    return is_found;
}

static bool is_less_far(const pr_rank_life *a, const pr_rank_life *b)
{
    if (a->batch_seq != b->batch_seq) return a->batch_seq < b->batch_seq;
    return a->n_steps < b->n_steps;
}

/* One rank that goes on is enough: the others wait for it. */
static bool still_find(const pr_rank_life *ranks, size_t n_ranks, uint64_t now_ms,
                       uint64_t at_least_ms, size_t *i_rank)
{
    bool is_found = false;
    for (size_t i = 0; i < n_ranks; i++) {
        const pr_rank_life *r = &ranks[i];
        if (!r->is_here || !r->is_computing) continue;
        if (since(r->progress_ms, now_ms) < at_least_ms) return false;
        if (is_found && !is_less_far(r, &ranks[*i_rank])) continue;
        *i_rank = i;
        is_found = true;
    }
    return is_found;
}

pr_hang pr_retry_hang(const pr_rank_life *ranks, size_t n_ranks, uint64_t now_ms,
                      uint64_t timeout_ms, uint64_t ping_ms, size_t *i_rank)
{
    if (silent_find(ranks, n_ranks, now_ms, timeout_ms, i_rank)) return PR_HANG_SILENT;
    if (!still_find(ranks, n_ranks, now_ms, timeout_ms, i_rank)) return PR_HANG_NONE;
    /* A stopped rank's peers stand still before its own silence is long enough. */
    uint64_t silent_ms = ping_ms < timeout_ms ? ping_ms : timeout_ms;
    if (silent_find(ranks, n_ranks, now_ms, silent_ms, i_rank)) return PR_HANG_SILENT;
    return PR_HANG_STILL;
}
