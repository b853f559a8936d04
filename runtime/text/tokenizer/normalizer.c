#include "runtime/text/tokenizer/normalizer.h"

#include "runtime/base/utf8.h"
#include "runtime/text/tokenizer/charsmap.h"
#include "runtime/text/limits.h"
#include "runtime/text/unicode/normalizer_forms.h"
#include "runtime/text/regex/regex.h"
#include "runtime/text/unicode/unicode.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

typedef struct step step;

/* Appends the normalized text to *out, which does not overlap it. Fails as pr_normalizer_apply. */
typedef pr_status (*apply_fn)(const step *s, const char *text, size_t n, pr_buffer *out,
                              pr_error *err);

/* One normalizer that is no Sequence; each kind uses the fields of its row. */
struct step {
    apply_fn apply;
    bool compat;  /* NFKC, NFKD */
    bool compose; /* NFC, NFKC */
    bool clean;   /* BertNormalizer's four */
    bool space_cjk;
    bool strip_accents;
    bool lower;
    bool left; /* Strip */
    bool right;
    char *content; /* Replace, Prepend: [n_content] */
    size_t n_content;
    pr_regex *regex;      /* Replace */
    pr_charsmap *charsmap; /* Precompiled */
};

struct pr_normalizer {
    step *steps; /* [n_steps], Sequences flattened */
    size_t n_steps;
};

/* ---- Steps ---- */

static pr_status appended(const pr_buffer *out, pr_error *err)
{
    return out->failed ? pr_error_nomem(err, "normalized text", out->n) : PR_OK;
}

static pr_status grows_too_much(size_t n, pr_error *err)
{
    return pr_error_set(err, PR_E_TOO_LARGE,
                        "normalized text: the tokenizer makes more than %d bytes of each of %zu",
                        PR_TEXT_GROWTH_MAX, n);
}

static void append_char(pr_buffer *out, uint32_t c)
{
    char bytes[4];
    pr_buffer_append(out, bytes, pr_utf8_encode(c, bytes));
}

static pr_status apply_form(const step *s, const char *text, size_t n, pr_buffer *out,
                            pr_error *err)
{
    if (pr_forms_apply(text, n, s->compat, s->compose, out)) return PR_OK;
    return pr_error_nomem(err, "normalized text", n);
}

static void append_lower(pr_buffer *out, uint32_t c)
{
    uint32_t lower[2];
    size_t n = pr_char_lower(c, lower);
    for (size_t i = 0; i < n; i++) append_char(out, lower[i]);
}

static unsigned char lower_ascii(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c | 0x20) : c;
}

static void append_lower_ascii(pr_buffer *out, const char *text, size_t n)
{
    if (!pr_buffer_reserve(out, n)) return;
    char *to = out->data + out->n;
    for (size_t i = 0; i < n; i++) to[i] = (char)lower_ascii((unsigned char)text[i]);
    out->n += n;
}

static pr_status apply_lowercase(const step *s, const char *text, size_t n, pr_buffer *out,
                                 pr_error *err)
{
    (void)s;
    for (size_t at = 0; at < n;) {
        size_t ascii = pr_utf8_ascii_prefix(text + at, n - at);
        append_lower_ascii(out, text + at, ascii);
        at += ascii;
        while (at < n && (unsigned char)text[at] >= 0x80) {
            uint32_t c;
            at += pr_utf8_decode(text + at, &c);
            append_lower(out, c);
        }
    }
    return appended(out, err);
}

static pr_status apply_strip_accents(const step *s, const char *text, size_t n, pr_buffer *out,
                                     pr_error *err)
{
    (void)s;
    for (size_t at = 0; at < n;) {
        size_t ascii = pr_utf8_ascii_prefix(text + at, n - at);
        pr_buffer_append(out, text + at, ascii);
        at += ascii;
        while (at < n && (unsigned char)text[at] >= 0x80) {
            uint32_t c;
            size_t width = pr_utf8_decode(text + at, &c);
            if (!pr_char_is_mark(c)) pr_buffer_append(out, text + at, width);
            at += width;
        }
    }
    return appended(out, err);
}

/* What clean_text makes of a character; false when it goes away. */
static bool bert_clean(uint32_t *c)
{
    if (*c == 0 || *c == 0xfffd || pr_char_is_bert_control(*c)) return false;
    if (pr_char_is_whitespace(*c)) *c = ' ';
    return true;
}

/* ASCII characters in front, up to a character of another kind. None of them combines with what
 * follows in a way that the other steps could see: those decompose, they do not compose. */
