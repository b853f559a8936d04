/* runtime/text/tokenizer/model_bpe.h: the "BPE" model of a tokenizer.json: characters joined pair
 * by pair in the order in which the merges were learned.
 *
 * Owns its vocabulary and merges. Immutable once parsed: any number of threads may tokenize with
 * one handle, each with a scratch of its own. Called by runtime/text/tokenizer/model.c.
 * Source: Sennrich, Haddow and Birch 2016, arXiv:1508.07909. */
#ifndef POOLRANK_RUNTIME_TEXT_TOKENIZER_MODEL_BPE_H
#define POOLRANK_RUNTIME_TEXT_TOKENIZER_MODEL_BPE_H

#include "runtime/text/tokenizer/encoding.h"
#include "runtime/text/tokenizer/model_scratch.h"
#include "runtime/text/tokenizer/vocab.h"

typedef struct pr_model_bpe pr_model_bpe;

/* node: the JSON object of "model", borrowed for the call. where: for messages.
 * *out: owned, pr_model_bpe_free. Fails PR_E_MODEL (broken; a merge of tokens that the vocabulary
 * lacks), PR_E_UNSUPPORTED (dropout), PR_E_NOMEM. */
pr_status pr_model_bpe_parse(const json_t *node, pr_model_text *text, const char *where,
                             pr_model_bpe **out, pr_error *err);
void pr_model_bpe_free(pr_model_bpe *m);

const pr_vocab *pr_model_bpe_vocab(const pr_model_bpe *m);

/* Appends the ids of one piece to *out. text: [n] bytes of valid UTF-8.
 * O(n log n). Fails PR_E_INPUT when a character is unknown and the file's unk_token is not in its
 * vocabulary; PR_E_NOMEM. *out is then unspecified but valid. */
pr_status pr_model_bpe_tokenize(const pr_model_bpe *m, const char *text, size_t n,
                                pr_model_scratch *scratch, pr_ids *out, pr_error *err);

#endif
