#include "runtime/text/tokenizer/model_scratch.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

void *pr_model_scratch_reserve(pr_model_scratch *s, int i_block, size_t n, size_t item_bytes)
{
    assert(i_block >= 0 && i_block < PR_SCRATCH_BLOCKS);
    if (n > SIZE_MAX / 4 / item_bytes) return NULL;
    size_t bytes = n * item_bytes;
    if (bytes <= s->bytes[i_block] && s->blocks[i_block]) return s->blocks[i_block];
    if (bytes < s->bytes[i_block] * 2) bytes = s->bytes[i_block] * 2;
    if (bytes < 1024) bytes = 1024;
    void *grown = realloc(s->blocks[i_block], bytes);
    if (!grown) return NULL;
    s->blocks[i_block] = grown;
    s->bytes[i_block] = bytes;
    return grown;
}

void pr_model_scratch_deinit(pr_model_scratch *s)
{
    for (int i = 0; i < PR_SCRATCH_BLOCKS; i++) free(s->blocks[i]);
    *s = (pr_model_scratch){0};
}
