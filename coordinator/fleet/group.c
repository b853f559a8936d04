#include "coordinator/fleet/group.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

pr_status pr_group_create(uint32_t index, uint32_t tp_size, uint32_t n_stages, pr_group **out,
                          pr_error *err)
{
    pr_group *g = calloc(1, sizeof *g);
    if (!g) return pr_error_nomem(err, "group", sizeof *g);
    g->index = index;
    g->tp_size = tp_size;
    g->n_stages = n_stages;
    g->n_ranks = tp_size * n_stages;
    g->ranks = calloc(g->n_ranks, sizeof *g->ranks);
    g->lives = calloc(g->n_ranks, sizeof *g->lives);
    if (!g->ranks || !g->lives) {
        pr_group_free(g);
        return pr_error_nomem(err, "group", g->n_ranks * sizeof *g->ranks);
    }
    *out = g;
    return PR_OK;
}

void pr_group_free(pr_group *g)
{
    if (!g) return;
    assert(!g->first);
    free(g->ranks);
    free(g->lives);
    free(g);
}

/* ---- start and end ---- */

const char *pr_group_state_name(pr_group_state state)
{
    static const char *const names[] = {"idle", "starting", "loading", "ready"};
    static_assert(sizeof names / sizeof *names == PR_GROUP_STATE_COUNT, "one name per state");
    return names[state];
}

void pr_group_start(pr_group *g, const char *name, uint64_t epoch)
{
    assert(g->state == PR_GROUP_IDLE);
    snprintf(g->name, sizeof g->name, "%s", name);
    g->epoch = epoch;
    g->state = PR_GROUP_STARTING;
    g->batch_seq = 0;
    g->has_answered = g->has_comm_id = g->is_comm_id_sent = false;
}

static pr_batch *flight_free(pr_flight *f)
{
    pr_batch *b = f->batch;
    free(f->data);
    free(f);
    return b;
}

pr_batch *pr_group_end(pr_group *g)
{
    pr_batch *first = NULL, **last = &first;
    while (g->first) {
        pr_flight *f = g->first;
        g->first = f->next;
        pr_batch *b = flight_free(f);
        b->n_deaths++;
        b->next = NULL;
        *last = b;
        last = &b->next;
    }
    g->last = NULL;
    g->n_flights = g->n_joined = g->n_ready = 0;
    g->state = PR_GROUP_IDLE;
    memset(g->ranks, 0, g->n_ranks * sizeof *g->ranks);
    memset(g->lives, 0, g->n_ranks * sizeof *g->lives);
    return first;
}

/* ---- ranks ---- */

pr_status pr_group_size_check(const pr_control_hello *hello, uint32_t tp_size, uint32_t n_stages,
                              pr_error *err)
{
    if (hello->n_ranks == tp_size * n_stages) return PR_OK;
    return pr_error_set(err, PR_E_ARGUMENT,
                        "group %s: found %" PRIu32 " ranks, expected %" PRIu32
                        " (tensor-parallel-size %" PRIu32 " * pipeline-parallel-size %" PRIu32 ")",
                        hello->group, hello->n_ranks, tp_size * n_stages, tp_size, n_stages);
}

pr_status pr_group_join(pr_group *g, const pr_control_hello *hello, void *link, uint64_t now_ms,
                        pr_error *err)
{
    pr_status st = pr_group_size_check(hello, g->tp_size, g->n_stages, err);
    if (st != PR_OK) return st;
    assert(hello->rank < g->n_ranks); /* pr_control_hello_check */
    pr_group_rank *r = &g->ranks[hello->rank];
    if (r->link) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "group %s: rank %" PRIu32 " is here already (pid %" PRId64 " on %s)",
                            hello->group, hello->rank, r->pid, r->host);
    }
    if (g->state != PR_GROUP_STARTING) {
        return pr_error_set(err, PR_E_UNAVAILABLE, "group %s is not starting", hello->group);
    }
    *r = (pr_group_rank){.link = link, .pid = hello->pid};
    snprintf(r->host, sizeof r->host, "%s", hello->host);
    g->lives[hello->rank] = (pr_rank_life){.is_here = true, .progress_ms = now_ms};
    if (++g->n_joined == g->n_ranks) g->state = PR_GROUP_LOADING;
    return PR_OK;
}

