/* runtime/text/tokenizer/auto_class.h: which tokenizer class of transformers 5.16 a model's files
 * stand for, as its AutoTokenizer decides.
 *
 * Pure; owns nothing. Called by auto_tokenizer. */
#ifndef POOLRANK_RUNTIME_TEXT_TOKENIZER_AUTO_CLASS_H
#define POOLRANK_RUNTIME_TEXT_TOKENIZER_AUTO_CLASS_H

#include "runtime/base/status.h"

#include <stdbool.h>

typedef enum pr_auto_class {
    PR_AUTO_BACKEND, /* TokenizersBackend: tokenizer.json as it is */
    PR_AUTO_BERT,    /* the others take its vocabulary and build the rest themselves */
    PR_AUTO_DISTILBERT,
    PR_AUTO_ROBERTA,
    PR_AUTO_XLM_ROBERTA,
    PR_AUTO_QWEN2,
    PR_AUTO_LLAMA,
    PR_AUTO_CLASS_COUNT
} pr_auto_class;

/* "BertTokenizer", … */
const char *pr_auto_class_name(pr_auto_class c);

/* model_type: of config.json; NULL or "": unknown. tokenizer_class: of tokenizer_config.json or
 * else of config.json; NULL: none. has_auto_map: tokenizer_config.json names code of its own for
 * AutoTokenizer. Fails PR_E_UNSUPPORTED for a class of transformers that is not built. */
pr_status pr_auto_class_find(const char *model_type, const char *tokenizer_class, bool has_auto_map,
                             pr_auto_class *out, pr_error *err);

/* Whether transformers 4 made it a LlamaTokenizer, which appends end-of-text where asked to. */
bool pr_auto_class_is_llama_name(const char *tokenizer_class);

#endif
