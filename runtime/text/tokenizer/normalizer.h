/* runtime/text/tokenizer/normalizer.h: the "normalizer" of a tokenizer.json.
 *
 * Owns what the steps need (regular expressions, charsmap). Immutable once parsed: any number of
 * threads may apply one handle. Called by the tokenizer while it loads and for every text. */
#ifndef POOLRANK_RUNTIME_TEXT_TOKENIZER_NORMALIZER_H
#define POOLRANK_RUNTIME_TEXT_TOKENIZER_NORMALIZER_H

#include "runtime/base/buffer.h"
#include "runtime/base/json.h"

typedef struct pr_normalizer pr_normalizer;

/* node: the JSON object of "normalizer", borrowed for the call; the caller handles null.
 * where: for messages. *out: owned, pr_normalizer_free.
 * Fails PR_E_UNSUPPORTED (an unknown type, by name), PR_E_MODEL (broken), PR_E_NOMEM. */
pr_status pr_normalizer_parse(const json_t *node, const char *where, pr_normalizer **out,
                              pr_error *err);
void pr_normalizer_free(pr_normalizer *nz);

/* Appends the normalized text to *out.
 * text: [n] bytes of valid UTF-8, outside *out, which is empty.
 * Fails PR_E_INPUT (a regular expression ran into its limit), PR_E_TOO_LARGE (the steps make it
 * longer than runtime/text/limits.h allows), PR_E_NOMEM; *out is then unspecified but valid. */
pr_status pr_normalizer_apply(const pr_normalizer *nz, const char *text, size_t n, pr_buffer *out,
                              pr_error *err);

#endif
