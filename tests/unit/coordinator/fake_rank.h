/* tests/unit/coordinator/fake_rank.h: a rank that is a thread of the test: it speaks the control
 * protocol as a real one does and answers without a model, or misbehaves.
 *
 * Each sequence's row is its last token's id, in every column. */
#ifndef POOLRANK_TESTS_FAKE_RANK_H
#define POOLRANK_TESTS_FAKE_RANK_H

#include "worker/control.h"

#include <pthread.h>
#include <stdatomic.h>

enum { FAKE_WIDTH = 32, FAKE_NEVER = -1 };

typedef struct fake_rank {
    /* set before the start */
    const char *socket_path, *key_path;
    const char *group; /* a number is put behind it for each life */
    uint32_t rank, n_ranks;
    const char *version;           /* NULL: this one */
    bool has_other_model;
    int n_lives;                   /* connections, one after the other */
    int dies_at_batch;             /* of its first life, counted from 1; FAKE_NEVER */
    int32_t poison;                /* dies of a batch that has this token; FAKE_NEVER */
    bool is_mute;                  /* answers nothing once a batch came, in its first life */
    bool has_wrong_shapes;         /* answers so, in its first life */
    const char *comm_id;           /* sends this COMM_ID when it loads; NULL: none */
    bool awaits_comm_id;           /* is ready when one came */
    bool dies_at_load;
    /* readable after fake_rank_join */
    pthread_t thread;
    atomic_int n_connected, n_batches, n_shutdowns;
    char last_words[PR_ERROR_BYTES]; /* REFUSE's or ABORT's */
    char comm_id_found[64];
} fake_rank;

void fake_rank_start(fake_rank *r);
void fake_rank_join(fake_rank *r);

#endif
