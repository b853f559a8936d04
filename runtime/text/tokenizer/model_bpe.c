#include "runtime/text/tokenizer/model_bpe.h"

#include "runtime/base/utf8.h"
#include "runtime/text/tokenizer/bpe_merges.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLOCK_SYMBOLS = 0, /* pr_bpe_merges_apply uses 1 and 2 */
    BLOCK_TEXT = 3,
    N_DIRECT = 0x800, /* characters of one or two bytes; all that byte-level BPE ever sees */
};

struct pr_model_bpe {
    pr_vocab *vocab;
    pr_bpe_merges merges;
    int32_t direct[N_DIRECT]; /* character to id, -1: not in the vocabulary */
    int32_t bytes[256];       /* "<0xAB>" to id, -1 likewise */
    char *prefix;             /* of every character but a piece's first; may be NULL */
    size_t n_prefix;
    char *suffix; /* of a piece's last character; may be NULL */
    size_t n_suffix;
    int32_t unk_id;      /* -1: unknown characters are dropped */
    bool unk_is_missing; /* the file names an unk_token that its vocabulary lacks */
    bool fuse_unk;
    bool byte_fallback;
    bool ignore_merges;
    bool joins_words; /* some merge joins U+2581 to what stands before it */
    _Atomic uint8_t *wholes; /* [n_wholes] by id: what is known of the token's text; NULL: off */
    size_t n_wholes;
};

/* Whether the text of a token is merged to that token alone. It nearly always is, but not always;
 * it is found out when such a word is first met, by whichever thread, and is the same for all. */
enum { WHOLE_UNKNOWN, WHOLE_YES, WHOLE_NO };

void pr_model_bpe_free(pr_model_bpe *m)
{
    if (!m) return;
    pr_vocab_free(m->vocab);
    pr_bpe_merges_deinit(&m->merges);
    free(m->prefix);
    free(m->suffix);
    free((void *)m->wholes);
    free(m);
}

static pr_status copy_str_opt(const json_t *node, const char *where, const char *key, char **out,
                              size_t *n, pr_error *err)
{
    const char *value = NULL;
    pr_status st = pr_json_get_str_opt(node, where, key, &value, err);
    if (st != PR_OK || !value || !*value) return st;
    *n = strlen(value);
    *out = malloc(*n + 1);
    if (!*out) return pr_error_nomem(err, key, *n + 1);
    memcpy(*out, value, *n + 1);
    return PR_OK;
}

static pr_status parse_options(pr_model_bpe *m, const json_t *node, const char *where,
                               pr_error *err)
{
    double dropout = 0;
    const char *unk = NULL;
    pr_status st = PR_OK;
    if ((st = pr_json_get_f64_opt(node, where, "dropout", &dropout, err)) != PR_OK ||
        (st = pr_json_get_str_opt(node, where, "unk_token", &unk, err)) != PR_OK ||
        (st = pr_json_get_bool_opt(node, where, "fuse_unk", &m->fuse_unk, err)) != PR_OK ||
        (st = pr_json_get_bool_opt(node, where, "byte_fallback", &m->byte_fallback, err)) !=
            PR_OK ||
        (st = pr_json_get_bool_opt(node, where, "ignore_merges", &m->ignore_merges, err)) !=
            PR_OK ||
        (st = copy_str_opt(node, where, "continuing_subword_prefix", &m->prefix, &m->n_prefix,
                           err)) != PR_OK ||
        (st = copy_str_opt(node, where, "end_of_word_suffix", &m->suffix, &m->n_suffix, err)) !=
            PR_OK) {
        return st;
    }
    if (dropout != 0) {
        return pr_error_set(err, PR_E_UNSUPPORTED, "%s: BPE with dropout %g, expected null or 0",
                            where, dropout);
    }
    m->unk_id = unk ? pr_vocab_id(m->vocab, unk, strlen(unk)) : -1;
    m->unk_is_missing = unk && m->unk_id < 0;
    return PR_OK;
}

/* The tokens a and b that join, with their place among the merges. */
typedef struct merge_text {
    const char *a;
    size_t n_a;
    const char *b;
    size_t n_b;
    size_t i;
    uint32_t rank;
    size_t i_joined; /* where both stand as one token, in the buffer of them */
    size_t n_joined;
    uint64_t hash_a, hash_b, hash_joined;
} merge_text;

