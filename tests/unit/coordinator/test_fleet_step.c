/* What the fleet's decisions promise, whatever ranks, connections and launchers do: a simulator with
 * a seed stands in for the world, kills, delays and reorders, and looks at the state after every
 * step.
 *
 *     every request is answered exactly once, with its own result, computed by the start of a group
 *     that had it in hand; a batch is in one place; a group's numbers have no gap; restarts are
 *     bounded; the end comes
 *
 * POOLRANK_SIM_SEEDS=N runs N seeds in place of a few, POOLRANK_SIM_SEED=N begins with that one,
 * POOLRANK_SIM_TRACE=1 prints what happens. */
#include "coordinator/fleet/fleet_state.h"
#include "coordinator/fleet/fleet_step.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    N_REQUESTS_MAX = 64,
    N_BATCHES_MAX = 2 * N_REQUESTS_MAX,
    N_PARTS_MAX = 4,
    N_PEERS_MAX = 4096,
    N_ITEMS_MAX = 8192,
    N_LAUNCHES_MAX = 2048,
    N_COLUMNS = 2, /* of a result: the request, the epoch that computed it */
    N_SEEDS = 400,
    N_STEPS_MAX = 400000,
    FAULTS_MS = 60 * 1000,        /* until then things go wrong */
    END_MS = 30 * 60 * 1000,      /* the end must have come by then */
    FINGERPRINT = 77
};

typedef struct sim_request {
    uint32_t id;
    bool is_poison; /* its rank dies when it computes it */
    unsigned n_answers;
    pr_status status;
} sim_request;

typedef struct sim_batch {
    pr_batch b; /* first: a pr_batch is one of these */
    pr_batch_plan plan;
    pr_sequence sequences[N_PARTS_MAX];
    pr_ready_part parts[N_PARTS_MAX]; /* their jobs are sim_requests */
    bool is_taken, is_being_cut, is_gone;
    uint64_t epoch; /* of the start that it was sent to last */
} sim_batch;

/* A rank: a process, and its connection. */
typedef struct sim_peer {
    bool is_alive;
    bool is_hung;          /* says nothing any more */
    bool is_stuck;         /* answers questions, computes nothing */
    bool is_open;          /* the coordinator has its end of the connection */
    bool is_connected;
    uint64_t launch_epoch; /* of the launcher that runs it; 0: nobody's */
    uint64_t seat_epoch;   /* ADMIT */
    char group[64];
    uint32_t rank;
    uint64_t epoch, batch_seq; /* as it was told */
    uint64_t n_steps;
    bool is_told_id, is_loading;
    uint64_t to_ms, from_ms; /* the last delivery on the connection, either way: it keeps order */
} sim_peer;

typedef enum item_kind {
    ITEM_CONNECT, ITEM_JOIN, ITEM_GONE, ITEM_TO_RANK, ITEM_FROM_RANK, ITEM_LAUNCHER_ENDED,
    ITEM_LATE, ITEM_FAULT, ITEM_GROUP, ITEM_PUSH, ITEM_STOP
} item_kind;

typedef struct item {
    uint64_t at_ms, order;
    item_kind kind;
    sim_peer *peer;
    pr_control_kind message;
    uint64_t epoch, batch_seq;
    sim_batch *batch;
    bool is_first_half; /* of a RESULT */
    pr_fleet_event late; /* LATE */
} item;

typedef struct sim {
    uint64_t seed, random, now_ms, n_order;
    pr_fleet_rules rules;
    pr_fleet_state *s;
    pr_fleet_actions actions;
    pr_fleet_event back[PR_FLEET_ACTIONS_MAX + 1];
    size_t n_back;
    item items[N_ITEMS_MAX];
    size_t n_items;
    sim_request requests[N_REQUESTS_MAX];
    uint32_t n_requests, n_pushed, n_answered;
    sim_batch batches[N_BATCHES_MAX];
    size_t n_batches;
    sim_batch *queue[N_REQUESTS_MAX];
    size_t queue_begin, queue_end;
    sim_peer peers[N_PEERS_MAX];
    size_t n_peers;
    uint64_t launched[N_LAUNCHES_MAX]; /* epochs; 0: it has ended */
    size_t n_launched;
    uint64_t n_starts[8], n_good[8]; /* of each group: launches, answers */
    uint64_t up_epochs;
    bool has_ids, is_calm, is_late, is_closed, has_failed, is_drained_told, is_stopped, has_faults;
    bool is_tracing;
    const char *wrong;
} sim;

/* ---- chance ---- */

