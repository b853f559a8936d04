#include "fleet_sim.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- what is next ---- */

static item item_take(sim *w, size_t i)
{
    item it = w->items[i];
    w->items[i] = w->items[--w->n_items];
    return it;
}

static size_t item_next(const sim *w)
{
    size_t best = 0;
    for (size_t i = 1; i < w->n_items; i++) {
        const item *a = &w->items[i], *b = &w->items[best];
        if (a->at_ms < b->at_ms || (a->at_ms == b->at_ms && a->order < b->order)) best = i;
    }
    return best;
}

/* ---- the edge: events ---- */

static void cut_seen(const pr_fleet_event *e)
{
    for (pr_batch *b = e->kind == PR_FLEET_CUT_UP ? e->batch : NULL; b; b = b->next) {
        ((sim_batch *)b)->is_being_cut = false;
    }
}

static void feed(sim *w, pr_fleet_event e)
{
    while (!w->wrong && !w->is_closed) {
        sim_trace(w, "event", (int)e.kind, e.epoch, e.rank);
        cut_seen(&e);
        bool has_more = pr_fleet_step(w->s, &e, w->now_ms, &w->actions);
        for (size_t i = 0; i < w->actions.n; i++) sim_act(w, &w->actions.list[i]);
        if (w->n_back == 0) sim_state_check(w);
        if (w->n_back > 0) {
            e = w->back[0];
            memmove(w->back, w->back + 1, --w->n_back * sizeof *w->back);
        } else if (has_more) {
            e = (pr_fleet_event){.kind = PR_FLEET_NEXT};
        } else {
            return;
        }
    }
}

static void turn(sim *w, pr_fleet_event e)
{
    feed(w, e);
    while (!w->wrong && !w->is_closed && w->queue_begin < w->queue_end &&
           pr_fleet_wants_batch(w->s, w->now_ms)) {
        sim_batch *b = w->queue[w->queue_begin++];
        b->is_taken = true;
        feed(w, (pr_fleet_event){.kind = PR_FLEET_BATCH, .batch = &b->b});
    }
    bool is_down = w->s->was_up && w->s->down_ms &&
                   w->now_ms - w->s->down_ms >= w->rules.start_ms + 2000;
    bool has_work = w->s->pending || w->queue_begin < w->queue_end;
    sim_check(w, !is_down || !has_work || w->is_closed, "requests wait, and nobody comes");
    if (w->is_stopped && !w->is_drained_told && w->queue_begin == w->queue_end) {
        w->is_drained_told = true;
        feed(w, (pr_fleet_event){.kind = PR_FLEET_DRAINED});
    }
}

static void join_deliver(sim *w, sim_peer *p)
{
    pr_control_hello hello = {.rank = p->rank, .n_ranks = w->rules.tp_size * w->rules.n_stages,
                              .host = "h", .pid = 1};
    snprintf(hello.group, sizeof hello.group, "%s", p->group);
    if (sim_mishap(w, 100)) hello.n_ranks++;
    turn(w, (pr_fleet_event){.kind = PR_FLEET_JOINED, .link = p, .hello = &hello});
}

/* A message as the rank sent it: what the link's end or the coordinator's closing it did not cut
 * off. */
static void message_deliver(sim *w, const item *it)
{
    sim_peer *p = it->peer;
    float rows[N_PARTS_MAX][N_COLUMNS];
    uint32_t shapes[2 * N_PARTS_MAX];
    pr_control_message m = {.kind = it->message};
    size_t n = it->batch ? it->batch->b.n_parts : 0, half = n * sizeof rows[0] / 2;
    if (!p->is_open || p->is_hung) return;
    for (size_t i = 0; i < n; i++) {
        rows[i][0] = (float)((sim_request *)it->batch->parts[i].job)->id;
        rows[i][1] = (float)it->epoch;
        shapes[2 * i] = 1;
        shapes[2 * i + 1] = N_COLUMNS;
    }
    switch (it->message) {
    case PR_CONTROL_READY:
        m.ready = (pr_control_ready){.epoch = it->epoch, .model_fingerprint = FINGERPRINT,
                                     .n_slots = 1 + (uint32_t)(w->seed & 1)};
        break;
    case PR_CONTROL_COMM_ID:
        m.comm_id = (pr_control_comm_id){.epoch = it->epoch, .n_bytes = 1};
        break;
    case PR_CONTROL_FAILED:
        m.reason.status = sim_one_in(w, 4) ? PR_E_NOMEM : PR_E_INTERNAL;
        break;
    case PR_CONTROL_PONG:
        m.ping = (pr_control_ping){.id = it->batch_seq, .epoch = it->epoch,
                                   .batch_seq = p->batch_seq, .n_steps = p->n_steps};
        break;
    case PR_CONTROL_RESULT:
        m.result = (pr_control_result){.epoch = it->epoch, .batch_seq = it->batch_seq,
                                       .offset = it->is_first_half ? 0 : half,
                                       .bytes = (const char *)rows + (it->is_first_half ? 0 : half),
                                       .n_bytes = (uint32_t)half};
        break;
    case PR_CONTROL_DONE:
        m.done = (pr_control_done){.epoch = it->epoch, .batch_seq = it->batch_seq,
                                   .n_sequences = (uint32_t)n, .shapes = shapes};
        for (const pr_replica *r = w->s->replicas; r; r = r->next) {
            bool is_its = r->group->epoch == it->epoch && r->group->state == PR_GROUP_READY;
            if (is_its && r->group->index < 8) w->groups[r->group->index].n_good++;
        }
        break;
    default: /* BATCH: what only the coordinator sends */
        break;
    }
    turn(w, (pr_fleet_event){.kind = PR_FLEET_MESSAGE, .epoch = p->seat_epoch, .rank = p->rank,
                             .message = &m});
}

