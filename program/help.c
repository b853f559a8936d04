#include "program/help.h"

#include "include/poolrank/engine.h"

#include <string.h>

enum { WIDTH = 88, OPTION_COLUMN = 30 };

const char *pr_help_group_title(pr_option_group group)
{
    static const char *const titles[] = {
        [PR_OPTION_GROUP_MODEL] = "Model",
        [PR_OPTION_GROUP_RESULT] = "What a result is",
        [PR_OPTION_GROUP_FILES] = "Input and output",
        [PR_OPTION_GROUP_EXECUTION] = "Execution",
        [PR_OPTION_GROUP_RANKS] = "Ranks",
        [PR_OPTION_GROUP_MESSAGES] = "Messages and the rest",
        [PR_OPTION_GROUP_VLLM] = "Other engine arguments of vLLM",
        [PR_OPTION_GROUP_SERVER] = "Server",
    };
    return titles[group];
}

const char *pr_help_default(const pr_option_row *row)
{
    if (row->initial_words) return row->initial_words;
    if (row->kind == PR_OPTION_SWITCH) return row->initial ? "on" : "off";
    return row->initial;
}

void pr_help_spelling(const pr_option_row *row, pr_buffer *out)
{
    bool is_off_switch = row->kind == PR_OPTION_SWITCH && row->initial != NULL;
    pr_buffer_printf(out, "--%s%s", is_off_switch ? "[no-]" : "", row->name);
    if (row->metavar) {
        pr_buffer_printf(out, row->value_is_optional ? " [%s]" : " %s", row->metavar);
    }
    if (row->short_form) pr_buffer_printf(out, ", %s", row->short_form);
    if (row->other_name) pr_buffer_printf(out, ", --%s", row->other_name);
}

/* Words of text, wrapped at WIDTH; the first line begins at `column`, the others at `indent`.
 * Characters are counted, not bytes: the texts hold a few of more than one. Newlines are kept. */
static void wrap(pr_buffer *out, const char *text, size_t column, size_t indent)
{
    bool is_line_begin = true;
    while (*text) {
        size_t n = strcspn(text, " \n");
        size_t n_shown = 0;
        for (size_t i = 0; i < n; i++) n_shown += ((unsigned char)text[i] & 0xC0) != 0x80;
        if (!is_line_begin && column + 1 + n_shown > WIDTH) {
            pr_buffer_printf(out, "\n%*s", (int)indent, "");
            column = indent;
            is_line_begin = true;
        }
        if (!is_line_begin) {
            pr_buffer_append_char(out, ' ');
            column++;
        }
        pr_buffer_append(out, text, n);
        column += n_shown;
        is_line_begin = false;
        text += n;
        if (*text == '\n') {
            pr_buffer_printf(out, "\n%*s", (int)indent, "");
            column = indent;
            is_line_begin = true;
        }
        if (*text) text++;
    }
    pr_buffer_append_char(out, '\n');
}

/* Lines of shell, each indented. */
static void examples_write(pr_buffer *out, const char *examples)
{
    pr_buffer_append_str(out, "\nExamples\n  ");
    for (const char *p = examples; *p; p++) {
        pr_buffer_append_char(out, *p);
        if (*p == '\n') pr_buffer_append_str(out, "  ");
    }
    pr_buffer_append_char(out, '\n');
}

static void choices_write(const pr_option_row *row, pr_buffer *out)
{
    const char *initial = pr_help_default(row);
    bool has_choices = row->kind == PR_OPTION_CHOICE;
    bool has_default = initial && !(row->kind == PR_OPTION_SWITCH && !row->initial);
    if (!has_choices && !has_default) return;
    pr_buffer_append_str(out, " (");
    for (const char *p = row->choices; has_choices && *p; p++) {
        if (*p == '|') {
            pr_buffer_append_str(out, ", ");
        } else {
            pr_buffer_append_char(out, *p);
        }
    }
    if (has_default) pr_buffer_printf(out, "%sdefault: %s", has_choices ? "; " : "", initial);
    pr_buffer_append_char(out, ')');
}

static void option_write(const pr_option_row *row, pr_buffer *out)
{
    pr_buffer spelling;
    pr_buffer text;
    pr_buffer_init(&spelling);
    pr_buffer_init(&text);
    pr_help_spelling(row, &spelling);
    pr_buffer_append_str(&text, row->help);
    choices_write(row, &text);
    const char *left = pr_buffer_str(&spelling);
    const char *right = pr_buffer_str(&text);
    if (!left || !right) {
        out->failed = true;
    } else if (spelling.n + 2 < OPTION_COLUMN) {
        pr_buffer_printf(out, "  %-*s", OPTION_COLUMN - 2, left);
        wrap(out, right, OPTION_COLUMN, OPTION_COLUMN);
    } else {
        pr_buffer_printf(out, "  %s\n%*s", left, OPTION_COLUMN, "");
        wrap(out, right, OPTION_COLUMN, OPTION_COLUMN);
    }
    pr_buffer_deinit(&spelling);
    pr_buffer_deinit(&text);
}

static void group_write(pr_option_group group, unsigned command, pr_buffer *out)
{
    bool has_title = false;
    const pr_option_row *row;
    for (size_t i = 0; (row = pr_option_at(i)) != NULL; i++) {
        if (row->group != group || !(row->commands & command)) continue;
        if (!has_title) pr_buffer_printf(out, "\n%s\n", pr_help_group_title(group));
        has_title = true;
        option_write(row, out);
    }
}

void pr_help_command(const pr_command_row *command, pr_buffer *out)
{
    pr_buffer_printf(out, "usage: poolrank %s %s\n\nGives ", command->name, command->usage);
    pr_buffer_printf(out, "%s.\n\n", command->summary);
    wrap(out, command->details, 0, 0);
    examples_write(out, command->examples);
    for (int group = 0; group < PR_OPTION_GROUP_COUNT; group++) {
        if (group != PR_OPTION_GROUP_VLLM) group_write((pr_option_group)group, command->bit, out);
    }
    pr_buffer_append_char(out, '\n');
    wrap(out,
         "The other engine arguments of vLLM 0.8.5 are taken too, with a warning where they have "
         "no meaning here, or refused with the reason: docs/engine-arguments.md. An option wins "
         "over the environment (POOLRANK_MAX_MODEL_LEN for --max-model-len), which wins over "
         "--config.",
         0, 0);
    pr_buffer_append_char(out, '\n');
    wrap(out,
         "Exit status: 0 all done; 1 failed at run time, output incomplete; 2 the caller's "
         "mistake, nothing done; 3 every line was answered, some with an error.",
         0, 0);
}

void pr_help_program(pr_buffer *out)
{
    pr_buffer_append_str(out, "usage: poolrank COMMAND [MODEL] [OPTION…] [TEXT…]\n\n");
    wrap(out,
         "poolrank runs pooling models: transformers that read text and give vectors, "
         "probabilities, scores or rewards.",
         0, 0);
    pr_buffer_append_str(out, "\nCommands\n");
    for (size_t i = 0; i < pr_command_count(); i++) {
        const pr_command_row *row = pr_command_at(i);
        pr_buffer_printf(out, "  %-10s %s\n", row->name, row->summary);
    }
    pr_buffer_append_char(out, '\n');
    wrap(out,
         "MODEL is a folder with config.json, model.safetensors and tokenizer.json, or a name of "
         "the local Hugging Face cache; --model gives it too. `poolrank COMMAND --help` lists the "
         "options of a command, `poolrank --version` tells the version.",
         0, 0);
    examples_write(out, pr_command_at(0)->examples);
}
