/* server/socket/socket_stream.h: the bytes of one connection of the socket protocol, plain or
 * through TLS (GnuTLS over the non-blocking socket).
 *
 * Owns the socket and the session. Never blocks: the caller waits for the socket with its loop.
 * Loop thread only. */
#ifndef POOLRANK_SERVER_SOCKET_SOCKET_STREAM_H
#define POOLRANK_SERVER_SOCKET_SOCKET_STREAM_H

#include "server/net/http_tls.h"

#include <stddef.h>
#include <stdint.h>

typedef struct pr_socket_stream pr_socket_stream;

enum {
    PR_SOCKET_AGAIN = -1, /* nothing now: wait for the socket */
    PR_SOCKET_GONE = -2,  /* reset, broken, or cut off without TLS's goodbye */
};

/* fd: non-blocking, consumed on success only. certificates: NULL: plain; else referred to as long
 * as the stream is. Fails PR_E_NOMEM, PR_E_INTERNAL. */
pr_status pr_socket_stream_open(int fd, pr_http_tls *certificates, pr_socket_stream **out,
                                pr_error *err);
/* Closes the socket at once. NULL is fine. */
void pr_socket_stream_close(pr_socket_stream *s);

/* Bytes read, 0 at the end of what the client sends, AGAIN or GONE. n is at least 16 KiB, so that
 * nothing of a record stays behind in the session. */
int64_t pr_socket_stream_read(pr_socket_stream *s, void *dst, size_t n);
/* Bytes taken, AGAIN or GONE. After AGAIN the next write begins with the same bytes. */
int64_t pr_socket_stream_write(pr_socket_stream *s, const void *src, size_t n);
/* Reading waits until the socket can be written to (a handshake). */
bool pr_socket_stream_wants_write(const pr_socket_stream *s);
/* The client is told that no more comes. */
void pr_socket_stream_end(pr_socket_stream *s);

#endif
