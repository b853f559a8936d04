#include "runtime/text/tokenizer/added_tokens.h"

#include "runtime/base/arena.h"
#include "runtime/base/strmap.h"
#include "runtime/base/utf8.h"
#include "runtime/text/tokenizer/byte_trie.h"
#include "runtime/text/unicode/unicode.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct added_token {
    const char *content; /* in the arena */
    size_t n_content;
    const char *text; /* what is looked for and decoded to: content, perhaps normalized */
    size_t n_text;
    int32_t id;
    bool single_word;
    bool lstrip;
    bool rstrip;
    bool normalized;
    bool special;
} added_token;

struct pr_added_tokens {
    pr_arena *bytes;
    added_token *tokens; /* [n] */
    size_t n;
    pr_strmap *ids;      /* content to id */
    pr_strmap *by_id;    /* the four bytes of an id to the token that has it, by position */
    pr_strmap *specials; /* contents of special tokens */
    pr_byte_trie *raw;   /* positions of tokens by text; NULL: none */
    pr_byte_trie *normalized;
    int32_t id_max;
    bool splits_special; /* special tokens inside a text are text */
};

void pr_added_tokens_free(pr_added_tokens *t)
{
    if (!t) return;
    pr_byte_trie_free(t->raw);
    pr_byte_trie_free(t->normalized);
    pr_strmap_free(t->ids);
    pr_strmap_free(t->by_id);
    pr_strmap_free(t->specials);
    pr_arena_free(t->bytes);
    free(t->tokens);
    free(t);
}

static pr_status read_token(const json_t *node, const char *where, added_token *out, pr_error *err)
{
    int64_t id = 0;
    pr_status st = PR_OK;
    if (!json_is_object(node)) {
        return pr_error_set(err, PR_E_MODEL, "%s: found %s, expected an object", where,
                            pr_json_type_name(node));
    }
    if ((st = pr_json_get_i64(node, where, "id", 0, PR_TOKEN_ID_MAX, &id, err)) != PR_OK ||
        (st = pr_json_get_str(node, where, "content", &out->content, err)) != PR_OK ||
        (st = pr_json_get_bool_opt(node, where, "single_word", &out->single_word, err)) != PR_OK ||
        (st = pr_json_get_bool_opt(node, where, "lstrip", &out->lstrip, err)) != PR_OK ||
        (st = pr_json_get_bool_opt(node, where, "rstrip", &out->rstrip, err)) != PR_OK ||
        (st = pr_json_get_bool_opt(node, where, "normalized", &out->normalized, err)) != PR_OK ||
        (st = pr_json_get_bool_opt(node, where, "special", &out->special, err)) != PR_OK) {
        return st;
    }
    out->n_content = json_string_length(json_object_get(node, "content"));
    return PR_OK;
}

static pr_status set_text(pr_added_tokens *t, added_token *token, const pr_normalizer *nz,
                          const char *where, pr_error *err)
{
    token->content = pr_arena_copy(t->bytes, token->content, token->n_content);
    if (!token->content) return pr_error_nomem(err, "added token", token->n_content);
    token->text = token->content;
    token->n_text = token->n_content;
    if (!token->normalized || !nz) return PR_OK;
    pr_buffer text = {0};
    pr_status st = pr_normalizer_apply(nz, token->content, token->n_content, &text, err);
    if (st == PR_OK) {
        token->n_text = text.n;
        token->text = pr_arena_copy(t->bytes, text.n ? text.data : "", text.n);
        if (!token->text) st = pr_error_nomem(err, "added token", text.n);
    }
    pr_buffer_deinit(&text);
    if (st == PR_OK && token->n_text == 0) {
        st = pr_error_set(err, PR_E_UNSUPPORTED,
                          "%s: \"%.100s\" is normalized to nothing, expected a text to look for",
                          where, token->content);
    }
    return st;
}

