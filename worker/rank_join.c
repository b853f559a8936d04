/* A rank's half of the handshake; its other functions: rank.c. */
#include "worker/handshake.h"
#include "worker/rank.h"
#include "worker/rank_io.h"

static pr_status message_send(int fd, const pr_control_message *message, pr_error *err)
{
    pr_buffer frame;
    pr_buffer_init(&frame);
    pr_status st = pr_control_pack(message, &frame, err);
    if (st == PR_OK) st = pr_rank_write(fd, frame.data, frame.n, err);
    pr_buffer_deinit(&frame);
    return st;
}

static pr_status frame_await(int fd, int timeout_ms, pr_frame_reader *reader, const char **payload,
                             size_t *n, pr_error *err)
{
    for (;;) {
        pr_status st = pr_frame_reader_next(reader, payload, n, err);
        if (st != PR_OK || *payload) return st;
        size_t n_read = 0;
        if ((st = pr_rank_read(fd, timeout_ms, reader, &n_read, err)) != PR_OK) return st;
        if (n_read == 0) {
            return pr_error_set(err, PR_E_UNAVAILABLE, "the coordinator hung up in the handshake");
        }
    }
}

pr_status pr_rank_join(int fd, const pr_control_hello *hello, const pr_key *key, int timeout_ms,
                       pr_frame_reader *reader, pr_error *err)
{
    pr_handshake_join join;
    pr_control_message hello_message, answer, proof;
    pr_control_hello own = *hello;
    const char *payload = NULL;
    size_t n = 0;
    pr_status st = pr_nonce_make(own.nonce, err);
    if (st != PR_OK) return st;
    pr_handshake_join_begin(&join, key, &own, &hello_message);
    if ((st = message_send(fd, &hello_message, err)) != PR_OK) return st;
    if ((st = frame_await(fd, timeout_ms, reader, &payload, &n, err)) != PR_OK) return st;
    if ((st = pr_control_unpack(payload, n, &answer, err)) != PR_OK) return st;
    st = pr_handshake_join_feed(&join, &answer, &proof, err);
    if (st == PR_OK) st = message_send(fd, &proof, err);
    pr_control_message_deinit(&answer);
    return st;
}
