#include "server/socket/socket_stream.h"

#include <assert.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct pr_socket_stream {
    int fd;
    pr_http_tls *certificates; /* NULL: plain */
    gnutls_certificate_credentials_t credentials;
    gnutls_session_t session;
    bool is_shaken; /* the handshake is done */
    bool has_pending; /* GnuTLS has taken a record and not sent all of it */
};

static int certificate_find(gnutls_session_t session, const gnutls_datum_t *names, int n_names,
                            const gnutls_pk_algorithm_t *algorithms, int n_algorithms,
                            gnutls_pcert_st **chain, unsigned *n_chain, gnutls_privkey_t *key)
{
    (void)names, (void)n_names, (void)algorithms, (void)n_algorithms;
    pr_socket_stream *s = gnutls_session_get_ptr(session);
    pr_http_tls_get(s->certificates, chain, n_chain, key);
    return 0;
}

static int session_open(pr_socket_stream *s)
{
    int rc = gnutls_certificate_allocate_credentials(&s->credentials);
    if (rc < 0) return rc;
    gnutls_certificate_set_retrieve_function2(s->credentials, certificate_find);
    rc = gnutls_init(&s->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    if (rc == 0) rc = gnutls_priority_set_direct(s->session, PR_HTTP_TLS_PRIORITIES, NULL);
    if (rc == 0) rc = gnutls_credentials_set(s->session, GNUTLS_CRD_CERTIFICATE, s->credentials);
    if (rc < 0) return rc;
    gnutls_session_set_ptr(s->session, s);
    gnutls_transport_set_int(s->session, s->fd);
    gnutls_handshake_set_timeout(s->session, GNUTLS_INDEFINITE_TIMEOUT); /* the caller has one */
    return 0;
}

pr_status pr_socket_stream_open(int fd, pr_http_tls *certificates, pr_socket_stream **out,
                                pr_error *err)
{
    pr_socket_stream *s = calloc(1, sizeof *s);
    if (!s) return pr_error_nomem(err, "connection", sizeof *s);
    s->fd = fd;
    if (certificates) {
        s->certificates = pr_http_tls_ref(certificates);
        int rc = session_open(s);
        if (rc < 0) {
            s->fd = -1; /* still the caller's */
            pr_socket_stream_close(s);
            return pr_error_set(err, PR_E_INTERNAL, "TLS session: %s", gnutls_strerror(rc));
        }
    }
    *out = s;
    return PR_OK;
}

void pr_socket_stream_close(pr_socket_stream *s)
{
    if (!s) return;
    if (s->session) gnutls_deinit(s->session);
    if (s->credentials) gnutls_certificate_free_credentials(s->credentials);
    pr_http_tls_unref(s->certificates);
    if (s->fd >= 0) close(s->fd);
    free(s);
}

/* What GnuTLS returns, as this module says it. */
static int64_t of_gnutls(ssize_t n)
{
    if (n >= 0) return n;
    return n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED ? PR_SOCKET_AGAIN : PR_SOCKET_GONE;
}

static int64_t of_errno(ssize_t n)
{
    if (n >= 0) return n;
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? PR_SOCKET_AGAIN
                                                                     : PR_SOCKET_GONE;
}

/* 0: done; else AGAIN or GONE. */
static int64_t shake(pr_socket_stream *s)
{
    int rc = 0;
    if (s->is_shaken) return 0;
    do {
        rc = gnutls_handshake(s->session);
    } while (rc < 0 && rc != GNUTLS_E_AGAIN && rc != GNUTLS_E_INTERRUPTED &&
             !gnutls_error_is_fatal(rc));
    s->is_shaken = rc == 0;
    return of_gnutls(rc);
}

int64_t pr_socket_stream_read(pr_socket_stream *s, void *dst, size_t n)
{
    assert(n >= 16384);
    if (!s->session) return of_errno(recv(s->fd, dst, n, 0));
    int64_t rc = shake(s);
    if (rc != 0) return rc;
    ssize_t got;
    do {
        got = gnutls_record_recv(s->session, dst, n);
    } while (got < 0 && got != GNUTLS_E_AGAIN && got != GNUTLS_E_INTERRUPTED &&
             !gnutls_error_is_fatal((int)got) && got != GNUTLS_E_REHANDSHAKE);
    return of_gnutls(got);
}

int64_t pr_socket_stream_write(pr_socket_stream *s, const void *src, size_t n)
{
    if (!s->session) return of_errno(send(s->fd, src, n, MSG_NOSIGNAL));
    int64_t rc = shake(s);
    if (rc != 0) return rc;
    /* A record that was not all sent goes on by itself; it stands for its bytes. */
    ssize_t sent = s->has_pending ? gnutls_record_send(s->session, NULL, 0)
                                    : gnutls_record_send(s->session, src, n);
    s->has_pending = sent == GNUTLS_E_AGAIN || sent == GNUTLS_E_INTERRUPTED;
    return of_gnutls(sent);
}

bool pr_socket_stream_wants_write(const pr_socket_stream *s)
{
    return s->session && !s->is_shaken && gnutls_record_get_direction(s->session) == 1;
}

void pr_socket_stream_end(pr_socket_stream *s)
{
    /* Best effort: a client that does not read finds the end of the stream behind it. */
    if (s->session && s->is_shaken) gnutls_bye(s->session, GNUTLS_SHUT_WR);
    shutdown(s->fd, SHUT_WR);
}
