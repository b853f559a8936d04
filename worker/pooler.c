#include "worker/pooler.h"

#include "worker/batch_arrays.h"
#include "worker/pool_finish.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* A growing piece of device memory, or of host memory that downloads go to. */
typedef struct scratch {
    void *p;
    size_t n_bytes;
    bool is_host;
} scratch;

/* What belongs to one batch until it is done. */
typedef struct pooler_slot {
    scratch picked, mean_rows;
    scratch values; /* [n_slots, width] the head's output */
    scratch host;   /* the same on the host */
} pooler_slot;

struct pr_pooler {
    const pr_model_spec *spec;
    const pr_weights *weights;
    pr_backend *backend;
    uint32_t width;     /* of a row of values */
    scratch slots;      /* [n_slots, hidden] what the head sees; without a head the values are it */
    scratch ping, pong; /* [n_slots, widest] between the head's matrices */
    pooler_slot of_batch[PR_BATCH_SLOTS_MAX];
};

static pr_status scratch_reserve(pr_pooler *p, scratch *s, size_t n_bytes, pr_error *err)
{
    const pr_backend_ops *ops = p->backend->ops;
    if (n_bytes <= s->n_bytes) return PR_OK;
    (s->is_host ? ops->host_free : ops->free)(p->backend, s->p);
    s->p = NULL;
    s->n_bytes = 0;
    pr_status st = (s->is_host ? ops->host_alloc : ops->alloc)(p->backend, n_bytes, &s->p, err);
    if (st == PR_OK) s->n_bytes = n_bytes;
    return st;
}

/* Bytes of n rows that gemm reads or writes. */
static size_t rows_bytes(const pr_pooler *p, size_t n, int32_t width)
{
    return (size_t)pr_backend_rows(p->backend, (int64_t)n) * (size_t)width * sizeof(float);
}

static scratch *head_output(pr_pooler *p, pooler_slot *s, int32_t i)
{
    if (i + 1 == p->weights->n_head) return &s->values;
    return i % 2 ? &p->pong : &p->ping;
}

/* Device memory for n rows of one batch. */
static pr_status rows_reserve(pr_pooler *p, pooler_slot *s, size_t n, pr_error *err)
{
    const pr_weights *w = p->weights;
    scratch *slots = w->n_head > 0 ? &p->slots : &s->values;
    pr_status st = scratch_reserve(p, slots, rows_bytes(p, n, p->spec->hidden_size), err);
    for (int32_t i = 0; st == PR_OK && i < w->n_head; i++) {
        st = scratch_reserve(p, head_output(p, s, i), rows_bytes(p, n, w->head[i].n_out), err);
    }
    return st;
}

/* Where batches overlap nothing is allocated once they run: a GPU would wait for it. Only results
 * of more rows than a batch has (several sequences that share prefixes, each with all its rows)
 * grow what is here. */
static pr_status all_reserve(pr_pooler *p, uint32_t n_rows_max, pr_error *err)
{
    pr_status st = PR_OK;
    for (int i = 0; st == PR_OK && i < p->backend->n_slots; i++) {
        pooler_slot *s = &p->of_batch[i];
        size_t n_bytes = n_rows_max * sizeof(uint32_t);
        st = scratch_reserve(p, &s->picked, n_bytes, err);
        if (st == PR_OK) st = scratch_reserve(p, &s->mean_rows, n_bytes, err);
        if (st == PR_OK) st = rows_reserve(p, s, n_rows_max, err);
        if (st == PR_OK) {
            st = scratch_reserve(p, &s->host, (size_t)n_rows_max * p->width * sizeof(float), err);
        }
    }
    return st;
}

pr_status pr_pooler_create(const pr_model_spec *spec, const pr_weights *weights,
                           pr_backend *backend, uint32_t n_rows_max, pr_pooler **out,
                           pr_error *err)
{
    pr_pooler *p = calloc(1, sizeof *p);
    if (!p) return pr_error_nomem(err, "pooler", sizeof *p);
    *p = (pr_pooler){.spec = spec, .weights = weights, .backend = backend,
                     .width = (uint32_t)pr_weights_width(weights, spec)};
    for (int i = 0; i < PR_BATCH_SLOTS_MAX; i++) p->of_batch[i].host.is_host = true;
    pr_status st = backend->n_slots > 1 ? all_reserve(p, n_rows_max, err) : PR_OK;
    if (st != PR_OK) {
        pr_pooler_free(p);
        return st;
    }
    *out = p;
    return PR_OK;
}

void pr_pooler_free(pr_pooler *p)
{
    if (!p) return;
    const pr_backend_ops *ops = p->backend->ops;
    void *shared[] = {p->slots.p, p->ping.p, p->pong.p};
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++) ops->free(p->backend, shared[i]);
    for (int i = 0; i < PR_BATCH_SLOTS_MAX; i++) {
        pooler_slot *s = &p->of_batch[i];
        ops->free(p->backend, s->picked.p);
        ops->free(p->backend, s->mean_rows.p);
        ops->free(p->backend, s->values.p);
        ops->host_free(p->backend, s->host.p);
    }
    free(p);
}

void pr_pooled_deinit(pr_pooled *pooled)
{
    free(pooled->data);
    free(pooled->rows);
    *pooled = (pr_pooled){0};
}

