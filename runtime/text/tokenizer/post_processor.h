/* runtime/text/tokenizer/post_processor.h: the "post_processor" of a tokenizer.json: puts special
 * tokens around one content or a pair, and numbers the types.
 *
 * Owns its templates. Immutable once parsed, any number of threads. Called by the tokenizer. */
#ifndef POOLRANK_RUNTIME_TEXT_TOKENIZER_POST_PROCESSOR_H
#define POOLRANK_RUNTIME_TEXT_TOKENIZER_POST_PROCESSOR_H

#include "runtime/base/json.h"

#include "runtime/text/tokenizer/encoding.h"

typedef struct pr_post_processor pr_post_processor;

/* node: the JSON object, borrowed for the call; NULL: none, then contents are put side by side.
 * n_ids: one more than the largest id in use. where: for messages. *out: owned.
 * Fails PR_E_UNSUPPORTED (an unknown type, by name; a type id over 1; a template behind another
 * one), PR_E_MODEL (broken; an id that is not in use), PR_E_NOMEM. */
pr_status pr_post_processor_parse(const json_t *node, int32_t n_ids, const char *where,
                                  pr_post_processor **out, pr_error *err);
void pr_post_processor_free(pr_post_processor *p);

/* a: [n_a]; b: [n_b], NULL: no pair. out: overwritten, owned by the caller (pr_encoding_deinit).
 * Fails PR_E_NOMEM; *out is then untouched. */
pr_status pr_post_processor_apply(const pr_post_processor *p, const int32_t *a, size_t n_a,
                                  const int32_t *b, size_t n_b, bool add_special_tokens,
                                  pr_encoding *out, pr_error *err);

/* How many ids are added to one content or to a pair. */
size_t pr_post_processor_n_added(const pr_post_processor *p, bool is_pair);

#endif
