#include "worker/read_ahead.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

/* Small enough that the first run of a tensor, which nothing overlaps, is short, and large enough
 * that the packing threads find fresh pages of 2 MiB each: loading 2 GB took 0.7 to 0.8 s, with
 * runs of 1 MiB 2.3 to 3.5 s, of 16 MiB 0.8 to 0.9 s (medians of 5; two cores of an EPYC, page
 * cache warm). A device that takes what was read as it is copies faster than one thread reads from
 * the page cache (7.5 to 9.4 GB/s, docs/scaling.md): several read a run together there. */
enum { RUN_BYTES = 4 << 20, READERS_MAX = 4, READER_BYTES = 4 << 20 };

/* One run of rows and where it goes. */
typedef struct run {
    pr_checkpoint *checkpoint;
    const pr_tensor *tensor;
    int64_t row_begin, row_end;
    int64_t column_begin, column_end;
    char *dst;
} run;

typedef struct reader {
    pr_read_ahead *owner;
    int index;
    pthread_t thread;
} reader;

struct pr_read_ahead {
    pr_backend *backend;
    void *buffers[2];
    size_t buffer_bytes;
    reader readers[READERS_MAX];
    int n_readers; /* that were started */

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    run asked;
    uint64_t n_asked; /* runs so far */
    int n_reading;    /* readers that have not done their part of the last one */
    bool is_ending;
    pr_status status; /* of the last run: its first failure */
    pr_error error;
};

static int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Part i of n of a run's rows. */
static pr_status part_read(const run *a, int i, int n, pr_error *err)
{
    int64_t n_rows = a->row_end - a->row_begin;
    int64_t begin = n_rows * i / n, end = n_rows * (i + 1) / n;
    size_t row_bytes =
        (size_t)(a->column_end - a->column_begin) * pr_dtype_bytes(a->tensor->dtype);
    if (begin == end) return PR_OK;
    return pr_checkpoint_read(a->checkpoint, a->tensor, a->row_begin + begin, a->row_begin + end,
                              a->column_begin, a->column_end, a->dst + (size_t)begin * row_bytes,
                              err);
}

static void *reader_main(void *context)
{
    const reader *own = context;
    pr_read_ahead *r = own->owner;
    uint64_t n_done = 0;
    pthread_mutex_lock(&r->lock);
    for (;;) {
        while (r->n_asked == n_done && !r->is_ending) pthread_cond_wait(&r->changed, &r->lock);
        if (r->is_ending) break;
        const run a = r->asked;
        int n_readers = r->n_readers;
        n_done = r->n_asked;
        pthread_mutex_unlock(&r->lock);
        pr_error err;
        pr_status st = part_read(&a, own->index, n_readers, &err);
        pthread_mutex_lock(&r->lock);
        if (st != PR_OK && r->status == PR_OK) {
            r->status = st;
            r->error = err;
        }
        if (--r->n_reading == 0) pthread_cond_broadcast(&r->changed);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

pr_status pr_read_ahead_create(pr_backend *backend, pr_read_ahead **out, pr_error *err)
{
    pr_read_ahead *r = calloc(1, sizeof *r);
    if (!r) return pr_error_nomem(err, "reader of weights", sizeof *r);
    r->backend = backend;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    int n_readers = backend->n_slots > 1 ? READERS_MAX : 1;
    pthread_mutex_lock(&r->lock); /* until all are counted */
    for (int i = 0; i < n_readers; i++) {
        r->readers[i] = (reader){.owner = r, .index = i};
        if (pthread_create(&r->readers[i].thread, NULL, reader_main, &r->readers[i]) != 0) break;
        r->n_readers++;
    }
    pthread_mutex_unlock(&r->lock);
    if (r->n_readers == 0) {
        pr_read_ahead_free(r);
        return pr_error_set(err, PR_E_INTERNAL, "cannot start a thread that reads weights");
    }
    *out = r;
    return PR_OK;
}

void pr_read_ahead_free(pr_read_ahead *r)
{
    if (!r) return;
    pthread_mutex_lock(&r->lock);
    r->is_ending = true;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    for (int i = 0; i < r->n_readers; i++) pthread_join(r->readers[i].thread, NULL);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->changed);
    for (int i = 0; i < 2; i++) r->backend->ops->host_free(r->backend, r->buffers[i]);
    free(r);
}

static void ask(pr_read_ahead *r, const run *a)
{
    pthread_mutex_lock(&r->lock);
    assert(r->n_reading == 0);
    r->asked = *a;
    r->n_asked++;
    r->n_reading = r->n_readers;
    r->status = PR_OK;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static pr_status await(pr_read_ahead *r, pr_error *err)
{
    pthread_mutex_lock(&r->lock);
    while (r->n_reading > 0) pthread_cond_wait(&r->changed, &r->lock);
    pr_status st = r->status;
    if (st != PR_OK && err) *err = r->error;
    pthread_mutex_unlock(&r->lock);
    return st;
}

static pr_status buffers_reserve(pr_read_ahead *r, size_t n_bytes, pr_error *err)
{
    if (n_bytes <= r->buffer_bytes) return PR_OK;
    pr_backend *b = r->backend;
    r->buffer_bytes = 0;
    for (int i = 0; i < 2; i++) {
        b->ops->host_free(b, r->buffers[i]);
        r->buffers[i] = NULL;
        pr_status st = b->ops->host_alloc(b, n_bytes, &r->buffers[i], err);
        if (st != PR_OK) return st;
    }
    r->buffer_bytes = n_bytes;
    return PR_OK;
}

pr_status pr_read_ahead_rows(pr_read_ahead *r, pr_checkpoint *checkpoint, const pr_tensor *t,
                             const pr_rectangle *rect, pr_rows_sink sink, void *context,
                             pr_error *err)
{
    int64_t n_columns = rect->column_end - rect->column_begin;
    assert(n_columns > 0 && rect->row_end > rect->row_begin);
    size_t row_bytes = (size_t)n_columns * pr_dtype_bytes(t->dtype);
    size_t run_bytes = r->n_readers > 1 ? (size_t)r->n_readers * READER_BYTES : RUN_BYTES;
    int64_t step = row_bytes < run_bytes ? (int64_t)(run_bytes / row_bytes) : 1;
    pr_status st = buffers_reserve(r, (size_t)step * row_bytes, err);
    if (st != PR_OK) return st;
    run next = {.checkpoint = checkpoint, .tensor = t, .row_begin = rect->row_begin,
                .row_end = min_i64(rect->row_begin + step, rect->row_end),
                .column_begin = rect->column_begin, .column_end = rect->column_end,
                .dst = r->buffers[0]};
    ask(r, &next);
    for (int i_run = 1;; i_run++) {
        const run now = next;
        bool is_last = now.row_end == rect->row_end;
        if ((st = await(r, err)) != PR_OK) return st;
        if (!is_last) {
            next.row_begin = now.row_end;
            next.row_end = min_i64(now.row_end + step, rect->row_end);
            next.dst = r->buffers[i_run % 2];
            ask(r, &next);
        }
        st = sink(context, now.row_begin - rect->row_begin, now.row_end - now.row_begin, now.dst,
                  t->dtype, err);
        if (st != PR_OK && !is_last) (void)await(r, NULL); /* nothing may be under way */
        if (st != PR_OK || is_last) return st;
    }
}