static bool split_line(const char *line, size_t n, merge_text *out)
{
    const char *space = n ? memchr(line, ' ', n) : NULL;
    if (!space) return false;
    out->a = line;
    out->n_a = (size_t)(space - line);
    out->b = space + 1;
    out->n_b = n - out->n_a - 1;
    return !memchr(out->b, ' ', out->n_b);
}

/* The two parts of a merge: ["a", "b"], or "a b" in older files. */
static bool split_merge(const json_t *merge, merge_text *out)
{
    if (json_is_string(merge)) {
        return split_line(json_string_value(merge), json_string_length(merge), out);
    }
    const json_t *left = json_array_get(merge, 0);
    const json_t *right = json_array_get(merge, 1);
    if (json_array_size(merge) != 2 || !json_is_string(left) || !json_is_string(right)) {
        return false;
    }
    out->a = json_string_value(left);
    out->n_a = json_string_length(left);
    out->b = json_string_value(right);
    out->n_b = json_string_length(right);
    return true;
}

/* How much of a token a message shows. */
static int shown(size_t n)
{
    return n < 200 ? (int)n : 200;
}

/* U+2581, which SentencePiece puts in place of a space. */
static const char mark[] = "\xE2\x96\x81";
enum { N_MARK = sizeof mark - 1 };

static bool begins_word(const char *s, size_t n)
{
    return n >= N_MARK && memcmp(s, mark, N_MARK) == 0;
}

static bool ends_with_mark(const char *s, size_t n)
{
    return n >= N_MARK && memcmp(s + n - N_MARK, mark, N_MARK) == 0;
}

static void prepare_merge(const pr_model_bpe *m, merge_text *t, pr_buffer *joined)
{
    t->i_joined = joined->n;
    pr_buffer_append(joined, t->a, t->n_a);
    if (t->n_b > m->n_prefix) {
        pr_buffer_append(joined, t->b + m->n_prefix, t->n_b - m->n_prefix);
    }
    t->n_joined = joined->n - t->i_joined;
    if (joined->failed) return;
    const char *both = t->n_joined ? joined->data + t->i_joined : "";
    t->hash_a = pr_vocab_hash(m->vocab, t->a, t->n_a);
    t->hash_b = pr_vocab_hash(m->vocab, t->b, t->n_b);
    t->hash_joined = pr_vocab_hash(m->vocab, both, t->n_joined);
    pr_vocab_prefetch_slot(m->vocab, t->hash_a);
    pr_vocab_prefetch_slot(m->vocab, t->hash_b);
    pr_vocab_prefetch_slot(m->vocab, t->hash_joined);
}

static pr_status lacks_token(const merge_text *t, const char *token, size_t n, const char *where,
                             pr_error *err)
{
    return pr_error_set(err, PR_E_MODEL,
                        "%s: merges[%zu]: token \"%.*s\" is not in the vocabulary", where, t->i,
                        shown(n), token);
}

static pr_status add_merge(pr_model_bpe *m, const merge_text *t, const pr_buffer *joined,
                           const char *where, pr_error *err)
{
    if (joined->failed) return pr_error_nomem(err, "merge", t->n_a + t->n_b);
    const char *both = t->n_joined ? joined->data + t->i_joined : "";
    int32_t left = pr_vocab_id_hashed(m->vocab, t->a, t->n_a, t->hash_a);
    int32_t right = pr_vocab_id_hashed(m->vocab, t->b, t->n_b, t->hash_b);
    if (left < 0) return lacks_token(t, t->a, t->n_a, where, err);
    if (right < 0) return lacks_token(t, t->b, t->n_b, where, err);
    int32_t id = t->n_b < m->n_prefix
                     ? -1
                     : pr_vocab_id_hashed(m->vocab, both, t->n_joined, t->hash_joined);
    if (id < 0) return lacks_token(t, both, t->n_joined, where, err);
    if (begins_word(t->b, t->n_b) && !ends_with_mark(t->a, t->n_a)) m->joins_words = true;
    pr_bpe_merges_add(&m->merges, left, right, t->rank, id);
    return PR_OK;
}

