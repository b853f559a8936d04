#include "kernels/cuda/cuda_memory.h"

#include "kernels/cuda/cuda_status.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { N_STAGING = 2, RING_ALIGNMENT = 64 };

typedef struct staging {
    void *p;          /* [PR_CUDA_STAGING_BYTES], pinned */
    cudaEvent_t sent; /* its last copy is over */
} staging;

typedef struct slot {
    char *ring; /* [ring_bytes], pinned; NULL before reserve */
    size_t n_used;
    cudaEvent_t done; /* the batch's kernels and downloads are over */
    bool is_open;     /* between batch_begin and batch_end */
    bool is_queued;   /* batch_end was called, poll has not yet said that it is done */
} slot;

/* What host_alloc gave out. */
typedef struct pinned {
    char *p;
    size_t n_bytes;
    struct pinned *next;
} pinned;

struct pr_cuda_memory {
    cudaStream_t compute, copy_in, copy_out;
    cudaEvent_t uploaded; /* all that copy_in was given */
    cudaEvent_t computed; /* all that compute was given */
    staging staging[N_STAGING];
    int i_staging; /* the next one */
    slot slots[PR_CUDA_SLOTS];
    size_t ring_bytes;
    slot *batch;       /* the open one; NULL: none */
    bool is_computing; /* the batch has begun its first layer */
    bool has_uploads;  /* on copy_in, which compute does not wait for yet */
    pinned *pinned;    /* few: of the loader and of the pooler */
    uint64_t epoch;
};

/* ---- memory ---- */

pr_status pr_cuda_memory_device_alloc(size_t n_bytes, void **out, pr_error *err)
{
    cudaError_t e = cudaMalloc(out, n_bytes ? n_bytes : 1);
    if (e == cudaSuccess) return PR_OK;
    size_t free_bytes = 0, total_bytes = 0;
    if (e != cudaErrorMemoryAllocation) return pr_cuda_status(e, err, "device memory");
    (void)cudaGetLastError();
    (void)cudaMemGetInfo(&free_bytes, &total_bytes);
    return pr_error_set(err, PR_E_NOMEM, "device memory: %zu bytes, %zu of %zu are free", n_bytes,
                        free_bytes, total_bytes);
}

void pr_cuda_memory_device_free(pr_cuda_memory *m, void *p)
{
    if (!p) return;
    (void)pr_cuda_memory_sync(m, NULL); /* a kernel that is queued may still use it */
    m->epoch++;
    (void)cudaFree(p);
}

static pr_status pinned_alloc(size_t n_bytes, void **out, pr_error *err)
{
    cudaError_t e = cudaMallocHost(out, n_bytes ? n_bytes : 1);
    if (e != cudaErrorMemoryAllocation) return pr_cuda_status(e, err, "pinned memory");
    (void)cudaGetLastError();
    return pr_error_nomem(err, "pinned memory", n_bytes);
}

pr_status pr_cuda_memory_host_alloc(pr_cuda_memory *m, size_t n_bytes, void **out, pr_error *err)
{
    void *p = NULL;
    pinned *entry = malloc(sizeof *entry);
    if (!entry) return pr_error_nomem(err, "pinned memory", sizeof *entry);
    pr_status st = pinned_alloc(n_bytes, &p, err);
    if (st != PR_OK) {
        free(entry);
        return st;
    }
    *entry = (pinned){p, n_bytes, m->pinned};
    m->pinned = entry;
    *out = p;
    return PR_OK;
}

void pr_cuda_memory_host_free(pr_cuda_memory *m, void *p)
{
    if (!p) return;
    (void)pr_cuda_memory_sync(m, NULL); /* a copy may still read or write it */
    pinned **at = &m->pinned;
    while (*at && (*at)->p != p) at = &(*at)->next;
    assert(*at);
    pinned *entry = *at;
    *at = entry->next;
    free(entry);
    (void)cudaFreeHost(p);
}

bool pr_cuda_memory_is_pinned(const pr_cuda_memory *m, const void *p, size_t n_bytes)
{
    const char *begin = p;
    for (const pinned *e = m->pinned; e; e = e->next) {
        if (begin >= e->p && begin < e->p + e->n_bytes)
            return n_bytes <= e->n_bytes - (size_t)(begin - e->p);
    }
    return false;
}

static pr_status streams_create(pr_cuda_memory *m, pr_error *err)
{
    cudaStream_t *streams[] = {&m->compute, &m->copy_in, &m->copy_out};
    cudaEvent_t *events[] = {&m->uploaded,        &m->computed,        &m->staging[0].sent,
                             &m->staging[1].sent, &m->slots[0].done,   &m->slots[1].done};
    cudaError_t e = cudaSuccess;
    for (size_t i = 0; e == cudaSuccess && i < sizeof streams / sizeof *streams; i++)
        e = cudaStreamCreateWithFlags(streams[i], cudaStreamNonBlocking);
    for (size_t i = 0; e == cudaSuccess && i < sizeof events / sizeof *events; i++)
        e = cudaEventCreateWithFlags(events[i], cudaEventDisableTiming);
    return pr_cuda_status(e, err, "streams and events");
}

