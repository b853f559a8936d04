/* server/socket/socket_request.h: one request of the socket protocol, from its frame to its answer.
 *
 *     frame ─ unpack ─► call ─► engine ─► results ─ pack ─► answer
 *                       detokenize: on a pool thread
 *
 * Owns a copy of its frame, its call and its answer. Loop thread; what is large is packed and
 * unpacked on the loop's pool threads. */
#ifndef POOLRANK_SERVER_SOCKET_SOCKET_REQUEST_H
#define POOLRANK_SERVER_SOCKET_SOCKET_REQUEST_H

#include "server/socket/socket_state.h"

/* A request of a kind with items. payload is copied. NULL: no memory. */
pr_socket_request *pr_socket_request_create(pr_socket_connection *connection,
                                            const pr_rpc_head *head, const char *payload, size_t n);
/* Exactly once pr_socket_connection_answer, perhaps from inside; then it is freed. */
void pr_socket_request_begin(pr_socket_request *r);
/* The client does not want it any more: the answer says "cancelled" unless it is there already. */
void pr_socket_request_cancel(pr_socket_request *r);
/* The client is gone: cancelled, and nothing is packed. */
void pr_socket_request_drop(pr_socket_request *r);

size_t pr_socket_request_bytes(const pr_socket_request *r); /* of its frame */

#endif
