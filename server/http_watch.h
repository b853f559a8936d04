/* server/http_watch.h: notices clients that leave while their request is being served.
 *
 * libmicrohttpd does not look at a connection that it has suspended. So its socket is watched here:
 *
 *     reset, error, both ends closed      EPOLLERR, EPOLLHUP           the client is gone
 *     a Unix socket that was closed       EPOLLHUP                     the client is gone
 *     the client sends no more            EPOLLRDHUP                   gone, or a half-close?
 *
 * After close() and after shutdown(SHUT_WR) of a client TCP brings the same FIN. They are told apart
 * by an interim response, "HTTP/1.1 100 Continue", of which a server may send any number and which a
 * client must read over (RFC 9110, 15.2): a host answers data for a closed socket with a reset, which
 * arrives as EPOLLERR and EPOLLHUP; a client that still reads ignores it. Sent once, only to clients
 * of HTTP/1.1; an older one is then held to be gone.
 *
 * A pr_http_watch owns an epoll instance and a timer on the loop. Loop thread only. */
#ifndef POOLRANK_SERVER_HTTP_WATCH_H
#define POOLRANK_SERVER_HTTP_WATCH_H

#include "runtime/base/status.h"

#include <gnutls/gnutls.h>
#include <uv.h>

typedef struct pr_http_watch pr_http_watch;
typedef struct pr_http_watched pr_http_watched;

/* One socket; plain data in its owner's storage. */
struct pr_http_watched {
    /* set by the owner before add */
    int fd;
    bool is_unix;             /* a half-close is seen as such */
    bool takes_interim;       /* HTTP/1.1 */
    gnutls_session_t session; /* NULL: no TLS */
    /* The client has left: at most once, never from inside add. The socket is not watched any more. */
    void (*gone)(pr_http_watched *watched);
    /* the watch's own */
    pr_http_watched *next, *prev;
    uint64_t since_ms;
    int state;
};

pr_status pr_http_watch_open(uv_loop_t *loop, pr_http_watch **out, pr_error *err);
/* Nothing may be watched. Handles of the loop are closed. NULL is fine. */
void pr_http_watch_close(pr_http_watch *watch);

/* Most requests are answered before it is worth a system call to look at their sockets: that begins
 * after PR_HTTP_WATCH_DELAY_MS. What happened before is seen then. */
enum { PR_HTTP_WATCH_DELAY_MS = 50 };
void pr_http_watch_add(pr_http_watch *watch, pr_http_watched *watched);
void pr_http_watch_remove(pr_http_watch *watch, pr_http_watched *watched); /* not watched: fine */

#endif