/* Merges that were read and wait for each other's memory; their texts do not move. */
enum { N_WAITING_MAX = 32 };
typedef struct waiting {
    merge_text merges[N_WAITING_MAX];
    size_t n;
    pr_buffer joined;
} waiting;

static pr_status add_waiting(pr_model_bpe *m, waiting *w, const char *where, pr_error *err)
{
    pr_status st = PR_OK;
    for (int step = 0; step < 2 && !w->joined.failed; step++) {
        void (*prefetch)(const pr_vocab *, uint64_t) =
            step == 0 ? pr_vocab_prefetch_entry : pr_vocab_prefetch_token;
        for (size_t i = 0; i < w->n; i++) {
            prefetch(m->vocab, w->merges[i].hash_a);
            prefetch(m->vocab, w->merges[i].hash_b);
            prefetch(m->vocab, w->merges[i].hash_joined);
        }
    }
    for (size_t i = 0; i < w->n && st == PR_OK; i++) {
        st = add_merge(m, &w->merges[i], &w->joined, where, err);
    }
    w->n = 0;
    pr_buffer_clear(&w->joined);
    return st;
}

static pr_status put_merge(pr_model_bpe *m, waiting *w, const merge_text *t, const char *where,
                           pr_error *err)
{
    w->merges[w->n] = *t;
    prepare_merge(m, &w->merges[w->n++], &w->joined);
    return w->n == N_WAITING_MAX ? add_waiting(m, w, where, err) : PR_OK;
}

/* The first line of a merges.txt that found its way into the array. */
static bool is_version(const char *line, size_t n)
{
    return n >= 8 && memcmp(line, "#version", 8) == 0;
}

static pr_status parse_merges(pr_model_bpe *m, const json_t *node, const char *where,
                              pr_error *err)
{
    json_t *merges = NULL;
    pr_status st = pr_json_get_node(node, where, "merges", JSON_ARRAY, &merges, err);
    if (st != PR_OK) return st;
    if (!pr_bpe_merges_init(&m->merges, json_array_size(merges))) {
        return pr_error_nomem(err, "merges", json_array_size(merges) * sizeof *m->merges.slots);
    }
    waiting w = {0};
    merge_text t = {0};
    for (size_t i = 0; i < json_array_size(merges) && st == PR_OK; i++) {
        const json_t *merge = json_array_get(merges, i);
        t.i = i;
        if (json_is_string(merge) &&
            is_version(json_string_value(merge), json_string_length(merge))) {
            continue;
        }
        if (split_merge(merge, &t)) {
            st = put_merge(m, &w, &t, where, err);
        } else if ((st = add_waiting(m, &w, where, err)) == PR_OK) {
            st = pr_error_set(err, PR_E_MODEL,
                              "%s: merges[%zu]: expected two tokens, \"a b\" or [\"a\", \"b\"]",
                              where, i);
        }
        t.rank++;
    }
    if (st == PR_OK) st = add_waiting(m, &w, where, err);
    pr_buffer_deinit(&w.joined);
    return st;
}

/* ---- the same from the file's text ---- */

typedef enum merge_kind { MERGE_ODD, MERGE_PAIR, MERGE_VERSION } merge_kind;

/* One merge in either form. *moves: its texts stand in the cursor's buffer. */
static merge_kind read_merge(pr_text_cursor *c, merge_text *out, bool *moves)
{
    pr_text_string a, b;
    pr_buffer_clear(c->unescaped);
    if (pr_text_cursor_take(c, '[')) {
        if (!pr_text_cursor_read(c, &a) || !pr_text_cursor_take(c, ',') ||
            !pr_text_cursor_read(c, &b) || !pr_text_cursor_take(c, ']')) {
            return MERGE_ODD;
        }
        out->a = pr_text_cursor_string(c, &a);
        out->n_a = a.n;
        out->b = pr_text_cursor_string(c, &b);
        out->n_b = b.n;
        *moves = !a.s || !b.s;
        return MERGE_PAIR;
    }
    if (!pr_text_cursor_read(c, &a)) return MERGE_ODD;
    const char *line = pr_text_cursor_string(c, &a);
    *moves = !a.s;
    if (is_version(line, a.n)) return MERGE_VERSION;
    return split_line(line, a.n, out) ? MERGE_PAIR : MERGE_ODD;
}

