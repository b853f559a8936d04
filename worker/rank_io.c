#define _GNU_SOURCE
#include "worker/rank_io.h"

#include "runtime/base/clock.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    READ_BYTES = 64 * 1024,
    WAIT_MS_MIN = 20,
    WAIT_MS_MAX = 1000,
    KEEPALIVE_SECONDS = 20, /* of silence, before a peer is asked whether it is there */
    KEEPALIVE_PROBES = 4,
    UNACKNOWLEDGED_MS = 60000
};

/* ---- addresses ---- */

static pr_status address_fail(const char *text, pr_error *err)
{
    return pr_error_set(err, PR_E_ARGUMENT, "found %.200s, expected unix:PATH or tcp:HOST:PORT",
                        text);
}

/* The port behind the last colon: 1 to 65535. */
static bool port_parse(const char *text, char *out, size_t out_bytes)
{
    size_t n = strlen(text);
    if (n == 0 || n > 5 || strspn(text, "0123456789") != n) return false;
    long port = 0;
    for (const char *p = text; *p; p++) port = port * 10 + (*p - '0');
    if (port < 1 || port > 65535) return false;
    snprintf(out, out_bytes, "%ld", port);
    return true;
}

pr_status pr_rank_address_parse(const char *text, pr_rank_address *out, pr_error *err)
{
    pr_rank_address a = {0};
    if (strncmp(text, "unix:", 5) == 0) {
        struct sockaddr_un un;
        size_t n = strlen(text + 5);
        if (n == 0) return address_fail(text, err);
        if (n >= sizeof un.sun_path) {
            return pr_error_set(err, PR_E_ARGUMENT,
                                "found %.200s, expected a path of less than %zu bytes", text,
                                sizeof un.sun_path);
        }
        a.is_unix = true;
        memcpy(a.host, text + 5, n);
        *out = a;
        return PR_OK;
    }
    const char *colon = strrchr(text, ':');
    if (strncmp(text, "tcp:", 4) != 0 || colon < text + 5) return address_fail(text, err);
    const char *host = text + 4;
    size_t n = (size_t)(colon - host);
    if (host[0] == '[') {
        if (n < 3 || host[n - 1] != ']') return address_fail(text, err);
        host++;
        n -= 2;
    }
    if (n >= sizeof a.host || !port_parse(colon + 1, a.port, sizeof a.port)) {
        return address_fail(text, err);
    }
    memcpy(a.host, host, n);
    *out = a;
    return PR_OK;
}

/* ---- connecting ---- */

static void sleep_ms(int64_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* Small messages go out at once; a coordinator whose host is gone is noticed. Best effort. */
static void tcp_prepare(int fd)
{
    const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_SECONDS},
        {IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_SECONDS / 2},
        {IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        setsockopt(fd, options[i].level, options[i].name, &options[i].value,
                   sizeof options[i].value);
    }
}

/* The end of a connect that may take a while: 0, or why it did not come about. */
static int connect_await(int fd, int64_t until_ms)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        int64_t left = until_ms - pr_clock_ms();
        int rc = poll(&p, 1, left > 0 ? (int)left : 0);
        if (rc < 0 && errno == EINTR) continue;
        if (rc < 0) return errno;
        if (rc == 0) return ETIMEDOUT;
        int error = 0;
        socklen_t n = sizeof error;
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0) return errno;
        return error;
    }
}

/* One try: a blocking socket in *fd and 0, or an errno. */
static int try_address(int family, const struct sockaddr *to, socklen_t n, int64_t until_ms,
                       int *fd)
{
    int s = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s < 0) return errno;
    int error = 0;
    if (connect(s, to, n) != 0) {
        error = errno == EINPROGRESS || errno == EINTR ? connect_await(s, until_ms) : errno;
    }
    int block = 0;
    if (error == 0 && ioctl(s, FIONBIO, &block) != 0) error = errno;
    if (error != 0) {
        close(s);
        return error;
    }
    if (family != AF_UNIX) tcp_prepare(s);
    *fd = s;
    return 0;
}

