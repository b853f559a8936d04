/* coordinator/fleet/group.h: one replica group as the coordinator sees it: which ranks are there,
 * how far they are, which batches they have in hand, what came back of them.
 *
 *     IDLE ─► STARTING ─► LOADING ─► READY ─► IDLE (dead: waits for its next start)
 *             ranks connect  all are here  all have loaded
 *
 * A pr_group owns its tables and the results that are coming in; connections and processes are the
 * fleet's, batches the queue's. No clock, no I/O. Loop thread only. */
#ifndef POOLRANK_COORDINATOR_FLEET_GROUP_H
#define POOLRANK_COORDINATOR_FLEET_GROUP_H

#include "coordinator/queue/batch_queue.h"
#include "coordinator/fleet/retry.h"
#include "worker/control.h"

typedef enum pr_group_state {
    PR_GROUP_IDLE,
    PR_GROUP_STARTING,
    PR_GROUP_LOADING,
    PR_GROUP_READY,
    PR_GROUP_STATE_COUNT
} pr_group_state;

const char *pr_group_state_name(pr_group_state state); /* "ready"; constant */

typedef struct pr_group_rank {
    void *link; /* the fleet's; NULL: not here */
    char host[PR_CONTROL_NAME_BYTES];
    int64_t pid;
    bool is_ready;
    pr_control_ready ready;
} pr_group_rank;

/* A batch in the ranks' hands. */
typedef struct pr_flight {
    pr_batch *batch;
    uint64_t batch_seq;
    float *data; /* of its result so far, owned */
    size_t n_bytes, n_bytes_max;
    struct pr_flight *next;
} pr_flight;

typedef struct pr_group {
    uint32_t index; /* in messages */
    char name[PR_CONTROL_NAME_BYTES];
    pr_group_state state;
    uint64_t epoch;
    uint32_t tp_size, n_stages, n_ranks;
    pr_group_rank *ranks; /* [n_ranks] */
    pr_rank_life *lives;  /* [n_ranks] */
    uint32_t n_joined, n_ready;
    uint64_t batch_seq;   /* the last that was sent */
    pr_flight *first, *last;
    uint32_t n_flights;
    bool has_answered;    /* a batch, since this start */
    bool has_comm_id, is_comm_id_sent; /* since this start */
    pr_control_comm_id comm_id;
    uint64_t ping_id;     /* the last that was sent */
} pr_group;

/* Fails PR_E_NOMEM. */
pr_status pr_group_create(uint32_t index, uint32_t tp_size, uint32_t n_stages, pr_group **out,
                          pr_error *err);
void pr_group_free(pr_group *g); /* has no flights; NULL is fine */

/* IDLE → STARTING, under a name and an epoch that no earlier start had. */
void pr_group_start(pr_group *g, const char *name, uint64_t epoch);
/* Any → IDLE: nobody is here. Takes its batches out, oldest first, linked by `next`, each with one
 * death more; NULL: it had none. */
pr_batch *pr_group_end(pr_group *g);

/* Whether a rank's job has as many ranks as a group. Fails PR_E_ARGUMENT with both numbers. */
pr_status pr_group_size_check(const pr_control_hello *hello, uint32_t tp_size, uint32_t n_stages,
                              pr_error *err);

/* A rank that proved the key. Fails PR_E_ARGUMENT: n_ranks is not tp_size * n_stages (both
 * numbers), the rank is here already; PR_E_UNAVAILABLE: the group does not start just now. */
pr_status pr_group_join(pr_group *g, const pr_control_hello *hello, void *link, uint64_t now_ms,
                        pr_error *err);
/* A rank has loaded; *is_ready: it was the last. Fails PR_E_INTERNAL (another epoch, twice),
 * PR_E_MODEL: another model than the coordinator's. */
pr_status pr_group_rank_ready(pr_group *g, uint32_t rank, const pr_control_ready *ready,
                              uint64_t model_fingerprint, bool *is_ready, pr_error *err);

/* Keeps what rank 0 made for all of them. Fails PR_E_INTERNAL: another rank's, a second one, one
 * of another epoch, one after READY. */
pr_status pr_group_comm_id_keep(pr_group *g, uint32_t rank, const pr_control_comm_id *id,
                                pr_error *err);
/* True once a start: when it is there and all ranks are; it is then to be sent to each. */
bool pr_group_comm_id_is_due(pr_group *g);

uint32_t pr_group_pooling_rank(const pr_group *g);

/* Whether a batch may be given to it now; n_deaths: of that batch. */
bool pr_group_has_room(const pr_group *g, uint32_t n_deaths);
/* Notes a batch that is about to be sent; batch_seq is then its number. bytes_max: of its result.
 * Fails PR_E_NOMEM. */
pr_status pr_group_flight_add(pr_group *g, pr_batch *batch, size_t bytes_max, uint64_t now_ms,
                              pr_error *err);

/* The batch that was noted last was not sent to anybody: its number is free again. Returns it. */
pr_batch *pr_group_flight_cancel(pr_group *g);

/* A part of a result, from the pooling rank only. Fails PR_E_INTERNAL: another rank, a batch that
 * is not its oldest, a gap, more than the batch can have. Another epoch: dropped. */
pr_status pr_group_result(pr_group *g, uint32_t rank, const pr_control_result *result,
                          pr_error *err);
/* The result is whole: *pooled owned by the caller (pr_pooled_deinit), *batch no longer the
 * group's. Fails likewise, and when shapes and bytes do not agree; PR_E_NOMEM. */
pr_status pr_group_done(pr_group *g, uint32_t rank, const pr_control_done *done, uint64_t now_ms,
                        pr_batch **batch, pr_pooled *pooled, pr_error *err);

/* Signs of life. */
void pr_group_asked(pr_group *g, uint64_t now_ms);
void pr_group_pong(pr_group *g, uint32_t rank, const pr_control_ping *pong, uint64_t now_ms);
bool pr_group_is_busy(const pr_group *g); /* loading, or batches in hand */

#endif
