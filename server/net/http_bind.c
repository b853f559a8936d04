#define _GNU_SOURCE
#include "server/net/http_bind.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    BACKLOG = 4096, /* the kernel cuts it to net.core.somaxconn; bursts of connects wait here */
    TRIES_MAX = 16, /* ports that are free on a host's first address and taken on another */
};

/* ---- TCP ---- */

static int port_of(int fd)
{
    struct sockaddr_storage a;
    struct sockaddr_in in; /* the port stands at the same place in both families */
    socklen_t n = sizeof a;
    memset(&a, 0, sizeof a);
    if (getsockname(fd, (struct sockaddr *)&a, &n) != 0) return 0;
    memcpy(&in, &a, sizeof in);
    return ntohs(in.sin_port);
}

static void port_set(struct sockaddr_storage *a, int port)
{
    struct sockaddr_in in;
    memcpy(&in, a, sizeof in);
    in.sin_port = htons((uint16_t)port);
    memcpy(a, &in, sizeof in);
}

static int tcp_listen(const struct addrinfo *at, int port, int *error)
{
    int on = 1, off = 0;
    struct sockaddr_storage a;
    memset(&a, 0, sizeof a);
    memcpy(&a, at->ai_addr, at->ai_addrlen);
    port_set(&a, port);
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        *error = errno;
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (at->ai_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, (struct sockaddr *)&a, at->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) return fd;
    *error = errno;
    close(fd);
    return -1;
}

static void bound_close_all(pr_http_bound *bound, size_t *n)
{
    for (size_t i = 0; i < *n; i++) pr_http_bound_close(&bound[i]);
    *n = 0;
}

/* Listens at every address; all or none. */
static int tcp_listen_all(const struct addrinfo *all, int port, pr_http_bound *bound, size_t *n)
{
    int error = 0;
    *n = 0;
    for (const struct addrinfo *at = all; at && *n < PR_HTTP_BOUND_MAX; at = at->ai_next) {
        if (at->ai_family != AF_INET && at->ai_family != AF_INET6) continue;
        int fd = tcp_listen(at, port, &error);
        /* A name of both families on a host that has only one of them. */
        if (fd < 0 && (error == EAFNOSUPPORT || error == EADDRNOTAVAIL) && (at->ai_next || *n)) {
            continue;
        }
        if (fd < 0) {
            bound_close_all(bound, n);
            return error;
        }
        bound[*n] = (pr_http_bound){.fd = fd, .port = port_of(fd)};
        port = bound[(*n)++].port;
    }
    return *n > 0 ? 0 : error != 0 ? error : EAFNOSUPPORT;
}

pr_status pr_http_bind_tcp(const char *what, const char *host, int port, pr_http_bound *bound,
                           size_t *n, pr_error *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *all = NULL;
    int failure = getaddrinfo(host, "0", &hints, &all);
    if (failure != 0) {
        return pr_error_set(err, failure == EAI_MEMORY ? PR_E_NOMEM : PR_E_ARGUMENT,
                            "%s: host %s: %s", what, host, gai_strerror(failure));
    }
    int error = EADDRINUSE;
    for (int i = 0; error == EADDRINUSE && i < (port == 0 ? TRIES_MAX : 1); i++) {
        error = tcp_listen_all(all, port, bound, n);
    }
    freeaddrinfo(all);
    if (error == 0) return PR_OK;
    return pr_error_set(err, PR_E_IO, "%s: listen on %s, port %d: %s", what, host, port,
                        strerror(error));
}

/* ---- Unix sockets ---- */

/* Whether a server listens at the path; one whose backlog is full does. */
static bool is_somebody_there(const struct sockaddr_un *a)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return true;
    bool is_there =
        connect(fd, (const struct sockaddr *)a, sizeof *a) == 0 || errno != ECONNREFUSED;
    close(fd);
    return is_there;
}

/* Makes room for the socket's file. */
static pr_status unix_clear(const char *what, const struct sockaddr_un *a, pr_error *err)
{
    struct stat st;
    if (lstat(a->sun_path, &st) != 0) return PR_OK; /* bind says what is wrong with its folder */
    if (!S_ISSOCK(st.st_mode)) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "%s: %s: another kind of file is there, expected none or a socket",
                            what, a->sun_path);
    }
    if (is_somebody_there(a)) {
        return pr_error_set(err, PR_E_IO, "%s: %s: a server listens there already", what,
                            a->sun_path);
    }
    if (unlink(a->sun_path) == 0 || errno == ENOENT) return PR_OK;
    return pr_error_errno(err, errno, "%s: %s: remove", what, a->sun_path);
}

static pr_status unix_listen(const char *what, int fd, const struct sockaddr_un *a, mode_t mode,
                             pr_http_bound *out, pr_error *err)
{
    struct stat st;
    if (bind(fd, (const struct sockaddr *)a, sizeof *a) != 0) {
        return pr_error_errno(err, errno, "%s: %s: bind", what, a->sun_path);
    }
    /* Until listen is called nobody can connect, whatever the mode was. */
    if (chmod(a->sun_path, mode) != 0 || lstat(a->sun_path, &st) != 0 || listen(fd, BACKLOG) != 0) {
        int error = errno;
        unlink(a->sun_path);
        return pr_error_errno(err, error, "%s: %s: listen", what, a->sun_path);
    }
    out->device = st.st_dev;
    out->inode = st.st_ino;
    return PR_OK;
}

pr_status pr_http_bind_unix(const char *what, const char *path, mode_t mode, pr_http_bound *bound,
                            pr_error *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    pr_http_bound b = {.fd = -1};
    if (strlen(path) >= sizeof a.sun_path) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "%s: %s: a path of %zu bytes, expected at most %zu", what,
                            path, strlen(path), sizeof a.sun_path - 1);
    }
    memcpy(a.sun_path, path, strlen(path) + 1);
    pr_status st = unix_clear(what, &a, err);
    if (st != PR_OK) return st;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return pr_error_errno(err, errno, "%s: %s: socket", what, path);
    if (!(b.path = strdup(path))) {
        st = pr_error_nomem(err, "path of a socket", strlen(path) + 1);
    } else {
        st = unix_listen(what, fd, &a, mode, &b, err);
    }
    if (st == PR_OK) {
        b.fd = fd;
        *bound = b;
        return PR_OK;
    }
    free(b.path);
    close(fd);
    return st;
}

void pr_http_bound_close(pr_http_bound *bound)
{
    struct stat st;
    if (bound->fd >= 0) close(bound->fd);
    if (bound->path && lstat(bound->path, &st) == 0 && st.st_dev == bound->device &&
        st.st_ino == bound->inode) {
        unlink(bound->path);
    }
    free(bound->path);
    *bound = (pr_http_bound){.fd = -1};
}
