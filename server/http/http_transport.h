/* server/http/http_transport.h: what the files of the HTTP transport share; nobody else includes
 * it.
 *
 *     http_server      opens and closes it all, sweeps, drains
 *     http_listener    one libmicrohttpd daemon inside the libuv loop
 *     http_connection  one client's connection: its clocks, libmicrohttpd's callbacks
 *     http_request     one request on its way to its answer
 *     http_head        its headers
 *     http_report      its line in the log, its numbers in the metrics
 *     http_origins     which pages may call (CORS)
 *     http_watch       clients that leave
 *     http_linger      clients that still send behind their answer
 *     http_tls         certificates
 *     http_bind        listening sockets
 *
 * libmicrohttpd (0.9.75 is meant wherever its inner workings matter) runs in external epoll mode:
 * its epoll instance is one descriptor in the loop. All of it on the loop thread. */
#ifndef POOLRANK_SERVER_HTTP_HTTP_TRANSPORT_H
#define POOLRANK_SERVER_HTTP_HTTP_TRANSPORT_H

#include "server/net/http_bind.h"
#include "server/http/http_exchange.h"
#include "server/http/http_head.h"
#include "server/http/http_linger.h"
#include "server/http/http_origins.h"
#include "server/net/http_tls.h"
#include "server/http/http_watch.h"

#include <microhttpd.h>

typedef struct pr_http_server pr_http_server; /* server/http/http_server.h */
typedef struct pr_http_listener pr_http_listener;
typedef struct pr_http_connection pr_http_connection;
typedef struct pr_http_request pr_http_request;

enum {
    /* Of a connection: request line and headers, then the answer's headers. Zeroed by libmicrohttpd
     * for each request, so not more than real clients need. */
    PR_HTTP_HEAD_BYTES_MAX = 16384,
    /* Bodies that are being collected, in all, as a multiple of --max-body-bytes. */
    PR_HTTP_BODIES_MAX = 16,
    /* A client that takes an answer more slowly than this, over --read-timeout, is cut off. */
    PR_HTTP_SEND_BYTES_PER_S = 16384,
    PR_HTTP_SWEEP_MS = 1000,
};

/* ---- server ---- */

struct pr_http_server {
    uv_loop_t *loop;
    const pr_config *config;
    const pr_log *log;
    pr_service *service;
    pr_metrics *metrics;
    const pr_api_keys *keys;
    void (*idle)(void *context);
    void *context;

    pr_http_tls *tls;          /* for new handshakes; NULL: no TLS */
    pr_http_origins *origins;  /* NULL: no CORS */
    pr_http_watch *watch;
    pr_http_linger *linger;
    pr_http_listener *listeners[2 * PR_HTTP_BOUND_MAX];
    size_t n_listeners;
    char *port_file;           /* that was written; NULL: none */
    int port, metrics_port, socket_port; /* 0: none */

    pr_http_connection *connections; /* all */
    size_t n_connections, n_connections_max; /* without scrapers' */
    size_t n_exchanges;        /* requests whose headers have come, until their answer has gone */
    uint64_t body_bytes;       /* of bodies held */
    bool is_refusing;
    bool tells_idle;           /* `idle` is due */

    /* A libuv loop's turn: timers, idle, poll, check. What is due is done once, in check; `wake` is
     * active while something is, so that poll does not sleep. */
    uv_check_t check;
    uv_idle_t wake;
    uv_timer_t sweep;
    int n_open_handles;
};

/* check will run in this turn of the loop, or the next one. */
void pr_http_server_wake(pr_http_server *server);
/* Of one request less; tells idle when it was the last. */
void pr_http_server_exchange_end(pr_http_server *server);

/* ---- listener ---- */

struct pr_http_listener {
    pr_http_server *server;
    struct MHD_Daemon *daemon;
    pr_http_bound bound;
    bool is_metrics;    /* answers GET /metrics, without a key */
    bool is_unix;
    bool uses_tls;
    bool needs_run;
    bool is_polled;
    uv_poll_t poll;
    uv_timer_t timer;
    int n_open_handles;
};

/* bound: consumed. Fails PR_E_IO, PR_E_NOMEM, PR_E_INTERNAL. */
pr_status pr_http_listener_open(pr_http_server *server, pr_http_bound *bound, bool is_metrics,
                                unsigned n_connections_max, pr_http_listener **out, pr_error *err);
void pr_http_listener_wake(pr_http_listener *l); /* its daemon has something to do */
void pr_http_listener_run(pr_http_listener *l);
void pr_http_listener_refuse(pr_http_listener *l); /* accepts what has come already, then no more */
void pr_http_listener_close(pr_http_listener *l);  /* NULL is fine */

