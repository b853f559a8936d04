#include "coordinator/batch_queue.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

struct pr_batch_queue {
    pr_batch_queue_config c;
    void (*wake)(void *context); /* NULL: nobody */
    void *wake_context;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t has_parts;
    pr_ready_part *parts; /* ring of c.n_parts_max, oldest at begin */
    size_t begin, n_parts;
    size_t n_reserved; /* places promised to who prepares */
    bool is_closed;
    pthread_mutex_t take_lock; /* one thread plans at a time: the front stays the front */
    pr_queued *queued;         /* [c.limits.n_sequences_max] memory of a batch's planning */
};

pr_status pr_batch_queue_create(const pr_batch_queue_config *config, pr_batch_queue **out,
                                pr_error *err)
{
    assert(config->limits.n_sequences_max > 0);
    pr_batch_queue *q = calloc(1, sizeof *q);
    if (!q) return pr_error_nomem(err, "queue", sizeof *q);
    q->c = *config;
    pthread_mutex_init(&q->lock, NULL);
    pthread_mutex_init(&q->take_lock, NULL);
    pthread_cond_init(&q->has_parts, NULL);
    q->parts = malloc(config->n_parts_max * sizeof *q->parts);
    q->queued = malloc(config->limits.n_sequences_max * sizeof *q->queued);
    if (!q->parts || !q->queued) {
        pr_batch_queue_free(q);
        return pr_error_nomem(err, "queue", config->n_parts_max * sizeof *q->parts);
    }
    *out = q;
    return PR_OK;
}

void pr_batch_queue_free(pr_batch_queue *q)
{
    if (!q) return;
    assert(q->n_parts == 0);
    pthread_mutex_destroy(&q->lock);
    pthread_mutex_destroy(&q->take_lock);
    pthread_cond_destroy(&q->has_parts);
    free(q->parts);
    free(q->queued);
    free(q);
}

void pr_batch_queue_set_wake(pr_batch_queue *q, void (*wake)(void *context), void *context)
{
    pthread_mutex_lock(&q->lock);
    q->wake = wake;
    q->wake_context = context;
    pthread_mutex_unlock(&q->lock);
}

/* ---- pushing ---- */

bool pr_batch_queue_reserve(pr_batch_queue *q, size_t n_parts)
{
    pthread_mutex_lock(&q->lock);
    bool has_room = q->n_parts + q->n_reserved + n_parts <= q->c.n_parts_max;
    if (has_room) q->n_reserved += n_parts;
    pthread_mutex_unlock(&q->lock);
    return has_room;
}

void pr_batch_queue_unreserve(pr_batch_queue *q, size_t n_parts)
{
    pthread_mutex_lock(&q->lock);
    assert(q->n_reserved >= n_parts);
    q->n_reserved -= n_parts;
    pthread_mutex_unlock(&q->lock);
}

/* Called with the lock, so that a wake that was unset is not called any more. */
static void news_tell(pr_batch_queue *q)
{
    pthread_cond_broadcast(&q->has_parts);
    if (q->wake) q->wake(q->wake_context);
}

void pr_batch_queue_push(pr_batch_queue *q, pr_job *job)
{
    size_t n = (size_t)job->prepared.n_parts;
    pthread_mutex_lock(&q->lock);
    assert(!q->is_closed);
    assert(q->n_reserved >= n);
    q->n_reserved -= n;
    for (size_t i = 0; i < n; i++) {
        q->parts[(q->begin + q->n_parts++) % q->c.n_parts_max] = (pr_ready_part){job, (int)i};
    }
    news_tell(q);
    pthread_mutex_unlock(&q->lock);
}

void pr_batch_queue_close(pr_batch_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->is_closed = true;
    news_tell(q);
    pthread_mutex_unlock(&q->lock);
}

bool pr_batch_queue_is_drained(pr_batch_queue *q)
{
    pthread_mutex_lock(&q->lock);
    bool is_drained = q->is_closed && q->n_parts == 0;
    pthread_mutex_unlock(&q->lock);
    return is_drained;
}

/* ---- taking ---- */

static void batch_free(pr_batch *b)
{
    if (!b) return;
    pr_batch_plan_free(b->plan);
    free(b->parts);
    free(b->poolings);
    free(b);
}

static pr_batch *batch_create(size_t n_parts)
{
    pr_batch *b = calloc(1, sizeof *b);
    if (!b) return NULL;
    b->parts = malloc(n_parts * sizeof *b->parts);
    b->poolings = malloc(n_parts * sizeof *b->poolings);
    b->n_parts = n_parts;
    if (b->parts && b->poolings) return b;
    batch_free(b);
    return NULL;
}

static pr_queued queued_of(const pr_ready_part *part)
{
    const pr_encoding *e = &part->job->prepared.parts[part->i_part];
    return (pr_queued){e->ids, e->type_ids, (uint32_t)e->n};
}

/* A part whose batch failed: the job is done when its last part is through. */
static bool part_fail(pr_job *job, pr_status st, const char *message)
{
    job->n_parts_done++;
    if (job->result->status == PR_OK) pr_job_fail(job, st, message);
    return job->n_parts_done == job->prepared.n_parts;
}

