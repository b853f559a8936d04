/* Any bytes as what a peer sends on a control connection: frames are found, messages refused or
 * taken, and what is taken packs to a message that unpacks to the same bytes again. */
#include "runtime/wire/frame.h"
#include "worker/control.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(int ok)
{
    if (!ok) abort();
}

static void check_message(const pr_control_message *m)
{
    pr_buffer once, twice;
    pr_buffer_init(&once);
    pr_buffer_init(&twice);
    pr_control_message again;
    check(pr_control_pack(m, &once, NULL) == PR_OK);
    check(pr_control_unpack(once.data + PR_FRAME_HEADER_BYTES, once.n - PR_FRAME_HEADER_BYTES,
                            &again, NULL) == PR_OK);
    check(again.kind == m->kind);
    if (m->kind == PR_CONTROL_BATCH) { /* what the ranks compare survives the way */
        check(pr_batch_plan_check(m->batch.plan, NULL) == PR_OK);
        check(pr_control_plan_hash(m->batch.plan, m->batch.poolings) ==
              pr_control_plan_hash(again.batch.plan, again.batch.poolings));
    }
    check(pr_control_pack(&again, &twice, NULL) == PR_OK);
    check(once.n == twice.n && memcmp(once.data, twice.data, once.n) == 0);
    pr_control_message_deinit(&again);
    pr_buffer_deinit(&once);
    pr_buffer_deinit(&twice);
}

/* The payload is copied into memory of its own size, so that a read behind it is seen. */
static void take(const char *payload, size_t n)
{
    char *copy = malloc(n);
    if (!copy) return;
    memcpy(copy, payload, n);
    pr_control_message m;
    pr_error err = {0};
    if (pr_control_unpack(copy, n, &m, &err) == PR_OK) {
        check_message(&m);
        pr_control_message_deinit(&m);
    } else {
        check(err.message[0] != '\0');
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    pr_frame_reader r;
    pr_frame_reader_init(&r, 1 << 16);
    for (size_t at = 0; at < n;) { /* in pieces, as a socket gives them */
        size_t n_piece = 1 + data[at] % 61;
        if (n_piece > n - at) n_piece = n - at;
        if (pr_frame_reader_feed(&r, data + at, n_piece, NULL) != PR_OK) break;
        at += n_piece;
        const char *payload = NULL;
        size_t n_payload = 0;
        pr_status st;
        while ((st = pr_frame_reader_next(&r, &payload, &n_payload, NULL)) == PR_OK && payload) {
            take(payload, n_payload);
        }
        if (st != PR_OK) break;
    }
    pr_frame_reader_deinit(&r);
    return 0;
}
