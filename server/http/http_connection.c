/* The clocks of a connection are its own, not libmicrohttpd's, whose timeout begins anew with each
 * byte: a client could send one byte a minute for ever.
 *
 *     phase     begins with                 the socket is shut down after
 *     IDLE      accept, an answer's end     --idle-timeout (part of a request line is idle too)
 *     READING   the request line            --read-timeout
 *     SERVING   the request is whole        never: the service has its own limits
 *     SENDING   the answer is there         --read-timeout, and a second for each
 *                                           PR_HTTP_SEND_BYTES_PER_S bytes
 *
 * libmicrohttpd closes a connection whose socket was shut down, and tells on_completed. */
#include "runtime/base/clock.h"
#include "server/http/http_transport.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* ---- clocks ---- */

void pr_http_connection_phase(pr_http_connection *c, pr_http_phase phase, uint64_t n_answer_bytes)
{
    const pr_config *config = c->listener->server->config;
    uint64_t seconds = 0;
    switch (phase) {
    case PR_HTTP_PHASE_IDLE: seconds = (uint64_t)config->idle_timeout; break;
    case PR_HTTP_PHASE_READING: seconds = (uint64_t)config->read_timeout; break;
    case PR_HTTP_PHASE_SENDING:
        seconds = (uint64_t)config->read_timeout + n_answer_bytes / PR_HTTP_SEND_BYTES_PER_S;
        break;
    case PR_HTTP_PHASE_SERVING: break;
    }
    c->phase = phase;
    c->since_ms = uv_now(c->listener->server->loop);
    c->until_ms = seconds > 0 ? c->since_ms + 1000 * seconds : UINT64_MAX;
}

/* Makes libmicrohttpd look at the socket again, where it has missed the client's FIN. */
static void connection_nudge(const pr_http_connection *c)
{
    shutdown(c->fd, SHUT_RD); /* what has come is still read */
}

static void connection_ask(pr_http_connection *c)
{
    const union MHD_ConnectionInfo *info = NULL;
    if (c->is_asked) return;
    if (c->listener->uses_tls) {
        info = MHD_get_connection_info(c->mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    }
    c->is_asked = pr_http_watch_ask(c->fd, info ? info->tls_session : NULL);
}

void pr_http_connection_look(pr_http_connection *c)
{
    if (!c->watched.has_ended) return;
    if (c->phase != PR_HTTP_PHASE_SERVING) {
        if (c->phase != PR_HTTP_PHASE_SENDING) connection_nudge(c);
    } else if (c->watched.is_gone) {
        pr_http_request_left(c->request);
    } else if (c->listener->is_unix) {
        return; /* a half-close: its client's close() would be seen as such */
    } else if (!c->request->takes_interim) {
        pr_http_request_left(c->request);
    } else {
        connection_ask(c);
    }
}

static void on_watched(pr_http_watched *watched)
{
    pr_http_connection_look((pr_http_connection *)((char *)watched -
                                                   offsetof(pr_http_connection, watched)));
}

void pr_http_connections_sweep(pr_http_server *server)
{
    uint64_t now = uv_now(server->loop);
    for (pr_http_connection *c = server->connections; c; c = c->next) {
        if (now >= c->until_ms) {
            shutdown(c->fd, SHUT_RDWR);
            c->until_ms = UINT64_MAX;
        } else if (server->is_refusing && !c->listener->is_metrics &&
                   c->phase == PR_HTTP_PHASE_IDLE && now - c->since_ms >= PR_HTTP_SWEEP_MS) {
            shutdown(c->fd, SHUT_RDWR);
        } else {
            /* One that could not be asked yet; or libmicrohttpd has missed the FIN even so, because
             * it had not read what came before. */
            pr_http_connection_look(c);
        }
    }
}

void pr_http_connection_end_idle(pr_http_connection *c)
{
    char byte;
    if (c->phase != PR_HTTP_PHASE_IDLE) return;
    /* A request that has come already is answered; what comes later meets a closed socket. */
    if (recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0) return;
    shutdown(c->fd, SHUT_RD);
}

/* ---- libmicrohttpd's callbacks ---- */

static pr_http_connection *connection_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static pr_http_connection *connection_open(pr_http_listener *l, struct MHD_Connection *mhd)
{
    pr_http_server *server = l->server;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    /* The limit of libmicrohttpd is for one address of several. */
    bool is_full = !l->is_metrics && server->n_connections >= server->n_connections_max;
    pr_http_connection *c = is_full ? NULL : calloc(1, sizeof *c);
    if (c) {
        c->watched = (pr_http_watched){.fd = info->connect_fd, .changed = on_watched};
        if (!pr_http_watch_add(server->watch, &c->watched)) {
            free(c);
            c = NULL;
        }
    }
    if (!c) {
        shutdown(info->connect_fd, SHUT_RDWR);
        return NULL;
    }
    c->listener = l;
    c->mhd = mhd;
    c->fd = info->connect_fd;
    c->tls = l->uses_tls ? pr_http_tls_ref(server->tls) : NULL;
    c->next = server->connections;
    if (c->next) c->next->prev = c;
    server->connections = c;
    pr_http_connection_phase(c, PR_HTTP_PHASE_IDLE, 0);
    if (!l->is_metrics) server->n_connections++;
    pr_metrics_connections(server->metrics, 1);
    return c;
}

static void connection_close(pr_http_connection *c)
{
    pr_http_server *server = c->listener->server;
    if (c->prev) c->prev->next = c->next;
    else server->connections = c->next;
    if (c->next) c->next->prev = c->prev;
    if (!c->listener->is_metrics) server->n_connections--;
    pr_http_watch_remove(server->watch, &c->watched);
    pr_http_listener_wake(c->listener); /* at its limit, the daemon accepts again in its next run */
    pr_http_tls_unref(c->tls);
    free(c);
    pr_metrics_connections(server->metrics, -1);
}

void pr_http_on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context,
                           enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        *socket_context = connection_open(cls, mhd);
    } else if (*socket_context) {
        connection_close(*socket_context);
        *socket_context = NULL;
    }
}