static pr_status read_all_merges(pr_model_bpe *m, pr_text_cursor *c, waiting *w, bool *is_odd,
                                 const char *where, pr_error *err)
{
    merge_text t = {0};
    pr_status st = PR_OK;
    *is_odd = true;
    if (!pr_text_cursor_take(c, '[')) return PR_E_MODEL;
    if (!pr_text_cursor_take(c, ']')) {
        do {
            bool moves = false;
            merge_kind kind = read_merge(c, &t, &moves);
            if (kind == MERGE_ODD) return PR_E_MODEL;
            if (kind == MERGE_PAIR) {
                st = put_merge(m, w, &t, where, err);
                if (st == PR_OK && moves) st = add_waiting(m, w, where, err);
                t.rank++;
            }
            t.i++;
        } while (st == PR_OK && pr_text_cursor_take(c, ','));
        if (st == PR_OK && !pr_text_cursor_take(c, ']')) return PR_E_MODEL;
    }
    if (st == PR_OK && c->at != c->end) return PR_E_MODEL;
    *is_odd = false;
    return st == PR_OK ? add_waiting(m, w, where, err) : st;
}

static pr_status read_merges(pr_model_bpe *m, pr_model_text *text, const char *where,
                             pr_error *err)
{
    /* At least half the quotes' number, in either form. */
    size_t n = 0;
    for (size_t i = 0; i < text->n_merges; i++) n += text->merges[i] == '"';
    if (!text->merges || !pr_bpe_merges_init(&m->merges, n / 2)) {
        text->is_odd = !text->merges;
        return text->is_odd ? PR_E_MODEL : pr_error_nomem(err, "merges", n);
    }
    pr_buffer unescaped = {0};
    pr_text_cursor c = {text->merges, text->merges + text->n_merges, &unescaped};
    waiting w = {0};
    pr_status st = read_all_merges(m, &c, &w, &text->is_odd, where, err);
    pr_buffer_deinit(&w.joined);
    pr_buffer_deinit(&unescaped);
    return st;
}

static void fill_tables(pr_model_bpe *m)
{
    char bytes[8];
    for (uint32_t c = 0; c < N_DIRECT; c++) {
        m->direct[c] = pr_vocab_id(m->vocab, bytes, pr_utf8_encode(c, bytes));
    }
    pr_vocab_byte_ids(m->vocab, m->bytes);
    /* An unknown token that is the mark, or a mark that no token is: words stay together. */
    size_t n_unk = 0;
    const char *unk = m->unk_id >= 0 ? pr_vocab_token(m->vocab, m->unk_id, &n_unk) : NULL;
    if (unk && ends_with_mark(unk, n_unk)) m->joins_words = true;
    if (pr_vocab_id(m->vocab, mark, N_MARK) < 0) m->joins_words = true;
    if (m->n_prefix || m->n_suffix) m->joins_words = true;
}

/* A byte for each id, unless the ids are mostly holes. */
static pr_status make_wholes(pr_model_bpe *m, pr_error *err)
{
    size_t n = 0;
    const pr_vocab_entry *entries = pr_vocab_entries(m->vocab, &n);
    if (n == 0 || m->n_prefix || m->n_suffix) return PR_OK;
    size_t n_ids = (size_t)entries[n - 1].id + 1;
    if (n_ids > 4 * n) return PR_OK;
    m->wholes = calloc(n_ids, sizeof *m->wholes);
    if (!m->wholes) return pr_error_nomem(err, "vocabulary", n_ids);
    m->n_wholes = n_ids;
    return PR_OK;
}

