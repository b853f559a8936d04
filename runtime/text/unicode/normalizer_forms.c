#include "runtime/text/unicode/normalizer_forms.h"

#include "runtime/base/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

struct char_range {
    uint32_t first;
    uint32_t last;
};

#define UNICODE_TABLES_NORMALIZATION
#include "runtime/text/unicode/unicode_tables.h"

#define N_OF(array) (sizeof(array) / sizeof *(array))

enum {
    DECOMPOSED_MAX = 32, /* the longest decomposition, of U+FDFA, has 18 characters */
    SHORT_RUN_MAX = 32   /* longest run of marks that is sorted by insertion */
};

static bool in_ranges(const struct char_range *ranges, size_t n, uint32_t c)
{
    if (c < ranges[0].first || c > ranges[n - 1].last) return false;
    size_t low = 0;
    while (n > 1) {
        size_t half = n / 2;
        if (ranges[low + half].first <= c) low += half;
        n -= half;
    }
    return c >= ranges[low].first && c <= ranges[low].last;
}

void pr_chars_deinit(pr_chars *v)
{
    free(v->c);
    *v = (pr_chars){0};
}

static bool reserve(pr_chars *v, size_t n_more)
{
    if (v->n_max - v->n >= n_more) return true;
    size_t n_max = v->n_max ? v->n_max : 256;
    while (n_max - v->n < n_more) n_max *= 2;
    if (n_max > SIZE_MAX / sizeof *v->c) return false;
    int32_t *c = realloc(v->c, n_max * sizeof *c);
    if (!c) return false;
    v->c = c;
    v->n_max = n_max;
    return true;
}

bool pr_chars_push(pr_chars *v, uint32_t c)
{
    if (!reserve(v, 1)) return false;
    v->c[v->n++] = (int32_t)c;
    return true;
}

bool pr_chars_push_decomposed(pr_chars *v, uint32_t c, bool compat)
{
    if (c < 0xa0 || in_ranges(undecomposed, N_OF(undecomposed), c)) return pr_chars_push(v, c);
    if (compat && in_ranges(undecomposed_compat, N_OF(undecomposed_compat), c)) {
        return pr_chars_push(v, c);
    }
    if (!reserve(v, DECOMPOSED_MAX)) return false;
    int boundary = 0;
    utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    if (compat) options |= UTF8PROC_COMPAT;
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)c, v->c + v->n, DECOMPOSED_MAX,
                                                 options, &boundary);
    if (n < 0 || n > DECOMPOSED_MAX) return pr_chars_push(v, c);
    v->n += (size_t)n;
    return true;
}

/* Canonical combining class as tokenizers sees it. */
static int combining_class(int32_t c)
{
    if (c < 0x300 || in_ranges(starters, N_OF(starters), (uint32_t)c)) return 0;
    return utf8proc_get_property(c)->combining_class;
}

static void sort_short_run(int32_t *c, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        int32_t mark = c[i];
        int class = combining_class(mark);
        size_t j = i;
        for (; j > 0 && combining_class(c[j - 1]) > class; j--) c[j] = c[j - 1];
        c[j] = mark;
    }
}

/* Stable counting sort by class: a text of nothing but marks must not cost its length squared. */
static bool sort_long_run(int32_t *c, size_t n)
{
    size_t begin[257] = {0};
    int32_t *sorted = malloc(n * sizeof *sorted);
    if (!sorted) return false;
    for (size_t i = 0; i < n; i++) begin[combining_class(c[i]) + 1]++;
    for (size_t class = 0; class < 256; class++) begin[class + 1] += begin[class];
    for (size_t i = 0; i < n; i++) sorted[begin[combining_class(c[i])]++] = c[i];
    memcpy(c, sorted, n * sizeof *c);
    free(sorted);
    return true;
}

bool pr_chars_reorder(pr_chars *v)
{
    for (size_t i = 0; i < v->n;) {
        if (combining_class(v->c[i]) == 0) {
            i++;
            continue;
        }
        size_t end = i + 1;
        while (end < v->n && combining_class(v->c[end]) != 0) end++;
        if (end - i <= SHORT_RUN_MAX)
            sort_short_run(v->c + i, end - i);
        else if (!sort_long_run(v->c + i, end - i))
            return false;
        i = end;
    }
    return true;
}

/* Whether c, which follows before, must not be composed with what stands in front of it although
 * utf8proc would. */
static bool is_cut(int32_t before, int32_t c)
{
    if (c < 0x300) return false;
    return in_ranges(starters, N_OF(starters), (uint32_t)c) ||
           c == 0x11a7 ||                       /* utf8proc takes it for a trailing consonant */
           (before == 0x11935 && c == 0x11930); /* U+11938, of Unicode 13 */
}

void pr_chars_compose(pr_chars *v)
{
    size_t used = 0;
    for (size_t begin = 0; begin < v->n;) {
        size_t end = begin + 1;
        while (end < v->n && !is_cut(v->c[end - 1], v->c[end])) end++;
        utf8proc_ssize_t n =
            utf8proc_normalize_utf32(v->c + begin, (utf8proc_ssize_t)(end - begin),
                                     UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        size_t n_composed = n < 0 ? end - begin : (size_t)n;
        memmove(v->c + used, v->c + begin, n_composed * sizeof *v->c);
        used += n_composed;
        begin = end;
    }
    v->n = used;
}

void pr_chars_append_to(const pr_chars *v, pr_buffer *out)
{
    if (!pr_buffer_reserve(out, v->n * 4)) return;
    for (size_t i = 0; i < v->n; i++) {
        out->n += pr_utf8_encode((uint32_t)v->c[i], out->data + out->n);
    }
}

bool pr_forms_apply(const char *text, size_t n, bool compat, bool compose, pr_buffer *out)
{
    pr_chars stretch = {0};
    bool ok = pr_buffer_reserve(out, n);
    for (size_t at = 0; ok && at < n;) {
        /* ASCII stays, save for the last character before something else: it may be composed. */
        size_t ascii = pr_utf8_ascii_prefix(text + at, n - at);
        if (ascii > 0 && at + ascii < n) ascii--;
        ok = pr_buffer_append(out, text + at, ascii);
        at += ascii;
        stretch.n = 0;
        for (bool is_first = true; ok && at < n; is_first = false) {
            uint32_t c;
            size_t width = pr_utf8_decode(text + at, &c);
            if (width == 1 && !is_first) break;
            ok = pr_chars_push_decomposed(&stretch, c, compat);
            at += width;
        }
        ok = ok && pr_chars_reorder(&stretch);
        if (ok && compose) pr_chars_compose(&stretch);
        if (ok) pr_chars_append_to(&stretch, out);
    }
    pr_chars_deinit(&stretch);
    return ok && !out->failed;
}
