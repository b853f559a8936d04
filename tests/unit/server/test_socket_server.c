/* The server of the socket protocol over a service without an engine, on a thread of its own. The
 * service answers a text with [its length, its index]; "hold…" once it is told to, "full…" with
 * PR_E_OVERLOADED, "wide…" with a row of 1 MiB. Whatever waits gives up after 10 s. */
#include "server/socket/socket_server.h"

#include "runtime/wire/frame.h"
#include "runtime/wire/rpc_answer.h"
#include "runtime/wire/rpc_info.h"
#include "runtime/wire/rpc_request.h"
#include "runtime/wire/rpc_rows.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATIENCE_S = 10, WIDE = 1 << 18, HELD_MAX = 2048 };

struct pr_service {
    uv_loop_t loop;
    uv_async_t order;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    void (*action)(pr_service *s); /* for the loop thread; NULL: none, or done */
    int n_begun, n_cancelled, is_idle, n_open;
    pr_call *held[HELD_MAX]; /* loop thread */
    int n_held;
    pr_call *due[HELD_MAX]; /* done is called when the loop turns */
    int n_due;
    pr_config config;
    pr_api_keys *keys;
    pr_socket_server *server;
    size_t n_left; /* of left_count */
    char path[64];
};

/* ---- the service ---- */

static void due_add(pr_service *s, pr_call *call)
{
    assert_true(s->n_due < HELD_MAX);
    s->due[s->n_due++] = call;
    uv_async_send(&s->order);
}

static void results_make(pr_call *call)
{
    call->results = calloc(call->n_items, sizeof *call->results);
    for (size_t i = 0; i < call->n_items; i++) {
        pr_result *r = call->results[i] = calloc(1, sizeof *r);
        bool is_wide = strncmp(call->items[i].text, "wide", 4) == 0;
        r->n_prompt_tokens = 7;
        r->n_rows = 1;
        r->n_columns = is_wide ? WIDE : 2;
        r->data = calloc(r->n_columns, sizeof *r->data);
        r->data[0] = (float)call->items[i].n_text;
        r->data[1] = (float)i;
    }
}

void pr_service_call_begin(pr_service *s, pr_call *call)
{
    const char *text = call->items[0].text;
    pthread_mutex_lock(&s->lock);
    s->n_begun++;
    s->n_open++;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    if (strncmp(text, "hold", 4) == 0) {
        s->held[s->n_held++] = call;
        return;
    }
    if (strncmp(text, "full", 4) == 0) {
        pr_error_set(&call->error, PR_E_OVERLOADED, "the queue is full");
        call->retry_after_s = 9;
    } else {
        results_make(call);
    }
    due_add(s, call);
}

void pr_service_call_cancel(pr_service *s, pr_call *call)
{
    for (int i = 0; i < s->n_held; i++) {
        if (s->held[i] != call) continue;
        s->held[i] = s->held[--s->n_held];
        pr_error_set(&call->error, PR_E_CANCELLED, "the client has left");
        pthread_mutex_lock(&s->lock);
        s->n_cancelled++;
        pthread_mutex_unlock(&s->lock);
        due_add(s, call);
        return;
    }
}

const pr_service_model *pr_service_model_of(const pr_service *s)
{
    static const char *const names[] = {"fake"};
    static const pr_service_model model = {.names = names, .n_names = 1};
    (void)s;
    return &model;
}

bool pr_service_model_is_known(const pr_service *s, const char *name)
{
    (void)s;
    return strcmp(name, "fake") == 0;
}

pr_service_state pr_service_state_now(const pr_service *s)
{
    (void)s;
    return PR_SERVICE_READY;
}

const char *pr_service_state_name(pr_service_state state)
{
    (void)state;
    return "ready";
}

void pr_service_stats(const pr_service *s, pr_engine_stats *out)
{
    (void)s;
    memset(out, 0, sizeof *out);
}

size_t pr_service_n_calls(const pr_service *s)
{
    return (size_t)s->n_open;
}

void pr_metrics_request(pr_metrics *m, size_t i_route, int code, double seconds)
{
    (void)m, (void)i_route, (void)code, (void)seconds;
}