pr_status pr_model_bpe_parse(const json_t *node, pr_model_text *text, const char *where,
                             pr_model_bpe **out, pr_error *err)
{
    assert(out);
    json_t *vocab = NULL;
    pr_status st = PR_OK;
    if (!text) st = pr_json_get_node(node, where, "vocab", JSON_OBJECT, &vocab, err);
    if (st != PR_OK) return st;
    pr_model_bpe *m = calloc(1, sizeof *m);
    if (!m) return pr_error_nomem(err, "BPE model", sizeof *m);
    st = text ? pr_vocab_read(text, &m->vocab, err)
              : pr_vocab_parse(vocab, where, &m->vocab, err);
    if (st != PR_OK) goto cleanup;
    if ((st = parse_options(m, node, where, err)) != PR_OK) goto cleanup;
    st = text ? read_merges(m, text, where, err) : parse_merges(m, node, where, err);
    if (st != PR_OK) goto cleanup;
    fill_tables(m);
    if ((st = make_wholes(m, err)) != PR_OK) goto cleanup;
    *out = m;
    m = NULL;
cleanup:
    pr_model_bpe_free(m);
    return st;
}

const pr_vocab *pr_model_bpe_vocab(const pr_model_bpe *m)
{
    return m->vocab;
}

/* The symbols of a piece while they are collected. */
typedef struct word {
    const pr_model_bpe *m;
    pr_model_scratch *scratch;
    int32_t *symbols;
    size_t n;
    bool has_unk;   /* an unknown character waits: the next one may fuse with it */
    bool lacks_unk; /* an unknown character came, and the file's unk_token does not exist */
    bool failed;    /* no memory */
} word;

static void word_add(word *w, int32_t id)
{
    w->symbols = pr_model_scratch_reserve(w->scratch, BLOCK_SYMBOLS, w->n + 1, sizeof id);
    if (w->symbols) {
        w->symbols[w->n++] = id;
    } else {
        w->failed = true;
    }
}

/* All bytes of the character (with what was put around it) as byte tokens, or none. */
static bool word_add_bytes(word *w, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (w->m->bytes[(unsigned char)s[i]] < 0) return false;
    }
    for (size_t i = 0; i < n && !w->failed; i++) word_add(w, w->m->bytes[(unsigned char)s[i]]);
    return true;
}

static void word_add_unknown(word *w, const char *s, size_t n)
{
    /* tokenizers lets a waiting unknown stay behind the bytes that follow it; so do we. */
    if (w->m->byte_fallback && word_add_bytes(w, s, n)) return;
    if (w->m->unk_is_missing) w->lacks_unk = true;
    if (w->m->unk_id < 0) return;
    if (w->has_unk && !w->m->fuse_unk) word_add(w, w->m->unk_id);
    w->has_unk = true;
}

/* s: one character, prefix and suffix around it. */
static void word_add_char(word *w, const char *s, size_t n)
{
    int32_t id = pr_vocab_id(w->m->vocab, s, n);
    if (id < 0) {
        word_add_unknown(w, s, n);
        return;
    }
    if (w->has_unk) word_add(w, w->m->unk_id);
    w->has_unk = false;
    word_add(w, id);
}

static const char *decorate(word *w, const char *s, size_t n, bool is_first, bool is_last,
                            size_t *n_out)
{
    size_t n_prefix = is_first ? 0 : w->m->n_prefix;
    size_t n_suffix = is_last ? w->m->n_suffix : 0;
    *n_out = n_prefix + n + n_suffix;
    if (n_prefix + n_suffix == 0) return s;
    char *text = pr_model_scratch_reserve(w->scratch, BLOCK_TEXT, *n_out, 1);
    if (!text) {
        w->failed = true;
        return NULL;
    }
    if (n_prefix) memcpy(text, w->m->prefix, n_prefix);
    memcpy(text + n_prefix, s, n);
    if (n_suffix) memcpy(text + n_prefix + n, w->m->suffix, n_suffix);
    return text;
}

static void word_collect(word *w, const char *text, size_t n)
{
    bool is_plain = w->m->n_prefix == 0 && w->m->n_suffix == 0;
    for (size_t i = 0; i < n && !w->failed;) {
        size_t width = pr_utf8_width((unsigned char)text[i]);
        uint32_t c = 0;
        if (is_plain && width <= 2 && !w->has_unk) {
            pr_utf8_decode(text + i, &c);
            if (w->m->direct[c] >= 0) {
                word_add(w, w->m->direct[c]);
                i += width;
                continue;
            }
        }
        size_t n_decorated = 0;
        const char *s = decorate(w, text + i, width, i == 0, i + width == n, &n_decorated);
        if (s) word_add_char(w, s, n_decorated);
        i += width;
    }
    if (w->has_unk && !w->failed) word_add(w, w->m->unk_id);
}

