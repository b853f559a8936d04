#include "coordinator/fleet/fleet_batches.h"

#include "coordinator/fleet/fleet_groups.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- out ---- */

static bool is_waiting_alone(const pr_fleet *f)
{
    return f->pending && pr_retry_is_alone(f->pending->n_deaths);
}

/* The ready group with the fewest batches that has room for one with n_deaths. */
static pr_replica *replica_choose(const pr_fleet *f, uint32_t n_deaths)
{
    pr_replica *best = NULL;
    for (pr_replica *r = f->replicas; r; r = r->next) {
        if (!pr_group_has_room(r->group, n_deaths)) continue;
        if (!best || r->group->n_flights < best->group->n_flights) best = r;
    }
    return best;
}

/* The largest result that a batch can have. */
static size_t result_bytes_max(const pr_fleet *f, const pr_batch *b)
{
    uint64_t n_columns = (uint64_t)f->c.model->n_width;
    if (n_columns < (uint64_t)f->c.model->spec.hidden_size) {
        n_columns = (uint64_t)f->c.model->spec.hidden_size;
    }
    uint64_t n_rows = 0;
    for (uint32_t i = 0; i < b->plan->n_sequences; i++) n_rows += b->plan->sequences[i].n_tokens;
    uint64_t bytes_max = (uint64_t)1 << 40;
    return n_rows < bytes_max / 4 / n_columns ? (size_t)(n_rows * n_columns * 4) : bytes_max;
}

static pr_status batch_pack(const pr_group *g, const pr_batch *b, pr_link_frame **out,
                            pr_error *err)
{
    const pr_control_message m = {
        .kind = PR_CONTROL_BATCH,
        .batch = {.epoch = g->epoch,
                  .batch_seq = g->batch_seq + 1,
                  .plan_hash = pr_control_plan_hash(b->plan, b->poolings),
                  .plan = b->plan,
                  .poolings = b->poolings},
    };
    return pr_link_frame_create(&m, out, err);
}

/* A send that fails ends the group, which takes the batch back: some ranks have it, some do not. */
static void batch_send(pr_replica *r, pr_batch *b)
{
    pr_fleet *f = r->fleet;
    pr_group *g = r->group;
    pr_link_frame *frame = NULL;
    pr_error err;
    pr_status st = batch_pack(g, b, &frame, &err);
    if (st == PR_OK) {
        st = pr_group_flight_add(g, b, result_bytes_max(f, b), uv_now(&f->loop), &err);
    }
    if (st != PR_OK) {
        pr_batch_queue_complete(f->c.queue, b, NULL, st, err.message);
        pr_link_frame_release(frame);
        return;
    }
    for (uint32_t i = 0; st == PR_OK && i < g->n_ranks; i++) {
        st = pr_link_send_frame(g->ranks[i].link, frame, &err);
        if (st != PR_OK) pr_fleet_rank_fail(r, i, st, err.message);
    }
    pr_link_frame_release(frame);
    if (st == PR_OK && g->n_flights == 1) pr_fleet_tick_within(f, f->ping_ms);
}

static pr_batch *pending_pop(pr_fleet *f)
{
    pr_batch *b = f->pending;
    if (b) f->pending = b->next;
    if (b) b->next = NULL;
    return b;
}

void pr_fleet_dispatch(pr_fleet *f)
{
    if (f->is_over) {
        pr_fleet_fail_waiting(f, f->error.status, f->error.message);
        return;
    }
    /* A batch that must run alone waits for a group without work; those behind it wait too, so that
     * there will be one. */
    for (;;) {
        uint32_t n_deaths = is_waiting_alone(f) ? f->pending->n_deaths : 0;
        pr_replica *r = replica_choose(f, n_deaths);
        pr_batch *b = r ? pending_pop(f) : NULL;
        if (r && !b) b = pr_batch_queue_take(f->c.queue, false, NULL);
        if (!b) return;
        batch_send(r, b);
    }
}

/* ---- back ---- */

pr_status pr_fleet_result(pr_replica *r, uint32_t rank, const pr_control_result *result,
                          pr_error *err)
{
    return pr_group_result(r->group, rank, result, err);
}

pr_status pr_fleet_done(pr_replica *r, uint32_t rank, const pr_control_done *done, pr_error *err)
{
    pr_fleet *f = r->fleet;
    pr_batch *batch = NULL;
    pr_pooled pooled = {0};
    pr_status st = pr_group_done(r->group, rank, done, uv_now(&f->loop), &batch, &pooled, err);
    if (batch) pr_batch_queue_complete(f->c.queue, batch, &pooled, PR_OK, "");
    pr_pooled_deinit(&pooled);
    return st;
}

/* A request that ended every group that it was given to: not "unavailable", which would have it
 * sent again. */
static void batch_give_up(pr_fleet *f, pr_batch *b, const char *reason)
{
    char message[PR_ERROR_BYTES];
    snprintf(message, sizeof message,
             "%" PRIu32 " replica groups ended while they ran this request, the last while it ran "
             "alone: %s", b->n_deaths, reason);
    pr_batch_queue_complete(f->c.queue, b, NULL, PR_E_INTERNAL, message);
}

/* What one batch becomes: batches that wait again, linked by next; NULL: it was answered. */
static pr_batch *batch_retry(pr_fleet *f, pr_batch *b, const char *reason)
{
    pr_retry verdict = pr_retry_decide(b->n_deaths, b->n_parts);
    if (verdict == PR_RETRY_FAIL) {
        batch_give_up(f, b, reason);
        return NULL;
    }
    if (verdict != PR_RETRY_SPLIT) return b;
    pr_batch *singles = pr_batch_queue_split(f->c.queue, b);
    if (!singles) {
        pr_batch_queue_complete(f->c.queue, b, NULL, PR_E_NOMEM, "no memory to run it again");
    }
    return singles;
}

size_t pr_fleet_take_back(pr_fleet *f, pr_batch *batches, const char *reason)
{
    pr_batch *first = NULL, **last = &first;
    size_t n = 0;
    while (batches) {
        pr_batch *b = batches;
        batches = b->next;
        b->next = NULL;
        *last = batch_retry(f, b, reason);
        for (; *last; last = &(*last)->next) n++;
    }
    *last = f->pending; /* in front of what waits: they are older */
    f->pending = first;
    return n;
}

void pr_fleet_fail_waiting(pr_fleet *f, pr_status st, const char *message)
{
    pr_batch *b;
    while ((b = pending_pop(f)) || (b = pr_batch_queue_take(f->c.queue, false, NULL))) {
        pr_batch_queue_complete(f->c.queue, b, NULL, st, message);
    }
}

bool pr_fleet_is_idle(const pr_fleet *f)
{
    for (const pr_replica *r = f->replicas; r; r = r->next) {
        if (r->group->n_flights > 0) return false;
    }
    return !f->pending && pr_batch_queue_is_drained(f->c.queue);
}
