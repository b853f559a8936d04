#define _GNU_SOURCE
#include "http_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/x509.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_S = 10 };

static struct timespec deadline(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S;
    return until;
}

/* ---- the server's thread ---- */

static void on_order(uv_async_t *order)
{
    http_fixture *f = order->data;
    pthread_mutex_lock(&f->lock);
    void (*action)(http_fixture *) = f->action;
    pthread_mutex_unlock(&f->lock);
    if (!action) return;
    action(f);
    pthread_mutex_lock(&f->lock);
    f->action = NULL;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

void http_fixture_do(http_fixture *f, void (*action)(http_fixture *f))
{
    struct timespec until = deadline();
    pthread_mutex_lock(&f->lock);
    f->action = action;
    uv_async_send(&f->order);
    int rc = 0;
    while (f->action && rc != ETIMEDOUT) rc = pthread_cond_timedwait(&f->changed, &f->lock, &until);
    pthread_mutex_unlock(&f->lock);
    assert_int_equal(rc, 0);
}

static void *thread_main(void *context)
{
    http_fixture *f = context;
    uv_run(&f->loop, UV_RUN_DEFAULT);
    return NULL;
}

static void on_idle(void *context)
{
    http_fixture *f = context;
    pthread_mutex_lock(&f->lock);
    f->n_idle++;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

void http_fixture_wait_idle(http_fixture *f)
{
    struct timespec until = deadline();
    int rc = 0;
    pthread_mutex_lock(&f->lock);
    while (f->n_idle == 0 && rc != ETIMEDOUT) {
        rc = pthread_cond_timedwait(&f->changed, &f->lock, &until);
    }
    pthread_mutex_unlock(&f->lock);
    assert_int_equal(rc, 0);
}

static int files_count(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
}

void http_fixture_init(http_fixture *f)
{
    static char host[] = "127.0.0.1";
    memset(f, 0, sizeof *f);
    /* What libuv keeps open for the whole process is not counted. */
    assert_int_equal(uv_loop_init(&f->loop), 0);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    f->n_files = files_count();
    f->config = (pr_config){.host = host, .metrics_host = host, .metrics_port = -1,
                            .max_body_bytes = 1 << 20, .max_connections = 200,
                            .read_timeout = 30, .idle_timeout = 30};
    f->log.fd = -1;
    snprintf(f->folder, sizeof f->folder, "/tmp/poolrank-http-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
}

pr_status http_fixture_start(http_fixture *f, const char *keys)
{
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    assert_int_equal(uv_loop_init(&f->loop), 0);
    uv_async_init(&f->loop, &f->order, on_order);
    f->order.data = f;
    const char *key[] = {keys}, *name[] = {"tester"};
    size_t n_keys = keys[0] ? 1 : 0;
    assert_int_equal(pr_api_keys_open(NULL, key, name, n_keys, &f->keys, NULL), PR_OK);
    f->fake = fake_service_open(&f->loop);
    const pr_http_server_config config = {
        .loop = &f->loop, .config = &f->config, .log = &f->log,
        .service = fake_service_handle(f->fake), .metrics = fake_service_metrics(f->fake),
        .keys = f->keys, .idle = on_idle, .context = f};
    f->status = pr_http_server_open(&config, &f->server, &f->err);
    if (f->status == PR_OK) f->port = pr_http_server_port(f->server);
    assert_int_equal(pthread_create(&f->thread, NULL, thread_main, f), 0);
    return f->status;
}

static void do_refuse(http_fixture *f)
{
    pr_http_server_refuse(f->server);
}

void http_fixture_refuse(http_fixture *f)
{
    http_fixture_do(f, do_refuse);
}

static void do_reload(http_fixture *f)
{
    f->status = pr_http_server_reload(f->server, f->next_keys ? f->next_keys : f->keys, &f->err);
}

void http_fixture_reload(http_fixture *f)
{
    http_fixture_do(f, do_reload);
}

static void do_close(http_fixture *f)
{
    pr_http_server_close(f->server);
    fake_service_close(f->fake);
    uv_close((uv_handle_t *)&f->order, NULL);
}

static void folder_remove(http_fixture *f)
{
    DIR *dir = opendir(f->folder);
    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        if (e->d_name[0] != '.') unlink(http_fixture_path(f, e->d_name));
    }
    closedir(dir);
    assert_int_equal(rmdir(f->folder), 0);
}

void http_fixture_stop(http_fixture *f)
{
    /* Clients are closed: what is left of their requests ends by itself. */
    fake_service_wait(f->fake, FAKE_CONNECTIONS, 0);
    http_fixture_do(f, do_close);
    pthread_join(f->thread, NULL);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    pr_api_keys_free(f->keys);
    pr_api_keys_free(f->next_keys);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->changed);
    folder_remove(f);
    assert_int_equal(files_count(), f->n_files);
}

const char *http_fixture_path(http_fixture *f, const char *name)
{
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", f->folder, name);
    return path;
}

/* ---- certificates ---- */

static void file_write(const char *path, const gnutls_datum_t *data)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(data->data, 1, data->size, file), data->size);
    fclose(file);
}

