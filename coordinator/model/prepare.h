/* coordinator/model/prepare.h: one request's input as the token ids that the model will read:
 * checked, tokenized, cut, with special tokens.
 *
 * Owns the encodings of a pr_prepared. Pure but for memory and a chat template's clock; called on
 * the engine's tokenizer threads, and by tests. */
#ifndef POOLRANK_COORDINATOR_MODEL_PREPARE_H
#define POOLRANK_COORDINATOR_MODEL_PREPARE_H

#include "coordinator/model/model.h"
#include "include/poolrank/engine.h"

enum { PR_PARTS_MAX = 2 };

typedef struct pr_prepared {
    pr_encoding parts[PR_PARTS_MAX]; /* 2 only where a score is the cosine of two embeddings */
    int n_parts;
    pr_similarity similarity; /* of the two parts */
    const pr_pooling *pooling; /* the model's, or own_pooling */
    pr_pooling *own_pooling;   /* when the request had parameters; owned */
    pr_buffer rendered;        /* what the chat template made of messages */
} pr_prepared;

void pr_prepared_deinit(pr_prepared *p);

/* Defaults of requests, from the configuration. */
typedef struct pr_prepare_defaults {
    int32_t truncate_prompt_tokens; /* 0: refuse what is too long */
    bool add_special_tokens;
} pr_prepare_defaults;

/* Fails PR_E_INPUT (not UTF-8, no token at all, an id outside the vocabulary, what a chat template
 * raises), PR_E_TOO_LONG,
 * PR_E_ARGUMENT (a parameter), PR_E_UNSUPPORTED (task), PR_E_NOMEM. */
pr_status pr_prepare(const pr_model *model, const pr_prepare_defaults *defaults,
                     const pr_request *request, pr_prepared *out, pr_error *err);

/* How many tokens of a pair's contents stay when they may have n_max together: the longer is cut
 * first, then both alike (tokenizers' LongestFirst). */
void pr_truncate_pair(size_t n_max, size_t *n_a, size_t *n_b);

#endif
