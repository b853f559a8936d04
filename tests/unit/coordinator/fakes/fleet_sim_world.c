#include "fleet_sim.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- chance ---- */

/* splitmix64 */
static uint64_t any(sim *w)
{
    uint64_t z = w->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t sim_below(sim *w, uint64_t n)
{
    return any(w) % n;
}

bool sim_one_in(sim *w, uint64_t n)
{
    return sim_below(w, n) == 0;
}

/* Something goes wrong, while things do. */
bool sim_mishap(sim *w, uint64_t n)
{
    return !w->is_calm && w->now_ms < FAULTS_MS && sim_one_in(w, n);
}

void sim_check(sim *w, bool holds, const char *what)
{
    if (!holds && !w->wrong) w->wrong = what;
}

void sim_trace(const sim *w, const char *what, int kind, uint64_t epoch, uint32_t rank)
{
    if (!w->is_tracing) return;
    print_message("%8" PRIu64 " %s %d epoch %" PRIu64 " rank %" PRIu32 "\n", w->now_ms, what, kind,
                  epoch, rank);
}

/* ---- what is on its way ---- */

item *sim_later(sim *w, item_kind kind, uint64_t in_ms)
{
    static item none;
    sim_check(w, w->n_items < N_ITEMS_MAX, "too much is on its way");
    if (w->n_items == N_ITEMS_MAX) return &none;
    item *i = &w->items[w->n_items++];
    *i = (item){.at_ms = w->now_ms + in_ms, .order = w->n_order++, .kind = kind};
    return i;
}

uint64_t sim_delay(sim *w)
{
    return sim_one_in(w, 10) ? sim_below(w, 300) : sim_below(w, 20);
}

/* A connection keeps its order, several do not. */
item *sim_on_link(sim *w, sim_peer *p, item_kind kind, uint64_t in_ms)
{
    uint64_t *last_ms = kind == ITEM_TO_RANK ? &p->to_ms : &p->from_ms;
    item *i = sim_later(w, kind, in_ms);
    if (i->at_ms < *last_ms) i->at_ms = *last_ms;
    *last_ms = i->at_ms;
    i->peer = p;
    return i;
}

item *sim_say(sim *w, sim_peer *p, pr_control_kind message, uint64_t in_ms)
{
    item *i = sim_on_link(w, p, ITEM_FROM_RANK, in_ms);
    i->message = message;
    i->epoch = p->epoch;
    return i;
}

/* ---- ranks ---- */

static void rank_die(sim *w, sim_peer *p)
{
    if (!p->is_alive) return;
    p->is_alive = false;
    if (p->is_connected) sim_on_link(w, p, ITEM_GONE, sim_delay(w));
}

void sim_ranks_make(sim *w, const char *group, uint64_t launch_epoch)
{
    uint32_t n = w->rules.tp_size * w->rules.n_stages;
    for (uint32_t i = 0; i < n && w->n_peers < N_PEERS_MAX; i++) {
        sim_peer *p = &w->peers[w->n_peers++];
        *p = (sim_peer){.is_alive = true, .launch_epoch = launch_epoch, .rank = i};
        snprintf(p->group, sizeof p->group, "%s", group);
        if (sim_mishap(w, 60)) continue; /* never comes */
        sim_later(w, ITEM_CONNECT, 10 + sim_delay(w))->peer = p;
    }
    sim_check(w, w->n_peers < N_PEERS_MAX, "restarts have no end");
}

void sim_launcher_end(sim *w, uint64_t epoch, uint64_t in_ms)
{
    for (size_t i = 0; i < w->n_peers; i++) {
        if (w->peers[i].launch_epoch == epoch && epoch) rank_die(w, &w->peers[i]);
    }
    for (size_t i = 0; i < w->n_launched; i++) {
        if (w->launched[i].epoch != epoch || !epoch) continue;
        w->launched[i].epoch = 0;
        sim_later(w, ITEM_LAUNCHER_ENDED, in_ms)->epoch = epoch;
    }
}

/* mpirun ends a job that lost a rank; the connection's end may be seen first, or the launcher's. */
void sim_rank_fail(sim *w, sim_peer *p)
{
    rank_die(w, p);
    if (p->launch_epoch && !sim_one_in(w, 4)) sim_launcher_end(w, p->launch_epoch, sim_delay(w));
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
    sim_check(w, it->epoch == p->epoch, "a rank got a batch of another epoch");
    sim_check(w, it->batch_seq == p->batch_seq + 1, "a rank saw a gap");
    p->batch_seq = it->batch_seq;
    p->n_steps++;
    if (has_poison(it->batch)) {
        sim_rank_fail(w, p);
        return;
    }
    if (p->rank != (w->rules.n_stages - 1) * w->rules.tp_size) return;
    if (p->is_stuck) return;
    uint64_t ms = sim_one_in(w, 3) ? sim_below(w, 2000) : 5 + sim_delay(w);
    for (int half = 0; half < 2; half++) {
        item *i = sim_say(w, p, PR_CONTROL_RESULT, half == 0 ? ms : 0);
        i->batch = it->batch;
        i->batch_seq = it->batch_seq;
        i->is_first_half = half == 0;
    }
    item *i = sim_say(w, p, PR_CONTROL_DONE, 0);
    i->batch = it->batch;
    i->batch_seq = it->batch_seq;
}

void sim_rank_take(sim *w, const item *it)
{
    sim_peer *p = it->peer;
    if (!p->is_alive || p->is_hung || !p->is_open) return;
    switch (it->message) {
    case PR_CONTROL_LOAD:
        p->epoch = it->epoch;
        p->is_loading = true;
        if (sim_mishap(w, 150)) {
            sim_say(w, p, PR_CONTROL_FAILED, sim_delay(w));
        } else if (!w->has_ids) {
            sim_say(w, p, PR_CONTROL_READY, sim_delay(w));
        } else if (p->rank == 0) {
            sim_say(w, p, PR_CONTROL_COMM_ID, sim_delay(w));
        }
        break;
    case PR_CONTROL_COMM_ID:
        sim_check(w, w->has_ids && !p->is_told_id, "a rank got an id that it does not wait for");
        p->is_told_id = true;
        sim_say(w, p, PR_CONTROL_READY, sim_delay(w));
        break;
    case PR_CONTROL_BATCH:
        rank_compute(w, p, it);
        break;
    case PR_CONTROL_PING:
        sim_say(w, p, PR_CONTROL_PONG, sim_delay(w))->batch_seq = it->batch_seq;
        break;
    case PR_CONTROL_SHUTDOWN:
        rank_die(w, p);
        if (p->launch_epoch) sim_launcher_end(w, p->launch_epoch, sim_delay(w));
        break;
    default:
        sim_check(w, false, "a message for ranks that there is not");
    }
}

/* ---- the edge: actions ---- */

static void answer(sim *w, sim_batch *b, const pr_fleet_action *a, size_t n_linked)
{
    sim_check(w, b->is_taken && !b->is_gone, "a batch is answered that is not here");
    sim_check(w, n_linked == 1 || a->status != PR_OK, "one result for several batches");
    b->is_gone = true;
    for (size_t i = 0; i < b->b.n_parts; i++) {
        sim_request *r = (sim_request *)b->parts[i].job;
        sim_check(w, r->n_answers++ == 0, "a request is answered twice");
        r->status = a->status;
        w->n_answered++;
        if (a->status != PR_OK) continue;
        const float *row = a->pooled.data + a->pooled.rows[i].offset;
        sim_check(w, row[0] == (float)r->id, "a request got another's result");
        sim_check(w, row[1] == (float)b->epoch, "a result of a start that does not have the batch");
        sim_check(w, !r->is_poison, "a result that nobody can have computed");
    }
    if (a->status == PR_E_INTERNAL) {
        sim_check(w, b->b.n_deaths == 3 && b->b.n_parts == 1, "given up early");
    }
    if (a->status == PR_E_UNAVAILABLE) {
        sim_check(w, w->has_failed || w->now_ms - w->s->down_ms >= w->rules.start_ms,
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
        sim_later(w, ITEM_LATE, sim_delay(w))->late = e;
        return;
    }
    assert_true(w->n_back < sizeof w->back / sizeof *w->back);
    w->back[w->n_back++] = e;
}

static void act_send(sim *w, const pr_fleet_action *a)
{
    const pr_group *g = a->group;
    sim_batch *b = (sim_batch *)a->batch;
    if (a->message == PR_CONTROL_SHUTDOWN) {
        sim_check(w, w->is_stopped && w->n_answered == w->n_requests,
                  "ranks are sent away while there is work");
    } else if (sim_mishap(w, 400)) {
        come_back(w, (pr_fleet_event){.kind = PR_FLEET_UNPACKED, .epoch = g->epoch,
                                      .batch = a->batch, .status = PR_E_TOO_LARGE, .text = "no"});
        return;
    }
    if (b) b->epoch = g->epoch;
    for (uint32_t i = 0; i < g->n_ranks; i++) {
        sim_peer *p = g->ranks[i].link;
        if (!p) continue;
        sim_check(w, p->is_open && p->seat_epoch == g->epoch, "a message to a link that is gone");
        if (sim_mishap(w, 1000)) {
            come_back(w, (pr_fleet_event){.kind = PR_FLEET_UNSENT, .epoch = g->epoch, .rank = i,
                                          .status = PR_E_TOO_LARGE, .text = "full"});
            return;
        }
        item *it = sim_on_link(w, p, ITEM_TO_RANK, sim_delay(w));
        it->message = a->message;
        it->epoch = g->epoch;
        it->batch = b;
        it->batch_seq = a->message == PR_CONTROL_PING ? g->ping_id : g->batch_seq;
    }
}

static void act_admit(sim *w, const pr_fleet_action *a)
{
    sim_peer *p = a->link;
    sim_check(w, p->is_open && p->seat_epoch == 0, "a link gets a second seat");
    p->seat_epoch = a->group->epoch;
    item *it = sim_on_link(w, p, ITEM_TO_RANK, sim_delay(w));
    it->message = PR_CONTROL_LOAD;
    it->epoch = a->group->epoch;
}

/* The coordinator closes a connection: nothing is heard of it any more. */
static void link_close(sim *w, sim_peer *p, bool is_killed)
{
    sim_check(w, p->is_open, "a link is closed twice");
    p->is_open = false;
    if (!is_killed && p->is_hung) return;
    p->is_alive = false;
}

/* A group that starts for the third time without an answer between has waited. */
static void start_note(sim *w, uint32_t i)
{
    bool is_third = w->groups[i].start_ms[1] > 0;
    bool has_answered = w->groups[i].n_good != w->groups[i].n_good_at[1];
    sim_check(w, !is_third || has_answered || w->now_ms - w->groups[i].start_ms[0] >= 500,
          "restarts without a pause");
    w->groups[i].start_ms[1] = w->groups[i].start_ms[0];
    w->groups[i].n_good_at[1] = w->groups[i].n_good_at[0];
    w->groups[i].start_ms[0] = w->now_ms;
    w->groups[i].n_good_at[0] = w->groups[i].n_good;
}

static void act_launch(sim *w, const pr_fleet_action *a)
{
    const pr_group *g = a->group;
    sim_check(w, g->epoch > w->up_epochs, "an epoch is not new");
    w->up_epochs = g->epoch;
    start_note(w, g->index);
    if (sim_mishap(w, 25)) {
        come_back(w, (pr_fleet_event){.kind = PR_FLEET_LAUNCH_FAILED, .epoch = g->epoch,
                                      .status = PR_E_IO, .text = "fork"});
        return;
    }
    sim_check(w, w->n_launched < N_LAUNCHES_MAX, "restarts have no end");
    if (w->n_launched == N_LAUNCHES_MAX) return;
    for (size_t i = 0; i < w->n_launched; i++) {
        sim_check(w, w->launched[i].epoch == 0 || w->launched[i].group != g->index,
              "a group has two launchers");
    }
    w->launched[w->n_launched].epoch = g->epoch;
    w->launched[w->n_launched++].group = g->index;
    sim_ranks_make(w, g->name, g->epoch);
    if (sim_mishap(w, 25)) sim_launcher_end(w, g->epoch, sim_delay(w)); /* dies at once */
}

sim_batch *sim_batch_new(sim *w)
{
    assert_true(w->n_batches < N_BATCHES_MAX);
    sim_batch *b = &w->batches[w->n_batches++];
    b->plan.sequences = b->sequences;
    b->b.plan = &b->plan;
    b->b.parts = b->parts;
    return b;
}

void sim_batch_add(sim_batch *b, sim_request *r)
{
    b->sequences[b->b.n_parts].n_tokens = 1;
    b->parts[b->b.n_parts++].job = (pr_job *)r;
    b->plan.n_sequences = (uint32_t)b->b.n_parts;
}

static void act_cut(sim *w, sim_batch *b)
{
    pr_batch *first = NULL, **last = &first;
    sim_check(w, b->is_taken && !b->is_gone && b->b.n_parts > 1, "a batch is cut that is not here");
    if (sim_mishap(w, 10)) {
        b->is_being_cut = true;
        come_back(w, (pr_fleet_event){.kind = PR_FLEET_CUT_UP, .batch = &b->b,
                                      .status = PR_E_NOMEM, .text = "no memory"});
        return;
    }
    b->is_gone = true;
    for (size_t i = 0; i < b->b.n_parts; i++) {
        sim_batch *piece = sim_batch_new(w);
        sim_batch_add(piece, (sim_request *)b->parts[i].job);
        piece->b.n_deaths = b->b.n_deaths;
        piece->is_taken = piece->is_being_cut = true;
        *last = &piece->b;
        last = &piece->b.next;
    }
    come_back(w, (pr_fleet_event){.kind = PR_FLEET_CUT_UP, .batch = first});
}

void sim_act(sim *w, pr_fleet_action *a)
{
    sim_trace(w, "     action", (int)a->kind, a->group ? a->group->epoch : a->epoch, a->rank);
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
        sim_launcher_end(w, a->epoch, a->is_forced ? sim_delay(w) : sim_below(w, 10000));
        break;
    case PR_FLEET_KILL_ALL:
        for (size_t i = 0; i < w->n_launched; i++) {
            sim_launcher_end(w, w->launched[i].epoch, sim_delay(w));
        }
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
        sim_check(w, !w->has_failed, "it fails twice");
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
        sim_check(w, false, "an action that there is not");
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
        sim_check(w, f->batch_seq == g->batch_seq - (g->n_flights - n),
                  "a group's numbers have a gap");
    }
    sim_check(w, n == g->n_flights, "a group's count of batches");
    sim_check(w, !has_alone || n == 1, "a request that must be alone is not");
    sim_check(w, n == 0 || g->state == PR_GROUP_READY, "a batch for a group that is not ready");
    sim_check(w, n <= g->n_stages + 2, "a group has too much in hand");
    for (uint32_t i = 0; i < g->n_ranks; i++) {
        const sim_peer *p = g->ranks[i].link;
        if (!p) continue;
        sim_check(w, p->is_open && p->seat_epoch == g->epoch, "a group has a link that is gone");
    }
}

void sim_state_check(sim *w)
{
    unsigned n_seen[N_BATCHES_MAX] = {0};
    for (const pr_replica *r = w->s->replicas; r; r = r->next) group_check(w, r->group, n_seen);
    for (const pr_batch *b = w->s->pending; b; b = b->next) {
        n_seen[(const sim_batch *)b - w->batches]++;
    }
    for (size_t i = 0; i < w->n_batches; i++) {
        const sim_batch *b = &w->batches[i];
        bool is_here = b->is_taken && !b->is_gone && !b->is_being_cut;
        sim_check(w, n_seen[i] == (is_here ? 1u : 0u), is_here ? "a batch is lost, or in two places"
                                                           : "a batch is kept that is gone");
    }
}
