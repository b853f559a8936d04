#include "batches.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS_MAX = 2048, SEGMENTS_MAX = 128, SEQUENCES_MAX = 256, SPREAD = 3, ROOT = 12,
       TYPE_SWITCH = 5 };

static subject_batch *batch_begin(subject *s, const char *name)
{
    subject_batch *b = &s->batches[s->n_batches];
    b->name = name;
    b->plan.tokens = calloc(TOKENS_MAX, sizeof *b->plan.tokens);
    b->plan.segments = calloc(SEGMENTS_MAX, sizeof *b->plan.segments);
    b->plan.sequences = calloc(SEQUENCES_MAX, sizeof *b->plan.sequences);
    b->poolings = calloc(SEQUENCES_MAX, sizeof *b->poolings);
    if (s->model->spec.type_vocab_size > 1) b->plan.type_ids = calloc(TOKENS_MAX, 1);
    if (!b->plan.tokens || !b->plan.segments || !b->plan.sequences || !b->poolings) abort();
    s->n_batches++;
    return b;
}

void batch_deinit(subject_batch *b)
{
    free(b->plan.tokens);
    free(b->plan.type_ids);
    free(b->plan.segments);
    free(b->plan.sequences);
    free(b->poolings);
    pr_pooled_deinit(&b->want);
    *b = (subject_batch){0};
}

/* Behind its parent (-1: none), whose number is returned for its own. */
static int32_t segment_add(subject_batch *b, int32_t parent, const int32_t *ids, uint32_t n)
{
    pr_batch_plan *p = &b->plan;
    uint32_t at = p->n_tokens, position = 0;
    if (p->n_segments == SEGMENTS_MAX || at + n > TOKENS_MAX) abort();
    if (parent >= 0)
        position = p->segments[parent].position_begin + p->segments[parent].token_count;
    p->segments[p->n_segments] = (pr_segment){at, n, position, parent};
    memcpy(p->tokens + at, ids, n * sizeof *ids);
    for (uint32_t i = 0; p->type_ids && i < n; i++)
        p->type_ids[at + i] = position + i > TYPE_SWITCH;
    p->n_tokens += n;
    return (int32_t)p->n_segments++;
}

/* n_less: how many tokens before the segment's end it ends. */
static void sequence_add(subject_batch *b, int32_t leaf, uint32_t n_less,
                         const pr_pooling *pooling, uint32_t key)
{
    pr_batch_plan *p = &b->plan;
    const pr_segment *end = &p->segments[leaf];
    if (p->n_sequences == SEQUENCES_MAX || key >= SUBJECT_KEYS_MAX || n_less >= end->token_count)
        abort();
    p->sequences[p->n_sequences] = (pr_sequence){
        (uint32_t)leaf, end->position_begin + end->token_count - n_less, key};
    b->poolings[p->n_sequences++] = pooling;
}

/* The poolers of a text: each pooler has at least two texts. */
static bool is_asked(uint32_t i_text, uint32_t i_pooling)
{
    return (i_text + i_pooling) % SPREAD == 0;
}

static void text_add(subject *s, subject_batch *b, uint32_t i_text)
{
    const subject_text *text = &s->texts[i_text];
    int32_t leaf = segment_add(b, -1, text->ids, text->n);
    for (uint32_t p = 0; p < s->n_poolings; p++)
        if (is_asked(i_text, p))
            sequence_add(b, leaf, 0, &s->poolings[p], p * SUBJECT_TEXTS_MAX + i_text);
}

static void stranger_add(subject *s, subject_batch *b, uint32_t i_text)
{
    const subject_text *text = &s->texts[i_text];
    int32_t turned[TOKENS_MAX];
    for (uint32_t i = 0; i < text->n; i++) turned[i] = text->ids[text->n - 1 - i];
    segment_add(b, -1, turned, text->n);
}

