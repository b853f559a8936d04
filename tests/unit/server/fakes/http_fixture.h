/* fakes/http_fixture.h: an HTTP server over a fake service on a thread of its own, and clients on
 * loopback that speak byte by byte what a test wants. Whatever waits gives up after 10 s and fails
 * the test. */
#ifndef POOLRANK_TESTS_HTTP_FIXTURE_H
#define POOLRANK_TESTS_HTTP_FIXTURE_H

#include "fake_service.h"
#include "server/http/http_server.h"

#include <gnutls/gnutls.h>
#include <limits.h>
#include <pthread.h>

typedef struct http_fixture {
    pr_config config; /* filled by http_fixture_init; a test changes it before start */
    pr_log log;
    char folder[64];  /* a temporary one, for sockets, certificates, keys */
    uv_loop_t loop;
    uv_async_t order;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    void (*action)(struct http_fixture *f); /* for the loop thread; NULL: none or done */
    int n_idle;                             /* how often `idle` was told */
    int n_seen;                             /* an action's own */
    fake_service *fake;
    pr_http_server *server;
    pr_api_keys *keys, *next_keys;
    pr_error err;
    pr_status status;
    int port;
    int n_files; /* open ones of the process before it began */
} http_fixture;

void http_fixture_init(http_fixture *f);
/* Opens keys ("" : none; else "name:key" lines) and the server. Returns open's status. */
pr_status http_fixture_start(http_fixture *f, const char *keys);
/* Runs action on the loop thread, and waits for its end. */
void http_fixture_do(http_fixture *f, void (*action)(http_fixture *f));
void http_fixture_refuse(http_fixture *f);
void http_fixture_reload(http_fixture *f); /* keys become next_keys, if there are some */
void http_fixture_wait_idle(http_fixture *f);
/* Ends it all, and checks that no descriptor is left. */
void http_fixture_stop(http_fixture *f);
/* A path in the folder; valid until the next call. */
const char *http_fixture_path(http_fixture *f, const char *name);
/* A self-signed certificate for "localhost" and its key: NAME.pem, NAME.key. */
void http_fixture_certificate(http_fixture *f, const char *name);

/* ---- clients ---- */

typedef struct http_client {
    int fd;
    gnutls_session_t session; /* NULL: no TLS */
    gnutls_certificate_credentials_t credentials;
    char *bytes; /* received, not yet taken */
    size_t n, n_max;
} http_client;

typedef struct http_reply {
    int status; /* 0: the connection was closed before one came */
    char head[4096];
    char *body; /* with a NUL; http_reply_free */
    size_t n_body;
} http_reply;

void http_client_open(http_client *c, int port);
void http_client_open_unix(http_client *c, const char *path);
void http_client_open_tls(http_client *c, int port);
void http_client_send(http_client *c, const void *bytes, size_t n);
void http_client_say(http_client *c, const char *text);
/* Reads one answer; interim ones (1xx) are answers too. is_head: no body comes. */
void http_client_read(http_client *c, http_reply *reply, bool is_head);
/* Reads until the answer is final, and frees those before. Returns how many interim ones came. */
int http_client_read_final(http_client *c, http_reply *reply);
void http_client_expect(http_client *c, int status, const char *body_prefix);
void http_client_expect_closed(http_client *c); /* the server's end, nothing before it */
void http_client_shut(http_client *c);          /* no more is sent; TLS: with close_notify */
void http_client_reset(http_client *c);         /* closed with a reset */
void http_client_close(http_client *c);
void http_reply_free(http_reply *reply);
bool http_reply_has(const http_reply *reply, const char *header); /* "Name: value" */

/* "POST PATH" with a body, HTTP/1.1, further header lines or "". */
void http_client_post(http_client *c, const char *path, const char *headers, const char *body);
void http_client_get(http_client *c, const char *path, const char *headers);

#endif
