/* runtime/base/strmap.h: a hash map from byte strings to 32-bit numbers (vocabularies, names).
 *
 * Owns copies of its keys. Filled by one thread; once filled, read by any number of threads. */
#ifndef POOLRANK_RUNTIME_BASE_STRMAP_H
#define POOLRANK_RUNTIME_BASE_STRMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct pr_strmap pr_strmap;

/* n_expected: how many keys will come, 0 when unknown. NULL when there is no memory. */
pr_strmap *pr_strmap_create(size_t n_expected);
void pr_strmap_free(pr_strmap *m);

/* Adds or replaces; a key may hold any bytes, NUL included. False when there is no memory.
 * The hash is seeded per map, so that a crafted file cannot make every key collide. */
bool pr_strmap_put(pr_strmap *m, const char *key, size_t n_key, uint32_t value);

/* False when the key is not there; *out is then untouched. out may be NULL. */
bool pr_strmap_get(const pr_strmap *m, const char *key, size_t n_key, uint32_t *out);

size_t pr_strmap_count(const pr_strmap *m);

#endif