static size_t bert_ascii(const step *s, const char *text, size_t n, pr_buffer *out)
{
    size_t ascii = pr_utf8_ascii_prefix(text, n);
    if (!pr_buffer_reserve(out, ascii)) return ascii;
    char *to = out->data + out->n;
    for (size_t i = 0; i < ascii; i++) {
        unsigned char c = (unsigned char)text[i];
        if (s->clean && c <= ' ') {
            if (c != ' ' && c != '\t' && c != '\n' && c != '\r') continue;
            c = ' ';
        }
        if (s->clean && c == 0x7f) continue;
        *to++ = (char)(s->lower ? lower_ascii(c) : c);
    }
    out->n = (size_t)(to - out->data);
    return ascii;
}

/* Pushes one character of a stretch as the first two or three steps leave it. */
static bool bert_push(const step *s, uint32_t c, pr_chars *stretch)
{
    if (s->clean && !bert_clean(&c)) return true;
    if (s->space_cjk && pr_char_is_cjk(c)) {
        /* A compatibility ideograph decomposes only after it got its spaces. */
        return pr_chars_push(stretch, ' ') &&
               (s->strip_accents ? pr_chars_push_decomposed(stretch, c, false)
                                 : pr_chars_push(stretch, c)) &&
               pr_chars_push(stretch, ' ');
    }
    return s->strip_accents ? pr_chars_push_decomposed(stretch, c, false)
                            : pr_chars_push(stretch, c);
}

static void bert_append(const step *s, const pr_chars *stretch, pr_buffer *out)
{
    for (size_t i = 0; i < stretch->n; i++) {
        uint32_t c = (uint32_t)stretch->c[i];
        if (s->strip_accents && pr_char_is_mark_nonspacing(c)) continue;
        if (s->lower)
            append_lower(out, c);
        else
            append_char(out, c);
    }
}

static pr_status apply_bert(const step *s, const char *text, size_t n, pr_buffer *out,
                            pr_error *err)
{
    pr_chars stretch = {0};
    bool ok = true;
    for (size_t at = 0; ok && at < n;) {
        at += bert_ascii(s, text + at, n - at, out);
        stretch.n = 0;
        while (ok && at < n) {
            uint32_t c;
            size_t width = pr_utf8_decode(text + at, &c);
            /* A stretch goes on over ASCII characters that clean_text takes out: the marks around
             * them are put into order together. */
            uint32_t cleaned = c;
            if (c < 0x80 && !(s->clean && !bert_clean(&cleaned))) break;
            ok = bert_push(s, c, &stretch);
            at += width;
        }
        if (ok && s->strip_accents) ok = pr_chars_reorder(&stretch);
        if (ok) bert_append(s, &stretch, out);
    }
    pr_chars_deinit(&stretch);
    return ok ? appended(out, err) : pr_error_nomem(err, "normalized text", n);
}

static pr_status apply_strip(const step *s, const char *text, size_t n, pr_buffer *out,
                             pr_error *err)
{
    size_t begin = 0;
    size_t end = n;
    uint32_t c;
    while (s->left && begin < end) {
        size_t width = pr_utf8_decode(text + begin, &c);
        if (!pr_char_is_whitespace(c)) break;
        begin += width;
    }
    while (s->right && begin < end) {
        size_t width = pr_utf8_width_before(text, end);
        pr_utf8_decode(text + end - width, &c);
        if (!pr_char_is_whitespace(c)) break;
        end -= width;
    }
    pr_buffer_append(out, text + begin, end - begin);
    return appended(out, err);
}

static pr_status apply_prepend(const step *s, const char *text, size_t n, pr_buffer *out,
                               pr_error *err)
{
    if (n > 0) pr_buffer_append(out, s->content, s->n_content);
    pr_buffer_append(out, text, n);
    return appended(out, err);
}

static pr_status apply_replace(const step *s, const char *text, size_t n, pr_buffer *out,
                               pr_error *err)
{
    if (n == 0) return PR_OK; /* not even an empty pattern matches in an empty text */
    pr_regex_scan scan;
    pr_status st = pr_regex_scan_init(&scan, s->regex, text, n, err);
    if (st != PR_OK) return st;
    pr_buffer_reserve(out, n);
    size_t last = 0;
    for (;;) {
        bool found;
        size_t begin = 0;
        size_t end = 0;
        st = pr_regex_scan_next(&scan, &found, &begin, &end, err);
        if (st != PR_OK || !found) break;
        if (!pr_text_growth_ok(n, out->n)) {
            st = grows_too_much(n, err);
            break;
        }
        pr_buffer_append(out, text + last, begin - last);
        pr_buffer_append(out, s->content, s->n_content);
        last = end;
    }
    pr_regex_scan_deinit(&scan);
    if (st != PR_OK) return st;
    pr_buffer_append(out, text + last, n - last);
    return appended(out, err);
}

