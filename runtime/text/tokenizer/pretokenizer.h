/* runtime/text/tokenizer/pretokenizer.h: the "pre_tokenizer" of a tokenizer.json: cuts normalized
 * text into the pieces that the model tokenizes one by one.
 *
 * Owns its regular expressions. Immutable once parsed: any number of threads may split with one
 * handle, each with a pr_pieces of its own. */
#ifndef POOLRANK_RUNTIME_TEXT_TOKENIZER_PRETOKENIZER_H
#define POOLRANK_RUNTIME_TEXT_TOKENIZER_PRETOKENIZER_H

#include "runtime/base/buffer.h"
#include "runtime/base/json.h"

typedef struct pr_pretokenizer pr_pretokenizer;

typedef struct pr_piece {
    size_t begin; /* first byte, in pr_pieces.text */
    size_t n;     /* bytes, never 0 */
} pr_piece;

/* The pieces of one text, in order. The text may differ from what went in (byte-level characters,
 * "▁" for spaces), and may hold bytes that belong to no piece. Caller's storage, zeroed before the
 * first use, made to be used again and again; one thread at a time. */
typedef struct pr_pieces {
    pr_buffer text;
    pr_piece *pieces; /* [n] */
    size_t n;
    size_t n_max;
    pr_buffer spare_text; /* scratch: the other side of a step that rewrites */
    pr_piece *spare_pieces;
    size_t spare_n_max;
} pr_pieces;

void pr_pieces_init(pr_pieces *p);
void pr_pieces_deinit(pr_pieces *p);
void pr_pieces_clear(pr_pieces *p); /* keeps the memory */

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