void pr_metrics_item(pr_metrics *m, size_t i_route, uint32_t n, const double s[PR_STAGE_COUNT])
{
    (void)m, (void)i_route, (void)n, (void)s;
}

void pr_metrics_rejected(pr_metrics *m, pr_status reason)
{
    (void)m, (void)reason;
}

void pr_metrics_connections(pr_metrics *m, int32_t n_change)
{
    (void)m, (void)n_change;
}

/* ---- the loop's thread ---- */

static void on_order(uv_async_t *order)
{
    pr_service *s = order->data;
    for (int n = s->n_due; n > 0; n--) {
        pr_call *call = s->due[0];
        memmove(s->due, s->due + 1, (size_t)--s->n_due * sizeof *s->due);
        s->n_open--;
        call->done(call);
    }
    pthread_mutex_lock(&s->lock);
    void (*action)(pr_service *) = s->action;
    pthread_mutex_unlock(&s->lock);
    if (action) action(s);
    pthread_mutex_lock(&s->lock);
    if (action) s->action = NULL;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    if (s->n_due > 0) uv_async_send(order);
}

static void on_idle(void *context)
{
    pr_service *s = context;
    pthread_mutex_lock(&s->lock);
    s->is_idle = 1;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static void *thread_main(void *context)
{
    pr_service *s = context;
    uv_run(&s->loop, UV_RUN_DEFAULT);
    return NULL;
}

static struct timespec deadline(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += PATIENCE_S;
    return t;
}

static int count_now(pr_service *s, const int *count)
{
    pthread_mutex_lock(&s->lock);
    int n = *count;
    pthread_mutex_unlock(&s->lock);
    return n;
}

/* Waits until *count is n. */
static void wait_count(pr_service *s, const int *count, int n)
{
    struct timespec t = deadline();
    pthread_mutex_lock(&s->lock);
    while (*count != n && pthread_cond_timedwait(&s->changed, &s->lock, &t) == 0) {}
    int found = *count;
    pthread_mutex_unlock(&s->lock);
    assert_int_equal(found, n);
}

/* Runs action on the loop thread and waits for its end. */
static void order(pr_service *s, void (*action)(pr_service *s))
{
    struct timespec t = deadline();
    pthread_mutex_lock(&s->lock);
    s->action = action;
    uv_async_send(&s->order);
    while (s->action && pthread_cond_timedwait(&s->changed, &s->lock, &t) == 0) {}
    bool is_done = !s->action;
    pthread_mutex_unlock(&s->lock);
    assert_true(is_done);
}

static void nothing(pr_service *s)
{
    (void)s;
}

static void release(pr_service *s)
{
    while (s->n_held > 0) {
        pr_call *call = s->held[--s->n_held];
        results_make(call);
        due_add(s, call);
    }
}

static void refuse(pr_service *s)
{
    pr_socket_server_refuse(s->server);
}

static void left_count(pr_service *s)
{
    s->n_left = pr_socket_server_n_requests(s->server);
}

static void end(pr_service *s)
{
    pr_socket_server_close(s->server);
    uv_close((uv_handle_t *)&s->order, NULL);
}

static int setup(void **state)
{
    pr_service *s = calloc(1, sizeof *s);
    pr_error err = {0};
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    uv_loop_init(&s->loop);
    uv_async_init(&s->loop, &s->order, on_order);
    s->order.data = s;
    snprintf(s->path, sizeof s->path, "unix:///tmp/poolrank-socket-%ld", (long)getpid());
    s->config = (pr_config){.socket = s->path, .max_client_batch_size = 64,
                            .max_body_bytes = 1 << 20, .max_connections = 3, .read_timeout = 60,
                            .idle_timeout = 60};
    pr_socket_server_config config = {.loop = &s->loop, .config = &s->config, .service = s,
                                      .keys = s->keys, .idle = on_idle, .context = s};
    assert_int_equal(pr_api_keys_open(NULL, NULL, NULL, 0, &s->keys, &err), PR_OK);
    config.keys = s->keys;
    assert_int_equal(pr_socket_server_open(&config, &s->server, &err), PR_OK);
    assert_int_equal(pthread_create(&s->thread, NULL, thread_main, s), 0);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    pr_service *s = *state;
    order(s, release);
    for (int i = 0; i < 4; i++) order(s, nothing);
    order(s, end);
    pthread_join(s->thread, NULL);
    assert_int_equal(uv_loop_close(&s->loop), 0);
    pr_api_keys_free(s->keys);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->changed);
    free(s);
    return 0;
}