static pr_status apply_precompiled(const step *s, const char *text, size_t n, pr_buffer *out,
                                   pr_error *err)
{
    pr_charsmap_apply(s->charsmap, text, n, out);
    return appended(out, err);
}

/* What SentencePiece's nmt rules do; false when the character goes away. */
static bool nmt(uint32_t *c)
{
    uint32_t v = *c;
    if ((v >= 1 && v <= 8) || v == 0xb || (v >= 0xe && v <= 0x1f) || v == 0x7f || v == 0x8f ||
        v == 0x9f)
        return false;
    if (v == '\t' || v == '\n' || v == 0xc || v == '\r' || v == 0x1680 ||
        (v >= 0x200b && v <= 0x200f) || v == 0x2028 || v == 0x2029 || v == 0x2581 ||
        v == 0xfeff || v == 0xfffd)
        *c = ' ';
    return true;
}

static pr_status apply_nmt(const step *s, const char *text, size_t n, pr_buffer *out,
                           pr_error *err)
{
    (void)s;
    for (size_t at = 0; at < n;) {
        uint32_t c;
        at += pr_utf8_decode(text + at, &c);
        if (nmt(&c)) append_char(out, c);
    }
    return appended(out, err);
}

static pr_status apply_byte_level(const step *s, const char *text, size_t n, pr_buffer *out,
                                  pr_error *err)
{
    (void)s;
    pr_buffer_reserve(out, n * 2);
    for (size_t i = 0; i < n; i++) append_char(out, pr_byte_to_char((uint8_t)text[i]));
    return appended(out, err);
}

/* ---- Parsing ---- */

/* A string with its length: it may hold NUL. */
static pr_status parse_content(const json_t *node, const char *where, const char *key, step *s,
                               pr_error *err)
{
    const json_t *v = json_object_get(node, key);
    if (!json_is_string(v)) {
        return pr_error_set(err, PR_E_MODEL, "%s: %s: found %s, expected a string", where, key,
                            pr_json_type_name(v));
    }
    s->n_content = json_string_length(v);
    s->content = malloc(s->n_content + 1);
    if (!s->content) return pr_error_nomem(err, where, s->n_content);
    memcpy(s->content, json_string_value(v), s->n_content + 1);
    return PR_OK;
}

static pr_status parse_bert(const json_t *node, const char *where, step *s, pr_error *err)
{
    pr_status st = pr_json_get_bool(node, where, "clean_text", &s->clean, err);
    if (st == PR_OK) st = pr_json_get_bool(node, where, "handle_chinese_chars", &s->space_cjk, err);
    if (st == PR_OK) st = pr_json_get_bool(node, where, "lowercase", &s->lower, err);
    s->strip_accents = s->lower; /* null and missing: as lowercase */
    if (st == PR_OK)
        st = pr_json_get_bool_opt(node, where, "strip_accents", &s->strip_accents, err);
    return st;
}

static pr_status parse_strip(const json_t *node, const char *where, step *s, pr_error *err)
{
    pr_status st = pr_json_get_bool(node, where, "strip_left", &s->left, err);
    return st == PR_OK ? pr_json_get_bool(node, where, "strip_right", &s->right, err) : st;
}

static pr_status parse_prepend(const json_t *node, const char *where, step *s, pr_error *err)
{
    return parse_content(node, where, "prepend", s, err);
}

static pr_status parse_replace(const json_t *node, const char *where, step *s, pr_error *err)
{
    pr_status st = parse_content(node, where, "content", s, err);
    return st == PR_OK ? pr_regex_parse_pattern(node, where, &s->regex, err) : st;
}

static pr_status parse_precompiled(const json_t *node, const char *where, step *s, pr_error *err)
{
    const json_t *v = json_object_get(node, "precompiled_charsmap");
    if (!json_is_string(v)) {
        return pr_error_set(err, PR_E_MODEL,
                            "%s: precompiled_charsmap: found %s, expected a string", where,
                            pr_json_type_name(v));
    }
    return pr_charsmap_parse(json_string_value(v), json_string_length(v), where, &s->charsmap, err);
}

static const struct row {
    const char *type;
    pr_status (*parse)(const json_t *, const char *, step *, pr_error *); /* NULL: no fields */
    step step;
} rows[] = {
    {"NFC", NULL, {.apply = apply_form, .compose = true}},
    {"NFD", NULL, {.apply = apply_form}},
    {"NFKC", NULL, {.apply = apply_form, .compat = true, .compose = true}},
    {"NFKD", NULL, {.apply = apply_form, .compat = true}},
    {"Lowercase", NULL, {.apply = apply_lowercase}},
    {"StripAccents", NULL, {.apply = apply_strip_accents}},
    {"BertNormalizer", parse_bert, {.apply = apply_bert}},
    {"Bert", parse_bert, {.apply = apply_bert}},
    {"Precompiled", parse_precompiled, {.apply = apply_precompiled}},
    {"Replace", parse_replace, {.apply = apply_replace}},
    {"Prepend", parse_prepend, {.apply = apply_prepend}},
    {"Strip", parse_strip, {.apply = apply_strip}},
    {"Nmt", NULL, {.apply = apply_nmt}},
    {"ByteLevel", NULL, {.apply = apply_byte_level}},
};

