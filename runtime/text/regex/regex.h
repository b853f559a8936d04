/* runtime/text/regex/regex.h: the regular expressions of a `tokenizer.json`, which are written for
 * Oniguruma (Ruby syntax), matched by PCRE2.
 *
 * A pattern is translated so that classes (\s, \w, \d, \p{…}, [[:…:]]), case folding, anchors and
 * quantifiers mean what Oniguruma takes them for; a construct that PCRE2 cannot give the same
 * meaning is refused by name. The compiled pattern is immutable and shared by any number of
 * threads; a scan belongs to one thread.
 *
 * A match that costs more than fixed limits (steps, heap, JIT stack) ends with an error, so that a
 * pattern that backtracks without bound cannot hold a thread. */
#ifndef POOLRANK_RUNTIME_TEXT_REGEX_REGEX_H
#define POOLRANK_RUNTIME_TEXT_REGEX_REGEX_H

#include "runtime/base/json.h"

typedef struct pr_regex pr_regex;

/* pattern: [n] bytes of UTF-8, not NUL-terminated. where: for messages.
 * Fails PR_E_MODEL (no pattern), PR_E_UNSUPPORTED (a construct that is not supported, by name),
 * PR_E_NOMEM. */
pr_status pr_regex_compile(const char *pattern, size_t n, const char *where, pr_regex **out,
                           pr_error *err);

/* A pattern that matches this text and nothing else. An empty text gives an empty pattern. */
pr_status pr_regex_compile_literal(const char *text, size_t n, pr_regex **out, pr_error *err);

/* The "pattern" of a Replace or Split component: {"String": …} or {"Regex": …}; o is the component.
 * Fails as the two above, and PR_E_MODEL where it is neither. */
pr_status pr_regex_parse_pattern(const json_t *o, const char *where, pr_regex **out,
                                 pr_error *err);

void pr_regex_free(pr_regex *re);

/* A walk over the matches of one text, left to right, not overlapping. An empty match right behind
 * a match is skipped. Caller's storage; text and pattern are borrowed until deinit. */
typedef struct pr_regex_scan {
    const pr_regex *re;
    const char *text;
    size_t n;
    size_t at;        /* where the next search starts */
    size_t last_end;  /* end of the last match, SIZE_MAX before the first */
    void *match;      /* PCRE2's match data, NULL where the pattern is literal */
    void *stack;      /* JIT stack, NULL until a match needed a large one */
    void *context;    /* PCRE2's match context */
} pr_regex_scan;

/* text: valid UTF-8. Fails PR_E_NOMEM; the scan needs no deinit then. */
pr_status pr_regex_scan_init(pr_regex_scan *s, const pr_regex *re, const char *text, size_t n,
                             pr_error *err);
void pr_regex_scan_deinit(pr_regex_scan *s);

/* *found says whether there was one more match, text[*begin .. *end).
 * Fails PR_E_INPUT "regular expression of the tokenizer ran into its limit", PR_E_NOMEM. */
pr_status pr_regex_scan_next(pr_regex_scan *s, bool *found, size_t *begin, size_t *end,
                             pr_error *err);

#endif
