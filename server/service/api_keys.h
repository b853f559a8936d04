/* server/service/api_keys.h: who may use the service: named keys, from a file, the environment or
 * an option.
 *
 * A pr_api_keys is immutable once made; SIGHUP makes a new one and the holder swaps it. Owns
 * copies; keys themselves are kept as SHA-256 digests only. Any thread. */
#ifndef POOLRANK_SERVER_SERVICE_API_KEYS_H
#define POOLRANK_SERVER_SERVICE_API_KEYS_H

#include "runtime/base/status.h"

#include <stdbool.h>

enum { PR_API_KEY_NAME_BYTES_MAX = 64, PR_API_KEY_BYTES_MAX = 4096, PR_API_KEYS_MAX = 10000 };

typedef struct pr_api_keys pr_api_keys;

/* file: of "name:key" lines ('#' and blank lines are skipped; a name is [A-Za-z0-9._-], a key the
 * printable ASCII that a header carries, without spaces); NULL: none. A symbolic link is followed:
 * what it leads to is checked.
 * keys: [n_keys] of --api-key and POOLRANK_API_KEY; the name of each is "option" or "environment",
 * as `names` [n_keys] says. With neither, every request is let in (pr_api_keys_are_needed false).
 * Fails PR_E_NOT_FOUND, PR_E_IO, PR_E_ARGUMENT (file open to group or others, owned by another user
 * than this process's or root, a line that is malformed with its number but never its text, a name
 * or a key twice, no key in the file, too many), PR_E_NOMEM. */
pr_status pr_api_keys_open(const char *file, const char *const *keys, const char *const *names,
                           size_t n_keys, pr_api_keys **out, pr_error *err);
void pr_api_keys_free(pr_api_keys *keys); /* NULL is fine */
bool pr_api_keys_are_needed(const pr_api_keys *keys);
size_t pr_api_keys_count(const pr_api_keys *keys);

/* The name of the key [n] that a client sent, borrowed from keys; NULL: none of them. All keys are
 * compared, each in constant time. */
const char *pr_api_keys_find(const pr_api_keys *keys, const char *key, size_t n);

/* The key inside an Authorization header ("Bearer KEY", scheme in any case): borrowed, *n its
 * length; NULL: another form. */
const char *pr_api_key_of_header(const char *header, size_t *n);

/* ---- pure part, for tests ---- */

/* As open, from the contents [n] of a file that messages call `where`. */
pr_status pr_api_keys_parse(const char *data, size_t n, const char *where, pr_api_keys **out,
                            pr_error *err);

#endif
