#include "runtime/text/tokenizer/pretokenizer.h"

#include "runtime/base/utf8.h"
#include "runtime/text/limits.h"
#include "runtime/text/tokenizer/pretokenizer_cut.h"
#include "runtime/text/regex/regex.h"
#include "runtime/text/unicode/unicode.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Source: GPT-2's encoder.py. */
static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* What a character does to the piece that it is in. */
typedef enum char_class {
    CLASS_STAYS,
    CLASS_GOES,  /* ends a piece and is dropped */
    CLASS_ALONE, /* is a piece of its own */
    CLASS_OTHER  /* runs of these are pieces, and runs of CLASS_STAYS */
} char_class;

typedef enum prepend_scheme { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER } prepend_scheme;

/* A byte as the byte-level alphabet writes it. */
typedef struct byte_char {
    char bytes[2];
    uint8_t n;
} byte_char;

typedef struct step step;

/* Turns the bench's pieces into the next ones. at_start: the first piece stands at the beginning
 * of the input. Fails as pr_pretokenizer_split. */
typedef pr_status (*run_fn)(const step *s, pr_bench *b, bool at_start, pr_error *err);

/* One pass over the pieces; a pre-tokenizer is one to three of them. */
struct step {
    run_fn run;
    bool rewrites; /* its pieces are in spare_text */
    char_class (*classify)(const step *s, uint32_t c);
    uint8_t ascii[128]; /* classify(), ahead of time */
    pr_behavior behavior;
    bool invert;
    pr_regex *regex;
    byte_char *byte_chars;   /* ByteLevel: [256] */
    size_t length;           /* FixedLength: characters of a piece */
    uint32_t delimiter;      /* CharDelimiterSplit */
    char replacement[4];     /* Metaspace: [n_replacement] bytes, one character */
    size_t n_replacement;
    prepend_scheme prepend;
    bool split;
};

struct pr_pretokenizer {
    step *steps; /* [n_steps], Sequences flattened */
    size_t n_steps;
};

/* ---- Steps by the class of a character ---- */

static char_class class_whitespace_split(const step *s, uint32_t c)
{
    (void)s;
    return pr_char_is_whitespace(c) ? CLASS_GOES : CLASS_STAYS;
}

static char_class class_bert(const step *s, uint32_t c)
{
    (void)s;
    if (pr_char_is_whitespace(c)) return CLASS_GOES;
    return pr_char_is_punctuation(c) ? CLASS_ALONE : CLASS_STAYS;
}

static char_class class_whitespace(const step *s, uint32_t c)
{
    (void)s;
    if (pr_char_is_word(c)) return CLASS_STAYS;
    return pr_char_is_whitespace(c) ? CLASS_GOES : CLASS_OTHER;
}

static char_class class_punctuation(const step *s, uint32_t c)
{
    (void)s;
    return pr_char_is_punctuation(c) ? CLASS_ALONE : CLASS_STAYS;
}

static char_class class_digits(const step *s, uint32_t c)
{
    (void)s;
    return pr_char_is_numeric(c) ? CLASS_ALONE : CLASS_STAYS;
}

static char_class class_delimiter(const step *s, uint32_t c)
{
    return c == s->delimiter ? CLASS_GOES : CLASS_STAYS;
}

/* The class of the character at text, and its bytes. */
static inline char_class class_at(const step *s, const char *text, size_t *width)
{
    unsigned char first = (unsigned char)*text;
    *width = 1;
    if (first < 0x80) return (char_class)s->ascii[first];
    uint32_t c;
    *width = pr_utf8_decode(text, &c);
    return s->classify(s, c);
}

static void cut_by_class(const step *s, pr_bench *b, pr_piece piece)
{
    const char *text = b->p->text.data;
    size_t end = piece.begin + piece.n;
    size_t begin = piece.begin;
    char_class run = CLASS_STAYS;
    for (size_t at = begin; at < end;) {
        size_t width;
        char_class class = class_at(s, text + at, &width);
        if (class != run) {
            pr_bench_push(b, begin, at);
            begin = at;
        }
        run = class;
        at += width;
        if (class == CLASS_ALONE) pr_bench_push(b, begin, at);
        if (class == CLASS_ALONE || class == CLASS_GOES) begin = at;
    }
    pr_bench_push(b, begin, end);
}

