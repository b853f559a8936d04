#include "runtime/text/tokenizer/vocab.h"

#include "runtime/base/arena.h"
#include "runtime/base/hash.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Points at an entry. The tag, other bits of the hash, spares most looks at wrong entries, each of
 * which would cost a cache miss: with 150,000 tokens that is what loading and encoding wait for. */
typedef struct slot {
    uint32_t tag;
    uint32_t i_entry_plus_1; /* 0: empty */
} slot;

struct pr_vocab {
    slot *slots; /* [n_slots], a power of two, at most 2/3 full; linear probing */
    size_t n_slots;
    pr_arena *bytes;
    pr_vocab_entry *entries; /* [n], in order of their ids once finished */
    size_t n;
    size_t n_max;
    pr_hash_seed seed;
};

pr_vocab *pr_vocab_create(size_t n_expected)
{
    pr_vocab *v = calloc(1, sizeof *v);
    if (!v) return NULL;
    v->seed = pr_hash_seed_make(v);
    v->n_slots = 16;
    while (v->n_slots / 3 * 2 < n_expected) v->n_slots *= 2;
    v->slots = calloc(v->n_slots, sizeof *v->slots);
    v->bytes = pr_arena_create(0);
    v->n_max = n_expected ? n_expected : 16;
    v->entries = malloc(v->n_max * sizeof *v->entries);
    if (!v->slots || !v->bytes || !v->entries) {
        pr_vocab_free(v);
        return NULL;
    }
    return v;
}

void pr_vocab_free(pr_vocab *v)
{
    if (!v) return;
    free(v->slots);
    pr_arena_free(v->bytes);
    free(v->entries);
    free(v);
}

/* The slot of the token, or the empty one where it would go. */
static slot *find(const pr_vocab *v, const char *token, size_t n, uint64_t hash)
{
    uint32_t tag = (uint32_t)(hash >> 32);
    for (size_t i = hash & (v->n_slots - 1);; i = (i + 1) & (v->n_slots - 1)) {
        slot *s = &v->slots[i];
        if (s->i_entry_plus_1 == 0) return s;
        if (s->tag != tag) continue;
        const pr_vocab_entry *e = &v->entries[s->i_entry_plus_1 - 1];
        if (e->n == n && memcmp(e->token, token, n) == 0) return s;
    }
}

/* Points the slots, all empty, at the entries. */
static void fill_slots(pr_vocab *v)
{
    for (size_t i = 0; i < v->n; i++) {
        uint64_t hash = pr_hash_bytes(v->seed, v->entries[i].token, v->entries[i].n);
        *find(v, v->entries[i].token, v->entries[i].n, hash) =
            (slot){(uint32_t)(hash >> 32), (uint32_t)i + 1};
    }
}

static bool grow(pr_vocab *v)
{
    size_t n_max = v->n_max * 2;
    pr_vocab_entry *entries = realloc(v->entries, n_max * sizeof *entries);
    if (!entries) return false;
    v->entries = entries;
    v->n_max = n_max;
    while (v->n_slots / 3 * 2 < n_max) {
        slot *slots = calloc(v->n_slots * 2, sizeof *slots);
        if (!slots) return false;
        free(v->slots);
        v->slots = slots;
        v->n_slots *= 2;
        fill_slots(v);
    }
    return true;
}

bool pr_vocab_add(pr_vocab *v, const char *token, size_t n, int32_t id)
{
    assert(id >= 0);
    if (v->n >= INT32_MAX || n > UINT32_MAX) return false;
    if (v->n == v->n_max && !grow(v)) return false;
    uint64_t hash = pr_hash_bytes(v->seed, token, n);
    slot *s = find(v, token, n, hash);
    if (s->i_entry_plus_1 > 0) {
        v->entries[s->i_entry_plus_1 - 1].id = id;
        return true;
    }
    const char *copy = pr_arena_copy(v->bytes, token, n);
    if (!copy) return false;
    v->entries[v->n++] = (pr_vocab_entry){copy, (uint32_t)n, id};
    *s = (slot){(uint32_t)(hash >> 32), (uint32_t)v->n};
    return true;
}

