/* The C client against servers that say what each test wants, on a thread and a Unix socket. */
#include "include/poolrank/client.h"
#include "runtime/wire/frame.h"
#include "runtime/wire/rpc_answer.h"
#include "runtime/wire/rpc_info.h"
#include "runtime/wire/rpc_request.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATIENCE_S = 10 };

typedef struct fake_server {
    int listener, fd;
    pr_frame_reader reader;
    pthread_t thread;
    void (*script)(struct fake_server *f); /* behind the greeting; NULL: it is refused */
    char path[64], address[80];
} fake_server;

/* ---- the server's side; on its thread ---- */

static void frame_send(fake_server *f, pr_buffer *frame)
{
    ssize_t n = send(f->fd, frame->data, frame->n, MSG_NOSIGNAL);
    (void)n; /* a client that has gone is what a test may be about */
    pr_buffer_deinit(frame);
}

/* The id of the next message; 0: the client has closed. */
static uint64_t message_read(fake_server *f)
{
    char bytes[4096];
    const char *payload = NULL;
    size_t n = 0;
    pr_rpc_head head;
    while (pr_frame_reader_next(&f->reader, &payload, &n, NULL) == PR_OK && !payload) {
        ssize_t got = recv(f->fd, bytes, sizeof bytes, 0);
        if (got <= 0) return 0;
        pr_frame_reader_feed(&f->reader, bytes, (size_t)got, NULL);
    }
    return pr_rpc_head_read(payload, n, &head, NULL) == PR_OK ? head.id : 0;
}

static void hello_send(fake_server *f)
{
    pr_buffer frame;
    const pr_rpc_info info = {.server = {"fake", 4}, .state = {"ready", 5}, .model = {"m", 1},
                              .is_loaded = true, .task = PR_TASK_EMBED, .pooling = {"CLS", 3},
                              .dimensions = 2, .frame_bytes_max = 1000};
    pr_buffer_init(&frame);
    pr_rpc_info_pack(PR_RPC_HELLO, &info, &frame, NULL);
    frame_send(f, &frame);
}

static void error_send(fake_server *f, bool has_id, uint64_t id, pr_status st, const char *message)
{
    pr_buffer frame;
    const pr_rpc_error error = {.has_id = has_id, .id = id, .status = st, .message = message,
                                .n_message = strlen(message), .retry_after_s = 4, .i_item = 1};
    pr_buffer_init(&frame);
    pr_rpc_error_pack(&error, &frame, NULL);
    frame_send(f, &frame);
}

/* Two items: one with a row [id, 0.5], one that failed. */
static void answer_send(fake_server *f, uint64_t id)
{
    pr_buffer frame;
    const float row[] = {(float)id, 0.5f};
    const pr_rpc_span spans[] = {{row, 1}, {NULL, 0}};
    const uint32_t n_prompt_tokens[] = {3, 0};
    const pr_rpc_item_error error = {.i_item = 1, .status = PR_E_TOO_LONG, .message = "long",
                                     .n_message = 4};
    const pr_rpc_answer_out out = {.id = id, .request_id = "r", .n_items = 2,
                                   .n_prompt_tokens = n_prompt_tokens,
                                   .data = {PR_RPC_F16, 2, spans}, .errors = &error, .n_errors = 1};
    pr_buffer_init(&frame);
    pr_rpc_answer_pack(&out, &frame, NULL);
    frame_send(f, &frame);
}

static void *server_main(void *context)
{
    fake_server *f = context;
    f->fd = accept(f->listener, NULL, NULL);
    const struct timeval patience = {.tv_sec = PATIENCE_S};
    setsockopt(f->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    message_read(f);
    if (f->script) {
        hello_send(f);
        f->script(f);
    } else {
        error_send(f, false, 0, PR_E_ARGUMENT, "hello: key: no such key");
    }
    close(f->fd);
    return NULL;
}

static void server_start(fake_server *f, void (*script)(fake_server *f))
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    memset(f, 0, sizeof *f);
    f->script = script;
    snprintf(f->path, sizeof f->path, "/tmp/poolrank-client-%ld", (long)getpid());
    snprintf(f->address, sizeof f->address, "unix://%s", f->path);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", f->path);
    unlink(f->path);
    f->listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(f->listener, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(f->listener, 1), 0);
    pr_frame_reader_init(&f->reader, 1 << 20);
    assert_int_equal(pthread_create(&f->thread, NULL, server_main, f), 0);
}

static void server_end(fake_server *f)
{
    pthread_join(f->thread, NULL);
    close(f->listener);
    unlink(f->path);
    pr_frame_reader_deinit(&f->reader);
}

