/* runtime/text/tokenizer/encoding.h: what texts become: lists of token ids.
 *
 * Plain data; each list is owned by who holds it. Used by the tokenizer, by its models and its
 * post-processor, and by who asks for ids. */
#ifndef POOLRANK_RUNTIME_TEXT_TOKENIZER_ENCODING_H
#define POOLRANK_RUNTIME_TEXT_TOKENIZER_ENCODING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Token ids of content, without special tokens that a post-processor adds. */
typedef struct pr_ids {
    int32_t *ids; /* [n], owned */
    size_t n;
    size_t n_max; /* allocated */
} pr_ids;

void pr_ids_deinit(pr_ids *ids);
bool pr_ids_append(pr_ids *ids, int32_t id); /* false when there is no memory */

/* What a model reads. */
typedef struct pr_encoding {
    int32_t *ids;      /* [n], owned */
    uint8_t *type_ids; /* [n], owned: 0 or 1 (token_type_ids) */
    size_t n;
} pr_encoding;

void pr_encoding_deinit(pr_encoding *e);

#endif