static void gone_deliver(sim *w, sim_peer *p)
{
    if (!p->is_open) return;
    p->is_open = false;
    turn(w, (pr_fleet_event){.kind = p->seat_epoch ? PR_FLEET_LINK_ENDED : PR_FLEET_STRANGER_ENDED,
                             .epoch = p->seat_epoch, .rank = p->rank, .link = p, .text = "gone"});
}

/* Something happens to a rank that is there: it dies, hangs, or says what is not true. */
static void fault_do(sim *w)
{
    if (w->now_ms < FAULTS_MS) sim_later(w, ITEM_FAULT, sim_below(w, 1500));
    size_t n = w->n_peers < 40 ? w->n_peers : 40; /* the last ones are alive, if any */
    sim_peer *p = n ? &w->peers[w->n_peers - 1 - sim_below(w, n)] : NULL;
    if (!p || !p->is_alive || p->is_hung || w->now_ms >= FAULTS_MS) return;
    w->has_faults = true;
    switch (sim_below(w, 9)) {
    case 0:
        p->is_hung = true;
        break;
    case 8:
        p->is_stuck = true;
        break;
    case 1: /* of a start that is over; dropped */
        if (p->seat_epoch) sim_say(w, p, PR_CONTROL_DONE, 0)->epoch = p->seat_epoch - 1;
        break;
    case 2:
        if (p->seat_epoch) sim_say(w, p, PR_CONTROL_BATCH, 0);
        break;
    case 3:
        if (p->launch_epoch) sim_launcher_end(w, p->launch_epoch, sim_delay(w));
        break;
    default:
        sim_rank_fail(w, p);
    }
}

static void requests_push(sim *w)
{
    if (w->n_pushed < w->n_requests) {
        sim_batch *b = sim_batch_new(w);
        size_t n = 1 + sim_below(w, N_PARTS_MAX);
        for (size_t i = 0; i < n && w->n_pushed < w->n_requests; i++) {
            sim_batch_add(b, &w->requests[w->n_pushed++]);
        }
        w->queue[w->queue_end++] = b;
        sim_later(w, ITEM_PUSH, sim_below(w, w->is_calm ? 500 : 2000));
    }
    turn(w, (pr_fleet_event){.kind = PR_FLEET_NEXT});
}

/* A group that joins by itself, from now on and then. */
static void group_join(sim *w)
{
    char name[32];
    snprintf(name, sizeof name, "g%" PRIu64, w->n_order);
    sim_ranks_make(w, name, 0);
    if (!w->is_stopped) sim_later(w, ITEM_GROUP, 1000 + sim_below(w, 40000));
}

static void deliver(sim *w, const item *it)
{
    sim_peer *p = it->peer;
    switch (it->kind) {
    case ITEM_CONNECT:
        if (!p->is_alive) break;
        p->is_connected = p->is_open = true;
        p->from_ms = w->now_ms;
        sim_on_link(w, p, ITEM_JOIN, sim_delay(w));
        turn(w, (pr_fleet_event){.kind = PR_FLEET_CONNECTED, .link = p});
        break;
    case ITEM_JOIN:
        if (p->is_open && !p->is_hung) join_deliver(w, p);
        break;
    case ITEM_GONE:
        gone_deliver(w, p);
        break;
    case ITEM_TO_RANK:
        sim_rank_take(w, it);
        break;
    case ITEM_FROM_RANK:
        message_deliver(w, it);
        break;
    case ITEM_LAUNCHER_ENDED:
        turn(w, (pr_fleet_event){.kind = PR_FLEET_LAUNCHER_ENDED, .epoch = it->epoch,
                                 .text = "ended"});
        break;
    case ITEM_LATE:
        turn(w, it->late);
        break;
    case ITEM_FAULT:
        fault_do(w);
        break;
    case ITEM_GROUP:
        group_join(w);
        break;
    case ITEM_PUSH:
        requests_push(w);
        break;
    case ITEM_STOP: /* not before all was asked */
        if (w->n_pushed < w->n_requests) {
            sim_later(w, ITEM_STOP, 1000);
            break;
        }
        w->is_stopped = true;
        turn(w, (pr_fleet_event){.kind = PR_FLEET_STOP});
    }
}

