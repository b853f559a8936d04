/* runtime/text/tokenizer/added_tokens.h: the "added_tokens" of a tokenizer.json: texts that become
 * one id wherever they stand, before the model sees them.
 *
 * Owns the tokens and the tries that find them. Immutable once parsed, any number of threads; a
 * scan belongs to one thread. Called by the tokenizer. */
#ifndef POOLRANK_RUNTIME_TEXT_TOKENIZER_ADDED_TOKENS_H
#define POOLRANK_RUNTIME_TEXT_TOKENIZER_ADDED_TOKENS_H

#include "runtime/base/json.h"
#include "runtime/text/tokenizer/normalizer.h"
#include "runtime/text/tokenizer/vocab.h"

typedef struct pr_added_tokens pr_added_tokens;

/* nodes: the JSON array, borrowed for the call; NULL: none. vocab: of the model, borrowed for the
 * call. n_model_tokens: the first id for a token that the model does not have; as in tokenizers,
 * the ids that the file gives are not used. nz: what normalizes the tokens with "normalized", may
 * be NULL. splits_special: special tokens inside a text are text. *out: owned,
 * pr_added_tokens_free.
 * Fails PR_E_MODEL, PR_E_UNSUPPORTED (a token that the normalizer reduces to nothing),
 * PR_E_NOMEM. */
pr_status pr_added_tokens_parse(const json_t *nodes, const pr_vocab *vocab, size_t n_model_tokens,
                                const pr_normalizer *nz, bool splits_special, const char *where,
                                pr_added_tokens **out, pr_error *err);
void pr_added_tokens_free(pr_added_tokens *t);

/* The id of the added token with this content, -1 when there is none. */
int32_t pr_added_tokens_id(const pr_added_tokens *t, const char *content, size_t n);

/* What an added token's id decodes to: its content, or the normalized content of a token with
 * "normalized". NULL when the id is of no added token. Borrowed from t. */
const char *pr_added_tokens_text(const pr_added_tokens *t, int32_t id, size_t *n);

/* Whether this text is the content of a special token. */
bool pr_added_tokens_is_special(const pr_added_tokens *t, const char *text, size_t n);

/* -1 when there are none. */
int32_t pr_added_tokens_id_max(const pr_added_tokens *t);

/* A piece of text and the added token that it is, -1: text for the model. */
typedef struct pr_added_span {
    size_t begin;
    size_t end;
    int32_t id;
} pr_added_span;

/* A walk over a text: spans from left to right that cover it. Caller's storage, no deinit. */
typedef struct pr_added_scan {
    const pr_added_tokens *tokens;
    const void *trie; /* NULL: no tokens of this kind */
    const char *text;
    size_t n;
    size_t at;           /* where the next search starts */
    size_t covered;      /* text up to here is in spans */
    size_t spaces_begin; /* white space known to lie in [spaces_begin, spaces_end) */
    size_t spaces_end;
    pr_added_span pending; /* a token whose text before it was given first; id -1: none */
} pr_added_scan;

/* normalized: text went through the normalizer, and the tokens with "normalized" are looked for;
 * else it did not, and the others are. text: [n] bytes of valid UTF-8, borrowed for the walk. */
void pr_added_scan_init(pr_added_scan *s, const pr_added_tokens *t, bool normalized,
                        const char *text, size_t n);

/* False at the end. Always the leftmost token, of several there the longest. */
bool pr_added_scan_next(pr_added_scan *s, pr_added_span *out);

#endif
