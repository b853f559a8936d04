/* Which device a rank takes, and what is said when there is none. */
#define _GNU_SOURCE /* setenv */
#include "worker/device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Prints the devices of all ranks of a host: "0 1 2". */
static void picks_print(const char *list, int n_devices, int n_ranks, char *out, size_t out_bytes)
{
    size_t n = 0;
    out[0] = '\0';
    for (int i = 0; i < n_ranks; i++) {
        int device = -1;
        pr_error err;
        if (pr_device_pick(list, n_devices, i, n_ranks, &device, &err) != PR_OK) {
            fail_msg("%s", err.message);
        }
        n += (size_t)snprintf(out + n, out_bytes - n, "%s%d", i ? " " : "", device);
    }
}

static void every_rank_of_a_host_takes_the_next_device_of_the_list(void **state)
{
    (void)state;
    static const struct {
        const char *list;
        int n_devices, n_ranks;
        const char *expected;
    } cases[] = {
        {NULL, 1, 1, "0"},
        {NULL, 8, 8, "0 1 2 3 4 5 6 7"},
        {NULL, 8, 4, "0 1 2 3"}, /* two groups of two: the second has 2 and 3 */
        {"4,5,6,7", 8, 4, "4 5 6 7"},
        {"3,1", 4, 2, "3 1"},
        {"3,1,0", 4, 2, "3 1"},
        {"63", 64, 1, "63"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char found[256];
        picks_print(cases[i].list, cases[i].n_devices, cases[i].n_ranks, found, sizeof found);
        assert_string_equal(found, cases[i].expected);
    }
}

static void what_no_device_can_serve_is_refused_with_both_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *list;
        int n_devices, n_ranks;
        const char *expected;
    } cases[] = {
        {NULL, 2, 4, "4 ranks on this host, 2 visible devices"},
        {NULL, 1, 2, "2 ranks on this host, 1 visible device:"},
        {NULL, 0, 1, "1 rank on this host, 0 visible devices"},
        {"0,1", 8, 3, "3 ranks on this host, 2 in --devices"},
        {"0,4", 4, 1, "found 4 in 0,4, expected numbers below 4"},
        {"0,1,0", 4, 1, "found 0 twice"},
        {"64", 64, 1, "found 64"},
        {"", 4, 1, "expected numbers of visible devices"},
        {",", 4, 1, "expected numbers of visible devices"},
        {"0,", 4, 1, "expected numbers of visible devices"},
        {"0,,1", 4, 1, "expected numbers of visible devices"},
        {" 0", 4, 1, "expected numbers of visible devices"},
        {"-1", 4, 1, "expected numbers of visible devices"},
        {"0-3", 4, 1, "expected numbers of visible devices"},
        {"all", 4, 1, "expected numbers of visible devices"},
        {"99999999999999999999", 4, 1, "expected numbers of visible devices"},
        {"GPU-8932f937", 4, 1, "expected numbers of visible devices"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int device = 77;
        pr_error err;
        pr_status st =
            pr_device_pick(cases[i].list, cases[i].n_devices, 0, cases[i].n_ranks, &device, &err);
        assert_int_equal(st, PR_E_ARGUMENT);
        if (!strstr(err.message, cases[i].expected)) fail_msg("%s", err.message);
        assert_int_equal(device, 77);
    }
}

/* ---- the plug-in ---- */

static pr_status load(const char *named, pr_error *err)
{
    const pr_cuda_plugin *plugin = NULL;
    setenv("POOLRANK_CUDA_PLUGIN", named, 1);
    pr_status st = pr_cuda_plugin_load(&plugin, err);
    unsetenv("POOLRANK_CUDA_PLUGIN");
    assert_true(st == PR_OK || !plugin);
    return st;
}

static void a_named_plugin_that_is_none_is_refused_with_what_was_found(void **state)
{
    (void)state;
    static const struct {
        const char *named;
        pr_status status;
        const char *expected;
    } cases[] = {
        {"/nowhere/libpoolrank-cuda.so", PR_E_NOT_FOUND,
         "POOLRANK_CUDA_PLUGIN: /nowhere/libpoolrank-cuda.so: no such file"},
        {PR_TESTS_DIR "/CMakeLists.txt", PR_E_UNSUPPORTED, "load " PR_TESTS_DIR "/CMakeLists.txt"},
        {"/proc/self/exe", PR_E_UNSUPPORTED, "load /proc/self/exe"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_error err;
        assert_int_equal(load(cases[i].named, &err), cases[i].status);
        if (!strstr(err.message, cases[i].expected)) fail_msg("%s", err.message);
    }
}

/* This test's program has no plug-in beside it, whatever else was built. */
static void a_program_without_a_plugin_says_where_it_looked(void **state)
{
    (void)state;
    const pr_cuda_plugin *plugin = NULL;
    pr_cuda_device devices[PR_CUDA_DEVICES_MAX];
    int n = 0;
    pr_error err;
    unsetenv("POOLRANK_CUDA_PLUGIN");
    assert_int_equal(pr_cuda_devices(&plugin, devices, &n, &err), PR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "built without CUDA: no libpoolrank-cuda.so in "));
    const pr_device_config config = {.is_cuda = true, .cuda = {.dtype = PR_DTYPE_BF16}};
    pr_backend *b = NULL;
    assert_int_equal(pr_device_open(&config, &b, &err), PR_E_NOT_FOUND);
    assert_null(b);
}

static void a_rank_without_a_gpu_gets_the_cpu(void **state)
{
    (void)state;
    const pr_device_config config = {.cpu = {.n_threads = 1}};
    pr_backend *b = NULL;
    assert_int_equal(pr_device_open(&config, &b, NULL), PR_OK);
    assert_string_equal(b->name, "cpu");
    b->ops->close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rank_of_a_host_takes_the_next_device_of_the_list),
        cmocka_unit_test(what_no_device_can_serve_is_refused_with_both_numbers),
        cmocka_unit_test(a_named_plugin_that_is_none_is_refused_with_what_was_found),
        cmocka_unit_test(a_program_without_a_plugin_says_where_it_looked),
        cmocka_unit_test(a_rank_without_a_gpu_gets_the_cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