/* As in tokenizers: a token that is known keeps its id, another gets the next free one. */
static pr_status register_token(pr_added_tokens *t, added_token token, const pr_vocab *vocab,
                                int32_t *next_id, pr_error *err)
{
    token.id = pr_added_tokens_id(t, token.content, token.n_content);
    if (token.id < 0) token.id = pr_vocab_id(vocab, token.content, token.n_content);
    if (token.id < 0) {
        if (*next_id >= PR_TOKEN_ID_MAX) {
            return pr_error_set(err, PR_E_MODEL, "added_tokens: no id is left, expected up to %d",
                                PR_TOKEN_ID_MAX);
        }
        token.id = (*next_id)++;
    }
    t->tokens[t->n] = token;
    if (!pr_strmap_put(t->ids, token.content, token.n_content, (uint32_t)token.id) ||
        !pr_strmap_put(t->by_id, (const char *)&token.id, sizeof token.id, (uint32_t)t->n) ||
        (token.special && !pr_strmap_put(t->specials, token.content, token.n_content, 1))) {
        return pr_error_nomem(err, "added tokens", t->n * sizeof token);
    }
    t->n++;
    if (token.id > t->id_max) t->id_max = token.id;
    return PR_OK;
}

/* Only the last token of each id is looked for. */
static bool is_current(const pr_added_tokens *t, size_t i)
{
    uint32_t current = 0;
    return pr_strmap_get(t->by_id, (const char *)&t->tokens[i].id, sizeof t->tokens[i].id,
                         &current) &&
           current == i;
}

static pr_status build_trie(const pr_added_tokens *t, bool normalized, pr_byte_trie **out,
                            pr_error *err)
{
    pr_trie_entry *entries = malloc((t->n ? t->n : 1) * sizeof *entries);
    if (!entries) return pr_error_nomem(err, "added tokens", t->n * sizeof *entries);
    size_t n = 0;
    for (size_t i = 0; i < t->n; i++) {
        const added_token *token = &t->tokens[i];
        if (token->normalized != normalized || !is_current(t, i)) continue;
        entries[n++] = (pr_trie_entry){token->text, token->n_text, (int32_t)i};
    }
    pr_status st = n ? pr_byte_trie_build(entries, n, out, err) : PR_OK;
    free(entries);
    return st;
}

static pr_status parse_tokens(pr_added_tokens *t, const json_t *nodes, const pr_vocab *vocab,
                              int32_t next_id, const pr_normalizer *nz, const char *where,
                              pr_error *err)
{
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        char place[160];
        snprintf(place, sizeof place, "%.120s[%zu]", where, i);
        added_token token = {0};
        pr_status st = read_token(json_array_get(nodes, i), place, &token, err);
        if (st != PR_OK) return st;
        if (token.n_content == 0) continue;
        if ((st = set_text(t, &token, nz, place, err)) != PR_OK) return st;
        if ((st = register_token(t, token, vocab, &next_id, err)) != PR_OK) return st;
    }
    return PR_OK;
}

pr_status pr_added_tokens_parse(const json_t *nodes, const pr_vocab *vocab, size_t n_model_tokens,
                                const pr_normalizer *nz, bool splits_special, const char *where,
                                pr_added_tokens **out, pr_error *err)
{
    assert(out);
    pr_status st = PR_OK;
    size_t n = nodes ? json_array_size(nodes) : 0;
    pr_added_tokens *t = calloc(1, sizeof *t);
    if (!t) return pr_error_nomem(err, "added tokens", sizeof *t);
    t->id_max = -1;
    t->splits_special = splits_special;
    t->bytes = pr_arena_create(0);
    t->tokens = malloc((n ? n : 1) * sizeof *t->tokens);
    t->ids = pr_strmap_create(n);
    t->by_id = pr_strmap_create(n);
    t->specials = pr_strmap_create(0);
    if (!t->bytes || !t->tokens || !t->ids || !t->by_id || !t->specials) {
        st = pr_error_nomem(err, "added tokens", n * sizeof *t->tokens);
        goto cleanup;
    }
    int32_t next_id = n_model_tokens < PR_TOKEN_ID_MAX ? (int32_t)n_model_tokens : PR_TOKEN_ID_MAX;
    if ((st = parse_tokens(t, nodes, vocab, next_id, nz, where, err)) != PR_OK) goto cleanup;
    if ((st = build_trie(t, false, &t->raw, err)) != PR_OK) goto cleanup;
    if ((st = build_trie(t, true, &t->normalized, err)) != PR_OK) goto cleanup;
    *out = t;
    t = NULL;
cleanup:
    pr_added_tokens_free(t);
    return st;
}

int32_t pr_added_tokens_id(const pr_added_tokens *t, const char *content, size_t n)
{
    uint32_t id = 0;
    return pr_strmap_get(t->ids, content, n, &id) ? (int32_t)id : -1;
}

