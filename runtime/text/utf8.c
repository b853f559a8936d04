#include "runtime/text/utf8.h"

#include "runtime/base/utf8.h"

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

bool pr_utf8_valid(const char *s, size_t n, size_t *i_bad)
{
    size_t n_good = pr_utf8_prefix(s, n);
    if (n_good < n && i_bad) *i_bad = n_good;
    return n_good == n;
}

size_t pr_utf8_count(const char *s, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += ((unsigned char)s[i] & 0xc0) != 0x80;
    return count;
}
