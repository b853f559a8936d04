#include "coordinator/queue/batch_queue.h"

#include "runtime/base/clock.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { RATE_SECONDS = 10 }; /* how far back the measured rate looks */

static const double token_bounds[] = {16,   32,   64,   128,   256,   512,  1024,
                                      2048, 4096, 8192, 16384, 32768, 65536};

/* The service rate: decaying sums of tokens and of the time in which batches were out. */
typedef struct rate {
    double tokens, seconds;
    uint64_t mark_ns; /* up to here it was counted */
    size_t n_out;     /* batches taken and not completed */
} rate;

struct pr_batch_queue {
    pr_batch_queue_config c;
    void (*wake)(void *context); /* NULL: nobody */
    void *wake_context;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t has_parts;
    pr_clock_virtual clock;
    pr_order parts;    /* items are jobs; never more than c.n_parts_max */
    size_t n_front;    /* taken out of it while a batch is planned */
    size_t n_reserved; /* places promised to who prepares */
    bool is_closed;
    uint64_t n_batches, n_tokens, n_sequences, n_tokens_saved, n_tokens_cached;
    pr_histogram batch_tokens;
    rate rate;

    pthread_mutex_t take_lock; /* one thread plans at a time */
    pr_queued *queued;         /* [c.limits.n_sequences_max] memory of a batch's planning */
    pr_order_entry *front;     /* likewise */
    pr_ready_part *over;       /* likewise: parts that nobody waits for any more */
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
    q->batch_tokens.bounds = token_bounds;
    q->batch_tokens.n_bounds = sizeof token_bounds / sizeof *token_bounds;
    q->queued = malloc(config->limits.n_sequences_max * sizeof *q->queued);
    q->front = malloc(config->limits.n_sequences_max * sizeof *q->front);
    q->over = malloc(config->limits.n_sequences_max * sizeof *q->over);
    if (!q->queued || !q->front || !q->over || !pr_order_reserve(&q->parts, config->n_parts_max)) {
        pr_batch_queue_free(q);
        return pr_error_nomem(err, "queue", config->n_parts_max * sizeof *q->front);
    }
    *out = q;
    return PR_OK;
}

void pr_batch_queue_free(pr_batch_queue *q)
{
    if (!q) return;
    assert(q->parts.n == 0);
    pthread_mutex_destroy(&q->lock);
    pthread_mutex_destroy(&q->take_lock);
    pthread_cond_destroy(&q->has_parts);
    pr_order_deinit(&q->parts);
    free(q->queued);
    free(q->front);
    free(q->over);
    free(q);
}

void pr_batch_queue_set_wake(pr_batch_queue *q, void (*wake)(void *context), void *context)
{
    pthread_mutex_lock(&q->lock);
    q->wake = wake;
    q->wake_context = context;
    pthread_mutex_unlock(&q->lock);
}

/* Parts that no batch has. Called with the lock. */
static size_t waiting(const pr_batch_queue *q)
{
    return q->parts.n + q->n_front;
}

/* ---- the order ---- */

void pr_batch_queue_arrive(pr_batch_queue *q, pr_job *job)
{
    pthread_mutex_lock(&q->lock);
    job->place = pr_order_arrive(&q->clock, job->flow, job->n_tokens);
    pthread_mutex_unlock(&q->lock);
}

/* Called with the lock. n_tokens 0: it was not taken. */
static void job_leave(pr_batch_queue *q, pr_job *job, uint64_t n_tokens)
{
    if (job->has_left) return;
    job->has_left = true;
    pr_order_leave(&q->clock, job->flow, &job->place, n_tokens);
}

void pr_batch_queue_drop(pr_batch_queue *q, pr_job *job)
{
    pthread_mutex_lock(&q->lock);
    job_leave(q, job, 0);
    pthread_mutex_unlock(&q->lock);
}

/* ---- pushing ---- */

