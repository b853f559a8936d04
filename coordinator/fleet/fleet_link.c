#define _GNU_SOURCE /* struct ucred */
#include "coordinator/fleet/fleet_link.h"

#include "runtime/wire/frame.h"
#include "worker/handshake.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    READ_BYTES = 64 << 10,
    STRANGER_BYTES_MAX = 4 << 10, /* of a frame, before the key is proved */
    STRANGER_MS = 10 * 1000,      /* to prove it */
    LAST_MS = 1000                /* to read the last message */
};
#define QUEUE_BYTES_MAX ((size_t)512 << 20) /* of frames that wait to be sent to one rank */

typedef enum stage { STAGE_STRANGER, STAGE_JOINED, STAGE_LAST, STAGE_CLOSED } stage;

struct pr_link_frame {
    int n_holds;
    pr_buffer bytes;
};

struct pr_link {
    pr_link_config c;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_pipe_t pipe;
        uv_tcp_t tcp;
    } socket;
    uv_timer_t deadline;
    int n_handles; /* still open */
    stage stage;
    pr_frame_reader reader;
    pr_handshake_host handshake;
    int pidfd; /* of the peer; -1: unknown, or on another host */
    uint64_t epoch; /* the seat */
    uint32_t rank;
    char bytes[READ_BYTES];
};

typedef struct send {
    uv_write_t request;
    pr_link *link;
    pr_link_frame *frame;
} send_request;

/* ---- frames ---- */

pr_status pr_link_frame_create(const pr_control_message *message, pr_link_frame **out,
                               pr_error *err)
{
    pr_link_frame *f = calloc(1, sizeof *f);
    if (!f) return pr_error_nomem(err, "frame", sizeof *f);
    f->n_holds = 1;
    pr_buffer_init(&f->bytes);
    pr_status st = pr_control_pack(message, &f->bytes, err);
    if (st != PR_OK) {
        pr_link_frame_release(f);
        return st;
    }
    *out = f;
    return PR_OK;
}

void pr_link_frame_release(pr_link_frame *f)
{
    if (!f || --f->n_holds > 0) return;
    pr_buffer_deinit(&f->bytes);
    free(f);
}

/* ---- closing ---- */

static void on_closed(uv_handle_t *handle)
{
    pr_link *l = handle->data;
    if (--l->n_handles > 0) return;
    pr_frame_reader_deinit(&l->reader);
    if (l->pidfd >= 0) close(l->pidfd);
    free(l);
}

static void link_close(pr_link *l)
{
    if (l->stage == STAGE_CLOSED) return;
    l->stage = STAGE_CLOSED;
    uv_close(&l->socket.handle, on_closed);
    uv_close((uv_handle_t *)&l->deadline, on_closed);
}

/* The link ends by itself; a peer that is being dismissed is not reported. */
static void link_end(pr_link *l, const char *reason)
{
    bool is_news = l->stage != STAGE_LAST && l->stage != STAGE_CLOSED;
    if (is_news) l->c.ended(l->c.context, l, reason);
    link_close(l);
}

static void on_deadline(uv_timer_t *timer)
{
    pr_link *l = timer->data;
    link_end(l, "it did not prove the cluster key in time");
}

/* The peer hangs up: were it this side, a rank would see the end before it has read why. */
void pr_link_finish(pr_link *l, const pr_control_message *last)
{
    if (l->stage == STAGE_CLOSED || l->stage == STAGE_LAST) return;
    bool is_sent = last && pr_link_send(l, last, NULL) == PR_OK;
    l->stage = STAGE_LAST;
    if (is_sent) {
        uv_timer_start(&l->deadline, on_deadline, LAST_MS, 0);
    } else {
        link_close(l);
    }
}

/* ---- sending ---- */

static void on_sent(uv_write_t *request, int status)
{
    send_request *s = request->data;
    pr_link *l = s->link;
    pr_link_frame_release(s->frame);
    free(s);
    if (status < 0 && status != UV_ECANCELED && l->stage != STAGE_CLOSED) {
        link_end(l, uv_strerror(status));
    }
}

pr_status pr_link_send_frame(pr_link *l, pr_link_frame *frame, pr_error *err)
{
    size_t waiting = uv_stream_get_write_queue_size(&l->socket.stream);
    if (l->stage == STAGE_CLOSED || l->stage == STAGE_LAST) {
        return pr_error_set(err, PR_E_IO, "the connection is closed");
    }
    if (waiting > QUEUE_BYTES_MAX || frame->bytes.n > QUEUE_BYTES_MAX - waiting) {
        return pr_error_set(err, PR_E_TOO_LARGE, "%zu bytes wait to be sent, expected at most %zu",
                            waiting + frame->bytes.n, QUEUE_BYTES_MAX);
    }
    send_request *s = malloc(sizeof *s);
    if (!s) return pr_error_nomem(err, "send", sizeof *s);
    *s = (send_request){.link = l, .frame = frame};
    s->request.data = s;
    uv_buf_t bytes = uv_buf_init(frame->bytes.data, (unsigned)frame->bytes.n);
    int rc = uv_write(&s->request, &l->socket.stream, &bytes, 1, on_sent);
    if (rc < 0) {
        free(s);
        return pr_error_set(err, PR_E_IO, "send: %s", uv_strerror(rc));
    }
    frame->n_holds++;
    return PR_OK;
}

pr_status pr_link_send(pr_link *l, const pr_control_message *message, pr_error *err)
{
    pr_link_frame *frame = NULL;
    pr_status st = pr_link_frame_create(message, &frame, err);
    if (st == PR_OK) st = pr_link_send_frame(l, frame, err);
    pr_link_frame_release(frame);
    return st;
}

/* ---- who it is ---- */

