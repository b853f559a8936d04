#include "server/socket/socket_connection.h"

#include "runtime/base/clock.h"
#include "runtime/wire/frame.h"
#include "runtime/wire/rpc_answer.h"
#include "runtime/wire/rpc_request.h"
#include "server/socket/socket_info.h"
#include "server/socket/socket_request.h"
#include "server/socket/socket_stream.h"

#include <assert.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    OUT_JOINED_BYTES = 64 << 10, /* small answers are joined up to this, for one send */
    READS_MAX = 4,               /* of a turn, so that one client does not hold up the others */
    READER_KEPT_BYTES = 256 << 10,
};

/* Bytes to send. */
typedef struct out_piece {
    struct out_piece *next;
    pr_buffer bytes;
    size_t at; /* sent of them */
} out_piece;

/* An open request: the id beside it, so that looking for one reads a single list. */
typedef struct open_request {
    uint64_t id;
    pr_socket_request *request;
} open_request;

struct pr_socket_connection {
    pr_socket_shared *shared;
    pr_socket_connection *next, *prev; /* among all */
    pr_socket_connection *dirty_next;
    bool is_dirty;
    pr_socket_stream *stream; /* NULL: gone */
    uv_poll_t poll;
    int events; /* that are waited for */
    pr_frame_reader reader;
    out_piece *out, *out_last;
    size_t out_bytes;
    open_request *requests; /* [n_requests], in no order */
    size_t n_requests, n_requests_max;
    size_t request_bytes; /* of their frames */
    char key_name[PR_API_KEY_NAME_BYTES_MAX + 1];
    bool is_greeted;
    bool is_eof;       /* the client sends no more */
    bool is_ending;    /* nothing more is taken; what is unsent is sent, then it is closed */
    bool is_lingering; /* all is sent: waiting for the client to close */
    bool is_closed;    /* the loop has let go of the handle */
    uint64_t since_ms;   /* of accepting, of the last frame, of lingering */
    uint64_t partial_ms; /* since when a frame has been on its way; 0: none is */
    uint64_t sent_ms;    /* when something was sent last, or came to wait for it */
};

pr_socket_shared *pr_socket_connection_shared(pr_socket_connection *c)
{
    return c->shared;
}

const char *pr_socket_connection_key_name(const pr_socket_connection *c)
{
    return c->key_name;
}

pr_socket_connection *pr_socket_connection_next(const pr_socket_connection *c)
{
    return c->next;
}

static void dirty_add(pr_socket_connection *c)
{
    if (c->is_dirty || !c->stream) return;
    c->is_dirty = true;
    c->dirty_next = c->shared->dirty;
    c->shared->dirty = c;
}

pr_socket_connection *pr_socket_connection_dirty_take(pr_socket_shared *shared)
{
    pr_socket_connection *c = shared->dirty;
    if (!c) return NULL;
    shared->dirty = c->dirty_next;
    c->is_dirty = false;
    return c;
}

static void dirty_remove(pr_socket_connection *c)
{
    pr_socket_connection **at = &c->shared->dirty;
    if (!c->is_dirty) return;
    while (*at != c) at = &(*at)->dirty_next;
    *at = c->dirty_next;
    c->is_dirty = false;
}

/* ---- the end ---- */

static void out_clear(pr_socket_connection *c)
{
    while (c->out) {
        out_piece *piece = c->out;
        c->out = piece->next;
        pr_buffer_deinit(&piece->bytes);
        free(piece);
    }
    c->out_last = NULL;
    if (c->out_bytes > 0) c->shared->n_unsent--;
    c->out_bytes = 0;
}

/* Freed once the loop has let go of the handle and every request is back. */
static void free_if_over(pr_socket_connection *c)
{
    if (!c->is_closed || c->n_requests > 0) return;
    free(c->requests);
    free(c);
}

