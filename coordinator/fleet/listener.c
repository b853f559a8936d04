#define _GNU_SOURCE
#include "coordinator/fleet/listener.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct pr_listener {
    int fd;
    bool is_unix;
    char *path; /* of the socket's file; NULL: none to remove */
    char connect[PR_LISTENER_NAME_BYTES + 16];
};

/* ---- parsing ---- */

static pr_status parse_fail(const char *text, pr_error *err)
{
    return pr_error_set(err, PR_E_ARGUMENT,
                        "ctrl-interface: found %s, expected an interface or an address, with or "
                        "without :PORT (of IPv6: [ADDRESS]:PORT), or unix:PATH",
                        text);
}

static bool port_parse(const char *text, uint16_t *out)
{
    size_t n = strlen(text);
    unsigned long port = n >= 1 && n <= 5 ? strtoul(text, NULL, 10) : 0;
    if (strspn(text, "0123456789") != n || port < 1 || port > UINT16_MAX) return false;
    *out = (uint16_t)port;
    return true;
}

static bool name_copy(pr_listen_at *at, const char *text, size_t n)
{
    if (n >= sizeof at->name) return false;
    memcpy(at->name, text, n);
    at->name[n] = '\0';
    return true;
}

pr_status pr_listen_parse(const char *text, pr_listen_at *out, pr_error *err)
{
    pr_listen_at at = {0};
    const char *name = text, *port = NULL;
    size_t n = strlen(text);
    if (strncmp(text, "unix:", 5) == 0) {
        at.is_unix = true;
        name += 5;
        n -= 5;
        if (n == 0) return parse_fail(text, err);
    } else if (text[0] == '[') {
        const char *end = strchr(text, ']');
        if (!end || (end[1] && end[1] != ':')) return parse_fail(text, err);
        name++;
        n = (size_t)(end - name);
        if (end[1]) port = end + 2;
    } else if (strchr(text, ':') && strchr(text, ':') == strrchr(text, ':')) {
        n = strcspn(text, ":");
        port = text + n + 1;
    }
    if (port && !port_parse(port, &at.port)) return parse_fail(text, err);
    if ((n == 0 && !port) || !name_copy(&at, name, n)) return parse_fail(text, err);
    *out = at;
    return PR_OK;
}

/* ---- TCP ---- */

typedef struct address {
    struct sockaddr_storage storage;
    socklen_t n;
} address;

static bool address_set(address *a, const struct sockaddr *from, uint16_t port)
{
    memset(a, 0, sizeof *a);
    if (from && from->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, from, sizeof in);
        in.sin_port = htons(port);
        memcpy(&a->storage, &in, a->n = sizeof in);
        return true;
    }
    if (from && from->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, from, sizeof in6);
        in6.sin6_port = htons(port);
        memcpy(&a->storage, &in6, a->n = sizeof in6);
        return true;
    }
    return false;
}

/* How well an address of an interface serves: IPv4 before IPv6, none that needs a scope. */
static int address_rank(const struct sockaddr *a)
{
    if (!a) return 0;
    if (a->sa_family == AF_INET) return 2;
    if (a->sa_family != AF_INET6) return 0;
    struct sockaddr_in6 in6;
    memcpy(&in6, a, sizeof in6);
    return IN6_IS_ADDR_LINKLOCAL(&in6.sin6_addr) ? 0 : 1;
}

/* The best address of an interface; name NULL: of the first that is up and no loopback. */
static bool interface_find(const char *name, uint16_t port, address *out)
{
    struct ifaddrs *all = NULL;
    const struct ifaddrs *best = NULL;
    if (getifaddrs(&all) != 0) return false;
    for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
        bool is_asked = name ? strcmp(i->ifa_name, name) == 0
                             : (i->ifa_flags & IFF_UP) && !(i->ifa_flags & IFF_LOOPBACK);
        if (!is_asked || address_rank(i->ifa_addr) == 0) continue;
        if (!best || address_rank(i->ifa_addr) > address_rank(best->ifa_addr)) best = i;
    }
    bool is_found = best && address_set(out, best->ifa_addr, port);
    freeifaddrs(all);
    return is_found;
}

static bool numeric_parse(const char *name, uint16_t port, address *out)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    if (getaddrinfo(name, NULL, &hints, &found) != 0) return false;
    bool ok = address_set(out, found->ai_addr, port);
    freeaddrinfo(found);
    return ok;
}

