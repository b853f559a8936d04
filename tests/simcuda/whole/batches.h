/* tests/simcuda/whole/batches.h: plans by hand over a subject's texts and poolers.
 *
 *     apart     each text a segment; each pooler reads some of them, so that several sequences end
 *               in one segment
 *     shuffled  the same sequences in another order, among strangers
 *     alone     the shortest text
 *     shared    causal models: a tree of prefixes, sequences that end within a segment
 *     unshared  the same sequences, each a segment of its own */
#ifndef POOLRANK_TESTS_SIMCUDA_WHOLE_BATCHES_H
#define POOLRANK_TESTS_SIMCUDA_WHOLE_BATCHES_H

#include "subject.h"

/* Fills s->batches from s->texts and s->poolings. Prints; false then. */
bool batches_make(subject *s);
void batch_deinit(subject_batch *b);

#endif