static void on_closed(uv_handle_t *handle)
{
    pr_socket_connection *c = handle->data;
    c->is_closed = true;
    free_if_over(c);
}

void pr_socket_connection_drop(pr_socket_connection *c)
{
    pr_socket_shared *s = c->shared;
    if (!c->stream) return;
    dirty_remove(c);
    uv_close((uv_handle_t *)&c->poll, on_closed);
    pr_socket_stream_close(c->stream);
    c->stream = NULL;
    for (size_t i = 0; i < c->n_requests; i++) pr_socket_request_drop(c->requests[i].request);
    out_clear(c);
    pr_frame_reader_deinit(&c->reader);
    if (c->next) c->next->prev = c->prev;
    *(c->prev ? &c->prev->next : &s->connections) = c->next;
    s->n_connections--;
    s->has_ended_some = true;
    pr_metrics_connections(s->c.metrics, -1);
}

/* ---- sending ---- */

/* frame: consumed. */
static void send_frame(pr_socket_connection *c, pr_buffer *frame)
{
    if (!c->stream || frame->n == 0) {
        pr_buffer_deinit(frame);
        return;
    }
    if (c->out_bytes == 0) {
        c->shared->n_unsent++;
        c->sent_ms = uv_now(c->shared->c.loop);
    }
    c->out_bytes += frame->n;
    dirty_add(c);
    if (c->out_last && c->out_last->bytes.n + frame->n <= OUT_JOINED_BYTES &&
        pr_buffer_append(&c->out_last->bytes, frame->data, frame->n)) {
        pr_buffer_deinit(frame);
        return;
    }
    out_piece *piece = calloc(1, sizeof *piece);
    if (!piece) { /* an answer that cannot be sent: the client must not wait for it */
        c->out_bytes -= frame->n;
        if (c->out_bytes == 0) c->shared->n_unsent--;
        pr_buffer_deinit(frame);
        pr_socket_connection_drop(c);
        return;
    }
    piece->bytes = *frame;
    pr_buffer_init(frame);
    *(c->out_last ? &c->out_last->next : &c->out) = piece;
    c->out_last = piece;
}

/* An error frame; id: NULL: about the connection. */
static void send_error(pr_socket_connection *c, const uint64_t *id, const pr_error *err,
                       uint32_t retry_after_s)
{
    const pr_rpc_error error = {
        .has_id = id != NULL,
        .id = id ? *id : 0,
        .status = err->status,
        .message = err->message,
        .n_message = strlen(err->message),
        .retry_after_s = retry_after_s,
        .i_item = -1,
    };
    pr_buffer frame;
    pr_buffer_init(&frame);
    if (pr_rpc_error_pack(&error, &frame, NULL) != PR_OK) pr_buffer_clear(&frame);
    send_frame(c, &frame);
}

/* An error frame, and then the connection is closed. Its requests are cancelled. */
static void end_with(pr_socket_connection *c, const pr_error *err, uint32_t retry_after_s)
{
    if (c->is_ending || !c->stream) return;
    send_error(c, NULL, err, retry_after_s);
    c->is_ending = true;
    for (size_t i = 0; i < c->n_requests; i++) pr_socket_request_drop(c->requests[i].request);
    dirty_add(c);
}

/* False: the client is gone, and the connection with it. */
static bool out_write(pr_socket_connection *c)
{
    while (c->out) {
        out_piece *piece = c->out;
        int64_t n = pr_socket_stream_write(c->stream, piece->bytes.data + piece->at,
                                           piece->bytes.n - piece->at);
        if (n == PR_SOCKET_AGAIN) return true;
        if (n < 0) {
            pr_socket_connection_drop(c);
            return false;
        }
        piece->at += (size_t)n;
        c->out_bytes -= (size_t)n;
        c->sent_ms = uv_now(c->shared->c.loop);
        if (piece->at < piece->bytes.n) continue;
        c->out = piece->next;
        if (!c->out) c->out_last = NULL;
        pr_buffer_deinit(&piece->bytes);
        free(piece);
        if (c->out_bytes > 0) continue;
        c->shared->n_unsent--;
        c->shared->has_ended_some = true;
    }
    return true;
}

