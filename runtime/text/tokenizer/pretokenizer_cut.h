/* runtime/text/tokenizer/pretokenizer_cut.h: the work table of the pre-tokenizers: pieces go from
 * one list to the next, and what is found in a piece becomes pieces by a delimiter behaviour.
 *
 * Used by pretokenizer.c alone; works on the caller's pr_pieces. */
#ifndef POOLRANK_RUNTIME_TEXT_TOKENIZER_PRETOKENIZER_CUT_H
#define POOLRANK_RUNTIME_TEXT_TOKENIZER_PRETOKENIZER_CUT_H

#include "runtime/text/tokenizer/pieces.h"
#include "runtime/text/regex/regex.h"

/* SplitDelimiterBehavior of tokenizers: what becomes of a match. */
typedef enum pr_behavior {
    PR_BEHAVIOR_REMOVED,
    PR_BEHAVIOR_ISOLATED,
    PR_BEHAVIOR_MERGED_WITH_PREVIOUS,
    PR_BEHAVIOR_MERGED_WITH_NEXT,
    PR_BEHAVIOR_CONTIGUOUS, /* neighbours of the same kind are one piece */
    PR_BEHAVIOR_COUNT
} pr_behavior;

/* The pieces that a step makes, in spare_pieces of p. */
typedef struct pr_bench {
    pr_pieces *p;
    size_t n_next;
    bool failed; /* there was no memory */
} pr_bench;

/* Adds a piece, unless it is empty. */
void pr_bench_push(pr_bench *b, size_t begin, size_t end);

/* The new pieces take the place of the old ones; rewritten: the spare text that of the text. */
void pr_bench_swap(pr_bench *b, bool rewritten);

/* A run over the matches in one piece. */
typedef struct pr_cutter {
    pr_bench *bench;
    pr_behavior behavior;
    bool has_pending; /* a piece that the next part may still join */
    bool last_is_match;
    size_t begin;
    size_t end;
} pr_cutter;

/* The parts of a piece, in order and without gaps, matches and what lies between. */
void pr_cutter_feed(pr_cutter *c, size_t begin, size_t end, bool is_match);
void pr_cutter_finish(pr_cutter *c);

/* Cuts one piece of the bench's text by a regular expression; invert: what lies between counts as
 * the match. Fails as pr_regex_scan_next. */
pr_status pr_cut_by_regex(pr_bench *b, pr_piece piece, const pr_regex *re, pr_behavior behavior,
                          bool invert, pr_error *err);

#endif
