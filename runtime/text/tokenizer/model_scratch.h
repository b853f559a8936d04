/* runtime/text/tokenizer/model_scratch.h: memory that a model works in, kept from piece to piece.
 *
 * Plain struct in the storage of one encode call: zeroed before the first use, deinit after the
 * last. The models themselves stay read-only. */
#ifndef POOLRANK_RUNTIME_TEXT_TOKENIZER_MODEL_SCRATCH_H
#define POOLRANK_RUNTIME_TEXT_TOKENIZER_MODEL_SCRATCH_H

#include <stddef.h>

enum { PR_SCRATCH_BLOCKS = 4 };

typedef struct pr_model_scratch {
    void *blocks[PR_SCRATCH_BLOCKS]; /* what each is for is the model's affair */
    size_t bytes[PR_SCRATCH_BLOCKS];
} pr_model_scratch;

/* The block, grown to n items of item_bytes, contents kept; NULL when there is no memory. */
void *pr_model_scratch_reserve(pr_model_scratch *s, int i_block, size_t n, size_t item_bytes);
void pr_model_scratch_deinit(pr_model_scratch *s);

#endif
