#include "runtime/text/tokenizer/model_text.h"

#include "runtime/base/utf8.h"

#include <assert.h>
#include <string.h>

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static void skip_space(pr_text_cursor *c)
{
    while (c->at < c->end && is_space(*c->at)) c->at++;
}

bool pr_text_cursor_take(pr_text_cursor *c, char expected)
{
    skip_space(c);
    if (c->at == c->end || *c->at != expected) return false;
    c->at++;
    return true;
}

bool pr_text_cursor_id(pr_text_cursor *c, int32_t max, int32_t *out)
{
    skip_space(c);
    const char *begin = c->at;
    int64_t value = 0;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9' && value <= max) {
        value = value * 10 + (*c->at++ - '0');
    }
    bool has_zero = c->at - begin > 1 && *begin == '0';
    if (c->at == begin || has_zero || value > max) return false;
    if (c->at < c->end && !is_space(*c->at) && *c->at != ',' && *c->at != '}') return false;
    *out = (int32_t)value;
    return true;
}

/* ---- strings ---- */

static bool read_hex(const char *p, const char *end, uint32_t *out)
{
    uint32_t value = 0;
    if (end - p < 4) return false;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        uint32_t digit;
        if (c >= '0' && c <= '9') {
            digit = (uint32_t)(c - '0');
        } else if ((c | 32) >= 'a' && (c | 32) <= 'f') {
            digit = (uint32_t)((c | 32) - 'a') + 10;
        } else {
            return false;
        }
        value = value << 4 | digit;
    }
    *out = value;
    return true;
}

/* p: behind the backslash of "\u". Halves of a pair and NUL are odd. Bytes read, 0: odd. */
static size_t unescape_unicode(const char *p, const char *end, pr_buffer *out)
{
    uint32_t c = 0;
    uint32_t low = 0;
    size_t n = 5;
    char bytes[8];
    if (!read_hex(p + 1, end, &c) || c == 0 || (c >= 0xDC00 && c < 0xE000)) return 0;
    if (c >= 0xD800 && c < 0xDC00) {
        if (end - p < 11 || p[5] != '\\' || p[6] != 'u' || !read_hex(p + 7, end, &low)) return 0;
        if (low < 0xDC00 || low >= 0xE000) return 0;
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
        n = 11;
    }
    pr_buffer_append(out, bytes, pr_utf8_encode(c, bytes));
    return n;
}

/* p: behind a backslash. Bytes read, 0: odd. */
static size_t unescape(const char *p, const char *end, pr_buffer *out)
{
    static const char names[] = "\"\\/bfnrt";
    static const char values[] = "\"\\/\b\f\n\r\t";
    if (p == end || *p == '\0') return 0;
    if (*p == 'u') return unescape_unicode(p, end, out);
    const char *found = strchr(names, *p);
    if (!found) return 0;
    pr_buffer_append(out, &values[found - names], 1);
    return 1;
}

/* From the first backslash on; c->at is behind the string's first quote. */
static bool read_escaped(pr_text_cursor *c, const char *p, pr_text_string *out)
{
    pr_buffer *b = c->unescaped;
    *out = (pr_text_string){.offset = b->n};
    pr_buffer_append(b, c->at, (size_t)(p - c->at));
    while (p < c->end && *p != '"') {
        if ((unsigned char)*p < 0x20) return false;
        if (*p == '\\') {
            size_t n = unescape(p + 1, c->end, b);
            if (n == 0) return false;
            p += 1 + n;
        } else {
            pr_buffer_append(b, p++, 1);
        }
    }
    if (p == c->end || b->failed) return false;
    out->n = b->n - out->offset;
    c->at = p + 1;
    return true;
}

bool pr_text_cursor_read(pr_text_cursor *c, pr_text_string *out)
{
    if (!pr_text_cursor_take(c, '"')) return false;
    const char *p = c->at;
    while (p < c->end && *p != '"' && *p != '\\' && (unsigned char)*p >= 0x20) p++;
    if (p == c->end || (unsigned char)*p < 0x20) return false;
    if (*p == '\\') return read_escaped(c, p, out);
    *out = (pr_text_string){.s = c->at, .n = (size_t)(p - c->at)};
    c->at = p + 1;
    return true;
}

