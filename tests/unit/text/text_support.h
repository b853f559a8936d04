/* tests/unit/text/text_support.h: short ways to make tokenizers and to look at their ids. */
#ifndef POOLRANK_TESTS_TEXT_SUPPORT_H
#define POOLRANK_TESTS_TEXT_SUPPORT_H

#include "runtime/base/json.h"
#include "runtime/text/tokenizer/tokenizer.h"

/* JSON with ' for ", so that it reads well in C. Owned (json_decref). Fails the test when
 * broken. */
json_t *support_json(const char *text);

/* A tokenizer.json: the given members of its object, with ' for ". Fails the test when broken. */
pr_tokenizer *support_tokenizer(const char *members);

/* The status and message of a tokenizer.json that does not load. */
pr_status support_refusal(const char *members, pr_error *err);

/* Ids as "1 2 3" in the caller's buffer; returns it. */
const char *support_show(const int32_t *ids, size_t n, char *buffer, size_t n_buffer);

/* What a text encodes to, as "1 2 3" in a buffer of the caller; "error: …" when it fails. */
const char *support_encode(const pr_tokenizer *t, const char *text, char *buffer, size_t n_buffer);

/* Decodes n ids; the text is written to the caller's buffer. */
const char *support_decode(const pr_tokenizer *t, const int32_t *ids, size_t n, bool skip_special,
                           char *buffer, size_t n_buffer);

#endif