static pr_status run_by_class(const step *s, pr_bench *b, bool at_start, pr_error *err)
{
    (void)at_start;
    (void)err;
    for (size_t i = 0; i < b->p->n; i++) cut_by_class(s, b, b->p->pieces[i]);
    return PR_OK;
}

/* Punctuation and Digits by a behaviour: every character of the class is a match of its own. */
static pr_status run_by_behavior(const step *s, pr_bench *b, bool at_start, pr_error *err)
{
    (void)at_start;
    (void)err;
    const char *text = b->p->text.data;
    for (size_t i = 0; i < b->p->n; i++) {
        size_t begin = b->p->pieces[i].begin;
        size_t end = begin + b->p->pieces[i].n;
        pr_cutter cutter = {.bench = b, .behavior = s->behavior};
        for (size_t at = begin; at < end;) {
            size_t width;
            char_class class = class_at(s, text + at, &width);
            if (class != CLASS_STAYS) {
                if (begin < at) pr_cutter_feed(&cutter, begin, at, false);
                pr_cutter_feed(&cutter, at, at + width, true);
                begin = at + width;
            }
            at += width;
        }
        if (begin < end) pr_cutter_feed(&cutter, begin, end, false);
        pr_cutter_finish(&cutter);
    }
    return PR_OK;
}

static pr_status run_regex(const step *s, pr_bench *b, bool at_start, pr_error *err)
{
    (void)at_start;
    for (size_t i = 0; i < b->p->n; i++) {
        pr_status st =
            pr_cut_by_regex(b, b->p->pieces[i], s->regex, s->behavior, s->invert, err);
        if (st != PR_OK) return st;
    }
    return PR_OK;
}

static pr_status run_fixed_length(const step *s, pr_bench *b, bool at_start, pr_error *err)
{
    (void)at_start;
    (void)err;
    for (size_t i = 0; i < b->p->n; i++) {
        size_t begin = b->p->pieces[i].begin;
        size_t end = begin + b->p->pieces[i].n;
        size_t n = 0;
        for (size_t at = begin; at < end;) {
            at += pr_utf8_width((unsigned char)b->p->text.data[at]);
            if (++n < s->length && at < end) continue;
            pr_bench_push(b, begin, at);
            begin = at;
            n = 0;
        }
    }
    return PR_OK;
}

/* ---- Steps that rewrite ---- */

static pr_status run_prefix_space(const step *s, pr_bench *b, bool at_start, pr_error *err)
{
    (void)s;
    (void)at_start;
    (void)err;
    pr_buffer *out = &b->p->spare_text;
    for (size_t i = 0; i < b->p->n; i++) {
        pr_piece piece = b->p->pieces[i];
        const char *text = b->p->text.data + piece.begin;
        size_t begin = out->n;
        if (*text != ' ') pr_buffer_append_char(out, ' ');
        pr_buffer_append(out, text, piece.n);
        pr_bench_push(b, begin, out->n);
    }
    return PR_OK;
}

static pr_status run_byte_level(const step *s, pr_bench *b, bool at_start, pr_error *err)
{
    (void)at_start;
    const byte_char *table = s->byte_chars;
    pr_buffer *out = &b->p->spare_text;
    size_t n_max = 2 * b->p->text.n + 2;
    if (!pr_buffer_reserve(out, n_max)) return pr_error_nomem(err, "pieces", n_max);
    char *to = out->data;
    for (size_t i = 0; i < b->p->n; i++) {
        pr_piece piece = b->p->pieces[i];
        const unsigned char *text = (const unsigned char *)b->p->text.data + piece.begin;
        size_t begin = (size_t)(to - out->data);
        for (size_t j = 0; j < piece.n; j++) {
            const byte_char *c = &table[text[j]];
            to[0] = c->bytes[0];
            to[1] = c->bytes[1];
            to += c->n;
        }
        pr_bench_push(b, begin, (size_t)(to - out->data));
    }
    out->n = (size_t)(to - out->data);
    return PR_OK;
}

