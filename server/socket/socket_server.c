#include "server/socket/socket_server.h"

#include "server/net/http_bind.h"
#include "server/socket/socket_connection.h"
#include "server/socket/socket_state.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    HOST_BYTES = 256,
    ACCEPTS_MAX = 64,   /* of a turn of the loop */
    PAUSE_MS = 100,     /* without accepting, once no descriptor was left */
    SWEEP_MS = 500,     /* how often times are looked at */
    HANDLES_OF_ITS_OWN = 3,
};

typedef struct listener {
    pr_socket_server *server;
    pr_http_bound bound;
    uv_poll_t poll;
} listener;

struct pr_socket_server {
    pr_socket_shared shared;
    bool is_tcp;
    int port;
    listener listeners[PR_HTTP_BOUND_MAX];
    size_t n_listeners;
    uv_prepare_t prepare; /* answers of one turn of the loop are sent together, before it sleeps */
    uv_timer_t sweep, pause;
    size_t n_handles; /* still to be closed */
};

/* ---- labels ---- */

static const char *const labels[] = {"socket_embed",    "socket_classify", "socket_score",
                                     "socket_reward",   "socket_encode",   "socket_tokenize",
                                     "socket_detokenize", "socket_other"};

const char *const *pr_socket_server_labels(size_t *n)
{
    *n = sizeof labels / sizeof *labels;
    return labels;
}

size_t pr_socket_route(const pr_socket_shared *shared, pr_rpc_kind kind)
{
    size_t n_labels = sizeof labels / sizeof *labels;
    static_assert(PR_RPC_DETOKENIZE - PR_RPC_EMBED + 2 == sizeof labels / sizeof *labels,
                  "one label per kind with items, and one for the others");
    size_t i = pr_rpc_kind_has_items(kind) ? (size_t)(kind - PR_RPC_EMBED) : n_labels - 1;
    return shared->c.i_route_first + i;
}

/* ---- addresses ---- */

/* "HOST:PORT", the host of IPv6 in brackets. */
static pr_status tcp_parse(const char *address, char host[HOST_BYTES], int *port, pr_error *err)
{
    char *end = NULL;
    const char *colon = strrchr(address, ':');
    size_t n_host = colon ? (size_t)(colon - address) : 0;
    bool is_bracketed = n_host > 2 && address[0] == '[' && colon[-1] == ']';
    if (is_bracketed) {
        address++;
        n_host -= 2;
    }
    errno = 0;
    long n = colon && colon[1] >= '0' && colon[1] <= '9' ? strtol(colon + 1, &end, 10) : -1;
    bool is_right = n_host > 0 && n_host < HOST_BYTES && n >= 0 && n <= 65535 && *end == '\0' &&
                    (is_bracketed || !memchr(address, ':', n_host));
    if (!is_right) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "socket: found another form, expected tcp://HOST:PORT (IPv6: "
                            "tcp://[::1]:PORT) or unix:///PATH");
    }
    memcpy(host, address, n_host);
    host[n_host] = '\0';
    *port = (int)n;
    return PR_OK;
}

static bool is_loopback(int fd)
{
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    memset(&a, 0, sizeof a);
    if (getsockname(fd, (struct sockaddr *)&a, &n) != 0) return false;
    if (a.ss_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, &a, sizeof in);
        return ntohl(in.sin_addr.s_addr) >> 24 == 127;
    }
    struct sockaddr_in6 in6;
    memcpy(&in6, &a, sizeof in6);
    return IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr);
}

/* ---- listening ---- */

static pr_status tcp_open(pr_socket_server *s, const char *address, pr_error *err)
{
    char host[HOST_BYTES];
    int port = 0;
    pr_http_bound bound[PR_HTTP_BOUND_MAX];
    const pr_config *config = s->shared.c.config;
    pr_status st = tcp_parse(address, host, &port, err);
    if (st == PR_OK) st = pr_http_bind_tcp("socket", host, port, bound, &s->n_listeners, err);
    if (st != PR_OK) return st;
    s->is_tcp = true;
    s->port = bound[0].port;
    for (size_t i = 0; i < s->n_listeners; i++) s->listeners[i].bound = bound[i];
    if (s->shared.tls || config->insecure_socket) return PR_OK;
    for (size_t i = 0; i < s->n_listeners; i++) { /* nobody has been let in yet */
        if (is_loopback(bound[i].fd)) continue;
        return pr_error_set(err, PR_E_ARGUMENT,
                            "socket: %s is not a loopback address: texts and keys would cross the "
                            "network in the clear; expected --ssl-certfile and --ssl-keyfile, or "
                            "--insecure-socket",
                            host);
    }
    return PR_OK;
}

