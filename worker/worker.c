#define _POSIX_C_SOURCE 200809L /* nanosleep */
#include "worker/worker.h"

#include "worker/batch_arrays.h"
#include "worker/forward.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A batch that was begun and not finished. */
typedef struct begun_batch {
    pr_pool_plan *plan;
    const pr_pooling *const *poolings;
    const pr_comm_words *shown; /* by every rank of the stage; NULL: not compared, or already */
} begun_batch;

struct pr_worker {
    const pr_model_spec *spec; /* borrowed */
    pr_backend *backend;
    pr_comm *comm;
    pr_parallel parallel;
    pr_shard shard;
    pr_checkpoint *checkpoint; /* open only while weights are streamed */
    pr_weights *weights;
    pr_forward *forward;
    pr_pooler *pooler;
    int32_t width;
    begun_batch begun[PR_BATCH_SLOTS_MAX]; /* slot = number of the batch % n_slots */
    uint64_t n_begun, n_finished;
};

/* What the backend cannot compute is refused before anything is read for it. */
static pr_status model_check(const pr_backend *b, const pr_model_spec *spec, pr_error *err)
{
    if (b->norm_dim_max == 0 || spec->hidden_size <= b->norm_dim_max) return PR_OK;
    return pr_error_set(err, PR_E_UNSUPPORTED, "hidden_size: found %d, expected at most %d on %s",
                        spec->hidden_size, b->norm_dim_max, b->name);
}

static pr_status weights_open(pr_worker *w, const pr_worker_config *config, pr_error *err)
{
    w->parallel = (pr_parallel){.tp_rank = w->comm->tp_rank, .tp_size = w->comm->tp_size,
                                .stage = w->comm->stage, .n_stages = w->comm->n_stages};
    pr_status st = pr_shard_plan(config->spec, &w->parallel, &w->shard, err);
    if (st == PR_OK) st = pr_checkpoint_open(config->weights_folder, &w->checkpoint, err);
    if (st != PR_OK) return st;
    const pr_weights_source source = {
        .folder = config->folder, .checkpoint = w->checkpoint, .spec = config->spec,
        .st = config->st, .parallel = &w->parallel, .shard = &w->shard, .dtype = config->dtype,
        .is_cancelled = config->is_cancelled, .is_streamed = config->is_streamed,
        .n_rows_max = config->n_rows_max, .n_steps = config->n_steps,
    };
    st = pr_weights_load(&source, w->backend, &w->weights, err);
    if (!config->is_streamed) {
        pr_checkpoint_close(w->checkpoint);
        w->checkpoint = NULL;
    }
    return st;
}

/* A batch of one token in each slot, read once as it is and once as a mean. A GPU loads a kernel,
 * and NCCL connects, when they are first used: what fails there fails now, and no request waits. */
static pr_status warm_up(pr_worker *w, pr_error *err)
{
    static const pr_pooling last = {.type = PR_POOL_LAST}, mean = {.type = PR_POOL_MEAN};
    static const pr_pooling *const poolings[] = {&last, &mean};
    int32_t token = 0;
    pr_segment segment = {.token_count = 1, .parent = -1};
    pr_sequence sequences[] = {{.n_tokens = 1}, {.n_tokens = 1}};
    const pr_batch_plan batch = {.tokens = &token, .n_tokens = 1, .segments = &segment,
                                 .n_segments = 1, .sequences = sequences, .n_sequences = 2};
    pr_status st = PR_OK;
    for (int i = 0; st == PR_OK && i < w->backend->n_slots; i++) {
        pr_pooled pooled = {0};
        st = pr_worker_run(w, &batch, poolings, NULL, &pooled, err);
        pr_pooled_deinit(&pooled);
    }
    return st == PR_OK ? st : pr_error_context(err, st, "first batch");
}