void *pr_http_on_target(void *cls, const char *target, struct MHD_Connection *mhd)
{
    (void)cls;
    pr_http_connection *c = connection_of(mhd);
    if (!c) return NULL;
    c->n_target = target ? strlen(target) : 0;
    c->begin_ns = pr_clock_ns();
    pr_http_connection_phase(c, PR_HTTP_PHASE_READING, 0);
    return c;
}

/* Paths are compared as they are: none of ours has a byte that is written as %XX, and so no %00 can
 * cut one short. Queries are not read. */
size_t pr_http_on_unescape(void *cls, struct MHD_Connection *mhd, char *text)
{
    (void)cls;
    (void)mhd;
    return strlen(text);
}

/* libmicrohttpd cuts the request line into strings in place, "target\0version": a NUL that the
 * client sent in the target would make it another path than it is in the eyes of a proxy. */
static bool target_is_cut(const pr_http_connection *c, const char *url, const char *version)
{
    bool is_one_line = version > url && version - url <= PR_HTTP_HEAD_BYTES_MAX;
    return is_one_line && (size_t)(version - 1 - url) != c->n_target;
}

enum MHD_Result pr_http_on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                   const char *method, const char *version, const char *data,
                                   size_t *n_data, void **request_context)
{
    (void)cls;
    (void)mhd;
    pr_http_connection *c = *request_context;
    if (!c) return MHD_NO; /* no memory when it began */
    if (!c->request) {
        if (target_is_cut(c, url, version)) return MHD_NO;
        return pr_http_request_begin(c, method, url, version);
    }
    if (*n_data > 0) {
        size_t n = *n_data;
        *n_data = 0;
        return pr_http_request_data(c->request, data, n);
    }
    return pr_http_request_go(c->request);
}

void pr_http_on_completed(void *cls, struct MHD_Connection *mhd, void **request_context,
                          enum MHD_RequestTerminationCode code)
{
    (void)cls;
    (void)code;
    pr_http_connection *c = *request_context;
    *request_context = NULL;
    if (!c) return;
    pr_http_request_free(c->request);
    c->request = NULL;
    c->is_asked = false;
    if (c->is_cut) pr_http_linger_add(c->listener->server->linger, c->fd);
    pr_http_connection_phase(c, PR_HTTP_PHASE_IDLE, 0);
    if (c->watched.has_ended) connection_nudge(c);
    MHD_set_connection_option(mhd, MHD_CONNECTION_OPTION_TIMEOUT, 0u); /* request_resume */
}

/* For each handshake. The session's pointer is libmicrohttpd's connection (daemon.c,
 * new_connection_prepare_). */
int pr_http_on_certificate(gnutls_session_t session, const gnutls_datum_t *ca, int n_ca,
                           const gnutls_pk_algorithm_t *algorithms, int n_algorithms,
                           gnutls_pcert_st **chain, unsigned *n_chain, gnutls_privkey_t *key)
{
    (void)ca;
    (void)n_ca;
    (void)algorithms;
    (void)n_algorithms;
    struct MHD_Connection *mhd = gnutls_session_get_ptr(session);
    pr_http_connection *c = mhd ? connection_of(mhd) : NULL;
    if (!c || !c->tls) return -1;
    pr_http_tls_get(c->tls, chain, n_chain, key);
    return 0;
}