/* ---- a client ---- */

typedef struct client {
    int fd;
    pr_frame_reader reader;
} client;

static void client_send(client *c, const pr_buffer *frame)
{
    for (size_t at = 0; at < frame->n;) {
        ssize_t n = send(c->fd, frame->data + at, frame->n - at, MSG_NOSIGNAL);
        assert_true(n > 0);
        at += (size_t)n;
    }
}

/* The next message but "alive"; payload NULL: the server has closed. */
static pr_rpc_head client_receive(client *c, const char **payload, size_t *n)
{
    static char bytes[1 << 16];
    pr_rpc_head head = {.kind = PR_RPC_KIND_COUNT};
    for (;;) {
        assert_int_equal(pr_frame_reader_next(&c->reader, payload, n, NULL), PR_OK);
        if (*payload) {
            assert_int_equal(pr_rpc_head_read(*payload, *n, &head, NULL), PR_OK);
            if (head.kind != PR_RPC_ALIVE) return head;
            continue;
        }
        ssize_t got = recv(c->fd, bytes, sizeof bytes, 0);
        if (got <= 0) return head;
        assert_int_equal(pr_frame_reader_feed(&c->reader, bytes, (size_t)got, NULL), PR_OK);
    }
}

static void client_connect(pr_service *s, client *c)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    const struct timeval patience = {.tv_sec = PATIENCE_S};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", s->path + strlen("unix://"));
    c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(connect(c->fd, (struct sockaddr *)&a, sizeof a), 0);
    pr_frame_reader_init(&c->reader, PR_FRAME_BYTES_MAX);
}

static void client_open(pr_service *s, client *c)
{
    pr_buffer frame;
    const char *payload;
    size_t n;
    const pr_rpc_hello hello = {0};
    client_connect(s, c);
    pr_buffer_init(&frame);
    assert_int_equal(pr_rpc_hello_pack(&hello, &frame, NULL), PR_OK);
    client_send(c, &frame);
    pr_buffer_deinit(&frame);
    assert_int_equal(client_receive(c, &payload, &n).kind, PR_RPC_HELLO);
}

static void client_close(client *c)
{
    close(c->fd);
    pr_frame_reader_deinit(&c->reader);
}

static void client_ask(client *c, pr_rpc_kind kind, uint64_t id, const char *text)
{
    pr_buffer frame;
    pr_rpc_item item = {.text = text, .n_text = text ? strlen(text) : 0};
    pr_rpc_request q = {.kind = kind, .id = id, .items = &item, .n_items = 1};
    pr_rpc_params_init(&q.params);
    pr_buffer_init(&frame);
    assert_int_equal(pr_rpc_request_pack(&q, &frame, NULL), PR_OK);
    client_send(c, &frame);
    pr_buffer_deinit(&frame);
}

static void expect_answer(client *c, uint64_t id, float first)
{
    const char *payload;
    size_t n;
    float value;
    pr_rpc_answer answer;
    assert_int_equal(client_receive(c, &payload, &n).kind, PR_RPC_ANSWER);
    assert_int_equal(pr_rpc_answer_unpack(payload, n, &answer, NULL), PR_OK);
    assert_int_equal(answer.id, id);
    memcpy(&value, answer.data.bytes, sizeof value);
    assert_true(value == first);
    pr_rpc_answer_deinit(&answer);
}

static pr_rpc_error expect_error(client *c, pr_status status)
{
    const char *payload;
    size_t n;
    pr_rpc_error error;
    assert_int_equal(client_receive(c, &payload, &n).kind, PR_RPC_ERROR);
    assert_int_equal(pr_rpc_error_unpack(payload, n, &error, NULL), PR_OK);
    assert_int_equal(error.status, status);
    return error;
}

