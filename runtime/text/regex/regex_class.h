/* runtime/text/regex/regex_class.h: the part of the pattern translation that deals with sets of
 * characters: escapes, properties, bracketed classes.
 *
 * Used by regex_translate.c alone; a reader walks over the pattern, which it borrows. */
#ifndef POOLRANK_RUNTIME_TEXT_REGEX_REGEX_CLASS_H
#define POOLRANK_RUNTIME_TEXT_REGEX_REGEX_CLASS_H

#include "runtime/base/buffer.h"
#include "runtime/base/status.h"

#include <stdint.h>

/* The pattern and where the translation stands. */
typedef struct pr_regex_reader {
    const char *p; /* [n] */
    size_t n;
    size_t at;
    pr_error *err;
} pr_regex_reader;

typedef enum pr_item_kind {
    PR_ITEM_CHAR,   /* one character */
    PR_ITEM_SPACES, /* a set that case folding leaves as it is */
    PR_ITEM_CASED   /* a set that case folding would widen */
} pr_item_kind;

typedef struct pr_regex_item {
    pr_item_kind kind;
    uint32_t c;          /* PR_ITEM_CHAR */
    const char *members; /* sets: what stands between [ and ] for PCRE2; constant */
    bool negated;        /* the set's complement is meant */
} pr_regex_item;

/* The byte at in->at + ahead, 0 past the end. */
char pr_regex_peek(const pr_regex_reader *in, size_t ahead);
bool pr_regex_starts(const pr_regex_reader *in, const char *s);

/* PR_E_UNSUPPORTED and PR_E_MODEL with the position. */
pr_status pr_regex_refuse(const pr_regex_reader *in, const char *what);
pr_status pr_regex_broken(const pr_regex_reader *in, const char *what);

/* A character as it stands for itself, in and outside brackets. */
void pr_regex_emit_char(pr_buffer *out, uint32_t c);

/* What \w and \b mean outside brackets. */
const char *pr_regex_word_members(void);

/* Reads an escape, a backslash at in->at. Fails PR_E_UNSUPPORTED, PR_E_MODEL. */
pr_status pr_regex_read_escape(pr_regex_reader *in, bool in_brackets, pr_regex_item *out);

/* Reads a bracketed class, "[" at in->at, and appends a pattern that matches one character of it.
 * fold: letters match in either case. Fails PR_E_UNSUPPORTED, PR_E_MODEL, PR_E_NOMEM. */
pr_status pr_regex_class(pr_regex_reader *in, bool fold, int depth_max, pr_buffer *out);

#endif
