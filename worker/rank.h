/* worker/rank.h: one rank on its control connection: joins a coordinator, loads what it is told,
 * runs batch after batch.
 *
 * A pr_rank owns its connection, a control thread and the batches that came in and were not run.
 * The control thread only reads: it answers PING at once, hands LOAD and BATCH to the compute
 * thread, and ends the process with _exit, whatever the compute thread is in the middle of, when
 * the coordinator is gone, says ABORT or breaks the protocol: a collective whose peers are dead
 * never returns. The compute thread is the one that calls pr_rank_run.
 *
 *     join ─► start ─► run: LOAD, open (COMM_ID), READY, BATCH … DONE, until SHUTDOWN ─► stop */
#ifndef POOLRANK_WORKER_RANK_H
#define POOLRANK_WORKER_RANK_H

#include "runtime/base/log.h"
#include "runtime/wire/frame.h"
#include "worker/control.h"
#include "worker/pooler.h"
#include "worker/worker.h"

typedef struct pr_rank pr_rank;

/* What the rank asks of whoever knows models; called on the compute thread. */
typedef struct pr_rank_ops {
    /* Loads. n_steps: counted up while it goes on. ready: epoch is set, all else is to be filled.
     * Whatever fails here ends the group. */
    pr_status (*open)(void *context, const pr_control_load *load, atomic_uint_fast64_t *n_steps,
                      pr_control_ready *ready, pr_error *err);
    /* Batches that begin may have begun and finish has not finished, from open on: 1 or more. */
    int (*n_slots)(void *context);
    /* As pr_worker_begin and pr_worker_finish; the batch stays until it is finished. */
    pr_status (*begin)(void *context, const pr_control_batch *batch, pr_error *err);
    pr_status (*finish)(void *context, pr_pooled *out, pr_error *err);
} pr_rank_ops;

typedef struct pr_rank_config {
    int fd;                /* connected; consumed by start, also when that fails */
    pr_frame_reader *reader; /* what join read and did not take; consumed likewise */
    uint32_t rank, n_ranks;
    const pr_rank_ops *ops; /* borrowed until stop, like context and log */
    void *context;
    const pr_log *log;
} pr_rank_config;

/* Proves the key on a fresh connection, as the initiator. hello: without a nonce, which is made
 * here. reader: initialised by the caller; may hold bytes of the next frames afterwards. Waits
 * timeout_ms at most for the answer. Fails as pr_handshake_join_feed; PR_E_UNAVAILABLE (the
 * coordinator hangs up), PR_E_TIMEOUT, PR_E_IO, PR_E_INPUT, PR_E_NOMEM. */
pr_status pr_rank_join(int fd, const pr_control_hello *hello, const pr_key *key, int timeout_ms,
                       pr_frame_reader *reader, pr_error *err);

/* Starts the control thread. The process must ignore SIGPIPE. Fails PR_E_NOMEM, PR_E_INTERNAL. */
pr_status pr_rank_start(const pr_rank_config *config, pr_rank **out, pr_error *err);

/* Runs until SHUTDOWN. On a failure the coordinator has been told: the process must leave at once,
 * without another collective. Fails PR_E_UNAVAILABLE: refused; or as open and run do. */
pr_status pr_rank_run(pr_rank *r, pr_error *err);

/* For `open`, on the compute thread, after LOAD: how the ranks of a group come to know the id of
 * their communicator. Rank 0 makes and shares it; then each of them awaits it, rank 0 too: it comes
 * when all ranks of the group have connected. id [n], 1 to PR_CONTROL_COMM_ID_BYTES bytes.
 * share fails PR_E_IO, PR_E_NOMEM. await fails PR_E_TIMEOUT after timeout_ms, PR_E_INTERNAL:
 * another number of bytes came. */
pr_status pr_rank_comm_id_share(pr_rank *r, const uint8_t *id, size_t n, pr_error *err);
pr_status pr_rank_comm_id_await(pr_rank *r, uint8_t *id, size_t n, int timeout_ms, pr_error *err);

/* Likewise, around what waits for other ranks in its own way: as long as it does, no want of
 * progress is a hang, and the coordinator's start timeout alone bounds it. */
void pr_rank_wait_begin(pr_rank *r);
void pr_rank_wait_end(pr_rank *r);

/* Hangs up: from here on the coordinator's end is no reason to leave. NULL is fine. */
void pr_rank_stop(pr_rank *r);

/* ---- pure parts, for tests ---- */

/* Whether a batch is the next of its epoch and its plan is what was sent. Fails PR_E_INTERNAL with
 * what was found and expected. */
pr_status pr_rank_batch_check(const pr_control_batch *batch, uint64_t epoch, uint64_t seq_before,
                              pr_error *err);

/* Whether the sizes of a LOAD are those of the group that this rank is one of. Fails
 * PR_E_ARGUMENT. */
pr_status pr_rank_load_check(const pr_control_load *load, uint32_t n_ranks, pr_error *err);

#endif