/* ---- requests ---- */

static size_t request_find(const pr_socket_connection *c, uint64_t id)
{
    size_t i = 0;
    while (i < c->n_requests && c->requests[i].id != id) i++;
    return i;
}

void pr_socket_connection_answer(pr_socket_connection *c, pr_socket_request *request,
                                 pr_buffer *frame)
{
    size_t i = 0;
    while (c->requests[i].request != request) i++;
    c->requests[i] = c->requests[--c->n_requests];
    c->request_bytes -= pr_socket_request_bytes(request);
    c->shared->n_requests--;
    c->shared->has_ended_some = true;
    c->since_ms = uv_now(c->shared->c.loop);
    if (c->is_ending) {
        pr_buffer_deinit(frame);
    } else {
        send_frame(c, frame);
    }
    dirty_add(c);
    free_if_over(c);
}

static bool requests_room(pr_socket_connection *c)
{
    if (c->n_requests < c->n_requests_max) return true;
    size_t n_max = c->n_requests_max ? 2 * c->n_requests_max : 4;
    open_request *requests = realloc(c->requests, n_max * sizeof *requests);
    if (!requests) return false;
    c->requests = requests;
    c->n_requests_max = n_max;
    return true;
}

static void request_take(pr_socket_connection *c, const pr_rpc_head *head, const char *payload,
                         size_t n)
{
    pr_error err;
    pr_socket_shared *s = c->shared;
    if (c->n_requests >= PR_RPC_REQUESTS_MAX) {
        pr_error_set(&err, PR_E_OVERLOADED,
                     "%d requests are open on this connection, the most there may be",
                     (int)PR_RPC_REQUESTS_MAX);
        pr_metrics_rejected(s->c.metrics, PR_E_OVERLOADED);
        send_error(c, &head->id, &err, 1);
        return;
    }
    pr_socket_request *r =
        requests_room(c) ? pr_socket_request_create(c, head, payload, n) : NULL;
    if (!r) {
        pr_error_nomem(&err, "request", n);
        send_error(c, &head->id, &err, 1);
        return;
    }
    c->requests[c->n_requests++] = (open_request){.id = head->id, .request = r};
    c->request_bytes += n;
    s->n_requests++;
    pr_socket_request_begin(r);
}

/* ---- messages ---- */

static void hello_take(pr_socket_connection *c, const char *payload, size_t n)
{
    pr_error err;
    pr_rpc_hello hello;
    pr_buffer frame;
    pr_socket_shared *s = c->shared;
    pr_status st = pr_rpc_hello_unpack(payload, n, &hello, &err);
    if (st == PR_OK && pr_api_keys_are_needed(s->c.keys)) {
        const char *name = hello.key ? pr_api_keys_find(s->c.keys, hello.key, hello.n_key) : NULL;
        if (name) {
            memcpy(c->key_name, name, strlen(name) + 1);
        } else {
            st = pr_error_set(&err, PR_E_ARGUMENT, "hello: key: %s",
                              hello.key ? "no such key" : "found none, expected an API key");
        }
    }
    if (st == PR_OK && s->is_refusing) {
        st = pr_error_set(&err, PR_E_UNAVAILABLE, "the server is draining");
    }
    if (st != PR_OK) {
        pr_metrics_rejected(s->c.metrics, st);
        end_with(c, &err, st == PR_E_UNAVAILABLE ? 1 : 0);
        return;
    }
    c->is_greeted = true;
    c->reader.bytes_max = (size_t)s->c.config->max_body_bytes;
    pr_buffer_init(&frame);
    if (pr_socket_info_pack(s, PR_RPC_HELLO, 0, &frame, &err) == PR_OK) {
        send_frame(c, &frame);
    } else {
        pr_buffer_deinit(&frame);
        end_with(c, &err, 0);
    }
}