/* Appends a piece with its spaces replaced; returns where it begins. */
static size_t metaspace_rewrite(const step *s, const char *text, size_t n, bool at_start,
                                pr_buffer *out)
{
    size_t begin = out->n;
    bool has_mark = *text == ' ' || (n >= s->n_replacement &&
                                     memcmp(text, s->replacement, s->n_replacement) == 0);
    bool prepend = s->prepend == PREPEND_ALWAYS || (s->prepend == PREPEND_FIRST && at_start);
    if (prepend && !has_mark) pr_buffer_append(out, s->replacement, s->n_replacement);
    while (n > 0) {
        const char *space = memchr(text, ' ', n);
        size_t n_before = space ? (size_t)(space - text) : n;
        pr_buffer_append(out, text, n_before);
        if (space) pr_buffer_append(out, s->replacement, s->n_replacement);
        text += n_before + (space ? 1 : 0);
        n -= n_before + (space ? 1 : 0);
    }
    return begin;
}

/* A piece starts at every replacement. */
static void metaspace_cut(const step *s, pr_bench *b, size_t begin)
{
    const char *text = b->p->spare_text.data;
    size_t end = b->p->spare_text.n;
    for (size_t at = begin + 1; at < end; at++) {
        const char *p = memchr(text + at, s->replacement[0], end - at);
        if (!p) break;
        at = (size_t)(p - text);
        if (end - at < s->n_replacement) break;
        if (memcmp(p, s->replacement, s->n_replacement) != 0) continue;
        pr_bench_push(b, begin, at);
        begin = at;
    }
    pr_bench_push(b, begin, end);
}

static pr_status run_metaspace(const step *s, pr_bench *b, bool at_start, pr_error *err)
{
    pr_buffer *out = &b->p->spare_text;
    for (size_t i = 0; i < b->p->n; i++) {
        pr_piece piece = b->p->pieces[i];
        size_t begin = metaspace_rewrite(s, b->p->text.data + piece.begin, piece.n,
                                         at_start && i == 0, out);
        if (out->failed) return pr_error_nomem(err, "pieces", out->n);
        if (s->split)
            metaspace_cut(s, b, begin);
        else
            pr_bench_push(b, begin, out->n);
    }
    return PR_OK;
}

/* ---- Parsing ---- */

