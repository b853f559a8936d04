/* Who may use the service: what a key file may hold, and which key a client sent. */
#define _GNU_SOURCE
#include "server/service/api_keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRET "s3cret-of-nobody" /* no message may hold it */

static char folder[] = "/tmp/poolrank-api-keys-XXXXXX";

static int folder_make(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int folder_remove(void **state)
{
    (void)state;
    return rmdir(folder);
}

static const char *file_path(void)
{
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/keys", folder);
    return path;
}

/* The path of a new file. */
static const char *file_with(const void *data, size_t n, mode_t mode)
{
    const char *path = file_path();
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, n), n);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
    return path;
}

static const char *file_of(const char *text)
{
    return file_with(text, strlen(text), 0600);
}

static pr_api_keys *opened(const char *file)
{
    pr_api_keys *keys = NULL;
    pr_error err = {0};
    if (pr_api_keys_open(file, NULL, NULL, 0, &keys, &err) != PR_OK) fail_msg("%s", err.message);
    return keys;
}

static const char *found(const pr_api_keys *keys, const char *key)
{
    return pr_api_keys_find(keys, key, strlen(key));
}

static void assert_refused(const char *text, size_t n, const char *says)
{
    pr_api_keys *keys = NULL;
    pr_error err = {0};
    assert_int_equal(pr_api_keys_parse(text, n, "file", &keys, &err), PR_E_ARGUMENT);
    assert_null(keys);
    if (strcmp(err.message, says) != 0)
        fail_msg("found \"%s\", expected \"%s\"", err.message, says);
}

/* ---- finding ---- */

static void a_key_is_found_by_all_of_its_bytes(void **state)
{
    (void)state;
    pr_api_keys *keys = opened(file_of("# keys of the house\n"
                                       "\n"
                                       "alice:k-alice\n"
                                       " \t \n"
                                       "bob.b_b-2:with:colons==\r\n"
                                       "carol:last"));
    assert_true(pr_api_keys_are_needed(keys));
    assert_int_equal(pr_api_keys_count(keys), 3);
    assert_string_equal(found(keys, "k-alice"), "alice");
    assert_string_equal(found(keys, "with:colons=="), "bob.b_b-2");
    assert_string_equal(found(keys, "last"), "carol");
    static const char *const none[] = {"",      "k-alic", "k-alicee", "K-alice",      "alice",
                                       "last ", "las",    "last\n",   "alice:k-alice"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) assert_null(found(keys, none[i]));
    assert_null(pr_api_keys_find(keys, "last\0", 5));
    pr_api_keys_free(keys);
    unlink(file_path());
}

static void the_longest_key_and_the_longest_name_are_taken(void **state)
{
    (void)state;
    char text[PR_API_KEY_NAME_BYTES_MAX + 1 + PR_API_KEY_BYTES_MAX + 2];
    memset(text, 'n', PR_API_KEY_NAME_BYTES_MAX);
    text[PR_API_KEY_NAME_BYTES_MAX] = ':';
    char *key = text + PR_API_KEY_NAME_BYTES_MAX + 1;
    memset(key, 'k', PR_API_KEY_BYTES_MAX + 1);
    pr_api_keys *keys = NULL;
    pr_error err;
    size_t n = (size_t)(key - text) + PR_API_KEY_BYTES_MAX;
    assert_int_equal(pr_api_keys_parse(text, n, "file", &keys, &err), PR_OK);
    assert_non_null(pr_api_keys_find(keys, key, PR_API_KEY_BYTES_MAX));
    assert_int_equal(strlen(pr_api_keys_find(keys, key, PR_API_KEY_BYTES_MAX)),
                     PR_API_KEY_NAME_BYTES_MAX);
    assert_null(pr_api_keys_find(keys, key, PR_API_KEY_BYTES_MAX - 1));
    assert_null(pr_api_keys_find(keys, key, PR_API_KEY_BYTES_MAX + 1));
    pr_api_keys_free(keys);
    assert_refused(text, n + 1, "file: line 1: the key: found 4097 bytes, expected 1 to 4096");
    memmove(text + 1, text, PR_API_KEY_NAME_BYTES_MAX + 3);
    assert_refused(text, PR_API_KEY_NAME_BYTES_MAX + 3,
                   "file: line 1: the name: found 65 bytes, expected 1 to 64");
}