/* Requests without items; answered at once. */
static void small_take(pr_socket_connection *c, const pr_rpc_head *head, const char *payload,
                       size_t n)
{
    pr_error err;
    pr_rpc_request q;
    pr_buffer frame;
    uint64_t begin_ns = pr_clock_ns();
    pr_buffer_init(&frame);
    pr_status st = pr_rpc_request_unpack(payload, n, head->kind, 0, &q, &err);
    if (st == PR_OK) pr_rpc_request_deinit(&q);
    if (st == PR_OK && head->kind == PR_RPC_CANCEL) {
        size_t i = request_find(c, head->id);
        if (i < c->n_requests) pr_socket_request_cancel(c->requests[i].request);
        return; /* the request that is meant has an answer; one that had it already needs none */
    }
    if (st == PR_OK && head->kind == PR_RPC_PING) {
        st = pr_rpc_plain_pack(PR_RPC_PONG, head->id, &frame, &err);
    } else if (st == PR_OK && head->kind == PR_RPC_INFO) {
        st = pr_socket_info_pack(c->shared, PR_RPC_INFO, head->id, &frame, &err);
    } else if (st == PR_OK) {
        st = pr_socket_stats_pack(c->shared, head->id, &frame, &err);
    }
    if (st == PR_OK) {
        send_frame(c, &frame);
    } else {
        pr_buffer_deinit(&frame);
        send_error(c, &head->id, &err, 0);
    }
    pr_metrics_request(c->shared->c.metrics, pr_socket_route(c->shared, head->kind),
                       pr_status_describe(st)->http_status,
                       (double)(pr_clock_ns() - begin_ns) * 1e-9);
}

static bool is_small(pr_rpc_kind kind)
{
    return kind == PR_RPC_PING || kind == PR_RPC_INFO || kind == PR_RPC_STATS ||
           kind == PR_RPC_CANCEL;
}

static void message_take(pr_socket_connection *c, const char *payload, size_t n)
{
    pr_error err;
    pr_rpc_head head;
    pr_status st = pr_rpc_head_read(payload, n, &head, &err);
    if (st == PR_OK && !c->is_greeted) {
        if (head.kind == PR_RPC_HELLO) {
            hello_take(c, payload, n);
            return;
        }
        st = pr_error_set(&err, PR_E_INPUT, "found another message first, expected hello");
    } else if (st == PR_OK && !head.has_id) {
        st = pr_error_set(&err, PR_E_INPUT, "message: id: found none");
    }
    bool has_items = st == PR_OK && pr_rpc_kind_has_items(head.kind);
    if (has_items && request_find(c, head.id) < c->n_requests) {
        st = pr_error_set(&err, PR_E_INPUT, "message: id: a request with this id is open");
    }
    if (st != PR_OK) {
        pr_metrics_rejected(c->shared->c.metrics, st);
        end_with(c, &err, 0);
    } else if (has_items) {
        request_take(c, &head, payload, n);
    } else if (is_small(head.kind)) {
        small_take(c, &head, payload, n);
    } else {
        pr_error_set(&err, PR_E_UNSUPPORTED, "message: kind: no such request");
        send_error(c, &head.id, &err, 0);
    }
}

/* ---- reading ---- */

static bool is_paused(const pr_socket_connection *c)
{
    return c->out_bytes > PR_SOCKET_OUT_BYTES_MAX ||
           c->request_bytes > (size_t)c->shared->c.config->max_body_bytes;
}

/* An emptied reader does not keep what a large frame has taken. */
static void reader_shrink(pr_socket_connection *c)
{
    if (c->reader.begin < c->reader.bytes.n || c->reader.bytes.n_max <= READER_KEPT_BYTES) return;
    size_t bytes_max = c->reader.bytes_max;
    pr_frame_reader_deinit(&c->reader);
    pr_frame_reader_init(&c->reader, bytes_max);
}

