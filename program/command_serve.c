/* serve: the engine behind HTTP and the socket protocol, on one libuv loop, the main thread's.
 *
 *     start ─► listening, loading ─► ready ─► SIGTERM: draining ─► refusing ─► closed
 *                                             readiness 503        after --drain-delay */
#include "program/command.h"
#include "server/http/http_exchange.h"
#include "server/http/http_server.h"
#include "server/socket/socket_server.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct serve {
    const pr_command_context *context;
    uv_loop_t loop;
    uv_signal_t on_term, on_int, on_hup;
    uv_timer_t drain_timer;
    pr_metrics *metrics;
    const char **labels; /* of the metrics' routes, [n_labels] owned */
    pr_api_keys *keys;
    pr_service *service;
    pr_http_server *http;
    pr_socket_server *socket; /* NULL: not asked for */
    uint64_t begin_ms;
    bool is_draining, is_refusing, is_over;
    int exit_status;
    pr_error *err; /* the command's */
} serve;

/* What whoever started it waits for: a line on standard error, unless it is to be quiet. */
static void say(const serve *s, const char *line)
{
    pr_log log = *s->context->log;
    if (!s->context->config->quiet && log.level < PR_LOG_INFO) log.level = PR_LOG_INFO;
    pr_log_line(&log, PR_LOG_INFO, "%s", line);
}

static void say_listening(const serve *s)
{
    const pr_config *c = s->context->config;
    char line[1024];
    bool has_keys = pr_api_keys_count(s->keys) > 0, is_v6 = strchr(c->host, ':') != NULL;
    int port = pr_http_server_port(s->http);
    int n = snprintf(line, sizeof line, "listening on ");
    if (port > 0) {
        n += snprintf(line + n, sizeof line - (size_t)n, "%s://%s%s%s:%d",
                      c->ssl_certfile ? "https" : "http", is_v6 ? "[" : "", c->host,
                      is_v6 ? "]" : "", port);
    } else {
        n += snprintf(line + n, sizeof line - (size_t)n, "unix:%.200s", c->uds ? c->uds : "");
    }
    if (s->socket) n += snprintf(line + n, sizeof line - (size_t)n, " and %.200s", c->socket);
    snprintf(line + n, sizeof line - (size_t)n, "; loading %.300s (%s)",
             pr_service_model_of(s->service)->names[0], has_keys ? "API keys" : "no API key");
    say(s, line);
}

static void say_ready(const serve *s)
{
    const pr_service_model *m = pr_service_model_of(s->service);
    const pr_config *c = s->context->config;
    int n_ranks = c->tensor_parallel_size * c->pipeline_parallel_size * c->data_parallel_size;
    size_t resident = 0;
    char line[640];
    uv_resident_set_memory(&resident);
    snprintf(line, sizeof line, "ready after %.1f s: %.300s, task %s, %d rank%s, %.0f MB here",
             (double)(uv_hrtime() / 1000000 - s->begin_ms) / 1e3, m->names[0],
             pr_task_name(m->model->task), n_ranks, n_ranks == 1 ? "" : "s",
             (double)resident / 1e6);
    say(s, line);
}

/* ---- the end ---- */

/* Nothing is left to do, or it failed: the loop ends once everything is closed. */
static void serve_end(serve *s, int exit_status)
{
    if (s->is_over) return;
    s->is_over = true;
    s->exit_status = exit_status;
    uv_stop(&s->loop);
}

static bool is_idle(const serve *s)
{
    return pr_service_n_calls(s->service) == 0 && pr_http_server_n_exchanges(s->http) == 0 &&
           (!s->socket || pr_socket_server_n_requests(s->socket) == 0);
}

static void on_idle(void *context)
{
    serve *s = context;
    if (s->is_refusing && is_idle(s)) serve_end(s, PR_EXIT_DONE);
}

static void on_drain_timeout(uv_timer_t *timer)
{
    serve *s = timer->data;
    pr_error_set(s->err, PR_E_TIMEOUT,
                 "%zu requests that were accepted before SIGTERM were not finished within "
                 "--drain-timeout",
                 pr_service_n_calls(s->service));
    *s->context->must_end = true; /* the engine would finish them before it closes */
    serve_end(s, PR_EXIT_FAILED);
}

