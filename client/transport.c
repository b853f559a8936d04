#include "client/transport.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { HOST_BYTES = 256, PORT_BYTES = 8 };

struct pr_transport {
    int fd;
    uint32_t timeout_ms;
    gnutls_certificate_credentials_t credentials;
    gnutls_session_t session; /* NULL: plain */
    bool has_pending; /* GnuTLS has taken a record and not sent all of it */
};

/* Waits for events of the socket; PR_E_TIMEOUT. */
static pr_status wait_for(pr_transport *t, short events, short *found, pr_error *err)
{
    struct pollfd p = {.fd = t->fd, .events = events};
    int rc;
    do {
        rc = poll(&p, 1, t->timeout_ms ? (int)t->timeout_ms : -1);
    } while (rc < 0 && errno == EINTR);
    if (rc < 0) return pr_error_errno(err, errno, "poll");
    if (rc == 0) {
        return pr_error_set(err, PR_E_TIMEOUT, "nothing came from the server for %u ms",
                            t->timeout_ms);
    }
    *found = p.revents;
    return PR_OK;
}

/* ---- connecting ---- */

static pr_status socket_connect(pr_transport *t, const struct sockaddr *a, socklen_t n,
                                const char *where, pr_error *err)
{
    int error = 0;
    short found = 0;
    socklen_t n_error = sizeof error;
    t->fd = socket(a->sa_family, SOCK_STREAM, 0);
    if (t->fd < 0) return pr_error_errno(err, errno, "%s: socket", where);
    fcntl(t->fd, F_SETFD, FD_CLOEXEC);
    fcntl(t->fd, F_SETFL, O_NONBLOCK);
    if (connect(t->fd, a, n) == 0) return PR_OK;
    error = errno;
    if (error == EINPROGRESS) {
        pr_status st = wait_for(t, POLLOUT, &found, err);
        if (st != PR_OK) return pr_error_context(err, st, "%s", where);
        if (getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &error, &n_error) != 0) error = errno;
    }
    if (error == 0) return PR_OK;
    return pr_error_set(err, PR_E_IO, "%s: connect: %s", where, strerror(error));
}

static pr_status unix_connect(pr_transport *t, const char *path, pr_error *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof a.sun_path) {
        return pr_error_set(err, PR_E_ARGUMENT, "%s: a path of %zu bytes, expected at most %zu",
                            path, strlen(path), sizeof a.sun_path - 1);
    }
    memcpy(a.sun_path, path, strlen(path) + 1);
    return socket_connect(t, (const struct sockaddr *)&a, sizeof a, path, err);
}

/* "HOST:PORT"; an IPv6 address in brackets. */
static pr_status host_parse(const char *address, char host[HOST_BYTES], char port[PORT_BYTES],
                            pr_error *err)
{
    const char *colon = strrchr(address, ':');
    size_t n_host = colon ? (size_t)(colon - address) : 0;
    bool is_bracketed = n_host > 2 && address[0] == '[' && colon[-1] == ']';
    if (is_bracketed) {
        address++;
        n_host -= 2;
    }
    size_t n_port = colon ? strlen(colon + 1) : 0;
    bool is_right = n_host > 0 && n_host < HOST_BYTES && n_port > 0 && n_port < PORT_BYTES &&
                    strspn(colon + 1, "0123456789") == n_port;
    if (!is_right) {
        return pr_error_set(err, PR_E_ARGUMENT, "address: found %s, expected HOST:PORT", address);
    }
    memcpy(host, address, n_host);
    host[n_host] = '\0';
    memcpy(port, colon + 1, n_port + 1);
    return PR_OK;
}

