#define _GNU_SOURCE
#include "runtime/wire/auth.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <nettle/hmac.h>
#include <nettle/memops.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static_assert(PR_PROOF_BYTES == SHA256_DIGEST_SIZE, "a proof is one digest");

/* getrandom may be interrupted, and gives at least 256 bytes at once when it is not. */
static pr_status random_fill(uint8_t *out, size_t n, pr_error *err)
{
    for (size_t at = 0; at < n;) {
        ssize_t k = getrandom(out + at, n - at, 0);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) {
            return pr_error_set(err, PR_E_INTERNAL, "random numbers of the system: %s",
                                strerror(errno));
        }
        at += (size_t)k;
    }
    return PR_OK;
}

pr_status pr_nonce_make(uint8_t nonce[PR_NONCE_BYTES], pr_error *err)
{
    return random_fill(nonce, PR_NONCE_BYTES, err);
}

void pr_hmac_sha256(const void *key, size_t n_key, const void *data, size_t n,
                    uint8_t digest[PR_PROOF_BYTES])
{
    struct hmac_sha256_ctx h;
    hmac_sha256_set_key(&h, n_key, key);
    hmac_sha256_update(&h, n, data);
    hmac_sha256_digest(&h, PR_PROOF_BYTES, digest);
    explicit_bzero(&h, sizeof h);
}

void pr_auth_prove(const pr_key *key, pr_auth_role role, const uint8_t nonce_i[PR_NONCE_BYTES],
                   const uint8_t nonce_r[PR_NONCE_BYTES], const void *identity, size_t n_identity,
                   uint8_t proof[PR_PROOF_BYTES])
{
    assert(key->n >= PR_KEY_BYTES_MIN && key->n <= PR_KEY_BYTES_MAX);
    bool is_initiator = role == PR_AUTH_INITIATOR;
    struct hmac_sha256_ctx h;
    hmac_sha256_set_key(&h, key->n, key->bytes);
    hmac_sha256_update(&h, 1, (const uint8_t *)(is_initiator ? "i" : "r"));
    hmac_sha256_update(&h, PR_NONCE_BYTES, is_initiator ? nonce_r : nonce_i);
    hmac_sha256_update(&h, PR_NONCE_BYTES, is_initiator ? nonce_i : nonce_r);
    hmac_sha256_update(&h, n_identity, identity);
    hmac_sha256_digest(&h, PR_PROOF_BYTES, proof);
    explicit_bzero(&h, sizeof h);
}

bool pr_proof_equal(const uint8_t a[PR_PROOF_BYTES], const uint8_t b[PR_PROOF_BYTES])
{
    return memeql_sec(a, b, PR_PROOF_BYTES) != 0;
}

static pr_status key_file_check(const char *path, int fd, pr_error *err)
{
    struct stat s;
    if (fstat(fd, &s) != 0) return pr_error_errno(err, errno, "key file %s", path);
    if (!S_ISREG(s.st_mode)) {
        return pr_error_set(err, PR_E_ARGUMENT, "key file %s: expected a regular file", path);
    }
    if (s.st_uid != geteuid()) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "key file %s: owner: found user %lu, expected %lu", path,
                            (unsigned long)s.st_uid, (unsigned long)geteuid());
    }
    if ((s.st_mode & 077) != 0) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "key file %s: mode: found %04o, expected 0600 (chmod 600)", path,
                            (unsigned)(s.st_mode & 07777));
    }
    return PR_OK;
}

/* Reads to the end of the file, at most n_max bytes. */
static pr_status key_bytes_read(const char *path, int fd, uint8_t *out, size_t n_max, size_t *n,
                                pr_error *err)
{
    for (*n = 0; *n < n_max;) {
        ssize_t k = read(fd, out + *n, n_max - *n);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return pr_error_errno(err, errno, "key file %s", path);
        if (k == 0) break;
        *n += (size_t)k;
    }
    return PR_OK;
}

pr_status pr_key_read(const char *path, pr_key *out, pr_error *err)
{
    /* Not blocking: whoever puts a FIFO in the place stops nothing. */
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 && errno == ELOOP) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "key file %s: found a symbolic link, expected a regular file", path);
    }
    if (fd < 0) return pr_error_errno(err, errno, "key file %s", path);
    uint8_t bytes[PR_KEY_BYTES_MAX + 2]; /* a line feed, and one byte that shows a longer file */
    size_t n = 0;
    pr_status st = key_file_check(path, fd, err);
    if (st == PR_OK) st = key_bytes_read(path, fd, bytes, sizeof bytes, &n, err);
    close(fd);
    if (st == PR_OK && n > 0 && bytes[n - 1] == '\n') n--;
    if (st == PR_OK && (n < PR_KEY_BYTES_MIN || n > PR_KEY_BYTES_MAX)) {
        st = pr_error_set(err, PR_E_ARGUMENT, "key file %s: found %s%zu bytes, expected %d to %d",
                          path, n > PR_KEY_BYTES_MAX ? "at least " : "", n, (int)PR_KEY_BYTES_MIN,
                          (int)PR_KEY_BYTES_MAX);
    }
    if (st == PR_OK) {
        memcpy(out->bytes, bytes, n);
        out->n = n;
    }
    explicit_bzero(bytes, sizeof bytes);
    return st;
}

static pr_status all_write(const char *path, int fd, const char *data, size_t n, pr_error *err)
{
    for (size_t at = 0; at < n;) {
        ssize_t k = write(fd, data + at, n - at);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return pr_error_errno(err, errno, "write key file %s", path);
        at += (size_t)k;
    }
    return PR_OK;
}

pr_status pr_key_create(const char *path, pr_error *err)
{
    enum { RANDOM_BYTES = 32 };
    static const char digits[] = "0123456789abcdef";
    uint8_t random[RANDOM_BYTES];
    pr_status st = random_fill(random, sizeof random, err);
    if (st != PR_OK) return st;
    char text[2 * RANDOM_BYTES + 1];
    for (int i = 0; i < RANDOM_BYTES; i++) {
        text[2 * i] = digits[random[i] >> 4];
        text[2 * i + 1] = digits[random[i] & 15];
    }
    text[2 * RANDOM_BYTES] = '\n';
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        st = pr_error_set(err, PR_E_IO, "create key file %s: %s", path, strerror(errno));
    } else {
        st = fchmod(fd, 0600) == 0 ? all_write(path, fd, text, sizeof text, err)
                                   : pr_error_errno(err, errno, "mode of key file %s", path);
        if (close(fd) != 0 && st == PR_OK) {
            st = pr_error_errno(err, errno, "write key file %s", path);
        }
        if (st != PR_OK) unlink(path);
    }
    explicit_bzero(random, sizeof random);
    explicit_bzero(text, sizeof text);
    return st;
}
