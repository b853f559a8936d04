#include "runtime/text/tokenizer/decoder.h"

#include "runtime/base/utf8.h"
#include "runtime/text/limits.h"
#include "runtime/text/regex/regex.h"
#include "runtime/text/unicode/unicode.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

typedef struct step step;

/* Reads all texts of `in` and writes its own to `out`. */
typedef pr_status step_apply(const step *s, const pr_text_list *in, pr_text_list *out,
                             pr_error *err);
typedef pr_status step_parse(step *s, const json_t *node, const char *where, pr_error *err);

struct step {
    step_apply *apply;
    char *text; /* suffix, prefix, replacement, content or pad token; owned, as the next */
    size_t n_text;
    char *delimiter; /* CTC's word delimiter */
    size_t n_delimiter;
    pr_regex *regex; /* Replace */
    size_t n_start;  /* Strip */
    size_t n_stop;
    bool cleanup;
    bool drops_first; /* Metaspace: the first text's replacements vanish */
};

struct pr_decoder {
    step *steps; /* [n], a Sequence laid out flat */
    size_t n;
    bool joins_by_spaces; /* the file has no decoder */
};

void pr_text_list_deinit(pr_text_list *l)
{
    pr_buffer_deinit(&l->text);
    free(l->ends);
    *l = (pr_text_list){0};
}

void pr_text_list_clear(pr_text_list *l)
{
    pr_buffer_clear(&l->text);
    l->n = 0;
}

bool pr_text_list_end(pr_text_list *l)
{
    if (l->n == l->n_max) {
        size_t n_max = l->n_max ? l->n_max * 2 : 64;
        size_t *grown = realloc(l->ends, n_max * sizeof *grown);
        if (!grown) return false;
        l->ends = grown;
        l->n_max = n_max;
    }
    l->ends[l->n++] = l->text.n;
    return !l->text.failed;
}

const char *pr_text_list_get(const pr_text_list *l, size_t i, size_t *n)
{
    size_t begin = i ? l->ends[i - 1] : 0;
    *n = l->ends[i] - begin;
    return *n ? l->text.data + begin : "";
}

static pr_status end_text(pr_text_list *out, pr_error *err)
{
    return pr_text_list_end(out) ? PR_OK : pr_error_nomem(err, "decoded text", out->text.n);
}

/* Appends text with every `from` replaced, as Rust's str::replace: an empty `from` stands between
 * all characters. */
static void append_replaced(pr_buffer *out, const char *text, size_t n, const char *from,
                            size_t n_from, const char *to, size_t n_to)
{
    for (size_t i = 0; i < n;) {
        if (n_from > 0 && n - i >= n_from && memcmp(text + i, from, n_from) == 0) {
            pr_buffer_append(out, to, n_to);
            i += n_from;
            continue;
        }
        if (n_from == 0) pr_buffer_append(out, to, n_to);
        size_t width = pr_utf8_width((unsigned char)text[i]);
        if (width > n - i) width = n - i;
        pr_buffer_append(out, text + i, width);
        i += width;
    }
    if (n_from == 0) pr_buffer_append(out, to, n_to);
}

/* The spellings that WordPiece's "cleanup" mends, in this order. */
static const char *const cleanup_pairs[][2] = {
    {" .", "."},     {" ?", "?"},       {" !", "!"},      {" ,", ","},
    {" ' ", "'"},    {" n't", "n't"},   {" 'm", "'m"},    {" do not", " don't"},
    {" 's", "'s"},   {" 've", "'ve"},   {" 're", "'re"},
};

/* Mends text in place; spare is scratch. */
static void clean_up(pr_buffer *text, pr_buffer *spare)
{
    for (size_t i = 0; i < sizeof cleanup_pairs / sizeof *cleanup_pairs; i++) {
        const char *from = cleanup_pairs[i][0];
        const char *to = cleanup_pairs[i][1];
        pr_buffer_clear(spare);
        append_replaced(spare, text->data, text->n, from, strlen(from), to, strlen(to));
        if (spare->failed) text->failed = true;
        pr_buffer swapped = *text;
        *text = *spare;
        text->failed |= swapped.failed;
        *spare = swapped;
    }
}

static pr_status apply_bpe(const step *s, const pr_text_list *in, pr_text_list *out, pr_error *err)
{
    for (size_t i = 0; i < in->n; i++) {
        size_t n = 0;
        const char *text = pr_text_list_get(in, i, &n);
        append_replaced(&out->text, text, n, s->text, s->n_text, " ", i + 1 < in->n);
        if (!pr_text_list_end(out)) return pr_error_nomem(err, "decoded text", n);
    }
    return PR_OK;
}

