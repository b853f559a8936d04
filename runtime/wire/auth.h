/* runtime/wire/auth.h: proving that both ends of a connection have the same key, without sending
 * it: HMAC-SHA256 (RFC 2104, FIPS 180-4) over fresh nonces of both sides.
 *
 *     initiator                                        responder
 *       nonce_i, identity                        ──►
 *                                                ◄──   nonce_r,
 *                                                      HMAC(key, "r" nonce_i nonce_r identity)
 *       HMAC(key, "i" nonce_r nonce_i identity)  ──►
 *
 * Pure but for the nonces (getrandom). Any thread. */
#ifndef POOLRANK_RUNTIME_WIRE_AUTH_H
#define POOLRANK_RUNTIME_WIRE_AUTH_H

#include "runtime/base/status.h"

#include <stdint.h>

enum { PR_NONCE_BYTES = 32, PR_PROOF_BYTES = 32, PR_KEY_BYTES_MIN = 16, PR_KEY_BYTES_MAX = 4096 };

typedef struct pr_key {
    uint8_t bytes[PR_KEY_BYTES_MAX];
    size_t n;
} pr_key;

typedef enum pr_auth_role { PR_AUTH_INITIATOR, PR_AUTH_RESPONDER } pr_auth_role;

/* Fails PR_E_INTERNAL when the system has no random numbers. */
pr_status pr_nonce_make(uint8_t nonce[PR_NONCE_BYTES], pr_error *err);

/* HMAC-SHA256 of data [n] under key [n_key]. */
void pr_hmac_sha256(const void *key, size_t n_key, const void *data, size_t n,
                    uint8_t digest[PR_PROOF_BYTES]);

/* What `role` sends as its proof; nonce_i is the initiator's, nonce_r the responder's; identity
 * [n_identity]: the bytes of the message that named the initiator. */
void pr_auth_prove(const pr_key *key, pr_auth_role role, const uint8_t nonce_i[PR_NONCE_BYTES],
                   const uint8_t nonce_r[PR_NONCE_BYTES], const void *identity, size_t n_identity,
                   uint8_t proof[PR_PROOF_BYTES]);

/* Compares in constant time. */
bool pr_proof_equal(const uint8_t a[PR_PROOF_BYTES], const uint8_t b[PR_PROOF_BYTES]);

/* Reads a key file; a trailing line feed is no part of the key. Fails PR_E_NOT_FOUND, PR_E_IO;
 * PR_E_ARGUMENT when it is no regular file (a link is none), another user's, open to group or
 * others (found and expected mode), or its length is not 16 to 4096 bytes. */
pr_status pr_key_read(const char *path, pr_key *out, pr_error *err);

/* Writes a fresh random key of 32 bytes, as hexadecimal digits, into a new file of mode 0600. Fails
 * PR_E_IO. */
pr_status pr_key_create(const char *path, pr_error *err);

#endif
