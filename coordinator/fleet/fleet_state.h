/* coordinator/fleet/fleet_state.h: what a pr_fleet is made of, shared by the files that move it:
 * fleet.c (start, stop, the loop), fleet_groups.c (groups come, go and are watched) and
 * fleet_batches.c (batches go out and come back).
 *
 * Everything belongs to the loop thread, but what stands below `lock`. */
#ifndef POOLRANK_COORDINATOR_FLEET_FLEET_STATE_H
#define POOLRANK_COORDINATOR_FLEET_FLEET_STATE_H

#include "coordinator/fleet/fleet.h"
#include "coordinator/fleet/fleet_link.h"
#include "coordinator/fleet/fleet_process.h"
#include "coordinator/fleet/group.h"
#include "coordinator/fleet/listener.h"
#include "coordinator/fleet/run_folder.h"

#include <pthread.h>

enum {
    PR_FLEET_STRANGERS_MAX = 256, /* connections that have not proved the key */
    PR_FLEET_GROUPS_MAX = 1024    /* of those that join by themselves */
};

typedef struct pr_replica pr_replica;

/* A launcher that was started, until it was reaped. */
typedef struct pr_launched {
    pr_fleet *fleet;
    pr_process *process;
    pr_replica *replica; /* whose ranks it runs; NULL: given up */
    char *folder;        /* of what it leaves behind; NULL: none. Owned */
    struct pr_launched *next;
} pr_launched;

/* A replica group with its place in the fleet. */
struct pr_replica {
    pr_fleet *fleet;
    pr_group *group;
    pr_launched *launched; /* NULL: not launched by us, or not now */
    uint32_t n_starts, n_failures; /* in all; in a row */
    uint64_t since_ms;     /* of the state that it is in */
    uint64_t retry_ms;     /* when it starts again */
    uint64_t asked_ms;     /* when it was asked last */
    uint64_t doomed_ms;    /* when it is ended, with the words that came until then; 0: no */
    pr_error doom;
    pr_replica *next;
};

typedef enum pr_fleet_phase {
    PR_FLEET_RUNNING,
    PR_FLEET_LEAVING, /* SHUTDOWN was sent */
    PR_FLEET_CLOSED
} pr_fleet_phase;

struct pr_fleet {
    pr_fleet_config c;
    uint32_t tp_size, n_stages;
    uint64_t hang_ms, start_ms, ping_ms;
    pr_run_folder *folder;
    pr_listener *listener;
    char *key_file;
    pr_key key;
    char *launcher, *program; /* paths; NULL: nothing is launched */
    char *guard;              /* pr_launch.guard; may be NULL */
    bool leaves_host;
    uint64_t model_fingerprint;

    uv_loop_t loop;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_pipe_t pipe;
        uv_tcp_t tcp;
    } server;
    uv_async_t news;
    uv_timer_t tick;
    pr_link_config link_config;
    pr_fleet_phase phase;
    pr_replica *replicas;
    pr_launched *launched;
    pr_link *strangers[PR_FLEET_STRANGERS_MAX];
    uint32_t n_strangers;
    uint32_t n_replicas;  /* ever made: the next one's index */
    uint64_t n_epochs;
    pr_batch *pending;    /* taken, in no group's hands; linked by `next` */
    uint64_t down_ms;     /* since when no group is ready */
    uint64_t leave_ms;    /* when SHUTDOWN was sent */
    bool was_up;          /* a group has been ready */
    bool is_over;         /* nothing is run any more, because of `error` */
    char last_reason[PR_ERROR_BYTES]; /* why the last group ended */

    pthread_t thread;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    bool is_up, has_failed, is_cancelled, is_stopping;
    pr_error error;
    pr_worker_info info;
    char backend[PR_CONTROL_NAME_BYTES]; /* of info */
    pr_fleet_groups_now groups;
    pr_fleet_rank *ranks; /* [n_ranks] of the groups that are ready */
    size_t n_ranks;
};

/* ---- fleet.c ---- */

/* Await fails, and so does every batch from now on. The first reason stays. */
void pr_fleet_fail(pr_fleet *f, pr_status st, const char *message);
/* The tick comes in at most so many ms. */
void pr_fleet_tick_within(pr_fleet *f, uint64_t ms);

#endif
