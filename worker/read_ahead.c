#include "worker/read_ahead.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

/* Small enough that the first run of a tensor, which nothing overlaps, is short, and large enough
 * that the packing threads find fresh pages of 2 MiB each: loading 2 GB took 0.7 to 0.8 s, with
 * runs of 1 MiB 2.3 to 3.5 s, of 16 MiB 0.8 to 0.9 s (medians of 5; two cores of an EPYC, page
 * cache warm). */
enum { RUN_BYTES = 4 << 20 };

/* One run of rows and where it goes. */
typedef struct run {
    pr_checkpoint *checkpoint;
    const pr_tensor *tensor;
    int64_t row_begin, row_end;
    int64_t column_begin, column_end;
    void *dst;
} run;

struct pr_read_ahead {
    pr_backend *backend;
    void *buffers[2];
    size_t buffer_bytes;

    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    bool is_asked; /* `asked` waits to be read, or is being read */
    bool is_ending;
    run asked;
    pr_status status; /* of the last run */
    pr_error error;
};

static int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void *reader_main(void *context)
{
    pr_read_ahead *r = context;
    pthread_mutex_lock(&r->lock);
    for (;;) {
        while (!r->is_asked && !r->is_ending) pthread_cond_wait(&r->changed, &r->lock);
        if (r->is_ending) break;
        const run a = r->asked;
        pthread_mutex_unlock(&r->lock);
        pr_error err;
        pr_status st = pr_checkpoint_read(a.checkpoint, a.tensor, a.row_begin, a.row_end,
                                          a.column_begin, a.column_end, a.dst, &err);
        pthread_mutex_lock(&r->lock);
        r->status = st;
        if (st != PR_OK) r->error = err;
        r->is_asked = false;
        pthread_cond_broadcast(&r->changed);
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
    if (pthread_create(&r->thread, NULL, reader_main, r) != 0) {
        pr_read_ahead_free(r);
        return pr_error_set(err, PR_E_INTERNAL, "cannot start a thread that reads weights");
    }
    r->has_thread = true;
    *out = r;
    return PR_OK;
}

void pr_read_ahead_free(pr_read_ahead *r)
{
    if (!r) return;
    if (r->has_thread) {
        pthread_mutex_lock(&r->lock);
        r->is_ending = true;
        pthread_cond_broadcast(&r->changed);
        pthread_mutex_unlock(&r->lock);
        pthread_join(r->thread, NULL);
    }
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->changed);
    for (int i = 0; i < 2; i++) r->backend->ops->host_free(r->backend, r->buffers[i]);
    free(r);
}

static void ask(pr_read_ahead *r, const run *a)
{
    pthread_mutex_lock(&r->lock);
    assert(!r->is_asked);
    r->asked = *a;
    r->is_asked = true;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static pr_status await(pr_read_ahead *r, pr_error *err)
{
    pthread_mutex_lock(&r->lock);
    while (r->is_asked) pthread_cond_wait(&r->changed, &r->lock);
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
    int64_t step = row_bytes < RUN_BYTES ? (int64_t)(RUN_BYTES / row_bytes) : 1;
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
