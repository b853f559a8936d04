/* server/net/http_bind.h: sockets that listen, by host and port or at a path.
 *
 * A pr_http_bound is plain data in its owner's storage; it owns the socket until it is taken, and
 * the socket's file. Opened before the loop turns; any one thread. */
#ifndef POOLRANK_SERVER_NET_HTTP_BIND_H
#define POOLRANK_SERVER_NET_HTTP_BIND_H

#include "runtime/base/status.h"

#include <sys/types.h>

enum { PR_HTTP_BOUND_MAX = 8 }; /* addresses of one host name */

typedef struct pr_http_bound {
    int fd;     /* listens; -1: taken */
    int port;   /* 0: Unix socket */
    char *path; /* of a Unix socket, owned; NULL: TCP */
    dev_t device; /* of path's file, so that another server's is not removed */
    ino_t inode;
} pr_http_bound;

/* Every address of host, all at one port (0: any that is free on the first). `::` takes IPv4 too.
 * bound: [PR_HTTP_BOUND_MAX], *n of them are filled. what: the option's name, for messages.
 * Fails PR_E_IO (in use, not permitted), PR_E_ARGUMENT (no such host), PR_E_NOMEM. */
pr_status pr_http_bind_tcp(const char *what, const char *host, int port, pr_http_bound *bound,
                           size_t *n, pr_error *err);

/* A Unix socket of that mode. what: the option's name, for messages. The file of a server that is
 * gone is replaced. Fails PR_E_ARGUMENT (path too long, another kind of file), PR_E_IO (a server
 * listens there), PR_E_NOMEM. */
pr_status pr_http_bind_unix(const char *what, const char *path, mode_t mode, pr_http_bound *bound,
                            pr_error *err);

/* Closes the socket unless it was taken, and removes the file if it is still the same. Twice is
 * fine, and so is a zeroed struct with fd -1. */
void pr_http_bound_close(pr_http_bound *bound);

#endif
