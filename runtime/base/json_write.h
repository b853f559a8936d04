/* runtime/base/json_write.h: JSON values appended to a buffer, without a tree of them.
 *
 * For what is large or written often: rows of floats, texts. Commas, keys and brackets of objects
 * are the caller's. A lack of memory sets the buffer's `failed`. One thread at a time. */
#ifndef POOLRANK_RUNTIME_BASE_JSON_WRITE_H
#define POOLRANK_RUNTIME_BASE_JSON_WRITE_H

#include "runtime/base/buffer.h"

#include <stdint.h>

/* As pr_number_write: reads back as the same float32; "null" for what is not finite. */
void pr_json_write_float(pr_buffer *b, float x);

/* x: [n]. "0.5,-1.0": the elements of an array without its brackets, so that a long one may be
 * written in pieces. */
void pr_json_write_elements(pr_buffer *b, const float *x, size_t n);
void pr_json_write_floats(pr_buffer *b, const float *x, size_t n); /* "[0.5,-1.0]" */

void pr_json_write_int(pr_buffer *b, int64_t x);

/* s: [n] bytes, as a string with its quotes. What is not UTF-8 becomes U+FFFD, a byte at a time. */
void pr_json_write_str(pr_buffer *b, const char *s, size_t n);

#endif