static pr_status parse_steps(pr_normalizer *nz, const json_t *node, const char *where,
                             pr_error *err);

static pr_status parse_sequence(pr_normalizer *nz, const json_t *node, const char *where,
                                pr_error *err)
{
    json_t *list = NULL;
    pr_status st = pr_json_get_node(node, where, "normalizers", JSON_ARRAY, &list, err);
    for (size_t i = 0; st == PR_OK && i < json_array_size(list); i++) {
        st = parse_steps(nz, json_array_get(list, i), where, err);
    }
    return st;
}

static pr_status add_step(pr_normalizer *nz, const struct row *row, const json_t *node,
                          const char *where, pr_error *err)
{
    if (nz->n_steps == PR_STEPS_MAX) {
        return pr_error_set(err, PR_E_UNSUPPORTED, "%s: more than %d normalizers", where,
                            PR_STEPS_MAX);
    }
    step *steps = realloc(nz->steps, (nz->n_steps + 1) * sizeof *steps);
    if (!steps) return pr_error_nomem(err, where, sizeof *steps);
    nz->steps = steps;
    step *s = &steps[nz->n_steps++];
    *s = row->step;
    return row->parse ? row->parse(node, where, s, err) : PR_OK;
}

/* Recursion is bounded by the JSON's nesting (PR_JSON_DEPTH_MAX). */
static pr_status parse_steps(pr_normalizer *nz, const json_t *node, const char *where,
                             pr_error *err)
{
    if (!json_is_object(node)) {
        return pr_error_set(err, PR_E_MODEL, "%s: found %s, expected a normalizer", where,
                            pr_json_type_name(node));
    }
    const char *type = NULL;
    pr_status st = pr_json_get_str(node, where, "type", &type, err);
    if (st != PR_OK) return st;
    if (strcmp(type, "Sequence") == 0) return parse_sequence(nz, node, where, err);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(rows[i].type, type) != 0) continue;
        st = add_step(nz, &rows[i], node, where, err);
        return st == PR_OK ? st : pr_error_context(err, st, "normalizer %s", type);
    }
    return pr_error_set(err, PR_E_UNSUPPORTED, "%s: normalizer %s is not supported", where, type);
}

pr_status pr_normalizer_parse(const json_t *node, const char *where, pr_normalizer **out,
                              pr_error *err)
{
    assert(where);
    assert(out);
    pr_normalizer *nz = calloc(1, sizeof *nz);
    if (!nz) return pr_error_nomem(err, "normalizer", sizeof *nz);
    pr_status st = parse_steps(nz, node, where, err);
    if (st == PR_OK)
        *out = nz;
    else
        pr_normalizer_free(nz);
    return st;
}

void pr_normalizer_free(pr_normalizer *nz)
{
    if (!nz) return;
    for (size_t i = 0; i < nz->n_steps; i++) {
        free(nz->steps[i].content);
        pr_regex_free(nz->steps[i].regex);
        pr_charsmap_free(nz->steps[i].charsmap);
    }
    free(nz->steps);
    free(nz);
}

/* ---- Applying ---- */

pr_status pr_normalizer_apply(const pr_normalizer *nz, const char *text, size_t n, pr_buffer *out,
                              pr_error *err)
{
    assert(nz);
    assert(out);
    if (!text) text = "";
    if (nz->n_steps == 0) {
        pr_buffer_append(out, text, n);
        return appended(out, err);
    }
    pr_buffer between[2] = {{0}, {0}}; /* by turns what the last step made */
    pr_status st = PR_OK;
    const size_t n_given = n;
    for (size_t i = 0; st == PR_OK && i < nz->n_steps; i++) {
        bool is_last = i + 1 == nz->n_steps;
        pr_buffer *to = is_last ? out : &between[i % 2];
        if (!is_last) pr_buffer_clear(to);
        st = nz->steps[i].apply(&nz->steps[i], text, n, to, err);
        if (st == PR_OK && !pr_text_growth_ok(n_given, to->n)) st = grows_too_much(n_given, err);
        if (is_last) break;
        text = to->data ? to->data : "";
        n = to->n;
    }
    pr_buffer_deinit(&between[0]);
    pr_buffer_deinit(&between[1]);
    return st;
}