void http_fixture_certificate(http_fixture *f, const char *name)
{
    char file[64];
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt;
    gnutls_datum_t pem;
    assert_int_equal(gnutls_x509_privkey_init(&key), 0);
    assert_int_equal(gnutls_x509_privkey_generate(key, GNUTLS_PK_EDDSA_ED25519, 0, 0), 0);
    assert_int_equal(gnutls_x509_crt_init(&crt), 0);
    gnutls_x509_crt_set_version(crt, 3);
    gnutls_x509_crt_set_serial(crt, "\1", 1);
    gnutls_x509_crt_set_activation_time(crt, time(NULL) - 3600);
    gnutls_x509_crt_set_expiration_time(crt, time(NULL) + 3600);
    gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, name,
                                  (unsigned)strlen(name));
    gnutls_x509_crt_set_key(crt, key);
    assert_int_equal(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA512, 0), 0);
    assert_int_equal(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem), 0);
    snprintf(file, sizeof file, "%s.pem", name);
    file_write(http_fixture_path(f, file), &pem);
    gnutls_free(pem.data);
    assert_int_equal(gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL,
                                                       GNUTLS_PKCS_PLAIN, &pem),
                     0);
    snprintf(file, sizeof file, "%s.key", name);
    file_write(http_fixture_path(f, file), &pem);
    gnutls_free(pem.data);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
}

/* ---- clients ---- */

static void client_begin(http_client *c, int domain, const struct sockaddr *a, socklen_t n)
{
    const struct timeval patience = {.tv_sec = WAIT_S};
    memset(c, 0, sizeof *c);
    c->fd = socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(c->fd >= 0);
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    assert_int_equal(connect(c->fd, a, n), 0);
}

void http_client_open(http_client *c, int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client_begin(c, AF_INET, (struct sockaddr *)&a, sizeof a);
}

void http_client_open_unix(http_client *c, const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    client_begin(c, AF_UNIX, (struct sockaddr *)&a, sizeof a);
}

void http_client_open_tls(http_client *c, int port)
{
    http_client_open(c, port);
    gnutls_certificate_allocate_credentials(&c->credentials);
    gnutls_init(&c->session, GNUTLS_CLIENT);
    gnutls_set_default_priority(c->session);
    gnutls_credentials_set(c->session, GNUTLS_CRD_CERTIFICATE, c->credentials);
    gnutls_transport_set_int(c->session, c->fd);
    int rc;
    do rc = gnutls_handshake(c->session);
    while (rc < 0 && !gnutls_error_is_fatal(rc));
    if (rc != 0) fail_msg("TLS handshake: %s", gnutls_strerror(rc));
}

void http_client_send(http_client *c, const void *bytes, size_t n)
{
    const char *at = bytes;
    while (n > 0) {
        ssize_t sent = c->session ? gnutls_record_send(c->session, at, n)
                                  : send(c->fd, at, n, MSG_NOSIGNAL);
        if (sent <= 0) return; /* the server may have closed: what it said is read then */
        at += sent;
        n -= (size_t)sent;
    }
}

void http_client_say(http_client *c, const char *text)
{
    http_client_send(c, text, strlen(text));
}

