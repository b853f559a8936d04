/* tests/parity/random_model.h: a random model that is wide enough for a matrix kernel to take its
 * blocked paths (hidden 320 and 384, not multiples of every tile; the committed ones are 32 wide).
 *
 * Written into a temporary folder that the caller removes. Fixed seed. */
#ifndef POOLRANK_TESTS_PARITY_RANDOM_MODEL_H
#define POOLRANK_TESTS_PARITY_RANDOM_MODEL_H

#include <stdbool.h>
#include <stddef.h>

typedef enum random_family {
    RANDOM_NONE,
    RANDOM_BERT, /* 5 heads, hidden 320 */
    RANDOM_QWEN2,
    RANDOM_BERT_12, /* 12 heads, hidden 384: for 2, 3, 4 and 6 ranks */
    RANDOM_QWEN2_12
} random_family;

/* tokenizer_folder: whose tokenizer.json is copied. folder: [folder_bytes], the new folder's path.
 * Prints what went wrong; false then. */
bool random_model_write(random_family family, const char *tokenizer_folder, char *folder,
                        size_t folder_bytes);
void random_model_remove(const char *folder);

#endif
