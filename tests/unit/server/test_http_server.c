/* The HTTP transport, as clients on loopback see it: requests and answers, keys, listeners, drain.
 * Limits: test_http_limits.c; clients that leave, and TLS: test_http_clients.c. */
#define _GNU_SOURCE
#include "fakes/http_fixture.h"
#include "server/http/http_transport.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <jansson.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void start(http_fixture *f)
{
    http_fixture_init(f);
    if (http_fixture_start(f, "") != PR_OK) fail_msg("%s", f->err.message);
}

/* ---- requests and answers ---- */

static void a_connection_takes_many_requests(void **state)
{
    http_fixture f;
    http_client c;
    (void)state;
    start(&f);
    http_client_open(&c, f.port);
    for (int i = 0; i < 100; i++) {
        http_client_post(&c, "/work", "", "items=3");
        http_client_expect(&c, 200, "items=3");
    }
    assert_int_equal(fake_service_get(f.fake, FAKE_CONNECTIONS), 1);
    assert_int_equal(fake_service_get(f.fake, FAKE_BEGUN), 100);
    assert_int_equal(fake_service_get(f.fake, FAKE_ITEMS), 300);
    http_client_close(&c);
    http_fixture_stop(&f);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    http_fixture f;
    http_client c;
    char body[32];
    (void)state;
    start(&f);
    http_client_open(&c, f.port);
    for (int i = 1; i <= 20; i++) {
        snprintf(body, sizeof body, "items=%d", i);
        http_client_post(&c, i % 3 ? "/work" : "/echo", "", body);
    }
    for (int i = 1; i <= 20; i++) {
        snprintf(body, sizeof body, "items=%d", i);
        http_client_expect(&c, 200, body);
    }
    http_client_close(&c);
    http_fixture_stop(&f);
}

static void many_clients_are_served_at_once(void **state)
{
    enum { N = 60 };
    http_fixture f;
    http_client c[N], other;
    (void)state;
    start(&f);
    for (int i = 0; i < N; i++) {
        http_client_open(&c[i], f.port);
        http_client_post(&c[i], "/work", "", "hold items=2");
    }
    fake_service_wait(f.fake, FAKE_HELD, N);
    http_client_open(&other, f.port);
    http_client_get(&other, "/health", "");
    http_client_expect(&other, 200, "/health");
    http_client_post(&other, "/release", "", "");
    http_client_expect(&other, 200, "/release");
    for (int i = 0; i < N; i++) {
        http_client_expect(&c[i], 200, "items=2");
        http_client_close(&c[i]);
    }
    http_client_close(&other);
    http_fixture_stop(&f);
}

static void head_is_get_without_a_body(void **state)
{
    http_fixture f;
    http_client c;
    http_reply reply;
    (void)state;
    start(&f);
    http_client_open(&c, f.port);
    http_client_say(&c, "HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n");
    http_client_read(&c, &reply, true);
    assert_int_equal(reply.status, 200);
    assert_true(http_reply_has(&reply, "Content-Length: 7\r\n"));
    http_reply_free(&reply);
    http_client_get(&c, "/health", "");
    http_client_expect(&c, 200, "/health");
    http_client_close(&c);
    http_fixture_stop(&f);
}

static void unknown_paths_and_methods_leave_the_connection_open(void **state)
{
    http_fixture f;
    http_client c;
    http_reply reply;
    (void)state;
    start(&f);
    http_client_open(&c, f.port);
    http_client_post(&c, "/nothing", "", "a body that is read over");
    http_client_expect(&c, 404, "no such path");
    http_client_get(&c, "/work?query=1", "");
    http_client_read(&c, &reply, false);
    assert_int_equal(reply.status, 405);
    assert_true(http_reply_has(&reply, "\r\nAllow: POST\r\n"));
    http_reply_free(&reply);
    http_client_say(&c, "BREW /health HTTP/1.1\r\nHost: x\r\n\r\n");
    http_client_expect(&c, 405, "");
    http_client_post(&c, "/work?query=1", "", "items=4");
    http_client_expect(&c, 200, "items=4");
    http_client_close(&c);
    http_fixture_stop(&f);
}

static void chunked_bodies_arrive_whole(void **state)
{
    http_fixture f;
    http_client c;
    (void)state;
    start(&f);
    http_client_open(&c, f.port);
    http_client_say(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                        "5\r\nhello\r\n");
    http_client_say(&c, "7\r\n, world\r\n0\r\nTrailer: x\r\n\r\n");
    http_client_expect(&c, 200, "hello, world");
    http_client_close(&c);
    http_fixture_stop(&f);
}