/* "tcp:HOST:PORT" of the address that ranks are told. */
static bool connect_print(pr_listener *l, const address *told, uint16_t port)
{
    char host[NI_MAXHOST];
    const struct sockaddr *a = (const struct sockaddr *)&told->storage;
    if (getnameinfo(a, told->n, host, sizeof host, NULL, 0, NI_NUMERICHOST) != 0) return false;
    bool is_v6 = a->sa_family == AF_INET6;
    snprintf(l->connect, sizeof l->connect, is_v6 ? "tcp:[%s]:%u" : "tcp:%s:%u", host, port);
    return true;
}

static uint16_t port_of(int fd)
{
    address a = {.n = sizeof a.storage};
    if (getsockname(fd, (struct sockaddr *)&a.storage, &a.n) != 0) return 0;
    struct sockaddr_in in; /* the port stands at the same place in both */
    memcpy(&in, &a.storage, sizeof in);
    return ntohs(in.sin_port);
}

static pr_status tcp_bind(pr_listener *l, const address *at, const char *what, pr_error *err)
{
    int on = 1, off = 0;
    l->fd = socket(at->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (l->fd < 0) return pr_error_errno(err, errno, "ctrl-interface %s: socket", what);
    setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (at->storage.ss_family == AF_INET6) {
        setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    }
    if (bind(l->fd, (const struct sockaddr *)&at->storage, at->n) == 0) return PR_OK;
    return pr_error_errno(err, errno, "ctrl-interface %s: bind", what);
}

/* Ranks are told one address: of the first interface, where all of them are listened at. */
static pr_status tcp_open(pr_listener *l, const pr_listen_at *at, pr_error *err)
{
    const struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = INADDR_ANY};
    address bound, told;
    bool is_every = at->name[0] == '\0';
    if (is_every) {
        address_set(&bound, (const struct sockaddr *)&any, at->port);
        if (!interface_find(NULL, 0, &told)) interface_find("lo", 0, &told);
    } else if (!numeric_parse(at->name, at->port, &bound) &&
               !interface_find(at->name, at->port, &bound)) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "ctrl-interface: found %s, which is no address and no interface of "
                            "this host that has one", at->name);
    } else {
        told = bound;
    }
    pr_status st = tcp_bind(l, &bound, is_every ? "(every interface)" : at->name, err);
    if (st != PR_OK) return st;
    if (connect_print(l, &told, port_of(l->fd))) return PR_OK;
    return pr_error_set(err, PR_E_IO, "ctrl-interface %s: no address to tell to ranks", at->name);
}

/* ---- Unix sockets ---- */

static bool is_somebody_there(const struct sockaddr_un *a)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return true;
    bool is_there =
        connect(fd, (const struct sockaddr *)a, sizeof *a) == 0 || errno != ECONNREFUSED;
    close(fd);
    return is_there;
}

static pr_status unix_open(pr_listener *l, const char *path, pr_error *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct stat st;
    if (strlen(path) >= sizeof a.sun_path) {
        return pr_error_set(err, PR_E_ARGUMENT, "%s: a socket's path of %zu bytes, expected at "
                            "most %zu", path, strlen(path), sizeof a.sun_path - 1);
    }
    memcpy(a.sun_path, path, strlen(path) + 1);
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (l->fd < 0) return pr_error_errno(err, errno, "%s: socket", path);
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) && !is_somebody_there(&a)) unlink(path);
    if (bind(l->fd, (const struct sockaddr *)&a, sizeof a) != 0) {
        return pr_error_errno(err, errno, "%s: bind", path);
    }
    l->path = strdup(path);
    /* Until listen is called nobody can connect, whatever the mode was. */
    if (!l->path || chmod(path, 0600) != 0) return pr_error_errno(err, errno, "%s: chmod", path);
    snprintf(l->connect, sizeof l->connect, "unix:%s", path);
    return PR_OK;
}

/* ---- open and close ---- */

pr_status pr_listener_open(const pr_listen_at *at, pr_listener **out, pr_error *err)
{
    pr_listener *l = calloc(1, sizeof *l);
    if (!l) return pr_error_nomem(err, "listener", sizeof *l);
    l->fd = -1;
    l->is_unix = at->is_unix;
    pr_status st = at->is_unix ? unix_open(l, at->name, err) : tcp_open(l, at, err);
    if (st != PR_OK) {
        pr_listener_close(l);
        return st;
    }
    *out = l;
    return PR_OK;
}

void pr_listener_close(pr_listener *l)
{
    if (!l) return;
    if (l->fd >= 0) close(l->fd);
    if (l->path) unlink(l->path);
    free(l->path);
    free(l);
}

int pr_listener_fd_take(pr_listener *l)
{
    int fd = l->fd;
    assert(fd >= 0);
    l->fd = -1;
    return fd;
}

bool pr_listener_is_unix(const pr_listener *l)
{
    return l->is_unix;
}

const char *pr_listener_connect(const pr_listener *l)
{
    return l->connect;
}