/* ---- connection ---- */

typedef enum pr_http_phase {
    PR_HTTP_PHASE_IDLE,    /* waits for a request line */
    PR_HTTP_PHASE_READING, /* a request arrives */
    PR_HTTP_PHASE_SERVING,
    PR_HTTP_PHASE_SENDING
} pr_http_phase;

struct pr_http_connection {
    pr_http_listener *listener;
    struct MHD_Connection *mhd;
    int fd;
    pr_http_phase phase;
    uint64_t since_ms;        /* phase began */
    uint64_t until_ms;        /* the socket is shut down then; UINT64_MAX: never */
    pr_http_watched watched;
    bool is_asked;            /* whether it is there, while this request is served */
    bool is_cut;              /* its request was answered before its body was read */
    pr_http_tls *tls;         /* reference; NULL: no TLS */
    size_t n_target;          /* bytes of the request line's target */
    uint64_t begin_ns;        /* the request line was read */
    pr_http_request *request; /* NULL: none */
    pr_http_connection *next, *prev;
};

void pr_http_connection_phase(pr_http_connection *c, pr_http_phase phase, uint64_t n_answer_bytes);
/* Cuts off what takes too long. */
void pr_http_connections_sweep(pr_http_server *server);
/* The request is served from now on, or the client has done something: what is to be done then. */
void pr_http_connection_look(pr_http_connection *c);
/* Ends the connection unless something of a request has come. */
void pr_http_connection_end_idle(pr_http_connection *c);

/* libmicrohttpd's callbacks; cls is the listener. */
void pr_http_on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context,
                           enum MHD_ConnectionNotificationCode code);
void *pr_http_on_target(void *cls, const char *target, struct MHD_Connection *mhd);
size_t pr_http_on_unescape(void *cls, struct MHD_Connection *mhd, char *text);
enum MHD_Result pr_http_on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                   const char *method, const char *version, const char *data,
                                   size_t *n_data, void **request_context);
void pr_http_on_completed(void *cls, struct MHD_Connection *mhd, void **request_context,
                          enum MHD_RequestTerminationCode code);
int pr_http_on_certificate(gnutls_session_t session, const gnutls_datum_t *ca, int n_ca,
                           const gnutls_pk_algorithm_t *algorithms, int n_algorithms,
                           gnutls_pcert_st **chain, unsigned *n_chain, gnutls_privkey_t *key);

/* ---- request ---- */

typedef enum pr_http_stage {
    PR_HTTP_STAGE_BODY,    /* is collected */
    PR_HTTP_STAGE_DISCARD, /* read over: the answer is an error already */
    PR_HTTP_STAGE_PARSE,   /* on a pool thread */
    PR_HTTP_STAGE_SERVE,
    PR_HTTP_STAGE_FORMAT,  /* on a pool thread */
    PR_HTTP_STAGE_READY,   /* the answer waits for libmicrohttpd */
    PR_HTTP_STAGE_SENT     /* it has it */
} pr_http_stage;

struct pr_http_request {
    pr_http_connection *connection;
    pr_http_exchange exchange;
    pr_http_head head;
    pr_buffer body;
    uint64_t n_data;          /* of the body, came so far */
    pr_http_stage stage;
    bool is_suspended;
    bool is_gone;             /* the client is */
    bool is_parsed;           /* parse's verdict, from the pool thread */
    const char *method;       /* of the log: a known one, constant */
    char key_name[PR_API_KEY_NAME_BYTES_MAX + 1];
    uint32_t n_prompt_tokens;
    bool takes_interim;       /* HTTP/1.1: its client reads over 1xx */
    uv_work_t work;
};

/* Headers are there. Makes c->request. */
enum MHD_Result pr_http_request_begin(pr_http_connection *c, const char *method, const char *url,
                                      const char *version);
enum MHD_Result pr_http_request_data(pr_http_request *r, const char *data, size_t n);
/* The request is whole, or its connection was resumed. */
enum MHD_Result pr_http_request_go(pr_http_request *r);
/* The client has left while it was served. */
void pr_http_request_left(pr_http_request *r);
/* The connection is done with it. */
void pr_http_request_free(pr_http_request *r);

/* ---- report ---- */

/* The answer is ready, or nobody waits for it (status 499). */
void pr_http_report_answer(pr_http_request *r, int status);
void pr_http_report_call(pr_http_request *r); /* the call is done */

#endif
