/* tests/unit/worker/rank_peer.h: a test that is the coordinator's end of a rank's connection. */
#ifndef POOLRANK_TESTS_RANK_PEER_H
#define POOLRANK_TESTS_RANK_PEER_H

#include "runtime/wire/frame.h"
#include "worker/control.h"

#include <sys/types.h>

enum { WAIT_MS = 20000 };

typedef struct peer {
    int fd;   /* to the rank */
    int gate; /* a byte lets a run go on */
    pid_t pid;
    pr_frame_reader reader;
} peer;

void give(peer *p, const pr_control_message *m);
void give_kind(peer *p, pr_control_kind kind);

/* The next message; *m owned, valid until the next take. False: end of file. */
bool take(peer *p, pr_control_message *m);
void take_kind(peer *p, pr_control_kind kind, pr_control_message *m);

#endif
