/* runtime/text/tokenizer/model_text.h: the two large values of a tokenizer.json, "vocab" and
 * "merges" of its model, read from the file's text without a tree of JSON values.
 *
 * A vocabulary of 150,000 tokens is some 450,000 JSON values, which took four fifths of the time to
 * load it. Only plain text is read here: whatever is odd (broken JSON, a number that is no id, a
 * key that comes twice) is left to the JSON parser, which reads the whole file then and says what
 * is wrong.
 *
 * Borrows the file's text. Called by the tokenizer while it loads, by one thread. */
#ifndef POOLRANK_RUNTIME_TEXT_TOKENIZER_MODEL_TEXT_H
#define POOLRANK_RUNTIME_TEXT_TOKENIZER_MODEL_TEXT_H

#include "runtime/base/buffer.h"

#include <stdint.h>

typedef struct pr_model_text {
    const char *vocab; /* [n_vocab]: "{…}" */
    size_t n_vocab;
    const char *merges; /* [n_merges]: "[…]"; NULL: none */
    size_t n_merges;
    bool is_odd; /* set by who reads: start over with the JSON parser */
} pr_model_text;

/* Finds both in json [n] and copies all the rest, with null in their places, to *rest (to be
 * deinitialized in all cases). False where there is no such model, or something is odd. */
bool pr_model_text_find(const char *json, size_t n, pr_model_text *out, pr_buffer *rest);

/* A walk over a value's text. */
typedef struct pr_text_cursor {
    const char *at;
    const char *end;
    pr_buffer *unescaped; /* strings with escapes; whoever reads clears it between values */
} pr_text_cursor;

/* Skips white space and then this character; false when another one stands there. */
bool pr_text_cursor_take(pr_text_cursor *c, char expected);

/* A string, without its quotes: in the text itself, or unescaped in the cursor's buffer, which may
 * move while more is read. False: odd, NUL included. */
typedef struct pr_text_string {
    const char *s; /* NULL: at offset in the buffer */
    size_t offset;
    size_t n;
} pr_text_string;
bool pr_text_cursor_read(pr_text_cursor *c, pr_text_string *out);
const char *pr_text_cursor_string(const pr_text_cursor *c, const pr_text_string *s);

/* Digits of a number from 0 to max, and nothing behind them but what ends a value. */
bool pr_text_cursor_id(pr_text_cursor *c, int32_t max, int32_t *out);

#endif
