/* The option table, the text of values, and where values come from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "coordinator/options/options.h"

static pr_options *embed_options(void)
{
    pr_options *options = pr_options_create_for(PR_COMMAND_EMBED);
    assert_non_null(options);
    return options;
}

static pr_status given(const char *name, const char *value, pr_error *err)
{
    pr_options *options = embed_options();
    pr_status st = pr_options_set_from(options, PR_OPTION_SOURCE_OPTION, name, value, err);
    pr_options_free(options);
    return st;
}

static void every_row_is_complete(void **state)
{
    (void)state;
    const pr_option_row *row;
    for (size_t i = 0; (row = pr_option_at(i)) != NULL; i++) {
        assert_non_null(row->name);
        assert_true(row->help || row->reason);
        assert_true(row->effect == PR_OPTION_HONOURED || row->reason);
        assert_true(row->kind == PR_OPTION_SWITCH || row->metavar);
        assert_true(row->kind != PR_OPTION_CHOICE || (row->choices && row->initial));
        assert_true(!row->choices_refused || row->reason);
        bool is_negated;
        assert_ptr_equal(pr_option_find(row->name, &is_negated), row); /* names are unique */
        if (row->short_form) assert_ptr_equal(pr_option_find(row->short_form, &is_negated), row);
        if (row->other_name) assert_ptr_equal(pr_option_find(row->other_name, &is_negated), row);
    }
    assert_null(pr_option_at(pr_option_count()));
}

static void a_name_is_found_in_either_spelling(void **state)
{
    (void)state;
    bool is_negated;
    const pr_option_row *row = pr_option_find("max_model_len", &is_negated);
    assert_non_null(row);
    assert_string_equal(row->name, "max-model-len");
    assert_string_equal(pr_option_find("pooler-config", &is_negated)->name,
                        "override-pooler-config");
    assert_string_equal(pr_option_find("-tp", &is_negated)->name, "tensor-parallel-size");
    assert_false(is_negated);
    assert_string_equal(pr_option_find("no-add-special-tokens", &is_negated)->name,
                        "add-special-tokens");
    assert_true(is_negated);
    assert_null(pr_option_find("no-max-model-len", &is_negated));
    assert_null(pr_option_find("", &is_negated));
}

static const struct {
    const char *name, *value;
    pr_status st;
    const char *says;
} value_cases[] = {
    {"max-model-len", "512", PR_OK, NULL},
    {"max-model-len", "1k", PR_OK, NULL},
    {"max-model-len", "1K", PR_OK, NULL},
    {"max-model-len", "25.6k", PR_OK, NULL},
    {"max-model-len", "0", PR_E_ARGUMENT, "--max-model-len: found 0"},
    {"max-model-len", "-1", PR_E_ARGUMENT, "1 or more"},
    {"max-model-len", "12x", PR_E_ARGUMENT, "found 12x"},
    {"max-model-len", "", PR_E_ARGUMENT, "whole number"},
    {"max-model-len", "1.5", PR_E_ARGUMENT, "found 1.5"},
    {"max-model-len", "1e3", PR_E_ARGUMENT, "found 1e3"},
    {"max-model-len", "99999999999", PR_E_ARGUMENT, "found 99999999999"},
    {"max-model-len", NULL, PR_E_ARGUMENT, "expected a value (N)"},
    {"threads", "2000", PR_E_ARGUMENT, "from 0 to 1024"},
    {"truncate-prompt-tokens", "-1", PR_OK, NULL},
    {"truncate-prompt-tokens", "-2", PR_E_ARGUMENT, "-1 or more"},
    {"dtype", "float", PR_OK, NULL},
    {"dtype", "half", PR_OK, NULL},
    {"dtype", "float16", PR_OK, NULL},
    {"dtype", "int4", PR_E_ARGUMENT, "expected one of auto|float32|bfloat16|float16"},
    {"task", "embedding", PR_OK, NULL},
    {"task", "generate", PR_E_UNSUPPORTED, "pooling models only"},
    {"device", "cuda", PR_OK, NULL},
    {"device", "tpu", PR_E_UNSUPPORTED, "tpu is refused: this version computes on CPUs"},
    {"devices", "0,1", PR_OK, NULL},
    {"allow-tf32", NULL, PR_OK, NULL},
    {"quiet", NULL, PR_OK, NULL},
    {"quiet", "false", PR_OK, NULL},
    {"quiet", "perhaps", PR_E_ARGUMENT, "true or false"},
    {"no-quiet", "true", PR_OK, NULL},
    {"no-quiet", "maybe", PR_E_ARGUMENT, "found maybe, expected true or false"},
    {"override-pooler-config", "{\"pooling_type\":\"MEAN\"}", PR_OK, NULL},
    {"override-pooler-config", "{\"pooling_type\":", PR_E_ARGUMENT, "override-pooler-config"},
    {"override-pooler-config", "[1]", PR_E_ARGUMENT, "expected a JSON object"},
    {"tensor-parallel-size", "1", PR_OK, NULL},
    {"-tp", "2", PR_OK, NULL},
    {"-tp", "0", PR_E_ARGUMENT, "found 0, expected a whole number"},
    {"worker-launch", "srun", PR_OK, NULL},
    {"worker-launch", "ssh", PR_E_ARGUMENT, "expected one of auto|inproc|mpirun"},
    {"connect", "unix:/x", PR_E_ARGUMENT, "not an option of this command"},
    {"quantization", "awq", PR_E_UNSUPPORTED, "awq is refused"},
    {"port", "8000", PR_E_ARGUMENT, "not an option of this command"},
    {"reduce", "mean", PR_E_ARGUMENT, "not an option of this command"},
    {"seed", "0", PR_OK, NULL},
    {"gpu-memory-utilization", "most", PR_E_ARGUMENT, "expected a number"},
    {"gpu-memory-utilization", "0.95", PR_OK, NULL},
    {"gpu-memory-utilization", "1", PR_OK, NULL},
    {"gpu-memory-utilization", "1.01", PR_E_ARGUMENT, "found 1.01, expected a number from 0"},
    {"gpu-memory-utilization", "-0.1", PR_E_ARGUMENT, "found -0.1, expected a number from 0"},
    {"cpu-offload-gb", "1e9", PR_OK, NULL}, /* without effect, and without bounds */
    {"enable-lora", NULL, PR_E_UNSUPPORTED, "--enable-lora is refused: adapters"},
    {"no-enable-lora", NULL, PR_OK, NULL},
    {"hf-token", NULL, PR_OK, NULL},
    {"modell", "x", PR_E_ARGUMENT, "did you mean --model?"},
    {"zzzzzzzz", "x", PR_E_ARGUMENT, "--zzzzzzzz: no such option"},
};

