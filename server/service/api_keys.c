#define _GNU_SOURCE /* explicit_bzero */
#include "server/service/api_keys.h"

#include "runtime/base/strmap.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file of PR_API_KEYS_MAX keys that are much longer than keys are, and its comments. */
enum { FILE_BYTES_MAX = 16 << 20 };

typedef struct api_key {
    uint8_t digest[SHA256_DIGEST_SIZE];
    char name[PR_API_KEY_NAME_BYTES_MAX + 1];
} api_key;

struct pr_api_keys {
    api_key *keys; /* [n] */
    size_t n, n_max;
};

/* Keys while they are gathered: where each name and each key was first met, 0 outside a file. */
typedef struct gathering {
    pr_api_keys *keys;
    pr_strmap *lines_of_names, *lines_of_digests;
} gathering;

static void digest_make(const char *key, size_t n, uint8_t digest[SHA256_DIGEST_SIZE])
{
    struct sha256_ctx h;
    sha256_init(&h);
    sha256_update(&h, n, (const uint8_t *)key);
    sha256_digest(&h, SHA256_DIGEST_SIZE, digest);
    explicit_bzero(&h, sizeof h);
}

/* ---- gathering ---- */

static void gathering_deinit(gathering *g)
{
    pr_api_keys_free(g->keys);
    pr_strmap_free(g->lines_of_names);
    pr_strmap_free(g->lines_of_digests);
}

static pr_status gathering_init(gathering *g, pr_error *err)
{
    *g = (gathering){.keys = calloc(1, sizeof *g->keys),
                     .lines_of_names = pr_strmap_create(0),
                     .lines_of_digests = pr_strmap_create(0)};
    if (g->keys && g->lines_of_names && g->lines_of_digests) return PR_OK;
    gathering_deinit(g);
    return pr_error_nomem(err, "API keys", sizeof *g->keys);
}

/* What is wrong with a key says where, never what it is. */
static pr_status key_check(const char *key, size_t n, pr_error *err)
{
    if (n < 1 || n > PR_API_KEY_BYTES_MAX) {
        return pr_error_set(err, PR_E_ARGUMENT, "the key: found %zu bytes, expected 1 to %d", n,
                            (int)PR_API_KEY_BYTES_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)key[i];
        if (c <= 0x20 || c >= 0x7F) {
            return pr_error_set(err, PR_E_ARGUMENT,
                                "the key: byte %zu: found a space, a control "
                                "byte or no ASCII, which no client can send",
                                i + 1);
        }
    }
    return PR_OK;
}