static pr_status unix_open(pr_socket_server *s, const char *path, pr_error *err)
{
    pr_status st = pr_http_bind_unix("socket", path, 0600, &s->listeners[0].bound, err);
    if (st == PR_OK) s->n_listeners = 1;
    return st;
}

static pr_status address_open(pr_socket_server *s, pr_error *err)
{
    static const char tcp[] = "tcp://", file[] = "unix://";
    const char *address = s->shared.c.config->socket;
    assert(address);
    if (strncmp(address, file, sizeof file - 1) == 0 && address[sizeof file - 1] == '/') {
        return unix_open(s, address + sizeof file - 1, err);
    }
    bool is_tcp = strncmp(address, tcp, sizeof tcp - 1) == 0;
    return tcp_open(s, is_tcp ? address + sizeof tcp - 1 : "", err);
}

static void listeners_free(pr_socket_server *s)
{
    for (size_t i = 0; i < s->n_listeners; i++) pr_http_bound_close(&s->listeners[i].bound);
}

/* ---- accepting ---- */

static void on_listener(uv_poll_t *poll, int status, int events);

static void listeners_poll(pr_socket_server *s, bool is_on)
{
    for (size_t i = 0; i < s->n_listeners; i++) {
        if (is_on) {
            uv_poll_start(&s->listeners[i].poll, UV_READABLE, on_listener);
        } else {
            uv_poll_stop(&s->listeners[i].poll);
        }
    }
}

static void on_pause_end(uv_timer_t *timer)
{
    listeners_poll(timer->data, true);
}

static void on_sweep(uv_timer_t *timer)
{
    pr_socket_server *s = timer->data;
    for (pr_socket_connection *c = s->shared.connections, *next; c; c = next) {
        next = pr_socket_connection_next(c);
        pr_socket_connection_sweep(c);
    }
    if (s->shared.n_connections == 0) uv_timer_stop(timer);
}

static int accept_one(int fd)
{
    int client = accept(fd, NULL, NULL);
    if (client >= 0 && fcntl(client, F_SETFD, FD_CLOEXEC) != 0) {
        close(client);
        return -1;
    }
    return client;
}