static void on_drain_delay(uv_timer_t *timer)
{
    serve *s = timer->data;
    s->is_refusing = true;
    pr_service_refuse(s->service);
    pr_http_server_refuse(s->http);
    if (s->socket) pr_socket_server_refuse(s->socket);
    uv_timer_start(timer, on_drain_timeout, (uint64_t)s->context->config->drain_timeout * 1000, 0);
    on_idle(s);
}

static void on_terminate(uv_signal_t *handle, int number)
{
    serve *s = handle->data;
    if (s->is_draining || number == SIGINT) {
        /* The second one, or somebody at a terminal: no further waiting. */
        pr_error_set(s->err, PR_E_CANCELLED, "ended by a signal with %zu requests open",
                     pr_service_n_calls(s->service));
        bool is_clean = is_idle(s);
        *s->context->must_end = !is_clean;
        serve_end(s, is_clean ? PR_EXIT_DONE : PR_EXIT_FAILED);
        return;
    }
    s->is_draining = true;
    char line[160];
    snprintf(line, sizeof line, "draining after SIGTERM: readiness is 503, %zu requests are open",
             pr_service_n_calls(s->service));
    say(s, line);
    pr_service_cancel_load(s->service);
    pr_service_drain(s->service);
    uv_timer_start(&s->drain_timer, on_drain_delay,
                   (uint64_t)s->context->config->drain_delay * 1000, 0);
}

/* ---- keys ---- */

static pr_status keys_open(const serve *s, pr_api_keys **out, pr_error *err)
{
    const pr_config *c = s->context->config;
    const char *keys[1] = {c->api_key};
    const char *names[1] = {c->api_key_is_seen ? "option" : "environment"};
    return pr_api_keys_open(c->api_key_file, keys, names, c->api_key ? 1 : 0, out, err);
}

static void on_hangup(uv_signal_t *handle, int number)
{
    serve *s = handle->data;
    pr_error err;
    pr_api_keys *keys = NULL;
    (void)number;
    pr_status st = keys_open(s, &keys, &err);
    if (st == PR_OK) st = pr_http_server_reload(s->http, keys, &err);
    /* Both read the same files, a moment apart: where one can, the other can. */
    if (st == PR_OK && s->socket) st = pr_socket_server_reload(s->socket, keys, &err);
    if (st != PR_OK) {
        pr_log_line(s->context->log, PR_LOG_ERROR,
                    "SIGHUP: %s; keys and certificates stay as they were", err.message);
        if (s->keys && keys) pr_http_server_reload(s->http, s->keys, NULL);
        pr_api_keys_free(keys);
        return;
    }
    pr_api_keys_free(s->keys);
    s->keys = keys;
    pr_log_line(s->context->log, PR_LOG_INFO, "SIGHUP: keys and certificates were read again");
}

/* ---- start ---- */

static void on_loaded(void *context, const pr_error *err)
{
    serve *s = context;
    if (err->status == PR_OK) {
        say_ready(s);
        return;
    }
    if (s->is_draining) return; /* it was told to give up */
    *s->context->must_end = !is_idle(s); /* requests that are open get no answer */
    pr_error_set(s->err, err->status, "%s", err->message);
    serve_end(s, pr_command_exit(err->status));
}

static pr_status config_check(const pr_config *c, pr_error *err)
{
    if (!c->ssl_certfile != !c->ssl_keyfile) {
        return pr_error_set(err, PR_E_ARGUMENT, "found %s alone, expected --ssl-certfile and "
                                                "--ssl-keyfile",
                            c->ssl_certfile ? "--ssl-certfile" : "--ssl-keyfile");
    }
    if (!c->model) return pr_error_set(err, PR_E_ARGUMENT, "no model: expected --model DIR|NAME");
    return PR_OK;
}

static pr_status texts_refuse(const pr_command_context *context, pr_error *err)
{
    if (context->n_texts == 0) return PR_OK;
    return pr_error_set(err, PR_E_ARGUMENT,
                        "found the argument %.80s, expected one model and no texts",
                        context->texts[0]);
}

/* The routes of both protocols, HTTP's first. */
static pr_status metrics_open(serve *s, size_t *i_route_socket, pr_error *err)
{
    size_t n_http, n_socket;
    const char *const *http = pr_http_route_labels(&n_http);
    const char *const *socket = pr_socket_server_labels(&n_socket);
    s->labels = malloc((n_http + n_socket) * sizeof *s->labels);
    if (!s->labels) return pr_error_nomem(err, "metrics", (n_http + n_socket) * sizeof *s->labels);
    memcpy(s->labels, http, n_http * sizeof *s->labels);
    memcpy(s->labels + n_http, socket, n_socket * sizeof *s->labels);
    *i_route_socket = n_http;
    return pr_metrics_create(s->labels, n_http + n_socket, &s->metrics, err);
}

