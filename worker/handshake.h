/* worker/handshake.h: both sides of a control connection's beginning, from HELLO to PROOF, as
 * states that take a message and give the answer.
 *
 *     rank                                      coordinator
 *       pr_handshake_join_begin: HELLO    ──►   pr_handshake_host_feed: CHALLENGE or REFUSE
 *       pr_handshake_join_feed: PROOF     ◄──
 *                                         ──►   pr_handshake_host_feed: accepted, or REFUSE
 *
 * The coordinator proves itself first, so that a rank never says more to a stranger than who it is.
 * Pure: nonces are the caller's (pr_nonce_make), fresh for each connection. One thread at a
 * time. */
#ifndef POOLRANK_WORKER_HANDSHAKE_H
#define POOLRANK_WORKER_HANDSHAKE_H

#include "worker/control.h"

typedef enum pr_handshake_state {
    PR_HANDSHAKE_NEW,      /* awaits HELLO; the rank: CHALLENGE */
    PR_HANDSHAKE_ASKED,    /* CHALLENGE was given, awaits PROOF */
    PR_HANDSHAKE_ACCEPTED, /* both sides have the key */
    PR_HANDSHAKE_REFUSED
} pr_handshake_state;

/* The coordinator's side of one connection. */
typedef struct pr_handshake_host {
    const pr_key *key;   /* borrowed until the handshake is over */
    const char *version; /* likewise; what a rank's must equal */
    uint8_t nonce[PR_NONCE_BYTES];
    pr_handshake_state state;
    pr_control_hello hello; /* whose names are trusted once the state is ACCEPTED */
} pr_handshake_host;

void pr_handshake_host_init(pr_handshake_host *h, const pr_key *key, const char *version,
                            const uint8_t nonce[PR_NONCE_BYTES]);

/* Takes a message that came in while the state is NEW or ASKED.
 * PR_OK: *reply is the CHALLENGE (state ASKED), or there is none (*has_reply false) and the rank is
 * accepted. Else *reply is the REFUSE with the same status and reason, to be sent before the
 * connection is closed: PR_E_UNSUPPORTED, PR_E_ARGUMENT as pr_control_hello_check; PR_E_ARGUMENT
 * for another key; PR_E_INPUT for a message out of order. */
pr_status pr_handshake_host_feed(pr_handshake_host *h, const pr_control_message *message,
                                 pr_control_message *reply, bool *has_reply, pr_error *err);

/* The rank's side. */
typedef struct pr_handshake_join {
    const pr_key *key; /* borrowed until the handshake is over */
    pr_control_hello hello;
    pr_handshake_state state; /* ACCEPTED: as far as the rank can know; REFUSE may still come */
} pr_handshake_join;

/* hello: with a fresh nonce; copied. *message is the HELLO to send. */
void pr_handshake_join_begin(pr_handshake_join *h, const pr_key *key,
                             const pr_control_hello *hello, pr_control_message *message);

/* Takes what answers the HELLO. PR_OK: *reply is the PROOF to send. Fails with the coordinator's
 * own status and reason (REFUSE), PR_E_ARGUMENT when its key is another one, PR_E_INPUT for any
 * other message; the connection is then to be closed. */
pr_status pr_handshake_join_feed(pr_handshake_join *h, const pr_control_message *message,
                                 pr_control_message *reply, pr_error *err);

/* What a REFUSE, FAILED or ABORT says, as an error. */
pr_status pr_control_reason_error(const pr_control_message *message, pr_error *err);

#endif
