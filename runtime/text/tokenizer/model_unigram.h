/* runtime/text/tokenizer/model_unigram.h: the "Unigram" model of a tokenizer.json: of all ways to
 * cut a piece into tokens, the one with the highest sum of scores.
 *
 * Owns its vocabulary and scores. Immutable once parsed: any number of threads may tokenize with
 * one handle, each with a scratch of its own. Called by runtime/text/tokenizer/model.c.
 * Source: Kudo 2018, arXiv:1804.10959. */
#ifndef POOLRANK_RUNTIME_TEXT_TOKENIZER_MODEL_UNIGRAM_H
#define POOLRANK_RUNTIME_TEXT_TOKENIZER_MODEL_UNIGRAM_H

#include "runtime/text/tokenizer/encoding.h"
#include "runtime/text/tokenizer/model_scratch.h"
#include "runtime/text/tokenizer/vocab.h"

typedef struct pr_model_unigram pr_model_unigram;

/* node: the JSON object of "model", borrowed for the call. where: for messages.
 * *out: owned, pr_model_unigram_free. Fails PR_E_MODEL, PR_E_NOMEM. */
pr_status pr_model_unigram_parse(const json_t *node, const char *where, pr_model_unigram **out,
                                 pr_error *err);
void pr_model_unigram_free(pr_model_unigram *m);

const pr_vocab *pr_model_unigram_vocab(const pr_model_unigram *m);

/* How many the file lists, a token that comes twice counted twice. */
size_t pr_model_unigram_n_tokens(const pr_model_unigram *m);

/* Appends the ids of one piece to *out. text: [n] bytes of valid UTF-8.
 * O(n * the longest token). Fails PR_E_INPUT when a character is unknown and the file has no
 * unk_id; PR_E_NOMEM. *out is then unspecified but valid. */
pr_status pr_model_unigram_tokenize(const pr_model_unigram *m, const char *text, size_t n,
                                    pr_model_scratch *scratch, pr_ids *out, pr_error *err);

#endif