static bool append_bytes_of_chars(pr_buffer *out, const char *text, size_t n)
{
    size_t n_before = out->n;
    for (size_t i = 0; i < n;) {
        uint32_t c = 0;
        i += pr_utf8_decode(text + i, &c);
        int byte = pr_byte_of_char(c);
        if (byte < 0) {
            out->n = n_before;
            return false;
        }
        pr_buffer_append_char(out, (char)byte);
    }
    return true;
}

static void append_lossy(pr_buffer *out, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n;) {
        bool whole = false;
        size_t n_part = pr_utf8_subpart(bytes + i, n - i, &whole);
        if (whole) {
            pr_buffer_append(out, bytes + i, n_part);
        } else {
            pr_buffer_append_str(out, "\xef\xbf\xbd");
        }
        i += n_part;
    }
}

static pr_status apply_byte_level(const step *s, const pr_text_list *in, pr_text_list *out,
                                  pr_error *err)
{
    (void)s;
    pr_buffer bytes = {0};
    for (size_t i = 0; i < in->n; i++) {
        size_t n = 0;
        const char *text = pr_text_list_get(in, i, &n);
        if (!append_bytes_of_chars(&bytes, text, n)) pr_buffer_append(&bytes, text, n);
    }
    append_lossy(&out->text, bytes.data, bytes.n);
    out->text.failed |= bytes.failed;
    pr_buffer_deinit(&bytes);
    return end_text(out, err);
}

static pr_status apply_wordpiece(const step *s, const pr_text_list *in, pr_text_list *out,
                                 pr_error *err)
{
    pr_buffer token = {0};
    pr_buffer spare = {0};
    pr_status st = PR_OK;
    for (size_t i = 0; st == PR_OK && i < in->n; i++) {
        size_t n = 0;
        const char *text = pr_text_list_get(in, i, &n);
        pr_buffer_clear(&token);
        bool continues = i > 0 && n >= s->n_text && memcmp(text, s->text, s->n_text) == 0;
        if (i > 0 && !continues) pr_buffer_append_char(&token, ' ');
        pr_buffer_append(&token, text + (continues ? s->n_text : 0),
                         n - (continues ? s->n_text : 0));
        if (s->cleanup) clean_up(&token, &spare);
        pr_buffer_append(&out->text, token.data, token.n);
        out->text.failed |= token.failed;
        st = end_text(out, err);
    }
    pr_buffer_deinit(&token);
    pr_buffer_deinit(&spare);
    return st;
}

