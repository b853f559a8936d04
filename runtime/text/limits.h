/* runtime/text/limits.h: how far the parts of a tokenizer.json may go, so that a crafted file
 * costs an error and not the machine. Each is far from what real files need.
 *
 * Constants and a pure function, any thread. Used by the parts of the tokenizer. */
#ifndef POOLRANK_RUNTIME_TEXT_LIMITS_H
#define POOLRANK_RUNTIME_TEXT_LIMITS_H

#include <stdbool.h>
#include <stddef.h>

enum {
    PR_STEPS_MAX = 256,              /* of a Sequence, with those inside of it */
    PR_TEMPLATE_PIECES_MAX = 256,    /* of a template, and ids of a special token in it */
    PR_TRIE_STRING_BYTES_MAX = 4096, /* of a token that is looked for at every byte of a text */
    PR_PATTERN_BYTES_MAX = 1 << 20,  /* of a regular expression's translation */
    PR_REPLACEMENT_BYTES_MAX = 256,  /* of what a charsmap makes of a few characters */
    PR_TEXT_GROWTH_MAX = 64,         /* bytes that the steps may make of a byte */
    PR_TEXT_GROWTH_FREE = 1 << 16    /* and this much more */
};

/* Whether a part may make n_to bytes of n_from: without a bound, 256 steps that double a text are
 * enough to fill any memory. (The longest NFKD decomposition makes 33 bytes of 3.) */
static inline bool pr_text_growth_ok(size_t n_from, size_t n_to)
{
    if (n_to < PR_TEXT_GROWTH_FREE) return true;
    return (n_to - PR_TEXT_GROWTH_FREE) / PR_TEXT_GROWTH_MAX <= n_from;
}

#endif
