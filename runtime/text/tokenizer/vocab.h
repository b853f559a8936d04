/* runtime/text/tokenizer/vocab.h: the tokens of a model and their ids, both ways.
 *
 * Owns the tokens' bytes. Filled by one thread while a tokenizer loads; then immutable and read by
 * any number of threads. Ids may have holes; two tokens may share an id. */
#ifndef POOLRANK_RUNTIME_TEXT_TOKENIZER_VOCAB_H
#define POOLRANK_RUNTIME_TEXT_TOKENIZER_VOCAB_H

#include "runtime/base/json.h"
#include "runtime/text/tokenizer/byte_trie.h"
#include "runtime/text/tokenizer/model_text.h"

enum { PR_TOKEN_ID_MAX = INT32_MAX - 1 };

typedef struct pr_vocab pr_vocab;

typedef struct pr_vocab_entry {
    const char *token; /* [n], owned by the vocabulary, with a NUL behind it */
    uint32_t n;
    int32_t id;
} pr_vocab_entry;

/* n_expected: how many tokens will come. NULL when there is no memory. */
pr_vocab *pr_vocab_create(size_t n_expected);
void pr_vocab_free(pr_vocab *v);

/* Adds a token; one that is there already gets the new id. False when there is no memory. */
bool pr_vocab_add(pr_vocab *v, const char *token, size_t n, int32_t id);

/* To be called once after the last pr_vocab_add. */
void pr_vocab_finish(pr_vocab *v);

/* node: a JSON object of token: id, borrowed for the call. *out: owned and finished.
 * Fails PR_E_MODEL for an id that is no integer from 0 to PR_TOKEN_ID_MAX; PR_E_NOMEM. */
pr_status pr_vocab_parse(const json_t *node, const char *where, pr_vocab **out, pr_error *err);

/* The same from the text of the object. *out stays as it was where something is odd: text->is_odd
 * is set then, with PR_E_MODEL and no message. */
pr_status pr_vocab_read(pr_model_text *text, pr_vocab **out, pr_error *err);

/* -1 when there is no such token. */
int32_t pr_vocab_id(const pr_vocab *v, const char *token, size_t n);

/* The same in steps, for many tokens at once: their hashes, then prefetches of the table's slot and
 * of the entry that it points at, then the look-up. A vocabulary of 150,000 tokens does not fit in
 * the cache, and each step waits for memory. */
uint64_t pr_vocab_hash(const pr_vocab *v, const char *token, size_t n);
void pr_vocab_prefetch_slot(const pr_vocab *v, uint64_t hash);
void pr_vocab_prefetch_entry(const pr_vocab *v, uint64_t hash);
void pr_vocab_prefetch_token(const pr_vocab *v, uint64_t hash);
int32_t pr_vocab_id_hashed(const pr_vocab *v, const char *token, size_t n, uint64_t hash);

/* NULL when no token has this id. */
const char *pr_vocab_token(const pr_vocab *v, int32_t id, size_t *n);

/* How many different tokens there are, and all of them, ordered by id. */
size_t pr_vocab_count(const pr_vocab *v);
const pr_vocab_entry *pr_vocab_entries(const pr_vocab *v, size_t *n);

/* The ids of the tokens "<0x00>" to "<0xFF>" of byte fallback, -1 where there is none. */
void pr_vocab_byte_ids(const pr_vocab *v, int32_t ids[256]);

/* All tokens with their ids as values. *out: owned, pr_byte_trie_free. Fails as
 * pr_byte_trie_build. */
pr_status pr_vocab_build_trie(const pr_vocab *v, pr_byte_trie **out, pr_error *err);

#endif
