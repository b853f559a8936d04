/* worker/rank_io.h: a rank's end of its control connection: connecting, whole writes, reads into a
 * frame reader.
 *
 * Blocking calls on a socket of the caller; EINTR is gone on with. Any thread. */
#ifndef POOLRANK_WORKER_RANK_IO_H
#define POOLRANK_WORKER_RANK_IO_H

#include "runtime/base/status.h"
#include "runtime/wire/frame.h"

enum { PR_RANK_HOST_BYTES = 256 };

typedef struct pr_rank_address {
    bool is_unix;
    char host[PR_RANK_HOST_BYTES]; /* or the path of the socket */
    char port[8];
} pr_rank_address;

/* "unix:PATH", "tcp:HOST:PORT", "tcp:[ADDRESS]:PORT". Pure. Fails PR_E_ARGUMENT. */
pr_status pr_rank_address_parse(const char *text, pr_rank_address *out, pr_error *err);

/* Connects; tries again, ever more slowly, while nobody listens there, for timeout_ms at most.
 * *fd owned. Fails PR_E_UNAVAILABLE with the last reason; PR_E_ARGUMENT: no such host. */
pr_status pr_rank_connect(const pr_rank_address *address, int timeout_ms, int *fd, pr_error *err);

/* Writes all of data [n]. Fails PR_E_IO. */
pr_status pr_rank_write(int fd, const void *data, size_t n, pr_error *err);

/* Feeds what can be read; *n 0: end of file. timeout_ms -1: waits for ever. Fails PR_E_TIMEOUT,
 * PR_E_IO, PR_E_NOMEM. */
pr_status pr_rank_read(int fd, int timeout_ms, pr_frame_reader *reader, size_t *n, pr_error *err);

#endif
