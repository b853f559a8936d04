#include "runtime/text/regex/regex_translate.h"

#include "runtime/base/utf8.h"
#include "runtime/text/limits.h"
#include "runtime/text/regex/regex_class.h"

#include <string.h>

enum { DEPTH_MAX = 64 };

/* Options that hold where the translator stands. */
typedef struct modes {
    bool fold;     /* i */
    bool dot_all;  /* Ruby's m */
    bool extended; /* x */
} modes;

typedef struct translator {
    pr_regex_reader in;
    pr_buffer *out;
    int depth;
    size_t atom;          /* where in out the last atom starts, SIZE_MAX: none to repeat */
    uint32_t last_letter; /* lower-case ASCII letter that was the last atom, else 0 */
} translator;

static pr_status alternatives(translator *t, modes m);

static pr_status emit(translator *t, const char *s)
{
    pr_buffer_append_str(t->out, s);
    return PR_OK;
}

/* Begins an atom that is no plain letter. */
static void begin_atom(translator *t)
{
    t->atom = t->out->n;
    t->last_letter = 0;
}

static void no_atom(translator *t)
{
    t->atom = SIZE_MAX;
    t->last_letter = 0;
}

/* Pairs of ASCII letters that some single character folds to ("ß", "ﬁ", "ﬆ" …). */
static bool folds_together(uint32_t a, uint32_t b)
{
    return (a == 's' && (b == 's' || b == 't')) ||
           (a == 'f' && (b == 'f' || b == 'i' || b == 'l'));
}

static pr_status literal(translator *t, uint32_t c, modes m)
{
    uint32_t letter = c | 0x20;
    if (letter < 'a' || letter > 'z') letter = 0;
    if (m.fold && folds_together(t->last_letter, letter)) {
        return pr_regex_refuse(&t->in, "letters that fold to one character, ignoring case");
    }
    if (m.fold && c >= 0x80) {
        return pr_regex_refuse(&t->in, "a character outside ASCII, ignoring case");
    }
    begin_atom(t);
    t->last_letter = letter;
    pr_regex_emit_char(t->out, c);
    return PR_OK;
}

/* Something that is a class outside brackets: \s, \p{…}. */
static pr_status class_escape(translator *t, pr_regex_item item, modes m)
{
    if (m.fold && item.kind == PR_ITEM_CASED) {
        return pr_regex_refuse(&t->in, "a property, ignoring case");
    }
    begin_atom(t);
    emit(t, item.negated ? "[^" : "[");
    emit(t, item.members);
    return emit(t, "]");
}

static pr_status word_boundary(translator *t, bool negated)
{
    const char *word = pr_regex_word_members();
    begin_atom(t);
    pr_buffer_printf(t->out, negated ? "(?:(?<=[%s])(?=[%s])|(?<![%s])(?![%s]))"
                                     : "(?:(?<=[%s])(?![%s])|(?<![%s])(?=[%s]))",
                     word, word, word, word);
    return PR_OK;
}

/* Escapes outside brackets; in.at stands on the backslash. */
static pr_status escape(translator *t, modes m)
{
    static const struct {
        char c;
        const char *pcre2;
    } rows[] = {
        {'A', "\\A"}, {'z', "\\z"}, {'Z', "(?=\\n?\\z)"},
        {'R', "(?>\\r\\n|[\\n-\\r\\x{85}\\x{2028}\\x{2029}])"},
    };
    char c = pr_regex_peek(&t->in, 1);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].c != c) continue;
        t->in.at += 2;
        begin_atom(t);
        return emit(t, rows[i].pcre2);
    }
    if (c == 'b' || c == 'B') {
        t->in.at += 2;
        return word_boundary(t, c == 'B');
    }
    if (c >= '1' && c <= '9') {
        if (m.fold) return pr_regex_refuse(&t->in, "a back-reference, ignoring case");
        t->in.at += 2;
        begin_atom(t);
        pr_buffer_printf(t->out, "\\g{%c}", c);
        return PR_OK;
    }
    pr_regex_item item;
    pr_status st = pr_regex_read_escape(&t->in, false, &item);
    if (st != PR_OK) return st;
    return item.kind == PR_ITEM_CHAR ? literal(t, item.c, m) : class_escape(t, item, m);
}

