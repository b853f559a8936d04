/* tests/parity/run_ranks.c: coordinator/engine/run_local.h with several ranks, each a thread of
 * this process, in place of one worker: linked before the library, so that the engine runs its
 * batches sharded without anything else being different. How many: GOLDEN_RANKS_VARIABLE, "2x1"
 * for two tensor-parallel ranks in one pipeline stage.
 *
 * One thread takes batches, at most IN_FLIGHT at once; every rank runs all of them in order; the
 * last one to be done with a batch delivers it. A rank that fails ends the process: the others
 * would wait for it. */
#include "coordinator/engine/run_local.h"
#include "golden.h"
#include "worker/comm_shm.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { RANKS_MAX = 64, IN_FLIGHT = 4 };

typedef struct flight {
    pr_batch *batch;
    pr_pooled pooled;
    int n_ranks_done;
} flight;

typedef struct rank_thread {
    pr_run_local *runner;
    pr_comm *comm; /* until the worker has it */
    pthread_t thread;
} rank_thread;

struct pr_run_local {
    const pr_worker_config *worker_config;
    const pr_rank_device *device;
    pr_batch_queue *queue;
    pr_shm_region *region;
    rank_thread ranks[RANKS_MAX];
    int n_ranks;
    pthread_t taker;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t news;
    int n_open, n_failed;
    pr_worker_info info;
    pr_error error;
    flight flights[IN_FLIGHT]; /* batch seq is in place seq % IN_FLIGHT */
    uint64_t n_taken, n_delivered;
    bool is_closed; /* nothing more is taken */
};

static void *taker_main(void *context)
{
    pr_run_local *r = context;
    pr_batch *b;
    while ((b = pr_batch_queue_take(r->queue, true, NULL)) != NULL) {
        pthread_mutex_lock(&r->lock);
        while (r->n_taken - r->n_delivered >= IN_FLIGHT) pthread_cond_wait(&r->news, &r->lock);
        r->flights[r->n_taken++ % IN_FLIGHT] = (flight){.batch = b};
        pthread_cond_broadcast(&r->news);
        pthread_mutex_unlock(&r->lock);
    }
    pthread_mutex_lock(&r->lock);
    r->is_closed = true;
    pthread_cond_broadcast(&r->news);
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* NULL: there will be no batch of that number. */
static flight *flight_await(pr_run_local *r, uint64_t seq)
{
    pthread_mutex_lock(&r->lock);
    while (r->n_taken <= seq && !r->is_closed) pthread_cond_wait(&r->news, &r->lock);
    flight *f = r->n_taken > seq ? &r->flights[seq % IN_FLIGHT] : NULL;
    pthread_mutex_unlock(&r->lock);
    return f;
}

static void flight_leave(pr_run_local *r, flight *f, const pr_pooled *pooled)
{
    pthread_mutex_lock(&r->lock);
    if (pooled->n_sequences > 0) f->pooled = *pooled;
    bool is_last = ++f->n_ranks_done == r->n_ranks;
    flight done = *f;
    if (is_last) {
        r->n_delivered++;
        pthread_cond_broadcast(&r->news);
    }
    pthread_mutex_unlock(&r->lock);
    if (!is_last) return;
    pr_batch_queue_complete(r->queue, done.batch, &done.pooled, PR_OK, "");
    pr_pooled_deinit(&done.pooled);
}

static void open_report(pr_run_local *r, const pr_worker *w, pr_status st, const pr_error *err)
{
    pthread_mutex_lock(&r->lock);
    if (st == PR_OK) {
        pr_worker_info info = pr_worker_describe(w);
        if (info.width > 0) r->info = info;
        r->n_open++;
    } else {
        r->error = *err;
        r->n_failed++;
    }
    pthread_cond_broadcast(&r->news);
    while (r->n_open + r->n_failed < r->n_ranks) pthread_cond_wait(&r->news, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

static void *rank_main(void *context)
{
    rank_thread *rank = context;
    pr_run_local *r = rank->runner;
    pr_worker_config config = *r->worker_config;
    pr_worker *w = NULL;
    pr_error err;
    config.comm = rank->comm;
    config.cpu = r->device->cpu;
    pr_status st = pr_worker_open(&config, &w, &err);
    open_report(r, w, st, &err);
    flight *f;
    for (uint64_t seq = 0; r->n_failed == 0 && (f = flight_await(r, seq)) != NULL; seq++) {
        const pr_batch_id id = {seq, 1};
        pr_pooled pooled = {0};
        st = pr_worker_run(w, f->batch->plan, f->batch->poolings, &id, &pooled, &err);
        if (st != PR_OK) {
            fprintf(stderr, "a rank fails: %s\n", err.message);
            abort();
        }
        flight_leave(r, f, &pooled);
    }
    pr_worker_close(w);
    return NULL;
}

static void sizes_read(int *tp_size, int *n_stages)
{
    const char *text = getenv(GOLDEN_RANKS_VARIABLE);
    if (text && sscanf(text, "%dx%d", tp_size, n_stages) == 2 && *tp_size >= 1 &&
        *n_stages >= 1 && *tp_size * *n_stages <= RANKS_MAX) {
        return;
    }
    fprintf(stderr, "%s: found %s, expected TPxPP\n", GOLDEN_RANKS_VARIABLE, text ? text : "-");
    abort();
}

pr_status pr_run_local_start(const pr_worker_config *worker, const pr_rank_device *device,
                             pr_batch_queue *queue, pr_run_local **out, pr_error *err)
{
    int tp_size = 0, n_stages = 0;
    sizes_read(&tp_size, &n_stages);
    pr_run_local *r = calloc(1, sizeof *r);
    if (!r) return pr_error_nomem(err, "ranks", sizeof *r);
    r->worker_config = worker;
    r->device = device;
    r->queue = queue;
    r->n_ranks = tp_size * n_stages;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->news, NULL);
    if (pr_shm_region_create(tp_size, n_stages, &r->region, err) != PR_OK) abort();
    for (int i = 0; i < r->n_ranks; i++) {
        r->ranks[i].runner = r;
        if (pr_comm_shm_create(r->region, i, &r->ranks[i].comm, err) != PR_OK) abort();
    }
    for (int i = 0; i < r->n_ranks; i++) {
        if (pthread_create(&r->ranks[i].thread, NULL, rank_main, &r->ranks[i]) != 0) abort();
    }
    if (pthread_create(&r->taker, NULL, taker_main, r) != 0) abort();
    *out = r;
    return PR_OK;
}

pr_status pr_run_local_await(pr_run_local *r, pr_worker_info *info, pr_error *err)
{
    pthread_mutex_lock(&r->lock);
    while (r->n_open + r->n_failed < r->n_ranks) pthread_cond_wait(&r->news, &r->lock);
    pthread_mutex_unlock(&r->lock);
    if (r->n_failed > 0) return pr_error_set(err, r->error.status, "%s", r->error.message);
    *info = r->info;
    return PR_OK;
}

void pr_run_local_stop(pr_run_local *r)
{
    if (!r) return;
    pthread_join(r->taker, NULL);
    for (int i = 0; i < r->n_ranks; i++) pthread_join(r->ranks[i].thread, NULL);
    pr_shm_region_close(r->region);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->news);
    free(r);
}