static int compare_ids(const void *a, const void *b)
{
    const pr_vocab_entry *x = a;
    const pr_vocab_entry *y = b;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return x->token < y->token ? -1 : x->token > y->token;
}

void pr_vocab_finish(pr_vocab *v)
{
    bool is_sorted = true;
    for (size_t i = 1; i < v->n && is_sorted; i++) {
        is_sorted = v->entries[i - 1].id < v->entries[i].id;
    }
    if (is_sorted) return;
    qsort(v->entries, v->n, sizeof *v->entries, compare_ids);
    memset(v->slots, 0, v->n_slots * sizeof *v->slots);
    fill_slots(v);
}

static pr_status parse_entry(pr_vocab *v, const char *token, const json_t *value,
                             const char *where, pr_error *err)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) > PR_TOKEN_ID_MAX) {
        if (json_is_integer(value)) {
            return pr_error_set(err, PR_E_MODEL,
                                "%s: vocab: token \"%.100s\": found id %lld, expected 0 to %d",
                                where, token, (long long)json_integer_value(value),
                                PR_TOKEN_ID_MAX);
        }
        return pr_error_set(err, PR_E_MODEL,
                            "%s: vocab: token \"%.100s\": found %s, expected an integer", where,
                            token, pr_json_type_name(value));
    }
    if (!pr_vocab_add(v, token, strlen(token), (int32_t)json_integer_value(value))) {
        return pr_error_nomem(err, "vocabulary", v->n * sizeof *v->entries);
    }
    return PR_OK;
}

pr_status pr_vocab_parse(const json_t *node, const char *where, pr_vocab **out, pr_error *err)
{
    assert(json_is_object(node));
    pr_vocab *v = pr_vocab_create(json_object_size(node));
    if (!v) return pr_error_nomem(err, "vocabulary", json_object_size(node) * sizeof *v->entries);
    json_t *object = (json_t *)(uintptr_t)node; /* jansson iterates over mutable objects only */
    const char *token;
    json_t *value;
    json_object_foreach(object, token, value)
    {
        pr_status st = parse_entry(v, token, value, where, err);
        if (st != PR_OK) {
            pr_vocab_free(v);
            return st;
        }
    }
    pr_vocab_finish(v);
    *out = v;
    return PR_OK;
}

/* Half the quotes, which is right where no token has one. */
static size_t count_entries(const pr_model_text *text)
{
    size_t n = 0;
    for (size_t i = 0; i < text->n_vocab; i++) n += text->vocab[i] == '"';
    return n / 2;
}

static bool read_entries(pr_vocab *v, pr_text_cursor *c, bool *no_memory)
{
    if (!pr_text_cursor_take(c, '{')) return false;
    if (pr_text_cursor_take(c, '}')) return c->at == c->end;
    do {
        pr_text_string key;
        int32_t id = 0;
        pr_buffer_clear(c->unescaped);
        if (!pr_text_cursor_read(c, &key) || !pr_text_cursor_take(c, ':') ||
            !pr_text_cursor_id(c, PR_TOKEN_ID_MAX, &id)) {
            return false;
        }
        if (!pr_vocab_add(v, pr_text_cursor_string(c, &key), key.n, id)) {
            *no_memory = true;
            return false;
        }
    } while (pr_text_cursor_take(c, ','));
    return pr_text_cursor_take(c, '}') && c->at == c->end;
}

