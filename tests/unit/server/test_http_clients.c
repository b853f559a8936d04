/* Clients of the HTTP transport that leave while they are being served, and clients over TLS. */
#define _GNU_SOURCE
#include "fakes/http_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <gnutls/x509.h>
#include <sys/socket.h>
#include <unistd.h>

typedef enum transport { OVER_TCP, OVER_UNIX, OVER_TLS } transport;

typedef struct world {
    http_fixture f;
    transport over;
    char path[PATH_MAX], certificate[PATH_MAX], key[PATH_MAX];
} world;

static void world_start(world *w, transport over)
{
    http_fixture *f = &w->f;
    w->over = over;
    http_fixture_init(f);
    if (over == OVER_UNIX) {
        snprintf(w->path, sizeof w->path, "%s", http_fixture_path(f, "socket"));
        f->config.uds = w->path;
    }
    if (over == OVER_TLS) {
        http_fixture_certificate(f, "first");
        snprintf(w->certificate, sizeof w->certificate, "%s", http_fixture_path(f, "first.pem"));
        snprintf(w->key, sizeof w->key, "%s", http_fixture_path(f, "first.key"));
        f->config.ssl_certfile = w->certificate;
        f->config.ssl_keyfile = w->key;
    }
    if (http_fixture_start(f, "") != PR_OK) fail_msg("%s", f->err.message);
}

static void client_open(world *w, http_client *c)
{
    switch (w->over) {
    case OVER_TCP: http_client_open(c, w->f.port); break;
    case OVER_UNIX: http_client_open_unix(c, w->path); break;
    case OVER_TLS: http_client_open_tls(c, w->f.port); break;
    }
}

/* The loop has turned, and whatever it had to do is done. */
static void loop_turns(world *w)
{
    http_client other;
    client_open(w, &other);
    http_client_get(&other, "/health", "");
    http_client_expect(&other, 200, "");
    http_client_close(&other);
}

/* A request that is held, and what its client then does; its call must be cancelled. */
static void leave(world *w, void (*leaves)(http_client *c), bool later, const char *version)
{
    http_client c;
    char text[200];
    int n_cancelled = fake_service_get(w->f.fake, FAKE_CANCELLED);
    int n_left = fake_service_get(w->f.fake, FAKE_LEFT);
    client_open(w, &c);
    snprintf(text, sizeof text, "POST /work %s\r\nHost: x\r\nContent-Length: 4\r\n\r\nhold",
             version);
    http_client_say(&c, text);
    fake_service_wait(w->f.fake, FAKE_HELD, 1);
    if (later) loop_turns(w);
    leaves(&c);
    fake_service_wait(w->f.fake, FAKE_CANCELLED, n_cancelled + 1);
    fake_service_wait(w->f.fake, FAKE_LEFT, n_left + 1);
    fake_service_wait(w->f.fake, FAKE_HELD, 0);
}

static void clients_that_leave(transport over)
{
    world w;
    world_start(&w, over);
    leave(&w, http_client_close, false, "HTTP/1.1");
    leave(&w, http_client_close, true, "HTTP/1.1");
    leave(&w, http_client_reset, false, "HTTP/1.1");
    leave(&w, http_client_close, false, "HTTP/1.0");
    http_fixture_stop(&w.f);
}

static void clients_that_leave_are_noticed(void **state)
{
    (void)state;
    clients_that_leave(OVER_TCP);
}

static void clients_that_leave_are_noticed_over_unix_sockets(void **state)
{
    (void)state;
    clients_that_leave(OVER_UNIX);
}

static void clients_that_leave_are_noticed_over_tls(void **state)
{
    (void)state;
    clients_that_leave(OVER_TLS);
}

static void say_goodbye(http_client *c)
{
    http_client_shut(c); /* close_notify, then the end */
    http_client_close(c);
}

static void a_tls_client_that_says_goodbye_is_noticed(void **state)
{
    world w;
    (void)state;
    world_start(&w, OVER_TLS);
    leave(&w, say_goodbye, false, "HTTP/1.1");
    http_fixture_stop(&w.f);
}

/* The server has seen that no more comes, and asks whether its client is still there. */
static void expect_question(http_client *c)
{
    http_client_expect(c, 100, "");
}