pr_status pr_cuda_memory_create(pr_cuda_memory **out, pr_error *err)
{
    pr_cuda_memory *m = calloc(1, sizeof *m);
    if (!m) return pr_error_nomem(err, "CUDA memory", sizeof *m);
    pr_status st = streams_create(m, err);
    for (int i = 0; st == PR_OK && i < N_STAGING; i++)
        st = pinned_alloc(PR_CUDA_STAGING_BYTES, &m->staging[i].p, err);
    if (st != PR_OK) {
        pr_cuda_memory_free(m);
        return st;
    }
    *out = m;
    return PR_OK;
}

void pr_cuda_memory_free(pr_cuda_memory *m)
{
    if (!m) return;
    (void)pr_cuda_memory_sync(m, NULL);
    cudaStream_t streams[] = {m->compute, m->copy_in, m->copy_out};
    cudaEvent_t events[] = {m->uploaded,        m->computed,      m->staging[0].sent,
                            m->staging[1].sent, m->slots[0].done, m->slots[1].done};
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++)
        if (streams[i]) (void)cudaStreamDestroy(streams[i]);
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (events[i]) (void)cudaEventDestroy(events[i]);
    for (int i = 0; i < N_STAGING; i++) (void)cudaFreeHost(m->staging[i].p);
    for (int i = 0; i < PR_CUDA_SLOTS; i++) (void)cudaFreeHost(m->slots[i].ring);
    free(m);
}

pr_status pr_cuda_memory_reserve(pr_cuda_memory *m, size_t ring_bytes, pr_error *err)
{
    assert(!m->batch && m->ring_bytes == 0);
    for (int i = 0; i < PR_CUDA_SLOTS; i++) {
        pr_status st = pinned_alloc(ring_bytes, (void **)&m->slots[i].ring, err);
        if (st != PR_OK) return st; /* a ring that is there is freed with the rest */
    }
    m->ring_bytes = ring_bytes;
    return PR_OK;
}

/* ---- order ---- */

/* `behind` waits for all that `stream` was given so far. */
static cudaError_t stream_follow(cudaStream_t behind, cudaStream_t stream, cudaEvent_t event)
{
    cudaError_t e = cudaEventRecord(event, stream);
    return e == cudaSuccess ? cudaStreamWaitEvent(behind, event, 0) : e;
}

/* Where the next upload belongs. */
static cudaError_t upload_stream(pr_cuda_memory *m, cudaStream_t *out)
{
    *out = m->batch && m->is_computing ? m->compute : m->copy_in;
    if (*out == m->copy_in) m->has_uploads = true;
    if (m->batch) return cudaSuccess;
    m->epoch++;
    return stream_follow(m->copy_in, m->compute, m->computed);
}

cudaStream_t pr_cuda_memory_stream(const pr_cuda_memory *m)
{
    return m->compute;
}

pr_status pr_cuda_memory_layer_begin(pr_cuda_memory *m, cudaStream_t *out, pr_error *err)
{
    *out = m->compute;
    m->is_computing = true;
    if (!m->has_uploads) return PR_OK;
    m->has_uploads = false;
    return pr_cuda_status(stream_follow(m->compute, m->copy_in, m->uploaded), err,
                          "wait for uploads");
}

uint64_t pr_cuda_memory_epoch(const pr_cuda_memory *m)
{
    return m->epoch;
}

/* ---- copies ---- */

pr_status pr_cuda_memory_staging_take(pr_cuda_memory *m, void **out, pr_error *err)
{
    const staging *s = &m->staging[m->i_staging];
    pr_status st = pr_cuda_status(cudaEventSynchronize(s->sent), err, "wait for an upload");
    if (st == PR_OK) *out = s->p;
    return st;
}

pr_status pr_cuda_memory_staging_send(pr_cuda_memory *m, void *dst, size_t n_bytes, pr_error *err)
{
    assert(n_bytes <= PR_CUDA_STAGING_BYTES);
    const staging *s = &m->staging[m->i_staging];
    cudaStream_t stream = NULL;
    cudaError_t e = upload_stream(m, &stream);
    if (e == cudaSuccess) e = cudaMemcpyAsync(dst, s->p, n_bytes, cudaMemcpyHostToDevice, stream);
    if (e == cudaSuccess) e = cudaEventRecord(s->sent, stream);
    m->i_staging = (m->i_staging + 1) % N_STAGING;
    return pr_cuda_status(e, err, "upload");
}

static pr_status upload_staged(pr_cuda_memory *m, char *dst, const char *src, size_t n_bytes,
                               pr_error *err)
{
    pr_status st = PR_OK;
    while (st == PR_OK && n_bytes > 0) {
        size_t n = n_bytes < PR_CUDA_STAGING_BYTES ? n_bytes : PR_CUDA_STAGING_BYTES;
        void *p = NULL;
        st = pr_cuda_memory_staging_take(m, &p, err);
        if (st != PR_OK) break;
        memcpy(p, src, n);
        st = pr_cuda_memory_staging_send(m, dst, n, err);
        dst += n;
        src += n;
        n_bytes -= n;
    }
    return st;
}