static pr_status tcp_connect(pr_transport *t, const char *host, const char *port, pr_error *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *all = NULL;
    int failure = getaddrinfo(host, port, &hints, &all);
    if (failure != 0) {
        return pr_error_set(err, PR_E_IO, "host %s: %s", host, gai_strerror(failure));
    }
    pr_status st = PR_E_IO;
    for (const struct addrinfo *at = all; at && st != PR_OK; at = at->ai_next) {
        if (t->fd >= 0) close(t->fd);
        t->fd = -1;
        st = socket_connect(t, at->ai_addr, at->ai_addrlen, host, err);
    }
    freeaddrinfo(all);
    int on = 1;
    if (st == PR_OK) setsockopt(t->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return st;
}

/* ---- TLS ---- */

static pr_status tls_fail(pr_error *err, const char *what, int failure)
{
    return pr_error_set(err, failure == GNUTLS_E_MEMORY_ERROR ? PR_E_NOMEM : PR_E_IO, "%s: %s",
                        what, gnutls_strerror(failure));
}

static pr_status session_open(pr_transport *t, const char *host, const char *ca_file, pr_error *err)
{
    int rc = gnutls_certificate_allocate_credentials(&t->credentials);
    if (rc < 0) return tls_fail(err, "TLS", rc);
    rc = ca_file ? gnutls_certificate_set_x509_trust_file(t->credentials, ca_file,
                                                          GNUTLS_X509_FMT_PEM)
                 : gnutls_certificate_set_x509_system_trust(t->credentials);
    if (rc < 0 || (ca_file && rc == 0)) {
        return pr_error_set(err, PR_E_ARGUMENT, "CA file %s: %s", ca_file ? ca_file : "",
                            rc < 0 ? gnutls_strerror(rc) : "no certificate in it");
    }
    rc = gnutls_init(&t->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    if (rc == 0) rc = gnutls_set_default_priority(t->session);
    if (rc == 0) rc = gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, t->credentials);
    if (rc < 0) return tls_fail(err, "TLS", rc);
    struct in6_addr ignored;
    bool is_number = inet_pton(AF_INET, host, &ignored) == 1 ||
                     inet_pton(AF_INET6, host, &ignored) == 1;
    if (!is_number) { /* names only: RFC 6066, section 3 */
        gnutls_server_name_set(t->session, GNUTLS_NAME_DNS, host, strlen(host));
    }
    gnutls_session_set_verify_cert(t->session, host, 0);
    gnutls_transport_set_int(t->session, t->fd);
    return PR_OK;
}

static pr_status tls_shake(pr_transport *t, const char *host, pr_error *err)
{
    for (;;) {
        short found = 0;
        int rc = gnutls_handshake(t->session);
        if (rc == 0) return PR_OK;
        if (rc == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR) {
            gnutls_datum_t why = {0};
            unsigned status = gnutls_session_get_verify_cert_status(t->session);
            gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &why, 0);
            pr_error_set(err, PR_E_IO, "TLS with %s: %s", host, why.data ? (char *)why.data : "");
            gnutls_free(why.data);
            return PR_E_IO;
        }
        if (rc != GNUTLS_E_AGAIN && rc != GNUTLS_E_INTERRUPTED && gnutls_error_is_fatal(rc)) {
            return tls_fail(err, "TLS handshake", rc);
        }
        if (rc != GNUTLS_E_AGAIN) continue;
        bool writes = gnutls_record_get_direction(t->session) == 1;
        pr_status st = wait_for(t, writes ? POLLOUT : POLLIN, &found, err);
        if (st != PR_OK) return st;
    }
}

/* ---- open and close ---- */

static pr_status address_open(pr_transport *t, const char *address, const char *ca_file,
                              pr_error *err)
{
    char host[HOST_BYTES], port[PORT_BYTES];
    if (strncmp(address, "unix:///", 8) == 0) return unix_connect(t, address + 7, err);
    bool is_tls = strncmp(address, "tls://", 6) == 0;
    if (!is_tls && strncmp(address, "tcp://", 6) != 0) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "address: found %s, expected tcp://HOST:PORT, tls://HOST:PORT or "
                            "unix:///PATH",
                            address);
    }
    pr_status st = host_parse(address + 6, host, port, err);
    if (st == PR_OK) st = tcp_connect(t, host, port, err);
    if (st == PR_OK && is_tls) st = session_open(t, host, ca_file, err);
    if (st == PR_OK && is_tls) st = tls_shake(t, host, err);
    return st;
}