static void without_any_key_everybody_is_let_in(void **state)
{
    (void)state;
    pr_api_keys *keys = opened(NULL);
    assert_false(pr_api_keys_are_needed(keys));
    assert_null(found(keys, ""));
    assert_null(found(keys, "anything"));
    pr_api_keys_free(keys);
    pr_api_keys_free(NULL);
}

static void option_and_environment_are_keys_beside_the_file(void **state)
{
    (void)state;
    static const char *const given[] = {"from-ps", "from-env"}, *const names[] = {"option",
                                                                                  "environment"};
    pr_api_keys *keys = NULL;
    pr_error err;
    const char *file = file_of("alice:k-alice\n");
    assert_int_equal(pr_api_keys_open(file, given, names, 2, &keys, &err), PR_OK);
    assert_string_equal(found(keys, "from-ps"), "option");
    assert_string_equal(found(keys, "from-env"), "environment");
    assert_string_equal(found(keys, "k-alice"), "alice");
    pr_api_keys_free(keys);

    static const struct {
        const char *key, *file, *says;
    } cases[] = {
        {"", "a:b\n", "API key of the option: the key: found 0 bytes, expected 1 to 4096"},
        {"two words", "a:b\n",
         "API key of the option: the key: byte 4: found a space, a control "
         "byte or no ASCII, which no client can send"},
        {SECRET, "a:" SECRET "\n",
         "line 1: the key is that of --api-key or POOLRANK_API_KEY again"},
        {SECRET, "option:b\n", "line 1: the name is that of --api-key or POOLRANK_API_KEY again"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        keys = NULL;
        file = file_of(cases[i].file);
        assert_int_equal(pr_api_keys_open(file, &cases[i].key, names, 1, &keys, &err),
                         PR_E_ARGUMENT);
        assert_null(keys);
        assert_non_null(strstr(err.message, cases[i].says));
        assert_null(strstr(err.message, SECRET));
    }
    unlink(file_path());
}

/* ---- files that are refused ---- */

static void a_malformed_line_is_refused_by_number_and_never_shown(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "found no key, expected lines name:key"},
        {"# only this\n\n", "found no key, expected lines name:key"},
        {"a:b\n" SECRET "\n", "line 2: found no colon, expected name:key"},
        {":" SECRET, "line 1: the name: found 0 bytes, expected 1 to 64"},
        {"\n\nname:\n", "line 3: the key: found 0 bytes, expected 1 to 4096"},
        {"na me:" SECRET, "line 1: the name: byte 3: expected one of A-Z a-z 0-9 . _ -"},
        {" name:" SECRET, "line 1: the name: byte 1: expected one of A-Z a-z 0-9 . _ -"},
        {"\xEF\xBB\xBFname:k", "line 1: the name: byte 1: expected one of A-Z a-z 0-9 . _ -"},
        {"n:" SECRET " \n", "line 1: the key: byte 17: found a space, a control byte or no ASCII, "
                            "which no client can send"},
        {"n: " SECRET, "line 1: the key: byte 1: found a space, a control byte or no ASCII, which "
                       "no client can send"},
        {"n:\xC3\xA9", "line 1: the key: byte 1: found a space, a control byte or no ASCII, which "
                       "no client can send"},
        {"a:" SECRET "\nb:c\na:d\n", "line 3: the name is that of line 1 again"},
        {"a:" SECRET "\n#\nb:" SECRET "\n", "line 3: the key is that of line 1 again"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char says[200];
        snprintf(says, sizeof says, "file: %s", cases[i].says);
        assert_refused(cases[i].text, strlen(cases[i].text), says);
    }
    assert_refused("a:b\0c\n", 6,
                   "file: line 1: the key: byte 2: found a space, a control byte or "
                   "no ASCII, which no client can send");
    assert_refused("a\0:b\n", 5,
                   "file: line 1: the name: byte 2: expected one of A-Z a-z 0-9 . _ -");
}

static void more_keys_than_the_bound_are_refused(void **state)
{
    (void)state;
    char *text = malloc((PR_API_KEYS_MAX + 1) * 32);
    assert_non_null(text);
    size_t n = 0;
    for (int i = 0; i < PR_API_KEYS_MAX; i++) n += (size_t)sprintf(text + n, "n%d:k%d\n", i, i);
    pr_api_keys *keys = NULL;
    pr_error err;
    assert_int_equal(pr_api_keys_parse(text, n, "file", &keys, &err), PR_OK);
    assert_int_equal(pr_api_keys_count(keys), PR_API_KEYS_MAX);
    assert_string_equal(found(keys, "k0"), "n0");
    assert_string_equal(found(keys, "k9999"), "n9999");
    pr_api_keys_free(keys);
    n += (size_t)sprintf(text + n, "one:more\n");
    assert_refused(text, n, "file: line 10001: found more than 10000 keys");
    free(text);
}