pr_status pr_worker_open(const pr_worker_config *config, pr_worker **out, pr_error *err)
{
    pr_worker *w = calloc(1, sizeof *w);
    if (!w) {
        if (config->comm) config->comm->ops->close(config->comm);
        if (config->backend) config->backend->ops->close(config->backend);
        return pr_error_nomem(err, "worker", sizeof *w);
    }
    w->spec = config->spec;
    w->comm = config->comm;
    w->backend = config->backend;
    pr_status st = w->comm ? PR_OK : pr_comm_local_create(&w->comm, err);
    if (st == PR_OK && !w->backend) st = pr_cpu_backend_create(&config->cpu, &w->backend, err);
    if (st == PR_OK) st = model_check(w->backend, config->spec, err);
    if (st == PR_OK) st = weights_open(w, config, err);
    if (st == PR_OK) st = w->backend->ops->sync(w->backend, err);
    if (st == PR_OK) {
        const pr_forward_config forward = {
            .spec = config->spec, .shard = &w->shard, .weights = w->weights,
            .backend = w->backend, .comm = w->comm, .n_rows_max = config->n_rows_max,
            .n_positions_max = config->n_positions_max, .n_steps = config->n_steps,
            .n_cache_blocks = config->n_cache_blocks, .keeps_hidden = config->cache_keeps_hidden,
        };
        st = pr_forward_create(&forward, &w->forward, err);
    }
    if (st == PR_OK && w->shard.is_pooling_rank) {
        st = pr_pooler_create(config->spec, w->weights, w->backend, config->n_rows_max, &w->pooler,
                              err);
        w->width = pr_weights_width(w->weights, config->spec);
    }
    if (st == PR_OK && w->backend->n_slots > 1) st = warm_up(w, err);
    if (st != PR_OK) {
        pr_worker_close(w);
        return st;
    }
    *out = w;
    return PR_OK;
}

void pr_worker_close(pr_worker *w)
{
    if (!w) return;
    for (int i = 0; i < PR_BATCH_SLOTS_MAX; i++) pr_pool_plan_free(w->begun[i].plan);
    pr_pooler_free(w->pooler);
    pr_forward_free(w->forward);
    pr_weights_free(w->weights);
    pr_checkpoint_close(w->checkpoint);
    if (w->comm) w->comm->ops->close(w->comm);
    if (w->backend) w->backend->ops->close(w->backend);
    free(w);
}

pr_worker_info pr_worker_describe(const pr_worker *w)
{
    return (pr_worker_info){.backend = w->backend->description,
                            .device = w->backend->device,
                            .n_slots = w->backend->n_slots,
                            .weights_bytes = w->weights->n_bytes,
                            .width = w->width,
                            .comm_ns = w->comm->busy_ns};
}

/* ---- do all ranks run the same batch? ---- */

/* Ids travel as the bits of floats. A rank shows its own and what the stage before it sent. */
typedef struct shown_ids {
    pr_batch_id own, before;
} shown_ids;

static_assert(sizeof(shown_ids) == sizeof(pr_comm_words), "the words of pr_comm are two ids");

enum { ID_FLOATS = sizeof(pr_batch_id) / sizeof(float) };

/* What a stage that refused a batch sends on, so that the next one does not wait for its hidden
 * states. */
static const pr_batch_id refused = {UINT64_MAX, UINT64_MAX};

static bool is_same(const pr_batch_id *a, const pr_batch_id *b)
{
    return a->seq == b->seq && a->hash == b->hash;
}

static pr_status id_mismatch(const pr_comm *c, const pr_batch_id *id, int tp_rank, int stage,
                             const pr_batch_id *other, pr_error *err)
{
    if (is_same(other, &refused)) {
        return pr_error_set(err, PR_E_INTERNAL, "batch %llu: stage %d refused it",
                            (unsigned long long)id->seq, stage);
    }
    return pr_error_set(err, PR_E_INTERNAL,
                        "stage %d, tensor rank %d runs batch %llu (plan %016llx), but stage %d, "
                        "tensor rank %d runs batch %llu (plan %016llx)",
                        c->stage, c->tp_rank, (unsigned long long)id->seq,
                        (unsigned long long)id->hash, stage, tp_rank,
                        (unsigned long long)other->seq, (unsigned long long)other->hash);
}

