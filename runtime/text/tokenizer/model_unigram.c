#include "runtime/text/tokenizer/model_unigram.h"

#include "runtime/base/utf8.h"
#include "runtime/text/tokenizer/byte_trie.h"
#include "runtime/base/number.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_NODES = 0, BLOCK_CUTS = 1 };

/* How much worse than the worst token an unknown character is. */
static const double unk_penalty = 10.0;

struct pr_model_unigram {
    pr_vocab *vocab;
    pr_byte_trie *trie; /* values are ids */
    double *scores;     /* [n] by id */
    size_t n;
    double unk_score;
    int32_t unk_id; /* -1: none */
    int32_t bytes[256]; /* "<0xAB>" to id, -1: not in the vocabulary */
    bool byte_fallback;
};

void pr_model_unigram_free(pr_model_unigram *m)
{
    if (!m) return;
    pr_vocab_free(m->vocab);
    pr_byte_trie_free(m->trie);
    free(m->scores);
    free(m);
}

/* x as tokenizers reads it from its shortest decimal form: its JSON reader takes the digits as one
 * integer and divides by a power of ten, which rounds twice, so that of scores with 17 digits every
 * few differ by one unit in the last place. Runs of one character tie so closely that this
 * decides. */
static double as_serde_reads(double x)
{
    char text[32];
    for (int n_digits = 15; n_digits <= 17; n_digits++) {
        pr_number_format(text, sizeof text, 'e', n_digits - 1, fabs(x));
        if (pr_number_read(text, NULL) == fabs(x)) break;
    }
    uint64_t digits = 0;
    const char *p = text;
    int exponent = 1;
    for (; *p && *p != 'e'; p++) {
        if (*p == '.') continue;
        digits = digits * 10 + (uint64_t)(*p - '0');
        exponent--;
    }
    if (*p == 'e') exponent += (int)strtol(p + 1, NULL, 10);
    for (; digits > 0 && digits % 10 == 0; digits /= 10) exponent++;
    if (exponent < -300 || exponent > 300) return x;
    char power[8];
    snprintf(power, sizeof power, "1e%d", abs(exponent));
    double scale = pr_number_read(power, NULL);
    double y = exponent < 0 ? (double)digits / scale : (double)digits * scale;
    return x < 0 ? -y : y;
}

static pr_status parse_token(pr_model_unigram *m, const json_t *pair, size_t i, const char *where,
                             pr_error *err)
{
    const json_t *token = json_array_get(pair, 0);
    const json_t *score = json_array_get(pair, 1);
    if (json_array_size(pair) != 2 || !json_is_string(token) || !json_is_number(score)) {
        return pr_error_set(err, PR_E_MODEL, "%s: vocab[%zu]: expected [token, score]", where, i);
    }
    m->scores[i] = json_is_real(score) ? as_serde_reads(json_real_value(score))
                                       : json_number_value(score);
    if (!pr_vocab_add(m->vocab, json_string_value(token), json_string_length(token), (int32_t)i)) {
        return pr_error_nomem(err, "vocabulary", m->n * sizeof(pr_vocab_entry));
    }
    return PR_OK;
}

static pr_status parse_vocab(pr_model_unigram *m, const json_t *node, const char *where,
                             pr_error *err)
{
    json_t *pairs = NULL;
    pr_status st = pr_json_get_node(node, where, "vocab", JSON_ARRAY, &pairs, err);
    if (st != PR_OK) return st;
    m->n = json_array_size(pairs);
    if (m->n > PR_TOKEN_ID_MAX) {
        return pr_error_set(err, PR_E_MODEL, "%s: vocab: found %zu tokens, expected at most %d",
                            where, m->n, PR_TOKEN_ID_MAX);
    }
    m->scores = malloc((m->n ? m->n : 1) * sizeof *m->scores);
    m->vocab = pr_vocab_create(m->n);
    if (!m->scores || !m->vocab) return pr_error_nomem(err, "vocabulary", m->n * 64);
    double worst = INFINITY;
    for (size_t i = 0; i < m->n; i++) {
        if ((st = parse_token(m, json_array_get(pairs, i), i, where, err)) != PR_OK) return st;
        if (m->scores[i] < worst) worst = m->scores[i];
    }
    m->unk_score = worst - unk_penalty;
    pr_vocab_finish(m->vocab);
    return PR_OK;
}

static pr_status parse_options(pr_model_unigram *m, const json_t *node, const char *where,
                               pr_error *err)
{
    int64_t unk_id = -1;
    pr_status st = pr_json_get_bool_opt(node, where, "byte_fallback", &m->byte_fallback, err);
    if (st != PR_OK) return st;
    st = pr_json_get_i64_opt(node, where, "unk_id", 0, (int64_t)m->n - 1, &unk_id, err);
    if (st != PR_OK) return st;
    m->unk_id = (int32_t)unk_id;
    pr_vocab_byte_ids(m->vocab, m->bytes);
    return PR_OK;
}

