/* tests/unit/coordinator/fakes/fleet_sim.h: a world for the fleet's step: ranks, connections,
 * launchers and a queue that are plain data, in the time of a simulation, with chance from a seed.
 *
 * fleet_sim_world.c has what the actions do to the world, and what must hold after every step;
 * fleet_sim.c has what happens, and when. */
#ifndef POOLRANK_TESTS_FLEET_SIM_H
#define POOLRANK_TESTS_FLEET_SIM_H

#include "coordinator/fleet/fleet_state.h"
#include "coordinator/fleet/fleet_step.h"

enum {
    N_REQUESTS_MAX = 64,
    N_BATCHES_MAX = 2 * N_REQUESTS_MAX,
    N_PARTS_MAX = 4,
    N_PEERS_MAX = 4096,
    N_ITEMS_MAX = 8192,
    N_LAUNCHES_MAX = 2048,
    N_COLUMNS = 2, /* of a result: the request, the epoch that computed it */
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
    struct {
        uint64_t epoch; /* 0: it has ended */
        uint32_t group;
    } launched[N_LAUNCHES_MAX];
    size_t n_launched;
    struct {
        uint64_t n_good;                 /* answers */
        uint64_t start_ms[2], n_good_at[2]; /* of its last two starts, the last one first */
    } groups[8];
    uint64_t up_epochs;
    bool has_ids, is_calm, is_late, is_closed, has_failed, is_drained_told, is_stopped, has_faults;
    bool is_tracing;
    const char *wrong;
} sim;

/* is_calm: nothing goes wrong but what the poisoned requests do. */
sim *sim_make(uint64_t seed, bool is_calm);
void sim_run(sim *w); /* w->wrong: what did not hold; NULL: all did */
void sim_free(sim *w);

/* ---- shared by the two files ---- */

uint64_t sim_below(sim *w, uint64_t n);
bool sim_one_in(sim *w, uint64_t n);
bool sim_mishap(sim *w, uint64_t n); /* something goes wrong, while things do */
uint64_t sim_delay(sim *w);
void sim_check(sim *w, bool holds, const char *what);
void sim_trace(const sim *w, const char *what, int kind, uint64_t epoch, uint32_t rank);

item *sim_later(sim *w, item_kind kind, uint64_t in_ms);
item *sim_on_link(sim *w, sim_peer *p, item_kind kind, uint64_t in_ms);
item *sim_say(sim *w, sim_peer *p, pr_control_kind message, uint64_t in_ms);

void sim_ranks_make(sim *w, const char *group, uint64_t launch_epoch);
void sim_rank_take(sim *w, const item *it);
void sim_rank_fail(sim *w, sim_peer *p);
void sim_launcher_end(sim *w, uint64_t epoch, uint64_t in_ms);
sim_batch *sim_batch_new(sim *w);
void sim_batch_add(sim_batch *b, sim_request *r);

void sim_act(sim *w, pr_fleet_action *a);
void sim_state_check(sim *w);

#endif