const char *pr_added_tokens_text(const pr_added_tokens *t, int32_t id, size_t *n)
{
    uint32_t i = 0;
    if (!pr_strmap_get(t->by_id, (const char *)&id, sizeof id, &i)) return NULL;
    *n = t->tokens[i].n_text;
    return t->tokens[i].text;
}

bool pr_added_tokens_is_special(const pr_added_tokens *t, const char *text, size_t n)
{
    return pr_strmap_get(t->specials, text, n, NULL);
}

int32_t pr_added_tokens_id_max(const pr_added_tokens *t)
{
    return t->id_max;
}

void pr_added_scan_init(pr_added_scan *s, const pr_added_tokens *t, bool normalized,
                        const char *text, size_t n)
{
    *s = (pr_added_scan){.tokens = t,
                         .trie = normalized ? t->normalized : t->raw,
                         .text = text,
                         .n = n,
                         .pending = {.id = -1}};
}

static const added_token *find_token(pr_added_scan *s, size_t *begin, size_t *end)
{
    const pr_byte_trie *trie = s->trie;
    if (!trie) return NULL;
    for (size_t i = s->at; i < s->n; i++) {
        if (!pr_byte_trie_step(trie, PR_TRIE_ROOT, (unsigned char)s->text[i])) continue;
        int32_t i_token = -1;
        size_t n = pr_byte_trie_longest(trie, PR_TRIE_ROOT, s->text + i, s->n - i, &i_token);
        if (n == 0) continue;
        *begin = i;
        *end = i + n;
        s->at = i + n;
        return &s->tokens->tokens[i_token];
    }
    s->at = s->n;
    return NULL;
}

static bool touches_word(const pr_added_scan *s, size_t begin, size_t end)
{
    uint32_t c = 0;
    if (begin > 0) {
        pr_utf8_decode(s->text + begin - pr_utf8_width_before(s->text, begin), &c);
        if (pr_char_is_word(c)) return true;
    }
    if (end == s->n) return false;
    pr_utf8_decode(s->text + end, &c);
    return pr_char_is_word(c);
}

static size_t without_spaces_before(const pr_added_scan *s, size_t begin)
{
    if (begin < s->covered) return s->covered;
    while (begin > s->covered) {
        uint32_t c = 0;
        size_t width = pr_utf8_width_before(s->text, begin);
        pr_utf8_decode(s->text + begin - width, &c);
        if (!pr_char_is_whitespace(c)) break;
        begin -= width;
    }
    return begin;
}

static size_t without_spaces_behind(pr_added_scan *s, size_t end)
{
    /* Tokens made of white space would else walk the same run again and again. */
    if (end >= s->spaces_begin && end < s->spaces_end) return s->spaces_end;
    s->spaces_begin = end;
    while (end < s->n) {
        uint32_t c = 0;
        size_t width = pr_utf8_decode(s->text + end, &c);
        if (!pr_char_is_whitespace(c)) break;
        end += width;
    }
    s->spaces_end = end;
    return end;
}

/* The next token with the white space that it takes; false when there is none. */
static bool find_span(pr_added_scan *s, pr_added_span *out)
{
    size_t begin = 0;
    size_t end = 0;
    for (;;) {
        const added_token *token = find_token(s, &begin, &end);
        if (!token) return false;
        if (s->tokens->splits_special &&
            pr_added_tokens_is_special(s->tokens, token->content, token->n_content)) {
            continue;
        }
        if (token->single_word && touches_word(s, begin, end)) continue;
        if (token->lstrip) begin = without_spaces_before(s, begin);
        if (token->rstrip) end = without_spaces_behind(s, end);
        /* White space that is a token with lstrip, but that the token before it took. */
        if (begin >= end) continue;
        *out = (pr_added_span){begin, end, token->id};
        return true;
    }
}

bool pr_added_scan_next(pr_added_scan *s, pr_added_span *out)
{
    if (s->pending.id >= 0) {
        *out = s->pending;
        s->pending.id = -1;
        return true;
    }
    if (!find_span(s, out)) {
        if (s->covered >= s->n) return false;
        *out = (pr_added_span){s->covered, s->n, -1};
        s->covered = s->n;
        return true;
    }
    size_t covered = s->covered;
    s->covered = out->end;
    if (covered < out->begin) {
        s->pending = *out;
        *out = (pr_added_span){covered, out->begin, -1};
    }
    return true;
}
