/* server/net/http_tls.h: a certificate chain and its private key, as GnuTLS takes them.
 *
 * A pr_http_tls is immutable once open and counted: a connection keeps the one that its handshake
 * began with, so that a new one may take its place at any time. Loop thread only. */
#ifndef POOLRANK_SERVER_NET_HTTP_TLS_H
#define POOLRANK_SERVER_NET_HTTP_TLS_H

#include "runtime/base/status.h"

#include <gnutls/abstract.h>

/* TLS 1.2 and 1.3, as GnuTLS writes it. */
#define PR_HTTP_TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

typedef struct pr_http_tls pr_http_tls;

/* PEM files: the server's certificate first, then those that signed it. Fails PR_E_ARGUMENT (not
 * PEM, a key with a password, a key that is not the certificate's), PR_E_NOT_FOUND, PR_E_IO,
 * PR_E_NOMEM. */
pr_status pr_http_tls_open(const char *certfile, const char *keyfile, pr_http_tls **out,
                           pr_error *err);
pr_http_tls *pr_http_tls_ref(pr_http_tls *tls); /* NULL is fine */
void pr_http_tls_unref(pr_http_tls *tls);       /* NULL is fine */

/* What a gnutls_certificate_retrieve_function2 returns; borrowed while the reference is held. */
void pr_http_tls_get(pr_http_tls *tls, gnutls_pcert_st **chain, unsigned *n_chain,
                     gnutls_privkey_t *key);

#endif
