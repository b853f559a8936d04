/* coordinator/fleet/retry.h: what to do about groups that die: their batches, the wait before the
 * next start, and when a rank counts as hung.
 *
 * Pure: times are arguments, in milliseconds of one monotonic clock. Called by the fleet, on its
 * loop thread. */
#ifndef POOLRANK_COORDINATOR_FLEET_RETRY_H
#define POOLRANK_COORDINATOR_FLEET_RETRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PR_RETRY_DEATHS_MAX = 2, /* after so many a request runs alone; the next is its last */
    PR_RETRY_BACKOFF_MS_MAX = 30 * 1000,
    PR_RETRY_HEALTHY_MS = 10 * 1000,    /* a group that was idle for so long starts at once again */
    PR_RETRY_STARTS_MAX = 3             /* failed starts in a row before the first that works */
};

typedef enum pr_retry {
    PR_RETRY_AGAIN, /* the whole batch, to any group */
    PR_RETRY_SPLIT, /* each of its requests alone */
    PR_RETRY_ALONE, /* it is one request: nothing else beside it */
    PR_RETRY_FAIL   /* it was alone when it ended its last group */
} pr_retry;

/* A batch of n_parts requests was in the hands of n_deaths groups that died, the last just now. */
pr_retry pr_retry_decide(uint32_t n_deaths, size_t n_parts);

/* Whether such a batch must have its group for itself. */
bool pr_retry_is_alone(uint32_t n_deaths);

/* The wait before start number n_failures + 1 of a group that died n_failures times in a row:
 * nothing, then half a second, doubled each time. */
uint64_t pr_retry_backoff_ms(uint32_t n_failures);

/* The number of deaths in a row, this one included, of a group that was ready for ready_ms (0: it
 * never was) and answered a batch, or not, in that time. One that does some work each time is worth
 * starting at once. */
uint32_t pr_retry_failures(uint32_t n_failures_before, uint64_t ready_ms, bool has_answered);

/* One rank's signs of life. */
typedef struct pr_rank_life {
    bool is_here;           /* connected; false: nothing is expected of it */
    bool is_computing;      /* it has something to do */
    uint64_t asked_ms;      /* when the oldest question was sent that has no answer; 0: none */
    uint64_t progress_ms;   /* when its progress was last seen to change, or it began to compute */
    uint64_t batch_seq, n_steps; /* its progress */
} pr_rank_life;

typedef enum pr_hang { PR_HANG_NONE, PR_HANG_SILENT, PR_HANG_STILL } pr_hang;

/* Whether one of the ranks has given no answer for timeout_ms, or none of those that compute has
 * made progress for so long; *i_rank is the one to name. Ranks that wait for a hung one stand still
 * too: one that does not answer is named before them, else the one that is least far. ping_ms:
 * between two questions. */
pr_hang pr_retry_hang(const pr_rank_life *ranks, size_t n_ranks, uint64_t now_ms,
                      uint64_t timeout_ms, uint64_t ping_ms, size_t *i_rank);

#endif