static void expect_end(client *c)
{
    const char *payload;
    size_t n;
    client_receive(c, &payload, &n);
    assert_null(payload);
}

/* ---- tests ---- */

static void answers_come_as_they_are_ready(void **state)
{
    pr_service *s = *state;
    client c;
    client_open(s, &c);
    client_ask(&c, PR_RPC_EMBED, 1, "hold");
    client_ask(&c, PR_RPC_EMBED, 2, "a text");
    expect_answer(&c, 2, 6);
    order(s, release);
    expect_answer(&c, 1, 4);
    client_close(&c);
}

static void a_refusal_says_when_to_try_again(void **state)
{
    client c;
    client_open(*state, &c);
    client_ask(&c, PR_RPC_EMBED, 5, "full");
    pr_rpc_error error = expect_error(&c, PR_E_OVERLOADED);
    assert_true(error.has_id && error.id == 5 && error.retry_after_s == 9);
    client_close(&c);
}

static void a_cancelled_request_is_answered_once(void **state)
{
    pr_service *s = *state;
    client c;
    client_open(s, &c);
    client_ask(&c, PR_RPC_EMBED, 1, "hold");
    wait_count(s, &s->n_begun, 1);
    client_ask(&c, PR_RPC_CANCEL, 1, NULL);
    expect_error(&c, PR_E_CANCELLED);
    client_ask(&c, PR_RPC_CANCEL, 1, NULL); /* it is over */
    client_ask(&c, PR_RPC_EMBED, 1, "ab");  /* and its id may be used again */
    expect_answer(&c, 1, 2);
    client_close(&c);
}

static void calls_of_a_client_that_leaves_are_cancelled(void **state)
{
    pr_service *s = *state;
    client c;
    client_open(s, &c);
    for (uint64_t id = 1; id <= 3; id++) client_ask(&c, PR_RPC_EMBED, id, "hold");
    wait_count(s, &s->n_begun, 3);
    client_close(&c);
    wait_count(s, &s->n_cancelled, 3);
}

static void a_client_that_sends_no_more_gets_its_answers(void **state)
{
    pr_service *s = *state;
    client c;
    client_open(s, &c);
    client_ask(&c, PR_RPC_EMBED, 1, "hold");
    wait_count(s, &s->n_begun, 1);
    shutdown(c.fd, SHUT_WR);
    for (int i = 0; i < 3; i++) order(s, nothing);
    order(s, release);
    expect_answer(&c, 1, 4);
    expect_end(&c);
    client_close(&c);
    assert_int_equal(count_now(s, &s->n_cancelled), 0);
}

static void an_id_that_is_open_closes_the_connection(void **state)
{
    pr_service *s = *state;
    client c;
    client_open(s, &c);
    client_ask(&c, PR_RPC_EMBED, 1, "hold");
    client_ask(&c, PR_RPC_EMBED, 1, "hold");
    assert_false(expect_error(&c, PR_E_INPUT).has_id);
    wait_count(s, &s->n_cancelled, 1);
    expect_end(&c);
    client_close(&c);
}

static void requests_over_the_bound_of_a_connection_are_refused(void **state)
{
    pr_service *s = *state;
    client c;
    client_open(s, &c);
    for (uint64_t id = 0; id < PR_RPC_REQUESTS_MAX; id++) {
        client_ask(&c, PR_RPC_EMBED, id, "hold");
    }
    client_ask(&c, PR_RPC_EMBED, PR_RPC_REQUESTS_MAX, "one more");
    assert_int_equal(expect_error(&c, PR_E_OVERLOADED).id, PR_RPC_REQUESTS_MAX);
    client_close(&c);
    wait_count(s, &s->n_cancelled, PR_RPC_REQUESTS_MAX);
}

