#include "runtime/text/tokenizer/model_wordpiece.h"

#include "runtime/base/utf8.h"
#include "runtime/text/tokenizer/byte_trie.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct pr_model_wordpiece {
    pr_vocab *vocab;
    pr_byte_trie *trie;     /* NULL: whole words only */
    uint32_t continuations; /* the node behind continuing_subword_prefix */
    bool has_continuations; /* some token starts with that prefix */
    size_t n_chars_max;     /* a longer word is unknown */
    int32_t unk_id;         /* -1: the file's unk_token is not in its vocabulary */
};

void pr_model_wordpiece_free(pr_model_wordpiece *m)
{
    if (!m) return;
    pr_vocab_free(m->vocab);
    pr_byte_trie_free(m->trie);
    free(m);
}

static pr_status build_trie(pr_model_wordpiece *m, const char *prefix, pr_error *err)
{
    pr_status st = pr_vocab_build_trie(m->vocab, &m->trie, err);
    if (st != PR_OK) return st;
    m->continuations = PR_TRIE_ROOT;
    m->has_continuations = true;
    for (const char *p = prefix; *p && m->has_continuations; p++) {
        m->continuations = pr_byte_trie_step(m->trie, m->continuations, (unsigned char)*p);
        m->has_continuations = m->continuations != PR_TRIE_ROOT;
    }
    return PR_OK;
}

static pr_status parse(pr_model_wordpiece *m, const json_t *node, pr_model_text *text,
                       const char *where, bool whole_words, pr_error *err)
{
    json_t *vocab = NULL;
    const char *unk = NULL;
    pr_status st = PR_OK;
    if (!text) st = pr_json_get_node(node, where, "vocab", JSON_OBJECT, &vocab, err);
    if (st != PR_OK || (st = pr_json_get_str(node, where, "unk_token", &unk, err)) != PR_OK) {
        return st;
    }
    st = text ? pr_vocab_read(text, &m->vocab, err)
              : pr_vocab_parse(vocab, where, &m->vocab, err);
    if (st != PR_OK) return st;
    m->unk_id = pr_vocab_id(m->vocab, unk, strlen(unk));
    if (whole_words) return PR_OK;
    const char *prefix = NULL;
    int64_t n_chars_max = 0;
    if ((st = pr_json_get_str(node, where, "continuing_subword_prefix", &prefix, err)) != PR_OK ||
        (st = pr_json_get_i64(node, where, "max_input_chars_per_word", 0, INT64_MAX, &n_chars_max,
                              err)) != PR_OK) {
        return st;
    }
    m->n_chars_max = (size_t)n_chars_max;
    return build_trie(m, prefix, err);
}

pr_status pr_model_wordpiece_parse(const json_t *node, pr_model_text *text, const char *where,
                                   bool whole_words, pr_model_wordpiece **out, pr_error *err)
{
    assert(out);
    pr_model_wordpiece *m = calloc(1, sizeof *m);
    if (!m) return pr_error_nomem(err, "WordPiece model", sizeof *m);
    pr_status st = parse(m, node, text, where, whole_words, err);
    if (st != PR_OK) {
        pr_model_wordpiece_free(m);
        return st;
    }
    *out = m;
    return PR_OK;
}

const pr_vocab *pr_model_wordpiece_vocab(const pr_model_wordpiece *m)
{
    return m->vocab;
}

/* Appends the word's tokens; false and nothing appended when it does not work out. */
static bool append_pieces(const pr_model_wordpiece *m, const char *text, size_t n, pr_ids *out,
                          bool *no_memory)
{
    size_t n_before = out->n;
    for (size_t i = 0; i < n;) {
        int32_t id = -1;
        size_t n_token = 0;
        if (i == 0) {
            n_token = pr_byte_trie_longest(m->trie, PR_TRIE_ROOT, text, n, &id);
        } else if (m->has_continuations) {
            n_token = pr_byte_trie_longest(m->trie, m->continuations, text + i, n - i, &id);
        }
        if (n_token == 0) {
            out->n = n_before;
            return false;
        }
        if (!pr_ids_append(out, id)) {
            *no_memory = true;
            return true;
        }
        i += n_token;
    }
    return true;
}

pr_status pr_model_wordpiece_tokenize(const pr_model_wordpiece *m, const char *text, size_t n,
                                      pr_ids *out, pr_error *err)
{
    bool no_memory = false;
    int32_t id = -1;
    if (!m->trie) {
        id = pr_vocab_id(m->vocab, text, n);
    } else if ((n <= m->n_chars_max || pr_utf8_count(text, n) <= m->n_chars_max) &&
               append_pieces(m, text, n, out, &no_memory)) {
        return no_memory ? pr_error_nomem(err, "token ids", out->n * sizeof *out->ids) : PR_OK;
    }
    if (id < 0) id = m->unk_id;
    if (id < 0) {
        return pr_error_set(err, PR_E_INPUT,
                            "the text has a word that the tokenizer does not know, and its "
                            "unk_token is not in its vocabulary");
    }
    if (!pr_ids_append(out, id)) return pr_error_nomem(err, "token ids", out->n * sizeof id);
    return PR_OK;
}
