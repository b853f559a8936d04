/* runtime/text/tokenizer/pieces.h: a text cut into pieces, as the pre-tokenizers do it and as the
 * model then tokenizes them.
 *
 * Owns the text and the list. One thread at a time. */
#ifndef POOLRANK_RUNTIME_TEXT_TOKENIZER_PIECES_H
#define POOLRANK_RUNTIME_TEXT_TOKENIZER_PIECES_H

#include "runtime/base/buffer.h"

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

#endif
