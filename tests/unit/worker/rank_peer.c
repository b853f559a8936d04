#include "tests/unit/worker/rank_peer.h"

#include "worker/rank_io.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

void give(peer *p, const pr_control_message *m)
{
    pr_buffer frame;
    pr_error err;
    pr_buffer_init(&frame);
    assert_int_equal(pr_control_pack(m, &frame, &err), PR_OK);
    assert_int_equal(pr_rank_write(p->fd, frame.data, frame.n, &err), PR_OK);
    pr_buffer_deinit(&frame);
}

void give_kind(peer *p, pr_control_kind kind)
{
    const pr_control_message m = {.kind = kind};
    give(p, &m);
}

bool take(peer *p, pr_control_message *m)
{
    for (;;) {
        const char *payload = NULL;
        size_t n = 0;
        pr_error err;
        assert_int_equal(pr_frame_reader_next(&p->reader, &payload, &n, &err), PR_OK);
        if (payload) {
            pr_status st = pr_control_unpack(payload, n, m, &err);
            if (st != PR_OK) fail_msg("%s", err.message);
            return true;
        }
        pr_status st = pr_rank_read(p->fd, WAIT_MS, &p->reader, &n, &err);
        if (st == PR_E_TIMEOUT) fail_msg("%s", err.message);
        if (st != PR_OK || n == 0) return false;
    }
}

void take_kind(peer *p, pr_control_kind kind, pr_control_message *m)
{
    if (!take(p, m)) fail_msg("end of file, expected a message of kind %d", (int)kind);
    if (m->kind != kind) fail_msg("kind %d, expected %d", (int)m->kind, (int)kind);
}
