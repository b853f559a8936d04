/* coordinator/fleet/fleet_state.h: what a fleet knows: its groups, who connects, which batches
 * wait.
 *
 * Owns the groups and, between the events that bring them and the actions that give them back, the
 * batches. The inside of coordinator/fleet/fleet_step.h, for the files that make it up. */
#ifndef POOLRANK_COORDINATOR_FLEET_FLEET_STATE_H
#define POOLRANK_COORDINATOR_FLEET_FLEET_STATE_H

#include "coordinator/fleet/fleet_event.h"

enum {
    PR_FLEET_STRANGERS_MAX = 256, /* connections that have not proved the key */
    PR_FLEET_GROUPS_MAX = 1024    /* of those that join by themselves */
};

/* A replica group with its place in the fleet. */
typedef struct pr_replica {
    pr_group *group;
    bool has_launcher;     /* one of ours runs its ranks */
    uint32_t n_starts, n_failures; /* in all; in a row */
    uint64_t since_ms;     /* of the state that it is in */
    uint64_t retry_ms;     /* when it starts again */
    uint64_t asked_ms;     /* when it was asked last */
    uint64_t doomed_ms;    /* when it is ended, with the words that came until then; 0: no */
    bool is_asked_words;   /* and they are on their way */
    pr_error doom;
    struct pr_replica *next;
} pr_replica;

typedef enum pr_fleet_phase {
    PR_FLEET_RUNNING,
    PR_FLEET_LEAVING, /* SHUTDOWN was sent */
    PR_FLEET_CLOSED
} pr_fleet_phase;

/* What is being done to one group after the other. */
typedef enum pr_fleet_round { PR_FLEET_WATCH, PR_FLEET_SEND_AWAY, PR_FLEET_END } pr_fleet_round;

typedef struct pr_fleet_state {
    pr_fleet_rules rules;
    pr_fleet_phase phase;
    pr_replica *replicas;
    uint32_t n_replicas;  /* ever made: the next one's index */
    uint32_t n_launchers; /* that have not ended */
    uint64_t n_epochs;
    void *strangers[PR_FLEET_STRANGERS_MAX];
    uint32_t n_strangers;
    void **dismissed;     /* [n_ranks]: links of a DISMISS */
    void *refused;        /* the same of one stranger */
    pr_replica *turn;     /* whose turn it is in the round; NULL: it is over */
    pr_fleet_round round;
    pr_batch *pending;    /* taken, in no group's hands; linked by `next` */
    uint32_t n_cut;       /* batches that are being cut up */
    bool is_drained;      /* no batch will come */
    bool is_stopping;
    bool was_up;          /* a group has been ready */
    bool is_over;         /* nothing is run any more, because of `error` */
    pr_error error;
    uint64_t due_ms;      /* of the next TICK */
    uint64_t down_ms;     /* since when no group is ready; 0: one is */
    uint64_t leave_ms;    /* when SHUTDOWN was sent */
    char last_reason[PR_ERROR_BYTES]; /* why the last group ended */
} pr_fleet_state;

/* The next of the actions, zero but for its kind. */
pr_fleet_action *pr_fleet_want(pr_fleet_actions *out, pr_fleet_action_kind kind);
void pr_fleet_want_log(pr_fleet_actions *out, pr_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Adds a group to the end. Fails PR_E_NOMEM. */
pr_status pr_fleet_replica_add(pr_fleet_state *s, pr_replica **out, pr_error *err);
/* Frees those that have ended and do not come back. */
void pr_fleet_replicas_sweep(pr_fleet_state *s);
void pr_fleet_replicas_free(pr_fleet_state *s);

/* Not IDLE; NULL: none. */
pr_replica *pr_fleet_replica_of(const pr_fleet_state *s, uint64_t epoch);
pr_replica *pr_fleet_replica_named(const pr_fleet_state *s, const char *name);

/* IDLE → STARTING under this name, with an epoch of its own. */
void pr_fleet_replica_start(pr_fleet_state *s, pr_replica *r, const char *name, uint64_t now_ms);

/* Begins a round; one that is not over is left. */
void pr_fleet_round_begin(pr_fleet_state *s, pr_fleet_round round);

/* The next TICK comes in at most so many ms. */
void pr_fleet_tick_within(pr_fleet_state *s, uint64_t now_ms, uint64_t ms);

/* How many groups are ready has changed, or something else that is shown. */
void pr_fleet_changed(pr_fleet_state *s, uint64_t now_ms, pr_fleet_actions *out);

bool pr_fleet_is_launching(const pr_fleet_state *s); /* the mode is one that launches */

/* Nothing is run any more; the first reason stays. */
void pr_fleet_fail(pr_fleet_state *s, pr_status st, const char *message, pr_fleet_actions *out);

#endif
