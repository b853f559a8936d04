/* runtime/text/tokenizer/auto_tokens.h: the special and added tokens that the files beside a
 * tokenizer.json name, as transformers 5.16 merges and adds them.
 *
 * A token is JSON here: a string, or an object marked "__type": "AddedToken" with content and
 * flags.
 * Owns its JSON (pr_auto_tokens_deinit). Called by auto_tokenizer, by one thread. */
#ifndef POOLRANK_RUNTIME_TEXT_TOKENIZER_AUTO_TOKENS_H
#define POOLRANK_RUNTIME_TEXT_TOKENIZER_AUTO_TOKENS_H

#include "runtime/base/json.h"

/* What stands beside a tokenizer.json; borrowed, each may be NULL. */
typedef struct pr_tokenizer_files {
    const json_t *config;      /* tokenizer_config.json */
    const json_t *special_map; /* special_tokens_map.json */
    const json_t *added;       /* added_tokens.json */
    const json_t *arguments;   /* keyword arguments of from_pretrained: Sentence Transformers'
                                  tokenizer_args */
    const char *model_type;    /* config.json: model_type and tokenizer_class */
    const char *model_class;
    bool lowercase;       /* do_lower_case of Sentence Transformers: Lowercase before the rest */
    bool ignore_auto_map; /* code of its own for AutoTokenizer is not looked at */
} pr_tokenizer_files;

typedef struct pr_auto_tokens {
    json_t *keywords; /* object: tokenizer_config.json with what overrides it */
    json_t *decoder;  /* array of [id, token]: added_tokens_decoder, by id */
    json_t *named;    /* object: bos_token, …, then the model's own; no nulls */
    json_t *extra;    /* array of tokens */
} pr_auto_tokens;

/* root: tokenizer.json, for its added tokens. *out: owned, to be deinitialized on failure too.
 * Fails PR_E_MODEL (a value that transformers does not take either), PR_E_NOMEM. */
pr_status pr_auto_tokens_read(const pr_tokenizer_files *files, const json_t *root,
                              pr_auto_tokens *out, pr_error *err);
void pr_auto_tokens_deinit(pr_auto_tokens *t);

/* Fills `named` and `extra` from the keywords, with the class's own names where they say nothing.
 * defaults: [n] pairs of attribute and content. Fails as pr_auto_tokens_read. */
typedef struct pr_auto_default {
    const char *attribute;
    const char *content;
} pr_auto_default;
pr_status pr_auto_tokens_name(pr_auto_tokens *t, const pr_auto_default *defaults, size_t n,
                              pr_error *err);

/* added: the array "added_tokens" of what is built, which the file's own tokens may stand in
 * already. Appends what the decoder, the named and the extra tokens add or change.
 * Fails PR_E_NOMEM. */
pr_status pr_auto_tokens_add(const pr_auto_tokens *t, json_t *added, pr_error *err);

/* All named and extra tokens once more, as special tokens without flags: Qwen2's class does so. */
pr_status pr_auto_tokens_add_special(const pr_auto_tokens *t, json_t *added, pr_error *err);

/* The content of a named token, NULL when there is none. */
const char *pr_auto_tokens_content(const pr_auto_tokens *t, const char *attribute);

/* The keyword as a truth value of Python's: null, false, 0 and "" are false. */
bool pr_auto_keyword_is_true(const pr_auto_tokens *t, const char *key, bool if_absent);

#endif