static void a_client_that_asks_is_told_to_continue(void **state)
{
    http_fixture f;
    http_client c;
    (void)state;
    start(&f);
    http_client_open(&c, f.port);
    http_client_say(&c, "POST /work HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n"
                        "Expect: 100-continue\r\n\r\n");
    http_client_expect(&c, 100, "");
    http_client_say(&c, "items=2");
    http_client_expect(&c, 200, "items=2");
    /* One that would be refused is not. */
    http_client_say(&c, "POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n"
                        "Expect: 100-continue\r\n\r\n");
    http_client_expect(&c, 404, "");
    http_client_expect_closed(&c);
    http_client_close(&c);
    http_fixture_stop(&f);
}

static void http_1_0_closes_unless_asked(void **state)
{
    http_fixture f;
    http_client c;
    (void)state;
    start(&f);
    http_client_open(&c, f.port);
    http_client_say(&c, "POST /work HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 7\r\n\r\n"
                        "items=1");
    http_client_expect(&c, 200, "items=1");
    http_client_say(&c, "GET /health HTTP/1.0\r\n\r\n");
    http_client_expect(&c, 200, "/health");
    http_client_expect_closed(&c);
    http_client_close(&c);
    http_fixture_stop(&f);
}

static void large_bodies_and_answers_go_by_pool_threads(void **state)
{
    enum { N = 600000 };
    http_fixture f;
    http_client c;
    http_reply reply;
    char *body = malloc(N + 1);
    (void)state;
    start(&f);
    memset(body, ' ', N);
    body[N] = '\0';
    memcpy(body, "items=3 floats=3000000", 22);
    http_client_open(&c, f.port);
    http_client_post(&c, "/work", "", body);
    http_client_read(&c, &reply, false);
    assert_int_equal(reply.status, 200);
    assert_int_equal(reply.n_body, 9000000 + 7);
    http_reply_free(&reply);
    memcpy(body, "bad", 3);
    http_client_post(&c, "/work", "", body);
    http_client_expect(&c, 400, "bad");
    http_client_close(&c);
    http_fixture_stop(&f);
    free(body);
}

static void refusals_carry_retry_after(void **state)
{
    http_fixture f;
    http_client c;
    http_reply reply;
    (void)state;
    start(&f);
    http_client_open(&c, f.port);
    http_client_post(&c, "/work", "", "refuse");
    http_client_read(&c, &reply, false);
    assert_int_equal(reply.status, 429);
    assert_true(http_reply_has(&reply, "\r\nRetry-After: 7\r\n"));
    assert_int_equal(fake_service_get(f.fake, FAKE_REJECTED), 1);
    http_reply_free(&reply);
    http_client_close(&c);
    http_fixture_stop(&f);
}

static void request_ids_come_back(void **state)
{
    http_fixture f;
    http_client c;
    http_reply reply;
    (void)state;
    start(&f);
    http_client_open(&c, f.port);
    http_client_post(&c, "/work", "x-request-id: mine:1\r\n", "items=1");
    http_client_read(&c, &reply, false);
    assert_true(http_reply_has(&reply, "\r\nX-Request-Id: mine:1\r\n"));
    http_reply_free(&reply);
    http_client_get(&c, "/nothing", "X-Request-Id: with spaces\r\n");
    http_client_read(&c, &reply, false);
    const char *id = strcasestr(reply.head, "X-Request-Id: ");
    assert_non_null(id);
    assert_int_equal(strspn(id + 14, "0123456789abcdef"), 32);
    http_reply_free(&reply);
    http_client_close(&c);
    http_fixture_stop(&f);
}

/* ---- keys ---- */