/* (?imx-imx) and (?imx-imx: after "(?"; the group that a bare one opens ends with its parent. */
static pr_status option_group(translator *t, modes m)
{
    bool on = true;
    for (;; t->in.at++) {
        char c = pr_regex_peek(&t->in, 0);
        if (c == '-')
            on = false;
        else if (c == 'i')
            m.fold = on;
        else if (c == 'm')
            m.dot_all = on;
        else if (c == 'x')
            m.extended = on;
        else
            break;
    }
    char end = pr_regex_peek(&t->in, 0);
    if (end != ')' && end != ':') return pr_regex_refuse(&t->in, "this kind of group");
    t->in.at++;
    size_t begin = t->out->n;
    emit(t, m.fold ? "(?i:" : "(?-i:");
    pr_status st = alternatives(t, m);
    if (st != PR_OK) return st;
    emit(t, ")");
    if (end == ':') {
        if (pr_regex_peek(&t->in, 0) != ')') return pr_regex_broken(&t->in, "missing )");
        t->in.at++;
    }
    begin_atom(t);
    t->atom = begin;
    return PR_OK;
}

/* in.at stands on "(". */
static pr_status group(translator *t, modes m)
{
    static const char *const openers[] = {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"};
    if (pr_regex_starts(&t->in, "(?#")) {
        const char *end = memchr(t->in.p + t->in.at, ')', t->in.n - t->in.at);
        if (!end) return pr_regex_broken(&t->in, "missing )");
        t->in.at = (size_t)(end - t->in.p) + 1;
        return PR_OK;
    }
    if (t->depth >= DEPTH_MAX) return pr_regex_refuse(&t->in, "groups nested deeper than 64");
    t->depth++;
    pr_status st = PR_OK;
    const char *opener = pr_regex_starts(&t->in, "(?") ? NULL : "(";
    for (size_t i = 0; !opener && i < sizeof openers / sizeof *openers; i++) {
        if (pr_regex_starts(&t->in, openers[i])) opener = openers[i];
    }
    if (!opener) {
        t->in.at += 2;
        st = option_group(t, m);
    } else {
        size_t begin = t->out->n;
        t->in.at += strlen(opener);
        emit(t, opener);
        if ((st = alternatives(t, m)) != PR_OK) return st;
        if (pr_regex_peek(&t->in, 0) != ')') return pr_regex_broken(&t->in, "missing )");
        t->in.at++;
        emit(t, ")");
        begin_atom(t);
        t->atom = begin;
    }
    t->depth--;
    return st;
}

/* {n} {n,} {n,m} {,m} at in.at: its bytes, and whether it is {n}; 0 when this is no interval. */
static size_t interval_bytes(const translator *t, bool *is_exact)
{
    size_t i = 1;
    size_t n_low = 0;
    size_t n_high = 0;
    bool comma = false;
    for (;; i++) {
        char c = pr_regex_peek(&t->in, i);
        if (c >= '0' && c <= '9')
            *(comma ? &n_high : &n_low) += 1;
        else if (c == ',' && !comma)
            comma = true;
        else
            break;
    }
    if (pr_regex_peek(&t->in, i) != '}' || n_low + n_high == 0) return 0;
    *is_exact = !comma;
    return i + 1;
}

/* Puts the last atom, with its quantifier, into a group, to be repeated again. */
static pr_status wrap_atom(translator *t)
{
    static const char opener[] = "(?:";
    if (!pr_buffer_reserve(t->out, sizeof opener)) return PR_OK; /* found at the end */
    char *atom = t->out->data + t->atom;
    memmove(atom + 3, atom, t->out->n - t->atom);
    memcpy(atom, opener, 3);
    t->out->n += 3;
    return emit(t, ")");
}

/* Reads one quantifier at in.at, when there is one, and writes it behind the atom. */
static pr_status quantifier(translator *t, bool again, bool *found)
{
    char c = pr_regex_peek(&t->in, 0);
    bool is_exact = false;
    size_t n = c == '*' || c == '+' || c == '?' ? 1 : 0;
    if (c == '{') n = interval_bytes(t, &is_exact);
    *found = n > 0;
    if (n == 0) return PR_OK;
    if (t->atom == SIZE_MAX) return pr_regex_broken(&t->in, "nothing to repeat");
    if (again) wrap_atom(t);
    t->last_letter = 0;
    if (c == '{' && pr_regex_peek(&t->in, 1) == ',') {
        emit(t, "{0");
        pr_buffer_append(t->out, t->in.p + t->in.at + 1, n - 1);
    } else {
        pr_buffer_append(t->out, t->in.p + t->in.at, n);
    }
    t->in.at += n;
    char suffix = pr_regex_peek(&t->in, 0);
    /* Behind an interval, "+" repeats again; behind {n}, "?" makes it optional. */
    if ((suffix == '?' && !is_exact) || (suffix == '+' && c != '{')) {
        pr_buffer_append_char(t->out, suffix);
        t->in.at++;
    }
    return PR_OK;
}

static pr_status quantifiers(translator *t)
{
    bool found = true;
    for (int n = 0; found; n++) {
        if (n > DEPTH_MAX) return pr_regex_refuse(&t->in, "this many quantifiers in a row");
        pr_status st = quantifier(t, n > 0, &found);
        if (st != PR_OK) return st;
    }
    return PR_OK;
}

/* White space and comments of (?x). */
static bool skip_extended(translator *t)
{
    char c = pr_regex_peek(&t->in, 0);
    if (c == '#') {
        while (t->in.at < t->in.n && t->in.p[t->in.at] != '\n') t->in.at++;
        return true;
    }
    if (c != ' ' && (c < '\t' || c > '\r')) return false;
    t->in.at++;
    return true;
}

static pr_status atom(translator *t, modes m)
{
    switch (pr_regex_peek(&t->in, 0)) {
    case '(': return group(t, m);
    case '\\': return escape(t, m);
    case '[':
        begin_atom(t);
        return pr_regex_class(&t->in, m.fold, DEPTH_MAX, t->out);
    case '.':
        t->in.at++;
        begin_atom(t);
        return emit(t, m.dot_all ? "(?s:.)" : "[^\\n]");
    case '^':
        t->in.at++;
        begin_atom(t);
        return emit(t, "(?m:^)");
    case '$':
        t->in.at++;
        begin_atom(t);
        return emit(t, "(?m:$)");
    default: break;
    }
    uint32_t c;
    t->in.at += pr_utf8_decode(t->in.p + t->in.at, &c);
    return literal(t, c, m);
}

/* Up to the ")" that ends the group, or the end. */
static pr_status alternatives(translator *t, modes m)
{
    no_atom(t);
    while (t->in.at < t->in.n && t->in.p[t->in.at] != ')') {
        if (t->out->n > PR_PATTERN_BYTES_MAX) {
            return pr_regex_refuse(&t->in, "a pattern that becomes this long");
        }
        if (m.extended && skip_extended(t)) continue;
        char c = t->in.p[t->in.at];
        bool is_exact;
        if (c == '|') {
            t->in.at++;
            no_atom(t);
            emit(t, "|");
            continue;
        }
        if (c == '*' || c == '+' || c == '?' || (c == '{' && interval_bytes(t, &is_exact))) {
            return pr_regex_broken(&t->in, "nothing to repeat");
        }
        pr_status st = atom(t, m);
        if (st == PR_OK) st = quantifiers(t);
        if (st != PR_OK) return st;
    }
    return PR_OK;
}

pr_status pr_regex_translate(const char *pattern, size_t n, pr_buffer *out, pr_error *err)
{
    translator t = {.in = {.p = pattern, .n = n, .err = err}, .out = out, .atom = SIZE_MAX};
    pr_status st = alternatives(&t, (modes){0});
    if (st == PR_OK && t.in.at < n) st = pr_regex_broken(&t.in, "unmatched )");
    if (st == PR_OK && out->failed) st = pr_error_nomem(err, "regular expression", n);
    return st;
}
