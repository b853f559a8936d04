#include "server/http/http_server.h"

#include "server/http/http_transport.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    FILES_RESERVED = 256,       /* descriptors that are not clients' */
    CONNECTIONS_MIN = 16,       /* even where the limit of descriptors is absurd */
    METRICS_CONNECTIONS_MAX = 64,
};

/* ---- turns of the loop ---- */

static void on_wake(uv_idle_t *wake)
{
    (void)wake; /* active, so that poll does not sleep */
}

void pr_http_server_wake(pr_http_server *server)
{
    if (!uv_is_active((uv_handle_t *)&server->wake)) uv_idle_start(&server->wake, on_wake);
}

static void on_check(uv_check_t *check)
{
    pr_http_server *server = check->data;
    if (!uv_is_active((uv_handle_t *)&server->wake)) return;
    uv_idle_stop(&server->wake); /* a run may wake it again */
    for (size_t i = 0; i < server->n_listeners; i++) {
        if (server->listeners[i]->needs_run) pr_http_listener_run(server->listeners[i]);
    }
    if (!server->tells_idle) return;
    server->tells_idle = false;
    if (server->idle) server->idle(server->context); /* may close the server */
}

static void on_sweep(uv_timer_t *timer)
{
    pr_http_server *server = timer->data;
    pr_http_connections_sweep(server);
    if (server->linger) pr_http_linger_sweep(server->linger);
}

static void idle_tell(pr_http_server *server)
{
    server->tells_idle = true;
    pr_http_server_wake(server);
}

void pr_http_server_exchange_end(pr_http_server *server)
{
    assert(server->n_exchanges > 0);
    if (--server->n_exchanges == 0 && server->is_refusing) idle_tell(server);
}

/* ---- what it listens on ---- */

/* As many connections as were asked for, if this process may have so many files open. */
static unsigned connections_allow(const pr_http_server *server)
{
    rlim_t asked = (rlim_t)server->config->max_connections, wanted = asked + FILES_RESERVED;
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= wanted) return (unsigned)asked;
    struct rlimit raised = files;
    raised.rlim_cur = wanted < files.rlim_max ? wanted : files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0) files = raised;
    if (files.rlim_cur >= wanted) return (unsigned)asked;
    rlim_t n = CONNECTIONS_MIN;
    if (files.rlim_cur > FILES_RESERVED + CONNECTIONS_MIN) n = files.rlim_cur - FILES_RESERVED;
    pr_log_line(server->log, PR_LOG_WARNING,
                "at most %ju connections in place of %ju: this process may have %ju files open "
                "(ulimit -n)", (uintmax_t)n, (uintmax_t)asked, (uintmax_t)files.rlim_cur);
    return (unsigned)n;
}

static pr_status listeners_add(pr_http_server *server, pr_http_bound *bound, size_t n,
                               bool is_metrics, unsigned n_connections_max, pr_error *err)
{
    pr_status st = PR_OK;
    for (size_t i = 0; i < n && st == PR_OK; i++) {
        pr_http_listener **at = &server->listeners[server->n_listeners];
        st = pr_http_listener_open(server, &bound[i], is_metrics, n_connections_max, at, err);
        if (st == PR_OK) server->n_listeners++;
    }
    for (size_t i = 0; i < n; i++) pr_http_bound_close(&bound[i]); /* those that were not taken */
    return st;
}

static pr_status listen_for_clients(pr_http_server *server, pr_error *err)
{
    const pr_config *config = server->config;
    pr_http_bound bound[PR_HTTP_BOUND_MAX];
    size_t n = 1;
    pr_status st = config->uds
                       ? pr_http_bind_unix("uds", config->uds, 0660, bound, err)
                       : pr_http_bind_tcp("HTTP", config->host, config->port, bound, &n, err);
    if (st != PR_OK) return st;
    server->port = bound[0].port;
    server->n_connections_max = connections_allow(server);
    return listeners_add(server, bound, n, false, server->n_connections_max, err);
}

static pr_status listen_for_scrapers(pr_http_server *server, pr_error *err)
{
    const pr_config *config = server->config;
    pr_http_bound bound[PR_HTTP_BOUND_MAX];
    size_t n = 0;
    if (config->metrics_port < 0) return PR_OK;
    pr_status st = pr_http_bind_tcp("metrics", config->metrics_host, config->metrics_port, bound,
                                    &n, err);
    if (st != PR_OK) return st;
    server->metrics_port = bound[0].port;
    return listeners_add(server, bound, n, true, METRICS_CONNECTIONS_MAX, err);
}

/* ---- port file ---- */

static json_t *ports_describe(const pr_http_server *server)
{
    const char *uds = server->config->uds;
    json_t *ports = json_object();
    json_object_set_new(ports, "port", server->port > 0 ? json_integer(server->port) : json_null());
    json_object_set_new(ports, "socket_port",
                        server->socket_port > 0 ? json_integer(server->socket_port) : json_null());
    json_object_set_new(ports, "metrics_port",
                        server->metrics_port > 0 ? json_integer(server->metrics_port)
                                                 : json_null());
    json_object_set_new(ports, "uds", uds ? json_string(uds) : json_null());
    return ports;
}

/* Whoever waits for the file finds it whole. */
static pr_status port_file_put(const char *path, const char *temporary, const char *text,
                               pr_error *err)
{
    size_t n = strlen(text);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0) return pr_error_errno(err, errno, "port-file: %s", temporary);
    bool ok = write(fd, text, n) == (ssize_t)n;
    ok = close(fd) == 0 && ok;
    if (ok && rename(temporary, path) == 0) return PR_OK;
    pr_status st = pr_error_errno(err, errno, "port-file: %s", path);
    unlink(temporary);
    return st;
}

