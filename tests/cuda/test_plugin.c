/* The CUDA plug-in as it is linked: PR_TEST_PLUGIN names its file. */
#include "worker/cuda/plugin.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const pr_cuda_plugin *plugin_load(void)
{
    void *library = dlopen(PR_TEST_PLUGIN, RTLD_NOW | RTLD_LOCAL);
    if (!library) fail_msg("%s", dlerror());
    const pr_cuda_plugin *(*get)(void) = NULL;
    void *symbol = dlsym(library, "pr_cuda_plugin_get");
    assert_non_null(symbol);
    memcpy(&get, &symbol, sizeof get);
    return get();
}

static void the_library_exports_its_getter_and_nothing_else(void **state)
{
    (void)state;
    FILE *names = popen(PR_TEST_NM " -D --defined-only --format=posix " PR_TEST_PLUGIN, "r");
    assert_non_null(names);
    char line[512];
    int n = 0;
    while (fgets(line, sizeof line, names)) {
        if (strncmp(line, "pr_cuda_plugin_get ", strlen("pr_cuda_plugin_get ")) != 0)
            fail_msg("exports %s", line);
        n++;
    }
    assert_int_equal(pclose(names), 0);
    assert_int_equal(n, 1);
}

static void the_table_is_complete_and_of_this_version(void **state)
{
    (void)state;
    const pr_cuda_plugin *plugin = plugin_load();
    assert_int_equal(plugin->abi, PR_CUDA_PLUGIN_ABI);
    assert_false(plugin->is_simulated);
    assert_non_null(strstr(plugin->description, "CUDA "));
    assert_non_null(strstr(plugin->description, "sm_"));
    assert_non_null(plugin->devices);
    assert_non_null(plugin->backend_create);
    assert_non_null(plugin->comm_id);
    assert_non_null(plugin->comm_create);
}

/* Either there are devices, and each is described; or the message says what is missing. */
static void devices_are_described_or_it_is_said_why_there_are_none(void **state)
{
    (void)state;
    const pr_cuda_plugin *plugin = plugin_load();
    static pr_cuda_device devices[PR_CUDA_DEVICES_MAX];
    pr_error err = {0};
    int n = 0;
    pr_status st = plugin->devices(devices, &n, &err);
    if (st == PR_OK) {
        assert_in_range(n, 1, PR_CUDA_DEVICES_MAX);
        for (int i = 0; i < n; i++) {
            assert_int_equal(devices[i].index, i);
            assert_in_range(devices[i].capability, 10, 999);
            assert_true(devices[i].name[0] != '\0');
            assert_true(devices[i].free_bytes <= devices[i].total_bytes);
        }
        return;
    }
    print_message("%s\n", err.message);
    assert_int_equal(st, PR_E_UNAVAILABLE);
    assert_non_null(strstr(err.message, "driver"));
    assert_non_null(strstr(err.message, "CUDA "));
    pr_backend *backend = NULL;
    const pr_cuda_options options = {.device = 0, .dtype = PR_DTYPE_BF16};
    assert_int_equal(plugin->backend_create(&options, &backend, &err), PR_E_UNAVAILABLE);
    assert_null(backend);
    print_message("%s\n", err.message);
}

static void an_unknown_dtype_is_refused(void **state)
{
    (void)state;
    pr_error err = {0};
    pr_backend *backend = NULL;
    const pr_cuda_options options = {.device = 0, .dtype = PR_DTYPE_I8};
    assert_int_equal(plugin_load()->backend_create(&options, &backend, &err), PR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "int8"));
    assert_null(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_library_exports_its_getter_and_nothing_else),
        cmocka_unit_test(the_table_is_complete_and_of_this_version),
        cmocka_unit_test(devices_are_described_or_it_is_said_why_there_are_none),
        cmocka_unit_test(an_unknown_dtype_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
