/* runtime/text/regex/regex_translate.h: Oniguruma (Ruby syntax) patterns rewritten for PCRE2.
 *
 * Pure; called by regex.c when a pattern is compiled, on any thread. What is rewritten, because the
 * two libraries take it differently:
 *
 *   \s \d \w \b \h [[:…:]] \p{…}   explicit classes with Oniguruma's (Unicode 16) members
 *   [a[bc]] [a&&b] [\W_]           nested sets, intersections, complements, by alternatives
 *                                  and look-ahead
 *   (?m) (?x) . $ \Z \v \R         Ruby's meaning
 *   a(?i)b|c                       a(?i:b|c)
 *   {n,m}+ {,m} a**                repeated groups; PCRE2 would take them as possessive or literal
 *
 * Refused: named groups and calls, conditionals, \G \K \X, octal escapes, raw bytes, variables of
 * the absent operator, and in case-insensitive groups what folds to several characters. */
#ifndef POOLRANK_RUNTIME_TEXT_REGEX_REGEX_TRANSLATE_H
#define POOLRANK_RUNTIME_TEXT_REGEX_REGEX_TRANSLATE_H

#include "runtime/base/buffer.h"
#include "runtime/base/status.h"

/* Appends the pattern for PCRE2 (UTF mode, newline is LF, no other option) to *out.
 * pattern: [n] bytes of UTF-8. Fails PR_E_UNSUPPORTED (naming the construct and its byte),
 * PR_E_MODEL (not a pattern), PR_E_NOMEM. */
pr_status pr_regex_translate(const char *pattern, size_t n, pr_buffer *out, pr_error *err);

#endif