static int try_unix(const pr_rank_address *a, int64_t until_ms, int *fd)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    memcpy(un.sun_path, a->host, strlen(a->host));
    return try_address(AF_UNIX, (const struct sockaddr *)&un, sizeof un, until_ms, fd);
}

/* All addresses of a host, in the resolver's order. *no_host: gai's words, when it is for good. */
static int try_tcp(const pr_rank_address *a, int64_t until_ms, int *fd, const char **no_host)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(a->host, a->port, &hints, &found);
    if (rc == EAI_AGAIN) return EHOSTUNREACH;
    if (rc != 0) {
        *no_host = gai_strerror(rc);
        return EHOSTUNREACH;
    }
    int error = EHOSTUNREACH;
    for (const struct addrinfo *i = found; i && error != 0; i = i->ai_next) {
        error = try_address(i->ai_family, i->ai_addr, i->ai_addrlen, until_ms, fd);
    }
    freeaddrinfo(found);
    return error;
}

pr_status pr_rank_connect(const pr_rank_address *a, int timeout_ms, int *fd, pr_error *err)
{
    int64_t begin_ms = pr_clock_ms();
    int64_t until_ms = begin_ms + timeout_ms;
    int64_t wait_ms = WAIT_MS_MIN;
    for (;;) {
        const char *no_host = NULL;
        int error = a->is_unix ? try_unix(a, until_ms, fd) : try_tcp(a, until_ms, fd, &no_host);
        if (error == 0) return PR_OK;
        if (no_host) {
            return pr_error_set(err, PR_E_ARGUMENT, "host %s: %s", a->host, no_host);
        }
        if (pr_clock_ms() + wait_ms >= until_ms || error == EACCES || error == EPERM) {
            return pr_error_set(err, PR_E_UNAVAILABLE,
                                "connect to the coordinator at %s%s%s for %.1f s: %s", a->host,
                                a->is_unix ? "" : " port ", a->port,
                                (double)(pr_clock_ms() - begin_ms) / 1e3, strerror(error));
        }
        sleep_ms(wait_ms);
        wait_ms = wait_ms * 2 < WAIT_MS_MAX ? wait_ms * 2 : WAIT_MS_MAX;
    }
}

/* ---- reading and writing ---- */

pr_status pr_rank_write(int fd, const void *data, size_t n, pr_error *err)
{
    const char *p = data;
    while (n > 0) {
        ssize_t wrote = send(fd, p, n, MSG_NOSIGNAL);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) {
            pr_error_errno(err, errno, "write to the coordinator");
            return PR_E_IO;
        }
        p += wrote;
        n -= (size_t)wrote;
    }
    return PR_OK;
}

static pr_status read_await(int fd, int timeout_ms, pr_error *err)
{
    int64_t until_ms = pr_clock_ms() + timeout_ms;
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left = until_ms - pr_clock_ms();
        int rc = poll(&p, 1, left > 0 ? (int)left : 0);
        if (rc > 0) return PR_OK;
        if (rc == 0) {
            return pr_error_set(err, PR_E_TIMEOUT, "no answer from the coordinator for %d ms",
                                timeout_ms);
        }
        if (errno != EINTR) return pr_error_errno(err, errno, "wait for the coordinator");
    }
}

pr_status pr_rank_read(int fd, int timeout_ms, pr_frame_reader *reader, size_t *n, pr_error *err)
{
    char bytes[READ_BYTES];
    if (timeout_ms >= 0) {
        pr_status st = read_await(fd, timeout_ms, err);
        if (st != PR_OK) return st;
    }
    ssize_t got;
    do {
        got = recv(fd, bytes, sizeof bytes, 0);
    } while (got < 0 && errno == EINTR);
    if (got < 0) return pr_error_errno(err, errno, "read from the coordinator");
    *n = (size_t)got;
    return got > 0 ? pr_frame_reader_feed(reader, bytes, (size_t)got, err) : PR_OK;
}
