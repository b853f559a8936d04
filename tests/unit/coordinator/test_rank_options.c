/* What ranks are told: settings that change numbers go to every rank. */
#include "coordinator/fleet/rank_options.h"
#include "coordinator/options/config_build.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

static pr_config config_with(const char *name, const char *value)
{
    pr_error err = {0};
    pr_config config = {0};
    pr_options *options = pr_options_create_for(PR_COMMAND_EMBED);
    assert_non_null(options);
    if (pr_options_set_from(options, PR_OPTION_SOURCE_OPTION, name, value, &err) != PR_OK ||
        pr_config_build(options, &config, &err) != PR_OK) {
        fail_msg("%s", err.message);
    }
    pr_options_free(options);
    return config;
}

static const char *told(const pr_rank_options *o, const char *name)
{
    for (uint32_t i = 0; i < o->n_options; i++) {
        if (strcmp(o->options[i].name, name) == 0) return o->options[i].value;
    }
    return NULL;
}

static void what_changes_numbers_goes_to_the_ranks(void **state)
{
    (void)state;
    static const char *const given[][2] = {
        {"matmul-precision", "high"}, {"matmul-precision", "auto"}, {"cpu-isa", "avx2"},
        {"cpu-isa", "amx-c"},         {"dtype", "bfloat16"},
    };
    char folder[] = "/";
    char tokenizer[] = "/tokenizer.json";
    const pr_model model = {
        .folder = folder, .weights_folder = folder, .tokenizer_source = {.path = tokenizer}};
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        pr_config config = config_with(given[i][0], given[i][1]);
        pr_rank_options options = {0};
        assert_int_equal(pr_rank_options_build(&config, &model, &options, NULL), PR_OK);
        const char *value = told(&options, given[i][0]);
        assert_non_null(value);
        assert_string_equal(value, given[i][1]);
        pr_rank_options_deinit(&options);
        pr_config_deinit(&config);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_changes_numbers_goes_to_the_ranks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
