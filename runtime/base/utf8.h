/* runtime/base/utf8.h: where a byte string stops being UTF-8.
 *
 * Pure; called on any thread. Source: RFC 3629 (no overlong forms, no surrogates, at most
 * U+10FFFF). */
#ifndef POOLRANK_RUNTIME_BASE_UTF8_H
#define POOLRANK_RUNTIME_BASE_UTF8_H

#include <stddef.h>

/* The length of the longest prefix of data, [n] bytes, that is complete, valid UTF-8: n when all of
 * it is; else the index of the first byte of the first bad sequence. NUL is a character. */
size_t pr_utf8_prefix(const char *data, size_t n);

#endif