const char *pr_text_cursor_string(const pr_text_cursor *c, const pr_text_string *s)
{
    if (s->s) return s->s;
    return s->n ? c->unescaped->data + s->offset : "";
}

/* ---- finding the values ---- */

static bool skip_string(pr_text_cursor *c)
{
    for (c->at++; c->at < c->end; c->at++) {
        if (*c->at == '"') {
            c->at++;
            return true;
        }
        if (*c->at == '\\') c->at++;
    }
    return false;
}

/* Any value, its brackets counted only: who reads it finds what is wrong in it. */
static bool skip_value(pr_text_cursor *c)
{
    size_t depth = 0;
    skip_space(c);
    while (c->at < c->end) {
        char x = *c->at;
        if (x == '"') {
            if (!skip_string(c)) return false;
            if (depth == 0) return true;
            continue;
        }
        if (depth == 0 && (x == ',' || x == '}' || x == ']')) return true;
        c->at++;
        if (x == '{' || x == '[') depth++;
        if ((x == '}' || x == ']') && --depth == 0) return true;
    }
    return false;
}

typedef struct finder {
    pr_text_cursor cursor;
    pr_model_text *out;
    pr_buffer *rest;
    const char *copied; /* all before it is in rest, or was left out */
} finder;

/* The value here in place of null; false: not of this kind, or there already. */
static bool take_value(finder *f, char bracket, const char **begin, size_t *n)
{
    skip_space(&f->cursor);
    const char *at = f->cursor.at;
    if (*begin || at == f->cursor.end || *at != bracket || !skip_value(&f->cursor)) return false;
    *begin = at;
    *n = (size_t)(f->cursor.at - at);
    pr_buffer_append(f->rest, f->copied, (size_t)(at - f->copied));
    pr_buffer_append_str(f->rest, "null");
    f->copied = f->cursor.at;
    return true;
}

static bool is_key(const pr_text_string *key, const char *name)
{
    return key->n == strlen(name) && memcmp(key->s, name, key->n) == 0;
}

/* The members of the file's object, or of its model. */
static bool walk_members(finder *f, bool is_model)
{
    pr_text_cursor *c = &f->cursor;
    bool has_model = false;
    if (!pr_text_cursor_take(c, '{')) return false;
    do {
        pr_text_string key;
        if (!pr_text_cursor_read(c, &key) || !key.s || !pr_text_cursor_take(c, ':')) return false;
        bool ok;
        if (is_model && is_key(&key, "vocab")) {
            ok = take_value(f, '{', &f->out->vocab, &f->out->n_vocab);
        } else if (is_model && is_key(&key, "merges")) {
            ok = take_value(f, '[', &f->out->merges, &f->out->n_merges);
        } else if (!is_model && is_key(&key, "model")) {
            ok = !has_model && walk_members(f, true);
            has_model = true;
        } else {
            ok = skip_value(c);
        }
        if (!ok) return false;
    } while (pr_text_cursor_take(c, ','));
    return pr_text_cursor_take(c, '}');
}

bool pr_model_text_find(const char *json, size_t n, pr_model_text *out, pr_buffer *rest)
{
    assert(json || n == 0);
    *out = (pr_model_text){0};
    pr_buffer none = {0};
    finder f = {.cursor = {.at = json, .end = json + n, .unescaped = &none},
                .out = out,
                .rest = rest,
                .copied = json};
    bool ok = n > 0 && walk_members(&f, false) && out->vocab;
    pr_buffer_deinit(&none);
    if (!ok) return false;
    pr_buffer_append(rest, f.copied, (size_t)(json + n - f.copied));
    return !rest->failed && pr_utf8_prefix(out->vocab, out->n_vocab) == out->n_vocab &&
           (!out->merges || pr_utf8_prefix(out->merges, out->n_merges) == out->n_merges);
}
