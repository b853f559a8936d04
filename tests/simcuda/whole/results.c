#include "results.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OFFENDERS_MAX = 4 };

static void offend(tally *t, const subject_batch *b, uint32_t i, const char *what)
{
    if (++t->n_failed <= OFFENDERS_MAX)
        printf("  %s: batch %s: sequence %u (%s): %s\n", t->name, b->name, i,
               pr_pool_name(b->poolings[i]->type), what);
}

static double distance(const float *a, const float *reference, size_t n)
{
    double difference = 0, scale = 1;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)reference[i]);
        if (!(d <= difference)) difference = d; /* a NaN stays */
        scale = fmax(scale, fabs((double)reference[i]));
    }
    return difference / scale;
}

static double one_minus_cosine(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return aa > 0 && bb > 0 ? 1 - ab / sqrt(aa * bb) : 1;
}

static void values_check(tally *t, const subject_batch *b, uint32_t i, const float *found,
                         const float *want, const pr_pooled_rows *rows)
{
    size_t n = (size_t)rows->n_rows * rows->n_columns;
    char what[256];
    double d = distance(found, want, n), worst_cosine = 0;
    if (!(d <= t->worst)) t->worst = d;
    for (uint32_t row = 0; b->poolings[i]->normalize && row < rows->n_rows; row++) {
        size_t at = (size_t)row * rows->n_columns;
        double c = one_minus_cosine(found + at, want + at, rows->n_columns);
        if (!(c <= worst_cosine)) worst_cosine = c;
    }
    if (!(worst_cosine <= t->worst_cosine)) t->worst_cosine = worst_cosine;
    if (d <= t->bound && worst_cosine <= t->cosine_bound) return;
    snprintf(what, sizeof what,
             "error %.3g, bound %.3g; 1 - cosine %.3g, bound %.3g (first value %.7g, on the CPU "
             "%.7g)",
             d, t->bound, worst_cosine, t->cosine_bound, (double)found[0], (double)want[0]);
    offend(t, b, i, what);
}

static void bits_check(tally *t, const subject_batch *b, uint32_t i, const float *found, size_t n)
{
    float **first = &t->first[b->plan.sequences[i].i_request];
    if (n == 0) return;
    if (!*first) {
        *first = malloc(n * sizeof **first);
        if (!*first) abort();
        memcpy(*first, found, n * sizeof **first);
        return;
    }
    for (size_t k = 0; k < n; k++) {
        char what[128];
        if (memcmp(&found[k], &(*first)[k], sizeof *found) == 0) continue;
        snprintf(what, sizeof what, "value %zu is %.9g, in another batch it was %.9g", k,
                 (double)found[k], (double)(*first)[k]);
        offend(t, b, i, what);
        return;
    }
}

void tally_batch(tally *t, const subject_batch *b, const pr_pooled *found, bool is_same_bits)
{
    for (uint32_t i = 0; i < b->plan.n_sequences; i++) {
        const pr_pooled_rows *want = &b->want.rows[i];
        const pr_pooled_rows *have = i < found->n_sequences ? &found->rows[i] : NULL;
        t->n_checked++;
        if (!have || have->n_rows != want->n_rows || have->n_columns != want->n_columns) {
            offend(t, b, i, "not the CPU's shape");
            continue;
        }
        const float *numbers = found->data + have->offset;
        values_check(t, b, i, numbers, b->want.data + want->offset, want);
        if (is_same_bits)
            bits_check(t, b, i, numbers, (size_t)have->n_rows * have->n_columns);
    }
}

void tally_deinit(tally *t)
{
    for (int i = 0; i < SUBJECT_KEYS_MAX; i++) free(t->first[i]);
    *t = (tally){0};
}