pr_status pr_model_unigram_parse(const json_t *node, const char *where, pr_model_unigram **out,
                                 pr_error *err)
{
    assert(out);
    pr_model_unigram *m = calloc(1, sizeof *m);
    if (!m) return pr_error_nomem(err, "Unigram model", sizeof *m);
    pr_status st = parse_vocab(m, node, where, err);
    if (st == PR_OK) st = parse_options(m, node, where, err);
    if (st == PR_OK) st = pr_vocab_build_trie(m->vocab, &m->trie, err);
    if (st != PR_OK) {
        pr_model_unigram_free(m);
        return st;
    }
    *out = m;
    return PR_OK;
}

const pr_vocab *pr_model_unigram_vocab(const pr_model_unigram *m)
{
    return m->vocab;
}

size_t pr_model_unigram_n_tokens(const pr_model_unigram *m)
{
    return m->n;
}

/* The best way to cut text[0, here): its score, and the token that ends here. */
typedef struct best {
    double score;
    size_t begin; /* of that token; SIZE_MAX: nothing ends here yet */
    int32_t id;
} best;

/* Of equal scores the first offered stays: the token that begins further left. */
static void offer(best *at, double score, size_t begin, int32_t id)
{
    if (at->begin != SIZE_MAX && !(score > at->score)) return;
    *at = (best){score, begin, id};
}

/* Fills nodes[0..n]; false when only an unknown character gets on and there is no unk_id. */
static bool find_best(const pr_model_unigram *m, const char *text, size_t n, best *nodes)
{
    for (size_t i = 0; i <= n; i++) nodes[i] = (best){.begin = SIZE_MAX};
    nodes[0].score = 0;
    for (size_t i = 0; i < n;) {
        size_t width = pr_utf8_width((unsigned char)text[i]);
        bool has_single = false;
        uint32_t at = PR_TRIE_ROOT;
        for (size_t end = i; end < n;) {
            at = pr_byte_trie_step(m->trie, at, (unsigned char)text[end]);
            if (at == PR_TRIE_ROOT) break;
            end++;
            int32_t id = pr_byte_trie_value(m->trie, at);
            if (id < 0) continue;
            offer(&nodes[end], m->scores[id] + nodes[i].score, i, id);
            has_single |= end - i == width;
        }
        if (!has_single) {
            offer(&nodes[i + width], m->unk_score + nodes[i].score, i, m->unk_id);
            if (nodes[i + width].id < 0) return false;
        }
        i += width;
    }
    return true;
}

/* Unknown characters side by side become one token, which may even be a known one. */
static bool append_unknown(const pr_model_unigram *m, const char *text, size_t n, pr_ids *out)
{
    int32_t id = pr_vocab_id(m->vocab, text, n);
    if (id >= 0) return pr_ids_append(out, id);
    bool has_bytes = m->byte_fallback;
    for (size_t i = 0; i < n && has_bytes; i++) {
        has_bytes = m->bytes[(unsigned char)text[i]] >= 0;
    }
    if (!has_bytes) return pr_ids_append(out, m->unk_id);
    for (size_t i = 0; i < n; i++) {
        if (!pr_ids_append(out, m->bytes[(unsigned char)text[i]])) return false;
    }
    return true;
}

/* Walks back through the best tokens, then appends them in reading order. */
static bool append_path(const pr_model_unigram *m, const char *text, size_t n, const best *nodes,
                        size_t *cuts, pr_ids *out)
{
    size_t n_cuts = 0;
    for (size_t end = n; end > 0; end = nodes[end].begin) cuts[n_cuts++] = end;
    size_t begin = 0;
    while (n_cuts > 0) {
        size_t end = cuts[--n_cuts];
        int32_t id = nodes[end].id;
        if (id != m->unk_id) {
            if (!pr_ids_append(out, id)) return false;
        } else {
            while (n_cuts > 0 && nodes[cuts[n_cuts - 1]].id == m->unk_id) end = cuts[--n_cuts];
            if (!append_unknown(m, text + begin, end - begin, out)) return false;
        }
        begin = end;
    }
    return true;
}

pr_status pr_model_unigram_tokenize(const pr_model_unigram *m, const char *text, size_t n,
                                    pr_model_scratch *scratch, pr_ids *out, pr_error *err)
{
    best *nodes = pr_model_scratch_reserve(scratch, BLOCK_NODES, n + 1, sizeof *nodes);
    size_t *cuts = pr_model_scratch_reserve(scratch, BLOCK_CUTS, n + 1, sizeof *cuts);
    if (!nodes || !cuts) return pr_error_nomem(err, "Unigram lattice", n * sizeof *nodes);
    if (!find_best(m, text, n, nodes)) {
        return pr_error_set(err, PR_E_INPUT,
                            "the text has a character that the tokenizer does not know, and its "
                            "model has no unk_id");
    }
    if (!append_path(m, text, n, nodes, cuts, out)) {
        return pr_error_nomem(err, "token ids", out->n * sizeof *out->ids);
    }
    return PR_OK;
}