static void a_key_guards_all_but_health(void **state)
{
    static const struct {
        const char *path, *headers;
        int status;
    } cases[] = {
        {"/health", "", 200},
        {"/metrics", "", 401},
        {"/nothing", "", 401}, /* and not 404 */
        {"/metrics", "Authorization: Bearer wrong\r\n", 401},
        {"/metrics", "Authorization: Basic c2VjcmV0\r\n", 401},
        {"/metrics", "Authorization: bearer secret\r\n", 200},
        {"/metrics", "X-API-Key: secret\r\n", 200},
        {"/metrics", "X-API-Key: secret2\r\n", 401},
        {"/nothing", "X-API-Key: secret\r\n", 404},
    };
    http_fixture f;
    http_client c;
    http_reply reply;
    (void)state;
    http_fixture_init(&f);
    assert_int_equal(http_fixture_start(&f, "secret"), PR_OK);
    http_client_open(&c, f.port);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        http_client_get(&c, cases[i].path, cases[i].headers);
        http_client_read(&c, &reply, false);
        if (reply.status != cases[i].status) {
            fail_msg("%s %s: found %d, expected %d", cases[i].path, cases[i].headers, reply.status,
                     cases[i].status);
        }
        assert_int_equal(http_reply_has(&reply, "\r\nWWW-Authenticate: "), reply.status == 401);
        http_reply_free(&reply);
    }
    http_client_post(&c, "/work", "", "items=1");
    http_client_expect(&c, 401, "");
    assert_int_equal(fake_service_get(f.fake, FAKE_BEGUN), 0);
    http_client_close(&c);
    http_fixture_stop(&f);
}

static void keys_are_exchanged_while_connections_stay(void **state)
{
    const char *key[] = {"newer"}, *name[] = {"tester"};
    http_fixture f;
    http_client c;
    (void)state;
    http_fixture_init(&f);
    assert_int_equal(http_fixture_start(&f, "older"), PR_OK);
    assert_int_equal(pr_api_keys_open(NULL, key, name, 1, &f.next_keys, NULL), PR_OK);
    http_client_open(&c, f.port);
    http_client_get(&c, "/metrics", "X-API-Key: older\r\n");
    http_client_expect(&c, 200, "");
    http_fixture_reload(&f);
    assert_int_equal(f.status, PR_OK);
    http_client_get(&c, "/metrics", "X-API-Key: older\r\n");
    http_client_expect(&c, 401, "");
    http_client_get(&c, "/metrics", "X-API-Key: newer\r\n");
    http_client_expect(&c, 200, "");
    http_client_close(&c);
    http_fixture_stop(&f);
}

/* ---- pages of other origins ---- */

static void pages_of_allowed_origins_may_call(void **state)
{
    static char origins[] = "https://a.example, https://b.example";
    http_fixture f;
    http_client c;
    http_reply reply;
    (void)state;
    http_fixture_init(&f);
    f.config.allowed_origins = origins;
    assert_int_equal(http_fixture_start(&f, "secret"), PR_OK);
    http_client_open(&c, f.port);
    http_client_say(&c, "OPTIONS /work HTTP/1.1\r\nHost: x\r\nOrigin: https://b.example\r\n"
                        "Access-Control-Request-Method: POST\r\n\r\n");
    http_client_read(&c, &reply, false);
    assert_int_equal(reply.status, 204);
    assert_true(http_reply_has(&reply, "\r\nAccess-Control-Allow-Origin: https://b.example\r\n"));
    assert_true(http_reply_has(&reply, "\r\nAccess-Control-Allow-Headers: Authorization, Content"));
    assert_true(http_reply_has(&reply, "\r\nVary: Origin\r\n"));
    http_reply_free(&reply);
    http_client_get(&c, "/metrics", "Origin: https://a.example\r\nX-API-Key: secret\r\n");
    http_client_read(&c, &reply, false);
    assert_true(http_reply_has(&reply, "\r\nAccess-Control-Allow-Origin: https://a.example\r\n"));
    http_reply_free(&reply);
    http_client_get(&c, "/health", "Origin: https://evil.example\r\n");
    http_client_read(&c, &reply, false);
    assert_false(http_reply_has(&reply, "Access-Control-Allow-Origin"));
    http_reply_free(&reply);
    http_client_close(&c);
    http_fixture_stop(&f);
}

static void without_origins_there_is_no_cors(void **state)
{
    http_fixture f;
    http_client c;
    http_reply reply;
    (void)state;
    start(&f);
    http_client_open(&c, f.port);
    http_client_say(&c, "OPTIONS /work HTTP/1.1\r\nHost: x\r\nOrigin: https://b.example\r\n"
                        "Access-Control-Request-Method: POST\r\n\r\n");
    http_client_read(&c, &reply, false);
    assert_int_equal(reply.status, 405);
    assert_false(http_reply_has(&reply, "Access-Control"));
    http_reply_free(&reply);
    http_client_close(&c);
    http_fixture_stop(&f);
}

/* ---- where it listens ---- */