static void values_are_checked_when_they_are_set(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof value_cases / sizeof *value_cases; i++) {
        const char *name = value_cases[i].name, *value = value_cases[i].value;
        const char *says = value_cases[i].says;
        pr_error err = {0};
        pr_status st = given(name, value, &err);
        if (st != value_cases[i].st || (says && !strstr(err.message, says))) {
            fail_msg("%s %s: status %d, \"%s\"", name, value ? value : "-", st, err.message);
        }
    }
}

static void an_option_without_effect_warns_once(void **state)
{
    (void)state;
    pr_options *options = embed_options();
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pr_options_set_from(options, PR_OPTION_SOURCE_OPTION, "block_size", "16",
                                             NULL),
                         PR_OK);
    }
    assert_string_equal(pr_options_warning(options, 0),
                        "--block-size has no effect: --prefix-cache-bytes says what the cache of "
                         "keys and values may take");
    assert_null(pr_options_warning(options, 1));
    pr_options_free(options);
}

/* The value that wins for each set of sources, whatever the order in which they are read. */
static void an_option_wins_over_the_environment_over_a_file(void **state)
{
    (void)state;
    for (unsigned mask = 1; mask < 8; mask++) {
        pr_options *options = embed_options();
        static const char *const values[] = {"100", "200", "300"};
        for (int s = PR_OPTION_SOURCE_COUNT - 1; s >= 0; s--) {
            if (!(mask >> s & 1)) continue;
            assert_int_equal(pr_options_set_from(options, (pr_option_source)s, "max-model-len",
                                                 values[s], NULL),
                             PR_OK);
        }
        const char *expected = mask & 4 ? "300" : mask & 2 ? "200" : "100";
        assert_string_equal(pr_options_text(options, "max-model-len"), expected);
        pr_options_free(options);
    }
}

static void the_environment_sets_options_and_ignores_what_is_not_one(void **state)
{
    (void)state;
    char *env[] = {"POOLRANK_MAX_MODEL_LEN=77",
                   "POOLRANK_SERVICE_HOST=10.0.0.1",
                   "POOLRANK_PORT=tcp://10.0.0.1:80",
                   "POOLRANK_REDUCE=mean", /* an option of another command */
                   "POOLRANKMODEL=x",
                   "POOLRANK_HELP=1",
                   "POOLRANK_",
                   NULL};
    pr_options *options = embed_options();
    assert_int_equal(pr_options_read_environment(options, env, true, NULL), PR_OK);
    assert_string_equal(pr_options_text(options, "max-model-len"), "77");
    assert_false(pr_options_is_given(options, "reduce"));
    assert_false(pr_options_is_given(options, "model"));
    assert_false(pr_options_is_given(options, "help"));
    assert_non_null(strstr(pr_options_warning(options, 0), "POOLRANK_PORT is ignored"));
    assert_null(pr_options_warning(options, 1));
    pr_options_free(options);
}

