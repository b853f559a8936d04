/* What the HTTP transport refuses and cuts off: sizes, times, numbers, what is no HTTP. */
#define _GNU_SOURCE
#include "fakes/http_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/socket.h>
#include <unistd.h>

#define POST "POST /echo HTTP/1.1\r\nHost: x\r\n"

static void start(http_fixture *f)
{
    http_fixture_init(f);
    if (http_fixture_start(f, "") != PR_OK) fail_msg("%s", f->err.message);
}

static void bodies_over_the_limit_are_refused(void **state)
{
    http_fixture f;
    http_client c;
    char *chunk = NULL, *body = calloc(1, 70001);
    (void)state;
    http_fixture_init(&f);
    f.config.max_body_bytes = 65536;
    assert_int_equal(http_fixture_start(&f, ""), PR_OK);
    /* By its length, before any of it came. */
    http_client_open(&c, f.port);
    http_client_say(&c, POST "Content-Length: 65537\r\n\r\n");
    http_client_expect(&c, 413, "body: expected at most 65536 bytes (--max-body-bytes)");
    http_client_expect_closed(&c);
    http_client_close(&c);
    /* A client that sends all of it before it reads finds its answer, not a reset. */
    http_client_open(&c, f.port);
    http_client_say(&c, POST "Content-Length: 30000000\r\n\r\n");
    memset(body, 'x', 70000);
    for (int i = 0; i < 400; i++) http_client_send(&c, body, 70000);
    http_client_expect(&c, 413, "body");
    http_client_close(&c);
    /* Of unknown length. */
    memset(body, 'x', 70000);
    http_client_open(&c, f.port);
    assert_true(asprintf(&chunk, POST "Transfer-Encoding: chunked\r\n\r\n"
                                 "%x\r\n%s\r\n0\r\n\r\n", 70000, body) > 0);
    http_client_say(&c, chunk);
    http_client_expect(&c, 413, "body");
    http_client_close(&c);
    body[65536] = '\0';
    http_client_open(&c, f.port);
    http_client_post(&c, "/echo", "", body);
    http_client_expect(&c, 200, body);
    http_client_close(&c);
    http_fixture_stop(&f);
    free(body);
    free(chunk);
}

static void headers_over_the_limit_are_refused(void **state)
{
    http_fixture f;
    http_client c;
    char *text = malloc(40001);
    (void)state;
    start(&f);
    memset(text, 'x', 40000);
    text[40000] = '\0';
    http_client_open(&c, f.port);
    http_client_say(&c, "GET /health HTTP/1.1\r\nHost: x\r\nX-Long: ");
    http_client_say(&c, text);
    http_client_say(&c, "\r\n\r\n");
    http_client_expect(&c, 431, "");
    http_client_close(&c);
    http_client_open(&c, f.port);
    http_client_say(&c, "GET /");
    http_client_say(&c, text);
    http_client_expect(&c, 414, "");
    http_client_close(&c);
    http_fixture_stop(&f);
    free(text);
}

/* 0: closed without an answer. */
static int status_of(http_fixture *f, const char *bytes, size_t n)
{
    http_client c;
    http_reply reply;
    http_client_open(&c, f->port);
    http_client_send(&c, bytes, n);
    shutdown(c.fd, SHUT_WR);
    http_client_read(&c, &reply, false);
    http_reply_free(&reply);
    http_client_close(&c);
    return reply.status;
}