pr_status pr_cuda_memory_upload(pr_cuda_memory *m, void *dst, const void *src, size_t n_bytes,
                                pr_error *err)
{
    slot *s = m->batch;
    if (n_bytes == 0) return PR_OK;
    if (!s || n_bytes > m->ring_bytes - s->n_used) return upload_staged(m, dst, src, n_bytes, err);
    char *piece = s->ring + s->n_used;
    size_t n_left = m->ring_bytes - s->n_used;
    size_t n_taken = (n_bytes + RING_ALIGNMENT - 1) / RING_ALIGNMENT * RING_ALIGNMENT;
    s->n_used += n_taken < n_left ? n_taken : n_left;
    memcpy(piece, src, n_bytes);
    cudaStream_t stream = NULL;
    cudaError_t e = upload_stream(m, &stream);
    if (e == cudaSuccess) e = cudaMemcpyAsync(dst, piece, n_bytes, cudaMemcpyHostToDevice, stream);
    return pr_cuda_status(e, err, "upload");
}

pr_status pr_cuda_memory_upload_pinned(pr_cuda_memory *m, void *dst, const void *src,
                                       size_t n_bytes, pr_error *err)
{
    cudaStream_t stream = NULL;
    cudaError_t e = upload_stream(m, &stream);
    if (e == cudaSuccess) e = cudaMemcpyAsync(dst, src, n_bytes, cudaMemcpyHostToDevice, stream);
    if (e == cudaSuccess) e = cudaEventRecord(m->uploaded, stream);
    if (e == cudaSuccess) e = cudaEventSynchronize(m->uploaded);
    return pr_cuda_status(e, err, "upload");
}

pr_status pr_cuda_memory_download(pr_cuda_memory *m, void *dst, const void *src, size_t n_bytes,
                                  pr_error *err)
{
    if (n_bytes == 0) return PR_OK;
    cudaStream_t stream = NULL;
    /* src may be what has just been uploaded */
    pr_status st = pr_cuda_memory_layer_begin(m, &stream, err);
    if (st != PR_OK) return st;
    cudaError_t e = stream_follow(m->copy_out, stream, m->computed);
    if (e == cudaSuccess)
        e = cudaMemcpyAsync(dst, src, n_bytes, cudaMemcpyDeviceToHost, m->copy_out);
    return pr_cuda_status(e, err, "download");
}

/* ---- batches ---- */

pr_status pr_cuda_memory_batch_begin(pr_cuda_memory *m, int i_slot, pr_error *err)
{
    assert(i_slot >= 0 && i_slot < PR_CUDA_SLOTS);
    slot *s = &m->slots[i_slot];
    if (m->batch) { /* given up half-way: its uploads may still be read from its ring */
        m->batch->is_open = false;
        m->batch = NULL;
        pr_status st = pr_cuda_memory_sync(m, err);
        if (st != PR_OK) return st;
    }
    if (s->is_queued) {
        pr_status st = pr_cuda_status(cudaEventSynchronize(s->done), err, "wait for a batch");
        if (st != PR_OK) return st;
    }
    s->is_queued = false;
    s->is_open = true;
    s->n_used = 0;
    m->batch = s;
    m->is_computing = false;
    return PR_OK;
}

pr_status pr_cuda_memory_batch_end(pr_cuda_memory *m, int i_slot, pr_error *err)
{
    slot *s = &m->slots[i_slot];
    assert(s->is_open && m->batch == s);
    cudaStream_t stream = NULL;
    pr_status st = pr_cuda_memory_layer_begin(m, &stream, err); /* a batch of uploads alone */
    m->batch = NULL;
    s->is_open = false;
    if (st != PR_OK) return st;
    cudaError_t e = stream_follow(m->copy_out, stream, m->computed);
    if (e == cudaSuccess) e = cudaEventRecord(s->done, m->copy_out);
    s->is_queued = e == cudaSuccess;
    return pr_cuda_status(e, err, "end of a batch");
}

pr_status pr_cuda_memory_batch_poll(pr_cuda_memory *m, int i_slot, bool *is_done, pr_error *err)
{
    slot *s = &m->slots[i_slot];
    assert(!s->is_open);
    cudaError_t e = s->is_queued ? cudaEventQuery(s->done) : cudaSuccess;
    if (e == cudaErrorNotReady) {
        (void)cudaGetLastError();
        *is_done = false;
        return PR_OK;
    }
    pr_status st = pr_cuda_status(e, err, "batch");
    if (st != PR_OK) return st;
    s->is_queued = false;
    *is_done = true;
    return PR_OK;
}

pr_status pr_cuda_memory_sync(pr_cuda_memory *m, pr_error *err)
{
    cudaStream_t streams[] = {m->copy_in, m->compute, m->copy_out};
    cudaError_t first = cudaSuccess;
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++) {
        cudaError_t e = streams[i] ? cudaStreamSynchronize(streams[i]) : cudaSuccess;
        if (first == cudaSuccess) first = e;
    }
    return pr_cuda_status(first, err, "wait for the device");
}