static pr_status port_file_write(pr_http_server *server, pr_error *err)
{
    const char *path = server->config->port_file;
    if (!path) return PR_OK;
    pr_buffer temporary = {0};
    json_t *ports = ports_describe(server);
    char *text = ports ? json_dumps(ports, 0) : NULL;
    pr_buffer_printf(&temporary, "%s.%ld", path, (long)getpid());
    const char *temporary_path = pr_buffer_str(&temporary);
    pr_status st = PR_OK;
    if (!text || !temporary_path || !(server->port_file = strdup(path))) {
        st = pr_error_nomem(err, "port-file", strlen(path));
    } else {
        st = port_file_put(path, temporary_path, text, err);
    }
    if (st != PR_OK) {
        free(server->port_file);
        server->port_file = NULL;
    }
    free(text);
    json_decref(ports);
    pr_buffer_deinit(&temporary);
    return st;
}

/* ---- open ---- */

static pr_status tls_read(const pr_config *config, pr_http_tls **out, pr_error *err)
{
    if (!config->ssl_certfile && !config->ssl_keyfile) return PR_OK;
    if (!config->ssl_certfile || !config->ssl_keyfile) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "found ssl-%s alone, expected ssl-certfile and ssl-keyfile",
                            config->ssl_certfile ? "certfile" : "keyfile");
    }
    return pr_http_tls_open(config->ssl_certfile, config->ssl_keyfile, out, err);
}

static pr_http_server *server_create(const pr_http_server_config *config)
{
    pr_http_server *server = calloc(1, sizeof *server);
    if (!server) return NULL;
    server->loop = config->loop;
    server->socket_port = config->socket_port;
    server->config = config->config;
    server->log = config->log;
    server->service = config->service;
    server->metrics = config->metrics;
    server->keys = config->keys;
    server->idle = config->idle;
    server->context = config->context;
    uv_check_init(server->loop, &server->check);
    uv_idle_init(server->loop, &server->wake);
    uv_timer_init(server->loop, &server->sweep);
    server->check.data = server->wake.data = server->sweep.data = server;
    server->n_open_handles = 3;
    uv_check_start(&server->check, on_check);
    uv_timer_start(&server->sweep, on_sweep, PR_HTTP_SWEEP_MS, PR_HTTP_SWEEP_MS);
    return server;
}

pr_status pr_http_server_open(const pr_http_server_config *config, pr_http_server **out,
                              pr_error *err)
{
    pr_http_server *server = server_create(config);
    if (!server) return pr_error_nomem(err, "HTTP server", sizeof *server);
    pr_status st = tls_read(server->config, &server->tls, err);
    if (st == PR_OK && server->config->allowed_origins) {
        st = pr_http_origins_open(server->config->allowed_origins, &server->origins, err);
    }
    if (st == PR_OK) st = pr_http_watch_open(server->loop, &server->watch, err);
    if (st == PR_OK && !(server->linger = pr_http_linger_open(server->loop))) {
        st = pr_error_set(err, PR_E_NOMEM, "HTTP server: no memory");
    }
    if (st == PR_OK) st = listen_for_clients(server, err);
    if (st == PR_OK) st = listen_for_scrapers(server, err);
    if (st == PR_OK) st = port_file_write(server, err);
    if (st == PR_OK) {
        *out = server;
        return PR_OK;
    }
    pr_http_server_close(server);
    return st;
}

pr_status pr_http_server_reload(pr_http_server *server, const pr_api_keys *keys, pr_error *err)
{
    pr_http_tls *tls = NULL;
    pr_status st = tls_read(server->config, &tls, err);
    if (st != PR_OK) return st;
    pr_http_tls_unref(server->tls); /* connections keep theirs */
    server->tls = tls;
    server->keys = keys;
    return PR_OK;
}

/* ---- the end ---- */

void pr_http_server_refuse(pr_http_server *server)
{
    if (server->is_refusing) return;
    server->is_refusing = true;
    for (size_t i = 0; i < server->n_listeners; i++) {
        if (!server->listeners[i]->is_metrics) pr_http_listener_refuse(server->listeners[i]);
    }
    for (pr_http_connection *c = server->connections; c; c = c->next) {
        if (!c->listener->is_metrics) pr_http_connection_end_idle(c);
    }
    if (server->n_exchanges == 0) idle_tell(server);
}

size_t pr_http_server_n_exchanges(const pr_http_server *server)
{
    return server->n_exchanges;
}

int pr_http_server_port(const pr_http_server *server)
{
    return server->port;
}

static void on_closed(uv_handle_t *handle)
{
    pr_http_server *server = handle->data;
    if (--server->n_open_handles == 0) free(server);
}

void pr_http_server_close(pr_http_server *server)
{
    if (!server) return;
    for (size_t i = 0; i < server->n_listeners; i++) pr_http_listener_close(server->listeners[i]);
    assert(!server->connections);
    if (server->port_file) unlink(server->port_file);
    free(server->port_file);
    pr_http_watch_close(server->watch);
    pr_http_linger_close(server->linger);
    pr_http_origins_free(server->origins);
    pr_http_tls_unref(server->tls);
    uv_close((uv_handle_t *)&server->check, on_closed);
    uv_close((uv_handle_t *)&server->wake, on_closed);
    uv_close((uv_handle_t *)&server->sweep, on_closed);
}
