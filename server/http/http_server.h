/* server/http/http_server.h: HTTP/1.1 by libmicrohttpd inside a libuv loop: listeners, limits,
 * keys, and exchanges on their way (server/http/http_exchange.h).
 *
 * Owns the listeners, the connections and the exchanges. Parsing and formatting of what is large
 * happens on the loop's pool threads. Loop thread only. */
#ifndef POOLRANK_SERVER_HTTP_HTTP_SERVER_H
#define POOLRANK_SERVER_HTTP_HTTP_SERVER_H

#include "server/service/api_keys.h"
#include "server/service/service.h"

typedef struct pr_http_server pr_http_server;

typedef struct pr_http_server_config {
    uv_loop_t *loop;
    const pr_config *config;  /* host, port, uds, port_file, metrics_port, ssl_*, limits, CORS */
    const pr_log *log;
    pr_service *service;      /* borrowed until close */
    pr_metrics *metrics;      /* borrowed until close */
    const pr_api_keys *keys;  /* borrowed; pr_http_server_reload changes it */
    int socket_port;          /* of the socket protocol, for the port file; 0: it has none */
    /* Loop thread: draining, and no exchange is left. */
    void (*idle)(void *context);
    void *context;
} pr_http_server_config;

/* Listens: TCP on host:port and/or the Unix socket of --uds, and /metrics on its own port. Writes
 * --port-file (JSON: {"port": 8000, "metrics_port": 9000, "socket_port": 8001, "uds": null},
 * renamed into place) once all listen. Fails PR_E_IO (address in use, with which), PR_E_ARGUMENT
 * (certificate and key do not fit, a socket's path that is too long or another kind of file),
 * PR_E_NOT_FOUND, PR_E_NOMEM. */
pr_status pr_http_server_open(const pr_http_server_config *config, pr_http_server **out,
                              pr_error *err);

/* New keys, and certificates read anew: open connections stay. On failure all is as before. */
pr_status pr_http_server_reload(pr_http_server *server, const pr_api_keys *keys, pr_error *err);

/* Takes no new connections and no new requests: what comes on open connections is answered 503 with
 * Connection: close (health routes say "draining"); idle connections are closed. */
void pr_http_server_refuse(pr_http_server *server);
size_t pr_http_server_n_exchanges(const pr_http_server *server);

int pr_http_server_port(const pr_http_server *server); /* 0: no TCP */

/* No exchange may be open. Handles of the loop are closed: run it once more before it is closed.
 * Removes the Unix socket and the port file. NULL is fine. */
void pr_http_server_close(pr_http_server *server);

#endif
