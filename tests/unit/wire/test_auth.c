/* Keys and proofs. */
#define _GNU_SOURCE
#include "runtime/wire/auth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- proofs ---- */

static void hex(const uint8_t *bytes, size_t n, char *out)
{
    for (size_t i = 0; i < n; i++) sprintf(out + 2 * i, "%02x", bytes[i]);
}

/* RFC 4231, sections 4.2 to 4.8 without the truncated one. */
static void hmac_is_that_of_rfc_4231(void **state)
{
    (void)state;
    static const struct {
        char key_byte;
        size_t n_key;
        const char *key;
        char data_byte;
        size_t n_data;
        const char *data;
        const char *digest;
    } cases[] = {
        {0x0b, 20, NULL, 0, 8, "Hi There",
         "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
        {0, 4, "Jefe", 0, 28, "what do ya want for nothing?",
         "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
        {(char)0xaa, 20, NULL, (char)0xdd, 50, NULL,
         "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
        {(char)0xaa, 131, NULL, 0, 54, "Test Using Larger Than Block-Size Key - Hash Key First",
         "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
        {(char)0xaa, 131, NULL, 0, 152,
         "This is a test using a larger than block-size key and a larger than block-size data. The "
         "key needs to be hashed before being used by the HMAC algorithm.",
         "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char key[256], data[256], text[2 * PR_PROOF_BYTES + 1];
        memset(key, cases[i].key_byte, sizeof key);
        memset(data, cases[i].data_byte, sizeof data);
        if (cases[i].key) memcpy(key, cases[i].key, cases[i].n_key);
        if (cases[i].data) memcpy(data, cases[i].data, cases[i].n_data);
        uint8_t digest[PR_PROOF_BYTES];
        pr_hmac_sha256(key, cases[i].n_key, data, cases[i].n_data, digest);
        hex(digest, sizeof digest, text);
        assert_string_equal(text, cases[i].digest);
    }
}

static void a_proof_is_the_hmac_of_role_nonces_and_identity(void **state)
{
    (void)state;
    pr_key key = {.bytes = "0123456789abcdefXYZ", .n = 19};
    uint8_t nonce_i[PR_NONCE_BYTES], nonce_r[PR_NONCE_BYTES];
    memset(nonce_i, 1, sizeof nonce_i);
    memset(nonce_r, 2, sizeof nonce_r);
    for (int role = 0; role < 2; role++) {
        bool is_initiator = role == PR_AUTH_INITIATOR;
        char data[1 + 2 * PR_NONCE_BYTES + 4];
        data[0] = is_initiator ? 'i' : 'r';
        memset(data + 1, is_initiator ? 2 : 1, PR_NONCE_BYTES);
        memset(data + 1 + PR_NONCE_BYTES, is_initiator ? 1 : 2, PR_NONCE_BYTES);
        memcpy(data + 1 + 2 * PR_NONCE_BYTES, "rank", 4);
        uint8_t expected[PR_PROOF_BYTES], proof[PR_PROOF_BYTES];
        pr_hmac_sha256(key.bytes, key.n, data, sizeof data, expected);
        pr_auth_prove(&key, (pr_auth_role)role, nonce_i, nonce_r, "rank", 4, proof);
        assert_true(pr_proof_equal(proof, expected));
        proof[PR_PROOF_BYTES - 1] ^= 1;
        assert_false(pr_proof_equal(proof, expected));
    }
}

static void nonces_are_never_the_same(void **state)
{
    (void)state;
    uint8_t a[PR_NONCE_BYTES] = {0}, b[PR_NONCE_BYTES] = {0};
    assert_int_equal(pr_nonce_make(a, NULL), PR_OK);
    assert_int_equal(pr_nonce_make(b, NULL), PR_OK);
    assert_memory_not_equal(a, b, sizeof a);
}

/* ---- key files ---- */

static int setup(void **state)
{
    char *folder = strdup("/tmp/poolrank_auth_XXXXXX");
    if (!folder || !mkdtemp(folder)) return -1;
    *state = folder;
    return 0;
}

static void path_of(const char *folder, char path[128])
{
    snprintf(path, 128, "%s/key", folder);
}

static int teardown(void **state)
{
    char path[128];
    path_of(*state, path);
    unlink(path);
    rmdir(path);
    rmdir(*state);
    free(*state);
    return 0;
}

static void write_key(const char *path, size_t n, bool has_line_feed, mode_t mode)
{
    unlink(path);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    for (size_t i = 0; i < n; i++) fputc('k', out);
    if (has_line_feed) fputc('\n', out);
    fclose(out);
    assert_int_equal(chmod(path, mode), 0);
}

static void assert_no_key(const char *path, pr_status status, const char *part)
{
    pr_key key = {.n = 1234};
    pr_error err = {0};
    assert_int_equal(pr_key_read(path, &key, &err), status);
    assert_int_equal(key.n, 1234); /* untouched */
    assert_non_null(strstr(err.message, part));
    assert_non_null(strstr(err.message, path));
}

static void a_created_key_is_read_again_and_never_overwritten(void **state)
{
    char path[128];
    path_of(*state, path);
    mode_t mask = umask(0777); /* the mode does not depend on it */
    pr_status st = pr_key_create(path, NULL);
    umask(mask);
    assert_int_equal(st, PR_OK);
    struct stat s;
    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(s.st_mode & 07777, 0600);
    pr_key key, again;
    assert_int_equal(pr_key_read(path, &key, NULL), PR_OK);
    assert_int_equal(key.n, 64);
    assert_int_equal(strspn((char *)key.bytes, "0123456789abcdef"), 64);
    assert_int_equal(pr_key_create(path, NULL), PR_E_IO);
    assert_int_equal(pr_key_read(path, &again, NULL), PR_OK);
    assert_memory_equal(key.bytes, again.bytes, 64);
    unlink(path);
    assert_int_equal(pr_key_create(path, NULL), PR_OK);
    assert_int_equal(pr_key_read(path, &again, NULL), PR_OK);
    assert_memory_not_equal(key.bytes, again.bytes, 64);
}

static void a_key_has_16_to_4096_bytes_without_its_line_feed(void **state)
{
    char path[128];
    path_of(*state, path);
    static const struct {
        size_t n;
        bool has_line_feed, is_fine;
    } cases[] = {{16, false, true},   {16, true, true},     {4096, false, true},
                 {4096, true, true},  {0, false, false},    {0, true, false},
                 {15, false, false},  {15, true, false},    {4097, false, false},
                 {4097, true, false}, {100000, true, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_key(path, cases[i].n, cases[i].has_line_feed, 0600);
        if (!cases[i].is_fine) {
            assert_no_key(path, PR_E_ARGUMENT, "bytes, expected 16 to 4096");
            continue;
        }
        pr_key key;
        assert_int_equal(pr_key_read(path, &key, NULL), PR_OK);
        assert_int_equal(key.n, cases[i].n);
    }
}

static void a_key_that_others_may_touch_is_refused(void **state)
{
    char path[128];
    path_of(*state, path);
    for (int bit = 0; bit < 6; bit++) {
        write_key(path, 32, true, (mode_t)(0600 | 1 << bit));
        char expected[64];
        snprintf(expected, sizeof expected, "mode: found %04o, expected 0600", 0600 | 1 << bit);
        assert_no_key(path, PR_E_ARGUMENT, expected);
    }
    write_key(path, 32, true, 0400);
    pr_key key;
    assert_int_equal(pr_key_read(path, &key, NULL), PR_OK);
}

static void another_users_key_is_refused(void **state)
{
    if (geteuid() != 0) skip(); /* only root gives files away */
    char path[128];
    path_of(*state, path);
    write_key(path, 32, true, 0600);
    assert_int_equal(chown(path, 12345, (gid_t)-1), 0);
    assert_no_key(path, PR_E_ARGUMENT, "owner: found user 12345, expected 0");
}

static void what_is_no_regular_file_is_refused_without_waiting(void **state)
{
    char path[128], target[160];
    path_of(*state, path);
    assert_no_key(path, PR_E_NOT_FOUND, "No such file");
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_no_key(path, PR_E_ARGUMENT, "expected a regular file");
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_no_key(path, PR_E_ARGUMENT, "expected a regular file");
    rmdir(path);
    snprintf(target, sizeof target, "%s.target", path);
    write_key(target, 32, true, 0600);
    assert_int_equal(symlink(target, path), 0);
    assert_no_key(path, PR_E_ARGUMENT, "symbolic link");
    assert_int_equal(pr_key_create(path, NULL), PR_E_IO);
    unlink(target);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hmac_is_that_of_rfc_4231),
        cmocka_unit_test(a_proof_is_the_hmac_of_role_nonces_and_identity),
        cmocka_unit_test(nonces_are_never_the_same),
        cmocka_unit_test_setup_teardown(a_created_key_is_read_again_and_never_overwritten, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_key_has_16_to_4096_bytes_without_its_line_feed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_key_that_others_may_touch_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(another_users_key_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_regular_file_is_refused_without_waiting, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
