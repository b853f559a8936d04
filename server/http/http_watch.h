/* server/http/http_watch.h: notices what clients do to their connections, beside libmicrohttpd.
 *
 * libmicrohttpd does not look at a connection that it has suspended, and where a request and the
 * client's FIN come together it misses the FIN: its epoll events are edges, and it stops reading
 * when a read was short. So every connection's socket is in a second epoll instance, for edges of
 *
 *     reset, error, both ends closed      EPOLLERR, EPOLLHUP           the client is gone
 *     a Unix socket that was closed       EPOLLHUP                     the client is gone
 *     the client sends no more            EPOLLRDHUP                   gone, or a half-close?
 *
 * which costs two system calls a connection and none a request.
 *
 * A pr_http_watch owns the epoll instance and its handle on the loop. Loop thread only. */
#ifndef POOLRANK_SERVER_HTTP_HTTP_WATCH_H
#define POOLRANK_SERVER_HTTP_HTTP_WATCH_H

#include "runtime/base/status.h"

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <uv.h>

typedef struct pr_http_watch pr_http_watch;
typedef struct pr_http_watched pr_http_watched;

/* One socket; plain data in its owner's storage. */
struct pr_http_watched {
    /* set by the owner before add */
    int fd;
    /* One of the facts below has become true. Must not end the watch of any socket. */
    void (*changed)(pr_http_watched *watched);
    bool has_ended; /* the client sends no more */
    bool is_gone;   /* it does not read either */
};

pr_status pr_http_watch_open(uv_loop_t *loop, pr_http_watch **out, pr_error *err);
/* Nothing may be watched. Handles of the loop are closed. NULL is fine. */
void pr_http_watch_close(pr_http_watch *watch);

/* False: the kernel has no memory for it. */
bool pr_http_watch_add(pr_http_watch *watch, pr_http_watched *watched);
void pr_http_watch_remove(pr_http_watch *watch, pr_http_watched *watched); /* before it is closed */

/* Asks a client that has ended whether it is there. After close() and after shutdown(SHUT_WR) of a
 * client TCP brings the same FIN. They are told apart by an interim response, "100 Continue", of
 * which a server may send any number and which a client of HTTP/1.1 reads over (RFC 9110, 15.2): a
 * host answers data for a closed socket with a reset, which arrives as EPOLLERR and EPOLLHUP; a
 * client that still reads ignores it. Only while nothing else is being written to the socket.
 * session: NULL without TLS. False: no room in the socket's buffer, ask again later. */
bool pr_http_watch_ask(int fd, gnutls_session_t session);

#endif
