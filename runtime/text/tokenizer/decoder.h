/* runtime/text/tokenizer/decoder.h: the "decoder" of a tokenizer.json: the texts of tokens back to
 * one text.
 *
 * Owns its steps and their regular expressions. Immutable once parsed, any number of threads, each
 * with lists of its own. Called by the tokenizer. */
#ifndef POOLRANK_RUNTIME_TEXT_TOKENIZER_DECODER_H
#define POOLRANK_RUNTIME_TEXT_TOKENIZER_DECODER_H

#include "runtime/base/buffer.h"
#include "runtime/base/json.h"

typedef struct pr_decoder pr_decoder;

/* Texts one behind the other. Caller's storage, zeroed before the first use. */
typedef struct pr_text_list {
    pr_buffer text;
    size_t *ends; /* [n] */
    size_t n;
    size_t n_max;
} pr_text_list;

void pr_text_list_deinit(pr_text_list *l);
void pr_text_list_clear(pr_text_list *l);

/* Ends the text that was appended to l->text since the last end; false when there is no memory,
 * also when an append before had none. */
bool pr_text_list_end(pr_text_list *l);
const char *pr_text_list_get(const pr_text_list *l, size_t i, size_t *n);

/* node: the JSON object, borrowed for the call; NULL: none, then texts are joined by spaces.
 * where: for messages. *out: owned, pr_decoder_free.
 * Fails PR_E_UNSUPPORTED (an unknown type, by name), PR_E_MODEL, PR_E_NOMEM. */
pr_status pr_decoder_parse(const json_t *node, const char *where, pr_decoder **out, pr_error *err);
void pr_decoder_free(pr_decoder *d);

/* Appends the decoded text to *out. tokens: used up. Fails PR_E_INPUT (a regular expression ran
 * into its limit), PR_E_NOMEM. */
pr_status pr_decoder_apply(const pr_decoder *d, pr_text_list *tokens, pr_buffer *out,
                           pr_error *err);

#endif