pr_status pr_group_rank_ready(pr_group *g, uint32_t rank, const pr_control_ready *ready,
                              uint64_t model_fingerprint, bool *is_ready, pr_error *err)
{
    pr_group_rank *r = &g->ranks[rank];
    if (ready->epoch != g->epoch || r->is_ready) {
        return pr_error_set(err, PR_E_INTERNAL,
                            "found READY of epoch %" PRIu64 "%s, expected one of epoch %" PRIu64,
                            ready->epoch, r->is_ready ? " again" : "", g->epoch);
    }
    if (ready->model_fingerprint != model_fingerprint) {
        return pr_error_set(err, PR_E_MODEL,
                            "another model: its files have fingerprint %016" PRIx64
                            ", the coordinator's %016" PRIx64,
                            ready->model_fingerprint, model_fingerprint);
    }
    r->ready = *ready;
    r->is_ready = true;
    *is_ready = ++g->n_ready == g->n_ranks;
    if (*is_ready) {
        assert(g->state == PR_GROUP_LOADING);
        g->state = PR_GROUP_READY;
        for (uint32_t i = 0; i < g->n_ranks; i++) g->lives[i].is_computing = false;
    }
    return PR_OK;
}

pr_status pr_group_comm_id_keep(pr_group *g, uint32_t rank, const pr_control_comm_id *id,
                                pr_error *err)
{
    if (rank != 0 || g->has_comm_id || g->ranks[rank].is_ready || id->epoch != g->epoch) {
        return pr_error_set(err, PR_E_INTERNAL,
                            "found %s COMM_ID of epoch %" PRIu64 " from rank %" PRIu32
                            "%s, expected one of epoch %" PRIu64 " from rank 0 while it loads",
                            g->has_comm_id ? "another" : "a", id->epoch, rank,
                            g->ranks[rank].is_ready ? " after READY" : "", g->epoch);
    }
    g->comm_id = *id;
    g->has_comm_id = true;
    return PR_OK;
}

bool pr_group_comm_id_is_due(pr_group *g)
{
    if (!g->has_comm_id || g->is_comm_id_sent || g->state != PR_GROUP_LOADING) return false;
    g->is_comm_id_sent = true;
    return true;
}

uint32_t pr_group_pooling_rank(const pr_group *g)
{
    return (g->n_stages - 1) * g->tp_size;
}

/* ---- batches ---- */

/* One batch more than stages keeps every stage at work while the next is on its way. */
bool pr_group_has_room(const pr_group *g, uint32_t n_deaths)
{
    /* one for each stage and each slot, so that a rank that is done finds the next one there */
    if (g->state != PR_GROUP_READY) return false;
    uint32_t n_slots = g->ranks[pr_group_pooling_rank(g)].ready.n_slots;
    if (g->n_flights >= g->n_stages + n_slots) return false;
    if (g->n_flights == 0) return true;
    return !pr_retry_is_alone(n_deaths) && !pr_retry_is_alone(g->first->batch->n_deaths);
}

pr_status pr_group_flight_add(pr_group *g, pr_batch *batch, size_t bytes_max, uint64_t now_ms,
                              pr_error *err)
{
    pr_flight *f = calloc(1, sizeof *f);
    if (!f) return pr_error_nomem(err, "batch", sizeof *f);
    *f = (pr_flight){.batch = batch, .batch_seq = ++g->batch_seq, .n_bytes_max = bytes_max};
    if (g->last) {
        g->last->next = f;
    } else {
        g->first = f;
        for (uint32_t i = 0; i < g->n_ranks; i++) {
            g->lives[i].is_computing = true;
            g->lives[i].progress_ms = now_ms;
        }
    }
    g->last = f;
    g->n_flights++;
    return PR_OK;
}

pr_batch *pr_group_flight_cancel(pr_group *g)
{
    pr_flight **at = &g->first, *before = NULL;
    assert(g->first);
    for (; (*at)->next; at = &(*at)->next) before = *at;
    assert((*at)->batch_seq == g->batch_seq);
    pr_batch *b = flight_free(*at);
    *at = NULL;
    g->last = before;
    g->batch_seq--;
    g->n_flights--;
    for (uint32_t i = 0; i < g->n_ranks; i++) g->lives[i].is_computing = g->n_flights > 0;
    return b;
}

static pr_status answer_check(const pr_group *g, uint32_t rank, uint64_t batch_seq, pr_error *err)
{
    if (rank != pr_group_pooling_rank(g)) {
        return pr_error_set(err, PR_E_INTERNAL,
                            "found a result from rank %" PRIu32 ", expected it from rank %" PRIu32,
                            rank, pr_group_pooling_rank(g));
    }
    if (!g->first || g->first->batch_seq != batch_seq) {
        return pr_error_set(err, PR_E_INTERNAL,
                            "found a result of batch %" PRIu64 ", expected one of batch %" PRIu64,
                            batch_seq, g->first ? g->first->batch_seq : 0);
    }
    return PR_OK;
}