bool pr_batch_queue_reserve(pr_batch_queue *q, size_t n_parts)
{
    pthread_mutex_lock(&q->lock);
    bool has_room = waiting(q) + q->n_reserved + n_parts <= q->c.n_parts_max;
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

bool pr_batch_queue_push(pr_batch_queue *q, pr_job *job)
{
    size_t n = (size_t)job->prepared.n_parts;
    pthread_mutex_lock(&q->lock);
    assert(!q->is_closed);
    assert(q->n_reserved >= n);
    q->n_reserved -= n;
    /* Who cancels marks the flow first and takes the lock then: no job slips by. */
    bool is_wanted = !atomic_load(&job->flow->is_cancelled);
    for (size_t i = 0; is_wanted && i < n; i++) {
        pr_order_push(&q->parts, &(pr_order_entry){job->place, job, (int)i});
        job->n_parts_queued++;
    }
    if (is_wanted) {
        news_tell(q);
    } else {
        job_leave(q, job, 0);
    }
    pthread_mutex_unlock(&q->lock);
    return is_wanted;
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
    bool is_drained = q->is_closed && waiting(q) == 0;
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

/* How many of a part's first tokens a cache may stand for: of what the pooler reads the last row is
 * always computed. */
static uint32_t n_reusable_of(const pr_encoding *e, const pr_pooling *p)
{
    size_t n = e->n - 1;
    while (p->skips_pad && n > 0 && e->ids[n] == p->pad_token_id) n--;
    return (uint32_t)n;
}

static bool is_zero(const uint8_t *types, size_t n)
{
    return !types || n == 0 || (types[0] == 0 && memcmp(types, types + 1, n - 1) == 0);
}

static pr_queued queued_of(const pr_ready_part *part)
{
    const pr_encoding *e = &part->job->prepared.parts[part->i_part];
    const pr_pooling *p = part->job->prepared.pooling;
    bool has_types = !is_zero(e->type_ids, e->n);
    return (pr_queued){
        .tokens = e->ids, .type_ids = has_types ? e->type_ids : NULL, .n_tokens = (uint32_t)e->n,
        .salt = part->job->request.cache_salt,
        .n_reusable = has_types ? 0 : n_reusable_of(e, p),
        .needs_hidden = p->type != PR_POOL_LAST, .is_kept = !has_types,
        .reads_all = p->type == PR_POOL_ALL || p->type == PR_POOL_MEAN,
    };
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

/* Takes up to a batch's worth off the front; 0: nothing is there. What nobody waits for any more is
 * put into over instead. */
static size_t front_take(pr_batch_queue *q, bool wait, size_t *n_over)
{
    size_t n = 0;
    *n_over = 0;
    pthread_mutex_lock(&q->lock);
    while (wait && q->parts.n == 0 && !q->is_closed) pthread_cond_wait(&q->has_parts, &q->lock);
    uint64_t now_ns = pr_clock_ns();
    while (n + *n_over < q->c.limits.n_sequences_max && q->parts.n > 0) {
        pr_order_entry entry = pr_order_pop(&q->parts);
        pr_job *job = entry.item;
        job->n_parts_queued--;
        if (pr_job_is_over(job, now_ns)) {
            job_leave(q, job, 0);
            q->over[(*n_over)++] = (pr_ready_part){job, entry.i_part};
        } else {
            q->front[n++] = entry;
        }
    }
    q->n_front = n;
    pthread_mutex_unlock(&q->lock);
    for (size_t i = 0; i < n; i++) {
        const pr_ready_part part = {q->front[i].item, q->front[i].i_part};
        q->queued[i] = queued_of(&part);
    }
    return n;
}

/* Counts the time that passed with batches out. Called with the lock. */
static void rate_pass(rate *r, uint64_t now_ns)
{
    if (r->n_out > 0) {
        double seconds = (double)(now_ns - r->mark_ns) * 1e-9;
        double decay = exp(-seconds / RATE_SECONDS);
        r->tokens *= decay;
        r->seconds = r->seconds * decay + seconds;
    }
    r->mark_ns = now_ns;
}

/* What the batch's sequences name of the front is the batch's; without a batch the first fails. The
 * others go back to their places. */
static void front_settle(pr_batch_queue *q, size_t n, const pr_batch *b)
{
    size_t n_taken = b ? b->n_parts : 1;
    pthread_mutex_lock(&q->lock);
    uint64_t now_ns = pr_clock_ns();
    for (size_t i = 0, k = 0; i < n; i++) {
        pr_job *job = q->front[i].item;
        if (k == n_taken || (b && b->plan->sequences[k].i_request != i)) {
            job->n_parts_queued++;
            pr_order_push(&q->parts, &q->front[i]);
            continue;
        }
        job->taken_ns = now_ns;
        job_leave(q, job, job->n_tokens);
        if (b) b->parts[k] = (pr_ready_part){job, q->front[i].i_part};
        k++;
    }
    q->n_front = 0;
    if (b) {
        q->n_batches++;
        q->n_tokens += b->plan->n_tokens;
        q->n_sequences += b->n_parts;
        q->n_tokens_cached += b->plan->n_cached;
        for (size_t i = 0; i < b->n_parts; i++) q->n_tokens_saved += b->plan->sequences[i].n_tokens;
        q->n_tokens_saved -= b->plan->n_tokens;
        pr_histogram_add(&q->batch_tokens, b->plan->n_tokens);
        rate_pass(&q->rate, now_ns);
        q->rate.n_out++;
    }
    pthread_mutex_unlock(&q->lock);
    if (q->c.room) q->c.room(q->c.context);
}

/* Plans queued[0 … n-1]; a text over the token budget runs alone. */
static pr_status front_plan(pr_batch_queue *q, size_t n, pr_prefix_cache *cache, pr_batch **out,
                            pr_error *err)
{
    pr_batch_limits limits = q->c.limits;
    pr_batch_plan *plan = NULL;
    if (q->queued[0].n_tokens > limits.n_tokens_max) limits.n_tokens_max = q->queued[0].n_tokens;
    pr_status st = pr_batch_plan_build(q->queued, n, &limits, cache, &plan, err);
    if (st != PR_OK) return st;
    pr_batch *b = batch_create(plan->n_sequences);
    if (!b) {
        st = pr_error_nomem(err, "batch", plan->n_sequences * sizeof *b->parts);
        pr_batch_plan_free(plan);
        return st;
    }
    b->plan = plan;
    *out = b;
    return PR_OK;
}

static void over_finish(pr_batch_queue *q, const pr_ready_part *over, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        pr_job *job = over[i].job;
        if (job->result->status == PR_OK) pr_job_fail_over(job);
        parts_fail(q, &over[i], 1, job->result->status, "");
    }
    if (n > 0 && q->c.room) q->c.room(q->c.context);
}

pr_batch *pr_batch_queue_take(pr_batch_queue *q, bool wait, pr_prefix_cache *cache)
{
    pr_batch *b = NULL;
    size_t n, n_over;
    pthread_mutex_lock(&q->take_lock);
    while (!b && ((n = front_take(q, wait, &n_over)) > 0 || n_over > 0)) {
        over_finish(q, q->over, n_over);
        if (n == 0) continue;
        pr_error err;
        pr_status st = front_plan(q, n, cache, &b, &err);
        front_settle(q, n, b);
        if (st == PR_OK) continue;
        /* No memory: the first of them fails, the rest is tried again. */
        const pr_ready_part part = {q->front[0].item, q->front[0].i_part};
        parts_fail(q, &part, 1, st, err.message);
    }
    pthread_mutex_unlock(&q->take_lock);
    for (size_t i = 0; b && i < b->n_parts; i++) {
        b->poolings[i] = b->parts[i].job->prepared.pooling;
    }
    return b;
}

static bool is_whole_job_of(const pr_order_entry *entry, const void *flow)
{
    const pr_job *job = entry->item;
    /* A job with a part in a batch stays: its parts are completed on one thread. */
    return job->flow == flow && job->n_parts_queued == job->prepared.n_parts;
}

void pr_batch_queue_cancel(pr_batch_queue *q, const pr_flow *flow)
{
    pthread_mutex_lock(&q->lock);
    size_t n = 0;
    pr_order_entry *entries = q->parts.n ? malloc(q->parts.n * sizeof *entries) : NULL;
    /* Without memory they are dropped when their turn comes. */
    if (entries) n = pr_order_extract(&q->parts, is_whole_job_of, flow, entries);
    for (size_t i = 0; i < n; i++) job_leave(q, entries[i].item, 0);
    pthread_mutex_unlock(&q->lock);
    for (size_t i = 0; i < n; i++) {
        const pr_ready_part part = {entries[i].item, entries[i].i_part};
        over_finish(q, &part, 1);
    }
    free(entries);
}

void pr_batch_queue_stats_get(pr_batch_queue *q, pr_batch_queue_stats *out)
{
    pthread_mutex_lock(&q->lock);
    *out = (pr_batch_queue_stats){
        .n_parts = waiting(q),
        .n_batches = q->n_batches,
        .n_tokens = q->n_tokens,
        .n_sequences = q->n_sequences,
        .n_tokens_saved = q->n_tokens_saved,
        .n_tokens_cached = q->n_tokens_cached,
        .tokens_per_s = q->rate.seconds > 0 ? q->rate.tokens / q->rate.seconds : 0,
        .batch_tokens = q->batch_tokens,
    };
    pthread_mutex_unlock(&q->lock);
}

/* ---- back as results ---- */

static void batch_account(pr_batch_queue *q, const pr_batch *b, pr_status st)
{
    pthread_mutex_lock(&q->lock);
    rate_pass(&q->rate, pr_clock_ns());
    if (st == PR_OK) q->rate.tokens += b->plan->n_tokens;
    assert(q->rate.n_out > 0);
    q->rate.n_out--;
    pthread_mutex_unlock(&q->lock);
}

/* How long the job was where. Called when it has its result. */
static void times_note(pr_job *job, uint64_t now_ns)
{
    pr_result *r = job->result;
    r->tokenize_ns = job->tokenize_ns;
    r->run_ns = now_ns - job->taken_ns;
    uint64_t waited_ns = job->taken_ns - job->submit_ns;
    r->queue_ns = waited_ns > job->tokenize_ns ? waited_ns - job->tokenize_ns : 0;
}

void pr_batch_queue_complete(pr_batch_queue *q, pr_batch *b, const pr_pooled *pooled, pr_status st,
                             const char *message)
{
    assert(st != PR_OK || pooled->n_sequences == b->n_parts);
    batch_account(q, b, st);
    uint64_t now_ns = pr_clock_ns();
    for (size_t i = 0; i < b->n_parts; i++) {
        pr_job *job = b->parts[i].job;
        bool is_done;
        if (st != PR_OK || job->result->status != PR_OK) {
            is_done = part_fail(job, st, message);
        } else {
            is_done = pr_job_take_rows(job, b->parts[i].i_part, pooled, &pooled->rows[i]);
        }
        if (!is_done) continue;
        times_note(job, now_ns);
        q->c.done(q->c.context, job);
    }
    batch_free(b);
}

/* ---- batches again ---- */

/* A batch of some of the parts [*n] (n > 0), as many as the limits take; those left stay in parts.
 * queued: [*n] memory. NULL: no memory. */
static pr_batch *piece_create(pr_ready_part *parts, size_t *n, const pr_batch_limits *limits,
                              pr_queued *queued)
{
    for (size_t i = 0; i < *n; i++) queued[i] = queued_of(&parts[i]);
    pr_batch_limits alone = *limits;
    if (queued[0].n_tokens > alone.n_tokens_max) alone.n_tokens_max = queued[0].n_tokens;
    pr_batch_plan *plan = NULL;
    if (pr_batch_plan_build(queued, *n, &alone, NULL, &plan, NULL) != PR_OK) return NULL;
    pr_batch *b = batch_create(plan->n_sequences);
    if (!b) {
        pr_batch_plan_free(plan);
        return NULL;
    }
    b->plan = plan;
    size_t n_taken = 0, n_left = 0;
    for (size_t i = 0; i < *n; i++) {
        if (n_taken < b->n_parts && plan->sequences[n_taken].i_request == i) {
            b->parts[n_taken] = parts[i];
            b->poolings[n_taken++] = parts[i].job->prepared.pooling;
        } else {
            parts[n_left++] = parts[i];
        }
    }
    *n = n_left;
    return b;
}

static void pieces_free(pr_batch *first)
{
    while (first) {
        pr_batch *next = first->next;
        batch_free(first);
        first = next;
    }
}

/* The batch's parts as batches within the limits, nothing of a cache in them. */
static pr_batch *batch_cut(pr_batch_queue *q, pr_batch *batch, const pr_batch_limits *limits)
{
    size_t n = batch->n_parts, n_pieces = 0;
    pr_batch *first = NULL, **last = &first;
    pr_ready_part *parts = malloc(n * sizeof *parts);
    pr_queued *queued = malloc(n * sizeof *queued);
    bool is_whole = parts && queued;
    if (is_whole) memcpy(parts, batch->parts, n * sizeof *parts);
    while (is_whole && n > 0) {
        *last = piece_create(parts, &n, limits, queued);
        is_whole = *last != NULL;
        if (!is_whole) break;
        (*last)->n_deaths = batch->n_deaths;
        last = &(*last)->next;
        n_pieces++;
    }
    free(parts);
    free(queued);
    if (!is_whole) {
        pieces_free(first);
        return NULL;
    }
    pthread_mutex_lock(&q->lock);
    q->rate.n_out += n_pieces - 1; /* each is completed by itself */
    pthread_mutex_unlock(&q->lock);
    batch_free(batch);
    return first;
}

pr_batch *pr_batch_queue_split(pr_batch_queue *q, pr_batch *batch)
{
    const pr_batch_limits one = {.n_tokens_max = 1, .n_sequences_max = 1};
    return batch_cut(q, batch, &one);
}

pr_batch *pr_batch_queue_replan(pr_batch_queue *q, pr_batch *batch)
{
    if (batch->plan->n_cached == 0 && batch->plan->n_stores == 0) return batch;
    return batch_cut(q, batch, &q->c.limits);
}
