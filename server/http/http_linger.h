/* server/http/http_linger.h: sockets whose connection has ended with an answer while the client was
 * still sending.
 *
 * Closing a socket that has bytes unread sends a reset, and the reset takes the answer from a
 * client that has not read it yet: one that is refused for the length of its body would see a
 * broken connection. So libmicrohttpd closes its descriptor, and a second one for the same socket
 * is kept here, and read empty, until the client has closed too or the bounds are reached.
 *
 * A pr_http_linger owns those descriptors and their handles on the loop. Loop thread only. */
#ifndef POOLRANK_SERVER_HTTP_HTTP_LINGER_H
#define POOLRANK_SERVER_HTTP_HTTP_LINGER_H

#include <uv.h>

enum {
    PR_HTTP_LINGER_SOCKETS_MAX = 64, /* more are closed as they are */
    PR_HTTP_LINGER_MS = 10000,
    PR_HTTP_LINGER_BYTES_MAX = 256 << 20
};

typedef struct pr_http_linger pr_http_linger;

pr_http_linger *pr_http_linger_open(uv_loop_t *loop); /* NULL: no memory */
/* fd: borrowed; duplicated. Best effort. */
void pr_http_linger_add(pr_http_linger *linger, int fd);
void pr_http_linger_sweep(pr_http_linger *linger);  /* now and then */
void pr_http_linger_close(pr_http_linger *linger); /* handles are closed; NULL is fine */

#endif