static void frames_take(pr_socket_connection *c)
{
    uint64_t now_ms = uv_now(c->shared->c.loop);
    bool has_taken = false;
    while (c->stream && !c->is_ending && !is_paused(c)) {
        pr_error err;
        const char *payload = NULL;
        size_t n = 0;
        if (pr_frame_reader_next(&c->reader, &payload, &n, &err) != PR_OK) {
            pr_metrics_rejected(c->shared->c.metrics, err.status);
            end_with(c, &err, 0);
            return;
        }
        if (!payload) break;
        has_taken = true;
        message_take(c, payload, n);
    }
    if (!c->stream || c->is_ending) return;
    bool is_partial = !is_paused(c) && c->reader.begin < c->reader.bytes.n;
    if (has_taken) c->since_ms = now_ms;
    if (!is_partial || has_taken) c->partial_ms = 0;
    if (is_partial && c->partial_ms == 0) c->partial_ms = now_ms;
    reader_shrink(c);
}

/* The client sends no more. Closed or half-closed? TCP does not say; but a socket that was closed
 * answers what is sent to it with a reset, and a client that still reads takes no notice. */
static void on_eof(pr_socket_connection *c)
{
    pr_buffer frame;
    c->is_eof = true;
    if (c->is_ending || c->n_requests == 0) return;
    pr_buffer_init(&frame);
    if (pr_rpc_plain_pack(PR_RPC_ALIVE, 0, &frame, NULL) != PR_OK) pr_buffer_clear(&frame);
    send_frame(c, &frame);
}

/* False: the connection is gone. */
static bool bytes_read(pr_socket_connection *c)
{
    pr_error err;
    for (int i = 0; i < READS_MAX && !c->is_eof && !is_paused(c); i++) {
        char *bytes = c->shared->read_bytes;
        int64_t n = pr_socket_stream_read(c->stream, bytes, PR_SOCKET_READ_BYTES);
        if (n == PR_SOCKET_AGAIN) break;
        if (n < 0) {
            pr_socket_connection_drop(c);
            return false;
        }
        if (n == 0) {
            on_eof(c);
        } else if (c->is_ending) {
            continue; /* thrown away: it came behind what was wrong */
        } else if (pr_frame_reader_feed(&c->reader, bytes, (size_t)n, &err) != PR_OK) {
            end_with(c, &err, 0);
        } else {
            frames_take(c);
        }
        if (!c->stream) return false;
    }
    return true;
}

/* ---- turning ---- */

static void on_poll(uv_poll_t *poll, int status, int events);

static void poll_update(pr_socket_connection *c)
{
    bool is_reading = !c->is_eof && !is_paused(c);
    int events = 0;
    if (is_reading) events |= UV_READABLE;
    if (c->out || pr_socket_stream_wants_write(c->stream)) events |= UV_WRITABLE;
    /* Without reading, only errors and hang-ups are wanted, which come with any event. */
    if (!is_reading) events |= UV_PRIORITIZED;
    if (events == c->events) return;
    c->events = events;
    int rc = uv_poll_start(&c->poll, events, on_poll);
    assert(rc == 0);
    (void)rc;
}

static void linger_begin(pr_socket_connection *c)
{
    pr_socket_stream_end(c->stream);
    c->is_lingering = true;
    c->since_ms = uv_now(c->shared->c.loop);
}

/* Nothing more is to be done for the client: it sends no more, or must not. */
static void end_if_over(pr_socket_connection *c)
{
    pr_error err;
    if (c->is_ending || c->n_requests > 0 || c->out) return;
    if (c->is_eof && c->reader.begin < c->reader.bytes.n) {
        pr_error_set(&err, PR_E_INPUT, "the stream ends inside a frame");
        end_with(c, &err, 0);
    } else if (c->is_eof) {
        c->is_ending = true;
    } else if (c->shared->is_refusing && c->is_greeted && c->partial_ms == 0) {
        pr_error_set(&err, PR_E_UNAVAILABLE, "the server is draining");
        end_with(c, &err, 1);
    }
}

