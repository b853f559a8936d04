/* tests/simcuda/whole/results.h: how far a group's results are from the CPU's, and whether a
 * sequence's bits depend on its batch.
 *
 * A tally owns copies of rows; one for each rank that pools and each model. */
#ifndef POOLRANK_TESTS_SIMCUDA_WHOLE_RESULTS_H
#define POOLRANK_TESTS_SIMCUDA_WHOLE_RESULTS_H

#include "subject.h"

typedef struct tally {
    const char *name; /* of the model; borrowed */
    double bound, cosine_bound; /* of the two below */
    double worst;        /* max |a - b| / max(1, max |reference|) over a sequence's numbers */
    double worst_cosine; /* 1 - cosine, of rows that are normalized */
    uint32_t n_checked, n_failed;
    float *first[SUBJECT_KEYS_MAX]; /* the numbers of a key's first sequence; owned */
} tally;

/* Compares a batch's results. is_same_bits: every key's with those that were first seen. Prints the
 * first few that are off. */
void tally_batch(tally *t, const subject_batch *b, const pr_pooled *found, bool is_same_bits);
void tally_deinit(tally *t);

#endif
