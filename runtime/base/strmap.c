#include "runtime/base/strmap.h"

#include "runtime/base/arena.h"
#include "runtime/base/hash.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

typedef struct slot {
    const char *key; /* NULL: empty */
    uint32_t n_key;
    uint32_t value;
    uint64_t hash;
} slot;

struct pr_strmap {
    pr_arena *keys;
    slot *slots; /* n_slots is a power of two; linear probing, at most 3/4 full */
    size_t n_slots;
    size_t n;
    pr_hash_seed seed;
};

pr_strmap *pr_strmap_create(size_t n_expected)
{
    pr_strmap *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->seed = pr_hash_seed_make(m);
    m->n_slots = 16;
    while (m->n_slots / 4 * 3 < n_expected && m->n_slots < (size_t)1 << 31) m->n_slots *= 2;
    m->slots = calloc(m->n_slots, sizeof *m->slots);
    m->keys = pr_arena_create(0);
    if (!m->slots || !m->keys) {
        pr_strmap_free(m);
        return NULL;
    }
    return m;
}

void pr_strmap_free(pr_strmap *m)
{
    if (!m) return;
    pr_arena_free(m->keys);
    free(m->slots);
    free(m);
}

static slot *slot_find(const pr_strmap *m, const char *key, size_t n_key, uint64_t hash)
{
    for (size_t i = hash & (m->n_slots - 1);; i = (i + 1) & (m->n_slots - 1)) {
        slot *s = &m->slots[i];
        if (!s->key) return s;
        if (s->hash == hash && s->n_key == n_key && memcmp(s->key, key, n_key) == 0) return s;
    }
}

static bool grow(pr_strmap *m)
{
    size_t n_old = m->n_slots;
    slot *old = m->slots;
    slot *slots = calloc(n_old * 2, sizeof *slots);
    if (!slots) return false;
    m->slots = slots;
    m->n_slots = n_old * 2;
    for (size_t i = 0; i < n_old; i++) {
        if (old[i].key) *slot_find(m, old[i].key, old[i].n_key, old[i].hash) = old[i];
    }
    free(old);
    return true;
}

bool pr_strmap_put(pr_strmap *m, const char *key, size_t n_key, uint32_t value)
{
    assert(m);
    if (n_key > UINT32_MAX) return false;
    uint64_t hash = pr_hash_bytes(m->seed, key, n_key);
    slot *s = slot_find(m, key, n_key, hash);
    if (s->key) {
        s->value = value;
        return true;
    }
    if (m->n + 1 > m->n_slots / 4 * 3) {
        if (!grow(m)) return false;
        s = slot_find(m, key, n_key, hash);
    }
    const char *copy = pr_arena_copy(m->keys, key, n_key);
    if (!copy) return false;
    *s = (slot){.key = copy, .n_key = (uint32_t)n_key, .value = value, .hash = hash};
    m->n++;
    return true;
}

bool pr_strmap_get(const pr_strmap *m, const char *key, size_t n_key, uint32_t *out)
{
    assert(m);
    slot *s = slot_find(m, key, n_key, pr_hash_bytes(m->seed, key, n_key));
    if (!s->key) return false;
    if (out) *out = s->value;
    return true;
}

size_t pr_strmap_count(const pr_strmap *m)
{
    return m->n;
}
