/* runtime/text/unicode/normalizer_forms.h: the Unicode normalization forms, on vectors of
 * characters and on text.
 *
 * tokenizers 0.23.3 normalizes by Unicode 9 and Unicode's stable rules; utf8proc, which does the
 * work here, knows later versions, so what came after is left alone by name
 * (tests/parity/make_unicode_tables.py asks for the list). Called by the normalizer; the caller
 * owns the vector, one thread at a time. */
#ifndef POOLRANK_RUNTIME_TEXT_UNICODE_NORMALIZER_FORMS_H
#define POOLRANK_RUNTIME_TEXT_UNICODE_NORMALIZER_FORMS_H

#include "runtime/base/buffer.h"

#include <stdint.h>

/* Characters of a stretch of text; zeroed before the first use. */
typedef struct pr_chars {
    int32_t *c; /* [n] */
    size_t n;
    size_t n_max;
} pr_chars;

void pr_chars_deinit(pr_chars *v);

/* Appends c, or its full decomposition (compat: NFKD's). False when there is no memory. */
bool pr_chars_push(pr_chars *v, uint32_t c);
bool pr_chars_push_decomposed(pr_chars *v, uint32_t c, bool compat);

/* Puts combining marks into canonical order: what was decomposed is then NFD (NFKD). False when
 * there is no memory. */
bool pr_chars_reorder(pr_chars *v);

/* NFD to NFC, in place. */
void pr_chars_compose(pr_chars *v);

/* Appends as UTF-8; a failed append shows in out->failed. */
void pr_chars_append_to(const pr_chars *v, pr_buffer *out);

/* Appends text in NFD, NFKD (compat), NFC (compose) or NFKC (both). text: valid UTF-8.
 * False when there is no memory. */
bool pr_forms_apply(const char *text, size_t n, bool compat, bool compose, pr_buffer *out);

#endif