static pr_status apply_metaspace(const step *s, const pr_text_list *in, pr_text_list *out,
                                 pr_error *err)
{
    for (size_t i = 0; i < in->n; i++) {
        size_t n = 0;
        const char *text = pr_text_list_get(in, i, &n);
        append_replaced(&out->text, text, n, s->text, s->n_text, " ", !(i == 0 && s->drops_first));
        if (!pr_text_list_end(out)) return pr_error_nomem(err, "decoded text", n);
    }
    return PR_OK;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* The byte that "<0xAB>" stands for, -1 for any other text. */
static int byte_of_token(const char *text, size_t n)
{
    if (n != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
    int low = hex_digit(text[4]);
    int high = text[3] == '+' ? 0 : hex_digit(text[3]); /* Rust's number reader takes a plus */
    return low < 0 || high < 0 ? -1 : high * 16 + low;
}

/* The bytes that came together become one text if they are UTF-8, else one U+FFFD each. */
static bool flush_bytes(pr_buffer *bytes, pr_text_list *out)
{
    bool ok = !bytes->failed;
    if (bytes->n > 0 && pr_utf8_prefix(bytes->data, bytes->n) == bytes->n) {
        pr_buffer_append(&out->text, bytes->data, bytes->n);
        ok &= pr_text_list_end(out);
    } else {
        for (size_t i = 0; i < bytes->n && ok; i++) {
            pr_buffer_append_str(&out->text, "\xef\xbf\xbd");
            ok = pr_text_list_end(out);
        }
    }
    pr_buffer_clear(bytes);
    return ok;
}

static pr_status apply_byte_fallback(const step *s, const pr_text_list *in, pr_text_list *out,
                                     pr_error *err)
{
    (void)s;
    pr_buffer bytes = {0};
    bool ok = true;
    for (size_t i = 0; i < in->n && ok; i++) {
        size_t n = 0;
        const char *text = pr_text_list_get(in, i, &n);
        int byte = byte_of_token(text, n);
        if (byte >= 0) {
            ok = pr_buffer_append_char(&bytes, (char)byte);
            continue;
        }
        ok = flush_bytes(&bytes, out);
        pr_buffer_append(&out->text, text, n);
        ok = pr_text_list_end(out) && ok;
    }
    ok = ok && flush_bytes(&bytes, out);
    pr_buffer_deinit(&bytes);
    return ok ? PR_OK : pr_error_nomem(err, "decoded text", in->text.n);
}

static pr_status apply_fuse(const step *s, const pr_text_list *in, pr_text_list *out,
                            pr_error *err)
{
    (void)s;
    pr_buffer_append(&out->text, in->text.data, in->text.n);
    return end_text(out, err);
}

static bool stands_at(const step *s, const char *text, size_t n, size_t i)
{
    return n - i >= s->n_text && memcmp(text + i, s->text, s->n_text) == 0;
}

static pr_status apply_strip(const step *s, const pr_text_list *in, pr_text_list *out,
                             pr_error *err)
{
    for (size_t i = 0; i < in->n; i++) {
        size_t n = 0;
        const char *text = pr_text_list_get(in, i, &n);
        size_t begin = 0;
        size_t end = n;
        for (size_t k = 0; k < s->n_start && begin < n && stands_at(s, text, n, begin); k++) {
            begin += s->n_text;
        }
        for (size_t k = 0; k < s->n_stop && end > 0; k++) {
            size_t width = pr_utf8_width_before(text, end);
            if (width != s->n_text || !stands_at(s, text, n, end - width)) break;
            end -= width;
        }
        if (begin < end) pr_buffer_append(&out->text, text + begin, end - begin);
        if (!pr_text_list_end(out)) return pr_error_nomem(err, "decoded text", n);
    }
    return PR_OK;
}

static pr_status replace_in_text(const step *s, const char *text, size_t n, pr_text_list *out,
                                 pr_error *err)
{
    pr_regex_scan scan;
    pr_status st = pr_regex_scan_init(&scan, s->regex, text, n, err);
    if (st != PR_OK) return st;
    size_t copied = 0;
    for (;;) {
        bool found = false;
        size_t begin = 0;
        size_t end = 0;
        st = pr_regex_scan_next(&scan, &found, &begin, &end, err);
        if (st != PR_OK || !found) break;
        pr_buffer_append(&out->text, text + copied, begin - copied);
        pr_buffer_append(&out->text, s->text, s->n_text);
        copied = end;
    }
    pr_buffer_append(&out->text, text + copied, n - copied);
    pr_regex_scan_deinit(&scan);
    return st == PR_OK ? end_text(out, err) : st;
}

static pr_status apply_replace(const step *s, const pr_text_list *in, pr_text_list *out,
                               pr_error *err)
{
    for (size_t i = 0; i < in->n; i++) {
        size_t n = 0;
        const char *text = pr_text_list_get(in, i, &n);
        pr_status st = replace_in_text(s, text, n, out, err);
        if (st != PR_OK) return st;
    }
    return PR_OK;
}

static pr_status apply_ctc(const step *s, const pr_text_list *in, pr_text_list *out, pr_error *err)
{
    pr_buffer token = {0};
    pr_buffer spare = {0};
    pr_status st = PR_OK;
    for (size_t i = 0; st == PR_OK && i < in->n; i++) {
        size_t n = 0;
        size_t n_before = 0;
        const char *text = pr_text_list_get(in, i, &n);
        const char *before = i ? pr_text_list_get(in, i - 1, &n_before) : NULL;
        if (before && n == n_before && memcmp(text, before, n) == 0) continue;
        size_t n_out = out->text.n;
        pr_buffer_clear(&token);
        append_replaced(&token, text, n, s->text, s->n_text, "", 0);
        if (s->cleanup) {
            clean_up(&token, &spare);
            pr_buffer_clear(&spare);
            append_replaced(&spare, token.data, token.n, s->delimiter, s->n_delimiter, " ", 1);
            pr_buffer_append(&out->text, spare.data, spare.n);
            out->text.failed |= spare.failed;
        } else {
            pr_buffer_append(&out->text, token.data, token.n);
        }
        out->text.failed |= token.failed;
        if (out->text.n > n_out || out->text.failed) st = end_text(out, err);
    }
    pr_buffer_deinit(&token);
    pr_buffer_deinit(&spare);
    return st;
}

static pr_status copy_str(const json_t *node, const char *where, const char *key, char **out,
                          size_t *n, pr_error *err)
{
    const char *value = NULL;
    pr_status st = pr_json_get_str(node, where, key, &value, err);
    if (st != PR_OK) return st;
    *n = json_string_length(json_object_get(node, key));
    *out = malloc(*n + 1);
    if (!*out) return pr_error_nomem(err, key, *n + 1);
    memcpy(*out, value, *n + 1);
    return PR_OK;
}

/* A string of exactly one character. */
static pr_status copy_char(const json_t *node, const char *where, const char *key, step *s,
                           pr_error *err)
{
    pr_status st = copy_str(node, where, key, &s->text, &s->n_text, err);
    if (st != PR_OK) return st;
    if (s->n_text == 0 || pr_utf8_width((unsigned char)s->text[0]) != s->n_text) {
        return pr_error_set(err, PR_E_MODEL, "%s: %s: found \"%.100s\", expected one character",
                            where, key, s->text);
    }
    return PR_OK;
}

static pr_status parse_nothing(step *s, const json_t *node, const char *where, pr_error *err)
{
    (void)s;
    (void)node;
    (void)where;
    (void)err;
    return PR_OK;
}

static pr_status parse_bpe(step *s, const json_t *node, const char *where, pr_error *err)
{
    return copy_str(node, where, "suffix", &s->text, &s->n_text, err);
}

static pr_status parse_wordpiece(step *s, const json_t *node, const char *where, pr_error *err)
{
    pr_status st = copy_str(node, where, "prefix", &s->text, &s->n_text, err);
    if (st != PR_OK) return st;
    return pr_json_get_bool_opt(node, where, "cleanup", &s->cleanup, err);
}

static pr_status parse_metaspace(step *s, const json_t *node, const char *where, pr_error *err)
{
    bool add_prefix_space = true;
    const char *scheme = "always";
    pr_status st = PR_OK;
    if ((st = copy_char(node, where, "replacement", s, err)) != PR_OK ||
        (st = pr_json_get_str_opt(node, where, "prepend_scheme", &scheme, err)) != PR_OK ||
        (st = pr_json_get_bool_opt(node, where, "add_prefix_space", &add_prefix_space, err)) !=
            PR_OK) {
        return st;
    }
    s->drops_first = add_prefix_space && strcmp(scheme, "never") != 0;
    return PR_OK;
}

static pr_status parse_strip(step *s, const json_t *node, const char *where, pr_error *err)
{
    int64_t n_start = 0;
    int64_t n_stop = 0;
    pr_status st = PR_OK;
    if ((st = copy_char(node, where, "content", s, err)) != PR_OK ||
        (st = pr_json_get_i64(node, where, "start", 0, INT64_MAX, &n_start, err)) != PR_OK ||
        (st = pr_json_get_i64(node, where, "stop", 0, INT64_MAX, &n_stop, err)) != PR_OK) {
        return st;
    }
    s->n_start = (size_t)n_start;
    s->n_stop = (size_t)n_stop;
    return PR_OK;
}

static pr_status parse_replace(step *s, const json_t *node, const char *where, pr_error *err)
{
    pr_status st = copy_str(node, where, "content", &s->text, &s->n_text, err);
    return st == PR_OK ? pr_regex_parse_pattern(node, where, &s->regex, err) : st;
}

static pr_status parse_ctc(step *s, const json_t *node, const char *where, pr_error *err)
{
    pr_status st = copy_str(node, where, "pad_token", &s->text, &s->n_text, err);
    if (st != PR_OK) return st;
    st = copy_str(node, where, "word_delimiter_token", &s->delimiter, &s->n_delimiter, err);
    if (st != PR_OK) return st;
    return pr_json_get_bool_opt(node, where, "cleanup", &s->cleanup, err);
}

static const struct {
    const char *type;
    step_parse *parse;
    step_apply *apply;
} step_kinds[] = {
    {"BPEDecoder", parse_bpe, apply_bpe},
    {"ByteLevel", parse_nothing, apply_byte_level},
    {"WordPiece", parse_wordpiece, apply_wordpiece},
    {"Metaspace", parse_metaspace, apply_metaspace},
    {"CTC", parse_ctc, apply_ctc},
    {"Replace", parse_replace, apply_replace},
    {"Fuse", parse_nothing, apply_fuse},
    {"Strip", parse_strip, apply_strip},
    {"ByteFallback", parse_nothing, apply_byte_fallback},
};

static pr_status add_plain_step(pr_decoder *d, const json_t *node, const char *type,
                                const char *where, pr_error *err)
{
    for (size_t i = 0; i < sizeof step_kinds / sizeof *step_kinds; i++) {
        if (strcmp(type, step_kinds[i].type) != 0) continue;
        if (d->n == PR_STEPS_MAX) {
            return pr_error_set(err, PR_E_UNSUPPORTED, "%s: more than %d decoders", where,
                                PR_STEPS_MAX);
        }
        step *grown = realloc(d->steps, (d->n + 1) * sizeof *grown);
        if (!grown) return pr_error_nomem(err, "decoder", (d->n + 1) * sizeof *grown);
        d->steps = grown;
        step *s = &d->steps[d->n++];
        *s = (step){.apply = step_kinds[i].apply};
        return step_kinds[i].parse(s, node, where, err);
    }
    return pr_error_set(err, PR_E_UNSUPPORTED,
                        "%s: found type \"%s\", expected BPEDecoder, ByteLevel, WordPiece, "
                        "Metaspace, CTC, Replace, Fuse, Strip, ByteFallback or Sequence",
                        where, type);
}

/* Recursion is bounded by the JSON's nesting (PR_JSON_DEPTH_MAX). */
static pr_status add_step(pr_decoder *d, const json_t *node, const char *where, pr_error *err)
{
    if (!json_is_object(node)) {
        return pr_error_set(err, PR_E_MODEL, "%s: found %s, expected an object", where,
                            pr_json_type_name(node));
    }
    const char *type = NULL;
    pr_status st = pr_json_get_str(node, where, "type", &type, err);
    if (st != PR_OK) return st;
    if (strcmp(type, "Sequence") != 0) return add_plain_step(d, node, type, where, err);
    json_t *steps = NULL;
    st = pr_json_get_node(node, where, "decoders", JSON_ARRAY, &steps, err);
    for (size_t i = 0; st == PR_OK && i < json_array_size(steps); i++) {
        st = add_step(d, json_array_get(steps, i), where, err);
    }
    return st;
}

pr_status pr_decoder_parse(const json_t *node, const char *where, pr_decoder **out, pr_error *err)
{
    assert(out);
    pr_decoder *d = calloc(1, sizeof *d);
    if (!d) return pr_error_nomem(err, "decoder", sizeof *d);
    d->joins_by_spaces = !node;
    pr_status st = node ? add_step(d, node, where, err) : PR_OK;
    if (st != PR_OK) {
        pr_decoder_free(d);
        return st;
    }
    *out = d;
    return PR_OK;
}

void pr_decoder_free(pr_decoder *d)
{
    if (!d) return;
    for (size_t i = 0; i < d->n; i++) {
        free(d->steps[i].text);
        free(d->steps[i].delimiter);
        pr_regex_free(d->steps[i].regex);
    }
    free(d->steps);
    free(d);
}

pr_status pr_decoder_apply(const pr_decoder *d, pr_text_list *tokens, pr_buffer *out,
                           pr_error *err)
{
    pr_status st = PR_OK;
    pr_text_list next = {0};
    const size_t n_given = tokens->text.n;
    for (size_t i = 0; st == PR_OK && i < d->n; i++) {
        pr_text_list_clear(&next);
        st = d->steps[i].apply(&d->steps[i], tokens, &next, err);
        pr_text_list swapped = *tokens;
        *tokens = next;
        next = swapped;
        if (st == PR_OK && !pr_text_growth_ok(n_given, tokens->text.n)) {
            st = pr_error_set(err, PR_E_TOO_LARGE,
                              "decoded text: the tokenizer makes more than %d bytes of each of %zu",
                              PR_TEXT_GROWTH_MAX, n_given);
        }
    }
    for (size_t i = 0; st == PR_OK && i < tokens->n; i++) {
        size_t n = 0;
        const char *text = pr_text_list_get(tokens, i, &n);
        if (d->joins_by_spaces && i > 0) pr_buffer_append_char(out, ' ');
        pr_buffer_append(out, text, n);
    }
    if (st == PR_OK && out->failed) st = pr_error_nomem(err, "decoded text", out->n);
    pr_text_list_deinit(&next);
    return st;
}
