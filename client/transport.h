/* client/transport.h: the bytes between a client and a server: TCP, TLS or a Unix socket, blocking
 * with a bound.
 *
 * Owns the socket and the TLS session. One thread at a time. */
#ifndef POOLRANK_CLIENT_TRANSPORT_H
#define POOLRANK_CLIENT_TRANSPORT_H

#include "runtime/base/status.h"

typedef struct pr_transport pr_transport;

/* address, ca_file, timeout_ms: as of pr_client_open. Fails as there. */
pr_status pr_transport_open(const char *address, const char *ca_file, uint32_t timeout_ms,
                            pr_transport **out, pr_error *err);
void pr_transport_close(pr_transport *t); /* NULL is fine */

/* Sends some of src, or receives up to n_dst bytes, whichever is possible first: a server that
 * waits for its answers to be read does not hold up the sender for ever. *n_sent, *n_received: 0
 * where nothing happened. n_src 0: only receives. Fails PR_E_IO (also at the end of the stream),
 * PR_E_TIMEOUT. */
pr_status pr_transport_move(pr_transport *t, const void *src, size_t n_src, size_t *n_sent,
                            void *dst, size_t n_dst, size_t *n_received, pr_error *err);

#endif
