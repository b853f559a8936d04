/* coordinator/queue/batch_queue.h: prepared requests on their way to the model: waiting in their
 * order, cut into batches, and back as results; and the clock of that order.
 *
 * Owns the parts that wait and the batches that were taken and not completed. The engine pushes;
 * a runner (the worker in this process, or the fleet of replica groups) takes batches and completes
 * each exactly once. Both parts of a job must be completed on the same thread. */
#ifndef POOLRANK_COORDINATOR_QUEUE_BATCH_QUEUE_H
#define POOLRANK_COORDINATOR_QUEUE_BATCH_QUEUE_H

#include "coordinator/queue/job.h"
#include "runtime/base/histogram.h"
#include "runtime/plan/batch_plan.h"

typedef struct pr_batch_queue pr_batch_queue;

/* One part of a job, ready for the model. */
typedef struct pr_ready_part {
    pr_job *job;
    int i_part;
} pr_ready_part;

/* A planned batch; all owned by the queue, read-only for the runner but for the last fields. */
typedef struct pr_batch {
    pr_batch_plan *plan;
    pr_ready_part *parts;        /* [n_parts], one a sequence */
    const pr_pooling **poolings; /* [n_parts] */
    size_t n_parts;
    /* the runner's own */
    uint32_t n_deaths; /* groups that died while they ran it */
    struct pr_batch *next;
} pr_batch;

typedef struct pr_batch_queue_config {
    pr_batch_limits limits;
    size_t n_parts_max; /* places for waiting parts */
    /* A job has its result: called once for each job, without a lock, on the thread that completed
     * its last part. */
    void (*done)(void *context, pr_job *job);
    /* Parts left the queue: there is room for others. Called without a lock; may be NULL. */
    void (*room)(void *context);
    void *context;
} pr_batch_queue_config;

pr_status pr_batch_queue_create(const pr_batch_queue_config *config, pr_batch_queue **out,
                                pr_error *err);
void pr_batch_queue_free(pr_batch_queue *q); /* nothing may wait or run; NULL is fine */

/* Called by the queue whenever parts were pushed, or the queue was closed: for a runner that does
 * not wait in take. Must not block. Set before the first push. */
void pr_batch_queue_set_wake(pr_batch_queue *q, void (*wake)(void *context), void *context);

/* Free places, and places asked for: the engine's tokenizer threads reserve before they prepare. */
bool pr_batch_queue_reserve(pr_batch_queue *q, size_t n_parts); /* false: no room now */
void pr_batch_queue_unreserve(pr_batch_queue *q, size_t n_parts);
/* A job comes: it gets its place in the order, also for its way to the tokenizers. Each that came
 * is pushed, or dropped by its holder. */
void pr_batch_queue_arrive(pr_batch_queue *q, pr_job *job);
void pr_batch_queue_drop(pr_batch_queue *q, pr_job *job);
/* All parts of a prepared job that arrived, into reserved places. False: the job's flow was
 * cancelled meanwhile; nothing is pushed, the places are given back, the job is dropped. */
bool pr_batch_queue_push(pr_batch_queue *q, pr_job *job);
/* The jobs of a flow that was marked as cancelled and that no batch has begun to take are done,
 * with PR_E_CANCELLED, from inside this call. Any thread. */
void pr_batch_queue_cancel(pr_batch_queue *q, const pr_flow *flow);
/* No more pushes will come. */
void pr_batch_queue_close(pr_batch_queue *q);
bool pr_batch_queue_is_drained(pr_batch_queue *q); /* closed, and nothing waits */

/* Numbers so far; histogram of tokens a batch. Any thread. */
typedef struct pr_batch_queue_stats {
    size_t n_parts;      /* that wait */
    uint64_t n_batches, n_tokens, n_sequences; /* that were taken; tokens that were computed */
    uint64_t n_tokens_saved;  /* tokens of the sequences that were not computed for them */
    uint64_t n_tokens_cached; /* rows that batches took from a cache */
    double tokens_per_s; /* of the last seconds in which something ran; 0: none yet */
    pr_histogram batch_tokens;
} pr_batch_queue_stats;

void pr_batch_queue_stats_get(pr_batch_queue *q, pr_batch_queue_stats *out);

/* Plans the front of the queue. With `wait` it waits for parts; NULL: nothing is there (without
 * wait), or the queue is closed and drained. A failed plan fails its requests and the next is
 * tried.
 * cache: what the ranks hold that will run it, of whoever takes; NULL: nothing. The batch is for
 * these ranks only: for others pr_batch_queue_replan. If it fails, clear the cache. */
pr_batch *pr_batch_queue_take(pr_batch_queue *q, bool wait, pr_prefix_cache *cache);

/* Batches of the same parts, in order and linked by `next`, that take nothing from a cache and keep
 * nothing, n_deaths kept: for other ranks than the batch was planned for. batch: consumed on
 * success, and itself the answer where it has nothing of a cache. NULL: no memory, batch
 * unchanged. */
pr_batch *pr_batch_queue_replan(pr_batch_queue *q, pr_batch *batch);

/* Delivers: with PR_OK the rows of pooled [n_sequences] (borrowed), else the failure. batch:
 * consumed. */
void pr_batch_queue_complete(pr_batch_queue *q, pr_batch *batch, const pr_pooled *pooled,
                             pr_status st, const char *message);

/* Cuts a batch into one batch for each of its requests' parts, n_deaths kept, linked by `next`.
 * batch: consumed on success. NULL: no memory, batch unchanged. */
pr_batch *pr_batch_queue_split(pr_batch_queue *q, pr_batch *batch);

#endif
