#include "runtime/text/template/python_chars.h"

#include "runtime/text/template/python_tables.h"

#define COUNT(table) (sizeof(table) / sizeof *(table))
enum { FLAG_BITS = 11 };

unsigned pr_py_flags(uint32_t c)
{
    size_t low = 0, high = COUNT(python_flags); /* the last entry that begins at c or before */
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (python_flags[middle] >> FLAG_BITS <= c)
            low = middle;
        else
            high = middle;
    }
    return python_flags[low] & ((1u << FLAG_BITS) - 1);
}

bool pr_py_is_space(uint32_t c)
{
    if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f);
    return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool pr_py_is_line_end(uint32_t c)
{
    return (c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

struct map {
    const struct python_run *runs;
    size_t n_runs;
    const struct python_special *special;
    size_t n_special;
};

static const struct map maps[] = {
    [PR_PY_TO_LOWER] = {python_lower, COUNT(python_lower), python_lower_special,
                        COUNT(python_lower_special)},
    [PR_PY_TO_UPPER] = {python_upper, COUNT(python_upper), python_upper_special,
                        COUNT(python_upper_special)},
    [PR_PY_TO_TITLE] = {python_title, COUNT(python_title), python_title_special,
                        COUNT(python_title_special)},
    [PR_PY_TO_FOLD] = {python_fold, COUNT(python_fold), python_fold_special,
                       COUNT(python_fold_special)},
};

static size_t map_special(const struct map *m, uint32_t c, uint32_t out[3])
{
    for (size_t i = 0; i < m->n_special && m->special[i].from <= c; i++) {
        if (m->special[i].from != c) continue;
        size_t n = 0;
        for (; n < 3 && m->special[i].to[n]; n++) out[n] = m->special[i].to[n];
        return n;
    }
    return 0;
}

size_t pr_py_case_map(pr_py_case to, uint32_t c, uint32_t out[3])
{
    out[0] = c;
    if (c < 0x80) {
        bool lower = to == PR_PY_TO_LOWER || to == PR_PY_TO_FOLD;
        if (lower ? c >= 'A' && c <= 'Z' : c >= 'a' && c <= 'z') out[0] = c ^ 0x20;
        return 1;
    }
    const struct map *m = &maps[to];
    size_t n = map_special(m, c, out);
    if (n) return n;
    size_t low = 0, high = m->n_runs; /* the first run that does not end before c */
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (m->runs[middle].last < c)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < m->n_runs && m->runs[low].first <= c &&
        (int32_t)(c - m->runs[low].first) % m->runs[low].stride == 0) {
        out[0] = (uint32_t)((int32_t)c + m->runs[low].delta);
    }
    return 1;
}