void pr_socket_connection_turn(pr_socket_connection *c)
{
    if (!c->stream) return;
    frames_take(c);
    for (int i = 0; i < 2; i++) { /* what is said at the end is sent too */
        if (!c->stream || !out_write(c)) return;
        end_if_over(c);
    }
    if (!c->stream) return;
    if (c->is_ending && !c->out && !c->is_lingering) linger_begin(c);
    if (c->is_lingering && c->is_eof) {
        pr_socket_connection_drop(c);
    } else {
        poll_update(c);
    }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    pr_socket_connection *c = poll->data;
    if (status < 0 || events & UV_PRIORITIZED) {
        pr_socket_connection_drop(c);
        return;
    }
    bool wants_write = pr_socket_stream_wants_write(c->stream);
    if ((events & UV_READABLE || wants_write) && !bytes_read(c)) return;
    pr_socket_connection_turn(c);
}

/* ---- time ---- */

static bool has_passed(uint64_t since_ms, uint64_t now_ms, int32_t seconds)
{
    return now_ms - since_ms >= (uint64_t)seconds * 1000;
}

void pr_socket_connection_sweep(pr_socket_connection *c)
{
    pr_error err;
    const pr_config *config = c->shared->c.config;
    uint64_t now_ms = uv_now(c->shared->c.loop);
    if (c->is_lingering) {
        if (now_ms - c->since_ms >= PR_SOCKET_LINGER_MS) pr_socket_connection_drop(c);
        return;
    }
    if (c->out && has_passed(c->sent_ms, now_ms,
                             c->is_ending ? config->read_timeout : config->idle_timeout)) {
        pr_socket_connection_drop(c); /* it does not read */
        return;
    }
    if (c->is_ending) return;
    if (!c->is_greeted && has_passed(c->since_ms, now_ms, config->read_timeout)) {
        pr_error_set(&err, PR_E_TIMEOUT, "no hello within %d s (--read-timeout)",
                     (int)config->read_timeout);
        end_with(c, &err, 0);
    } else if (c->partial_ms && has_passed(c->partial_ms, now_ms, config->read_timeout)) {
        pr_error_set(&err, PR_E_TIMEOUT, "a frame did not arrive whole within %d s "
                                         "(--read-timeout)",
                     (int)config->read_timeout);
        end_with(c, &err, 0);
    } else if (c->n_requests == 0 && !c->out &&
               has_passed(c->since_ms, now_ms, config->idle_timeout)) {
        pr_error_set(&err, PR_E_TIMEOUT, "no request for %d s (--idle-timeout)",
                     (int)config->idle_timeout);
        end_with(c, &err, 0);
    }
}

/* ---- the beginning ---- */

static void tcp_options_set(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

void pr_socket_connection_open(pr_socket_shared *shared, int fd, bool is_tcp)
{
    pr_socket_connection *c = calloc(1, sizeof *c);
    if (!c || pr_socket_stream_open(fd, shared->tls, &c->stream, NULL) != PR_OK) {
        close(fd);
        free(c);
        return;
    }
    if (is_tcp) tcp_options_set(fd);
    c->shared = shared;
    c->since_ms = uv_now(shared->c.loop);
    pr_frame_reader_init(&c->reader, PR_RPC_HELLO_BYTES_MAX);
    if (uv_poll_init(shared->c.loop, &c->poll, fd) != 0) {
        pr_socket_stream_close(c->stream);
        free(c);
        return;
    }
    c->poll.data = c;
    c->next = shared->connections;
    if (c->next) c->next->prev = c;
    shared->connections = c;
    shared->n_connections++;
    pr_metrics_connections(shared->c.metrics, 1);
    poll_update(c);
}