static pr_status append_symbols(const word *w, pr_ids *out, pr_error *err)
{
    for (size_t i = 0; i < w->n; i++) {
        if (!pr_ids_append(out, w->symbols[i])) {
            return pr_error_nomem(err, "token ids", out->n * sizeof *out->ids);
        }
    }
    return PR_OK;
}

/* A longer word is no token in practice. */
enum { N_WHOLE_BYTES_MAX = 48 };

static pr_status merge_word(const pr_model_bpe *m, const char *text, size_t n,
                            pr_model_scratch *scratch, pr_ids *out, pr_error *err)
{
    word w = {.m = m, .scratch = scratch};
    word_collect(&w, text, n);
    if (w.lacks_unk) {
        return pr_error_set(err, PR_E_INPUT,
                            "the text has a character that the tokenizer does not know, and its "
                            "unk_token is not in its vocabulary");
    }
    size_t n_left = w.failed ? SIZE_MAX : w.n;
    if (n_left > 1 && n_left != SIZE_MAX) {
        n_left = pr_bpe_merges_apply(&m->merges, w.symbols, w.n, scratch);
    }
    if (n_left == SIZE_MAX) return pr_error_nomem(err, "BPE symbols", n * sizeof *w.symbols);
    w.n = n_left;
    return append_symbols(&w, out, err);
}

/* A word that is a token need not be merged once it is known that this gives the token. */
static pr_status tokenize_word(const pr_model_bpe *m, const char *text, size_t n,
                               pr_model_scratch *scratch, pr_ids *out, pr_error *err)
{
    int32_t id = m->wholes && n <= N_WHOLE_BYTES_MAX ? pr_vocab_id(m->vocab, text, n) : -1;
    if (id < 0) return merge_word(m, text, n, scratch, out, err);
    uint8_t known = atomic_load_explicit(&m->wholes[id], memory_order_relaxed);
    if (known == WHOLE_YES) {
        return pr_ids_append(out, id) ? PR_OK : pr_error_nomem(err, "token ids", out->n * 4);
    }
    size_t n_before = out->n;
    pr_status st = merge_word(m, text, n, scratch, out, err);
    if (st == PR_OK && known == WHOLE_UNKNOWN) {
        bool is_whole = out->n == n_before + 1 && out->ids[n_before] == id;
        atomic_store_explicit(&m->wholes[id], is_whole ? WHOLE_YES : WHOLE_NO,
                              memory_order_relaxed);
    }
    return st;
}

/* Where the next word of the text begins: at a mark behind something else. */
static size_t find_word_end(const char *text, size_t n)
{
    size_t i = 0;
    while (i + N_MARK <= n && begins_word(text + i, n - i)) i += N_MARK;
    while (i < n) {
        const char *next = memchr(text + i, mark[0], n - i);
        if (!next) return n;
        i = (size_t)(next - text);
        if (begins_word(text + i, n - i)) return i;
        i++;
    }
    return n;
}

pr_status pr_model_bpe_tokenize(const pr_model_bpe *m, const char *text, size_t n,
                                pr_model_scratch *scratch, pr_ids *out, pr_error *err)
{
    if (m->ignore_merges) {
        int32_t id = pr_vocab_id(m->vocab, text, n);
        if (id >= 0) {
            return pr_ids_append(out, id) ? PR_OK : pr_error_nomem(err, "token ids", out->n * 4);
        }
    }
    if (m->joins_words) return tokenize_word(m, text, n, scratch, out, err);
    /* No merge crosses the begin of a word: words are merged one by one. */
    pr_status st = PR_OK;
    for (size_t i = 0; st == PR_OK && i < n;) {
        size_t end = i + find_word_end(text + i, n - i);
        st = tokenize_word(m, text + i, end - i, scratch, out, err);
        i = end;
    }
    return st;
}