static void ports_are_written_to_the_port_file(void **state)
{
    http_fixture f;
    http_client c;
    char path[PATH_MAX];
    (void)state;
    http_fixture_init(&f);
    snprintf(path, sizeof path, "%s", http_fixture_path(&f, "ports"));
    f.config.port_file = path;
    f.config.metrics_port = 0;
    assert_int_equal(http_fixture_start(&f, "secret"), PR_OK);
    json_t *ports = json_load_file(path, 0, NULL);
    assert_non_null(ports);
    assert_int_equal(json_integer_value(json_object_get(ports, "port")), f.port);
    int metrics_port = (int)json_integer_value(json_object_get(ports, "metrics_port"));
    json_decref(ports);

    /* The metrics' port: one path, no key. */
    http_client_open(&c, metrics_port);
    http_client_get(&c, "/metrics", "");
    http_client_expect(&c, 200, "/metrics");
    http_client_post(&c, "/work", "", "items=1");
    http_client_expect(&c, 404, "");
    http_client_close(&c);
    http_fixture_stop(&f);
    assert_int_equal(access(path, F_OK), -1);
}

static void a_port_that_is_taken_is_told(void **state)
{
    http_fixture f, second;
    char expected[64];
    (void)state;
    start(&f);
    http_fixture_init(&second);
    second.config.port = f.port;
    assert_int_equal(http_fixture_start(&second, ""), PR_E_IO);
    snprintf(expected, sizeof expected, "127.0.0.1, port %d: Address already in use", f.port);
    assert_non_null(strstr(second.err.message, expected));
    http_fixture_stop(&second);
    http_fixture_stop(&f);
}

static void all_addresses_take_both_families(void **state)
{
    static char every[] = "::";
    http_fixture f;
    http_client c;
    (void)state;
    http_fixture_init(&f);
    f.config.host = every;
    if (http_fixture_start(&f, "") == PR_OK) {
        http_client_open(&c, f.port);
        http_client_get(&c, "/health", "");
        http_client_expect(&c, 200, "");
        http_client_close(&c);
    } else {
        print_message("no IPv6 here: %s\n", f.err.message);
    }
    http_fixture_stop(&f);
}

static void unix_sockets_serve_and_are_removed(void **state)
{
    http_fixture f;
    http_client c;
    char path[PATH_MAX];
    struct stat st;
    (void)state;
    http_fixture_init(&f);
    snprintf(path, sizeof path, "%s", http_fixture_path(&f, "socket"));
    f.config.uds = path;
    assert_int_equal(http_fixture_start(&f, ""), PR_OK);
    assert_int_equal(lstat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0660);
    http_client_open_unix(&c, path);
    http_client_post(&c, "/work", "", "items=2");
    http_client_expect(&c, 200, "items=2");
    http_client_close(&c);
    http_fixture_stop(&f);
    assert_int_equal(access(path, F_OK), -1);
}

