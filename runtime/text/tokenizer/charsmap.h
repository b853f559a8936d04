/* runtime/text/tokenizer/charsmap.h: SentencePiece's `precompiled_charsmap`, as the Precompiled
 * normalizer of `tokenizers` applies it.
 *
 * Layout (little endian), base64 in the JSON:
 *
 *     u32 n_trie_bytes | u32 trie[n_trie_bytes / 4] | replacements, each ended by a NUL
 *
 * The trie is a Darts double array over the bytes of a text; its values are positions among the
 * replacements. The text is cut into grapheme clusters. A cluster of fewer than 6 bytes that begins
 * with a key is replaced whole by that of its shortest key; in every other the characters are
 * looked up one by one.
 *
 * Owns a copy of the data. Immutable, any thread. */
#ifndef POOLRANK_RUNTIME_TEXT_TOKENIZER_CHARSMAP_H
#define POOLRANK_RUNTIME_TEXT_TOKENIZER_CHARSMAP_H

#include "runtime/base/buffer.h"
#include "runtime/base/status.h"

typedef struct pr_charsmap pr_charsmap;

/* base64: [n] bytes. Fails PR_E_MODEL (not base64, not a charsmap), PR_E_NOMEM. */
pr_status pr_charsmap_parse(const char *base64, size_t n, const char *where, pr_charsmap **out,
                            pr_error *err);
void pr_charsmap_free(pr_charsmap *map);

/* Appends the mapped text. text: valid UTF-8. A failed append shows in out->failed. */
void pr_charsmap_apply(const pr_charsmap *map, const char *text, size_t n, pr_buffer *out);

#endif