static pr_status name_check(const char *name, size_t n, pr_error *err)
{
    if (n < 1 || n > PR_API_KEY_NAME_BYTES_MAX) {
        return pr_error_set(err, PR_E_ARGUMENT, "the name: found %zu bytes, expected 1 to %d", n,
                            (int)PR_API_KEY_NAME_BYTES_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        if (isascii((unsigned char)name[i]) && isalnum((unsigned char)name[i])) continue;
        if (name[i] != '\0' && strchr("._-", name[i])) continue;
        return pr_error_set(err, PR_E_ARGUMENT,
                            "the name: byte %zu: expected one of A-Z a-z 0-9 . _ -", i + 1);
    }
    return PR_OK;
}

/* Not there yet? line: of this one. */
static pr_status first_check(pr_strmap *lines, const char *what, const void *bytes, size_t n,
                             uint32_t line, pr_error *err)
{
    uint32_t first;
    if (pr_strmap_get(lines, bytes, n, &first)) {
        return first ? pr_error_set(err, PR_E_ARGUMENT, "%s is that of line %u again", what,
                                    (unsigned)first)
                     : pr_error_set(err, PR_E_ARGUMENT,
                                    "%s is that of --api-key or POOLRANK_API_KEY again", what);
    }
    return pr_strmap_put(lines, bytes, n, line) ? PR_OK : pr_error_nomem(err, "API keys", n);
}

static pr_status keys_grow(pr_api_keys *k, pr_error *err)
{
    if (k->n == PR_API_KEYS_MAX) {
        return pr_error_set(err, PR_E_ARGUMENT, "found more than %d keys", (int)PR_API_KEYS_MAX);
    }
    if (k->n < k->n_max) return PR_OK;
    size_t n_max = k->n_max ? 2 * k->n_max : 8;
    api_key *grown = realloc(k->keys, n_max * sizeof *grown);
    if (!grown) return pr_error_nomem(err, "API keys", n_max * sizeof *grown);
    k->keys = grown;
    k->n_max = n_max;
    return PR_OK;
}

static pr_status key_add(gathering *g, const char *name, size_t n_name, const char *key,
                         size_t n_key, uint32_t line, pr_error *err)
{
    pr_status st = name_check(name, n_name, err);
    if (st == PR_OK) st = key_check(key, n_key, err);
    if (st == PR_OK) st = keys_grow(g->keys, err);
    if (st != PR_OK) return st;
    api_key *k = &g->keys->keys[g->keys->n];
    *k = (api_key){.name = ""};
    memcpy(k->name, name, n_name);
    digest_make(key, n_key, k->digest);
    st = first_check(g->lines_of_names, "the name", name, n_name, line, err);
    if (st == PR_OK) {
        st = first_check(g->lines_of_digests, "the key", k->digest, sizeof k->digest, line, err);
    }
    if (st == PR_OK) g->keys->n++;
    return st;
}

/* ---- the file ---- */

static bool is_blank(const char *line, size_t n)
{
    while (n > 0 && (line[n - 1] == ' ' || line[n - 1] == '\t')) n--;
    return n == 0;
}

/* line: without its line feed. */
static pr_status line_add(gathering *g, const char *line, size_t n, uint32_t number, pr_error *err)
{
    if (n > 0 && line[n - 1] == '\r') n--;
    if (is_blank(line, n) || line[0] == '#') return PR_OK;
    const char *colon = memchr(line, ':', n);
    if (!colon) return pr_error_set(err, PR_E_ARGUMENT, "found no colon, expected name:key");
    size_t n_name = (size_t)(colon - line);
    return key_add(g, line, n_name, colon + 1, n - n_name - 1, number, err);
}

static pr_status lines_add(gathering *g, const char *data, size_t n, const char *where,
                           pr_error *err)
{
    uint32_t number = 0;
    size_t n_before = g->keys->n;
    for (size_t at = 0; at < n;) {
        const char *feed = memchr(data + at, '\n', n - at);
        size_t end = feed ? (size_t)(feed - data) : n;
        pr_status st = line_add(g, data + at, end - at, ++number, err);
        if (st != PR_OK) return pr_error_context(err, st, "%s: line %u", where, (unsigned)number);
        at = end + 1;
    }
    if (g->keys->n > n_before) return PR_OK;
    return pr_error_set(err, PR_E_ARGUMENT, "%s: found no key, expected lines name:key", where);
}

static pr_status file_check(const char *path, int fd, size_t *n, pr_error *err)
{
    struct stat s;
    if (fstat(fd, &s) != 0) return pr_error_errno(err, errno, "API key file %s", path);
    if (!S_ISREG(s.st_mode)) {
        return pr_error_set(err, PR_E_ARGUMENT, "API key file %s: expected a regular file", path);
    }
    if (s.st_uid != geteuid() && s.st_uid != 0) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "API key file %s: owner: found user %lu, expected %lu or root", path,
                            (unsigned long)s.st_uid, (unsigned long)geteuid());
    }
    if ((s.st_mode & 077) != 0) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "API key file %s: mode: found %04o, expected 0600 (chmod 600)", path,
                            (unsigned)(s.st_mode & 07777));
    }
    if (s.st_size > FILE_BYTES_MAX) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "API key file %s: found %lld bytes, expected at "
                            "most %d",
                            path, (long long)s.st_size, (int)FILE_BYTES_MAX);
    }
    *n = (size_t)s.st_size;
    return PR_OK;
}

/* The file as it was when it was measured: lines that are appended meanwhile are not read. */
static pr_status bytes_read(const char *path, int fd, char *data, size_t *n, pr_error *err)
{
    size_t at = 0;
    while (at < *n) {
        ssize_t k = read(fd, data + at, *n - at);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return pr_error_errno(err, errno, "API key file %s", path);
        if (k == 0) break;
        at += (size_t)k;
    }
    *n = at;
    return PR_OK;
}

