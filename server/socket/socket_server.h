/* server/socket/socket_server.h: the socket protocol (docs/socket-protocol.md) on a libuv loop:
 * TCP, TLS or a Unix socket; pipelined requests, answers as they are ready.
 *
 * Owns the listener, the connections and their calls. Frames are unpacked and packed on the loop
 * thread; what is large on the loop's pool threads. Loop thread only. */
#ifndef POOLRANK_SERVER_SOCKET_SOCKET_SERVER_H
#define POOLRANK_SERVER_SOCKET_SOCKET_SERVER_H

#include "server/service/api_keys.h"
#include "server/service/service.h"

typedef struct pr_socket_server pr_socket_server;

typedef struct pr_socket_server_config {
    uv_loop_t *loop;
    const pr_config *config; /* socket ("tcp://HOST:PORT" | "unix:///PATH"), insecure_socket,
                                ssl_*, limits */
    const pr_log *log;
    pr_service *service;     /* borrowed until close */
    pr_metrics *metrics;     /* borrowed until close */
    const pr_api_keys *keys; /* borrowed; pr_socket_server_reload changes it */
    size_t i_route_first;    /* metrics' indexes of this protocol's kinds of request begin here */
    void (*idle)(void *context); /* loop thread: refusing, and no request is left */
    void *context;
} pr_socket_server_config;

/* Labels for pr_metrics_create ("socket_embed", …), constant. */
const char *const *pr_socket_server_labels(size_t *n);

/* Fails PR_E_ARGUMENT (an address that is none; TCP off loopback without TLS and without
 * --insecure-socket), PR_E_IO, PR_E_NOT_FOUND, PR_E_NOMEM. */
pr_status pr_socket_server_open(const pr_socket_server_config *config, pr_socket_server **out,
                                pr_error *err);
pr_status pr_socket_server_reload(pr_socket_server *server, const pr_api_keys *keys, pr_error *err);
/* As pr_http_server_refuse: new connections and requests are refused "unavailable". */
void pr_socket_server_refuse(pr_socket_server *server);
size_t pr_socket_server_n_requests(const pr_socket_server *server);
int pr_socket_server_port(const pr_socket_server *server); /* 0: no TCP */
void pr_socket_server_close(pr_socket_server *server); /* as pr_http_server_close */

#endif
