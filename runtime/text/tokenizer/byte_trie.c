#include "runtime/text/tokenizer/byte_trie.h"

#include "runtime/text/limits.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* The children of a node lie side by side, ordered by label; nodes are numbered level by level, so
 * building needs no recursion, whatever the strings' length. */
typedef struct node {
    uint32_t first_child;
    int32_t value; /* -1: no string ends here */
    uint16_t n_children;
    uint8_t label; /* the byte that leads here */
} node;

struct pr_byte_trie {
    node *nodes;
    size_t n;
    size_t n_max;
    uint32_t root_children[256]; /* the first step is taken at every byte of a text */
};

/* What a node still has to become: entries[begin, end) share their first `depth` bytes. */
typedef struct range {
    uint32_t begin;
    uint32_t end;
    uint32_t depth;
} range;

static int entry_compare(const void *a, const void *b)
{
    const pr_trie_entry *x = a;
    const pr_trie_entry *y = b;
    int order = memcmp(x->bytes, y->bytes, x->n < y->n ? x->n : y->n);
    if (order != 0) return order;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return x->value < y->value ? -1 : x->value > y->value;
}

static pr_status check_entries(const pr_trie_entry *entries, size_t n, pr_error *err)
{
    if (n > INT32_MAX) {
        return pr_error_set(err, PR_E_TOO_LARGE,
                            "trie: found %zu strings, expected fewer than 2^31", n);
    }
    for (size_t i = 0; i < n; i++) {
        if (entries[i].n <= PR_TRIE_STRING_BYTES_MAX) continue;
        return pr_error_set(err, PR_E_UNSUPPORTED,
                            "token \"%.40s…\": found %zu bytes, expected at most %d",
                            entries[i].bytes, entries[i].n, PR_TRIE_STRING_BYTES_MAX);
    }
    return PR_OK;
}

static bool reserve_node(pr_byte_trie *t, range **ranges)
{
    if (t->n < t->n_max) return true;
    size_t n_max = t->n_max ? t->n_max * 2 : 1024;
    node *nodes = realloc(t->nodes, n_max * sizeof *nodes);
    if (nodes) t->nodes = nodes;
    range *grown = realloc(*ranges, n_max * sizeof *grown);
    if (grown) *ranges = grown;
    if (!nodes || !grown) return false;
    t->n_max = n_max;
    return true;
}

static bool add_children(pr_byte_trie *t, range **ranges, const pr_trie_entry *entries,
                         size_t i_node)
{
    range r = (*ranges)[i_node];
    while (r.begin < r.end && entries[r.begin].n == r.depth) {
        t->nodes[i_node].value = entries[r.begin].value;
        r.begin++;
    }
    t->nodes[i_node].first_child = (uint32_t)t->n;
    while (r.begin < r.end) {
        uint8_t label = (uint8_t)entries[r.begin].bytes[r.depth];
        uint32_t end = r.begin + 1;
        while (end < r.end && (uint8_t)entries[end].bytes[r.depth] == label) end++;
        if (!reserve_node(t, ranges)) return false;
        t->nodes[t->n] = (node){.value = -1, .label = label};
        (*ranges)[t->n] = (range){r.begin, end, r.depth + 1};
        t->n++;
        t->nodes[i_node].n_children++;
        r.begin = end;
    }
    return true;
}

pr_status pr_byte_trie_build(pr_trie_entry *entries, size_t n, pr_byte_trie **out, pr_error *err)
{
    assert(out);
    pr_status st = PR_OK;
    range *ranges = NULL;
    pr_byte_trie *t = calloc(1, sizeof *t);
    if (!t || !reserve_node(t, &ranges)) {
        st = pr_error_nomem(err, "trie", sizeof *t);
        goto cleanup;
    }
    if ((st = check_entries(entries, n, err)) != PR_OK) goto cleanup;
    if (n > 1) qsort(entries, n, sizeof *entries, entry_compare);
    t->nodes[0] = (node){.value = -1};
    ranges[0] = (range){0, (uint32_t)n, 0};
    t->n = 1;
    for (size_t i = 0; i < t->n; i++) {
        if (t->n > INT32_MAX || !add_children(t, &ranges, entries, i)) {
            st = pr_error_nomem(err, "trie", t->n * sizeof *t->nodes);
            goto cleanup;
        }
    }
    for (uint32_t i = 0; i < t->nodes[0].n_children; i++) {
        uint32_t child = t->nodes[0].first_child + i;
        t->root_children[t->nodes[child].label] = child;
    }
    *out = t;
    t = NULL;
cleanup:
    pr_byte_trie_free(t);
    free(ranges);
    return st;
}

void pr_byte_trie_free(pr_byte_trie *t)
{
    if (!t) return;
    free(t->nodes);
    free(t);
}

uint32_t pr_byte_trie_step(const pr_byte_trie *t, uint32_t i_node, unsigned char byte)
{
    if (i_node == PR_TRIE_ROOT) return t->root_children[byte];
    uint32_t low = t->nodes[i_node].first_child;
    uint32_t high = low + t->nodes[i_node].n_children;
    while (high - low > 8) {
        uint32_t middle = low + (high - low) / 2;
        if (t->nodes[middle].label <= byte) {
            low = middle;
        } else {
            high = middle;
        }
    }
    for (; low < high; low++) {
        if (t->nodes[low].label == byte) return low;
    }
    return PR_TRIE_ROOT;
}

int32_t pr_byte_trie_value(const pr_byte_trie *t, uint32_t i_node)
{
    return t->nodes[i_node].value;
}

size_t pr_byte_trie_longest(const pr_byte_trie *t, uint32_t i_node, const char *text, size_t n,
                            int32_t *value)
{
    size_t longest = 0;
    for (size_t i = 0; i < n; i++) {
        i_node = pr_byte_trie_step(t, i_node, (unsigned char)text[i]);
        if (i_node == PR_TRIE_ROOT) break;
        if (t->nodes[i_node].value < 0) continue;
        *value = t->nodes[i_node].value;
        longest = i + 1;
    }
    return longest;
}
