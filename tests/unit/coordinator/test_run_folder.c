/* A run's folder is private, found by nobody else, and gone with its coordinator. */
#define _GNU_SOURCE
#include "coordinator/fleet/run_folder.h"

#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static int base_make(void **state)
{
    char *base = strdup("/tmp/poolrank-test-XXXXXX");
    *state = base && mkdtemp(base) ? base : NULL;
    return *state ? 0 : -1;
}

static int base_remove(void **state)
{
    pr_tree_remove(*state);
    bool is_gone = access(*state, F_OK) != 0;
    free(*state);
    return is_gone ? 0 : -1;
}

static void file_make(const char *folder, const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static void a_folder_is_private_and_removed_with_all_in_it(void **state)
{
    pr_run_folder *f = NULL;
    struct stat st;
    char path[PATH_MAX], *inner = NULL;
    assert_int_equal(pr_run_folder_open(*state, &f, NULL), PR_OK);
    snprintf(path, sizeof path, "%s", pr_run_folder_path(f));
    assert_memory_equal(path, *state, strlen(*state));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(pr_run_folder_make(f, "group-0.1", &inner, NULL), PR_OK);
    file_make(inner, "left");
    assert_int_equal(symlink("/etc/hostname", strcat(strcpy(path, inner), "/link")), 0);
    pr_error err;
    char *again = NULL;
    assert_int_equal(pr_run_folder_make(f, "group-0.1", &again, &err), PR_E_IO);
    snprintf(path, sizeof path, "%s", pr_run_folder_path(f));
    free(inner);
    pr_run_folder_close(f);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(access("/etc/hostname", F_OK), 0); /* the link was not followed */
}

static void a_folder_that_cannot_be_used_is_passed_over_for_tmp(void **state)
{
    (void)state;
    const char *const bases[] = {
        NULL, "", "relative", "/nowhere/at/all",
        "/tmp/0123456789012345678901234567890123456789012345678901234567890123456789",
    };
    for (size_t i = 0; i < sizeof bases / sizeof *bases; i++) {
        pr_run_folder *f = NULL;
        assert_int_equal(pr_run_folder_open(bases[i], &f, NULL), PR_OK);
        assert_memory_equal(pr_run_folder_path(f), "/tmp/poolrank-", 14);
        pr_run_folder_close(f);
    }
}

/* A coordinator that is killed while it has a folder. */
static void folder_orphan(const char *base, char *path)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        pr_run_folder *f = NULL;
        if (pr_run_folder_open(base, &f, NULL) != PR_OK) _exit(1);
        if (write(fds[1], pr_run_folder_path(f), strlen(pr_run_folder_path(f))) < 0) _exit(1);
        _exit(0);
    }
    close(fds[1]);
    ssize_t n = read(fds[0], path, PATH_MAX - 1);
    assert_true(n > 0);
    path[n] = '\0';
    close(fds[0]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void the_folder_of_a_dead_coordinator_is_swept_by_the_next(void **state)
{
    char orphan[PATH_MAX], live[PATH_MAX];
    pr_run_folder *a = NULL, *b = NULL;
    folder_orphan(*state, orphan);
    assert_int_equal(access(orphan, F_OK), 0);
    assert_int_equal(pr_run_folder_open(*state, &a, NULL), PR_OK);
    assert_int_not_equal(access(orphan, F_OK), 0);
    snprintf(live, sizeof live, "%s", pr_run_folder_path(a));
    assert_int_equal(pr_run_folder_open(*state, &b, NULL), PR_OK);
    assert_int_equal(access(live, F_OK), 0); /* its owner lives */
    assert_string_not_equal(live, pr_run_folder_path(b));
    pr_run_folder_close(a);
    pr_run_folder_close(b);
}

static void what_is_not_a_run_folder_is_left_alone(void **state)
{
    char name[64], path[PATH_MAX];
    snprintf(name, sizeof name, "poolrank-%ju-file", (uintmax_t)geteuid());
    file_make(*state, name);
    snprintf(path, sizeof path, "%s/poolrank-%ju-young", (char *)*state, (uintmax_t)geteuid());
    assert_int_equal(mkdir(path, 0700), 0); /* being made: no lock yet */
    assert_int_equal(pr_run_folder_sweep(*state), 0);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(pr_run_folder_sweep("/nowhere"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_folder_is_private_and_removed_with_all_in_it, base_make,
                                        base_remove),
        cmocka_unit_test(a_folder_that_cannot_be_used_is_passed_over_for_tmp),
        cmocka_unit_test_setup_teardown(the_folder_of_a_dead_coordinator_is_swept_by_the_next,
                                        base_make, base_remove),
        cmocka_unit_test_setup_teardown(what_is_not_a_run_folder_is_left_alone, base_make,
                                        base_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
