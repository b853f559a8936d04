#include "runtime/text/utf8.h"

#include <string.h>

size_t pr_utf8_ascii_prefix(const char *s, size_t n)
{
    size_t i = 0;
    for (; n - i >= 8; i += 8) {
        uint64_t word;
        memcpy(&word, s + i, sizeof word);
        if (word & UINT64_C(0x8080808080808080)) break;
    }
    while (i < n && (unsigned char)s[i] < 0x80) i++;
    return i;
}

/* Bytes of the sequence at u, of which n are there; 0 when it is not well-formed.
 * Unicode 15, table 3-7: the second byte's range depends on the first. */
static size_t sequence_bytes(const unsigned char *u, size_t n)
{
    unsigned char c = u[0];
    if (c < 0x80) return 1;
    if (c < 0xc2 || c > 0xf4) return 0;
    size_t width = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    if (n < width) return 0;
    unsigned char low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    unsigned char high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    if (u[1] < low || u[1] > high) return 0;
    for (size_t i = 2; i < width; i++) {
        if ((u[i] & 0xc0) != 0x80) return 0;
    }
    return width;
}

bool pr_utf8_valid(const char *s, size_t n, size_t *i_bad)
{
    size_t i = 0;
    for (;;) {
        i += pr_utf8_ascii_prefix(s + i, n - i);
        if (i == n) return true;
        while (i < n && (unsigned char)s[i] >= 0x80) {
            size_t width = sequence_bytes((const unsigned char *)s + i, n - i);
            if (width == 0) {
                if (i_bad) *i_bad = i;
                return false;
            }
            i += width;
        }
    }
}

size_t pr_utf8_count(const char *s, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += ((unsigned char)s[i] & 0xc0) != 0x80;
    return count;
}
