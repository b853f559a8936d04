/* How a rank finds its coordinator and is taken in; the test is the coordinator. */
#define _GNU_SOURCE
#include "tests/unit/worker/rank_peer.h"
#include "worker/handshake.h"
#include "worker/rank.h"
#include "worker/rank_io.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static void addresses_are_parsed(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool is_right, is_unix;
        const char *host, *port;
    } rows[] = {
        {"unix:/run/x", true, true, "/run/x", ""},
        {"unix:a:b", true, true, "a:b", ""},
        {"tcp:node1:7000", true, false, "node1", "7000"},
        {"tcp:10.0.0.1:1", true, false, "10.0.0.1", "1"},
        {"tcp:[fd00::1]:65535", true, false, "fd00::1", "65535"},
        {"unix:", false, false, NULL, NULL},
        {"tcp:node1", false, false, NULL, NULL},
        {"tcp::7000", false, false, NULL, NULL},
        {"tcp:[]:7000", false, false, NULL, NULL},
        {"tcp:[fd00::1:7000", false, false, NULL, NULL},
        {"tcp:node1:0", false, false, NULL, NULL},
        {"tcp:node1:65536", false, false, NULL, NULL},
        {"tcp:node1:+80", false, false, NULL, NULL},
        {"tcp:node1:", false, false, NULL, NULL},
        {"node1:7000", false, false, NULL, NULL},
        {"", false, false, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        pr_rank_address a;
        pr_status st = pr_rank_address_parse(rows[i].text, &a, NULL);
        if ((st == PR_OK) != rows[i].is_right) fail_msg("%s: status %d", rows[i].text, (int)st);
        if (st != PR_OK) continue;
        assert_int_equal(a.is_unix, rows[i].is_unix);
        assert_string_equal(a.host, rows[i].host);
        assert_string_equal(a.port, rows[i].port);
    }
    char text[512];
    memset(text, 'a', sizeof text);
    memcpy(text, "unix:", 5);
    text[sizeof text - 1] = '\0';
    assert_int_equal(pr_rank_address_parse(text, &(pr_rank_address){0}, NULL), PR_E_ARGUMENT);
}

/* A TCP listener on loopback; *address names it. */
static int listener_make(pr_rank_address *address)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &n), 0);
    *address = (pr_rank_address){.host = "127.0.0.1"};
    snprintf(address->port, sizeof address->port, "%d", ntohs(in.sin_port));
    return fd;
}

static void *listen_late(void *context)
{
    struct timespec t = {.tv_nsec = 200000000};
    nanosleep(&t, NULL);
    listen(*(int *)context, 1);
    return NULL;
}

static void a_rank_waits_for_a_coordinator_that_is_not_there_yet(void **state)
{
    (void)state;
    pr_rank_address address;
    pthread_t thread;
    pr_error err;
    int fd = -1;
    int listener = listener_make(&address);
    assert_int_equal(pr_rank_connect(&address, 100, &fd, &err), PR_E_UNAVAILABLE);
    assert_non_null(strstr(err.message, "127.0.0.1 port"));
    assert_int_equal(pthread_create(&thread, NULL, listen_late, &listener), 0);
    pr_status st = pr_rank_connect(&address, WAIT_MS, &fd, &err);
    if (st != PR_OK) fail_msg("%s", err.message);
    pthread_join(thread, NULL);
    close(fd);
    close(listener);
}

typedef struct host {
    peer p;
    pr_key key;
    pr_status status;
} host;

/* The coordinator of a handshake. */
static void *host_main(void *context)
{
    host *h = context;
    static const uint8_t nonce[PR_NONCE_BYTES] = {1, 2, 3};
    pr_handshake_host hs;
    pr_handshake_host_init(&hs, &h->key, "1.2.3", nonce);
    while (hs.state == PR_HANDSHAKE_NEW || hs.state == PR_HANDSHAKE_ASKED) {
        pr_control_message m, reply;
        bool has_reply = false;
        pr_error err;
        if (!take(&h->p, &m)) break;
        h->status = pr_handshake_host_feed(&hs, &m, &reply, &has_reply, &err);
        if (has_reply || h->status != PR_OK) give(&h->p, &reply);
        pr_control_message_deinit(&m);
    }
    if (hs.state != PR_HANDSHAKE_ACCEPTED && h->status == PR_OK) h->status = PR_E_CANCELLED;
    return NULL;
}

static pr_status join(const char *host_key, const char *version, pr_status *host_status,
                      pr_error *err)
{
    host h = {.key = {.n = 16}};
    pr_key key = {.n = 16, .bytes = "0123456789abcdef"};
    pr_control_hello hello = {.protocol = PR_CONTROL_PROTOCOL, .group = "g", .n_ranks = 1,
                              .host = "h", .pid = 1};
    pthread_t thread;
    int fds[2];
    memcpy(h.key.bytes, host_key, 16);
    snprintf(hello.version, sizeof hello.version, "%s", version);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    h.p.fd = fds[0];
    pr_frame_reader_init(&h.p.reader, PR_FRAME_BYTES_MAX);
    assert_int_equal(pthread_create(&thread, NULL, host_main, &h), 0);
    pr_frame_reader reader;
    pr_frame_reader_init(&reader, PR_FRAME_BYTES_MAX);
    pr_status st = pr_rank_join(fds[1], &hello, &key, WAIT_MS, &reader, err);
    pr_frame_reader_deinit(&reader);
    close(fds[1]);
    pthread_join(thread, NULL);
    close(fds[0]);
    pr_frame_reader_deinit(&h.p.reader);
    *host_status = h.status;
    return st;
}

static void a_rank_joins_with_the_key_and_the_version(void **state)
{
    (void)state;
    pr_status host_status = PR_OK;
    pr_error err;
    assert_int_equal(join("0123456789abcdef", "1.2.3", &host_status, &err), PR_OK);
    assert_int_equal(host_status, PR_OK);
    assert_int_equal(join("0123456789abcdeX", "1.2.3", &host_status, &err), PR_E_ARGUMENT);
    assert_int_equal(host_status, PR_E_CANCELLED); /* the rank hung up and proved nothing */
    assert_int_equal(join("0123456789abcdef", "1.2.4", &host_status, &err), PR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "1.2.3"));
}

static void a_coordinator_that_does_not_answer_is_given_up(void **state)
{
    (void)state;
    int fds[2];
    pr_error err;
    const pr_key key = {.n = 16};
    const pr_control_hello hello = {.protocol = PR_CONTROL_PROTOCOL, .n_ranks = 1};
    pr_frame_reader reader;
    pr_frame_reader_init(&reader, PR_FRAME_BYTES_MAX);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(pr_rank_join(fds[1], &hello, &key, 50, &reader, &err), PR_E_TIMEOUT);
    close(fds[0]);
    assert_int_not_equal(pr_rank_join(fds[1], &hello, &key, WAIT_MS, &reader, &err), PR_OK);
    close(fds[1]);
    pr_frame_reader_deinit(&reader);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_parsed),
        cmocka_unit_test(a_rank_waits_for_a_coordinator_that_is_not_there_yet),
        cmocka_unit_test(a_rank_joins_with_the_key_and_the_version),
        cmocka_unit_test(a_coordinator_that_does_not_answer_is_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
