#include "runtime/text/vocab.h"

#include "runtime/base/arena.h"
#include "runtime/base/strmap.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct pr_vocab {
    pr_strmap *index; /* token to its position in entries, while it is filled; to its id after */
    pr_arena *bytes;
    pr_vocab_entry *entries;
    size_t n;
    size_t n_max;
};

pr_vocab *pr_vocab_create(size_t n_expected)
{
    pr_vocab *v = calloc(1, sizeof *v);
    if (!v) return NULL;
    v->index = pr_strmap_create(n_expected);
    v->bytes = pr_arena_create(0);
    v->n_max = n_expected ? n_expected : 16;
    v->entries = malloc(v->n_max * sizeof *v->entries);
    if (!v->index || !v->bytes || !v->entries) {
        pr_vocab_free(v);
        return NULL;
    }
    return v;
}

void pr_vocab_free(pr_vocab *v)
{
    if (!v) return;
    pr_strmap_free(v->index);
    pr_arena_free(v->bytes);
    free(v->entries);
    free(v);
}

bool pr_vocab_add(pr_vocab *v, const char *token, size_t n, int32_t id)
{
    assert(id >= 0);
    uint32_t i = 0;
    if (pr_strmap_get(v->index, token, n, &i)) {
        v->entries[i].id = id;
        return true;
    }
    if (v->n == v->n_max) {
        pr_vocab_entry *grown = realloc(v->entries, v->n_max * 2 * sizeof *grown);
        if (!grown) return false;
        v->entries = grown;
        v->n_max *= 2;
    }
    const char *copy = pr_arena_copy(v->bytes, token, n);
    if (!copy || !pr_strmap_put(v->index, token, n, (uint32_t)v->n)) return false;
    v->entries[v->n++] = (pr_vocab_entry){copy, n, id};
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
    if (!is_sorted) qsort(v->entries, v->n, sizeof *v->entries, compare_ids);
    for (size_t i = 0; i < v->n; i++) {
        /* Every key is there, so that this only overwrites and needs no memory. */
        pr_strmap_put(v->index, v->entries[i].token, v->entries[i].n, (uint32_t)v->entries[i].id);
    }
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

int32_t pr_vocab_id(const pr_vocab *v, const char *token, size_t n)
{
    uint32_t id = 0;
    return pr_strmap_get(v->index, token, n, &id) ? (int32_t)id : -1;
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