static void parts_fail(pr_batch_queue *q, const pr_ready_part *parts, size_t n, pr_status st,
                       const char *message)
{
    for (size_t i = 0; i < n; i++) {
        if (part_fail(parts[i].job, st, message)) q->c.done(q->c.context, parts[i].job);
    }
}

/* Copies up to a batch's worth of the front; 0: nothing is there. */
static size_t front_peek(pr_batch_queue *q, bool wait)
{
    pthread_mutex_lock(&q->lock);
    while (wait && q->n_parts == 0 && !q->is_closed) pthread_cond_wait(&q->has_parts, &q->lock);
    size_t n_max = q->c.limits.n_sequences_max;
    size_t n = q->n_parts < n_max ? q->n_parts : n_max;
    for (size_t i = 0; i < n; i++) {
        q->queued[i] = queued_of(&q->parts[(q->begin + i) % q->c.n_parts_max]);
    }
    pthread_mutex_unlock(&q->lock);
    return n;
}

static void front_pop(pr_batch_queue *q, pr_ready_part *parts, size_t n)
{
    pthread_mutex_lock(&q->lock);
    for (size_t i = 0; i < n; i++) parts[i] = q->parts[(q->begin + i) % q->c.n_parts_max];
    q->begin = (q->begin + n) % q->c.n_parts_max;
    q->n_parts -= n;
    pthread_mutex_unlock(&q->lock);
    if (q->c.room) q->c.room(q->c.context);
}

/* Plans queued[0 … n-1]; a text over the token budget runs alone. */
static pr_status front_plan(pr_batch_queue *q, size_t n, size_t *n_taken, pr_batch **out,
                            pr_error *err)
{
    pr_batch_limits limits = q->c.limits;
    pr_batch_plan *plan = NULL;
    if (q->queued[0].n_tokens > limits.n_tokens_max) limits.n_tokens_max = q->queued[0].n_tokens;
    pr_status st = pr_batch_plan_build(q->queued, n, &limits, n_taken, &plan, err);
    if (st != PR_OK) return st;
    pr_batch *b = batch_create(*n_taken);
    if (!b) {
        pr_batch_plan_free(plan);
        return pr_error_nomem(err, "batch", *n_taken * sizeof *b->parts);
    }
    b->plan = plan;
    *out = b;
    return PR_OK;
}

pr_batch *pr_batch_queue_take(pr_batch_queue *q, bool wait)
{
    pr_batch *b = NULL;
    size_t n;
    pthread_mutex_lock(&q->take_lock);
    while (!b && (n = front_peek(q, wait)) > 0) {
        pr_error err;
        size_t n_taken = 1;
        pr_status st = front_plan(q, n, &n_taken, &b, &err);
        if (st == PR_OK) {
            front_pop(q, b->parts, n_taken);
        } else { /* no memory: the first of them fails, the rest is tried again */
            pr_ready_part part;
            front_pop(q, &part, 1);
            parts_fail(q, &part, 1, st, err.message);
        }
    }
    pthread_mutex_unlock(&q->take_lock);
    for (size_t i = 0; b && i < b->n_parts; i++) {
        b->poolings[i] = b->parts[i].job->prepared.pooling;
    }
    return b;
}

/* ---- back as results ---- */

void pr_batch_queue_complete(pr_batch_queue *q, pr_batch *b, const pr_pooled *pooled, pr_status st,
                             const char *message)
{
    assert(st != PR_OK || pooled->n_sequences == b->n_parts);
    for (size_t i = 0; i < b->n_parts; i++) {
        pr_job *job = b->parts[i].job;
        bool is_done;
        if (st != PR_OK || job->result->status != PR_OK) {
            is_done = part_fail(job, st, message);
        } else {
            is_done = pr_job_take_rows(job, b->parts[i].i_part, pooled, &pooled->rows[i]);
        }
        if (is_done) q->c.done(q->c.context, job);
    }
    batch_free(b);
}

static pr_batch *single_create(const pr_batch *from, size_t i)
{
    pr_batch *b = batch_create(1);
    if (!b) return NULL;
    const pr_queued queued = queued_of(&from->parts[i]);
    const pr_batch_limits limits = {.n_tokens_max = queued.n_tokens, .n_sequences_max = 1};
    size_t n_taken = 0;
    if (pr_batch_plan_build(&queued, 1, &limits, &n_taken, &b->plan, NULL) != PR_OK) {
        batch_free(b);
        return NULL;
    }
    b->parts[0] = from->parts[i];
    b->poolings[0] = from->poolings[i];
    b->n_deaths = from->n_deaths;
    return b;
}

pr_batch *pr_batch_queue_split(pr_batch_queue *q, pr_batch *batch)
{
    (void)q;
    pr_batch *first = NULL, **last = &first;
    for (size_t i = 0; i < batch->n_parts; i++) {
        *last = single_create(batch, i);
        if (!*last) break;
        last = &(*last)->next;
        if (i + 1 < batch->n_parts) continue;
        batch_free(batch);
        return first;
    }
    while (first) {
        pr_batch *next = first->next;
        batch_free(first);
        first = next;
    }
    return NULL;
}