/* It sends no more, but reads. */
static void half_closed_clients(transport over, const char *request, int n_answers)
{
    world w;
    http_client c, other;
    http_reply reply;
    world_start(&w, over);
    client_open(&w, &c);
    http_client_say(&c, request);
    if (over == OVER_TLS) shutdown(c.fd, SHUT_WR);
    else http_client_shut(&c);
    fake_service_wait(w.f.fake, FAKE_HELD, 1);
    if (over == OVER_UNIX) loop_turns(&w); /* there nobody is asked */
    else expect_question(&c);
    client_open(&w, &other);
    http_client_post(&other, "/release", "", "");
    http_client_expect(&other, 200, "");
    for (int i = 0; i < n_answers; i++) {
        http_client_read_final(&c, &reply);
        assert_int_equal(reply.status, 200);
        http_reply_free(&reply);
    }
    assert_int_equal(fake_service_get(w.f.fake, FAKE_CANCELLED), 0);
    http_client_close(&c);
    http_client_close(&other);
    http_fixture_stop(&w.f);
}

static const char one_request[] = "POST /work HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nhold";
static const char three_requests[] =
    "POST /work HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nhold"
    "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    "POST /work HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\nitems=2";

static void half_closed_clients_are_answered(void **state)
{
    (void)state;
    half_closed_clients(OVER_TCP, one_request, 1);
    half_closed_clients(OVER_TCP, three_requests, 3);
}

static void half_closed_clients_are_answered_over_unix_sockets(void **state)
{
    (void)state;
    half_closed_clients(OVER_UNIX, one_request, 1);
    half_closed_clients(OVER_UNIX, three_requests, 3);
}

static void half_closed_clients_are_answered_over_tls(void **state)
{
    (void)state;
    half_closed_clients(OVER_TLS, one_request, 1);
    half_closed_clients(OVER_TLS, three_requests, 3);
}

static void a_half_closed_client_that_leaves_then_is_noticed(void **state)
{
    world w;
    http_client c;
    (void)state;
    world_start(&w, OVER_TCP);
    client_open(&w, &c);
    http_client_say(&c, one_request);
    http_client_shut(&c);
    fake_service_wait(w.f.fake, FAKE_HELD, 1);
    expect_question(&c);
    assert_int_equal(fake_service_get(w.f.fake, FAKE_CANCELLED), 0);
    http_client_reset(&c);
    fake_service_wait(w.f.fake, FAKE_CANCELLED, 1);
    http_fixture_stop(&w.f);
}

static void a_client_that_leaves_in_the_middle_of_a_body_leaves_nothing(void **state)
{
    world w;
    http_client c;
    (void)state;
    world_start(&w, OVER_TCP);
    client_open(&w, &c);
    http_client_say(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc");
    fake_service_wait(w.f.fake, FAKE_CONNECTIONS, 1);
    http_client_close(&c);
    fake_service_wait(w.f.fake, FAKE_CONNECTIONS, 0);
    assert_int_equal(fake_service_get(w.f.fake, FAKE_PARSED), 0);
    http_fixture_stop(&w.f);
}

static void clients_that_leave_at_random_leave_nothing(void **state)
{
    enum { N = 300 };
    world w;
    http_client c;
    unsigned seed = (unsigned)getpid();
    (void)state;
    print_message("seed %u\n", seed);
    world_start(&w, OVER_TCP);
    for (int i = 0; i < N; i++) {
        client_open(&w, &c);
        int kind = rand_r(&seed) % 4;
        http_client_post(&c, "/work", "", kind == 3 ? "hold" : "items=2 floats=100000");
        if (kind == 0) http_client_expect(&c, 200, "items=2");
        for (int spin = rand_r(&seed) % 4; spin > 0; spin--) loop_turns(&w);
        if (rand_r(&seed) % 2) http_client_reset(&c);
        else http_client_close(&c);
    }
    fake_service_wait(w.f.fake, FAKE_CONNECTIONS, 0);
    assert_int_equal(fake_service_get(w.f.fake, FAKE_BEGUN), fake_service_get(w.f.fake, FAKE_DONE));
    http_fixture_stop(&w.f);
}

/* ---- TLS ---- */

/* The common name of the server's certificate. */
static void peer_name(http_client *c, char *name, size_t n)
{
    unsigned n_list = 0;
    gnutls_x509_crt_t crt;
    const gnutls_datum_t *list = gnutls_certificate_get_peers(c->session, &n_list);
    assert_true(n_list > 0);
    gnutls_x509_crt_init(&crt);
    assert_int_equal(gnutls_x509_crt_import(crt, &list[0], GNUTLS_X509_FMT_DER), 0);
    int rc = gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &n);
    assert_int_equal(rc, 0);
    gnutls_x509_crt_deinit(crt);
}