static pr_status listeners_open(serve *s, size_t i_route_socket, pr_error *err)
{
    const pr_config *config = s->context->config;
    const pr_socket_server_config socket = {
        .loop = &s->loop, .config = config, .log = s->context->log, .service = s->service,
        .metrics = s->metrics, .keys = s->keys, .i_route_first = i_route_socket, .idle = on_idle,
        .context = s};
    pr_http_server_config http = {
        .loop = &s->loop, .config = config, .log = s->context->log, .service = s->service,
        .metrics = s->metrics, .keys = s->keys, .idle = on_idle, .context = s};
    /* The port file, which HTTP's listener writes, says that all of them are open. */
    pr_status st = config->socket ? pr_socket_server_open(&socket, &s->socket, err) : PR_OK;
    if (s->socket) http.socket_port = pr_socket_server_port(s->socket);
    return st == PR_OK ? pr_http_server_open(&http, &s->http, err) : st;
}

static void signal_start(serve *s, uv_signal_t *handle, uv_signal_cb callback, int number)
{
    uv_signal_init(&s->loop, handle);
    handle->data = s;
    uv_signal_start(handle, callback, number);
    uv_unref((uv_handle_t *)handle);
}

static pr_status serve_open(serve *s, pr_error *err)
{
    size_t i_route_socket = 0;
    const pr_config *config = s->context->config;
    pr_status st = config_check(config, err);
    if (st == PR_OK) st = texts_refuse(s->context, err);
    if (st == PR_OK) st = keys_open(s, &s->keys, err);
    if (st == PR_OK) st = metrics_open(s, &i_route_socket, err);
    if (st != PR_OK) return st;
    if (config->api_key_is_seen) {
        pr_log_line(s->context->log, PR_LOG_WARNING,
                    "--api-key: whoever may list processes sees the key (ps); --api-key-file and "
                    "POOLRANK_API_KEY keep it to themselves");
    }
    const pr_service_config service = {
        .config = config, .loop = &s->loop, .log = s->context->log, .metrics = s->metrics,
        .loaded = on_loaded, .idle = on_idle, .context = s};
    st = pr_service_open(&service, &s->service, err);
    if (st == PR_OK) st = listeners_open(s, i_route_socket, err);
    if (st == PR_OK) say_listening(s);
    return st;
}

static void handle_close(uv_handle_t *handle, void *context)
{
    (void)context;
    if (!uv_is_closing(handle)) uv_close(handle, NULL);
}

/* Everything is released, with the loop turning so that handles can close. */
static void serve_close(serve *s)
{
    pr_socket_server_close(s->socket);
    pr_http_server_close(s->http);
    pr_service_close(s->service);
    uv_run(&s->loop, UV_RUN_NOWAIT);
    uv_walk(&s->loop, handle_close, NULL);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&s->loop);
    assert(rc == 0);
    (void)rc;
    pr_metrics_free(s->metrics);
    free(s->labels);
    pr_api_keys_free(s->keys);
}

int pr_command_serve_run(const pr_command_context *context, pr_error *err)
{
    serve *s = calloc(1, sizeof *s);
    if (!s) return pr_command_exit(pr_error_nomem(err, "serve", sizeof *s));
    s->context = context;
    s->err = err;
    s->begin_ms = uv_hrtime() / 1000000;
    uv_loop_init(&s->loop);
    signal_start(s, &s->on_term, on_terminate, SIGTERM);
    signal_start(s, &s->on_int, on_terminate, SIGINT);
    signal_start(s, &s->on_hup, on_hangup, SIGHUP);
    uv_timer_init(&s->loop, &s->drain_timer);
    s->drain_timer.data = s;
    pr_status st = serve_open(s, err);
    if (st == PR_OK) {
        uv_run(&s->loop, UV_RUN_DEFAULT);
    } else {
        s->exit_status = pr_command_exit(st);
    }
    int exit_status = s->exit_status;
    if (*context->must_end) return exit_status; /* threads are at work */
    serve_close(s);
    free(s);
    return exit_status;
}