static void a_bad_value_names_the_variable_that_holds_it(void **state)
{
    (void)state;
    char *env[] = {"POOLRANK_MAX_NUM_SEQS=many", NULL};
    pr_options *options = embed_options();
    pr_error err = {0};
    assert_int_equal(pr_options_read_environment(options, env, true, &err), PR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "POOLRANK_MAX_NUM_SEQS: found many"));
    pr_options_free(options);
}

/* Reads `text` as a --config file. */
static pr_status file_read(pr_options *options, const char *text, pr_error *err)
{
    char path[] = "/tmp/pr_options_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    pr_status st = pr_options_read_file(options, path, err);
    unlink(path);
    return st;
}

static void a_file_sets_options_of_every_json_type(void **state)
{
    (void)state;
    pr_options *options = embed_options();
    pr_error err = {0};
    pr_status st = file_read(options,
                             "{\"model\": \"/m\", \"max-model-len\": 64, \"quiet\": true, "
                             "\"hf_overrides\": {\"a\": [1]}, \"revision\": null, "
                             "\"reduce\": \"mean\", \"served-model-name\": [\"a\", \"b\"]}",
                             &err);
    if (st != PR_OK) fail_msg("%s", err.message);
    assert_string_equal(pr_options_text(options, "model"), "/m");
    assert_string_equal(pr_options_text(options, "max-model-len"), "64");
    assert_string_equal(pr_options_text(options, "quiet"), "true");
    assert_string_equal(pr_options_text(options, "hf-overrides"), "{\"a\":[1]}");
    assert_false(pr_options_is_given(options, "revision"));
    assert_false(pr_options_is_given(options, "reduce")); /* another command's: left out */
    pr_options_free(options);
}

static void a_bad_file_is_refused_with_its_name(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{\"modle\": \"x\"}", "modle: no such option; did you mean model?"},
        {"{\"max-model-len\": \"x\"}", "max-model-len: found x"},
        {"{\"max-model-len\": 1.5}", "max-model-len: found 1.5"},
        {"{\"model\": [\"a\", \"b\"], \"max-model-len\": [1]}", "max-model-len"},
        {"[1]", "expected an object"},
        {"{", "not JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_options *options = embed_options();
        pr_error err = {0};
        assert_int_equal(file_read(options, cases[i].text, &err), PR_E_ARGUMENT);
        assert_int_equal(err.status, PR_E_ARGUMENT);
        if (!strstr(err.message, cases[i].says) || !strstr(err.message, "/tmp/pr_options_")) {
            fail_msg("%s: \"%s\"", cases[i].text, err.message);
        }
        pr_options_free(options);
    }
    pr_options *options = embed_options();
    assert_int_equal(pr_options_read_file(options, "/nonexistent/x.json", NULL), PR_E_NOT_FOUND);
    pr_options_free(options);
}

static void the_library_takes_names_without_dashes(void **state)
{
    (void)state;
    pr_options *options = pr_options_create();
    pr_error err = {0};
    assert_int_equal(pr_options_set(options, "model", "/m", &err), PR_OK);
    assert_int_equal(pr_options_set(options, "block", "true", &err), PR_OK);
    assert_int_equal(pr_options_set(options, "no-add-special-tokens", "true", &err), PR_OK);
    assert_string_equal(pr_options_text(options, "add-special-tokens"), "false");
    assert_int_equal(pr_options_set(options, "no_add_special_tokens", "false", &err), PR_OK);
    assert_string_equal(pr_options_text(options, "add-special-tokens"), "true");
    assert_int_equal(pr_options_set(options, "input", "x", &err), PR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "input: it is not an option of this library"));
    assert_int_equal(pr_options_set(options, NULL, "x", &err), PR_E_ARGUMENT);
    assert_int_equal(pr_options_set(options, "model", NULL, &err), PR_E_ARGUMENT);
    pr_options_free(options);
    pr_options_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_complete),
        cmocka_unit_test(a_name_is_found_in_either_spelling),
        cmocka_unit_test(values_are_checked_when_they_are_set),
        cmocka_unit_test(an_option_without_effect_warns_once),
        cmocka_unit_test(an_option_wins_over_the_environment_over_a_file),
        cmocka_unit_test(the_environment_sets_options_and_ignores_what_is_not_one),
        cmocka_unit_test(a_bad_value_names_the_variable_that_holds_it),
        cmocka_unit_test(a_file_sets_options_of_every_json_type),
        cmocka_unit_test(a_bad_file_is_refused_with_its_name),
        cmocka_unit_test(the_library_takes_names_without_dashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
