/* The words of a command line, and the table of commands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "program/arguments.h"
#include "program/command.h"

enum { WORDS_MAX = 8 };

/* Parses the words of one `poolrank embed …`. */
static pr_status parsed(const char *const *words, pr_options *options, pr_arguments *out,
                        pr_error *err)
{
    char *argv[WORDS_MAX + 1] = {0};
    int argc = 0;
    for (; argc < WORDS_MAX && words[argc]; argc++) argv[argc] = (char *)words[argc];
    return pr_arguments_parse(argc, argv, options, out, err);
}

static void options_and_texts_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *words[WORDS_MAX];
        const char *name, *value; /* an option that must then be given */
        const char *texts;        /* joined with | */
    } cases[] = {
        {{"--model", "/m", "a", "b"}, "model", "/m", "a|b"},
        {{"--model=/m", "a"}, "model", "/m", "a"},
        {{"a", "--model", "/m", "b"}, "model", "/m", "a|b"},
        {{"--model", "/m", "--", "--quiet", "-"}, "model", "/m", "--quiet|-"},
        {{"--quiet", "a"}, "quiet", "true", "a"},
        {{"--quiet=false", "a"}, "quiet", "false", "a"},
        {{"--no-quiet"}, "quiet", "false", ""},
        {{"--max_model_len", "5"}, "max-model-len", "5", ""},
        {{"--truncate-prompt-tokens", "-1", "a"}, "truncate-prompt-tokens", "-1", "a"},
        {{"-tp", "1"}, "tensor-parallel-size", "1", ""},
        {{"-tp=1"}, "tensor-parallel-size", "1", ""},
        {{"-tp1"}, "tensor-parallel-size", "1", ""},
        {{"-O3", "a"}, "compilation-config", "3", "a"},
        {{"-O", "3"}, "compilation-config", "3", ""},
        {{"--input", "-"}, "input", "-", ""},
        {{"-"}, "input", "-", ""},
        {{"--hf-token", "--quiet"}, "quiet", "true", ""},
        {{"--hf-token=x", "a"}, "hf-token", "x", "a"},
        {{""}, NULL, NULL, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_options *options = pr_options_create_for(PR_COMMAND_EMBED);
        pr_arguments arguments = {0};
        pr_error err = {0};
        if (parsed(cases[i].words, options, &arguments, &err) != PR_OK) fail_msg("%s", err.message);
        char texts[64] = "";
        for (size_t j = 0; j < arguments.n_texts; j++) {
            if (j) strcat(texts, "|");
            strcat(texts, arguments.texts[j]);
        }
        assert_string_equal(texts, cases[i].texts);
        if (cases[i].name) {
            assert_true(pr_options_is_given(options, cases[i].name));
            assert_string_equal(pr_options_text(options, cases[i].name), cases[i].value);
        }
        pr_arguments_deinit(&arguments);
        pr_options_free(options);
    }
}

static void bad_words_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *words[WORDS_MAX];
        const char *says;
    } cases[] = {
        {{"--nothing"}, "--nothing: no such option"},
        {{"--model"}, "--model: expected a value (DIR|NAME)"},
        {{"--model", "--quiet"}, "--model: expected a value"},
        {{"-5 degrees"}, "goes behind --"},
        {{"--=x"}, "no such option"},
        {{"--no-model"}, "no such option"},
        {{"--return-tokens"}, "not an option of this command"},
        {{"--this-name-is-far-too-long-to-be-the-name-of-any-option-of-this-program"},
         "no such option"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_options *options = pr_options_create_for(PR_COMMAND_EMBED);
        pr_arguments arguments = {0};
        pr_error err = {0};
        assert_int_equal(parsed(cases[i].words, options, &arguments, &err), PR_E_ARGUMENT);
        if (!strstr(err.message, cases[i].says)) {
            fail_msg("%s: \"%s\"", cases[i].words[0], err.message);
        }
        assert_null(arguments.texts);
        pr_options_free(options);
    }
}

static void help_and_version_end_the_reading(void **state)
{
    (void)state;
    static const char *const words[][WORDS_MAX] = {{"--help", "--nothing"}, {"-h"}, {"--version"}};
    for (size_t i = 0; i < 3; i++) {
        pr_options *options = pr_options_create_for(PR_COMMAND_EMBED);
        pr_arguments arguments = {0};
        assert_int_equal(parsed(words[i], options, &arguments, NULL), PR_OK);
        assert_int_equal(arguments.wants_help, i < 2);
        assert_int_equal(arguments.wants_version, i == 2);
        pr_arguments_deinit(&arguments);
        pr_options_free(options);
    }
}

static void the_first_text_is_the_model_unless_one_is_given(void **state)
{
    (void)state;
    pr_options *options = pr_options_create_for(PR_COMMAND_EMBED);
    pr_arguments arguments = {0};
    const char *words[WORDS_MAX] = {"/m", "a"};
    assert_int_equal(parsed(words, options, &arguments, NULL), PR_OK);
    assert_int_equal(pr_arguments_take_model(&arguments, options, NULL), PR_OK);
    assert_string_equal(pr_options_text(options, "model"), "/m");
    assert_int_equal(arguments.n_texts, 1);
    assert_string_equal(arguments.texts[0], "a");
    /* Now that a model is given, no text is taken for it. */
    assert_int_equal(pr_arguments_take_model(&arguments, options, NULL), PR_OK);
    assert_int_equal(arguments.n_texts, 1);
    pr_arguments_deinit(&arguments);
    pr_options_free(options);

    options = pr_options_create_for(PR_COMMAND_EMBED);
    const char *none[WORDS_MAX] = {NULL};
    pr_error err = {0};
    assert_int_equal(parsed(none, options, &arguments, NULL), PR_OK);
    assert_int_equal(pr_arguments_take_model(&arguments, options, &err), PR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "expected --model DIR"));
    pr_arguments_deinit(&arguments);
    pr_options_free(options);
}

static void every_command_has_a_row_of_its_own(void **state)
{
    (void)state;
    unsigned bits = 0;
    for (size_t i = 0; i < pr_command_count(); i++) {
        const pr_command_row *row = pr_command_at(i);
        assert_ptr_equal(pr_command_find(row->name), row);
        assert_true(row->usage && row->summary && row->details && row->examples && row->run);
        assert_int_equal(bits & row->bit, 0);
        bits |= row->bit;
    }
    assert_int_equal(bits, PR_COMMAND_PROGRAM);
    assert_null(pr_command_find("generate"));
    assert_null(pr_command_find(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_and_texts_are_told_apart),
        cmocka_unit_test(bad_words_are_refused),
        cmocka_unit_test(help_and_version_end_the_reading),
        cmocka_unit_test(the_first_text_is_the_model_unless_one_is_given),
        cmocka_unit_test(every_command_has_a_row_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
