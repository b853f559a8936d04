#include "runtime/base/utf8.h"

#include <string.h>

size_t pr_utf8_subpart(const char *data, size_t n, bool *whole)
{
    const unsigned char *p = (const unsigned char *)data;
    unsigned char lead = p[0];
    size_t width = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    *whole = false;
    if (width == 0 || lead > 0xF4) return 1;
    /* The second byte's range shuts out overlong forms, surrogates and what is past U+10FFFF. */
    unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    for (size_t i = 1; i < width; i++) {
        if (i == n || p[i] < low || p[i] > high) return i;
        low = 0x80;
        high = 0xBF;
    }
    *whole = true;
    return width;
}

size_t pr_utf8_prefix(const char *data, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint64_t eight;
        if (n - i >= sizeof eight) { /* most text is ASCII: eight bytes a step */
            memcpy(&eight, data + i, sizeof eight);
            if ((eight & 0x8080808080808080u) == 0) {
                i += sizeof eight;
                continue;
            }
        }
        bool whole = false;
        size_t step = pr_utf8_subpart(data + i, n - i, &whole);
        if (!whole) return i;
        i += step;
    }
    return n;
}

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

size_t pr_utf8_count(const char *s, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += ((unsigned char)s[i] & 0xc0) != 0x80;
    return count;
}