static pr_status parse_behavior(const json_t *node, const char *where, pr_behavior *out,
                                pr_error *err)
{
    static const char *const names[] = {
        [PR_BEHAVIOR_REMOVED] = "Removed",
        [PR_BEHAVIOR_ISOLATED] = "Isolated",
        [PR_BEHAVIOR_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
        [PR_BEHAVIOR_MERGED_WITH_NEXT] = "MergedWithNext",
        [PR_BEHAVIOR_CONTIGUOUS] = "Contiguous",
    };
    static_assert(sizeof names / sizeof *names == PR_BEHAVIOR_COUNT, "one name per behaviour");
    const char *name = NULL;
    pr_status st = pr_json_get_str(node, where, "behavior", &name, err);
    if (st != PR_OK) return st;
    for (int i = 0; i < PR_BEHAVIOR_COUNT; i++) {
        if (strcmp(names[i], name) != 0) continue;
        *out = (pr_behavior)i;
        return PR_OK;
    }
    return pr_error_set(err, PR_E_MODEL,
                        "%s: behavior: found %s, expected Removed, Isolated, MergedWithPrevious, "
                        "MergedWithNext or Contiguous",
                        where, name);
}

/* A string of exactly one character. */
static pr_status parse_char(const json_t *node, const char *where, const char *key, uint32_t *out,
                            pr_error *err)
{
    const json_t *v = json_object_get(node, key);
    const char *text = json_string_value(v);
    size_t n = json_string_length(v);
    if (!text || n == 0 || pr_utf8_width((unsigned char)*text) != n) {
        return pr_error_set(err, PR_E_MODEL, "%s: %s: expected a string of one character", where,
                            key);
    }
    pr_utf8_decode(text, out);
    return PR_OK;
}

/* A copy of model at the end; *out, which may be NULL, is borrowed until the next one comes. */
static pr_status add_step(pr_pretokenizer *pt, const step *model, const char *where, step **out,
                          pr_error *err)
{
    if (pt->n_steps == PR_STEPS_MAX) {
        return pr_error_set(err, PR_E_UNSUPPORTED, "%s: more than %d pre-tokenizers", where,
                            PR_STEPS_MAX);
    }
    step *steps = realloc(pt->steps, (pt->n_steps + 1) * sizeof *steps);
    if (!steps) return pr_error_nomem(err, where, sizeof *steps);
    pt->steps = steps;
    step *s = &steps[pt->n_steps++];
    *s = *model;
    for (uint32_t c = 0; s->classify && c < 128; c++) s->ascii[c] = (uint8_t)s->classify(s, c);
    if (out) *out = s;
    return PR_OK;
}

static pr_status add_byte_map(pr_pretokenizer *pt, const char *where, pr_error *err)
{
    step *s = NULL;
    pr_status st =
        add_step(pt, &(step){.run = run_byte_level, .rewrites = true}, where, &s, err);
    if (st != PR_OK) return st;
    s->byte_chars = malloc(256 * sizeof *s->byte_chars);
    if (!s->byte_chars) return pr_error_nomem(err, where, 256 * sizeof *s->byte_chars);
    for (int i = 0; i < 256; i++) {
        char bytes[4];
        s->byte_chars[i].n = (uint8_t)pr_utf8_encode(pr_byte_to_char((uint8_t)i), bytes);
        memcpy(s->byte_chars[i].bytes, bytes, 2);
    }
    return PR_OK;
}

static pr_status parse_byte_level(pr_pretokenizer *pt, const json_t *node, const char *where,
                                  pr_error *err)
{
    bool prefix = false;
    bool trim_offsets = false; /* must be there, and matters to offsets only */
    bool use_regex = true;
    step *s = NULL;
    pr_status st = pr_json_get_bool(node, where, "add_prefix_space", &prefix, err);
    if (st == PR_OK) st = pr_json_get_bool(node, where, "trim_offsets", &trim_offsets, err);
    if (st == PR_OK) st = pr_json_get_bool_opt(node, where, "use_regex", &use_regex, err);
    if (st == PR_OK && prefix) {
        st = add_step(pt, &(step){.run = run_prefix_space, .rewrites = true}, where, NULL, err);
    }
    if (st == PR_OK && use_regex) {
        st = add_step(pt, &(step){.run = run_regex, .behavior = PR_BEHAVIOR_ISOLATED}, where, &s,
                      err);
        if (st == PR_OK)
            st = pr_regex_compile(gpt2_pattern, strlen(gpt2_pattern), where, &s->regex, err);
    }
    return st == PR_OK ? add_byte_map(pt, where, err) : st;
}

static pr_status parse_split(pr_pretokenizer *pt, const json_t *node, const char *where,
                             pr_error *err)
{
    step model = {.run = run_regex};
    step *s = NULL;
    pr_status st = parse_behavior(node, where, &model.behavior, err);
    if (st == PR_OK) st = pr_json_get_bool(node, where, "invert", &model.invert, err);
    if (st == PR_OK) st = add_step(pt, &model, where, &s, err);
    return st == PR_OK ? pr_regex_parse_pattern(node, where, &s->regex, err) : st;
}

static pr_status parse_metaspace(pr_pretokenizer *pt, const json_t *node, const char *where,
                                 pr_error *err)
{
    step s = {.run = run_metaspace, .rewrites = true, .prepend = PREPEND_ALWAYS, .split = true};
    uint32_t replacement = 0;
    const char *scheme = "always";
    bool add_prefix_space = true;
    pr_status st = parse_char(node, where, "replacement", &replacement, err);
    if (st == PR_OK) st = pr_json_get_str_opt(node, where, "prepend_scheme", &scheme, err);
    if (st == PR_OK) {
        st = pr_json_get_bool_opt(node, where, "add_prefix_space", &add_prefix_space, err);
    }
    if (st == PR_OK) st = pr_json_get_bool_opt(node, where, "split", &s.split, err);
    if (st != PR_OK) return st;
    if (strcmp(scheme, "first") == 0)
        s.prepend = PREPEND_FIRST;
    else if (strcmp(scheme, "never") == 0)
        s.prepend = PREPEND_NEVER;
    else if (strcmp(scheme, "always") != 0)
        return pr_error_set(err, PR_E_MODEL,
                            "%s: prepend_scheme: found %s, expected always, first or never", where,
                            scheme);
    /* The old spelling has to agree with the new one, as in tokenizers. */
    if (!add_prefix_space && s.prepend != PREPEND_NEVER) {
        return pr_error_set(err, PR_E_MODEL,
                            "%s: add_prefix_space: found false, expected true "
                            "(prepend_scheme is %s)",
                            where, scheme);
    }
    s.n_replacement = pr_utf8_encode(replacement, s.replacement);
    return add_step(pt, &s, where, NULL, err);
}

static pr_status parse_punctuation(pr_pretokenizer *pt, const json_t *node, const char *where,
                                   pr_error *err)
{
    step s = {.run = run_by_behavior,
              .classify = class_punctuation,
              .behavior = PR_BEHAVIOR_ISOLATED};
    if (json_object_get(node, "behavior")) {
        pr_status st = parse_behavior(node, where, &s.behavior, err);
        if (st != PR_OK) return st;
    }
    return add_step(pt, &s, where, NULL, err);
}

static pr_status parse_digits(pr_pretokenizer *pt, const json_t *node, const char *where,
                              pr_error *err)
{
    bool individual = false;
    pr_status st = pr_json_get_bool(node, where, "individual_digits", &individual, err);
    if (st != PR_OK) return st;
    step s = {.run = run_by_behavior,
              .classify = class_digits,
              .behavior = individual ? PR_BEHAVIOR_ISOLATED : PR_BEHAVIOR_CONTIGUOUS};
    return add_step(pt, &s, where, NULL, err);
}

static pr_status parse_delimiter(pr_pretokenizer *pt, const json_t *node, const char *where,
                                 pr_error *err)
{
    step s = {.run = run_by_class, .classify = class_delimiter};
    pr_status st = parse_char(node, where, "delimiter", &s.delimiter, err);
    return st == PR_OK ? add_step(pt, &s, where, NULL, err) : st;
}

static pr_status parse_fixed_length(pr_pretokenizer *pt, const json_t *node, const char *where,
                                    pr_error *err)
{
    int64_t length = 5;
    pr_status st = pr_json_get_i64_opt(node, where, "length", 1, INT32_MAX, &length, err);
    if (st != PR_OK) return st;
    return add_step(pt, &(step){.run = run_fixed_length, .length = (size_t)length}, where, NULL,
                    err);
}

static pr_status parse_whitespace(pr_pretokenizer *pt, const json_t *node, const char *where,
                                  pr_error *err)
{
    (void)node;
    return add_step(pt, &(step){.run = run_by_class, .classify = class_whitespace}, where, NULL,
                    err);
}

static pr_status parse_whitespace_split(pr_pretokenizer *pt, const json_t *node, const char *where,
                                        pr_error *err)
{
    (void)node;
    return add_step(pt, &(step){.run = run_by_class, .classify = class_whitespace_split}, where,
                    NULL, err);
}

static pr_status parse_bert(pr_pretokenizer *pt, const json_t *node, const char *where,
                            pr_error *err)
{
    (void)node;
    return add_step(pt, &(step){.run = run_by_class, .classify = class_bert}, where, NULL, err);
}

static pr_status parse_steps(pr_pretokenizer *pt, const json_t *node, const char *where,
                             pr_error *err);

static pr_status parse_sequence(pr_pretokenizer *pt, const json_t *node, const char *where,
                                pr_error *err)
{
    json_t *list = NULL;
    pr_status st = pr_json_get_node(node, where, "pretokenizers", JSON_ARRAY, &list, err);
    for (size_t i = 0; st == PR_OK && i < json_array_size(list); i++) {
        st = parse_steps(pt, json_array_get(list, i), where, err);
    }
    return st;
}

static const struct row {
    const char *type;
    pr_status (*parse)(pr_pretokenizer *, const json_t *, const char *, pr_error *);
} rows[] = {
    {"ByteLevel", parse_byte_level},
    {"Split", parse_split},
    {"BertPreTokenizer", parse_bert},
    {"Metaspace", parse_metaspace},
    {"Whitespace", parse_whitespace},
    {"WhitespaceSplit", parse_whitespace_split},
    {"Punctuation", parse_punctuation},
    {"Digits", parse_digits},
    {"CharDelimiterSplit", parse_delimiter},
    {"FixedLength", parse_fixed_length},
    {"Sequence", parse_sequence},
};

/* Recursion is bounded by the JSON's nesting (PR_JSON_DEPTH_MAX). */
static pr_status parse_steps(pr_pretokenizer *pt, const json_t *node, const char *where,
                             pr_error *err)
{
    if (!json_is_object(node)) {
        return pr_error_set(err, PR_E_MODEL, "%s: found %s, expected a pre-tokenizer", where,
                            pr_json_type_name(node));
    }
    const char *type = NULL;
    pr_status st = pr_json_get_str(node, where, "type", &type, err);
    if (st != PR_OK) return st;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(rows[i].type, type) != 0) continue;
        st = rows[i].parse(pt, node, where, err);
        if (st == PR_OK || rows[i].parse == parse_sequence) return st;
        return pr_error_context(err, st, "pre-tokenizer %s", type);
    }
    return pr_error_set(err, PR_E_UNSUPPORTED, "%s: pre-tokenizer %s is not supported", where,
                        type);
}

