/* The texts made from the tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "program/help.h"
#include "runtime/base/file.h"

static const char *made(void (*generate)(pr_buffer *), pr_buffer *out)
{
    pr_buffer_init(out);
    generate(out);
    assert_false(out->failed);
    return pr_buffer_str(out);
}

static void help_of_a_command_lists_its_options_and_no_others(void **state)
{
    (void)state;
    for (size_t i = 0; i < pr_command_count(); i++) {
        const pr_command_row *command = pr_command_at(i);
        pr_buffer out;
        pr_buffer_init(&out);
        pr_help_command(command, &out);
        const char *text = pr_buffer_str(&out);
        const pr_option_row *row;
        for (size_t j = 0; (row = pr_option_at(j)) != NULL; j++) {
            if (row->group == PR_OPTION_GROUP_VLLM) continue;
            pr_buffer line;
            pr_buffer_init(&line);
            pr_buffer_append_str(&line, "\n  ");
            pr_help_spelling(row, &line);
            bool is_there = strstr(text, pr_buffer_str(&line)) != NULL;
            bool is_taken = (row->commands & command->bit) != 0;
            if (is_there != is_taken) fail_msg("%s: --%s", command->name, row->name);
            pr_buffer_deinit(&line);
        }
        pr_buffer_deinit(&out);
    }
}

static void help_fits_a_terminal_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < pr_command_count(); i++) {
        pr_buffer out;
        pr_buffer_init(&out);
        pr_help_command(pr_command_at(i), &out);
        const char *text = pr_buffer_str(&out);
        for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1
                                                                      : NULL) {
            size_t n = strcspn(line, "\n");
            if (n > 110) fail_msg("%s: %.*s", pr_command_at(i)->name, (int)n, line);
        }
        pr_buffer_deinit(&out);
    }
}

static void the_program_help_names_every_command(void **state)
{
    (void)state;
    pr_buffer out;
    const char *text = made(pr_help_program, &out);
    for (size_t i = 0; i < pr_command_count(); i++) {
        assert_non_null(strstr(text, pr_command_at(i)->name));
    }
    pr_buffer_deinit(&out);
}

static void the_man_page_has_every_option_and_no_stray_request(void **state)
{
    (void)state;
    pr_buffer out;
    const char *text = made(pr_help_man, &out);
    assert_non_null(strstr(text, "\\-\\-max\\-model\\-len N"));
    for (const char *p = text; *p; p++) assert_true((unsigned char)*p < 0x80);
    for (const char *line = text; *line;) {
        size_t n = strcspn(line, "\n");
        if (line[0] == '.' && !strchr("TSPBnf", line[1])) fail_msg("%.*s", (int)n, line);
        line += n + (line[n] != '\0');
    }
    pr_buffer_deinit(&out);
}

static void the_document_in_the_tree_is_the_generated_one(void **state)
{
    (void)state;
    pr_buffer out;
    const char *text = made(pr_help_engine_arguments, &out);
    char *committed = NULL;
    size_t n = 0;
    pr_error err = {0};
    if (pr_file_read(PR_TESTS_DIR "/../docs/engine-arguments.md", 1 << 20, &committed, &n, &err) !=
        PR_OK) {
        fail_msg("%s", err.message);
    }
    if (strcmp(text, committed) != 0) {
        fail_msg("docs/engine-arguments.md is not what `poolrank generate engine-arguments` "
                 "prints; write it anew");
    }
    free(committed);
    pr_buffer_deinit(&out);
}

static void generators_are_found_by_kind(void **state)
{
    (void)state;
    assert_non_null(pr_help_generator("man"));
    assert_non_null(pr_help_generator("completion-bash"));
    assert_non_null(pr_help_generator("completion-zsh"));
    assert_non_null(pr_help_generator("engine-arguments"));
    assert_null(pr_help_generator("poem"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_of_a_command_lists_its_options_and_no_others),
        cmocka_unit_test(help_fits_a_terminal_line),
        cmocka_unit_test(the_program_help_names_every_command),
        cmocka_unit_test(the_man_page_has_every_option_and_no_stray_request),
        cmocka_unit_test(the_document_in_the_tree_is_the_generated_one),
        cmocka_unit_test(generators_are_found_by_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
