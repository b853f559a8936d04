#include "runtime/text/tokenizer/charsmap.h"

#include "runtime/base/utf8.h"
#include "runtime/text/limits.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

struct char_range {
    uint32_t first;
    uint32_t last;
};

#define UNICODE_TABLES_CLUSTERS
#include "runtime/text/unicode/unicode_tables.h"

/* Clusters of this many bytes or more are never looked up whole. */
enum { CLUSTER_BYTES_MAX = 6 };

typedef struct replacement {
    const char *text; /* NULL: none */
    size_t n;
} replacement;

struct pr_charsmap {
    uint32_t *trie; /* [n_trie], at least 1 */
    size_t n_trie;
    char *texts; /* [n_texts], valid UTF-8, then a NUL */
    size_t n_texts;
    replacement ascii[128]; /* what a cluster of one ASCII character becomes */
};

void pr_charsmap_free(pr_charsmap *map)
{
    if (!map) return;
    free(map->trie);
    free(map->texts);
    free(map);
}

static int base64_value(unsigned char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Standard alphabet with padding; out has room for n / 4 * 3 bytes. */
static bool base64_decode(const char *s, size_t n, unsigned char *out, size_t *n_out)
{
    if (n % 4 != 0) return false;
    size_t n_padding = 0;
    while (n_padding < 2 && n_padding < n && s[n - 1 - n_padding] == '=') n_padding++;
    uint32_t bits = 0;
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        int v = i < n - n_padding ? base64_value((unsigned char)s[i]) : 0;
        if (v < 0) return false;
        bits = bits << 6 | (uint32_t)v;
        if (i % 4 != 3) continue;
        out[used++] = (unsigned char)(bits >> 16);
        out[used++] = (unsigned char)(bits >> 8);
        out[used++] = (unsigned char)bits;
    }
    *n_out = used - n_padding;
    for (size_t i = *n_out; i < used; i++) {
        if (out[i] != 0) return false; /* the bits under the padding */
    }
    return true;
}

static uint32_t read_u32(const unsigned char *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Darts units: bit 31 and the low byte are the label, bit 8 says that a value follows, the offset
 * of the children is in bits 10 to 30, times 256 where bit 9 is set. */
static uint32_t children(uint32_t unit)
{
    return (unit >> 10) << ((unit & (1u << 9)) >> 6);
}

/* The replacement at a position of `texts`; none where the file points astray. */
static replacement replacement_at(const pr_charsmap *map, uint32_t position)
{
    if (position > map->n_texts) return (replacement){0};
    const char *text = map->texts + position;
    if (((unsigned char)*text & 0xc0) == 0x80) return (replacement){0};
    return (replacement){.text = text, .n = strlen(text)};
}

/* The shortest key that key[0..n) begins with. */
static replacement lookup(const pr_charsmap *map, const char *key, size_t n)
{
    uint32_t node = children(map->trie[0]);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)key[i];
        if (c == 0) break;
        node ^= c;
        if (node >= map->n_trie) break;
        uint32_t unit = map->trie[node];
        if ((unit & (1u << 31 | 0xff)) != c) break;
        node ^= children(unit);
        if (node >= map->n_trie) break;
        if (unit & 1u << 8) return replacement_at(map, map->trie[node] & ~(1u << 31));
    }
    return (replacement){0};
}

static pr_status check_texts(const pr_charsmap *map, pr_error *err)
{
    if (pr_utf8_prefix(map->texts, map->n_texts) < map->n_texts) {
        return pr_error_set(err, PR_E_MODEL, "precompiled_charsmap: replacements are not UTF-8");
    }
    for (size_t at = 0; at < map->n_texts;) {
        size_t n = strlen(map->texts + at);
        if (n > PR_REPLACEMENT_BYTES_MAX) {
            return pr_error_set(err, PR_E_UNSUPPORTED,
                                "precompiled_charsmap: found a replacement of %zu bytes, expected "
                                "at most %d",
                                n, PR_REPLACEMENT_BYTES_MAX);
        }
        at += n + 1;
    }
    return PR_OK;
}

