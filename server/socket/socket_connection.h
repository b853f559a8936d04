/* server/socket/socket_connection.h: one client of the socket protocol: its bytes, frames and open
 * requests.
 *
 *     accepted ─► greeted ─► … requests, answers … ─► the client sends no more ─► answered: closed
 *                   │ a frame that is none, a key that is wrong, time: an error frame, then closed
 *                   └ the client is gone: its calls are cancelled
 *
 * Owns the socket, what is unsent, and its requests. Reading stops while much is unsent or much has
 * been read that is not answered. Loop thread only. */
#ifndef POOLRANK_SERVER_SOCKET_SOCKET_CONNECTION_H
#define POOLRANK_SERVER_SOCKET_SOCKET_CONNECTION_H

#include "server/socket/socket_state.h"

/* fd: non-blocking, consumed. is_tcp: it has TCP's options. */
void pr_socket_connection_open(pr_socket_shared *shared, int fd, bool is_tcp);
/* As if the client were gone. It is freed once its requests are back and the loop has turned. */
void pr_socket_connection_drop(pr_socket_connection *c);
/* Reads, writes and ends what can be. */
void pr_socket_connection_turn(pr_socket_connection *c);
/* Ends it if one of its times has passed. */
void pr_socket_connection_sweep(pr_socket_connection *c);
pr_socket_connection *pr_socket_connection_next(const pr_socket_connection *c);
/* Takes one off the list of those to be looked at; NULL: none. */
pr_socket_connection *pr_socket_connection_dirty_take(pr_socket_shared *shared);

/* ---- for requests ---- */

/* A request has come to its end, and is freed behind this. frame: its answer, consumed; empty: none
 * (nobody waits for it). n_payload: as it was added with. */
void pr_socket_connection_answer(pr_socket_connection *c, pr_socket_request *request,
                                 pr_buffer *frame);
pr_socket_shared *pr_socket_connection_shared(pr_socket_connection *c);
const char *pr_socket_connection_key_name(const pr_socket_connection *c);

#endif
