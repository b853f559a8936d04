/* runtime/base/file.h: only regular files, and no path that leaves its root. */
#define _GNU_SOURCE
#include "runtime/base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <ftw.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int remove_one(const char *path, const struct stat *sb, int type, struct FTW *ftw)
{
    (void)sb;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int setup(void **state)
{
    char *root = strdup("/tmp/poolrank_file_XXXXXX");
    if (!root || !mkdtemp(root)) return -1;
    *state = root;
    return 0;
}

static int teardown(void **state)
{
    nftw(*state, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(*state);
    return 0;
}

static const char *in(const char *root, const char *name, char path[256])
{
    snprintf(path, 256, "%s/%s", root, name);
    return path;
}

static void make_file(const char *root, const char *name, const char *text)
{
    char path[256];
    FILE *f = fopen(in(root, name, path), "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void make_folder(const char *root, const char *name)
{
    char path[256];
    assert_int_equal(mkdir(in(root, name, path), 0755), 0);
}

static void make_link(const char *root, const char *name, const char *target)
{
    char path[256];
    assert_int_equal(symlink(target, in(root, name, path)), 0);
}

static void file_is_read_whole_with_a_nul_behind(void **state)
{
    char path[256], *data = NULL;
    size_t n = 0;
    make_file(*state, "f", "twelve bytes");
    assert_int_equal(pr_file_read(in(*state, "f", path), 12, &data, &n, NULL), PR_OK);
    assert_int_equal(n, 12);
    assert_string_equal(data, "twelve bytes");
    free(data);
    pr_error err = {0};
    data = NULL;
    assert_int_equal(pr_file_read(path, 11, &data, &n, &err), PR_E_TOO_LARGE);
    assert_non_null(strstr(err.message, "12 bytes, expected at most 11"));
    assert_null(data);
    make_file(*state, "empty", "");
    assert_int_equal(pr_file_read(in(*state, "empty", path), 0, &data, &n, NULL), PR_OK);
    assert_int_equal(n, 0);
    assert_string_equal(data, "");
    free(data);
}

static void file_that_is_not_regular_is_refused_at_once(void **state)
{
    char path[256];
    int fd = -1;
    uint64_t size = 0;
    pr_error err = {0};
    assert_int_equal(pr_file_open(in(*state, "none", path), &fd, &size, &err), PR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "none"));
    assert_int_equal(mkfifo(in(*state, "fifo", path), 0600), 0);
    assert_int_equal(pr_file_open(path, &fd, &size, &err), PR_E_MODEL);
    assert_non_null(strstr(err.message, "found a FIFO, expected a regular file"));
    assert_int_equal(pr_file_open(*state, &fd, &size, &err), PR_E_MODEL);
    assert_non_null(strstr(err.message, "found a folder"));
    assert_int_equal(pr_file_open("/dev/zero", &fd, &size, &err), PR_E_MODEL);
    assert_non_null(strstr(err.message, "found a character device"));
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/s", (char *)*state);
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(s, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(pr_file_open(address.sun_path, &fd, &size, &err), PR_E_MODEL);
    assert_non_null(strstr(err.message, "found a socket"));
    close(s);
    assert_int_equal(fd, -1);
}

static void file_pread_reads_exactly_or_fails(void **state)
{
    char path[256], got[8] = {0};
    int fd = -1;
    uint64_t size = 0;
    make_file(*state, "f", "0123456789");
    assert_int_equal(pr_file_open(in(*state, "f", path), &fd, &size, NULL), PR_OK);
    assert_int_equal(size, 10);
    assert_int_equal(pr_file_pread(fd, got, 4, 6, NULL), PR_OK);
    assert_string_equal(got, "6789");
    assert_int_equal(pr_file_pread(fd, got, 0, 99, NULL), PR_OK);
    pr_error err = {0};
    assert_int_equal(pr_file_pread(fd, got, 5, 6, &err), PR_E_IO);
    assert_string_equal(err.message, "end of file at byte 10, 1 bytes short");
    close(fd);
    assert_int_equal(pr_file_pread(-1, got, 1, 0, &err), PR_E_IO);
}

static void check_resolved(const char *root, const char *relative, const char *expected)
{
    char *path = NULL;
    pr_error err = {0};
    if (pr_file_resolve(root, relative, &path, &err) != PR_OK) fail_msg("%s", err.message);
    char *real = realpath(expected, NULL);
    assert_string_equal(path, real);
    free(real);
    free(path);
}

static void check_refused(const char *root, const char *relative, pr_status status)
{
    char *path = NULL;
    pr_error err = {0};
    pr_status st = pr_file_resolve(root, relative, &path, &err);
    if (st != status) fail_msg("%s: %d %s", relative, (int)st, err.message);
    assert_null(path);
}

static void file_resolve_stays_below_the_root(void **state)
{
    char root[256], path[256];
    make_folder(*state, "model");
    make_folder(*state, "model/sub");
    make_folder(*state, "model-other");
    make_file(*state, "model/f", "");
    make_file(*state, "model/sub/g", "");
    make_file(*state, "model/..odd", "");
    make_file(*state, "outside", "");
    make_file(*state, "model-other/h", "");
    make_link(*state, "model/inner", "sub/g");
    make_link(*state, "model/escape", "../outside");
    make_link(*state, "model/up", "..");
    make_link(*state, "model/sibling", "../model-other/h");
    make_link(*state, "model/dangling", "none");
    make_link(*state, "link-to-model", "model");
    in(*state, "model", root);
    check_resolved(root, "f", in(*state, "model/f", path));
    check_resolved(root, "sub/g", in(*state, "model/sub/g", path));
    check_resolved(root, "./sub//g", in(*state, "model/sub/g", path));
    check_resolved(root, "..odd", in(*state, "model/..odd", path));
    check_resolved(root, "inner", in(*state, "model/sub/g", path));
    char linked[256];
    check_resolved(in(*state, "link-to-model", linked), "f", in(*state, "model/f", path));
    check_resolved("/", "etc/passwd", "/etc/passwd");
    static const char *const bad[] = {"/etc/passwd", "..",     "../outside", "sub/../../outside",
                                      "sub/..",      "escape", "up/outside", "sibling"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) check_refused(root, bad[i], PR_E_MODEL);
    check_refused(root, "none", PR_E_NOT_FOUND);
    check_refused(root, "dangling", PR_E_NOT_FOUND);
    check_refused(root, "f/g", PR_E_NOT_FOUND);
    check_refused("/no/such/root", "f", PR_E_NOT_FOUND);
}

static void file_resolve_follows_a_snapshots_links_into_its_own_blobs_only(void **state)
{
    char root[256], path[256];
    static const char *const folders[] = {"a", "a/blobs", "a/snapshots",        "a/snapshots/rev",
                                          "b", "b/blobs", "a/snapshots/rev/sub"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) make_folder(*state, folders[i]);
    make_file(*state, "a/blobs/cafe", "");
    make_file(*state, "b/blobs/cafe", "");
    make_file(*state, "a/secret", "");
    make_link(*state, "a/blobs/onward", "../secret");
    make_link(*state, "a/snapshots/rev/good", "../../blobs/cafe");
    make_link(*state, "a/snapshots/rev/sub/good", "../../../blobs/cafe");
    make_link(*state, "a/snapshots/rev/other", "../../../b/blobs/cafe");
    make_link(*state, "a/snapshots/rev/secret", "../../secret");
    make_link(*state, "a/snapshots/rev/onward", "../../blobs/onward");
    in(*state, "a/snapshots/rev", root);
    check_resolved(root, "good", in(*state, "a/blobs/cafe", path));
    check_resolved(root, "sub/good", in(*state, "a/blobs/cafe", path));
    check_refused(root, "other", PR_E_MODEL);
    check_refused(root, "secret", PR_E_MODEL);
    check_refused(root, "onward", PR_E_MODEL);
}

static void path_join_puts_one_slash(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}, {"a", "b/c", "a/b/c"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *path = pr_path_join(cases[i][0], cases[i][1]);
        assert_string_equal(path, cases[i][2]);
        free(path);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(file_is_read_whole_with_a_nul_behind),
        TEST(file_that_is_not_regular_is_refused_at_once),
        TEST(file_pread_reads_exactly_or_fails),
        TEST(file_resolve_stays_below_the_root),
        TEST(file_resolve_follows_a_snapshots_links_into_its_own_blobs_only),
        TEST(path_join_puts_one_slash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