static void certificates_are_exchanged_while_connections_stay(void **state)
{
    world w;
    http_client old, new;
    char name[64];
    (void)state;
    world_start(&w, OVER_TLS);
    client_open(&w, &old);
    peer_name(&old, name, sizeof name);
    assert_string_equal(name, "first");
    http_client_post(&old, "/work", "", "items=1");
    http_client_expect(&old, 200, "items=1");

    http_fixture_certificate(&w.f, "second");
    char pem[PATH_MAX], key[PATH_MAX];
    snprintf(pem, sizeof pem, "%s", http_fixture_path(&w.f, "second.pem"));
    snprintf(key, sizeof key, "%s", http_fixture_path(&w.f, "second.key"));
    assert_int_equal(rename(pem, w.certificate), 0);
    /* The key is not there yet: all stays as it was. */
    http_fixture_reload(&w.f);
    assert_int_equal(w.f.status, PR_E_ARGUMENT);
    assert_non_null(strstr(w.f.err.message, "is not the key of the first certificate"));
    client_open(&w, &new);
    peer_name(&new, name, sizeof name);
    assert_string_equal(name, "first");
    http_client_close(&new);

    assert_int_equal(rename(key, w.key), 0);
    http_fixture_reload(&w.f);
    assert_int_equal(w.f.status, PR_OK);
    client_open(&w, &new);
    peer_name(&new, name, sizeof name);
    assert_string_equal(name, "second");
    http_client_post(&new, "/work", "", "items=2");
    http_client_expect(&new, 200, "items=2");
    http_client_post(&old, "/work", "", "items=3");
    http_client_expect(&old, 200, "items=3");
    http_client_close(&new);
    http_client_close(&old);
    http_fixture_stop(&w.f);
}

static void large_answers_and_bodies_pass_tls(void **state)
{
    enum { N = 500000 };
    world w;
    http_client c;
    http_reply reply;
    char *body = calloc(1, N + 1);
    (void)state;
    world_start(&w, OVER_TLS);
    memset(body, 'x', N);
    client_open(&w, &c);
    http_client_post(&c, "/echo", "", body);
    http_client_expect(&c, 200, body);
    http_client_post(&c, "/work", "", "items=2 floats=2000000");
    http_client_read(&c, &reply, false);
    assert_int_equal(reply.n_body, 4000000 + 7);
    http_reply_free(&reply);
    http_client_close(&c);
    http_fixture_stop(&w.f);
    free(body);
}

static void plain_http_to_a_tls_port_ends(void **state)
{
    world w;
    http_client c;
    http_reply reply;
    (void)state;
    world_start(&w, OVER_TLS);
    http_client_open(&c, w.f.port);
    http_client_say(&c, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    c.n = 0;
    char bytes[256];
    while (recv(c.fd, bytes, sizeof bytes, 0) > 0) continue; /* an alert, perhaps */
    http_client_close(&c);
    client_open(&w, &c);
    http_client_get(&c, "/health", "");
    http_client_read(&c, &reply, false);
    assert_int_equal(reply.status, 200);
    http_reply_free(&reply);
    http_client_close(&c);
    http_fixture_stop(&w.f);
}

static void certificates_that_do_not_fit_are_refused(void **state)
{
    http_fixture f;
    char pem[PATH_MAX], key[PATH_MAX];
    (void)state;
    http_fixture_init(&f);
    http_fixture_certificate(&f, "one");
    http_fixture_certificate(&f, "two");
    snprintf(pem, sizeof pem, "%s", http_fixture_path(&f, "one.pem"));
    snprintf(key, sizeof key, "%s", http_fixture_path(&f, "two.key"));
    f.config.ssl_certfile = pem;
    f.config.ssl_keyfile = key;
    assert_int_equal(http_fixture_start(&f, ""), PR_E_ARGUMENT);
    assert_non_null(strstr(f.err.message, "is not the key of the first certificate"));
    http_fixture_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clients_that_leave_are_noticed),
        cmocka_unit_test(clients_that_leave_are_noticed_over_unix_sockets),
        cmocka_unit_test(clients_that_leave_are_noticed_over_tls),
        cmocka_unit_test(a_tls_client_that_says_goodbye_is_noticed),
        cmocka_unit_test(half_closed_clients_are_answered),
        cmocka_unit_test(half_closed_clients_are_answered_over_unix_sockets),
        cmocka_unit_test(half_closed_clients_are_answered_over_tls),
        cmocka_unit_test(a_half_closed_client_that_leaves_then_is_noticed),
        cmocka_unit_test(a_client_that_leaves_in_the_middle_of_a_body_leaves_nothing),
        cmocka_unit_test(clients_that_leave_at_random_leave_nothing),
        cmocka_unit_test(certificates_are_exchanged_while_connections_stay),
        cmocka_unit_test(large_answers_and_bodies_pass_tls),
        cmocka_unit_test(plain_http_to_a_tls_port_ends),
        cmocka_unit_test(certificates_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
