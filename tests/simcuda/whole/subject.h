/* tests/simcuda/whole/subject.h: a model of tests/parity/models, its fixture texts as batches for a
 * pr_worker, and what the CPU makes of them.
 *
 * A subject owns its model, batches and results. Read-only once loaded; forked ranks inherit it. */
#ifndef POOLRANK_TESTS_SIMCUDA_WHOLE_SUBJECT_H
#define POOLRANK_TESTS_SIMCUDA_WHOLE_SUBJECT_H

#include "coordinator/model/model.h"
#include "worker/pooler.h"

enum {
    SUBJECT_TEXTS_MAX = 8,
    SUBJECT_POOLINGS_MAX = 24,
    SUBJECT_BATCHES_MAX = 6,
    SUBJECT_KEYS_MAX = 512
};

typedef struct subject_text {
    int32_t *ids; /* owned */
    uint32_t n;
} subject_text;

/* A batch as a worker gets it. plan.sequences[i].i_request is a key: sequences of any two batches
 * with the same key have the same tokens, types and pooling. */
typedef struct subject_batch {
    const char *name; /* constant */
    pr_batch_plan plan;          /* arrays owned */
    const pr_pooling **poolings; /* [plan.n_sequences], owned; borrowed from the subject */
    pr_pooled want;              /* what the CPU says, owned */
} subject_batch;

typedef struct subject {
    char folder[4096];
    const char *name; /* in folder */
    pr_config config;
    pr_model *model;
    pr_pooling *poolings; /* [n_poolings], owned */
    uint32_t n_poolings;
    subject_text texts[SUBJECT_TEXTS_MAX];
    uint32_t n_texts;
    subject_batch batches[SUBJECT_BATCHES_MAX];
    uint32_t n_batches;
    uint32_t n_rows_max; /* of a batch */
} subject;

/* Reads the folder's model and golden.json and makes the batches. Prints what is wrong; false
 * then. subject_unload also when it fails. */
bool subject_load(const char *folder, subject *out);
void subject_unload(subject *s);

/* Runs the batches on the CPU, with matrices kept in dtype. Prints; false then. */
bool subject_compute(subject *s, pr_dtype dtype);

/* Whether the model can be cut so; prints why not. */
bool subject_fits(const subject *s, int tp_size, int n_stages);

#endif
