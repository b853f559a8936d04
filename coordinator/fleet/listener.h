/* coordinator/fleet/listener.h: where the coordinator listens for ranks, and the address that they
 * are told.
 *
 * A pr_listener owns the listening socket, until it is taken, and the socket's file. Opened by the
 * thread that starts the fleet. */
#ifndef POOLRANK_COORDINATOR_FLEET_LISTENER_H
#define POOLRANK_COORDINATOR_FLEET_LISTENER_H

#include "runtime/base/status.h"

#include <stdint.h>

enum { PR_LISTENER_NAME_BYTES = 256 };

/* What a --ctrl-interface means. */
typedef struct pr_listen_at {
    bool is_unix;
    char name[PR_LISTENER_NAME_BYTES]; /* path; or an interface or address; "": every interface */
    uint16_t port;                     /* 0: any free one */
} pr_listen_at;

/* "unix:PATH", "eth0", "eth0:4000", "10.0.0.1", "10.0.0.1:4000", "fd00::1", "[fd00::1]:4000",
 * ":4000". Pure. Fails PR_E_ARGUMENT with what was found and expected. */
pr_status pr_listen_parse(const char *text, pr_listen_at *out, pr_error *err);

typedef struct pr_listener pr_listener;

/* Binds; nothing can connect until somebody calls listen. Unix: mode 0600; a socket's file that
 * nobody listens at any more is replaced. Fails PR_E_ARGUMENT (no such interface or address, a path
 * that is too long), PR_E_IO (in use, not permitted). */
pr_status pr_listener_open(const pr_listen_at *at, pr_listener **out, pr_error *err);
void pr_listener_close(pr_listener *l); /* NULL is fine */

int pr_listener_fd_take(pr_listener *l);            /* now the caller's; once */
bool pr_listener_is_unix(const pr_listener *l);
const char *pr_listener_connect(const pr_listener *l); /* "unix:PATH", "tcp:HOST:PORT" */

#endif
