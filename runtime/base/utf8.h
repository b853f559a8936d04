/* runtime/base/utf8.h: checking, reading and writing UTF-8.
 *
 * Pure functions, any thread. Text is checked once where it enters (pr_utf8_prefix); everything
 * behind that point trusts it and decodes without checks. Source: RFC 3629 (no overlong forms, no
 * surrogates, at most U+10FFFF). */
#ifndef POOLRANK_RUNTIME_BASE_UTF8_H
#define POOLRANK_RUNTIME_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The length of the longest prefix of data, [n] bytes, that is complete, valid UTF-8: n when all of
 * it is; else the index of the first byte of the first bad sequence. NUL is a character. */
size_t pr_utf8_prefix(const char *data, size_t n);

/* Bytes of the longest start of a well-formed character at data, [n] bytes, n > 0: at least 1.
 * *whole says whether it is a complete character; else it is what one U+FFFD stands for
 * ("maximal subpart", Unicode 15, section 3.9). */
size_t pr_utf8_subpart(const char *data, size_t n, bool *whole);

/* Bytes of the character that starts with this byte; the byte must start one. */
static inline size_t pr_utf8_width(unsigned char first)
{
    return first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/* The character at s, which must be valid UTF-8; returns its bytes, 1 to 4. */
static inline size_t pr_utf8_decode(const char *s, uint32_t *c)
{
    const unsigned char *u = (const unsigned char *)s;
    if (u[0] < 0x80) {
        *c = u[0];
        return 1;
    }
    if (u[0] < 0xe0) {
        *c = (uint32_t)(u[0] & 0x1f) << 6 | (u[1] & 0x3f);
        return 2;
    }
    if (u[0] < 0xf0) {
        *c = (uint32_t)(u[0] & 0x0f) << 12 | (uint32_t)(u[1] & 0x3f) << 6 | (u[2] & 0x3f);
        return 3;
    }
    *c = (uint32_t)(u[0] & 0x07) << 18 | (uint32_t)(u[1] & 0x3f) << 12 |
         (uint32_t)(u[2] & 0x3f) << 6 | (u[3] & 0x3f);
    return 4;
}

/* Writes c, at most U+10FFFF, as 1 to 4 bytes and returns how many. */
static inline size_t pr_utf8_encode(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* Bytes of the character that ends right before s[end]; end > 0, s valid UTF-8. */
static inline size_t pr_utf8_width_before(const char *s, size_t end)
{
    size_t n = 1;
    while (n < 4 && n < end && ((unsigned char)s[end - n] & 0xc0) == 0x80) n++;
    return n;
}

/* Characters in s[0..n), which must be valid UTF-8. */
size_t pr_utf8_count(const char *s, size_t n);

/* How many bytes at the start of s[0..n) are ASCII. */
size_t pr_utf8_ascii_prefix(const char *s, size_t n);

#endif
