/* runtime/text/tokenizer/byte_trie.h: finds which of many byte strings begin at a place in a text.
 *
 * Owns its nodes, not the strings. Built once by one thread; then immutable and read by any number
 * of threads. Used by the Unigram and WordPiece models and for added tokens. */
#ifndef POOLRANK_RUNTIME_TEXT_TOKENIZER_BYTE_TRIE_H
#define POOLRANK_RUNTIME_TEXT_TOKENIZER_BYTE_TRIE_H

#include "runtime/base/status.h"

#include <stdint.h>

typedef struct pr_byte_trie pr_byte_trie;

typedef struct pr_trie_entry {
    const char *bytes; /* borrowed for the build; may hold NUL */
    size_t n;
    int32_t value; /* >= 0 */
} pr_trie_entry;

enum { PR_TRIE_ROOT = 0 };

/* entries: [n], sorted in place. Of equal strings the one with the largest value counts.
 * *out: owned, pr_byte_trie_free. Fails PR_E_UNSUPPORTED (a string longer
 * than PR_TRIE_STRING_BYTES_MAX), PR_E_TOO_LARGE (2^31 strings), PR_E_NOMEM. */
pr_status pr_byte_trie_build(pr_trie_entry *entries, size_t n, pr_byte_trie **out, pr_error *err);
void pr_byte_trie_free(pr_byte_trie *t);

/* The node behind `node` for this byte; PR_TRIE_ROOT when there is none. */
uint32_t pr_byte_trie_step(const pr_byte_trie *t, uint32_t node, unsigned char byte);

/* The value of the string that ends at this node, -1 when none does. */
int32_t pr_byte_trie_value(const pr_byte_trie *t, uint32_t node);

/* The longest string that text starts with below `node`, at least one byte: its length and value;
 * 0 when there is none. */
size_t pr_byte_trie_longest(const pr_byte_trie *t, uint32_t node, const char *text, size_t n,
                            int32_t *value);

#endif