/* ---- tests ---- */

static const pr_client_input inputs[] = {{.text = "a", .n_text = 1}, {.text = "b", .n_text = 1}};

static void ask_two_backwards(fake_server *f)
{
    uint64_t first = message_read(f), second = message_read(f);
    answer_send(f, second);
    answer_send(f, first);
    message_read(f);
}

static void answers_in_any_order_find_their_requests(void **state)
{
    (void)state;
    fake_server f;
    pr_client *c = NULL;
    pr_client_answer *one = NULL, *two = NULL;
    uint64_t id = 0;
    server_start(&f, ask_two_backwards);
    assert_int_equal(pr_client_open(f.address, NULL, &c, NULL), PR_OK);
    assert_int_equal(pr_client_send(c, PR_CLIENT_EMBED, inputs, 2, NULL, &id, NULL), PR_OK);
    assert_int_equal(pr_client_embed(c, inputs, 2, NULL, &two, NULL), PR_OK);
    assert_int_equal(pr_client_n_open(c), 1);
    assert_int_equal(pr_client_receive(c, &one, NULL), PR_OK);
    assert_true(one->id == id && one->data[0] == (float)id && two->data[0] == (float)(id + 1));
    assert_true(two->data[1] == 0.5f && two->n_rows == 1 && two->n_columns == 2);
    assert_true(two->row_begin[1] == 1 && two->row_begin[2] == 1);
    assert_true(two->statuses[0] == PR_OK && two->statuses[1] == PR_E_TOO_LONG);
    assert_string_equal(two->messages[1], "long");
    assert_string_equal(two->request_id, "r");
    assert_true(two->n_prompt_tokens[0] == 3);
    assert_int_equal(pr_client_receive(c, &one, NULL), PR_E_ARGUMENT); /* none is due */
    pr_client_answer_free(one);
    pr_client_answer_free(two);
    pr_client_close(c);
    server_end(&f);
}

static void refuse_two(fake_server *f)
{
    for (int i = 0; i < 2; i++) error_send(f, true, message_read(f), PR_E_OVERLOADED, "full");
    message_read(f);
}

static void a_refused_request_says_why(void **state)
{
    (void)state;
    fake_server f;
    pr_client *c = NULL;
    pr_client_answer *answer = NULL;
    pr_error err;
    uint64_t id = 0;
    server_start(&f, refuse_two);
    assert_int_equal(pr_client_open(f.address, NULL, &c, NULL), PR_OK);
    assert_int_equal(pr_client_embed(c, inputs, 2, NULL, &answer, &err), PR_E_OVERLOADED);
    assert_string_equal(err.message, "input 1: full");
    assert_int_equal(pr_client_send(c, PR_CLIENT_EMBED, inputs, 2, NULL, &id, NULL), PR_OK);
    assert_int_equal(pr_client_receive(c, &answer, NULL), PR_OK);
    assert_true(answer->status == PR_E_OVERLOADED && answer->retry_after_s == 4);
    assert_true(answer->i_input == 1 && answer->id == id && !answer->data);
    pr_client_answer_free(answer);
    pr_client_close(c);
    server_end(&f);
}

static void close_at_once(fake_server *f)
{
    message_read(f);
}

static void stay_silent(fake_server *f)
{
    while (message_read(f)) {}
}

static void answer_another(fake_server *f)
{
    answer_send(f, message_read(f) + 1);
    message_read(f);
}

static void drain(fake_server *f)
{
    message_read(f);
    error_send(f, false, 0, PR_E_UNAVAILABLE, "the server is draining");
}

static void send_garbage(fake_server *f)
{
    message_read(f);
    ssize_t n = send(f->fd, "\5\0\0\0hello", 9, MSG_NOSIGNAL);
    (void)n;
}