/* Every rank of the stage sees the same ids, so that all of them or none refuse: each compares all
 * with those of tensor rank 0, and the message then names one that differs from its own. */
static pr_status ids_compare(const pr_comm *c, const shown_ids *all, pr_error *err)
{
    const pr_batch_id *first = &all[0].own, *own = &all[c->tp_rank].own;
    pr_status st = PR_OK;
    for (int i = 0; i < c->tp_size; i++) {
        const pr_batch_id *of_rank[] = {&all[i].own, &all[i].before};
        for (int k = 0; k < (c->stage > 0 ? 2 : 1); k++) {
            if (is_same(of_rank[k], first)) continue;
            const pr_batch_id *other = is_same(of_rank[k], own) ? first : of_rank[k];
            bool is_first = other == first;
            st = id_mismatch(c, own, is_first ? 0 : i, is_first ? c->stage : c->stage - k, other,
                             err);
        }
    }
    return st;
}

static pr_status id_check(pr_comm *c, const pr_batch_id *id, pr_error *err)
{
    shown_ids shown = {.own = *id}, *all = NULL;
    float *bits = NULL, own[2 * ID_FLOATS];
    size_t n = (size_t)c->tp_size;
    pr_status st = PR_OK;
    if (c->tp_size * c->n_stages == 1) return PR_OK;
    all = malloc(n * sizeof *all);
    bits = malloc(n * sizeof own);
    if (!all || !bits) {
        st = pr_error_nomem(err, "ids of batches", n * sizeof *all);
        goto cleanup;
    }
    if (c->stage > 0) {
        st = pr_comm_recv(c, own + ID_FLOATS, ID_FLOATS, PR_DTYPE_F32, c->stage - 1, err);
    }
    if (st != PR_OK) goto cleanup;
    if (c->stage > 0) memcpy(&shown.before, own + ID_FLOATS, sizeof shown.before);
    memcpy(own, &shown, sizeof own);
    if ((st = pr_comm_all_gather(c, own, 2 * ID_FLOATS, bits, err)) != PR_OK) goto cleanup;
    memcpy(all, bits, n * sizeof own);
    st = ids_compare(c, all, err);
    if (c->stage + 1 < c->n_stages) {
        memcpy(own, st == PR_OK ? id : &refused, sizeof *id);
        pr_status sent = pr_comm_send(c, own, ID_FLOATS, PR_DTYPE_F32, c->stage + 1,
                                      st == PR_OK ? err : NULL);
        if (st == PR_OK) st = sent;
    }
cleanup:
    free(all);
    free(bits);
    return st;
}

/* On a GPU the ids are exchanged in the batch's place in the queue, and compared when it is done:
 * ranks that run different batches are noticed before a result leaves, or by a collective that does
 * not end. */
static pr_status id_show(pr_worker *w, int slot, const pr_batch_id *id, pr_error *err)
{
    const uint64_t own[2] = {id->seq, id->hash};
    pr_comm *c = w->comm;
    if (!c->ops->show) return id_check(c, id, err);
    if (c->tp_size * c->n_stages == 1) return PR_OK;
    return c->ops->show(c, slot, own, &w->begun[slot].shown, err);
}

static pr_status shown_compare(const pr_worker *w, const begun_batch *begun, pr_error *err)
{
    if (!begun->shown) return PR_OK;
    size_t n_bytes = (size_t)w->comm->tp_size * sizeof(shown_ids);
    shown_ids *all = malloc(n_bytes);
    if (!all) return pr_error_nomem(err, "ids of batches", n_bytes);
    memcpy(all, begun->shown, n_bytes);
    pr_status st = ids_compare(w->comm, all, err);
    free(all);
    return st;
}

/* ---- batches ---- */