static int unix_listen(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static void unix_sockets_replace_only_dead_ones(void **state)
{
    http_fixture f;
    char path[PATH_MAX], too_long[200];
    (void)state;
    http_fixture_init(&f);
    snprintf(path, sizeof path, "%s", http_fixture_path(&f, "socket"));
    int fd = unix_listen(path);
    f.config.uds = path;
    assert_int_equal(http_fixture_start(&f, ""), PR_E_IO);
    assert_non_null(strstr(f.err.message, "a server listens there already"));
    f.n_files++; /* fd is still open */
    http_fixture_stop(&f);
    close(fd);

    http_fixture_init(&f); /* the file of a server that is gone */
    snprintf(path, sizeof path, "%s", http_fixture_path(&f, "socket"));
    close(unix_listen(path));
    f.config.uds = path;
    assert_int_equal(http_fixture_start(&f, ""), PR_OK);
    http_fixture_stop(&f);

    http_fixture_init(&f); /* another kind of file */
    snprintf(path, sizeof path, "%s", http_fixture_path(&f, "file"));
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    f.config.uds = path;
    assert_int_equal(http_fixture_start(&f, ""), PR_E_ARGUMENT);
    assert_int_equal(access(path, F_OK), 0);
    http_fixture_stop(&f);

    http_fixture_init(&f);
    memset(too_long, 'x', sizeof too_long);
    too_long[sizeof too_long - 1] = '\0';
    f.config.uds = too_long;
    assert_int_equal(http_fixture_start(&f, ""), PR_E_ARGUMENT);
    http_fixture_stop(&f);
}

/* ---- drain ---- */

static void draining_ends_when_the_last_answer_is_sent(void **state)
{
    http_fixture f;
    http_client idle, leaving, served, releasing;
    http_reply reply;
    (void)state;
    start(&f);
    http_client_open(&idle, f.port);
    http_client_get(&idle, "/health", "");
    http_client_expect(&idle, 200, "");
    http_client_open(&leaving, f.port);
    http_client_post(&leaving, "/work", "", "hold items=1");
    http_client_open(&served, f.port);
    http_client_post(&served, "/work", "", "hold items=2");
    http_client_open(&releasing, f.port);
    http_client_say(&releasing, "POST /release HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
                                "Expect: 100-continue\r\n\r\n");
    http_client_expect(&releasing, 100, "");
    fake_service_wait(f.fake, FAKE_HELD, 2);

    http_fixture_refuse(&f);
    http_client_expect_closed(&idle);
    http_client_reset(&leaving);
    fake_service_wait(f.fake, FAKE_CANCELLED, 1);
    assert_int_equal(f.n_idle, 0);
    http_client_say(&releasing, "x");
    http_client_expect(&releasing, 200, "");
    http_client_read(&served, &reply, false);
    assert_int_equal(reply.status, 200);
    assert_true(http_reply_has(&reply, "\r\nConnection: close\r\n"));
    http_reply_free(&reply);
    http_client_expect_closed(&served);
    http_fixture_wait_idle(&f);
    http_client_close(&idle);
    http_client_close(&served);
    http_client_close(&releasing);
    http_fixture_stop(&f);
}

/* Connections with a request that has begun to come; loop thread. */
static void begun_count(http_fixture *f)
{
    f->n_seen = 0;
    for (const pr_http_connection *c = f->server->connections; c; c = c->next) {
        f->n_seen += c->phase != PR_HTTP_PHASE_IDLE;
    }
}

static void while_draining_open_connections_are_refused(void **state)
{
    http_fixture f;
    http_client c, other;
    http_reply reply;
    (void)state;
    start(&f);
    http_client_open(&c, f.port);
    http_client_open(&other, f.port);
    http_client_say(&c, "POST /work HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n");
    http_client_say(&other, "GET /health HTTP/1.1\r\nHost: x\r\n");
    /* Both have begun, so neither is idle; the one's headers have come, the other's have not. */
    do http_fixture_do(&f, begun_count);
    while (f.n_seen < 2);
    http_fixture_refuse(&f);
    http_client_say(&c, "items=1");
    http_client_read(&c, &reply, false);
    assert_int_equal(reply.status, 200); /* accepted before */
    assert_true(http_reply_has(&reply, "\r\nConnection: close\r\n"));
    http_reply_free(&reply);
    http_client_expect_closed(&c);
    http_client_say(&other, "\r\n");
    http_client_expect(&other, 200, "/health");
    http_client_expect_closed(&other);
    http_client_close(&c);
    http_client_close(&other);
    http_fixture_wait_idle(&f);
    http_fixture_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_takes_many_requests),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(many_clients_are_served_at_once),
        cmocka_unit_test(head_is_get_without_a_body),
        cmocka_unit_test(unknown_paths_and_methods_leave_the_connection_open),
        cmocka_unit_test(chunked_bodies_arrive_whole),
        cmocka_unit_test(a_client_that_asks_is_told_to_continue),
        cmocka_unit_test(http_1_0_closes_unless_asked),
        cmocka_unit_test(large_bodies_and_answers_go_by_pool_threads),
        cmocka_unit_test(refusals_carry_retry_after),
        cmocka_unit_test(request_ids_come_back),
        cmocka_unit_test(a_key_guards_all_but_health),
        cmocka_unit_test(keys_are_exchanged_while_connections_stay),
        cmocka_unit_test(pages_of_allowed_origins_may_call),
        cmocka_unit_test(without_origins_there_is_no_cors),
        cmocka_unit_test(ports_are_written_to_the_port_file),
        cmocka_unit_test(a_port_that_is_taken_is_told),
        cmocka_unit_test(all_addresses_take_both_families),
        cmocka_unit_test(unix_sockets_serve_and_are_removed),
        cmocka_unit_test(unix_sockets_replace_only_dead_ones),
        cmocka_unit_test(draining_ends_when_the_last_answer_is_sent),
        cmocka_unit_test(while_draining_open_connections_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
