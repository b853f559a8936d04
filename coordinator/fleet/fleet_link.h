/* coordinator/fleet/fleet_link.h: one rank's connection to the coordinator: who it is, proved,
 * then whole messages in both directions.
 *
 * A pr_link owns its socket, what was received and not taken, and what waits to be sent. Before the
 * peer has proved the key it may send few bytes for a short time. Used by the fleet, on its loop
 * thread only. */
#ifndef POOLRANK_COORDINATOR_FLEET_FLEET_LINK_H
#define POOLRANK_COORDINATOR_FLEET_FLEET_LINK_H

#include "worker/control.h"

#include <uv.h>

typedef struct pr_link pr_link;

/* A frame that goes to several ranks; freed when the last of them has it. */
typedef struct pr_link_frame pr_link_frame;

pr_status pr_link_frame_create(const pr_control_message *message, pr_link_frame **out,
                               pr_error *err);
void pr_link_frame_release(pr_link_frame *frame); /* the creator's hold; NULL is fine */

/* All borrowed while links live. The callbacks come from the loop, not from inside a call on the
 * link; they may close the link. */
typedef struct pr_link_config {
    uv_loop_t *loop;
    const pr_key *key;
    const char *version; /* another version's hello is refused */
    bool is_unix;        /* then the peer must be this user's */
    /* The peer has proved the key. */
    void (*joined)(void *context, pr_link *link, const pr_control_hello *hello);
    /* From an authenticated peer; message borrowed for the call. */
    void (*message)(void *context, pr_link *link, pr_control_message *message);
    /* The link ended by itself: once, and the link is gone afterwards. Not after finish. */
    void (*ended)(void *context, pr_link *link, const char *reason);
    void *context;
} pr_link_config;

/* Takes a connection of `server` (uv_accept). Fails PR_E_IO; PR_E_NOMEM: it still waits at the
 * server, which is deaf until it is taken; PR_E_ARGUMENT: another user's process. */
pr_status pr_link_accept(uv_stream_t *server, const pr_link_config *config, pr_link **out,
                         pr_error *err);

/* Queues a frame. Fails PR_E_TOO_LARGE when too much waits already, PR_E_IO, PR_E_NOMEM: the peer
 * must then be given up. A send that fails later ends the link. */
pr_status pr_link_send_frame(pr_link *l, pr_link_frame *frame, pr_error *err);
pr_status pr_link_send(pr_link *l, const pr_control_message *message, pr_error *err);

/* Ends the link with a last message (REFUSE, ABORT) or, NULL, at once; the link is gone for the
 * caller. */
void pr_link_finish(pr_link *l, const pr_control_message *last);

/* SIGKILL to the peer, if it is a process of this host that is known for sure. */
void pr_link_kill(pr_link *l);

/* Whose it is, for its owner: the epoch of a group's start, 0 as long as it is a stranger's, and
 * the rank. */
void pr_link_seat_set(pr_link *l, uint64_t epoch, uint32_t rank);
uint64_t pr_link_seat(const pr_link *l, uint32_t *rank);

#endif
