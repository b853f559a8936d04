#include "server/http/http_transport.h"

#include <poll.h>
#include <stdlib.h>

enum {
    /* An answer takes three runs of libmicrohttpd: it is sent, its end is noticed, the next request
     * is looked for. They are done at once, without a turn of the loop between them. */
    RUNS_MAX = 4,
    ACCEPTS_MAX = 1000, /* runs that empty the backlog before it is closed */
};

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    pr_http_listener_wake(poll->data);
}

static void on_timer(uv_timer_t *timer)
{
    pr_http_listener_wake(timer->data);
}

void pr_http_listener_wake(pr_http_listener *l)
{
    l->needs_run = true;
    pr_http_server_wake(l->server);
}

void pr_http_listener_run(pr_http_listener *l)
{
    MHD_UNSIGNED_LONG_LONG timeout_ms = 0;
    bool has_timeout = false;
    l->needs_run = false;
    for (int i = 0; i < RUNS_MAX; i++) {
        MHD_run(l->daemon);
        has_timeout = MHD_get_timeout(l->daemon, &timeout_ms) == MHD_YES;
        if (!has_timeout || timeout_ms > 0) break;
    }
    if (!has_timeout) {
        if (uv_is_active((uv_handle_t *)&l->timer)) uv_timer_stop(&l->timer);
    } else if (timeout_ms > 0) {
        uv_timer_start(&l->timer, on_timer, timeout_ms, 0);
    } else {
        pr_http_listener_wake(l);
    }
}

void pr_http_listener_refuse(pr_http_listener *l)
{
    /* Whoever has connected gets an answer, not a reset. */
    struct pollfd p = {.fd = l->bound.fd, .events = POLLIN};
    for (int i = 0; i < ACCEPTS_MAX && poll(&p, 1, 0) == 1; i++) MHD_run(l->daemon);
    MHD_quiesce_daemon(l->daemon); /* the socket is ours again */
    pr_http_bound_close(&l->bound);
    pr_http_listener_wake(l);
}

static pr_status daemon_start(pr_http_listener *l, unsigned n_connections_max, pr_error *err)
{
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME;
    if (l->uses_tls) flags |= MHD_USE_TLS;
    l->daemon = MHD_start_daemon(
        flags, (uint16_t)l->bound.port, NULL, NULL, pr_http_on_request, l,
        MHD_OPTION_LISTEN_SOCKET, l->bound.fd,
        MHD_OPTION_CONNECTION_LIMIT, n_connections_max,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)PR_HTTP_HEAD_BYTES_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, 0u, /* clocks are our own: http_connection.c */
        MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_NOTIFY_CONNECTION, pr_http_on_connection, l,
        MHD_OPTION_NOTIFY_COMPLETED, pr_http_on_completed, l,
        MHD_OPTION_URI_LOG_CALLBACK, pr_http_on_target, l,
        MHD_OPTION_UNESCAPE_CALLBACK, pr_http_on_unescape, l,
        l->uses_tls ? MHD_OPTION_HTTPS_CERT_CALLBACK : MHD_OPTION_END, pr_http_on_certificate,
        MHD_OPTION_HTTPS_PRIORITIES, PR_HTTP_TLS_PRIORITIES, MHD_OPTION_END);
    if (l->daemon) return PR_OK;
    return pr_error_set(err, PR_E_INTERNAL, "HTTP: libmicrohttpd does not start%s",
                        l->uses_tls ? " with TLS" : "");
}

static pr_status loop_join(pr_http_listener *l, pr_error *err)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(l->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    uv_timer_init(l->server->loop, &l->timer);
    l->timer.data = l;
    l->n_open_handles = 1;
    int failure = info ? uv_poll_init(l->server->loop, &l->poll, info->epoll_fd) : UV_ENOTSUP;
    if (failure == 0) {
        l->n_open_handles = 2;
        l->is_polled = true;
        l->poll.data = l;
        failure = uv_poll_start(&l->poll, UV_READABLE, on_poll);
    }
    if (failure == 0) return PR_OK;
    return pr_error_set(err, failure == UV_ENOMEM ? PR_E_NOMEM : PR_E_INTERNAL,
                        "HTTP: poll: %s", uv_strerror(failure));
}

pr_status pr_http_listener_open(pr_http_server *server, pr_http_bound *bound, bool is_metrics,
                                unsigned n_connections_max, pr_http_listener **out, pr_error *err)
{
    pr_http_listener *l = calloc(1, sizeof *l);
    if (!l) {
        pr_http_bound_close(bound);
        return pr_error_nomem(err, "HTTP listener", sizeof *l);
    }
    l->server = server;
    l->bound = *bound;
    *bound = (pr_http_bound){.fd = -1};
    l->is_metrics = is_metrics;
    l->is_unix = l->bound.path;
    l->uses_tls = server->tls && !is_metrics;
    pr_status st = daemon_start(l, n_connections_max, err);
    if (st == PR_OK) st = loop_join(l, err);
    if (st == PR_OK) {
        *out = l;
        pr_http_listener_wake(l); /* the daemon begins to accept in its first run */
        return PR_OK;
    }
    pr_http_listener_close(l);
    return st;
}

static void on_closed(uv_handle_t *handle)
{
    pr_http_listener *l = handle->data;
    if (--l->n_open_handles == 0) free(l);
}

void pr_http_listener_close(pr_http_listener *l)
{
    if (!l) return;
    if (l->is_polled) uv_close((uv_handle_t *)&l->poll, on_closed);
    if (l->daemon && l->bound.fd >= 0) MHD_quiesce_daemon(l->daemon);
    if (l->daemon) MHD_stop_daemon(l->daemon);
    pr_http_bound_close(&l->bound);
    if (l->n_open_handles == 0) free(l);
    else uv_close((uv_handle_t *)&l->timer, on_closed);
}
