/* From values to a pr_config, and how many threads there are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/options/cpu_count.h"
#include "coordinator/options/config_build.h"
#include "coordinator/options/options.h"

/* The configuration of one command with up to two options. */
static pr_config built(unsigned command, const char *name, const char *value, const char *name_2,
                       const char *value_2)
{
    pr_options *options = pr_options_create_for(command);
    pr_error err = {0};
    pr_config config;
    const char *given[2][2] = {{name, value}, {name_2, value_2}};
    for (int i = 0; i < 2; i++) {
        if (given[i][0] && pr_options_set_from(options, PR_OPTION_SOURCE_OPTION, given[i][0],
                                               given[i][1], &err) != PR_OK) {
            fail_msg("%s", err.message);
        }
    }
    if (pr_config_build(options, &config, &err) != PR_OK) fail_msg("%s", err.message);
    pr_options_free(options);
    return config;
}

static void defaults_are_the_tables(void **state)
{
    (void)state;
    pr_config config = built(PR_COMMAND_EMBED, NULL, NULL, NULL, NULL);
    assert_null(config.model);
    assert_int_equal(config.task, PR_TASK_AUTO);
    assert_int_equal(config.dtype, PR_DTYPE_CHOICE_AUTO);
    assert_int_equal(config.max_model_len, 0);
    assert_int_equal(config.max_num_batched_tokens, 2048);
    assert_int_equal(config.max_num_seqs, 256);
    assert_int_equal(config.tensor_parallel_size, 1);
    assert_int_equal(config.max_errors, -1);
    assert_int_equal(config.log_level, PR_LOG_WARNING);
    assert_true(config.add_special_tokens);
    assert_false(config.block);
    assert_int_equal(config.device, PR_DEVICE_CHOICE_AUTO);
    assert_null(config.devices);
    assert_true(config.gpu_memory_utilization == 0.9);
    assert_false(config.allow_tf32);
    assert_true(config.n_threads >= 1);
    pr_config_deinit(&config);
    pr_config_deinit(&config);
}

static void each_choice_becomes_its_enumerator(void **state)
{
    (void)state;
    static const struct {
        unsigned command;
        const char *name, *value;
        size_t offset;
        int expected;
    } cases[] = {
        {PR_COMMAND_EMBED, "task", "embedding", offsetof(pr_config, task), PR_TASK_EMBED},
        {PR_COMMAND_EMBED, "task", "reward", offsetof(pr_config, task), PR_TASK_REWARD},
        {PR_COMMAND_EMBED, "dtype", "float", offsetof(pr_config, dtype), PR_DTYPE_CHOICE_FLOAT32},
        {PR_COMMAND_EMBED, "dtype", "bfloat16", offsetof(pr_config, dtype),
         PR_DTYPE_CHOICE_BFLOAT16},
        {PR_COMMAND_EMBED, "dtype", "half", offsetof(pr_config, dtype), PR_DTYPE_CHOICE_FLOAT16},
        {PR_COMMAND_EMBED, "device", "cpu", offsetof(pr_config, device), PR_DEVICE_CHOICE_CPU},
        {PR_COMMAND_EMBED, "device", "cuda", offsetof(pr_config, device), PR_DEVICE_CHOICE_CUDA},
        {PR_COMMAND_EMBED, "cpu-isa", "avx2", offsetof(pr_config, cpu_isa), PR_CPU_ISA_AVX2},
        {PR_COMMAND_EMBED, "truncation-side", "left", offsetof(pr_config, truncation_side),
         PR_TRUNCATION_SIDE_LEFT},
        {PR_COMMAND_REWARD, "reduce", "product", offsetof(pr_config, reduce), PR_REDUCE_PRODUCT},
        {PR_COMMAND_EMBED, "log-level", "debug", offsetof(pr_config, log_level), PR_LOG_DEBUG},
        {PR_COMMAND_EMBED, "log-format", "json", offsetof(pr_config, log_format), PR_LOG_JSON},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_config config = built(cases[i].command, cases[i].name, cases[i].value, NULL, NULL);
        int value;
        memcpy(&value, (char *)&config + cases[i].offset, sizeof value);
        if (value != cases[i].expected) fail_msg("%s %s: %d", cases[i].name, cases[i].value, value);
        pr_config_deinit(&config);
    }
}

