/* coordinator/fleet/fleet_event.h: what happens to a fleet, and what it then wants done: the input
 * and the output of pr_fleet_step (coordinator/fleet/fleet_step.h).
 *
 *     libuv's callbacks, the queue ─► pr_fleet_event ─┐
 *                                                     ▼
 *                             pr_fleet_step: all policy, no I/O, no clock, no thread
 *                                                     │
 *     sockets, launchers, the queue ◄─ pr_fleet_action┘
 *
 *     fleet.c         the edge: callbacks become events, actions are carried out
 *     fleet_step.c    which event goes where; what is left to do after one
 *     fleet_ranks.c   ranks come, are ready, answer
 *     fleet_groups.c  groups start, are watched, end
 *     fleet_batches.c batches go out and come back
 *     fleet_state.h   the data of all of them
 *
 * Plain data. A start of a group is known by its epoch, which no other start has: what happens to a
 * start that is over is dropped. */
#ifndef POOLRANK_COORDINATOR_FLEET_FLEET_EVENT_H
#define POOLRANK_COORDINATOR_FLEET_FLEET_EVENT_H

#include "coordinator/fleet/group.h"
#include "coordinator/options/config.h"
#include "runtime/base/log.h"

/* What does not change while a fleet runs. */
typedef struct pr_fleet_rules {
    pr_worker_launch launch; /* not AUTO, not INPROC */
    bool leaves_host;        /* ranks may be on other hosts */
    uint32_t tp_size, n_stages;
    uint32_t n_groups;       /* from the start; those of EXTERNAL come by themselves */
    int32_t hang_timeout_s, start_timeout_s; /* as the options say them, for messages */
    uint64_t hang_ms, start_ms, ping_ms;
    uint64_t model_fingerprint;
    uint64_t n_columns_max;  /* of a row of a result */
} pr_fleet_rules;

typedef enum pr_fleet_event_kind {
    PR_FLEET_NEXT,           /* nothing: the last step said that there is more to do */
    PR_FLEET_TICK,           /* it is pr_fleet_due_ms */
    PR_FLEET_CONNECTED,      /* link: somebody connected, and has to prove the key */
    PR_FLEET_JOINED,         /* link, hello: it proved it */
    PR_FLEET_STRANGER_ENDED, /* link, text: it ended before */
    PR_FLEET_MESSAGE,        /* epoch, rank, message */
    PR_FLEET_LINK_ENDED,     /* epoch, rank, text */
    PR_FLEET_UNSENT,         /* epoch, rank, status, text: a send failed, the link is still there.
                                This and the next one come before any other event */
    PR_FLEET_UNPACKED,       /* epoch, status, text: what SEND was to send cannot be made; of a
                                BATCH: batch */
    PR_FLEET_LAUNCH_FAILED,  /* epoch, status, text */
    PR_FLEET_LAUNCHER_ENDED, /* epoch, text: with all that it ran */
    PR_FLEET_WORDS,          /* epoch, text: the answer to ASK_WORDS; "": none */
    PR_FLEET_BATCH,          /* batch: taken from the queue, because pr_fleet_wants_batch */
    PR_FLEET_CUT_UP,         /* batch: the pieces of CUT, linked by next; status not PR_OK: the
                                whole one, which could not be cut */
    PR_FLEET_DRAINED,        /* the queue is closed and empty */
    PR_FLEET_CANCEL,         /* nobody waits for the first group any more */
    PR_FLEET_STOP,           /* leave, when all is answered */
    PR_FLEET_EVENT_COUNT
} pr_fleet_event_kind;

/* All borrowed for the step and for carrying its actions out, but a batch: consumed
 * (of UNPACKED: the group's until then). */
typedef struct pr_fleet_event {
    pr_fleet_event_kind kind;
    uint64_t epoch;
    uint32_t rank;
    void *link; /* whatever the edge knows a connection by; never NULL */
    const pr_control_hello *hello;
    const pr_control_message *message;
    pr_batch *batch;
    pr_status status;
    const char *text;
} pr_fleet_event;

typedef enum pr_fleet_action_kind {
    PR_FLEET_ADMIT,         /* link, group, rank: its events are from now on of the group's epoch
                               and this rank; LOAD is sent to it. Fails: UNSENT */
    PR_FLEET_REFUSE,        /* link, status, text: REFUSE is sent, the link closed */
    PR_FLEET_SEND,          /* group, message, batch (of BATCH): to each rank that is here. Fails:
                               UNSENT for the first that could not get it, UNPACKED */
    PR_FLEET_DISMISS,       /* links, n_links, is_forced: the peers' processes are killed first;
                               epoch, text: what ABORT says, "": no ABORT. The links are gone */
    PR_FLEET_LAUNCH,        /* group. LAUNCH_FAILED or, some day, LAUNCHER_ENDED comes back */
    PR_FLEET_STOP_LAUNCHER, /* epoch, is_forced: SIGKILL to all of it, else SIGTERM */
    PR_FLEET_KILL_ALL,      /* every launcher that has not ended */
    PR_FLEET_ASK_WORDS,     /* epoch: what its launcher said last; WORDS comes back */
    PR_FLEET_COMPLETE,      /* batch (linked by next), status, text; pooled, owned, with PR_OK */
    PR_FLEET_CUT,           /* batch: into its requests; CUT_UP comes back */
    PR_FLEET_UP,            /* group, ms: it is ready, that long after it began to start */
    PR_FLEET_CHANGED,       /* what pr_fleet_view_make shows */
    PR_FLEET_FAIL,          /* status, text: for good */
    PR_FLEET_LOG,           /* level, text; group_name, rank, reason where they are known */
    PR_FLEET_CLOSE,         /* all have left: the last action of all */
    PR_FLEET_ACTION_COUNT
} pr_fleet_action_kind;

enum { PR_FLEET_NO_RANK = UINT32_MAX >> 1 };

/* Borrowed until the next step, where it does not say owned. */
typedef struct pr_fleet_action {
    pr_fleet_action_kind kind;
    const pr_group *group;
    uint64_t epoch;
    uint32_t rank;
    void *link;
    void *const *links;
    size_t n_links;
    pr_control_kind message;
    pr_batch *batch; /* owned: COMPLETE, CUT */
    pr_pooled pooled;
    bool is_forced;
    uint64_t ms;
    pr_status status;
    pr_log_level level;
    const char *group_name, *reason;
    char text[PR_ERROR_BYTES];
} pr_fleet_action;

/* What one step can ask for: it moves one group, or sends one batch. */
enum { PR_FLEET_ACTIONS_MAX = 16 };

typedef struct pr_fleet_actions {
    size_t n;
    pr_fleet_action list[PR_FLEET_ACTIONS_MAX]; /* to be carried out in this order */
} pr_fleet_actions;

#endif
