/* runtime/text/tokenizer/pretokenizer.h: the "pre_tokenizer" of a tokenizer.json: cuts normalized
 * text into the pieces that the model tokenizes one by one.
 *
 * Owns its regular expressions. Immutable once parsed: any number of threads may split with one
 * handle, each with a pr_pieces of its own. */
#ifndef POOLRANK_RUNTIME_TEXT_TOKENIZER_PRETOKENIZER_H
#define POOLRANK_RUNTIME_TEXT_TOKENIZER_PRETOKENIZER_H

#include "runtime/base/json.h"
#include "runtime/text/tokenizer/pieces.h"

typedef struct pr_pretokenizer pr_pretokenizer;

/* node: the JSON object of "pre_tokenizer", borrowed for the call; the caller handles null.
 * where: for messages. *out: owned, pr_pretokenizer_free.
 * Fails PR_E_UNSUPPORTED (an unknown type, by name), PR_E_MODEL (broken), PR_E_NOMEM. */
pr_status pr_pretokenizer_parse(const json_t *node, const char *where, pr_pretokenizer **out,
                                pr_error *err);
void pr_pretokenizer_free(pr_pretokenizer *pt);

/* Overwrites *out with the pieces of text.
 * text: [n] bytes of valid UTF-8, outside *out. is_first: the text stands at the very beginning of
 * the input (Metaspace with prepend_scheme "first").
 * Fails PR_E_INPUT (a regular expression ran into its limit), PR_E_TOO_LARGE (the steps make it
 * longer than runtime/text/limits.h allows), PR_E_NOMEM; *out is then unspecified but valid. */
pr_status pr_pretokenizer_split(const pr_pretokenizer *pt, const char *text, size_t n,
                                bool is_first, pr_pieces *out, pr_error *err);

#endif