pr_status pr_pretokenizer_parse(const json_t *node, const char *where, pr_pretokenizer **out,
                                pr_error *err)
{
    assert(where);
    assert(out);
    pr_pretokenizer *pt = calloc(1, sizeof *pt);
    if (!pt) return pr_error_nomem(err, "pre-tokenizer", sizeof *pt);
    pr_status st = parse_steps(pt, node, where, err);
    if (st == PR_OK)
        *out = pt;
    else
        pr_pretokenizer_free(pt);
    return st;
}

void pr_pretokenizer_free(pr_pretokenizer *pt)
{
    if (!pt) return;
    for (size_t i = 0; i < pt->n_steps; i++) {
        pr_regex_free(pt->steps[i].regex);
        free(pt->steps[i].byte_chars);
    }
    free(pt->steps);
    free(pt);
}

/* ---- Splitting ---- */

pr_status pr_pretokenizer_split(const pr_pretokenizer *pt, const char *text, size_t n,
                                bool is_first, pr_pieces *out, pr_error *err)
{
    assert(pt);
    assert(out);
    pr_pieces_clear(out);
    if (n == 0) return PR_OK;
    pr_bench bench = {.p = out};
    pr_buffer_append(&out->text, text, n);
    if (out->text.failed) return pr_error_nomem(err, "pieces", n);
    pr_bench_push(&bench, 0, n);
    if (!bench.failed) pr_bench_swap(&bench, false);
    bool at_start = is_first;
    for (size_t i = 0; !bench.failed && i < pt->n_steps; i++) {
        const step *s = &pt->steps[i];
        size_t begin = out->n > 0 ? out->pieces[0].begin : 0;
        pr_buffer_clear(&out->spare_text);
        pr_status st = s->run(s, &bench, at_start, err);
        if (st != PR_OK) return st;
        if (out->spare_text.failed) return pr_error_nomem(err, "pieces", out->text.n);
        if (!pr_text_growth_ok(n, out->spare_text.n)) {
            return pr_error_set(err, PR_E_TOO_LARGE,
                                "pieces: the tokenizer makes more than %d bytes of each of %zu",
                                PR_TEXT_GROWTH_MAX, n);
        }
        pr_bench_swap(&bench, s->rewrites);
        /* What a delimiter that was removed leaves behind does not stand at the start. */
        if (out->n > 0 && !s->rewrites && out->pieces[0].begin != begin) at_start = false;
    }
    return bench.failed ? pr_error_nomem(err, "pieces", n) : PR_OK;
}
