/* runtime/text/tokenizer/auto_tokenizer.h: what transformers' AutoTokenizer makes of a
 * tokenizer.json and the files beside it.
 *
 * Some of its classes take only the vocabulary of a tokenizer.json and build the other pieces from
 * tokenizer_config.json; all of them add the tokens that are named there. Here the file's JSON is
 * rewritten to what the class would have built, and then read as any other. Judge: transformers
 * 5.16.1 (tests/parity/auto_tokenizer.py).
 *
 * A pr_auto_tokenizer owns what it read. Called by the tokenizer while it loads, by one thread. */
#ifndef POOLRANK_RUNTIME_TEXT_TOKENIZER_AUTO_TOKENIZER_H
#define POOLRANK_RUNTIME_TEXT_TOKENIZER_AUTO_TOKENIZER_H

#include "runtime/base/buffer.h"
#include "runtime/text/tokenizer/auto_class.h"
#include "runtime/text/tokenizer/auto_tokens.h"

typedef struct pr_auto_tokenizer pr_auto_tokenizer;

/* root: tokenizer.json's object, rewritten but for its post-processor. *out: owned,
 * pr_auto_tokenizer_free. name: of the file, for messages.
 * Fails PR_E_UNSUPPORTED (a class or a field that is not built, by name), PR_E_MODEL,
 * PR_E_NOMEM. */
pr_status pr_auto_tokenizer_prepare(const pr_tokenizer_files *files, const char *name, json_t *root,
                                    pr_auto_tokenizer **out, pr_error *err);
void pr_auto_tokenizer_free(pr_auto_tokenizer *a);

/* Rewrites the post-processor, which needs ids. id_of: the id of a token with this content, -1:
 * none; context goes to it. n_tokens: of the model's vocabulary. Fails as above. */
typedef int32_t pr_auto_id_of(const void *context, const char *content, size_t n);
pr_status pr_auto_tokenizer_finish(pr_auto_tokenizer *a, json_t *root, size_t n_tokens,
                                   pr_auto_id_of *id_of, const void *context, pr_error *err);

/* The names of what was followed, with commas: owned text, NULL when there is no memory. */
char *pr_auto_tokenizer_applied(const pr_auto_tokenizer *a);

/* What the class does beyond the file's pieces. */
typedef struct pr_auto_traits {
    pr_auto_class is;
    bool splits_special; /* special tokens inside a text are text */
    bool has_no_types;   /* token_type_ids are not given to the model: all are 0 */
    bool truncates_left; /* tokenizer.json says so, where tokenizer_config.json says nothing */
    bool appends_eos;    /* add_eos_token of transformers 4 is followed */
    bool is_rebuilt;     /* the class takes the file's vocabulary only */
} pr_auto_traits;
const pr_auto_traits *pr_auto_tokenizer_traits(const pr_auto_tokenizer *a);

#endif
