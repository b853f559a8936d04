#include "runtime/text/tokenizer/model.h"

#include "runtime/text/tokenizer/model_bpe.h"
#include "runtime/text/tokenizer/model_unigram.h"
#include "runtime/text/tokenizer/model_wordpiece.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

typedef enum model_kind {
    MODEL_BPE,
    MODEL_WORDPIECE,
    MODEL_WORDLEVEL,
    MODEL_UNIGRAM,
    MODEL_COUNT
} model_kind;

static const char *const model_names[] = {
    [MODEL_BPE] = "BPE",
    [MODEL_WORDPIECE] = "WordPiece",
    [MODEL_WORDLEVEL] = "WordLevel",
    [MODEL_UNIGRAM] = "Unigram",
};
static_assert(sizeof model_names / sizeof *model_names == MODEL_COUNT, "one name per kind");

struct pr_token_model {
    pr_model_bpe *bpe; /* one of the three is there */
    pr_model_wordpiece *wordpiece;
    pr_model_unigram *unigram;
};

static model_kind guess_kind(const json_t *node)
{
    if (json_object_get(node, "merges")) return MODEL_BPE;
    if (json_is_array(json_object_get(node, "vocab"))) return MODEL_UNIGRAM;
    if (json_object_get(node, "continuing_subword_prefix")) return MODEL_WORDPIECE;
    return MODEL_WORDLEVEL;
}

static pr_status find_kind(const json_t *node, const char *where, model_kind *out, pr_error *err)
{
    const char *type = NULL;
    pr_status st = pr_json_get_str_opt(node, where, "type", &type, err);
    if (st != PR_OK) return st;
    if (!type) {
        *out = guess_kind(node);
        return PR_OK;
    }
    for (int i = 0; i < MODEL_COUNT; i++) {
        if (strcmp(type, model_names[i]) == 0) {
            *out = (model_kind)i;
            return PR_OK;
        }
    }
    return pr_error_set(err, PR_E_UNSUPPORTED,
                        "%s: found type \"%s\", expected BPE, WordPiece, WordLevel or Unigram",
                        where, type);
}

pr_status pr_token_model_parse(const json_t *node, pr_model_text *text, const char *where,
                               pr_token_model **out, pr_error *err)
{
    assert(out);
    model_kind kind = MODEL_BPE;
    pr_status st = find_kind(node, where, &kind, err);
    if (st != PR_OK) return st;
    /* An object where it wants an array; merges that nobody would look at. */
    if (text && (kind == MODEL_UNIGRAM || (kind != MODEL_BPE && text->merges))) {
        text->is_odd = true;
        return PR_E_MODEL;
    }
    pr_token_model *m = calloc(1, sizeof *m);
    if (!m) return pr_error_nomem(err, "tokenizer model", sizeof *m);
    if (kind == MODEL_BPE) {
        st = pr_model_bpe_parse(node, text, where, &m->bpe, err);
    } else if (kind == MODEL_UNIGRAM) {
        st = pr_model_unigram_parse(node, where, &m->unigram, err);
    } else {
        st = pr_model_wordpiece_parse(node, text, where, kind == MODEL_WORDLEVEL, &m->wordpiece,
                                      err);
    }
    if (st != PR_OK) {
        pr_token_model_free(m);
        return st;
    }
    *out = m;
    return PR_OK;
}

void pr_token_model_free(pr_token_model *m)
{
    if (!m) return;
    pr_model_bpe_free(m->bpe);
    pr_model_wordpiece_free(m->wordpiece);
    pr_model_unigram_free(m->unigram);
    free(m);
}

const pr_vocab *pr_token_model_vocab(const pr_token_model *m)
{
    if (m->bpe) return pr_model_bpe_vocab(m->bpe);
    if (m->unigram) return pr_model_unigram_vocab(m->unigram);
    return pr_model_wordpiece_vocab(m->wordpiece);
}

size_t pr_token_model_n_tokens(const pr_token_model *m)
{
    if (m->unigram) return pr_model_unigram_n_tokens(m->unigram);
    return pr_vocab_count(pr_token_model_vocab(m));
}

pr_status pr_token_model_tokenize(const pr_token_model *m, const char *text, size_t n,
                                  pr_model_scratch *scratch, pr_ids *out, pr_error *err)
{
    if (m->bpe) return pr_model_bpe_tokenize(m->bpe, text, n, scratch, out, err);
    if (m->unigram) return pr_model_unigram_tokenize(m->unigram, text, n, scratch, out, err);
    return pr_model_wordpiece_tokenize(m->wordpiece, text, n, out, err);
}
