#include "runtime/base/buffer.h"

#include "runtime/base/number.h"

#include <assert.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void pr_buffer_init(pr_buffer *b)
{
    *b = (pr_buffer){0};
}

void pr_buffer_deinit(pr_buffer *b)
{
    free(b->data);
    *b = (pr_buffer){0};
}

void pr_buffer_clear(pr_buffer *b)
{
    b->n = 0;
    b->failed = false;
}

bool pr_buffer_reserve(pr_buffer *b, size_t n_more)
{
    if (b->data && n_more <= b->n_max - b->n) return true;
    if (n_more > SIZE_MAX / 2 - b->n) {
        b->failed = true;
        return false;
    }
    size_t n_max = b->n_max ? b->n_max : 256;
    while (n_max < b->n + n_more) n_max *= 2;
    char *data = realloc(b->data, n_max);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->n_max = n_max;
    return true;
}

bool pr_buffer_append(pr_buffer *b, const void *data, size_t n)
{
    if (n == 0) return true;
    if (!pr_buffer_reserve(b, n)) return false;
    memcpy(b->data + b->n, data, n);
    b->n += n;
    return true;
}

bool pr_buffer_append_str(pr_buffer *b, const char *s)
{
    return pr_buffer_append(b, s, strlen(s));
}

bool pr_buffer_append_char(pr_buffer *b, char c)
{
    return pr_buffer_append(b, &c, 1);
}

bool pr_buffer_printf(pr_buffer *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    va_list again;
    va_copy(again, ap);
    int n = pr_text_format(NULL, 0, fmt, ap);
    va_end(ap);
    bool ok = n >= 0 && pr_buffer_reserve(b, (size_t)n + 1);
    if (!ok) {
        b->failed = true;
    } else {
        pr_text_format(b->data + b->n, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
    return ok;
}

const char *pr_buffer_str(pr_buffer *b)
{
    if (!pr_buffer_reserve(b, 1)) return NULL;
    b->data[b->n] = '\0';
    return b->data;
}
