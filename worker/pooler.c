#include "worker/pooler.h"

#include "worker/pool_finish.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* A growing piece of device memory. */
typedef struct scratch {
    void *p;
    size_t n_bytes;
} scratch;

struct pr_pooler {
    const pr_model_spec *spec;
    const pr_weights *weights;
    pr_backend *backend;
    scratch slots;   /* [n_slots, hidden] what the head sees */
    scratch ping, pong; /* [n_slots, widest] between the head's matrices */
    scratch picked, mean_rows;
    float *host;     /* [n_slots, width] the head's output */
    size_t n_host;
};

pr_status pr_pooler_create(const pr_model_spec *spec, const pr_weights *weights,
                           pr_backend *backend, pr_pooler **out, pr_error *err)
{
    pr_pooler *p = calloc(1, sizeof *p);
    if (!p) return pr_error_nomem(err, "pooler", sizeof *p);
    *p = (pr_pooler){.spec = spec, .weights = weights, .backend = backend};
    *out = p;
    return PR_OK;
}

void pr_pooler_free(pr_pooler *p)
{
    if (!p) return;
    scratch *all[] = {&p->slots, &p->ping, &p->pong, &p->picked, &p->mean_rows};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        p->backend->ops->free(p->backend, all[i]->p);
    free(p->host);
    free(p);
}

void pr_pooled_deinit(pr_pooled *pooled)
{
    free(pooled->data);
    free(pooled->rows);
    *pooled = (pr_pooled){0};
}

static pr_status scratch_reserve(pr_pooler *p, scratch *s, size_t n_bytes, pr_error *err)
{
    if (n_bytes <= s->n_bytes) return PR_OK;
    p->backend->ops->free(p->backend, s->p);
    *s = (scratch){0};
    pr_status st = p->backend->ops->alloc(p->backend, n_bytes, &s->p, err);
    if (st == PR_OK) s->n_bytes = n_bytes;
    return st;
}

/* Fills the slots: first the picked rows, then the means. */
static pr_status slots_fill(pr_pooler *p, const float *hidden, const pr_pool_plan *plan,
                            pr_error *err)
{
    pr_backend *b = p->backend;
    int64_t dim = p->spec->hidden_size;
    size_t n_slots = (size_t)plan->n_picked + plan->n_means;
    size_t n_mean_rows = plan->n_means ? plan->mean_offsets[plan->n_means] : 0;
    size_t picked_bytes = plan->n_picked * sizeof(uint32_t);
    size_t mean_bytes = n_mean_rows * sizeof(uint32_t);
    pr_status st = scratch_reserve(p, &p->slots, n_slots * (size_t)dim * sizeof(float), err);
    if (st == PR_OK) st = scratch_reserve(p, &p->picked, picked_bytes, err);
    if (st == PR_OK) st = scratch_reserve(p, &p->mean_rows, mean_bytes, err);
    float *slots = p->slots.p;
    if (st == PR_OK && plan->n_picked > 0) {
        st = b->ops->upload(b, p->picked.p, plan->picked, picked_bytes, err);
        if (st == PR_OK) {
            st = b->ops->gather_rows(b, hidden, dim, p->picked.p, plan->n_picked, dim, slots, dim,
                                     err);
        }
    }
    if (st == PR_OK && plan->n_means > 0) {
        st = b->ops->upload(b, p->mean_rows.p, plan->mean_rows, mean_bytes, err);
        if (st == PR_OK) {
            st = b->ops->mean_rows(b, hidden, dim, p->mean_rows.p, plan->mean_offsets,
                                   plan->n_means, dim, slots + (size_t)plan->n_picked * (size_t)dim,
                                   dim, err);
        }
    }
    return st;
}

/* Applies the head's matrices to the slots; *values [n_slots, width] in device memory. */
static pr_status head_apply(pr_pooler *p, size_t n_slots, const float **values, pr_error *err)
{
    const float *x = p->slots.p;
    scratch *y[] = {&p->ping, &p->pong};
    for (int32_t i = 0; i < p->weights->n_head; i++) {
        const pr_linear *l = &p->weights->head[i];
        scratch *s = y[i % 2];
        pr_status st = scratch_reserve(p, s, n_slots * (size_t)l->n_out * sizeof(float), err);
        if (st != PR_OK) return st;
        const pr_gemm a = {.w = l->w, .x = x, .ldx = l->n_in, .n_rows = (int64_t)n_slots,
                           .bias = l->bias, .activation = l->activation, .y = s->p,
                           .ldy = l->n_out};
        st = p->backend->ops->gemm(p->backend, &a, err);
        if (st != PR_OK) return st;
        x = s->p;
    }
    *values = x;
    return PR_OK;
}

static pr_status host_download(pr_pooler *p, const float *values, size_t n, pr_error *err)
{
    if (n > p->n_host) {
        free(p->host);
        p->n_host = 0;
        p->host = malloc(n * sizeof *p->host);
        if (!p->host) return pr_error_nomem(err, "pooled rows", n * sizeof *p->host);
        p->n_host = n;
    }
    return p->backend->ops->download(p->backend, p->host, values, n * sizeof *p->host, err);
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

pr_status pr_pooler_run(pr_pooler *p, const float *hidden, const pr_pool_plan *plan,
                        const pr_pooling *const *poolings, pr_pooled *out, pr_error *err)
{
    size_t n_slots = (size_t)plan->n_picked + plan->n_means;
    uint32_t width = (uint32_t)pr_weights_width(p->weights, p->spec);
    const float *values = NULL;
    pr_pooled pooled = {0};
    pr_status st = slots_fill(p, hidden, plan, err);
    if (st == PR_OK) st = head_apply(p, n_slots, &values, err);
    if (st == PR_OK && n_slots > 0) st = host_download(p, values, n_slots * width, err);
    if (st == PR_OK) st = results_create(plan, poolings, width, &pooled, err);
    if (st != PR_OK) {
        pr_pooled_deinit(&pooled);
        return st;
    }
    for (uint32_t i = 0; i < plan->n_sequences; i++) {
        const pr_pooled_rows *r = &pooled.rows[i];
        for (uint32_t j = 0; j < r->n_rows; j++) {
            uint32_t slot = plan->slots_of[plan->ranges[i].begin + j];
            pr_pool_finish(poolings[i], p->host + (size_t)slot * width, width,
                           pooled.data + r->offset + (size_t)j * r->n_columns);
        }
    }
    *out = pooled;
    return PR_OK;
}