/* 0: the connection's end. */
static size_t client_fill(http_client *c)
{
    if (c->n == c->n_max) {
        c->n_max = c->n_max ? 2 * c->n_max : 65536;
        c->bytes = realloc(c->bytes, c->n_max);
        assert_non_null(c->bytes);
    }
    ssize_t got;
    do {
        got = c->session ? gnutls_record_recv(c->session, c->bytes + c->n, c->n_max - c->n)
                         : recv(c->fd, c->bytes + c->n, c->n_max - c->n, 0);
    } while (c->session && (got == GNUTLS_E_AGAIN || got == GNUTLS_E_INTERRUPTED));
    if (!c->session && got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        fail_msg("nothing came for %d s", WAIT_S);
    }
    if (got <= 0) return 0;
    c->n += (size_t)got;
    return (size_t)got;
}

static void client_take(http_client *c, size_t n)
{
    memmove(c->bytes, c->bytes + n, c->n - n);
    c->n -= n;
}

bool http_reply_has(const http_reply *reply, const char *header)
{
    return strcasestr(reply->head, header);
}

static size_t body_length(const http_reply *reply, bool is_head)
{
    const char *at = strcasestr(reply->head, "\r\nContent-Length:");
    if (is_head || !at || reply->status < 200 || reply->status == 204) return 0;
    return strtoul(at + 17, NULL, 10);
}

void http_client_read(http_client *c, http_reply *reply, bool is_head)
{
    memset(reply, 0, sizeof *reply);
    const char *end = NULL;
    while (c->n == 0 || !(end = memmem(c->bytes, c->n, "\r\n\r\n", 4))) {
        if (client_fill(c) == 0) return;
    }
    size_t n_head = (size_t)(end - c->bytes) + 4;
    assert_true(n_head < sizeof reply->head);
    memcpy(reply->head, c->bytes, n_head);
    assert_int_equal(strncmp(reply->head, "HTTP/1.", 7), 0);
    reply->status = atoi(reply->head + 9);
    client_take(c, n_head);
    reply->n_body = body_length(reply, is_head);
    while (c->n < reply->n_body) {
        if (client_fill(c) == 0) fail_msg("a body was cut off");
    }
    reply->body = calloc(1, reply->n_body + 1);
    assert_non_null(reply->body);
    if (reply->n_body > 0) memcpy(reply->body, c->bytes, reply->n_body);
    client_take(c, reply->n_body);
}

int http_client_read_final(http_client *c, http_reply *reply)
{
    int n_interim = 0;
    http_client_read(c, reply, false);
    while (reply->status >= 100 && reply->status < 200) {
        n_interim++;
        http_reply_free(reply);
        http_client_read(c, reply, false);
    }
    return n_interim;
}

void http_reply_free(http_reply *reply)
{
    free(reply->body);
    reply->body = NULL;
}

void http_client_expect(http_client *c, int status, const char *body_prefix)
{
    http_reply reply;
    http_client_read(c, &reply, false);
    if (reply.status != status) {
        fail_msg("found status %d, expected %d: %s", reply.status, status, reply.body);
    }
    assert_non_null(reply.body);
    assert_int_equal(strncmp(reply.body, body_prefix, strlen(body_prefix)), 0);
    http_reply_free(&reply);
}

void http_client_expect_closed(http_client *c)
{
    while (client_fill(c) > 0) continue;
    assert_int_equal(c->n, 0);
}

void http_client_shut(http_client *c)
{
    if (c->session) gnutls_bye(c->session, GNUTLS_SHUT_WR);
    shutdown(c->fd, SHUT_WR);
}

void http_client_close(http_client *c)
{
    if (c->session) gnutls_deinit(c->session);
    if (c->credentials) gnutls_certificate_free_credentials(c->credentials);
    close(c->fd);
    free(c->bytes);
    memset(c, 0, sizeof *c);
    c->fd = -1;
}

void http_client_reset(http_client *c)
{
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    http_client_close(c);
}

void http_client_post(http_client *c, const char *path, const char *headers, const char *body)
{
    char *text = NULL;
    int n = asprintf(&text, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n%s\r\n%s", path,
                     strlen(body), headers, body);
    assert_true(n > 0);
    http_client_send(c, text, (size_t)n);
    free(text);
}

void http_client_get(http_client *c, const char *path, const char *headers)
{
    char text[4096];
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", path, headers);
    http_client_say(c, text);
}