static void a_client_that_does_not_read_is_not_read_from(void **state)
{
    enum { N = 12 };
    pr_service *s = *state;
    client c;
    client_open(s, &c);
    for (uint64_t id = 0; id < N; id++) client_ask(&c, PR_RPC_EMBED, id, "wide");
    wait_count(s, &s->n_begun, N);
    time_t end_s = time(NULL) + PATIENCE_S; /* until all is packed, and the rest only unsent */
    do {
        order(s, left_count);
    } while (s->n_left > 1 && time(NULL) < end_s);
    assert_int_equal(s->n_left, 1);
    client_ask(&c, PR_RPC_EMBED, N, "abc");
    for (int i = 0; i < 20; i++) order(s, nothing);
    assert_int_equal(count_now(s, &s->n_begun), N);
    for (uint64_t i = 0; i < N; i++) {
        const char *payload;
        size_t n;
        assert_int_equal(client_receive(&c, &payload, &n).kind, PR_RPC_ANSWER);
        assert_true(n > WIDE * sizeof(float));
    }
    expect_answer(&c, N, 3);
    client_close(&c);
}

static void draining_finishes_what_is_open(void **state)
{
    pr_service *s = *state;
    client busy, idle;
    client_open(s, &busy);
    client_open(s, &idle);
    client_ask(&busy, PR_RPC_EMBED, 1, "hold");
    wait_count(s, &s->n_begun, 1);
    order(s, refuse);
    assert_false(expect_error(&idle, PR_E_UNAVAILABLE).has_id);
    expect_end(&idle);
    order(s, left_count);
    assert_int_equal(s->n_left, 1);
    order(s, release);
    expect_answer(&busy, 1, 4);
    expect_error(&busy, PR_E_UNAVAILABLE);
    expect_end(&busy);
    wait_count(s, &s->is_idle, 1);
    client_close(&busy);
    client_close(&idle);
}

static void connections_over_the_bound_are_closed(void **state)
{
    pr_service *s = *state;
    client c[3], more;
    for (int i = 0; i < 3; i++) client_open(s, &c[i]);
    client_connect(s, &more);
    expect_end(&more);
    client_ask(&c[2], PR_RPC_EMBED, 1, "ab");
    expect_answer(&c[2], 1, 2);
    client_close(&more);
    for (int i = 0; i < 3; i++) client_close(&c[i]);
}

static void frames_in_small_pieces_are_put_together(void **state)
{
    pr_buffer frame;
    client c;
    pr_rpc_item item = {.text = "abcd", .n_text = 4};
    pr_rpc_request q = {.kind = PR_RPC_EMBED, .id = 1, .items = &item, .n_items = 1};
    client_open(*state, &c);
    pr_rpc_params_init(&q.params);
    pr_buffer_init(&frame);
    assert_int_equal(pr_rpc_request_pack(&q, &frame, NULL), PR_OK);
    for (size_t i = 0; i < frame.n; i++) assert_int_equal(send(c.fd, frame.data + i, 1, 0), 1);
    expect_answer(&c, 1, 4);
    pr_buffer_deinit(&frame);
    client_close(&c);
}

static void addresses_that_are_none_are_refused(void **state)
{
    static const char *const addresses[] = {"", "tcp://", "tcp://host", "tcp://:1", "tcp://a:b",
                                            "tcp://::1:8001", "tcp://1.2.3.4:99999", "unix://a",
                                            "http://localhost:1", "tcp://127.0.0.1:1x"};
    pr_service *s = *state;
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        pr_error err;
        pr_config config = s->config;
        pr_socket_server *server = NULL;
        config.socket = (char *)addresses[i];
        const pr_socket_server_config c = {.loop = &s->loop, .config = &config, .service = s};
        assert_int_equal(pr_socket_server_open(&c, &server, &err), PR_E_ARGUMENT);
        assert_non_null(strstr(err.message, "socket: "));
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(answers_come_as_they_are_ready),
        TEST(a_refusal_says_when_to_try_again),
        TEST(a_cancelled_request_is_answered_once),
        TEST(calls_of_a_client_that_leaves_are_cancelled),
        TEST(a_client_that_sends_no_more_gets_its_answers),
        TEST(an_id_that_is_open_closes_the_connection),
        TEST(requests_over_the_bound_of_a_connection_are_refused),
        TEST(a_client_that_does_not_read_is_not_read_from),
        TEST(draining_finishes_what_is_open),
        TEST(connections_over_the_bound_are_closed),
        TEST(frames_in_small_pieces_are_put_together),
        TEST(addresses_that_are_none_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