static void numbers_may_have_suffixes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int expected;
    } cases[] = {{"512", 512}, {"1k", 1000}, {"1K", 1024}, {"2.5k", 2500}, {"1M", 1 << 20}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_config config = built(PR_COMMAND_EMBED, "max-model-len", cases[i].text, NULL, NULL);
        assert_int_equal(config.max_model_len, cases[i].expected);
        pr_config_deinit(&config);
    }
}

/* The dtypes of vLLM's --dtype; what a checkpoint says counts on a GPU only. */
static void a_dtype_is_what_was_asked_for_or_what_the_device_prefers(void **state)
{
    (void)state;
    static const struct {
        const char *asked;
        bool is_cuda;
        pr_dtype stored, expected;
        const char *source;
    } cases[] = {
        {"auto", false, PR_DTYPE_BF16, PR_DTYPE_F32, "the CPU's default"},
        {"auto", true, PR_DTYPE_BF16, PR_DTYPE_BF16, "config.json"},
        {"auto", true, PR_DTYPE_F16, PR_DTYPE_F16, "config.json"},
        {"auto", true, PR_DTYPE_F32, PR_DTYPE_F32, "config.json"},
        {"auto", true, PR_DTYPE_I64, PR_DTYPE_F32, "default"},
        {"bfloat16", false, PR_DTYPE_F32, PR_DTYPE_BF16, "--dtype"},
        {"bfloat16", true, PR_DTYPE_F16, PR_DTYPE_BF16, "--dtype"},
        {"half", true, PR_DTYPE_BF16, PR_DTYPE_F16, "--dtype"},
        {"float16", true, PR_DTYPE_F32, PR_DTYPE_F16, "--dtype"},
        {"float", true, PR_DTYPE_BF16, PR_DTYPE_F32, "--dtype"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_config c = built(PR_COMMAND_EMBED, "dtype", cases[i].asked, NULL, NULL);
        const char *source = NULL;
        pr_dtype found = pr_dtype_choose(c.dtype, cases[i].is_cuda, cases[i].stored, &source);
        c.device = cases[i].is_cuda ? PR_DEVICE_CHOICE_CUDA : PR_DEVICE_CHOICE_CPU;
        assert_int_equal(found, cases[i].expected);
        assert_int_equal(pr_config_dtype(&c, cases[i].stored), cases[i].expected);
        assert_string_equal(source, cases[i].source);
        pr_config_deinit(&c);
    }
}

static void devices_and_their_memory_are_checked_without_any(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value, *expected;
    } cases[] = {
        {"devices", "0,0", "devices: found 0 twice in 0,0"},
        {"devices", "one", "devices: found one, expected numbers of visible devices"},
        {"devices", "64", "found 64 in 64, expected numbers below 64"},
        {"gpu-memory-utilization", "0", "found 0, expected more than 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_options *options = pr_options_create_for(PR_COMMAND_EMBED);
        pr_config config;
        pr_error err;
        assert_int_equal(pr_options_set_from(options, PR_OPTION_SOURCE_OPTION, cases[i].name,
                                             cases[i].value, NULL), PR_OK);
        assert_int_equal(pr_config_build(options, &config, &err), PR_E_ARGUMENT);
        if (!strstr(err.message, cases[i].expected)) fail_msg("%s", err.message);
        pr_options_free(options);
    }
}

static void quiet_lowers_the_log_level_unless_that_is_given(void **state)
{
    (void)state;
    pr_config config = built(PR_COMMAND_EMBED, "quiet", NULL, NULL, NULL);
    assert_int_equal(config.log_level, PR_LOG_ERROR);
    pr_config_deinit(&config);
    config = built(PR_COMMAND_EMBED, "quiet", NULL, "log-level", "info");
    assert_int_equal(config.log_level, PR_LOG_INFO);
    pr_config_deinit(&config);
}

static void the_download_folder_replaces_the_cache_of_the_environment(void **state)
{
    (void)state;
    char *env[] = {"HF_HUB_CACHE=/hub", "HF_HOME=/hf", "HOME=", "SLURM_CPUS_PER_TASK=1", NULL};
    for (int with_option = 0; with_option < 2; with_option++) {
        pr_options *options = pr_options_create_for(PR_COMMAND_EMBED);
        assert_int_equal(pr_options_read_environment(options, env, true, NULL), PR_OK);
        if (with_option) {
            pr_options_set_from(options, PR_OPTION_SOURCE_OPTION, "download-dir", "/d", NULL);
        }
        pr_config config;
        assert_int_equal(pr_config_build(options, &config, NULL), PR_OK);
        assert_string_equal(config.hub.hf_hub_cache, with_option ? "/d" : "/hub");
        assert_string_equal(config.hub.hf_home, "/hf");
        assert_null(config.hub.home);
        assert_int_equal(config.n_threads, 1);
        pr_config_deinit(&config);
        pr_options_free(options);
    }
}

static void json_options_become_objects(void **state)
{
    (void)state;
    pr_config config = built(PR_COMMAND_EMBED, "pooler_config", "{\"normalize\":false}",
                             "hf-overrides", "{\"rope_theta\":5}");
    assert_true(json_is_false(json_object_get(config.override_pooler_config, "normalize")));
    assert_int_equal(json_integer_value(json_object_get(config.hf_overrides, "rope_theta")), 5);
    pr_config_deinit(&config);
}

static void quotas_round_up(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int expected;
    } cases[] = {{"max 100000\n", 0}, {"100000 100000\n", 1}, {"150000 100000\n", 2},
                 {"50000 100000", 1}, {"-1 100000", 0},       {"", 0},
                 {"100000", 0},       {"100000 0", 0},        {"9223372036854775807 1", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (pr_cpu_quota_parse(cases[i].text) != cases[i].expected) {
            fail_msg("\"%s\": %d", cases[i].text, (int)pr_cpu_quota_parse(cases[i].text));
        }
    }
}

static void the_cgroup_path_is_found_in_both_versions(void **state)
{
    (void)state;
    char path[64];
    const char *text = "12:cpuset:/x\n3:cpu,cpuacct:/slurm/job_1\n0::/user.slice/a/\n";
    assert_true(pr_cpu_cgroup_path(text, true, path, sizeof path));
    assert_string_equal(path, "/user.slice/a");
    assert_true(pr_cpu_cgroup_path(text, false, path, sizeof path));
    assert_string_equal(path, "/slurm/job_1");
    assert_true(pr_cpu_cgroup_path("0::/\n", true, path, sizeof path));
    assert_string_equal(path, "");
    assert_false(pr_cpu_cgroup_path("0::/\n", false, path, sizeof path));
    assert_false(pr_cpu_cgroup_path("nonsense", true, path, sizeof path));
    assert_false(pr_cpu_cgroup_path("0::/longer/than/that", true, path, 4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_the_tables),
        cmocka_unit_test(each_choice_becomes_its_enumerator),
        cmocka_unit_test(numbers_may_have_suffixes),
        cmocka_unit_test(a_dtype_is_what_was_asked_for_or_what_the_device_prefers),
        cmocka_unit_test(devices_and_their_memory_are_checked_without_any),
        cmocka_unit_test(quiet_lowers_the_log_level_unless_that_is_given),
        cmocka_unit_test(the_download_folder_replaces_the_cache_of_the_environment),
        cmocka_unit_test(json_options_become_objects),
        cmocka_unit_test(quotas_round_up),
        cmocka_unit_test(the_cgroup_path_is_found_in_both_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