/* ---- a run ---- */

static pr_worker_launch launch_of(uint64_t seed)
{
    static const pr_worker_launch modes[] = {PR_WORKER_LAUNCH_MPIRUN, PR_WORKER_LAUNCH_MPIRUN,
                                             PR_WORKER_LAUNCH_EXTERNAL, PR_WORKER_LAUNCH_SRUN,
                                             PR_WORKER_LAUNCH_JOB};
    return modes[seed % (sizeof modes / sizeof *modes)];
}

sim *sim_make(uint64_t seed, bool is_calm)
{
    sim *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->seed = w->random = seed;
    w->is_calm = is_calm;
    w->now_ms = 1000;
    w->is_tracing = getenv("POOLRANK_SIM_TRACE") != NULL;
    w->is_late = sim_one_in(w, 3);
    w->has_ids = sim_one_in(w, 3);
    w->rules = (pr_fleet_rules){
        .launch = launch_of(seed), .leaves_host = sim_one_in(w, 4),
        .tp_size = 1 + (uint32_t)sim_below(w, 2), .n_stages = 1 + (uint32_t)sim_below(w, 3),
        .n_groups = 1 + (uint32_t)sim_below(w, 3), .hang_timeout_s = 4, .start_timeout_s = 20,
        .hang_ms = 4000, .start_ms = 20000, .ping_ms = 1000, .model_fingerprint = FINGERPRINT,
        .n_columns_max = N_COLUMNS,
    };
    w->n_requests = 8 + (uint32_t)sim_below(w, N_REQUESTS_MAX - 8);
    for (uint32_t i = 0; i < w->n_requests; i++) {
        w->requests[i] = (sim_request){.id = i + 1, .is_poison = sim_one_in(w, 25)};
    }
    assert_int_equal(pr_fleet_state_create(&w->rules, w->now_ms, &w->s, NULL), PR_OK);
    if (w->rules.launch == PR_WORKER_LAUNCH_EXTERNAL) sim_later(w, ITEM_GROUP, 100);
    for (uint32_t i = 0; i < w->rules.n_groups && w->rules.launch == PR_WORKER_LAUNCH_JOB; i++) {
        char name[32];
        snprintf(name, sizeof name, "job/%" PRIu32, i);
        sim_ranks_make(w, name, 0);
    }
    sim_later(w, ITEM_PUSH, 0);
    sim_later(w, ITEM_STOP, sim_one_in(w, 2) ? FAULTS_MS + 100 * 1000 : sim_below(w, FAULTS_MS));
    if (!is_calm) sim_later(w, ITEM_FAULT, sim_below(w, 3000));
    return w;
}

void sim_free(sim *w)
{
    while (w->s->replicas && w->wrong) { /* what a failed run leaves behind */
        pr_replica *r = w->s->replicas;
        pr_group_end(r->group);
        w->s->replicas = r->next;
        pr_group_free(r->group);
        free(r);
    }
    if (w->wrong) w->s->pending = NULL, w->s->n_cut = 0;
    pr_fleet_state_free(w->s);
    free(w);
}

void sim_run(sim *w)
{
    unsigned n_steps = 0;
    turn(w, (pr_fleet_event){.kind = PR_FLEET_TICK});
    while (!w->wrong && !w->is_closed) {
        uint64_t due_ms = pr_fleet_due_ms(w->s);
        size_t i = item_next(w);
        bool is_tick = w->n_items == 0 || due_ms <= w->items[i].at_ms;
        uint64_t at_ms = is_tick ? due_ms : w->items[i].at_ms;
        sim_check(w, at_ms < END_MS && ++n_steps < N_STEPS_MAX, "the end does not come");
        if (w->wrong) break;
        if (at_ms > w->now_ms) w->now_ms = at_ms;
        if (is_tick) {
            turn(w, (pr_fleet_event){.kind = PR_FLEET_TICK});
        } else {
            item it = item_take(w, i);
            deliver(w, &it);
        }
    }
    sim_check(w, w->n_pushed == w->n_requests, "the run ended before all was asked");
    sim_check(w, w->n_answered == w->n_requests, "a request is not answered");
    sim_check(w, w->s->n_launchers == 0, "a launcher is left");
    for (size_t i = 0; i < w->n_peers; i++) {
        sim_check(w, !w->peers[i].is_open, "a connection is left");
    }
}