/* Tells a stranger why not, and the fleet. */
static void refuse(pr_link *l, const pr_control_message *refusal, const char *why)
{
    l->c.ended(l->c.context, l, why);
    pr_link_finish(l, refusal);
}

/* HELLO, then PROOF. */
static void handshake_take(pr_link *l, const pr_control_message *m)
{
    pr_error err;
    pr_control_message reply;
    bool has_reply = false;
    pr_status st = pr_handshake_host_feed(&l->handshake, m, &reply, &has_reply, &err);
    if (st != PR_OK) {
        refuse(l, &reply, err.message);
    } else if (has_reply) {
        if (pr_link_send(l, &reply, &err) != PR_OK) link_end(l, err.message);
    } else {
        uv_timer_stop(&l->deadline);
        l->reader.bytes_max = PR_FRAME_BYTES_MAX;
        l->stage = STAGE_JOINED;
        l->c.joined(l->c.context, l, &l->handshake.hello);
    }
}

/* ---- receiving ---- */

static void frames_take(pr_link *l)
{
    while (l->stage != STAGE_CLOSED && l->stage != STAGE_LAST) {
        pr_error err;
        pr_control_message m;
        const char *payload = NULL;
        size_t n = 0;
        pr_status st = pr_frame_reader_next(&l->reader, &payload, &n, &err);
        if (st == PR_OK && !payload) return;
        if (st == PR_OK) st = pr_control_unpack(payload, n, &m, &err);
        if (st != PR_OK) {
            link_end(l, err.message);
            return;
        }
        if (l->stage == STAGE_JOINED) {
            l->c.message(l->c.context, l, &m);
        } else {
            handshake_take(l, &m);
        }
        pr_control_message_deinit(&m);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    (void)suggested;
    pr_link *l = handle->data;
    *out = uv_buf_init(l->bytes, sizeof l->bytes);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *bytes)
{
    pr_link *l = stream->data;
    pr_error err;
    if (n == 0 || l->stage == STAGE_CLOSED) return;
    if (n >= 0 && l->stage == STAGE_LAST) return;
    if (n < 0) {
        link_end(l, n == UV_EOF ? "it closed its connection" : uv_strerror((int)n));
    } else if (pr_frame_reader_feed(&l->reader, bytes->base, (size_t)n, &err) != PR_OK) {
        link_end(l, err.message);
    } else {
        frames_take(l);
    }
}

/* ---- accepting ---- */

/* Another user's process is refused whatever it knows. The pidfd stays with this process, should
 * its number be given to another one. */
static pr_status peer_check(pr_link *l, pr_error *err)
{
    struct ucred peer;
    socklen_t n = sizeof peer;
    int fd = -1;
    if (!l->c.is_unix) return PR_OK;
    if (uv_fileno(&l->socket.handle, &fd) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) != 0) {
        return pr_error_set(err, PR_E_IO, "a peer's user is unknown");
    }
    if (peer.uid != geteuid()) {
        return pr_error_set(err, PR_E_ARGUMENT, "a peer (pid %ld) of user %ld, expected user %ld",
                            (long)peer.pid, (long)peer.uid, (long)geteuid());
    }
#ifdef SYS_pidfd_open
    if (peer.pid > 0 && peer.pid != getpid()) {
        l->pidfd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
    }
#endif
    return PR_OK;
}

static int link_init(pr_link *l)
{
    uv_timer_init(l->c.loop, &l->deadline);
    int rc = l->c.is_unix ? uv_pipe_init(l->c.loop, &l->socket.pipe, 0)
                          : uv_tcp_init(l->c.loop, &l->socket.tcp);
    assert(rc == 0); /* neither opens anything yet */
    l->socket.handle.data = l;
    l->deadline.data = l;
    l->n_handles = 2;
    return rc;
}

pr_status pr_link_accept(uv_stream_t *server, const pr_link_config *config, pr_link **out,
                         pr_error *err)
{
    pr_link *l = calloc(1, sizeof *l);
    if (!l) return pr_error_nomem(err, "connection", sizeof *l);
    l->c = *config;
    l->pidfd = -1;
    pr_frame_reader_init(&l->reader, STRANGER_BYTES_MAX);
    link_init(l);
    uint8_t nonce[PR_NONCE_BYTES];
    int rc = uv_accept(server, &l->socket.stream);
    pr_status st = rc == 0 ? peer_check(l, err)
                           : pr_error_set(err, PR_E_IO, "accept: %s", uv_strerror(rc));
    if (st == PR_OK) st = pr_nonce_make(nonce, err);
    if (st == PR_OK) pr_handshake_host_init(&l->handshake, config->key, config->version, nonce);
    if (st == PR_OK) rc = uv_read_start(&l->socket.stream, on_alloc, on_read);
    if (st == PR_OK && rc != 0) st = pr_error_set(err, PR_E_IO, "read: %s", uv_strerror(rc));
    if (st != PR_OK) {
        link_close(l);
        return st;
    }
    if (!config->is_unix) uv_tcp_nodelay(&l->socket.tcp, 1);
    uv_timer_start(&l->deadline, on_deadline, STRANGER_MS, 0);
    *out = l;
    return PR_OK;
}

void pr_link_kill(pr_link *l)
{
#ifdef SYS_pidfd_send_signal
    if (l->pidfd >= 0) syscall(SYS_pidfd_send_signal, l->pidfd, SIGKILL, NULL, 0);
#else
    (void)l;
#endif
}

void pr_link_seat_set(pr_link *l, uint64_t epoch, uint32_t rank)
{
    l->epoch = epoch;
    l->rank = rank;
}

uint64_t pr_link_seat(const pr_link *l, uint32_t *rank)
{
    *rank = l->rank;
    return l->epoch;
}