static void a_broken_connection_stays_broken(void **state)
{
    (void)state;
    static const struct {
        void (*script)(fake_server *f);
        pr_status status;
        const char *says;
    } cases[] = {
        {close_at_once, PR_E_IO, "closed"},
        {stay_silent, PR_E_TIMEOUT, "50 ms"},
        {answer_another, PR_E_INPUT, "not sent"},
        {drain, PR_E_UNAVAILABLE, "draining"},
        {send_garbage, PR_E_INPUT, "message"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fake_server f;
        pr_client *c = NULL;
        pr_client_answer *answer = NULL;
        pr_error err = {0};
        pr_client_options options;
        pr_client_options_init(&options);
        options.timeout_ms = cases[i].status == PR_E_TIMEOUT ? 50 : PATIENCE_S * 1000;
        server_start(&f, cases[i].script);
        assert_int_equal(pr_client_open(f.address, &options, &c, NULL), PR_OK);
        for (int again = 0; again < 2; again++) {
            assert_int_equal(pr_client_embed(c, inputs, 2, NULL, &answer, &err), cases[i].status);
            if (!strstr(err.message, cases[i].says)) fail_msg("%s", err.message);
        }
        assert_int_equal(pr_client_ping(c, NULL), cases[i].status);
        pr_client_close(c);
        server_end(&f);
    }
}

static void a_key_that_is_wrong_is_said_at_open(void **state)
{
    (void)state;
    fake_server f;
    pr_client *c = NULL;
    pr_error err;
    server_start(&f, NULL);
    assert_int_equal(pr_client_open(f.address, NULL, &c, &err), PR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "no such key"));
    assert_null(c);
    server_end(&f);
}

static void what_cannot_be_sent_is_refused_here(void **state)
{
    (void)state;
    fake_server f;
    pr_client *c = NULL;
    pr_client_answer *answer = NULL;
    pr_client_params params = {0};
    static char text[2000];
    const pr_client_input none = {0}, large = {.text = text, .n_text = sizeof text};
    server_start(&f, stay_silent);
    assert_int_equal(pr_client_open(f.address, NULL, &c, NULL), PR_OK);
    assert_int_equal(pr_client_embed(c, inputs, 0, NULL, &answer, NULL), PR_E_ARGUMENT);
    assert_int_equal(pr_client_embed(c, &none, 1, NULL, &answer, NULL), PR_E_ARGUMENT);
    assert_int_equal(pr_client_embed(c, inputs, 1, &params, &answer, NULL), PR_E_ARGUMENT);
    assert_int_equal(pr_client_embed(c, &large, 1, NULL, &answer, NULL), PR_E_TOO_LARGE);
    assert_int_equal(pr_client_n_open(c), 0);
    pr_client_close(c);
    server_end(&f);
}

/* What a program sees that was compiled with another version of the header. */
static void structs_of_another_version_are_taken_or_refused(void **state)
{
    (void)state;
    fake_server f;
    pr_client *c = NULL;
    pr_client_answer *answer = NULL;
    pr_error err;
    struct {
        pr_client_options options;
        char more[16];
    } new;
    pr_client_options_init_size(&new.options, sizeof new);
    assert_int_equal(pr_client_open("unix:///nobody", &new.options, &c, &err), PR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "pr_client_options: found a struct of"));
    assert_non_null(strstr(err.message, "compiled for a newer version"));
    volatile size_t old_bytes = offsetof(pr_client_params, wait_ms);
    pr_client_params *old = malloc(old_bytes); /* the sanitizer sees whoever goes over it */
    assert_non_null(old);
    pr_client_params_init_size(old, old_bytes);
    assert_int_equal(old->normalize, -1);
    server_start(&f, refuse_two);
    assert_int_equal(pr_client_open(f.address, NULL, &c, NULL), PR_OK);
    for (int i = 0; i < 2; i++) { /* it comes to the server, who says no */
        assert_int_equal(pr_client_embed(c, inputs, 2, old, &answer, NULL), PR_E_OVERLOADED);
    }
    old->struct_bytes = sizeof *old + 8;
    assert_int_equal(pr_client_embed(c, inputs, 2, old, &answer, &err), PR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "pr_client_params: found a struct of"));
    free(old);
    pr_client_close(c);
    server_end(&f);
}

static void addresses_that_are_none_are_refused(void **state)
{
    (void)state;
    static const char *const addresses[] = {"", "localhost:1", "tcp://", "tcp://a", "tcp://:1",
                                            "tls://a:b", "unix://a", "http://a:1"};
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        pr_client *c = NULL;
        assert_int_equal(pr_client_open(addresses[i], NULL, &c, NULL), PR_E_ARGUMENT);
    }
    pr_client *c = NULL;
    assert_int_equal(pr_client_open("unix:///nobody/is/here", NULL, &c, NULL), PR_E_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_in_any_order_find_their_requests),
        cmocka_unit_test(a_refused_request_says_why),
        cmocka_unit_test(a_broken_connection_stays_broken),
        cmocka_unit_test(a_key_that_is_wrong_is_said_at_open),
        cmocka_unit_test(what_cannot_be_sent_is_refused_here),
        cmocka_unit_test(structs_of_another_version_are_taken_or_refused),
        cmocka_unit_test(addresses_that_are_none_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