static void a_file_that_others_may_read_is_refused(void **state)
{
    (void)state;
    static const mode_t open_modes[] = {0640, 0604, 0660, 0644, 0610, 0601, 0777};
    for (size_t i = 0; i < sizeof open_modes / sizeof *open_modes; i++) {
        pr_api_keys *keys = NULL;
        pr_error err;
        const char *file = file_with("a:" SECRET, strlen("a:" SECRET), open_modes[i]);
        assert_int_equal(pr_api_keys_open(file, NULL, NULL, 0, &keys, &err), PR_E_ARGUMENT);
        char says[100];
        snprintf(says, sizeof says, "mode: found %04o, expected 0600 (chmod 600)",
                 (unsigned)open_modes[i]);
        assert_non_null(strstr(err.message, says));
        assert_non_null(strstr(err.message, file));
    }
    pr_api_keys_free(opened(file_with("a:b", 3, 0400)));
    unlink(file_path());
}

static void what_is_no_file_of_this_user_is_refused(void **state)
{
    (void)state;
    pr_api_keys *keys = NULL;
    pr_error err;
    const char *path = file_path();
    unlink(path);
    assert_int_equal(pr_api_keys_open(path, NULL, NULL, 0, &keys, &err), PR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, path));
    assert_int_equal(pr_api_keys_open(folder, NULL, NULL, 0, &keys, &err), PR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "expected a regular file"));
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(pr_api_keys_open(path, NULL, NULL, 0, &keys, &err), PR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "expected a regular file"));
    if (geteuid() == 0) {
        path = file_of("a:" SECRET);
        assert_int_equal(chown(path, 12345, (gid_t)-1), 0);
        assert_int_equal(pr_api_keys_open(path, NULL, NULL, 0, &keys, &err), PR_E_ARGUMENT);
        assert_non_null(strstr(err.message, "owner: found user 12345, expected 0 or root"));
    }
    unlink(path);
    assert_null(keys);
}

/* As Kubernetes lays out a secret. */
static void a_link_to_a_proper_file_is_followed(void **state)
{
    (void)state;
    char link[PATH_MAX];
    snprintf(link, sizeof link, "%s/link", folder);
    assert_int_equal(symlink("keys", link), 0);
    file_of("a:b\n");
    pr_api_keys *keys = opened(link);
    assert_string_equal(found(keys, "b"), "a");
    pr_api_keys_free(keys);
    unlink(link);
    unlink(file_path());
}

/* ---- what clients send ---- */

static void the_key_of_a_header_follows_its_scheme(void **state)
{
    (void)state;
    static const struct {
        const char *header, *key;
    } cases[] = {
        {"Bearer k", "k"},    {"bearer k", "k"},         {"BEARER   k", "k"},
        {"Bearer k \t", "k"}, {"Bearer a=b:c", "a=b:c"}, {"Bearer", NULL},
        {"Bearer ", NULL},    {"Bearerk", NULL},         {"Bearer\tk", NULL},
        {"Bearer a b", NULL}, {"Basic a2V5", NULL},      {"k", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n = 99;
        const char *key = pr_api_key_of_header(cases[i].header, &n);
        if (!cases[i].key) {
            assert_null(key);
            continue;
        }
        assert_non_null(key);
        assert_int_equal(n, strlen(cases[i].key));
        assert_memory_equal(key, cases[i].key, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_found_by_all_of_its_bytes),
        cmocka_unit_test(the_longest_key_and_the_longest_name_are_taken),
        cmocka_unit_test(without_any_key_everybody_is_let_in),
        cmocka_unit_test(option_and_environment_are_keys_beside_the_file),
        cmocka_unit_test(a_malformed_line_is_refused_by_number_and_never_shown),
        cmocka_unit_test(more_keys_than_the_bound_are_refused),
        cmocka_unit_test(a_file_that_others_may_read_is_refused),
        cmocka_unit_test(what_is_no_file_of_this_user_is_refused),
        cmocka_unit_test(a_link_to_a_proper_file_is_followed),
        cmocka_unit_test(the_key_of_a_header_follows_its_scheme),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