/* splitmix64 */
static uint64_t any(sim *w)
{
    uint64_t z = w->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t below(sim *w, uint64_t n)
{
    return any(w) % n;
}

static bool one_in(sim *w, uint64_t n)
{
    return below(w, n) == 0;
}

/* Something goes wrong, while things do. */
static bool mishap(sim *w, uint64_t n)
{
    return !w->is_calm && w->now_ms < FAULTS_MS && one_in(w, n);
}

static void check(sim *w, bool holds, const char *what)
{
    if (!holds && !w->wrong) w->wrong = what;
}

static void trace(const sim *w, const char *what, int kind, uint64_t epoch, uint32_t rank)
{
    if (!w->is_tracing) return;
    print_message("%8" PRIu64 " %s %d epoch %" PRIu64 " rank %" PRIu32 "\n", w->now_ms, what, kind,
                  epoch, rank);
}

/* ---- what is on its way ---- */

static item *later(sim *w, item_kind kind, uint64_t in_ms)
{
    static item none;
    check(w, w->n_items < N_ITEMS_MAX, "too much is on its way");
    if (w->n_items == N_ITEMS_MAX) return &none;
    item *i = &w->items[w->n_items++];
    *i = (item){.at_ms = w->now_ms + in_ms, .order = w->n_order++, .kind = kind};
    return i;
}

static uint64_t delay(sim *w)
{
    return one_in(w, 10) ? below(w, 300) : below(w, 20);
}

/* A connection keeps its order, several do not. */
static item *on_link(sim *w, sim_peer *p, item_kind kind, uint64_t in_ms)
{
    uint64_t *last_ms = kind == ITEM_TO_RANK ? &p->to_ms : &p->from_ms;
    item *i = later(w, kind, in_ms);
    if (i->at_ms < *last_ms) i->at_ms = *last_ms;
    *last_ms = i->at_ms;
    i->peer = p;
    return i;
}

static item *say(sim *w, sim_peer *p, pr_control_kind message, uint64_t in_ms)
{
    item *i = on_link(w, p, ITEM_FROM_RANK, in_ms);
    i->message = message;
    i->epoch = p->epoch;
    return i;
}

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

/* ---- ranks ---- */

static void rank_die(sim *w, sim_peer *p)
{
    if (!p->is_alive) return;
    p->is_alive = false;
    if (p->is_connected) on_link(w, p, ITEM_GONE, delay(w));
}

static void ranks_make(sim *w, const char *group, uint64_t launch_epoch)
{
    uint32_t n = w->rules.tp_size * w->rules.n_stages;
    for (uint32_t i = 0; i < n && w->n_peers < N_PEERS_MAX; i++) {
        sim_peer *p = &w->peers[w->n_peers++];
        *p = (sim_peer){.is_alive = true, .launch_epoch = launch_epoch, .rank = i};
        snprintf(p->group, sizeof p->group, "%s", group);
        if (mishap(w, 60)) continue; /* never comes */
        later(w, ITEM_CONNECT, 10 + delay(w))->peer = p;
    }
    check(w, w->n_peers < N_PEERS_MAX, "restarts have no end");
}

static void launcher_end(sim *w, uint64_t epoch, uint64_t in_ms)
{
    for (size_t i = 0; i < w->n_peers; i++) {
        if (w->peers[i].launch_epoch == epoch && epoch) rank_die(w, &w->peers[i]);
    }
    for (size_t i = 0; i < w->n_launched; i++) {
        if (w->launched[i] != epoch || !epoch) continue;
        w->launched[i] = 0;
        later(w, ITEM_LAUNCHER_ENDED, in_ms)->epoch = epoch;
    }
}

/* mpirun ends a job that lost a rank; the connection's end may be seen first, or the launcher's. */
static void rank_fail(sim *w, sim_peer *p)
{
    rank_die(w, p);
    if (p->launch_epoch && !one_in(w, 4)) launcher_end(w, p->launch_epoch, delay(w));
}

static bool has_poison(const sim_batch *b)
{
    for (size_t i = 0; i < b->b.n_parts; i++) {
        if (((const sim_request *)b->parts[i].job)->is_poison) return true;
    }
    return false;
}

static void rank_compute(sim *w, sim_peer *p, const item *it)
{
    check(w, it->epoch == p->epoch, "a rank got a batch of another epoch");
    check(w, it->batch_seq == p->batch_seq + 1, "a rank saw a gap");
    p->batch_seq = it->batch_seq;
    p->n_steps++;
    if (has_poison(it->batch)) {
        rank_fail(w, p);
        return;
    }
    if (p->rank != (w->rules.n_stages - 1) * w->rules.tp_size) return;
    if (p->is_stuck) return;
    uint64_t ms = one_in(w, 3) ? below(w, 2000) : 5 + delay(w);
    for (int half = 0; half < 2; half++) {
        item *i = say(w, p, PR_CONTROL_RESULT, half == 0 ? ms : 0);
        i->batch = it->batch;
        i->batch_seq = it->batch_seq;
        i->is_first_half = half == 0;
    }
    item *i = say(w, p, PR_CONTROL_DONE, 0);
    i->batch = it->batch;
    i->batch_seq = it->batch_seq;
}

static void rank_take(sim *w, const item *it)
{
    sim_peer *p = it->peer;
    if (!p->is_alive || p->is_hung || !p->is_open) return;
    switch (it->message) {
    case PR_CONTROL_LOAD:
        p->epoch = it->epoch;
        p->is_loading = true;
        if (mishap(w, 150)) {
            say(w, p, PR_CONTROL_FAILED, delay(w));
        } else if (!w->has_ids) {
            say(w, p, PR_CONTROL_READY, delay(w));
        } else if (p->rank == 0) {
            say(w, p, PR_CONTROL_COMM_ID, delay(w));
        }
        break;
    case PR_CONTROL_COMM_ID:
        check(w, w->has_ids && !p->is_told_id, "a rank got an id that it does not wait for");
        p->is_told_id = true;
        say(w, p, PR_CONTROL_READY, delay(w));
        break;
    case PR_CONTROL_BATCH:
        rank_compute(w, p, it);
        break;
    case PR_CONTROL_PING:
        say(w, p, PR_CONTROL_PONG, delay(w))->batch_seq = it->batch_seq;
        break;
    case PR_CONTROL_SHUTDOWN:
        check(w, w->is_stopped, "ranks are sent away while there is work");
        rank_die(w, p);
        if (p->launch_epoch) launcher_end(w, p->launch_epoch, delay(w));
        break;
    default:
        check(w, false, "a message for ranks that there is not");
    }
}

/* ---- the edge: actions ---- */

static void answer(sim *w, sim_batch *b, const pr_fleet_action *a, size_t n_linked)
{
    check(w, b->is_taken && !b->is_gone, "a batch is answered that is not here");
    check(w, n_linked == 1 || a->status != PR_OK, "one result for several batches");
    b->is_gone = true;
    for (size_t i = 0; i < b->b.n_parts; i++) {
        sim_request *r = (sim_request *)b->parts[i].job;
        check(w, r->n_answers++ == 0, "a request is answered twice");
        r->status = a->status;
        w->n_answered++;
        if (a->status != PR_OK) continue;
        const float *row = a->pooled.data + a->pooled.rows[i].offset;
        check(w, row[0] == (float)r->id, "a request got another's result");
        check(w, row[1] == (float)b->epoch, "a result of a start that does not have the batch");
        check(w, !r->is_poison, "a result that nobody can have computed");
    }
    if (a->status == PR_E_INTERNAL) check(w, b->b.n_deaths == 3 && b->b.n_parts == 1, "given up early");
    if (a->status == PR_E_UNAVAILABLE) {
        check(w, w->has_failed || w->now_ms - w->s->down_ms >= w->rules.start_ms,
              "unavailable, but groups are there");
    }
}

static void act_complete(sim *w, pr_fleet_action *a)
{
    size_t n = 0;
    for (const pr_batch *b = a->batch; b; b = b->next) n++;
    for (pr_batch *b = a->batch, *next; b; b = next) {
        next = b->next;
        answer(w, (sim_batch *)b, a, n);
    }
    pr_pooled_deinit(&a->pooled);
}

/* What comes back: at once, or in some seeds later where that is allowed. */
static void come_back(sim *w, pr_fleet_event e)
{
    if (w->is_late && (e.kind == PR_FLEET_CUT_UP || e.kind == PR_FLEET_WORDS)) {
        later(w, ITEM_LATE, delay(w))->late = e;
        return;
    }
    assert_true(w->n_back < sizeof w->back / sizeof *w->back);
    w->back[w->n_back++] = e;
}

static void act_send(sim *w, const pr_fleet_action *a)
{
    const pr_group *g = a->group;
    sim_batch *b = (sim_batch *)a->batch;
    if (mishap(w, 400) && a->message != PR_CONTROL_SHUTDOWN) {
        come_back(w, (pr_fleet_event){.kind = PR_FLEET_UNPACKED, .epoch = g->epoch,
                                      .batch = a->batch, .status = PR_E_TOO_LARGE, .text = "no"});
        return;
    }
    if (b) b->epoch = g->epoch;
    for (uint32_t i = 0; i < g->n_ranks; i++) {
        sim_peer *p = g->ranks[i].link;
        if (!p) continue;
        check(w, p->is_open && p->seat_epoch == g->epoch, "a message to a link that is gone");
        if (mishap(w, 1000)) {
            come_back(w, (pr_fleet_event){.kind = PR_FLEET_UNSENT, .epoch = g->epoch, .rank = i,
                                          .status = PR_E_TOO_LARGE, .text = "full"});
            return;
        }
        item *it = on_link(w, p, ITEM_TO_RANK, delay(w));
        it->message = a->message;
        it->epoch = g->epoch;
        it->batch = b;
        it->batch_seq = a->message == PR_CONTROL_PING ? g->ping_id : g->batch_seq;
    }
}

static void act_admit(sim *w, const pr_fleet_action *a)
{
    sim_peer *p = a->link;
    check(w, p->is_open && p->seat_epoch == 0, "a link gets a second seat");
    p->seat_epoch = a->group->epoch;
    item *it = on_link(w, p, ITEM_TO_RANK, delay(w));
    it->message = PR_CONTROL_LOAD;
    it->epoch = a->group->epoch;
}

/* The coordinator closes a connection: nothing is heard of it any more. */
static void link_close(sim *w, sim_peer *p, bool is_killed)
{
    check(w, p->is_open, "a link is closed twice");
    p->is_open = false;
    if (!is_killed && p->is_hung) return;
    p->is_alive = false;
}

static void act_launch(sim *w, const pr_fleet_action *a)
{
    const pr_group *g = a->group;
    uint64_t n = ++w->n_starts[g->index];
    check(w, g->epoch > w->up_epochs, "an epoch is not new");
    w->up_epochs = g->epoch;
    check(w, n <= 3 + w->n_good[g->index] + w->now_ms / 500, "restarts without a pause");
    if (mishap(w, 25)) {
        come_back(w, (pr_fleet_event){.kind = PR_FLEET_LAUNCH_FAILED, .epoch = g->epoch,
                                      .status = PR_E_IO, .text = "fork"});
        return;
    }
    check(w, w->n_launched < N_LAUNCHES_MAX, "restarts have no end");
    if (w->n_launched == N_LAUNCHES_MAX) return;
    w->launched[w->n_launched++] = g->epoch;
    ranks_make(w, g->name, g->epoch);
    if (mishap(w, 25)) launcher_end(w, g->epoch, delay(w)); /* dies at once */
}

static sim_batch *batch_new(sim *w)
{
    assert_true(w->n_batches < N_BATCHES_MAX);
    sim_batch *b = &w->batches[w->n_batches++];
    b->plan.sequences = b->sequences;
    b->b.plan = &b->plan;
    b->b.parts = b->parts;
    return b;
}

static void batch_add(sim_batch *b, sim_request *r)
{
    b->sequences[b->b.n_parts].n_tokens = 1;
    b->parts[b->b.n_parts++].job = (pr_job *)r;
    b->plan.n_sequences = (uint32_t)b->b.n_parts;
}

static void act_cut(sim *w, sim_batch *b)
{
    pr_batch *first = NULL, **last = &first;
    check(w, b->is_taken && !b->is_gone && b->b.n_parts > 1, "a batch is cut that is not here");
    if (mishap(w, 10)) {
        b->is_being_cut = true;
        come_back(w, (pr_fleet_event){.kind = PR_FLEET_CUT_UP, .batch = &b->b,
                                      .status = PR_E_NOMEM, .text = "no memory"});
        return;
    }
    b->is_gone = true;
    for (size_t i = 0; i < b->b.n_parts; i++) {
        sim_batch *piece = batch_new(w);
        batch_add(piece, (sim_request *)b->parts[i].job);
        piece->b.n_deaths = b->b.n_deaths;
        piece->is_taken = piece->is_being_cut = true;
        *last = &piece->b;
        last = &piece->b.next;
    }
    come_back(w, (pr_fleet_event){.kind = PR_FLEET_CUT_UP, .batch = first});
}

static void act(sim *w, pr_fleet_action *a)
{
    trace(w, "     action", (int)a->kind, a->group ? a->group->epoch : a->epoch, a->rank);
    switch (a->kind) {
    case PR_FLEET_ADMIT:
        act_admit(w, a);
        break;
    case PR_FLEET_REFUSE:
        link_close(w, a->link, false);
        break;
    case PR_FLEET_SEND:
        act_send(w, a);
        break;
    case PR_FLEET_DISMISS:
        for (size_t i = 0; i < a->n_links; i++) link_close(w, a->links[i], a->is_forced);
        break;
    case PR_FLEET_LAUNCH:
        act_launch(w, a);
        break;
    case PR_FLEET_STOP_LAUNCHER:
        launcher_end(w, a->epoch, a->is_forced ? delay(w) : below(w, 10000));
        break;
    case PR_FLEET_KILL_ALL:
        for (size_t i = 0; i < w->n_launched; i++) launcher_end(w, w->launched[i], delay(w));
        break;
    case PR_FLEET_ASK_WORDS:
        come_back(w, (pr_fleet_event){.kind = PR_FLEET_WORDS, .epoch = a->epoch, .text = "words"});
        break;
    case PR_FLEET_COMPLETE:
        act_complete(w, a);
        break;
    case PR_FLEET_CUT:
        act_cut(w, (sim_batch *)a->batch);
        break;
    case PR_FLEET_FAIL:
        check(w, !w->has_failed, "it fails twice");
        w->has_failed = true;
        break;
    case PR_FLEET_CLOSE:
        w->is_closed = true;
        break;
    case PR_FLEET_UP:
    case PR_FLEET_CHANGED:
    case PR_FLEET_LOG:
        break;
    case PR_FLEET_ACTION_COUNT:
        check(w, false, "an action that there is not");
    }
}

/* ---- what holds after every step ---- */

static void group_check(sim *w, const pr_group *g, unsigned *n_seen)
{
    uint32_t n = 0;
    bool has_alone = false;
    for (const pr_flight *f = g->first; f; f = f->next) {
        n_seen[(sim_batch *)f->batch - w->batches]++;
        n++;
        has_alone |= f->batch->n_deaths >= PR_RETRY_DEATHS_MAX;
        check(w, f->batch_seq == g->batch_seq - (g->n_flights - n), "a group's numbers have a gap");
    }
    check(w, n == g->n_flights, "a group's count of batches");
    check(w, !has_alone || n == 1, "a request that must be alone is not");
    check(w, n == 0 || g->state == PR_GROUP_READY, "a batch for a group that is not ready");
    check(w, n <= g->n_stages + 2, "a group has too much in hand");
    for (uint32_t i = 0; i < g->n_ranks; i++) {
        const sim_peer *p = g->ranks[i].link;
        if (p) check(w, p->is_open && p->seat_epoch == g->epoch, "a group has a link that is gone");
    }
}

static void state_check(sim *w)
{
    unsigned n_seen[N_BATCHES_MAX] = {0};
    for (const pr_replica *r = w->s->replicas; r; r = r->next) group_check(w, r->group, n_seen);
    for (const pr_batch *b = w->s->pending; b; b = b->next) {
        n_seen[(const sim_batch *)b - w->batches]++;
    }
    for (size_t i = 0; i < w->n_batches; i++) {
        const sim_batch *b = &w->batches[i];
        bool is_here = b->is_taken && !b->is_gone && !b->is_being_cut;
        check(w, n_seen[i] == (is_here ? 1u : 0u), is_here ? "a batch is lost, or in two places"
                                                           : "a batch is kept that is gone");
    }
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
        trace(w, "event", (int)e.kind, e.epoch, e.rank);
        cut_seen(&e);
        bool has_more = pr_fleet_step(w->s, &e, w->now_ms, &w->actions);
        for (size_t i = 0; i < w->actions.n; i++) act(w, &w->actions.list[i]);
        if (w->n_back == 0) state_check(w);
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
    if (mishap(w, 100)) hello.n_ranks++;
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
        m.reason.status = one_in(w, 4) ? PR_E_NOMEM : PR_E_INTERNAL;
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
            if (is_its && r->group->index < 8) w->n_good[r->group->index]++;
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
    if (w->now_ms < FAULTS_MS) later(w, ITEM_FAULT, below(w, 1500));
    size_t n = w->n_peers < 40 ? w->n_peers : 40; /* the last ones are alive, if any */
    sim_peer *p = n ? &w->peers[w->n_peers - 1 - below(w, n)] : NULL;
    if (!p || !p->is_alive || p->is_hung || w->now_ms >= FAULTS_MS) return;
    w->has_faults = true;
    switch (below(w, 9)) {
    case 0:
        p->is_hung = true;
        break;
    case 8:
        p->is_stuck = true;
        break;
    case 1: /* of a start that is over; dropped */
        if (p->seat_epoch) say(w, p, PR_CONTROL_DONE, 0)->epoch = p->seat_epoch - 1;
        break;
    case 2:
        if (p->seat_epoch) say(w, p, PR_CONTROL_BATCH, 0);
        break;
    case 3:
        if (p->launch_epoch) launcher_end(w, p->launch_epoch, delay(w));
        break;
    default:
        rank_fail(w, p);
    }
}

static void requests_push(sim *w)
{
    if (w->n_pushed < w->n_requests) {
        sim_batch *b = batch_new(w);
        size_t n = 1 + below(w, N_PARTS_MAX);
        for (size_t i = 0; i < n && w->n_pushed < w->n_requests; i++) {
            batch_add(b, &w->requests[w->n_pushed++]);
        }
        w->queue[w->queue_end++] = b;
        later(w, ITEM_PUSH, below(w, w->is_calm ? 500 : 2000));
    }
    turn(w, (pr_fleet_event){.kind = PR_FLEET_NEXT});
}

/* A group that joins by itself, from now on and then. */
static void group_join(sim *w)
{
    char name[32];
    snprintf(name, sizeof name, "g%" PRIu64, w->n_order);
    ranks_make(w, name, 0);
    if (!w->is_stopped) later(w, ITEM_GROUP, 1000 + below(w, 20000));
}

static void deliver(sim *w, const item *it)
{
    sim_peer *p = it->peer;
    switch (it->kind) {
    case ITEM_CONNECT:
        if (!p->is_alive) break;
        p->is_connected = p->is_open = true;
        p->from_ms = w->now_ms;
        on_link(w, p, ITEM_JOIN, delay(w));
        turn(w, (pr_fleet_event){.kind = PR_FLEET_CONNECTED, .link = p});
        break;
    case ITEM_JOIN:
        if (p->is_open && !p->is_hung) join_deliver(w, p);
        break;
    case ITEM_GONE:
        gone_deliver(w, p);
        break;
    case ITEM_TO_RANK:
        rank_take(w, it);
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
    case ITEM_STOP:
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

static sim *sim_make(uint64_t seed, bool is_calm)
{
    sim *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->seed = w->random = seed;
    w->is_calm = is_calm;
    w->now_ms = 1000;
    w->is_tracing = getenv("POOLRANK_SIM_TRACE") != NULL;
    w->is_late = one_in(w, 3);
    w->has_ids = one_in(w, 3);
    w->rules = (pr_fleet_rules){
        .launch = launch_of(seed), .leaves_host = one_in(w, 4),
        .tp_size = 1 + (uint32_t)below(w, 2), .n_stages = 1 + (uint32_t)below(w, 3),
        .n_groups = 1 + (uint32_t)below(w, 3), .hang_timeout_s = 4, .start_timeout_s = 20,
        .hang_ms = 4000, .start_ms = 20000, .ping_ms = 1000, .model_fingerprint = FINGERPRINT,
        .n_columns_max = N_COLUMNS,
    };
    w->n_requests = 8 + (uint32_t)below(w, N_REQUESTS_MAX - 8);
    for (uint32_t i = 0; i < w->n_requests; i++) {
        w->requests[i] = (sim_request){.id = i + 1, .is_poison = one_in(w, 25)};
    }
    assert_int_equal(pr_fleet_state_create(&w->rules, w->now_ms, &w->s, NULL), PR_OK);
    if (w->rules.launch == PR_WORKER_LAUNCH_EXTERNAL) later(w, ITEM_GROUP, 100);
    for (uint32_t i = 0; i < w->rules.n_groups && w->rules.launch == PR_WORKER_LAUNCH_JOB; i++) {
        char name[32];
        snprintf(name, sizeof name, "job/%" PRIu32, i);
        ranks_make(w, name, 0);
    }
    later(w, ITEM_PUSH, 0);
    later(w, ITEM_STOP, FAULTS_MS + 100 * 1000);
    if (!is_calm) later(w, ITEM_FAULT, 3000);
    return w;
}

static void sim_free(sim *w)
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

static void sim_run(sim *w)
{
    unsigned n_steps = 0;
    turn(w, (pr_fleet_event){.kind = PR_FLEET_TICK});
    while (!w->wrong && !w->is_closed) {
        uint64_t due_ms = pr_fleet_due_ms(w->s);
        size_t i = item_next(w);
        bool is_tick = w->n_items == 0 || due_ms <= w->items[i].at_ms;
        uint64_t at_ms = is_tick ? due_ms : w->items[i].at_ms;
        check(w, at_ms < END_MS && ++n_steps < N_STEPS_MAX, "the end does not come");
        if (w->wrong) break;
        if (at_ms > w->now_ms) w->now_ms = at_ms;
        if (is_tick) {
            turn(w, (pr_fleet_event){.kind = PR_FLEET_TICK});
        } else {
            item it = item_take(w, i);
            deliver(w, &it);
        }
    }
    check(w, w->n_pushed == w->n_requests, "the run ended before all was asked");
    check(w, w->n_answered == w->n_requests, "a request is not answered");
    check(w, w->s->n_launchers == 0, "a launcher is left");
}

/* Runs one seed; `verify`: what else must hold at its end. */
static void seed_run(uint64_t seed, bool is_calm, void (*verify)(sim *w))
{
    sim *w = sim_make(seed, is_calm);
    sim_run(w);
    if (!w->wrong && verify) verify(w);
    const char *wrong = w->wrong;
    uint64_t at_ms = w->now_ms;
    sim_free(w);
    if (wrong) {
        fail_msg("seed %" PRIu64 ", at %" PRIu64 " ms: %s (POOLRANK_SIM_SEED=%" PRIu64
                 " POOLRANK_SIM_SEEDS=1 POOLRANK_SIM_TRACE=1 shows how)", seed, at_ms, wrong, seed);
    }
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void seeds_run(bool is_calm, void (*verify)(sim *w))
{
    uint64_t first = number_of("POOLRANK_SIM_SEED", 1);
    uint64_t n = number_of("POOLRANK_SIM_SEEDS", N_SEEDS);
    for (uint64_t i = 0; i < n; i++) seed_run(first + i, is_calm, verify);
}

/* ---- tests ---- */

static void whatever_dies_every_request_is_answered_once(void **state)
{
    (void)state;
    seeds_run(false, NULL);
}

/* Where nothing but the poisoned requests kills ranks, only they fail. */
static void verify_calm(sim *w)
{
    bool is_job = w->rules.launch == PR_WORKER_LAUNCH_JOB;
    for (uint32_t i = 0; i < w->n_requests && !w->has_failed; i++) {
        const sim_request *r = &w->requests[i];
        pr_status due = r->is_poison ? PR_E_INTERNAL : PR_OK;
        bool is_out = r->status == PR_E_UNAVAILABLE &&
                      w->rules.launch == PR_WORKER_LAUNCH_EXTERNAL;
        check(w, r->status == due || is_out, "a request failed because of another's");
    }
    check(w, is_job || !w->has_failed, "the fleet gave up");
}

static void requests_that_kill_ranks_fail_alone(void **state)
{
    (void)state;
    seeds_run(true, verify_calm);
}

/* ---- single steps ---- */

static pr_fleet_state *state_of(pr_worker_launch launch)
{
    const pr_fleet_rules rules = {.launch = launch, .tp_size = 1, .n_stages = 1, .n_groups = 1,
                                  .hang_timeout_s = 4, .start_timeout_s = 20, .hang_ms = 4000,
                                  .start_ms = 20000, .ping_ms = 1000,
                                  .model_fingerprint = FINGERPRINT, .n_columns_max = N_COLUMNS};
    pr_fleet_state *s = NULL;
    assert_int_equal(pr_fleet_state_create(&rules, 1000, &s, NULL), PR_OK);
    return s;
}

/* The actions of an event and of the NEXTs behind it, as far as `out` keeps the last of a kind. */
static void step_all(pr_fleet_state *s, pr_fleet_event e, uint64_t now_ms, pr_fleet_action *out)
{
    static pr_fleet_actions actions;
    for (bool has_more = true; has_more;) {
        has_more = pr_fleet_step(s, &e, now_ms, &actions);
        for (size_t i = 0; i < actions.n; i++) out[actions.list[i].kind] = actions.list[i];
        e = (pr_fleet_event){.kind = PR_FLEET_NEXT};
    }
}

static void rank_of_one_comes(pr_fleet_state *s, void *link, uint64_t epoch, pr_fleet_action *out)
{
    const pr_control_hello hello = {.group = "a", .n_ranks = 1, .host = "h", .pid = 12};
    const pr_control_message ready = {.kind = PR_CONTROL_READY,
                                      .ready = {.epoch = epoch, .model_fingerprint = FINGERPRINT,
                                                .n_slots = 1}};
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_CONNECTED, .link = link}, 1000, out);
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_JOINED, .link = link, .hello = &hello}, 1000,
             out);
    assert_int_equal(out[PR_FLEET_ADMIT].group->epoch, epoch);
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_MESSAGE, .epoch = epoch, .message = &ready}, 1000,
             out);
    assert_non_null(out[PR_FLEET_UP].group);
}

