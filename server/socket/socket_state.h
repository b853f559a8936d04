/* server/socket/socket_state.h: what the files of the socket protocol's server share: the state of
 * the server that connections and requests use. For server/socket_*.c only. Loop thread. */
#ifndef POOLRANK_SERVER_SOCKET_SOCKET_STATE_H
#define POOLRANK_SERVER_SOCKET_SOCKET_STATE_H

#include "runtime/base/buffer.h"
#include "runtime/wire/rpc.h"
#include "server/net/http_tls.h"
#include "server/socket/socket_server.h"

typedef struct pr_socket_connection pr_socket_connection;
typedef struct pr_socket_request pr_socket_request;

enum {
    PR_SOCKET_READ_BYTES = 64 << 10,
    PR_SOCKET_POOL_BYTES = 256 << 10, /* frames above it are packed and unpacked on pool threads */
    PR_SOCKET_OUT_BYTES_MAX = 4 << 20, /* unsent above it: nothing more is read */
    PR_SOCKET_LINGER_MS = 2000, /* how long a client has to read why it is being closed */
};

typedef struct pr_socket_shared {
    pr_socket_server_config c;
    pr_http_tls *tls; /* NULL: plain */
    bool is_refusing;
    pr_socket_connection *connections; /* all */
    pr_socket_connection *dirty;       /* of them, those that have to be looked at */
    size_t n_connections;
    size_t n_requests; /* open */
    size_t n_unsent;   /* connections with bytes that are not sent */
    bool has_ended_some; /* a request or a connection's last byte, since idle was looked at */
    char read_bytes[PR_SOCKET_READ_BYTES];
} pr_socket_shared;

/* Index of a kind's label, for metrics. */
size_t pr_socket_route(const pr_socket_shared *shared, pr_rpc_kind kind);

#endif
