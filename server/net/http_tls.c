#include "server/net/http_tls.h"

#include "runtime/base/file.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHAIN_MAX = 16,
    FILE_BYTES_MAX = 1 << 20,
    KEY_ID_BYTES = 64, /* SHA-256 takes 32 */
};

struct pr_http_tls {
    unsigned n_references;
    unsigned n_chain;
    gnutls_pcert_st chain[CHAIN_MAX];
    gnutls_privkey_t key;
};

static pr_status tls_fail(pr_error *err, const char *what, const char *file, int failure)
{
    return pr_error_set(err, failure == GNUTLS_E_MEMORY_ERROR ? PR_E_NOMEM : PR_E_ARGUMENT,
                        "%s: %s: %s", what, file, gnutls_strerror(failure));
}

static pr_status chain_read(pr_http_tls *tls, const char *file, pr_error *err)
{
    char *text = NULL;
    size_t n = 0;
    pr_status st = pr_file_read(file, FILE_BYTES_MAX, &text, &n, err);
    if (st != PR_OK) return pr_error_context(err, st, "ssl-certfile");
    gnutls_datum_t data = {.data = (unsigned char *)text, .size = (unsigned)n};
    unsigned n_chain = CHAIN_MAX;
    int failure =
        gnutls_pcert_list_import_x509_raw(tls->chain, &n_chain, &data, GNUTLS_X509_FMT_PEM, 0);
    free(text);
    if (failure < 0) return tls_fail(err, "ssl-certfile", file, failure);
    tls->n_chain = n_chain;
    if (n_chain > 0) return PR_OK;
    return pr_error_set(err, PR_E_ARGUMENT, "ssl-certfile: %s: no certificate", file);
}

static pr_status key_read(pr_http_tls *tls, const char *file, pr_error *err)
{
    char *text = NULL;
    size_t n = 0;
    pr_status st = pr_file_read(file, FILE_BYTES_MAX, &text, &n, err);
    if (st != PR_OK) return pr_error_context(err, st, "ssl-keyfile");
    gnutls_datum_t data = {.data = (unsigned char *)text, .size = (unsigned)n};
    int failure = gnutls_privkey_init(&tls->key);
    if (failure == 0) {
        failure =
            gnutls_privkey_import_x509_raw(tls->key, &data, GNUTLS_X509_FMT_PEM, NULL, 0);
    }
    gnutls_memset(text, 0, n);
    free(text);
    return failure == 0 ? PR_OK : tls_fail(err, "ssl-keyfile", file, failure);
}

/* Compares the identities of both public keys. */
static int key_fits(const pr_http_tls *tls, bool *fits)
{
    unsigned char of_key[KEY_ID_BYTES], of_chain[KEY_ID_BYTES];
    size_t n_key = sizeof of_key, n_chain = sizeof of_chain;
    gnutls_pubkey_t public_key = NULL;
    int failure = gnutls_pubkey_init(&public_key);
    if (failure == 0) failure = gnutls_pubkey_import_privkey(public_key, tls->key, 0, 0);
    if (failure == 0) {
        failure = gnutls_pubkey_get_key_id(public_key, GNUTLS_KEYID_USE_SHA256, of_key, &n_key);
    }
    if (failure == 0) {
        failure = gnutls_pubkey_get_key_id(tls->chain[0].pubkey, GNUTLS_KEYID_USE_SHA256, of_chain,
                                           &n_chain);
    }
    if (public_key) gnutls_pubkey_deinit(public_key);
    *fits = failure == 0 && n_key == n_chain && memcmp(of_key, of_chain, n_key) == 0;
    return failure;
}

pr_status pr_http_tls_open(const char *certfile, const char *keyfile, pr_http_tls **out,
                           pr_error *err)
{
    pr_http_tls *tls = calloc(1, sizeof *tls);
    if (!tls) return pr_error_nomem(err, "certificates", sizeof *tls);
    tls->n_references = 1;
    bool fits = false;
    int failure = 0;
    pr_status st = chain_read(tls, certfile, err);
    if (st == PR_OK) st = key_read(tls, keyfile, err);
    if (st == PR_OK && (failure = key_fits(tls, &fits)) != 0) {
        st = tls_fail(err, "ssl-keyfile", keyfile, failure);
    }
    if (st == PR_OK && !fits) {
        st = pr_error_set(err, PR_E_ARGUMENT,
                          "ssl-keyfile: %s is not the key of the first certificate in %s", keyfile,
                          certfile);
    }
    if (st == PR_OK) {
        *out = tls;
        tls = NULL; /* now the caller's */
    }
    pr_http_tls_unref(tls);
    return st;
}

pr_http_tls *pr_http_tls_ref(pr_http_tls *tls)
{
    if (tls) tls->n_references++;
    return tls;
}

void pr_http_tls_unref(pr_http_tls *tls)
{
    if (!tls || --tls->n_references > 0) return;
    for (unsigned i = 0; i < tls->n_chain; i++) gnutls_pcert_deinit(&tls->chain[i]);
    if (tls->key) gnutls_privkey_deinit(tls->key);
    free(tls);
}

void pr_http_tls_get(pr_http_tls *tls, gnutls_pcert_st **chain, unsigned *n_chain,
                     gnutls_privkey_t *key)
{
    *chain = tls->chain;
    *n_chain = tls->n_chain;
    *key = tls->key;
}