pr_status pr_vocab_read(pr_model_text *text, pr_vocab **out, pr_error *err)
{
    pr_buffer unescaped = {0};
    pr_text_cursor c = {text->vocab, text->vocab + text->n_vocab, &unescaped};
    bool no_memory = false;
    size_t n = count_entries(text);
    pr_vocab *v = pr_vocab_create(n);
    if (!v) return pr_error_nomem(err, "vocabulary", n * sizeof *v->entries);
    bool ok = read_entries(v, &c, &no_memory);
    pr_buffer_deinit(&unescaped);
    if (ok) {
        pr_vocab_finish(v);
        *out = v;
        return PR_OK;
    }
    pr_vocab_free(v);
    if (no_memory) return pr_error_nomem(err, "vocabulary", n * sizeof *v->entries);
    text->is_odd = true;
    return PR_E_MODEL;
}

int32_t pr_vocab_id_hashed(const pr_vocab *v, const char *token, size_t n, uint64_t hash)
{
    const slot *s = find(v, token, n, hash);
    return s->i_entry_plus_1 ? v->entries[s->i_entry_plus_1 - 1].id : -1;
}

int32_t pr_vocab_id(const pr_vocab *v, const char *token, size_t n)
{
    return pr_vocab_id_hashed(v, token, n, pr_hash_bytes(v->seed, token, n));
}

uint64_t pr_vocab_hash(const pr_vocab *v, const char *token, size_t n)
{
    return pr_hash_bytes(v->seed, token, n);
}

void pr_vocab_prefetch_slot(const pr_vocab *v, uint64_t hash)
{
    __builtin_prefetch(&v->slots[hash & (v->n_slots - 1)]);
}

/* The entry whose tag is the hash's, as find goes; NULL: none. */
static const pr_vocab_entry *likely_entry(const pr_vocab *v, uint64_t hash)
{
    uint32_t tag = (uint32_t)(hash >> 32);
    for (size_t i = hash & (v->n_slots - 1);; i = (i + 1) & (v->n_slots - 1)) {
        const slot *s = &v->slots[i];
        if (s->i_entry_plus_1 == 0) return NULL;
        if (s->tag == tag) return &v->entries[s->i_entry_plus_1 - 1];
    }
}

void pr_vocab_prefetch_entry(const pr_vocab *v, uint64_t hash)
{
    const pr_vocab_entry *e = likely_entry(v, hash);
    if (e) __builtin_prefetch(e);
}

void pr_vocab_prefetch_token(const pr_vocab *v, uint64_t hash)
{
    const pr_vocab_entry *e = likely_entry(v, hash);
    if (e) __builtin_prefetch(e->token);
}

const char *pr_vocab_token(const pr_vocab *v, int32_t id, size_t *n)
{
    size_t low = 0;
    size_t high = v->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (v->entries[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == v->n || v->entries[low].id != id) return NULL;
    *n = v->entries[low].n;
    return v->entries[low].token;
}

size_t pr_vocab_count(const pr_vocab *v)
{
    return v->n;
}

const pr_vocab_entry *pr_vocab_entries(const pr_vocab *v, size_t *n)
{
    *n = v->n;
    return v->entries;
}

void pr_vocab_byte_ids(const pr_vocab *v, int32_t ids[256])
{
    static const char hex[] = "0123456789ABCDEF";
    for (int b = 0; b < 256; b++) {
        char token[6] = {'<', '0', 'x', hex[b >> 4], hex[b & 15], '>'};
        ids[b] = pr_vocab_id(v, token, sizeof token);
    }
}

pr_status pr_vocab_build_trie(const pr_vocab *v, pr_byte_trie **out, pr_error *err)
{
    pr_trie_entry *entries = malloc((v->n ? v->n : 1) * sizeof *entries);
    if (!entries) return pr_error_nomem(err, "trie", v->n * sizeof *entries);
    for (size_t i = 0; i < v->n; i++) {
        entries[i] = (pr_trie_entry){v->entries[i].token, v->entries[i].n, v->entries[i].id};
    }
    pr_status st = pr_byte_trie_build(entries, v->n, out, err);
    free(entries);
    return st;
}