static void leave(pr_fleet_state *s, pr_fleet_action *out)
{
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_DRAINED}, 2000, out);
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_STOP}, 2000, out);
}

static void a_batch_that_cannot_be_packed_is_answered_and_its_number_used_again(void **state)
{
    (void)state;
    pr_fleet_action out[PR_FLEET_ACTION_COUNT] = {0};
    pr_fleet_state *s = state_of(PR_WORKER_LAUNCH_EXTERNAL);
    pr_sequence sequence = {.n_tokens = 1};
    pr_batch_plan plan = {.sequences = &sequence, .n_sequences = 1};
    pr_batch batch = {.plan = &plan, .n_parts = 1};
    int link;
    rank_of_one_comes(s, &link, 1, out);
    assert_true(pr_fleet_wants_batch(s, 1000));
    for (int i = 0; i < 2; i++) {
        step_all(s, (pr_fleet_event){.kind = PR_FLEET_BATCH, .batch = &batch}, 1000, out);
        assert_int_equal(out[PR_FLEET_SEND].message, PR_CONTROL_BATCH);
        assert_int_equal(out[PR_FLEET_SEND].group->batch_seq, 1);
        step_all(s, (pr_fleet_event){.kind = PR_FLEET_UNPACKED, .epoch = 1, .batch = &batch,
                                     .status = PR_E_TOO_LARGE, .text = "too large"}, 1000, out);
        assert_ptr_equal(out[PR_FLEET_COMPLETE].batch, &batch);
        assert_int_equal(out[PR_FLEET_COMPLETE].status, PR_E_TOO_LARGE);
        assert_string_equal(out[PR_FLEET_COMPLETE].text, "too large");
    }
    leave(s, out);
    assert_int_equal(out[PR_FLEET_SEND].message, PR_CONTROL_SHUTDOWN);
    assert_int_not_equal(out[PR_FLEET_CLOSE].kind, PR_FLEET_CLOSE);
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_LINK_ENDED, .epoch = 1, .text = "gone"}, 2100,
             out);
    assert_int_equal(out[PR_FLEET_CLOSE].kind, PR_FLEET_CLOSE);
    pr_fleet_state_free(s);
}

