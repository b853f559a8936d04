#include "runtime/base/json_write.h"

#include "runtime/base/number.h"
#include "runtime/base/utf8.h"

#include <stdbool.h>

enum { PIECE = 64 }; /* floats that room is made for at once */

void pr_json_write_float(pr_buffer *b, float x)
{
    if (!pr_buffer_reserve(b, PR_NUMBER_BYTES)) return;
    b->n += pr_number_write(x, b->data + b->n);
}

void pr_json_write_elements(pr_buffer *b, const float *x, size_t n)
{
    for (size_t begin = 0; begin < n; begin += PIECE) {
        size_t n_piece = n - begin < PIECE ? n - begin : PIECE;
        if (!pr_buffer_reserve(b, n_piece * (PR_NUMBER_BYTES + 1))) return;
        char *at = b->data + b->n;
        for (size_t i = begin; i < begin + n_piece; i++) {
            if (i > 0) *at++ = ',';
            at += pr_number_write(x[i], at);
        }
        b->n = (size_t)(at - b->data);
    }
}

void pr_json_write_floats(pr_buffer *b, const float *x, size_t n)
{
    pr_buffer_append_char(b, '[');
    pr_json_write_elements(b, x, n);
    pr_buffer_append_char(b, ']');
}

void pr_json_write_int(pr_buffer *b, int64_t x)
{
    char text[20]; /* "-9223372036854775808" */
    size_t at = sizeof text;
    uint64_t rest = x < 0 ? 0 - (uint64_t)x : (uint64_t)x;
    do {
        text[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (x < 0) text[--at] = '-';
    pr_buffer_append(b, text + at, sizeof text - at);
}

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c != '"' && c != '\\' && c != 0x7F;
}

/* Valid UTF-8, with what JSON must escape. */
static void put_valid(pr_buffer *b, const char *s, size_t n)
{
    size_t begin = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (is_plain(c)) continue;
        pr_buffer_append(b, s + begin, i - begin);
        begin = i + 1;
        if (c == '"' || c == '\\') {
            const char escaped[2] = {'\\', (char)c};
            pr_buffer_append(b, escaped, sizeof escaped);
        } else {
            pr_buffer_printf(b, "\\u%04x", c);
        }
    }
    pr_buffer_append(b, s + begin, n - begin);
}

void pr_json_write_str(pr_buffer *b, const char *s, size_t n)
{
    pr_buffer_append_char(b, '"');
    for (size_t i = 0; i < n;) {
        size_t n_valid = pr_utf8_prefix(s + i, n - i);
        put_valid(b, s + i, n_valid);
        i += n_valid;
        if (i < n) {
            pr_buffer_append_str(b, "\xEF\xBF\xBD");
            i++;
        }
    }
    pr_buffer_append_char(b, '"');
}
