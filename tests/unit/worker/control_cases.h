/* Random control messages of every kind, for tests. */
#ifndef POOLRANK_TESTS_UNIT_WORKER_CONTROL_CASES_H
#define POOLRANK_TESTS_UNIT_WORKER_CONTROL_CASES_H

#include "worker/control.h"

/* A message with all it borrows. */
typedef struct control_case {
    pr_control_message message;
    pr_batch_plan *plan;          /* owned */
    pr_pooling *poolings;         /* [3], owned */
    const pr_pooling **of;        /* [plan->n_sequences], owned */
    pr_control_option options[3];
    uint32_t *shapes;             /* owned */
    char *bytes;                  /* owned */
} control_case;

/* xorshift64*; *state not 0. */
uint64_t control_random(uint64_t *state);

/* The same seed gives the same message. n_tokens, n_sequences: of a BATCH, about. */
void control_case_make(control_case *c, pr_control_kind kind, uint64_t seed, uint32_t n_tokens,
                       uint32_t n_sequences);
void control_case_free(control_case *c);

/* Fails the test where a field that is sent differs. */
void control_messages_compare(const pr_control_message *a, const pr_control_message *b);

#endif