static void what_happens_to_a_start_that_is_over_changes_nothing(void **state)
{
    (void)state;
    pr_fleet_action out[PR_FLEET_ACTION_COUNT] = {0};
    pr_fleet_state *s = state_of(PR_WORKER_LAUNCH_EXTERNAL);
    const pr_control_message failed = {.kind = PR_CONTROL_FAILED,
                                       .reason = {.status = PR_E_INTERNAL}};
    int links[2];
    rank_of_one_comes(s, &links[0], 1, out);
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_LINK_ENDED, .epoch = 1, .text = "gone"}, 1000,
             out);
    assert_non_null(strstr(out[PR_FLEET_LOG].text, "rank 0 (pid 12 on h): gone"));
    rank_of_one_comes(s, &links[1], 2, out);
    pr_fleet_action none[PR_FLEET_ACTION_COUNT] = {0};
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_MESSAGE, .epoch = 1, .message = &failed}, 1000,
             none);
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_UNSENT, .epoch = 1, .text = "full"}, 1000, none);
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_WORDS, .epoch = 1, .text = "?"}, 1000, none);
    for (int i = 0; i < PR_FLEET_ACTION_COUNT; i++) assert_int_equal(none[i].text[0], 0);
    assert_true(pr_fleet_wants_batch(s, 1000));
    leave(s, out);
    step_all(s, (pr_fleet_event){.kind = PR_FLEET_LINK_ENDED, .epoch = 2, .text = "gone"}, 2100,
             out);
    assert_int_equal(out[PR_FLEET_CLOSE].kind, PR_FLEET_CLOSE);
    pr_fleet_state_free(s);
}

static void the_same_events_give_the_same_end(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        sim *a = sim_make(seed, false), *b = sim_make(seed, false);
        sim_run(a);
        sim_run(b);
        assert_null(a->wrong);
        assert_int_equal(a->now_ms, b->now_ms);
        assert_int_equal(a->random, b->random);
        assert_int_equal(a->n_peers, b->n_peers);
        sim_free(a);
        sim_free(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_dies_every_request_is_answered_once),
        cmocka_unit_test(requests_that_kill_ranks_fail_alone),
        cmocka_unit_test(the_same_events_give_the_same_end),
        cmocka_unit_test(a_batch_that_cannot_be_packed_is_answered_and_its_number_used_again),
        cmocka_unit_test(what_happens_to_a_start_that_is_over_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
