/* runtime/text/tokenizer/model_wordpiece.h: the "WordPiece" and "WordLevel" models of a
 * tokenizer.json.
 *
 * WordPiece takes the longest token that a word starts with, then the longest continuation, and so
 * on; a word that does not work out is one unknown token. WordLevel knows whole words only.
 * Owns the vocabulary. Immutable once parsed: any number of threads may tokenize with one handle.
 * Called by runtime/text/tokenizer/model.c. Source: Wu et al. 2016, arXiv:1609.08144, section 4.1.
 * */
#ifndef POOLRANK_RUNTIME_TEXT_TOKENIZER_MODEL_WORDPIECE_H
#define POOLRANK_RUNTIME_TEXT_TOKENIZER_MODEL_WORDPIECE_H

#include "runtime/text/tokenizer/encoding.h"
#include "runtime/text/tokenizer/vocab.h"

typedef struct pr_model_wordpiece pr_model_wordpiece;

/* node: the JSON object of "model", borrowed for the call. where: for messages. whole_words: it is
 * a WordLevel. *out: owned, pr_model_wordpiece_free. Fails PR_E_MODEL, PR_E_NOMEM. */
pr_status pr_model_wordpiece_parse(const json_t *node, pr_model_text *text, const char *where,
                                   bool whole_words, pr_model_wordpiece **out, pr_error *err);
void pr_model_wordpiece_free(pr_model_wordpiece *m);

const pr_vocab *pr_model_wordpiece_vocab(const pr_model_wordpiece *m);

/* Appends the ids of one word to *out. text: [n] bytes of valid UTF-8. O(n).
 * Fails PR_E_INPUT when the word is unknown and the file's unk_token is not in its vocabulary;
 * PR_E_NOMEM. *out is then unspecified but valid. */
pr_status pr_model_wordpiece_tokenize(const pr_model_wordpiece *m, const char *text, size_t n,
                                      pr_ids *out, pr_error *err);

#endif
