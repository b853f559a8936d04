/* runtime/text/tokenizer/tokenizer.h: text to token ids and back, as Hugging Face `tokenizers`
 * does it from a `tokenizer.json`.
 *
 * Owns the vocabulary, the compiled regular expressions and the parts of the pipeline (normalizer,
 * pre-tokenizer, model, post-processor, decoder, added tokens). Immutable once loaded: any number
 * of threads may encode with one handle at the same time.
 *
 * The file's own `padding` and `truncation` sections do not apply: nothing is padded, and the
 * caller cuts the content between encode and assemble. Offsets are not kept. */
#ifndef POOLRANK_RUNTIME_TEXT_TOKENIZER_TOKENIZER_H
#define POOLRANK_RUNTIME_TEXT_TOKENIZER_TOKENIZER_H

#include "runtime/base/buffer.h"
#include "runtime/base/status.h"
#include "runtime/text/tokenizer/auto_tokens.h"
#include "runtime/text/tokenizer/encoding.h"

#include <stdint.h>

typedef struct pr_tokenizer pr_tokenizer;

/* Parses tokenizer.json from memory. name: for messages.
 * Fails PR_E_MODEL (broken), PR_E_UNSUPPORTED (a component that is not known, by name),
 * PR_E_NOMEM. */
pr_status pr_tokenizer_parse(const char *json, size_t n, const char *name, pr_tokenizer **out,
                             pr_error *err);

/* Reads one file (at most 256 MiB). Fails as pr_tokenizer_parse and pr_file_read. */
pr_status pr_tokenizer_load(const char *path, pr_tokenizer **out, pr_error *err);

/* Reads it as transformers' AutoTokenizer does with the files beside it (auto_tokenizer.h), which
 * may change any of its pieces and add tokens. files: borrowed for the call. Fails as
 * pr_tokenizer_load, and as pr_auto_tokenizer_prepare. */
pr_status pr_tokenizer_parse_auto(const char *json, size_t n, const char *name,
                                  const pr_tokenizer_files *files, pr_tokenizer **out,
                                  pr_error *err);
pr_status pr_tokenizer_load_auto(const char *path, const pr_tokenizer_files *files,
                                 pr_tokenizer **out, pr_error *err);

void pr_tokenizer_free(pr_tokenizer *t);

/* What it was read as. */
typedef struct pr_tokenizer_origin {
    const char *class_name; /* transformers' class; NULL: the file alone was read */
    char *applied;          /* what was followed of the files beside it, by name; owned */
    bool is_rebuilt;        /* the class built all but the vocabulary itself */
    bool appends_eos;       /* add_eos_token is followed, as transformers 4 did */
    bool truncates_left;    /* the file's own side, where tokenizer_config.json says nothing */
    bool splits_special;    /* special tokens inside a text are text */
    bool has_no_types;      /* the model gets no token_type_ids: type_ids are all 0 */
} pr_tokenizer_origin;
const pr_tokenizer_origin *pr_tokenizer_origin_of(const pr_tokenizer *t);

/* Content to ids: added tokens cut out, normalized, pre-tokenized, model applied. Appends to *out
 * (which may hold ids already). Special tokens inside the text become their ids, as in tokenizers.
 * text: [n] bytes, need not end in NUL. At most 2^30 bytes.
 * Fails PR_E_INPUT: not UTF-8 (with the byte's position), a regular expression of the tokenizer ran
 * into its limit, or a character is unknown and the file has no token for that; PR_E_TOO_LARGE;
 * PR_E_NOMEM. *out is then unspecified but valid. */
pr_status pr_tokenizer_encode(const pr_tokenizer *t, const char *text, size_t n, pr_ids *out,
                              pr_error *err);

/* Applies the post-processor to one content (b NULL) or a pair (b not NULL, also where n_b is 0).
 * Without special tokens the ids are a followed by b; type ids are what tokenizers gives for
 * add_special_tokens=False. out: overwritten, owned by the caller (pr_encoding_deinit). Fails
 * PR_E_NOMEM. */
pr_status pr_tokenizer_assemble(const pr_tokenizer *t, const int32_t *a, size_t n_a,
                                const int32_t *b, size_t n_b, bool add_special_tokens,
                                pr_encoding *out, pr_error *err);

/* How many ids the post-processor adds: num_special_tokens_to_add(is_pair). */
size_t pr_tokenizer_n_added(const pr_tokenizer *t, bool is_pair);

/* Ids to text, as tokenizers' decode(ids, skip_special_tokens). Ids outside the vocabulary are
 * skipped, as there. Appends to *out. Fails PR_E_NOMEM. */
pr_status pr_tokenizer_decode(const pr_tokenizer *t, const int32_t *ids, size_t n,
                              bool skip_special_tokens, pr_buffer *out, pr_error *err);

/* The id of a token by its exact content, added tokens included; -1 when there is none. */
int32_t pr_tokenizer_token_to_id(const pr_tokenizer *t, const char *token, size_t n);

/* The content of a token, borrowed until free, *n bytes; NULL when the id is not in use. */
const char *pr_tokenizer_id_to_token(const pr_tokenizer *t, int32_t id, size_t *n);

bool pr_tokenizer_id_is_special(const pr_tokenizer *t, int32_t id);

/* One more than the largest id in use, added tokens included. */
int32_t pr_tokenizer_n_ids(const pr_tokenizer *t);

#endif