pr_status pr_transport_open(const char *address, const char *ca_file, uint32_t timeout_ms,
                            pr_transport **out, pr_error *err)
{
    pr_transport *t = calloc(1, sizeof *t);
    if (!t) return pr_error_nomem(err, "connection", sizeof *t);
    t->fd = -1;
    t->timeout_ms = timeout_ms <= INT32_MAX ? timeout_ms : INT32_MAX;
    pr_status st = address_open(t, address, ca_file, err);
    if (st != PR_OK) {
        pr_transport_close(t);
        return st;
    }
    *out = t;
    return PR_OK;
}

void pr_transport_close(pr_transport *t)
{
    if (!t) return;
    if (t->session) gnutls_deinit(t->session);
    if (t->credentials) gnutls_certificate_free_credentials(t->credentials);
    if (t->fd >= 0) close(t->fd);
    free(t);
}

/* ---- bytes ---- */

/* Bytes moved; 0: not now; < 0: broken, with the reason in *err. */
static ssize_t send_some(pr_transport *t, const void *src, size_t n, pr_error *err)
{
    ssize_t sent;
    if (!t->session) {
        sent = send(t->fd, src, n, MSG_NOSIGNAL);
        if (sent >= 0) return sent;
        if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return 0;
        pr_error_set(err, PR_E_IO, "send: %s", strerror(errno));
        return -1;
    }
    sent = t->has_pending ? gnutls_record_send(t->session, NULL, 0)
                          : gnutls_record_send(t->session, src, n);
    t->has_pending = sent == GNUTLS_E_AGAIN || sent == GNUTLS_E_INTERRUPTED;
    if (sent >= 0) return sent;
    if (t->has_pending) return 0;
    tls_fail(err, "send", (int)sent);
    return -1;
}

static ssize_t receive_some(pr_transport *t, void *dst, size_t n, pr_error *err)
{
    ssize_t got = t->session ? gnutls_record_recv(t->session, dst, n) : recv(t->fd, dst, n, 0);
    if (got > 0) return got;
    if (got == 0 || got == GNUTLS_E_PREMATURE_TERMINATION) {
        pr_error_set(err, PR_E_IO, "the server has closed the connection");
        return -1;
    }
    if (t->session) {
        if (!gnutls_error_is_fatal((int)got)) return 0;
        tls_fail(err, "receive", (int)got);
    } else {
        if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return 0;
        pr_error_set(err, PR_E_IO, "receive: %s", strerror(errno));
    }
    return -1;
}

pr_status pr_transport_move(pr_transport *t, const void *src, size_t n_src, size_t *n_sent,
                            void *dst, size_t n_dst, size_t *n_received, pr_error *err)
{
    pr_error why_unsent = {0};
    *n_sent = *n_received = 0;
    for (;;) {
        short found = 0;
        ssize_t sent = n_src > 0 ? send_some(t, src, n_src, &why_unsent) : 0;
        /* A server that refuses closes behind its reason, which is still there to be read. */
        ssize_t got = receive_some(t, dst, n_dst, err);
        if (got > 0) *n_received = (size_t)got;
        if (sent > 0) *n_sent = (size_t)sent;
        if (got > 0 || (sent > 0 && got == 0)) return PR_OK;
        if (got < 0) return PR_E_IO;
        if (sent < 0) return pr_error_set(err, PR_E_IO, "%s", why_unsent.message);
        pr_status st = wait_for(t, n_src > 0 ? POLLIN | POLLOUT : POLLIN, &found, err);
        if (st != PR_OK) return st;
    }
}
