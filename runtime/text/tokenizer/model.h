/* runtime/text/tokenizer/model.h: the "model" of a tokenizer.json, whichever of the four kinds it
 * is.
 *
 * Owns the model. Immutable once parsed: any number of threads may tokenize with one handle, each
 * with a scratch of its own. Called by the tokenizer while it loads and for every piece. */
#ifndef POOLRANK_RUNTIME_TEXT_TOKENIZER_MODEL_H
#define POOLRANK_RUNTIME_TEXT_TOKENIZER_MODEL_H

#include "runtime/text/tokenizer/encoding.h"
#include "runtime/text/tokenizer/model_scratch.h"
#include "runtime/text/tokenizer/vocab.h"

typedef struct pr_token_model pr_token_model;

/* node: the JSON object of "model", borrowed for the call. A file without "type" (tokenizers before
 * 0.8) is taken for what its fields say. where: for messages. *out: owned, pr_token_model_free.
 * Fails PR_E_UNSUPPORTED (an unknown type, by name; BPE with dropout), PR_E_MODEL, PR_E_NOMEM. */
pr_status pr_token_model_parse(const json_t *node, pr_model_text *text, const char *where,
                               pr_token_model **out, pr_error *err);
void pr_token_model_free(pr_token_model *m);

const pr_vocab *pr_token_model_vocab(const pr_token_model *m);

/* The size of the model's vocabulary: the first id that an added token of its own gets. */
size_t pr_token_model_n_tokens(const pr_token_model *m);

/* Appends the ids of one piece of text: [n] bytes of valid UTF-8.
 * Fails PR_E_INPUT when the text is unknown and there is no token for that; PR_E_NOMEM. *out is
 * then unspecified but valid. */
pr_status pr_token_model_tokenize(const pr_token_model *m, const char *text, size_t n,
                                  pr_model_scratch *scratch, pr_ids *out, pr_error *err);

#endif