/* Fills the slots: first the picked rows, then the means. */
static pr_status slots_fill(pr_pooler *p, pooler_slot *s, const float *hidden,
                            const pr_pool_plan *plan, float *slots, pr_error *err)
{
    pr_backend *b = p->backend;
    int64_t dim = p->spec->hidden_size;
    size_t n_mean_rows = plan->n_means ? plan->mean_offsets[plan->n_means] : 0;
    size_t picked_bytes = plan->n_picked * sizeof(uint32_t);
    size_t mean_bytes = n_mean_rows * sizeof(uint32_t);
    pr_status st = scratch_reserve(p, &s->picked, picked_bytes, err);
    if (st == PR_OK) st = scratch_reserve(p, &s->mean_rows, mean_bytes, err);
    if (st == PR_OK && plan->n_picked > 0) {
        const pr_gather a = {.x = hidden, .ldx = dim, .rows = s->picked.p,
                             .n_rows = plan->n_picked, .dim = dim, .dtype = PR_DTYPE_F32,
                             .y = slots, .ldy = dim};
        st = b->ops->upload(b, s->picked.p, plan->picked, picked_bytes, err);
        if (st == PR_OK) st = b->ops->gather(b, &a, err);
    }
    if (st == PR_OK && plan->n_means > 0) {
        st = b->ops->upload(b, s->mean_rows.p, plan->mean_rows, mean_bytes, err);
        if (st == PR_OK) {
            st = b->ops->mean_rows(b, hidden, dim, s->mean_rows.p, plan->mean_offsets,
                                   plan->n_means, dim, slots + (size_t)plan->n_picked * (size_t)dim,
                                   dim, err);
        }
    }
    return st;
}

/* Applies the head's matrices to the slots; the last one's output is the slot's values. */
static pr_status head_apply(pr_pooler *p, pooler_slot *s, size_t n_slots, pr_error *err)
{
    const void *x = p->slots.p;
    pr_status st = PR_OK;
    for (int32_t i = 0; st == PR_OK && i < p->weights->n_head; i++) {
        const pr_linear *l = &p->weights->head[i];
        void *y = head_output(p, s, i)->p;
        const pr_gemm a = {.w = l->w, .x = x, .ldx = l->n_in, .n_rows = (int64_t)n_slots,
                           .bias = l->bias, .activation = l->activation, .y = y,
                           .ldy = l->n_out};
        st = p->backend->ops->gemm(p->backend, &a, err);
        x = y;
    }
    return st;
}

pr_status pr_pooler_begin(pr_pooler *p, int slot, const float *hidden, const pr_pool_plan *plan,
                          pr_error *err)
{
    pooler_slot *s = &p->of_batch[slot];
    size_t n_slots = (size_t)plan->n_picked + plan->n_means;
    size_t n_bytes = n_slots * p->width * sizeof(float);
    if (n_slots == 0) return PR_OK;
    pr_status st = rows_reserve(p, s, n_slots, err);
    if (st == PR_OK) st = scratch_reserve(p, &s->host, n_bytes, err);
    if (st != PR_OK) return st;
    float *slots = p->weights->n_head > 0 ? p->slots.p : s->values.p;
    st = slots_fill(p, s, hidden, plan, slots, err);
    if (st == PR_OK) st = head_apply(p, s, n_slots, err);
    if (st != PR_OK) return st;
    return p->backend->ops->download(p->backend, s->host.p, s->values.p, n_bytes, err);
}

static pr_status results_create(const pr_pool_plan *plan, const pr_pooling *const *poolings,
                                uint32_t width, pr_pooled *out, pr_error *err)
{
    *out = (pr_pooled){.n_sequences = plan->n_sequences};
    out->rows = calloc((size_t)plan->n_sequences + 1, sizeof *out->rows);
    if (!out->rows) return pr_error_nomem(err, "pooled rows", plan->n_sequences);
    size_t n = 0;
    for (uint32_t i = 0; i < plan->n_sequences; i++) {
        uint32_t n_columns = pr_pool_finish_width(poolings[i], width);
        out->rows[i] = (pr_pooled_rows){n, plan->ranges[i].count, n_columns};
        n += (size_t)n_columns * plan->ranges[i].count;
    }
    out->data = malloc(n * sizeof *out->data + 1);
    if (!out->data) return pr_error_nomem(err, "pooled rows", n * sizeof *out->data);
    return PR_OK;
}

pr_status pr_pooler_finish(pr_pooler *p, int slot, const pr_pool_plan *plan,
                           const pr_pooling *const *poolings, pr_pooled *out, pr_error *err)
{
    const float *values = p->of_batch[slot].host.p;
    pr_pooled pooled = {0};
    pr_status st = results_create(plan, poolings, p->width, &pooled, err);
    if (st != PR_OK) {
        pr_pooled_deinit(&pooled);
        return st;
    }
    for (uint32_t i = 0; i < plan->n_sequences; i++) {
        const pr_pooled_rows *r = &pooled.rows[i];
        for (uint32_t j = 0; j < r->n_rows; j++) {
            uint32_t row = plan->slots_of[plan->ranges[i].begin + j];
            pr_pool_finish(poolings[i], values + (size_t)row * p->width, p->width,
                           pooled.data + r->offset + (size_t)j * r->n_columns);
        }
    }
    *out = pooled;
    return PR_OK;
}
