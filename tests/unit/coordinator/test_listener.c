/* Where ranks connect: what --ctrl-interface means, and what becomes of a socket's file. */
#include "coordinator/fleet/listener.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static void an_interface_is_a_name_or_an_address_with_or_without_a_port(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        pr_listen_at expected;
    } cases[] = {
        {"eth0", {false, "eth0", 0}},
        {"eth0:4000", {false, "eth0", 4000}},
        {"10.0.0.1", {false, "10.0.0.1", 0}},
        {"10.0.0.1:65535", {false, "10.0.0.1", 65535}},
        {":4000", {false, "", 4000}},
        {"fd00::1", {false, "fd00::1", 0}},
        {"[fd00::1]", {false, "fd00::1", 0}},
        {"[fd00::1]:1", {false, "fd00::1", 1}},
        {"unix:/run/a:b", {true, "/run/a:b", 0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_listen_at at;
        assert_int_equal(pr_listen_parse(cases[i].text, &at, NULL), PR_OK);
        assert_int_equal(at.is_unix, cases[i].expected.is_unix);
        assert_string_equal(at.name, cases[i].expected.name);
        assert_int_equal(at.port, cases[i].expected.port);
    }
}

static void what_is_neither_is_refused(void **state)
{
    (void)state;
    char long_name[400];
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    const char *const cases[] = {"", ":", "eth0:", "eth0:0", "eth0:65536", "eth0:x", "eth0:+1",
                                 "[fd00::1", "[fd00::1]x", "[fd00::1]:", "unix:", long_name};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_listen_at at;
        pr_error err;
        if (pr_listen_parse(cases[i], &at, &err) != PR_E_ARGUMENT) fail_msg("%s", cases[i]);
        assert_memory_equal(err.message, "ctrl-interface: found ", 22);
    }
}

static void ranks_are_told_an_address_that_they_can_reach(void **state)
{
    (void)state;
    static const struct {
        const char *at, *told;
    } cases[] = {
        {"lo", "tcp:127.0.0.1:"}, {"127.0.0.1", "tcp:127.0.0.1:"}, {"[::1]", "tcp:[::1]:"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_listen_at at;
        pr_listener *l = NULL;
        pr_error err;
        assert_int_equal(pr_listen_parse(cases[i].at, &at, NULL), PR_OK);
        if (pr_listener_open(&at, &l, &err) != PR_OK) {
            if (strchr(cases[i].at, '[')) continue; /* a host without IPv6 */
            fail_msg("%s", err.message);
        }
        const char *told = pr_listener_connect(l);
        assert_memory_equal(told, cases[i].told, strlen(cases[i].told));
        assert_true(strtol(strrchr(told, ':') + 1, NULL, 10) > 0);
        pr_listener_close(l);
    }
    const pr_listen_at nowhere = {.name = "nowhere0"};
    pr_listener *l = NULL;
    pr_error err;
    assert_int_equal(pr_listener_open(&nowhere, &l, &err), PR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "nowhere0"));
}

static void a_dead_socket_is_replaced_and_a_living_one_is_not(void **state)
{
    (void)state;
    char folder[] = "/tmp/poolrank-listener-XXXXXX";
    assert_non_null(mkdtemp(folder));
    pr_listen_at at = {.is_unix = true};
    snprintf(at.name, sizeof at.name, "%s/s", folder);
    pr_listener *a = NULL, *b = NULL;
    struct stat st;
    assert_int_equal(pr_listener_open(&at, &a, NULL), PR_OK);
    assert_int_equal(stat(at.name, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    int fd = pr_listener_fd_take(a);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(pr_listener_open(&at, &b, NULL), PR_E_IO); /* in use */
    close(fd);
    assert_int_equal(pr_listener_open(&at, &b, NULL), PR_OK); /* left by one that was killed */
    pr_listener_close(b);
    assert_int_not_equal(access(at.name, F_OK), 0);
    pr_listener_close(a);
    memset(at.name, 'a', 120);
    at.name[120] = '\0';
    pr_error err;
    assert_int_equal(pr_listener_open(&at, &b, &err), PR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "expected at most 107"));
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_interface_is_a_name_or_an_address_with_or_without_a_port),
        cmocka_unit_test(what_is_neither_is_refused),
        cmocka_unit_test(ranks_are_told_an_address_that_they_can_reach),
        cmocka_unit_test(a_dead_socket_is_replaced_and_a_living_one_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