/* What the tables are read by, the same verdict on every rank. */
static pr_status ids_check(const pr_model_spec *spec, const pr_batch_plan *batch, pr_error *err)
{
    for (uint32_t i = 0; i < batch->n_tokens; i++) {
        if (batch->tokens[i] >= 0 && batch->tokens[i] < spec->vocab_size) continue;
        return pr_error_set(err, PR_E_INPUT, "row %u: token %d, expected 0 to %d", i,
                            batch->tokens[i], spec->vocab_size - 1);
    }
    for (uint32_t i = 0; batch->type_ids && spec->type_vocab_size > 0 && i < batch->n_tokens; i++) {
        if (batch->type_ids[i] < spec->type_vocab_size) continue;
        return pr_error_set(err, PR_E_INPUT, "row %u: type %d, expected 0 to %d", i,
                            batch->type_ids[i], spec->type_vocab_size - 1);
    }
    return PR_OK;
}

pr_status pr_worker_begin(pr_worker *w, const pr_batch_plan *batch,
                          const pr_pooling *const *poolings, const pr_batch_id *id, pr_error *err)
{
    const pr_backend_ops *ops = w->backend->ops;
    int slot = (int)(w->n_begun % (uint64_t)w->backend->n_slots);
    begun_batch *begun = &w->begun[slot];
    const float *hidden = NULL;
    assert(w->n_begun - w->n_finished < (uint64_t)w->backend->n_slots);
    assert(!begun->plan);
    *begun = (begun_batch){.poolings = poolings};
    pr_status st = ids_check(w->spec, batch, err);
    if (st == PR_OK) st = pr_pool_plan_build(batch, poolings, &begun->plan, err);
    if (st == PR_OK) st = ops->batch_begin(w->backend, slot, err);
    if (st == PR_OK && id) st = id_show(w, slot, id, err);
    if (st == PR_OK) st = pr_forward_run(w->forward, slot, batch, begun->plan, &hidden, err);
    if (st == PR_OK && w->pooler) {
        st = pr_pooler_begin(w->pooler, slot, hidden, begun->plan, err);
    }
    if (st == PR_OK) st = ops->batch_end(w->backend, slot, err);
    if (st != PR_OK) {
        pr_pool_plan_free(begun->plan);
        begun->plan = NULL;
        return st;
    }
    w->n_begun++;
    return PR_OK;
}

enum { POLLS_AWAKE = 200, POLL_NS = 20000 };

/* Until the backend is done with a batch, or a rank of the group is known to be gone. */
static pr_status batch_await(pr_worker *w, int slot, pr_error *err)
{
    bool is_done = false;
    for (int i = 0;; i++) {
        pr_status st = w->backend->ops->batch_poll(w->backend, slot, &is_done, err);
        if (st != PR_OK || is_done) return st;
        if (w->comm->ops->check) st = w->comm->ops->check(w->comm, err);
        if (st != PR_OK) return st;
        if (i < POLLS_AWAKE) continue;
        nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
    }
}

pr_status pr_worker_finish(pr_worker *w, pr_pooled *out, pr_error *err)
{
    assert(w->n_finished < w->n_begun);
    int slot = (int)(w->n_finished++ % (uint64_t)w->backend->n_slots);
    begun_batch *begun = &w->begun[slot];
    *out = (pr_pooled){0};
    pr_status st = batch_await(w, slot, err);
    if (st == PR_OK) st = shown_compare(w, begun, err);
    if (st == PR_OK && w->pooler) {
        st = pr_pooler_finish(w->pooler, slot, begun->plan, begun->poolings, out, err);
    }
    pr_pool_plan_free(begun->plan);
    begun->plan = NULL;
    return st;
}

pr_status pr_worker_run(pr_worker *w, const pr_batch_plan *batch,
                        const pr_pooling *const *poolings, const pr_batch_id *id, pr_pooled *out,
                        pr_error *err)
{
    pr_status st = pr_worker_begin(w, batch, poolings, id, err);
    return st == PR_OK ? pr_worker_finish(w, out, err) : st;
}