static void on_listener(uv_poll_t *poll, int status, int events)
{
    listener *l = poll->data;
    pr_socket_server *s = l->server;
    (void)events;
    for (int i = 0; i < ACCEPTS_MAX && status == 0; i++) {
        int fd = accept_one(l->bound.fd);
        if (fd >= 0 && s->shared.n_connections >= (size_t)s->shared.c.config->max_connections) {
            pr_metrics_rejected(s->shared.c.metrics, PR_E_OVERLOADED);
            close(fd);
        } else if (fd >= 0) {
            pr_socket_connection_open(&s->shared, fd, s->is_tcp);
            if (!uv_is_active((uv_handle_t *)&s->sweep)) {
                uv_timer_start(&s->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
            }
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            listeners_poll(s, false); /* it would be ready for ever */
            uv_timer_start(&s->pause, on_pause_end, PAUSE_MS, 0);
            return;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        }
    }
}

/* ---- the loop ---- */

static void idle_look(pr_socket_server *s)
{
    pr_socket_shared *shared = &s->shared;
    if (!shared->has_ended_some) return;
    shared->has_ended_some = false;
    if (!shared->is_refusing || pr_socket_server_n_requests(s) > 0) return;
    shared->c.idle(shared->c.context);
}

static void on_prepare(uv_prepare_t *prepare)
{
    pr_socket_server *s = prepare->data;
    pr_socket_connection *c;
    while ((c = pr_socket_connection_dirty_take(&s->shared))) pr_socket_connection_turn(c);
    idle_look(s);
}

static void handles_open(pr_socket_server *s)
{
    uv_loop_t *loop = s->shared.c.loop;
    uv_prepare_init(loop, &s->prepare);
    uv_timer_init(loop, &s->sweep);
    uv_timer_init(loop, &s->pause);
    s->prepare.data = s->sweep.data = s->pause.data = s;
    uv_prepare_start(&s->prepare, on_prepare);
    s->n_handles = HANDLES_OF_ITS_OWN + s->n_listeners;
    for (size_t i = 0; i < s->n_listeners; i++) {
        listener *l = &s->listeners[i];
        l->server = s;
        int rc = uv_poll_init(loop, &l->poll, l->bound.fd);
        assert(rc == 0);
        (void)rc;
        l->poll.data = l;
    }
    listeners_poll(s, true);
}

pr_status pr_socket_server_open(const pr_socket_server_config *config, pr_socket_server **out,
                                pr_error *err)
{
    pr_status st = PR_OK;
    pr_socket_server *s = calloc(1, sizeof *s);
    if (!s) return pr_error_nomem(err, "socket server", sizeof *s);
    s->shared.c = *config;
    if (config->config->ssl_certfile) {
        st = pr_http_tls_open(config->config->ssl_certfile, config->config->ssl_keyfile,
                              &s->shared.tls, err);
    }
    if (st == PR_OK) st = address_open(s, err);
    if (st != PR_OK) {
        listeners_free(s);
        pr_http_tls_unref(s->shared.tls);
        free(s);
        return st;
    }
    if (!s->is_tcp) { /* a Unix socket stays on this host: no TLS */
        pr_http_tls_unref(s->shared.tls);
        s->shared.tls = NULL;
    }
    handles_open(s);
    const pr_log_field port = pr_log_integer("port", s->port);
    pr_log_event(config->log, PR_LOG_INFO, &port, s->is_tcp ? 1 : 0,
                 "socket protocol: listening on %s%s", config->config->socket,
                 s->shared.tls ? " (TLS)" : "");
    *out = s;
    return PR_OK;
}

pr_status pr_socket_server_reload(pr_socket_server *s, const pr_api_keys *keys, pr_error *err)
{
    if (s->shared.tls) {
        pr_http_tls *tls = NULL;
        const pr_config *config = s->shared.c.config;
        pr_status st = pr_http_tls_open(config->ssl_certfile, config->ssl_keyfile, &tls, err);
        if (st != PR_OK) return st;
        pr_http_tls_unref(s->shared.tls); /* open connections keep theirs */
        s->shared.tls = tls;
    }
    s->shared.c.keys = keys;
    return PR_OK;
}

void pr_socket_server_refuse(pr_socket_server *s)
{
    s->shared.is_refusing = true;
    for (pr_socket_connection *c = s->shared.connections, *next; c; c = next) {
        next = pr_socket_connection_next(c);
        pr_socket_connection_turn(c);
    }
    s->shared.has_ended_some = true;
}

size_t pr_socket_server_n_requests(const pr_socket_server *s)
{
    return s->shared.n_requests + s->shared.n_unsent;
}

int pr_socket_server_port(const pr_socket_server *s)
{
    return s->port;
}

static void on_closed(uv_handle_t *handle)
{
    pr_socket_server *s = handle->data;
    if (--s->n_handles > 0) return;
    pr_http_tls_unref(s->shared.tls);
    free(s);
}

static void on_listener_closed(uv_handle_t *handle)
{
    listener *l = handle->data;
    handle->data = l->server;
    on_closed(handle);
}

void pr_socket_server_close(pr_socket_server *s)
{
    if (!s) return;
    assert(s->shared.n_requests == 0);
    while (s->shared.connections) pr_socket_connection_drop(s->shared.connections);
    uv_close((uv_handle_t *)&s->prepare, on_closed);
    uv_close((uv_handle_t *)&s->sweep, on_closed);
    uv_close((uv_handle_t *)&s->pause, on_closed);
    for (size_t i = 0; i < s->n_listeners; i++) {
        uv_close((uv_handle_t *)&s->listeners[i].poll, on_listener_closed);
    }
    listeners_free(s);
}
