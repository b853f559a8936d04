#include "runtime/text/unicode/unicode.h"

#include <assert.h>

/* Bits of a run in unicode_runs; the order is FLAGS in tests/parity/make_unicode_tables.py. */
enum unicode_flag {
    FLAG_NUMERIC = 1,
    FLAG_BERT_CONTROL = 2,
    FLAG_PUNCTUATION = 4,
    FLAG_MARK_NONSPACING = 8,
    FLAG_MARK = 16,
    FLAG_WORD = 32
};

struct lower_run {
    uint32_t first;
    uint32_t last;
    uint8_t stride; /* every character, or every other one */
    int32_t delta;  /* lower case minus upper case */
};

#define UNICODE_TABLES_PROPERTIES
#include "runtime/text/unicode/unicode_tables.h"

enum { N_RUNS = sizeof unicode_runs / sizeof *unicode_runs };
enum { N_LOWER_RUNS = sizeof lower_runs / sizeof *lower_runs };

/* The run that holds c is the last one that starts at or before it. */
static unsigned flags_of(uint32_t c)
{
    uint32_t key = c << 8 | 0xff;
    size_t low = 0;
    size_t n = N_RUNS;
    while (n > 1) {
        size_t half = n / 2;
        if (unicode_runs[low + half] <= key) low += half;
        n -= half;
    }
    return unicode_runs[low] & 0xff;
}

bool pr_char_is_whitespace(uint32_t c)
{
    if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
    if (c < 0x1680) return c == 0x85 || c == 0xa0;
    return c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

bool pr_char_is_numeric(uint32_t c)
{
    if (c < 0x80) return c >= '0' && c <= '9';
    return flags_of(c) & FLAG_NUMERIC;
}

bool pr_char_is_bert_control(uint32_t c)
{
    if (c < 0x80) return c == 0x7f || (c < 0x20 && c != '\t' && c != '\n' && c != '\r' && c != 0);
    return flags_of(c) & FLAG_BERT_CONTROL;
}

bool pr_char_is_cjk(uint32_t c)
{
    /* 2B820 to 2B91F (extension E's first rows) are left out there, and so here. */
    return c >= 0x3400 &&
           (c <= 0x4dbf || (c >= 0x4e00 && c <= 0x9fff) || (c >= 0xf900 && c <= 0xfaff) ||
            (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b81f) ||
            (c >= 0x2b920 && c <= 0x2ceaf) || (c >= 0x2f800 && c <= 0x2fa1f));
}

bool pr_char_is_punctuation(uint32_t c)
{
    if (c < 0x80) {
        return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
               (c >= '{' && c <= '~');
    }
    return flags_of(c) & FLAG_PUNCTUATION;
}

bool pr_char_is_mark_nonspacing(uint32_t c)
{
    return c >= 0x300 && flags_of(c) & FLAG_MARK_NONSPACING;
}

bool pr_char_is_mark(uint32_t c)
{
    return c >= 0x300 && flags_of(c) & FLAG_MARK;
}

bool pr_char_is_word(uint32_t c)
{
    if (c < 0x80) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '_';
    }
    return flags_of(c) & FLAG_WORD;
}

size_t pr_char_lower(uint32_t c, uint32_t out[2])
{
    out[0] = c;
    if (c < 0x80) {
        if (c >= 'A' && c <= 'Z') out[0] = c + ('a' - 'A');
        return 1;
    }
    if (c == 0x130) { /* capital I with dot above: i and a combining dot */
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    size_t low = 0;
    size_t n = N_LOWER_RUNS;
    while (n > 1) {
        size_t half = n / 2;
        if (lower_runs[low + half].first <= c) low += half;
        n -= half;
    }
    const struct lower_run *run = &lower_runs[low];
    if (c >= run->first && c <= run->last && (c - run->first) % run->stride == 0) {
        out[0] = (uint32_t)((int32_t)c + run->delta);
    }
    return 1;
}

static bool byte_is_itself(unsigned b)
{
    return (b >= '!' && b <= '~') || (b >= 0xa1 && b != 0xad);
}

uint32_t pr_byte_to_char(uint8_t byte)
{
    unsigned b = byte;
    if (byte_is_itself(b)) return b;
    if (b <= 0x20) return 0x100 + b;
    if (b <= 0xa0) return 0x100 + 33 + (b - 0x7f);
    assert(b == 0xad);
    return 0x100 + 67;
}

int pr_byte_of_char(uint32_t c)
{
    if (c < 0x100) return byte_is_itself(c) ? (int)c : -1;
    if (c <= 0x120) return (int)(c - 0x100);
    if (c <= 0x142) return (int)(c - 0x121 + 0x7f);
    return c == 0x143 ? 0xad : -1;
}