static void what_is_no_http_is_refused(void **state)
{
#define CASE(text) text, sizeof text - 1
    static const struct {
        const char *bytes;
        size_t n;
    } cases[] = {
        {CASE("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")},
        {CASE("GET\r\n\r\n")},
        {CASE("GET /health HTTP/3.0\r\nHost: x\r\n\r\n")},
        {CASE("GET /health HTTP/1.1\r\nno colon\r\n\r\n")},
        {CASE("GET /health HTTP/1.1\r\n\r\n")}, /* no Host */
        {CASE("GET /health\0x HTTP/1.1\r\nHost: x\r\n\r\n")},
        {CASE("GET /\xff\xfe\x80 HTTP/1.1\r\nHost: x\r\n\r\n")},
        {CASE("GET /health%00 HTTP/1.1\r\nHost: x\r\n\r\n")},
        {CASE(POST "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab")},
        {CASE(POST "Content-Length: 1\r\nContent-Length: 1\r\n\r\na")},
        {CASE(POST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"
              "\r\n0\r\n\r\n")},
        {CASE(POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")},
        {CASE(POST "Transfer-Encoding: identity\r\n\r\n")},
        {CASE(POST "Content-Length : 3\r\n\r\nabc")},
        {CASE(POST "Content-Length: -1\r\n\r\n")},
        {CASE(POST "Content-Length: 99999999999999999999999\r\n\r\n")},
        {CASE(POST "Content-Length: 1e3\r\n\r\n")},
        {CASE(POST "Transfer-Encoding: chunked\r\n\r\nxyz\r\n")},
        {CASE(POST "Transfer-Encoding: chunked\r\n\r\n"
              "ffffffffffffffffff\r\n")},
    };
#undef CASE
    http_fixture f;
    http_client c;
    (void)state;
    start(&f);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = status_of(&f, cases[i].bytes, cases[i].n);
        if (status != 0 && (status < 400 || (status > 499 && status != 505))) {
            fail_msg("case %zu: found status %d, expected 4xx or none: %s", i, status,
                     cases[i].bytes);
        }
    }
    http_client_open(&c, f.port);
    http_client_get(&c, "/health", "");
    http_client_expect(&c, 200, "/health");
    http_client_close(&c);
    http_fixture_stop(&f);
}

static void requests_that_take_too_long_to_arrive_are_cut_off(void **state)
{
    http_fixture f;
    http_client idle, headers, body;
    (void)state;
    http_fixture_init(&f);
    f.config.read_timeout = 1;
    f.config.idle_timeout = 1;
    assert_int_equal(http_fixture_start(&f, ""), PR_OK);
    http_client_open(&idle, f.port);
    http_client_open(&headers, f.port);
    http_client_open(&body, f.port);
    http_client_say(&headers, "GET /health HTTP/1.1\r\nX-Slow: ");
    http_client_say(&body, POST "Content-Length: 1000\r\n\r\n");
    /* A byte now and then helps nothing. */
    for (int i = 0; i < 4; i++) {
        http_client_say(&headers, "x");
        http_client_say(&body, "x");
        usleep(100000);
    }
    http_client_expect_closed(&headers);
    http_client_expect_closed(&body);
    http_client_expect_closed(&idle);
    http_client_close(&headers);
    http_client_close(&body);
    http_client_close(&idle);
    http_fixture_stop(&f);
}

static void answers_that_nobody_reads_are_cut_off(void **state)
{
    http_fixture f;
    http_client c, other;
    int small = 4096;
    (void)state;
    http_fixture_init(&f);
    f.config.read_timeout = 1;
    assert_int_equal(http_fixture_start(&f, ""), PR_OK);
    http_client_open(&c, f.port);
    setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    http_client_post(&c, "/work", "", "items=4 floats=4000000");
    fake_service_wait(f.fake, FAKE_CONNECTIONS, 0);
    http_client_open(&other, f.port);
    http_client_get(&other, "/health", "");
    http_client_expect(&other, 200, "");
    http_client_close(&other);
    http_client_close(&c);
    http_fixture_stop(&f);
}

static void connections_over_the_limit_wait(void **state)
{
    http_fixture f;
    http_client c[3];
    (void)state;
    http_fixture_init(&f);
    f.config.max_connections = 2;
    assert_int_equal(http_fixture_start(&f, ""), PR_OK);
    for (int i = 0; i < 3; i++) {
        http_client_open(&c[i], f.port);
        http_client_get(&c[i], "/health", "");
    }
    http_client_expect(&c[0], 200, "");
    http_client_expect(&c[1], 200, "");
    http_client_close(&c[0]);
    http_client_expect(&c[2], 200, "");
    http_client_close(&c[1]);
    http_client_close(&c[2]);
    http_fixture_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_over_the_limit_are_refused),
        cmocka_unit_test(headers_over_the_limit_are_refused),
        cmocka_unit_test(what_is_no_http_is_refused),
        cmocka_unit_test(requests_that_take_too_long_to_arrive_are_cut_off),
        cmocka_unit_test(answers_that_nobody_reads_are_cut_off),
        cmocka_unit_test(connections_over_the_limit_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
