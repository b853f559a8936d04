#include "coordinator/engine/run_local.h"

#include "worker/batch_arrays.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct pr_run_local {
    const pr_worker_config *worker_config;
    const pr_rank_device *device;
    pr_batch_queue *queue;
    pr_prefix_cache *cache; /* of the worker; NULL: it keeps nothing. The thread's */
    pthread_t thread;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t news;
    bool is_open, has_failed, is_lost;
    pr_worker_info info;
    pr_error error; /* has_failed, is_lost: why */
};

static void start_report(pr_run_local *r, const pr_worker *worker, pr_status st,
                         const pr_error *err)
{
    pthread_mutex_lock(&r->lock);
    if (st == PR_OK) {
        r->info = pr_worker_describe(worker);
        r->is_open = true;
    } else {
        r->has_failed = true;
        r->error = *err;
    }
    pthread_cond_broadcast(&r->news);
    pthread_mutex_unlock(&r->lock);
}

static void batch_complete(pr_run_local *r, pr_batch *b, pr_pooled *pooled, pr_status st,
                           const pr_error *err)
{
    /* What later batches count on may not be there. */
    if (st != PR_OK && r->cache) pr_prefix_cache_clear(r->cache);
    pr_batch_queue_complete(r->queue, b, pooled, st, st == PR_OK ? "" : err->message);
    pr_pooled_deinit(pooled);
}

/* A failure that is not of this batch alone: what a device has queued fails when it gets to it. */
static void loss_note(pr_run_local *r, int n_slots, pr_status st, const pr_error *err)
{
    if (n_slots == 1 || st == PR_OK || st == PR_E_NOMEM || st == PR_E_TOO_LARGE) return;
    pthread_mutex_lock(&r->lock);
    if (!r->is_lost) r->error = *err;
    r->is_lost = true;
    pthread_mutex_unlock(&r->lock);
}

/* Whether it was begun; else its failure is told. */
static bool batch_begin(pr_run_local *r, pr_worker *worker, int n_slots, pr_batch *b)
{
    pr_pooled none = {0};
    pr_error err;
    pr_status st;
    if (pr_run_local_is_lost(r)) {
        st = pr_error_set(&err, PR_E_UNAVAILABLE, "the device is lost until a restart: %s",
                          r->error.message);
    } else {
        st = pr_worker_begin(worker, b->plan, b->poolings, NULL, &err);
        loss_note(r, n_slots, st, &err);
    }
    if (st != PR_OK) batch_complete(r, b, &none, st, &err);
    return st == PR_OK;
}

static void batch_finish(pr_run_local *r, pr_worker *worker, int n_slots, pr_batch *b)
{
    pr_pooled pooled = {0};
    pr_error err;
    pr_status st = pr_worker_finish(worker, &pooled, &err);
    loss_note(r, n_slots, st, &err);
    batch_complete(r, b, &pooled, st, &err);
}

/* Begins as many batches as may overlap before it waits for the oldest. */
static void batches_run(pr_run_local *r, pr_worker *worker)
{
    pr_batch *begun[PR_BATCH_SLOTS_MAX];
    int n_begun = 0, n_slots = pr_worker_describe(worker).n_slots;
    for (;;) {
        bool has_room = n_begun < n_slots;
        pr_batch *b = has_room ? pr_batch_queue_take(r->queue, n_begun == 0, r->cache) : NULL;
        if (b && batch_begin(r, worker, n_slots, b)) begun[n_begun++] = b;
        if (b && n_begun < n_slots) continue;
        if (n_begun == 0) return;
        batch_finish(r, worker, n_slots, begun[0]);
        n_begun--;
        memmove(begun, begun + 1, (size_t)n_begun * sizeof *begun);
    }
}

static void *thread_main(void *context)
{
    pr_run_local *r = context;
    pr_worker *worker = NULL;
    pr_error err;
    pr_worker_config config = *r->worker_config;
    pr_status st = pr_rank_device_open(r->device, &config.backend, &err);
    if (st == PR_OK) st = pr_worker_open(&config, &worker, &err);
    if (st == PR_OK && config.n_cache_blocks > 0) {
        st = pr_prefix_cache_create(config.n_cache_blocks, &r->cache, &err);
    }
    start_report(r, worker, st, &err);
    if (st == PR_OK) batches_run(r, worker);
    pr_worker_close(worker);
    return NULL;
}

pr_status pr_run_local_start(const pr_worker_config *worker, const pr_rank_device *device,
                             pr_batch_queue *queue, pr_run_local **out, pr_error *err)
{
    pr_run_local *r = calloc(1, sizeof *r);
    if (!r) return pr_error_nomem(err, "worker thread", sizeof *r);
    r->worker_config = worker;
    r->device = device;
    r->queue = queue;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->news, NULL);
    if (pthread_create(&r->thread, NULL, thread_main, r) == 0) {
        *out = r;
        return PR_OK;
    }
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->news);
    free(r);
    return pr_error_set(err, PR_E_INTERNAL, "cannot start a thread");
}

pr_status pr_run_local_await(pr_run_local *r, pr_worker_info *info, pr_error *err)
{
    pthread_mutex_lock(&r->lock);
    while (!r->is_open && !r->has_failed) pthread_cond_wait(&r->news, &r->lock);
    pthread_mutex_unlock(&r->lock);
    if (!r->is_open) return pr_error_set(err, r->error.status, "%s", r->error.message);
    *info = r->info;
    return PR_OK;
}

bool pr_run_local_is_lost(pr_run_local *r)
{
    pthread_mutex_lock(&r->lock);
    bool is_lost = r->is_lost;
    pthread_mutex_unlock(&r->lock);
    return is_lost;
}

void pr_run_local_stop(pr_run_local *r)
{
    if (!r) return;
    pthread_join(r->thread, NULL);
    pr_prefix_cache_free(r->cache);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->news);
    free(r);
}
