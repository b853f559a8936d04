#include "runtime/text/tokenizer/pretokenizer_cut.h"

#include <stdint.h>
#include <stdlib.h>

static bool grow(pr_bench *b)
{
    pr_pieces *p = b->p;
    size_t n_max = p->spare_n_max ? p->spare_n_max * 2 : 64;
    if (n_max > SIZE_MAX / sizeof *p->spare_pieces) return false;
    pr_piece *pieces = realloc(p->spare_pieces, n_max * sizeof *pieces);
    if (!pieces) return false;
    p->spare_pieces = pieces;
    p->spare_n_max = n_max;
    return true;
}

void pr_bench_push(pr_bench *b, size_t begin, size_t end)
{
    if (begin == end) return;
    if (b->n_next == b->p->spare_n_max && !grow(b)) {
        b->failed = true;
        return;
    }
    b->p->spare_pieces[b->n_next++] = (pr_piece){.begin = begin, .n = end - begin};
}

void pr_bench_swap(pr_bench *b, bool rewritten)
{
    pr_pieces *p = b->p;
    pr_piece *pieces = p->pieces;
    size_t n_max = p->n_max;
    p->pieces = p->spare_pieces;
    p->n_max = p->spare_n_max;
    p->n = b->n_next;
    p->spare_pieces = pieces;
    p->spare_n_max = n_max;
    if (rewritten) {
        pr_buffer text = p->text;
        p->text = p->spare_text;
        p->spare_text = text;
    }
    b->n_next = 0;
}

/* Whether a part joins the pending piece. */
static bool joins(const pr_cutter *c, bool is_match)
{
    switch (c->behavior) {
    case PR_BEHAVIOR_CONTIGUOUS: return is_match == c->last_is_match;
    case PR_BEHAVIOR_MERGED_WITH_PREVIOUS: return is_match && !c->last_is_match;
    case PR_BEHAVIOR_MERGED_WITH_NEXT: return !is_match && c->last_is_match;
    default: return false;
    }
}

void pr_cutter_feed(pr_cutter *c, size_t begin, size_t end, bool is_match)
{
    if (c->behavior == PR_BEHAVIOR_REMOVED || c->behavior == PR_BEHAVIOR_ISOLATED) {
        if (c->behavior == PR_BEHAVIOR_ISOLATED || !is_match) pr_bench_push(c->bench, begin, end);
        return;
    }
    if (c->has_pending && joins(c, is_match)) {
        c->end = end;
    } else {
        pr_cutter_finish(c);
        c->has_pending = true;
        c->begin = begin;
        c->end = end;
    }
    c->last_is_match = is_match;
}

void pr_cutter_finish(pr_cutter *c)
{
    if (c->has_pending) pr_bench_push(c->bench, c->begin, c->end);
    c->has_pending = false;
}

pr_status pr_cut_by_regex(pr_bench *b, pr_piece piece, const pr_regex *re, pr_behavior behavior,
                          bool invert, pr_error *err)
{
    pr_regex_scan scan;
    pr_status st = pr_regex_scan_init(&scan, re, b->p->text.data + piece.begin, piece.n, err);
    if (st != PR_OK) return st;
    pr_cutter cutter = {.bench = b, .behavior = behavior};
    size_t last = 0;
    for (;;) {
        bool found;
        size_t begin = 0;
        size_t end = 0;
        st = pr_regex_scan_next(&scan, &found, &begin, &end, err);
        if (st != PR_OK || !found) break;
        if (last != begin) {
            pr_cutter_feed(&cutter, piece.begin + last, piece.begin + begin, invert);
        }
        pr_cutter_feed(&cutter, piece.begin + begin, piece.begin + end, !invert);
        last = end;
    }
    if (st == PR_OK) {
        if (last != piece.n) {
            pr_cutter_feed(&cutter, piece.begin + last, piece.begin + piece.n, invert);
        }
        pr_cutter_finish(&cutter);
    }
    pr_regex_scan_deinit(&scan);
    return st;
}