static void plain_make(subject *s)
{
    subject_batch *apart = batch_begin(s, "apart");
    for (uint32_t i = 0; i < s->n_texts; i++) text_add(s, apart, i);
    subject_batch *shuffled = batch_begin(s, "shuffled");
    uint32_t shortest = 0;
    for (uint32_t i = 0; i < s->n_texts; i++) {
        uint32_t i_text = (i * 3 + 2) % s->n_texts; /* a permutation, unless 3 divides */
        if (s->n_texts % 3 == 0) i_text = s->n_texts - 1 - i;
        if (i % 2 == 0 && s->texts[i].n < s->model->n_tokens_max / 2) stranger_add(s, shuffled, i);
        text_add(s, shuffled, i_text);
        if (s->texts[i].n < s->texts[shortest].n) shortest = i;
    }
    subject_batch *alone = batch_begin(s, "alone");
    text_add(s, alone, shortest);
}

/* ---- prefixes ---- */

/* A path of the tree: pieces of texts, one behind the other. */
typedef struct path {
    int32_t ids[TOKENS_MAX];
    uint32_t n;
} path;

static void path_append(path *p, const int32_t *ids, uint32_t n)
{
    memcpy(p->ids + p->n, ids, n * sizeof *ids);
    p->n += n;
}

/* Both forms of one end: in the tree, and as a segment of its own. */
static void end_add(subject *s, subject_batch *tree, subject_batch *own, int32_t leaf,
                    uint32_t n_less, const path *whole, uint32_t i_end)
{
    int32_t alone = segment_add(own, -1, whole->ids, whole->n - n_less);
    for (uint32_t p = 0; p < s->n_poolings; p++) {
        if (!is_asked(i_end, p)) continue;
        uint32_t key = (SUBJECT_POOLINGS_MAX + p) * SUBJECT_TEXTS_MAX + i_end;
        sequence_add(tree, leaf, n_less, &s->poolings[p], key);
        sequence_add(own, alone, 0, &s->poolings[p], key);
    }
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/*     root ─┬─ first ─┬─ long     ends: root, first, within first, long, second, within second
 *           │         └─ (end)
 *           └─ second                                                                       */
static void tree_make(subject *s)
{
    subject_batch *tree = batch_begin(s, "shared");
    subject_batch *own = batch_begin(s, "unshared");
    const subject_text *t = s->texts, *longest = &t[0];
    for (uint32_t i = 1; i < s->n_texts; i++)
        if (t[i].n > longest->n) longest = &t[i];
    uint32_t n_root = least(ROOT, t[0].n), n_first = least(ROOT + 1, t[1].n);
    uint32_t n_second = least(ROOT / 2, t[2].n);
    uint32_t n_long = least(longest->n, s->model->n_tokens_max - n_root - n_first);
    path root = {.n = 0}, first, second, last;
    path_append(&root, t[0].ids, n_root);
    first = second = root;
    path_append(&first, t[1].ids, n_first);
    path_append(&second, t[2].ids, n_second);
    last = first;
    path_append(&last, longest->ids, n_long);
    int32_t at_root = segment_add(tree, -1, t[0].ids, n_root);
    int32_t at_first = segment_add(tree, at_root, t[1].ids, n_first);
    int32_t at_last = segment_add(tree, at_first, longest->ids, n_long);
    int32_t at_second = segment_add(tree, at_root, t[2].ids, n_second);
    end_add(s, tree, own, at_root, 0, &root, 0);
    end_add(s, tree, own, at_first, 0, &first, 1);
    end_add(s, tree, own, at_first, n_first / 2, &first, 2);
    end_add(s, tree, own, at_last, 0, &last, 3);
    end_add(s, tree, own, at_second, 0, &second, 4);
    end_add(s, tree, own, at_second, n_second / 2, &second, 5);
}

bool batches_make(subject *s)
{
    if (s->n_texts < SPREAD) {
        printf("%s: %u texts, expected at least %d\n", s->name, s->n_texts, SPREAD);
        return false;
    }
    plain_make(s);
    if (s->model->spec.causal) tree_make(s);
    pr_error err = {0};
    for (uint32_t i = 0; i < s->n_batches; i++) {
        const pr_batch_plan *p = &s->batches[i].plan;
        if (pr_batch_plan_check(p, &err) != PR_OK) {
            printf("%s: %s: %s\n", s->name, s->batches[i].name, err.message);
            return false;
        }
        if (p->n_tokens > s->n_rows_max) s->n_rows_max = p->n_tokens;
    }
    return true;
}