static pr_status build(const unsigned char *data, size_t n, pr_charsmap *map, pr_error *err)
{
    size_t n_trie_bytes = n >= 4 ? read_u32(data) / 4 * 4 : 0;
    if (n_trie_bytes == 0 || n_trie_bytes > n - 4) {
        return pr_error_set(err, PR_E_MODEL,
                            "precompiled_charsmap: %zu bytes with a trie of %zu bytes", n,
                            n_trie_bytes);
    }
    map->n_trie = n_trie_bytes / 4;
    map->n_texts = n - 4 - n_trie_bytes;
    map->trie = malloc(n_trie_bytes);
    map->texts = malloc(map->n_texts + 1);
    if (!map->trie || !map->texts) return pr_error_nomem(err, "precompiled_charsmap", n);
    for (size_t i = 0; i < map->n_trie; i++) map->trie[i] = read_u32(data + 4 + 4 * i);
    memcpy(map->texts, data + 4 + n_trie_bytes, map->n_texts);
    map->texts[map->n_texts] = '\0';
    pr_status st = check_texts(map, err);
    if (st != PR_OK) return st;
    for (int c = 0; c < 128; c++) {
        char key = (char)c;
        map->ascii[c] = lookup(map, &key, 1);
    }
    return PR_OK;
}

pr_status pr_charsmap_parse(const char *base64, size_t n, const char *where, pr_charsmap **out,
                            pr_error *err)
{
    assert(base64);
    assert(out);
    pr_status st = PR_OK;
    size_t n_data = 0;
    unsigned char *data = malloc(n / 4 * 3 + 1);
    pr_charsmap *map = calloc(1, sizeof *map);
    if (!data || !map) {
        st = pr_error_nomem(err, "precompiled_charsmap", n);
        goto cleanup;
    }
    if (!base64_decode(base64, n, data, &n_data)) {
        st = pr_error_set(err, PR_E_MODEL, "precompiled_charsmap: not base64");
        goto cleanup;
    }
    if ((st = build(data, n_data, map, err)) != PR_OK) goto cleanup;
    *out = map;
    map = NULL;
cleanup:
    pr_charsmap_free(map);
    free(data);
    return st == PR_OK ? st : pr_error_context(err, st, "%s", where);
}

/* Whether c continues the cluster that before is in, by a later Unicode than utf8proc's. Nothing
 * continues a control character. */
static bool is_late_extender(uint32_t before, uint32_t c)
{
    size_t n = sizeof late_extenders / sizeof *late_extenders;
    if (c < late_extenders[0].first || c > late_extenders[n - 1].last) return false;
    for (size_t i = 0; i < n; i++) {
        if (c < late_extenders[i].first || c > late_extenders[i].last) continue;
        unsigned bound = utf8proc_get_property((utf8proc_int32_t)before)->boundclass;
        return bound != UTF8PROC_BOUNDCLASS_CR && bound != UTF8PROC_BOUNDCLASS_LF &&
               bound != UTF8PROC_BOUNDCLASS_CONTROL;
    }
    return false;
}

/* Bytes of the grapheme cluster at text; n > 0. */
static size_t cluster_bytes(const char *text, size_t n)
{
    uint32_t c;
    size_t at = pr_utf8_decode(text, &c);
    utf8proc_int32_t state = 0;
    while (at < n) {
        uint32_t next;
        size_t width = pr_utf8_decode(text + at, &next);
        if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)c, (utf8proc_int32_t)next, &state) &&
            !is_late_extender(c, next))
            break;
        c = next;
        at += width;
    }
    return at;
}

static void map_cluster(const pr_charsmap *map, const char *text, size_t n, pr_buffer *out)
{
    if (n < CLUSTER_BYTES_MAX) {
        replacement r = lookup(map, text, n);
        if (r.text) {
            pr_buffer_append(out, r.text, r.n);
            return;
        }
    }
    for (size_t at = 0; at < n;) {
        size_t width = pr_utf8_width((unsigned char)text[at]);
        replacement r = lookup(map, text + at, width);
        pr_buffer_append(out, r.text ? r.text : text + at, r.text ? r.n : width);
        at += width;
    }
}

/* How many ASCII characters from text on are clusters of their own that stay as they are. */
static size_t unchanged_prefix(const pr_charsmap *map, const char *text, size_t n)
{
    size_t i = 0;
    while (i < n) {
        unsigned char c = (unsigned char)text[i];
        bool next_is_ascii = i + 1 == n || (unsigned char)text[i + 1] < 0x80;
        if (c >= 0x80 || c == '\r' || !next_is_ascii || map->ascii[c].text) break;
        i++;
    }
    return i;
}

void pr_charsmap_apply(const pr_charsmap *map, const char *text, size_t n, pr_buffer *out)
{
    pr_buffer_reserve(out, n);
    for (size_t at = 0; at < n;) {
        size_t same = unchanged_prefix(map, text + at, n - at);
        pr_buffer_append(out, text + at, same);
        at += same;
        if (at == n) break;
        size_t cluster = cluster_bytes(text + at, n - at);
        map_cluster(map, text + at, cluster, out);
        at += cluster;
    }
}