pr_status pr_group_result(pr_group *g, uint32_t rank, const pr_control_result *result,
                          pr_error *err)
{
    if (result->epoch != g->epoch) return PR_OK;
    pr_status st = answer_check(g, rank, result->batch_seq, err);
    if (st != PR_OK) return st;
    pr_flight *f = g->first;
    if (result->offset != f->n_bytes || result->n_bytes > f->n_bytes_max - f->n_bytes) {
        return pr_error_set(err, PR_E_INTERNAL,
                            "batch %" PRIu64 ": found %" PRIu32 " bytes of its result at %" PRIu64
                            ", expected them at %zu, and at most %zu in all",
                            f->batch_seq, result->n_bytes, result->offset, f->n_bytes,
                            f->n_bytes_max);
    }
    if (result->n_bytes == 0) return PR_OK;
    char *data = realloc(f->data, f->n_bytes + result->n_bytes);
    if (!data) return pr_error_nomem(err, "result", f->n_bytes + result->n_bytes);
    f->data = (float *)data;
    memcpy(data + f->n_bytes, result->bytes, result->n_bytes);
    f->n_bytes += result->n_bytes;
    return PR_OK;
}

/* *rows: [n], owned; the shapes must make up n_bytes. */
static pr_status rows_make(const pr_control_done *done, size_t n_bytes, pr_pooled_rows **rows,
                           pr_error *err)
{
    uint64_t n_floats = 0;
    pr_pooled_rows *r = malloc(done->n_sequences * sizeof *r);
    if (!r) return pr_error_nomem(err, "result", done->n_sequences * sizeof *r);
    bool fits = true; /* no sum that could overflow is made of shapes that do not */
    for (uint32_t i = 0; i < done->n_sequences && fits; i++) {
        r[i] = (pr_pooled_rows){.offset = (size_t)n_floats, .n_rows = done->shapes[2 * i],
                                .n_columns = done->shapes[2 * i + 1]};
        uint64_t n = (uint64_t)r[i].n_rows * r[i].n_columns;
        fits = n <= n_bytes / sizeof(float) - n_floats;
        if (fits) n_floats += n;
    }
    if (!fits || n_floats * sizeof(float) != n_bytes) {
        free(r);
        return pr_error_set(err, PR_E_INTERNAL,
                            "batch %" PRIu64 ": found a result of %zu bytes, expected as many as "
                            "its shapes have",
                            done->batch_seq, n_bytes);
    }
    *rows = r;
    return PR_OK;
}

pr_status pr_group_done(pr_group *g, uint32_t rank, const pr_control_done *done, uint64_t now_ms,
                        pr_batch **batch, pr_pooled *pooled, pr_error *err)
{
    *batch = NULL;
    if (done->epoch != g->epoch) return PR_OK;
    pr_status st = answer_check(g, rank, done->batch_seq, err);
    if (st != PR_OK) return st;
    pr_flight *f = g->first;
    if (done->n_sequences != f->batch->n_parts) {
        return pr_error_set(err, PR_E_INTERNAL,
                            "batch %" PRIu64 ": found results of %" PRIu32
                            " sequences, expected %zu",
                            f->batch_seq, done->n_sequences, f->batch->n_parts);
    }
    pr_pooled_rows *rows = NULL;
    if ((st = rows_make(done, f->n_bytes, &rows, err)) != PR_OK) return st;
    *pooled = (pr_pooled){.data = f->data, .rows = rows, .n_sequences = done->n_sequences};
    f->data = NULL;
    g->first = f->next;
    if (!g->first) g->last = NULL;
    g->n_flights--;
    g->has_answered = true;
    for (uint32_t i = 0; i < g->n_ranks; i++) {
        g->lives[i].is_computing = g->n_flights > 0;
        g->lives[i].progress_ms = now_ms; /* an answer is progress of all */
    }
    *batch = flight_free(f);
    return PR_OK;
}

/* ---- signs of life ---- */

void pr_group_asked(pr_group *g, uint64_t now_ms)
{
    g->ping_id++;
    for (uint32_t i = 0; i < g->n_ranks; i++) {
        if (g->lives[i].is_here && g->lives[i].asked_ms == 0) g->lives[i].asked_ms = now_ms;
    }
}

void pr_group_pong(pr_group *g, uint32_t rank, const pr_control_ping *pong, uint64_t now_ms)
{
    pr_rank_life *l = &g->lives[rank];
    l->asked_ms = 0;
    if (pong->batch_seq != l->batch_seq || pong->n_steps != l->n_steps) {
        l->batch_seq = pong->batch_seq;
        l->n_steps = pong->n_steps;
        l->progress_ms = now_ms;
    }
    if (g->state != PR_GROUP_READY) {
        l->is_computing = pong->is_computing && !g->ranks[rank].is_ready;
    } else { /* also one that did not begin what it was sent, or says that all was answered */
        l->is_computing = g->n_flights > 0;
    }
}

bool pr_group_is_busy(const pr_group *g)
{
    return g->state == PR_GROUP_LOADING || g->n_flights > 0 ||
           (g->state == PR_GROUP_STARTING && g->n_joined > 0);
}