static pr_status file_add(gathering *g, const char *path, pr_error *err)
{
    char *data = NULL;
    size_t n = 0, n_data = 0;
    /* Not blocking: whoever puts a FIFO in the place stops nothing. */
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) return pr_error_errno(err, errno, "API key file %s", path);
    pr_status st = file_check(path, fd, &n, err);
    if (st != PR_OK) goto cleanup;
    n_data = n;
    if (!(data = malloc(n_data + 1))) {
        st = pr_error_nomem(err, "API key file", n_data + 1);
        goto cleanup;
    }
    if ((st = bytes_read(path, fd, data, &n, err)) != PR_OK) goto cleanup;
    if ((st = lines_add(g, data, n, path, err)) != PR_OK) {
        pr_error_context(err, st, "API key file");
    }
cleanup:
    if (data) explicit_bzero(data, n_data);
    free(data);
    close(fd);
    return st;
}

/* ---- making ---- */

static pr_status options_add(gathering *g, const char *const *keys, const char *const *names,
                             size_t n_keys, pr_error *err)
{
    for (size_t i = 0; i < n_keys; i++) {
        pr_status st = key_add(g, names[i], strlen(names[i]), keys[i], strlen(keys[i]), 0, err);
        if (st != PR_OK) return pr_error_context(err, st, "API key of the %s", names[i]);
    }
    return PR_OK;
}

pr_status pr_api_keys_open(const char *file, const char *const *keys, const char *const *names,
                           size_t n_keys, pr_api_keys **out, pr_error *err)
{
    gathering g;
    pr_status st = gathering_init(&g, err);
    if (st != PR_OK) return st;
    st = options_add(&g, keys, names, n_keys, err);
    if (st == PR_OK && file) st = file_add(&g, file, err);
    if (st == PR_OK) {
        *out = g.keys;
        g.keys = NULL; /* now the caller's */
    }
    gathering_deinit(&g);
    return st;
}

pr_status pr_api_keys_parse(const char *data, size_t n, const char *where, pr_api_keys **out,
                            pr_error *err)
{
    gathering g;
    pr_status st = gathering_init(&g, err);
    if (st != PR_OK) return st;
    st = lines_add(&g, data, n, where, err);
    if (st == PR_OK) {
        *out = g.keys;
        g.keys = NULL; /* now the caller's */
    }
    gathering_deinit(&g);
    return st;
}

void pr_api_keys_free(pr_api_keys *keys)
{
    if (!keys) return;
    free(keys->keys);
    free(keys);
}

bool pr_api_keys_are_needed(const pr_api_keys *keys)
{
    return keys->n > 0;
}

size_t pr_api_keys_count(const pr_api_keys *keys)
{
    return keys->n;
}

/* ---- what clients send ---- */

/* 1 or 0, by no branch and no early end. Word by word: nettle's memeql_sec goes byte by byte, and
 * took 65 us of the loop thread for 1,000 keys where this takes 1.4. */
static uint64_t digests_equal(const uint8_t a[SHA256_DIGEST_SIZE],
                              const uint8_t b[SHA256_DIGEST_SIZE])
{
    uint64_t difference = 0;
    for (size_t i = 0; i < SHA256_DIGEST_SIZE; i += sizeof difference) {
        uint64_t x, y;
        memcpy(&x, a + i, sizeof x);
        memcpy(&y, b + i, sizeof y);
        difference |= x ^ y;
    }
    return ((difference | (0 - difference)) >> 63) ^ 1;
}

const char *pr_api_keys_find(const pr_api_keys *keys, const char *key, size_t n)
{
    if (n > PR_API_KEY_BYTES_MAX) return NULL; /* its length is the client's own */
    uint8_t digest[SHA256_DIGEST_SIZE];
    digest_make(key, n, digest);
    size_t found = SIZE_MAX;
    for (size_t i = 0; i < keys->n; i++) {
        size_t mask = 0 - (size_t)digests_equal(digest, keys->keys[i].digest);
        found = (found & ~mask) | (i & mask); /* no branch says which key it was */
    }
    return found == SIZE_MAX ? NULL : keys->keys[found].name;
}

const char *pr_api_key_of_header(const char *header, size_t *n)
{
    static const char scheme[] = "bearer";
    if (strncasecmp(header, scheme, sizeof scheme - 1) != 0) return NULL;
    const char *key = header + sizeof scheme - 1;
    if (*key != ' ') return NULL;
    key += strspn(key, " ");
    size_t n_key = strlen(key);
    while (n_key > 0 && (key[n_key - 1] == ' ' || key[n_key - 1] == '\t')) n_key--;
    if (n_key == 0 || memchr(key, ' ', n_key)) return NULL;
    *n = n_key;
    return key;
}
